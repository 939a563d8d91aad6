"""Subscripts: reading entries, slices and gathers of arrays, and writing to such places.

A read by integers is an `index` node, a slice with static bounds a `slice` node; gathers and slices whose start is
only known as the program runs become index spaces. Writes are functional: each gives the changed array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.errors import NotSupported, SizeMismatch, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context, evaluates
from dgraph.frontend.numbers import (
    affine_of,
    counted,
    has_values,
    index_value,
    shape_text,
)
from dgraph.frontend.ranges import Read, is_inside
from dgraph.frontend.values import (
    Binding,
    Bound,
    Builtin,
    Closure,
    Extent,
    Leaf,
    Literal,
    RecordValue,
    ShapeValue,
    Transformed,
    TupleValue,
    describe,
)
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.sizes import Size, size
from dgraph.types import I64, Array, Shape


@dataclass(frozen=True)
class At:
    """One entry of an axis. `static` is its position where that is a size."""

    index: Leaf | None
    static: Size | None
    is_proven: bool
    span: Span


@dataclass(frozen=True)
class Run:
    """Entries of an axis from a start in steps; the start is a size, or known only as the program runs. `first` is what
    is known of it."""

    start: Size | Leaf
    first: Size
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
        also = [(subscripts[rests[0]].span, "the first")]
        note = "`...` stands for as many axes as are left; write `:` for one"
        raise TypeMismatch.at(
            subscripts[rests[1]].span, "only one `...` fits into a subscript", "the second", also=also, note=note
        )
    given = len(subscripts) - len(rests)
    if given > len(shape):
        title = (
            f"{counted(given, 'subscript')} for {'1 axis' if len(shape) == 1 else f'{len(shape)} axes'}"
            if shape
            else "a scalar has no axes to index"
        )
        said = f"the shape is {shape_text(shape)}" if shape else "one number"
        raise TypeMismatch.at(subscripts[-1].span, title, said, note="leave out the subscripts" if not shape else "")
    cut = rests[0] if rests else given
    before, after = subscripts[:cut], subscripts[cut + 1 :] if rests else []
    middle = [whole_axis(extent, span) for extent in shape[len(before) : len(shape) - len(after)]]
    lead = [pick_of(ctx, one, extent) for one, extent in zip(before, shape, strict=False)]
    tail = [pick_of(ctx, one, extent) for one, extent in zip(after, shape[len(shape) - len(after) :], strict=True)]
    picks = [*lead, *middle, *tail]
    gathers = [pick for pick in picks if isinstance(pick, Gather)]
    if len(gathers) > 1:
        note = "say which entries meet: `z[k] = x[p[k], q[k]]`"
        raise NotSupported.at(gathers[1].span, "two arrays of indices in one subscript", note=note)
    return picks


def whole_axis(extent: Size, span: Span) -> Run:
    """All entries of an axis."""
    return Run(size(0), size(0), 1, extent, True, span)


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
            note = "round first: `i32(floor(x))`"
            raise TypeMismatch.at(subscript.span, "subscripts are integers", f"this is {describe(value)}", note=note)
        return Gather(value, subscript.span)
    return at_of(ctx, from_the_end(subscript, value, extent), extent, subscript.span)


def from_the_end(node: t.Expression, value: Bound, extent: Size) -> Bound:
    """A literal `-k` counts from the end; a computed negative is out of range."""
    is_literal = isinstance(node, t.Negate) and isinstance(node.operand, t.Number)
    if is_literal and isinstance(value, Literal) and type(value.value) is int:
        return Extent(extent + value.value)
    return value


def at_of(ctx: Context, value: Bound, extent: Size, span: Span) -> At:
    """One entry of an axis at an integer."""
    static = affine_of(value) if isinstance(value, Literal | Extent) else None
    affine = affine_of(value)
    if static is not None:
        room = (extent - 1 - static).constant
        if (static.constant is not None and static.constant < 0) or (room is not None and room < 0):
            raise SizeMismatch.at(span, "this index is out of range", f"entry {static} of an axis of length {extent}")
    if ctx.reads is not None and affine is not None and _is_of_indices(ctx, affine):
        ctx.reads.append(Read(affine, extent, span, ctx.is_guarded))
    is_exact = not isinstance(value, Leaf) or value.dtype == I64
    is_proven = is_exact and affine is not None and is_inside(affine, extent, ctx.ranges, ctx.facts)
    leaf = index_value(ctx, Binding(value, span)) if static is None else None
    return At(leaf, static, is_proven, span)


def _is_of_indices(ctx: Context, affine: Size) -> bool:
    """Whether an expression holds no values of the graph but indices."""
    unknown = {index.atom for index, _ in ctx.unknowns}
    return all(not isinstance(atom, Value) or atom in ctx.ranges or atom in unknown for atom in affine.atoms())


def _run_of(ctx: Context, node: t.Slice, extent: Size) -> Run:
    step = 1
    if node.step is not None:
        held = ctx.evaluate(node.step)
        if not isinstance(held, Literal) or type(held.value) is not int or held.value == 0:
            title = "the step of a slice is a literal that is not 0"
            note = "`x[::2]` takes every second entry; an index formula may compute its subscripts"
            raise TypeMismatch.at(node.step.span, title, f"this is {describe(held)}", note=note)
        step = held.value
    first = None if node.start is None else _bound_of(ctx, node.start, extent)
    last = None if node.stop is None else _bound_of(ctx, node.stop, extent)
    start = (size(0) if step > 0 else extent - 1) if first is None else _known(first)
    stop = (extent if step > 0 else size(-1)) if last is None else _known(last)
    distance = stop - start if step > 0 else start - stop
    length = (distance + (abs(step) - 1)) // abs(step)
    if has_values(length):
        raise SizeMismatch.at(
            node.span,
            "the length of this slice is not a size",
            f"it is {length}",
            note="its bounds may move, but by the same amount: `x[s * k : (s + 1) * k]`; or use an index formula",
        )
    room = (extent - stop if step > 0 else extent - 1 - start).constant
    if any(bound.constant is not None and bound.constant < 0 for bound in ((start,) if step < 0 else (start, stop))):
        raise SizeMismatch.at(node.span, "this slice leaves the axis", "starts or ends before its first entry")
    if (length.constant is not None and length.constant < 0) or (room is not None and room < 0):
        raise SizeMismatch.at(node.span, "this slice leaves the axis", f"the axis has length {extent}")
    is_full = first is None and last is None and step == 1
    begin: Size | Leaf = start
    if isinstance(first, Leaf):
        begin = index_value(ctx, Binding(first, node.span))
    return Run(begin, start, step, length, is_full, node.span)


def _bound_of(ctx: Context, node: t.Expression, extent: Size) -> Bound:
    """A bound of a slice: an integer."""
    value = from_the_end(node, ctx.evaluate(node), extent)
    if affine_of(value) is None:
        title = "an integer is wanted here"
        raise TypeMismatch.at(node.span, title, f"this is {describe(value)}")
    return value


def _known(bound: Bound) -> Size:
    """What is known of a bound."""
    known = affine_of(bound)
    assert known is not None
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
        note = "a function is called with ( )" if isinstance(base, Builtin | Closure | Transformed) else ""
        raise TypeMismatch.at(node.base.span, "this has no axes to index", f"this is {describe(base)}", note=note)
    return read(ctx, base, picks_of(ctx, node.subscripts, base.shape, node.span))


@evaluates(t.Slice, t.Rest)
def part_of_axis(_: Context, node: t.Slice | t.Rest) -> Bound:
    """`:` and `...` where no array is indexed."""
    words = "a slice" if isinstance(node, t.Slice) else "`...`"
    note = "a tuple is taken apart by names, `a, b = pair`, or by literals, `pair[0]`"
    raise TypeMismatch.at(node.span, f"{words} is of the axis of an array", "there is no axis here", note=note)


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
        said = f"there is no item {held.value}"
        raise TypeMismatch.at(span, f"this tuple has {count} items", said, note="items are counted from 0")
    return position


def read(ctx: Context, value: Bound, picks: Sequence[Pick]) -> Bound:
    """The picked part of an array, or of every leaf of an array of records."""
    if isinstance(value, RecordValue):
        kept = result_shape(picks[: len(value.axes)])
        return replace(value, axes=kept, fields={name: read(ctx, held, picks) for name, held in value.fields.items()})
    if isinstance(value, TupleValue):
        return TupleValue(tuple(read(ctx, item, picks) for item in value.items))
    assert isinstance(value, Leaf)
    whole = [whole_axis(extent, ctx.g.span) for extent in value.shape[len(picks) :]]
    return _read_leaf(ctx, value, [*picks, *whole])


def result_shape(picks: Sequence[Pick]) -> Shape:
    """The axes that a read leaves."""
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
        value = index_entry(g, value, [pick for pick in picks[:lead] if isinstance(pick, At)])
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


def index_entry(g: Builder, value: Value, picks: Sequence[At]) -> Value:
    """A read by integers on the leading axes."""
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
        value = index_entry(g, value, [pick for pick in kept if isinstance(pick, At)])
    return value


def _read_by_space(ctx: Context, value: Value, picks: Sequence[Pick]) -> Value:
    """An index space over the axes of the result, up to the last axis that is not taken whole."""
    used = len(picks)
    while isinstance(picks[used - 1], Run) and picks[used - 1].is_full:  # type: ignore[union-attr]
        used -= 1
    extents = result_shape(picks[:used])

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
