"""Points of an index space several at a time: whether a loop over points whose body holds loops can have lanes.

The loops inside have bounds that the points share, and memory is each point's own, or only read, or only added to.
`lane_runs` writes the nest that follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from functools import partial

from dgraph.classes import dataclass
from dgraph.kernels.common_turns import with_common_turns
from dgraph.kernels.homes import homes_of
from dgraph.kernels.nest_parts import blocks_of, expressions_of, locals_of, parts, read_first, walk, written_buffers
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Copy,
    Expression,
    Extent,
    Fill,
    If,
    Let,
    Load,
    Local,
    Loop,
    Note,
    Point,
    PointTape,
    Statement,
    Store,
    Sum,
    Swap,
    TapeReserve,
    TapeSetTop,
    TapeTop,
    Update,
    While,
)
from dgraph.kernels.rewrite_nests import substitute
from dgraph.kernels.views import as_static, coefficient, plus
from dgraph.sizes import Size, size

REGISTERS = 24
"""Vectors of eight numbers that live at a time, at most."""
NEAR = 1 << 20
"""Bytes that lie in the nearer caches: the arrays of turns that go together are no larger."""
WIDEST = 32
"""Turns that go at a time, at most."""
LONG = 64
"""Numbers that a turn computes, from which on fewer turns go at a time."""

NEUTRAL: dict[tuple[str, str], float | int | bool] = {
    **{("add", type_): 0.0 for type_ in ("f32", "f64")},
    **{("mul", type_): 1.0 for type_ in ("f32", "f64")},
    **{("maximum", type_): float("-inf") for type_ in ("f32", "f64")},
    **{("minimum", type_): float("inf") for type_ in ("f32", "f64")},
    **{("add", type_): 0 for type_ in ("i32", "i64")},
    ("logical_or", "bool"): False,
    ("logical_and", "bool"): True,
}
"""What changes nothing when it is combined into an entry."""


@dataclass(frozen=True)
class Place:
    """Where a statement of the body stands: the loops inside the body around it, and whether choices are."""

    loops: tuple[Loop, ...] = ()
    is_chosen: bool = False


OUTERMOST = Place()


@dataclass(frozen=True)
class Packing:
    """Entries that turns read again and again, brought together: which loops run over them, and where they go."""

    load: Load
    loops: tuple[Loop, ...]
    others: tuple[Loop, ...]
    buffer: Buffer


class Points:
    """A loop over points with another body. `own` are arrays that the body writes and nothing outside of it touches."""

    def __init__(self, loop: Loop, body: Block, own: Set[Buffer]) -> None:
        self.loop = loop
        body = _entry_by_entry(body)
        self.survey(body, own)
        for form in (partial(with_common_turns, differs=self.differs), self.turned):
            changed = form(self.body)
            if changed is not self.body:
                self.survey(changed, own)

    def survey(self, body: Block, own: Set[Buffer]) -> None:
        """Find out what a body does."""
        self.body = body
        self.given = {statement.local for statement in walk(body) if isinstance(statement, Let)}
        self.carried = [local for local in read_first(body)[0] if local in self.given]
        self.written = {buffer for statement in walk(body) for buffer in written_buffers(statement)}
        self.rows = {statement.row for statement in walk(body) if isinstance(statement, TapeReserve)}
        self.find_alike(own)
        arrays = {buffer for buffer in own if buffer.kind == "arena" and not self.is_apart(buffer)}
        self.own = arrays | self.pointers_to(arrays, own) | (self.tapes(own) - self.alike)

    # ---- what depends on the point ---------------------------------------------------------------------------------

    def find_varying(self) -> dict[Local, Size | None]:
        """By how much each local grows with the point; locals that do not depend on it are left out."""
        homes = homes_of(self.body)
        known: dict[Local, Size | None] = dict.fromkeys(self.carried)
        differing: set[Statement] = set()
        changed = True
        while changed:
            changed = False
            for choice, condition in homes.conditions:
                if choice not in differing and self.differs(condition, known):
                    differing.add(choice)
                    changed = True
            for let, path in homes.lets:
                local = let.local
                step = self.step(let.value, known) if homes.is_at_home(local, path, differing) else None
                if step is not None and not step.terms and local not in known:
                    continue
                if local not in known or (known[local] is not None and known[local] != step):
                    known[local] = step if local not in known else None
                    changed = True
        return known

    def differs(self, expression: Expression, known: Mapping[Local, Size | None] | None = None) -> bool:
        """Whether an expression depends on the point."""
        step = self.step(expression, known)
        return step is None or bool(step.terms)

    def step(self, expression: Expression, known: Mapping[Local, Size | None] | None = None) -> Size | None:
        """By how much an expression grows from point to point."""
        if isinstance(expression, TapeTop):
            # Each point gives up what it kept.
            return size(0)
        changed = self.written - self.alike
        if any(isinstance(part, Load | Sum) and part.buffer in changed for part in parts(expression)):
            return None
        return coefficient(expression, self.loop.index, self.varying if known is None else known)

    def pointers_to(self, arrays: Set[Buffer], own: Set[Buffer]) -> set[Buffer]:
        """The pointers of the body that stand for arrays of the point: those that something is written through, or that
        are exchanged, and those that only stand for such arrays."""
        points = [s for s in walk(self.body) if isinstance(s, Point) and s.buffer in own]
        swapped = {b for s in walk(self.body) if isinstance(s, Swap) for b in (s.one, s.other)}
        stored = {s.buffer for s in walk(self.body) if isinstance(s, Store | Update | Fill)}
        found = {s.buffer for s in points if s.buffer in swapped | stored}
        while True:
            grown = {s.buffer for s in points if all(o.to in arrays | found for o in points if o.buffer is s.buffer)}
            if grown <= found:
                return found
            found |= grown

    def tapes(self, own: Set[Buffer]) -> set[Buffer]:
        """The pointers of the body to what a point keeps for each turn of a loop."""
        points = [statement for statement in walk(self.body) if isinstance(statement, PointTape)]
        return {point.buffer for point in points if point.row in self.rows and point.buffer in own}

    def find_alike(self, own: Set[Buffer]) -> None:
        """Find the tapes on which all points keep the same: where other tapes start."""
        tapes = [one for one in walk(self.body) if isinstance(one, PointTape) and one.buffer in self.tapes(own)]
        alike = {tape.row for tape in tapes if tape.buffer.type == "i64"}
        while True:
            self.alike = {tape.buffer for tape in tapes if tape.row in alike}
            self.varying = self.find_varying()
            stores = [one for one in walk(self.body) if isinstance(one, Store) and one.buffer in self.alike]
            other = {one.buffer for one in stores if self.differs(one.index) or self.differs(one.value)}
            spoiled = {tape.row for tape in tapes if tape.buffer in other}
            if not spoiled:
                return
            alike -= spoiled

    def rows_apart(self) -> set[Expression]:
        """The rows of tape memory on which each point has entries of its own."""
        return {one.row for one in walk(self.body) if isinstance(one, PointTape) and one.buffer in self.own}

    def gives_up(self, row: Expression) -> bool:
        """Whether a point leaves no more on a row of tape memory than it found."""
        tops = {let.local for let in self.body if isinstance(let, Let) and let.value == TapeTop(row)}
        ends = [end for end in self.body if isinstance(end, TapeSetTop) and end.row == row]
        return bool(ends) and ends[-1].start in tops and as_static(ends[-1].bytes) == size(0)

    # ---- whether points can go several at a time ---------------------------------------------------------------------

    def is_possible(self) -> bool:
        """Only loops of common bounds, only memory that each point has for itself or adds to."""
        if not is_from_zero(self.loop) or self.held() * 8 > NEAR:
            return False
        exchanges = any(isinstance(statement, Point | Swap) for statement in walk(self.body))
        if exchanges and (self.carried or any(map(self.shares, self.body))):
            return False
        is_fit = all(map(self.is_total, self.carried)) and all(self.fits(s, place) for s, place in places_in(self.body))
        return is_fit and all(map(self.only_adds, walk(self.body)))

    def fits(self, statement: Statement, place: Place) -> bool:
        """Whether a statement can be run for several points at a time."""
        match statement:
            case Let(value=value):
                return not any(isinstance(part, Sum) for part in parts(value))
            case Note() | If() | While() | Update():
                return True
            case Store(buffer=buffer, index=index):
                return buffer in self.own or buffer in self.alike or self.is_private(buffer, index)
            case Point(buffer=buffer, to=to, index=index):
                is_alike = buffer in self.own or to not in self.own
                return is_alike and not place.is_chosen and not self.differs(index)
            case Swap(one=one, other=other):
                return one in self.own and other in self.own and not place.is_chosen
            case PointTape(buffer=buffer, row=row, start=start):
                is_known = row not in self.rows or buffer in self.own | self.alike
                return isinstance(row, Extent) and is_known and not self.differs(start)
            case TapeReserve(row=row, start=start, bytes=count) | TapeSetTop(row=row, start=start, bytes=count):
                is_known = isinstance(row, Extent) and row in self.rows and self.gives_up(row)
                return is_known and not self.differs(start) and not self.differs(count)
            case Fill(buffer=buffer):
                return buffer in self.own and not self.differs(statement.index) and not self.differs(statement.count)
            case Loop(start=start, stop=stop):
                return not self.differs(start) and not self.differs(stop)
        return False

    def is_private(self, buffer: Buffer, index: Expression) -> bool:
        """Whether every point writes places of its own, and reads those."""
        stride = self.step(index)
        if stride is None or not stride.terms:
            return False
        return all(self.step(load.index) == stride for load, _ in loads_in(self.body) if load.buffer is buffer)

    def is_apart(self, buffer: Buffer) -> bool:
        """Whether points write an array at places of their own."""
        writes = [
            self.is_private(buffer, statement.index)
            for statement in walk(self.body)
            if isinstance(statement, Store | Update | Fill) and statement.buffer is buffer
        ]
        return bool(writes) and all(writes)

    def is_shared(self, update: Update) -> bool:
        """Whether points add to entries that others add to as well."""
        return update.buffer not in self.own and not self.is_private(update.buffer, update.index)

    def shares(self, statement: Statement) -> bool:
        """Whether a statement, or one inside it, adds to what points share."""
        return any(isinstance(inner, Update) and self.is_shared(inner) for inner in walk((statement,)))

    def only_adds(self, statement: Statement) -> bool:
        """Whether what points share is only added to, if a statement does add to it."""
        if not isinstance(statement, Update) or not self.is_shared(statement):
            return True
        buffer = statement.buffer
        if any(load.buffer is buffer for load, _ in loads_in(self.body)):
            return False
        others = [other for other in walk(self.body) if buffer in written_buffers(other)]
        return all(isinstance(s, Update) and s.op == statement.op and self.is_shared(s) for s in others)

    def can_keep(self, statement: Statement, is_chosen: bool = False) -> bool:
        """Whether what a statement adds to shared entries can be kept for several points and added up afterwards: it
        stands in no loop that only some of the points run."""
        if not self.shares(statement):
            return True
        match statement:
            case Update(buffer=buffer, op=op):
                return not is_chosen or (op, buffer.type) in NEUTRAL
            case Loop(body=body):
                return not is_chosen and all(map(self.can_keep, body))
            case If(condition=condition, then=then, otherwise=otherwise):
                chosen = is_chosen or self.differs(condition)
                return all(self.can_keep(inner, chosen) for inner in (*then, *otherwise))
        return False

    def turned(self, block: Block) -> Block:
        """The block with loops that only some points run made by all of them, if the points share what they add to
        there: the choice is then made in each turn."""
        found: list[Statement] = []
        for statement in block:
            match statement:
                case If(condition=condition, then=then, otherwise=()) if self.is_turned(statement):
                    held = Local("held", "bool")
                    found.append(Let(held, condition))
                    for loop in then:
                        assert isinstance(loop, Loop)
                        found.append(replace(loop, body=(If(held, loop.body),)))
                case Loop(body=body):
                    inner = self.turned(body)
                    found.append(statement if inner is body else replace(statement, body=inner))
                case _:
                    found.append(statement)
        changed = any(one is not other for one, other in zip(found, block, strict=False)) or len(found) != len(block)
        return tuple(found) if changed else block

    def is_turned(self, choice: If) -> bool:
        """Whether a choice that points make differently holds loops of all points and nothing else."""
        loops = [loop for loop in choice.then if isinstance(loop, Loop) and self.is_shared_by(loop)]
        return self.differs(choice.condition) and len(loops) == len(choice.then) and not all(map(self.is_row, loops))

    def is_shared_by(self, loop: Loop) -> bool:
        """Whether points run a loop alike and add to shared entries in it."""
        return self.fits(loop, OUTERMOST) and self.shares(loop)

    def is_row(self, loop: Loop) -> bool:
        """Whether a loop adds little to each of the entries of a row that its point chooses: that is done faster point
        by point than entry by entry, which would look all over memory."""
        steps: dict[Local, Size | None] = {}
        for statement in loop.body:
            match statement:
                case Let(local=local, value=value):
                    steps[local] = coefficient(value, loop.index, steps)
                case Update(index=index):
                    step = coefficient(index, loop.index, steps)
                    if step is None or step.constant != 1 or not self.differs(index):
                        return False
                case _:
                    return False
        applied = {p.op for s in loop.body for e in expressions_of(s) for p in parts(e) if isinstance(p, Apply)}
        return applied <= {"add", "sub", "mul", "neg", "cast"}

    def is_total(self, local: Local) -> bool:
        """Whether a local that points share is only added to, or only made the largest or smallest."""
        kinds = set()
        for statement in walk(self.body):
            term = total_of(statement)
            read = [p for e in expressions_of(statement) for p in locals_of(e)]
            if isinstance(statement, Let) and statement.local is local:
                if term is None or (term[0], local.type) not in NEUTRAL or read.count(local) > 1:
                    return False
                kinds.add(term[0])
            elif local in read:
                return False
        return len(kinds) == 1

    def packings(self) -> Iterator[Packing]:
        """The reads at a distance from point to point that loops come back to; those of the same entries in equal loops
        share a buffer."""
        seen: set[Load] = set()
        known: dict[object, Buffer] = {}
        indices: list[Local] = []
        for load, place in loads_in(self.body):
            packing = None if load.buffer in self.written or load in seen else self.packing(load, place)
            if packing is not None:
                seen.add(load)
                while len(indices) < len(packing.loops):
                    indices.append(Local("i", "i64"))
                names = {loop.index: index for loop, index in zip(packing.loops, indices, strict=False)}
                stops = tuple(loop.stop for loop in packing.loops)
                others = tuple((loop.start, loop.stop) for loop in packing.others)
                key = load.buffer, substitute(load.index, names), stops, others
                yield replace(packing, buffer=known.setdefault(key, packing.buffer))

    def packing(self, load: Load, place: Place) -> Packing | None:
        """The packing of one read, if it is worth it."""
        step = self.step(load.index)
        if step is None or not step.terms or step.constant == 1 or place.is_chosen:
            return None
        used = set(locals_of(load.index))
        if used & self.given:
            return None
        loops = tuple(loop for loop in place.loops if loop.index in used)
        others = tuple(loop for loop in place.loops if loop.index not in used)
        bounds = [bound for loop in place.loops for bound in (loop.start, loop.stop)]
        if not others or any(as_static(bound) is None for bound in bounds):
            return None
        entries = size(1)
        for loop in loops:
            start, stop = as_static(loop.start), as_static(loop.stop)
            assert start is not None and stop is not None
            if start.constant != 0:
                return None
            entries = entries * stop
        return Packing(load, loops, others, Buffer(load.buffer.name or "packed", load.buffer.type, entries))

    def held(self) -> int:
        """Bytes of the arrays of one turn, as far as they are known."""
        return sum(buffer.bytes.constant or 0 for buffer in self.own if buffer.kind == "arena")

    def width(self) -> int:
        """How many turns go at a time: as many as registers hold what an inner loop works on."""
        live = max((_live(loop) for loop in walk(self.body) if isinstance(loop, Loop)), default=4)
        # Of many numbers that a turn computes more are alive at once than registers hold, and code grows with lanes.
        is_long = sum(isinstance(statement, Let) for statement in walk(self.body)) > LONG
        widest = 8 if is_long or self.held() * WIDEST > NEAR else WIDEST
        widths = [width for width in (32, 16) if width <= widest and live * width // 8 <= REGISTERS]
        stop = as_static(self.loop.stop)
        turns = None if stop is None else stop.constant
        # A few turns that fill wide vectors badly go in narrower ones.
        return min((*widths, 8), key=lambda width: 0 if turns is None else -(-turns // width) * width)


def _entry_by_entry(block: Block) -> Block:
    """A block with loops for what copies memory."""
    found: list[Statement] = []
    for statement in block:
        match statement:
            case Copy(target=target, target_index=to, source=source, source_index=index, count=count):
                at = Local("k", "i64")
                store = Store(target, plus(to, at), Load(source, plus(index, at)))
                statement = Loop(at, count, (store,), "sequential")
            case Loop(body=body):
                statement = replace(statement, body=_entry_by_entry(body))
            case While(test=test, body=body):
                statement = replace(statement, test=_entry_by_entry(test), body=_entry_by_entry(body))
            case If(then=then, otherwise=otherwise):
                statement = If(statement.condition, _entry_by_entry(then), _entry_by_entry(otherwise))
        found.append(statement)
    return tuple(found)


# ---- walks -----------------------------------------------------------------------------------------------------------


def places_in(block: Block, place: Place = OUTERMOST) -> Iterator[tuple[Statement, Place]]:
    """Every statement of a block with its place."""
    for statement in block:
        yield statement, place
        inside = place
        if isinstance(statement, Loop):
            inside = replace(place, loops=(*place.loops, statement))
        elif isinstance(statement, If | While):
            inside = replace(place, is_chosen=True)
        for inner in blocks_of(statement):
            yield from places_in(inner, inside)


def loads_in(block: Block) -> Iterator[tuple[Load, Place]]:
    """Every read of memory with its place."""
    for statement, place in places_in(block):
        for expression in expressions_of(statement):
            for part in parts(expression):
                if isinstance(part, Load):
                    yield part, place


def is_from_zero(loop: Loop) -> bool:
    """Whether a loop starts at 0."""
    start = as_static(loop.start)
    return start is not None and start.constant == 0


def total_of(statement: Statement) -> tuple[str, Expression] | None:
    """The operation and the term with which a statement changes a local, if that is what it does."""
    match statement:
        case Let(local=local, value=Apply(op=op, operands=(left, right))) if left is local:
            return op, right
    return None


def _live(loop: Loop) -> int:
    """About how many vectors an inner loop holds: what it carries, and some to work with."""
    carried = [local for local in read_first(loop.body)[0] if any(_gives(s, local) for s in walk(loop.body))]
    return len(carried) + 3


def _gives(statement: Statement, local: Local) -> bool:
    return isinstance(statement, Let) and statement.local is local
