"""Reducers: `sum(x[i] for i)` over generators, `sum(x, axis=0)` over arrays, `max(a, b)` over a few values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce as fold

from dgraph.errors import Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.context import Arguments, Context, builtin, evaluates
from dgraph.frontend.counted_reducers import Counted
from dgraph.frontend.emptiness import require_guarded, require_terms
from dgraph.frontend.facts import facts_of
from dgraph.frontend.formulas import (
    Index,
    array_of,
    point_names,
    settled,
    solid,
    space_of,
    static_extents,
    trial,
)
from dgraph.frontend.joins import choose
from dgraph.frontend.numbers import (
    affine_of,
    cast_value,
    fresh_dtype,
    index_value,
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
from dgraph.ops.control import If, Space
from dgraph.ops.index import neutral
from dgraph.sizes import product, size
from dgraph.types import BOOL, F64, I64, Accumulator, Array

NOT_NUMBERS = "`any` and `all` reduce bools; of records and tuples, reduce one part"

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
            return Counted(ctx, word, node, indices, lambda: _terms(ctx, word, node)).value()
        if word in ("sum", "mean"):
            return _by_accumulator(ctx, word, node, indices)
        return _by_terms(ctx, word, node, indices)


def _trial_result(ctx: Context, word: str, node: t.Reduce, term: Bound) -> Bound:
    """Something of the right type, while ranges are being inferred."""
    if word in ("argmax", "argmin"):
        places = [Leaf(ctx.g.number(0), soft=True) for _ in node.generator.indices]
        return places[0] if len(places) == 1 else TupleValue(tuple(places))
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
    at = [child.input(Array(I64), index.place_name) for index in indices]
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
        title, note = f"`{term.words}` has no shape here", f"give it one: `{term.words}(n)`"
        raise TypeMismatch.at(node.body.span, title, "takes the type it meets", note=note)
    leaves = solid(ctx, term, node.body.span)
    for leaf in leaves:
        if leaf.dtype.kind == "key":
            note = "draw with it: `normal(key)`"
            raise TypeMismatch.at(node.body.span, "a key is not a number", f"this is {describe(leaf)}", note=note)
    if word == "sum":
        return term, [_countable(ctx, leaf) for leaf in leaves]
    return term, [_as_float(ctx, leaf) if word in ("mean", "logsumexp") else leaf for leaf in leaves]


def _by_terms(ctx: Context, word: str, node: t.Reduce, indices: Sequence[Index]) -> Bound:
    """Other reducers: a space yields the terms, and the op for arrays reduces it."""
    guard = node.generator.guard
    is_guarded_place = guard is not None and word in ("argmax", "argmin")

    def body() -> Bound:
        if guard is None:
            return ctx.evaluate(node.body)
        test = truth(ctx, Binding(ctx.evaluate(guard), guard.span)).value

        def inside() -> tuple[Bound, Span]:
            with ctx.assuming(facts_of(ctx, guard)):
                return ctx.evaluate(node.body), node.body.span

        probe = ctx.g.child()
        with ctx.region(probe), ctx.local():
            term = ctx.evaluate(node.body)
            found = solid(ctx, term, node.body.span)
        if len(found) != 1 or isinstance(term, RecordValue | TupleValue):
            said = f"this is {describe(term)}"
            raise TypeMismatch.at(node.body.span, f"`{word}` reduces numbers", said, note=NOT_NUMBERS)
        dtype, axes, weak, soft = found[0].dtype, found[0].shape, found[0].weak, found[0].soft
        missing = neutral(Accumulator(dtype, axes, NEUTRAL[word]))

        def outside() -> tuple[Bound, Span]:
            value = bool(missing) if dtype is BOOL else int(missing) if dtype.kind == "int" else float(missing)
            full = ctx.g.full(value, Array(dtype, axes))
            return Leaf(full, weak, soft), node.span

        chosen = choose(ctx, test, inside, outside, widen=False)
        return TupleValue((chosen, Leaf(test))) if is_guarded_place else chosen

    terms = space_of(ctx, indices, body, node.body.span)
    passed: Bound | None = None
    if is_guarded_place and isinstance(terms, TupleValue):
        terms, passed = terms.items
    if not isinstance(terms, Leaf):
        raise TypeMismatch.at(node.body.span, f"`{word}` reduces numbers", f"this is {describe(terms)}")
    if word in ("argmax", "argmin"):
        return _place(ctx, word, terms, passed, node, indices)
    return reduce_leaf(ctx, word, terms, tuple(range(len(indices))), node.body.span)


def _place(
    ctx: Context, word: str, terms: Leaf, passed: Bound | None, node: t.Reduce, indices: Sequence[Index]
) -> Bound:
    """What the indices stand for at the first extreme term: one integer for each. An index that runs over values stands
    for its position."""
    g, span = ctx.g, node.body.span
    extents = terms.shape[: len(indices)]
    if len(indices) > 1:
        whole, rest = product(extents), terms.shape[len(indices) :]
        require_leaf_terms(ctx, word, terms, tuple(range(len(indices))), span)
        terms = Leaf(g.reshape(terms.value, shape=(whole, *rest)), terms.weak, terms.soft)
        if isinstance(passed, Leaf):
            passed = Leaf(g.reshape(passed.value, shape=(whole,)))
    if isinstance(passed, Leaf):
        found = _guarded_place(ctx, word, terms, passed, node)
    else:
        found = reduce_leaf(ctx, word, terms, (0,), span, has_terms=len(indices) > 1).value
    places: list[Bound] = []
    for at, index in enumerate(indices):
        inner = g.widen(g.number(product(extents[at + 1 :])), terms.shape[1:])
        here = found if at == len(indices) - 1 else g.floor_divide(found, inner)
        if at < len(indices) - 1:
            found = g.mod(found, inner)
        places.append(Leaf(_counted_from(ctx, index, here), soft=True))
    return places[0] if len(places) == 1 else TupleValue(tuple(places))


def _counted_from(ctx: Context, index: Index, place: Value) -> Value:
    """`start + step * place`."""
    g = ctx.g
    assert isinstance(place.type, Array)
    shape = place.type.shape
    if index.step != 1:
        place = g.mul(place, g.widen(g.number(index.step), shape))
    if index.source is not None or affine_of(index.start) == size(0):
        return place
    start = index_value(ctx, Binding(index.start, index.span)).value
    return g.add(place, g.widen(start, shape))


def _guarded_place(ctx: Context, word: str, terms: Leaf, passed: Leaf, node: t.Reduce) -> Value:
    """The first place of the extreme term among those that the guard lets pass. Where all of these are as extreme as
    the terms left out, that is the first of them."""
    g, guard = ctx.g, passed.value
    require_guarded(ctx, word, g.reduce_any(guard, axes=(0,)), node.span)
    best = reduce_leaf(ctx, word, terms, (0,), node.body.span, has_terms=True).value
    first = g.argmax(g.cast(guard, dtype=I64), axes=(0,))

    def place(h: Builder, *at: Value) -> Value:
        found = h.index(best, *at, policy="proven") if at else best
        return h.select(h.index(guard, found, policy="drop"), found, first)

    axes = terms.shape[1:]
    return g.map(axes, place) if axes else place(g)


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
        raise TypeMismatch.at(span, f"`{word}` reduces numbers", f"this is {describe(leaf)}", note=NOT_NUMBERS)
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
        said = f"the array has {'1 axis' if rank == 1 else f'{rank} axes'}"
        raise TypeMismatch.at(binding.span, f"there is no axis {held.value}", said, note="axes are counted from 0")
    return axis


def axes_of(arguments: Arguments, rank: int) -> tuple[int, ...]:
    """The axes that `axis=` names; all of them without it."""
    given = arguments.keywords.get("axis")
    if given is None:
        return tuple(range(rank))
    if isinstance(given.value, TupleValue):
        axes = sorted(axis_of(Binding(item, given.span), rank) for item in given.value.items)
        if len(set(axes)) < len(axes):
            raise TypeMismatch.at(given.span, "an axis is named twice", "name each once")
        return tuple(axes)
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
            note = "name the field: `sum(m.w)`; `norm` and `dot` take records"
            raise TypeMismatch.at(parts[0].span, f"`{word}` reduces arrays", f"this is {describe(first)}", note=note)
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
        if len(parts) > 2 and any(isinstance(part.value, Leaf) and part.value.dtype.is_float for part in parts):
            leaves = meet(ctx, parts)
            result = getattr(ctx.g, "largest" if word == "max" else "smallest")(*(leaf.value for leaf in leaves))
            return Leaf(result, leaves[0].weak, leaves[0].soft)
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
