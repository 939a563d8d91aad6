"""Reducers of nothing: a mean, and the place of an extreme entry, need at least one term."""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.errors import Span
from dgraph.frontend.context import Context
from dgraph.frontend.numbers import has_values
from dgraph.frontend.ranges import holds
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.check import Check
from dgraph.sizes import Size, product

NEEDS_TERMS = frozenset({"mean", "var", "std", "argmax", "argmin"})
"""Reducers that are not defined for nothing."""


def require_terms(ctx: Context, word: str, extents: Sequence[Size], span: Span, *, kept: Sequence[Size] = ()) -> None:
    """Check, as the program runs, that a reducer over some extents has terms, unless that is proven. It is applied once
    for each point of the axes that are kept.

    Sizes are the same at every point and step, so the check stands before the index spaces and loops around the
    reducer, and holds there too if they never run.
    """
    if word not in NEEDS_TERMS or ctx.reads is not None:
        return
    builder, around = before_repeats(ctx)
    around += kept
    facts = (*ctx.facts, *(extent - 1 for extent in around))
    unproven = [extent for extent in extents if not holds(extent - 1, ctx.ranges, facts)]
    count = product(tuple(unproven))
    if not unproven or has_values(count):
        return
    with builder.at(span=span):
        one = builder.number(1)
        counted = builder.number(count)
        valid = builder.greater_equal(counted, one)
        valid = or_never_run(ctx, builder, valid, around)
        message = f"the {word} of nothing: choose another value where this size is 0"
        builder.apply(Check(message=message, names=(str(count),)), valid, counted)


def before_repeats(ctx: Context) -> tuple[Builder, list[Size]]:
    """The builder in front of the index spaces and loops around, and how often each of these runs."""
    builder = ctx.g
    around: list[Size] = []
    while builder in ctx.repeats and builder.parent is not None:
        around += ctx.repeats[builder]
        builder = builder.parent
    return builder, around


def or_never_run(ctx: Context, builder: Builder, valid: Value, around: Sequence[Size]) -> Value:
    """Whether a condition holds, or one of the index spaces and loops around never runs."""
    for extent in dict.fromkeys(extent for extent in around if not holds(extent - 1, {}, ctx.facts)):
        valid = builder.logical_or(valid, builder.less(builder.number(extent), builder.number(1)))
    return valid


def require_guarded(
    ctx: Context, word: str, is_any: Value, span: Span, why: str = "no term satisfies the guard"
) -> None:
    """Check, as the program runs, that the guard of a reducer lets a term pass."""
    with ctx.g.at(span=span):
        message = f"the {word} of nothing: {why}; choose another value there"
        ctx.g.apply(Check(message=message), is_any)
