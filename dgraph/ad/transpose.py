"""Transposition: the linear nodes of a region backwards, the primal ones as they are.

Reading a captured array and accumulating are each other's transposes: what a region reads of an outer array becomes
an accumulator it writes, and an accumulator it wrote becomes an array it reads. In a reversed loop, captured scalars
become carried sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dgraph.ad.cotangents import Cotangents, Reach
from dgraph.ad.unzip import linear_values
from dgraph.ad.yields import as_yield
from dgraph.errors import InvalidGraph
from dgraph.ir.build import Builder, close_together, element_type
from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.control import For, If, Space
from dgraph.types import I64, Accumulator, Array, Tape


class Transpose:
    """One region being transposed into a builder.

    `primal` maps the primal values at hand to values of the builder or of one around it; `linear` are the linear
    values of the region.
    """

    def __init__(self, g: Builder, primal: Mapping[Value, Value], linear: frozenset[Value], reach: Reach) -> None:
        self.g = g
        self.primal = dict(primal)
        self.linear = linear
        self.reach = reach
        self.cotangents = Cotangents(g)

    def run(self, nodes: Sequence[Node]) -> None:
        """Copy the primal nodes, then walk the linear ones backwards."""
        backwards = []
        for node in nodes:
            if any(operand in self.linear for operand in node.operands):
                backwards.append(node)
                continue
            with self.g.at(derived=""):
                results = self.g.copy(node, [self.primal[operand] for operand in node.operands])
            self.primal.update(zip(node.results, results, strict=True))
        for node in reversed(backwards):
            if any(self.cotangents.has(result) for result in node.results):
                with self.g.at(span=node.span, scope=node.scope, derived="adjoint"):
                    TRANSPOSE.get(node.op.name, _transpose_leaf)(self, node)

    def inside(
        self, h: Builder, region: Region, pairs: Iterable[tuple[Value, Value]], linear: Iterable[Value]
    ) -> Transpose:
        """The transposition of a region of a node, where `pairs` are its primal inputs and their values."""
        return Transpose(h, dict(pairs), linear_values(region.nodes, linear), self.reach)

    def flags(self, values: Sequence[Value]) -> list[bool]:
        """Which values are linear."""
        return [value in self.linear for value in values]

    def reached(self, node: Node) -> Sequence[bool]:
        """Which operands of a node get a cotangent."""
        live = list(map(self.cotangents.has, node.results))
        return self.reach.operands(node, self.flags(node.operands), live)

    def known(self, inputs: Sequence[Value], operands: Sequence[Value]) -> list[tuple[Value, Value]]:
        """The primal captures of a region with their values here."""
        return [
            (value, self.primal[operand])
            for value, operand in zip(inputs, operands, strict=True)
            if operand not in self.linear
        ]


def _transpose_leaf(t: Transpose, node: Node) -> None:
    cotangent = t.cotangents.get(node.result)
    assert cotangent is not None
    flags = t.flags(node.operands)
    operands = [operand if flag else t.primal[operand] for operand, flag in zip(node.operands, flags, strict=True)]
    if node.op.name == "index":
        op: Any = node.op
        t.cotangents.add_at(node.operands[0], operands[1:], cotangent, op.policy)
        return
    found = node.op.transpose(t.g, operands, flags, cotangent)
    for operand, flag, contribution in zip(node.operands, flags, found, strict=True):
        if flag and contribution is not None:
            t.cotangents.add(operand, contribution)


def _zeros_where_missing(h: Builder, inner: Cotangents, value: Value) -> Value:
    """The cotangent of a region input as an array."""
    found = inner.get(value)
    return found if found is not None else h.zeros(value.type)


def _transpose_for(t: Transpose, node: Node) -> None:
    op: Any = node.op
    (body,) = node.regions
    g, held = t.g, t.cotangents
    carries, lead = op.carries, op.leading_operands()
    flags = t.flags(node.operands)
    reached = t.reach.loop(node, flags, list(map(held.has, node.results)))
    live = [at for at in range(1, 1 + carries) if reached[at] and isinstance(node.operands[at].type, Array)]
    passed = [at for at in range(1, 1 + carries) if reached[at] and isinstance(node.operands[at].type, Accumulator)]
    read = [at for at in range(1 + carries, lead) if not flags[at]]
    written = [at for at in range(1 + carries, lead) if reached[at]]
    sums = [
        at for at in range(lead, len(flags)) if reached[at] and node.operands[at].type == _scalar(node.operands[at])
    ]
    buffers = [at for at in range(lead, len(flags)) if reached[at] and at not in sums]
    seeds = [
        (body.outputs[at], seed) for at in range(carries, len(body.outputs)) for seed in held.all(node.results[at])
    ]

    h = g.child()
    index = h.input(Array(I64), body.inputs[0].name)
    carried = {at: h.input(body.inputs[at].type, _bar(body.inputs[at])) for at in (*live, *sums)}
    for at in buffers:
        carried[at] = h.input(_accumulator(body.inputs[at]), _bar(body.inputs[at]))
    walked = {at: h.input(body.inputs[at].type, body.inputs[at].name) for at in read}
    entries = [h.input(element_type(seed.type), _bar(output)) for output, seed in seeds]
    linear = [*body.inputs[1 : 1 + carries], *(body.inputs[at] for at in range(1 + carries, len(flags)) if flags[at])]
    primal = [(body.inputs[0], index), *((body.inputs[at], walked[at]) for at in read)]
    inner = t.inside(h, body, [*primal, *t.known(body.inputs[lead:], node.operands[lead:])], linear)
    for at in passed:
        final = held.get(node.results[at - 1])
        if final is not None:
            inner.cotangents.add(body.outputs[at - 1], final)
    for at in live:
        inner.cotangents.add(body.outputs[at - 1], carried[at])
    for at in (*sums, *buffers):
        inner.cotangents.add(body.inputs[at], carried[at])
    for (output, _), entry in zip(seeds, entries, strict=True):
        inner.cotangents.add(output, entry)
    inner.run(body.nodes)
    outputs = [_zeros_where_missing(h, inner.cotangents, body.inputs[at]) for at in (*live, *sums)]
    outputs += [inner.cotangents.slots[body.inputs[at]] for at in buffers]
    stacks = [at for at in written if isinstance(node.operands[at].type, Array)]
    outputs += [_zeros_where_missing(h, inner.cotangents, body.inputs[at]) for at in stacks]
    taped = [(at, tape) for at in written if at not in stacks for tape in inner.cotangents.all(body.inputs[at])]
    region = h.close([*outputs, *(tape for _, tape in taped)])

    start = []
    for at in live:
        final = held.get(node.results[at - 1])
        start.append(final if final is not None else g.zeros(node.operands[at].type))
    for at in sums:
        total = held.take_array(node.operands[at])
        start.append(total if total is not None else g.zeros(node.operands[at].type))
    start += [held.open(node.operands[at]) for at in buffers]
    lengths = [node.operands[at].type.shape[0] for at in stacks if isinstance(node.operands[at].type, Array)]  # type: ignore[union-attr]
    reverse = For(
        carries=len(start),
        walks=len(read) + len(seeds),
        stacks=len(stacks),
        tapes=len(taped),
        reverse=not op.reverse,
        length=lengths[0] if lengths else None,
        slots=op.slots,
        every=op.every,
        budget=op.budget,
    )
    walks = [*(t.primal[node.operands[at]] for at in read), *(seed for _, seed in seeds)]
    count = t.primal[node.operands[0]]
    results = iter(g.apply(reverse, count, *start, *walks, *h.captures, regions=[region]))
    for at in (*live, *sums, *buffers):
        result = next(results)
        if flags[at]:
            held.add(node.operands[at], result)
    for at in (*stacks, *(at for at, _ in taped)):
        held.add(node.operands[at], next(results))
    for at in passed:
        final = held.get(node.results[at - 1])
        if flags[at] and final is not None:
            held.add(node.operands[at], final)


def _scalar(value: Value) -> Array | None:
    """The type of one number of the dtype of an array; None for a tape."""
    return Array(value.type.dtype) if isinstance(value.type, Array) else None


def _accumulator(value: Value) -> Accumulator:
    assert isinstance(value.type, Array)
    return Accumulator(value.type.dtype, value.type.shape)


def _bar(value: Value) -> str:
    return f"{value.name}_bar" if value.name else ""


def _transpose_space(t: Transpose, node: Node) -> None:
    op: Any = node.op
    (body,) = node.regions
    g, held = t.g, t.cotangents
    rank, threads, own = len(op.extents), op.accumulators, len(op.buffers)
    first = rank + threads + own
    flags, reached = t.flags(node.operands), t.reached(node)
    captures = [at for at in range(threads, len(flags)) if reached[at]]
    lent: dict[int, Value] = {}
    for at in captures:
        slot = held.slots.get(node.operands[at])
        if slot is not None and isinstance(slot.type, Accumulator):
            lent[at] = held.open(node.operands[at])
    opened = [at for at in captures if at not in lent]

    h = g.child()
    indices = [h.input(Array(I64), value.name) for value in body.inputs[:rank]]
    inputs = {at: body.inputs[first + at - threads] for at in (*lent, *opened)}
    written = {at: h.input(_accumulator(value), _bar(value)) for at, value in inputs.items()}
    linear = [
        *body.inputs[rank:first],
        *(body.inputs[first + at - threads] for at in range(threads, len(flags)) if flags[at]),
    ]
    primal = [*zip(body.inputs[:rank], indices, strict=True), *t.known(body.inputs[first:], node.operands[threads:])]
    inner = t.inside(h, body, primal, linear)
    for at, output in enumerate(body.outputs):
        cotangent = held.get(node.results[at])
        if cotangent is not None:
            seed = cotangent if at < threads + own else h.index(cotangent, *indices, policy="proven")
            inner.cotangents.add(output, seed)
    for at, value in inputs.items():
        inner.cotangents.add(value, written[at])
    inner.run(body.nodes)
    ends = {at: inner.cotangents.slots[value] for at, value in inputs.items()}
    entries: dict[int, Value] = {}
    for at in opened:
        entry = as_yield(h, op.extents, indices, written[at], ends[at])
        if entry is not None:
            entries[at] = entry
    buffers = [at for at in opened if at not in entries]
    order = [*lent, *buffers, *entries]
    region = h.close([*(ends[at] for at in (*lent, *buffers)), *entries.values()])
    if order:
        reverse = Space(op.extents, len(lent), tuple(_accumulator(node.operands[at]) for at in buffers))
        results = g.apply(reverse, *lent.values(), *h.captures, regions=[region])
        for at, result in zip(order, results, strict=True):
            held.add(node.operands[at], result)
    for at in range(threads):
        final = held.get(node.results[at])
        if flags[at] and final is not None:
            held.add(node.operands[at], final)


def _transpose_if(t: Transpose, node: Node) -> None:
    g, held = t.g, t.cotangents
    captures = node.operands[1:]
    flags, reached = t.flags(captures), t.reached(node)[1:]
    given = [at for at, flag in enumerate(reached) if flag and isinstance(captures[at].type, Array)]
    tapes = [at for at, flag in enumerate(reached) if flag and isinstance(captures[at].type, Tape)]
    seeds = [(at, seed) for at, result in enumerate(node.results) for seed in held.all(result)]
    lent = {at: held.take(captures[at]) for at in given}
    sides, outputs, parts = [], [], []
    for region in node.regions:
        h = g.child()
        linear = [value for value, flag in zip(region.inputs, flags, strict=True) if flag]
        inner = t.inside(h, region, t.known(region.inputs, captures), linear)
        for at, seed in seeds:
            inner.cotangents.add(region.outputs[at], seed)
        for at, slot in lent.items():
            if slot is not None:
                inner.cotangents.add(region.inputs[at], slot)
        inner.run(region.nodes)
        final = []
        for at in given:
            slot = lent[at]
            if slot is not None and isinstance(slot.type, Accumulator):
                final.append(inner.cotangents.slots[region.inputs[at]])
            else:
                final.append(_zeros_where_missing(h, inner.cotangents, region.inputs[at]))
        sides.append(h)
        outputs.append(final)
        parts.append((inner.cotangents, region))
    counts = {at: max(len(inner.all(region.inputs[at])) for inner, region in parts) for at in tapes}
    for h, final, (inner_cotangents, region) in zip(sides, outputs, parts, strict=True):
        for at in tapes:
            found = inner_cotangents.all(region.inputs[at])
            final += [*found, *(h.zeros(captures[at].type) for _ in range(counts[at] - len(found)))]
    if outputs[0]:
        regions, needed = close_together(sides, outputs)
        results = g.apply(If(), t.primal[node.operands[0]], *needed, regions=regions)
        owners = [*given, *(at for at in tapes for _ in range(counts[at]))]
        for at, result in zip(owners, results, strict=True):
            held.add(captures[at], result)
    for at, flag in enumerate(reached):
        if flag and isinstance(captures[at].type, Accumulator):
            held.add(captures[at], _passed_through([(inner, region.inputs[at]) for inner, region in parts]))


def _passed_through(sides: Sequence[tuple[Cotangents, Value]]) -> Value:
    """The cotangent of an accumulator that goes through a choice: the same array on both sides."""
    found = {inner.slots.get(value) for inner, value in sides} - {None}
    if len(found) != 1:
        raise InvalidGraph("an accumulator does not leave a choice as it entered it")
    (array,) = found
    assert array is not None
    return array


Rule = Callable[[Transpose, Node], None]

TRANSPOSE: dict[str, Rule] = {"for": _transpose_for, "space": _transpose_space, "if": _transpose_if}
"""The rule of each region op that can be linear: calls are gone after jvp, `while` after unzip."""
