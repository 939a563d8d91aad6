"""Functions of the language: elementwise functions, casts, makers of arrays, random draws, products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dgraph.errors import SizeMismatch, Span, TypeMismatch
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
from dgraph.frontend.reducers import axes_of, reduce_leaf, require_leaf_terms
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
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ir.op import OPS
from dgraph.sizes import product, size
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
        raise TypeMismatch.at(place, title, "too many", note=f"`{words}({', '.join(names)})`")
    found = dict(zip(names, arguments.positional, strict=False))
    for name, binding in arguments.keywords.items():
        if name not in names or name in found:
            title = f"`{name}` is given twice" if name in found else f"`{words}` has no formal `{name}`"
            raise TypeMismatch.at(binding.span, title, note=f"`{words}({', '.join(names)})`")
        found[name] = binding
    for name in names[:required]:
        if name not in found:
            note = f"`{words}({', '.join(names[:required])})`"
            raise TypeMismatch.at(arguments.span, f"`{words}` needs an argument `{name}`", note=note)
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
        note = "draw with it: `normal(key)`" if kind_of(value) == "key" else "choose: `1.0 if c else 0.0`"
        raise TypeMismatch.at(x.span, f"`{word}` is a function of numbers", f"this is {describe(value)}", note=note)
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


@builtin("round")
def round_(ctx: Context, arguments: Arguments) -> Bound:
    """`round(x, decimals=0)`: the nearest number with so many decimals, a half to the even one."""
    found = take(arguments, "round", ["x", "decimals"], 1)
    x = found["x"]
    if "decimals" not in found:
        return unary(ctx, "round", x)
    held = found["decimals"].value
    if not isinstance(held, Literal) or type(held.value) is not int or abs(held.value) > 300:
        raise TypeMismatch.at(found["decimals"].span, "`decimals` is a literal integer", f"this is {describe(held)}")
    power = Binding(Literal(10.0 ** abs(held.value)), found["decimals"].span)
    there, back = ("*", "/") if held.value >= 0 else ("/", "*")
    whole = unary(ctx, "round", Binding(binary(ctx, there, x, power), x.span))
    return binary(ctx, back, Binding(whole, x.span), power)


@builtin("atan2")
def atan2(ctx: Context, arguments: Arguments) -> Bound:
    """`atan2(y, x)`: the angle of the point (x, y), between -pi and pi."""
    found = take(arguments, "atan2", ["y", "x"], 2)
    y, x = meet(ctx, [found["y"], found["x"]], to_float=True)
    return Leaf(ctx.g.atan2(y.value, x.value), y.weak | x.weak)


@builtin("clip")
def clip(ctx: Context, arguments: Arguments) -> Bound:
    """`clip(x, low, high)`: `min(max(x, low), high)`."""
    found = take(arguments, "clip", ["x", "low", "high"], 3)
    x, low, high = meet(ctx, [found["x"], found["low"], found["high"]])
    value = ctx.g.minimum(ctx.g.maximum(x.value, low.value), high.value)
    return Leaf(value, x.weak, x.soft)


def _where(ctx: Context, node: t.Call) -> Bound:
    """`where(c, a, b)`: `a if c else b`."""
    if node.keywords or len(node.arguments) != 3:
        raise TypeMismatch.at(node.span, "`where` takes a condition and two values", note="`where(x > 0, a, b)`")
    condition, then, otherwise = node.arguments
    return ctx.evaluate(t.Choose(node.span, condition, then, otherwise))


builtin("where")(_elementwise("where"))
SYNTACTIC["where"] = _where


@builtin("stop_gradient")
def stop_gradient(ctx: Context, arguments: Arguments) -> Bound:
    """`stop_gradient(x)`: x itself, taken as constant by derivatives."""
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
        note = "draw with it: `uniform(key)`"
        raise TypeMismatch.at(found.span, "a key is not a number", f"this is {describe(value)}", note=note)
    if isinstance(value, Literal):
        held = value.value
        if dtype.kind == "int" and isinstance(held, float):
            if not abs(held) < 2**63:
                note = "keep it a float"
                raise TypeMismatch.at(found.span, f"{held} does not fit in {dtype}", "too large", note=note)
            held = int(held)
        return to_leaf(ctx, Literal(bool(held) if dtype.kind == "bool" else held), Agreement(dtype), found.span)
    leaf = materialise(ctx, value, found.span)
    return Leaf(cast_value(ctx, leaf.value, dtype), affine=recast_affine(leaf, dtype))


# ---- products and statistics ----------------------------------------------------------------------------------------


@builtin("dot")
def dot(ctx: Context, arguments: Arguments) -> Bound:
    """`dot(a, b)`: the sum of the products of the entries of two arrays or records of one shape."""
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
    """`norm(x)`: the Euclidean norm of an array or record, or along `axis=`. Its derivative at 0 is 0."""
    found = take(arguments, "norm", ["x", "axis"], 1)
    x = found["x"]
    if isinstance(x.value, RecordValue) or "axis" not in found:
        if not isinstance(x.value, RecordValue):
            x = Binding(floats(ctx, x), x.span)
        return _root(ctx, materialise(ctx, inner_product(ctx, x, x), x.span), x.span)
    leaf = array_argument(ctx, Binding(floats(ctx, x), x.span))
    axes = axes_of(arguments, len(leaf.shape))
    return _root(ctx, Leaf(ctx.g.reduce_sum(ctx.g.mul(leaf.value, leaf.value), axes=axes), leaf.weak), x.span)


def _root(ctx: Context, total: Leaf, span: Span) -> Bound:
    """The square root of a sum of squares, whose derivative is 0 where all of them are."""

    def point(scope: Context, value: Value) -> Bound:
        g = scope.g
        return choose(
            scope,
            g.greater(value, g.constant(0.0, total.dtype)),
            lambda: (Leaf(scope.g.sqrt(value)), span),
            # A NaN is not greater than 0 either, and must come through.
            lambda: (Leaf(scope.g.stop_gradient(value)), span),
            widen=False,
        )

    def entry(h: Builder, *at: Value) -> Value:
        with ctx.region(h):
            chosen = point(ctx, h.index(total.value, *at, policy="proven"))
        assert isinstance(chosen, Leaf)
        return chosen.value

    if total.shape:
        return Leaf(ctx.g.map(total.shape, entry), total.weak)
    chosen = point(ctx, total.value)
    assert isinstance(chosen, Leaf)
    return Leaf(chosen.value, total.weak)


def _statistic(word: str, meaning: str) -> Callable[[Context, Arguments], Bound]:
    """Variance or standard deviation over all entries or along `axis=`."""

    def rule(ctx: Context, arguments: Arguments) -> Bound:
        found = take(arguments, word, ["x", "axis", "ddof"], 1)
        x = Binding(floats(ctx, found["x"]), found["x"].span)
        leaf = array_argument(ctx, x)
        axes = axes_of(arguments, len(leaf.shape))
        require_leaf_terms(ctx, word, leaf, axes, x.span)
        mean = reduce_leaf(ctx, "mean", leaf, axes, x.span, has_terms=True)
        away = ctx.g.sub(leaf.value, repeat(ctx, mean.value, axes, leaf.shape))
        squares = Leaf(ctx.g.mul(away, away), leaf.weak)
        if "ddof" in found:
            terms = Binding(Extent(product(tuple(leaf.shape[axis] for axis in axes))), x.span)
            count = binary(ctx, "-", terms, found["ddof"])
            total = Binding(reduce_leaf(ctx, "sum", squares, axes, x.span), x.span)
            variance = binary(ctx, "/", total, Binding(count, found["ddof"].span))
            assert isinstance(variance, Leaf)
        else:
            variance = reduce_leaf(ctx, "mean", squares, axes, x.span, has_terms=True)
        return variance if word == "var" else _root(ctx, variance, x.span)

    rule.__doc__ = meaning
    return rule


builtin("var")(
    _statistic(
        "var",
        "`var(x, axis=0, ddof=0)`: the mean squared distance from the mean, over the number of entries less `ddof`.",
    )
)
builtin("std")(_statistic("std", "`std(x, axis=0, ddof=0)`: the square root of `var`. Its derivative at 0 is 0."))


def repeat(ctx: Context, value: Value, axes: tuple[int, ...], shape: Shape) -> Value:
    """A reduced value repeated along the axes that it lost."""
    kept = tuple(size(1) if axis in axes else extent for axis, extent in enumerate(shape))
    return ctx.g.widen(ctx.g.reshape(value, shape=kept), shape)


def _soft(word: str) -> Callable[[Context, Arguments], Bound]:
    """`softmax` and `log_softmax` along an axis, the last one by default."""

    def rule(ctx: Context, arguments: Arguments) -> Bound:
        found = take(arguments, word, ["x", "axis"], 1)
        x = array_argument(ctx, Binding(floats(ctx, found["x"]), found["x"].span))
        axes = axes_of(arguments, len(x.shape)) if "axis" in found else (len(x.shape) - 1,)
        total = ctx.g.logsumexp(x.value, axes=axes)
        logs = ctx.g.sub(x.value, repeat(ctx, total, axes, x.shape))
        return Leaf(logs if word == "log_softmax" else ctx.g.exp(logs), x.weak)

    return rule


builtin("softmax")(_soft("softmax"))
builtin("log_softmax")(_soft("log_softmax"))


@builtin("len")
def length(ctx: Context, arguments: Arguments) -> Bound:
    """`len(x)`: the length of the leading axis, or of a tuple."""
    found = take(arguments, "len", ["x"], 1)["x"]
    value = found.value
    if isinstance(value, TupleValue):
        return Literal(len(value.items))
    if isinstance(value, ShapeValue):
        return Literal(len(value.shape))
    if isinstance(value, RecordValue) and value.axes:
        return Extent(value.axes[0])
    return Extent(array_argument(ctx, found).shape[0])


def _only_looped(word: str) -> Callable[[Context, Arguments], Bound]:
    def rule(_: Context, arguments: Arguments) -> Bound:
        note = f"write `for i in {word}(...)`"
        raise TypeMismatch.at(arguments.span, f"`{word}` stands only after `in`", note=note)

    return rule


for _word in ("range", "enumerate", "zip"):
    builtin(_word)(_only_looped(_word))
