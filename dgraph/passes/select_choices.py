"""Choices between a little arithmetic become selects, so that a loop over them stays straight.

Both sides are then computed: only numbers are, by ops that cost little and cannot fail. A read stays under its choice,
since its index may be in range on that side alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.graph import Graph, Node, Value
from dgraph.ops.control import If
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.base import each_region, graph_pass
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.types import Array

DEAREST = 4
"""The weight of the dearest op that may be computed in vain, in additions."""
MOST = 12
"""The weight of all ops that may be computed in vain."""


@graph_pass("choices between a little arithmetic become selects")
def select_choices(graph: Graph) -> Graph:
    """Replace small choices in every region, inner ones first."""
    return each_region(graph, lambda region: rewrite(region, _selected))


def _selected(g: Rewriter, node: Node) -> Sequence[Value] | None:
    if not isinstance(node.op, If) or not all(_is_number(value) for value in (*node.operands, *node.results)):
        return None
    weights = [_weight(inner) for region in node.regions for inner in region.nodes]
    if any(weight is None for weight in weights) or sum(weight or 0 for weight in weights) > MOST:
        return None
    predicate, *captures = node.operands
    left, right = (g.inline(region, captures, node.scope) for region in node.regions)
    return [g.select(predicate, one, other) for one, other in zip(left, right, strict=True)]


def _is_number(value: Value) -> bool:
    return isinstance(value.type, Array) and not value.type.shape


def _weight(node: Node) -> int | None:
    """What an op costs; None if it may not be computed in vain."""
    if isinstance(node.op, Constant | SizeValue):
        return 0
    if isinstance(node.op, Elementwise) and node.op.weight <= DEAREST:
        return node.op.weight
    return None
