"""Jacobians by compressed sweeps, as ordinary nodes: one sweep for each colour instead of one for each entry.

Which entry has which colour, and where each entry of the result is found among the products, are further inputs of the
graph. They come from `seeds.py` at each call, since they depend on the sizes and the integers of its arguments. Where
nobody gives them (`without_sparse`) the sweeps are those of the whole basis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress as selected
from types import MappingProxyType

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.build import Builder, close_together
from dgraph.ir.graph import Formal, Graph, Node, Region, Value, walk
from dgraph.ops.control import For, If, Space, While
from dgraph.ops.elementwise import array_type, entry
from dgraph.ops.transform import Jvp, SparseJacobian, Vjp, Vmap
from dgraph.sizes import Size, product, size, variable
from dgraph.types import I64, Accumulator, Array, Tuple

NESTS = (For, While, If, Space)
"""The ops into whose regions the further inputs of a graph are captured."""


BOTH = ("columns", "rows")
"""What may share a sweep where that is only chosen as the code runs."""


@dataclass(frozen=True)
class Jacobian:
    """One compressed Jacobian of a graph: its node, whether its blocks are given as their entries, and whether columns
    share sweeps, forward, or rows, in reverse."""

    node: Node
    is_entries: bool
    ways: tuple[str, ...] = BOTH

    @property
    def op(self) -> SparseJacobian:
        """What is asked for."""
        assert isinstance(self.node.op, SparseJacobian)
        return self.node.op

    @property
    def blocks(self) -> list[tuple[Array, Array]]:
        """Output and input of each block."""
        outer, inner = self.op.sides(self.node.regions[0])
        return [(row, column) for row in outer for column in inner]


@dataclass(frozen=True)
class Compressed:
    """A graph with further inputs for its Jacobians. `places` says which leaves of the result are the entries of a
    block: the Jacobian and the block by number."""

    graph: Graph
    jacobians: tuple[Jacobian, ...]
    places: dict[int, tuple[int, int]]


NO_WAYS: Mapping[Node, str] = MappingProxyType({})


def sparse_nodes(region: Region) -> list[Node]:
    """The nodes that ask for a sparse Jacobian in a region and in its loops, branches and index spaces; not those
    inside of other derivatives. A node that stands in several places is one node."""
    found: dict[Node, None] = {}
    for node in region.nodes:
        if isinstance(node.op, SparseJacobian):
            found[node] = None
        elif isinstance(node.op, NESTS):
            found.update(dict.fromkeys(inner for part in node.regions for inner in sparse_nodes(part)))
    return list(found)


# ---- the graph ------------------------------------------------------------------------------------------------------


def compress(graph: Graph, as_entries: bool, ways: Mapping[Node, str] = NO_WAYS) -> Compressed:
    """The graph with its Jacobians by compressed sweeps. With `as_entries` a block that is a result of the graph is
    the array of its entries, row by row, and the results are a flat tuple.

    `ways` says for some Jacobians what shares a sweep, "columns" or "rows", or that there is a sweep for each entry of
    the inputs, "forward", or of the outputs, "reverse".
    """
    g = Builder()
    inputs = [g.input(value.type, value.name) for value in graph.region.inputs]
    run = _Compression(graph, g, as_entries, ways)
    outputs = run.region(g, graph.region, inputs)
    region = g.close(outputs)
    made = run.made
    result = Tuple(tuple(array_type(value) for value in region.outputs)) if as_entries else graph.result
    full = replace(
        graph,
        sizes=(*graph.sizes, *made.sizes),
        formals=(*graph.formals, *made.formals),
        result=result,
        region=region,
    )
    places = {at: run.blocks[value] for at, value in enumerate(graph.region.outputs) if value in run.blocks}
    return Compressed(full, tuple(run.jacobians.values()), places)


class _Compression:
    """One run: a node that stands in several places has the same further inputs in all of them."""

    def __init__(self, graph: Graph, root: Builder, as_entries: bool, ways: Mapping[Node, str]) -> None:
        self.made = _Names(graph, root)
        self.ways = ways
        read = {operand for node in graph.region.nodes for operand in node.operands}
        self.results = set(graph.region.outputs) - read if as_entries else set()
        self.jacobians: dict[Node, Jacobian] = {}
        self.inputs: dict[Node, _Inputs] = {}
        self.blocks: dict[Value, tuple[int, int]] = {}

    def region(self, g: Builder, region: Region, inputs: Sequence[Value]) -> list[Value]:
        """The nodes of a region appended to a builder; its outputs."""
        known = dict(zip(region.inputs, inputs, strict=True))
        for node in region.nodes:
            operands = [known[operand] for operand in node.operands]
            if isinstance(node.op, SparseJacobian):
                with g.at(span=node.span, scope=node.scope, derived=node.derived):
                    results: Sequence[Value] = self.jacobian(g, node, operands)
            elif isinstance(node.op, NESTS) and sparse_nodes(Region((), (node,), ())):
                results = self.nest(g, node, operands)
            else:
                results = g.copy(node, operands)
            known.update(zip(node.results, results, strict=True))
        return [known[output] for output in region.outputs]

    def nest(self, g: Builder, node: Node, operands: Sequence[Value]) -> Sequence[Value]:
        """A loop, branch or index space whose regions capture what they need."""
        children = [g.child() for _ in node.regions]
        outputs = [
            self.region(child, part, [child.input(value.type, value.name) for value in part.inputs])
            for child, part in zip(children, node.regions, strict=True)
        ]
        regions, captures = close_together(children, outputs)
        names = [value.name for value in node.results]
        with g.at(span=node.span, scope=node.scope, derived=node.derived):
            return g.apply(node.op, *operands, *captures, regions=regions, names=names)

    def jacobian(self, g: Builder, node: Node, operands: Sequence[Value]) -> list[Value]:
        """The blocks of a Jacobian."""
        way = self.ways.get(node, "")
        if way in ("forward", "reverse"):
            whole = replace(node, regions=tuple(map(without_sparse, node.regions)))
            return list(_by_units(g, whole, operands, way == "reverse"))
        jacobian = self.jacobians.get(node)
        if jacobian is None:
            is_entries = bool(self.results) and self.results.issuperset(node.results)
            jacobian = Jacobian(node, is_entries, (way,) if way else _ways_of(node))
            if jacobian.is_entries:
                number = len(self.jacobians)
                self.blocks.update({value: (number, at) for at, value in enumerate(node.results)})
            self.inputs[node] = _inputs_of(jacobian, self.made, len(self.jacobians))
            self.jacobians[node] = jacobian
        return _swept(g, jacobian, operands, self.inputs[node])


def _ways_of(node: Node) -> tuple[str, ...]:
    """A Hessian is swept forward only: it is symmetric."""
    assert isinstance(node.op, SparseJacobian)
    return BOTH[:1] if node.op.symmetric else BOTH


class _Names:
    """Further inputs and sizes, under names that the graph does not have."""

    def __init__(self, graph: Graph, root: Builder) -> None:
        self.root = root
        self.taken = {*graph.sizes, *graph.input_names}
        self.sizes: list[str] = []
        self.formals: list[Formal] = []

    def fresh(self, name: str) -> str:
        """A name like this one."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def size(self, name: str) -> Size:
        """A further size."""
        self.sizes.append(self.fresh(name))
        return variable(self.sizes[-1])

    def array(self, name: str, shape: Sequence[Size]) -> Value:
        """A further input of integers."""
        formal = Formal(self.fresh(name), Array(I64, tuple(shape)))
        self.formals.append(formal)
        return self.root.input(Array(I64, tuple(shape)), formal.name)


@dataclass(frozen=True)
class _Inputs:
    """The further inputs of one Jacobian: for each direction the numbers of the sweeps and the colour of each entry of
    each side; for each block the number of its entries, where they are found among the products of each direction,
    and, for an array, where they stand."""

    directions: tuple[tuple[Value, tuple[Value, ...]], ...]
    blocks: tuple[tuple[Size, tuple[Value, ...], Value | None], ...]


def _inputs_of(jacobian: Jacobian, made: _Names, number: int) -> _Inputs:
    """Further inputs in the order of `Seeds.arrays`."""
    op = jacobian.op
    outer, inner = op.sides(jacobian.node.regions[0])
    directions = []
    for way in jacobian.ways:
        name, sides = f"sparse{number}_{way}", inner if way == "columns" else outer
        sweeps = made.array(f"{name}_sweeps", [made.size(f"{name}_count")])
        colours = tuple(made.array(f"{name}_colour{at}", side.shape) for at, side in enumerate(sides))
        directions.append((sweeps, colours))
    blocks = []
    for at in range(len(jacobian.blocks)):
        name = f"sparse{number}_block{at}"
        entries = made.size(f"{name}_entries")
        sources = tuple(made.array(f"{name}_source{way}", [entries]) for way in range(len(directions)))
        places = None if jacobian.is_entries else made.array(f"{name}_place", [entries])
        blocks.append((entries, sources, places))
    return _Inputs(tuple(directions), tuple(blocks))


def _swept(g: Builder, jacobian: Jacobian, operands: Sequence[Value], given: _Inputs) -> list[Value]:
    """The blocks of a Jacobian from products with one vector for each colour."""
    outer, inner = jacobian.op.sides(jacobian.node.regions[0])
    products = [
        _products(g, jacobian, operands, sweeps, colours, inner if way == "rows" else outer, way == "rows")
        for (sweeps, colours), way in zip(given.directions, jacobian.ways, strict=True)
    ]
    results = []
    for (row, column), (entries, sources, places) in zip(jacobian.blocks, given.blocks, strict=True):
        value = _entry_of(row, products, sources)
        if places is None:
            results.append(g.map([entries], value))
        else:
            results.append(_array(g, entries, row, column, places, value))
    return results


def _entry_of(row: Array, products: Sequence[Value], sources: Sequence[Value]) -> Callable[[Builder, Value], Value]:
    """An entry of a block by its number: it is found among the products of one direction, and reads 0 in the other."""

    def value(h: Builder, e: Value) -> Value:
        pairs = zip(products, sources, strict=True)
        terms = [h.index(table, entry(h, source, [e]), policy="drop") for table, source in pairs]
        total = terms[0] if len(terms) == 1 else h.add(*terms)
        return total if array_type(total).dtype == row.dtype else h.cast(total, dtype=row.dtype)

    return value


def _array(
    g: Builder, entries: Size, row: Array, column: Array, places: Value, value: Callable[[Builder, Value], Value]
) -> Value:
    """A block as an array that is zero where it has no entry."""
    shape = row.shape + column.shape

    def point(h: Builder, indices: list[Value], _accumulators: list[Value], own: list[Value]) -> list[Value]:
        (e,) = indices
        return [h.accumulate(own[0], entry(h, places, [e]), value(h, e), policy="proven")]

    (flat,) = g.space([entries], point, buffers=[Accumulator(row.dtype, (product(shape),))])
    return g.reshape(flat, shape=shape)


def _products(
    g: Builder,
    jacobian: Jacobian,
    operands: Sequence[Value],
    sweeps: Value,
    colours: Sequence[Value],
    others: Sequence[Array],
    is_reverse: bool,
) -> Value:
    """Products of the Jacobian with the sum of the unit vectors of each colour, one after the other, flat."""
    op, region = jacobian.op, jacobian.node.regions[0]
    child = g.child()
    number = child.input(Array(I64), "sweep")
    sides = op.sides(region)[0 if is_reverse else 1]
    seeds = [_seed(child, number, colour, side) for colour, side in zip(colours, sides, strict=True)]
    if is_reverse:
        reverse = Vjp(function=op.function, wrt=op.wrt, seeded=op.rows)
        found = list(child.apply(reverse, *operands, *seeds, regions=[region])[len(region.outputs) :])
    else:
        forward = Jvp(function=op.function, active=op.wrt)
        results = child.apply(forward, *operands, *seeds, regions=[region])[len(region.outputs) :]
        floats = [isinstance(value.type, Array) and value.type.dtype.is_float for value in region.outputs]
        found = list(selected(results, selected(op.rows, floats)))
    widest = max((side.dtype for side in others), key=lambda dtype: dtype.bytes)
    flat = []
    for value in found:
        type_ = array_type(value)
        value = value if type_.dtype == widest else child.cast(value, dtype=widest)
        flat.append(value if type_.rank == 1 else child.reshape(value, shape=(product(type_.shape),)))
    whole = flat[0] if len(flat) == 1 else child.concat(*flat, axis=0)
    mapped = (True,) + (False,) * len(child.captures)
    body = child.close([whole])
    extent = array_type(sweeps).shape[0]
    (products,) = g.apply(
        Vmap(function=op.function, mapped=mapped, extent=extent), sweeps, *child.captures, regions=[body]
    )
    return g.reshape(products, shape=(product(array_type(products).shape),))


def _seed(child: Builder, number: Value, colour: Value, side: Array) -> Value:
    """1 where an entry has the colour of the sweep, else 0."""

    def point(h: Builder, *at: Value) -> Value:
        return h.cast(h.equal(entry(h, colour, at), number), dtype=side.dtype)

    return child.map(side.shape, point) if side.shape else point(child)


# ---- without colours ------------------------------------------------------------------------------------------------


def without_sparse(region: Region) -> Region:
    """The region with every sparse Jacobian, in nested regions too, by a sweep for each entry of the inputs, or of the
    outputs where these are fewer."""
    if not any(isinstance(node.op, SparseJacobian) for node in walk(region)):
        return region
    g = Builder()
    known = {value: g.input(value.type, value.name) for value in region.inputs}
    for node in region.nodes:
        operands = [known[operand] for operand in node.operands]
        inner = replace(node, regions=tuple(map(without_sparse, node.regions)))
        with g.at(span=node.span, scope=node.scope, derived=node.derived):
            if isinstance(node.op, SparseJacobian):
                results: Sequence[Value] = list(_by_units(g, inner, operands, _has_fewer_rows(inner)))
            else:
                results = g.copy(inner, operands)
        known.update(zip(node.results, results, strict=True))
    return g.close([known[output] for output in region.outputs])


def extents_of(node: Node) -> tuple[Size, Size]:
    """The rows and columns of a Jacobian."""
    assert isinstance(node.op, SparseJacobian)
    rows, columns = (sum((product(side.shape) for side in sides), size(0)) for sides in node.op.sides(node.regions[0]))
    return rows, columns


def _has_fewer_rows(node: Node) -> bool:
    rows, columns = extents_of(node)
    return rows != columns and (columns - rows).is_nonnegative()


def _by_units(g: Builder, node: Node, operands: Sequence[Value], is_reverse: bool) -> Iterator[Value]:
    """The blocks from unit vectors, one input or output after the other."""
    op, region = node.op, node.regions[0]
    assert isinstance(op, SparseJacobian)
    outer, inner = op.sides(region)
    rows, columns = extents_of(node)
    marks, sides, others = (op.rows, outer, inner) if is_reverse else (op.wrt, inner, outer)
    tables = []
    for side, position in zip(sides, np.flatnonzero(marks).tolist(), strict=True):
        single = tuple(at == position for at in range(len(marks)))
        narrow = replace(op, rows=single) if is_reverse else replace(op, wrt=single)
        extent = product(side.shape)
        numbers = g.iota(extent=extent)
        colour = g.reshape(numbers, shape=side.shape)
        jacobian = Jacobian(replace(node, op=narrow), False)
        flat = _products(g, jacobian, operands, numbers, [colour], others, is_reverse)
        table = g.reshape(flat, shape=(extent, columns if is_reverse else rows))
        tables.append(table if is_reverse else g.transpose(table))
    starts = [[size(0)], [size(0)]]
    for found, sides in zip(starts, (outer, inner), strict=True):
        for side in sides:
            found.append(found[-1] + product(side.shape))
    for at, row in enumerate(outer):
        for position, column in enumerate(inner):
            table = tables[at if is_reverse else position]
            corner = (size(0), starts[1][position]) if is_reverse else (starts[0][at], size(0))
            shape = product(row.shape), product(column.shape)
            part = g.slice(table, starts=corner, steps=(1, 1), shape=shape)
            part = g.reshape(part, shape=row.shape + column.shape)
            yield part if array_type(part).dtype == row.dtype else g.cast(part, dtype=row.dtype)
