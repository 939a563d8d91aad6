"""Points of an index space several at a time: a loop over points whose body holds loops asks for lanes of vectors.

What keeps lanes apart is arranged here: an array that a turn makes for itself gets a row of entries for each of its
places, one for each lane; entries far from one another that a turn reads again and again are brought into such rows
first; what turns add to a total is kept and added up afterwards, in an order that depends on nothing but the number of
turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from itertools import permutations

from dgraph.kernels.nest_parts import blocks_of, expressions_of, locals_of, parts, read_first, walk, written_buffers
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Expression,
    Extent,
    Fill,
    If,
    Let,
    Literal,
    Load,
    Local,
    Loop,
    Note,
    Statement,
    Store,
    Sum,
    Update,
    While,
    number,
)
from dgraph.kernels.rewrite_nests import change_block, change_expressions, rename
from dgraph.kernels.views import ZERO, as_static, coefficient, minus, plus, times
from dgraph.sizes import Size, size

BLOCK = 256
"""Turns whose terms are kept before they are added up."""

REGISTERS = 24
"""Vectors of eight numbers that live at a time, at most."""
WIDEST = 32
LONG = 64

_NEUTRAL: dict[tuple[str, str], float | int] = {
    **{("add", type_): 0.0 for type_ in ("f32", "f64")},
    **{("maximum", type_): float("-inf") for type_ in ("f32", "f64")},
    **{("minimum", type_): float("inf") for type_ in ("f32", "f64")},
}
_ORDERLESS = ("maximum", "minimum", "logical_and", "logical_or")


@dataclass(frozen=True)
class Place:
    """Where a statement of the body stands: the loops inside the body around it, and whether it may be left out or
    repeated otherwise."""

    loops: tuple[Loop, ...] = ()
    is_chosen: bool = False
    is_repeated: bool = False


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
        self.body = body
        self.given = {statement.local for statement in walk(body) if isinstance(statement, Let)}
        self.carried = [local for local in read_first(body)[0] if local in self.given]
        self.written = {buffer for statement in walk(body) for buffer in written_buffers(statement)}
        self.varying = self.find_varying()
        self.own = {buffer for buffer in own if buffer.kind == "arena" and not self.is_apart(buffer)}

    # ---- what depends on the point ---------------------------------------------------------------------------------

    def find_varying(self) -> dict[Local, Size | None]:
        """By how much each local grows with the point; locals that do not depend on it are left out."""
        known: dict[Local, Size | None] = dict.fromkeys(self.carried)
        changed = True
        while changed:
            changed = False
            for local, value, is_chosen in self.lets(self.body, known, False):
                step = None if is_chosen else self.step(value, known)
                if step is not None and not step.terms and local not in known:
                    continue
                if local not in known or (known[local] is not None and known[local] != step):
                    known[local] = step if local not in known else None
                    changed = True
        return known

    def lets(
        self, block: Block, known: Mapping[Local, Size | None], is_chosen: bool
    ) -> Iterator[tuple[Local, Expression, bool]]:
        """Every assignment, and whether it stands where points go different ways."""
        for statement in block:
            match statement:
                case Let(local=local, value=value):
                    yield local, value, is_chosen
                case If(condition=condition, then=then, otherwise=otherwise):
                    differs = is_chosen or self.differs(condition, known)
                    yield from self.lets(then, known, differs)
                    yield from self.lets(otherwise, known, differs)
                case While(test=test, condition=condition, body=body):
                    differs = is_chosen or self.differs(condition, known)
                    yield from self.lets((*test, *body), known, differs)
                case Loop(body=body):
                    yield from self.lets(body, known, is_chosen)

    def differs(self, expression: Expression, known: Mapping[Local, Size | None] | None = None) -> bool:
        """Whether an expression depends on the point."""
        step = self.step(expression, known)
        return step is None or bool(step.terms)

    def step(self, expression: Expression, known: Mapping[Local, Size | None] | None = None) -> Size | None:
        """By how much an expression grows from point to point."""
        if any(isinstance(part, Load | Sum) and part.buffer in self.written for part in parts(expression)):
            return None
        return coefficient(expression, self.loop.index, self.varying if known is None else known)

    # ---- whether points can go several at a time ---------------------------------------------------------------------

    def is_possible(self) -> bool:
        """Only loops of common bounds, only memory that each point has for itself or adds to in one order."""
        start = as_static(self.loop.start)
        if start is None or start.constant != 0 or as_static(self.loop.stop) is None:
            return False
        return all(map(self.is_total, self.carried)) and all(self.fits(s, place) for s, place in places_in(self.body))

    def fits(self, statement: Statement, place: Place) -> bool:
        """Whether a statement can be run for several points at a time."""
        match statement:
            case Let(value=value):
                return not any(isinstance(part, Sum) for part in parts(value))
            case Note() | If() | While():
                return True
            case Store(buffer=buffer, index=index):
                return buffer in self.own or self.is_private(buffer, index)
            case Update(buffer=buffer, index=index):
                return buffer in self.own or self.is_private(buffer, index) or self.keeps_order(statement, place)
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
        return all(
            self.is_private(buffer, statement.index)
            for statement in walk(self.body)
            if isinstance(statement, Store | Update | Fill) and statement.buffer is buffer
        )

    def keeps_order(self, update: Update, place: Place) -> bool:
        """Whether every entry is updated by the points in their order: no loop comes back to it for the same point."""
        others = [s for s in walk(self.body) if update.buffer in written_buffers(s)]
        if len(others) != 1 or any(load.buffer is update.buffer for load, _ in loads_in(self.body)):
            return False
        if update.op in _ORDERLESS or update.buffer.type not in ("f32", "f64"):
            return True
        if place.is_repeated or (place.loops and self.differs(update.index)):
            return False
        return any(self.is_injective(update.index, loops) for loops in permutations(place.loops[:4]))

    def is_injective(self, index: Expression, loops: tuple[Loop, ...]) -> bool:
        """Whether loops that run through memory in this order reach an entry once."""
        run = size(1)
        for place, loop in enumerate(reversed(loops)):
            step, extent = coefficient(index, loop.index, dict.fromkeys(self.given)), as_static(loop.stop)
            if step is None or extent is None or not step.terms or not is_from_zero(loop):
                return False
            if place and step != run:
                return False
            run = step * extent
        return True

    def is_total(self, local: Local) -> bool:
        """Whether a local that points share is only added to, or only made the largest or smallest."""
        kinds = set()
        for statement in walk(self.body):
            term = total_of(statement)
            read = [p for e in expressions_of(statement) for p in locals_of(e)]
            if isinstance(statement, Let) and statement.local is local:
                if term is None or (term[0], local.type) not in _NEUTRAL or read.count(local) > 1:
                    return False
                kinds.add(term[0])
            elif local in read:
                return False
        return len(kinds) == 1

    # ---- the new nest ------------------------------------------------------------------------------------------------

    def arranged(self) -> Block:
        """The loop with lanes."""
        packings = tuple(self.packings())
        lanes = self.width(packings)
        terms = {local: Local("term", local.type) for local in self.carried}
        lane = Local("lane", "i64") if terms else self.loop.index
        place = Local("place", "i64")
        rows = _Rows(self.own, lanes, place)
        packed = tuple(statement for packing in packings for statement in rows.packed(packing))
        sources = {packing.load: packing for packing in packings}
        body = rows.block((*packed, *_reading(self.body, sources)))
        if self.own or packings:
            body = (Let(place, Apply("mod", "i64", (lane, number(lanes)))), *body)
        if not terms:
            return (replace(self.loop, body=body, lanes=lanes),)
        return self.with_totals(body, terms, lane, lanes)

    def with_totals(self, body: Block, terms: Mapping[Local, Local], lane: Local, lanes: int) -> Block:
        """Blocks of turns whose terms are kept, and then added up."""
        block, count = Local("block", "i64"), Local("count", "i64")
        start = times(block, number(BLOCK))
        rows = {local: Buffer("terms", local.type, size(BLOCK)) for local in terms}
        kinds = {
            statement.local: term[0]
            for statement in walk(body)
            for term in (total_of(statement),)
            if term is not None
            if isinstance(statement, Let)
        }
        starts = [Let(term, Literal(_NEUTRAL[kinds[t], t.type], t.type)) for t, term in terms.items()]
        stores = [Store(rows[local], lane, term) for local, term in terms.items()]
        index = Let(self.loop.index, plus(start, lane))
        inner = Loop(lane, count, (index, *starts, *_with_terms(body, terms), *stores), "parallel", lanes=lanes)
        stop = as_static(self.loop.stop)
        assert stop is not None
        blocks = Extent((stop + (BLOCK - 1)) // BLOCK)
        length = Let(count, Apply("minimum", "i64", (minus(self.loop.stop, start), number(BLOCK))))
        joined = [joint for local in terms for joint in _joined(local, kinds[local], rows[local], count)]
        turn = (length, inner, *joined)
        return (replace(self.loop, index=block, stop=blocks, body=turn, kind="sequential"),)

    def packings(self) -> Iterator[Packing]:
        """The reads at a distance from point to point that loops come back to."""
        seen: set[Load] = set()
        for load, place in loads_in(self.body):
            packing = None if load.buffer in self.written or load in seen else self.packing(load, place)
            if packing is not None:
                seen.add(load)
                yield packing

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

    def width(self, packings: tuple[Packing, ...]) -> int:
        """How many turns go at a time: as many as registers hold what an inner loop works on."""
        live = max((_live(loop) for loop in walk(self.body) if isinstance(loop, Loop)), default=4)
        large = any(buffer.entries.constant is None for buffer in self.own)
        # Of many numbers that a turn computes more are alive at once than registers hold, and code grows with lanes.
        is_long = sum(isinstance(statement, Let) for statement in walk(self.body)) > LONG
        widest = 8 if large or is_long else WIDEST
        return next((width for width in (32, 16) if width <= widest and live * width // 8 <= REGISTERS), 8)


class _Rows:
    """Arrays of a turn as rows of lanes."""

    def __init__(self, own: Set[Buffer], lanes: int, place: Local) -> None:
        self.lanes = lanes
        self.place = place
        self.buffers: dict[Buffer, Buffer] = {}
        for buffer in own:
            self.widen(buffer)

    def widen(self, buffer: Buffer) -> None:
        """Give an array a row for each of its places."""
        self.buffers[buffer] = Buffer(buffer.name, buffer.type, buffer.entries * self.lanes, span=buffer.span)

    def index(self, index: Expression) -> Expression:
        """Where the entry of a lane is."""
        return plus(times(index, number(self.lanes)), self.place)

    def packed(self, packing: Packing) -> Block:
        """Entries brought together, if a loop is going to read them."""
        row: Expression = ZERO
        for loop in packing.loops:
            row = plus(times(row, loop.stop), loop.index)
        self.widen(packing.buffer)
        names = {loop.index: Local(loop.index.name, "i64") for loop in packing.loops}
        block: Block = (Store(packing.buffer, row, packing.load),)
        for loop in reversed(packing.loops):
            block = (Loop(loop.index, loop.stop, block, "sequential"),)
        block = rename(block, names)
        condition: Expression | None = None
        for loop in packing.others:
            some = Apply("less", "bool", (loop.start, loop.stop))
            condition = some if condition is None else Apply("logical_and", "bool", (condition, some))
        assert condition is not None
        return (If(condition, block),)

    def block(self, block: Block) -> Block:
        """A block with the arrays as rows."""
        return tuple(found for statement in block for found in self.statement(statement))

    def statement(self, statement: Statement) -> Block:
        changed = change_expressions(statement, self.expression)
        match changed:
            case Store(buffer=buffer, index=index) | Update(buffer=buffer, index=index) if buffer in self.buffers:
                changed = replace(changed, buffer=self.buffers[buffer], index=self.index(index))
            case Fill(buffer=buffer, index=index, count=count, value=value):
                at = Local("k", "i64")
                store = Store(self.buffers[buffer], self.index(plus(index, at)), value)
                changed = Loop(at, count, (store,), "sequential")
            case Loop(body=body):
                changed = replace(changed, body=self.block(body))
            case While(test=test, body=body):
                changed = replace(changed, test=self.block(test), body=self.block(body))
            case If(then=then, otherwise=otherwise):
                changed = If(changed.condition, self.block(then), self.block(otherwise))
        return (changed,)

    def expression(self, expression: Expression) -> Expression:
        """An expression with reads of the arrays as reads of rows."""
        match expression:
            case Load(buffer=buffer, index=index):
                index = self.expression(index)
                if buffer in self.buffers:
                    return Load(self.buffers[buffer], self.index(index))
                return Load(buffer, index)
            case Apply(operands=operands):
                return replace(expression, operands=tuple(map(self.expression, operands)))
        return expression


# ---- walks -----------------------------------------------------------------------------------------------------------


def places_in(block: Block, place: Place = Place()) -> Iterator[tuple[Statement, Place]]:
    """Every statement of a block with its place."""
    for statement in block:
        yield statement, place
        inside = place
        if isinstance(statement, Loop):
            inside = replace(place, loops=(*place.loops, statement))
        elif isinstance(statement, If | While):
            inside = replace(place, is_chosen=True, is_repeated=place.is_repeated or isinstance(statement, While))
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


def _reading(block: Block, packings: Mapping[Load, Packing]) -> Block:
    """A block that reads what is brought together."""

    def change(expression: Expression) -> Expression:
        match expression:
            case Load() if expression in packings:
                packing = packings[expression]
                row: Expression = ZERO
                for loop in packing.loops:
                    row = plus(times(row, loop.stop), loop.index)
                return Load(packing.buffer, row)
            case Load(buffer=buffer, index=index):
                return Load(buffer, change(index))
            case Apply(operands=operands):
                return replace(expression, operands=tuple(map(change, operands)))
        return expression

    return change_block(block, change, {})


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
    if op == "add":
        return (Let(local, Apply("add", local.type, (local, Sum(row, ZERO, count)))),)
    at = Local("k", "i64")
    return (Loop(at, count, (Let(local, Apply(op, local.type, (local, Load(row, at)))),), "parallel"),)
