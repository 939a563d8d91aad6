"""A function as the region of a transform: lowered for its arguments, with the named ones as inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.errors import ScopeError, Span
from dgraph.frontend import tree as t
from dgraph.frontend.calls import apply, brought, entered, extra_names, solve_generics
from dgraph.frontend.context import Context
from dgraph.frontend.formulas import solid
from dgraph.frontend.numbers import materialise
from dgraph.frontend.stored import root, stored_by_name
from dgraph.frontend.values import (
    Binding,
    Bound,
    Closure,
    FunctionValue,
    Leaf,
    RecordValue,
    Transformed,
    TupleValue,
    leaves_of,
    map_bound,
    rebuild,
)
from dgraph.ir.graph import Region, Value
from dgraph.types import Array

RULES: dict[str, Callable[[Context, Transformed, Mapping[str, Binding], Span], Bound]] = {}
"""How each transform is run, by its kind; filled by the files that hold them."""


def run(ctx: Context, function: Transformed, values: Mapping[str, Binding], span: Span) -> Bound:
    """A transformed function applied to arguments by name."""
    return RULES[function.kind](ctx, function, values, span)


def function_words(function: FunctionValue) -> str:
    """The name of the function below all transforms, for nodes and pictures."""
    held = root(function).function
    return held.name if isinstance(held, t.Function) else "lambda"


@dataclass(frozen=True)
class Traced:
    """A function lowered as a closed region: first the leaves of `explicit` arguments, then captures."""

    region: Region
    operands: tuple[Value, ...]
    names: tuple[str, ...]
    result: Bound
    outputs: tuple[Leaf, ...]


def trace(
    ctx: Context,
    function: FunctionValue,
    values: Mapping[str, Binding],
    explicit: Sequence[str],
    span: Span,
    inner_shape: Callable[[str, Leaf], Array] = lambda _, leaf: leaf.type,
) -> Traced:
    """Lower a function with the named arguments as inputs of a region; `names` says to which each input belongs."""
    child = ctx.g.child()
    operands: list[Value] = []
    owners: list[str] = []

    def enter(owner: str) -> Callable[[Bound, str], Bound]:
        def one(held: Bound, name: str) -> Bound:
            if not isinstance(held, Leaf):
                return held
            operands.append(held.value)
            owners.append(owner)
            entry = child.input(inner_shape(owner, held), name)
            if entry.type == held.type:
                ctx.origins[entry] = held.value
            return replace(held, value=entry, affine=None)

        return one

    inner = dict(values)
    stored: dict[t.Stored, Binding] = {}
    module = root(function).module
    for name in explicit:
        if name in values:
            held = values[name].value
            inner[name] = Binding(_without_axes(entered(held, name, enter(name)), held), values[name].span)
            continue
        item = stored_by_name(module, name)
        if item is None or item not in ctx.stored:
            raise ScopeError.at(span, f"`{name}` is neither a formal nor a param here", "not known here")
        held = ctx.stored[item]
        stored[item] = Binding(_without_axes(entered(held, name, enter(name)), held), span)
    before = ctx.stored
    ctx.stored = {**before, **{item: binding.value for item, binding in stored.items()}}
    try:
        with ctx.region(child):
            result = apply_function(ctx, function, inner, span)
            outputs = tuple(solid(ctx, result, span))
    finally:
        ctx.stored = before
    region = child.close([leaf.value for leaf in outputs])
    region, given = _without_call(region, (*operands, *child.captures), len(owners))
    return Traced(region, given, tuple(owners), rebuild(result, iter(outputs)), outputs)


def _without_call(region: Region, operands: tuple[Value, ...], explicit: int) -> tuple[Region, tuple[Value, ...]]:
    """A region that only calls a function is that function's region, with the explicit inputs first: pictures then
    show the function once."""
    node = region.nodes[0] if len(region.nodes) == 1 else None
    if node is None or node.op.name != "call" or node.results != region.outputs:
        return region, operands
    source = dict(zip(region.inputs, operands, strict=True))
    first = [node.operands.index(value) for value in region.inputs[:explicit] if node.operands.count(value) == 1]
    if len(first) < explicit:
        return region, operands
    order = [*first, *(at for at in range(len(node.operands)) if at not in first)]
    inner = node.regions[0]
    inputs = tuple(inner.inputs[at] for at in order)
    return Region(inputs, inner.nodes, inner.outputs), tuple(source[node.operands[at]] for at in order)


def _without_axes(inner: Bound, outer: Bound) -> Bound:
    """Records inside a mapped function have one axis less than outside."""
    pairs = zip(leaves_of(outer), leaves_of(inner), strict=True)
    is_mapped = any(
        isinstance(a, Leaf) and isinstance(b, Leaf) and len(a.shape) != len(b.shape) for (_, a), (_, b) in pairs
    )
    return _fewer_axes(inner) if is_mapped else inner


def _fewer_axes(value: Bound) -> Bound:
    if isinstance(value, RecordValue):
        fields = {name: _fewer_axes(held) for name, held in value.fields.items()}
        return replace(value, axes=value.axes[1:], fields=fields)
    if isinstance(value, TupleValue):
        return TupleValue(tuple(_fewer_axes(item) for item in value.items))
    return value


def apply_function(ctx: Context, function: FunctionValue, values: Mapping[str, Binding], span: Span) -> Bound:
    """A function applied to arguments by name."""
    if isinstance(function, Transformed):
        return run(ctx, function, values, span)
    return apply(ctx, function, values, span)


def prepared(
    ctx: Context, function: FunctionValue, values: Mapping[str, Binding], names: Sequence[str]
) -> dict[str, Binding]:
    """The arguments with the named ones as graph values of their declared types."""
    out = dict(values)
    closure = root(function)
    extras = _all_extras(function)
    if isinstance(closure.function, t.Function) and not _has_vmap(function):
        own = {name: held for name, held in values.items() if name not in extras}
        typed = brought(ctx, closure, own, solve_generics(ctx, closure, own))
        for name in names:
            if name in typed:
                out[name] = Binding(typed[name].value, values[name].span)
    for name in names:
        if name in out:
            out[name] = Binding(_solid(ctx, out[name], name), out[name].span)
    return out


def _has_vmap(function: FunctionValue) -> bool:
    return isinstance(function, Transformed) and (function.kind == "vmap" or _has_vmap(function.function))


def _all_extras(function: FunctionValue) -> set[str]:
    if isinstance(function, Closure):
        return set()
    return {*extra_names(function), *_all_extras(function.function)}


def _solid(ctx: Context, binding: Binding, name: str) -> Bound:
    held = iter(range(1_000_000))
    return map_bound(binding.value, lambda part: _solid_leaf(ctx, part, binding.span, name, next(held)))


def _solid_leaf(ctx: Context, part: Bound, span: Span, name: str, at: int) -> Bound:
    return part if isinstance(part, Leaf) else materialise(ctx, part, span, "argument", name, at)
