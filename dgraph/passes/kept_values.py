"""One loop, the loops that walk what it keeps, and the choice between keeping and computing again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from typing import Any

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code, without_checks
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.induction import Induction, inductions
from dgraph.ops.control import For, While
from dgraph.passes.base import outputs_of, with_operands
from dgraph.passes.minimum_cut import Item, NoChoice, cheapest
from dgraph.passes.prices import INTEGER, Prices
from dgraph.passes.undo_log import Undo, depending, restored, undoable, with_readings
from dgraph.types import I64, Tape


def kept_by(region: Region, node: Node) -> Kept | None:
    """What a node keeps for loops of its region and for nothing else; None if that is nothing."""
    if not isinstance(node.op, For | While):
        return None
    op: Any = node.op
    body = node.regions[-1]
    walked: dict[Value, Value] = {}
    readers: dict[Node, None] = {}
    for output, result in zip(body.outputs[op.carries :], node.results[op.carries :], strict=False):
        users = region.users.get(result, ())
        if users and result not in region.outputs and all(_only_walks(user, result) for user in users):
            walked[result] = output
            readers.update(dict.fromkeys(users))
    return Kept(node, walked, tuple(readers)) if walked else None


def _only_walks(user: Node, kept: Value) -> bool:
    """Whether a node is a loop that reads a value step by step and in no other way."""
    if not isinstance(user.op, For):
        return False
    walks = slice(1 + user.op.carries, user.op.leading_operands())
    return kept not in (*user.operands[: walks.start], *user.operands[walks.stop :])


@dataclass(frozen=True, eq=False)
class Kept:
    """A loop that keeps, what it keeps for loops to walk (results, with the values of the body), and those loops."""

    writer: Node
    walked: Mapping[Value, Value]
    readers: tuple[Node, ...]

    @property
    def op(self) -> Any:
        """The op of the loop that keeps."""
        return self.writer.op

    @cached_property
    def body(self) -> Region:
        """The body of the loop that keeps, without checks: what it computes once it has computed it."""
        return without_checks(self.writer.regions[-1])

    @cached_property
    def held(self) -> dict[Value, Value]:
        """Values of the body that are there for the readers anyway, with the operand or result that holds them."""
        lead = int(isinstance(self.op, For))
        first = lead + self.op.carries
        found = dict(zip(self.body.inputs[first:], self.writer.operands[first:], strict=True))
        outputs = zip(self.body.outputs[self.op.carries :], self.writer.results[self.op.carries :], strict=False)
        for output, result in outputs:
            if result not in self.walked:
                found.setdefault(output, result)
        return found

    @cached_property
    def undoable(self) -> list[Undo]:
        """Carries that the readers can walk backwards."""
        at_hand = {*self.held, *self.walked.values()} - self.counters.keys()
        return undoable(self.writer, self.body, self.readers, at_hand)

    @cached_property
    def counters(self) -> dict[Value, Induction]:
        """Carries that follow from the number of the step."""
        captured = self.body.inputs[self.op.leading_inputs(len(self.writer.regions) - 1) :]
        return inductions(self.body, int(isinstance(self.op, For)), self.op.carries, captured)

    def items(self, prices: Prices, can_undo: bool) -> Items:
        """The values of the body as items of the choice."""
        return Items(self, prices, self.undoable if can_undo else [])

    def choice(self, prices: Prices, can_undo: bool, stay: Iterable[int] = ()) -> Chosen | None:
        """The cheapest choice; None if it is what is done already. `can_undo` says whether the last state of what the
        loop carries is at hand where the readers are; `stay` is that of `staying`."""
        items = self.items(prices, can_undo)
        try:
            found = cheapest(staying(items.items, stay), prices.byte)
        except NoChoice:
            # In the body of another loop there are other items once that keeps something else.
            found = cheapest(items.items, prices.byte)
        values = (items.values[at] for at in found.kept)
        saved = dict.fromkeys(value for value in values if value is not None and value not in self.held)
        again = {value for at in found.again if (value := items.values[at]) is not None} - saved.keys()
        undone = [undo for at, undo in items.undone.items() if at in found.again]
        return None if not again and saved.keys() == set(self.walked.values()) else Chosen(self, saved, again, undone)


def staying(items: Sequence[Item], stay: Iterable[int]) -> list[Item]:
    """Items of which some cost nothing to keep, so that they are kept if they are needed, and others, given by the
    complements of their places, cannot be kept."""
    chosen = frozenset(stay)
    found = []
    for at, item in enumerate(items):
        if at in chosen and item.bytes is not None:
            item = replace(item, bytes=0, moving=0.0)
        elif ~at in chosen and item.seconds is not None:
            item = replace(item, bytes=None)
        found.append(item)
    return found


class Items:
    """The values of a body as items of a choice. Where results of one node need the same, the work for them is an item
    of its own, without a value; so is the work of undoing the updates of an array."""

    def __init__(self, kept: Kept, prices: Prices, undoable: Sequence[Undo]) -> None:
        self.kept, self.prices = kept, prices
        self.items: list[Item] = []
        self.values: list[Value | None] = []
        self.places: dict[Value, int] = {}
        self.wanted = set(kept.walked.values())
        lead = int(isinstance(kept.op, For))
        for at, value in enumerate(kept.body.inputs):
            is_free = at < lead or value in kept.held
            self.add(value, None, (), is_free)
        for node in kept.body.nodes:
            self.add_node(node)
        self.undone: dict[int, Undo] = {}
        late = depending(kept.body, [version for undo in undoable if undo.updates for version in undo.versions])
        for undo in undoable:
            self.add_undo(undo, late)

    def add_undo(self, undo: Undo, late: Set[Value]) -> None:
        """Append the work of walking a carry backwards, by which all its versions can be had. What putting back entries
        of an array needs of the array itself has to be kept."""
        needs = dict.fromkeys(undo.needs)
        operands = []
        for value in needs:
            if value in late or value not in self.places:
                bytes_, moving = self.prices.kept(value)
                self.items.append(Item(bytes_, None, (), moving=moving))
                self.values.append(value)
                operands.append(len(self.items) - 1)
            else:
                operands.append(self.places[value])
        seconds = self.prices.walked(undo) * len(self.kept.readers)
        self.undone[len(self.items)] = undo
        for version in undo.versions:
            at = self.places[version]
            if self.items[at].bytes:
                self.items[at] = replace(self.items[at], seconds=0.0, operands=(len(self.items),))
        self.items.append(Item(None, seconds, tuple(operands)))
        self.values.append(None)

    def add(self, value: Value, seconds: float | None, operands: tuple[int, ...], is_free: bool = False) -> None:
        """Append a value."""
        if value in self.kept.counters:
            seconds, operands = INTEGER, ()
        bytes_, moving = (0, 0.0) if is_free else self.prices.kept(value)
        self.places[value] = len(self.items)
        self.items.append(Item(bytes_, seconds, operands, value in self.wanted, moving))
        self.values.append(value)

    def add_node(self, node: Node) -> None:
        """Append the results of a node, those that need the same together."""
        groups: dict[tuple[int, ...], list[Value]] = {}
        for result in node.results:
            groups.setdefault(self.needs(node, result), []).append(result)
        for operands, results in groups.items():
            seconds = self.prices.seconds(pruned(node, results)) * len(self.kept.readers)
            if len(results) > 1:
                self.items.append(Item(None, seconds, operands))
                self.values.append(None)
                seconds, operands = 0.0, (len(self.items) - 1,)
            for result in results:
                self.add(result, seconds, operands, result in self.kept.held)

    def needs(self, node: Node, result: Value) -> tuple[int, ...]:
        """The places of what one result is computed from."""
        return tuple(sorted({self.places[operand] for operand in pruned(node, [result]).operands}))


def pruned(node: Node, results: Sequence[Value]) -> Node:
    """A node cut down to some of its results."""
    if not node.regions:
        return node
    region = remove_dead_code(Region(node.operands, (node,), tuple(results)))
    return region.nodes[0]


@dataclass(frozen=True, eq=False)
class Chosen:
    """A choice: values that are kept, values that readers compute again from these and from what they have, and arrays
    that they walk backwards."""

    kept: Kept
    saved: Collection[Value]
    again: Set[Value]
    undone: Sequence[Undo]

    @cached_property
    def holds(self) -> dict[Value, Value]:
        """Values of the body, with what a reader walks or captures to have them."""
        found = dict(self.kept.held)
        old = {output: result for result, output in self.kept.walked.items()}
        for value in self.saved:
            found[value] = old[value] if value in old else Value(Tape(value.type), value.name)
        return found

    def writer(self, g: Builder, moved: Node) -> Sequence[Value]:
        """Append the loop that keeps. Returns its results; those that are not kept any more are read no more."""
        op, body = self.kept.op, moved.regions[-1]
        stacks = op.stacks if isinstance(op, For) else 0
        outputs, results = list(body.outputs), list(moved.results[: len(body.outputs)])
        gone = self.kept.walked.keys() - self.holds.values()
        stay = [at for at, result in enumerate(results) if result not in gone]
        added = [value for value in self.saved if self.holds[value] not in self.kept.walked]
        tapes = [self.holds[value] for value in added]
        stacked = sum(op.carries <= at < op.carries + stacks for at in stay)
        facts: dict[str, Any] = {"tapes": len(stay) - op.carries - stacked + len(added)}
        if isinstance(op, For):
            facts["stacks"] = stacked
        inner = Region(body.inputs, with_readings(body, self.undone), (*(outputs[at] for at in stay), *added))
        rest = moved.results[len(body.outputs) :]
        g.append(
            replace(
                moved,
                op=replace(op, **facts),
                results=(*(results[at] for at in stay), *tapes, *rest),
                regions=(*moved.regions[:-1], inner),
            )
        )
        return moved.results

    def reader(self, g: Builder, moved: Node) -> Sequence[Value]:
        """Append a loop that walks."""
        g.append(_Again(self, moved).node())
        return moved.results


class _Again:
    """A reader that computes again what is not kept."""

    def __init__(self, chosen: Chosen, loop: Node) -> None:
        op, (body,) = loop.op, loop.regions
        assert isinstance(op, For)
        self.chosen, self.kept, self.loop, self.op, self.body = chosen, chosen.kept, loop, op, body
        self.first, lead = 1 + op.carries, op.leading_operands()
        self.renamed: dict[Value, Value] = {}
        self.walked = self._first_of(slice(self.first, lead))
        self.captured = self._first_of(slice(lead, None))
        self.known: dict[Value, Value] = {}
        self.nodes: list[Node] = []
        kept = chosen.kept
        if isinstance(kept.op, For):
            self.known[kept.body.inputs[0]] = body.inputs[0]
        self.captures = set(kept.body.inputs[kept.op.leading_inputs(len(kept.writer.regions) - 1) :])

    def _first_of(self, places: slice) -> dict[Value, Value]:
        """Inputs of the body by the operands that they stand for; inputs that repeat another one are renamed."""
        found: dict[Value, Value] = {}
        for operand, value in zip(self.loop.operands[places], self.body.inputs[places], strict=True):
            if found.setdefault(operand, value) is not value:
                self.renamed[value] = found[operand]
        return found

    def node(self) -> Node:
        """The loop."""
        entries = {self.walked[result]: value for result, value in self.kept.walked.items() if result in self.walked}
        starts, carried, before = self.undo()
        for node in self.needed(entries.values()):
            self.copy(node)
        gone = self.kept.walked.keys() - self.chosen.holds.values()
        for result in gone:
            self.walked.pop(result, None)
        found = {entry: self.value(value) for entry, value in entries.items()}
        renamed = {old: found.get(new, new) for old, new in self.renamed.items()} | found
        nodes = (*self.nodes, *(with_operands(node, renamed) for node in self.body.nodes))
        inputs = (*self.body.inputs[: self.first], *carried, *self.walked.values(), *self.captured.values())
        outputs, results, carries = outputs_of(self.body, renamed), self.loop.results, self.op.carries
        ends = (Value(value.type, value.name) for value in starts)
        return replace(
            self.loop,
            op=replace(self.op, carries=carries + len(starts), walks=len(self.walked)),
            operands=(*self.loop.operands[: self.first], *starts, *self.walked, *self.captured),
            results=(*results[:carries], *ends, *results[carries:]),
            regions=(Region(inputs, nodes, (*outputs[:carries], *before, *outputs[carries:])),),
        )

    def undo(self) -> tuple[list[Value], list[Value], list[Value]]:
        """Put back what the step has overwritten. Returns for each array that is carried for it the last state, the
        array after the step, and before it."""
        undone = self.chosen.undone
        starts = [self.kept.writer.results[undo.carry] for undo in undone]
        carried = [Value(value.type, value.name) for value in starts]
        before = []
        for undo, value in zip(undone, carried, strict=True):
            for node in self.needed(undo.needs):
                self.copy(node)
            nodes, versions = restored(undo, value, {need: self.value(need) for need in undo.needs})
            self.nodes += nodes
            self.known.update(versions)
            before.append(self.value(undo.start))
        return starts, carried, before

    def needed(self, wanted: Iterable[Value]) -> list[Node]:
        """The nodes that compute values again, cut down to what is read of them, in order."""
        pending = {value for value in wanted if self.is_missing(value)}
        found = []
        for node in reversed(self.kept.body.nodes):
            results = [value for value in node.results if value in pending]
            if results:
                found.append(pruned(node, results))
                pending.update(value for value in found[-1].operands if self.is_missing(value))
        return found[::-1]

    def is_missing(self, value: Value) -> bool:
        """Whether a value is to be computed again and has not been yet."""
        return value in self.chosen.again and value not in self.known

    def value(self, value: Value) -> Value:
        """A value of the body of the loop that keeps, as this loop has it."""
        if value not in self.known:
            if value in self.chosen.again:
                self.known[value] = self.counted(self.kept.counters[value])
            else:
                outside = self.chosen.holds[value]
                group = self.captured if value in self.captures else self.walked
                self.known[value] = group.setdefault(outside, Value(value.type, value.name))
        return self.known[value]

    def copy(self, node: Node) -> None:
        """Compute a node again."""
        operands = tuple(map(self.value, node.operands))
        results = tuple(Value(value.type, value.name) for value in node.results)
        self.nodes.append(replace(node, operands=operands, results=results))
        self.known.update(zip(node.results, results, strict=True))

    def counted(self, counter: Induction) -> Value:
        """A carry that follows from the number of the step."""
        g = Builder()
        order, op = self.body.inputs[0], self.kept.op
        if isinstance(op, For) and op.reverse:
            count = self.outer(self.kept.writer.operands[0])
            g.adopt(Region((order, count), (), ()))
            zero, one = g.constant(0, I64), g.constant(1, I64)
            order = g.sub(g.sub(g.maximum(count, zero), one), order)
        start = self.outer(self.kept.writer.operands[int(isinstance(op, For)) + counter.place])
        (*nodes, last) = counter.nodes(start, order)
        known = {} if counter.constant is not None else {counter.step: self.value(counter.step)}
        result = Value(counter.value.type, counter.value.name)
        self.nodes += [*g.nodes, *(with_operands(node, known) for node in nodes), replace(last, results=(result,))]
        return result

    def outer(self, value: Value) -> Value:
        """A value from outside of the loop."""
        return self.captured.setdefault(value, Value(value.type, value.name))
