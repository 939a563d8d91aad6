"""Carried integers that follow from the number of the step, so that no tape has to hold them.

A carry to which each step adds the same number, or takes it away, is its start and so many times that number: integers
wrap, so this is exact. `i += 1` in a `while` is the common case.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.errors import Span
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import OPS
from dgraph.types import Array


@dataclass(frozen=True)
class Induction:
    """The carry at `place`: the input `value` of the body, to which `op` adds or takes `step`, which is at hand
    everywhere or the result of `constant`."""

    value: Value
    place: int
    op: str
    step: Value
    constant: Node | None
    span: Span

    def nodes(self, start: Value, order: Value) -> list[Node]:
        """Nodes that compute the carry at the step of an order; the result of the last one is `value` itself."""
        type_ = self.value.type
        assert isinstance(type_, Array)
        found: list[Node] = []
        step = self.step
        if self.constant is not None:
            step = Value(step.type, step.name)
            found.append(replace(self.constant, results=(step,)))
        if type_ != order.type:
            found.append(self._node("cast", [order], Value(type_), dtype=type_.dtype))
            order = found[-1].result
        moved = self._node("mul", [order, step], Value(type_))
        return [*found, moved, self._node(self.op, [start, moved.result], self.value)]

    def _node(self, name: str, operands: list[Value], result: Value, **facts: object) -> Node:
        return Node(OPS[name](**facts), tuple(operands), (result,), (), self.span)


def inductions(body: Region, first: int, carries: int, fixed: Collection[Value]) -> dict[Value, Induction]:
    """The carries of a body, its inputs from `first` on, that are of this kind; `fixed` values are those of no step."""
    makers = {result: node for node in body.nodes for result in node.results}
    found = {}
    for place in range(carries):
        value, maker = body.inputs[first + place], makers.get(body.outputs[place])
        if not _is_integer(value) or maker is None or maker.op.name not in ("add", "sub"):
            continue
        left, right = maker.operands
        if right is value and maker.op.name == "add":
            left, right = right, left
        constant = makers.get(right)
        if left is value and (right in fixed or (constant is not None and constant.op.name == "constant")):
            found[value] = Induction(
                value, place, maker.op.name, right, None if right in fixed else constant, maker.span
            )
    return found


def _is_integer(value: Value) -> bool:
    type_ = value.type
    return isinstance(type_, Array) and not type_.shape and type_.dtype.kind == "int"
