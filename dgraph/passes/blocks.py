"""`@checkpoint(every=k)`: a pair of loops in blocks of k steps.

The forward loop keeps its carries at the start of each block. The backward loop takes the blocks last first: it runs
the steps of a block again, now with tapes, and walks these. Memory is that of the carries n / k times and of k steps;
every step is run twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.control import While
from dgraph.passes.rerun import Steps, Turn, loop_op, number, put_rows, undefined
from dgraph.sizes import Size


class Blocks:
    """One pair; `g` builds the region in which the loops stand. There are `count` blocks."""

    count: Value

    def __init__(self, g: Builder, steps: Steps, every: Size | int) -> None:
        self.steps = steps
        self.every = number(g, every)
        self.size = every
        self.starts: Sequence[Value] = ()

    def forward(self, g: Builder) -> list[Value]:
        """The carries and stacks of the loop, which now keeps the start of each block."""
        return self._counted(g) if self.steps.is_counted else self._conditional(g)

    def _counted(self, g: Builder) -> list[Value]:
        steps = self.steps
        self.count = g.floor_divide(g.add(steps.count, number(g, self.size - 1)), self.every)
        op = loop_op(steps.node)
        length = None if op.length is None else (op.length + self.size - 1) // self.size
        carries = len(steps.carries)
        stacks = [undefined(g, value) for value in steps.node.results[carries : carries + len(steps.stacks)]]

        def block(h: Builder, at: Value, carried: list[Value], _walked: list[Value]) -> list[Value]:
            first, trips = self._extent(h, at)

            def step(h: Builder, within: Value, now: list[Value], _walked: list[Value]) -> list[Value]:
                index = steps.index(h, h.add(first, within))
                found = steps.run(h, steps.whole, index, dict(enumerate(now[:carries])))
                return [*found[:carries], *put_rows(h, now[carries:], index, found[carries:])]

            after = h.for_(trips, carried, step)
            return [*after, *(carried[at] for at in steps.kept)]

        kept = len(steps.kept)
        results = g.for_(self.count, [*steps.start, *stacks], block, tapes=kept, length=length)
        self.starts = results[len(results) - kept :]
        return list(results[: len(results) - kept])

    def _conditional(self, g: Builder) -> list[Value]:
        """That of a `while`, whose condition is asked once before each step: the answer is carried."""
        steps, carries = self.steps, len(self.steps.carries)

        def goes_on(h: Builder, carried: list[Value]) -> Value:
            return h.logical_and(carried[carries], h.less(carried[carries + 1], self.every))

        def step(h: Builder, carried: list[Value]) -> list[Value]:
            within = carried[carries + 1]
            found = steps.run(h, steps.whole, within, dict(enumerate(carried[:carries])))
            return [*found, steps.goes_on(h, found), h.add(within, number(h, 1))]

        def block(h: Builder, carried: list[Value]) -> list[Value]:
            found = h.while_([*carried[: carries + 1], number(h, 0)], goes_on, step)
            done = h.add(carried[carries + 1], found[carries + 1])
            return [*found[: carries + 1], done, *(carried[at] for at in steps.kept)]

        start = [*steps.start, steps.goes_on(g, steps.start), number(g, 0)]
        bound = steps.op.bound if isinstance(steps.op, While) else None
        blocks = None if bound is None or not isinstance(self.size, int) else -(-bound // self.size)
        kept = len(steps.kept)
        results = g.while_(start, lambda _, carried: carried[carries], block, tapes=kept, bound=blocks)
        steps.count, self.count = results[carries + 1], results[-1]
        self.starts = results[carries + 2 : -1]
        return list(results[:carries])

    def backward(self, g: Builder, turn: Turn) -> list[Value]:
        """The carries and stacks of a loop that walked the tapes."""
        steps, carries = self.steps, turn.op.carries
        stacks = [undefined(g, value) for value in turn.stacked]

        def block(h: Builder, at: Value, carried: list[Value], start: list[Value]) -> list[Value]:
            first, trips = self._extent(h, at)

            def again(h: Builder, within: Value, now: list[Value], _walked: list[Value]) -> list[Value]:
                index = steps.index(h, h.add(first, within))
                return steps.run(h, steps.both, index, dict(zip(steps.kept, now, strict=True)))

            def back(h: Builder, within: Value, now: list[Value], entries: list[Value]) -> list[Value]:
                index = steps.index(h, h.add(first, within))
                found = turn.run(h, index, now[:carries], entries, ())
                return [*found[:carries], *put_rows(h, now[carries:], index, found[carries:])]

            tapes = len(steps.tapes)
            with h.at(derived=steps.node.derived):
                taped = h.for_(trips, start, again, tapes=tapes)
            return list(h.for_(trips, carried, back, walks=taped[len(taped) - tapes :], reverse=True))

        return list(g.for_(self.count, [*turn.start, *stacks], block, walks=self.starts, reverse=True))

    def _extent(self, h: Builder, at: Value) -> tuple[Value, Value]:
        """The first step of a block and how many it has."""
        first = h.mul(at, self.every)
        return first, h.minimum(h.sub(self.steps.count, first), self.every)
