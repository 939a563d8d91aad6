"""The derivative of the point where a loop settles, or where an equation holds, by the implicit function theorem.

A `while` with `implicit` ends at x = g(x, p), where g is its body and p what the body reads. So the tangents are those
of one step at x, solved for what the step hands to itself:

    dx = g_p dp + g_x dx

a `fixed_point` node, linear in g_p dp. Its tangents are a system with the same g_x, its transpose one with the
transpose of g_x, so that all modes and orders follow. What the loop starts from has no influence.

An `implicit` node says that x, found in whatever way, solves f(x, p) = 0. Its tangents solve

    f_x dx = - f_p dp

a `linear_solve` node, closed in the same way. How x was found has no influence. All these nodes become ordinary ones by
`solutions`, when no transform is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dgraph.ad.jvp import JVP, Jvp, Tangents
from dgraph.ad.solutions import change_between, limit_of, magnitude
from dgraph.ad.transpose import TRANSPOSE, Transpose
from dgraph.ad.unzip import Unzip
from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code, without_checks
from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.check import Check
from dgraph.ops.elementwise import array_type, summed
from dgraph.ops.transform import FixedPoint, LinearSolve

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
            _require_settled(g, op.tolerance, value, next_, results[-1])
            right.append(_filled(g, shift, value))
    h = g.child()
    unknowns = [h.input(value.type, f"d{value.name}" if value.name else "") for value in right]
    steps = [*_spread(unknowns, flags), *(None for _ in operands[carries:])]
    _, found = run.run(h, body, point, steps, g.scope)
    outputs = [_filled(h, moved_, value) for moved_, value, flag in zip(found, results, flags, strict=False) if flag]
    solution = _apply(g, FixedPoint(unknowns=len(right), tolerance=op.tolerance), right, _system(h, outputs))
    return results, [*_spread(solution, flags), None]


def _jvp_implicit(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Given
) -> tuple[list[Value], Tangents]:
    op: Any = node.op
    count, equation = op.unknowns, without_checks(node.regions[0])
    with g.at(derived=""):
        results = list(g.copy(node, operands, _around(g, node)))
    point = [*results, *operands[count:]]
    values, shifts = run.run(g, equation, point, [*[None] * count, *tangents[count:]], g.scope)
    if all(shift is None for shift in shifts):
        return results, [None] * count
    h = g.child()
    steps = [h.input(value.type, f"d{value.name}" if value.name else "") for value in results]
    _, found = run.run(h, equation, point, [*steps, *(None for _ in operands[count:])], g.scope)
    system = _outside(g, *_system(h, [_filled(h, *pair) for pair in zip(found, results, strict=True)]), count)
    solve = LinearSolve(unknowns=count, tolerance=op.tolerance)
    with g.at(derived=""):
        newton = _apply(g, solve, values, system)
    for value, step in zip(results, newton, strict=True):
        _require_root(g, op.tolerance, value, step)
    with g.at(derived="tangent"):
        right = [g.neg(_filled(g, *pair)) for pair in zip(shifts, results, strict=True)]
    return results, [*_apply(g, solve, right, system)]


def _outside(g: Builder, region: Region, captures: Sequence[Value], count: int) -> tuple[Region, Sequence[Value]]:
    """A system whose region has only what depends on its unknowns; the rest is computed once, in front of it."""
    known = dict(zip(region.inputs[count:], captures, strict=True))
    kept = []
    for node in region.nodes:
        if all(operand in known for operand in node.operands):
            with g.at(derived=node.derived):
                known.update(zip(node.results, g.copy(node, [known[v] for v in node.operands], ()), strict=True))
        else:
            kept.append(node)
    made = {result for node in kept for result in node.results}
    wanted = [operand for node in kept for operand in node.operands] + list(region.outputs)
    read = [value for value in dict.fromkeys(wanted) if value not in made and value not in region.inputs[:count]]
    return Region((*region.inputs[:count], *read), tuple(kept), region.outputs), [known[value] for value in read]


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


def _system(h: Builder, outputs: Sequence[Value]) -> tuple[Region, Sequence[Value]]:
    """The region that has been built in `h`, with what it captures."""
    return remove_dead_code(h.close(outputs)), list(h.captures)


def _apply(g: Builder, op: FixedPoint, right: Sequence[Value], system: tuple[Region, Sequence[Value]]) -> list[Value]:
    """A node for a system and its right side."""
    region, captures = system
    with g.at(derived=g.derived or "tangent"):
        return list(g.apply(op, *right, *captures, regions=[region]))


def _jvp_fixed_point(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Given
) -> tuple[list[Value], Tangents]:
    """dv = (db + (dA) v) + A dv, or A dv = db - (dA) v."""
    op: Any = node.op
    count, (region,) = op.unknowns, node.regions
    with g.at(derived=""):
        results = list(g.copy(node, operands, _around(g, node)))
    right = list(tangents[:count])
    if any(tangent is not None for tangent in tangents[count:]):
        point = [*results, *operands[count:]]
        _, shifts = run.run(g, region, point, [*[None] * count, *tangents[count:]], g.scope)
        with g.at(derived="tangent"):
            if op.name == "linear_solve":
                shifts = [None if shift is None else g.neg(shift) for shift in shifts]
            right = [summed(g, *pair) for pair in zip(right, shifts, strict=True)]
    with g.at(derived="tangent"):
        given = [_filled(g, tangent, value) for tangent, value in zip(right, results, strict=True)]
        return results, list(g.apply(op, *given, *operands[count:], regions=[region]))


def _transpose_fixed_point(t: Transpose, node: Node) -> None:
    """The cotangent of b is the w with w = v_bar + A' w, or A' w = v_bar."""
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
    solution = _apply(t.g, op, seeds, _system(h, found))
    for operand, contribution in zip(node.operands, solution, strict=False):
        if operand in t.linear:
            t.cotangents.add(operand, contribution)


JVP["while"] = _jvp_while
JVP["implicit"] = _jvp_implicit
for _name in ("fixed_point", "linear_solve"):
    JVP[_name] = _jvp_fixed_point
    TRANSPOSE[_name] = _transpose_fixed_point


def _require_settled(g: Builder, tolerance: float | None, value: Value, after: Value, trips: Value) -> None:
    """Check, as the program runs, that one more step would not change what a loop gives."""
    with g.at(derived=""):
        change = change_between(g, value, after)
        limit = g.constant(limit_of(tolerance, value), array_type(value).dtype)
        message = "this loop has not settled, so its end has no implicit derivative"
        name = f"relative change of {value.name or 'a carried value'} in one more step"
        g.apply(Check(message=message, names=(name, "steps")), g.less_equal(change, limit), change, trips)


def _require_root(g: Builder, tolerance: float | None, value: Value, step: Value) -> None:
    """Check, as the program runs, that one step of Newton's method would not change a solution."""
    with g.at(derived=""):
        one = g.constant(1.0, array_type(value).dtype)
        change = g.div(magnitude(g, step), g.add(one, magnitude(g, value)))
        limit = g.constant(limit_of(tolerance, value), array_type(value).dtype)
        message = "the equation does not hold here, so its solution has no implicit derivative"
        name = f"relative change of {value.name or 'the solution'} in one step of Newton's method"
        g.apply(Check(message=message, names=(name,)), g.less_equal(change, limit), change)
