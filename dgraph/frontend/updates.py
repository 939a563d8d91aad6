"""Updates over a generator: `count[label[i]] += 1 for i in range(n)`, `x[i, j] = e for i for j`."""

from __future__ import annotations

from dgraph.errors import NotSupported, ScopeError, Span, TypeMismatch
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context
from dgraph.frontend.facts import facts_of
from dgraph.frontend.formulas import Index, define, point_names, settled, static_extents, trial
from dgraph.frontend.numbers import affine_of, truth
from dgraph.frontend.operators import negative
from dgraph.frontend.places import entry_for, write
from dgraph.frontend.subscripts import At, Pick, Run, at_number, picks_of
from dgraph.frontend.values import Binding, Bound, Leaf, describe
from dgraph.ir.build import close_together
from dgraph.ir.graph import Value
from dgraph.ops.control import If, Space
from dgraph.types import I64, Accumulator, Array


def scatter(
    ctx: Context, place: t.Place, operator: str, node: t.Expression, generator: t.Generator, span: Span
) -> None:
    """An update of many places at once. With `+=` entries that meet add up; with `=` the places must be distinct."""
    bound = ctx.names[place.name]
    part = place.parts[0] if len(place.parts) == 1 else None
    if not isinstance(bound.value, Leaf) or not isinstance(part, t.At):
        raise NotSupported.at(place.span, "this update over a generator", note="update a plain array")
    if operator in ("+", "-"):
        changed: Bound = _add(ctx, bound.value, part, operator, node, generator)
    elif operator == "=":
        changed = _replace(ctx, bound.value, part, node, generator, span)
    else:
        raise NotSupported.at(span, f"`{operator}=` over a generator", note="write `x[i] = x[i] * e for i`")
    ctx.bind(place.name, changed, place.span)


def _add(ctx: Context, held: Leaf, part: t.At, operator: str, node: t.Expression, generator: t.Generator) -> Leaf:
    """Contributions gathered in a buffer of an index space, then added to the array."""

    def both() -> Bound:
        picks_of(ctx, part.subscripts, held.shape, part.span)
        return ctx.evaluate(node)

    with settled(ctx, generator.indices, generator.guard, both) as indices:
        if ctx.reads is not None:
            trial(ctx, indices, generator.guard, both)
            return held
        extents = static_extents(indices, "an update")
        child = ctx.g.child()
        at = [child.input(Array(I64), index.name) for index in indices]
        buffer = Accumulator(held.dtype, held.shape)
        own = child.input(buffer)
        with ctx.region(child), point_names(ctx, indices, at):
            if generator.guard is None:
                output = _contribution(ctx, held, own, part, operator, node)
            else:
                test = truth(ctx, Binding(ctx.evaluate(generator.guard), generator.guard.span)).value
                taken, skipped = child.child(), child.child()
                with ctx.region(taken), ctx.local(), ctx.assuming(facts_of(ctx, generator.guard)):
                    added = _contribution(ctx, held, own, part, operator, node)
                regions, captures = close_together([taken, skipped], [[added], [own]])
                (output,) = child.apply(If(), test, *captures, regions=regions)
    region = child.close([output])
    (total,) = ctx.g.apply(Space(extents=extents, buffers=(buffer,)), *child.captures, regions=[region])
    return Leaf(ctx.g.add(held.value, total), held.weak, held.soft)


def _contribution(ctx: Context, held: Leaf, own: Value, part: t.At, operator: str, node: t.Expression) -> Value:
    picks = picks_of(ctx, part.subscripts, held.shape, part.span)
    ats = [pick for pick in picks if isinstance(pick, At)]
    rest = picks[len(ats) :]
    if picks[: len(ats)] != ats or any(not (isinstance(pick, Run) and pick.is_full) for pick in rest):
        raise NotSupported.at(part.span, "slices in an update over a generator", note="give every axis an index")
    value = Binding(ctx.evaluate(node), node.span)
    if operator == "-":
        value = Binding(negative(ctx, value), node.span)
    entry = entry_for(ctx, held, held.shape[len(ats) :], value.value, node.span)
    policy = "proven" if all(pick.is_proven for pick in ats) else "error"
    return ctx.g.accumulate(own, *(at_number(ctx.g, pick) for pick in ats), entry.value, policy=policy)


def _replace(ctx: Context, held: Leaf, part: t.At, node: t.Expression, generator: t.Generator, span: Span) -> Bound:
    """`x[i, j] = e for i in range(a, b) for j`: each axis has an index of its own, so the places are distinct."""
    names = [item.name for item in part.subscripts if isinstance(item, t.Name)]
    overs = {over.name: over for over in generator.indices}
    is_plain = len(names) == len(part.subscripts) == len(set(names)) and set(names) == set(overs)
    if not is_plain:
        note = "each axis needs an index of its own; places that may meet add up with `+=`"
        raise NotSupported.at(span, "these places are not provably distinct", note=note)
    if generator.guard is not None:
        note = f"write `{names[0]}` with a choice: `... if c else x[{', '.join(names)}]`"
        raise NotSupported.at(generator.guard.span, "a guard in an update", note=note)
    ordered = [overs[name] for name in names]
    for over in ordered:
        if over.name in ctx.names:
            raise ScopeError.at(over.span, f"the index `{over.name}` hides a name")

    def body() -> Bound:
        if ctx.reads is not None:
            picks_of(ctx, part.subscripts, held.shape, part.span)
        return ctx.evaluate(node)

    with settled(ctx, ordered, None, body) as indices:
        runs: list[Pick] = [_run(index) for index in indices]
    values = define(ctx, ordered, body, node.span)
    if not isinstance(values, Leaf):
        raise TypeMismatch.at(node.span, "an entry of an array is wanted here", f"this is {describe(values)}")
    return write(ctx, held, runs, values, span)


def _run(index: Index) -> Run:
    start = affine_of(index.start)
    if index.extent is None or index.source is not None or start is None:
        raise NotSupported.at(index.span, "this range in an update", note="use `range` with sizes")
    return Run(start, start, index.step, index.extent, False, index.span)
