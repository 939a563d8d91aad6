"""`@checkpoint(slots=c)` on a `while`: c states are kept though nobody knows how many steps there will be.

While the loop runs, the state before each step is kept, by the rule of Wang, Moin and Iaccarino. Each kept state has a
level: the first one the highest, and is never dropped; any other has level 0 at first. When there is no room a state
gives way: the latest of those that have a later state of a higher level, or where there is none the newest, and then
the state that takes its row is one level above it.

States that have a later one of a higher level come next to each other: they stand before the last state that was
raised. The order of the states is a chain of rows: `before` leads from each row to that of the state before. So a step
costs a few integer ops, however many slots there are.

Afterwards the number of steps is known. The rows in the order of their states are the stack of `slots`, and the
backward loop is the same: it uses the rows of states that are reversed already, and those that were never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.passes.rerun import number, put_rows, undefined
from dgraph.passes.slots import Slots, Stack

HIGHEST = 2**62
"""The level of the first state."""


@dataclass(frozen=True)
class Placement:
    """The kept states: how many rows are in use, the row of the newest state and that of the last one raised; for each
    row the level, the row of the state before, the order of the step, and the state."""

    used: Value
    newest: Value
    raised: Value
    levels: Value
    before: Value
    orders: Value
    rows: tuple[Value, ...]

    @property
    def values(self) -> list[Value]:
        """As carries."""
        return [self.used, self.newest, self.raised, self.levels, self.before, self.orders, *self.rows]

    @staticmethod
    def opened(g: Builder, orders: Value, rows: Sequence[Value]) -> Placement:
        """With no state."""
        zero = number(g, 0)
        levels, before = (g.set_at(undefined(g, orders), zero, zero, policy="proven") for _ in range(2))
        return Placement(zero, zero, zero, levels, before, orders, tuple(rows))

    @staticmethod
    def of(values: Sequence[Value]) -> Placement:
        """From carries."""
        used, newest, raised, levels, before, orders, *rows = values
        return Placement(used, newest, raised, levels, before, orders, tuple(rows))

    def _next(self, g: Builder, room: Value) -> tuple[Value, Value, Value, Value]:
        """Whether there is room for one more state, whether one gives way for which a later one stands, the row before
        the last one raised, and the row of the next state."""

        def at(array: Value, row: Value) -> Value:
            return g.index(array, row, policy="proven")

        is_room = g.less(self.used, room)
        last = at(self.before, self.raised)
        is_spare = g.less(at(self.levels, last), at(self.levels, self.raised))
        return is_room, is_spare, last, g.select(is_room, self.used, g.select(is_spare, last, self.newest))

    def leaving(self, g: Builder, room: Value) -> list[Value]:
        """The state that gives way to the next one; 0 where none does."""
        is_room, _, _, row = self._next(g, room)
        at = g.select(is_room, number(g, 0), row)
        found = [g.index(array, at, policy="proven") for array in self.rows]
        return [g.select(is_room, number(g, 0), value) for value in found]

    def with_state(self, g: Builder, room: Value, order: Value, state: Sequence[Value]) -> Placement:
        """With one more state, where there is room for so many."""

        def at(array: Value, row: Value) -> Value:
            return g.index(array, row, policy="proven")

        zero, one = number(g, 0), number(g, 1)
        is_room, is_spare, last, row = self._next(g, room)
        is_new = g.logical_or(is_room, is_spare)
        level = g.select(is_new, zero, g.add(at(self.levels, self.newest), one))
        level = g.select(g.equal(self.used, zero), number(g, HIGHEST), level)
        (before,) = put_rows(g, [self.before], self.raised, [g.select(is_spare, at(self.before, last), last)])
        below = g.select(is_new, self.newest, at(before, self.newest))
        used = g.select(is_room, g.add(self.used, one), self.used)
        raised = g.select(is_new, self.raised, self.newest)
        arrays = [self.levels, before, self.orders, *self.rows]
        return Placement.of([used, row, raised, *put_rows(g, arrays, row, [level, below, order, *state])])

    def without_states(self, g: Builder, is_wanted: Value) -> Placement:
        """With no state, if that is wanted."""
        zero = number(g, 0)
        used, newest, raised = (g.select(is_wanted, zero, value) for value in (self.used, self.newest, self.raised))
        return replace(self, used=used, newest=newest, raised=raised)

    def in_order(self, g: Builder) -> tuple[Value, Value]:
        """The rows and the orders of the states in the order of time."""
        one = number(g, 1)

        def place(h: Builder, step: Value, carried: list[Value], _walked: list[Value]) -> list[Value]:
            row, places, orders = carried
            depth = h.sub(h.sub(self.used, step), one)
            order = h.index(self.orders, row, policy="proven")
            below = h.index(self.before, row, policy="proven")
            return [below, *put_rows(h, [places, orders], depth, [row, order])]

        places, orders = undefined(g, self.orders), undefined(g, self.orders)
        _, places, orders = g.for_(self.used, [self.newest, places, orders], place)
        return places, orders

    def as_stack(self, g: Builder, steps: Value) -> Stack:
        """The states as they are after so many steps, the newest on top."""
        places, orders = self.in_order(g)
        return Stack(g.sub(steps, number(g, 1)), self.used, orders, self.rows, (places, self.used))


class OnlineSlots(Slots):
    """One pair whose first loop is a `while`."""

    numbers: ClassVar[int] = 4

    def forward(self, g: Builder) -> list[Value]:
        """The carries of the loop, which now keeps states on its way."""
        steps, carries, zero = self.steps, len(self.steps.carries), number(g, 0)
        # The newest state is at work, and its row is one more than the slots: that is how one slot is enough.
        room = g.maximum(self.count, number(g, 2))
        empty = Placement.opened(g, *self._open(g))

        def goes_on(h: Builder, carried: list[Value]) -> Value:
            return steps.goes_on(h, carried[:carries])

        def step(h: Builder, carried: list[Value]) -> list[Value]:
            order, now = carried[carries], carried[:carries]
            kept = Placement.of(carried[carries + 1 :]).with_state(h, room, order, [now[at] for at in steps.kept])
            found = steps.run(h, steps.whole, order, dict(enumerate(now)))
            return [*found, h.add(order, number(h, 1)), *kept.values]

        results = g.while_([*steps.start, zero, *empty.values], goes_on, step)
        steps.count = results[-1]
        self.stack = Placement.of(results[carries + 1 : -1]).as_stack(g, steps.count)
        return list(results[:carries])
