"""Unzip: every node of a region with tangents becomes purely primal or purely linear, in nested regions too.

A loop is cut into a primal loop that keeps a tape of what the linear half reads, and a linear loop that walks it; a
`while` becomes a `while` and a linear `for` over its trips. A choice hands its residuals over as results; entries of
an array that changes from step to step of a loop around are among these, since else the array would be. An index
space keeps nothing: its linear half runs the point again. Captures, the loop index, walked values and what follows
cheaply from them are never taped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from dgraph.ad.picked import with_entries_picked
from dgraph.classes import dataclass
from dgraph.ir.dead_code import remove_dead_code, without_checks
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.hoist import split_invariant
from dgraph.ir.op import OPS
from dgraph.ops.control import For
from dgraph.ops.elementwise import Elementwise
from dgraph.types import I64, Array, Tape, ValueType


@dataclass(frozen=True)
class Halves:
    """The nodes of a region, cut in two. The linear ones read the primal ones, never the other way round."""

    primal: tuple[Node, ...]
    linear: tuple[Node, ...]
    values: frozenset[Value]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in an order that can run."""
        return self.primal + self.linear


def linear_values(nodes: Iterable[Node], inputs: Iterable[Value]) -> frozenset[Value]:
    """All values that depend on the linear inputs, where every node is purely primal or purely linear."""
    found = set(inputs)
    for node in nodes:
        if any(operand in found for operand in node.operands):
            found.update(node.results)
    return frozenset(found)


class Unzip:
    """Cuts regions in two; a region cut before for the same linear inputs is remembered. `changing` are the arrays that
    differ from step to step of a loop around, in its body and in choices there."""

    def __init__(self) -> None:
        self.done: dict[tuple[Region, tuple[bool, ...]], Halves] = {}
        self.changing: set[Value] = set()

    def may_cut(self, region: Region, node: Node, dependent: Set[Value]) -> bool:
        """Whether a node that depends on linear inputs, as the values in `dependent` do, is cut; else all of it is in
        the linear half."""
        return True

    def halves(self, region: Region, linear: Sequence[bool]) -> Halves:
        """The two halves of a region whose inputs marked in `linear` are linear."""
        key = region, tuple(linear)
        found = self.done.get(key)
        if found is None:
            found = self.done[key] = self._cut(region, linear)
        return found

    def _cut(self, region: Region, linear: Sequence[bool]) -> Halves:
        values = {value for value, flag in zip(region.inputs, linear, strict=True) if flag}
        primal: list[Node] = []
        moved: list[Node] = []
        for node in region.nodes:
            if any(operand in self.changing for operand in node.operands):
                self.changing.update(result for result in node.results if _is_array(result))
            if not any(operand in values for operand in node.operands):
                primal.append(node)
                continue
            rule = UNZIP.get(node.op.name) if self.may_cut(region, node, values) else None
            early, late = rule(self, node, values) if rule is not None else ([], node)
            primal += early
            moved.append(late)
            values.update(late.results)
        primal, moved = with_entries_picked(region, primal, moved, values)
        return Halves(tuple(primal), tuple(moved), frozenset(values))

    def settle(self, region: Region, linear: list[bool], first: int, count: int) -> tuple[Halves, list[bool]]:
        """The halves for the least linear inputs that are closed under a step: those from `first` on are the first
        outputs again."""
        flags = list(linear)
        while True:
            halves = self.halves(region, flags)
            carried = flags[first : first + count]
            grown = [
                flag or output in halves.values for flag, output in zip(carried, region.outputs[:count], strict=True)
            ]
            if grown == carried:
                return halves, flags
            flags[first : first + count] = grown


def _is_array(value: Value) -> bool:
    return isinstance(value.type, Array) and bool(value.type.shape)


def _pick(values: Iterable[Value], flags: Iterable[bool], flag: bool) -> list[Value]:
    return [value for value, own in zip(values, flags, strict=True) if own == flag]


@dataclass(frozen=True)
class _Reads:
    """What a linear half needs: nodes copied into it, values it is given freely, values that must be kept."""

    copied: tuple[Node, ...]
    given: Set[Value]
    residuals: tuple[Value, ...]


def _reads(halves: Halves, outputs: Iterable[Value], free: Collection[Value], dear: Collection[Value] = ()) -> _Reads:
    """What the linear nodes and the linear outputs of a region need of its primal half, where the values in `free`
    are at hand in both, the `dear` ones among them only if they are needed whole."""
    producers = {result: node for node in halves.primal for result in node.results}
    copied: set[Node] = set()
    given: set[Value] = set()
    residuals: dict[Value, None] = {}
    again = _Derivable(producers, free, dear)

    def need(value: Value) -> None:
        if value in halves.values:
            return
        if value in free:
            given.add(value)
        elif again.holds(value):
            node = producers[value]
            if node not in copied:
                copied.add(node)
                for operand in node.operands:
                    need(operand)
        else:
            residuals.setdefault(value)

    for node in halves.linear:
        for operand in node.operands:
            need(operand)
    for output in outputs:
        need(output)
    return _Reads(tuple(node for node in halves.primal if node in copied), given, tuple(residuals))


class _Derivable:
    """Which values follow from free ones for the price of reading a tape: constants, zeros, integers and truth values
    computed from indices, entries of free arrays that are not dear."""

    def __init__(self, producers: Mapping[Value, Node], free: Collection[Value], dear: Collection[Value]) -> None:
        self.producers = producers
        self.free = free
        self.dear = dear
        self.known: dict[Value, bool] = {}

    def holds(self, value: Value) -> bool:
        """Whether a value is free or follows cheaply from free values."""
        if value in self.free:
            return True
        found = self.known.get(value)
        if found is None:
            node = self.producers.get(value)
            found = node is not None and self._cheap(node) and all(map(self.holds, node.operands))
            self.known[value] = found
        return found

    def _cheap(self, node: Node) -> bool:
        if node.regions or node.op.effect != "pure":
            return False
        if not node.operands or node.op.name == "broadcast":
            return True
        type_ = node.results[0].type
        if not isinstance(type_, Array) or type_.shape:
            return False
        if node.op.name == "index":
            return node.operands[0] not in self.dear
        return isinstance(node.op, Elementwise) and not type_.dtype.is_float


@dataclass(frozen=True)
class _LoopCut:
    """A loop about to be cut in two.

    `inputs`, `operands` and `linear` belong together: carries, walks and captures, then what was hoisted out of the
    body. `linear_outputs` flags the outputs of the body, `tapes` hold the residuals.
    """

    node: Node
    halves: Halves
    reads: _Reads
    inputs: tuple[Value, ...]
    operands: tuple[Value, ...]
    linear: tuple[bool, ...]
    linear_outputs: tuple[bool, ...]
    tapes: tuple[Value, ...]

    @property
    def counted(self) -> bool:
        """Whether the loop is a `for`."""
        return isinstance(self.node.op, For)

    @property
    def lead(self) -> tuple[Value, ...]:
        """The count, where there is one."""
        return self.node.operands[: int(self.counted)]

    @property
    def walks(self) -> int:
        """How many values the loop walks."""
        return self.node.op.walks if isinstance(self.node.op, For) else 0

    @property
    def stacks(self) -> int:
        """How many outputs the loop stacks."""
        return self.node.op.stacks if isinstance(self.node.op, For) else 0

    @property
    def results(self) -> tuple[Value, ...]:
        """The results that are outputs of the body."""
        return self.node.results[: len(self.linear_outputs)]

    def forward(self) -> Node:
        """The primal loop, which writes the tapes."""
        op: Any = self.node.op
        body, lead, carries = self.node.regions[-1], len(self.lead), op.carries
        primal_outputs = [not flag for flag in self.linear_outputs]
        collected = sum(primal_outputs[carries:])
        stacks = sum(primal_outputs[carries : carries + self.stacks])
        facts: dict[str, Any] = {
            "carries": sum(primal_outputs[:carries]),
            "tapes": collected - stacks + len(self.tapes),
        }
        if self.counted:
            facts |= {"stacks": stacks, "walks": self.linear[carries : carries + self.walks].count(False)}
        inputs = (*body.inputs[:lead], *_pick(self.inputs, self.linear, False))
        outputs = (*_pick(body.outputs, self.linear_outputs, False), *self.reads.residuals)
        regions = [Region(inputs, self.halves.primal, outputs)]
        if not self.counted:
            (condition, _) = self.node.regions
            tested = _pick(condition.inputs, self.linear[: len(condition.inputs)], False)
            moved = (Value(value.type, value.name) for value in self.inputs[len(condition.inputs) :])
            regions.insert(0, Region((*tested, *moved), condition.nodes, condition.outputs))
        return replace(
            self.node,
            op=replace(op, **facts),
            operands=(*self.lead, *_pick(self.operands, self.linear, False)),
            results=(
                *_pick(self.results, self.linear_outputs, False),
                *self.tapes,
                *self.node.results[len(self.results) :],
            ),
            regions=tuple(regions),
        )

    def linear_loop(self) -> Node:
        """The linear loop, which walks the tapes; for a `while` a `for` over its trips."""
        op: Any = self.node.op
        body, carries = self.node.regions[-1], op.carries
        start = self._pairs(0, carries, needed=False)
        walked = [*self._pairs(carries, carries + self.walks), *zip(self.reads.residuals, self.tapes, strict=True)]
        pairs = [*start, *walked, *self._pairs(carries + self.walks, len(self.inputs))]
        stacks = sum(self.linear_outputs[carries : carries + self.stacks])
        facts: dict[str, Any] = {
            "carries": len(start),
            "walks": len(walked),
            "stacks": stacks,
            "tapes": sum(self.linear_outputs[carries:]) - stacks,
        }
        if not self.counted:
            facts |= {"slots": op.slots, "every": op.every, "budget": op.budget}
        index = body.inputs[0] if self.counted else Value(Array(I64), "i")
        inputs = (index, *(inner for inner, _ in pairs))
        outputs = tuple(_pick(body.outputs, self.linear_outputs, True))
        return replace(
            self.node,
            op=replace(op, **facts) if self.counted else For(**facts),
            derived="tangent",
            operands=(*(self.lead or self.node.results[-1:]), *(outer for _, outer in pairs)),
            results=tuple(_pick(self.results, self.linear_outputs, True)),
            regions=(Region(inputs, self.reads.copied + self.halves.linear, outputs),),
        )

    def _pairs(self, first: int, last: int, needed: bool = True) -> list[tuple[Value, Value]]:
        """Inputs and operands that the linear loop has: the linear ones and, if `needed`, the primal ones it reads."""
        rows = list(zip(self.inputs, self.operands, self.linear, strict=True))[first:last]
        return [(inner, outer) for inner, outer, flag in rows if flag or (needed and inner in self.reads.given)]


def _unzip_loop(run: Unzip, node: Node, linear: Set[Value]) -> tuple[list[Node], Node]:
    op: Any = node.op
    lead, carries = int(isinstance(op, For)), op.carries
    body = node.regions[-1]
    first_capture = op.leading_operands()
    flags = [operand in linear for operand in node.operands[lead:]]
    run.changing.update(filter(_is_array, body.inputs[lead : lead + carries]))
    halves, settled = run.settle(body, [False] * lead + flags, lead, carries)
    captures = zip(body.inputs, node.operands, settled, strict=True)
    captured = {inner: outer for inner, outer, flag in list(captures)[first_capture:] if not flag}
    front, stay, moved = split_invariant(halves.primal, captured, node.scope)
    halves = Halves(tuple(stay), halves.linear, halves.values)
    linear_outputs = (
        *settled[lead : lead + carries],
        *(output in halves.values for output in body.outputs[carries:]),
    )
    free = {*body.inputs[:lead], *body.inputs[lead + carries :], *moved}
    reads = _reads(halves, _pick(body.outputs, linear_outputs, True), free)
    cut = _LoopCut(
        node,
        halves,
        reads,
        (*body.inputs[lead:], *moved),
        (*node.operands[lead:], *moved.values()),
        (*settled[lead:], *(False for _ in moved)),
        linear_outputs,
        tuple(Value(Tape(value.type), value.name) for value in reads.residuals),
    )
    return [*front, cut.forward()], cut.linear_loop()


def _unzip_space(run: Unzip, node: Node, linear: Set[Value]) -> tuple[list[Node], Node]:
    op: Any = node.op
    (body,) = node.regions
    rank, threads, own = len(op.extents), op.accumulators, len(op.buffers)
    written = threads + own
    flags = [operand in linear for operand in node.operands]
    start = [*[False] * rank, *flags[:threads], *[False] * own, *flags[threads:]]
    halves, settled = run.settle(body, start, rank, written)
    out_flags = [*settled[rank : rank + written], *(value in halves.values for value in body.outputs[written:])]
    linear_buffers = tuple(buffer for buffer, flag in zip(op.buffers, out_flags[threads:], strict=False) if flag)
    primal_buffers = tuple(buffer for buffer, flag in zip(op.buffers, out_flags[threads:], strict=False) if not flag)
    thread_flags, capture_flags = out_flags[:threads], settled[rank + written :]

    captured = _pick(node.operands[threads:], capture_flags, False)
    written_inputs, captured_inputs = body.inputs[rank : rank + written], body.inputs[rank + written :]
    primal_inputs = (
        *body.inputs[:rank],
        *_pick(written_inputs, out_flags[:written], False),
        *_pick(captured_inputs, capture_flags, False),
    )
    forward = replace(
        node,
        op=replace(op, accumulators=threads - sum(thread_flags), buffers=primal_buffers),
        operands=(*_pick(node.operands[:threads], thread_flags, False), *captured),
        results=tuple(_pick(node.results, out_flags, False)),
        regions=(Region(primal_inputs, halves.primal, tuple(_pick(body.outputs, out_flags, False))),),
    )
    whole = Region(body.inputs, halves.nodes, tuple(_pick(body.outputs, out_flags, True)))
    inner = remove_dead_code(without_checks(whole))
    linear_inputs = (*body.inputs[:rank], *_pick(written_inputs, out_flags[:written], True), *captured_inputs)
    late = replace(
        node,
        derived="tangent",
        op=replace(op, accumulators=sum(thread_flags), buffers=linear_buffers),
        operands=(*_pick(node.operands[:threads], thread_flags, True), *node.operands[threads:]),
        results=tuple(_pick(node.results, out_flags, True)),
        regions=(Region(linear_inputs, inner.nodes, inner.outputs),),
    )
    return [forward], late


def _slots(reads: Sequence[_Reads]) -> list[tuple[ValueType, list[Value | None]]]:
    """Places for the residuals of both sides of a choice: only one side runs, so equal types share a place."""
    slots: list[tuple[ValueType, list[Value | None]]] = []
    for side, read in enumerate(reads):
        for value in read.residuals:
            match = next((held for type_, held in slots if type_ == value.type and held[side] is None), None)
            if match is None:
                match = [None] * len(reads)
                slots.append((value.type, match))
            match[side] = value
    return slots


def _unzip_if(run: Unzip, node: Node, linear: Set[Value]) -> tuple[list[Node], Node]:
    captures = node.operands[1:]
    flags = [operand in linear for operand in captures]
    for region in node.regions:
        pairs = zip(region.inputs, captures, strict=True)
        run.changing.update(value for value, operand in pairs if operand in run.changing)
    split = [run.halves(region, flags) for region in node.regions]
    out_flags = [
        any(region.outputs[at] in halves.values for region, halves in zip(node.regions, split, strict=True))
        for at in range(len(node.results))
    ]
    reads = [
        _reads(halves, _pick(region.outputs, out_flags, True), frozenset(region.inputs), run.changing)
        for region, halves in zip(node.regions, split, strict=True)
    ]
    used = [
        flag or any(region.inputs[at] in read.given for region, read in zip(node.regions, reads, strict=True))
        for at, flag in enumerate(flags)
    ]
    slots = _slots(reads)
    primal_regions, linear_regions = [], []
    for side, (region, halves, read) in enumerate(zip(node.regions, split, reads, strict=True)):
        missing = [
            Node(OPS["undefined"](type=type_), (), (Value(type_),))  # type: ignore[call-arg]
            for type_, held in slots
            if held[side] is None
        ]
        absent = iter(missing)
        handed = [held[side] or next(absent).result for _, held in slots]
        outputs = (*_pick(region.outputs, out_flags, False), *handed)
        primal_regions.append(Region(tuple(_pick(region.inputs, flags, False)), (*halves.primal, *missing), outputs))
        received = [held[side] or Value(type_) for type_, held in slots]
        inputs = (*_pick(region.inputs, used, True), *received)
        body = read.copied + halves.linear
        linear_regions.append(Region(inputs, body, tuple(_pick(region.outputs, out_flags, True))))
    residuals = [Value(type_, next((value.name for value in held if value is not None), "")) for type_, held in slots]
    forward = replace(
        node,
        operands=(node.operands[0], *_pick(captures, flags, False)),
        results=(*_pick(node.results, out_flags, False), *residuals),
        regions=tuple(primal_regions),
    )
    late = replace(
        node,
        derived="tangent",
        operands=(node.operands[0], *_pick(captures, used, True), *residuals),
        results=tuple(_pick(node.results, out_flags, True)),
        regions=tuple(linear_regions),
    )
    return [forward], late


Rule = Callable[[Unzip, Node, Set[Value]], tuple[list[Node], Node]]

UNZIP: dict[str, Rule] = {
    "for": _unzip_loop,
    "while": _unzip_loop,
    "space": _unzip_space,
    "if": _unzip_if,
}
"""The rule of each region op: the primal nodes and the linear one. Calls are gone: jvp inlines them."""
