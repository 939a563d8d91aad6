"""Sums of products that are matrix products become `dot` and `contract` nodes, which have kernels of their own.

Two forms are found, in index spaces of any region that is not itself a point:

    space (i, j):  space (k):  s += a[i, k] * b[k, j]             a sum inside a point
    space (i, j):  space (k):  out[i, k] += u * b[j, k]           an accumulation, as transposition writes it

Each may stand in a choice between two loop indices, `s < r`: then it is a product over a triangle. Each factor is an
array read at bare loop indices that run over its whole axes, or, for the second form, a number or array of the outer
point, which the space then yields. `product_forms` says which of them are matrix products. Sums are rounded in another
order than the graph wrote: only the passes about products may change the last bits of a result.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import If, Space
from dgraph.ops.index import Accumulate, Index
from dgraph.passes.base import graph_pass, outputs_of, same_nodes, with_operands, with_regions
from dgraph.passes.product_forms import is_plain
from dgraph.passes.product_matching import Product, products
from dgraph.types import Array


@graph_pass("sums of products that are matrix products become nodes of their own")
def find_products(graph: Graph) -> Graph:
    """Find matrix products in every region outside of points."""
    return graph.with_region(_found(graph.region, {}))


def _found(region: Region, done: dict[Region, Region]) -> Region:
    found = done.get(region)
    if found is None:
        nodes: list[Node] = []
        known: dict[Value, Value] = {}
        for node in region.nodes:
            node = with_operands(node, known)
            if not isinstance(node.op, Space):
                nodes.append(with_regions(node, [_found(inner, done) for inner in node.regions]))
                continue
            found_here = list(products(node))
            if found_here:
                made, renamed = _rewritten(node, found_here)
                nodes += made
                known.update(renamed)
            else:
                nodes.append(node)
        found = done[region] = same_nodes(region, nodes, outputs_of(region, known))
    return found


# ---- rewriting ------------------------------------------------------------------------------------------------------


def _rewritten(space: Node, products: Sequence[Product]) -> tuple[list[Node], dict[Value, Value]]:
    """The nodes that stand for a space, and what its results are called if something else computes them."""
    assert isinstance(space.op, Space)
    g = Builder()
    g.adopt(Region(tuple(dict.fromkeys(space.operands)), (), ()))
    outer = {product.accumulate for product in products if product.output is not None}
    body, _ = _without(space.regions[0], outer)
    captured: dict[Value, Value] = {}
    sums: dict[Value, Node] = {}
    yielded: dict[Value, Value] = {}
    known: dict[Value, Value] = {}
    with g.at(space.span, space.scope, space.derived):
        for product in products:
            if product.output is None:
                matrix = product.form.emit(g, *_operands(product, yielded))
                captured[matrix] = Value(matrix.type, matrix.name)
                sums[product.entry] = _read(product, captured[matrix], body)
            for factor in (product.left, product.right):
                if factor.array is None and factor.number not in yielded:
                    kind = factor.number.type
                    assert isinstance(kind, Array)
                    whole = Array(kind.dtype, space.op.extents + kind.shape)
                    yielded[factor.number] = Value(whole, factor.number.name)
        nodes, outputs = _with_sums(body, sums)
        region = Region((*body.inputs, *captured.values()), nodes, (*outputs, *yielded))
        operands, results = (*space.operands, *captured), (*space.results, *yielded.values())
        g.append(replace(space, operands=operands, results=results, regions=(region,)))
        for product in products:
            if product.output is not None:
                result = space.results[product.output]
                known[result] = _added(g, space, product, known.get(result, result), _operands(product, yielded))
    return g.nodes, known


def _added(g: Builder, space: Node, product: Product, result: Value, operands: list[Value]) -> Value:
    """What a space sums, with a product that it does not sum any more."""
    assert isinstance(space.op, Space) and product.output is not None
    if product.output < space.op.accumulators:
        return g.emit(Accumulate("proven"), result, product.form.emit(g, *operands))
    has_start = not product.is_alone
    if product.is_alone and not all(map(is_plain, product.written)):
        result, has_start = g.zeros(result.type), True
    return product.form.emit(g, operands[0], operands[1], result if has_start else None)


def _operands(product: Product, yielded: dict[Value, Value]) -> list[Value]:
    """The arrays that are multiplied."""
    return [factor.array or yielded[factor.number] for factor in (product.left, product.right)]


def _read(product: Product, matrix: Value, body: Region) -> Node:
    """The read of a product that takes the place of a sum inside the point."""
    node, entry = product.path[1].node, product.entry
    at = [body.inputs[term.loop.position] for (term,) in product.written]
    result = Value(entry.type, entry.name)
    return Node(Index("proven"), (matrix, *at), (result,), (), node.span, node.scope, node.derived)


def _without(region: Region, accumulates: Container[Node]) -> tuple[Region, bool]:
    """A region in which accumulators pass by what was added to them, and whether it is another one."""
    known: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in region.nodes:
        if node in accumulates:
            known[node.result] = known.get(node.operands[0], node.operands[0])
            continue
        changes = [_without(inner, accumulates) for inner in node.regions]
        node = with_operands(node, known)
        if any(is_other for _, is_other in changes):
            node = with_regions(node, [inner for inner, _ in changes])
            if isinstance(node.op, If):
                node = _bypassed(node, known)
        nodes.append(node)
    if len(nodes) == len(region.nodes) and all(one is other for one, other in zip(nodes, region.nodes, strict=True)):
        return region, False
    return Region(region.inputs, tuple(nodes), outputs_of(region, known)), True


def _bypassed(node: Node, known: dict[Value, Value]) -> Node:
    """A choice without the accumulators that both sides hand through; `known` learns what its results are."""
    idle: dict[int, int] = {}
    for at in range(len(node.results)):
        places = {side.inputs.index(side.outputs[at]) for side in node.regions if side.outputs[at] in side.inputs}
        if len(places) == 1 and all(side.outputs[at] in side.inputs for side in node.regions):
            (idle[at],) = places
            known[node.results[at]] = node.operands[1 + idle[at]]

    def without(values: tuple[Value, ...], places: Container[int]) -> tuple[Value, ...]:
        return tuple(value for at, value in enumerate(values) if at not in places)

    gone = set(idle.values())
    sides = tuple(Region(without(side.inputs, gone), side.nodes, without(side.outputs, idle)) for side in node.regions)
    operands = (node.operands[0], *without(node.operands[1:], gone))
    return replace(node, operands=operands, results=without(node.results, idle), regions=sides)


def _with_sums(body: Region, sums: dict[Value, Node]) -> tuple[tuple[Node, ...], tuple[Value, ...]]:
    """Nodes and outputs of the point, where sums are read."""
    known = {entry: read.result for entry, read in sums.items()}
    nodes: list[Node] = []
    for node in body.nodes:
        nodes.append(with_operands(node, known))
        nodes += [sums[result] for result in node.results if result in sums]
    return tuple(nodes), outputs_of(body, known)
