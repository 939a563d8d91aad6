"""Integers of a graph as polynomials, to see whether two indices are equal or never meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dgraph.ir.graph import Node, Value
from dgraph.ops.values import Constant, SizeValue
from dgraph.sizes import Size, size, variable

Maker = Callable[[Value], Node | None]
"""What makes a value; None for an input of the region."""


def index_form(maker: Maker, value: Value) -> Size:
    """An i64 value as a polynomial of sizes and of the values that it is made of."""
    node = maker(value)
    if node is None:
        return variable(value)
    if isinstance(node.op, SizeValue):
        return node.op.value
    if isinstance(node.op, Constant):
        return size(int(node.op.number))
    if node.op.name in ("add", "sub", "mul"):
        left, right = (index_form(maker, operand) for operand in node.operands)
        return left + right if node.op.name == "add" else left - right if node.op.name == "sub" else left * right
    return variable(value)


def meet(maker: Maker, one: Sequence[Value], other: Sequence[Value]) -> bool | None:
    """Whether indices name the same place: True if always, as far as both go, False if never, else None."""
    truth: bool | None = True
    for left, right in zip(one, other, strict=False):
        distance = (index_form(maker, left) - index_form(maker, right)).constant
        if distance is not None and distance != 0:
            return False
        if distance is None:
            truth = None
    return truth
