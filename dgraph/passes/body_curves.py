"""What a step of a loop may keep: bytes of the step against the seconds of what is computed again.

Each loop that keeps something for loops that walk it has a curve. Its points are the minimum cuts through the body of
the loop at all prices of a byte (`residuals`), from the fastest one on. A price of a byte in seconds, the same for all
loops, is a point of each of their curves, and what these take together is the fastest for so many bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

from dgraph.classes import dataclass
from dgraph.ir.graph import Graph, Node, Region
from dgraph.ops.control import For, Loop
from dgraph.passes.costs import NOMINAL
from dgraph.passes.kept_values import Kept
from dgraph.passes.minimum_cut import trade
from dgraph.passes.residuals import Cuts
from dgraph.sizes import Atom

MOST = 12
"""How many points a curve has at most."""
BEYOND = 1 + 2**-20
"""By which factor a price is above that at which two points cost the same."""


@dataclass(frozen=True)
class BodyPoint:
    """What a step keeps from some price of a byte on, in seconds: bytes, and seconds for them and for what is computed
    again."""

    price: float
    bytes: int
    seconds: float


@dataclass(frozen=True)
class BodyCurve:
    """The curve of the loop at a place, as far as the tapes of one pair of loops go, which has so many steps in all."""

    place: str
    runs: int
    points: tuple[BodyPoint, ...]

    def at(self, price: float) -> BodyPoint:
        """The point that is taken at a price."""
        return next(point for point in reversed(self.points) if point.price <= price)


def body_curves(graph: Graph, sizes: Mapping[Atom, int]) -> list[BodyCurve]:
    """The curves of all loops that keep something, from a graph as `residuals` gets it."""
    watch = _Watch(sizes)
    watch.prices.costs.region(graph.region)
    watch.count(graph.region, 1)
    watch.graph(graph)
    return watch.found


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
        choices = trade(kept.items(self.prices, can_undo).items, MOST)
        points = [BodyPoint(0.0, choices[0].bytes, choices[0].seconds)]
        for choice in choices[1:]:
            last = points[-1]
            price = (choice.seconds - last.seconds) / (last.bytes - choice.bytes)
            points.append(BodyPoint(price * BEYOND, choice.bytes, choice.seconds))
        place = str(kept.writer.span)
        self.found.append(BodyCurve(place, self.runs.get(place, NOMINAL), tuple(points)))
        return super().cut(region, kept, can_undo)
