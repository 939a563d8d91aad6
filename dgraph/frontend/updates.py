"""Updates over a generator: `count[label[i]] += 1 for i in range(n)`, `x[i, j] = e for i for j`."""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.errors import NotSupported, Span
from dgraph.frontend import tree as t
from dgraph.frontend.context import Context
from dgraph.frontend.facts import facts_of
from dgraph.frontend.formulas import Index, point_names, settled, space_of, static_extents, trial
from dgraph.frontend.joins import choose
from dgraph.frontend.numbers import affine_of, has_values, truth
from dgraph.frontend.operators import negative
from dgraph.frontend.places import entry_for, require_inside, write_by_space
from dgraph.frontend.ranges import split_linear
from dgraph.frontend.subscripts import At, Pick, Run, at_number, picks_of, whole_axis
from dgraph.frontend.values import Binding, Bound, Leaf
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


def _replace(ctx: Context, held: Leaf, part: t.At, node: t.Expression, generator: t.Generator, span: Span) -> Leaf:
    """`x[i + 1, j] = e for i in range(n - 1) for j if c`: each index moves along an axis of its own, so the places are
    distinct. Where the guard does not hold a place keeps its entry."""
    guard = generator.guard

    def both() -> Bound:
        picks_of(ctx, part.subscripts, held.shape, part.span)
        return ctx.evaluate(node)

    with settled(ctx, generator.indices, guard, both) as indices:
        static_extents(indices, "an update")
        runs = _runs(ctx, held, part, indices, span)
        ordered = [index for _, index in runs if index is not None]
        picks: list[Pick] = [pick for pick, _ in runs]
        rest = held.shape[len(picks) :]

        def entry() -> Leaf:
            return entry_for(ctx, held, rest, ctx.evaluate(node), node.span)

        def replaced() -> tuple[Bound, Span]:
            assert guard is not None
            with ctx.assuming(facts_of(ctx, guard)):
                places = picks_of(ctx, part.subscripts, held.shape, part.span)
                for pick, extent in zip(places, held.shape, strict=True):
                    require_inside(ctx, pick, extent)
                return entry(), node.span

        def kept() -> tuple[Bound, Span]:
            places = picks_of(ctx, part.subscripts, held.shape, part.span)[: len(picks)]
            numbers = [at_number(ctx.g, place) for place in places if isinstance(place, At)]
            return Leaf(ctx.g.index(held.value, *numbers, policy="drop"), held.weak, held.soft), span

        def point() -> Bound:
            if guard is None:
                return entry()
            test = truth(ctx, Binding(ctx.evaluate(guard), guard.span)).value
            return choose(ctx, test, replaced, kept, widen=False)

        values = space_of(ctx, ordered, point, node.span)
    assert isinstance(values, Leaf)
    picks += [whole_axis(extent, span) for extent in rest]
    written = write_by_space(ctx, held.value, picks, values.value, is_checked=guard is not None)
    return Leaf(written, held.weak, held.soft)


def _runs(
    ctx: Context, held: Leaf, part: t.At, indices: Sequence[Index], span: Span
) -> list[tuple[At | Run, Index | None]]:
    """What each subscript runs over, with the index that moves it."""
    note = "each index needs an axis of its own, as in `x[2 * i + 1, j]`; places that may meet add up with `+=`"
    refused = NotSupported.at(span, "these places are not provably distinct", note=note)
    probe = ctx.g.child()
    atoms = {probe.input(Array(I64), index.name): index for index in indices}
    with ctx.region(probe), point_names(ctx, indices, list(atoms)):
        picks = picks_of(ctx, part.subscripts, held.shape, part.span)
    found: list[tuple[At | Run, Index | None]] = []
    for pick in picks[: len(part.subscripts)]:
        if not isinstance(pick, At):
            raise refused
        if pick.index is None:
            found.append((pick, None))
            continue
        affine = affine_of(pick.index)
        moving = [atom for atom in atoms if affine is not None and atom in set(affine.atoms())]
        parts = split_linear(affine, moving[0]) if affine is not None and len(moving) == 1 else None
        if parts is None or not parts[0].constant or has_values(parts[1]):
            raise refused
        index = atoms[moving[0]]
        assert index.extent is not None
        found.append((Run(parts[1], parts[1], parts[0].constant, index.extent, False, pick.span), index))
    if sorted(index.name for _, index in found if index) != sorted(index.name for index in indices):
        raise refused
    return found
