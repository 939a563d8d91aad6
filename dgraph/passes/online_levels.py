"""`@checkpoint(slots=c, disk=d)` on a `while`: c states in memory and d on disk, of nobody knows how many steps.

The loop is cut into stretches of as many steps as are between two states on disk where that costs least in the long
run (`ops.two_levels`). The states of a stretch are kept in memory by the rule of `online_slots`, as if the loop began
with it. When it ends, the state it began with, which never gives way, goes to disk, and memory is used for the next
one. On disk the same rule holds with a stretch for a step. So a loop that is shorter than a stretch writes nothing,
and memory and disk never hold more than c and d states.

Afterwards the number of steps is known. What memory holds are states of the last stretch: that is reversed first, as
with `slots` alone. Then every stretch between two states on disk is reversed by the schedule for two levels, with the
room on disk that the states before it leave.
"""

from __future__ import annotations

from typing import ClassVar

from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.disk import DiskDistance, DiskDrop, DiskWrite
from dgraph.ops.index import Undefined
from dgraph.passes.levels import Levels, TwoStacks
from dgraph.passes.online_slots import OnlineSlots, Placement
from dgraph.passes.rerun import number
from dgraph.types import I64, Array


class OnlineLevels(Levels):
    """One pair whose first loop is a `while`."""

    numbers: ClassVar[int] = OnlineSlots.numbers

    def forward(self, g: Builder) -> list[Value]:
        """The carries of the loop, which now keeps states on its way."""
        steps, carries, zero = self.steps, len(self.steps.carries), number(g, 0)
        # The newest state is at work, and its row is one more than the slots: that is how one slot is enough.
        room = g.maximum(self.count, number(g, 2))
        distance = g.emit(DiskDistance(), self.count, self.disk)
        table = Array(I64, (self.rows_on_disk,))
        memory = Placement.opened(g, *self._open(g))
        orders, tickets = (g.emit(Undefined(table), name=name) for name in ("orders_written", "tickets"))
        disk = Placement.opened(g, orders, [tickets])
        first = carries + 2
        second = first + len(memory.values)

        def goes_on(h: Builder, carried: list[Value]) -> Value:
            return steps.goes_on(h, carried[:carries])

        def step(h: Builder, carried: list[Value]) -> list[Value]:
            now, order, begin = carried[:carries], carried[carries], carried[carries + 1]
            kept, written = Placement.of(carried[first:second]), Placement.of(carried[second:])
            ends = self._ends_stretch(h, written, h.sub(order, begin), distance)

            def write(i: Builder) -> list[Value]:
                return [order, *self._written(i, kept, written, begin).values]

            start, *others = h.if_(ends, write, lambda _: [begin, *written.values])
            kept = kept.without_states(h, ends).with_state(h, room, order, [now[at] for at in steps.kept])
            found = steps.run(h, steps.whole, order, dict(enumerate(now)))
            return [*found, h.add(order, number(h, 1)), start, *kept.values, *others]

        results = g.while_([*steps.start, zero, zero, *memory.values, *disk.values], goes_on, step)
        steps.count = results[-1]
        self.stack = self._stacks(g, Placement.of(results[first:second]), Placement.of(results[second:-1]))
        return list(results[:carries])

    def _ends_stretch(self, g: Builder, written: Placement, length: Value, distance: Value) -> Value:
        """Whether a stretch of so many steps has ended. With room for one state on disk it is that before the first
        step, and what follows is one stretch."""
        goes_on = g.logical_and(g.less_equal(self.disk, number(g, 1)), g.greater(written.used, number(g, 0)))
        return g.logical_and(g.greater_equal(length, distance), g.logical_not(goes_on))

    def _written(self, g: Builder, kept: Placement, written: Placement, start: Value) -> Placement:
        """With the first state in memory, that of the step `start`, on disk too."""
        (ticket,) = written.leaving(g, self.disk)
        g.emit(DiskDrop(), ticket)
        state = [g.index(row, number(g, 0), policy="proven") for row in kept.rows]
        return written.with_state(g, self.disk, start, [g.emit(DiskWrite(), *state, name="ticket")])

    def _stacks(self, g: Builder, kept: Placement, written: Placement) -> TwoStacks:
        """The states in memory and on disk, in the order of time."""
        memory = kept.as_stack(g, self.steps.count)
        places, orders = written.in_order(g)
        (unsorted,) = written.rows

        def sort(h: Builder, at: Value, carried: list[Value], _walked: list[Value]) -> list[Value]:
            row = h.index(places, at, policy="proven")
            return [h.set_at(carried[0], at, h.index(unsorted, row, policy="proven"), policy="proven")]

        (tickets,) = g.for_(written.used, [g.emit(Undefined(orders.type), name="tickets")], sort)
        parts = memory.top, memory.depth, memory.orders, memory.rows, memory.moved
        return TwoStacks(*parts, written=written.used, orders_written=orders, tickets=tickets)
