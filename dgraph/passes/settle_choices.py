"""Comparisons of a point's indices that its extents decide are decided, and so are the choices between them."""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import If, Space
from dgraph.ops.values import Constant
from dgraph.passes.base import each_region, graph_pass, same_nodes, with_regions
from dgraph.passes.gather_points import place_of, static_value
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.sizes import Size
from dgraph.types import BOOL

_SWAPPED = {"greater": "less", "greater_equal": "less_equal", "less": "greater", "less_equal": "greater_equal"}


@graph_pass("comparisons of indices that the extents decide are decided")
def settle_choices(graph: Graph) -> Graph:
    """Decide what can be decided in the points of every index space."""
    return each_region(graph, _settled)


def _settled(region: Region) -> Region:
    nodes = [_with_facts(node) if isinstance(node.op, Space) else node for node in region.nodes]
    return same_nodes(region, nodes, region.outputs)


def _with_facts(space: Node) -> Node:
    if not any(node.op.name in _SWAPPED for node in space.regions[0].nodes):
        return space
    return with_regions(space, [rewrite(space.regions[0], lambda g, node: _decided(g, node, space))])


def _decided(g: Rewriter, node: Node, space: Node) -> Sequence[Value] | None:
    if node.op.name in _SWAPPED:
        truth = _truth(g, node, space)
        return None if truth is None else [g.constant(truth, BOOL)]
    if node.op.name == "logical_and":
        for one, other in (node.operands, node.operands[::-1]):
            truth = _known(g, one)
            if truth is not None:
                return [other if truth else one]
    if isinstance(node.op, If):
        truth = _known(g, node.operands[0])
        if truth is not None:
            return g.inline(node.regions[0 if truth else 1], node.operands[1:], node.scope)
    return None


def _known(g: Rewriter, value: Value) -> bool | None:
    maker = g.maker(value)
    return bool(maker.op.number) if maker is not None and isinstance(maker.op, Constant) else None


def _truth(g: Rewriter, node: Node, space: Node) -> bool | None:
    """Whether a comparison of an index with a size always or never holds."""
    body = Region(tuple(g.inputs), tuple(g.nodes), ())
    name, (left, right) = node.op.name, node.operands
    bound = static_value(body, right)
    if bound is None:
        name, left, bound = _SWAPPED[name], right, static_value(body, left)
    place = place_of(space, left, body) if bound is not None else None
    if place is None or bound is None:
        return None
    assert isinstance(space.op, Space)
    low, high = place.shift, space.op.extents[place.axis] - 1 + place.shift
    if name in ("greater", "less_equal"):
        bound, name = bound + 1, "greater_equal" if name == "greater" else "less"
    return _decision(low, high, bound) if name == "greater_equal" else _opposite(_decision(low, high, bound))


def _decision(low: Size, high: Size, bound: Size) -> bool | None:
    """Whether everything from low to high is at least a bound, or nothing is."""
    if (low - bound).is_nonnegative():
        return True
    return False if (bound - 1 - high).is_nonnegative() else None


def _opposite(truth: bool | None) -> bool | None:
    return None if truth is None else not truth
