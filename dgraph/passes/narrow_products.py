"""Of a matrix product of which only a slice is read, only that slice is computed."""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.linalg import Dot
from dgraph.ops.shape import Slice
from dgraph.passes.base import each_region, graph_pass, outputs_of, with_operands
from dgraph.passes.row_products import shape_of, slice_along


@graph_pass("of a matrix product only the slice that is read is computed")
def narrow_products(graph: Graph) -> Graph:
    """Narrow products in every region."""
    return each_region(graph, _narrowed)


def _narrowed(region: Region) -> Region:
    chosen = {node: maker for node in region.nodes if (maker := _product_of(region, node)) is not None}
    if not chosen:
        return region
    g = Builder()
    g.adopt(Region(region.inputs, (), ()))
    known: dict[Value, Value] = {}
    gone = set(chosen.values())
    for node in region.nodes:
        if node in chosen:
            product = chosen[node]
            with g.at(product.span, product.scope, product.derived):
                known[node.result] = _slice_of(g, product, node, [known.get(v, v) for v in product.operands])
        elif node not in gone:
            g.append(with_operands(node, known))
    return Region(region.inputs, tuple(g.nodes), outputs_of(region, known))


def _product_of(region: Region, node: Node) -> Node | None:
    """The product of which a node is the only reader and takes a slice."""
    if not isinstance(node.op, Slice):
        return None
    (whole,) = node.operands
    maker = region.producers.get(whole)
    if maker is None or not isinstance(maker.op, Dot) or max(len(shape_of(v)) for v in maker.operands) > 2:
        return None
    return maker if whole not in region.outputs and region.users[whole] == (node,) else None


def _slice_of(g: Builder, product: Node, node: Node, operands: Sequence[Value]) -> Value:
    """The product of the rows and columns that a slice takes."""
    dot, taken = product.op, node.op
    assert isinstance(dot, Dot) and isinstance(taken, Slice)
    left, right = operands
    axes = list(zip(taken.starts, taken.steps, taken.shape, strict=True))
    if len(shape_of(left)) == 2:
        left = slice_along(g, left, 1 if dot.transpose_a else 0, *axes.pop(0))
    if len(shape_of(right)) == 2:
        right = slice_along(g, right, 0 if dot.transpose_b else 1, *axes.pop(0))
    return g.emit(dot, left, right)
