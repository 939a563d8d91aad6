"""Sums of products that are matrix products become `dot` nodes, which have kernels of their own.

Two forms are found, in index spaces of any region that is not itself a point:

    space (i, j):  space (k):  s += a[i, k] * b[k, j]             a sum inside a point
    space (i, j):  space (k):  out[i, k] += u * b[j, k]           an accumulation, as transposition writes it

Each factor is an array read at bare loop indices that run over its whole axes, or, for the second form, a number or
array of the outer point, which the space then yields. `product_forms` says which of them are matrix products. Sums are
rounded in another order than the graph wrote: only the passes about products may change the last bits of a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.arithmetic import Mul
from dgraph.ops.control import Space
from dgraph.ops.index import Accumulate, Index
from dgraph.passes.base import graph_pass, outputs_of, same_nodes, with_operands, with_regions
from dgraph.passes.product_forms import Form, Loop, Loops, product_form
from dgraph.sizes import Size
from dgraph.types import Accumulator, Array


@graph_pass("sums of products that are matrix products become dot nodes")
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
            products = list(_products(node))
            if products:
                made, renamed = _rewritten(node, products)
                nodes += made
                known.update(renamed)
            else:
                nodes.append(node)
        found = done[region] = same_nodes(region, nodes, outputs_of(region, known))
    return found


@dataclass(frozen=True)
class _Factor:
    """A number as an entry of an array at loop indices. `array` is outside of the nest; None for a number or array of
    the outermost point, `number`, which is an entry of what the space will yield."""

    array: Value | None
    number: Value
    indices: Loops


@dataclass(frozen=True)
class _Product:
    """A sum of products that is a matrix product of `left` and `right`, in a form.

    `accumulate` is the node that sums, in the body at the end of `path`. If it sums into the outermost space,
    `output` is the position among the outputs of its body, else None: then the sum is read at `outer` indices.
    """

    path: tuple[Node, ...]
    accumulate: Node
    left: _Factor
    right: _Factor
    form: Form
    output: int | None
    written: Loops


# ---- matching -------------------------------------------------------------------------------------------------------


def _products(space: Node) -> Iterator[_Product]:
    for path in _paths((space,)):
        for node in path[-1].regions[0].nodes:
            if isinstance(node.op, Accumulate):
                product = _product(path, node)
                if product is not None:
                    yield product


def _paths(path: tuple[Node, ...]) -> Iterator[tuple[Node, ...]]:
    """The space, and each space directly inside its point."""
    yield path
    for node in path[-1].regions[0].nodes:
        if isinstance(node.op, Space):
            yield (*path, node)


def _product(path: tuple[Node, ...], node: Node) -> _Product | None:
    body = path[-1].regions[0]
    accumulator, *indices, entry = node.operands
    kind = accumulator.type
    maker = body.producers.get(entry)
    if maker is None or not isinstance(maker.op, Mul) or maker.result.type != Array(kind.dtype):  # type: ignore[union-attr]
        return None
    assert isinstance(kind, Accumulator)
    if kind.kind != "add" or not kind.dtype.is_float or len(indices) != kind.rank:
        return None
    left, right = (_factor(path, factor) for factor in maker.operands)
    if left is None or right is None or not _is_only_write(path, node):
        return None
    output = _output(path, node)
    if output is None:
        return _inner_sum(path, node, left, right) if len(path) == 2 and kind.rank == 0 else None
    written = _loops(path, indices)
    if written is None or kind.shape != tuple(_extent(path, loop) for loop in written):
        return None
    return _matched(path, node, left, right, output, written)


def _outside(path: Sequence[Node], level: int, value: Value) -> tuple[int, Value]:
    """A value followed outwards through captures: the level of the body that defines it (-1: outside), and it."""
    while level >= 0:
        node = path[level]
        assert isinstance(node.op, Space)
        body = node.regions[0]
        lead = node.op.leading_inputs(0)
        position = next((at for at, given in enumerate(body.inputs[lead:]) if given is value), None)
        if position is None:
            return level, value
        value = node.operands[node.op.accumulators + position]
        level -= 1
    return level, value


def _loops(path: Sequence[Node], values: Sequence[Value]) -> Loops | None:
    """The values as loop indices, all different; None if one is not a bare loop index."""
    found = []
    for value in values:
        level, origin = _outside(path, len(path) - 1, value)
        op = path[level].op
        assert isinstance(op, Space)
        inputs = path[level].regions[0].inputs[: len(op.extents)] if level >= 0 else ()
        if origin not in inputs:
            return None
        found.append(Loop(level, inputs.index(origin)))
    return tuple(found) if len(set(found)) == len(found) else None


def _extent(path: Sequence[Node], loop: Loop) -> Size:
    op = path[loop.level].op
    assert isinstance(op, Space)
    return op.extents[loop.position]


def _factor(path: Sequence[Node], value: Value) -> _Factor | None:
    level, origin = _outside(path, len(path) - 1, value)
    if level < 0:
        return None
    maker = path[level].regions[0].producers.get(origin)
    if maker is None:
        return None
    if isinstance(maker.op, Index):
        inner = path[: level + 1]
        outside, array = _outside(inner, level, maker.operands[0])
        loops = _loops(inner, maker.operands[1:])
        assert isinstance(array.type, Array)
        if loops and array.type.shape == tuple(_extent(path, loop) for loop in loops):
            if outside < 0:
                return _Factor(array, origin, loops)
            if outside == 0 and all(loop.level for loop in loops) and array in path[0].regions[0].producers:
                return _Factor(None, array, (*_own_loops(path[0]), *loops))
    return None if level or maker.regions else _Factor(None, origin, _own_loops(path[0]))


def _own_loops(space: Node) -> Loops:
    assert isinstance(space.op, Space)
    return tuple(Loop(0, position) for position in range(len(space.op.extents)))


def _is_only_write(path: Sequence[Node], node: Node) -> bool:
    """Whether an accumulator comes straight from the inputs of its body and goes straight to the outputs."""
    body = path[-1].regions[0]
    return node.operands[0] in body.inputs and node.result in body.outputs


def _output(path: Sequence[Node], node: Node) -> int | None:
    """The output of the outermost body that an accumulate is the only write to; None if there is none."""
    body = path[-1].regions[0]
    position = body.outputs.index(node.result)
    if len(path) == 1:
        return position
    inner, outer = path[1], path[0].regions[0]
    assert isinstance(inner.op, Space)
    if position >= inner.op.accumulators or inner.results[position] not in outer.outputs:
        return None
    return outer.outputs.index(inner.results[position]) if inner.operands[position] in outer.inputs else None


def _inner_sum(path: tuple[Node, ...], node: Node, left: _Factor, right: _Factor) -> _Product | None:
    """A sum inside a point, over all indices of the inner space."""
    if left.array is None or right.array is None:
        return None
    inner = path[1].op
    assert isinstance(inner, Space)
    written = tuple(sorted({loop for loop in (*left.indices, *right.indices) if loop.level == 0}))
    if {Loop(1, position) for position in range(len(inner.extents))} != {*left.indices, *right.indices} - {*written}:
        return None
    return _matched(path, node, left, right, None, written)


def _matched(
    path: tuple[Node, ...], node: Node, left: _Factor, right: _Factor, output: int | None, written: Loops
) -> _Product | None:
    form = product_form(left.indices, right.indices, written, lambda loop: _extent(path, loop))
    if form is None or (output is not None and _all_loops(path) != {*left.indices, *right.indices}):
        return None
    return _Product(path, node, left, right, form, output, written)


def _all_loops(path: Sequence[Node]) -> set[Loop]:
    return {
        Loop(level, position)
        for level, node in enumerate(path)
        for position in range(len(node.op.extents) if isinstance(node.op, Space) else 0)
    }


# ---- rewriting ------------------------------------------------------------------------------------------------------


def _rewritten(space: Node, products: Sequence[_Product]) -> tuple[list[Node], dict[Value, Value]]:
    """The nodes that stand for a space, and what its results are called if something else computes them."""
    assert isinstance(space.op, Space)
    g = Builder()
    g.adopt(Region(tuple(dict.fromkeys(space.operands)), (), ()))
    body = space.regions[0]
    inner = {product.path[1]: product.path[1].regions[0] for product in products if len(product.path) == 2}
    captured: dict[Value, Value] = {}
    sums: dict[Value, Node] = {}
    yielded: dict[Value, Value] = {}
    known: dict[Value, Value] = {}
    with g.at(space.span, space.scope, space.derived):
        for product in products:
            if product.output is None:
                matrix = product.form.emit(g, *_operands(product, yielded))
                captured[matrix] = Value(matrix.type, matrix.name)
                entry, read = _read(product, captured[matrix], body)
                sums[entry] = read
            elif len(product.path) == 2:
                inner[product.path[1]] = _without(inner[product.path[1]], product.accumulate)
            else:
                body = _without(body, product.accumulate)
            for factor in (product.left, product.right):
                if factor.array is None and factor.number not in yielded:
                    kind = factor.number.type
                    assert isinstance(kind, Array)
                    whole = Array(kind.dtype, space.op.extents + kind.shape)
                    yielded[factor.number] = Value(whole, factor.number.name)
        nodes, outputs = _with_sums(body, inner, sums)
        region = Region((*body.inputs, *captured.values()), nodes, (*outputs, *yielded))
        operands, results = (*space.operands, *captured), (*space.results, *yielded.values())
        g.append(replace(space, operands=operands, results=results, regions=(region,)))
        for product in products:
            if product.output is not None:
                matrix = product.form.emit(g, *_operands(product, yielded))
                result = space.results[product.output]
                own = product.output >= space.op.accumulators
                known[result] = matrix if own else g.emit(Accumulate("proven"), result, matrix)
    return g.nodes, known


def _operands(product: _Product, yielded: dict[Value, Value]) -> list[Value]:
    """The arrays that are multiplied."""
    return [factor.array or yielded[factor.number] for factor in (product.left, product.right)]


def _read(product: _Product, matrix: Value, body: Region) -> tuple[Value, Node]:
    """What stood for a sum inside the point, and the read of the product that takes its place."""
    node = product.path[1]
    entry = node.results[node.regions[0].outputs.index(product.accumulate.result)]
    at = [body.inputs[loop.position] for loop in product.written]
    result = Value(entry.type, entry.name)
    return entry, Node(Index("proven"), (matrix, *at), (result,), (), node.span, node.scope, node.derived)


def _without(region: Region, accumulate: Node) -> Region:
    """A region in which an accumulator passes by what was added to it."""
    outputs = [accumulate.operands[0] if output is accumulate.result else output for output in region.outputs]
    return Region(region.inputs, tuple(node for node in region.nodes if node is not accumulate), tuple(outputs))


def _with_sums(
    body: Region, inner: dict[Node, Region], sums: dict[Value, Node]
) -> tuple[tuple[Node, ...], tuple[Value, ...]]:
    """Nodes and outputs of the point: sums are read, and inner spaces lose what is summed elsewhere."""
    known = {entry: read.result for entry, read in sums.items()}
    nodes: list[Node] = []
    for node in body.nodes:
        nodes.append(
            with_regions(with_operands(node, known), [inner[node]]) if node in inner else with_operands(node, known)
        )
        nodes += [sums[result] for result in node.results if result in sums]
    return tuple(nodes), outputs_of(body, known)
