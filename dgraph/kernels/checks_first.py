"""Checks of a nest that need no more than indices and what comes in are made by a nest of their own, before it.

A point that may fail cannot be computed together with others. Whether indices from outside are inside their arrays is
known before anything is computed, so those checks go first, all of them in the order in which they stood, and the nest
without them is as free as any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from dgraph.kernels.nest_parts import parts, set_locals, walk, written_buffers
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Expression,
    Fail,
    If,
    Let,
    Load,
    Local,
    Loop,
    Statement,
    Sum,
    TapeTop,
)
from dgraph.kernels.rewrite_nests import rename

_CHEAP = {"add", "sub", "mul", "neg", "floor_div", "mod", "minimum", "maximum", "cast", "select"} | {
    *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"),
    *("logical_and", "logical_or", "logical_not"),
}


def checks_first(nest: Loop) -> tuple[Loop, Loop] | None:
    """The nest of the checks, and the nest without them; None if a check needs what the nest computes."""
    slicer = _Slicer(nest)
    try:
        checks = slicer.sliced((nest,))
    except _Needed:
        return None
    own = dict.fromkeys(local for statement in walk(checks) for local in set_locals(statement))
    (first,), (rest,) = rename(checks, {local: Local(local.name, local.type) for local in own}), _without((nest,))
    assert isinstance(first, Loop) and isinstance(rest, Loop)
    return first, rest


class _Needed(Exception):
    """A check needs what the nest computes."""


class _Slicer:
    """Collects from the last statement to the first what the checks of a nest read."""

    def __init__(self, nest: Loop) -> None:
        statements = list(walk((nest,)))
        self.given = Counter(one.local for one in statements if isinstance(one, Let))
        self.written: set[Buffer] = {buffer for one in statements for buffer in written_buffers(one)}
        self.needed: set[Local] = set()

    def sliced(self, block: Block) -> Block:
        """The statements of a block that its checks need, and the checks."""
        kept = [found for statement in reversed(block) if (found := self.statement(statement)) is not None]
        return tuple(reversed(kept))

    def statement(self, statement: Statement) -> Statement | None:
        """What the checks need of a statement."""
        match statement:
            case Let(local=local, value=value):
                if local not in self.needed:
                    return None
                if self.given[local] > 1:
                    raise _Needed
                self.need([value])
                return statement
            case Fail(values=values):
                self.need(values)
                return statement
            case If(condition=condition, then=then, otherwise=otherwise) if can_fail(statement):
                found = replace(statement, then=self.sliced(then), otherwise=self.sliced(otherwise))
                self.need([condition])
                return found
            case Loop(body=body) if can_fail(statement):
                turns = replace(statement, body=self.sliced(body))
                self.need([statement.start, statement.stop])
                return turns
        given = {local for one in walk((statement,)) for local in set_locals(one)}
        if can_fail(statement) or not self.needed.isdisjoint(given):
            raise _Needed
        return None

    def need(self, expressions: Iterable[Expression]) -> None:
        """Let the locals of expressions be needed, which may be no more than cheap arithmetic on what comes in."""
        for expression in expressions:
            for part in parts(expression):
                match part:
                    case Local():
                        self.needed.add(part)
                    case Load(buffer=buffer) if buffer in self.written:
                        raise _Needed
                    case Sum() | TapeTop():
                        raise _Needed
                    case Apply(op=op) if op not in _CHEAP:
                        raise _Needed


def can_fail(statement: Statement) -> bool:
    """Whether a statement may stop the program."""
    return any(isinstance(inner, Fail) for inner in walk((statement,)))


def _without(block: Block) -> Block:
    """A block without its checks, and without choices that held nothing else."""
    found: list[Statement] = []
    for statement in block:
        match statement:
            case Fail():
                continue
            case If(then=then, otherwise=otherwise) if can_fail(statement):
                sides = _without(then), _without(otherwise)
                if any(sides):
                    found.append(replace(statement, then=sides[0], otherwise=sides[1]))
            case Loop(body=body):
                found.append(replace(statement, body=_without(body)))
            case _:
                found.append(statement)
    return tuple(found)
