"""Transposition: the linear nodes of a region backwards, the primal ones as they are.

Reading a captured array and accumulating are each other's transposes: what a region reads of an outer array becomes
an accumulator it writes, and an accumulator it wrote becomes an array it reads. In a reversed loop, captured scalars
become carried sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dgraph.ad.cotangents import Cotangents, Reach
from dgraph.ad.unzip import linear_values
from dgraph.ad.yields import as_yield
from dgraph.errors import InvalidGraph
from dgraph.ir.build import Builder, close_together, element_type
from dgraph.ir.graph import Node, Region, Value
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


class _ReversedFor:
    """A linear `for` being transposed; all positions are those of operands.

    carries   `live`: cotangents of carried arrays; `sums`: cotangents of captured scalars;
              `buffers`: accumulators, the cotangents of captured arrays
    walks     `read`: primal values; `seeds`: cotangents of stacked outputs and of tapes
    outputs   `written`: cotangents of walked values
    captures  `passed`: the cotangent of a carried accumulator is an array that all steps read
    """

    def __init__(self, t: Transpose, node: Node) -> None:
        op: Any = node.op
        self.t = t
        self.node = node
        (self.body,) = node.regions
        self.first_walk, self.first_capture = 1 + op.carries, op.leading_operands()
        held = t.cotangents
        self.linear = t.flags(node.operands)
        reached = t.reach.loop(node, self.linear, list(map(held.has, node.results)))
        places = [at for at, flag in enumerate(reached) if flag]
        carried = [at for at in places if at < self.first_walk]
        captured = [at for at in places if at >= self.first_capture]
        self.live = [at for at in carried if isinstance(node.operands[at].type, Array)]
        self.passed = [at for at in carried if isinstance(node.operands[at].type, Accumulator)]
        self.sums = [at for at in captured if _array(node.operands[at]).rank == 0]
        self.buffers = [at for at in captured if _array(node.operands[at]).rank > 0]
        self.read = [at for at in range(self.first_walk, self.first_capture) if not self.linear[at]]
        self.written = [at for at in places if self.first_walk <= at < self.first_capture]
        self.stacks = [at for at in self.written if isinstance(node.operands[at].type, Array)]
        self.taped: list[int] = []
        self.seeds = [
            (output, seed)
            for output, result in list(zip(self.body.outputs, node.results, strict=True))[op.carries :]
            for seed in held.all(result)
        ]

    def emit(self) -> None:
        """Append the reversed loop and hand the cotangents back."""
        op: Any = self.node.op
        t, operands = self.t, self.node.operands
        region, captures = self.region()
        start = self.start()
        walks = [*(t.primal[operands[at]] for at in self.read), *(seed for _, seed in self.seeds)]
        lengths = [_array(operands[at]).shape[0] for at in self.stacks]
        reverse = replace(
            op,
            carries=len(start),
            walks=len(walks),
            stacks=len(self.stacks),
            tapes=len(self.taped),
            reverse=not op.reverse,
            length=lengths[0] if lengths else op.length,
        )
        results = t.g.apply(reverse, t.primal[operands[0]], *start, *walks, *captures, regions=[region])
        owners = [*self.live, *self.sums, *self.buffers, *self.stacks, *self.taped]
        for at, result in zip(owners, results, strict=True):
            if self.linear[at]:
                t.cotangents.add(operands[at], result)
        for at, final in self.finals(self.passed):
            if self.linear[at] and final is not None:
                t.cotangents.add(operands[at], final)

    def finals(self, places: Sequence[int]) -> list[tuple[int, Value | None]]:
        """The cotangents of the results of carries."""
        return [(at, self.t.cotangents.get(self.node.results[at - 1])) for at in places]

    def start(self) -> list[Value]:
        """What the carries of the reversed loop start from."""
        g, held, operands = self.t.g, self.t.cotangents, self.node.operands
        first = self.finals(self.live)
        first += [(at, held.take_array(operands[at])) for at in self.sums]
        arrays = [value if value is not None else g.zeros(operands[at].type) for at, value in first]
        return [*arrays, *(held.open(operands[at]) for at in self.buffers)]

    def region(self) -> tuple[Region, Iterable[Value]]:
        """The body of the reversed loop and what it captures."""
        inputs, outputs, operands = self.body.inputs, self.body.outputs, self.node.operands
        h = self.t.g.child()
        index = h.input(Array(I64), inputs[0].name)
        carried = {at: h.input(inputs[at].type, _bar(inputs[at])) for at in (*self.live, *self.sums)}
        carried |= {at: h.input(_accumulator(inputs[at]), _bar(inputs[at])) for at in self.buffers}
        walked = [(inputs[at], h.input(inputs[at].type, inputs[at].name)) for at in self.read]
        entries = [(output, h.input(element_type(seed.type), _bar(output))) for output, seed in self.seeds]
        linear = [*inputs[1 : self.first_walk]]
        linear += [inputs[at] for at in range(self.first_walk, len(inputs)) if self.linear[at]]
        known = self.t.known(inputs[self.first_capture :], operands[self.first_capture :])
        inner = self.t.inside(h, self.body, [(inputs[0], index), *walked, *known], linear)
        held = inner.cotangents
        for at, final in self.finals(self.passed):
            if final is not None:
                held.add(outputs[at - 1], final)
        for at in self.live:
            held.add(outputs[at - 1], carried[at])
        for at in (*self.sums, *self.buffers):
            held.add(inputs[at], carried[at])
        for output, entry in entries:
            held.add(output, entry)
        inner.run(self.body.nodes)
        arrays = [_zeros_where_missing(h, held, inputs[at]) for at in (*self.live, *self.sums)]
        buffers = [held.slots[inputs[at]] for at in self.buffers]
        stacks = [_zeros_where_missing(h, held, inputs[at]) for at in self.stacks]
        tapes = [(at, tape) for at in self.written if at not in self.stacks for tape in held.all(inputs[at])]
        self.taped = [at for at, _ in tapes]
        return h.close([*arrays, *buffers, *stacks, *(tape for _, tape in tapes)]), h.captures


def _transpose_for(t: Transpose, node: Node) -> None:
    _ReversedFor(t, node).emit()


def _array(value: Value) -> Array:
    """The type of a value that must be an array."""
    if not isinstance(value.type, Array):
        raise InvalidGraph(f"{value!r} is captured by a linear loop or index space")
    return value.type


def _accumulator(value: Value) -> Accumulator:
    """The type of the accumulator that is the cotangent of an array."""
    type_ = _array(value)
    return Accumulator(type_.dtype, type_.shape)


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
        kept = tuple(_accumulator(node.operands[at]) for at in buffers)
        reverse = replace(op, accumulators=len(lent), buffers=kept)
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
        results = g.apply(node.op, t.primal[node.operands[0]], *needed, regions=regions)
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
