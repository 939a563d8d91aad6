"""What a condition says about indices, so that reads behind it can be proven to stay inside."""

from __future__ import annotations

from dgraph.frontend import tree as t
from dgraph.frontend.context import Context
from dgraph.frontend.numbers import affine_of
from dgraph.frontend.values import Builtin, Leaf
from dgraph.sizes import Size
from dgraph.types import I64

SIMPLE = (t.Name, t.Number, t.Chain, t.Link, t.Negate, t.Member, t.Power)
OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def facts_of(ctx: Context, condition: t.Expression, *, holds: bool = True) -> tuple[Size, ...]:
    """Expressions over sizes and indices that are at least 0 where a condition holds (or does not)."""
    if isinstance(condition, t.Not):
        return facts_of(ctx, condition.operand, holds=not holds)
    if isinstance(condition, t.Logical) and (condition.operator == "and") == holds:
        return tuple(fact for operand in condition.operands for fact in facts_of(ctx, operand, holds=holds))
    if not isinstance(condition, t.Compare) or (len(condition.operators) > 1 and not holds):
        return ()
    sides = [affine_side(ctx, operand) for operand in condition.operands]
    facts: list[Size] = []
    for operator, left, right in zip(condition.operators, sides, sides[1:], strict=False):
        if left is not None and right is not None:
            facts.extend(_compared(operator if holds else OPPOSITE[operator], left, right))
    return tuple(facts)


def affine_side(ctx: Context, operand: t.Expression) -> Size | None:
    """An operand of a comparison as a polynomial over sizes and indices, where it is plainly one."""
    if not all(isinstance(node, SIMPLE) or _is_length(ctx, node) for node in t.walk(operand)):
        return None
    with ctx.region(ctx.g.child()):
        value = ctx.evaluate(operand)
    return None if isinstance(value, Leaf) and value.dtype != I64 else affine_of(value)


def _is_length(ctx: Context, node: t.Node) -> bool:
    """`len(x)`."""
    if not (isinstance(node, t.Call) and isinstance(node.function, t.Name) and node.function.name == "len"):
        return False
    held = ctx.lookup("len", node.function.span).value
    return isinstance(held, Builtin) and held.name == "len"


def _compared(operator: str, left: Size, right: Size) -> list[Size]:
    if operator == "<":
        return [right - left - 1]
    if operator == "<=":
        return [right - left]
    if operator == ">":
        return [left - right - 1]
    if operator == ">=":
        return [left - right]
    return [left - right, right - left] if operator == "==" else []
