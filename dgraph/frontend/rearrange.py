"""Functions that place entries elsewhere: pad, flip, tile, diagonals and triangles, running sums, orders."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from dgraph.errors import SizeMismatch, TypeMismatch
from dgraph.frontend.builtins import array_argument, take
from dgraph.frontend.context import Arguments, Context, builtin
from dgraph.frontend.formulas import require_size
from dgraph.frontend.numbers import agree, index_value, number, to_leaf
from dgraph.frontend.reducers import axis_of
from dgraph.frontend.shapes import agreed, array_or_scalar, axis_argument
from dgraph.frontend.values import Binding, Bound, Extent, Leaf, Literal, Text, TupleValue, describe
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.sizes import Size, product, size
from dgraph.types import BOOL

Axes = tuple[int, ...]


# ---- arguments ------------------------------------------------------------------------------------------------------


def axes_argument(found: dict[str, Binding], rank: int) -> Axes | None:
    """The argument `axis=`, one axis or several; None without it."""
    if "axis" not in found:
        return None
    given = found["axis"]
    items = given.value.items if isinstance(given.value, TupleValue) else (given.value,)
    axes = tuple(axis_of(Binding(item, given.span), rank) for item in items)
    if len(set(axes)) < len(axes):
        raise TypeMismatch.at(given.span, "an axis is named twice", "name each once")
    return axes


def _literal_bool(found: dict[str, Binding], name: str) -> bool:
    """An option that is written `True` or `False`."""
    if name not in found:
        return False
    held = found[name].value
    if not isinstance(held, Literal) or not isinstance(held.value, bool):
        raise TypeMismatch.at(found[name].span, f"`{name}` is `True` or `False`", f"this is {describe(held)}")
    return held.value


def _numbers(ctx: Context, binding: Binding, word: str) -> Leaf:
    """An array of numbers."""
    leaf = array_argument(ctx, binding)
    if leaf.dtype.kind not in ("float", "int"):
        raise TypeMismatch.at(binding.span, f"`{word}` is of numbers", f"this is {describe(leaf)}")
    return leaf


def _offset(found: dict[str, Binding]) -> Size:
    """The argument `k=` of a diagonal: a literal or a size."""
    if "k" not in found:
        return size(0)
    held = found["k"].value
    if isinstance(held, Literal) and type(held.value) is int:
        return size(held.value)
    return require_size(held, found["k"].span)


def _same(leaf: Leaf, value: Value) -> Leaf:
    """A result that is as firm as what it was made of."""
    return Leaf(value, leaf.weak, leaf.soft)


# ---- along axes -----------------------------------------------------------------------------------------------------


@builtin("flip")
def flip(ctx: Context, arguments: Arguments) -> Bound:
    """`flip(x, axis=0)`: the entries along one or several axes in reverse order, along all if not said."""
    found = take(arguments, "flip", ["x", "axis"], 1)
    x = array_argument(ctx, found["x"])
    rank = len(x.shape)
    axes = axes_argument(found, rank)
    axes = tuple(range(rank)) if axes is None else axes
    starts = tuple(extent - 1 if at in axes else size(0) for at, extent in enumerate(x.shape))
    steps = tuple(-1 if at in axes else 1 for at in range(rank))
    return _same(x, ctx.g.slice(x.value, starts=starts, steps=steps, shape=x.shape))


@builtin("squeeze")
def squeeze(ctx: Context, arguments: Arguments) -> Bound:
    """`squeeze(x, axis=0)`: without axes of length 1, all of them if not said."""
    found = take(arguments, "squeeze", ["x", "axis"], 1)
    x = array_argument(ctx, found["x"])
    axes = axes_argument(found, len(x.shape))
    if axes is None:
        axes = tuple(at for at, extent in enumerate(x.shape) if extent.is_literal_one)
    for axis in axes:
        if not x.shape[axis].is_literal_one:
            raise SizeMismatch.at(found["x"].span, f"axis {axis} has length {x.shape[axis]}, not 1", describe(x))
    shape = tuple(extent for at, extent in enumerate(x.shape) if at not in axes)
    return _same(x, ctx.g.reshape(x.value, shape=shape))


@builtin("expand")
def expand(ctx: Context, arguments: Arguments) -> Bound:
    """`expand(x, axis)`: new axes of length 1, which stand at these places of the result."""
    found = take(arguments, "expand", ["x", "axis"], 2)
    x = array_or_scalar(ctx, found["x"])
    held = found["axis"].value
    count = len(held.items) if isinstance(held, TupleValue) else 1
    axes = axes_argument(found, len(x.shape) + count) or ()
    extents = iter(x.shape)
    shape = tuple(size(1) if at in axes else next(extents) for at in range(len(x.shape) + count))
    return _same(x, ctx.g.reshape(x.value, shape=shape))


@builtin("tile")
def tile(ctx: Context, arguments: Arguments) -> Bound:
    """`tile(x, times)`: an array repeated along its last axis, along its last axes for a tuple, or along `axis=`."""
    found = take(arguments, "tile", ["x", "times", "axis"], 2)
    x = array_or_scalar(ctx, found["x"])
    held = found["times"]
    items = held.value.items if isinstance(held.value, TupleValue) else (held.value,)
    times = [require_size(item, held.span) for item in items]
    axes = axes_argument(found, len(x.shape))
    if axes is not None:
        if len(axes) != len(times):
            title = f"{len(times)} numbers of repetitions for {len(axes)} {'axis' if len(axes) == 1 else 'axes'}"
            raise TypeMismatch.at(held.span, title, note="write one number for each axis")
        named = dict(zip(axes, times, strict=True))
        times = [named.get(at, size(1)) for at in range(len(x.shape))]
    rank = max(len(times), len(x.shape))
    times = [size(1)] * (rank - len(times)) + times
    shape = (*(size(1) for _ in range(rank - len(x.shape))), *x.shape)
    apart = tuple(part for extent in shape for part in (size(1), extent))
    wide = tuple(part for count, extent in zip(times, shape, strict=True) for part in (count, extent))
    repeated = ctx.g.widen(ctx.g.reshape(x.value, shape=apart), wide)
    total = tuple(count * extent for count, extent in zip(times, shape, strict=True))
    return _same(x, ctx.g.reshape(repeated, shape=total))


@builtin("pad")
def pad(ctx: Context, arguments: Arguments) -> Bound:
    """`pad(x, 1)`, `pad(x, (1, 2))`, `pad(x, ((1, 2), (0, 3)))`: so many entries before and after along every axis, or
    along `axis=`; they are 0, or `value=`."""
    found = take(arguments, "pad", ["x", "widths", "value", "axis"], 2)
    x = array_argument(ctx, found["x"])
    rank = len(x.shape)
    axes = axes_argument(found, rank)
    axes = tuple(range(rank)) if axes is None else axes
    pairs = dict(zip(axes, _widths(found["widths"], len(axes)), strict=True))
    before = tuple(pairs[at][0] if at in pairs else size(0) for at in range(rank))
    shape = tuple(extent + sum(pairs.get(at, ()), size(0)) for at, extent in enumerate(x.shape))
    given = found.get("value")
    if given is None or (isinstance(given.value, Literal) and given.value.value == 0):
        return _same(x, ctx.g.unslice(x.value, starts=before, steps=(1,) * rank, shape=shape))
    agreement = agreed(ctx, [Binding(x, found["x"].span), given])
    inner = to_leaf(ctx, x, agreement, found["x"].span)
    outer = to_leaf(ctx, number(given), agreement, given.span)
    if outer.shape:
        raise TypeMismatch.at(given.span, "arrays are padded with one number", f"this is {describe(outer)}")

    def point(h: Builder, *at: Value) -> Value:
        places = {axis: h.sub(at[axis], h.number(before[axis])) for axis in axes}
        tests = []
        for axis, place in places.items():
            tests += [h.greater_equal(place, h.number(0)), h.less(place, h.number(x.shape[axis]))]
        inside = reduce(h.logical_and, tests)
        indices = [places.get(axis, index) for axis, index in enumerate(at)]
        (entry,) = h.if_(
            inside, lambda s: [s.index(inner.value, *indices, policy="proven")], lambda s: [s.resolve(outer.value)]
        )
        return entry

    return Leaf(ctx.g.map(shape, point), agreement.weak, agreement.soft)


def _widths(given: Binding, count: int) -> list[tuple[Size, Size]]:
    """How much is put before and after each of so many axes."""

    def one(held: Bound) -> tuple[Size, Size]:
        parts = held.items if isinstance(held, TupleValue) else (held, held)
        if len(parts) != 2:
            raise TypeMismatch.at(given.span, f"{len(parts)} widths for one axis", note="`pad(x, (before, after))`")
        return require_size(parts[0], given.span), require_size(parts[1], given.span)

    held = given.value
    if isinstance(held, TupleValue) and any(isinstance(item, TupleValue) for item in held.items):
        if len(held.items) != count:
            title = f"{len(held.items)} pairs of widths for {count} {'axis' if count == 1 else 'axes'}"
            raise TypeMismatch.at(given.span, title, note="write one pair `(before, after)` for each axis")
        return [one(item) for item in held.items]
    return [one(held)] * count


# ---- running sums and orders ----------------------------------------------------------------------------------------


def _running(word: str) -> Callable[[Context, Arguments], Bound]:
    def rule(ctx: Context, arguments: Arguments) -> Bound:
        found = take(arguments, word, ["x", "axis", "reverse"], 1)
        x = _numbers(ctx, found["x"], word)
        value = x.value
        if "axis" not in found and len(x.shape) > 1:
            value = ctx.g.reshape(value, shape=(product(x.shape),))
        axis = axis_argument(found, len(x.shape), 0, arguments.span)
        return _same(x, getattr(ctx.g, word)(value, axis=axis, reverse=_literal_bool(found, "reverse")))

    rule.__doc__ = (
        f"`{word}(x, axis=0)`: the {'sum' if word == 'cumsum' else 'product'} of the entries up to each one, along an "
        "axis or in row-major order; with `reverse=True` from the end."
    )
    return rule


builtin("cumsum")(_running("cumsum"))
builtin("cumprod")(_running("cumprod"))


def _ordered(word: str, meaning: str) -> Callable[[Context, Arguments], Bound]:
    def rule(ctx: Context, arguments: Arguments) -> Bound:
        found = take(arguments, word, ["x", "axis", "descending"], 1)
        x = _numbers(ctx, found["x"], word)
        axis = axis_argument(found, len(x.shape), -1, arguments.span)
        value = getattr(ctx.g, word)(x.value, axis=axis, descending=_literal_bool(found, "descending"))
        return _same(x, value) if word == "sort" else Leaf(value, soft=True)

    rule.__doc__ = meaning
    return rule


builtin("sort")(
    _ordered(
        "sort",
        "`sort(x, axis=-1)`: the entries along an axis in ascending order, with `descending=True` the largest first. "
        "NaN comes last, equal entries keep their order.",
    )
)
builtin("argsort")(
    _ordered("argsort", "`argsort(x, axis=-1)`: the places from which `sort` takes its entries, as integers.")
)


@builtin("searchsorted")
def searchsorted(ctx: Context, arguments: Arguments) -> Bound:
    """`searchsorted(x, v)`: where each v would be inserted into an ascending x; before equal entries, or after them
    with `side="right"`."""
    found = take(arguments, "searchsorted", ["x", "v", "side"], 2)
    side = found["side"].value if "side" in found else Text("left")
    if not isinstance(side, Text) or side.value not in ("left", "right"):
        raise TypeMismatch.at(found["side"].span, '`side` is `"left"` or `"right"`', "something else is given")
    parts = [found["x"], found["v"]]
    agreement = agree(ctx, parts)
    x, v = (to_leaf(ctx, number(part), agreement, part.span) for part in parts)
    if len(x.shape) != 1:
        raise TypeMismatch.at(found["x"].span, "`searchsorted` looks in an array of one axis", f"this is {describe(x)}")
    return Leaf(ctx.g.searchsorted(x.value, v.value, right=side.value == "right"), soft=True)


# ---- diagonals ------------------------------------------------------------------------------------------------------


@builtin("diag")
def diag(ctx: Context, arguments: Arguments) -> Bound:
    """`diag(x, k=0)`: the k-th diagonal of a matrix, or the matrix with a vector on its k-th diagonal and zeros."""
    found = take(arguments, "diag", ["x", "k"], 1)
    x = array_argument(ctx, found["x"])
    k = _offset(found)
    if len(x.shape) not in (1, 2):
        raise TypeMismatch.at(arguments.span, "`diag` is of a matrix or a vector", describe(x))
    if not (k.is_nonnegative() or (-k).is_nonnegative()):
        note = "a size is 0 or more, a difference of two may be less: say which diagonal by a literal or a size"
        raise TypeMismatch.at(found["k"].span, "the sign of this size is not known", "above or below?", note=note)
    # Where the diagonal starts: in the first row or in the first column.
    down, right = (size(0), k) if k.is_nonnegative() else (-k, size(0))
    if len(x.shape) == 1:
        side = x.shape[0] + down + right

        def read(h: Builder, i: Value, j: Value) -> Value:
            on_it = h.equal(h.add(i, h.number(right)), h.add(j, h.number(down)))
            place = h.sub(h.select(on_it, i, h.number(-1)), h.number(down))
            return h.index(x.value, place, policy="drop")

        return _same(x, ctx.g.map((side, side), read))
    length = _shorter(x.shape[0] - down, x.shape[1] - right)
    if length is None:
        title = f"which is shorter is not known: {x.shape[0] - down} or {x.shape[1] - right}"
        note = "slice it first: `diag(x[:3])`, or assert which is shorter"
        raise SizeMismatch.at(arguments.span, title, f"of {describe(x)}", note=note)

    def entry(h: Builder, i: Value) -> Value:
        return h.index(x.value, h.add(i, h.number(down)), h.add(i, h.number(right)), policy="proven")

    return _same(x, ctx.g.map((length,), entry))


def _shorter(a: Size, b: Size) -> Size | None:
    """The smaller of two lengths, if that can be seen; a negative number is no length."""
    lengths = [size(max(length.constant, 0)) if length.constant is not None else length for length in (a, b)]
    if (lengths[1] - lengths[0]).is_nonnegative():
        return lengths[0]
    return lengths[1] if (lengths[0] - lengths[1]).is_nonnegative() else None


def _triangle(word: str, test: str, meaning: str) -> Callable[[Context, Arguments], Bound]:
    def rule(ctx: Context, arguments: Arguments) -> Bound:
        found = take(arguments, word, ["x", "k"], 1)
        x = array_argument(ctx, found["x"])
        if len(x.shape) < 2:
            note = "the last two axes are its rows and columns"
            raise TypeMismatch.at(arguments.span, f"`{word}` is of a matrix", f"this is of {describe(x)}", note=note)
        k = index_value(ctx, found.get("k", Binding(Extent(size(0)), arguments.span))).value

        def point(h: Builder, *at: Value) -> Value:
            (entry,) = h.if_(
                getattr(h, test)(h.add(at[-2], k), at[-1]),
                lambda s: [s.index(x.value, *at, policy="proven")],
                lambda s: [s.constant(False if x.dtype is BOOL else 0, x.dtype)],
            )
            return entry

        return _same(x, ctx.g.map(x.shape, point))

    rule.__doc__ = meaning
    return rule


builtin("tril")(
    _triangle(
        "tril",
        "greater_equal",
        "`tril(x, k=0)`: zeros above the k-th diagonal of the last two axes.",
    )
)
builtin("triu")(
    _triangle(
        "triu",
        "less_equal",
        "`triu(x, k=0)`: zeros below the k-th diagonal of the last two axes.",
    )
)
