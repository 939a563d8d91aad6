"""Lowering of ops that move or make arrays.

Broadcasts, slices and transposes are views; nothing is copied until an op needs the entries in a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dgraph.ir.graph import Node
from dgraph.ir.places import Turn
from dgraph.kernels.bind import SHOWN_VALUES
from dgraph.kernels.lowering import compare, conjunction
from dgraph.kernels.nests import (
    Apply,
    Buffer,
    Extent,
    Literal,
    Load,
    Store,
    machine_type,
    number,
)
from dgraph.kernels.notices import Check
from dgraph.kernels.scope import Scope, parts_of
from dgraph.kernels.views import View, whole
from dgraph.sizes import Size, size
from dgraph.types import Array

if TYPE_CHECKING:
    from dgraph.kernels.lower import GraphLowering


def _array(value: Any) -> Array:
    assert isinstance(value.type, Array)
    return value.type


def _constant(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    scope.bindings[node.result] = lowering.constant(op.number.item(), op.dtype)


def _size(_lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    scope.bindings[node.result] = Extent(op.value)


def _same(_lowering: GraphLowering, scope: Scope, node: Node) -> None:
    scope.bindings[node.result] = scope.bindings[node.operands[0]]


def _broadcast(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    """A scalar is kept in one entry that every index reads; for memory that must be filled it is filled."""
    (given,) = node.operands
    result = _array(node.result)
    found = scope.bindings[given]
    if isinstance(found, View):
        scope.bindings[node.result] = found.broadcast(result.shape)
        return
    if not result.rank:
        scope.bindings[node.result] = found
        return
    value = scope.expression(given)
    if node.result in scope.targets:
        view = lowering.allocate(scope, node.result)
        lowering.fill(view, value)
        scope.bindings[node.result] = view
        return
    for extent in result.shape:
        lowering.extents.setdefault(extent)
    buffer = Buffer(node.result.name or "repeated", machine_type(result.dtype), size(1))
    lowering.emit(Store(buffer, number(0), value))
    if isinstance(value, Literal):
        lowering.literals[buffer] = value
    scope.bindings[node.result] = View(buffer, number(0), result.shape, (size(0),) * result.rank)


def _reshape(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    (given,) = node.operands
    result = _array(node.result)
    found = scope.bindings[given]
    if not isinstance(found, View):
        if not result.rank:
            scope.bindings[node.result] = found
            return
        view = lowering.allocate(scope, node.result)
        lowering.emit(Store(view.buffer, view.offset, scope.expression(given)))
        scope.bindings[node.result] = view
        return
    if not result.rank:
        scope.bindings[node.result] = lowering.let(node.result.name, Load(found.buffer, found.offset))
        return
    moved = found.reshaped(result.shape)
    if moved is None:
        target = lowering.allocate(scope, node.result)
        back = target.reshaped(found.shape)
        if back is None:
            back = whole(target.buffer, found.shape)
        lowering.copy(back, found)
        moved = target
    scope.bindings[node.result] = moved


def _transpose(_lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    scope.bindings[node.result] = scope.view(node.operands[0]).transposed(op.axes)


def _slice(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    view = scope.view(node.operands[0])
    _check_places(lowering, node, view.shape, op.shape)
    scope.bindings[node.result] = view.sliced(op.starts, op.steps, op.shape)


def _check_places(lowering: GraphLowering, node: Node, shape: tuple[Size, ...], count: tuple[Size, ...]) -> None:
    """The places that a slice means must lie in the array, unless there are none."""
    op: Any = node.op
    for start, step, extent, many in zip(op.starts, op.steps, shape, count, strict=True):
        last = start + (many - 1) * step
        low, high = (start, last) if step > 0 else (last, start)
        # The start is in range by itself; where nothing is taken the other end does not matter.
        if low.is_nonnegative() and (extent - 1 - high).is_nonnegative():
            continue
        if many == extent and low.constant == 0 and abs(step) == 1:
            continue
        empty = compare("less_equal", Extent(many), number(0))
        inside = conjunction(
            [
                compare("greater_equal", Extent(low), number(0)),
                compare("less", Extent(high), Extent(extent)),
            ]
        )
        title = f"{many} entries from {start} in steps of {step} leave an axis of length {extent}"
        check = Check(title, (), (), node.span, "while this was computed")
        lowering.fail_unless(Apply("logical_or", "bool", (empty, inside)), check)


def _unslice(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    if not op.shape:
        scope.bindings[node.result] = scope.bindings[node.operands[0]]
        return
    source = scope.view(node.operands[0])
    _check_places(lowering, node, op.shape, source.shape)
    view = lowering.allocate(scope, node.result)
    zero = lowering.constant(0, _array(node.result).dtype)
    lowering.fill(view, zero)
    lowering.copy(view.sliced(op.starts, op.steps, source.shape), source)
    scope.bindings[node.result] = view


def _concat(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    view = lowering.allocate(scope, node.result)
    for operand, part in zip(node.operands, parts_of(node, view), strict=True):
        assert part is not None
        lowering.copy(part, scope.view(operand))
    scope.bindings[node.result] = view


def _at_step(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    """What follows in the region is a step of a loop."""
    lowering.turns.append((Turn(node.span), (scope.expression(node.operands[0]),)))


def _check(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    """An assertion: the program stops where it does not hold."""
    op: Any = node.op
    if not lowering.checks_on:
        return
    predicate, *values = node.operands
    pairs = zip(op.names or ("",) * len(values), values, strict=True)
    scalars = [(name, value) for name, value in pairs if not _array(value).shape][:SHOWN_VALUES]
    names, shown = tuple(name for name, _ in scalars), [scope.expression(value) for _, value in scalars]
    check = Check(op.message or "a check failed", names, tuple(value.type for value in shown), node.span)
    lowering.fail_unless(scope.expression(predicate), check, shown)


def _iota(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    view = lowering.allocate(scope, node.result)
    lowering.each(view, lambda at: lowering.emit(Store(view.buffer, view.index(at), at[0])))
    scope.bindings[node.result] = view


RULES = {
    "constant": _constant,
    "size": _size,
    "stop_gradient": _same,
    "after": _same,
    "broadcast": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "unslice": _unslice,
    "concat": _concat,
    "at_step": _at_step,
    "check": _check,
    "iota": _iota,
}
