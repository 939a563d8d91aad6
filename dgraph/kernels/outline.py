"""Taking kernels out of a driver: every outermost parallel nest becomes a function of its own, equal nests one, and
long straight code becomes functions of bounded length.

Small functions keep LLVM's vectoriser at work and the time it needs linear in the length of the program.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from dgraph.kernels.considered import Choice
from dgraph.kernels.nest_parts import (
    distinct,
    expressions_of,
    parts,
    read_buffers,
    read_first,
    set_locals,
    touching,
    walk,
    written_buffers,
)
from dgraph.kernels.nests import (
    Block,
    Call,
    Extent,
    Fail,
    If,
    Kernel,
    Let,
    Local,
    Loop,
    Note,
    Point,
    PointTape,
    Program,
    Statement,
    Store,
    TapeReserve,
    TapeSetTop,
    TapeTop,
    Update,
    While,
    number,
)
from dgraph.kernels.notices import TapeRow
from dgraph.kernels.schedule import schedule
from dgraph.kernels.structure import Shape, same_kernel, shape_of

LONG = 300
"""Statements without a loop or a branch in a row that stay together."""
PIECE = 150
"""Statements of a function that longer code is cut into."""


def outline(program: Program, lanes: str = "auto") -> Program:
    """The program with its nests as kernels, scheduled for a processor; `lanes` as in `Steering`."""
    return _Outliner(program, lanes).run()


class _Outliner:
    def __init__(self, program: Program, lanes: str) -> None:
        self.program = program
        self.lanes = lanes
        self.kernels: dict[Shape, Kernel] = {}
        self.readers = _reading_statements(program)
        self.touching = touching(program.body)

    def run(self) -> Program:
        body = self.block(self.program.body)
        return replace(self.program, body=body, kernels=tuple(self.kernels.values()), tapes=self.tapes())

    def tapes(self) -> tuple[TapeRow, ...]:
        """What is written to each row of tape memory: a step of all points that go at a time."""
        kernels = (walk(kernel.body) for kernel in self.kernels.values())
        lanes = {s.row: s.lanes for body in kernels for s in body if isinstance(s, TapeReserve)}
        tapes = self.program.tapes
        return tuple(replace(tape, entry=tape.entry * lanes.get(number(tape.row), 1)) for tape in tapes)

    def block(self, block: Block) -> Block:
        found: list[Statement] = []
        for is_straight, group in groupby(block, _is_straight):
            statements = tuple(group)
            if is_straight and len(statements) > LONG:
                found += [self.piece(statements[at : at + PIECE]) for at in range(0, len(statements), PIECE)]
            else:
                found += [self.statement(statement) for statement in statements]
        return tuple(found)

    def piece(self, statements: Block) -> Call:
        """The call of a kernel that runs part of straight code, which gives all that it sets a value for certain."""
        return self.call(statements, statements, tuple(read_first(statements)[0]), "")

    def statement(self, statement: Statement) -> Statement:
        match statement:
            case Loop(kind="parallel") if not _is_tiny(statement):
                return self.kernel(statement)
            case Loop():
                return replace(statement, body=self.block(statement.body))
            case While():
                return replace(statement, test=self.block(statement.test), body=self.block(statement.body))
            case If():
                then, otherwise = self.block(statement.then), self.block(statement.otherwise)
                return replace(statement, then=then, otherwise=otherwise)
        return statement

    def kernel(self, nest: Loop) -> Call:
        """The call of a kernel that runs a nest; a kernel made before serves again if it does the same."""
        inside = set(walk((nest,)))
        own = {
            buffer
            for statement in inside
            for buffer in (*written_buffers(statement), *read_buffers(statement))
            if self.touching[buffer] <= inside
        }
        body, considered = schedule(nest, own, self.lanes)
        return self.call((nest,), body, tuple(read_first(body)[0]), nest.note, considered, keeps=True)

    def call(
        self,
        before: Block,
        body: Block,
        starts: tuple[Local, ...],
        note: str,
        considered: tuple[Choice, ...] = (),
        keeps: bool = False,
    ) -> Call:
        """The call of a kernel with a body that stands for the statements `before`. With `keeps` what it leaves behind
        may be what it was given."""
        whole = list(walk(before))
        inner = list(walk(body))
        own = distinct(
            buffer for statement in inner if isinstance(statement, Point | PointTape) for buffer in (statement.buffer,)
        )
        buffers = distinct(
            buffer
            for statement in inner
            for buffer in (*read_buffers(statement), *written_buffers(statement))
            if buffer not in own
        )
        outer = distinct(local for statement in whole for local in set_locals(statement))
        inside = set(whole)
        results = tuple(local for local in outer if self.readers.get(local, set()) - inside)
        if keeps:
            starts = tuple(dict.fromkeys((*starts, *results)))
        kernel = Kernel(
            f"kernel_{len(self.kernels)}",
            tuple(buffers),
            starts,
            tuple(distinct(name for statement in inner for name in sizes_of(statement))),
            results,
            tuple(own),
            body,
            any(_uses_tapes(statement) for statement in inner),
            any(isinstance(statement, Fail | TapeReserve) for statement in inner),
            note,
            considered,
        )
        known = self.kernels.setdefault(shape_of(kernel), kernel)
        assert same_kernel(known, kernel)
        return Call(known, kernel.buffers, kernel.scalars, kernel.results)


def _is_straight(statement: Statement) -> bool:
    """Whether a statement only computes numbers from numbers and memory that has one name."""
    if not isinstance(statement, Let | Store | Update | Note) or _uses_tapes(statement):
        return False
    return all(buffer.kind != "pointer" for buffer in (*read_buffers(statement), *written_buffers(statement)))


def sizes_of(statement: Statement) -> Iterable[str]:
    """The size variables that a statement itself reads."""
    for expression in expressions_of(statement):
        for part in parts(expression):
            if isinstance(part, Extent):
                for atom in part.size.atoms():
                    if isinstance(atom, str):
                        yield atom


def _reading_statements(program: Program) -> dict[Local, set[Statement]]:
    """The statements that read each local."""
    found: dict[Local, set[Statement]] = {}
    for statement in walk(program.body):
        for expression in expressions_of(statement):
            for part in parts(expression):
                if isinstance(part, Local):
                    found.setdefault(part, set()).add(statement)
    return found


def _uses_tapes(statement: Statement) -> bool:
    if isinstance(statement, PointTape | TapeReserve | TapeSetTop):
        return True
    return any(isinstance(part, TapeTop) for expression in expressions_of(statement) for part in parts(expression))


def _is_tiny(nest: Loop) -> bool:
    """Whether a nest is so short that it stays where it is."""
    stop = nest.stop
    return isinstance(stop, Extent) and stop.size.constant is not None and stop.size.constant <= 4 and _is_flat(nest)


def _is_flat(nest: Loop) -> bool:
    return all(isinstance(statement, Let) or not hasattr(statement, "body") for statement in nest.body)
