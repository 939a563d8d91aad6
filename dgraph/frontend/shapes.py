"""Functions that move entries: reshape, transpose, concat, split and their kin; and the members of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dgraph.errors import ScopeError, SizeMismatch, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.builtins import array_argument, take
from dgraph.frontend.coercion import coerce
from dgraph.frontend.context import Arguments, Context, builtin, evaluates
from dgraph.frontend.formulas import require_size
from dgraph.frontend.makers import shape_argument, split_key
from dgraph.frontend.modules import unknown
from dgraph.frontend.numbers import Agreement, agree, number, shape_text, to_leaf
from dgraph.frontend.reducers import axis_of
from dgraph.frontend.values import (
    Binding,
    Bound,
    Leaf,
    Literal,
    ModuleValue,
    Pending,
    RecordValue,
    TupleValue,
    describe,
)
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.sizes import product, size
from dgraph.types import BOOL, KEY, Array, Shape, Type

# ---- members and array literals -------------------------------------------------------------------------------------


@evaluates(t.Member)
def member(ctx: Context, node: t.Member) -> Bound:
    """`p.w`, `x.T`, `module.name`."""
    base = ctx.evaluate(node.base)
    if isinstance(base, RecordValue):
        held = base.fields.get(node.name)
        if held is None:
            title = f"the record `{base.name}` has no field `{node.name}`"
            raise unknown(node.span, title, node.name, list(base.fields))
        return held
    if isinstance(base, ModuleValue):
        entry = base.module.names.get(node.name)
        if entry is None:
            title = f"the module `{base.module.name}` has no `{node.name}`"
            raise unknown(node.span, title, node.name, list(base.module.names))
        return ctx.entry(entry, node.span)
    if node.name == "T" and isinstance(base, Leaf):
        if len(base.shape) != 2:
            note = "write `transpose(x, (0, 2, 1))` for other ranks"
            raise TypeMismatch.at(node.base.span, "`.T` is of a matrix", f"this is {describe(base)}", note=note)
        return Leaf(ctx.g.transpose(base.value, axes=(1, 0)), base.weak, base.soft)
    raise ScopeError.at(node.span, f"there is no `.{node.name}` here", f"this is {describe(base)}")


@evaluates(t.Array)
def array_literal(ctx: Context, node: t.Array) -> Bound:
    """`[a, b]`: a new leading axis."""
    items = [Binding(ctx.evaluate(item), item.span) for item in node.items]
    return stacked(ctx, items, 0, node.span)


def stacked(ctx: Context, items: Sequence[Binding], axis: int, span: Span) -> Bound:
    """Values of one type along a new axis."""
    first = items[0].value
    if isinstance(first, RecordValue):
        if any(
            not isinstance(item.value, RecordValue) or item.value.declaration is not first.declaration for item in items
        ):
            raise TypeMismatch.at(span, "the items have different types", describe(items[-1].value))
        records = [(item.value, item.span) for item in items if isinstance(item.value, RecordValue)]
        fields = {
            name: stacked(ctx, [Binding(record.fields[name], place) for record, place in records], axis, span)
            for name in first.fields
        }
        return RecordValue(first.declaration, first.arguments, (size(len(items)), *first.axes), fields)
    agreement = agreed(ctx, items)
    leaves = [to_leaf(ctx, number(item), agreement, item.span) for item in items]
    for leaf, item in zip(leaves, items, strict=True):
        if leaf.shape != leaves[0].shape:
            raise SizeMismatch.at(
                item.span,
                "the items have different shapes",
                shape_text(leaf.shape),
                also=[(items[0].span, shape_text(leaves[0].shape))],
            )
    shape = leaves[0].shape
    one = (*shape[:axis], size(1), *shape[axis:])
    parts = [ctx.g.reshape(leaf.value, shape=one) for leaf in leaves]
    value = parts[0] if len(parts) == 1 else ctx.g.concat(*parts, axis=axis)
    return Leaf(value, agreement.weak, agreement.soft)


def agreed(ctx: Context, items: Sequence[Binding]) -> Agreement:
    """The dtype of several values put together; bools and keys among themselves."""
    for dtype in (KEY, BOOL):
        if all(isinstance(item.value, Leaf) and item.value.dtype is dtype for item in items):
            return Agreement(dtype)
    return agree(ctx, items, bools=True)


# ---- shape ----------------------------------------------------------------------------------------------------------


@builtin("reshape")
def reshape(ctx: Context, arguments: Arguments) -> Bound:
    """`reshape(x, (n, m))`, or `reshape(x)` to the shape of the type that it meets."""
    parts = list(arguments.positional)
    take(Arguments(parts[:1], arguments.keywords, arguments.span), "reshape", ["x"], 1)
    x = array_or_scalar(ctx, parts[0])
    if len(parts) > 1:
        return Leaf(reshaped(ctx, x, shape_argument(parts[1:]), arguments.span), x.weak, x.soft)

    def make(type_: Type, span: Span) -> Bound:
        if not isinstance(type_, Array):
            raise TypeMismatch.at(span, "`reshape` makes an array", f"{type_} is wanted here")
        value = reshaped(ctx, x, type_.shape, span)
        return coerce(ctx, Leaf(value, x.weak, x.soft), type_, span)

    return Pending("reshape", arguments.span, make)


def array_or_scalar(ctx: Context, binding: Binding) -> Leaf:
    """An argument of any rank."""
    value = number(binding, "an array")
    return value if isinstance(value, Leaf) else to_leaf(ctx, value, agree(ctx, [binding], bools=True), binding.span)


def reshaped(ctx: Context, x: Leaf, shape: Shape, span: Span) -> Value:
    """The same entries with other axes."""
    if product(x.shape) != product(shape):
        raise SizeMismatch.at(
            span,
            f"{shape_text(x.shape)} does not have as many entries as {shape_text(shape)}",
            f"{product(x.shape)} and {product(shape)}",
        )
    return x.value if x.shape == shape else ctx.g.reshape(x.value, shape=shape)


@builtin("transpose")
def transpose(ctx: Context, arguments: Arguments) -> Bound:
    """`transpose(x)` of a matrix, or `transpose(x, (0, 2, 1))`."""
    found = take(arguments, "transpose", ["x", "axes"], 1)
    x = array_argument(ctx, found["x"])
    axes = tuple(reversed(range(len(x.shape))))
    if "axes" in found:
        held = found["axes"]
        items = held.value.items if isinstance(held.value, TupleValue) else (held.value,)
        axes = tuple(axis_of(Binding(item, held.span), len(x.shape)) for item in items)
        if sorted(axes) != list(range(len(x.shape))):
            raise TypeMismatch.at(held.span, f"these are not the {len(x.shape)} axes in another order")
    return Leaf(ctx.g.transpose(x.value, axes=axes), x.weak, x.soft)


def axis_argument(found: dict[str, Binding], rank: int, default: int, span: Span) -> int:
    """The argument `axis=`."""
    return axis_of(found.get("axis", Binding(Literal(default), span)), rank)


@builtin("concat")
def concat(ctx: Context, arguments: Arguments) -> Bound:
    """Arrays one after another along an axis, the first by default."""
    parts = list(arguments.positional)
    options = take(Arguments([], arguments.keywords, arguments.span), "concat", ["axis"], 0)
    if len(parts) == 1 and isinstance(parts[0].value, TupleValue):
        parts = [Binding(item, parts[0].span) for item in parts[0].value.items]
    if not parts:
        raise TypeMismatch.at(arguments.span, "`concat` of nothing")
    agreement = agreed(ctx, parts)
    leaves = [to_leaf(ctx, number(part), agreement, part.span) for part in parts]
    rank = len(leaves[0].shape)
    if rank == 0:
        raise TypeMismatch.at(parts[0].span, "`concat` joins arrays", "this is a scalar", note="write `[a, b]`")
    axis = axis_argument(options, rank, 0, arguments.span)
    for leaf, part in zip(leaves, parts, strict=True):
        rest, first = [list(shape) for shape in (leaf.shape, leaves[0].shape)]
        if len(rest) == rank:
            rest[axis] = first[axis]
        if rest != first:
            raise SizeMismatch.at(
                part.span,
                f"the shapes {shape_text(leaves[0].shape)} and {shape_text(leaf.shape)} do not join along axis {axis}",
                shape_text(leaf.shape),
                also=[(parts[0].span, shape_text(leaves[0].shape))],
            )
    if len(leaves) == 1:
        return leaves[0]
    return Leaf(ctx.g.concat(*(leaf.value for leaf in leaves), axis=axis), agreement.weak, agreement.soft)


@builtin("stack")
def stack(ctx: Context, arguments: Arguments) -> Bound:
    """Arrays of one shape along a new axis, the first by default."""
    parts = list(arguments.positional)
    options = take(Arguments([], arguments.keywords, arguments.span), "stack", ["axis"], 0)
    if not parts:
        raise TypeMismatch.at(arguments.span, "`stack` of nothing")
    value = parts[0].value
    rank = len(value.shape) + 1 if isinstance(value, Leaf) else 1
    return stacked(ctx, parts, axis_argument(options, rank, 0, arguments.span), arguments.span)


@builtin("split")
def split(ctx: Context, arguments: Arguments) -> Bound:
    """`split(x, 4)`: equal parts along an axis as a tuple; `split(key, n)`: independent keys."""
    found = take(arguments, "split", ["x", "parts", "axis"], 1)
    held = found["x"].value
    if isinstance(held, Leaf) and held.dtype is KEY:
        if held.shape:
            raise TypeMismatch.at(found["x"].span, "one key is split at a time", f"this is {describe(held)}")
        return split_key(ctx, held, found.get("parts"))
    x = array_argument(ctx, found["x"])
    if "parts" not in found or not isinstance(found["parts"].value, Literal):
        place = found["parts"].span if "parts" in found else arguments.span
        raise TypeMismatch.at(place, "`split` needs a literal number of parts", note="`split(x, 4)`")
    count = require_size(found["parts"].value, found["parts"].span).constant or 0
    axis = axis_argument(found, len(x.shape), 0, arguments.span)
    if count < 1:
        raise TypeMismatch.at(found["parts"].span, "`split` into no parts")
    part = x.shape[axis] // count
    if part * count != x.shape[axis]:
        raise SizeMismatch.at(arguments.span, f"{x.shape[axis]} does not split into {count} equal parts", describe(x))
    items: list[Bound] = []
    for at in range(count):
        starts = tuple(part * at if number_ == axis else size(0) for number_ in range(len(x.shape)))
        shape = tuple(part if number_ == axis else extent for number_, extent in enumerate(x.shape))
        value = ctx.g.slice(x.value, starts=starts, steps=(1,) * len(shape), shape=shape)
        items.append(Leaf(value, x.weak, x.soft))
    return TupleValue(tuple(items))


@builtin("flip")
def flip(ctx: Context, arguments: Arguments) -> Bound:
    """The entries along an axis in reverse order."""
    found = take(arguments, "flip", ["x", "axis"], 1)
    x = array_argument(ctx, found["x"])
    axis = axis_argument(found, len(x.shape), 0, arguments.span)
    starts = tuple(extent - 1 if at == axis else size(0) for at, extent in enumerate(x.shape))
    steps = tuple(-1 if at == axis else 1 for at in range(len(x.shape)))
    return Leaf(ctx.g.slice(x.value, starts=starts, steps=steps, shape=x.shape), x.weak, x.soft)


@builtin("squeeze")
def squeeze(ctx: Context, arguments: Arguments) -> Bound:
    """An axis of length 1 dropped."""
    found = take(arguments, "squeeze", ["x", "axis"], 2)
    x = array_argument(ctx, found["x"])
    axis = axis_argument(found, len(x.shape), 0, arguments.span)
    if not x.shape[axis].is_literal_one:
        raise SizeMismatch.at(found["x"].span, f"axis {axis} has length {x.shape[axis]}, not 1", describe(x))
    return Leaf(ctx.g.reshape(x.value, shape=(*x.shape[:axis], *x.shape[axis + 1 :])), x.weak, x.soft)


@builtin("expand")
def expand(ctx: Context, arguments: Arguments) -> Bound:
    """A new axis of length 1."""
    found = take(arguments, "expand", ["x", "axis"], 2)
    x = array_or_scalar(ctx, found["x"])
    axis = axis_argument(found, len(x.shape) + 1, 0, arguments.span)
    return Leaf(ctx.g.reshape(x.value, shape=(*x.shape[:axis], size(1), *x.shape[axis:])), x.weak, x.soft)


@builtin("pad")
def pad(ctx: Context, arguments: Arguments) -> Bound:
    """`pad(x, before, after, axis=0)`: zeros around an array along an axis; as many after as before if not said."""
    found = take(arguments, "pad", ["x", "before", "after", "axis"], 2)
    x = array_argument(ctx, found["x"])
    axis = axis_argument(found, len(x.shape), 0, arguments.span)
    before = require_size(found["before"].value, found["before"].span)
    after = require_size(found["after"].value, found["after"].span) if "after" in found else before
    starts = tuple(before if at == axis else size(0) for at in range(len(x.shape)))
    shape = tuple(extent + before + after if at == axis else extent for at, extent in enumerate(x.shape))
    return Leaf(ctx.g.unslice(x.value, starts=starts, steps=(1,) * len(shape), shape=shape), x.weak, x.soft)


@builtin("tile")
def tile(ctx: Context, arguments: Arguments) -> Bound:
    """An array repeated so many times along an axis."""
    found = take(arguments, "tile", ["x", "times", "axis"], 2)
    x = array_argument(ctx, found["x"])
    times = require_size(found["times"].value, found["times"].span)
    axis = axis_argument(found, len(x.shape), 0, arguments.span)
    lead, extent, rest = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    one = ctx.g.reshape(x.value, shape=(*lead, size(1), extent, *rest))
    wide = ctx.g.widen(one, (*lead, times, extent, *rest))
    return Leaf(ctx.g.reshape(wide, shape=(*lead, times * extent, *rest)), x.weak, x.soft)


def _running(word: str) -> Callable[[Context, Arguments], Bound]:
    def rule(ctx: Context, arguments: Arguments) -> Bound:
        found = take(arguments, word, ["x", "axis"], 1)
        x = array_argument(ctx, found["x"])
        axis = axis_argument(found, len(x.shape), 0, arguments.span)
        return Leaf(getattr(ctx.g, word)(x.value, axis=axis), x.weak, x.soft)

    return rule


builtin("cumsum")(_running("cumsum"))
builtin("cumprod")(_running("cumprod"))


@builtin("diag")
def diag(ctx: Context, arguments: Arguments) -> Bound:
    """The diagonal of a matrix, or the matrix with a vector on its diagonal."""
    x = array_argument(ctx, take(arguments, "diag", ["x"], 1)["x"])
    if len(x.shape) == 2 and x.shape[0] == x.shape[1]:
        return Leaf(ctx.g.map(x.shape[:1], lambda h, i: h.index(x.value, i, i, policy="proven")), x.weak, x.soft)
    if len(x.shape) != 1:
        raise TypeMismatch.at(arguments.span, "`diag` is of a square matrix or a vector", describe(x))
    return Leaf(_kept(ctx, x, (*x.shape, *x.shape), "equal", lambda i, _: [i]), x.weak, x.soft)


def _kept(
    ctx: Context, x: Leaf, shape: Shape, test: str, where: Callable[[Value, Value], list[Value]], lead: int = 0
) -> Value:
    """The entries of the last two axes for which a comparison of row and column holds, zeros elsewhere."""

    def point(h: Builder, *at: Value) -> Value:
        i, j = at[-2:]
        (entry,) = h.if_(
            getattr(h, test)(i, j),
            lambda s: [s.index(x.value, *at[:lead], *where(i, j), policy="proven")],
            lambda s: [s.constant(0, x.dtype)],
        )
        return entry

    return ctx.g.map(shape, point)


def _triangle(word: str, test: str) -> None:
    def rule(ctx: Context, arguments: Arguments) -> Bound:
        x = array_argument(ctx, take(arguments, word, ["x"], 1)["x"])
        if len(x.shape) < 2:
            raise TypeMismatch.at(arguments.span, f"`{word}` is of a matrix", describe(x))
        return Leaf(_kept(ctx, x, x.shape, test, lambda i, j: [i, j], len(x.shape) - 2), x.weak, x.soft)

    builtin(word)(rule)


_triangle("tril", "greater_equal")
_triangle("triu", "less_equal")
