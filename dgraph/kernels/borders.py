"""Loops whose points choose by how near they are to an end are cut in three: border, inner part, border.

A stencil asks at every point whether its neighbours exist. A fixed number of turns away from both ends the answer is
always the same, so the inner part runs without asking, and the processor's vector units can do it. Arrays that are put
behind one another choose at one place far from both ends: such a loop is cut in two there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import field, replace
from itertools import pairwise

from dgraph.classes import dataclass
from dgraph.kernels.nest_parts import expressions_of, parts, read_first, set_locals, walk
from dgraph.kernels.nests import (
    Apply,
    Block,
    Expression,
    Extent,
    If,
    Let,
    Literal,
    Local,
    Loop,
    Statement,
    number,
)
from dgraph.kernels.rewrite_nests import change_expressions, rename, substitute
from dgraph.kernels.views import ZERO, as_static, coefficient, minus, plus
from dgraph.sizes import Size

FEW = 16
"""A border has at most so many turns."""
PIECES = 4
"""A loop of a known number of turns is cut at so many places."""
LONGEST = 800
"""Parts of expressions in a body that is written three times."""

_TURNED = {"greater": "less", "greater_equal": "less_equal"}
_COMPARISONS = {"less", "less_equal", *_TURNED}


def with_borders(loop: Loop) -> Block:
    """A parallel loop over simple statements, cut where that decides a choice."""
    start, stop = as_static(loop.start), as_static(loop.stop)
    if start is None or stop is None or not any(map(_chooses, walk(loop.body))):
        return (loop,)
    length = sum(1 for s in walk(loop.body) for e in expressions_of(s) for _ in parts(e))
    carried = set(read_first(loop.body)[0]) & {s.local for s in walk(loop.body) if isinstance(s, Let)}
    if length > LONGEST or carried:
        return (loop,)
    borders = _Borders(loop, start, stop)
    for statement in walk(loop.body):
        for expression in expressions_of(statement):
            for part in parts(expression):
                borders.learn(part)
    pieces = borders.pieces()
    if pieces is not None:
        return pieces
    if not borders.before and not borders.after:
        return borders.halves() if len(borders.far) == 1 else (loop,)
    return borders.cut()


def _chooses(statement: Statement) -> bool:
    if isinstance(statement, If):
        return True
    return any(isinstance(p, Apply) and p.op == "select" for e in expressions_of(statement) for p in parts(e))


@dataclass
class _Borders:
    """What comparisons say inside, `before` turns from the start and `after` turns from the end; and those that choose
    `far` from both, by the place."""

    loop: Loop
    start: Size
    stop: Size
    before: int = 0
    after: int = 0
    inside: dict[Expression, bool] = field(default_factory=dict)
    far: dict[Size, dict[Expression, bool]] = field(default_factory=dict)
    bounds: dict[Expression, tuple[bool, Size]] = field(default_factory=dict)

    def pieces(self) -> Block | None:
        """A loop of so many turns as a number says in several pieces, in none of which these choices are left."""
        length = (self.stop - self.start).constant
        places = {claim: (at - self.start).constant for claim, (_, at) in self.bounds.items()}
        if length is None or None in places.values():
            return None
        known = {claim: place for claim, place in places.items() if place is not None}
        inner = sorted({place for place in known.values() if 0 < place < length})
        if not 2 <= len(inner) <= PIECES:
            return None
        return tuple(self.piece(low, high, known) for low, high in pairwise([0, *inner, length]))

    def piece(self, low: int, high: int, known: Mapping[Expression, int]) -> Loop:
        """The turns between two places, where each choice is made by its place."""
        claims = {claim: self.bounds[claim][0] == (low >= place) for claim, place in known.items()}
        piece = _fresh(replace(self.loop, body=decided(self.loop.body, lambda _: claims)))
        start, stop = (plus(self.loop.start, number(turn)) for turn in (low, high))
        return replace(piece, start=start, stop=stop, note="" if low else self.loop.note)

    def learn(self, claim: Expression) -> None:
        """See whether a part of an expression is a comparison that the inner part decides."""
        bound = _bound(claim, self.loop)
        if bound is None:
            return
        self.bounds[claim] = bound
        is_lower, at = bound
        near, far = (at - self.start).constant, (self.stop - at).constant
        if near is not None and near <= FEW:
            self.before = max(self.before, near)
            self.inside[claim] = is_lower
        elif far is not None and far <= FEW:
            self.after = max(self.after, far)
            self.inside[claim] = not is_lower
        elif near is None and far is None:
            self.far.setdefault(at, {})[claim] = is_lower

    def halves(self) -> Block:
        """The two loops in place of the one, cut at the only far place."""
        ((at, claims),) = self.far.items()
        place = Local("place", "i64")
        inside = Apply("maximum", "i64", (_least(Extent(at), self.loop.stop), self.loop.start))
        behind = {claim: not is_lower for claim, is_lower in claims.items()}
        first = replace(self.loop, stop=place, body=decided(self.loop.body, lambda _: behind))
        second = replace(self.loop, start=place, body=decided(self.loop.body, lambda _: claims), note="")
        return (Let(place, inside), _fresh(first), _fresh(second))

    def cut(self) -> Block:
        """The loops in place of the one."""
        loop = self.loop
        found: list[Statement] = []
        first, limit = Local("first", "i64"), Local("limit", "i64")
        if self.before:
            head = _fresh(loop)
            found.append(Let(first, _least(plus(loop.start, number(self.before)), loop.stop)))
            found.append(replace(head, stop=first))
        if self.after:
            low = first if self.before else loop.start
            found.append(Let(limit, Apply("maximum", "i64", (minus(loop.stop, number(self.after)), low))))
        middle = _fresh(replace(loop, body=decided(loop.body, lambda _: self.inside)))
        inner = replace(middle, start=first if self.before else loop.start, stop=limit if self.after else loop.stop)
        found.append(inner)
        if self.after:
            found.append(replace(_fresh(loop), start=limit, note=""))
        return tuple(found)


def _least(one: Expression, other: Expression) -> Expression:
    return Apply("minimum", "i64", (one, other))


def _fresh(loop: Loop) -> Loop:
    """The loop with locals of its own."""
    own = [loop.index, *(s.local for s in walk(loop.body) if isinstance(s, Let))]
    names: dict[Local, Expression] = {local: Local(local.name, local.type) for local in own}
    index = names[loop.index]
    assert isinstance(index, Local)
    return replace(loop, index=index, body=rename(loop.body, names))


def _bound(claim: Expression, loop: Loop) -> tuple[bool, Size] | None:
    """The static bound of the index that a comparison means: `index >= bound` (True) or `index < bound` (False)."""
    if not isinstance(claim, Apply) or claim.op not in _COMPARISONS:
        return None
    op, (left, right) = claim.op, claim.operands
    if op in _TURNED:
        op, left, right = _TURNED[op], right, left
    shift = 1 if op == "less_equal" else 0
    if _steps(left, loop) == 1:
        bound = as_static(minus(right, substitute(left, {loop.index: ZERO})))
        return None if bound is None else (False, bound + shift)
    if _steps(right, loop) == 1:
        bound = as_static(minus(left, substitute(right, {loop.index: ZERO})))
        return None if bound is None else (True, bound + 1 - shift)
    return None


def _steps(expression: Expression, loop: Loop) -> int | None:
    others = {s.local for s in walk(loop.body) if isinstance(s, Let)}
    if expression.type != "i64" or any(isinstance(p, Local) and p is not loop.index for p in parts(expression)):
        return None
    found = coefficient(expression, loop.index, dict.fromkeys(others))
    return None if found is None else found.constant


# ---- deciding --------------------------------------------------------------------------------------------------------

Claims = Callable[[Expression], Mapping[Expression, bool]]
"""What is known about the comparisons in an expression."""


def decided(block: Block, claims: Claims) -> Block:
    """A block in which some comparisons have a known truth."""
    given = Counter(local for statement in walk(block) for local in set_locals(statement))
    once = {local for local, times in given.items() if times == 1}
    return tuple(_statements(block, claims, once, {}))


def _statements(block: Block, claims: Claims, once: Set[Local], values: dict[Local, Expression]) -> Iterator[Statement]:
    """The statements; `once` are the locals that are given a value at one place only."""
    for statement in block:
        changed = change_expressions(statement, lambda e: _settled(substitute(e, values), claims))
        if isinstance(changed, If):
            truth = _truth(changed.condition)
            if truth is not None:
                yield from _statements(changed.then if truth else changed.otherwise, claims, once, values)
                continue
            # What one side finds out does not hold on the other one, nor after both.
            sides = (tuple(_statements(side, claims, once, dict(values))) for side in (changed.then, changed.otherwise))
            changed = If(changed.condition, *sides)
        elif isinstance(changed, Let) and changed.local in once and _truth(changed.value) is not None:
            values[changed.local] = changed.value
        yield changed


def _truth(expression: Expression) -> bool | None:
    is_bool = isinstance(expression, Literal) and expression.type == "bool"
    return bool(expression.value) if is_bool else None  # type: ignore[union-attr]


def _settled(expression: Expression, claims: Claims) -> Expression:
    """An expression with known comparisons replaced, and what follows from them."""
    known = claims(expression)
    return _with_truths(expression, known) if known or _has_truths(expression) else expression


def _has_truths(expression: Expression) -> bool:
    return any(
        isinstance(part, Apply) and any(_truth(o) is not None for o in part.operands) for part in parts(expression)
    )


def _with_truths(expression: Expression, known: Mapping[Expression, bool]) -> Expression:
    if expression in known:
        return Literal(known[expression], "bool")
    if not isinstance(expression, Apply):
        return expression
    operands = tuple(_with_truths(operand, known) for operand in expression.operands)
    truths = [_truth(operand) for operand in operands]
    if expression.op in ("logical_and", "logical_or"):
        neutral = expression.op == "logical_and"
        if (not neutral) in truths:
            return Literal(not neutral, "bool")
        for truth, other in zip(truths, operands[::-1], strict=True):
            if truth is neutral:
                return other
    if expression.op == "logical_not" and truths[0] is not None:
        return Literal(not truths[0], "bool")
    if expression.op == "select" and truths[0] is not None:
        return operands[1 if truths[0] else 2]
    return replace(expression, operands=operands)


__all__ = ["decided", "with_borders"]
