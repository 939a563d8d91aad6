"""The nest of points that go several at a time: what follows from a choice of lanes, written out in the loop program.

An array that a turn makes for itself gets a row of entries for each of its places, one for each lane. Entries far from
one another that a turn reads again and again are first brought into such rows. Several points cannot add to an entry
that they share at a time: their terms go to a row, and are added up for a block of turns. A loop that holds such a term
runs once for the whole block; what stands in it becomes runs, loops over the turns of the block one after another, and
what a turn keeps from one run to the next has a row too. The order of every sum depends on nothing but the number of
turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, replace

from dgraph.classes import dataclass
from dgraph.kernels.lane_rows import Rows
from dgraph.kernels.lanes import NEUTRAL, Packing, Points, is_from_zero, loads_in, total_of
from dgraph.kernels.nest_parts import blocks_of, expressions_of, locals_of, read_first, set_locals, walk
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Expression,
    Fill,
    If,
    Let,
    Literal,
    Load,
    Local,
    Loop,
    Statement,
    Store,
    Sum,
    TapeReserve,
    Update,
    While,
    number,
)
from dgraph.kernels.rewrite_nests import rename
from dgraph.kernels.values import ROWS
from dgraph.kernels.views import ZERO, as_static, coefficient, minus, plus, rounded_up, times
from dgraph.sizes import Size, size

BLOCK = 256
"""Turns whose terms are kept before they are added up, where one run does all that a turn does."""


def in_lanes(points: Points) -> Block | None:
    """The loop over points with lanes; None if what all turns do together needs what a single one finds."""
    packings = tuple(points.packings())
    lanes = points.width()
    if points.carried or any(map(points.shares, points.body)):
        blocks = _Blocks(points, packings, lanes)
        return None if blocks.needs_turns() else blocks.nest()
    place = Local("place", "i64")
    rows = Rows(points, packings, lanes, place)
    body = rows.block((*rows.packed(), *points.body))
    if rows.buffers:
        body = (Let(place, Apply("mod", "i64", (points.loop.index, number(lanes)))), *body)
    return (replace(points.loop, body=body, lanes=lanes),)


# ---- blocks of turns -------------------------------------------------------------------------------------------------


@dataclass
class _Run:
    """Statements of a turn that follow one another, and what adds up the terms that they leave. Turns go one by one
    where they add to shared entries otherwise."""

    is_serial: bool = False
    statements: list[Statement] = field(default_factory=list)
    after: list[Statement] = field(default_factory=list)


@dataclass
class _Around:
    """A loop or a choice that all turns make together."""

    statement: Loop | If
    blocks: list[list[_Part]]


_Part = _Run | _Around | Let


class _Blocks:
    """Blocks of turns, each done in runs."""

    def __init__(self, points: Points, packings: tuple[Packing, ...], lanes: int) -> None:
        self.points = points
        self.lanes = lanes
        self.varying = set(points.varying)
        self.runs: list[_Run] = []
        self.lane, self.count = Local("lane", "i64"), Local("count", "i64")
        totals = {local: Local("term", local.type) for local in points.carried}
        self.varying |= set(totals.values())
        # Each turn finds these numbers for itself, though they come out alike for all.
        self.changed = self.following(self.given_in_runs(points.body) - self.varying)
        self.varying |= self.changed
        self.turns = BLOCK
        self.made: set[Buffer] = set()
        parts = self.plan(self.with_starts(totals))
        if totals:
            last = parts[-1] if parts else None
            if not isinstance(last, _Run) or last.is_serial:
                last = self.new_run()
                parts.append(last)
            self.add_totals(last, totals)
        self.parts = parts
        # What a run inside of something that all turns do together reads of rows was written before that, or by an
        # earlier time.
        has_rows = bool(points.own or packings)
        self.is_cut = len(self.runs) > 1 or (has_rows and any(isinstance(part, _Around) for part in parts))
        place = self.lane if self.is_cut else Local("place", "i64")
        self.rows = Rows(points, packings, lanes, place)
        if self.is_cut:
            self.turns = lanes
        self.kept = self.crossing()

    # ---- runs ------------------------------------------------------------------------------------------------------

    def with_starts(self, totals: Mapping[Local, Local]) -> Block:
        """The body with a term of each turn in place of what it adds to a total."""
        kinds = self.kinds()
        starts = [Let(term, neutral(kinds[total], total.type)) for total, term in totals.items()]
        return (*starts, *_with_terms(self.points.body, totals))

    def kinds(self) -> dict[Local, str]:
        """The operation by which each total is changed."""
        found = {}
        for statement in walk(self.points.body):
            term = total_of(statement)
            if isinstance(statement, Let) and term is not None:
                found[statement.local] = term[0]
        return found

    def add_totals(self, run: _Run, totals: Mapping[Local, Local]) -> None:
        kinds = self.kinds()
        for total, term in totals.items():
            row = self.row(term)
            run.statements.append(Store(row, self.lane, term))
            run.after += _joined(total, kinds[total], row, self.count)

    def row(self, local: Local) -> Buffer:
        """A row of terms, as long as the turns of a block."""
        row = Buffer(local.name, local.type, size(BLOCK))
        self.made.add(row)
        return row

    def new_run(self, is_serial: bool = False) -> _Run:
        self.runs.append(_Run(is_serial))
        return self.runs[-1]

    def plan(self, block: Block) -> list[_Part]:
        """The block as runs, and what all turns do together."""
        parts: list[_Part] = []

        def run() -> _Run:
            last = parts[-1] if parts else None
            if not isinstance(last, _Run) or last.is_serial:
                last = self.new_run()
                parts.append(last)
            return last

        for statement in block:
            if isinstance(statement, Let) and statement.local not in self.varying:
                # What is the same for all turns may go before a run, so that the run is not cut in two.
                is_first = parts and isinstance(parts[-1], _Run) and self.is_given_once(statement.local)
                parts.insert(len(parts) - 1 if is_first else len(parts), statement)
            elif not self.points.shares(statement):
                run().statements.append(statement)
            elif not self.points.can_keep(statement):
                serial = self.new_run(is_serial=True)
                serial.statements.append(statement)
                parts.append(serial)
            elif isinstance(statement, Update):
                self.keep(run(), statement)
            elif isinstance(statement, Loop):
                most = self.most_turns(statement)
                if most is None:
                    parts.append(_Around(statement, [self.plan(statement.body)]))
                else:
                    self.keep_loop(run(), statement, most)
            else:
                assert isinstance(statement, If)
                if self.points.differs(statement.condition):
                    self.keep_chosen(run(), statement)
                else:
                    sides = [self.plan(statement.then), self.plan(statement.otherwise)]
                    parts.append(_Around(statement, sides))
        return parts

    def given_in_runs(self, block: Block) -> set[Local]:
        """The locals that loops and choices give values, as far as these are done by each turn."""
        found: set[Local] = set()
        for statement in block:
            if isinstance(statement, Let):
                continue
            if self.is_together(statement):
                for inner in blocks_of(statement):
                    found |= self.given_in_runs(inner)
            else:
                inside = [one for inner in blocks_of(statement) for one in walk(inner)]
                found.update(local for one in inside for local in set_locals(one))
        return found

    def following(self, given: set[Local]) -> set[Local]:
        """These locals, and those whose values follow from them."""
        lets = [s for s in walk(self.points.body) if isinstance(s, Let) and s.local not in self.varying]
        while True:
            grown = given | {let.local for let in lets if not given.isdisjoint(locals_of(let.value))}
            if grown == given:
                return given
            given = grown

    def is_together(self, statement: Statement) -> bool:
        """Whether all turns make a loop or a choice together, each with runs of its own inside."""
        if not self.points.shares(statement) or not self.points.can_keep(statement):
            return False
        if isinstance(statement, Loop):
            return self.most_turns(statement) is None
        return isinstance(statement, If) and not self.points.differs(statement.condition)

    def needs_turns(self) -> bool:
        """Whether a loop or a choice of all turns depends on a number that each turn finds for itself."""
        together = [statement for statement in walk(self.points.body) if self.is_together(statement)]
        read = {local for statement in together for e in expressions_of(statement) for local in locals_of(e)}
        read |= {local for update in self.kept_updates(self.points.body) for local in locals_of(update.index)}
        return not read.isdisjoint(self.changed)

    def kept_updates(self, block: Block) -> Iterator[Update]:
        """The updates whose terms are kept and added up afterwards."""
        for statement in block:
            if isinstance(statement, Update) and self.points.is_shared(statement):
                yield statement
            elif self.points.can_keep(statement):
                for inner in blocks_of(statement):
                    yield from self.kept_updates(inner)

    def is_given_once(self, local: Local) -> bool:
        return sum(local in set_locals(statement) for statement in walk(self.points.body)) == 1

    def keep(self, run: _Run, update: Update) -> None:
        """Keep the terms of an update, and add them up after the run."""
        term = self.row(Local("terms", update.value.type))
        run.statements.append(Store(term, self.lane, update.value))
        index = update.index
        at = Local("k", "i64")
        if self.points.differs(index):
            places = self.row(Local("places", "i64"))
            run.statements.append(Store(places, self.lane, index))
            place = Local("at", "i64")
            one = replace(update, index=place, value=Load(term, at))
            here = If(Apply("greater_equal", "bool", (place, ZERO)), (one,))
            run.after.append(Loop(at, self.count, (Let(place, Load(places, at)), here), "sequential"))
        elif update.op == "add" and update.buffer.type in ("f32", "f64"):
            run.after.append(replace(update, value=Sum(term, ZERO, self.count)))
        else:
            run.after.append(Loop(at, self.count, (replace(update, value=Load(term, at)),), "sequential"))

    def most_turns(self, loop: Loop) -> Size | None:
        """A bound of the turns of a loop that may stay inside a run: all that it adds to shared entries are sums whose
        places the loops decide."""
        if not is_from_zero(loop):
            return None
        given = {local for statement in walk(loop.body) for local in set_locals(statement)}
        for statement in loop.body:
            if isinstance(statement, Update) and self.points.is_shared(statement):
                is_sum = statement.op == "add" and statement.buffer.type in ("f32", "f64")
                if not is_sum or self.points.differs(statement.index) or given & set(locals_of(statement.index)):
                    return None
            elif self.points.shares(statement):
                return None
        return self.bound_of(loop.stop)

    def bound_of(self, expression: Expression) -> Size | None:
        """A size that a number of turns never exceeds, if one is known."""
        match expression:
            case Local():
                values = [s.value for s in walk(self.points.body) if isinstance(s, Let) and s.local is expression]
                return self.bound_of(values[0]) if len(values) == 1 else None
            case Apply(op="minimum", operands=operands):
                return next((bound for bound in map(self.bound_of, operands) if bound is not None), None)
        return as_static(expression)

    def keep_loop(self, run: _Run, loop: Loop, most: Size) -> None:
        """Keep the terms of a loop that stays inside a run, a row for each of its turns."""
        self.turns = self.lanes
        body: list[Statement] = []
        for statement in loop.body:
            if not (isinstance(statement, Update) and self.points.is_shared(statement)):
                body.append(statement)
                continue
            rows = Buffer("terms", statement.value.type, most * self.lanes)
            self.made.add(rows)
            at = Local(loop.index.name, "i64")
            row = times(loop.index, number(self.lanes))
            body.append(Store(rows, plus(row, self.lane), statement.value))
            total = replace(statement, value=Sum(rows, row, self.count))
            step = coefficient(statement.index, loop.index, {})
            lanes = ROWS if step is not None and step.constant == 1 else 0
            sums = Loop(loop.index, loop.stop, (total,), "parallel", lanes=lanes)
            run.after += rename((sums,), {loop.index: at})
        run.statements.append(replace(loop, body=tuple(body)))

    def keep_chosen(self, run: _Run, choice: If) -> None:
        """Keep the terms of a choice that turns make differently: none leaves what changes nothing."""
        found: list[tuple[Update, Local, Local]] = []

        def changed(block: Block) -> Block:
            statements: list[Statement] = []
            for statement in block:
                if isinstance(statement, Update) and self.points.is_shared(statement):
                    term, place = Local("term", statement.value.type), Local("place", "i64")
                    found.append((statement, term, place))
                    statements.append(Let(term, statement.value))
                    if self.points.differs(statement.index):
                        statements.append(Let(place, statement.index))
                elif isinstance(statement, If) and self.points.shares(statement):
                    sides = changed(statement.then), changed(statement.otherwise)
                    statements.append(If(statement.condition, *sides))
                else:
                    statements.append(statement)
            return tuple(statements)

        chosen = If(choice.condition, changed(choice.then), changed(choice.otherwise))
        for update, term, place in found:
            run.statements.append(Let(term, neutral(update.op, term.type)))
            if self.points.differs(update.index):
                run.statements.append(Let(place, number(-1)))
        run.statements.append(chosen)
        for update, term, place in found:
            self.varying |= {term, place}
            differs = self.points.differs(update.index)
            if differs:
                self.points.varying[place] = None
            self.keep(run, replace(update, index=place if differs else update.index, value=term))

    def crossing(self) -> dict[Local, Buffer]:
        """Rows for what a turn keeps from one run to another, or to the same run in the next turn of a loop."""
        seen: dict[Local, int] = {}
        for run in self.runs:
            given = {local for statement in walk(tuple(run.statements)) for local in set_locals(statement)}
            for local in {*read_first(tuple(run.statements))[0], *given} & self.varying:
                seen[local] = seen.get(local, 0) + 1
        return {
            local: Buffer(local.name or "lanes", local.type, size(self.turns)) for local, n in seen.items() if n > 1
        }

    # ---- the nest --------------------------------------------------------------------------------------------------

    def nest(self) -> Block:
        """The loop over blocks."""
        loop = self.points.loop
        block = Local("block", "i64")
        start = times(block, number(self.turns))
        length = Let(self.count, Apply("minimum", "i64", (minus(loop.stop, start), number(self.turns))))
        packed = Let(self.rows.place, Apply("mod", "i64", (self.lane, number(self.lanes))))
        first = self.rows.packed()
        statements: list[Statement] = [length]
        if first and self.is_cut:
            statements.append(self.turn_loop(first, start, []))
            first = ()
        for part in self.parts:
            statements += self.emit(part, start, first, packed)
        blocks = rounded_up(loop.stop, self.turns)
        return (replace(loop, index=block, stop=blocks, body=tuple(statements), kind="sequential", apart=True),)

    def emit(self, part: _Part, start: Expression, first: Block, place: Let) -> Block:
        match part:
            case _Run(statements=statements, after=after):
                if not statements:
                    return ()
                before = [place] if self.rows.buffers and not self.is_cut else []
                loop = self.turn_loop((*first, *statements), start, before)
                if part.is_serial:
                    loop = replace(loop, kind="sequential", stop=self.count, lanes=0)
                return (loop, *after)
            case _Around(statement=Loop() as around, blocks=[inner]):
                body = tuple(found for each in inner for found in self.emit(each, start, (), place))
                kind = "sequential" if around.kind == "parallel" else around.kind
                return (replace(around, kind=kind, body=body),)
            case _Around(statement=If() as choice, blocks=sides):
                blocks = [tuple(f for each in side for f in self.emit(each, start, (), place)) for side in sides]
                return (If(choice.condition, *blocks),)
        assert isinstance(part, Let)
        return (part,)

    def turn_loop(self, statements: Block, start: Expression, before: list[Let]) -> Loop:
        """A run as a loop over the turns of a block, with names of its own."""
        read, certain = read_first(statements)
        given = {local for statement in walk(statements) for local in set_locals(statement)}
        kept = [local for local in self.kept if local in read or (local in given and local not in certain)]
        written = [local for local in self.kept if local in given]
        body = self.rows.block(statements)
        body = (
            *before,
            Let(self.points.loop.index, plus(start, self.lane)),
            *(Let(local, Load(self.kept[local], self.lane)) for local in kept),
            *body,
            *(Store(self.kept[local], self.lane, local) for local in written),
        )
        own = {self.lane, self.points.loop.index, self.rows.place, *kept, *(given & self.varying)}
        names = {local: Local(local.name, local.type) for local in own}
        stop = number(self.lanes) if self.turns == self.lanes and self.is_at_home(statements) else self.count
        return Loop(names[self.lane], stop, rename(body, names), "parallel", lanes=self.lanes)

    def is_at_home(self, statements: Block) -> bool:
        """Whether a run touches no memory at places of its turns but rows, and these at places that all turns share:
        all lanes may run it, though the last block may have fewer turns, and a lane without a turn holds anything."""
        for statement in walk(statements):
            if isinstance(statement, While | TapeReserve):
                return False
            if isinstance(statement, Store | Update | Fill) and not self.is_row(statement.buffer):
                return False
            if isinstance(statement, Store | Update) and self.points.differs(statement.index):
                return False
        reads = (load for load, _ in loads_in(statements) if load not in self.rows.packings)
        return not any(self.points.differs(load.index) for load in reads)

    def is_row(self, buffer: Buffer) -> bool:
        return buffer in self.points.own or buffer in self.made


def neutral(op: str, type_: str) -> Literal:
    """What changes nothing."""
    return Literal(NEUTRAL[op, type_], type_)


def _with_terms(block: Block, terms: Mapping[Local, Local]) -> Block:
    """The block with what it adds to totals put into terms."""
    found: list[Statement] = []
    for statement in block:
        match statement:
            case Let(local=local, value=Apply(operands=(_, right))) if local in terms:
                assert isinstance(statement.value, Apply)
                found.append(Let(terms[local], replace(statement.value, operands=(terms[local], right))))
            case Loop(body=body):
                found.append(replace(statement, body=_with_terms(body, terms)))
            case While(test=test, body=body):
                found.append(replace(statement, test=_with_terms(test, terms), body=_with_terms(body, terms)))
            case If(condition=condition, then=then, otherwise=otherwise):
                found.append(If(condition, _with_terms(then, terms), _with_terms(otherwise, terms)))
            case _:
                found.append(statement)
    return tuple(found)


def _joined(local: Local, op: str, row: Buffer, count: Local) -> Block:
    """What makes a total of kept terms."""
    if op == "add" and local.type in ("f32", "f64"):
        return (Let(local, Apply("add", local.type, (local, Sum(row, ZERO, count)))),)
    at = Local("k", "i64")
    return (Loop(at, count, (Let(local, Apply(op, local.type, (local, Load(row, at)))),), "parallel"),)
