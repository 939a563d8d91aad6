"""What straight code can trade: bytes in memory at once against seconds of computing again.

Each point of the curve is a set of forward values that are computed again (`rematerialise`). Candidates come from
minimum cuts at all prices of a byte, each for several ways to cut the forward half into segments: what a segment needs
from those before it is kept, so that one segment after another can be had again. A curve without segments would save
what is kept at the turn and lose it when everything is computed again at once. The peak of each candidate is what
counts: the largest sum of bytes that are live together, or what the caller measures. Between two points of the curve a
knapsack decides what else can be kept within a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.graph import Graph, Region, Value
from dgraph.passes.costs import Costs
from dgraph.passes.knapsack import fill
from dgraph.passes.minimum_cut import Item, NoChoice, cheapest, trade
from dgraph.passes.rematerialise import Halves, is_shown
from dgraph.sizes import Atom

SEGMENTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
"""In how many segments the forward half is cut."""
PRICES = 6
"""How many points of the curve of one way to cut are tried."""
TRIED = 16
"""How many values of each point are tried one after another: keeping them may cost nothing."""
ATTEMPTS = 5
"""How often the room of the knapsack is made smaller when what it chose does not fit."""

Peak = Callable[[Graph], int]
"""The bytes that a graph has in memory at once."""


@dataclass(frozen=True)
class Point:
    """A choice: the forward values that are computed again, the bytes that are in memory at once, those of forward
    values kept for the adjoint among them, and the seconds that computing again takes."""

    again: frozenset[Value]
    peak: int
    kept: int
    seconds: float


def curve(graph: Graph, sizes: Mapping[Atom, int], peak: Peak | None = None) -> list[Point]:
    """The choices that no other one beats in both, from the fastest to the one with the least peak.

    The first is the graph as it is. `peak` measures candidates; without it the sum of bytes that are live is taken.
    """
    return TradeOff(graph, sizes, peak).curve()


def rematerialise(
    graph: Graph, budget: int, sizes: Mapping[Atom, int], peak: Peak | None = None
) -> tuple[Graph, Point]:
    """The graph with so much computed again that its peak keeps within the budget, as fast as is known, and the choice.

    If nothing keeps within it, that with the least peak. Bits never change, nor does a graph that fits as it is.
    """
    search = TradeOff(graph, sizes, peak)
    point = search.within(budget)
    return search.graph_of(point), point


def live_bytes(region: Region, bytes_: Mapping[Value, int]) -> int:
    """The largest sum of bytes of results that are live together; inputs and outputs of the region lie elsewhere."""
    last: dict[Value, int] = {}
    shown: dict[Value, Value] = {}
    for at, node in enumerate(region.nodes):
        last.update((shown.get(operand, operand), at) for operand in node.operands)
        if is_shown(node):
            shown[node.result] = shown.get(node.operands[0], node.operands[0])
    outside = {*region.inputs, *region.outputs}
    ends: dict[int, int] = {}
    now = most = 0
    for at, node in enumerate(region.nodes):
        for result in node.results:
            if result in last and result not in outside:
                now += bytes_[result]
                ends[last[result]] = ends.get(last[result], 0) + bytes_[result]
        most = max(most, now)
        now -= ends.pop(at, 0)
    return most


class TradeOff:
    """The choices of one graph for given sizes. What has been tried is remembered."""

    def __init__(self, graph: Graph, sizes: Mapping[Atom, int], peak: Peak | None) -> None:
        self.graph = graph
        self.peak = peak
        self.halves = Halves(graph.region, Costs(sizes))
        self.known: dict[frozenset[Value], Point] = {}
        self.estimated: dict[frozenset[Value], Point] = {}

    def graph_of(self, point: Point) -> Graph:
        """The graph with what a choice says computed again."""
        return self._rewritten(point.again)

    def _rewritten(self, again: frozenset[Value]) -> Graph:
        if not again:
            return self.graph
        return self.graph.with_region(remove_dead_code(self.halves.rewritten(again)))

    def point(self, again: frozenset[Value], *, is_exact: bool = True) -> Point:
        """A choice with its peak: as the caller measures it if `is_exact`."""
        known = self.known if is_exact else self.estimated
        if again in known:
            return known[again]
        graph = self._rewritten(again)
        measured = self.peak if is_exact else None
        held = measured(graph) if measured is not None else live_bytes(graph.region, self.halves.bytes)
        point = known[again] = Point(again, held, self.halves.kept(again), self.halves.added(again))
        return point

    def curve(self) -> list[Point]:
        """The points that no other one beats."""
        found = undominated([self.point(again, is_exact=False) for again in self.candidates()])
        found += [self.keeping_what_is_dear(point) for point in found]
        return undominated(
            [self.point(again) for again in dict.fromkeys([frozenset[Value](), *(point.again for point in found)])]
        )

    def keeping_what_is_dear(self, point: Point) -> Point:
        """A choice with values kept that cost most to compute again, as long as the peak stays what it is."""
        seconds = self.halves.seconds
        for value in sorted(point.again, key=lambda value: (-seconds[value], self.halves.places[value]))[:TRIED]:
            if value in point.again:
                less = self.point(self.halves.again(point.again - {value}), is_exact=False)
                point = less if less.peak <= point.peak else point
        return point

    def candidates(self) -> list[frozenset[Value]]:
        """Sets of values to compute again, nothing among them."""
        items = self.halves.items
        found = [frozenset[Value]()]
        for count in SEGMENTS:
            kept = self.segments(count)
            held = [replace(item, bytes=0) if at in kept else item for at, item in enumerate(items)]
            try:
                choices = trade(held, PRICES)
            except NoChoice:
                continue
            values = self.halves.values
            found += (self.halves.again(values[at] for at in choice.again) for choice in choices)
        return list(dict.fromkeys(found))

    def segments(self, count: int) -> set[int]:
        """The places of what is kept where the forward half is cut into so many segments of about equal bytes: where a
        cut can be moved a little, it is put where least crosses."""
        halves = self.halves
        if count == 1:
            return set()
        forward = [node for node in self.graph.region.nodes if node not in halves.backward]
        reads: dict[int, int] = {}
        for at, node in enumerate(forward):
            for operand in node.operands:
                reads[halves.places[operand]] = at
        crossing: list[tuple[int, list[int]]] = []
        weights = [0]
        live: dict[int, None] = {}
        for at, node in enumerate(forward):
            live.update((halves.places[result], None) for result in node.results)
            for place in [place for place in live if reads.get(place, -1) <= at]:
                del live[place]
            real = [place for place in live if (halves.items[place].bytes or 0) > 0]
            crossing.append((sum(halves.items[place].bytes or 0 for place in real), real))
            new = sum(halves.bytes[result] for result in node.results if result in halves.wanted)
            weights.append(weights[-1] + new)
        kept: set[int] = set()
        for part in range(1, count):
            goal, slack = weights[-1] * part / count, weights[-1] / (4 * count)
            near = [at for at in range(len(forward)) if abs(weights[at + 1] - goal) <= slack]
            if near:
                kept.update(crossing[min(near, key=lambda at: crossing[at][0])][1])
        return kept

    # ---- budgets --------------------------------------------------------------------------------------------------

    def within(self, budget: int) -> Point:
        """The fastest choice known whose peak keeps within a budget."""
        start = self.point(frozenset())
        if start.peak <= budget:
            return start
        points = self.curve()
        fitting = next((point for point in points if point.peak <= budget), None)
        if fitting is None:
            return points[-1]
        faster = points[points.index(fitting) - 1]
        room = budget - fitting.peak
        for _ in range(ATTEMPTS):
            more = self.keeping_more(fitting, faster, room)
            if more is None:
                break
            if more.peak <= budget:
                return more
            room = min(room // 2, room - (more.peak - budget))
        return fitting

    def keeping_more(self, slow: Point, fast: Point, room: int) -> Point | None:
        """The slower choice, but with the values kept that save most time in so much room, among those by which it
        differs from the faster one. None if there is no room for any."""
        halves = self.halves
        differ = [value for value in halves.values if value in slow.again and value not in fast.again]
        differ = [value for value in differ if halves.items[halves.places[value]].bytes]
        weights = [halves.bytes[value] for value in differ]
        chosen = fill(weights, [halves.seconds[value] for value in differ], room)
        if not chosen:
            return None
        kept = {differ[at] for at in chosen}
        # What is chosen depends on one another: the cut says what has to be computed again now.
        items = [self._forced(at, item, slow.again, kept) for at, item in enumerate(halves.items)]
        return self.point(halves.again(halves.values[at] for at in cheapest(items, 0.0).again))

    def _forced(self, at: int, item: Item, again: frozenset[Value], kept: set[Value]) -> Item:
        value = self.halves.values[at]
        if value in kept or (value not in again and item.bytes is not None):
            return replace(item, bytes=0)
        return replace(item, bytes=None) if value in again else item


def undominated(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats in peak and seconds, from the fastest on."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.seconds, point.peak, len(point.again))):
        if not found or point.peak < found[-1].peak:
            found.append(point)
    return found
