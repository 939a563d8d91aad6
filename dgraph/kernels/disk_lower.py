"""Lowering of states on disk: a call for each array of a state, and a stop where one of them met a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dgraph.ir.graph import Node
from dgraph.kernels.lowering import compare
from dgraph.kernels.nests import FAULT, Buffer, Expression, If, Load, Place, Routine, Store, number
from dgraph.kernels.notices import Check
from dgraph.kernels.scope import Scope
from dgraph.kernels.views import View
from dgraph.sizes import Size, size
from dgraph.types import Array

if TYPE_CHECKING:
    from dgraph.kernels.lower import GraphLowering


def _numbers(name: str, count: int) -> Buffer:
    """Memory for numbers that a call is given and gives."""
    return Buffer(name, "i64", size(count))


def _place(view: View) -> Place:
    return Place(view.buffer, view.offset)


def _call(
    lowering: GraphLowering, node: Node, type_: str, written: list[Place], read: list[Place], *sizes: Size
) -> None:
    lowering.emit(Routine(node.op.name, type_, tuple(written), tuple(read), sizes, node.span))


def _found(lowering: GraphLowering, node: Node, place: Buffer, name: str, least: int) -> Expression:
    """The number that a call left; the program stops where that is a fault."""
    found = lowering.let(name, Load(place, number(0)))
    check = Check("a state on disk", ("",), (FAULT,), node.span, "this loop keeps states on disk", True)
    lowering.fail_unless(compare("greater_equal", found, number(least)), check, [found])
    return found


def _write(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    ticket = _numbers("ticket", 1)
    lowering.emit(Store(ticket, number(0), number(0)))
    for value in node.operands:
        assert isinstance(value.type, Array)
        binding = scope.bindings[value]
        if isinstance(binding, View):
            state = lowering.compact(binding, "state")
        else:
            state = lowering.temporary("state", value.type)
            lowering.put(state, binding)
        _call(lowering, node, state.buffer.type, [Place(ticket, number(0))], [_place(state)], state.entries)
    scope.bindings[node.result] = _found(lowering, node, ticket, "ticket", 1)


def _read(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    ticket = _numbers("ticket", 2)
    given, is_last = map(scope.expression, node.operands)
    lowering.emit(Store(ticket, number(0), given))
    lowering.emit(If(is_last, (Store(ticket, number(1), number(1)),), (Store(ticket, number(1), number(0)),)))
    states = []
    for part, value in enumerate(node.results):
        assert isinstance(value.type, Array)
        target = scope.targets.get(value)
        if target is None or not target.is_compact:
            target = lowering.temporary(value.name or "state", value.type)
        written = [_place(target), Place(ticket, number(0))]
        _call(lowering, node, target.buffer.type, written, [], size(part), target.entries)
        states.append(target)
    _found(lowering, node, ticket, "ticket", 1)
    for value, state in zip(node.results, states, strict=True):
        if state.shape:
            scope.bindings[value] = state
            scope.owned.add(state.buffer)
        else:
            scope.bindings[value] = lowering.let(value.name or "state", Load(state.buffer, state.offset))


def _choice(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    given = _numbers("given", len(node.operands))
    for at, value in enumerate(node.operands):
        lowering.emit(Store(given, number(at), scope.expression(value)))
    _call(lowering, node, "i64", [Place(given, number(0))], [])
    scope.bindings[node.result] = _found(lowering, node, given, node.op.name.removeprefix("disk_"), 0)


RULES = {
    "disk_write": _write,
    "disk_read": _read,
    **dict.fromkeys(("disk_drop", "disk_distance", "disk_advance", "disk_worth"), _choice),
}
