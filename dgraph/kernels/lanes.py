"""Points of an index space in lockstep: a loop over points whose body holds loops becomes loops whose bodies hold a
loop over a block of points, which the compiler vectorises.

What a point keeps in locals from one such loop to the next is kept in rows of scratch memory, one entry per point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dgraph.kernels.nest_parts import expressions_of, parts, read_first, walk, written_buffers
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Expression,
    Extent,
    If,
    Let,
    Load,
    Local,
    Loop,
    Note,
    Statement,
    Store,
    Sum,
    Update,
    number,
)
from dgraph.kernels.views import as_static, coefficient, minus, plus, times
from dgraph.sizes import Size, size

LANES = 128
"""Points in a block."""

WIDE_LANES = 512
"""Points in a block where few locals need rows: longer rows, fewer turns."""

FEW = 4


def in_lanes(loop: Loop, body: Block) -> Block | None:
    """A loop over points with another body, run block by block; None if the points cannot go in lockstep."""
    points = _Points(loop, body)
    return points.expanded() if points.is_possible() else None


@dataclass
class _Run:
    """Statements without loops that follow one another: one loop over the lanes."""

    statements: list[Statement] = field(default_factory=list)
    read: dict[Local, None] = field(default_factory=dict)
    given: dict[Local, None] = field(default_factory=dict)


class _Points:
    def __init__(self, loop: Loop, body: Block) -> None:
        self.loop = loop
        self.body = body
        self.runs: list[_Run] = []
        self.varying = self.find_varying()
        self.rows: dict[Local, Buffer] = {}
        self.lanes = LANES

    # ---- what depends on the point ---------------------------------------------------------------------------------

    def find_varying(self) -> dict[Local, Size | None]:
        """By how much each local grows with the point; locals that do not depend on it are left out."""
        # What comes from outside and is changed by each point is different for each.
        given = {statement.local for statement in walk(self.body) if isinstance(statement, Let)}
        known: dict[Local, Size | None] = {local: None for local in read_first(self.body)[0] if local in given}
        written = {buffer for statement in walk(self.body) for buffer in written_buffers(statement)}
        changed = True
        while changed:
            changed = False
            for local, value, is_chosen in self.lets(self.body, known, False):
                step = coefficient(value, self.loop.index, known)
                reads_written = any(isinstance(p, Load | Sum) and p.buffer in written for p in parts(value))
                if is_chosen or reads_written:
                    step = None
                if step is not None and not step.terms and local not in known:
                    continue
                if local not in known or (known[local] is not None and known[local] != step):
                    known[local] = step if local not in known else None
                    changed = True
        return known

    def lets(
        self, block: Block, known: dict[Local, Size | None], is_chosen: bool
    ) -> Iterator[tuple[Local, Expression, bool]]:
        """Every assignment, and whether it stands on one side of a choice that differs from point to point."""
        for statement in block:
            match statement:
                case Let(local=local, value=value):
                    yield local, value, is_chosen
                case If(condition=condition, then=then, otherwise=otherwise):
                    differs = is_chosen or self.differs(condition, known)
                    yield from self.lets(then, known, differs)
                    yield from self.lets(otherwise, known, differs)
                case Loop(body=body):
                    yield from self.lets(body, known, is_chosen)

    def differs(self, expression: Expression, known: dict[Local, Size | None] | None = None) -> bool:
        """Whether an expression depends on the point."""
        step = coefficient(expression, self.loop.index, self.varying if known is None else known)
        return step is None or bool(step.terms)

    # ---- whether points can go in lockstep ---------------------------------------------------------------------------

    def is_possible(self) -> bool:
        """Only loops of common bounds, and only memory that each point has for itself or adds to."""
        start = as_static(self.loop.start)
        is_full = start is not None and start.constant == 0 and as_static(self.loop.stop) is not None
        return is_full and all(self.fits(statement) for statement in walk(self.body))

    def fits(self, statement: Statement) -> bool:
        match statement:
            case Let() | Note() | If() | Update():
                return True
            case Store(buffer=buffer, index=index):
                step = coefficient(index, self.loop.index, self.varying)
                return step is not None and bool(step.terms) and self.is_private(buffer, step)
            case Loop(start=start, stop=stop):
                return not self.differs(start) and not self.differs(stop)
        return False

    def is_private(self, buffer: Buffer, stride: Size) -> bool:
        """Whether every read of a buffer that points write has the stride of the write."""
        for statement in walk(self.body):
            for expression in expressions_of(statement):
                for part in parts(expression):
                    if isinstance(part, Load) and part.buffer is buffer:
                        if coefficient(part.index, self.loop.index, self.varying) != stride:
                            return False
                    elif isinstance(part, Sum) and part.buffer is buffer:
                        return False
        return True

    # ---- the new nest ------------------------------------------------------------------------------------------------

    def expanded(self) -> Block | None:
        """Blocks of points around the body, each run of it a loop over the lanes."""
        lane, block, count = Local("lane", "i64"), Local("block", "i64"), Local("count", "i64")
        planned = self.plan(self.body)
        if planned is None:
            return None
        self.choose_rows()
        if self.keeps_totals():
            return None
        start = times(block, number(self.lanes))
        stop = as_static(self.loop.stop)
        assert stop is not None
        length = Apply("minimum", "i64", (minus(self.loop.stop, start), number(self.lanes)))
        statements: list[Statement] = [Let(count, length)]
        for part in planned:
            statements.extend(self.emit(part, lane, count, start))
        blocks = Extent((stop + (self.lanes - 1)) // self.lanes)
        return (replace(self.loop, index=block, stop=blocks, body=tuple(statements)),)

    def plan(self, block: Block) -> list[_Run | Statement | tuple[Statement, list[object]]] | None:
        """The block as runs, statements that are the same for all points, and loops and choices with plans inside."""
        planned: list[_Run | Statement | tuple[Statement, list[object]]] = []
        for statement in block:
            if isinstance(statement, Loop) or (
                isinstance(statement, If) and (_holds_loop(statement) or not self.differs(statement.condition))
            ):
                inner = self.plan_inside(statement)
                if inner is None:
                    return None
                planned.append((statement, inner))
            elif isinstance(statement, Let) and statement.local not in self.varying:
                # What is the same for all points may go before a run, so that the run is not cut in two.
                is_first = planned and isinstance(planned[-1], _Run) and self.times_given(statement.local) == 1
                planned.insert(len(planned) - 1 if is_first else len(planned), statement)
            else:
                if not planned or not isinstance(planned[-1], _Run):
                    planned.append(_Run())
                    self.runs.append(planned[-1])  # type: ignore[arg-type]
                run = planned[-1]
                assert isinstance(run, _Run)
                self.add(run, statement)
        return planned

    def times_given(self, local: Local) -> int:
        """How many statements give a local a value."""
        return sum(isinstance(statement, Let) and statement.local is local for statement in walk(self.body))

    def plan_inside(self, statement: Statement) -> list[object] | None:
        if isinstance(statement, Loop):
            found = self.plan(statement.body)
            return None if found is None else [found]
        assert isinstance(statement, If)
        if self.differs(statement.condition):
            return None
        sides = [self.plan(side) for side in (statement.then, statement.otherwise)]
        return None if any(side is None for side in sides) else list(sides)

    def add(self, run: _Run, statement: Statement) -> None:
        """Put a statement into a run, noting the locals that it reads from before and gives a value."""
        run.statements.append(statement)
        for inner in walk((statement,)):
            for expression in expressions_of(inner):
                for part in parts(expression):
                    if isinstance(part, Local) and part in self.varying and part not in run.given:
                        run.read.setdefault(part)
            if isinstance(inner, Let) and inner.local in self.varying:
                if inner.local not in run.given and inner.local not in _always_given((statement,)):
                    # On one side of a choice only: the value from before is kept on the other.
                    run.read.setdefault(inner.local)
                run.given.setdefault(inner.local)

    def keeps_totals(self) -> bool:
        """Whether a local that comes from outside and is changed inside would need a row: points share it."""
        given: set[Local] = set()
        for run in self.runs:
            if any(local in self.rows and local not in given for local in run.read):
                return True
            given.update(run.given)
        return False

    def choose_rows(self) -> None:
        """Locals that live from one run to another, or from one turn of a loop to the next, get rows of memory."""
        seen: dict[Local, int] = {}
        for run in self.runs:
            for local in {**run.read, **run.given}:
                seen[local] = seen.get(local, 0) + 1
        kept = [local for local, count in seen.items() if count > 1]
        self.lanes = WIDE_LANES if len(kept) <= FEW else LANES
        self.rows = {local: Buffer(local.name or "lanes", local.type, size(self.lanes)) for local in kept}

    def emit(self, part: object, lane: Local, count: Local, start: Expression) -> Block:
        if isinstance(part, _Run):
            return (self.emit_run(part, lane, count, start),)
        if isinstance(part, tuple):
            statement, inner = part
            blocks = [
                tuple(found for item in items for found in self.emit(item, lane, count, start)) for items in inner
            ]
            if isinstance(statement, Loop):
                return (replace(statement, kind=_sequential(statement.kind), body=blocks[0]),)
            assert isinstance(statement, If)
            return (replace(statement, then=blocks[0], otherwise=blocks[1]),)
        return (part,)  # type: ignore[return-value]

    def emit_run(self, run: _Run, lane: Local, count: Local, start: Expression) -> Loop:
        body: list[Statement] = [Let(self.loop.index, plus(start, lane))]
        body += [Let(local, Load(self.rows[local], lane)) for local in run.read if local in self.rows]
        body += run.statements
        body += [Store(self.rows[local], lane, local) for local in run.given if local in self.rows]
        return Loop(lane, count, tuple(body), "parallel")


def _always_given(block: Block) -> set[Local]:
    """The locals that get a value whichever side of a choice is taken."""
    found: set[Local] = set()
    for statement in block:
        if isinstance(statement, Let):
            found.add(statement.local)
        elif isinstance(statement, If):
            found |= _always_given(statement.then) & _always_given(statement.otherwise)
    return found


def _holds_loop(statement: If) -> bool:
    return any(isinstance(inner, Loop) for inner in walk((statement,)))


def _sequential(kind: str) -> str:
    return "sequential" if kind == "parallel" else kind
