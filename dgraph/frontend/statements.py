"""Statements: bindings, definitions, updates, branches, scopes, assertions, and what a block returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from dgraph.errors import DgraphError, NotSupported, ScopeError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.annotated_types import resolve
from dgraph.frontend.annotations import check_annotations
from dgraph.frontend.coercion import coerce
from dgraph.frontend.context import Context, evaluates, executes
from dgraph.frontend.equalities import as_declared, unwritten
from dgraph.frontend.facts import facts_of
from dgraph.frontend.formulas import define
from dgraph.frontend.joins import Side, choose, emit_if, join_sides
from dgraph.frontend.numbers import truth
from dgraph.frontend.operators import binary
from dgraph.frontend.places import add_through, modify
from dgraph.frontend.subscripts import Gather, picks_of
from dgraph.frontend.updates import scatter
from dgraph.frontend.values import (
    Binding,
    Bound,
    Closure,
    Extent,
    Leaf,
    Literal,
    Pending,
    ShapeValue,
    TupleValue,
    describe,
    leaves_of,
    map_bound,
)
from dgraph.ir.graph import Value

# ---- blocks ---------------------------------------------------------------------------------------------------------


@evaluates(t.Suite)
def function_body(ctx: Context, suite: t.Suite) -> Bound:
    """The block of a function: what it returns."""
    value = block(ctx, suite.statements)
    if value is None:
        last = suite.statements[-1].span if suite.statements else suite.span
        raise ScopeError.at(last, "this function returns nothing", "ends here", note="end every branch with `return`")
    return value


def block(ctx: Context, statements: Sequence[t.Statement]) -> Bound | None:
    """Run statements in order; the value of the `return` that ends them, if there is one."""
    for at, statement in enumerate(statements):
        if isinstance(statement, t.Return):
            rest = statements[at + 1 :]
            if rest:
                title = "nothing runs after `return`"
                also = [(statement.span, "returns here")]
                note = "leave it out, or move it up"
                raise ScopeError.at(rest[0].span, title, "never reached", also=also, note=note)
            ctx.g.span = statement.span
            return ctx.evaluate(statement.value)
        found = next(returns_in(statement), None)
        if found is None:
            ctx.execute(statement)
        elif isinstance(statement, t.If):
            return _returning_branch(ctx, statement, statements[at + 1 :])
        elif isinstance(statement, t.Scope):
            with scoped(ctx, statement):
                return block(ctx, (*statement.body.statements, *statements[at + 1 :]))
        else:
            note = "carry the result in a name and return it after the loop"
            raise NotSupported.at(found.span, "`return` inside a loop is not supported yet", note=note)
    return None


MOST_COPIED = 6
"""How many branches in a row may both return early and go on: the rest of the function is copied into each of their
ends, so their number grows as the powers of two."""


def returns_in(node: t.Node) -> Iterator[t.Return]:
    """The `return` statements of a statement, those of nested functions left out."""
    if isinstance(node, t.Return):
        yield node
    elif isinstance(node, t.If | t.For | t.While | t.Scope | t.Arm | t.Suite):
        for inner in t.children(node):
            yield from returns_in(inner)


def _returning_branch(ctx: Context, node: t.If, rest: Sequence[t.Statement]) -> Bound:
    """A final `if`: statements after an early `return` are the `else` of it."""

    def value(statements: Sequence[t.Statement], span: Span) -> tuple[Bound, Span]:
        names, equal = dict(ctx.names), ctx.equal
        found = block(ctx, statements)
        if found is None:
            place = statements[-1].span if statements else span
            raise ScopeError.at(
                place,
                "this branch returns nothing",
                also=[(node.span, "another branch returns")],
                note="end every branch with `return`",
            )
        place = place_of_return(statements, span)
        if ctx.result is not None and ctx.equal is not equal:
            found = as_declared(ctx, found, ctx.result, names, place)
        return found, place

    def otherwise(arms: Sequence[t.Arm]) -> tuple[Bound, Span]:
        if not arms:
            last = node.otherwise.statements if node.otherwise is not None else ()
            return value(last if is_left else (*last, *rest), node.span)
        arm, later = arms[0], arms[1:]
        held = Binding(ctx.evaluate(arm.condition), arm.condition.span)
        statements = (*arm.body.statements, *rest) if not _always_returns(arm.body) else arm.body.statements
        if isinstance(held.value, Literal) and isinstance(held.value.value, bool):
            return value(statements, arm.span) if held.value.value else otherwise(later)
        predicate = truth(ctx, held).value
        joined = choose(
            ctx,
            predicate,
            lambda: value(statements, arm.span),
            lambda: otherwise(later),
            widen=False,
            words="the result",
        )
        return joined, arm.span

    # What follows an `else` that returns is reached from another branch; from none, it is refused as never reached.
    is_left = node.otherwise is not None and _always_returns(node.otherwise)
    is_left = is_left and not all(_always_returns(arm.body) for arm in node.arms)
    falls_through = [arm.body for arm in node.arms if not _always_returns(arm.body)]
    is_copied = bool(rest) and len(falls_through) + (not is_left) > 1
    if is_copied and ctx.copied == MOST_COPIED:
        note = "bind the result to a name in every branch, and return it once at the end"
        raise NotSupported.at(node.span, "too many branches that may return go on to the rest", note=note)
    ctx.copied += is_copied
    try:
        with ctx.local():
            return otherwise(node.arms)[0]
    finally:
        ctx.copied -= is_copied


def _always_returns(suite: t.Suite) -> bool:
    last = suite.statements[-1]
    if isinstance(last, t.If):
        return last.otherwise is not None and all(
            _always_returns(body) for body in [*(arm.body for arm in last.arms), last.otherwise]
        )
    return isinstance(last, t.Return) or (isinstance(last, t.Scope) and _always_returns(last.body))


def place_of_return(statements: Sequence[t.Statement], span: Span) -> Span:
    """The place of the value that a block returns."""
    last = statements[-1] if statements else None
    return last.value.span if isinstance(last, t.Return) else span


def scoped(ctx: Context, node: t.Scope) -> AbstractContextManager[None]:
    """Nodes made inside stand in a named scope."""
    check_annotations(node.annotations, "a scope", {})
    return ctx.g.at(scope=(*ctx.g.scope, node.name))


@executes(t.Scope)
def scope(ctx: Context, node: t.Scope) -> None:
    """`scope name:` groups nodes; its bindings go to its surroundings."""
    with scoped(ctx, node):
        for statement in node.body.statements:
            ctx.execute(statement)


@executes(t.Function)
def nested_function(ctx: Context, node: t.Function) -> None:
    """A `def` inside a function captures the values of the names around it."""
    check_annotations(node.annotations, "a nested function", {})
    ctx.bind(node.name, Closure(node, ctx.module, dict(ctx.names)), node.name_span)


# ---- bindings -------------------------------------------------------------------------------------------------------


@executes(t.Bind)
def bind(ctx: Context, node: t.Bind) -> None:
    """`x = e`, `a, b = b, a`, `z[i, j] = e for i in range(n) for j`."""
    target = node.target
    if isinstance(target, t.Place) and target.parts and target.name not in ctx.names:
        _define(ctx, target, node)
        return
    if node.generator is not None:
        if not isinstance(target, t.Place) or not target.parts:
            note = "write `[... for i in range(n)]` for an array"
            raise TypeMismatch.at(node.generator.span, "there is no index on the left", note=note)
        scatter(ctx, target, "=", node.value, node.generator, node.span)
        return
    value = ctx.evaluate(node.value)
    require_single(target)
    assign_to(ctx, target, value, node.value.span)


def require_single(target: t.Place | t.Targets) -> None:
    """Refuse a left side that names one place twice: the values would follow one another."""
    seen: dict[str, t.Place] = {}
    for place in _all_places(target):
        words = "".join(place.span.text.split())
        for other in seen.values():
            is_whole = not place.parts or not other.parts
            if place.name == other.name and (is_whole or words == "".join(other.span.text.split())):
                raise ScopeError.at(
                    place.span,
                    f"`{words}` is bound twice here",
                    "again here",
                    also=[(other.span, "first here")],
                    note="give each value a name of its own",
                )
        seen[words] = place


def _all_places(target: t.Place | t.Targets) -> Iterator[t.Place]:
    if isinstance(target, t.Place):
        yield target
    else:
        for item in target.items:
            yield from _all_places(item)


def assign_to(ctx: Context, target: t.Place | t.Targets, value: Bound, span: Span) -> None:
    """Bind a value to a target."""
    if isinstance(target, t.Targets):
        items = unpack(ctx, value, len(target.items), span, target.span)
        for item, part in zip(target.items, items, strict=True):
            assign_to(ctx, item, part, span)
    elif not target.parts:
        ctx.bind(target.name, named(ctx, value, target.name), target.span)
    elif target.name in ctx.names:
        _update(ctx, target, lambda _: value, span)
    else:
        _collect(ctx, target, value, span)


def named(ctx: Context, value: Bound, name: str) -> Bound:
    """The value with its leaves called after the name that it is bound to, where they have no name yet."""
    names = iter([found for found, _ in leaves_of(value, name)])

    def call(held: Bound) -> Bound:
        found = next(names)
        if isinstance(held, Leaf) and not held.value.name:
            return Leaf(ctx.g.name_result(held.value, found), held.weak, held.soft, held.affine)
        return held

    return map_bound(value, call)


def unpack(ctx: Context, value: Bound, count: int, span: Span, target: Span) -> list[Bound]:
    """The parts of a tuple, or the entries of an array whose leading axis has a literal length."""
    items: list[Bound] | None = None
    if isinstance(value, TupleValue):
        items = list(value.items)
    elif isinstance(value, ShapeValue):
        items = [Extent(extent) for extent in value.shape]
    elif isinstance(value, Leaf) and value.shape and value.shape[0].constant is not None:
        length = value.shape[0].constant
        indices = [ctx.g.number(at) for at in range(length)] if length == count else []
        entries = [ctx.g.index(value.value, index, policy="proven") for index in indices]
        items = [Leaf(entry, value.weak, value.soft) for entry in entries] if length == count else [value] * length
    if items is None:
        note = "a tuple is taken apart, or an array with a literal number of entries"
        if isinstance(value, Leaf) and not value.shape and value.dtype.kind == "int":
            note = "a range gives one integer at a time; `enumerate(x)` gives an index and an entry"
        title = f"this cannot be taken apart into {count} names"
        raise TypeMismatch.at(span, title, f"this is {describe(value)}", note=note)
    if len(items) != count:
        raise TypeMismatch.at(
            target,
            f"{count} names for {len(items)} values",
            f"{count} names",
            also=[(span, f"this is {describe(value)}")],
        )
    return items


@executes(t.TypedBind)
def typed_bind(ctx: Context, node: t.TypedBind) -> None:
    """`x: f32[n] = zeros()`."""
    value = ctx.evaluate(node.value)
    wanted = resolve(ctx, node.type)
    made = coerce(ctx, value, wanted, node.value.span, declared=node.type.span, widen=True)
    place = Span(node.span.source, node.span.start, node.span.start + len(node.name))
    ctx.bind(node.name, named(ctx, made, node.name), place)


@evaluates(t.Constant)
def constant(ctx: Context, node: t.Constant) -> Bound:
    """A constant of a module."""
    value = ctx.evaluate(node.value)
    if node.type is None:
        return value
    return coerce(ctx, value, resolve(ctx, node.type), node.value.span, declared=node.type.span, widen=True)


@executes(t.Rebind)
def rebind(ctx: Context, node: t.Rebind) -> None:
    """`x += e`, `u[1:-1] += e`, `count[label[i]] += 1 for i in range(n)`."""
    place = node.place
    bound = ctx.names.get(place.name)
    if bound is None:
        ctx.lookup(place.name, place.span)
        note = "bind it first" if ctx.module.lookup(place.name) is None else "bind a local name to it first"
        if place.name in ctx.module.stored:
            kind = ctx.module.stored[place.name].kind
            note = f"a {kind} stays as it is while a function runs: return its new value, or bind a local name to it"
        raise ScopeError.at(place.span, f"`{place.name}` is not bound in this function", note=note)
    if node.generator is not None:
        scatter(ctx, place, node.operator, node.value, node.generator, node.span)
        return
    value = Binding(ctx.evaluate(node.value), node.value.span)
    if not place.parts:
        combined = binary(ctx, node.operator, Binding(bound.value, place.span), value)
        ctx.bind(place.name, named(ctx, combined, place.name), place.span)
        return
    if _adds_through_array(ctx, place, bound.value, value, node):
        return

    def change(old: Callable[[], Bound]) -> Bound:
        return binary(ctx, node.operator, Binding(old(), place.span), value)

    _update(ctx, place, change, node.span)


def _adds_through_array(ctx: Context, place: t.Place, held: Bound, value: Binding, node: t.Rebind) -> bool:
    """`x[p] += v` with an array of indices p."""
    part = place.parts[0]
    if len(place.parts) != 1 or not isinstance(part, t.At) or not isinstance(held, Leaf):
        return False
    picks = picks_of(ctx, part.subscripts, held.shape, part.span)
    if not any(isinstance(pick, Gather) for pick in picks):
        return False
    if node.operator not in ("+", "-"):
        title = f"`{node.operator}=` through an array of indices is not supported"
        note = f"loop over the indices: `for k in range(n):` with `x[p[k]] {node.operator}= e`"
        raise NotSupported.at(node.span, title, "only `+=` and `-=`", note=note)
    signed = value.value if node.operator == "+" else binary(ctx, "-", Binding(Literal(0), node.span), value)
    ctx.bind(place.name, named(ctx, add_through(ctx, held, picks, signed, node.span), place.name), place.span)
    return True


def _update(ctx: Context, place: t.Place, change: Callable[[Callable[[], Bound]], Bound], span: Span) -> None:
    """A place of a bound name changed: the name is bound to the changed value."""
    before = ctx.names[place.name].value
    ctx.bind(place.name, named(ctx, modify(ctx, before, place.parts, change, span), place.name), place.span)


# ---- definitions ----------------------------------------------------------------------------------------------------


def _define(ctx: Context, place: t.Place, node: t.Bind) -> None:
    """`z[i, j] = e` with `z` unbound: defines an array, or collects one entry per step of a loop."""
    names = _fresh_indices(place)
    given = {over.name: over for over in node.generator.indices} if node.generator else {}
    if node.generator is not None and node.generator.guard is not None:
        note = "give every entry a value: `... if c else 0.0`"
        raise TypeMismatch.at(node.generator.guard.span, "a guard would leave holes in the definition", note=note)
    loop = ctx.loop
    collects = loop is not None and bool(names) and names[0].name == loop.variable
    fresh = names[1:] if collects else names
    stray = next((over for name, over in given.items() if name not in {word.name for word in fresh}), None)
    if stray is not None:
        note = f"a definition has the indices of its left side; sum over others: `sum(... for {stray.name})`"
        title = f"`{stray.name}` is no index of `{place.name}`"
        raise ScopeError.at(stray.span, title, "not on the left", also=[(place.span, "the left side")], note=note)
    hidden = next((word for word in fresh if word.name in ctx.names), None)
    if hidden is not None:
        raise ScopeError.at(
            hidden.span,
            f"the index `{hidden.name}` hides a name",
            "a fresh index needs a fresh name",
            also=[(ctx.names[hidden.name].span, "bound here")],
            note=f"`{place.name}` is not bound, so this defines all of it: to write one place, bind it before",
        )
    overs = [given.get(word.name) or t.Over(word.span, word.name, None) for word in fresh]

    def body() -> Bound:
        return ctx.evaluate(node.value)

    value = define(ctx, overs, body, node.value.span) if overs else body()
    if collects:
        _collect(ctx, place, value, node.value.span)
    else:
        ctx.bind(place.name, named(ctx, value, place.name), place.span)


def _fresh_indices(place: t.Place) -> list[t.Name]:
    """The index names of a definition."""
    part = place.parts[0]
    names = [item for item in part.subscripts if isinstance(item, t.Name)] if isinstance(part, t.At) else []
    if not isinstance(part, t.At) or len(place.parts) > 1 or len(names) < len(part.subscripts):
        note = f"bind it first, for example `{place.name}: f64[n] = 0.0`, or define it: `{place.name}[i] = ...`"
        raise ScopeError.at(place.span, f"`{place.name}` is not bound", "only a bound array can be updated", note=note)
    return names


def _collect(ctx: Context, place: t.Place, value: Bound, span: Span) -> None:
    """`ys[t] = e` in a loop over t: one entry per step."""
    names = _fresh_indices(place)
    loop = ctx.loop
    if loop is None or names[0].name != loop.variable:
        note = "only the variable of the innermost loop collects; or bind the array before the loop"
        raise ScopeError.at(place.span, f"`{place.name}` is not bound", "not the variable of this loop", note=note)
    if loop.forbidden:
        raise ScopeError.at(
            place.span,
            f"`{place.name}` cannot be collected {loop.forbidden}",
            note="every step gives one entry, in order; bind the array before the loop to write other places",
        )
    if loop.length is None:
        note = "a formal of type `size` makes the number of steps a size"
        raise ScopeError.at(
            place.span, f"`{place.name}` cannot be collected", "the number of steps is not a size", note=note
        )
    if place.name in loop.collected:
        also = [(loop.collected[place.name].span, "first here")]
        title = f"`{place.name}` is collected twice in one step"
        raise ScopeError.at(place.span, title, "again here", also=also, note="every step gives one entry")
    if isinstance(value, Pending):
        raise TypeMismatch.at(span, f"`{value.words}` has no shape here", note="bind it with a type first")
    loop.collected[place.name] = Binding(value, place.span)


# ---- branches -------------------------------------------------------------------------------------------------------


@executes(t.If)
def branch(ctx: Context, node: t.If) -> None:
    """`if / elif / else`: names bound before keep their value where a branch does not bind them; names bound in every
    branch are visible after."""
    with ctx.no_collecting("under `if`"):
        _arms(ctx, node, node.arms)


def _arms(ctx: Context, node: t.If, arms: Sequence[t.Arm]) -> None:
    if not arms:
        for statement in node.otherwise.statements if node.otherwise else ():
            ctx.execute(statement)
        return
    arm, later = arms[0], arms[1:]
    held = Binding(ctx.evaluate(arm.condition), arm.condition.span)
    if isinstance(held.value, Literal) and isinstance(held.value.value, bool):
        if held.value.value:
            for statement in arm.body.statements:
                ctx.execute(statement)
        else:
            _arms(ctx, node, later)
        return
    predicate = truth(ctx, held).value
    before = ctx.names

    def first() -> None:
        for statement in arm.body.statements:
            ctx.execute(statement)

    builders, bound, equal = [], [], []
    for run, holds in ((first, True), (lambda: _arms(ctx, node, later), False)):
        builder = ctx.g.child()
        facts = facts_of(ctx, arm.condition, holds=holds)
        with ctx.region(builder), ctx.assuming(facts), ctx.local() as names:
            run()
            bound.append({name: unwritten(held, before.get(name)) for name, held in names.items()})
            equal.append(ctx.equal)
        builders.append(builder)
    changed = dict.fromkeys(name for names in bound for name in names if names[name] is not before.get(name))
    sides = [Side(builder, Literal(0), node.span) for builder in builders]
    outputs: tuple[list[Value], list[Value]] = ([], [])
    rebuilds = {}
    for name in changed:
        if not all(name in names for names in bound):
            ctx.hidden[name] = (next(names[name].span for names in bound if name in names), "bound in one branch only")
            continue
        one, other = (
            Side(builder, names[name].value, names[name].span, known)
            for builder, names, known in zip(builders, bound, equal, strict=True)
        )
        trial: tuple[list[Value], list[Value]] = ([], [])
        try:
            rebuilds[name] = join_sides(ctx, one, other, trial, words=f"`{name}`")
        except DgraphError:
            if name in before:
                raise
            ctx.hidden[name] = (other.span, "bound with different types in the branches")
            continue
        outputs[0].extend(trial[0])
        outputs[1].extend(trial[1])
    results = iter(emit_if(ctx, predicate, sides, outputs))
    for name, rebuild in rebuilds.items():
        ctx.names[name] = Binding(named(ctx, rebuild(results), name), bound[0][name].span)
