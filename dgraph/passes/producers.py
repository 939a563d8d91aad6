"""Producers are computed where they are read: the heart of fusion.

An array that an index space yields, or that a view shows, is not stored if each entry can be computed where it is read
without doing more work in sum (but for the border of a stencil): its point is copied to the reads. What counts as no
more work is decided backwards, consumers first, from the demand for each array (`demand`): one place that reads each
entry at most once; a few places, if a point is cheap; any place, however often it runs, if a point is only a read
elsewhere. Nothing with an effect is copied, and nothing leaves a choice: a point moves only into the place that reads
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value, walk
from dgraph.ops.control import Space
from dgraph.ops.index import Index
from dgraph.passes.base import graph_pass, same_nodes, with_regions
from dgraph.passes.demand import (
    Demand,
    Demands,
    Read,
    is_at_most,
    is_cheap,
    is_on_indices,
    is_pointwise,
    is_trivial,
)
from dgraph.passes.expand_arrays import VIEWS
from dgraph.passes.points import Names, PointArray, place
from dgraph.sizes import Size, product
from dgraph.types import Array, Shape

LIMIT = 90
"""How many nodes fusion may gather in one index space: compile time grows faster than that."""
NEIGHBOURS = 260
"""The same while what is gathered is wanted in several places: their copies have much in common."""


@graph_pass("producers are computed where they are read")
def fuse_producers(graph: Graph) -> Graph:
    """Fuse index spaces into the index spaces that read them, in every region."""
    return graph.with_region(_Fusion().region(graph.region))


class _Fusion:
    """The pass over one graph; regions that several nodes share are fused once."""

    def __init__(self) -> None:
        self.done: dict[Region, Region] = {}
        self.demands = Demands()

    def region(self, region: Region) -> Region:
        """A region after fusion: first inside its nodes, then among them."""
        found = self.done.get(region)
        if found is None:
            nodes = [with_regions(node, map(self.region, node.regions)) for node in region.nodes]
            inner = same_nodes(region, nodes, region.outputs)
            virtual, dropped = self.decide(inner)
            found = _rebuilt(inner, virtual, dropped) if virtual else inner
            self.done[region] = self.done[found] = found
        return found

    def decide(self, region: Region) -> tuple[dict[Node, Node], set[Node]]:
        """The nodes whose results are computed where they are read, each with the index space that says how; and
        those among them that nothing needs whole."""
        demands: dict[Value, Demand] = {}
        for output in region.outputs:
            demands.setdefault(output, Demand()).whole = True
        gathered: Counter[Node] = Counter()
        virtual: dict[Node, Node] = {}
        dropped: set[Node] = set()
        for node in reversed(region.nodes):
            wanted = [demands[result] for result in node.results if result in demands]
            reads = [read for demand in wanted for read in demand.reads]
            stays = any(demand.whole for demand in wanted)
            space = _space_of(node) if reads else None
            if space is not None and _fuses(space, stays, reads, gathered):
                virtual[node] = space
                self.demands.add_region(demands, space, 0, reads, region)
                if not stays:
                    dropped.add(node)
                    continue
            self.demands.add_node(demands, node, region)
        return virtual, dropped


def _shape(value: Value) -> Shape:
    return value.type.shape if isinstance(value.type, Array) else ()


def _space_of(node: Node) -> Node | None:
    """The index space that computes an entry of a node's results; None if there is none."""
    if isinstance(node.op, Space):
        return node if is_pointwise(node) else None
    is_row = isinstance(node.op, Index) and node.op.policy == "proven" and bool(_shape(node.result))
    if not is_row and not isinstance(node.op, VIEWS):
        return None
    g = Builder()
    g.adopt(Region(tuple(dict.fromkeys(node.operands)), (), ()))
    with g.at(node.span, derived=node.derived):
        if is_row:
            g.map(_shape(node.result), lambda h, *at: h.emit(node.op, *node.operands, *at))
        else:
            node.op.expand(g, node.operands)
    space = g.nodes[-1]
    return space if isinstance(space.op, Space) and is_trivial(space) else None


def _fuses(space: Node, stays: bool, reads: Sequence[Read], gathered: Counter[Node]) -> bool:
    """Whether the points of a space are computed at these reads."""
    assert isinstance(space.op, Space)
    if is_trivial(space):
        return True
    points = product(space.op.extents)
    if stays or not all(read.times is not None and _is_about(read.times, points) for read in reads):
        return False
    places = len({read.place() for read in reads})
    if len(reads) > 1 and not is_cheap(space, places):
        return False
    weight = sum(1 for node in walk(space.regions[0]) if node.operands and not is_on_indices(node))
    roots = Counter(read.root for read in reads)
    limit = LIMIT if places == 1 else NEIGHBOURS
    if any(gathered[root] + count * weight > limit for root, count in roots.items()):
        return False
    for root, count in roots.items():
        gathered[root] += count * weight
    return True


def _is_about(times: Size, points: Size) -> bool:
    """Whether something happens at most so often, or more often only by what a border has: `n * m` against
    `(n - 2) * (m - 2)`."""
    if is_at_most(times, points):
        return True
    return _degree(times - points) < _degree(points)


def _degree(extent: Size) -> int:
    return max((len(atoms) for atoms, _ in extent.terms), default=0)


def _rebuilt(region: Region, virtual: dict[Node, Node], dropped: set[Node]) -> Region:
    """The region with the virtual nodes computed where they are read."""
    g = Builder()
    g.adopt(Region(region.inputs, (), ()))
    names = Names()
    names.values.update((value, value) for value in region.inputs)
    for node in region.nodes:
        if node not in dropped:
            place(g, node, names)
        if node in virtual:
            for position, result in enumerate(node.results):
                names.arrays[result] = PointArray(virtual[node], position, names)
    return g.close(names.values[output] for output in region.outputs)
