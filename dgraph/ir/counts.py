"""Whole numbers that are known when the arguments are: made of sizes and of arguments that are whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dgraph.classes import dataclass
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
    "neg": lambda a: -a,
    "floor_divide": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else 0,
    "maximum": max,
    "minimum": min,
    "cast": int,
}
"""The ops whose results can be foretold."""


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
