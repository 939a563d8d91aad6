"""Where each buffer lies in the arena, decided when the numbers of the sizes are known.

A room is a buffer's demand: so many bytes from one statement to another. Rooms that are never in use at once may
overlap. The largest is placed first, each in the tightest gap between the rooms that are in use with it (Pisarchyk and
Lee's greedy by size). It takes some ten microseconds, once for all calls with the same sizes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Hashable, Sequence

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE, Span
from dgraph.sizes import Size

LINE = 64
"""Bytes of a cache line: every room starts on one."""


@dataclass(frozen=True)
class Room:
    """What one buffer demands: its name, bytes, the first and last statement that use it, and where it is made."""

    name: str
    bytes: Size
    first: int
    last: int
    span: Span = NOWHERE


@dataclass(frozen=True)
class Arrangement:
    """The byte where each room starts, and how many bytes there are in all."""

    offsets: tuple[int, ...]
    total: int


def rounded(count: int) -> int:
    """Bytes in whole cache lines, at least one."""
    return max((count + LINE - 1) // LINE, 1) * LINE


def arrange(rooms: Sequence[Room], value: Callable[[Hashable], int]) -> Arrangement:
    """A place for every room, given the number of every size variable."""
    counts = [rounded(room.bytes.evaluate(value)) for room in rooms]
    offsets = [0] * len(rooms)
    placed: list[tuple[int, int]] = []
    for at in sorted(range(len(rooms)), key=lambda at: -counts[at]):
        first, last, wanted = rooms[at].first, rooms[at].last, counts[at]
        place = end = 0
        tightest = -1
        for start, other in placed:
            if rooms[other].first <= last and first <= rooms[other].last:
                gap = start - end
                if gap >= wanted and (tightest < 0 or gap < tightest):
                    place, tightest = end, gap
                end = max(end, start + counts[other])
        offsets[at] = place if tightest >= 0 else end
        insort(placed, (offsets[at], at))
    total = max((offset + count for offset, count in zip(offsets, counts, strict=True)), default=0)
    return Arrangement(tuple(offsets), total)


def fixed_arrangement(rooms: Sequence[Room]) -> Arrangement | None:
    """The places of rooms whose bytes are known without any size; None if some depend on sizes."""
    if any(room.bytes.constant is None for room in rooms):
        return None
    return arrange(rooms, lambda _: 0)


def crowd(rooms: Sequence[Room], value: Callable[[Hashable], int]) -> list[tuple[int, Room]]:
    """The rooms in use at the statement where most bytes are, with their bytes, largest first."""
    counts = [(rounded(room.bytes.evaluate(value)), room) for room in rooms]
    best: list[tuple[int, Room]] = []
    for moment in {room.first for room in rooms}:
        held = [(count, room) for count, room in counts if room.first <= moment <= room.last]
        if sum(count for count, _ in held) > sum(count for count, _ in best):
            best = held
    return sorted(best, key=lambda item: -item[0])
