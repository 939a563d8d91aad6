"""The two loops of a pair in parts: the loop that writes tapes, so that its steps can be run again, and a loop that
walks them, so that one of its steps can be run on entries that were computed just now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code, without_checks
from dgraph.ir.graph import Node, Region, Value, walk
from dgraph.ops.check import AtStep
from dgraph.ops.control import For, Loop
from dgraph.ops.index import Undefined
from dgraph.sizes import Size
from dgraph.types import I64, Array, Tape


def loop_op(node: Node) -> For:
    """The op of a `for`."""
    assert isinstance(node.op, For)
    return node.op


def walked_operands(node: Node) -> tuple[Value, ...]:
    """What a `for` walks."""
    op = loop_op(node)
    return node.operands[1 + op.carries : op.leading_operands()]


def number(g: Builder, value: Size | int) -> Value:
    """A whole number that is known, or that the sizes decide."""
    return g.constant(value, I64) if isinstance(value, int) else g.number(value)


def undefined(g: Builder, value: Value) -> Value:
    """Memory of the type of a value, to be filled."""
    return g.emit(Undefined(value.type), name=value.name)


class Steps:
    """The steps of a loop that writes tapes, by their order: step 0 runs first, whichever way the index goes.

    `kept` are the carries from which a step can be run again: those that the tapes need, and what these need. The
    parts of the body are `whole` (carries and stacked entries, with the checks), `last` (the same and the entries of
    the tapes), and without checks `advance` (kept carries), `entries` (of the tapes) and `both`. `count` is the number
    of steps: that of a `while` is known when it has run.
    """

    count: Value

    def __init__(self, g: Builder, node: Node) -> None:
        op, body = node.op, node.regions[-1]
        assert isinstance(op, Loop)
        self.node, self.op, self.body = node, op, body
        self.is_counted = isinstance(op, For)
        self.is_reversed = isinstance(op, For) and op.reverse
        if self.is_counted:
            self.count = g.maximum(node.operands[0], number(g, 0))
        self.first_carry = int(self.is_counted)
        self.carries = range(op.carries)
        self.stacks = range(op.carries, len(body.outputs) - op.tapes)
        self.tapes = range(len(body.outputs) - op.tapes, len(body.outputs))
        self.kept = kept_carries(node)
        self.whole = self._part((*self.carries, *self.stacks), body)
        self.last = self._part((*self.carries, *self.stacks, *self.tapes), body)
        again = without_checks(body)
        self.advance = self._part(self.kept, again)
        self.entries = self._part(self.tapes, again)
        self.both = self._part((*self.kept, *self.tapes), again)

    def _part(self, outputs: Sequence[int], body: Region) -> Region:
        return remove_dead_code(Region(body.inputs, body.nodes, tuple(body.outputs[at] for at in outputs)))

    @property
    def start(self) -> tuple[Value, ...]:
        """What the carries start from."""
        return self.node.operands[self.first_carry : self.first_carry + self.op.carries]

    def index(self, g: Builder, order: Value) -> Value:
        """The index of a step from its order, and the order from the index."""
        return g.sub(g.sub(self.count, number(g, 1)), order) if self.is_reversed else order

    def goes_on(self, g: Builder, carried: Sequence[Value]) -> Value:
        """Whether a `while` makes one more step."""
        (holds,) = g.inline(self.node.regions[0], [*carried, *self.node.operands[self.op.leading_operands() :]])
        return holds

    def run(self, g: Builder, part: Region, index: Value, carried: Mapping[int, Value]) -> list[Value]:
        """A part of the step with an index, from carries by position. Where it may fail it says which step it is."""
        if part in (self.whole, self.last) and can_fail(part):
            g.apply(AtStep(), index)
        known = {self.body.inputs[self.first_carry + at]: value for at, value in carried.items()}
        if self.is_counted:
            known[self.body.inputs[0]] = index
        first = self.first_carry + self.op.carries
        known.update(zip(self.body.inputs[first:], self.node.operands[first:], strict=True))
        for value in self.body.inputs[first : self.op.leading_operands()]:
            if value in part.used:
                known[value] = g.index(known[value], index, policy="proven")
        inputs = tuple(value for value in part.inputs if value in part.used)
        return g.inline(Region(inputs, part.nodes, part.outputs), [known[value] for value in inputs])


def can_fail(region: Region) -> bool:
    """Whether something in a region is checked as it runs."""
    return any(node.op.effect != "pure" or getattr(node.op, "policy", "") == "error" for node in walk(region))


def kept_carries(node: Node) -> tuple[int, ...]:
    """The carries that have to be known if the entries of the tapes are to be computed again: a fixed point."""
    op, body = node.op, node.regions[-1]
    assert isinstance(op, Loop)
    again, first = without_checks(body), int(isinstance(op, For))
    kept: set[int] = set()
    while True:
        wanted = (*(body.outputs[at] for at in sorted(kept)), *body.outputs[len(body.outputs) - op.tapes :])
        part = remove_dead_code(Region(again.inputs, again.nodes, wanted))
        grown = kept | {at for at in range(op.carries) if body.inputs[first + at] in part.used}
        if grown == kept:
            return tuple(sorted(kept))
        kept = grown


@dataclass(frozen=True)
class Turn:
    """A step of a loop that walks tapes of another one. `places` gives the place of each of those among all tapes;
    `is_last` says that no later loop walks them too."""

    node: Node
    places: Mapping[Value, int]
    is_last: bool = True

    @property
    def op(self) -> For:
        """The loop's op."""
        return loop_op(self.node)

    @property
    def start(self) -> tuple[Value, ...]:
        """What the carries start from."""
        return self.node.operands[1 : 1 + self.op.carries]

    @property
    def stacked(self) -> tuple[Value, ...]:
        """The results that are stacks."""
        return self.node.results[self.op.carries : self.op.carries + self.op.stacks]

    @property
    def others(self) -> list[Value]:
        """The tapes of other loops that are walked too."""
        walked = walked_operands(self.node)
        return [value for value in walked if value not in self.places and isinstance(value.type, Tape)]

    def can_follow(self, first: Loop) -> bool:
        """Whether the loop walks the tapes of a pair backwards, and reads them in no other way."""
        op = self.node.op
        if not isinstance(op, For) or op.reverse == (isinstance(first, For) and first.reverse):
            return False
        others = (*self.start, *self.node.operands[op.leading_operands() :])
        in_order = not first.every or not (self.others or op.tapes)
        return in_order and not any(value in self.places for value in others)

    def run(
        self, g: Builder, index: Value, carried: Sequence[Value], entries: Sequence[Value], others: Sequence[Value]
    ) -> list[Value]:
        """The outputs of one step: `entries` of all tapes of the pair, `others` those of the tapes of other loops."""
        op, (body,) = self.op, self.node.regions
        rest = iter(others)
        walked = []
        for value in walked_operands(self.node):
            if value in self.places:
                walked.append(entries[self.places[value]])
            elif isinstance(value.type, Tape):
                walked.append(next(rest))
            else:
                walked.append(g.index(value, index, policy="proven"))
        return g.inline(body, [index, *carried, *walked, *self.node.operands[op.leading_operands() :]])


def put_rows(g: Builder, arrays: Sequence[Value], index: Value, rows: Sequence[Value]) -> list[Value]:
    """Arrays with one row replaced in each."""
    return [g.set_at(array, index, row, policy="proven") for array, row in zip(arrays, rows, strict=True)]


def can_run_again(node: Node) -> bool:
    """Whether any step of a loop can be run from its carries alone: it walks arrays, and the carries are arrays."""
    is_counted = isinstance(node.op, For)
    carried = (node.operands[int(is_counted) + at].type for at in kept_carries(node))
    walked = (value.type for value in walked_operands(node)) if is_counted else ()
    return all(isinstance(type_, Array) for type_ in (*carried, *walked))
