"""Writing distinct places all at once: at each point of the array, the entry that is written there, or the old one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dgraph.classes import dataclass
from dgraph.errors import Span
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context
from dgraph.frontend.facts import facts_of
from dgraph.frontend.formulas import Index, point_names, space_of
from dgraph.frontend.joins import choose
from dgraph.frontend.numbers import truth
from dgraph.frontend.places import require_inside, write_by_space, write_entry
from dgraph.frontend.subscripts import At, Pick, Run, at_number, index_entry, result_shape, whole_axis
from dgraph.frontend.values import Binding, Bound, Leaf, TupleValue
from dgraph.ir.build import Builder, close_together
from dgraph.ir.graph import Value
from dgraph.ops.control import If, Space
from dgraph.sizes import product, size
from dgraph.types import BOOL, I64, KEY, Accumulator, Array, Shape


@dataclass(frozen=True)
class Slot:
    """What an axis is picked by: a slice, one entry for all points, the run of an index (with that index), or an entry
    that several indices decide."""

    pick: At | Run
    index: Index | None = None
    is_fixed: bool = False


@dataclass(frozen=True)
class Write:
    """An update by `=`: the arrays, what picks their axes, and what each point writes where."""

    ctx: Context
    leaves: Sequence[Leaf]
    slots: Sequence[Slot]
    guard: t.Expression | None
    picks: Callable[[], list[Pick]]
    entries: Callable[[Shape], list[Leaf]]
    span: Span

    @property
    def kept(self) -> Shape:
        """The axes that the place of one point has."""
        return result_shape([slot.pick for slot in self.slots if slot.index is None and isinstance(slot.pick, Run)])


def write_distinct(work: Write) -> list[Leaf]:
    """Where each index moves along an axis of its own. A place that the guard leaves out keeps its entry."""
    ctx, guard = work.ctx, work.guard
    lead = 0
    while lead < len(work.slots) and work.slots[lead].is_fixed:
        lead += 1
    first = [slot.pick for slot in work.slots[:lead] if isinstance(slot.pick, At)]
    slots = work.slots[lead:]
    rows = [Leaf(index_entry(ctx.g, leaf.value, first), leaf.weak, leaf.soft) if lead else leaf for leaf in work.leaves]
    ordered = [slot.index for slot in slots if slot.index is not None]

    def entries() -> Bound:
        return TupleValue(tuple(work.entries(work.kept)))

    def replaced() -> tuple[Bound, Span]:
        assert guard is not None
        with ctx.assuming(facts_of(ctx, guard)):
            for pick, extent in zip(work.picks()[lead:], rows[0].shape, strict=False):
                require_inside(ctx, pick, extent)
            return entries(), work.span

    def old() -> tuple[Bound, Span]:
        places = work.picks()[lead : lead + len(slots)]
        numbers = [at_number(ctx.g, place) for place in places if isinstance(place, At)]
        held = [Leaf(ctx.g.index(row.value, *numbers, policy="drop"), row.weak, row.soft) for row in rows]
        return TupleValue(tuple(held)), work.span

    def point() -> Bound:
        if guard is None:
            return entries()
        test = truth(ctx, Binding(ctx.evaluate(guard), guard.span)).value
        return choose(ctx, test, replaced, old, widen=False)

    values = space_of(ctx, ordered, point, work.span)
    assert isinstance(values, TupleValue)
    out = []
    for leaf, row, value in zip(work.leaves, rows, values.items, strict=True):
        assert isinstance(value, Leaf)
        whole = [whole_axis(extent, work.span) for extent in row.shape[len(slots) :]]
        picks: list[Pick] = [*(slot.pick for slot in slots), *whole]
        entry = _in_order(ctx, value.value, slots)
        written = write_by_space(ctx, row.value, picks, entry, is_checked=guard is not None)
        if lead:
            around = [whole_axis(extent, work.span) for extent in row.shape]
            written = write_entry(ctx, leaf.value, [*first, *around], written, work.span)
        out.append(Leaf(written, leaf.weak, leaf.soft))
    return out


def _in_order(ctx: Context, value: Value, slots: Sequence[Slot]) -> Value:
    """The entries with the axes of indices and slices in the order of the array's axes."""
    assert isinstance(value.type, Array)
    moved = [slot for slot in slots if slot.index is not None]
    sliced = [slot for slot in slots if slot.index is None and isinstance(slot.pick, Run)]
    at = {id(slot): axis for axis, slot in enumerate([*moved, *sliced])}
    order = [at[id(slot)] for slot in slots if id(slot) in at]
    order += range(len(order), len(value.type.shape))
    return value if order == sorted(order) else ctx.g.transpose(value, axes=tuple(order))


def write_scattered(work: Write, indices: Sequence[Index]) -> list[Leaf]:
    """Where the indices share axes: every place learns which point writes it, and reads that point's entry."""
    ctx, g = work.ctx, work.ctx.g
    extents = tuple(index.extent for index in indices if index.extent is not None)
    axes = work.leaves[0].shape[: len(work.slots)]
    writer = _writers(work, indices, extents, axes)

    def point() -> Bound:
        if work.guard is None:
            return TupleValue(tuple(work.entries(())))
        guard = work.guard
        test = truth(ctx, Binding(ctx.evaluate(guard), guard.span)).value

        def taken() -> tuple[Bound, Span]:
            with ctx.assuming(facts_of(ctx, guard)):
                return TupleValue(tuple(work.entries(()))), work.span

        def skipped() -> tuple[Bound, Span]:
            held = [_nothing(ctx, leaf, len(work.slots)) for leaf in work.leaves]
            return TupleValue(tuple(held)), work.span

        return choose(ctx, test, taken, skipped, widen=False)

    values = space_of(ctx, indices, point, work.span)
    assert isinstance(values, TupleValue)
    out = []
    for leaf, value in zip(work.leaves, values.items, strict=True):
        assert isinstance(value, Leaf)
        made = g.map(axes, _reader(writer, leaf.value, value.value, extents))
        out.append(Leaf(made, leaf.weak, leaf.soft))
    return out


def _nothing(ctx: Context, leaf: Leaf, used: int) -> Leaf:
    """An entry that is never read."""
    shape = leaf.shape[used:]
    if leaf.dtype is KEY:
        zero = [ctx.g.number(0)] * used
        return Leaf(ctx.g.index(leaf.value, *zero, policy="drop"))
    return Leaf(ctx.g.full(False if leaf.dtype is BOOL else 0, Array(leaf.dtype, shape)), leaf.weak, leaf.soft)


def _writers(work: Write, indices: Sequence[Index], extents: Shape, axes: Shape) -> Value:
    """For each place the number of the point that writes it, counted from 1; 0 where none does."""
    ctx = work.ctx
    child = ctx.g.child()
    at = [child.input(Array(I64), index.place_name) for index in indices]
    buffer = Accumulator(I64, axes)
    own = child.input(buffer)

    def write() -> Value:
        g = ctx.g
        places = [pick for pick in work.picks()[: len(work.slots)] if isinstance(pick, At)]
        number = g.number(0)
        for position, extent in zip(at, extents, strict=True):
            number = g.add(g.mul(number, g.number(extent)), position)
        policy = "proven" if all(place.is_proven for place in places) else "error"
        numbers = [at_number(g, place) for place in places]
        return g.accumulate(own, *numbers, g.add(number, g.number(1)), policy=policy)

    with ctx.region(child), point_names(ctx, indices, at):
        if work.guard is None:
            output = write()
        else:
            test = truth(ctx, Binding(ctx.evaluate(work.guard), work.guard.span)).value
            taken, skipped = child.child(), child.child()
            with ctx.region(taken), ctx.local(), ctx.assuming(facts_of(ctx, work.guard)):
                written = write()
            regions, captures = close_together([taken, skipped], [[written], [own]])
            (output,) = child.apply(If(), test, *captures, regions=regions)
    region = child.close([output])
    (writer,) = ctx.g.apply(Space(extents=extents, buffers=(buffer,)), *child.captures, regions=[region])
    return writer


def _reader(writer: Value, old: Value, new: Value, extents: Shape) -> Callable[..., Value]:
    """The entry of one place."""

    def place(h: Builder, *at: Value) -> Value:
        number = h.index(writer, *at, policy="proven")

        def written(s: Builder) -> list[Value]:
            left = s.sub(number, s.number(1))
            point: list[Value] = []
            for axis in range(len(extents)):
                inner = product(extents[axis + 1 :])
                here = left if inner == size(1) else s.floor_divide(left, s.number(inner))
                left = left if inner == size(1) else s.mod(left, s.number(inner))
                point.append(here)
            return [s.index(new, *point, policy="proven")]

        (result,) = h.if_(h.greater(number, h.number(0)), written, lambda s: [s.index(old, *at, policy="proven")])
        return result

    return place
