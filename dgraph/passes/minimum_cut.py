"""Which values are kept and which are computed again: a minimum cut with a price on every value.

A value costs its bytes times the price of a byte, and the seconds of storing and loading it, if it is kept, and its
seconds if it is computed again, once for all that read it; computing it again needs its operands, each of which is kept
or computed again in its turn. Every value is an edge from where it is needed to where it is had, and what can be
computed again hangs on the source by an edge of finite capacity, so a cut between the source and what is wanted is a
choice, and its capacity the price of the choice.

Capacities are exact whole numbers, and of several cuts of one capacity the one that computes least again is taken, so a
problem has one answer. The flow is found here, by Dinic's algorithm, because loading a library that finds it takes
longer than all cuts of a program.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import inf, lcm

from dgraph.classes import dataclass
from dgraph.errors import InvalidGraph


@dataclass(frozen=True)
class Item:
    """A value that may be kept or computed again. `operands` are the places of what it is computed from: those of items
    before it, except from an item that can be kept to one that can be computed again.

    `bytes` is None for what cannot be kept, and 0 for what is at hand anyway; `seconds` is None for what cannot be
    computed again. `moving` are the seconds that it takes to store and load what is kept.
    """

    bytes: int | None
    seconds: float | None
    operands: tuple[int, ...] = ()
    is_wanted: bool = False
    moving: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The places of the items that are kept and of those that are computed again, the bytes of the former, and the
    seconds of both."""

    kept: tuple[int, ...]
    again: tuple[int, ...]
    bytes: int
    seconds: float


class NoChoice(InvalidGraph):
    """What is wanted can neither be kept nor computed again. `chain` leads from an item that can neither be kept nor
    computed again to a wanted one; each is computed from the one before, and none can be kept."""

    def __init__(self, chain: tuple[int, ...]) -> None:
        first, last = chain[0], chain[-1]
        which = f"item {last} is" if first == last else f"item {last} is computed from item {first}, which is"
        super().__init__(f"{which} wanted and can neither be kept nor computed again")
        self.chain = chain


def cheapest(items: Sequence[Item], price: float) -> Choice:
    """The choice of the least price, where a byte costs so many seconds. Raises `NoChoice` if there is none.

    At a price of 0 that is the fastest one; at an infinite price the one of fewest bytes.
    """
    cuts = _Cuts(items)
    if price == inf:
        return cuts.choice(Fraction(1), cuts.tiny_second)
    return cuts.choice(Fraction(price), Fraction(1))


def trade(items: Sequence[Item], most: int = 40) -> list[Choice]:
    """Choices that some price makes the cheapest, from the most bytes and fewest seconds to the fewest bytes.

    No other choice has fewer bytes and no more seconds than one of them. There are at most so many; where there would
    be more, the widest gaps of bytes are filled first. Raises `NoChoice` if there is none at all.
    """
    cuts = _Cuts(items)
    found = [cuts.choice(cuts.tiny_price, Fraction(1)), cuts.choice(Fraction(1), cuts.tiny_second)]
    if cuts.sums(found[0]) == cuts.sums(found[1]):
        return found[:1]
    gaps = [(found[1].bytes - found[0].bytes, 0, found[0], found[1])]
    number = 0
    while gaps and len(found) < most:
        *_, dear, cheap = heapq.heappop(gaps)
        (bytes_, seconds), (fewer, longer) = cuts.sums(dear), cuts.sums(cheap)
        price = (longer - seconds) / (bytes_ - fewer)
        between = cuts.choice(price, Fraction(1))
        here = cuts.sums(between)
        if here[0] * price + here[1] < bytes_ * price + seconds:
            found.append(between)
            for one, other in ((dear, between), (between, cheap)):
                number += 1
                heapq.heappush(gaps, (other.bytes - one.bytes, number, one, other))
    return sorted(found, key=lambda choice: -choice.bytes)


class _Cuts:
    """The cuts of one list of items at any price."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.seconds = [None if item.seconds is None else Fraction(item.seconds) for item in items]
        self.moving = [Fraction(item.moving) for item in items]
        self._refuse_what_cannot_be()
        bytes_ = sum(item.bytes or 0 for item in items)
        seconds = [second for second in (*self.seconds, *self.moving) if second]
        self.tiny_price = _step(seconds) / (1 + bytes_)
        """A price so small that bytes only decide between choices of equal seconds."""
        self.tiny_second = Fraction(1) / (1 + sum(seconds))
        """What a second counts if seconds only decide between choices of equal bytes."""

    def _refuse_what_cannot_be(self) -> None:
        """Raise `NoChoice` if a wanted item can be had in no way."""
        before: dict[int, int | None] = {}
        for at, item in enumerate(self.items):
            if item.bytes is not None:
                continue
            lacking = next((operand for operand in item.operands if operand in before), None)
            if item.seconds is None or lacking is not None:
                before[at] = None if item.seconds is None else lacking
                if item.is_wanted:
                    chain = [at]
                    while (last := before[chain[-1]]) is not None:
                        chain.append(last)
                    raise NoChoice(tuple(reversed(chain)))

    def sums(self, choice: Choice) -> tuple[int, Fraction]:
        """Bytes and seconds of a choice, exactly."""
        return choice.bytes, self._total(choice.kept, choice.again)

    def _total(self, kept: Iterable[int], again: Iterable[int]) -> Fraction:
        found = (*(self.moving[at] for at in kept), *(self.seconds[at] or Fraction(0) for at in again))
        return sum(found, Fraction(0))

    def choice(self, price: Fraction, second: Fraction) -> Choice:
        """The cheapest choice where a byte costs `price` and a second `second`."""
        keep = [
            None if item.bytes is None else item.bytes * price + moving * second
            for item, moving in zip(self.items, self.moving, strict=True)
        ]
        again = [None if seconds is None else seconds * second for seconds in self.seconds]
        finite = [cost for cost in (*keep, *again) if cost is not None]
        scale = lcm(*(cost.denominator for cost in finite))
        endless = 1 + int(sum(finite) * scale)
        source, sink = 2 * len(self.items), 2 * len(self.items) + 1
        flow = _Flow(sink + 1)
        for at, item in enumerate(self.items):
            needed, had = 2 * at, 2 * at + 1
            flow.add(source, needed, _whole(again[at], scale, endless))
            flow.add(needed, had, _whole(keep[at], scale, endless))
            for operand in item.operands:
                flow.add(2 * operand + 1, needed, endless)
            if item.is_wanted:
                flow.add(had, sink, endless)
        late = flow.sink_side(source, sink)
        places = range(len(self.items))
        kept = tuple(at for at in places if not late[2 * at] and late[2 * at + 1])
        rest = tuple(at for at in places if late[2 * at])
        return Choice(kept, rest, sum(self.items[at].bytes or 0 for at in kept), float(self._total(kept, rest)))


def _step(numbers: Sequence[Fraction]) -> Fraction:
    """A number that differs from 0 by no more than sums of these differ from one another."""
    return Fraction(1, lcm(*(number.denominator for number in numbers)))


def _whole(cost: Fraction | None, scale: int, endless: int) -> int:
    return endless if cost is None else int(cost * scale)


class _Flow:
    """A network and the greatest flow through it. Edge e has its opposite at e ^ 1."""

    def __init__(self, count: int) -> None:
        self.edges: list[list[int]] = [[] for _ in range(count)]
        self.ends: list[int] = []
        self.room: list[int] = []

    def add(self, start: int, end: int, capacity: int) -> None:
        """Add an edge."""
        for place, other, room in ((start, end, capacity), (end, start, 0)):
            self.edges[place].append(len(self.ends))
            self.ends.append(other)
            self.room.append(room)

    def sink_side(self, source: int, sink: int) -> list[bool]:
        """Which vertices lie with the sink in the minimum cut that leaves fewest there."""
        while (levels := self._levels(source))[sink] >= 0:
            self._fill(source, sink, levels)
        found = [False] * len(self.edges)
        found[sink] = True
        pending = [sink]
        while pending:
            for edge in self.edges[pending.pop()]:
                if self.room[edge ^ 1] and not found[self.ends[edge]]:
                    found[self.ends[edge]] = True
                    pending.append(self.ends[edge])
        return found

    def _levels(self, source: int) -> list[int]:
        """How many edges with room lead to each vertex at least; -1 if none do."""
        levels = [-1] * len(self.edges)
        levels[source] = 0
        reached = [source]
        for place in reached:
            for edge in self.edges[place]:
                end = self.ends[edge]
                if self.room[edge] and levels[end] < 0:
                    levels[end] = levels[place] + 1
                    reached.append(end)
        return levels

    def _fill(self, source: int, sink: int, levels: Sequence[int]) -> None:
        """Fill paths that go up one level at a time until each has a full edge."""
        tried = [0] * len(self.edges)
        path: list[int] = []
        place = source
        while True:
            if place == sink:
                most = min(self.room[edge] for edge in path)
                for edge in path:
                    self.room[edge] -= most
                    self.room[edge ^ 1] += most
                full = next(at for at, edge in enumerate(path) if not self.room[edge])
                place = self.ends[path[full] ^ 1]
                del path[full:]
            edges = self.edges[place]
            while tried[place] < len(edges):
                edge = edges[tried[place]]
                if self.room[edge] and levels[self.ends[edge]] == levels[place] + 1:
                    break
                tried[place] += 1
            if tried[place] < len(edges):
                path.append(edges[tried[place]])
                place = self.ends[path[-1]]
            elif path:
                place = self.ends[path.pop() ^ 1]
                tried[place] += 1
            else:
                return
