"""Loops whose whole body stands under a guard on the index run only where the guard holds.

`for s in range(d): if s < r` is `for s in range(min(d, r))`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dgraph.kernels.nest_parts import expressions_of, parts, walk
from dgraph.kernels.nests import (
    Apply,
    Block,
    Expression,
    If,
    Let,
    Load,
    Local,
    Loop,
    Statement,
    Sum,
    While,
    number,
)
from dgraph.kernels.rewrite_nests import substitute
from dgraph.kernels.views import ZERO, coefficient, minus, plus

_TURNED = {"greater": "less", "greater_equal": "less_equal"}
_COMPARISONS = {"less", "less_equal", *_TURNED}


def tightened(block: Block) -> Block:
    """A block with the guards of its parallel loops made bounds, at any depth."""
    found: list[Statement] = []
    for statement in block:
        match statement:
            case Loop(body=body):
                loop = replace(statement, body=tightened(body))
                found.extend(_bounded(loop) if loop.kind == "parallel" else (loop,))
            case While(test=test, body=body):
                found.append(replace(statement, test=tightened(test), body=tightened(body)))
            case If(then=then, otherwise=otherwise):
                found.append(If(statement.condition, tightened(then), tightened(otherwise)))
            case _:
                found.append(statement)
    return tuple(found)


def _bounded(loop: Loop) -> Block:
    """The loop with bounds instead of guards, after what computes the bounds."""
    guard = _guard(loop)
    if guard is None:
        return (loop,)
    condition, then = guard
    left: list[Expression] = []
    lows: list[Expression] = []
    highs: list[Expression] = []
    for claim in _claims(condition):
        bound = _bound(claim, loop)
        if bound is None:
            left.append(claim)
        else:
            (lows if bound[0] else highs).append(bound[1])
    if not lows and not highs:
        return (loop,)
    start, stop = loop.start, loop.stop
    before: list[Statement] = []
    for low in lows:
        start = Apply("maximum", "i64", (low, start))
    for high in highs:
        stop = Apply("minimum", "i64", (high, stop))
    if lows:
        first = Local("first", "i64")
        before.append(Let(first, start))
        start = first
    if highs:
        limit = Local("limit", "i64")
        before.append(Let(limit, stop))
        stop = limit
    body: Block = then
    if left:
        joined = left[0]
        for claim in left[1:]:
            joined = Apply("logical_and", "bool", (joined, claim))
        body = (If(joined, then),)
    return (*before, replace(loop, start=start, stop=stop, body=body))


def _guard(loop: Loop) -> tuple[Expression, Block] | None:
    """The condition under which a loop does anything, written out, and what it does then."""
    *lets, last = loop.body or (None,)
    if not isinstance(last, If) or last.otherwise:
        return None
    values: dict[Local, Expression] = {}
    for statement in lets:
        if not isinstance(statement, Let) or any(isinstance(part, Load | Sum) for part in parts(statement.value)):
            return None
        values[statement.local] = substitute(statement.value, values)
    inside = {
        part
        for statement in walk(last.then)
        for expression in expressions_of(statement)
        for part in parts(expression)
        if isinstance(part, Local)
    }
    kept = tuple(Let(local, value) for local, value in values.items() if local in inside)
    return substitute(last.condition, values), (*kept, *last.then)


def _claims(condition: Expression) -> Iterator[Expression]:
    """What a conjunction claims."""
    if isinstance(condition, Apply) and condition.op == "logical_and":
        for operand in condition.operands:
            yield from _claims(operand)
    else:
        yield condition


def _bound(claim: Expression, loop: Loop) -> tuple[bool, Expression] | None:
    """The bound of the index that a comparison means: whether it is a lower one, and its value."""
    if not isinstance(claim, Apply) or claim.op not in _COMPARISONS:
        return None
    left, right = claim.operands
    if left.type != "i64":
        return None
    op = claim.op
    if op in _TURNED:
        op, left, right = _TURNED[op], right, left
    given = {loop.index, *(s.local for s in walk(loop.body) if isinstance(s, Let))}
    steps = [coefficient(side, loop.index, dict.fromkeys(given - {loop.index})) for side in (left, right)]
    if any(step is None or step.constant not in (0, 1) for step in steps) or steps[0] == steps[1]:
        return None
    if _reads_memory(left) or _reads_memory(right):
        return None
    one = number(1)
    if steps[0] is not None and steps[0].constant == 1:
        # index + a < b
        high = minus(right, substitute(left, {loop.index: ZERO}))
        return False, high if op == "less" else plus(high, one)
    # a < index + b
    low = minus(left, substitute(right, {loop.index: ZERO}))
    return True, plus(low, one) if op == "less" else low


def _reads_memory(expression: Expression) -> bool:
    return any(isinstance(part, Load | Sum) for part in parts(expression))
