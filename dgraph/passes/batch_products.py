"""Matrix products of the points of an index space are done for all points at once.

A point that multiplies an array of its own by a matrix from outside, as `vmap` and formulas over rows write it, is cut
in three: a space that yields the array, one product, and the space that reads its rows. What else the last part needs
of the first is yielded too, unless it is only a read; fusion decides later what is stored. The sums are those of the
points, though a product kernel may round them differently for many rows than for one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import Space
from dgraph.ops.index import Index
from dgraph.ops.linalg import Dot
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.base import each_region, graph_pass
from dgraph.passes.expand_arrays import VIEWS
from dgraph.passes.row_products import row_operand, rows_times, shape_of
from dgraph.sizes import Size, product
from dgraph.types import Array

READS = (Index, Constant, SizeValue, *VIEWS)
"""Ops that compute nothing: they are done again rather than stored."""

FEW = 4
"""So many points, known as a literal, are left as they are."""
SMALL = 16
"""A matrix of at most so many entries stays with the points that multiply by it."""
LITTLE = 1024
"""Points that make no more multiplications than this, all together, keep their products: in registers that costs less
than rows in memory and a product of them."""


@graph_pass("matrix products of all points of an index space are done at once")
def batch_products(graph: Graph) -> Graph:
    """Gather products in every region, inner ones first."""
    return each_region(graph, _batched)


def _batched(region: Region) -> Region:
    if not any(isinstance(node.op, Space) for node in region.nodes):
        return region
    g = Builder()
    g.adopt(Region(region.inputs, (), ()))
    for node in region.nodes:
        rest: Node | None = node
        while rest is not None:
            node, rest = rest, _cut(g, rest) if isinstance(rest.op, Space) else None
        g.append(node)
    return Region(region.inputs, tuple(g.nodes), region.outputs) if len(g.nodes) > len(region.nodes) else region


def _cut(g: Builder, space: Node) -> Node | None:
    """The last part of a space whose first product has been gathered; None if there is none."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    count = product(op.extents).constant
    if not op.extents or (count is not None and count <= FEW):
        return None
    lead = op.leading_inputs(0)
    outside = dict(zip(body.inputs[lead:], space.operands[op.accumulators :], strict=True))
    made = set(body.producers)
    for node in body.nodes:
        if isinstance(node.op, Dot):
            left, right = node.operands
            found = row_operand(node.op, left, right, made, set(outside))
            if found is not None:
                rows, matrix = (right, left) if found[0] else (left, right)
                if _is_little(product(op.extents), rows, matrix):
                    continue
                with g.at(node.span, space.scope + node.scope, node.derived or space.derived):
                    rest = _gathered(g, space, node, rows, outside[matrix], found[1])
                if rest is not None:
                    return rest
    return None


def _is_little(points: Size, rows: Value, matrix: Value) -> bool:
    """Whether all points together make few multiplications, or the matrix fits into registers."""
    inner, matrix_entries = shape_of(rows)[-1].constant, product(shape_of(matrix))
    entries = (points * product(shape_of(rows)) * matrix_entries).constant
    is_little = inner is not None and entries is not None and entries <= LITTLE * inner
    return is_little or (matrix_entries.constant is not None and matrix_entries.constant <= SMALL)


def _gathered(g: Builder, space: Node, dot: Node, rows: Value, matrix: Value, transposed: bool) -> Node | None:
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    cone = _needed(body, [rows], ())
    later = _needed(body, body.outputs, (rows, dot.result))
    crossing = _whole(body, [rows, *(value for value in _crossing(body, cone, later) if value is not rows)])
    if not all(isinstance(value.type, Array) for value in crossing):
        # What a loop of a point remembers stays with that point.
        return None
    first = _first_part(space, cone, crossing)
    g.append(first)
    whole = rows_times(g, first.results[0], matrix, transposed)
    arrays = dict(zip([dot.result, *crossing], [whole, *first.results], strict=True))
    indices = body.inputs[: len(op.extents)]
    captured = {value: Value(array.type, value.name) for value, array in arrays.items()}
    reads = [
        Node(Index("proven"), (captured[value], *indices), (value,), (), dot.span, dot.scope, dot.derived)
        for value in arrays
    ]
    rest = [node for node in body.nodes if not any(result in arrays for result in node.results)]
    inner = Region((*body.inputs, *captured.values()), (*reads, *rest), body.outputs)
    return replace(space, operands=(*space.operands, *arrays.values()), regions=(inner,))


def _needed(body: Region, outputs: Iterable[Value], given: Iterable[Value]) -> list[Node]:
    """The nodes that compute some values, in order, where others are given; nodes with an effect among them."""
    known, live = set(given), set(outputs)
    found = []
    for node in reversed(body.nodes):
        if any(result in live and result not in known for result in node.results) or not node.results:
            found.append(node)
            live.update(node.operands)
    return found[::-1]


def _crossing(body: Region, cone: list[Node], later: list[Node]) -> list[Value]:
    """Values that the first part computes and the last one needs, but for those that are only read."""
    first = set(cone)
    shared = [node for node in later if node in first]
    users = {operand for node in later if node not in first for operand in node.operands} | set(body.outputs)
    dear = [node for node in shared if not isinstance(node.op, READS)]
    # What only cheap shared nodes read is computed with them again, so a dear node that they read crosses itself.
    users |= {operand for node in shared if node not in dear for operand in node.operands}
    return [result for node in dear for result in node.results if result in users]


def _whole(body: Region, crossing: list[Value]) -> list[Value]:
    """Some values with the other results that anything reads of the nodes that make them: a node with a result that
    crosses is not in the last part."""
    found = dict.fromkeys(crossing)
    for node in body.nodes:
        if any(result in found for result in node.results):
            found.update((result, None) for result in node.results if result in body.used)
    return list(found)


def _first_part(space: Node, cone: list[Node], yielded: list[Value]) -> Node:
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    nodes = [node for node in cone if node.results]
    read = {operand for node in nodes for operand in node.operands}
    lead = op.leading_inputs(0)
    captures = zip(body.inputs[lead:], space.operands[op.accumulators :], strict=True)
    kept = [(value, operand) for value, operand in captures if value in read]
    inputs = (*body.inputs[: len(op.extents)], *(value for value, _ in kept))
    results = []
    for value in yielded:
        assert isinstance(value.type, Array)
        results.append(Value(Array(value.type.dtype, op.extents + value.type.shape), value.name))
    region = Region(inputs, tuple(nodes), tuple(yielded))
    operands = tuple(operand for _, operand in kept)
    return replace(space, op=Space(op.extents), operands=operands, results=tuple(results), regions=(region,))
