"""Nests whose points may fail at what they compute: all points run as if nothing could fail, and say whether one would.

A point that may stop the program cannot be computed together with others. So a point at which a check fails leaves out
the rest of its work and raises a flag. Where the flag is up after the nest, the nest is run again point by point, which
tells the first failure: the same that it would have told before.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from dgraph.kernels.checks_first import can_fail
from dgraph.kernels.nest_parts import expressions_of, parts, read_first, set_locals, walk, written_buffers
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Fail,
    If,
    Let,
    Literal,
    Load,
    Local,
    Loop,
    Note,
    Statement,
    Sum,
    TapeSetTop,
    While,
)
from dgraph.kernels.rewrite_nests import rename


def watched(nest: Loop, own: Set[Buffer]) -> tuple[Let, Loop, If] | None:
    """The flag, the nest that raises it, and what follows if it is up. None if a check cannot do that, or if a second
    run would not find what the first one found. `own` are arrays that nothing outside touches."""
    if not _is_repeatable(nest, own):
        return None
    flag = Local("fails", "bool")
    points = _watching(nest, flag)
    if can_fail(points):
        return None
    given = dict.fromkeys(local for statement in walk((nest,)) for local in set_locals(statement))
    names = {local: Local(local.name, local.type) for local in given}
    starts = tuple(Let(names[local], local) for local in _carried(nest))
    again = If(flag, (*starts, *rename((nest,), names)))
    return Let(flag, Literal(False, "bool")), points, again


def _is_repeatable(nest: Loop, own: Set[Buffer]) -> bool:
    """Whether nothing that the nest reads of what comes in is changed by it."""
    statements = list(walk((nest,)))
    loads = [part for s in statements for e in expressions_of(s) for part in parts(e) if isinstance(part, Load | Sum)]
    written = {buffer for statement in statements for buffer in written_buffers(statement)}
    return {load.buffer for load in loads} & written <= own


def _carried(nest: Loop) -> list[Local]:
    """The locals that the points of a nest change and the nest does not begin."""
    given = {local for statement in walk((nest,)) for local in set_locals(statement)}
    return [local for local in read_first((nest,))[0] if local in given]


def _watching(nest: Loop, flag: Local) -> Loop:
    """The nest with the checks at its points raising the flag."""
    match nest.body:
        case (Loop(kind="parallel") as inner,) if can_fail(inner):
            return replace(nest, body=(_watching(inner, flag),))
    fails = Local("fails", "bool")
    start = Let(fails, Literal(False, "bool"))
    raised = Let(flag, Apply("logical_or", "bool", (flag, fails)))
    return replace(nest, body=(start, *_block(nest.body, fails), raised))


def _block(block: Block, fails: Local) -> Block:
    """A block whose checks set `fails`, and which does no more where one fails."""
    for at, statement in enumerate(block):
        if can_fail(statement):
            changed = _checking(statement, fails)
            rest = _block(block[at + 1 :], fails)
            # What a point kept is given up in any case.
            end = next((k for k in range(len(rest), 0, -1) if not isinstance(rest[k - 1], TapeSetTop)), 0)
            onward = (If(_not(fails), rest[:end]),) if end else ()
            return (*block[:at], changed, *onward, *rest[end:])
    return block


def _checking(statement: Statement, fails: Local) -> Statement:
    """A statement that may fail, setting `fails` instead."""
    match statement:
        case If(condition=condition, then=then, otherwise=()) if all(map(_only_fails, then)):
            return Let(fails, condition)
        case If(condition=condition, then=then, otherwise=otherwise):
            return If(condition, _block(then, fails), _block(otherwise, fails))
        case Loop(body=body):
            return replace(statement, body=(If(_not(fails), _block(body, fails)),))
        case While(test=test, condition=condition, body=body) if not any(map(can_fail, test)):
            onward = Apply("logical_and", "bool", (condition, _not(fails)))
            return While(test, onward, _block(body, fails))
    return statement


def _not(fails: Local) -> Apply:
    return Apply("logical_not", "bool", (fails,))


def _only_fails(statement: Statement) -> bool:
    """Whether a statement stops the program, or prepares that."""
    return isinstance(statement, Fail | Let | Note)
