"""`vjp` as a node that is differentiated: so that every loop of a program has one pair of loops at every order.

Let y = f(x), g = vjp(f)(x; c) its cotangents, J the derivative of f and H that of g for fixed c, which is symmetric.
The tangents of y and g along dx and dc are

    dy = J dx        dg = H dx + J' dc

and the transpose of this linear map takes cotangents a of dy and u of dg to

    of dx:  H u + J' a        of dc:  J u

Both are the reverse of jvp(f): for the point x, a direction v, and cotangents a of y and c of J v, vjp(jvp(f)) gives
J v and H v + J' a. A reversed loop is never reversed again, only the joint loop of values and tangents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dgraph.ad.jvp import JVP, Jvp, Tangents, jvp
from dgraph.ad.transpose import TRANSPOSE, Transpose
from dgraph.ad.vjp import vjp
from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code, without_checks
from dgraph.ir.graph import Node, Region, Value, walk
from dgraph.ops.transform import Vjp, VjpTangent
from dgraph.types import tangent_type

LOOPS = ("for", "while")
Given = Sequence[Value | None]


def is_kept(node: Node) -> bool:
    """Whether a `vjp` inside of what is reversed waits: that of a function without loops has no tape to save, and what
    a rule of the program says need not be symmetric."""
    if node.op.name != "vjp":
        return False
    inside = {inner.op.name for inner in walk(node.regions[0])}
    return "custom" not in inside and not inside.isdisjoint(LOOPS)


def second(
    g: Builder, op: Vjp | VjpTangent, f: Region, point: Sequence[Value], along: Given, pull: Given, seeds: Given
) -> tuple[list[Value | None], list[Value | None]]:
    """The node vjp(jvp(f)) at a point: J v for a direction v, and H v + J' a for all inputs in `op.wrt`.

    `along` holds v per input, `pull` a per output, `seeds` c per output; None is zero. Returns J v per output, which is
    None where there are no tangents, and the cotangents per input.
    """
    active = tuple(value is not None for value in along)
    moves = any(active)
    joint = remove_dead_code(without_checks(jvp(f, active)))
    floats = [tangent_type(output.type) is not None for output in f.outputs]
    late = [seed if flag and moves else None for seed, flag in zip(seeds, floats, strict=True)]
    late = [seed for seed, flag in zip(late, floats, strict=True) if flag]
    given = [*pull, *late]
    made = Vjp(
        function=op.function,
        wrt=(*op.wrt, *(False for flag in active if flag)),
        seeded=tuple(value is not None for value in given),
    )
    operands = [*point, *_present(along), *_present(given)]
    results = list(g.apply(made, *operands, regions=[joint]))
    count = len(f.outputs)
    moved = iter(results[count : len(joint.outputs)])
    cotangents = iter(results[len(joint.outputs) :])
    tangents = [next(moved) if flag else None for flag in floats]
    return tangents if moves else [None] * count, [next(cotangents) if flag else None for flag in op.wrt]


def _present(values: Given) -> list[Value]:
    return [value for value in values if value is not None]


def _spread(values: Given, flags: Sequence[bool]) -> list[Value | None]:
    rest = iter(values)
    return [next(rest) if flag else None for flag in flags]


def tangents_as_nodes(op: VjpTangent, f: Region) -> Region:
    """What a `vjp_tangent` stands for."""
    g = Builder()
    point = [g.input(value.type, value.name) for value in f.inputs]
    seeds = _spread([g.input(o.type) for o, flag in zip(f.outputs, op.seeded, strict=True) if flag], op.seeded)
    types = [*(value.type for value in f.inputs), *(o.type for o, s in zip(f.outputs, op.seeded, strict=True) if s)]
    moved = _spread([g.input(type_) for type_, flag in zip(types, op.active, strict=True) if flag], op.active)
    along, rest = moved[: len(point)], iter(moved[len(point) :])
    pull = [next(rest) if flag else None for flag in op.seeded]
    tangents, cotangents = second(g, op, f, point, along, pull, seeds)
    found = [*tangents, *(value for value, flag in zip(cotangents, op.wrt, strict=True) if flag)]
    wanted = [value for value, flag in zip(found, op.wanted, strict=True) if flag]
    types = [*(o.type for o in f.outputs), *(v.type for v, flag in zip(f.inputs, op.wrt, strict=True) if flag)]
    zeros = [type_ for type_, flag in zip(types, op.wanted, strict=True) if flag]
    return g.close([v if v is not None else g.zeros(t) for v, t in zip(wanted, zeros, strict=True)])


def _transpose_tangent(t: Transpose, node: Node) -> None:
    """The same node with directions and cotangents in each other's place."""
    op: Any = node.op
    (f,) = node.regions
    inputs, seeded = len(f.inputs), sum(op.seeded)
    primal = [t.primal[operand] for operand in node.operands[: inputs + seeded]]
    found = _spread([t.cotangents.get(result) for result in node.results], op.wanted)
    outputs = len(f.outputs)
    along = _spread(found[outputs:], op.wrt)
    owners = _spread(node.operands[inputs + seeded :], op.active)
    reached = tuple(owner is not None for owner in owners[:inputs])
    seeds = _spread(primal[inputs:], op.seeded)
    back = Vjp(function=op.function, wrt=reached)
    tangents, cotangents = second(t.g, back, f, primal[:inputs], along, found[:outputs], seeds)
    moved = [value for value, flag in zip(tangents, op.seeded, strict=True) if flag]
    for owner, contribution in zip(owners, [*cotangents, *moved], strict=True):
        if owner is not None and contribution is not None:
            t.cotangents.add(owner, contribution)


def _jvp_vjp(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Given
) -> tuple[list[Value], Tangents]:
    """The node itself, and its tangents as a node that can be transposed."""
    op: Any = node.op
    (f,) = node.regions
    key = op, f
    if key not in run.reversed:
        run.reversed[key] = vjp(f, op.wrt, op.seeded)
    active = tuple(tangent is not None for tangent in tangents)
    wanted = run.activity(run.reversed[key], active)
    with g.at(derived=""):
        results = list(g.copy(node, operands))
    if not any(wanted):
        return results, [None] * len(results)
    moves = VjpTangent(function=op.function, wrt=op.wrt, seeded=op.seeded, active=active, wanted=wanted)
    with g.at(derived="tangent"):
        found = g.apply(moves, *operands, *_present(tangents), regions=[f])
    return results, _spread(found, wanted)


def _jvp_vjp_tangent(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Given
) -> tuple[list[Value], Tangents]:
    op: Any = node.op
    return run.run(g, tangents_as_nodes(op, node.regions[0]), operands, tangents, g.scope)


JVP.update({"vjp": _jvp_vjp, "vjp_tangent": _jvp_vjp_tangent})
TRANSPOSE["vjp_tangent"] = _transpose_tangent
