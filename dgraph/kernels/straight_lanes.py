"""Innermost loops over points that ask for lanes of vectors, where LLVM's vectoriser would do badly.

It does the turns that are left over one by one, most of the work where a loop is short. It asks at run time whether
rows of one array overlap, although points never add to one entry. And where neighbours are read, an entry that the next
turn reads again is kept in a register beforehand, which leaves it nothing to do in vectors. What only moves numbers
stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations_with_replacement

from dgraph.classes import dataclass
from dgraph.kernels.lane_costs import operations
from dgraph.kernels.nest_parts import blocks_of, expressions_of, parts, read_first, set_locals, walk
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Expression,
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
    While,
)
from dgraph.kernels.views import as_static
from dgraph.sizes import Size, size, variable

SOME = 3.0
"""Operations of a turn that are worth lanes."""
DEAR = 20.0
"""Operations that are, even where only few turns are expected."""


def with_straight_lanes(block: Block) -> Block:
    """A scheduled block, with lanes for the innermost loops that gain by them."""
    return tuple(map(_statement, block))


def _statement(statement: Statement) -> Statement:
    match statement:
        case Loop(lanes=0, kind="parallel") if all(map(_is_straight, walk(statement.body))):
            turn = _Turn(statement)
            return replace(statement, lanes=turn.width) if turn.gains and turn.is_possible else statement
        case Loop(lanes=0, body=body):
            return replace(statement, body=with_straight_lanes(body))
        case While(test=test, body=body):
            return replace(statement, test=with_straight_lanes(test), body=with_straight_lanes(body))
        case If(then=then, otherwise=otherwise):
            return replace(statement, then=with_straight_lanes(then), otherwise=with_straight_lanes(otherwise))
    return statement


def _is_straight(statement: Statement) -> bool:
    return isinstance(statement, Let | Store | Update | If | Note)


@dataclass(frozen=True)
class _Access:
    """An entry that a turn reads or writes."""

    buffer: Buffer
    place: Size
    is_write: bool


class _Turn:
    """One turn of a loop without loops inside."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.values = {s.local: s.value for s in walk(loop.body) if isinstance(s, Let) and s.local.type == "i64"}
        self.given = Counter(local for s in walk(loop.body) for local in set_locals(s))
        self.accesses = list(dict.fromkeys(self._accesses(loop.body)))

    @property
    def gains(self) -> bool:
        """Whether this is a loop that LLVM does badly."""
        work = sum(map(operations, walk(self.loop.body)))
        return work >= DEAR or (work >= SOME and not self.is_border)

    @property
    def is_border(self) -> bool:
        """Whether this is one of the few turns near an end, which still ask what neighbours there are."""
        is_inner = as_static(self.loop.start) is not None and as_static(self.loop.stop) is not None
        return not is_inner and any(isinstance(statement, If) for statement in walk(self.loop.body))

    @property
    def width(self) -> int:
        """How many lanes fill a register."""
        types = {access.buffer.type for access in self.accesses}
        return 16 if "f32" in types and types <= {"f32", "bool", "i32"} else 8

    @property
    def is_possible(self) -> bool:
        """Whether turns side by side do what they do one after another, with entries in rows."""
        if any(local in self.given for local in read_first(self.loop.body)[0]):
            return False
        if any(isinstance(p, Sum) for s in walk(self.loop.body) for e in expressions_of(s) for p in parts(e)):
            return False
        steps = {access: self.step(access.place) for access in self.accesses}
        if any(step is None or step not in (0, 1) or (step == 0 and a.is_write) for a, step in steps.items()):
            return False
        written = {access.buffer for access in self.accesses if access.is_write}
        touched = [access for access in self.accesses if access.buffer in written]
        pairs = combinations_with_replacement(touched, 2)
        return not any(one.buffer is other.buffer and self.crosses(one.place, other.place) for one, other in pairs)

    def step(self, place: Size) -> int | None:
        """By how much a place grows from turn to turn; None if that depends on more than the loop."""
        rest = place.substitute({self.loop.index: 0})
        return (place - rest).substitute({self.loop.index: 1}).constant if self.is_linear(place) else None

    def is_linear(self, place: Size) -> bool:
        """Whether the index of the loop stands in a place by itself alone, and no local that a turn sets does."""
        if any(isinstance(atom, Local) and atom in self.given for atom in place.atoms()):
            return False
        if any(_mentions(atom, self.loop.index) for atom in place.atoms() if atom is not self.loop.index):
            return False
        return all(self.loop.index not in monomial or len(monomial) == 1 for monomial, _ in place.terms)

    def crosses(self, one: Size, other: Size) -> bool:
        """Whether two different turns may meet at an entry. Both places grow by 1, or are fixed."""
        distance = one - other
        start, stop = as_static(self.loop.start), as_static(self.loop.stop)
        if distance.constant == 0:
            return False
        if stop is None or not all(isinstance(atom, str) for atom in distance.atoms()):
            return True
        length = stop - (start if start is not None else size(0))
        return not any((away - length).is_nonnegative() for away in (distance, -distance))

    # ---- what is read and written ----------------------------------------------------------------------------------

    def _accesses(self, block: Block) -> Iterator[_Access]:
        for statement in block:
            yield from self._read(expressions_of(statement))
            if isinstance(statement, Store | Update):
                yield _Access(statement.buffer, self.form(statement.index), True)
            for inner in blocks_of(statement):
                yield from self._accesses(inner)

    def _read(self, expressions: Iterable[Expression]) -> Iterator[_Access]:
        for expression in expressions:
            for part in parts(expression):
                if isinstance(part, Load):
                    yield _Access(part.buffer, self.form(part.index), False)

    def form(self, expression: Expression) -> Size:
        """An index as a polynomial of sizes, of locals from outside of the turn, and of what it cannot see through."""
        static = as_static(expression)
        if static is not None:
            return static
        if isinstance(expression, Local) and self.given[expression] == 1 and expression in self.values:
            return self.form(self.values[expression])
        if isinstance(expression, Apply) and expression.op in ("add", "sub", "mul"):
            left, right = map(self.form, expression.operands)
            return left + right if expression.op == "add" else left - right if expression.op == "sub" else left * right
        return variable(expression)


def _mentions(atom: object, index: Local) -> bool:
    """Whether an expression that is an atom of a polynomial depends on an index, or may."""
    if isinstance(atom, str | Local):
        return False
    return not isinstance(atom, Apply | Load) or any(part is index or isinstance(part, Local) for part in parts(atom))
