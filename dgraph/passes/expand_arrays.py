"""Array ops become index spaces, by each op's own `expand`: the first step of fusion.

Kept as they are: matrix products, which have kernels of their own unless they are tiny; views (broadcast, transpose,
slice, reshape), which move nothing by themselves and through which fusion reads; arrays from which an accumulator
starts; and ops without index-space form.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.op import Op
from dgraph.ops.contraction import Contract
from dgraph.ops.control import Space
from dgraph.ops.index import Accumulate, is_start
from dgraph.ops.linalg import Dot
from dgraph.ops.shape import Broadcast, Concat, Reshape, Slice, Transpose
from dgraph.ops.values import After
from dgraph.passes.base import graph_pass, with_regions
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.sizes import product
from dgraph.types import Array

VIEWS = (Broadcast, Reshape, Slice, Transpose)
"""Ops whose result is the operand seen through other indices."""

TINY = 64
"""A product of matrices with at most so many multiplications, all sizes being literal, is written out as a nest."""


@graph_pass("array ops become index spaces")
def expand_arrays(graph: Graph) -> Graph:
    """Expand array ops in every region, but for what puts the parts of a result into their places."""
    return graph.with_region(_Expansion(_joined(graph.region)).region(graph.region))


def _joined(region: Region) -> set[Value]:
    """What a graph returns and only joins from parts that index spaces make: each part can be made in its place."""
    found: set[Value] = set()
    waiting = list(region.outputs)
    while waiting:
        value = waiting.pop()
        node = region.producers.get(value)
        if node is None or len(region.users.get(value, ())) + region.outputs.count(value) > 1:
            continue
        if isinstance(node.op, Concat) and any(_is_made(region, operand) for operand in node.operands):
            found.add(value)
        if isinstance(node.op, Concat | Reshape | Transpose):
            waiting += node.operands
    return found


def _is_made(region: Region, value: Value) -> bool:
    """Whether a value is a yield of an index space, seen in another shape, that nothing else reads."""
    node = region.producers.get(value)
    if node is None or len(region.users.get(value, ())) != 1 or value in region.outputs:
        return False
    if isinstance(node.op, Reshape | Transpose):
        return _is_made(region, node.operands[0])
    return isinstance(node.op, Space) and value in node.results[node.op.yields]


class _Expansion:
    """The pass over one graph; regions that several nodes share are expanded once."""

    def __init__(self, joined: set[Value]) -> None:
        self.done: dict[Region, Region] = {}
        self.joined = joined

    def region(self, region: Region) -> Region:
        """A region, and all inside it, without array ops that have an index-space form."""
        found = self.done.get(region)
        if found is None:
            found = rewrite(region, self.rule)
            self.done[region] = self.done[found] = found
        return found

    def rule(self, g: Rewriter, node: Node) -> Sequence[Value] | None:
        """The results of a node after expansion, or None if it stays."""
        if node.regions:
            inner = with_regions(node, map(self.region, node.regions))
            if inner is node:
                return None
            g.append(inner)
            return list(inner.results)
        if isinstance(node.op, Accumulate) and node.operands[-1].type.shape:  # type: ignore[union-attr]
            return None if is_start(node, g.maker(node.operands[0])) else accumulated_entries(g, node)
        return node.op.expand(g, node.operands) if is_expanded(node) and node.results[0] not in self.joined else None


def accumulated_entries(g: Builder, node: Node) -> Sequence[Value]:
    """The accumulation of an array, entry by entry."""
    accumulator, *indices, array = node.operands
    assert isinstance(array.type, Array)
    op = node.op if indices else Accumulate("proven")

    def point(h: Builder, at: list[Value], threaded: list[Value], _own: list[Value]) -> list[Value]:
        return [h.emit(op, threaded[0], *indices, *at, h.index(array, *at, policy="proven"))]

    return g.space(array.type.shape, point, accumulators=[accumulator])


def is_expanded(node: Node) -> bool:
    """Whether a node is an array op that becomes an index space."""
    if type(node.op).expand is Op.expand or isinstance(node.op, (*VIEWS, After)) or node.op.effect != "pure":
        return False
    if isinstance(node.op, Dot | Contract):
        return is_tiny(node)
    return any(isinstance(value.type, Array) and value.type.shape for value in (*node.operands, *node.results))


def is_tiny(node: Node) -> bool:
    """Whether a matrix product has so few multiplications that a nest of its own is the better kernel."""
    left, right = (value.type for value in node.operands[:2])
    assert isinstance(left, Array) and isinstance(right, Array)
    both = product(left.shape).constant, product(right.shape).constant
    return both[0] is not None and both[1] is not None and max(both[0], both[1]) <= TINY
