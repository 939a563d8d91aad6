"""Functions that move entries: reshape, transpose, concat, split and their kin; and the members of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dgraph.errors import ScopeError, SizeMismatch, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.builtins import array_argument, take
from dgraph.frontend.calls import SYNTACTIC
from dgraph.frontend.coercion import coerce
from dgraph.frontend.context import BUILTINS, Arguments, Context, builtin, evaluates
from dgraph.frontend.formulas import require_size
from dgraph.frontend.habits import MEMBERS
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
            note = f"its fields are {', '.join(f'`{field}`' for field in base.fields)}"
            raise unknown(node.span, title, node.name, list(base.fields), note)
        return held
    if isinstance(base, ModuleValue):
        entry = base.module.names.get(node.name)
        if entry is None:
            title = f"the module `{base.module.name}` has no `{node.name}`"
            note = f"it needs no module: write `{node.name}(...)`" if ctx.knows(node.name) else ""
            raise unknown(node.span, title, node.name, list(base.module.names), note)
        return ctx.entry(entry, node.span)
    if node.name == "T" and isinstance(base, Leaf):
        if len(base.shape) != 2:
            more = "write `transpose(x, (0, 2, 1))` for more axes"
            note = more if len(base.shape) > 2 else "a vector needs none: `x @ a` and `a @ x`"
            raise TypeMismatch.at(node.base.span, "`.T` is of a matrix", f"this is {describe(base)}", note=note)
        return Leaf(ctx.g.transpose(base.value, axes=(1, 0)), base.weak, base.soft)
    note = MEMBERS.get(node.name) or (f"write `{node.name}(x)`" if ctx.knows(node.name) else "")
    if not note and isinstance(base, Leaf):
        note = "a record has fields, an array has `.T` and subscripts"
    raise ScopeError.at(node.span, f"there is no `.{node.name}` here", f"this is of {describe(base)}", note=note)


@evaluates(t.Array)
def array_literal(ctx: Context, node: t.Array) -> Bound:
    """`[a, b]`: a new leading axis."""
    items = [Binding(ctx.evaluate(item), item.span) for item in node.items]
    return stacked(ctx, items, 0, node.span)


def _is_other(value: Bound, first: RecordValue) -> bool:
    """Whether a value is not of the record type of another."""
    return not isinstance(value, RecordValue) or value.declaration is not first.declaration


def stacked(ctx: Context, items: Sequence[Binding], axis: int, span: Span) -> Bound:
    """Values of one type along a new axis."""
    first = items[0].value
    if isinstance(first, RecordValue):
        if any(_is_other(item.value, first) for item in items):
            other = next(item for item in items if _is_other(item.value, first))
            also = [(items[0].span, describe(first))]
            raise TypeMismatch.at(other.span, "the items have different types", describe(other.value), also=also)
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
                describe(leaf),
                also=[(items[0].span, describe(leaves[0]))],
                note="the entries of an array have one shape; `concat` joins arrays of different lengths",
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
    """`reshape(x, (n, m))`: the same entries in row-major order; one size may be -1. Without a shape that of the type
    that it meets."""
    parts = list(arguments.positional)
    found = take(Arguments(parts[:1], arguments.keywords, arguments.span), "reshape", ["x", "shape"], 1)
    x = array_or_scalar(ctx, found["x"])
    shape = parts[1:] or ([found["shape"]] if "shape" in found else [])
    if shape:
        return Leaf(reshaped(ctx, x, _completed(x, shape, arguments.span), arguments.span), x.weak, x.soft)

    def make(type_: Type, span: Span) -> Bound:
        if not isinstance(type_, Array):
            raise TypeMismatch.at(span, "`reshape` makes an array", f"{type_} is wanted here")
        value = reshaped(ctx, x, type_.shape, span)
        return coerce(ctx, Leaf(value, x.weak, x.soft), type_, span)

    return Pending("reshape", arguments.span, make)


def _completed(x: Leaf, parts: Sequence[Binding], span: Span) -> Shape:
    """The shape asked for, a -1 in it replaced by the size that is left."""
    items = [
        Binding(item, part.span)
        for part in parts
        for item in (part.value.items if isinstance(part.value, TupleValue) else (part.value,))
    ]
    open_ = [at for at, item in enumerate(items) if isinstance(item.value, Literal) and item.value.value == -1]
    if len(open_) > 1:
        note = "write the sizes; one -1 stands for what is left"
        raise TypeMismatch.at(items[open_[1]].span, "only one size can be -1", "the second", note=note)
    if not open_:
        return shape_argument(items)
    known = shape_argument([item for at, item in enumerate(items) if at != open_[0]])
    entries, rest = product(x.shape), product(known)
    left = size(0) if rest.constant == 0 else entries // rest
    if rest.constant == 0 or left * rest != entries:
        title = f"{shape_text(x.shape)} does not fall into parts of {rest} entries"
        note = f"a size of the form `{rest} * n` does for all n"
        raise SizeMismatch.at(span, title, f"of {describe(x)}", note=note)
    return (*known[: open_[0]], left, *known[open_[0] :])


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
    """`transpose(x, (0, 2, 1))`: the axes in another order, turned round if none is said. `x.T` is that of a matrix."""
    found = take(arguments, "transpose", ["x", "axes"], 1)
    x = array_argument(ctx, found["x"])
    axes = tuple(reversed(range(len(x.shape))))
    if "axes" in found:
        held = found["axes"]
        items = held.value.items if isinstance(held.value, TupleValue) else (held.value,)
        axes = tuple(axis_of(Binding(item, held.span), len(x.shape)) for item in items)
        if sorted(axes) != list(range(len(x.shape))):
            title = f"these are not the {len(x.shape)} axes in another order"
            raise TypeMismatch.at(held.span, title, "each axis stands once", note="as in `transpose(x, (1, 0, 2))`")
    return Leaf(ctx.g.transpose(x.value, axes=axes), x.weak, x.soft)


def axis_argument(found: dict[str, Binding], rank: int, default: int, span: Span) -> int:
    """The argument `axis=`."""
    return axis_of(found.get("axis", Binding(Literal(default), span)), rank)


def _joined(word: str) -> Callable[[Context, t.Call], Bound]:
    """A call whose arrays may stand in a tuple or in `[...]`, which is not an array then."""

    def rule(ctx: Context, node: t.Call) -> Bound:
        written = node.arguments
        if len(written) == 1 and isinstance(written[0], t.Array | t.Tuple):
            written = written[0].items
        parts = [Binding(ctx.evaluate(part), part.span) for part in written]
        keywords = {option.name: Binding(ctx.evaluate(option.value), option.value.span) for option in node.keywords}
        with ctx.step(node):
            return BUILTINS[word](ctx, Arguments(parts, keywords, node.span))

    return rule


SYNTACTIC["concat"] = _joined("concat")
SYNTACTIC["stack"] = _joined("stack")


def _parts(arguments: Arguments, word: str) -> tuple[list[Binding], dict[str, Binding]]:
    """What is joined, one by one or as a tuple, and the options."""
    parts = list(arguments.positional)
    options = take(Arguments([], arguments.keywords, arguments.span), word, ["axis"], 0)
    if len(parts) == 1 and isinstance(parts[0].value, TupleValue):
        parts = [Binding(item, parts[0].span) for item in parts[0].value.items]
    return parts, options


@builtin("concat")
def concat(ctx: Context, arguments: Arguments) -> Bound:
    """`concat(a, b, axis=0)`: arrays one after another along an axis, the first by default."""
    parts, options = _parts(arguments, "concat")
    if not parts:
        raise TypeMismatch.at(arguments.span, "`concat` of nothing", note="`concat(a, b)`, `concat(a, b, axis=1)`")
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
    """`stack(a, b, axis=0)`: arrays of one shape along a new axis, the first by default."""
    parts, options = _parts(arguments, "stack")
    if not parts:
        raise TypeMismatch.at(arguments.span, "`stack` of nothing", note="`stack(a, b)`, `stack(a, b, axis=1)`")
    value = parts[0].value
    rank = len(value.shape) + 1 if isinstance(value, Leaf) else 1
    return stacked(ctx, parts, axis_argument(options, rank, 0, arguments.span), arguments.span)


@builtin("split")
def split(ctx: Context, arguments: Arguments) -> Bound:
    """`split(x, 4, axis=0)`: equal parts along an axis as a tuple; `split(key, n)`: independent keys."""
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
        raise TypeMismatch.at(found["parts"].span, "`split` into no parts", note="`split(x, 4)` makes four")
    part = x.shape[axis] // count
    if part * count != x.shape[axis]:
        title = f"{x.shape[axis]} does not split into {count} equal parts"
        note = f"a size of the form `{count} * n` does for all n: `x: f64[{count} * n]`"
        raise SizeMismatch.at(arguments.span, title, f"of {describe(x)}", note=note)
    items: list[Bound] = []
    for at in range(count):
        starts = tuple(part * at if number_ == axis else size(0) for number_ in range(len(x.shape)))
        shape = tuple(part if number_ == axis else extent for number_, extent in enumerate(x.shape))
        value = ctx.g.slice(x.value, starts=starts, steps=(1,) * len(shape), shape=shape)
        items.append(Leaf(value, x.weak, x.soft))
    return TupleValue(tuple(items))
