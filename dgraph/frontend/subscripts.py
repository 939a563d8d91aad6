"""Subscripts: reading entries, slices and gathers of arrays, and writing to such places.

A read by integers is an `index` node, a slice with static bounds a `slice` node; gathers and slices whose start is
only known as the program runs become index spaces. Writes are functional: each gives the changed array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dgraph.errors import NotSupported, SizeMismatch, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.coercion import coerce
from dgraph.frontend.context import Context, evaluates
from dgraph.frontend.numbers import (
    affine_of,
    agree,
    broadcast_shapes,
    counted,
    index_value,
    is_number,
    shape_text,
    spread,
)
from dgraph.frontend.ranges import Read, is_inside
from dgraph.frontend.values import (
    Binding,
    Bound,
    Extent,
    Leaf,
    Literal,
    RecordValue,
    ShapeValue,
    TupleValue,
    describe,
)
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.sizes import Size, size
from dgraph.types import I64, Accumulator, Array, Shape


@dataclass(frozen=True)
class At:
    """One entry of an axis. `static` is its position where that is a size."""

    index: Leaf | None
    static: Size | None
    is_proven: bool
    span: Span


@dataclass(frozen=True)
class Run:
    """Entries of an axis from a start in steps; the start is a size, or known only as the program runs."""

    start: Size | Leaf
    step: int
    length: Size
    is_full: bool
    span: Span


@dataclass(frozen=True)
class Gather:
    """The entries of an axis that an array of integers lists."""

    indices: Leaf
    span: Span


Pick = At | Run | Gather


# ---- reading subscripts ---------------------------------------------------------------------------------------------


def picks_of(ctx: Context, subscripts: Sequence[t.Expression], shape: Shape, span: Span) -> list[Pick]:
    """One pick per axis; axes that no subscript names are taken whole."""
    rests = [at for at, subscript in enumerate(subscripts) if isinstance(subscript, t.Rest)]
    if len(rests) > 1:
        raise TypeMismatch.at(subscripts[rests[1]].span, "only one `...` fits into a subscript")
    given = len(subscripts) - len(rests)
    if given > len(shape):
        title = (
            f"{counted(given, 'subscript')} for {'1 axis' if len(shape) == 1 else f'{len(shape)} axes'}"
            if shape
            else "a scalar has no axes to index"
        )
        raise TypeMismatch.at(subscripts[-1].span, title, f"the shape is {shape_text(shape)}" if shape else "")
    cut = rests[0] if rests else given
    before, after = subscripts[:cut], subscripts[cut + 1 :] if rests else []
    middle = [_whole(extent, span) for extent in shape[len(before) : len(shape) - len(after)]]
    lead = [pick_of(ctx, one, extent) for one, extent in zip(before, shape, strict=False)]
    tail = [pick_of(ctx, one, extent) for one, extent in zip(after, shape[len(shape) - len(after) :], strict=True)]
    return [*lead, *middle, *tail]


def _whole(extent: Size, span: Span) -> Run:
    return Run(size(0), 1, extent, True, span)


def pick_of(ctx: Context, subscript: t.Expression, extent: Size) -> Pick:
    """What one subscript takes of its axis."""
    if isinstance(subscript, t.Slice):
        return _run_of(ctx, subscript, extent)
    value = ctx.evaluate(subscript)
    if isinstance(value, Leaf) and value.shape:
        if value.dtype.kind == "bool":
            note = "choose with `where`, or sum with a guard"
            raise TypeMismatch.at(subscript.span, "a mask is not a subscript", describe(value), note=note)
        if value.dtype.kind != "int":
            raise TypeMismatch.at(subscript.span, "subscripts are integers", describe(value))
        return Gather(value, subscript.span)
    return at_of(ctx, value, extent, subscript.span)


def at_of(ctx: Context, value: Bound, extent: Size, span: Span) -> At:
    """One entry of an axis at an integer."""
    if isinstance(value, Literal) and type(value.value) is int and value.value < 0:
        value = Extent(extent + value.value)
    static = affine_of(value) if isinstance(value, Literal | Extent) else None
    affine = affine_of(value)
    if static is not None:
        room = (extent - 1 - static).constant
        if (static.constant is not None and static.constant < 0) or (room is not None and room < 0):
            raise SizeMismatch.at(span, "this index is out of range", f"entry {static} of an axis of length {extent}")
    if ctx.reads is not None and affine is not None:
        ctx.reads.append(Read(affine, extent, span, ctx.is_guarded))
    is_proven = affine is not None and is_inside(affine, extent, ctx.ranges, ctx.facts)
    leaf = index_value(ctx, Binding(value, span)) if static is None else None
    return At(leaf, static, is_proven, span)


def _run_of(ctx: Context, node: t.Slice, extent: Size) -> Run:
    step = 1
    if node.step is not None:
        held = ctx.evaluate(node.step)
        if not isinstance(held, Literal) or type(held.value) is not int or held.value == 0:
            raise TypeMismatch.at(node.step.span, "the step of a slice is a literal that is not 0", describe(held))
        step = held.value
    first = None if node.start is None else _bound_of(ctx, node.start, extent)
    last = None if node.stop is None else _bound_of(ctx, node.stop, extent)
    start = (size(0) if step > 0 else extent - 1) if first is None else _affine(first, node)
    stop = (extent if step > 0 else size(-1)) if last is None else _affine(last, node)
    distance = stop - start if step > 0 else start - stop
    length = (distance + (abs(step) - 1)) // abs(step)
    if any(not isinstance(atom, str) for atom in length.atoms() if atom in ctx.ranges):
        raise SizeMismatch.at(
            node.span,
            "the length of this slice is not a size",
            f"it is {length}",
            note="its two bounds may move, but by the same amount: `x[s * k : (s + 1) * k]`",
        )
    room = (extent - stop if step > 0 else extent - 1 - start).constant
    if (length.constant is not None and length.constant < 0) or (room is not None and room < 0):
        raise SizeMismatch.at(node.span, "this slice leaves the axis", f"the axis has length {extent}")
    is_full = first is None and last is None and step == 1
    moving = isinstance(first, Leaf)
    return Run(first if moving and isinstance(first, Leaf) else start, step, length, is_full, node.span)


def _bound_of(ctx: Context, node: t.Expression, extent: Size) -> Bound:
    value = ctx.evaluate(node)
    if isinstance(value, Literal) and type(value.value) is int and value.value < 0:
        return Extent(extent + value.value)
    if isinstance(value, Literal | Extent) and affine_of(value) is not None:
        return value
    return index_value(ctx, Binding(value, node.span))


def _affine(bound: Bound, node: t.Slice) -> Size:
    known = affine_of(bound)
    if known is None:
        note = "write the bounds with sizes and loop variables, or use an index formula"
        raise NotSupported.at(node.span, "the length of this slice cannot be found", note=note)
    return known


# ---- reading --------------------------------------------------------------------------------------------------------


@evaluates(t.Index)
def index(ctx: Context, node: t.Index) -> Bound:
    """`x[i, 1:-1]`."""
    base = ctx.evaluate(node.base)
    if isinstance(base, TupleValue | ShapeValue):
        return _item(ctx, base, node)
    if isinstance(base, RecordValue):
        if not base.axes:
            raise TypeMismatch.at(node.base.span, f"a {base.name} is not an array", note="its parts have names: `p.w`")
        return read(ctx, base, picks_of(ctx, node.subscripts, base.axes, node.span))
    if not isinstance(base, Leaf):
        raise TypeMismatch.at(node.base.span, "this has no axes to index", f"this is {describe(base)}")
    return read(ctx, base, picks_of(ctx, node.subscripts, base.shape, node.span))


def _item(ctx: Context, base: TupleValue | ShapeValue, node: t.Index) -> Bound:
    items = base.items if isinstance(base, TupleValue) else tuple(Extent(extent) for extent in base.shape)
    position = tuple_position(ctx, node.subscripts, len(items), node.span)
    return items[position]


def tuple_position(ctx: Context, subscripts: Sequence[t.Expression], count: int, span: Span) -> int:
    """The literal position that selects an item of a tuple."""
    held = ctx.evaluate(subscripts[0]) if len(subscripts) == 1 else None
    if not isinstance(held, Literal) or type(held.value) is not int:
        raise TypeMismatch.at(span, "a tuple is indexed by one literal integer", note="its items may differ in type")
    position = held.value + count if held.value < 0 else held.value
    if not 0 <= position < count:
        raise TypeMismatch.at(span, f"this tuple has {count} items", f"item {held.value}")
    return position


def read(ctx: Context, value: Bound, picks: Sequence[Pick]) -> Bound:
    """The picked part of an array, or of every leaf of an array of records."""
    if isinstance(value, RecordValue):
        kept = _result_shape(picks[: len(value.axes)])
        return replace(value, axes=kept, fields={name: read(ctx, held, picks) for name, held in value.fields.items()})
    if isinstance(value, TupleValue):
        return TupleValue(tuple(read(ctx, item, picks) for item in value.items))
    assert isinstance(value, Leaf)
    whole = [_whole(extent, ctx.g.span) for extent in value.shape[len(picks) :]]
    return _read_leaf(ctx, value, [*picks, *whole])


def _result_shape(picks: Sequence[Pick]) -> Shape:
    shape: list[Size] = []
    for pick in picks:
        if isinstance(pick, Run):
            shape.append(pick.length)
        elif isinstance(pick, Gather):
            shape.extend(pick.indices.shape)
    return tuple(shape)


def _read_leaf(ctx: Context, leaf: Leaf, picks: Sequence[Pick]) -> Leaf:
    g = ctx.g
    lead = 0
    while lead < len(picks) and isinstance(picks[lead], At):
        lead += 1
    value = leaf.value
    if lead:
        value = _index(g, value, [pick for pick in picks[:lead] if isinstance(pick, At)])
        picks = picks[lead:]
    if any(isinstance(pick, Gather) or (isinstance(pick, Run) and isinstance(pick.start, Leaf)) for pick in picks):
        value = _read_by_space(ctx, value, picks)
    elif any(not (isinstance(pick, Run) and pick.is_full) for pick in picks):
        value = _read_by_slice(g, value, picks)
    return Leaf(value, leaf.weak, leaf.soft)


def at_number(g: Builder, pick: At) -> Value:
    """The position of an entry as an i64."""
    if pick.static is not None:
        return g.number(pick.static)
    assert pick.index is not None
    return pick.index.value


def _index(g: Builder, value: Value, picks: Sequence[At]) -> Value:
    policy = "proven" if all(pick.is_proven for pick in picks) else "error"
    return g.index(value, *(at_number(g, pick) for pick in picks), policy=policy)


def _read_by_slice(g: Builder, value: Value, picks: Sequence[Pick]) -> Value:
    """Static slices, then the axes at one entry: static ones dropped, others brought to the front and indexed."""
    starts: list[Size] = []
    steps: list[int] = []
    shape: list[Size] = []
    assert isinstance(value.type, Array)
    for pick, extent in zip(picks, value.type.shape, strict=True):
        if isinstance(pick, Run):
            assert isinstance(pick.start, Size)
            starts, steps, shape = [*starts, pick.start], [*steps, pick.step], [*shape, pick.length]
        else:
            assert isinstance(pick, At)
            static = pick.static
            starts, steps = [*starts, size(0) if static is None else static], [*steps, 1]
            shape.append(extent if static is None else size(1))
    if tuple(shape) != value.type.shape or any(step != 1 for step in steps):
        value = g.slice(value, starts=tuple(starts), steps=tuple(steps), shape=tuple(shape))
    kept = [pick for pick in picks if not (isinstance(pick, At) and pick.static is not None)]
    if len(kept) < len(picks):
        left = zip(picks, shape, strict=True)
        shape = [extent for pick, extent in left if not (isinstance(pick, At) and pick.static is not None)]
        value = g.reshape(value, shape=tuple(shape))
    moving = [at for at, pick in enumerate(kept) if isinstance(pick, At)]
    if moving:
        rest = [at for at in range(len(kept)) if at not in moving]
        value = g.transpose(value, axes=(*moving, *rest))
        value = _index(g, value, [pick for pick in kept if isinstance(pick, At)])
    return value


def _read_by_space(ctx: Context, value: Value, picks: Sequence[Pick]) -> Value:
    """An index space over the axes of the result, up to the last axis that is not taken whole."""
    used = len(picks)
    while isinstance(picks[used - 1], Run) and picks[used - 1].is_full:  # type: ignore[union-attr]
        used -= 1
    extents = _result_shape(picks[:used])

    def point(h: Builder, *at: Value) -> Value:
        indices: list[Value] = []
        rest = list(at)
        checked = False
        for pick in picks[:used]:
            if isinstance(pick, At):
                indices.append(at_number(h, pick))
                checked = checked or not pick.is_proven
            elif isinstance(pick, Gather):
                taken, rest = rest[: len(pick.indices.shape)], rest[len(pick.indices.shape) :]
                found = h.index(pick.indices.value, *taken, policy="proven")
                indices.append(as_i64(h, found))
                checked = True
            else:
                indices.append(_along(h, pick, rest[0]))
                checked = checked or not pick.is_full
                rest = rest[1:]
        return h.index(value, *indices, policy="error" if checked else "proven")

    return ctx.g.map(extents, point)


def _along(h: Builder, pick: Run, position: Value) -> Value:
    """`start + step * position`."""
    moved = position if pick.step == 1 else h.mul(position, h.number(pick.step))
    if isinstance(pick.start, Leaf):
        return h.add(pick.start.value, moved)
    return moved if pick.start == size(0) else h.add(h.number(pick.start), moved)


def as_i64(h: Builder, value: Value) -> Value:
    """An integer as an i64."""
    assert isinstance(value.type, Array)
    return value if value.type.dtype == I64 else h.cast(value, dtype=I64)


# ---- writing --------------------------------------------------------------------------------------------------------

Change = Callable[[Callable[[], Bound]], Bound]
"""Gives the new value of a place; its argument reads the old one."""


def modify(ctx: Context, value: Bound, parts: Sequence[t.At | t.FieldOf], change: Change, span: Span) -> Bound:
    """The value with the place that `parts` lead to changed."""
    if not parts:
        return change(lambda: value)
    part, rest = parts[0], parts[1:]
    if isinstance(part, t.FieldOf):
        if not isinstance(value, RecordValue) or part.name not in value.fields:
            raise TypeMismatch.at(part.span, f"there is no field `{part.name}` here", f"this is {describe(value)}")
        return replace(
            value, fields={**value.fields, part.name: modify(ctx, value.fields[part.name], rest, change, span)}
        )
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
    whole = [_whole(extent, span) for extent in value.shape[len(picks) :]]
    return _write_leaf(ctx, value, [*picks, *whole], new, span)


def entry_for(ctx: Context, value: Leaf, shape: Shape, new: Bound, span: Span) -> Leaf:
    """A new value brought to the dtype of the array and the shape of the place."""
    if value.weak and is_number(new):
        agree(ctx, [Binding(value, span), Binding(new, span)])
    if isinstance(new, Leaf) and new.shape:
        if broadcast_shapes([(shape, span), (new.shape, span)]) != shape:
            wanted = f"the shape {shape_text(shape)}" if shape else "one number"
            raise SizeMismatch.at(span, f"{wanted} is wanted here", f"the shape is {shape_text(new.shape)}")
        new = spread(ctx, new, shape)
    entry = coerce(ctx, new, Array(value.dtype, shape), span, widen=True)
    assert isinstance(entry, Leaf)
    return entry


def _write_leaf(ctx: Context, leaf: Leaf, picks: Sequence[Pick], new: Bound, span: Span) -> Leaf:
    entry = entry_for(ctx, leaf, _result_shape(picks), new, span)
    return Leaf(_write(ctx, leaf.value, picks, entry.value, span), leaf.weak, leaf.soft)


def _write(ctx: Context, value: Value, picks: Sequence[Pick], entry: Value, span: Span) -> Value:
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
        return _write_by_space(g, value, picks, entry)
    first = [pick for pick in picks[:lead] if isinstance(pick, At)]
    rest = picks[lead:]
    if any(not (isinstance(pick, Run) and pick.is_full) for pick in rest):
        entry = _write(ctx, _index(g, value, first), rest, entry, span)
    policy = "proven" if all(pick.is_proven for pick in first) else "error"
    return g.set_at(value, *(at_number(g, pick) for pick in first), entry, policy=policy)


def _write_by_space(g: Builder, value: Value, picks: Sequence[Pick], entry: Value) -> Value:
    """At each point of the array: the new entry if the point is picked, else the old one."""
    type_ = value.type
    assert isinstance(type_, Array)
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
    entry = entry_for(ctx, value, _result_shape(picks), new, span)
    if len(gathers) != 1 or picks[0] is not gathers[0]:
        raise NotSupported.at(span, "this write through an array of indices is not supported yet")
    (gather,) = gathers

    def point(h: Builder, at: list[Value], _threaded: list[Value], own: list[Value]) -> list[Value]:
        to = as_i64(h, h.index(gather.indices.value, *at, policy="proven"))
        return [h.accumulate(own[0], to, h.index(entry.value, *at, policy="proven"))]

    buffer = Accumulator(value.dtype, value.shape)
    (added,) = ctx.g.space(gather.indices.shape, point, buffers=[buffer])
    return Leaf(ctx.g.add(value.value, added), value.weak, value.soft)
