"""Forms that lose digits or overflow become the ops that do not: the rules of `stable.rules`.

They run before differentiation. `log(1 + exp(x))` overflows at 710 and its slope is NaN there; as `softplus(x)` both
are right. This is the one pass beside those about products that may change the last bits of a result.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.graph import Graph, Node, Value
from dgraph.passes.base import each_region, graph_pass
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.passes.rules import STABLE, rules_for


@graph_pass("forms that lose digits become the ops that do not")
def stable_forms(graph: Graph) -> Graph:
    """Apply the rules in every region."""
    return each_region(graph, lambda region: rewrite(region, _stable))


def _stable(g: Rewriter, node: Node) -> Sequence[Value] | None:
    for rule in rules_for(g, node, STABLE):
        found = rule.apply(g, node)
        if found is not None:
            return (found,)
    return None
