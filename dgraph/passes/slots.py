"""`@checkpoint(slots=c)`: a pair of loops with room for c states, on the binomial schedule of Griewank and Walther.

Slots are a stack: rows of arrays, one per kept carry, and the order of the step whose state each row holds. Before a
step is reversed the state in the top row is advanced until the step is reached, and on the way states are put on the
stack where they save most. Of n steps with c slots so t(n, c) = r n - C(c + r, c + 1) are advanced, which is the least
possible; r is the least number with C(c + r, c) >= n. One row more than c holds the state that is just being reversed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Self

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.index import Undefined
from dgraph.passes.rerun import Steps, Turn, number, put_rows, undefined
from dgraph.sizes import Size, bytes_in, product, size
from dgraph.types import I64, Array


def split(g: Builder, left: Value, slots: Value) -> Value:
    """How far to advance before a state is stored, if `left` >= 2 steps are to be reversed with so many slots, that of
    the present state among them: the upper end of the optimal range."""
    one = number(g, 1)
    before = g.sub(left, one)

    def grows(h: Builder, carried: list[Value]) -> Value:
        return h.logical_and(h.less(carried[2], left), h.greater(slots, one))

    def grow(h: Builder, carried: list[Value]) -> list[Value]:
        turns, _, reach = carried
        turns = h.add(turns, number(h, 1))
        return [turns, reach, h.floor_divide(h.mul(reach, h.add(slots, turns)), turns)]

    # reach = C(slots + turns, slots), and that of one turn less
    turns, less, _, _ = g.while_([one, one, g.add(slots, one)], grows, grow)
    fewer = g.floor_divide(g.mul(less, slots), g.sub(g.add(slots, turns), one))
    far = g.minimum(g.minimum(less, g.sub(left, fewer)), before)
    return g.select(g.equal(slots, one), before, far)


@dataclass(frozen=True)
class Stack:
    """The slots: the order of the step in the top row, how many rows are in use, the orders and states in all rows.

    `moved` says where the states of the first rows are, and how many rows those are; the others are in their own place.
    """

    top: Value
    depth: Value
    orders: Value
    rows: tuple[Value, ...]
    moved: tuple[Value, Value] | None = None

    @property
    def values(self) -> list[Value]:
        """As carries; where rows are does not change."""
        return [self.top, self.depth, self.orders, *self.rows]

    def of(self, values: Sequence[Value]) -> Self:
        """From carries."""
        return replace(self, top=values[0], depth=values[1], orders=values[2], rows=tuple(values[3:]))

    def _place(self, g: Builder, row: Value) -> Value:
        if self.moved is None:
            return row
        places, count = self.moved
        return g.select(g.less(row, count), g.index(places, row, policy="proven"), row)

    def state(self, g: Builder) -> list[Value]:
        """The state in the top row."""
        at = self._place(g, g.sub(self.depth, number(g, 1)))
        return [g.index(row, at, policy="proven") for row in self.rows]

    def pushed(self, g: Builder, order: Value, state: Sequence[Value]) -> Self:
        """With a state on top."""
        (orders,) = put_rows(g, [self.orders], self.depth, [order])
        rows = put_rows(g, self.rows, self._place(g, self.depth), state)
        return replace(self, top=order, depth=g.add(self.depth, number(g, 1)), orders=orders, rows=tuple(rows))

    def popped(self, g: Builder) -> Self:
        """Without the top row. The order of the row below is not read when there is none."""
        depth = g.sub(self.depth, number(g, 1))
        below = g.maximum(g.sub(depth, number(g, 1)), number(g, 0))
        return replace(self, top=g.index(self.orders, below, policy="proven"), depth=depth)


class Slots:
    """One pair; `g` builds the region in which the loops stand. There is room for `count` states."""

    numbers: ClassVar[int] = 1
    """How many whole numbers a slot holds beside the state."""
    stack: Stack
    given: Sequence[Value] | None = None
    """What the last step hands on."""

    def __init__(self, g: Builder, steps: Steps, count: Value, rows: Size) -> None:
        self.steps = steps
        self.count = count
        self.rows = rows

    def _open(self, g: Builder) -> tuple[Value, list[Value]]:
        """Rows for the orders and for the kept carries."""
        kept = [self.steps.start[at] for at in self.steps.kept]
        states = [g.emit(Undefined(rows_of(self.rows, value)), name=value.name) for value in kept]
        return g.emit(Undefined(Array(I64, (self.rows,))), name="orders"), states

    def _started(self, g: Builder) -> Stack:
        """The stack with the state before the first step."""
        zero = number(g, 0)
        orders, rows = self._open(g)
        return Stack(zero, zero, orders, tuple(rows)).pushed(g, zero, [self.steps.start[at] for at in self.steps.kept])

    def forward(self, g: Builder) -> list[Value]:
        """The carries and stacks of the loop, which now fills slots on its way to the last step. The last step hands on
        what the first step of the backward loop needs of it, unless it holds tapes of its own, which would be kept
        meanwhile."""
        steps = self.steps
        self.stack = self._started(g)
        carries, results = len(steps.carries), steps.node.results
        stacks = [undefined(g, value) for value in results[carries : carries + len(steps.stacks)]]
        last = g.sub(steps.count, number(g, 1))
        self.stack, before = self._reach(g, self.stack, last, [*steps.start, *stacks])
        hands_on = all(isinstance(steps.body.outputs[at].type, Array) for at in steps.tapes)
        handed = steps.tapes if hands_on else range(0)

        def end(h: Builder) -> list[Value]:
            index = steps.index(h, last)
            part = steps.last if hands_on else steps.whole
            found = steps.run(h, part, index, dict(enumerate(before[:carries])))
            first = carries + len(steps.stacks)
            return [*found[:carries], *put_rows(h, before[carries:], index, found[carries:first]), *found[first:]]

        def nothing(h: Builder) -> list[Value]:
            return [*before, *(undefined(h, steps.body.outputs[at]) for at in handed)]

        found = g.if_(g.greater(steps.count, number(g, 0)), end, nothing)
        self.given = found[len(before) :] if hands_on else None
        return list(found[: len(before)])

    def backward(self, g: Builder, turn: Turn) -> list[Value]:
        """The carries, stacks and tapes of a loop that walked the tapes."""
        steps, carries, stacked = self.steps, turn.op.carries, turn.op.stacks
        stacks = [undefined(g, value) for value in turn.stacked]
        others = turn.others

        def back(h: Builder, index: Value, now: list[Value], walked: list[Value]) -> list[Value]:
            order = steps.index(h, index)
            with h.at(derived=steps.node.derived):
                stack, _ = self._reach(h, self.stack.of(now[carries + stacked :]), order)
                entries = self._entries(h, order, index, stack)
            found = turn.run(h, index, now[:carries], entries, walked)
            rows = put_rows(h, now[carries : carries + stacked], index, found[carries : carries + stacked])
            return [*found[:carries], *rows, *stack.popped(h).values, *found[carries + stacked :]]

        start = [*turn.start, *stacks, *self.stack.values]
        results = g.for_(steps.count, start, back, walks=others, tapes=turn.op.tapes, reverse=turn.op.reverse)
        return [*results[: carries + stacked], *results[len(start) :]]

    def _entries(self, h: Builder, order: Value, index: Value, stack: Stack) -> Sequence[Value]:
        """The entries of the tapes at a step whose state is on top."""
        steps = self.steps

        def again(h: Builder) -> list[Value]:
            return steps.run(h, steps.entries, index, dict(zip(steps.kept, stack.state(h), strict=True)))

        given = self.given
        if given is None:
            return again(h)
        is_last = h.equal(order, h.sub(steps.count, number(h, 1)))
        return h.if_(is_last, lambda _: list(given), again)

    def _reach(
        self, g: Builder, stack: Stack, order: Value, whole: Sequence[Value] | None = None
    ) -> tuple[Stack, list[Value]]:
        """The stack with the state of a step on top. The forward loop gives the `whole` of its carries and stacks,
        which then go along; otherwise each advance starts from the top row."""
        size = len(stack.values)

        def is_before(h: Builder, carried: list[Value]) -> Value:
            return h.less(carried[0], order)

        def advance(h: Builder, carried: list[Value]) -> list[Value]:
            along = None if whole is None else carried[size:]
            reached, moved = self._advanced(h, stack.of(carried[:size]), order, along)
            return [*reached.values, *(moved if whole is not None else ())]

        found = g.while_([*stack.values, *(whole or ())], is_before, advance)
        return stack.of(found[:size]), list(found[size:-1])

    def _advanced(
        self, g: Builder, stack: Stack, order: Value, along: Sequence[Value] | None
    ) -> tuple[Stack, Sequence[Value]]:
        """The stack with one state more on the way to a step, and the carries that reached it: those that went `along`
        or, without, the kept ones."""
        spare = g.add(g.sub(self.count, stack.depth), number(g, 1))
        far = split(g, g.add(g.sub(order, stack.top), number(g, 1)), spare)
        moved = self._moved(g, stack, far, along)
        state = moved if along is None else [moved[at] for at in self.steps.kept]
        return stack.pushed(g, g.add(stack.top, far), state), moved

    def _moved(self, g: Builder, stack: Stack, far: Value, along: Sequence[Value] | None) -> Sequence[Value]:
        """The carries so many steps on."""
        steps = self.steps

        def step(h: Builder, within: Value, held: list[Value], _walked: list[Value]) -> list[Value]:
            index = steps.index(h, h.add(stack.top, within))
            if along is None:
                return steps.run(h, steps.advance, index, dict(zip(steps.kept, held, strict=True)))
            return self._whole_step(h, index, held)

        return g.for_(far, stack.state(g) if along is None else along, step)

    def _whole_step(self, h: Builder, index: Value, held: Sequence[Value]) -> list[Value]:
        """The carries and stacks after a step of the forward loop."""
        carries = len(self.steps.carries)
        found = self.steps.run(h, self.steps.whole, index, dict(enumerate(held[:carries])))
        return [*found[:carries], *put_rows(h, held[carries:], index, found[carries:])]


def slots_in(g: Builder, steps: Steps, budget: str, numbers: int) -> tuple[Value, Size]:
    """How many slots keep within a budget such as "200MB", at least one, and how many rows there have to be, if each
    holds a state and so many whole numbers.

    One more state is in memory, that which is just being reversed."""
    total = bytes_in(budget)
    assert total is not None
    fitting = size(total) // state_bytes(steps, numbers)
    return g.maximum(g.number(fitting - 1), number(g, 1)), fitting + 2


def state_bytes(steps: Steps, numbers: int) -> Size:
    """The bytes of a state and so many whole numbers."""
    state = size(I64.bytes * numbers)
    for at in steps.kept:
        type_ = steps.start[at].type
        assert isinstance(type_, Array)
        state = state + product(type_.shape) * type_.dtype.bytes
    return state


def rows_of(rows: Size, value: Value) -> Array:
    """The type of so many arrays."""
    assert isinstance(value.type, Array)
    return Array(value.type.dtype, (rows, *value.type.shape))
