"""Functions of the language: elementwise functions, casts, makers of arrays, random draws, products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dgraph.errors import NotSupported, SizeMismatch, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.annotated_types import value_of_type
from dgraph.frontend.calls import SYNTACTIC
from dgraph.frontend.context import Arguments, Context, builtin, invokes
from dgraph.frontend.formulas import require_size
from dgraph.frontend.joins import choose
from dgraph.frontend.numbers import (
    Agreement,
    agree,
    cast_value,
    fresh_dtype,
    index_value,
    kind_of,
    materialise,
    meet,
    number,
    shape_text,
    to_leaf,
)
from dgraph.frontend.operators import binary, floats, leafwise
from dgraph.frontend.reducers import axes_of, axis_of, reduce_leaf
from dgraph.frontend.values import (
    Binding,
    Bound,
    DTypeValue,
    Extent,
    Leaf,
    Literal,
    Pending,
    RecordValue,
    ShapeValue,
    TupleValue,
    describe,
    leaves_of,
    map_bound,
)
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ir.op import OPS
from dgraph.ops.random import SPLIT
from dgraph.sizes import size
from dgraph.types import BOOL, F64, I64, KEY, Array, Record, Shape, Tuple, Type

FLOAT_FUNCTIONS = (
    "sqrt rsqrt exp expm1 log log1p sin cos tan asin acos atan sinh cosh tanh erf lgamma digamma sigmoid softplus "
    "floor ceil round"
).split()
NUMBER_FUNCTIONS = ("abs", "sign", "relu")
QUESTIONS = ("isnan", "isfinite")
ELEMENTWISE = frozenset([*FLOAT_FUNCTIONS, *NUMBER_FUNCTIONS, *QUESTIONS])
"""Functions of one value that work entry by entry."""


# ---- arguments ------------------------------------------------------------------------------------------------------


def take(arguments: Arguments, words: str, names: Sequence[str], required: int) -> dict[str, Binding]:
    """Arguments of a function of the language by the names of its formals."""
    if len(arguments.positional) > len(names):
        place = arguments.positional[len(names)].span
        title = f"`{words}` takes {len(names)} arguments, not {len(arguments.positional)}"
        raise TypeMismatch.at(place, title, note=f"`{words}({', '.join(names)})`")
    found = dict(zip(names, arguments.positional, strict=False))
    for name, binding in arguments.keywords.items():
        if name not in names or name in found:
            title = f"`{name}` is given twice" if name in found else f"`{words}` has no formal `{name}`"
            raise TypeMismatch.at(binding.span, title, note=f"`{words}({', '.join(names)})`")
        found[name] = binding
    for name in names[:required]:
        if name not in found:
            raise TypeMismatch.at(arguments.span, f"`{words}` needs an argument `{name}`")
    return found


def array_argument(ctx: Context, binding: Binding, rank: int | None = None) -> Leaf:
    """An argument that is an array, of a rank if one is given."""
    leaf = materialise(ctx, number(binding, "an array"), binding.span)
    if (rank is not None and len(leaf.shape) != rank) or not leaf.shape:
        wanted = "an array" if rank is None else f"an array of {rank} axes"
        raise TypeMismatch.at(binding.span, f"{wanted} is wanted here", f"this is {describe(leaf)}")
    return leaf


# ---- elementwise ----------------------------------------------------------------------------------------------------


def _elementwise(word: str) -> Callable[[Context, Arguments], Bound]:
    def rule(ctx: Context, arguments: Arguments) -> Bound:
        return unary(ctx, word, take(arguments, word, ["x"], 1)["x"])

    return rule


def unary(ctx: Context, word: str, x: Binding) -> Bound:
    """An elementwise function of one value."""
    if isinstance(x.value, RecordValue):
        return leafwise(ctx, [x], lambda parts: unary(ctx, word, parts[0]), word)
    value = number(x)
    if kind_of(value) not in ("float", "int"):
        raise TypeMismatch.at(x.span, f"`{word}` is a function of numbers", f"this is {describe(value)}")
    if isinstance(value, Literal):
        return _fold(word, value, x.span)
    if kind_of(value) == "int" and word in NUMBER_FUNCTIONS:
        leaf = materialise(ctx, value, x.span)
        return Leaf(getattr(ctx.g, word)(leaf.value), leaf.weak, leaf.soft)
    leaf = floats(ctx, x)
    result = getattr(ctx.g, word)(leaf.value)
    return Leaf(result) if word in QUESTIONS else Leaf(result, leaf.weak)


def _fold(word: str, value: Literal, span: Span) -> Literal:
    """A function of a literal is a literal."""
    with np.errstate(all="ignore"):
        if isinstance(value.value, int) and word in NUMBER_FUNCTIONS:
            return Literal(int(OPS[word]().evaluate(lambda _: 0, np.int64(value.value))))
        result = OPS[word]().evaluate(lambda _: 0, np.float64(value.value))
    return Literal(bool(result)) if word in QUESTIONS else Literal(float(result))


for _word in sorted(ELEMENTWISE):
    builtin(_word)(_elementwise(_word))


@builtin("atan2")
def atan2(ctx: Context, arguments: Arguments) -> Bound:
    """The angle of a point."""
    found = take(arguments, "atan2", ["y", "x"], 2)
    y, x = meet(ctx, [found["y"], found["x"]], to_float=True)
    return Leaf(ctx.g.atan2(y.value, x.value), y.weak | x.weak)


@builtin("clip")
def clip(ctx: Context, arguments: Arguments) -> Bound:
    """A number kept between two bounds."""
    found = take(arguments, "clip", ["x", "low", "high"], 3)
    x, low, high = meet(ctx, [found["x"], found["low"], found["high"]])
    value = ctx.g.minimum(ctx.g.maximum(x.value, low.value), high.value)
    return Leaf(value, x.weak, x.soft)


def _where(ctx: Context, node: t.Call) -> Bound:
    """`where(c, a, b)` is `a if c else b`."""
    if node.keywords or len(node.arguments) != 3:
        raise TypeMismatch.at(node.span, "`where` takes a condition and two values", note="`where(x > 0, a, b)`")
    condition, then, otherwise = node.arguments
    return ctx.evaluate(t.Choose(node.span, condition, then, otherwise))


builtin("where")(_elementwise("where"))
SYNTACTIC["where"] = _where


@builtin("stop_gradient")
def stop_gradient(ctx: Context, arguments: Arguments) -> Bound:
    """The value itself, as a constant for derivatives."""
    found = take(arguments, "stop_gradient", ["x"], 1)["x"]

    def stop(held: Bound) -> Bound:
        if isinstance(held, Leaf) and held.dtype.is_float:
            return Leaf(ctx.g.stop_gradient(held.value), held.weak, held.soft)
        return held

    return map_bound(found.value, stop)


@invokes(DTypeValue)
def cast(ctx: Context, function: DTypeValue, arguments: Arguments) -> Bound:
    """`f32(x)`: change of dtype, the only way between floats and from floats to integers."""
    dtype = function.dtype
    found = take(arguments, dtype.name, ["x"], 1)["x"]
    value = number(found)
    if kind_of(value) == "key" or dtype is KEY:
        raise TypeMismatch.at(found.span, "a key is not a number", f"this is {describe(value)}")
    if isinstance(value, Literal):
        held = value.value
        if dtype.kind == "int" and isinstance(held, float):
            if not abs(held) < 2**63:
                raise TypeMismatch.at(found.span, f"{held} does not fit in {dtype}")
            held = int(held)
        return to_leaf(ctx, Literal(bool(held) if dtype.kind == "bool" else held), Agreement(dtype), found.span)
    leaf = materialise(ctx, value, found.span)
    affine = leaf.affine if dtype.kind == "int" else None
    return Leaf(cast_value(ctx, leaf.value, dtype), affine=affine)


# ---- makers ---------------------------------------------------------------------------------------------------------

Fill = Callable[[Context, Array, Span], Leaf]


def fill_type(ctx: Context, type_: Type, span: Span, words: str, fill: Fill) -> Bound:
    """A value of a type with every leaf made."""
    if not isinstance(type_, Array | Tuple | Record):
        raise TypeMismatch.at(span, f"`{words}` makes arrays", f"{type_} is wanted here")
    return value_of_type(ctx, type_, lambda _, leaf: fill(ctx, leaf, span))


def maker(
    ctx: Context, arguments: Arguments, words: str, shape: Sequence[Binding], like: Binding | None, start: Callable[[], Fill]
) -> Bound:
    """`zeros()`, `zeros(n, 3)`, `zeros(like=x)`: without a shape it waits for the type that it meets. `start` begins a
    value: it gives what fills its leaves."""
    if like is not None:
        fill = start()

        def remake(held: Bound) -> Bound:
            leaf = materialise(ctx, held, like.span)
            return fill(ctx, leaf.type, arguments.span)

        return map_bound(like.value, remake)
    if not shape:
        return Pending(words, arguments.span, lambda type_, span: fill_type(ctx, type_, span, words, start()))
    extents = shape_argument(shape)
    agreement = fresh_dtype(ctx, F64)
    leaf = start()(ctx, Array(agreement.dtype, extents), arguments.span)
    return Leaf(leaf.value, agreement.weak if leaf.dtype.is_float else frozenset())


def shape_argument(parts: Sequence[Binding]) -> Shape:
    """A shape from sizes, or from one tuple of sizes."""
    out = []
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
            raise TypeMismatch.at(span, f"`{word}` makes numbers, not keys")
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
    """Zeros of the type of a value."""
    found = take(arguments, "zeros_like", ["x"], 1)["x"]

    def zero(held: Bound) -> Bound:
        leaf = materialise(ctx, held, found.span)
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
    """The identity matrix: `eye()`, `eye(n)`, `eye(n, m)`."""
    found = take(arguments, "eye", ["n", "m"], 0)
    shape = [found["n"], found.get("m", found["n"])] if "n" in found else []
    return maker(ctx, arguments, "eye", shape, None, lambda: _eye)


@builtin("arange")
def arange(ctx: Context, arguments: Arguments) -> Bound:
    """The integers below a size."""
    found = take(arguments, "arange", ["n"], 1)["n"]
    return Leaf(ctx.g.iota(extent=require_size(found.value, found.span)), soft=True)


@builtin("one_hot")
def one_hot(ctx: Context, arguments: Arguments) -> Bound:
    """A last axis of zeros with a one at each label."""
    found = take(arguments, "one_hot", ["label", "classes"], 2)
    label = materialise(ctx, found["label"].value, found["label"].span)
    if label.dtype.kind != "int":
        raise TypeMismatch.at(found["label"].span, "labels are integers", describe(label))
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
        raise TypeMismatch.at(binding.span, "a key is wanted here", f"this is {describe(value)}")
    return value.value


def _draw(word: str, formals: Sequence[str], fill: Callable[[Context, Value, dict[str, Binding], Array, Span], Value]) -> None:
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

        return maker(ctx, arguments, word, shape, arguments.keywords.get("like"), start)

    builtin(word)(rule)


def _float_draw(word: str) -> Callable[[Context, Value, dict[str, Binding], Array, Span], Value]:
    def fill(ctx: Context, key: Value, found: dict[str, Binding], type_: Array, span: Span) -> Value:
        if not type_.dtype.is_float:
            raise TypeMismatch.at(span, f"`{word}` draws floats", f"{type_} is wanted here")
        return getattr(ctx.g, word)(key, shape=type_.shape, dtype=type_.dtype)  # type: ignore[no-any-return]

    return fill


def _bernoulli(ctx: Context, key: Value, found: dict[str, Binding], type_: Array, span: Span) -> Value:
    if "p" not in found:
        raise TypeMismatch.at(span, "`bernoulli` needs a probability", note="`bernoulli(key, 0.5)`")
    p = floats(ctx, found["p"])
    return ctx.g.bernoulli(key, p.value, shape=type_.shape)


def _randint(ctx: Context, key: Value, found: dict[str, Binding], type_: Array, span: Span) -> Value:
    if type_.dtype.kind != "int":
        raise TypeMismatch.at(span, "`randint` draws integers", f"{type_} is wanted here")
    for name in ("low", "high"):
        if name not in found:
            raise TypeMismatch.at(span, f"`randint` needs `{name}`", note="`randint(key, low, high)`")
    low, high = (
        cast_value(ctx, index_value(ctx, found[name]).value, type_.dtype) for name in ("low", "high")
    )
    return ctx.g.randint(key, low, high, shape=type_.shape)


_draw("normal", ["key"], _float_draw("normal"))
_draw("uniform", ["key"], _float_draw("uniform"))
_draw("bernoulli", ["key", "p"], _bernoulli)
_draw("randint", ["key", "low", "high"], _randint)


@builtin("fold")
def fold(ctx: Context, arguments: Arguments) -> Bound:
    """The key made from a key and an integer."""
    found = take(arguments, "fold", ["key", "number"], 2)
    return Leaf(ctx.g.fold(key_argument(ctx, found, "fold", arguments.span), index_value(ctx, found["number"]).value))


@builtin("permutation")
def permutation(ctx: Context, arguments: Arguments) -> Bound:
    """The integers below a size in random order."""
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


# ---- products and statistics ----------------------------------------------------------------------------------------


@builtin("dot")
def dot(ctx: Context, arguments: Arguments) -> Bound:
    """The inner product of two arrays or records of one shape."""
    found = take(arguments, "dot", ["a", "b"], 2)
    return inner_product(ctx, found["a"], found["b"])


def inner_product(ctx: Context, a: Binding, b: Binding) -> Bound:
    """The sum of the products of the entries."""
    if isinstance(a.value, RecordValue) or isinstance(b.value, RecordValue):
        products = leafwise(ctx, [a, b], lambda parts: inner_product(ctx, *parts), "dot")
        floats_only = [leaf for _, leaf in leaves_of(products) if isinstance(leaf, Leaf) and leaf.dtype.is_float]
        total: Bound = Literal(0.0)
        for leaf in floats_only:
            total = binary(ctx, "+", Binding(total, a.span), Binding(leaf, b.span))
        return total
    agreement = agree(ctx, [a, b])
    x, y = (to_leaf(ctx, number(side), agreement, side.span) for side in (a, b))
    if x.shape != y.shape:
        title = f"`dot` of the shapes {shape_text(x.shape)} and {shape_text(y.shape)}"
        raise SizeMismatch.at(b.span, title, shape_text(y.shape), also=[(a.span, shape_text(x.shape))])
    if len(x.shape) == 1:
        return Leaf(ctx.g.dot(x.value, y.value), agreement.weak, agreement.soft)
    product = ctx.g.mul(x.value, y.value)
    total_value = ctx.g.reduce_sum(product, axes=tuple(range(len(x.shape)))) if x.shape else product
    return Leaf(total_value, agreement.weak, agreement.soft)


@builtin("norm")
def norm(ctx: Context, arguments: Arguments) -> Bound:
    """The Euclidean norm of an array or record; its derivative at 0 is 0."""
    x = take(arguments, "norm", ["x"], 1)["x"]
    if not isinstance(x.value, RecordValue):
        x = Binding(floats(ctx, x), x.span)
    total = materialise(ctx, inner_product(ctx, x, x), x.span)
    zero = ctx.g.constant(0.0, total.dtype)
    return choose(
        ctx,
        ctx.g.greater(total.value, zero),
        lambda: (Leaf(ctx.g.sqrt(total.value), total.weak), x.span),
        # A NaN is not greater than 0 either, and must come through.
        lambda: (Leaf(ctx.g.stop_gradient(total.value), total.weak), x.span),
        widen=False,
    )


def _statistic(word: str) -> Callable[[Context, Arguments], Bound]:
    """Variance or standard deviation over all entries or along `axis=`."""

    def rule(ctx: Context, arguments: Arguments) -> Bound:
        found = take(arguments, word, ["x", "axis"], 1)
        x = Binding(floats(ctx, found["x"]), found["x"].span)
        leaf = array_argument(ctx, x)
        axes = axes_of(ctx, arguments, len(leaf.shape))
        mean = reduce_leaf(ctx, "mean", leaf, axes, x.span)
        away = ctx.g.sub(leaf.value, repeat(ctx, mean.value, axes, leaf.shape))
        variance = reduce_leaf(ctx, "mean", Leaf(ctx.g.mul(away, away), leaf.weak), axes, x.span)
        return variance if word == "var" else Leaf(ctx.g.sqrt(variance.value), variance.weak)

    return rule


builtin("var")(_statistic("var"))
builtin("std")(_statistic("std"))


def repeat(ctx: Context, value: Value, axes: tuple[int, ...], shape: Shape) -> Value:
    """A reduced value repeated along the axes that it lost."""
    kept = tuple(size(1) if axis in axes else extent for axis, extent in enumerate(shape))
    return ctx.g.widen(ctx.g.reshape(value, shape=kept), shape)


def _soft(word: str) -> Callable[[Context, Arguments], Bound]:
    """`softmax` and `log_softmax` along an axis, the last one by default."""

    def rule(ctx: Context, arguments: Arguments) -> Bound:
        found = take(arguments, word, ["x", "axis"], 1)
        x = array_argument(ctx, Binding(floats(ctx, found["x"]), found["x"].span))
        given = found.get("axis", Binding(Literal(-1), arguments.span))
        axes = (axis_of(ctx, given, len(x.shape)),)
        total = ctx.g.logsumexp(x.value, axes=axes)
        logs = ctx.g.sub(x.value, repeat(ctx, total, axes, x.shape))
        return Leaf(logs if word == "log_softmax" else ctx.g.exp(logs), x.weak)

    return rule


builtin("softmax")(_soft("softmax"))
builtin("log_softmax")(_soft("log_softmax"))


@builtin("len")
def length(ctx: Context, arguments: Arguments) -> Bound:
    """The length of the leading axis, or of a tuple."""
    found = take(arguments, "len", ["x"], 1)["x"]
    value = found.value
    if isinstance(value, TupleValue):
        return Literal(len(value.items))
    if isinstance(value, ShapeValue):
        return Literal(len(value.shape))
    if isinstance(value, RecordValue) and value.axes:
        return Extent(value.axes[0])
    return Extent(array_argument(ctx, found).shape[0])


def _not_yet(word: str) -> Callable[[Context, Arguments], Bound]:
    def rule(ctx: Context, arguments: Arguments) -> Bound:
        raise NotSupported.at(arguments.span, f"`{word}` is not supported yet")

    return rule


for _word in (
    "solve cholesky triangular_solve inv det logdet qr eigh svd lstsq sort argsort searchsorted categorical pad"
).split():
    builtin(_word)(_not_yet(_word))


def _only_looped(word: str) -> Callable[[Context, Arguments], Bound]:
    def rule(ctx: Context, arguments: Arguments) -> Bound:
        note = f"write `for i in {word}(...)`"
        raise TypeMismatch.at(arguments.span, f"`{word}` stands only after `in`", note=note)

    return rule


for _word in ("range", "enumerate", "zip"):
    builtin(_word)(_only_looped(_word))

