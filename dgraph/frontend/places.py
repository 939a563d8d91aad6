"""Places on the left of a binding: the value with an entry, a slice or a field replaced.

Writes are functional: each gives the changed array; whether it is changed in place is decided when memory is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from dgraph.errors import NotSupported, SizeMismatch, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.coercion import coerce
from dgraph.frontend.context import Context
from dgraph.frontend.numbers import agree, is_number, shape_text, spread
from dgraph.frontend.ranges import holds
from dgraph.frontend.subscripts import (
    At,
    Gather,
    Pick,
    Run,
    as_i64,
    at_number,
    index_entry,
    picks_of,
    read,
    result_shape,
    tuple_position,
    whole_axis,
)
from dgraph.frontend.values import Binding, Bound, Leaf, RecordValue, TupleValue, describe, type_of
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.check import Check
from dgraph.sizes import Size, size
from dgraph.types import Accumulator, Array, Shape

Change = Callable[[Callable[[], Bound]], Bound]
"""Gives the new value of a place; its argument reads the old one."""


def modify(ctx: Context, value: Bound, parts: Sequence[t.At | t.FieldOf], change: Change, span: Span) -> Bound:
    """The value with the place that `parts` lead to changed."""
    if not parts:
        return change(lambda: value)
    part, rest = parts[0], parts[1:]
    if isinstance(part, t.FieldOf):
        if not isinstance(value, RecordValue) or part.name not in value.fields:
            fields = value.fields if isinstance(value, RecordValue) else {}
            note = f"its fields are {', '.join(f'`{name}`' for name in fields)}" if fields else ""
            said = f"this is of {describe(value)}"
            raise TypeMismatch.at(part.span, f"there is no field `{part.name}` here", said, note=note)
        held = value.fields[part.name]
        new, kept = modify(ctx, held, rest, change, span), None if rest else type_of(held)
        if kept is not None:
            declared = next((field.span for field in value.declaration.fields if field.name == part.name), None)
            new = coerce(ctx, new, kept, span, declared=declared, widen=True)
        return replace(value, fields={**value.fields, part.name: new})
    if isinstance(value, TupleValue):
        position = tuple_position(ctx, part.subscripts, len(value.items), part.span)
        items = list(value.items)
        items[position] = modify(ctx, items[position], rest, change, span)
        return TupleValue(tuple(items))
    if isinstance(value, RecordValue):
        picks = picks_of(ctx, part.subscripts, value.axes, part.span)
    elif isinstance(value, Leaf):
        picks = picks_of(ctx, part.subscripts, value.shape, part.span)
    else:
        raise TypeMismatch.at(part.span, "this has no axes to index", f"this is {describe(value)}")
    new = modify(ctx, read(ctx, value, picks), rest, change, span) if rest else change(lambda: read(ctx, value, picks))
    return write(ctx, value, picks, new, span)


def write(ctx: Context, value: Bound, picks: Sequence[Pick], new: Bound, span: Span) -> Bound:
    """The array, or every leaf of the array of records, with the picked part replaced."""
    if isinstance(value, RecordValue):
        fields = {}
        for name, held in value.fields.items():
            part = new.fields.get(name) if isinstance(new, RecordValue) else new
            if part is None or (isinstance(new, RecordValue) and new.declaration is not value.declaration):
                raise TypeMismatch.at(span, f"a {value.name} is wanted here", f"this is {describe(new)}")
            fields[name] = write(ctx, held, picks, part, span)
        return replace(value, fields=fields)
    if isinstance(value, TupleValue):
        if not isinstance(new, TupleValue) or len(new.items) != len(value.items):
            raise TypeMismatch.at(span, f"{describe(value)} is wanted here", f"this is {describe(new)}")
        pairs = zip(value.items, new.items, strict=True)
        return TupleValue(tuple(write(ctx, held, picks, part, span) for held, part in pairs))
    assert isinstance(value, Leaf)
    whole = [whole_axis(extent, span) for extent in value.shape[len(picks) :]]
    return _write_leaf(ctx, value, [*picks, *whole], new, span)


def _fits(shape: Shape, place: Shape) -> bool:
    """Whether an array of a shape can fill a place of another, without stretching the place."""
    ends = zip(reversed(shape), reversed(place), strict=False)
    return len(shape) <= len(place) and all(a == b or a.is_literal_one for a, b in ends)


def entry_for(ctx: Context, value: Leaf, shape: Shape, new: Bound, span: Span) -> Leaf:
    """A new value brought to the dtype of the array and the shape of the place."""
    if value.weak and is_number(new):
        agree(ctx, [Binding(value, span), Binding(new, span)])
    if isinstance(new, Leaf) and new.shape:
        if not _fits(new.shape, shape):
            wanted = f"the shape {shape_text(shape)}" if shape else "one number"
            raise SizeMismatch.at(span, f"{wanted} is wanted here", f"the shape is {shape_text(new.shape)}")
        new = spread(ctx, new, shape)
    entry = coerce(ctx, new, Array(value.dtype, shape), span, widen=True)
    assert isinstance(entry, Leaf)
    return entry


def _write_leaf(ctx: Context, leaf: Leaf, picks: Sequence[Pick], new: Bound, span: Span) -> Leaf:
    entry = entry_for(ctx, leaf, result_shape(picks), new, span)
    return Leaf(write_entry(ctx, leaf.value, picks, entry.value, span), leaf.weak, leaf.soft)


def write_entry(ctx: Context, value: Value, picks: Sequence[Pick], entry: Value, span: Span) -> Value:
    """An array with the picked part replaced by an entry of its shape."""
    g = ctx.g
    if any(isinstance(pick, Gather) for pick in picks):
        note = "say the indices: `x[p[i]] = v[i] for i`; or add up with `+=`"
        raise NotSupported.at(span, "writing through an array of indices is not supported yet", note=note)
    lead = 0
    while lead < len(picks) and isinstance(picks[lead], At):
        lead += 1
    if lead == 0:
        if all(isinstance(pick, Run) and pick.is_full for pick in picks):
            return entry
        return write_by_space(ctx, value, picks, entry)
    first = [pick for pick in picks[:lead] if isinstance(pick, At)]
    rest = picks[lead:]
    if any(not (isinstance(pick, Run) and pick.is_full) for pick in rest):
        entry = write_entry(ctx, index_entry(g, value, first), rest, entry, span)
    policy = "proven" if all(pick.is_proven for pick in first) else "error"
    return g.set_at(value, *(at_number(g, pick) for pick in first), entry, policy=policy)


def write_by_space(
    ctx: Context, value: Value, picks: Sequence[Pick], entry: Value, *, is_checked: bool = False
) -> Value:
    """At each point of the array: the new entry if the point is picked, else the old one. `is_checked` if places
    outside of the array are seen to elsewhere."""
    g, type_ = ctx.g, value.type
    assert isinstance(type_, Array)
    for pick, extent in zip(picks, type_.shape, strict=True):
        if not is_checked:
            require_inside(ctx, pick, extent)
    used = len(picks)
    while isinstance(picks[used - 1], Run) and picks[used - 1].is_full:  # type: ignore[union-attr]
        used -= 1

    def point(h: Builder, *at: Value) -> Value:
        inside: list[Value] = []
        where: list[Value] = []
        for pick, extent, position in zip(picks[:used], type_.shape, at, strict=False):
            if isinstance(pick, At):
                inside.append(h.equal(position, at_number(h, pick)))
            elif isinstance(pick, Run) and pick.is_full:
                where.append(position)
            else:
                assert isinstance(pick, Run)
                where.append(_place_in_run(h, pick, extent, position, inside))
        taken = inside[0]
        for test in inside[1:]:
            taken = h.logical_and(taken, test)
        (result,) = h.if_(
            taken,
            lambda s: [s.index(entry, *where, policy="proven") if where else entry],
            lambda s: [s.index(value, *at, policy="proven")],
        )
        return result

    return g.map(type_.shape[:used], point)


def require_inside(ctx: Context, pick: Pick, extent: Size) -> None:
    """Check, as the program runs, that a place to be written is inside, unless that is proven."""
    g = ctx.g
    if isinstance(pick, At):
        if pick.is_proven:
            return
        first = last = at_number(g, pick)
    elif isinstance(pick, Run) and not pick.is_full:
        start = pick.first
        end = start + (pick.length - 1) * pick.step
        ends = (start, end) if pick.step > 0 else (end, start)
        if all(holds(wanted, ctx.ranges, ctx.facts) for wanted in (ends[0], extent - 1 - ends[1])):
            return
        first = pick.start.value if isinstance(pick.start, Leaf) else g.number(pick.start)
        last = g.add(first, g.number((pick.length - 1) * pick.step))
    else:
        return
    low, high = (first, last) if not isinstance(pick, Run) or pick.step > 0 else (last, first)
    inside = g.logical_and(g.greater_equal(low, g.number(0)), g.less(high, g.number(extent)))
    g.apply(Check(message="this write leaves its axis", names=("first", "last")), inside, low, high)


def _place_in_run(h: Builder, pick: Run, extent: Size, position: Value, inside: list[Value]) -> Value:
    """The step of a run that stands at a position; the conditions that there is one are added to `inside`."""
    start = pick.start.value if isinstance(pick.start, Leaf) else h.number(pick.start)
    away = h.sub(position, start) if pick.step > 0 else h.sub(start, position)
    step = abs(pick.step)
    if not (isinstance(pick.start, Size) and pick.start == size(0) and pick.step > 0):
        inside.append(h.greater_equal(away, h.number(0)))
    if step != 1:
        stride = h.number(step)
        inside.append(h.equal(h.mod(away, stride), h.number(0)))
        away = h.floor_divide(away, stride)
    reaches_end = isinstance(pick.start, Size) and step == 1 and pick.step > 0 and pick.start + pick.length == extent
    if not reaches_end or not inside:
        inside.append(h.less(away, h.number(pick.length)))
    return away


def add_through(ctx: Context, value: Leaf, picks: Sequence[Pick], new: Bound, span: Span) -> Leaf:
    """`x[p] += v` through an array of indices: entries that meet add up."""
    gathers = [pick for pick in picks if isinstance(pick, Gather)]
    entry = entry_for(ctx, value, result_shape(picks), new, span)
    if len(gathers) != 1 or picks[0] is not gathers[0]:
        title = "this write through an array of indices is not supported yet"
        note = "say the indices: `x[0, p[k]] += v[k] for k`"
        raise NotSupported.at(span, title, "the array of indices does not stand first, alone", note=note)
    (gather,) = gathers

    def point(h: Builder, at: list[Value], _threaded: list[Value], own: list[Value]) -> list[Value]:
        to = as_i64(h, h.index(gather.indices.value, *at, policy="proven"))
        return [h.accumulate(own[0], to, h.index(entry.value, *at, policy="proven"))]

    buffer = Accumulator(value.dtype, value.shape)
    (added,) = ctx.g.space(gather.indices.shape, point, buffers=[buffer])
    return Leaf(ctx.g.add(value.value, added), value.weak, value.soft)
