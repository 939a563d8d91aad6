"""Totals in few entries of a large array, such as a vector that a point adds up, are added up in an array of their own.

Where a block of memory is filled and the loop behind it does nothing with the array but add to that block, the block is
written once, after the loop: what is added up in between can live in registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from dgraph.kernels.nest_parts import blocks_of, expressions_of, locals_of, parts, set_locals, walk, written_buffers
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Expression,
    Extent,
    Fill,
    If,
    Load,
    Local,
    Loop,
    Program,
    Statement,
    Store,
    Update,
    While,
    number,
)
from dgraph.kernels.registers import is_small
from dgraph.kernels.views import as_static, plus
from dgraph.sizes import Size, variable


def with_small_totals(program: Program) -> Program:
    """The program with totals of few entries in arrays of their own."""
    return replace(program, body=_block(program.body))


def _block(block: Block) -> Block:
    found: list[Statement] = []
    for at, statement in enumerate(block):
        before = found[-1] if at else None
        totals = _totals(before, statement) if isinstance(before, Fill) and isinstance(statement, Loop) else None
        if totals is None:
            found.append(_inside(statement))
        else:
            found[-1:] = totals
    return tuple(found)


def _inside(statement: Statement) -> Statement:
    match statement:
        case Loop(body=body):
            return replace(statement, body=_block(body))
        case While(test=test, body=body):
            return replace(statement, test=_block(test), body=_block(body))
        case If(then=then, otherwise=otherwise):
            return If(statement.condition, _block(then), _block(otherwise))
    return statement


def _totals(fill: Fill, loop: Loop) -> Block | None:
    """The fill, the loop, and what writes the block, if the loop does nothing else with the array."""
    count = as_static(fill.count)
    if count is None or not is_small(count) or _is_over_entries(loop, count):
        return None
    places = {
        statement: place
        for statement, loops in _statements((loop,), {})
        if isinstance(statement, Update)
        and statement.buffer is fill.buffer
        and (place := _place(statement.index, fill.index, loops, count)) is not None
    }
    inside = list(walk((loop,)))
    touching = [s for s in inside if fill.buffer in written_buffers(s)]
    loads = (p for s in inside for e in expressions_of(s) for p in parts(e) if isinstance(p, Load))
    given = {local for statement in inside for local in set_locals(statement)}
    is_apart = given.isdisjoint(locals_of(fill.index)) and not any(load.buffer is fill.buffer for load in loads)
    if not is_apart or not touching or any(statement not in places for statement in touching):
        return None
    own = Buffer(fill.buffer.name, fill.buffer.type, count)
    at = Local("k", "i64")
    store = Store(fill.buffer, plus(fill.index, at), Load(own, at))
    ending = Loop(at, Extent(count), (store,), "parallel")
    (changed,) = _moved((loop,), {update: replace(update, buffer=own, index=i) for update, i in places.items()})
    return Fill(own, number(0), fill.count, fill.value), _inside(changed), ending


def _is_over_entries(loop: Loop, count: Size) -> bool:
    """Whether a loop over the entries themselves does nothing but add once to each."""
    return as_static(loop.stop) == count and not any(isinstance(inner, Loop | While) for inner in walk(loop.body))


def _statements(block: Block, loops: Mapping[Local, Loop]) -> Iterator[tuple[Statement, Mapping[Local, Loop]]]:
    """Every statement with the loops around it."""
    for statement in block:
        yield statement, loops
        around = {**loops, statement.index: statement} if isinstance(statement, Loop) else loops
        for inner in blocks_of(statement):
            yield from _statements(inner, around)


def _place(index: Expression, start: Expression, loops: Mapping[Local, Loop], count: Size) -> Expression | None:
    """The place of an index in a block of so many entries: a number, or the index of a loop over no more."""
    one, other = _polynomial(index), _polynomial(start)
    if one is None or other is None:
        return None
    distance = one - other
    if distance.constant is not None:
        return Extent(distance) if 0 <= distance.constant < (count.constant or 0) else None
    loop = next((loop for local, loop in loops.items() if distance == variable(local)), None)
    if loop is None:
        return None
    first, stop = as_static(loop.start), as_static(loop.stop)
    is_inside = first is not None and stop is not None and first.is_nonnegative() and (count - stop).is_nonnegative()
    return loop.index if is_inside else None


def _polynomial(expression: Expression) -> Size | None:
    static = as_static(expression)
    if static is not None:
        return static
    match expression:
        case Local():
            return variable(expression)
        case Apply(op="add" | "sub" | "mul" as op, type="i64", operands=(left, right)):
            one, other = _polynomial(left), _polynomial(right)
            if one is None or other is None:
                return None
            return one + other if op == "add" else one - other if op == "sub" else one * other
    return None


def _moved(block: Block, changed: Mapping[Statement, Statement]) -> Block:
    """A block with some statements changed."""
    found: list[Statement] = []
    for statement in block:
        match statement:
            case Loop(body=body):
                statement = replace(statement, body=_moved(body, changed))
            case While(test=test, body=body):
                statement = replace(statement, test=_moved(test, changed), body=_moved(body, changed))
            case If(then=then, otherwise=otherwise):
                statement = If(statement.condition, _moved(then, changed), _moved(otherwise, changed))
        found.append(changed.get(statement, statement))
    return tuple(found)
