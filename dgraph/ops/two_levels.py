"""Where states are kept when there is room for some in memory and for others on disk.

Of a stretch of n steps the state before the first is at hand; the steps are to be reversed, last first. With c states
in memory that takes t(n) steps run again, by Griewank and Walther's formula. With room for m more on disk

    fresh(n, m)  = min( t(n),  WRITE + stored(n, m) )                              the state is not on disk
    stored(n, m) = min( t(n),  min over i of  i + fresh(n - i, m - 1) + READ + stored(i, m) )

is the least that can be had, `stored` counting the state itself among its m: the state is advanced by i steps, the far
part reversed, and the state read again for the near part. Writing and reading are counted in steps.

The table of this recursion would hold every n. It holds every n up to a limit, which makes all choices up to there the
best possible, every second n up to twice as many, every fourth up to four times as many, and so on. Where so many
states fit on disk that there is always room for one more, a row of the table without m does; it ends at a limit too,
beyond which states are kept at the distance that costs least in the long run.
"""

from __future__ import annotations

import threading
from dataclasses import field
from functools import lru_cache
from math import isqrt
from typing import Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ops.binomial import fewest, kept_online, run_again_online

WRITE = 5
READ = 5
"""What writing and reading a state costs, in steps of the loop."""

MOST = 4096
"""No more states than this are on disk at once."""

_DEEPEST = 128
"""Rows of the table: with room for more states these stand at equal distances until so many are left."""
_LONGEST_ROW = 4096
_LARGEST_TABLE = 2**24


def _fewest_of(last: int, unit: int, slots: int) -> Any:
    """`fewest` of 0, unit, 2 unit, ... last unit."""
    return np.array([fewest(at * unit, slots) for at in range(last + 1)], np.int64)


@dataclass
class _Row:
    """The recursion without a limit on the states on disk, for every n up to a limit that grows."""

    slots: int
    write: int
    read: int
    stored: Any = field(default_factory=lambda: np.zeros(2, np.int64))
    fresh: Any = field(default_factory=lambda: np.zeros(2, np.int64))
    far: Any = field(default_factory=lambda: np.zeros(2, np.int64))
    most: Any = field(default_factory=lambda: np.zeros(2, np.int64))
    """How many states are on disk at once, if the first is not yet."""
    _of_stored: Any = field(default_factory=lambda: np.ones(2, np.int64))

    def grow(self, last: int) -> None:
        """Make the table hold every n up to `last`."""
        known = len(self.far)
        if last < known:
            return
        last = max(last, min(2 * known, _LONGEST_ROW))
        in_memory = _fewest_of(last, 1, self.slots)
        for name in ("stored", "fresh", "far", "most", "_of_stored"):
            setattr(self, name, np.concatenate([getattr(self, name), np.zeros(last + 1 - known, np.int64)]))
        steps = np.arange(last + 1)
        for n in range(known, last + 1):
            costs = steps[1:n] + self.stored[1:n] + self.fresh[n - 1 : 0 : -1] + self.read
            best = int(costs.argmin())
            pays = costs[best] < in_memory[n]
            i = self.far[n] = best + 1 if pays else 0
            self.stored[n] = costs[best] if pays else in_memory[n]
            self._of_stored[n] = max(1 + self.most[n - i], self._of_stored[i]) if pays else 1
            written = self.write + self.stored[n] < in_memory[n]
            self.fresh[n] = self.write + self.stored[n] if written else in_memory[n]
            self.most[n] = self._of_stored[n] if written else 0

    def distances(self) -> Any:
        """The distances of states that cost least in the long run, in order."""
        self.grow(_LONGEST_ROW)
        steps = np.arange(1, _LONGEST_ROW + 1)
        costs = (self.write + self.read + steps + self.stored[1 : _LONGEST_ROW + 1]) / steps
        return np.flatnonzero(costs == costs.min()) + 1

    def distance(self) -> int:
        """The least of them."""
        return int(self.distances()[0])


class TwoLevels:
    """The choices for so many states in memory and on disk. A stretch of the loop is given by how many steps it has and
    for how many states there is room on disk."""

    def __init__(self, slots: int, disk: int, write: int = WRITE, read: int = READ) -> None:
        self.slots, self.disk, self.write, self.read = slots, disk, write, read
        self.rows = min(disk, _DEEPEST)
        self.length = max(2, min(_LONGEST_ROW // 2, isqrt(_LARGEST_TABLE // max(self.rows, 1))))
        self._free = _Row(slots, write, read)
        self._levels: list[tuple[Any, Any, Any]] = []
        self._lock = threading.Lock()

    def advance(self, steps: int, room: int) -> int:
        """How many steps to advance from a state on disk, whose own place counts as room; 0 to go on in memory only,
        with the state not read from disk any more."""
        with self._lock:
            if self._is_free(steps, room):
                return self._free.distance() if steps > _LONGEST_ROW else int(self._free.far[steps])
            distance = self._distance(steps, room)
            if distance:
                return distance
            far, unit = self._entry(2, steps, room)
            return far * unit

    def is_worth(self, steps: int, room: int) -> bool:
        """Whether to write a state that is at hand, if there is room for so many on disk. From one that was written
        `advance` is not 0."""
        if room < 1 or steps < 2:
            return False
        with self._lock:
            if self._is_free(steps, room):
                return steps > _LONGEST_ROW or bool(self._free.most[steps])
            if self._distance(steps, room):
                return True
            stored, unit = self._entry(0, steps, room)
            return self.write + stored < fewest(-(-steps // unit) * unit, self.slots)

    @property
    def distance(self) -> int:
        """How many steps there are between two states on disk while nobody knows how many steps there will be: of all
        distances that cost least, the one with the fewest states."""
        with self._lock:
            return int(self._free.distances()[-1])

    def counted(self, steps: int) -> tuple[int, int, int]:
        """How many steps run forwards before they are reversed, and how many states are written and read."""
        return self._counted([(steps, self.disk, False)])

    def kept_online(self, steps: int) -> tuple[list[int], list[int]]:
        """The steps before which a state is on disk, and those with one in memory, when a loop has ended whose number
        of steps nobody knew. The rule is told in `passes.online_levels`."""
        stretches = max(steps - 1, 0) // self.distance
        if self.disk == 1:
            stretches = min(stretches, 1)
        start = stretches * self.distance
        on_disk = [at * self.distance for at in kept_online(stretches, self.disk)]
        return on_disk, [start + at for at in kept_online(steps - start, self.slots)]

    def counted_online(self, steps: int) -> tuple[int, int, int]:
        """The same as `counted` for a loop whose number of steps nobody knew."""
        on_disk, in_memory = self.kept_online(steps)
        start = in_memory[0] if in_memory else 0
        ends = [*on_disk[1:], start]
        todo = [(end - at, self.disk - row, True) for row, (at, end) in enumerate(zip(on_disk, ends, strict=False))]
        advances, writes, reads = self._counted(todo)
        last = run_again_online(steps - start, self.slots)
        return steps + last + advances, writes + start // self.distance, reads + len(on_disk)

    def _counted(self, todo: list[tuple[int, int, bool]]) -> tuple[int, int, int]:
        """The counts of stretches of so many steps, each with room for so many states on disk, that before its first
        step among them or still to be written."""
        advances = writes = reads = 0
        while todo:
            left, room, is_stored = todo.pop()
            if not is_stored and self.is_worth(left, room):
                writes, is_stored = writes + 1, True
            far = self.advance(left, room) if is_stored else 0
            if far:
                todo += [(far, room, True), (left - far, room - 1, False)]
            advances, reads = advances + (far or fewest(left, self.slots)), reads + bool(far)
        return advances, writes, reads

    def _is_free(self, steps: int, room: int) -> bool:
        """Whether there is room for all states that would be on disk at once if any number could be."""
        self._free.grow(min(steps, _LONGEST_ROW))
        if steps <= _LONGEST_ROW:
            return bool(self._free.most[steps] <= room)
        more = -(-(steps - _LONGEST_ROW) // self._free.distance())
        return bool(self._free.most[_LONGEST_ROW] + more <= room)

    def _distance(self, steps: int, room: int) -> int:
        """The distance of states where there is room for more than the table has rows; 0 where there is not."""
        distance = -(-steps // room) if room > self.rows else 0
        return distance if distance < steps else 0

    def _entry(self, table: int, steps: int, room: int) -> tuple[int, int]:
        """An entry of a table, and the unit in which its level counts steps."""
        level = 0
        while steps > self.length << level:
            level += 1
        last = -(-steps // (1 << level))
        self._grow(level, last)
        return int(self._levels[level][table][min(room, self.rows), last]), 1 << level

    def _grow(self, level: int, last: int) -> None:
        """Make a level hold every n up to `last` of its units."""
        for at in range(level + 1):
            if at == len(self._levels):
                self._levels.append(self._opened(at))
            self._fill(at, last if at == level else self.length)

    def _opened(self, level: int) -> tuple[Any, Any, Any]:
        """The tables of a level: stored, fresh and how far to advance, for every room; the lower half is known from
        the level below."""
        if level == 0:
            first = np.zeros((self.rows + 1, 2), np.int64)
            return first, first.copy(), first.copy()
        stored, fresh, far = (table[:, ::2] for table in self._levels[level - 1])
        return stored.copy(), fresh.copy(), far.copy()

    def _fill(self, level: int, last: int) -> None:
        tables = self._levels[level]
        known = tables[0].shape[1]
        if last < known:
            return
        last = min(max(last, 2 * known), self.length)
        unit = 1 << level
        in_memory = _fewest_of(last, unit, self.slots)
        more = ((0, 0), (0, last + 1 - known))
        stored, fresh, far = (np.pad(table, more) for table in tables)
        stored[0], fresh[0] = in_memory, in_memory
        steps = np.arange(last + 1) * unit + self.read
        for n in range(max(known, 2), last + 1):
            costs = stored[1:, 1:n] + fresh[:-1, n - 1 : 0 : -1] + steps[1:n]
            best = costs.argmin(axis=1)
            least = np.take_along_axis(costs, best[:, None], axis=1)[:, 0]
            stored[1:, n] = np.minimum(in_memory[n], least)
            far[1:, n] = np.where(least < in_memory[n], best + 1, 0)
            fresh[1:, n] = np.minimum(in_memory[n], self.write + stored[1:, n])
        self._levels[level] = stored, fresh, far


@lru_cache(maxsize=64)
def two_levels(slots: int, disk: int) -> TwoLevels:
    """The choices for so many states in memory and on disk, with the tables made so far."""
    return TwoLevels(slots, disk)
