"""Reducers: `sum(x[i] for i)` over generators, `sum(x, axis=0)` over arrays, `max(a, b)` over a few values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce as fold

from dgraph.errors import NotSupported, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.context import Arguments, Context, builtin, evaluates
from dgraph.frontend.emptiness import require_guarded, require_terms
from dgraph.frontend.facts import facts_of
from dgraph.frontend.formulas import (
    Index,
    array_of,
    index_bound,
    point_names,
    settled,
    solid,
    space_of,
    static_extents,
    trial,
)
from dgraph.frontend.joins import choose
from dgraph.frontend.numbers import (
    cast_value,
    fresh_dtype,
    kind_of,
    materialise,
    meet,
    number,
    truth,
)
from dgraph.frontend.operators import binary
from dgraph.frontend.values import (
    Binding,
    Bound,
    Builtin,
    Extent,
    Leaf,
    Literal,
    Pending,
    RecordValue,
    ShapeValue,
    TupleValue,
    describe,
    rebuild,
)
from dgraph.ir.build import Builder, close_together
from dgraph.ir.graph import Value
from dgraph.ops.control import For, If, Space
from dgraph.ops.index import neutral
from dgraph.sizes import product, size
from dgraph.types import BOOL, F64, I64, Accumulator, Array

ARRAY_OPS = {
    "prod": "reduce_prod",
    "max": "reduce_max",
    "min": "reduce_min",
    "any": "reduce_any",
    "all": "reduce_all",
    "logsumexp": "logsumexp",
    "argmax": "argmax",
    "argmin": "argmin",
}
"""Reducers that work on an array of terms, by the op that reduces it."""

NEUTRAL = {
    "prod": "mul",
    "max": "max",
    "min": "min",
    "any": "or",
    "all": "and",
    "logsumexp": "max",
    "argmax": "max",
    "argmin": "min",
}
"""The accumulator whose neutral element stands for a term that a guard leaves out."""

REDUCERS = {"sum", "mean", *ARRAY_OPS}


@evaluates(t.Reduce)
def reduce(ctx: Context, node: t.Reduce) -> Bound:
    """`sum(x[i] * w[i] for i)`; any other function takes the array of the values."""
    held = ctx.evaluate(node.reducer)
    if not isinstance(held, Builtin) or held.name not in REDUCERS:
        terms = array_of(ctx, node.generator, node.body, node.span)
        return ctx.invoke(held, Arguments([Binding(terms, node.body.span)], {}, node.span))
    word, generator = held.name, node.generator

    def body() -> Bound:
        return ctx.evaluate(node.body)

    with settled(ctx, generator.indices, generator.guard, body) as indices:
        if ctx.reads is not None:
            return _trial_result(ctx, word, node, trial(ctx, indices, generator.guard, body))
        if any(index.extent is None for index in indices):
            return _by_loop(ctx, word, node, indices)
        if word in ("sum", "mean"):
            return _by_accumulator(ctx, word, node, indices)
        return _by_terms(ctx, word, node, indices)


def _trial_result(ctx: Context, word: str, node: t.Reduce, term: Bound) -> Bound:
    """Something of the right type, while ranges are being inferred."""
    if word in ("argmax", "argmin"):
        return Leaf(ctx.g.number(0), soft=True)
    if word == "mean":
        return rebuild(term, iter([_as_float(ctx, leaf) for leaf in solid(ctx, term, node.span)]))
    if word == "sum":
        return rebuild(term, iter([_countable(ctx, leaf) for leaf in solid(ctx, term, node.span)]))
    return rebuild(term, iter(solid(ctx, term, node.span)))


def _countable(ctx: Context, leaf: Leaf) -> Leaf:
    """Bools count as integers in a sum."""
    return Leaf(ctx.g.cast(leaf.value, dtype=I64), soft=True) if leaf.dtype.kind == "bool" else leaf


def _as_float(ctx: Context, leaf: Leaf) -> Leaf:
    """Bools and integers as floats, for a mean."""
    if leaf.dtype.is_float:
        return leaf
    agreement = fresh_dtype(ctx, F64, "mean")
    return Leaf(cast_value(ctx, leaf.value, agreement.dtype), agreement.weak)


def _by_accumulator(ctx: Context, word: str, node: t.Reduce, indices: Sequence[Index]) -> Bound:
    """A sum or mean: an accumulate at the rank-0 index of a space; with a guard the accumulate stands in an `if`."""
    extents = static_extents(indices, word)
    outer = ctx.g
    if node.generator.guard is None:
        require_terms(ctx, word, extents, node.span)
    child = outer.child()
    at = [child.input(Array(I64), index.name) for index in indices]
    buffers: list[Value] = []
    with ctx.region(child), point_names(ctx, indices, at):
        guard = node.generator.guard
        if guard is None:
            term, leaves = _terms(ctx, word, node)
            buffers = [child.input(Accumulator(leaf.dtype, leaf.shape)) for leaf in leaves]
            outputs = [child.accumulate(own, leaf.value) for own, leaf in zip(buffers, leaves, strict=True)]
        else:
            test = truth(ctx, Binding(ctx.evaluate(guard), guard.span)).value
            taken, skipped = child.child(), child.child()
            with ctx.region(taken), ctx.local(), ctx.assuming(facts_of(ctx, guard)):
                term, leaves = _terms(ctx, word, node)
                values = [leaf.value for leaf in leaves]
                if word == "mean":
                    values.append(taken.number(1))
            buffers = [child.input(Accumulator(value.type.dtype, value.type.shape)) for value in values]  # type: ignore[union-attr]
            added = [taken.accumulate(own, value) for own, value in zip(buffers, values, strict=True)]
            regions, captures = close_together([taken, skipped], [added, buffers])
            outputs = list(child.apply(If(), test, *captures, regions=regions))
    region = child.close(outputs)
    types = tuple(own.type for own in buffers if isinstance(own.type, Accumulator))
    results = outer.apply(Space(extents=extents, buffers=types), *child.captures, regions=[region])
    sums = [Leaf(result, leaf.weak, leaf.soft) for result, leaf in zip(results, leaves, strict=False)]
    total = rebuild(term, iter(sums))
    if word == "sum":
        return total
    count: Bound = Extent(product(extents))
    if len(results) > len(leaves):
        count = Leaf(results[-1], soft=True)
        require_guarded(ctx, word, outer.greater(results[-1], outer.number(0)), node.span)
    return binary(ctx, "/", Binding(total, node.span), Binding(count, node.span))


def _terms(ctx: Context, word: str, node: t.Reduce) -> tuple[Bound, list[Leaf]]:
    term = ctx.evaluate(node.body)
    if isinstance(term, Pending):
        raise TypeMismatch.at(node.body.span, f"`{term.words}` has no shape here", note="bind it with a type first")
    leaves = solid(ctx, term, node.body.span)
    for leaf in leaves:
        if leaf.dtype.kind == "key":
            raise TypeMismatch.at(node.body.span, "a key is not a number", describe(leaf))
    change = _countable if word == "sum" else _as_float
    return term, [change(ctx, leaf) for leaf in leaves]


def _by_terms(ctx: Context, word: str, node: t.Reduce, indices: Sequence[Index]) -> Bound:
    """Other reducers: a space yields the terms, and the op for arrays reduces it."""
    guard = node.generator.guard
    is_guarded_place = guard is not None and word in ("argmax", "argmin")
    if word in ("argmax", "argmin") and len(indices) > 1:
        note = "reduce one index at a time, or take it apart with `//` and `%`"
        raise NotSupported.at(node.span, f"`{word}` over several indices is not supported yet", note=note)

    def body() -> Bound:
        if guard is None:
            return ctx.evaluate(node.body)
        test = truth(ctx, Binding(ctx.evaluate(guard), guard.span)).value

        def inside() -> tuple[Bound, Span]:
            with ctx.assuming(facts_of(ctx, guard)):
                return ctx.evaluate(node.body), node.body.span

        probe = ctx.g.child()
        with ctx.region(probe), ctx.local():
            found = solid(ctx, ctx.evaluate(node.body), node.body.span)
        if len(found) != 1:
            raise TypeMismatch.at(node.body.span, f"`{word}` reduces numbers")
        dtype, axes, weak, soft = found[0].dtype, found[0].shape, found[0].weak, found[0].soft
        missing = neutral(Accumulator(dtype, axes, NEUTRAL[word]))

        def outside() -> tuple[Bound, Span]:
            value = bool(missing) if dtype is BOOL else int(missing) if dtype.kind == "int" else float(missing)
            full = ctx.g.full(value, Array(dtype, axes))
            return Leaf(full, weak, soft), node.span

        chosen = choose(ctx, test, inside, outside, widen=False)
        return TupleValue((chosen, Leaf(test))) if is_guarded_place else chosen

    terms = space_of(ctx, indices, body, node.body.span)
    if is_guarded_place and isinstance(terms, TupleValue):
        chosen, passed = terms.items
        return _guarded_place(ctx, word, chosen, passed, node)
    if not isinstance(terms, Leaf):
        raise TypeMismatch.at(node.body.span, f"`{word}` reduces numbers", f"this is {describe(terms)}")
    return reduce_leaf(ctx, word, terms, tuple(range(len(indices))), node.body.span)


def _guarded_place(ctx: Context, word: str, terms: Bound, passed: Bound, node: t.Reduce) -> Leaf:
    """The first place of the extreme term among those that the guard lets pass. Where all of these are as extreme as
    the terms left out, that is the first of them."""
    assert isinstance(terms, Leaf) and isinstance(passed, Leaf)
    g, guard = ctx.g, passed.value
    require_guarded(ctx, word, g.reduce_any(guard, axes=(0,)), node.span)
    best = reduce_leaf(ctx, word, terms, (0,), node.body.span, has_terms=True).value
    first = g.argmax(g.cast(guard, dtype=I64), axes=(0,))

    def place(h: Builder, *at: Value) -> Value:
        found = h.index(best, *at, policy="proven") if at else best
        return h.select(h.index(guard, found, policy="drop"), found, first)

    axes = terms.shape[1:]
    return Leaf(g.map(axes, place) if axes else place(g), soft=True)


def _by_loop(ctx: Context, word: str, node: t.Reduce, indices: Sequence[Index]) -> Bound:
    """A sum, product, max or min over a range whose length only the run decides: a loop that carries the total."""
    if word not in ("sum", "prod", "max", "min") or len(indices) != 1 or node.generator.guard is not None:
        note = "make the range of sizes: a formal of type `size` gives one"
        raise NotSupported.at(indices[0].span, f"this `{word}` over a range whose length is not a size", note=note)
    (index,) = indices
    assert index.count is not None
    outer, child = ctx.g, ctx.g.child()
    at = child.input(Array(I64), index.name)
    with ctx.region(child), ctx.local() as names:
        names[index.name] = Binding(index_bound(ctx, index, at, None), index.span)
        term, leaves = _terms(ctx, word, node)
    carries = [child.input(leaf.type) for leaf in leaves]
    symbol = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}[word]
    kind = {"sum": "add", "prod": "mul"}.get(word, word)
    with child.at(span=node.span):
        outputs = [getattr(child, symbol)(own, leaf.value) for own, leaf in zip(carries, leaves, strict=True)]
    region = child.close(outputs)
    starts = [outer.full(neutral(Accumulator(leaf.dtype, leaf.shape, kind)), leaf.type) for leaf in leaves]
    op = For(carries=len(carries))
    results = outer.apply(op, index.count.value, *starts, *child.captures, regions=[region])
    return rebuild(term, (Leaf(result, leaf.weak, leaf.soft) for result, leaf in zip(results, leaves, strict=True)))


# ---- arrays ---------------------------------------------------------------------------------------------------------


def reduce_leaf(
    ctx: Context, word: str, leaf: Leaf, axes: tuple[int, ...], span: Span, *, has_terms: bool = False
) -> Leaf:
    """A reducer over axes of an array; `has_terms` if it is checked already that there are any."""
    g = ctx.g
    if not has_terms:
        require_leaf_terms(ctx, word, leaf, axes, span)
    if word in ("any", "all") and leaf.dtype is not BOOL:
        raise TypeMismatch.at(
            span, f"`{word}` asks about bools", f"this is {describe(leaf)}", note="compare first: `x != 0`"
        )
    if word == "sum":
        counted = _countable(ctx, leaf)
        return Leaf(g.reduce_sum(counted.value, axes=axes), counted.weak, counted.soft)
    if word == "mean":
        value = _as_float(ctx, leaf)
        total = Leaf(g.reduce_sum(value.value, axes=axes), value.weak)
        count = Extent(product(tuple(leaf.shape[axis] for axis in axes)))
        result = binary(ctx, "/", Binding(total, span), Binding(count, span))
        assert isinstance(result, Leaf)
        return result
    if word not in ("any", "all") and leaf.dtype.kind not in ("float", "int"):
        raise TypeMismatch.at(span, f"`{word}` reduces numbers", f"this is {describe(leaf)}")
    if word == "logsumexp":
        leaf = _as_float(ctx, leaf)
    result = getattr(g, ARRAY_OPS[word])(leaf.value, axes=axes)
    return Leaf(result, soft=True) if word in ("argmax", "argmin") else Leaf(result, leaf.weak, leaf.soft)


def require_leaf_terms(ctx: Context, word: str, leaf: Leaf, axes: tuple[int, ...], span: Span) -> None:
    """Check that a reducer over axes of an array has terms."""
    kept = [extent for axis, extent in enumerate(leaf.shape) if axis not in axes]
    require_terms(ctx, word, [leaf.shape[axis] for axis in axes], span, kept=kept)


def axis_of(binding: Binding, rank: int) -> int:
    """A literal axis, counted from the end if negative."""
    held = binding.value
    if not isinstance(held, Literal) or type(held.value) is not int:
        raise TypeMismatch.at(binding.span, "an axis is a literal integer", f"this is {describe(held)}")
    axis = held.value + rank if held.value < 0 else held.value
    if not 0 <= axis < rank:
        raise TypeMismatch.at(binding.span, f"there is no axis {held.value}", f"the array has {rank} axes")
    return axis


def axes_of(arguments: Arguments, rank: int) -> tuple[int, ...]:
    """The axes that `axis=` names; all of them without it."""
    given = arguments.keywords.get("axis")
    if given is None:
        return tuple(range(rank))
    if isinstance(given.value, TupleValue):
        return tuple(sorted({axis_of(Binding(item, given.span), rank) for item in given.value.items}))
    return (axis_of(given, rank),)


def _reducer(word: str) -> Callable[[Context, Arguments], Bound]:
    def rule(ctx: Context, arguments: Arguments) -> Bound:
        unknown = next((name for name in arguments.keywords if name != "axis"), None)
        if unknown is not None:
            place = arguments.keywords[unknown].span
            raise TypeMismatch.at(place, f"`{word}` has no formal `{unknown}`", note="it takes `axis=`")
        parts = list(arguments.positional)
        if not parts:
            raise TypeMismatch.at(arguments.span, f"`{word}` of nothing", note=f"write `{word}(x[i] for i)`")
        first = parts[0].value
        if len(parts) == 1 and isinstance(first, TupleValue | ShapeValue):
            items = first.items if isinstance(first, TupleValue) else tuple(map(Extent, first.shape))
            return _few(ctx, word, [Binding(item, parts[0].span) for item in items], arguments.span)
        if len(parts) > 1:
            if "axis" in arguments.keywords or word not in ("max", "min"):
                raise TypeMismatch.at(
                    parts[1].span, f"`{word}` takes one array", note=f"`{word}(x)`, `{word}(x, axis=0)`"
                )
            return _few(ctx, word, parts, arguments.span)
        if isinstance(first, RecordValue):
            raise TypeMismatch.at(parts[0].span, f"`{word}` reduces arrays", f"this is {describe(first)}")
        leaf = materialise(ctx, number(parts[0], "an array"), parts[0].span)
        if not leaf.shape and word not in ("argmax", "argmin"):
            leaf = stacked_alone(ctx, leaf)
        return reduce_leaf(ctx, word, leaf, axes_of(arguments, len(leaf.shape)), parts[0].span)

    return rule


def stacked_alone(ctx: Context, leaf: Leaf) -> Leaf:
    """A scalar as an array of one entry: a reducer of one number."""
    return Leaf(ctx.g.reshape(leaf.value, shape=(size(1),)), leaf.weak, leaf.soft)


def _few(ctx: Context, word: str, parts: Sequence[Binding], span: Span) -> Bound:
    """A reducer over a handful of values: elementwise."""
    if word in ("max", "min"):
        return fold(lambda a, b: _extreme(ctx, word, a, b), parts).value
    symbol = {"sum": "+", "prod": "*"}.get(word)
    if symbol is None:
        raise TypeMismatch.at(span, f"`{word}` reduces an array", note="build one: `[a, b]`")
    start = Binding(Literal(0 if word == "sum" else 1), span)
    return fold(lambda a, b: Binding(binary(ctx, symbol, a, b), span), parts, start).value


def _extreme(ctx: Context, word: str, a: Binding, b: Binding) -> Binding:
    span = a.span.to(b.span) if a.span.source is b.span.source else a.span
    one, two = number(a), number(b)
    if isinstance(one, Literal) and isinstance(two, Literal):
        pick = max if word == "max" else min
        if any(isinstance(value.value, float) and math.isnan(value.value) for value in (one, two)):
            return Binding(Literal(math.nan), span)
        values: list[bool | int | float] = [one.value, two.value]
        if kind_of(one) != kind_of(two):
            values = [float(value) for value in values]
        return Binding(Literal(pick(values)), span)
    if isinstance(one, Literal | Extent) and isinstance(two, Literal | Extent):
        known = _sizes(word, one, two)
        if known is not None:
            return Binding(known, span)
    x, y = meet(ctx, [a, b])
    result = getattr(ctx.g, "maximum" if word == "max" else "minimum")(x.value, y.value)
    return Binding(Leaf(result, x.weak | y.weak, x.soft and y.soft), span)


def _sizes(word: str, one: Literal | Extent, two: Literal | Extent) -> Bound | None:
    """The larger or smaller of two sizes, where it is the same for all values."""
    if kind_of(one) != "int" or kind_of(two) != "int":
        return None
    a, b = (value.size if isinstance(value, Extent) else size(int(value.value)) for value in (one, two))
    if (a - b).is_nonnegative():
        return one if word == "max" else two
    if (b - a).is_nonnegative():
        return two if word == "max" else one
    return None


for _word in sorted(REDUCERS):
    builtin(_word)(_reducer(_word))
