"""Producers are computed where they are read: the heart of fusion.

An array that an index space yields, or that a view shows, is not stored if each entry can be computed where it is read
without doing more work in sum: its point is copied to the reads. What counts as no more work is decided backwards,
consumers first, from the demand for each array (`demand`): one place that reads each entry at most once; a few places,
if a point is cheap; any number of places anywhere, if a point is only a read elsewhere. Nothing with an effect is
copied, and nothing moves out of a choice: a point moves only into the place that reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dgraph.ir.build import Builder, close_together
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.op import RegionOp
from dgraph.ops.control import Space
from dgraph.passes.base import graph_pass, with_regions
from dgraph.passes.demand import (
    ONCE,
    PLACES,
    Demand,
    Demands,
    Times,
    is_at_most,
    is_cheap,
    is_pointwise,
    is_trivial,
    read_array,
    scaled,
)
from dgraph.passes.expand_arrays import VIEWS
from dgraph.sizes import product


@graph_pass("producers are computed where they are read")
def fuse_producers(graph: Graph) -> Graph:
    """Fuse index spaces into the index spaces that read them, in every region."""
    return graph.with_region(_Fusion().region(graph.region))


@dataclass(frozen=True, eq=False)
class _Virtual:
    """An array that is computed where it is read: output `position` of the point of an index space, whose captures
    stand for `captures`."""

    space: Node
    position: int
    captures: tuple[Value | _Virtual, ...]
    scope: tuple[str, ...]


_Environment = dict[Value, "Value | _Virtual"]


class _Fusion:
    """The pass over one graph; regions that several nodes share are fused once."""

    def __init__(self) -> None:
        self.done: dict[Region, Region] = {}
        self.demands = Demands()

    def region(self, region: Region) -> Region:
        """A region after fusion: first inside its nodes, then among them."""
        found = self.done.get(region)
        if found is None:
            nodes = tuple(with_regions(node, map(self.region, node.regions)) for node in region.nodes)
            same = all(one is other for one, other in zip(nodes, region.nodes, strict=True))
            inner = region if same else Region(region.inputs, nodes, region.outputs)
            points = self.decide(inner)
            found = self.rebuilt(inner, points) if points else inner
            self.done[region] = self.done[found] = found
        return found

    # ---- which -------------------------------------------------------------------------------------------------

    def decide(self, region: Region) -> dict[Node, Node]:
        """The nodes whose results are computed where they are read, each with the index space that says how."""
        demands: dict[Value, Demand] = {output: Demand(whole=True) for output in region.outputs}
        chosen: dict[Node, Node] = {}
        for node in reversed(region.nodes):
            wanted = [demands.get(result, Demand()) for result in node.results]
            reads = [times for demand in wanted for times in demand.times]
            stays = any(demand.whole for demand in wanted) or not reads
            space = self.point_of(node) if reads else None
            if space is not None and _fuses(space, stays, reads):
                chosen[node] = space
                self.ask_point(demands, space, reads)
                if not stays:
                    continue
            self.demands.add_node(demands, node, [ONCE])
        return chosen

    def point_of(self, node: Node) -> Node | None:
        """The index space that computes an entry of a node's results; None if there is none."""
        if isinstance(node.op, Space):
            return node if is_pointwise(node) else None
        return view_as_space(node) if isinstance(node.op, VIEWS) else None

    def ask_point(self, demands: dict[Value, Demand], space: Node, runs: Sequence[Times]) -> None:
        """Add what the point of a space asks of its captures, if it runs so often at each of several places."""
        inner = self.demands.inside(space.regions[0])
        rank = len(space.regions[0].inputs) - len(space.operands)
        for operand, value in zip(space.operands, space.regions[0].inputs[rank:], strict=True):
            asked = inner.get(value)
            if asked is not None:
                demand = demands.setdefault(operand, Demand())
                demand.whole = demand.whole or asked.whole
                demand.add(scaled(times, run) for times in asked.times for run in runs)

    # ---- how ---------------------------------------------------------------------------------------------------

    def rebuilt(self, region: Region, points: dict[Node, Node]) -> Region:
        """The region with the chosen nodes computed where they are read. They stay until dead code removal."""
        g = Builder()
        g.adopt(Region(region.inputs, (), ()))
        known: _Environment = {}
        for node in region.nodes:
            _place(g, node, known)
            space = points.get(node)
            if space is not None:
                captures = tuple(known.get(operand, operand) for operand in space.operands)
                for position, result in enumerate(node.results):
                    kept = known.get(result, result)
                    assert isinstance(kept, Value)
                    self.keep(known, result, _Virtual(space, position, captures, node.scope))
        return g.close(_whole(known, output) for output in region.outputs)
