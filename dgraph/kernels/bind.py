"""The table between Python and the entry, and how size variables are found from the extents in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from dgraph.classes import dataclass
from dgraph.sizes import Size
from dgraph.types import Shape

SHOWN_VALUES = 16
"""How many values a failed check shows."""

FAULT_VALUES = SHOWN_VALUES + 16
"""How many words the state has for a failed check: its values, then the numbers of the loops around it."""

POOL_WORDS = 2
"""Words of the state that say which threads a call may use: the address of their pool or 0, and how many. The parts of
each split follow."""

ALIGNMENT = 64
"""Bytes to whose multiples memory is aligned; every block of it is so much larger."""

SMALLEST_TAPE = 4096
"""Bytes of a row of tape memory that has been written to, at least."""

LARGEST_BLOCK = 2**46
"""Bytes that no machine has in one block; what needs more is refused before its size wraps round."""

OUT_OF_MEMORY, MISFIT = -1, -2
"""Statuses of the entry: no memory, and arguments whose shapes do not fit together."""


def state_words(rows: int, scalars: int, splits: int = 0) -> int:
    """Length of the state in i64: rows of tape memory, values of a failed check, the pool and the parts of each split,
    scalars that a kernel leaves."""
    return scalars_place(rows, splits) + scalars


def pool_place(rows: int) -> int:
    """The word of the state where the pool is."""
    return 4 * rows + FAULT_VALUES


def parts_place(rows: int) -> int:
    """The word of the state from which on the parts of each split are."""
    return pool_place(rows) + POOL_WORDS


def scalars_place(rows: int, splits: int) -> int:
    """The word of the state from which on kernels leave scalars."""
    return parts_place(rows) + splits


@dataclass(frozen=True)
class Step:
    """One extent in the table: it solves a size variable (`factor * solves + rest`), or must equal `extent`."""

    slot: int
    extent: Size
    solves: str | None = None
    factor: int = 1
    rest: Size = field(default_factory=lambda: Size(()))


@dataclass(frozen=True)
class Layout:
    """The slots of a table: each input (address and extents, or the bits of a scalar), the size formals, each output
    (address and extents, a scalar being an array of one entry), the state, and if sizes decide the places in the arena
    its bytes and the offsets of its rooms."""

    ranks: tuple[int, ...]
    size_formals: tuple[str, ...]
    output_ranks: tuple[int, ...]
    rooms: int = 0

    @property
    def input_slots(self) -> tuple[int, ...]:
        """The first slot of each input."""
        return tuple(sum(1 + rank for rank in self.ranks[:position]) for position in range(len(self.ranks)))

    @property
    def size_slots(self) -> tuple[int, ...]:
        """The slot of each size formal."""
        start = sum(1 + rank for rank in self.ranks)
        return tuple(start + position for position in range(len(self.size_formals)))

    @property
    def output_slots(self) -> tuple[int, ...]:
        """The first slot of each output."""
        start = self.first_output_slot
        widths = [1 + max(rank, 1) for rank in self.output_ranks]
        return tuple(start + sum(widths[:position]) for position in range(len(widths)))

    @property
    def first_output_slot(self) -> int:
        """Where the outputs start."""
        return sum(1 + rank for rank in self.ranks) + len(self.size_formals)

    @property
    def state_slot(self) -> int:
        """The slot of the state."""
        return self.first_output_slot + sum(1 + max(rank, 1) for rank in self.output_ranks)

    @property
    def length(self) -> int:
        """Number of slots."""
        return self.arena_slot + (1 + self.rooms if self.rooms else 0)

    @property
    def arena_slot(self) -> int:
        """The slot of the bytes of the arena; the offsets of the rooms follow."""
        return self.state_slot + 1


def binding_steps(layout: Layout, shapes: Sequence[Shape]) -> list[Step]:
    """How every size variable is solved, and which extents are left to be compared, in order.

    A variable is solved from an extent that is linear in it, all other variables in it being known.
    """
    known = set(layout.size_formals)
    pending = [
        (slot + 1 + axis, extent)
        for slot, shape in zip(layout.input_slots, shapes, strict=True)
        for axis, extent in enumerate(shape)
    ]
    steps: list[Step] = []
    progress = True
    while pending and progress:
        progress = False
        for item in list(pending):
            slot, extent = item
            unknown = [atom for atom in extent.atoms() if isinstance(atom, str) and atom not in known]
            if len(unknown) > 1:
                continue
            if not unknown:
                steps.append(Step(slot, extent))
            else:
                step = _solved(slot, extent, unknown[0])
                if step is None:
                    continue
                steps.append(step)
                known.add(unknown[0])
            pending.remove(item)
            progress = True
    return steps


def _solved(slot: int, extent: Size, name: str) -> Step | None:
    """The step that solves an extent for a variable, if it is linear in it."""
    factor, rest = 0, Size(())
    for monomial, coefficient in extent.terms:
        term = Size(((monomial, coefficient),))
        if monomial == (name,):
            factor = coefficient
        elif name in term.atoms():
            return None
        else:
            rest = rest + term
    return Step(slot, extent, name, factor, rest) if factor else None
