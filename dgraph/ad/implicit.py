"""The derivative of the point where a loop settles, by the implicit function theorem.

A `while` with `implicit` ends at x = g(x, p), where g is its body and p what the body reads. So the tangents are those
of one step at x, solved for what the step hands to itself:

    dx = g_p dp + g_x dx

a `fixed_point` node, linear in g_p dp. Its tangents are a system with the same g_x, its transpose one with the
transpose of g_x, so that all modes and orders follow. What the loop starts from has no influence. The nodes become
ordinary ones by `solutions`, when no transform is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dgraph.ad.jvp import JVP, Jvp, Tangents
from dgraph.ad.transpose import TRANSPOSE, Transpose
from dgraph.ad.unzip import Unzip
from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code, without_checks
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import OPS
from dgraph.ops.check import Check
from dgraph.ops.elementwise import array_type, summed
from dgraph.ops.transform import FixedPoint
from dgraph.sizes import product, size
from dgraph.types import I64, Array

Given = Sequence[Value | None]
_steps = JVP["while"]


def _jvp_while(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Given
) -> tuple[list[Value], Tangents]:
    op: Any = node.op
    if not op.implicit:
        return _steps(run, g, node, operands, tangents)
    carries = op.carries
    body = without_checks(node.regions[1])
    with g.at(derived=""):
        results = list(g.copy(node, operands, _around(g, node)))
    moved = [*[None] * carries, *tangents[carries:]]
    flags = run.settle(body, [tangent is not None for tangent in moved], 0, carries)[:carries]
    if not any(flags):
        return results, [None] * len(results)
    point = [*results[:carries], *operands[carries:]]
    after, shifts = run.run(g, body, point, moved, g.scope)
    right = []
    for value, next_, shift, flag in zip(results, after, shifts, flags, strict=False):
        if flag:
            _require_settled(g, op.tolerance, value, next_)
            right.append(_filled(g, shift, value))
    h = g.child()
    unknowns = [h.input(value.type, f"d{value.name}" if value.name else "") for value in right]
    steps = [*_spread(unknowns, flags), *(None for _ in operands[carries:])]
    _, found = run.run(h, body, point, steps, g.scope)
    outputs = [_filled(h, moved_, value) for moved_, value, flag in zip(found, results, flags, strict=False) if flag]
    solution = _apply(g, op.tolerance, right, h, outputs)
    return results, [*_spread(solution, flags), None]


def _around(g: Builder, node: Node) -> tuple[str, ...]:
    """The scope outside of a node whose own scope the builder already has."""
    return g.scope[: len(g.scope) - len(node.scope)]


def _filled(g: Builder, tangent: Value | None, value: Value) -> Value:
    if tangent is not None:
        return tangent
    with g.at(derived="tangent"):
        return g.zeros(value.type)


def _spread(values: Sequence[Value], flags: Sequence[bool]) -> Tangents:
    rest = iter(values)
    return [next(rest) if flag else None for flag in flags]


def _apply(
    g: Builder, tolerance: float | None, right: Sequence[Value], h: Builder, outputs: Sequence[Value]
) -> Sequence[Value]:
    """The node whose region has been built in `h`."""
    region = remove_dead_code(h.close(outputs))
    with g.at(derived=g.derived or "tangent"):
        return g.apply(FixedPoint(unknowns=len(right), tolerance=tolerance), *right, *h.captures, regions=[region])


def _jvp_fixed_point(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Given
) -> tuple[list[Value], Tangents]:
    """dv = (db + (dA) v) + A dv."""
    op: Any = node.op
    count, (region,) = op.unknowns, node.regions
    with g.at(derived=""):
        results = list(g.copy(node, operands, _around(g, node)))
    right = list(tangents[:count])
    if any(tangent is not None for tangent in tangents[count:]):
        point = [*results, *operands[count:]]
        _, shifts = run.run(g, region, point, [*[None] * count, *tangents[count:]], g.scope)
        with g.at(derived="tangent"):
            right = [summed(g, *pair) for pair in zip(right, shifts, strict=True)]
    with g.at(derived="tangent"):
        given = [_filled(g, tangent, value) for tangent, value in zip(right, results, strict=True)]
        return results, list(g.apply(op, *given, *operands[count:], regions=[region]))


def _transpose_fixed_point(t: Transpose, node: Node) -> None:
    """The cotangent of b is the w with w = v_bar + A' w."""
    op: Any = node.op
    count, (region,) = op.unknowns, node.regions
    seeds = [_filled(t.g, t.cotangents.get(result), result) for result in node.results]
    captures = [t.primal[operand] for operand in node.operands[count:]]
    halves = Unzip().halves(region, [at < count for at in range(len(region.inputs))])
    h = t.g.child()
    unknowns = [h.input(value.type, f"{value.name}_bar" if value.name else "") for value in region.outputs]
    known = dict(zip(region.inputs[count:], captures, strict=True))
    inner = Transpose(h, known, halves.values, t.reach)
    with h.at(derived="adjoint"):
        for output, unknown in zip(region.outputs, unknowns, strict=True):
            if output in halves.values:
                inner.cotangents.add(output, unknown)
        inner.run(halves.nodes)
        found = [inner.cotangents.get(value) or h.zeros(value.type) for value in region.inputs[:count]]
    solution = _apply(t.g, op.tolerance, seeds, h, found)
    for operand, contribution in zip(node.operands, solution, strict=False):
        if operand in t.linear:
            t.cotangents.add(operand, contribution)


JVP["while"] = _jvp_while
JVP["fixed_point"] = _jvp_fixed_point
TRANSPOSE["fixed_point"] = _transpose_fixed_point


# ---- how far apart --------------------------------------------------------------------------------------------------


def _magnitude(g: Builder, value: Value) -> Value:
    """The largest absolute value of an array, 0 for an empty one."""
    type_ = array_type(value)
    if not type_.rank:
        return g.abs(value)
    return g.maximum(g.reduce_max(g.abs(value), axes=tuple(range(type_.rank))), g.constant(0.0, type_.dtype))


def _change(g: Builder, before: Value, after: Value) -> Value:
    """How far two arrays are apart, relative to 1 plus the largest entry."""
    one = g.constant(1.0, array_type(before).dtype)
    return g.div(_magnitude(g, g.sub(after, before)), g.add(one, _magnitude(g, after)))


def _limit(tolerance: float | None, value: Value) -> float:
    """Up to which relative change a value counts as settled: by default half of its digits."""
    return math.sqrt(_precision(array_type(value))) if tolerance is None else tolerance


def _precision(type_: Array) -> float:
    """The distance from 1 to the next number."""
    dtype: Any = type_.dtype.numpy
    return float(np.finfo(dtype).eps)


def _require_settled(g: Builder, tolerance: float | None, value: Value, after: Value) -> None:
    """Check, as the program runs, that one more step would not change what a loop gives."""
    with g.at(derived=""):
        change = _change(g, value, after)
        limit = g.constant(_limit(tolerance, value), array_type(value).dtype)
        message = "this loop has not settled, so its end has no implicit derivative"
        name = f"relative change of {value.name or 'a carried value'} in one more step"
        g.apply(Check(message=message, names=(name,)), g.less_equal(change, limit), change)


# ---- solving --------------------------------------------------------------------------------------------------------

DENSE = 16
"""Up to so many unknowns, where their number is known, the matrix is made and factored."""
STEPS = 100_000
"""Steps of the iteration before it counts as failed."""
STALE = 20
"""Steps without progress after which what is reached is all that rounding allows."""


def solutions(region: Region) -> Region:
    """The region with ordinary nodes for its `fixed_point` nodes, in nested regions too."""
    return _solutions(region, {})


def _solutions(region: Region, done: dict[Region, Region]) -> Region:
    if region in done:
        return done[region]
    inner = [tuple(_solutions(part, done) for part in node.regions) for node in region.nodes]
    found = region
    plain = all(node.op.name != "fixed_point" for node in region.nodes)
    if not plain or any(parts != node.regions for node, parts in zip(region.nodes, inner, strict=True)):
        g = Builder()
        known = {value: g.input(value.type, value.name) for value in region.inputs}
        for node, parts in zip(region.nodes, inner, strict=True):
            operands = [known[operand] for operand in node.operands]
            with g.at(span=node.span, scope=node.scope, derived=node.derived):
                if node.op.name == "fixed_point":
                    results = _solved(g, node, operands, parts[0])
                else:
                    names = [value.name for value in node.results]
                    results = list(g.apply(node.op, *operands, regions=parts, names=names))
            known.update(zip(node.results, results, strict=True))
        found = g.close([known[output] for output in region.outputs])
    done[region] = found
    return found


def _solved(g: Builder, node: Node, operands: Sequence[Value], region: Region) -> list[Value]:
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
    if count == 1:
        types = [array_type(value) for value in right]
        (factor,) = (a for a in g.inline(region, [*(g.full(1.0, type_) for type_ in types), *captures]))
        return [g.div(right[0], g.sub(g.full(1.0, types[0]), factor))]
    extent = size(count)

    def row(h: Builder, indices: list[Value], _accumulators: list[Value], _buffers: list[Value]) -> list[Value]:
        """Row j is what becomes of the j-th unit vector: the matrix, transposed."""
        unit = h.map((extent,), lambda q, i: q.cast(q.equal(i, indices[0]), dtype=dtype))
        return [_flat(h, h.inline(region, [*_parts(h, unit, right), *captures]))]

    (matrix,) = g.space([extent], row)
    own = g.map((extent, extent), lambda h, i, j: h.cast(h.equal(i, j), dtype=dtype))
    system = g.sub(own, matrix)
    factors, pivots = g.apply(OPS["lu"](), system)
    solved = g.lu_solve(system, factors, pivots, _flat(g, right), transpose_a=True)
    return _parts(g, solved, right)


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
        changes = [h.cast(_change(h, a, b), dtype=dtype) for a, b in zip(values, after, strict=True)]
        change = changes[0]
        for other in changes[1:]:
            change = h.maximum(change, other)
        one = h.constant(1, I64)
        is_better = h.less(change, best)
        stale = h.select(is_better, h.constant(0, I64), h.add(stale, one))
        return [*after, h.select(is_better, change, best), stale, h.add(steps, one)]

    results = list(g.while_(start, goes_on, step))
    limit = g.constant(_limit(tolerance, right[0]), dtype)
    message = "the implicit derivative of this loop does not converge"
    name = "relative change in the last steps"
    g.apply(Check(message=message, names=(name,)), g.less_equal(results[count], limit), results[count])
    return results[:count]
