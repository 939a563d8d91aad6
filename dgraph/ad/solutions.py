"""The linear systems of implicit derivatives written with ordinary nodes, when no transform is left.

A `fixed_point` node contracts as the loop did that it comes from, so it can be iterated; few unknowns are solved for by
their matrix. A `linear_solve` node comes from an equation of any kind: its matrix is made and factored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dgraph.ir.build import Builder
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import OPS
from dgraph.ops.check import Check
from dgraph.ops.elementwise import array_type
from dgraph.sizes import Size, product, size
from dgraph.types import I64, Array

# ---- how far apart --------------------------------------------------------------------------------------------------


def magnitude(g: Builder, value: Value) -> Value:
    """The largest absolute value of an array, 0 for an empty one."""
    type_ = array_type(value)
    if not type_.rank:
        return g.abs(value)
    return g.maximum(g.reduce_max(g.abs(value), axes=tuple(range(type_.rank))), g.constant(0.0, type_.dtype))


def change_between(g: Builder, before: Value, after: Value) -> Value:
    """How far two arrays are apart, relative to 1 plus the largest entry."""
    one = g.constant(1.0, array_type(before).dtype)
    return g.div(magnitude(g, g.sub(after, before)), g.add(one, magnitude(g, after)))


def limit_of(tolerance: float | None, value: Value) -> float:
    """Up to which relative change a value counts as settled: by default half of its digits."""
    return math.sqrt(_precision(array_type(value))) if tolerance is None else tolerance


def _precision(type_: Array) -> float:
    """The distance from 1 to the next number."""
    dtype: Any = type_.dtype.numpy
    return float(np.finfo(dtype).eps)


# ---- solving --------------------------------------------------------------------------------------------------------

DENSE = 16
"""Up to so many unknowns, where their number is known, the matrix is made and factored."""
STEPS = 100_000
"""Steps of the iteration before it counts as failed."""
STALE = 20
"""Steps without progress after which what is reached is all that rounding allows."""


def solutions(region: Region) -> Region:
    """The region with ordinary nodes for systems and solutions, in nested regions too."""
    return _solutions(region, {})


def _solutions(region: Region, done: dict[Region, Region]) -> Region:
    if region in done:
        return done[region]
    inner = [tuple(_solutions(part, done) for part in node.regions) for node in region.nodes]
    found = region
    plain = all(node.op.name not in SYSTEMS for node in region.nodes)
    if not plain or any(parts != node.regions for node, parts in zip(region.nodes, inner, strict=True)):
        g = Builder()
        known = {value: g.input(value.type, value.name) for value in region.inputs}
        for node, parts in zip(region.nodes, inner, strict=True):
            operands = [known[operand] for operand in node.operands]
            with g.at(span=node.span, scope=node.scope, derived=node.derived):
                if node.op.name in SYSTEMS:
                    results = SYSTEMS[node.op.name](g, node, operands, parts[0])
                else:
                    names = [value.name for value in node.results]
                    results = list(g.apply(node.op, *operands, regions=parts, names=names))
            known.update(zip(node.results, results, strict=True))
        found = g.close([known[output] for output in region.outputs])
    done[region] = found
    return found


def _implicit(_: Builder, node: Node, operands: Sequence[Value], __: Region) -> list[Value]:
    op: Any = node.op
    return list(operands[: op.unknowns])


def _linear_solve(g: Builder, node: Node, operands: Sequence[Value], region: Region) -> list[Value]:
    """The system solved by its matrix."""
    op: Any = node.op
    right, captures = operands[: op.unknowns], operands[op.unknowns :]
    count = sum((product(array_type(value).shape) for value in right), size(0))
    zero = g.constant(0.0, array_type(right[0]).dtype)
    if count.constant == 1 and len(right) == 1:
        ones = [g.full(1.0, array_type(value)) for value in right]
        (factor,) = g.inline(region, [*ones, *captures])
        _require_regular(g, g.not_equal(g.reshape(factor, shape=()), zero))
        return [g.div(right[0], factor)]
    system = _matrix(g, right, captures, region, count)
    factors, pivots = g.apply(OPS["lu"](), system)
    diagonal = g.map((count,), lambda h, i: h.not_equal(h.index(factors, i, i, policy="proven"), zero))
    _require_regular(g, g.reduce_all(diagonal, axes=(0,)))
    return _parts(g, g.lu_solve(system, factors, pivots, _flat(g, right), transpose_a=True), right)


def _require_regular(g: Builder, holds: Value) -> None:
    message = "the equation does not determine its solution here: its derivative is singular"
    g.apply(Check(message=message), holds)


def _fixed_point(g: Builder, node: Node, operands: Sequence[Value], region: Region) -> list[Value]:
    op: Any = node.op
    right, captures = operands[: op.unknowns], operands[op.unknowns :]
    shapes = [array_type(value).shape for value in right]
    count = sum((product(shape) for shape in shapes), size(0)).constant
    if count is not None and count <= DENSE and len({array_type(value).dtype for value in right}) == 1:
        return _factored(g, right, captures, region, count)
    return _iterated(g, op.tolerance, right, captures, region)


def _factored(g: Builder, right: Sequence[Value], captures: Sequence[Value], region: Region, count: int) -> list[Value]:
    """The system solved by its matrix, made column by column."""
    dtype = array_type(right[0]).dtype
    if count == 1 and len(right) == 1:
        types = [array_type(value) for value in right]
        (factor,) = (a for a in g.inline(region, [*(g.full(1.0, type_) for type_ in types), *captures]))
        return [g.div(right[0], g.sub(g.full(1.0, types[0]), factor))]
    extent = size(count)
    own = g.map((extent, extent), lambda h, i, j: h.cast(h.equal(i, j), dtype=dtype))
    system = g.sub(own, _matrix(g, right, captures, region, extent))
    factors, pivots = g.apply(OPS["lu"](), system)
    return _parts(g, g.lu_solve(system, factors, pivots, _flat(g, right), transpose_a=True), right)


def _matrix(g: Builder, right: Sequence[Value], captures: Sequence[Value], region: Region, extent: Size) -> Value:
    """The matrix of a region that is linear in values of the types of `right`, transposed: row j is what becomes of
    the j-th unit vector."""
    dtype = array_type(right[0]).dtype

    def row(h: Builder, indices: list[Value], _accumulators: list[Value], _buffers: list[Value]) -> list[Value]:
        unit = h.map((extent,), lambda q, i: q.cast(q.equal(i, indices[0]), dtype=dtype))
        return [_flat(h, h.inline(region, [*_parts(h, unit, right), *captures]))]

    (matrix,) = g.space([extent], row)
    return matrix


def _flat(g: Builder, values: Sequence[Value]) -> Value:
    """All entries of some arrays in one row."""
    rows = [g.reshape(value, shape=(product(array_type(value).shape),)) for value in values]
    return rows[0] if len(rows) == 1 else g.concat(*rows, axis=0)


def _parts(g: Builder, row: Value, like_: Sequence[Value]) -> list[Value]:
    """A row cut into arrays of the types of others."""
    found, start = [], size(0)
    for value in like_:
        shape = array_type(value).shape
        count = product(shape)
        part = g.slice(row, starts=(start,), steps=(1,), shape=(count,))
        found.append(g.reshape(part, shape=shape))
        start = start + count
    return found


def _iterated(
    g: Builder, tolerance: float | None, right: Sequence[Value], captures: Sequence[Value], region: Region
) -> list[Value]:
    """The system solved by v <- b + A v, which contracts as the loop itself did; until the change is of the order of
    rounding, or does not get smaller."""
    dtype = array_type(right[0]).dtype
    count = len(right)
    start = [*right, g.constant(math.inf, dtype), g.constant(0, I64), g.constant(0, I64)]
    least = g.constant(4 * _precision(array_type(right[0])), dtype)

    def goes_on(h: Builder, carried: list[Value]) -> Value:
        best, stale, steps = carried[count:]
        moves = h.logical_and(h.greater(best, least), h.less(stale, h.constant(STALE, I64)))
        return h.logical_and(moves, h.less(steps, h.constant(STEPS, I64)))

    def step(h: Builder, carried: list[Value]) -> list[Value]:
        values, (best, stale, steps) = carried[:count], carried[count:]
        moved = h.inline(region, [*values, *captures])
        after = [h.add(b, a) for b, a in zip(right, moved, strict=True)]
        changes = [h.cast(change_between(h, a, b), dtype=dtype) for a, b in zip(values, after, strict=True)]
        change = changes[0]
        for other in changes[1:]:
            change = h.maximum(change, other)
        one = h.constant(1, I64)
        is_better = h.less(change, best)
        stale = h.select(is_better, h.constant(0, I64), h.add(stale, one))
        return [*after, h.select(is_better, change, best), stale, h.add(steps, one)]

    results = list(g.while_(start, goes_on, step))
    limit = g.constant(limit_of(tolerance, right[0]), dtype)
    message = "the implicit derivative of this loop does not converge"
    name = "relative change in the last steps"
    shown = results[count], results[count + 2]
    g.apply(Check(message=message, names=(name, "steps")), g.less_equal(results[count], limit), *shown)
    return results[:count]


SYSTEMS: dict[str, Callable[[Builder, Node, Sequence[Value], Region], list[Value]]] = {
    "fixed_point": _fixed_point,
    "linear_solve": _linear_solve,
    "implicit": _implicit,
}
"""How each node of an implicit derivative is written with ordinary nodes."""
