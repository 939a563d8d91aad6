"""`@checkpoint(slots=c, disk=d)`: a pair of loops with room for c states in memory and for d on disk.

States in memory stand on a stack, as with `slots` alone, and those on disk on a stack below it: the order of the step
whose state it is, and the ticket under which the state was written. As long as states go to disk, the only state in
memory is a copy of the topmost there. `ops.two_levels` says how far to advance from such a state, whether the one
reached is written too, and when to go on in memory only, by the schedule of one level. Where memory is empty before a
step is reversed, the topmost state on disk is read, the last time if what is left is reversed in memory only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.disk import DiskAdvance, DiskRead, DiskWorth, DiskWrite
from dgraph.ops.index import Undefined
from dgraph.ops.two_levels import MOST
from dgraph.passes.rerun import Steps, Turn, number, put_rows
from dgraph.passes.slots import Slots, Stack, split, state_bytes
from dgraph.sizes import Size, bytes_in, size
from dgraph.types import BOOL, I64, Array

NUMBERS = 2
"""How many whole numbers go with a state on disk."""


@dataclass(frozen=True, kw_only=True)
class TwoStacks(Stack):
    """The stack in memory, and of that on disk how many states it holds, the orders of their steps, and the tickets."""

    written: Value
    orders_written: Value
    tickets: Value

    @property
    def values(self) -> list[Value]:
        """As carries."""
        return [*super().values, *self.on_disk]

    @property
    def on_disk(self) -> list[Value]:
        """The carries of the stack on disk."""
        return [self.written, self.orders_written, self.tickets]

    def of(self, values: Sequence[Value]) -> Self:
        """From carries."""
        return super().of(values[:-3]).with_disk(values[-3:])

    def with_disk(self, on_disk: Sequence[Value]) -> Self:
        """With other carries of the stack on disk."""
        return replace(self, written=on_disk[0], orders_written=on_disk[1], tickets=on_disk[2])

    def popped(self, g: Builder) -> Self:
        """Without the top row in memory. Where none is left, the top comes before every step."""
        memory = super().popped(g)
        return replace(memory, top=g.select(g.greater(memory.depth, number(g, 0)), memory.top, number(g, -1)))

    def highest(self, g: Builder) -> tuple[Value, Value]:
        """The order and the ticket of the topmost state on disk. Where there is none they mean nothing."""
        at = g.maximum(g.sub(self.written, number(g, 1)), number(g, 0))
        return g.index(self.orders_written, at, policy="proven"), g.index(self.tickets, at, policy="proven")


class Levels(Slots):
    """One pair; `g` builds the region in which the loops stand. There is room for `count` states in memory and for
    `disk` on disk."""

    def __init__(self, g: Builder, steps: Steps, count: Value, rows: Size, disk: Value, rows_on_disk: Size) -> None:
        super().__init__(g, steps, count, rows)
        self.disk = disk
        self.rows_on_disk = rows_on_disk
        self.keeps_until: Value | None = None

    def _started(self, g: Builder) -> TwoStacks:
        memory = super()._started(g)
        table = Array(I64, (self.rows_on_disk,))
        orders, tickets = (g.emit(Undefined(table), name=name) for name in ("orders_written", "tickets"))
        parts = memory.top, memory.depth, memory.orders, memory.rows
        start = TwoStacks(*parts, written=number(g, 0), orders_written=orders, tickets=tickets)
        state = [self.steps.start[at] for at in self.steps.kept]
        return self._with_written(g, start, self._is_worth(g, start, self.steps.count), state)

    def backward(self, g: Builder, turn: Turn) -> list[Value]:
        """The carries, stacks and tapes of a loop that walked the tapes. A loop that is not the last to do so leaves
        the states on disk that the forward loop wrote: those with tickets up to that of the topmost."""
        self.keeps_until = None
        if not turn.is_last:
            assert isinstance(self.stack, TwoStacks)
            _, ticket = self.stack.highest(g)
            self.keeps_until = g.select(g.greater(self.stack.written, number(g, 0)), ticket, number(g, 0))
        return super().backward(g, turn)

    def _room(self, g: Builder, stack: TwoStacks) -> Value:
        return g.sub(self.disk, stack.written)

    def _is_worth(self, g: Builder, stack: TwoStacks, left: Value) -> Value:
        """Whether to write a state if so many steps are to be reversed from it."""
        found = g.emit(DiskWorth(), left, self.count, self.disk, self._room(g, stack))
        return g.greater(found, number(g, 0))

    def _advance_from_disk(self, g: Builder, stack: TwoStacks, left: Value) -> Value:
        """How far to advance from the topmost state on disk if so many steps are to be reversed from it."""
        room = g.add(self._room(g, stack), number(g, 1))
        return g.emit(DiskAdvance(), left, self.count, self.disk, room)

    def _with_written(self, g: Builder, stack: TwoStacks, is_wanted: Value, state: Sequence[Value]) -> TwoStacks:
        """With the state on top in memory written to disk if that is wanted."""

        def write(h: Builder) -> list[Value]:
            ticket = h.emit(DiskWrite(), *state, name="ticket")
            tables = put_rows(h, [stack.orders_written, stack.tickets], stack.written, [stack.top, ticket])
            return [h.add(stack.written, number(h, 1)), *tables]

        return stack.with_disk(g.if_(is_wanted, write, lambda _: stack.on_disk))

    def _refilled(self, g: Builder, stack: TwoStacks, order: Value) -> TwoStacks:
        """With the topmost state on disk read, if there is none in memory."""
        one = number(g, 1)

        def read(h: Builder) -> list[Value]:
            found, ticket = stack.highest(h)
            left = h.add(h.sub(order, found), one)
            is_last = h.equal(self._advance_from_disk(h, stack, left), number(h, 0))
            types = [self.steps.start[at].type for at in self.steps.kept]
            op = DiskRead(tuple(type_ for type_ in types if isinstance(type_, Array)))
            is_given_back = is_last
            if self.keeps_until is not None:
                is_given_back = h.logical_and(is_last, h.greater(ticket, self.keeps_until))
            memory = stack.pushed(h, found, h.apply(op, ticket, is_given_back))
            return replace(memory, written=h.select(is_last, h.sub(stack.written, one), stack.written)).values

        return stack.of(g.if_(g.equal(stack.depth, number(g, 0)), read, lambda _: stack.values))

    def _advanced(
        self, g: Builder, stack: Stack, order: Value, along: Sequence[Value] | None
    ) -> tuple[Stack, Sequence[Value]]:
        """One advance: to a state that may go to disk, or within memory."""
        assert isinstance(stack, TwoStacks)
        if along is None:
            stack = self._refilled(g, stack, order)
        zero, one = number(g, 0), number(g, 1)
        left = g.add(g.sub(order, stack.top), one)
        found, _ = stack.highest(g)
        is_copy = g.logical_and(g.greater(stack.written, zero), g.equal(found, stack.top))
        spare = g.add(g.sub(self.count, stack.depth), one)
        (far,) = g.if_(
            is_copy,
            lambda h: [self._advance_from_disk(h, stack, left)],
            lambda h: [split(h, left, spare)],
        )
        moved = self._moved(g, stack, far, along)
        state = moved if along is None else [moved[at] for at in self.steps.kept]
        # A copy of a state on disk gives way to the state that is reached, and so does a state that stays where it is.
        gives_way = g.logical_or(is_copy, g.equal(far, zero))
        depth = g.select(gives_way, g.sub(stack.depth, one), stack.depth)
        top = g.add(stack.top, far)
        reached = replace(stack, depth=depth).pushed(g, top, state)
        (is_worth,) = g.if_(
            is_copy,
            lambda h: [self._is_worth(h, reached, h.sub(left, far))],
            lambda h: [h.constant(False, BOOL)],
        )
        return self._with_written(g, reached, is_worth, state), moved


def states_on_disk(g: Builder, steps: Steps, disk: Size | int | str) -> tuple[Value, Size]:
    """For how many states there is room on disk, at least one, and how many rows the tables of them have."""
    if isinstance(disk, Size):
        return g.minimum(number(g, disk), number(g, MOST)), size(MOST)
    if isinstance(disk, int):
        return number(g, min(disk, MOST)), size(min(disk, MOST))
    total = bytes_in(disk)
    assert total is not None
    fitting = size(total) // state_bytes(steps, NUMBERS)
    return g.minimum(g.maximum(g.number(fitting), number(g, 1)), number(g, MOST)), size(MOST)
