"""Index formulas: definitions `z[i, j] = ...`, array comprehensions, reducers over generators, and choices lifted
over arrays. Each becomes an index space; the points are independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.errors import NotSupported, ScopeError, SizeMismatch, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context, evaluates
from dgraph.frontend.facts import facts_of
from dgraph.frontend.joins import choose
from dgraph.frontend.numbers import (
    affine_of,
    broadcast_shapes,
    has_values,
    index_leaf,
    index_value,
    materialise,
    truth,
)
from dgraph.frontend.ranges import Unknown, infer
from dgraph.frontend.subscripts import At, read
from dgraph.frontend.values import (
    Binding,
    Bound,
    Builtin,
    Extent,
    Leaf,
    Literal,
    Pending,
    RecordValue,
    TupleValue,
    describe,
    leaves_of,
)
from dgraph.ir.graph import Value
from dgraph.ir.places import step_of
from dgraph.ops.control import Space
from dgraph.sizes import Size, size, variable
from dgraph.types import I64, Array, Shape

ZERO = Literal(0)


@dataclass(frozen=True)
class Index:
    """One index of a formula: it runs over `extent` steps from `start` by `step`, or over the entries of `source`.

    `extent` is None while the range is being inferred, and for a count that only the run decides (`count`)."""

    name: str
    span: Span
    over: t.Over
    extent: Size | None = None
    start: Bound = ZERO
    step: int = 1
    source: Bound | None = None
    count: Leaf | None = None

    @property
    def place_name(self) -> str:
        """What the number of the step is called: the name itself, if that stands for it."""
        is_number = self.source is None and self.step == 1 and affine_of(self.start) == size(0)
        return self.name if is_number else step_of(self.name)


# ---- indices --------------------------------------------------------------------------------------------------------


def indices_of(ctx: Context, overs: Sequence[t.Over]) -> list[Index]:
    """What each index of a generator runs over; the range of an index without `in` may still be unknown."""
    out: list[Index] = []
    for over in overs:
        visible = ctx.names.get(over.name)
        if visible is not None:
            raise ScopeError.at(
                over.span,
                f"the index `{over.name}` hides a name",
                "a fresh index needs a fresh name",
                also=[(visible.span, "bound here")],
            )
        if any(index.name == over.name for index in out):
            first = next(index.span for index in out if index.name == over.name)
            also = [(first, "first here")]
            raise ScopeError.at(over.span, f"the index `{over.name}` stands here twice", "again here", also=also)
        outer = {index.name: index for index in out}
        for node in () if over.iterable is None else t.walk(over.iterable):
            if isinstance(node, t.Name) and node.name in outer:
                raise ScopeError.at(
                    node.span,
                    f"the range of `{over.name}` depends on `{node.name}`",
                    "each index runs over one range",
                    also=[(outer[node.name].span, "another index of the same formula")],
                    note="take the largest range and guard: `for i in range(n) for j in range(n) if j < i`",
                )
        if over.iterable is None:
            out.append(Index(over.name, over.span, over, ctx.solved.get(over)))
        else:
            out.append(_explicit(ctx, over, over.iterable))
    return out


def range_call(ctx: Context, node: t.Expression, word: str = "range") -> t.Call | None:
    """The node as a call of `range` (or `enumerate`, `zip`), if it is one."""
    if isinstance(node, t.Call) and isinstance(node.function, t.Name) and node.function.name == word:
        held = ctx.lookup(word, node.function.span).value
        if isinstance(held, Builtin) and held.name == word:
            return node
    return None


def range_parts(ctx: Context, node: t.Call) -> tuple[Binding, Binding, int]:
    """Start, stop and step of a `range`."""
    if node.keywords or not 1 <= len(node.arguments) <= 3:
        raise TypeMismatch.at(
            node.span, "`range` takes one to three integers", note="`range(stop)`, `range(start, stop)`"
        )
    values = [Binding(ctx.evaluate(argument), argument.span) for argument in node.arguments]
    step = 1
    if len(values) == 3:
        held = values[2].value
        if not isinstance(held, Literal) or type(held.value) is not int or held.value == 0:
            title = "the step of a range is a literal that is not 0"
            raise TypeMismatch.at(values[2].span, title, f"this is {describe(held)}", note="`range(0, n, 2)`")
        step = held.value
    if len(values) == 1:
        return Binding(Literal(0), node.span), values[0], step
    return values[0], values[1], step


def static_length(start: Binding, stop: Binding, step: int) -> Size | None:
    """The number of steps of a range, if it is a size."""
    first, last = affine_of(start.value), affine_of(stop.value)
    if first is None or last is None:
        return None
    distance = last - first if step > 0 else first - last
    length = (distance + (abs(step) - 1)) // abs(step)
    if has_values(length):
        return None
    constant = length.constant
    return size(0) if constant is not None and constant < 0 else length


def _explicit(ctx: Context, over: t.Over, iterable: t.Expression) -> Index:
    ranged = range_call(ctx, iterable)
    if ranged is not None:
        start, stop, step = range_parts(ctx, ranged)
        length = static_length(start, stop, step)
        if length is not None:
            return Index(over.name, over.span, over, length, start.value, step)
        return Index(over.name, over.span, over, None, start.value, step, None, trip_count(ctx, start, stop, step))
    source = ctx.evaluate(iterable)
    extent = leading_extent(source, iterable.span)
    return Index(over.name, over.span, over, extent, source=source)


def trip_count(ctx: Context, start: Binding, stop: Binding, step: int) -> Leaf:
    """The number of steps of a range as an i64; negative means none."""
    g = ctx.g
    first, last = index_value(ctx, start).value, index_value(ctx, stop).value
    is_zero = affine_of(start.value) == size(0)
    distance = (last if is_zero else g.sub(last, first)) if step > 0 else g.sub(first, last)
    if abs(step) != 1:
        distance = g.floor_divide(g.add(distance, g.number(abs(step) - 1)), g.number(abs(step)))
    return Leaf(distance)


def leading_extent(source: Bound, span: Span) -> Size:
    """The length of the leading axis of something that is walked."""
    if isinstance(source, RecordValue) and source.axes:
        return source.axes[0]
    if isinstance(source, Leaf) and source.shape:
        return source.shape[0]
    is_count = isinstance(source, Extent) or (isinstance(source, Leaf) and source.dtype.kind == "int")
    note = f"write `range({span.text})`" if is_count else "loop over a `range`, an array, or a tuple"
    raise TypeMismatch.at(span, "this cannot be looped over", f"this is {describe(source)}", note=note)


def index_bound(ctx: Context, index: Index, value: Value, extent: Size | None) -> Bound:
    """What the name of an index stands for at one point."""
    leaf = free_index(value) if extent is None else index_leaf(ctx, value, size(0), extent)
    if index.source is not None:
        return read(ctx, index.source, [At(leaf, None, True, index.span)])
    return shifted(ctx, leaf, index.start, index.step)


def free_index(value: Value) -> Leaf:
    """An index variable whose range is not known."""
    return Leaf(value, soft=True, affine=variable(value))


def shifted(ctx: Context, leaf: Leaf, start: Bound, step: int) -> Leaf:
    """`start + step * k`."""
    g = ctx.g
    value, affine = leaf.value, leaf.affine
    if step != 1:
        value = g.mul(value, g.number(step)) if step != -1 else g.neg(value)
        affine = None if affine is None else affine * step
    first = affine_of(start)
    if first != size(0):
        value = g.add(value, index_value(ctx, Binding(start, g.span)).value)
        affine = None if affine is None or first is None else affine + first
    return Leaf(value, soft=True, affine=affine)


# ---- inference ------------------------------------------------------------------------------------------------------


@contextmanager
def settled(
    ctx: Context, overs: Sequence[t.Over], guard: t.Expression | None, body: Callable[[], Bound]
) -> Iterator[list[Index]]:
    """The indices of a formula with every range known. Unknown ones are inferred by lowering the formula once aside,
    with free indices, and looking at what it reads; those of nested formulas are found together with them."""
    indices = indices_of(ctx, overs)
    if ctx.reads is not None or all(index.extent is not None or index.count is not None for index in indices):
        yield indices
        return
    before = ctx.reads, ctx.unknowns, ctx.probe, ctx.solved
    probe = ctx.g.child()
    ctx.reads, ctx.unknowns, ctx.probe = [], [], probe
    try:
        with ctx.region(probe):
            trial(ctx, indices_of(ctx, overs), guard, body)
        lengths = infer([unknown for unknown, _ in ctx.unknowns], ctx.reads, ctx.ranges)
        found = {over: lengths[unknown.atom] for unknown, over in ctx.unknowns}
    finally:
        ctx.reads, ctx.unknowns, ctx.probe, _ = before
    ctx.solved = {**ctx.solved, **found}
    try:
        yield indices_of(ctx, overs)
    finally:
        ctx.solved = before[3]


def trial(ctx: Context, indices: Sequence[Index], guard: t.Expression | None, body: Callable[[], Bound]) -> Bound:
    """The body of a formula at a free point, while ranges are being inferred; every read is recorded."""
    assert ctx.probe is not None
    with ctx.local() as names:
        for index in indices:
            value = ctx.probe.input(Array(I64), index.name)
            if index.extent is None and index.count is None:
                ctx.unknowns.append((Unknown(value, index.name, index.span), index.over))
            names[index.name] = Binding(index_bound(ctx, index, value, index.extent), index.span)
        if guard is None:
            return body()
        ctx.evaluate(guard)
        before, ctx.is_guarded = ctx.is_guarded, True
        try:
            return body()
        finally:
            ctx.is_guarded = before


# ---- spaces ---------------------------------------------------------------------------------------------------------


def with_axes_in_front(value: Bound, axes: Shape, leaves: Iterator[Bound]) -> Bound:
    """The tree of a point's value with the leaves of the whole space."""
    if isinstance(value, RecordValue):
        fields = {name: with_axes_in_front(held, axes, leaves) for name, held in value.fields.items()}
        return replace(value, axes=axes + value.axes, fields=fields)
    if isinstance(value, TupleValue):
        return TupleValue(tuple([with_axes_in_front(item, axes, leaves) for item in value.items]))
    return next(leaves)


def solid(ctx: Context, value: Bound, span: Span) -> list[Leaf]:
    """The leaves of a value as graph values."""
    out = []
    for at, (_, held) in enumerate(leaves_of(value)):
        if isinstance(held, Leaf) and held.dtype.kind == "key":
            out.append(held)
        else:
            out.append(materialise(ctx, held, span, "solid", at))
    return out


def static_extents(indices: Sequence[Index], what: str) -> tuple[Size, ...]:
    """The extents of a space; a count that only the run decides has none."""
    for index in indices:
        if index.extent is None:
            note = "the range must be made of sizes; a formal of type `size` gives one"
            raise NotSupported.at(index.span, f"{what} over a range whose length is not a size", note=note)
    return tuple(index.extent for index in indices if index.extent is not None)


@contextmanager
def point_names(ctx: Context, indices: Sequence[Index], values: Sequence[Value]) -> Iterator[None]:
    """Inside, the names of the indices stand for one point of the space whose body is being built."""
    ctx.repeats[ctx.g] = tuple(index.extent for index in indices if index.extent is not None)
    with ctx.local() as names:
        for index, value in zip(indices, values, strict=True):
            names[index.name] = Binding(index_bound(ctx, index, value, index.extent), index.span)
        yield


def space_of(ctx: Context, indices: Sequence[Index], body: Callable[[], Bound], span: Span) -> Bound:
    """An index space that yields the value of the body at each point."""
    extents = static_extents(indices, "an array")
    child = ctx.g.child()
    values = [child.input(Array(I64), index.place_name) for index in indices]
    with ctx.region(child), point_names(ctx, indices, values):
        value = body()
        if isinstance(value, Pending):
            raise TypeMismatch.at(span, f"`{value.words}` has no shape here", note="bind it with a type first")
        leaves = solid(ctx, value, span)
    region = child.close([leaf.value for leaf in leaves])
    results = ctx.g.apply(Space(extents=extents), *child.captures, regions=[region])
    arrays = (Leaf(result, leaf.weak, leaf.soft) for result, leaf in zip(results, leaves, strict=True))
    return with_axes_in_front(value, extents, iter(arrays))


@evaluates(t.Comprehension)
def comprehension(ctx: Context, node: t.Comprehension) -> Bound:
    """`[f(i, j) for i in range(n) for j in range(m)]`."""
    return array_of(ctx, node.generator, node.body, node.span)


def array_of(ctx: Context, generator: t.Generator, node: t.Expression, span: Span) -> Bound:
    """The array of the values of an expression over a generator."""
    if generator.guard is not None:
        note = "give each entry a value: `[x[i] if x[i] > 0 else 0.0 for i]`"
        raise TypeMismatch.at(generator.guard.span, "a guard would leave holes in the array", note=note)
    return define(ctx, generator.indices, lambda: ctx.evaluate(node), span)


def define(ctx: Context, overs: Sequence[t.Over], body: Callable[[], Bound], span: Span) -> Bound:
    """An array over indices, in their order."""
    with settled(ctx, overs, None, body) as indices:
        if ctx.reads is None:
            return space_of(ctx, indices, body, span)
        probe = ctx.probe
        assert probe is not None
        value = trial(ctx, indices, None, body)
        extents = tuple(index.extent or variable(probe.input(Array(I64), index.name)) for index in indices)
        leaves = solid(ctx, value, span)
        arrays = [Leaf(probe.input(Array(leaf.dtype, extents + leaf.shape)), leaf.weak, leaf.soft) for leaf in leaves]
        return with_axes_in_front(value, extents, iter(arrays))


# ---- choices --------------------------------------------------------------------------------------------------------

POINTWISE = (t.Chain, t.Power, t.Negate, t.Compare, t.Logical, t.Not, t.Choose, t.Number, t.Boolean)


@evaluates(t.Choose)
def choice(ctx: Context, node: t.Choose) -> Bound:
    """`a if c else b`: only the taken side runs, for an array condition entry by entry."""
    held = Binding(ctx.evaluate(node.condition), node.condition.span)
    condition = held.value
    if isinstance(condition, Literal) and isinstance(condition.value, bool):
        return ctx.evaluate(node.then if condition.value else node.otherwise)
    if isinstance(condition, Leaf) and condition.shape:
        return _lifted(ctx, node, condition)
    return choose(ctx, truth(ctx, held).value, *_sides(ctx, node), widen=True)


def _sides(ctx: Context, node: t.Choose) -> tuple[Callable[[], tuple[Bound, Span]], Callable[[], tuple[Bound, Span]]]:
    """Both sides of a choice, each lowered under what the condition says of it."""

    def side(chosen: t.Expression, holds: bool) -> tuple[Bound, Span]:
        with ctx.assuming(facts_of(ctx, node.condition, holds=holds)):
            return ctx.evaluate(chosen), chosen.span

    return lambda: side(node.then, True), lambda: side(node.otherwise, False)


def _lifted(ctx: Context, node: t.Choose, condition: Leaf) -> Bound:
    """A choice for every entry: the elementwise parts of both sides are evaluated inside the point, so that an entry
    that is not taken is not computed; anything else is an array that the point reads."""
    if condition.dtype.kind != "bool":
        said, note = f"this is {describe(condition)}", "compare it: `x != 0`"
        raise TypeMismatch.at(node.condition.span, "a condition is wanted here", said, note=note)
    parts: dict[t.Node, Leaf] = {node.condition: condition}
    for side in (node.then, node.otherwise):
        _gather(ctx, side, parts)
    shape = broadcast_shapes([(leaf.shape, part.span) for part, leaf in parts.items()])
    child = ctx.g.child()
    at = [child.input(Array(I64), f"i{axis}") for axis in range(len(shape))]
    before = ctx.lifted
    ctx.lifted = {**before, **{part: _entry(ctx, leaf, at) for part, leaf in parts.items()}}
    try:
        with ctx.region(child):
            predicate = truth(ctx, Binding(ctx.evaluate(node.condition), node.condition.span)).value
            value = choose(ctx, predicate, *_sides(ctx, node), widen=False)
            leaf = materialise(ctx, value, node.span)
    finally:
        ctx.lifted = before
    region = child.close([leaf.value])
    (result,) = ctx.g.apply(Space(extents=shape), *child.captures, regions=[region])
    return Leaf(result, leaf.weak, leaf.soft)


def _gather(ctx: Context, node: t.Expression, parts: dict[t.Node, Leaf]) -> None:
    """Evaluate, outside of the point, the array parts of an expression that are not elementwise."""
    is_product = isinstance(node, t.Chain) and any(link.operator == "@" for link in node.links)
    if not is_product and (isinstance(node, POINTWISE) or _is_elementwise_call(ctx, node)):
        nested = node.arguments if isinstance(node, t.Call) else tuple(t.children(node))
        for inner in nested:
            held = inner.operand if isinstance(inner, t.Link) else inner
            if isinstance(held, t.Expression):
                _gather(ctx, held, parts)
        return
    value = ctx.evaluate(node)
    if isinstance(value, Leaf) and value.shape:
        parts[node] = value
    elif not isinstance(value, Leaf | Literal | Extent):
        raise TypeMismatch.at(node.span, "a choice for each entry is between numbers", f"this is {describe(value)}")


def _is_elementwise_call(ctx: Context, node: t.Expression) -> bool:
    if not (isinstance(node, t.Call) and isinstance(node.function, t.Name) and not node.keywords):
        return False
    held = ctx.lookup(node.function.name, node.function.span).value
    return isinstance(held, Builtin) and held.name in ctx.elementwise and len(node.arguments) == 1


def _entry(ctx: Context, leaf: Leaf, at: Sequence[Value]) -> Callable[[], Bound]:
    """Reads the entry of an array at a point of a space over a shape that it broadcasts to."""

    def make() -> Bound:
        g = ctx.g
        own = at[len(at) - len(leaf.shape) :]
        indices = [g.number(0) if extent.is_literal_one else i for extent, i in zip(leaf.shape, own, strict=True)]
        return Leaf(g.index(leaf.value, *indices, policy="proven"), leaf.weak, leaf.soft)

    return make


def require_size(value: Bound, span: Span) -> Size:
    """A static size, where a shape is made."""
    if isinstance(value, Extent):
        return value.size
    if isinstance(value, Literal) and type(value.value) is int and value.value >= 0:
        return size(value.value)
    note = "sizes are literals, size variables and formals of type `size`"
    raise SizeMismatch.at(span, "a size is wanted here", f"this is {describe(value)}", note=note)
