"""Nests of loops over the indices of a formula, for counts that only the run decides: one step after the other, with
values carried from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dgraph.frontend import tree as t
from dgraph.frontend.context import Context
from dgraph.frontend.facts import facts_of
from dgraph.frontend.formulas import Index, index_bound
from dgraph.frontend.numbers import truth
from dgraph.frontend.values import Binding, Leaf
from dgraph.ir.build import close_together
from dgraph.ir.graph import Value
from dgraph.ops.control import For, If
from dgraph.types import I64, Array

Step = Callable[[list[Value], Sequence[Value]], list[Value]]
"""From the carried values, and what each index stands for (its position where it runs over values), to the values after
one step, in the builder of the context."""


def loop_nest(
    ctx: Context, indices: Sequence[Index], carries: Sequence[Value], step: Step, around: Sequence[Value] = ()
) -> list[Value]:
    """The carried values after a step for every point, the last index running fastest."""
    if not indices:
        return step(list(carries), around)
    index, rest = indices[0], indices[1:]
    child = ctx.g.child()
    at = child.input(Array(I64), index.name)
    inside = [child.input(value.type, value.name) for value in carries]
    with ctx.region(child), ctx.local() as names:
        held = index_bound(ctx, index, at, index.extent)
        names[index.name] = Binding(held, index.span)
        place = held.value if index.source is None and isinstance(held, Leaf) else at
        outputs = loop_nest(ctx, rest, inside, step, (*around, place))
    region = child.close(outputs)
    if index.extent is not None:
        count = ctx.g.number(index.extent)
    else:
        assert isinstance(index.count, Leaf)
        count = index.count.value
    return list(ctx.g.apply(For(carries=len(inside)), count, *carries, *child.captures, regions=[region]))


def guarded(ctx: Context, guard: t.Expression | None, step: Step) -> Step:
    """A step that is left out where a guard does not hold."""
    if guard is None:
        return step

    def chosen(carries: list[Value], at: Sequence[Value]) -> list[Value]:
        assert guard is not None
        test = truth(ctx, Binding(ctx.evaluate(guard), guard.span)).value
        taken, skipped = ctx.g.child(), ctx.g.child()
        with ctx.region(taken), ctx.local(), ctx.assuming(facts_of(ctx, guard)):
            outputs = step(carries, at)
        regions, captures = close_together([taken, skipped], [outputs, carries])
        return list(ctx.g.apply(If(), test, *captures, regions=regions))

    return chosen
