"""How many bytes a call uses, before it runs: the arena, the results, and tapes as far as the arguments decide them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE, Span
from dgraph.ir.counts import Count, evaluated
from dgraph.kernels.bind import ALIGNMENT, SMALLEST_TAPE
from dgraph.sizes import Size


@dataclass(frozen=True)
class TapeDemand:
    """What one loop keeps for its reverse beyond the arena: bytes of a step, and bytes in all as far as the arguments
    decide them. `words` name the loop, which stands at `span`."""

    entry: Size
    total: Count | None
    words: str
    span: Span = NOWHERE

    @property
    def place(self) -> str:
        """Where the loop stands, in words."""
        return f"{self.span}" if self.span.source.text else self.words


@dataclass(frozen=True)
class Memory:
    """Bytes that a call uses: its arena, its results, the tapes of its loops.

    A loop whose steps only the run can count is not in `tapes`; `open` lists such loops, each with its place and the
    bytes of a step.
    """

    arena: int
    results: int
    tapes: int
    open: tuple[tuple[str, int], ...] = ()

    @property
    def peak(self) -> int:
        """All together."""
        return self.arena + self.results + self.tapes


def arena_block(total: int) -> int:
    """Bytes of the block that holds an arena."""
    return total + ALIGNMENT if total else 0


def tape_block(total: int) -> int:
    """Bytes of the block that holds a tape written for the first time."""
    return max(total + ALIGNMENT, SMALLEST_TAPE) + ALIGNMENT


def block_of_tapes(
    tapes: Sequence[TapeDemand], size: Callable[[Any], int], number: Callable[[int], int]
) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Bytes of the tapes that can be foretold; the place and the bytes of a step of the others."""
    total, rest = 0, []
    for tape in tapes:
        if tape.total is None:
            rest.append((tape.place, tape.entry.evaluate(size)))
        else:
            total += tape_block(evaluated(tape.total, size, number))
    return total, tuple(rest)
