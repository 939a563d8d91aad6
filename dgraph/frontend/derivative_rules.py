"""Functions with a rule, `@derivative(of=f)`: `custom` nodes that hold the function, and its rule lowered beside it.

A rule takes the formals of its function and a tangent for each formal, and each param or state, that holds floats. It
may apply its function: a node inside the rule then names the rule that is being lowered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.errors import NotSupported, ScopeError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.calls import APPLIED, apply, body_value, entered, extra_names
from dgraph.frontend.coercion import coerce
from dgraph.frontend.context import Context, Frame, frame_loop
from dgraph.frontend.formulas import solid
from dgraph.frontend.memo import Key, identity_of, key_of
from dgraph.frontend.modules import Module, unknown
from dgraph.frontend.stored import stored_of
from dgraph.frontend.values import (
    Binding,
    Bound,
    Closure,
    Leaf,
    Transformed,
    describe,
    leaves_of,
    map_bound,
    rebuild,
    type_of,
)
from dgraph.ir.build import Builder
from dgraph.ir.graph import Region
from dgraph.ops.transform import Custom, Rule


@dataclass(frozen=True)
class _Made:
    """A function with a rule lowered for some types: its region, what it returns, and its rule."""

    region: Region
    result: Bound
    rule: Rule


# ---- what is written ------------------------------------------------------------------------------------------------


def check_rule(module: Module, rule: t.Function) -> None:
    """Raise `DgraphError` unless a function with `@derivative(of=f)` is the only rule of a function of its file."""
    named = [
        option.value
        for annotation in rule.annotations
        for option in annotation.keywords
        if annotation.name == "derivative" and option.name == "of" and isinstance(option.value, t.Name)
    ]
    for name in named:
        function = module.functions.get(name.name)
        if function is None:
            note = "a rule stands in the file of its function"
            known = [other for other in module.functions if other != rule.name]
            raise unknown(name.span, f"there is no function `{name.name}` in this file", name.name, known, note)
        if function is rule:
            note = "name the function whose derivative this is"
            raise ScopeError.at(name.span, f"`{rule.name}` is its own rule", "names itself", note=note)
        first = module.rules[name.name]
        if first is not rule:
            also = [(first.name_span, "first here")]
            title = f"`{name.name}` has two rules"
            raise ScopeError.at(rule.name_span, title, "again here", also=also, note="leave one out")


# ---- applying -------------------------------------------------------------------------------------------------------


def _apply(ctx: Context, closure: Closure, given: Mapping[str, Binding], names: Mapping[str, Binding]) -> Bound | None:
    """The `custom` node of a function with a rule; None if it takes no floats, so that there is nothing to derive."""
    rule = closure.module.rule_of(closure.function)
    assert rule is not None and isinstance(closure.function, t.Function)
    check_rule(closure.module, rule)
    _require_first_order(closure, given)
    given = {name: Binding(map_bound(held.value, _plainly), held.span) for name, held in given.items()}
    stored = {item: ctx.stored[item] for item in stored_of(closure) if item in ctx.stored}
    leaves = [leaf for held in _values(given, stored) for _, leaf in leaves_of(held) if isinstance(leaf, Leaf)]
    if not any(leaf.dtype.is_float for leaf in leaves):
        return None
    with _apart(ctx):
        key = key_of(ctx, closure, given, names)
        assert key is not None
        made = ctx.instances.get(("custom", key))
        if made is None:
            made = _lowered(ctx, closure, rule, given, names, stored, key)
    op = Custom(function=closure.function.name, rule=made.rule)
    results = ctx.g.apply(op, *(leaf.value for leaf in leaves), regions=[made.region])
    values = iter(results)
    return map_bound(made.result, lambda held: replace(held, value=next(values)) if isinstance(held, Leaf) else held)


def _plainly(held: Bound) -> Bound:
    """A leaf as any other of its type: nothing may tell the function from itself in its rule."""
    return Leaf(held.value) if isinstance(held, Leaf) else held


def _values(given: Mapping[str, Binding], stored: Mapping[t.Stored, Bound]) -> list[Bound]:
    return [*(binding.value for binding in given.values()), *stored.values()]


@contextmanager
def _apart(ctx: Context) -> Iterator[None]:
    """What is known of sizes and ranges where a function is applied is not known in its rule."""
    before = ctx.facts, ctx.equal
    ctx.facts, ctx.equal = (), ()
    try:
        yield
    finally:
        ctx.facts, ctx.equal = before


def _require_first_order(closure: Closure, given: Mapping[str, Binding]) -> None:
    for name, binding in given.items():
        if any(isinstance(leaf, Closure | Transformed) for _, leaf in leaves_of(binding.value)):
            assert isinstance(closure.function, t.Function)
            place = next(formal.span for formal in closure.function.formals if formal.name == name)
            title = f"{closure.words} has a rule and takes a function"
            note = "a rule cannot say how the result moves with what the function captures: pass numbers"
            raise NotSupported.at(place, title, "this formal", note=note)


def _lowered(
    ctx: Context,
    closure: Closure,
    written: t.Function,
    given: Mapping[str, Binding],
    names: Mapping[str, Binding],
    stored: Mapping[t.Stored, Bound],
    key: Key,
) -> _Made:
    """The function's region, then the rule's, which may apply the function."""
    function = closure.function
    assert isinstance(function, t.Function)
    result: list[Bound] = []
    regions: list[Region] = []
    computed = ctx.computed

    def lower() -> Bound:
        child = Builder(ctx.g)
        inner, inside = _inputs(ctx, child, given, stored)
        with _storing(ctx, inside), ctx.region(child):
            value = body_value(ctx, closure, function, {**names, **inner})
            outputs = solid(ctx, value, function.span)
        regions[:] = [child.close([leaf.value for leaf in outputs])]
        result[:] = [rebuild(value, iter(outputs))]
        return value

    frame_loop(ctx, Frame(closure.words, identity_of(function, given)), lower)
    rule = Rule(written.name, written.name_span)
    made = ctx.instances["custom", key] = _Made(regions[0], result[0], rule)
    try:
        rule.region = _rule_region(ctx, closure, Closure(written, closure.module), given, stored, made.result)
    except BaseException:
        del ctx.instances["custom", key]
        raise
    if ctx.computed != computed:
        # Wishes are those of this call.
        del ctx.instances["custom", key]
    return made


def _inputs(
    ctx: Context, g: Builder, given: Mapping[str, Binding], stored: Mapping[t.Stored, Bound]
) -> tuple[dict[str, Binding], dict[t.Stored, Bound]]:
    """The arguments and params with inputs of a builder as leaves."""

    def enter(held: Bound, name: str) -> Bound:
        if not isinstance(held, Leaf):
            return held
        entry = g.input(held.type, name)
        ctx.origins[entry] = held.value
        return replace(held, value=entry)

    inner = {name: Binding(entered(held.value, name, enter), held.span) for name, held in given.items()}
    return inner, {item: entered(held, item.name, enter) for item, held in stored.items()}


@contextmanager
def _storing(ctx: Context, values: Mapping[t.Stored, Bound]) -> Iterator[None]:
    """Params and states are inputs of the region that is being built."""
    before = ctx.stored
    ctx.stored = {**before, **values}
    try:
        yield
    finally:
        ctx.stored = before


def _rule_region(
    ctx: Context,
    closure: Closure,
    rule: Closure,
    given: Mapping[str, Binding],
    stored: Mapping[t.Stored, Bound],
    result: Bound,
) -> Region:
    """The rule lowered: first the inputs of its function, then a tangent for each float among them."""
    child = Builder(ctx.g)
    inner, inside = _inputs(ctx, child, given, stored)
    moving = {**{name: held.value for name, held in inner.items()}, **{item.name: v for item, v in inside.items()}}
    moving = {name: held for name, held in moving.items() if _has_floats(held)}
    tangents = dict(zip(_tangent_names(closure, moving), moving.values(), strict=True))
    places = _places(closure, rule, list(given), list(tangents))
    values = {name: Binding(held.value, places[name]) for name, held in inner.items()}
    for name, held in tangents.items():
        values[name] = Binding(entered(held, name, _tangent_of(child)), places[name])
    assert isinstance(rule.function, t.Function)
    ordered = {formal.name: values[formal.name] for formal in rule.function.formals}
    place = rule.function.name_span
    with _storing(ctx, inside), ctx.region(child):
        found = _brought(ctx, apply(ctx, rule, ordered, place), result, closure, rule)
        outputs = [leaf for leaf in solid(ctx, found, place) if leaf.dtype.is_float]
    return child.close([leaf.value for leaf in outputs])


def _has_floats(value: Bound) -> bool:
    return any(isinstance(leaf, Leaf) and leaf.dtype.is_float for _, leaf in leaves_of(value))


def _tangent_of(g: Builder) -> Callable[[Bound, str], Bound]:
    """Makes tangents of leaves: other inputs; integers ride along."""

    def one(held: Bound, name: str) -> Bound:
        return Leaf(g.input(held.type, name)) if isinstance(held, Leaf) and held.dtype.is_float else held

    return one


def _tangent_names(closure: Closure, moving: Mapping[str, Bound]) -> list[str]:
    """What a rule calls the tangents: as `jvp` does."""
    assert isinstance(closure.function, t.Function)
    return extra_names(Transformed("jvp", closure, tuple(moving), True, "auto", closure.function.name_span))


def _places(closure: Closure, rule: Closure, formals: Sequence[str], tangents: Sequence[str]) -> dict[str, Span]:
    """Where the rule declares each of its formals. Raises `TypeMismatch` if they are not those it must have."""
    assert isinstance(rule.function, t.Function) and isinstance(closure.function, t.Function)
    declared = {formal.name: formal.span for formal in rule.function.formals}
    also = [(closure.function.name_span, "the function")]
    note = f"it takes {', '.join([*formals, *tangents])}"
    for name in (*formals, *tangents):
        if name not in declared:
            what = "formal" if name in formals else "tangent"
            title = f"the rule {rule.words} has no {what} `{name}`"
            raise TypeMismatch.at(rule.function.name_span, title, "the rule", also=also, note=note)
    for at, name in enumerate(declared):
        if name not in formals and name not in tangents:
            title = f"the rule {rule.words} has a formal `{name}` that {closure.words} does not give it"
            raise TypeMismatch.at(declared[name], title, "this formal", also=also, note=note)
        if at < len(formals) and name != formals[at]:
            title = f"the formals of the rule {rule.words} stand in another order"
            raise TypeMismatch.at(declared[name], title, f"`{formals[at]}` is wanted here", also=also, note=note)
    return declared


def _brought(ctx: Context, value: Bound, result: Bound, closure: Closure, rule: Closure) -> Bound:
    """What a rule gives, of the type that its function returns."""
    wanted = type_of(result)
    assert wanted is not None and isinstance(rule.function, t.Function)
    place = rule.function.result.span if rule.function.result is not None else rule.function.name_span
    try:
        return coerce(ctx, value, wanted, place)
    except TypeMismatch:
        title = f"the rule {rule.words} gives {describe(value)}, but {closure.words} gives {describe(result)}"
        note = "a tangent has the type of the value"
        raise TypeMismatch.at(place, title, f"{describe(result)} is wanted here", note=note) from None


APPLIED["custom"] = _apply
