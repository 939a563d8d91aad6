"""`@checkpoint(every=k)`: a pair of loops in blocks of k steps.

The forward loop keeps its carries at the start of each block. The backward loop takes the blocks last first: it runs
the steps of a block again, now with tapes, and walks these. Memory is that of the carries n / k times and of k steps;
every step is run twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.passes.rerun import Steps, Turn, number, put_rows, undefined
from dgraph.sizes import Size


class Blocks:
    """One pair; `g` builds the region in which the loops stand."""

    def __init__(self, g: Builder, steps: Steps, every: Size | int) -> None:
        self.steps = steps
        self.every = number(g, every)
        self.count = g.floor_divide(g.add(steps.count, number(g, every - 1)), self.every)
        length = steps.op.length
        self.length = None if length is None else (length + every - 1) // every
        self.starts: Sequence[Value] = ()

    def forward(self, g: Builder) -> list[Value]:
        """The carries and stacks of the loop, which now keeps the start of each block."""
        steps = self.steps
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
        results = g.for_(self.count, [*steps.start, *stacks], block, tapes=kept, length=self.length)
        self.starts = results[len(results) - kept :]
        return list(results[: len(results) - kept])

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
