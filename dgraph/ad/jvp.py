"""Forward mode: values and tangents side by side, one rule per op.

A missing tangent (None) is a structural zero. Which carries of a loop have tangents is a fixed point; a zero is made
real only where a tangent exists in one place and is asked for in another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dgraph.ad.bases import mark_bases
from dgraph.ad.steep import Steepness
from dgraph.errors import InvalidGraph, NotDifferentiable
from dgraph.ir.build import Builder, close_together, element_type
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import Op
from dgraph.ops.control import Call
from dgraph.types import I64, Accumulator, Array, ValueType, tangent_type

Tangents = list[Value | None]


def jvp(region: Region, active: Sequence[bool]) -> Region:
    """The region that takes its inputs and a tangent for each marked in `active`, and returns its outputs and a
    tangent for each float output."""
    region = mark_bases(region)
    g = Builder()
    primals = [g.input(value.type, value.name) for value in region.inputs]
    tangents = [tangent_input(g, value, flag) for value, flag in zip(region.inputs, active, strict=True)]
    outputs, moved = Jvp().run(g, region, primals, tangents)
    with g.at(derived="tangent"):
        wanted = [
            tangent if tangent is not None else g.zeros(output.type)
            for output, tangent in zip(outputs, moved, strict=True)
            if tangent_type(output.type) is not None
        ]
    return g.close([*outputs, *wanted])


def tangent_input(g: Builder, value: Value, active: bool) -> Value | None:
    """An input for the tangent of a value, if it is active."""
    if not active:
        return None
    if tangent_type(value.type) is None:
        raise InvalidGraph(f"{value!r} has no tangents")
    return g.input(value.type, f"d{value.name}" if value.name else "")


class Jvp:
    """Runs regions with tangents. What a region does to activity is found once and remembered."""

    def __init__(self) -> None:
        self.known: dict[tuple[Region, tuple[bool, ...]], tuple[bool, ...]] = {}
        self.reversed: dict[tuple[Op, Region], Region] = {}
        self.steep = Steepness()

    def run(
        self,
        g: Builder,
        region: Region,
        primals: Sequence[Value],
        tangents: Sequence[Value | None],
        scope: tuple[str, ...] = (),
    ) -> tuple[list[Value], Tangents]:
        """Copy the nodes of a region into `g` together with the nodes that compute tangents."""
        self.steep.survey(region)
        primal = dict(zip(region.inputs, primals, strict=True))
        tangent = {value: moved for value, moved in zip(region.inputs, tangents, strict=True) if moved is not None}
        for node in region.nodes:
            operands = [primal[value] for value in node.operands]
            moved = [tangent.get(value) for value in node.operands]
            path = scope + node.scope
            if all(value is None for value in moved):
                with g.at(derived=""):
                    results: Sequence[Value] = g.copy(node, operands, scope)
                primal.update(zip(node.results, results, strict=True))
                continue
            rule = JVP.get(node.op.name)
            if rule is not None:
                with g.at(span=node.span, scope=path, derived=node.derived):
                    results, found = rule(self, g, node, operands, moved)
            else:
                with g.at(derived=""):
                    results = g.copy(node, operands, scope)
                with g.at(span=node.span, scope=path, derived="tangent"):
                    product = self.steep.rule(g, node, operands, moved)
                    found = _tangents_of_leaf(g, node, operands, results, moved) if product is None else list(product)
                self.steep.note(node, moved, found)
            primal.update(zip(node.results, results, strict=True))
            tangent.update((value, t) for value, t in zip(node.results, found, strict=True) if t is not None)
        return [primal[value] for value in region.outputs], [tangent.get(value) for value in region.outputs]

    def activity(self, region: Region, active: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which outputs of a region have a tangent if the inputs marked in `active` have one."""
        found = self.known.get((region, active))
        if found is None:
            g = Builder()
            primals = [g.input(value.type) for value in region.inputs]
            tangents = [tangent_input(g, value, flag) for value, flag in zip(region.inputs, active, strict=True)]
            _, moved = self.run(g, region, primals, tangents)
            found = self.known[region, active] = tuple(value is not None for value in moved)
        return found

    def settle(self, region: Region, active: Sequence[bool], first: int, count: int) -> list[bool]:
        """The least activity that is closed under a step: the inputs from `first` on are the first outputs again."""
        flags = list(active)
        while True:
            after = self.activity(region, tuple(flags))
            grown = [flag or new for flag, new in zip(flags[first : first + count], after, strict=False)]
            if grown == flags[first : first + count]:
                return flags
            flags[first : first + count] = grown


def _tangents_of_leaf(
    g: Builder, node: Node, operands: Sequence[Value], results: Sequence[Value], tangents: Tangents
) -> Tangents:
    """The op's own rule."""
    if all(tangent_type(value.type) is None for value in results):
        return [None] * len(results)
    first = results[0].type
    if isinstance(first, Accumulator) and first.kind != "add":
        raise NotDifferentiable.at(node.span, f"an accumulation with `{first.kind}` has no derivative")
    return list(node.op.jvp(g, operands, results, tangents))


def _filled(
    h: Builder, tangents: Sequence[Value | None], outputs: Sequence[Value], flags: Sequence[bool]
) -> list[Value]:
    """The tangents of the outputs that are flagged; a missing one is a zero."""
    with h.at(derived="tangent"):
        return [
            tangent if tangent is not None else h.zeros(output.type)
            for tangent, output, flag in zip(tangents, outputs, flags, strict=True)
            if flag
        ]


def _inputs(
    h: Builder, types: Sequence[ValueType], values: Sequence[Value], flags: Sequence[bool]
) -> list[Value | None]:
    return [
        h.input(type_, f"d{value.name}" if value.name else "") if flag else None
        for type_, value, flag in zip(types, values, flags, strict=True)
    ]


def _present(values: Sequence[Value | None]) -> list[Value]:
    return [value for value in values if value is not None]


def _spread(values: Sequence[Value], flags: Sequence[bool]) -> Tangents:
    """The values in the flagged places, None in the others."""
    rest = iter(values)
    return [next(rest) if flag else None for flag in flags]


def _jvp_for(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[list[Value], Tangents]:
    op: Any = node.op
    (body,) = node.regions
    carries, lead = op.carries, op.leading_operands()
    flags = run.settle(body, [t is not None for t in tangents], 1, carries)
    moved_carry, moved_walk = flags[1 : 1 + carries], flags[1 + carries : lead]
    init, walks = operands[1 : 1 + carries], operands[1 + carries : lead]
    given = _filled(g, tangents[1 : 1 + carries], init, moved_carry)
    h = g.child()
    index = h.input(Array(I64), body.inputs[0].name)
    carry_types = [value.type for value in init]
    walk_types = [element_type(value.type) for value in walks]
    inner = body.inputs[1:]
    primal = [h.input(type_, value.name) for type_, value in zip(carry_types, inner, strict=False)]
    tangent = _inputs(h, carry_types, inner[:carries], moved_carry)
    primal += [h.input(type_, value.name) for type_, value in zip(walk_types, inner[carries:], strict=False)]
    tangent += _inputs(h, walk_types, inner[carries : lead - 1], moved_walk)
    outputs, found = run.run(h, body, [index, *primal, *operands[lead:]], [None, *tangent, *tangents[lead:]])
    moved = [*moved_carry, *(t is not None for t in found[carries:])]
    filled = _spread(_filled(h, found, outputs, moved), moved)
    step, taped = carries + op.stacks, carries + op.stacks + op.tapes
    groups = [(0, carries), (carries, step), (step, taped)]
    region = h.close(_joined(groups, outputs, filled))
    counts = [sum(moved[start:stop]) for start, stop in groups]
    joint = replace(
        op,
        carries=carries + counts[0],
        walks=op.walks + sum(moved_walk),
        stacks=op.stacks + counts[1],
        tapes=op.tapes + counts[2],
    )
    walked = [*walks, *_present(tangents[1 + carries : lead])]
    results = g.apply(joint, operands[0], *init, *given, *walked, *h.captures, regions=[region])
    return _parted(groups, results, moved)


def _joined(groups: Sequence[tuple[int, int]], outputs: Sequence[Value], tangents: Tangents) -> list[Value]:
    """Group by group: the outputs, then their tangents."""
    return [value for start, stop in groups for value in (*outputs[start:stop], *_present(tangents[start:stop]))]


def _parted(
    groups: Sequence[tuple[int, int]], results: Sequence[Value], flags: Sequence[bool]
) -> tuple[list[Value], Tangents]:
    """The inverse of `_joined` on the results of the joint op."""
    rest = iter(results)
    primal: list[Value] = []
    tangents: Tangents = []
    for start, stop in groups:
        primal += [next(rest) for _ in range(start, stop)]
        tangents += [next(rest) if flag else None for flag in flags[start:stop]]
    return primal, tangents


def _jvp_while(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[list[Value], Tangents]:
    op: Any = node.op
    condition, body = node.regions
    carries = op.carries
    flags = run.settle(body, [t is not None for t in tangents], 0, carries)
    moved_carry = flags[:carries]
    given = _filled(g, tangents[:carries], operands[:carries], moved_carry)
    test, step = g.child(), g.child()
    tested = [test.input(value.type, value.name) for value in condition.inputs[:carries]]
    _inputs(test, [value.type for value in operands[:carries]], condition.inputs[:carries], moved_carry)
    stepped = [step.input(value.type, value.name) for value in body.inputs[:carries]]
    tangent = _inputs(step, [value.type for value in operands[:carries]], body.inputs[:carries], moved_carry)
    with test.at(derived=""):
        asked = test.inline(condition, [*tested, *operands[carries:]])
    outputs, found = run.run(step, body, [*stepped, *operands[carries:]], [*tangent, *tangents[carries:]])
    moved = [*moved_carry, *(t is not None for t in found[carries:])]
    filled = _spread(_filled(step, found, outputs, moved), moved)
    groups = [(0, carries), (carries, carries + op.tapes)]
    regions, captures = close_together([test, step], [asked, _joined(groups, outputs, filled)])
    joint = replace(op, carries=carries + sum(moved_carry), tapes=op.tapes + sum(moved[carries:]))
    results = g.apply(joint, *operands[:carries], *given, *captures, regions=regions)
    primal, moved_results = _parted(groups, results[:-1], moved)
    return [*primal, results[-1]], [*moved_results, None]


def _jvp_space(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[list[Value], Tangents]:
    op: Any = node.op
    (body,) = node.regions
    rank, threads, own = len(op.extents), op.accumulators, len(op.buffers)
    written = threads + own
    seen = [t is not None for t in tangents]
    start = [*[False] * rank, *seen[:threads], *[False] * own, *seen[threads:]]
    moved_written = run.settle(body, start, rank, written)[rank : rank + written]
    for buffer, flag in zip(op.buffers, moved_written[threads:], strict=True):
        if flag and buffer.kind != "add":
            raise NotDifferentiable.at(node.span, f"an accumulation with `{buffer.kind}` has no derivative")
    given = _filled(g, tangents[:threads], operands[:threads], moved_written[:threads])
    h = g.child()
    indices = [h.input(Array(I64), value.name) for value in body.inputs[:rank]]
    values = body.inputs[rank : rank + written]
    primal: list[Value] = []
    tangent: list[Value | None] = []
    for first, last in ((0, threads), (threads, written)):
        primal += [h.input(value.type, value.name) for value in values[first:last]]
        types = [value.type for value in values[first:last]]
        tangent += _inputs(h, types, values[first:last], moved_written[first:last])
    outputs, found = run.run(
        h, body, [*indices, *primal, *operands[threads:]], [*[None] * rank, *tangent, *tangents[threads:]]
    )
    moved = [*moved_written, *(t is not None for t in found[written:])]
    filled = _spread(_filled(h, found, outputs, moved), moved)
    groups = [(0, threads), (threads, written), (written, len(outputs))]
    region = h.close(_joined(groups, outputs, filled))
    buffers = (*op.buffers, *(buffer for buffer, flag in zip(op.buffers, moved[threads:written], strict=True) if flag))
    joint = replace(op, accumulators=threads + sum(moved[:threads]), buffers=buffers)
    results = g.apply(joint, *operands[:threads], *given, *h.captures, regions=[region])
    return _parted(groups, results, moved)


def _jvp_if(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[list[Value], Tangents]:
    sides = [g.child(), g.child()]
    parts = [
        run.run(side, region, operands[1:], tangents[1:]) for side, region in zip(sides, node.regions, strict=True)
    ]
    moved = [any(found[at] is not None for _, found in parts) for at in range(len(node.results))]
    everything = [
        [*outputs, *_filled(side, found, outputs, moved)] for side, (outputs, found) in zip(sides, parts, strict=True)
    ]
    regions, captures = close_together(sides, everything)
    results = g.apply(node.op, operands[0], *captures, regions=regions)
    count = len(node.results)
    return list(results[:count]), _spread(results[count:], moved)


def _jvp_call(
    run: Jvp, g: Builder, node: Node, operands: Sequence[Value], tangents: Sequence[Value | None]
) -> tuple[list[Value], Tangents]:
    op = node.op
    assert isinstance(op, Call)
    return run.run(g, node.regions[0], operands, tangents, (*g.scope, op.function) if op.function else g.scope)


Rule = Callable[[Jvp, Builder, Node, Sequence[Value], Sequence[Value | None]], tuple[list[Value], Tangents]]

JVP: dict[str, Rule] = {
    "for": _jvp_for,
    "while": _jvp_while,
    "space": _jvp_space,
    "if": _jvp_if,
    "call": _jvp_call,
}
"""The rule of each region op; a call is inlined. Transforms are expanded before, but for a `vjp` that waits: its rules
are added by `reversals`."""
