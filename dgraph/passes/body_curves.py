"""What a step of a loop may keep: bytes of the step against the seconds of what is computed again.

Each loop that keeps something for loops that walk it has a curve. Its points are the minimum cuts through the body of
the loop at all prices of a byte (`residuals`), from the fastest one on. A price of a byte in seconds, the same for all
loops, is a point of each of their curves, and what these take together is the fastest for so many bytes. Between two
neighbouring points a knapsack over the values by which they differ finds others, which no price chooses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.ir.graph import Graph, Node, Region
from dgraph.ops.control import For, Loop
from dgraph.passes.costs import NOMINAL
from dgraph.passes.kept_values import Kept, staying
from dgraph.passes.knapsack import fill
from dgraph.passes.minimum_cut import Choice, Item, NoChoice, cheapest, trade
from dgraph.passes.residuals import Cuts
from dgraph.sizes import Atom

MOST = 12
"""How many points a curve has at most."""
PARTS = 5
"""Between two points of a curve others are sought that keep so many parts of what lies between them, but for one."""
BEYOND = 1 + 2**-20
"""By which factor a price is above that at which two points cost the same."""


@dataclass(frozen=True)
class BodyPoint:
    """What a step keeps from some price of a byte on, in seconds: bytes, and seconds for them and for what is computed
    again. `stay` says which items are kept, or are not, though that price would have it otherwise."""

    price: float
    bytes: int
    seconds: float
    stay: tuple[int, ...] = ()


@dataclass(frozen=True)
class BodyCurve:
    """The curve of the loop at a place, as far as the tapes of one pair of loops go, which has so many steps in all.

    `points` are those that prices choose, `between` the others.
    """

    place: str
    runs: int
    points: tuple[BodyPoint, ...]
    between: tuple[BodyPoint, ...] = ()

    def at(self, price: float) -> BodyPoint:
        """The point that is taken at a price."""
        return next(point for point in reversed(self.points) if point.price <= price)


def body_curves(graph: Graph, sizes: Mapping[Atom, int]) -> list[BodyCurve]:
    """The curves of all loops that keep something, from a graph as `residuals` gets it."""
    watch = _Watch(sizes)
    watch.prices.costs.region(graph.region)
    watch.count(graph.region, 1)
    watch.graph(graph)
    often = Counter(curve.place for curve in watch.found)
    # Items of several pairs at one place cannot be told apart.
    return [curve if often[curve.place] == 1 else replace(curve, between=()) for curve in watch.found]


class _Watch(Cuts):
    """A run at a price of 0 that notes what each pair of loops could keep instead."""

    def __init__(self, sizes: Mapping[Atom, int]) -> None:
        super().__init__(0.0, sizes)
        self.found: list[BodyCurve] = []
        self.runs: dict[str, int] = {}

    def count(self, region: Region, runs: int) -> None:
        """Note how often the bodies of loops run."""
        for node in region.nodes:
            inner = runs
            if isinstance(node.op, Loop) and node.derived != "adjoint":
                inner = runs * self._steps(node)
                self.runs[str(node.span)] = max(inner, self.runs.get(str(node.span), 0))
            for body in node.regions:
                self.count(body, inner)

    def _steps(self, loop: Node) -> int:
        costs = self.prices.costs
        return costs.number(costs.count(loop.operands[0] if isinstance(loop.op, For) else loop.results[-1]))

    def cut(self, region: Region, kept: Kept, can_undo: bool) -> Region:
        """Note the curve, and cut."""
        items = kept.items(self.prices, can_undo).items
        choices = trade(items, MOST)
        points = [BodyPoint(0.0, choices[0].bytes, choices[0].seconds)]
        for choice in choices[1:]:
            last = points[-1]
            price = (choice.seconds - last.seconds) / (last.bytes - choice.bytes)
            points.append(BodyPoint(price * BEYOND, choice.bytes, choice.seconds))
        place = str(kept.writer.span)
        gaps = zip(choices[:-1], choices[1:], points[1:], strict=True)
        between = [point for fast, slow, last in gaps for point in _between(items, fast, slow, last)]
        self.found.append(BodyCurve(place, self.runs.get(place, NOMINAL), tuple(points), tuple(between)))
        return super().cut(region, kept, can_undo)


def _between(items: Sequence[Item], fast: Choice, slow: Choice, point: BodyPoint) -> list[BodyPoint]:
    """Points between two that prices choose, `point` being that of the slower one: with some of the values kept that
    the faster keeps and the slower does not. What is chosen depends on one another, so the cut is made again."""
    differ = [at for at in fast.kept if at not in slow.kept and items[at].bytes]
    weights = [items[at].bytes or 0 for at in differ]
    worths = [items[at].seconds or 0.0 for at in differ]
    found: dict[int, BodyPoint] = {}
    for part in range(1, PARTS):
        chosen = fill(weights, worths, (fast.bytes - slow.bytes) * part // PARTS)
        stay = tuple(place if at in chosen else ~place for at, place in enumerate(differ))
        try:
            choice = cheapest(staying(items, stay), point.price)
        except NoChoice:
            continue
        bytes_ = sum(items[at].bytes or 0 for at in choice.kept)
        seconds = sum(items[at].moving for at in choice.kept) + sum(items[at].seconds or 0.0 for at in choice.again)
        if slow.bytes < bytes_ < fast.bytes and fast.seconds < seconds < slow.seconds:
            found.setdefault(bytes_, BodyPoint(point.price, bytes_, seconds, stay))
    return list(found.values())
