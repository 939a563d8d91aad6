"""Makers of arrays: zeros, ones, eye, ranges, one-hot labels, and random draws. Without a shape a maker waits for the
type that it meets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dgraph.errors import SizeMismatch, Span, TypeMismatch
from dgraph.frontend.builtins import take
from dgraph.frontend.coercion import value_of_type
from dgraph.frontend.context import Arguments, Context, builtin
from dgraph.frontend.formulas import require_size
from dgraph.frontend.numbers import Agreement, cast_value, fresh_dtype, index_value, materialise
from dgraph.frontend.operators import binary, floats
from dgraph.frontend.values import (
    Binding,
    Bound,
    Leaf,
    Literal,
    Pending,
    RecordValue,
    ShapeValue,
    TupleValue,
    describe,
    map_bound,
)
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.random import SPLIT
from dgraph.sizes import Size, size
from dgraph.types import BOOL, F64, I32, I64, KEY, Array, DType, Record, Shape, Tuple, Type

# ---- makers ---------------------------------------------------------------------------------------------------------

Fill = Callable[[Context, Array, Span], Leaf]


def fill_type(ctx: Context, type_: Type, span: Span, words: str, fill: Fill) -> Bound:
    """A value of a type with every leaf made."""
    if not isinstance(type_, Array | Tuple | Record):
        raise TypeMismatch.at(span, f"`{words}` makes arrays", f"{type_} is wanted here")
    return value_of_type(ctx, type_, lambda _, leaf: fill(ctx, leaf, span))


def maker(
    ctx: Context,
    arguments: Arguments,
    words: str,
    shape: Sequence[Binding],
    like: Binding | None,
    start: Callable[[], Fill],
    default: DType = F64,
) -> Bound:
    """`zeros()`, `zeros(n, 3)`, `zeros(like=x)`: without a shape it waits for the type that it meets.

    `start` begins a value: it gives what fills its leaves. `default` is the dtype where only a shape is given.
    """
    if like is not None:
        fill = start()

        def remake(held: Bound) -> Bound:
            leaf = materialise(ctx, held, like.span)
            return fill(ctx, leaf.type, arguments.span)

        return map_bound(like.value, remake)
    if not shape:
        return Pending(words, arguments.span, lambda type_, span: fill_type(ctx, type_, span, words, start()))
    extents = shape_argument(shape)
    agreement = Agreement(BOOL) if default is BOOL else fresh_dtype(ctx, default)
    leaf = start()(ctx, Array(agreement.dtype, extents), arguments.span)
    return Leaf(leaf.value, agreement.weak)


def shape_argument(parts: Sequence[Binding]) -> Shape:
    """A shape from sizes, or from one tuple of sizes."""
    out: list[Size] = []
    for part in parts:
        if isinstance(part.value, TupleValue):
            out.extend(require_size(item, part.span) for item in part.value.items)
        elif isinstance(part.value, ShapeValue):
            out.extend(part.value.shape)
        else:
            out.append(require_size(part.value, part.span))
    return tuple(out)


def _constant_maker(word: str, value: int) -> Callable[[Context, Arguments], Bound]:
    def fill(ctx: Context, type_: Array, span: Span) -> Leaf:
        if type_.dtype is KEY:
            note = "keys are made of keys: `split(key, 3)`"
            raise TypeMismatch.at(span, f"`{word}` makes numbers, not keys", f"{type_} is wanted here", note=note)
        return Leaf(ctx.g.full(bool(value) if type_.dtype is BOOL else value, type_))

    def rule(ctx: Context, arguments: Arguments) -> Bound:
        like = {name: held for name, held in arguments.keywords.items() if name != "like"}
        take(Arguments([], like, arguments.span), word, [], 0)
        return maker(ctx, arguments, word, arguments.positional, arguments.keywords.get("like"), lambda: fill)

    return rule


builtin("zeros")(_constant_maker("zeros", 0))
builtin("ones")(_constant_maker("ones", 1))


@builtin("zeros_like")
def zeros_like(ctx: Context, arguments: Arguments) -> Bound:
    """`zeros_like(x)`: zeros of the type of an array or record. The integers of a record ride along, so that adding
    the zeros to a record gives that record."""
    found = take(arguments, "zeros_like", ["x"], 1)["x"]

    is_record = isinstance(found.value, RecordValue)

    def zero(held: Bound) -> Bound:
        leaf = materialise(ctx, held, found.span)
        if is_record and not leaf.dtype.is_float:
            return leaf
        return Leaf(ctx.g.full(False if leaf.dtype is BOOL else 0, leaf.type), leaf.weak, leaf.soft)

    return map_bound(found.value, zero)


def _eye(ctx: Context, type_: Array, span: Span) -> Leaf:
    if len(type_.shape) != 2:
        raise TypeMismatch.at(span, "`eye` makes a matrix", f"{type_} is wanted here")

    def point(h: Builder, i: Value, j: Value) -> Value:
        return h.cast(h.equal(i, j), dtype=type_.dtype)

    return Leaf(ctx.g.map(type_.shape, point))


@builtin("eye")
def eye(ctx: Context, arguments: Arguments) -> Bound:
    """`eye(n, m)`: ones on the diagonal, zeros elsewhere; square, or of the type that it meets, if not said."""
    found = take(arguments, "eye", ["n", "m"], 0)
    shape = [found["n"], found.get("m", found["n"])] if "n" in found else []
    return maker(ctx, arguments, "eye", shape, None, lambda: _eye)


@builtin("arange")
def arange(ctx: Context, arguments: Arguments) -> Bound:
    """`arange(stop)`, `arange(start, stop, step=1)`: the integers from a start, 0 if not said, up to but without a
    stop."""
    names = ["start", "stop", "step"] if len(arguments.positional) > 1 else ["stop", "start", "step"]
    found = take(arguments, "arange", names, 1)
    start, stop, step = (
        _whole(found[name]) if name in found else size(default)
        for name, default in (("start", 0), ("stop", 0), ("step", 1))
    )
    stride = step.constant
    if not stride:
        title = "the step of `arange` is a literal other than 0"
        raise TypeMismatch.at(found["step"].span, title, note="`arange(0, n, 2)`, or `k * arange(n)`")
    length = (stop - start + (stride - 1)) // stride if stride > 0 else (start - stop - (stride + 1)) // -stride
    if length.constant is not None and length.constant < 0:
        length = size(0)
    value = ctx.g.iota(extent=length)
    if stride != 1:
        value = ctx.g.mul(value, ctx.g.full(stride, Array(I64, (length,))))
    if start.constant != 0:
        value = ctx.g.add(value, ctx.g.widen(ctx.g.number(start), (length,)))
    return Leaf(value, soft=True)


def _whole(binding: Binding) -> Size:
    """A literal integer, negative too, or a size."""
    held = binding.value
    if isinstance(held, Literal) and type(held.value) is int:
        return size(held.value)
    if isinstance(held, Literal) and isinstance(held.value, float):
        note = "scale it: `0.1 * arange(n)`"
        raise TypeMismatch.at(binding.span, "`arange` counts in integers", "this is a float", note=note)
    return require_size(held, binding.span)


@builtin("one_hot")
def one_hot(ctx: Context, arguments: Arguments) -> Bound:
    """`one_hot(label, classes)`: a last axis of zeros with a one at each label, none for a label outside."""
    found = take(arguments, "one_hot", ["label", "classes"], 2)
    label = materialise(ctx, found["label"].value, found["label"].span)
    if label.dtype.kind != "int":
        said = f"this is {describe(label)}"
        raise TypeMismatch.at(found["label"].span, "labels are integers", said, note="write `i32(floor(label))`")
    extent = require_size(found["classes"].value, found["classes"].span)
    agreement = fresh_dtype(ctx, F64)

    def point(h: Builder, *at: Value) -> Value:
        here = h.index(label.value, *at[:-1], policy="proven") if label.shape else label.value
        return h.cast(h.equal(h.cast(here, dtype=I64), at[-1]), dtype=agreement.dtype)

    return Leaf(ctx.g.map((*label.shape, extent), point), agreement.weak)


# ---- random numbers -------------------------------------------------------------------------------------------------


def key_argument(ctx: Context, found: dict[str, Binding], words: str, span: Span) -> Value:
    """The key of a draw; inside an initialiser it may be left out."""
    binding = found.get("key")
    if binding is None:
        if ctx.ambient_key is None:
            raise TypeMismatch.at(span, f"`{words}` needs a key", note="take a formal `key: key` and `split` it")
        binding = Binding(ctx.ambient_key(), span)
    value = binding.value
    if not isinstance(value, Leaf) or value.type != Array(KEY):
        note = "keys come from a formal `key: key`, from `split` and from `fold`"
        raise TypeMismatch.at(binding.span, "a key is wanted here", f"this is {describe(value)}", note=note)
    return value.value


def _draw(
    word: str,
    formals: Sequence[str],
    fill: Callable[[Context, Value, dict[str, Binding], Array, Span], Value],
    default: DType = F64,
) -> None:
    """Register a draw: `normal(key)`, with an optional shape and `like=`."""

    def rule(ctx: Context, arguments: Arguments) -> Bound:
        named = Arguments(
            arguments.positional[: len(formals)],
            {name: held for name, held in arguments.keywords.items() if name != "like"},
            arguments.span,
        )
        found = take(named, word, [*formals, "shape", "scale"], 0)
        shape = [*arguments.positional[len(formals) :], *([found["shape"]] if "shape" in found else [])]
        key = key_argument(ctx, found, word, arguments.span)

        def start() -> Fill:
            # Each leaf of a record draws with a key of its own.
            count = iter(range(1_000_000))

            def one(ctx: Context, type_: Array, span: Span) -> Leaf:
                at = next(count)
                own = key if at == 0 else ctx.g.fold(key, ctx.g.number(at))
                value = fill(ctx, own, found, type_, span)
                if "scale" in found:
                    scaled = binary(ctx, "*", Binding(Leaf(value), span), found["scale"])
                    assert isinstance(scaled, Leaf)
                    value = scaled.value
                return Leaf(cast_value(ctx, value, type_.dtype))

            return one

        return maker(ctx, arguments, word, shape, arguments.keywords.get("like"), start, default)

    builtin(word)(rule)


def _float_draw(word: str) -> Callable[[Context, Value, dict[str, Binding], Array, Span], Value]:
    def fill(ctx: Context, key: Value, _: dict[str, Binding], type_: Array, span: Span) -> Value:
        if not type_.dtype.is_float:
            note = "`randint(key, low, high)` draws integers, `bernoulli(key, p)` bools"
            raise TypeMismatch.at(span, f"`{word}` draws floats", f"{type_} is wanted here", note=note)
        return getattr(ctx.g, word)(key, shape=type_.shape, dtype=type_.dtype)  # type: ignore[no-any-return]

    return fill


def _bernoulli(ctx: Context, key: Value, found: dict[str, Binding], type_: Array, span: Span) -> Value:
    if "p" not in found:
        raise TypeMismatch.at(span, "`bernoulli` needs a probability", note="`bernoulli(key, 0.5)`")
    p = floats(ctx, found["p"])
    if p.shape not in ((), type_.shape):
        title = f"the probabilities have another shape than {type_}"
        raise SizeMismatch.at(found["p"].span, title, f"this is {describe(p)}")
    return ctx.g.bernoulli(key, p.value, shape=type_.shape)


def _randint(ctx: Context, key: Value, found: dict[str, Binding], type_: Array, span: Span) -> Value:
    if type_.dtype.kind != "int":
        note = "`uniform(key)` draws floats from 0 to 1"
        raise TypeMismatch.at(span, "`randint` draws integers", f"{type_} is wanted here", note=note)
    for name in ("low", "high"):
        if name not in found:
            raise TypeMismatch.at(span, f"`randint` needs `{name}`", note="`randint(key, low, high)`")
    low, high = (cast_value(ctx, index_value(ctx, found[name]).value, type_.dtype) for name in ("low", "high"))
    return ctx.g.randint(key, low, high, shape=type_.shape)


_draw("normal", ["key"], _float_draw("normal"))
_draw("uniform", ["key"], _float_draw("uniform"))
_draw("bernoulli", ["key", "p"], _bernoulli, BOOL)
_draw("randint", ["key", "low", "high"], _randint, I32)


@builtin("fold")
def fold(ctx: Context, arguments: Arguments) -> Bound:
    """`fold(key, i)`: the i-th of the keys made from one, for any integer."""
    found = take(arguments, "fold", ["key", "number"], 2)
    return Leaf(ctx.g.fold(key_argument(ctx, found, "fold", arguments.span), index_value(ctx, found["number"]).value))


@builtin("permutation")
def permutation(ctx: Context, arguments: Arguments) -> Bound:
    """`permutation(key, n)`: the integers below a size in random order."""
    found = take(arguments, "permutation", ["key", "n"], 2)
    key = key_argument(ctx, found, "permutation", arguments.span)
    extent = require_size(found["n"].value, found["n"].span)
    return Leaf(ctx.g.permutation(key, extent=extent), soft=True)


def split_key(ctx: Context, key: Leaf, count: Binding | None) -> Bound:
    """`split(key)` or `split(key, n)`: an array of independent keys."""
    extent = size(2) if count is None else require_size(count.value, count.span)
    if extent.constant is not None:
        return Leaf(ctx.g.split(key.value, count=extent.constant))
    return Leaf(ctx.g.map([extent], lambda h, i: h.fold(key.value, i, stream=SPLIT)))
