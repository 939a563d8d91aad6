"""Assertions: checked as the program runs, and facts for what follows them."""

from __future__ import annotations

from collections.abc import Iterator

from dgraph.frontend import tree as t
from dgraph.frontend.context import Context, executes
from dgraph.frontend.equalities import learn
from dgraph.frontend.facts import facts_of
from dgraph.frontend.numbers import truth
from dgraph.frontend.values import Binding, Extent, Leaf, Literal
from dgraph.ir.graph import Value
from dgraph.ops.check import Check


@executes(t.Assert)
def assertion(ctx: Context, node: t.Assert) -> None:
    """`assert c, "message"`: checked as the program runs, showing the values compared."""
    held = Binding(ctx.evaluate(node.condition), node.condition.span)
    ctx.facts = (*ctx.facts, *facts_of(ctx, node.condition))
    if isinstance(held.value, Literal) and held.value.value is True:
        return
    values, names = _compared(ctx, node.condition)
    message = node.message or f"`{' '.join(node.condition.span.text.split())}` does not hold"
    ctx.g.apply(Check(message=message, names=tuple(names)), truth(ctx, held).value, *values)
    learn(ctx, node.condition)


def _compared(ctx: Context, condition: t.Expression) -> tuple[list[Value], list[str]]:
    """The scalars that a condition compares, to be shown when it fails. An operand of `and` or `or` that a short
    circuit may skip is shown only where it cannot fail itself."""
    values: dict[str, Value] = {}
    for at, compared in enumerate(_comparisons(condition)):
        for operand in compared.operands:
            words = " ".join(operand.span.text.split())
            is_plain = isinstance(operand, t.Name | t.Member | (t.Index if at == 0 else t.Name))
            if words in values or not (is_plain or (at == 0 and _is_sum_of_names(operand))):
                continue
            held = ctx.evaluate(operand)
            if isinstance(held, Extent):
                held = Leaf(ctx.g.number(held.size))
            if isinstance(held, Leaf) and not held.shape:
                values[words] = held.value
    return list(values.values()), list(values)


def _comparisons(condition: t.Expression) -> Iterator[t.Compare]:
    if isinstance(condition, t.Compare):
        yield condition
    elif isinstance(condition, t.Logical):
        for operand in condition.operands:
            yield from _comparisons(operand)
    elif isinstance(condition, t.Not):
        yield from _comparisons(condition.operand)


def _is_sum_of_names(operand: t.Expression) -> bool:
    """Arithmetic on names, which costs nothing to show."""
    plain = (t.Name, t.Number, t.Chain, t.Link)
    return isinstance(operand, t.Chain) and all(isinstance(node, plain) for node in t.walk(operand))
