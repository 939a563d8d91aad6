"""How many bytes a call uses, before it runs: the arena, the results, and tapes as far as the arguments decide them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dgraph.errors import NOWHERE, Span
from dgraph.kernels.bind import ALIGNMENT, SMALLEST_TAPE
from dgraph.sizes import Size


@dataclass(frozen=True)
class Given:
    """The number that is argument `position`."""

    position: int


@dataclass(frozen=True)
class Made:
    """An integer made of others by an op of `COUNTING`."""

    op: str
    parts: tuple[Count, ...]


Count = Size | Given | Made
"""A whole number that is known when the arguments are."""

COUNTING: dict[str, Callable[..., int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floor_divide": lambda a, b: a // b if b else 0,
    "maximum": max,
    "minimum": min,
    "cast": int,
}
"""The ops whose results can be foretold."""


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


def evaluated(count: Count, size: Callable[[Any], int], number: Callable[[int], int]) -> int:
    """The number, from those of the size variables and of the arguments that are numbers."""
    if isinstance(count, Size):
        return count.evaluate(size)
    if isinstance(count, Given):
        return int(number(count.position))
    return COUNTING[count.op](*(evaluated(part, size, number) for part in count.parts))


def numbers_of(count: Count | None) -> set[int]:
    """The positions of the arguments that a count depends on."""
    if isinstance(count, Given):
        return {count.position}
    if isinstance(count, Made):
        return set().union(*map(numbers_of, count.parts))
    return set()


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
