"""Into how many parts a loop is cut whose turns threads share, and how much memory its parts and threads need apart.

Sizes alone decide the parts, never the number of threads, so whatever is added up part by part has one order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Literal

from dgraph.classes import dataclass
from dgraph.sizes import Size

LEAST = 1_000_000
"""Work of a part, at least: ten to fifty microseconds. A vector operation on eight numbers counts as eight."""
MOST = 64
"""Parts, at most."""
MOST_APART = 16
"""Parts that each have arrays of their own to add to, at most."""
ADDED = 100
"""Work of a part for every entry that it has of its own, at least: entries are cleared, and added up in the end."""

Value = Callable[[Hashable], int]
Kind = Literal["parts", "threads", "apart"]


@dataclass(frozen=True)
class Split:
    """A part for every `least` of the `work`, but no more than `turns` and `most`."""

    work: Size
    least: Size
    turns: Size
    most: int

    @property
    def has_arrays(self) -> bool:
        """Whether parts have arrays of their own to add to, so that their number decides how sums are rounded."""
        return self.most == MOST_APART

    def parts(self, value: Value) -> int:
        """The parts for numbers of the size variables."""
        wanted = self.work.evaluate(value) // max(self.least.evaluate(value), 1)
        return max(min(wanted, self.turns.evaluate(value), self.most), 1)


@dataclass(frozen=True)
class Copies:
    """How often memory is there: for each of the `parts`, for each of the `threads` that take parts, or for each part
    if there is more than one (`apart`)."""

    split: Split
    kind: Kind

    def evaluate(self, value: Value, threads: int) -> int:
        """The number, for so many threads."""
        parts = self.split.parts(value)
        if self.kind == "threads":
            return min(parts, threads)
        if self.kind == "parts":
            return parts
        return parts if parts > 1 else 0
