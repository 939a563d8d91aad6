"""Where each buffer lies in the arena, decided when the numbers of the sizes are known.

A room is a buffer's demand: so many bytes from one statement to another. Rooms that are never in use at once may
overlap. The largest is placed first, each in the tightest gap between the rooms that are in use with it (Pisarchyk and
Lee's greedy by size). It takes some ten microseconds, once for all calls with the same sizes.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE, Span
from dgraph.kernels.split import Copies
from dgraph.sizes import Size

LINE = 64
"""Bytes of a cache line: every room starts on one."""

MANY = 32
"""From how many rooms on they are compared as arrays."""


@dataclass(frozen=True)
class Room:
    """What one buffer demands: its name, bytes, the first and last statement that use it, where it is made, and how
    often it is there."""

    name: str
    bytes: Size
    first: int
    last: int
    span: Span = NOWHERE
    copies: Copies | None = None

    def count(self, value: Callable[[Hashable], int], threads: int = 1) -> int:
        """Its bytes, for numbers of the size variables and so many threads."""
        count = self.bytes.evaluate(value)
        return count if self.copies is None else count * self.copies.evaluate(value, threads)


@dataclass(frozen=True)
class Arrangement:
    """The byte where each room starts, and how many bytes there are in all."""

    offsets: tuple[int, ...]
    total: int


def rounded(count: int) -> int:
    """Bytes in whole cache lines, at least one."""
    return max((count + LINE - 1) // LINE, 1) * LINE


def arrange(rooms: Sequence[Room], value: Callable[[Hashable], int], threads: int = 1) -> Arrangement:
    """A place for every room, given the number of every size variable and of threads."""
    counts = [rounded(room.count(value, threads)) for room in rooms]
    offsets = [0] * len(rooms)
    find = _Placed(len(rooms)).find if len(rooms) > MANY else _place_among
    placed: list[tuple[int, int]] = []
    for at in sorted(range(len(rooms)), key=lambda at: -counts[at]):
        offsets[at] = find(rooms, counts, placed, at)
        insort(placed, (offsets[at], at))
    total = max((offset + count for offset, count in zip(offsets, counts, strict=True)), default=0)
    return Arrangement(tuple(offsets), total)


def _place_among(rooms: Sequence[Room], counts: Sequence[int], placed: Sequence[tuple[int, int]], at: int) -> int:
    """The start of the tightest gap for a room between those that are placed."""
    first, last, wanted = rooms[at].first, rooms[at].last, counts[at]
    place = end = 0
    tightest = -1
    for start, other in placed:
        if rooms[other].first <= last and first <= rooms[other].last:
            gap = start - end
            if gap >= wanted and (tightest < 0 or gap < tightest):
                place, tightest = end, gap
            end = max(end, start + counts[other])
    return place if tightest >= 0 else end


class _Placed:
    """The same for many rooms at a time: what is known of those that are placed, in their order, as arrays."""

    def __init__(self, most: int) -> None:
        self.rows = np.zeros((4, most), np.int64)
        self.count = 0

    def find(self, rooms: Sequence[Room], counts: Sequence[int], placed: Sequence[tuple[int, int]], at: int) -> int:
        """The start of the tightest gap for a room, which is placed there."""
        room, wanted = rooms[at], counts[at]
        starts, ends, firsts, lasts = self.rows[:, : self.count]
        meets = (firsts <= room.last) & (room.first <= lasts)
        filled = np.concatenate(([0], np.maximum.accumulate(ends[meets])))
        gaps = starts[meets] - filled[:-1]
        gaps[gaps < wanted] = np.iinfo(np.int64).max
        tightest = int(gaps.argmin()) if len(gaps) else 0
        place = int(filled[tightest if len(gaps) and gaps[tightest] < np.iinfo(np.int64).max else -1])
        position = bisect(placed, (place, at))
        self.rows[:, position + 1 : self.count + 1] = self.rows[:, position : self.count]
        self.rows[:, position] = place, place + wanted, room.first, room.last
        self.count += 1
        return place


def are_fixed(rooms: Iterable[Room]) -> bool:
    """Whether the bytes of rooms are known without any size."""
    return all(room.bytes.constant is not None and room.copies is None for room in rooms)


def fixed_arrangement(rooms: Sequence[Room]) -> Arrangement | None:
    """The places of rooms whose bytes are known without any size; None if some depend on sizes."""
    return arrange(rooms, lambda _: 0) if are_fixed(rooms) else None


def crowd(rooms: Sequence[Room], value: Callable[[Hashable], int], threads: int = 1) -> list[tuple[int, Room]]:
    """The rooms in use at the statement where most bytes are, with their bytes, largest first."""
    counts = [(rounded(room.count(value, threads)), room) for room in rooms]
    best: list[tuple[int, Room]] = []
    for moment in {room.first for room in rooms}:
        held = [(count, room) for count, room in counts if room.first <= moment <= room.last]
        if sum(count for count, _ in held) > sum(count for count, _ in best):
            best = held
    return sorted(best, key=lambda item: -item[0])
