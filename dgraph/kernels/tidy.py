"""Tidying before printing: a local that is read once moves to where it is read, one that is never read goes.

It changes what a person reads and nothing that is computed: an expression moves only past statements that neither write
memory that it reads nor give new values to its locals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from dgraph.kernels.nest_parts import expressions_of, locals_of, parts, set_locals, walk
from dgraph.kernels.nests import (
    Apply,
    Block,
    Call,
    Expression,
    If,
    Kernel,
    Let,
    Load,
    Local,
    Loop,
    Note,
    Program,
    Statement,
    Sum,
    TapeTop,
    While,
)
from dgraph.kernels.rewrite_nests import change_expressions, substitute

LONGEST = 14
"""Operations in one line of source."""


def tidy(program: Program) -> Program:
    """The program with its driver and kernels tidied."""
    changed = {kernel: _tidy_kernel(kernel) for kernel in program.kernels}
    body = _Tidier(program.body, ()).block(program.body)
    return replace(program, body=_with_kernels(body, changed), kernels=tuple(changed.values()))


def _tidy_kernel(kernel: Kernel) -> Kernel:
    return replace(kernel, body=_Tidier(kernel.body, kernel.results).block(kernel.body))


def _with_kernels(block: Block, changed: dict[Kernel, Kernel]) -> Block:
    """The block with calls of the new kernels."""
    found: list[Statement] = []
    for statement in block:
        match statement:
            case Call(kernel=kernel):
                found.append(replace(statement, kernel=changed[kernel]))
            case Loop(body=body):
                found.append(replace(statement, body=_with_kernels(body, changed)))
            case While(test=test, body=body):
                found.append(replace(statement, test=_with_kernels(test, changed), body=_with_kernels(body, changed)))
            case If(then=then, otherwise=otherwise):
                sides = (_with_kernels(side, changed) for side in (then, otherwise))
                found.append(If(statement.condition, *sides))
            case _:
                found.append(statement)
    return tuple(found)


class _Waiting:
    """Locals whose one read may still come, each with the place of its `Let`. What each reads is looked up backwards,
    so that a long block costs time in proportion to its length."""

    def __init__(self) -> None:
        self.places: dict[Local, int] = {}
        self.readers: dict[Local, list[Local]] = {}
        self.reads_memory: set[Local] = set()

    def add(self, let: Let, place: int) -> None:
        """A local begins to wait."""
        self.places[let.local] = place
        for part in parts(let.value):
            if isinstance(part, Local):
                self.readers.setdefault(part, []).append(let.local)
            elif isinstance(part, Load | Sum | TapeTop):
                self.reads_memory.add(let.local)

    def pop(self, local: Local) -> int:
        """A local is put in where it is read; its place."""
        self.reads_memory.discard(local)
        return self.places.pop(local)

    def pass_over(self, statement: Statement) -> None:
        """Locals whose value may be another one after a statement wait no longer."""
        if not isinstance(statement, Let | Note):
            for local in self.reads_memory:
                self.places.pop(local, None)
            self.reads_memory.clear()
        for inner in walk((statement,)):
            for given in set_locals(inner):
                for local in self.readers.pop(given, ()):
                    self.places.pop(local, None)
                    self.reads_memory.discard(local)


class _Tidier:
    """One function being tidied."""

    def __init__(self, body: Block, results: Iterable[Local]) -> None:
        self.reads: Counter[Local] = Counter(results)
        self.writes: Counter[Local] = Counter()
        for statement in walk(body):
            self.reads.update(local for e in expressions_of(statement) for local in locals_of(e))
            self.writes.update(set_locals(statement))

    def block(self, block: Block) -> Block:
        """A block tidied from its start to its end."""
        done: list[Statement | None] = []
        waiting = _Waiting()
        for statement in block:
            if isinstance(statement, Let) and not self.reads[statement.local]:
                self.reads.subtract(locals_of(statement.value))
                continue
            taken = self.take(statement, done, waiting)
            inner = self.inside(taken)
            waiting.pass_over(inner)
            if isinstance(inner, Let) and self.reads[inner.local] == self.writes[inner.local] == 1:
                waiting.add(inner, len(done))
            done.append(inner)
        return tuple(statement for statement in done if statement is not None)

    def take(self, statement: Statement, done: list[Statement | None], waiting: _Waiting) -> Statement:
        """The statement with the waiting locals that it reads itself put in."""
        if isinstance(statement, While):
            return statement
        values: dict[Local, Expression] = {}
        for expression in expressions_of(statement):
            length = _length(expression)
            for local in locals_of(expression):
                if local in waiting.places and local not in values:
                    let = done[waiting.places[local]]
                    assert isinstance(let, Let)
                    length += _length(let.value)
                    if length <= LONGEST:
                        values[local] = let.value
        for local in values:
            done[waiting.pop(local)] = None
        if not values:
            return statement
        return change_expressions(statement, lambda expression: substitute(expression, values))

    def inside(self, statement: Statement) -> Statement:
        """The statement with its blocks tidied."""
        match statement:
            case Loop(body=body):
                return replace(statement, body=self.block(body))
            case While(test=test, body=body):
                return replace(statement, test=self.block(test), body=self.block(body))
            case If(then=then, otherwise=otherwise):
                return If(statement.condition, self.block(then), self.block(otherwise))
        return statement


def _length(expression: Expression) -> int:
    """Number of operations in an expression."""
    return sum(isinstance(part, Apply | Load | Sum) for part in parts(expression))
