"""The schedule of a nest: which loop is innermost, and how sums are vectorised.

* Loops of a perfect nest are put in the order in which most memory is read in a row; two loops that together run
  through memory in a row become one.
* A sum whose entries lie in a row is taken block by block: terms to a scratch block, then `Sum`, which has a fixed
  order.
* A loop whose points choose by how near they are to an end is cut in three (`borders`).
* A sum at every point, whose points lie in a row, is taken for a block of points at once (`lanes`); each keeps the
  plain order of its terms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.kernels.borders import with_borders
from dgraph.kernels.checks_first import can_fail, checks_first
from dgraph.kernels.considered import Choice, Considered
from dgraph.kernels.guards import tightened
from dgraph.kernels.lane_costs import all_turns, with_inner_loops, with_points
from dgraph.kernels.lane_runs import in_lanes
from dgraph.kernels.lanes import Points
from dgraph.kernels.nest_parts import blocks_of, expressions_of, parts, read_buffers, walk, written_buffers
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Expression,
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
from dgraph.kernels.rewrite_nests import rename
from dgraph.kernels.straight_lanes import with_straight_lanes
from dgraph.kernels.views import ZERO, as_static, coefficient, minus, plus, rounded_up, times
from dgraph.kernels.watched import watched
from dgraph.sizes import Size, size

BLOCK = 256
"""Terms of a sum that are computed before they are added up."""

SHORT = 16
"""A sum of at most so many terms, if that is known, is left in its order."""

_FAR = 8.0


def schedule(nest: Loop, own: Set[Buffer] = frozenset(), lanes: str = "auto") -> tuple[Block, tuple[Choice, ...]]:
    """A parallel nest, scheduled, and the ways that were considered. Nothing outside of it touches the arrays `own`."""
    block = tightened((nest,))
    scheduler = _Scheduler(own & set(touches(block)), touches(block), lanes)
    scheduled = scheduler.block(block)
    if lanes != "off":
        scheduled = with_straight_lanes(scheduled)
    return scheduled, tuple(scheduler.considered)


@dataclass(frozen=True)
class Access:
    """One read or write in the innermost loops: the index, and whether it is a write."""

    index: Expression
    is_write: bool


class _Scheduler:
    def __init__(self, own: Set[Buffer], touched: Counter[Buffer], lanes: str) -> None:
        self.own = own
        self.touched = touched
        self.lanes = lanes
        self.considered: list[Choice] = []
        self.depth = 0

    def block(self, block: Block) -> Block:
        """A block with the nests in it scheduled."""
        return tuple(found for statement in block for found in self.statement(statement))

    def statement(self, statement: Statement) -> Block:
        match statement:
            case Loop(kind="parallel"):
                return self.nest(statement)
            case Loop(body=body):
                return (replace(statement, body=self.inside(body)),)
            case While(test=test, body=body):
                return (replace(statement, test=self.block(test), body=self.block(body)),)
            case If(then=then, otherwise=otherwise):
                return (replace(statement, then=self.block(then), otherwise=self.block(otherwise)),)
        return (statement,)

    def nest(self, nest: Loop) -> Block:
        chain, body = perfect(nest)
        if can_fail(nest):
            parted = checks_first(nest)
            if parted is None:
                watched = self.watched(nest)
                return watched if watched is not None else (around(chain, self.inside(body)),)
            return (parted[0], *self.nest(parted[1]))
        if all(is_simple(statement) for statement in body):
            chain, body = collapsed(ordered(chain, body), body)
            totals = running_totals(body)
            is_inside = self.depth > 0 or len(chain) > 1
            summed = blockwise(chain, body, totals, is_inside) if totals else None
            return summed if summed is not None else bordered(chain, body)
        found = self.by_points(chain, body)
        return found if found is not None else (around(chain, self.inside(body)),)

    def inside(self, body: Block) -> Block:
        """What a loop holds, scheduled."""
        self.depth += 1
        found = self.block(body)
        self.depth -= 1
        return found

    def watched(self, nest: Loop) -> Block | None:
        """A nest whose points may fail, with points several at a time that say whether one would, and what follows."""
        found = watched(nest, self.own)
        if found is None:
            return None
        flag, points, again = found
        block = self.by_points(*perfect(points))
        return None if block is None else (flag, *block, again)

    def by_points(self, chain: list[Loop], body: Block) -> Block | None:
        """The nest with points of its best loop several at a time, the other loops around it or inside, if that is
        cheaper than vectors in its inner loops."""
        found: list[tuple[float, int, Points]] = []
        inside = touches(body)
        own = {buffer for buffer in self.own if inside[buffer] == self.touched[buffer]}
        for place, loop in enumerate(chain):
            points = Points(loop, wrapped(chain[place + 1 :], body), own)
            if not is_short(loop) and points.is_possible():
                cost = with_points(points) / all_turns(chain[place + 1 :])
                found.append((cost, place, points))
        if not found:
            return None
        cost, place, points = min(found, key=lambda choice: choice[:2])
        inner = with_inner_loops(body)
        is_wanted = self.lanes == "on" or (self.lanes == "auto" and cost < inner)
        lanes = in_lanes(points) if is_wanted else None
        ways = [
            Considered(f"points of {at.loop.index.name}", price, lanes is not None and at is points)
            for price, _, at in found
        ]
        self.considered.append((*ways, Considered("vectors in its inner loops", inner, lanes is None)))
        return None if lanes is None else wrapped(chain[:place], lanes)


def touches(block: Block) -> Counter[Buffer]:
    """How many statements read or write each buffer."""
    return Counter(b for statement in walk(block) for b in {*read_buffers(statement), *written_buffers(statement)})


# ---- the shape of nests ----------------------------------------------------------------------------------------------


def perfect(nest: Loop) -> tuple[list[Loop], Block]:
    """The parallel loops that stand directly inside one another, and what the innermost of them holds."""
    chain = [nest]
    while len(chain[-1].body) == 1:
        (only,) = chain[-1].body
        if not (isinstance(only, Loop) and only.kind == "parallel" and is_full(only) and is_full(chain[-1])):
            break
        chain.append(only)
    return chain, chain[-1].body


def is_full(loop: Loop) -> bool:
    """Whether a loop runs from 0 to a bound that the sizes decide."""
    start = as_static(loop.start)
    return start is not None and start.constant == 0 and as_static(loop.stop) is not None


def around(chain: Sequence[Loop], body: Block) -> Loop:
    """The loops around another body."""
    (nest,) = wrapped(chain, body)
    assert isinstance(nest, Loop)
    return nest


def wrapped(chain: Sequence[Loop], body: Block) -> Block:
    """The loops, if any, around another body."""
    for loop in reversed(chain):
        body = (replace(loop, body=body),)
    return body


def bordered(chain: Sequence[Loop], body: Block) -> Block:
    """The loops around another body, cut where that decides a choice; the borders of outer loops stay as they are."""
    *outer, inner = chain
    block = with_borders(replace(inner, body=body))
    return wrapped(outer, block)


def is_simple(statement: Statement) -> bool:
    """Whether a statement holds no loop and moves no block of memory."""
    match statement:
        case Let() | Store() | Update() | Note():
            return True
        case If(then=then, otherwise=otherwise):
            return all(map(is_simple, (*then, *otherwise)))
    return False


def loops_in(block: Block) -> Iterator[Loop]:
    """The loops in a block, at any depth."""
    return (statement for statement in walk(block) if isinstance(statement, Loop))


def is_short(loop: Loop) -> bool:
    """Whether a loop is known to have few turns."""
    stop = as_static(loop.stop)
    return stop is not None and stop.constant is not None and stop.constant <= SHORT


# ---- how memory is read ----------------------------------------------------------------------------------------------


def growth(index: Local, body: Block) -> dict[Local, Size | None]:
    """By how much the locals of a body grow with an index."""
    known: dict[Local, Size | None] = {}
    changed = True
    while changed:
        changed = False
        for statement in walk(body):
            if isinstance(statement, Let):
                step = coefficient(statement.value, index, known)
                if statement.local in known and known[statement.local] != step:
                    step = None
                if statement.local not in known or known[statement.local] != step:
                    known[statement.local] = step
                    changed = changed or step is None or bool(step.terms)
    return known


def accesses_of(block: Block) -> Iterator[Access]:
    """Reads and writes of a block without loops."""
    for statement in walk(block):
        for expression in expressions_of(statement):
            for part in parts(expression):
                if isinstance(part, Load):
                    yield Access(part.index, False)
        if isinstance(statement, Store | Update):
            yield Access(statement.index, True)


def innermost_accesses(block: Block) -> Iterator[Access]:
    """Reads and writes in the loops that hold no loop."""
    for statement in block:
        inner = blocks_of(statement)
        if isinstance(statement, Loop) and all(map(is_simple, statement.body)):
            yield from accesses_of(statement.body)
        elif not is_simple(statement):
            for held in inner:
                yield from innermost_accesses(held)


def price(loop: Loop, accesses: Sequence[Access], body: Block) -> float:
    """How badly memory is read if this loop is innermost."""
    known = growth(loop.index, body)
    total = 0.0
    for access in accesses:
        step = coefficient(access.index, loop.index, known)
        if step is None:
            total += _FAR
        elif not step.terms:
            total += _FAR / 2 if access.is_write else 0.2
        elif step.constant == 1:
            total += 1.0
        elif step.constant == -1:
            total += 1.5
        else:
            total += _FAR
    return total


def ordered(chain: list[Loop], body: Block) -> list[Loop]:
    """The loops with the cheapest one innermost; the order of the others is kept."""
    accesses = list(accesses_of(body))
    prices = [price(loop, accesses, body) for loop in chain]
    best = min(range(len(chain)), key=lambda place: (prices[place], -place))
    return [*chain[:best], *chain[best + 1 :], chain[best]]


def collapsed(chain: list[Loop], body: Block) -> tuple[list[Loop], Block]:
    """Loops whose accesses run on from the end of one row to the start of the next become one loop."""
    while len(chain) > 1:
        *rest, outer, inner = chain
        extent = as_static(inner.stop)
        if extent is None or not _runs_on(outer, inner, extent, body):
            break
        stop = times(outer.stop, inner.stop)
        body = rename(body, {outer.index: ZERO})
        chain = [*rest, replace(inner, stop=stop, note=outer.note or inner.note)]
    return chain, body


def _runs_on(outer: Loop, inner: Loop, extent: Size, body: Block) -> bool:
    across, along = growth(outer.index, body), growth(inner.index, body)
    for statement in walk(body):
        for expression in expressions_of(statement):
            place = expression if isinstance(statement, Store | Update) and expression is statement.index else None
            if not _is_plain(expression, place, {outer.index, inner.index}):
                return False
        if (
            isinstance(statement, Let)
            and statement.local.type == "i64"
            and _mentions(statement.value, {outer.index, inner.index})
        ):
            return False
    for access in accesses_of(body):
        one, other = coefficient(access.index, outer.index, across), coefficient(access.index, inner.index, along)
        if one is None or other is None or one != other * extent:
            return False
    return True


def _is_plain(expression: Expression, place: Expression | None, indices: set[Local]) -> bool:
    """Whether indices are only used to address memory."""
    if expression is place:
        return True
    if isinstance(expression, Local):
        return expression not in indices
    if isinstance(expression, Apply):
        return all(_is_plain(operand, place, indices) for operand in expression.operands)
    return True


def _mentions(expression: Expression, locals_: set[Local]) -> bool:
    return any(part in locals_ for part in parts(expression) if isinstance(part, Local))


# ---- sums ------------------------------------------------------------------------------------------------------------


def running_totals(body: Block) -> list[Local]:
    """The floats that a nest adds to and does nothing else with."""
    found: dict[Local, None] = {}
    spoiled: set[Local] = set()
    for statement in walk(body):
        read = [part for e in expressions_of(statement) for part in parts(e) if isinstance(part, Local)]
        term = total_term(statement)
        if isinstance(statement, Let) and term is not None:
            found.setdefault(statement.local)
            read = [part for part in parts(term) if isinstance(part, Local)]
        elif isinstance(statement, Let):
            spoiled.add(statement.local)
        spoiled.update(read)
    return [local for local in found if local not in spoiled]


def total_term(statement: Statement) -> Expression | None:
    """What a statement adds to a local, if that is what it does."""
    match statement:
        case Let(local=local, value=Apply(op="add", type="f32" | "f64", operands=(left, right))) if left is local:
            return right
    return None


def blockwise(chain: list[Loop], body: Block, totals: list[Local], is_inside: bool) -> Block | None:
    """A nest that adds up floats with its innermost loop cut into blocks. Inside other loops a sum that turns out to be
    short is taken as it stands."""
    *outer, inner = chain
    if is_short(inner) or not all(_sums_only(local, body) for local in totals):
        return None
    length = minus(inner.stop, inner.start)
    direct = _direct(inner, length, body)
    if direct is not None:
        return wrapped(outer, direct)
    terms = {local: Local("term", local.type) for local in totals}
    blocks = {local: Buffer("terms", local.type, size(BLOCK)) for local in totals}
    always = {statement.local for statement in body if isinstance(statement, Let)}
    starts = [Let(terms[local], Literal(0.0, local.type)) for local in totals if local not in always]

    def added(lane: Local, count: Expression, first: list[Statement]) -> Block:
        """A loop that computes terms, and their sum. A term that may be left out is 0."""
        stores = [Store(blocks[local], lane, terms[local]) for local in totals]
        inside = (*first, *starts, *_with_terms(body, terms), *stores)
        turn = replace(inner, index=lane, start=ZERO, stop=count, body=inside)
        sums = [Let(local, Apply("add", local.type, (local, Sum(blocks[local], ZERO, count)))) for local in totals]
        return turn, *sums

    extent = as_static(length)
    if extent is not None and extent.constant is not None and extent.constant <= BLOCK and is_full(inner):
        return wrapped(outer, added(inner.index, inner.stop, []))
    block, lane, count = (Local(name, "i64") for name in ("block", "lane", "count"))
    start = times(block, number(BLOCK))
    rest = Let(count, Apply("minimum", "i64", (minus(length, start), number(BLOCK))))
    turn = (rest, *added(lane, count, [Let(inner.index, plus(inner.start, plus(start, lane)))]))
    blocks_count = rounded_up(length, BLOCK)
    summed: Block = (Loop(block, blocks_count, turn, "sequential", ZERO, inner.note, inner.span, apart=True),)
    if is_inside and (extent is None or extent.constant is None):
        plain = replace(inner, body=body)
        summed = (If(Apply("less_equal", "bool", (length, number(SHORT))), (plain,), summed),)
    return wrapped(outer, summed)


def _sums_only(local: Local, body: Block) -> bool:
    return sum(isinstance(s, Let) and s.local is local for s in walk(body)) == 1


def _direct(inner: Loop, length: Expression, body: Block) -> Block | None:
    """The sum of entries that lie in a row, nothing else being done."""
    loads: dict[Local, Expression] = {}
    adds: list[tuple[Local, Load]] = []
    for statement in body:
        term = total_term(statement)
        if isinstance(statement, Let) and isinstance(statement.value, Load):
            loads[statement.local] = statement.value
        elif isinstance(statement, Let) and term is not None:
            found = loads.get(term) if isinstance(term, Local) else term
            if not isinstance(found, Load):
                return None
            adds.append((statement.local, found))
        else:
            return None
    steps = [coefficient(load.index, inner.index, {}) for _, load in adds]
    if not adds or len(loads) > len(adds) or any(step is None or step.constant != 1 for step in steps):
        return None
    found_sums = []
    for local, load in adds:
        (start,) = rename((Let(local, load.index),), {inner.index: inner.start})
        assert isinstance(start, Let)
        total = Sum(load.buffer, start.value, length)
        found_sums.append(Let(local, Apply("add", local.type, (local, total))))
    return tuple(found_sums)


def _with_terms(block: Block, terms: dict[Local, Local]) -> list[Statement]:
    """The block with what it adds to totals put into terms."""
    found: list[Statement] = []
    for statement in block:
        term = total_term(statement)
        if isinstance(statement, Let) and statement.local in terms and term is not None:
            found.append(Let(terms[statement.local], term))
        elif isinstance(statement, If):
            sides = (tuple(_with_terms(side, terms)) for side in (statement.then, statement.otherwise))
            found.append(If(statement.condition, *sides))
        else:
            found.append(statement)
    return found
