"""`@checkpoint(slots=c)` on a loop in the body of another one, which keeps all of its own steps.

The inner loop runs once in each step of the outer one before any of them is reversed. If it filled its slots then,
those of all its runs would be in memory at once. So it runs plainly and only its start is kept. When a step of the
outer loop is reversed the inner one starts again, with slots, and with a known number of steps: one run more of them.
"""

from __future__ import annotations

from dataclasses import replace

from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.graph import Region, Value
from dgraph.ops.control import For, While
from dgraph.passes.levels import Levels
from dgraph.passes.rerun import Turn
from dgraph.passes.slots import Slots


class LateSlots(Slots):
    """One pair whose loops stand in the bodies of two others."""

    def forward(self, g: Builder) -> list[Value]:
        """The carries and stacks of the loop, which keeps nothing."""
        steps, node = self.steps, self.steps.node
        op, body = node.op, node.regions[-1]
        assert isinstance(op, For | While)
        plain = replace(op, tapes=0, slots=None, every=None, budget=None, disk=None)
        kept = len(steps.carries) + len(steps.stacks)
        step = remove_dead_code(Region(body.inputs, body.nodes, body.outputs[:kept]))
        names = [value.name for value in node.results[:kept]]
        results = g.apply(plain, *node.operands, regions=[*node.regions[:-1], step], names=names)
        if not steps.is_counted:
            steps.count = results[-1]
        return list(results[:kept])

    def backward(self, g: Builder, turn: Turn) -> list[Value]:
        """The carries, stacks and tapes of a loop that walked the tapes. Each such loop has slots of its own, so it is
        the last to use what they hold."""
        with g.at(derived=self.steps.node.derived):
            self.stack = self._started(g)
        return super().backward(g, replace(turn, is_last=True))


class LateLevels(LateSlots, Levels):
    """The same with room for states on disk."""
