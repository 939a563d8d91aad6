"""Functions of the language: elementwise functions, casts, makers of arrays, random draws, products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dgraph.errors import NotSupported, SizeMismatch, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.calls import SYNTACTIC
from dgraph.frontend.context import BUILTINS, Arguments, Context, builtin, invokes
from dgraph.frontend.joins import choose
from dgraph.frontend.numbers import (
    Agreement,
    agree,
    cast_value,
    counted,
    kind_of,
    materialise,
    meet,
    number,
    recast_affine,
    shape_text,
    to_leaf,
)
from dgraph.frontend.operators import binary, floats, leafwise
from dgraph.frontend.reducers import axes_of, axis_of, reduce_leaf, require_leaf_terms
from dgraph.frontend.values import (
    Binding,
    Bound,
    Builtin,
    DTypeValue,
    Extent,
    Leaf,
    Literal,
    RecordValue,
    ShapeValue,
    TupleValue,
    describe,
    leaves_of,
    map_bound,
)
from dgraph.ir.graph import Value
from dgraph.ir.op import OPS
from dgraph.sizes import size
from dgraph.types import KEY, Shape

FLOAT_FUNCTIONS = [
    "sqrt",
    "rsqrt",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "erf",
    "lgamma",
    "digamma",
    "sigmoid",
    "softplus",
    "floor",
    "ceil",
    "round",
]
NUMBER_FUNCTIONS = ("abs", "sign", "relu")
QUESTIONS = ("isnan", "isfinite")
ELEMENTWISE = frozenset([*FLOAT_FUNCTIONS, *NUMBER_FUNCTIONS, *QUESTIONS])
"""Functions of one value that work entry by entry."""


@invokes(Builtin)
def invoke_builtin(ctx: Context, function: Builtin, arguments: Arguments) -> Bound:
    """A function of the language applied."""
    return BUILTINS[function.name](ctx, arguments)


# ---- arguments ------------------------------------------------------------------------------------------------------


def take(arguments: Arguments, words: str, names: Sequence[str], required: int) -> dict[str, Binding]:
    """Arguments of a function of the language by the names of its formals."""
    if len(arguments.positional) > len(names):
        place = arguments.positional[len(names)].span
        title = f"`{words}` takes {counted(len(names), 'argument')}, not {len(arguments.positional)}"
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
        return _fold(word, value)
    if kind_of(value) == "int" and word in NUMBER_FUNCTIONS:
        leaf = materialise(ctx, value, x.span)
        return Leaf(getattr(ctx.g, word)(leaf.value), leaf.weak, leaf.soft)
    leaf = floats(ctx, x)
    result = getattr(ctx.g, word)(leaf.value)
    return Leaf(result) if word in QUESTIONS else Leaf(result, leaf.weak)


def _fold(word: str, value: Literal) -> Literal:
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
    return Leaf(cast_value(ctx, leaf.value, dtype), affine=recast_affine(leaf, dtype))


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
        axes = axes_of(arguments, len(leaf.shape))
        require_leaf_terms(ctx, word, leaf, axes, x.span)
        mean = reduce_leaf(ctx, "mean", leaf, axes, x.span, has_terms=True)
        away = ctx.g.sub(leaf.value, repeat(ctx, mean.value, axes, leaf.shape))
        variance = reduce_leaf(ctx, "mean", Leaf(ctx.g.mul(away, away), leaf.weak), axes, x.span, has_terms=True)
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
        axes = (axis_of(given, len(x.shape)),)
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
    def rule(_: Context, arguments: Arguments) -> Bound:
        raise NotSupported.at(arguments.span, f"`{word}` is not supported yet")

    return rule


for _word in ("qr", "eigh", "svd", "lstsq"):
    builtin(_word)(_not_yet(_word))


def _only_looped(word: str) -> Callable[[Context, Arguments], Bound]:
    def rule(_: Context, arguments: Arguments) -> Bound:
        note = f"write `for i in {word}(...)`"
        raise TypeMismatch.at(arguments.span, f"`{word}` stands only after `in`", note=note)

    return rule


for _word in ("range", "enumerate", "zip"):
    builtin(_word)(_only_looped(_word))
