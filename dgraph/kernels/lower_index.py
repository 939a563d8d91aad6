"""Lowering of reads and writes at indices, and of accumulators.

An access that may leave its array is checked, clipped or dropped as its policy says. Accesses that are in range by
construction (a loop index along an axis of that extent, and sums of such) get no check.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dgraph.ir.graph import Node
from dgraph.kernels.lowering import COMBINE, compare, conjunction
from dgraph.kernels.nests import Apply, Expression, Extent, If, Let, Literal, Load, Local, machine_type, number
from dgraph.kernels.notices import Check
from dgraph.kernels.scope import NO_TAPE, Scope
from dgraph.kernels.views import View, as_static
from dgraph.ops.index import SetAt, is_start, neutral
from dgraph.sizes import Size
from dgraph.types import Accumulator, Array, Tape

if TYPE_CHECKING:
    from dgraph.kernels.lower import GraphLowering


def bounds(lowering: GraphLowering, expression: Expression) -> tuple[Size, Size] | None:
    """The least and greatest value that an index can have, as far as its form tells."""
    static = as_static(expression)
    if static is not None:
        return static, static
    match expression:
        case Local():
            return lowering.bounds.get(expression)
        case Apply(op="add" | "sub" | "mul" as op, operands=(left, right)):
            one, other = bounds(lowering, left), bounds(lowering, right)
            if one is None or other is None:
                return None
            if op == "add":
                return one[0] + other[0], one[1] + other[1]
            if op == "sub":
                return one[0] - other[1], one[1] - other[0]
            factor = as_static(right)
            if factor is not None and factor.is_nonnegative():
                return one[0] * factor, one[1] * factor
            if factor is not None and (-factor).is_nonnegative():
                return one[1] * factor, one[0] * factor
    return None


def unproven(
    lowering: GraphLowering, indices: Sequence[Expression], shape: Sequence[Size]
) -> list[tuple[Expression, Size, bool, bool]]:
    """The indices that may be out of range, each with its extent and whether each end may be passed."""
    found = []
    for index, extent in zip(indices, shape, strict=False):
        known = bounds(lowering, index)
        below = known is None or not known[0].is_nonnegative()
        above = known is None or not (extent - 1 - known[1]).is_nonnegative()
        if below or above:
            found.append((index, extent, below, above))
    return found


def inside(doubtful: Sequence[tuple[Expression, Size, bool, bool]]) -> Expression:
    """Whether all doubtful indices are in range."""
    conditions = []
    for index, extent, below, above in doubtful:
        if below:
            conditions.append(compare("greater_equal", index, number(0)))
        if above:
            conditions.append(compare("less", index, Extent(extent)))
    return conjunction(conditions)


def guard(
    lowering: GraphLowering, node: Node, policy: str, indices: list[Expression], view: View
) -> tuple[list[Expression], Expression | None]:
    """Indices made safe under a policy, and the condition under which the access happens at all (None: always)."""
    if policy == "error" and not lowering.checks_on:
        policy = "clip" if node.op.name == "index" else "drop"
    doubtful = [] if policy == "proven" else unproven(lowering, indices, view.shape)
    if not doubtful:
        return indices, None
    if policy == "clip":
        clipped: list[Expression] = []
        for index, extent in zip(indices, view.shape, strict=False):
            below = Apply("minimum", "i64", (index, Extent(extent - 1)))
            clipped.append(lowering.let("clipped", Apply("maximum", "i64", (below, number(0)))))
        # An empty axis has no nearest entry.
        empty = [extent for extent in view.shape[: len(indices)] if not (extent - 1).is_nonnegative()]
        held = [compare("greater", Extent(extent), number(0)) for extent in dict.fromkeys(empty)]
        return clipped, conjunction(held) if held else None
    if policy == "drop":
        return indices, inside(doubtful)
    extents = view.shape[: len(indices)]
    places = [f"{{{position}}}" for position in range(2 * len(indices))]
    title = f"index {_tuple(places[: len(indices)])} is out of range for the shape {_tuple(places[len(indices) :])}"
    check = Check(title, ("",) * len(places), ("i64",) * len(places), node.span, "while this was computed", True)
    lowering.fail_unless(inside(doubtful), check, [*indices, *map(Extent, extents)])
    return indices, None


def _tuple(texts: Sequence[str]) -> str:
    """How Python shows a tuple."""
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def _index(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    array, *rest = node.operands
    if not rest:
        scope.bindings[node.result] = scope.bindings[array]
        return
    view = scope.view(array)
    indices, condition = guard(lowering, node, op.policy, [scope.expression(value) for value in rest], view)
    result = node.result.type
    assert isinstance(result, Array)
    place = view.at(indices)
    if result.rank:
        if condition is None:
            scope.bindings[node.result] = _apart(lowering, scope, node, place)
            return
        into = lowering.allocate(scope, node.result)
        with lowering.block() as then:
            lowering.copy(into, place)
        with lowering.block() as otherwise:
            lowering.fill(into, lowering.constant(0, result.dtype))
        lowering.emit(If(condition, tuple(then), tuple(otherwise)))
        scope.bindings[node.result] = into
    elif condition is None:
        known = lowering.literals.get(view.buffer)
        scope.bindings[node.result] = known or lowering.let(
            node.result.name or array.name or "entry", Load(place.buffer, place.offset)
        )
    else:
        local = lowering.let(node.result.name or "read", lowering.constant(0, result.dtype))
        lowering.emit(If(condition, (Let(local, Load(place.buffer, place.offset)),)))
        scope.bindings[node.result] = local


def _apart(lowering: GraphLowering, scope: Scope, node: Node, place: View) -> View:
    """A part of an array; where the array is updated and the part goes out, a copy, so that the update needs none."""
    users = scope.region.users[node.operands[0]]
    if node.result not in scope.targets or not any(isinstance(user.op, SetAt) for user in users):
        return place
    into = lowering.allocate(scope, node.result)
    lowering.copy(into, place)
    return into


def _set_at(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    """In place where nothing reads the old array any more, else on a copy."""
    op: Any = node.op
    array, *rest, entry = node.operands
    view = scope.view(array)
    value = scope.bindings[entry]
    if isinstance(value, View) and value.buffer is view.buffer:
        apart = lowering.temporary("entry", Array(_dtype(node), value.shape))
        lowering.copy(apart, value)
        value = apart
    is_dense = all(
        stride.terms or extent.is_literal_one for stride, extent in zip(view.strides, view.shape, strict=True)
    )
    is_constant = view.buffer in lowering.literals
    if is_constant or not is_dense or not scope.is_free(view.buffer):
        reason = lowering.why_not_in_place(scope, view)
        fresh = lowering.allocate(scope, node.result)
        lowering.copy(fresh, view, reason, node.span)
        view = fresh
    indices, condition = guard(lowering, node, op.policy, [scope.expression(value) for value in rest], view)
    with lowering.block() as body:
        lowering.put(view.at(indices), value)
    if condition is None:
        lowering.out.extend(body)
    else:
        lowering.emit(If(condition, tuple(body)))
    scope.bindings[node.result] = view


def _dtype(node: Node) -> Any:
    type_ = node.result.type
    assert isinstance(type_, Array | Accumulator)
    return type_.dtype


def open_accumulator(lowering: GraphLowering, type_: Accumulator, target: View | None, name: str) -> View | Local:
    """A fresh accumulator: a local for rank 0, else a buffer filled with the neutral element."""
    start = _neutral(type_)
    if not type_.shape:
        return lowering.let(name or "total", start)
    view = target if target is not None else lowering.temporary(name or "total", type_)
    lowering.fill(view, start)
    return view


def _neutral(type_: Accumulator) -> Literal:
    return Literal(_plain(neutral(type_)), machine_type(type_.dtype))


def _plain(value: Any) -> float | int | bool:
    found: float | int | bool = value.item() if hasattr(value, "item") else value
    return found


def _fresh(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    type_ = node.result.type
    assert isinstance(type_, Accumulator)
    users = scope.region.users.get(node.result, ())
    if len(users) == 1 and is_start(users[0], node):
        # Opened where it gets its first array.
        return
    scope.bindings[node.result] = open_accumulator(lowering, type_, scope.targets.get(node.result), node.result.name)


def _freeze(_lowering: GraphLowering, scope: Scope, node: Node) -> None:
    found = scope.bindings[node.operands[0]]
    scope.bindings[node.result] = found
    if isinstance(found, View):
        scope.owned.add(found.buffer)


def _accumulate(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    accumulator, *rest, entry = node.operands
    type_ = accumulator.type
    assert isinstance(type_, Accumulator)
    if accumulator not in scope.bindings:
        _start_from(lowering, scope, node)
        return
    found = scope.bindings[accumulator]
    scope.bindings[node.result] = found
    value = scope.bindings[entry]
    if isinstance(found, Local):
        term = scope.expression(entry)
        lowering.emit(Let(found, Apply(COMBINE[type_.kind], found.type, (found, term))))
        return
    assert isinstance(found, View)
    indices, condition = guard(lowering, node, op.policy, [scope.expression(value) for value in rest], found)
    with lowering.block() as body:
        lowering.update(found.at(indices), value, type_.kind)
    if condition is None:
        lowering.out.extend(body)
    else:
        lowering.emit(If(condition, tuple(body)))


def _start_from(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    """An accumulator that starts as an array: in its memory where nothing reads the array any more, else in a copy."""
    view = scope.view(node.operands[1])
    if not view.is_compact or view.buffer in lowering.literals or not scope.is_free(view.buffer):
        apart = lowering.allocate(scope, node.result)
        lowering.copy(apart, view)
        view = apart
    scope.bindings[node.result] = view
    scope.owned.add(view.buffer)


def _zero_tape(_lowering: GraphLowering, scope: Scope, node: Node) -> None:
    scope.bindings[node.result] = NO_TAPE


def _undefined(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    """What is never read: any memory will do."""
    type_ = node.result.type
    if isinstance(type_, Tape):
        scope.bindings[node.result] = NO_TAPE
    elif type_.shape:
        scope.bindings[node.result] = lowering.allocate(scope, node.result)
    else:
        scope.bindings[node.result] = lowering.constant(0, type_.dtype)


RULES = {
    "index": _index,
    "set_at": _set_at,
    "fresh": _fresh,
    "freeze": _freeze,
    "accumulate": _accumulate,
    "zero_tape": _zero_tape,
    "undefined": _undefined,
}
