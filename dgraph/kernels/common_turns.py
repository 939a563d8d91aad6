"""Loops that points leave at different turns, in a form in which points that go several at a time make them together.

A loop whose number of turns differs from point to point runs as often as the one that needs it longest, each point
taking part up to its own number. A `while` that keeps something for each turn counts its turns apart from what each
point counts: all that are still in it are at the same turn, so that what they keep lies in a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from dgraph.kernels.nest_parts import locals_of, set_locals, walk
from dgraph.kernels.nests import (
    Apply,
    Block,
    Expression,
    If,
    Let,
    Local,
    Loop,
    Statement,
    TapeReserve,
    TapeSetTop,
    While,
)
from dgraph.kernels.rewrite_nests import rename, substitute
from dgraph.kernels.views import as_static

Differs = Callable[[Expression], bool]


def with_common_turns(block: Block, differs: Differs) -> Block:
    """A block of a point with its loops made together; the same block if that changes nothing. `differs` says whether a
    number may differ from point to point."""
    found: list[Statement] = []
    for statement in block:
        match statement:
            case Loop():
                found += _loop(statement, differs)
            case While():
                found += _while(found, statement, differs)
            case If(then=then, otherwise=otherwise):
                sides = with_common_turns(then, differs), with_common_turns(otherwise, differs)
                is_same = sides[0] is then and sides[1] is otherwise
                found.append(statement if is_same else If(statement.condition, *sides))
            case TapeReserve(bytes=count) | TapeSetTop(bytes=count) if differs(count):
                found.append(replace(statement, bytes=_most(count)))
            case _:
                found.append(statement)
    is_same = len(found) == len(block) and all(one is other for one, other in zip(found, block, strict=True))
    return block if is_same else tuple(found)


def _most(count: Expression) -> Expression:
    return Apply("most", "i64", (count,))


def _loop(loop: Loop, differs: Differs) -> Iterator[Statement]:
    body = with_common_turns(loop.body, differs)
    start = as_static(loop.start)
    if not differs(loop.stop) or start is None or start.constant != 0:
        yield loop if body is loop.body else replace(loop, body=body)
        return
    count = Local("count", "i64")
    yield Let(count, loop.stop)
    inside = If(Apply("less", "bool", (loop.index, count)), body)
    yield replace(loop, stop=_most(count), body=(inside,))


def _while(before: list[Statement], loop: While, differs: Differs) -> Iterator[Statement]:
    body = with_common_turns(loop.body, differs)
    found = loop if body is loop.body else replace(loop, body=body)
    counters = _counters(before, found) if any(isinstance(inner, TapeReserve) for inner in walk(body)) else {}
    counters = {counter: start for counter, start in counters.items() if differs(counter)}
    if not counters or not differs(loop.condition):
        yield found
        return
    turns = {counter: Local("turn", "i64") for counter in counters}
    test, body = (rename(block, turns) for block in (found.test, found.body))
    steps = [one for one in found.body if isinstance(one, Let) and one.local in counters]
    for counter, turn in turns.items():
        yield Let(turn, counters[counter])
    yield While(test, substitute(found.condition, turns), (*body, *steps))


def _counters(before: list[Statement], loop: While) -> dict[Local, Expression]:
    """The locals that count the turns of a loop, with their starts."""
    starts = {one.local: one.value for one in before if isinstance(one, Let) and as_static(one.value) is not None}
    given = Counter(local for one in walk((*loop.test, *loop.body)) for local in set_locals(one))
    found = {}
    for statement in loop.body:
        match statement:
            case Let(local=local, value=Apply(op="add", operands=(left, right))) if left is local and _is_one(right):
                if local in starts and given[local] == 1:
                    found[local] = starts[local]
    return found


def _is_one(expression: Expression) -> bool:
    step = as_static(expression)
    return step is not None and step.constant == 1 and not locals_of(expression)
