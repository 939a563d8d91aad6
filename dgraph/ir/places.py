"""Where in its loops a program stands, and how a reader is told: the same words for the interpreter, for compiled code
and for a replay."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from itertools import groupby
from typing import TypeVar

from dgraph.classes import dataclass
from dgraph.errors import Span

LANE = "lane"
"""Name of the index of a space that `vmap` makes."""

SHOWN = 4
"""Loops around a place that a message mentions: the innermost."""

Numbers = TypeVar("Numbers")

_STEP = "_step"

_UNNAMED = re.compile(r"i\d+|")


@dataclass(frozen=True)
class Turn:
    """One loop around a place, or one index space.

    `names` are those of the indices of a space that the program gave them; a loop has none.
    """

    span: Span
    names: tuple[str, ...] = ()
    is_space: bool = False

    @property
    def numbers(self) -> int:
        """How many numbers say where in it something is."""
        return len(self.names) if self.is_space else 1


@dataclass(frozen=True)
class Standing:
    """A place in all loops around it: each with its numbers, the outermost first."""

    turns: tuple[tuple[Turn, tuple[int, ...]], ...] = field(default=())

    def words(self, near: Span) -> str:
        """Such as `in step 3 (from 0) of the loop at line 12, at i = 4`, the innermost first; "" outside of loops.

        Lines are those of the file of `near`, unless another is named.
        """
        found: list[str] = []
        for is_space, group in groupby(reversed(shown(self.turns)), lambda pair: pair[0].is_space):
            if is_space:
                found.extend(_of_spaces(list(group)[::-1]))
                continue
            for turn, numbers in group:
                start = "" if any("(from 0)" in words for words in found) else " (from 0)"
                place = f"line {turn.span.line}" if turn.span.source == near.source else str(turn.span)
                at = f" at {place}" if turn.span.source.text else ""
                found.append(f"in step {numbers[0]}{start} of the loop{at}")
        return ", ".join(found)


def step_of(name: str) -> str:
    """The name of an index that counts the steps of a name which itself stands for something else: `v in x`."""
    return f"{name}{_STEP}"


def placed(words: str, standing: Standing, near: Span) -> str:
    """Words at a place in the text, with where in its loops that was."""
    where = standing.words(near)
    return f"{words}, {where}" if where else words


def space_turn(names: Sequence[str], span: Span) -> Turn:
    """The turn of an index space with these names of indices; those that nobody wrote are not shown."""
    return Turn(span, tuple("" if _UNNAMED.fullmatch(name) else name for name in names), True)


def shown(turns: Iterable[tuple[Turn, Numbers]]) -> list[tuple[Turn, Numbers]]:
    """The turns that say something to a reader. Of loops of one place in the text, which stand for one loop in parts,
    the innermost counts: it has the number of the step."""
    found: list[tuple[Turn, Numbers]] = []
    for turn, numbers in turns:
        if turn.is_space and not any(turn.names):
            continue
        if found and not turn.is_space and not found[-1][0].is_space and found[-1][0].span == turn.span:
            found.pop()
        found.append((turn, numbers))
    return found[-SHOWN:]


def _of_spaces(around: Sequence[tuple[Turn, tuple[int, ...]]]) -> Iterator[str]:
    """The points of index spaces inside one another, the outermost first."""
    lanes = [numbers[0] for turn, numbers in around if turn.names == (LANE,)]
    named = [
        f"step {number} of {name.removesuffix(_STEP)}" if name.endswith(_STEP) else f"{name} = {number}"
        for turn, numbers in around
        for name, number in zip(turn.names, numbers, strict=True)
        if name and turn.names != (LANE,)
    ]
    if named:
        yield f"at {', '.join(named)}"
    yield from (f"in lane {lane} of the batch" for lane in reversed(lanes))
