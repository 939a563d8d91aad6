"""Division of integers: a divisor of 0 is a fault of the run. What is proven not to be 0 is not asked."""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.errors import Span
from dgraph.frontend.context import Context
from dgraph.frontend.emptiness import before_repeats, or_never_run
from dgraph.frontend.numbers import affine_of, has_values
from dgraph.frontend.ranges import holds
from dgraph.frontend.values import Bound
from dgraph.ops.check import Check
from dgraph.sizes import Size

DIVISIONS = {"//": "floor_divide", "%": "mod"}


def zero_policy(ctx: Context, divisor: Bound, span: Span) -> str:
    """What a division of integers does where this divisor is 0: fault, unless it cannot be. A divisor that is a size is
    checked here."""
    known = affine_of(divisor)
    if known is None or (has_values(known) and not is_proven(ctx, known)):
        return "error"
    if not has_values(known):
        require_divisor(ctx, known, span)
    return "drop"


def is_proven(ctx: Context, divisor: Size, facts: Sequence[Size] = ()) -> bool:
    """Whether a divisor is known to be above or below 0, perhaps from more facts than those at this place."""
    known = (*ctx.facts, *facts)
    return any(holds(side - 1, ctx.ranges, known) for side in (divisor, -divisor))


def require_divisor(ctx: Context, divisor: Size, span: Span) -> None:
    """Check, as the program runs, that a size by which something is divided is not 0.

    Sizes are the same at every point and step, so the check stands before the index spaces and loops around, and holds
    there too if they never run.
    """
    builder, around = before_repeats(ctx)
    runs = [extent - 1 for extent in around]
    if ctx.reads is not None or has_values(divisor) or is_proven(ctx, divisor, runs):
        return
    with builder.at(span=span):
        counted = builder.number(divisor)
        valid = or_never_run(ctx, builder, builder.not_equal(counted, builder.number(0)), around)
        builder.apply(Check(message="division by zero", names=(str(divisor),)), valid, counted)
