"""A transposed factor that every step of a loop multiplies by is turned once, before the loop.

The columns of a right factor lie side by side in a product's inner loop; where they do not, each product copies them
so. The way back of `x @ w` at each step multiplies by the transpose of the same w.
"""

from __future__ import annotations

from dataclasses import replace

from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import For
from dgraph.ops.linalg import Dot
from dgraph.passes.base import each_region, graph_pass, same_nodes, with_operands
from dgraph.passes.product_forms import SMALL
from dgraph.passes.row_products import shape_of


@graph_pass("what every step of a loop multiplies by is turned once")
def turn_factors(graph: Graph) -> Graph:
    """Turn factors for the loops of every region."""
    return each_region(graph, _changed)


def _changed(region: Region) -> Region:
    nodes: list[Node] = []
    turned: dict[Value, Value] = {}
    for node in region.nodes:
        wanted = _wanted(node) if isinstance(node.op, For) else {}
        missing = [factor for factor in wanted.values() if factor not in turned]
        if missing:
            g = Builder()
            g.adopt(Region(tuple(dict.fromkeys(missing)), (), ()))
            with g.at(node.span, node.scope, node.derived):
                for factor in dict.fromkeys(missing):
                    turned[factor] = _turned(g, factor)
            nodes += g.nodes
        nodes.append(_with_turned(node, wanted, turned) if wanted else node)
    return same_nodes(region, nodes, region.outputs)


def _wanted(loop: Node) -> dict[Node, Value]:
    """The products of a step whose right factor is a transposed matrix from outside, and that matrix."""
    body, op = loop.regions[0], loop.op
    assert isinstance(op, For)
    inputs, operands = body.inputs[op.leading_inputs(0) :], loop.operands[op.leading_operands() :]
    outside = dict(zip(inputs, operands, strict=True))
    return {
        node: outside[node.operands[1]]
        for node in body.nodes
        if isinstance(node.op, Dot) and node.op.transpose_b and node.operands[1] in outside and _is_worth(node)
    }


def _is_worth(node: Node) -> bool:
    """Whether both factors are matrices, and the right one is not known to be small."""
    left, right = map(shape_of, node.operands)
    extents = [extent.constant for extent in right]
    return len(left) == len(right) == 2 and not any(count is not None and count <= SMALL for count in extents)


def _turned(g: Builder, factor: Value) -> Value:
    """A copy of a matrix with its columns side by side."""
    rows, columns = shape_of(factor)
    return g.map([columns, rows], lambda h, j, i: h.index(factor, i, j, policy="proven"))


def _with_turned(loop: Node, wanted: dict[Node, Value], turned: dict[Value, Value]) -> Node:
    """A loop whose products read turned factors."""
    captured = {turned[factor]: Value(turned[factor].type) for factor in dict.fromkeys(wanted.values())}
    body = loop.regions[0]
    nodes = []
    for node in body.nodes:
        if node in wanted:
            op = node.op
            assert isinstance(op, Dot)
            node = with_operands(node, {node.operands[1]: captured[turned[wanted[node]]]})
            node = replace(node, op=replace(op, transpose_b=False))
        nodes.append(node)
    region = Region((*body.inputs, *captured.values()), tuple(nodes), body.outputs)
    return replace(loop, operands=(*loop.operands, *captured), regions=(region,))
