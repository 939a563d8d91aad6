"""Carries that count: integers that grow by the same amount at every step, so that they follow from its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dgraph.ir.build import Builder
from dgraph.ir.graph import Node, Value
from dgraph.ops.arithmetic import Add, Sub
from dgraph.ops.control import For
from dgraph.ops.values import Cast, Constant
from dgraph.types import I64, Array


@dataclass(frozen=True)
class Counter:
    """A carry of a loop: `start`, and after every step `by` more, or less. Integers wrap, so order does not matter.

    `start`, a `by` that is captured, and `count` are values outside of the loop.
    """

    dtype: Any
    start: Value
    by: Value | int
    is_down: bool
    count: Value | None

    def at(self, g: Builder, index: Value, outside: Callable[[Value], Value]) -> Value:
        """The carry before the step with an index, in another loop of as many steps; `outside` captures a value."""
        order = index
        if self.count is not None:
            last = g.sub(g.maximum(outside(self.count), g.constant(0, I64)), g.constant(1, I64))
            order = g.sub(last, index)
        if self.dtype is not I64:
            order = g.emit(Cast(self.dtype), order)
        by = g.constant(self.by, self.dtype) if isinstance(self.by, int) else outside(self.by)
        far = g.mul(order, by)
        return g.emit(Sub() if self.is_down else Add(), outside(self.start), far)


def counters(loop: Node) -> dict[Value, Counter]:
    """The carries of a loop that count, by inputs of its body."""
    op: Any = loop.op
    body = loop.regions[-1]
    lead = int(isinstance(op, For))
    first = op.leading_operands()
    captured = dict(zip(body.inputs[first:], loop.operands[first:], strict=True))
    count = loop.operands[0] if isinstance(op, For) and op.reverse else None
    found = {}
    for at in range(op.carries):
        value, maker = body.inputs[lead + at], body.producers.get(body.outputs[at])
        if not isinstance(value.type, Array) or value.type.shape or value.type.dtype.kind != "int":
            continue
        if maker is None or not isinstance(maker.op, Add | Sub) or value not in maker.operands:
            continue
        is_down = isinstance(maker.op, Sub)
        other = maker.operands[1] if maker.operands[0] is value else maker.operands[0]
        if other is value or (is_down and maker.operands[0] is not value):
            continue
        by = body.producers.get(other)
        if other in captured:
            found[value] = Counter(value.type.dtype, loop.operands[lead + at], captured[other], is_down, count)
        elif by is not None and isinstance(by.op, Constant):
            found[value] = Counter(value.type.dtype, loop.operands[lead + at], int(by.op.number), is_down, count)
    return found
