"""Loops over the same points, and matrix products over blocks of them, run block by block: what one hands to the next
stays in the cache, and an array that nothing else reads is as large as a block.

In an array of a block points lie side by side, if the products allow it: then what is done for every point can be done
for several at a time, and a product has the points as its columns.

The products take 64 points at a time anyway (`lower_contractions.BLOCK`). A loop over points joins them if what it
shares with the others it reads and writes only at its own point. Statements between that need nothing of them go first.
Every sum over points keeps its order, but for points that go several at a time: a block follows a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import repeat

from dgraph.classes import dataclass
from dgraph.kernels.lower_contractions import BLOCK
from dgraph.kernels.nest_parts import (
    blocks_of,
    expressions_of,
    locals_of,
    parts,
    read_buffers,
    read_first,
    set_locals,
    touching,
    walk,
    written_buffers,
)
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Copy,
    Expression,
    Extent,
    Fail,
    Fill,
    If,
    Let,
    Load,
    Local,
    Loop,
    Matrix,
    MatrixProduct,
    Note,
    Program,
    Routine,
    Statement,
    Store,
    Update,
    While,
    number,
)
from dgraph.kernels.product_symbols import Triangle
from dgraph.kernels.rewrite_nests import change_expressions, substitute
from dgraph.kernels.schedule import is_simple, perfect
from dgraph.kernels.views import ZERO, as_static, coefficient, minus, plus, times
from dgraph.sizes import Size, size

_SIMPLE = Let | Store | Update | If | Loop | MatrixProduct | Note

Range = tuple[Size, Size]

_Axis = tuple[Expression, Size]


def in_blocks(program: Program) -> Program:
    """The program with what runs over blocks of the same points joined."""
    return replace(program, body=_joined(program.body, touching(program.body)))


def _joined(block: Block, touched: dict[Buffer, set[Statement]]) -> Block:
    """A block with the first run of it joined, and the others."""
    points = next((extent for s in block if (extent := _extent_of_blocks(s)) is not None), None)
    if points is None:
        return tuple(_inside(statement, touched) for statement in block)
    run = _Run(points)
    for statement in block:
        run.take(statement)
    if len(run.members) < 2 or not run.has_product:
        first = next(at for at, s in enumerate(block) if _extent_of_blocks(s) is not None)
        return (*block[: first + 1], *_joined(block[first + 1 :], touched))
    return (*run.before, run.loop(touched), *_joined(tuple(run.after), touched))


def _inside(statement: Statement, touched: dict[Buffer, set[Statement]]) -> Statement:
    match statement:
        case Loop(kind="sequential" | "reverse", body=body):
            return replace(statement, body=_joined(body, touched))
        case While(test=test, body=body):
            return replace(statement, test=_joined(test, touched), body=_joined(body, touched))
        case If(then=then, otherwise=otherwise):
            return replace(statement, then=_joined(then, touched), otherwise=_joined(otherwise, touched))
    return statement


def _extent_of_blocks(statement: Statement) -> Size | None:
    """The number of points of which a statement multiplies block by block."""
    match statement:
        case Loop(stop=Apply(op="floor_div", operands=(Extent(size=whole), Extent(size=step)))) if (
            step.constant == BLOCK
        ):
            return whole - (BLOCK - 1)
    return None


# ---- what each member touches ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Access:
    """One access of a member: how far it moves from point to point, and what it reaches from its own point on; None
    where that is not known."""

    buffer: Buffer
    is_write: bool
    stride: Size | None
    reach: Range | None


@dataclass(frozen=True, eq=False)
class _Member:
    """A loop over points, or over blocks of them."""

    loop: Loop
    is_product: bool
    accesses: tuple[_Access, ...]

    def strides(self, buffer: Buffer) -> set[Size | None]:
        """By how much the accesses of a buffer move from point to point; None is among them if one leaves its point."""
        found: set[Size | None] = set()
        for access in self.accesses:
            if access.buffer is buffer:
                is_own = access.stride is not None and access.reach is not None and access.reach[0].is_nonnegative()
                if is_own and (access.stride - 1 - access.reach[1]).is_nonnegative():  # type: ignore[operator, index]
                    found.add(access.stride)
                else:
                    found.add(None)
        return found

    @property
    def buffers(self) -> set[Buffer]:
        """All that it touches."""
        return {access.buffer for access in self.accesses}

    @property
    def written(self) -> set[Buffer]:
        """All that it writes."""
        return {access.buffer for access in self.accesses if access.is_write}


def _member(statement: Statement, points: Size) -> _Member | None:
    """A statement as a member of a run over points."""
    if not isinstance(statement, Loop) or not all(isinstance(inner, _SIMPLE) for inner in walk(statement.body)):
        return None
    is_product = _extent_of_blocks(statement) == points
    is_points = statement.kind == "parallel" and as_static(statement.stop) == points and not _start(statement).terms
    if not (is_product or is_points) or _is_sum(statement):
        return None
    step = size(BLOCK if is_product else 1)
    ranges = {statement.index: (size(0), size(0))}
    return _Member(statement, is_product, tuple(_accesses(statement.body, statement.index, step, ranges)))


def _is_sum(loop: Loop) -> bool:
    """Whether a loop adds up over its points and does nothing else: it has blocks of its own."""
    given = {local for inner in walk(loop.body) for local in set_locals(inner)}
    return not given.isdisjoint(read_first(loop.body)[0]) and all(map(is_simple, perfect(loop)[1]))


def _start(loop: Loop) -> Size:
    start = as_static(loop.start)
    return size(1) if start is None else start


def _accesses(block: Block, index: Local, step: Size, ranges: dict[Local, Range]) -> Iterator[_Access]:
    known: dict[Local, Size | None] = {
        local: None for statement in walk(block) if isinstance(statement, Let) for local in (statement.local,)
    }

    def access(buffer: Buffer, place: Expression, is_write: bool, shape: Sequence[_Axis] = ()) -> _Access:
        moved, reach = coefficient(place, index, known), _range(place, ranges)
        stride = None if moved is None else moved // step
        if stride is None or stride * step != moved or reach is None:
            return _Access(buffer, is_write, None, None)
        for count, distance in shape:
            extent = as_static(count)
            if extent is not None:
                reach = reach[0], reach[1] + (extent - 1) * distance
            elif distance != stride:
                # The points of a block lie elsewhere than those of the next one.
                return _Access(buffer, is_write, None, None)
        return _Access(buffer, is_write, stride, reach)

    for statement in block:
        for expression in expressions_of(statement):
            for part in parts(expression):
                if isinstance(part, Load):
                    yield access(part.buffer, part.index, False)
        match statement:
            case Store(buffer=buffer, index=place) | Update(buffer=buffer, index=place):
                yield access(buffer, place, True)
            case MatrixProduct(target=target, left=left, right=right):
                counts = statement.rows, statement.columns, statement.inner
                for matrix, down, across in ((target, 0, 1), (left, 0, 2), (right, 2, 1)):
                    shape = (counts[down], matrix.down), (counts[across], matrix.across)
                    yield access(matrix.buffer, matrix.index, matrix is target, shape)
            case Loop(index=inner, body=body):
                start, stop = as_static(statement.start), as_static(statement.stop)
                reach = {} if start is None or stop is None else {inner: (start, stop - 1)}
                yield from _accesses(body, index, step, {**ranges, **reach})
            case If():
                for side in blocks_of(statement):
                    yield from _accesses(side, index, step, ranges)


def _range(expression: Expression, ranges: dict[Local, Range]) -> Range | None:
    """The least and the greatest value of an index, the point being 0."""
    static = as_static(expression)
    if static is not None:
        return static, static
    match expression:
        case Local():
            return ranges.get(expression)
        case Apply(op="add" | "sub" | "mul" as op, type="i64", operands=(left, right)):
            one, other = _range(left, ranges), _range(right, ranges)
            if one is None or other is None:
                return None
            if op == "add":
                return one[0] + other[0], one[1] + other[1]
            if op == "sub":
                return one[0] - other[1], one[1] - other[0]
            factor = as_static(right)
            if factor is not None and factor.is_nonnegative():
                return one[0] * factor, one[1] * factor
    return None


# ---- which go together -----------------------------------------------------------------------------------------------


class _Run:
    """What can be joined of a block, what goes before it, and what stays behind."""

    def __init__(self, points: Size) -> None:
        self.points = points
        self.before: list[Statement] = []
        self.members: list[_Member] = []
        self.after: list[Statement] = []
        self.behind: list[_Use] = []
        self.joined: list[_Use] = []

    @property
    def has_product(self) -> bool:
        """Whether a matrix product is among the members."""
        return any(member.is_product for member in self.members)

    def take(self, statement: Statement) -> None:
        """Put the next statement where it belongs."""
        use = _Use(statement)
        if any(map(use.conflicts, self.behind)):
            self.stay(statement, use)
            return
        member = _member(statement, self.points)
        if member is not None and not any(map(use.shares_locals, self.joined)) and self.fits(member):
            self.members.append(member)
            self.joined.append(use)
        elif any(map(use.conflicts, self.joined)):
            self.stay(statement, use)
        else:
            self.before.append(statement)

    def stay(self, statement: Statement, use: _Use) -> None:
        """Leave a statement behind the run."""
        self.after.append(statement)
        self.behind.append(use)

    def fits(self, member: _Member) -> bool:
        """Whether a loop can go on block by block behind the members: each finds what they share at its own point."""
        shared = {
            buffer
            for other in self.members
            for buffer in (other.written & member.buffers) | (other.buffers & member.written)
        }
        return not self.members or (bool(shared) and all(self.is_apart(buffer, member) for buffer in shared))

    def is_apart(self, buffer: Buffer, *more: _Member) -> bool:
        """Whether every member touches only entries of its own point."""
        strides = {stride for member in (*self.members, *more) for stride in member.strides(buffer)}
        (stride, *others) = strides
        return not others and stride is not None and stride * self.points == buffer.entries

    # ---- the joined loop -----------------------------------------------------------------------------------------

    def loop(self, touched: dict[Buffer, set[Statement]]) -> Loop:
        """All members, block by block."""
        inside = {statement for member in self.members for statement in walk((member.loop,))}
        small: dict[Buffer, _Small] = {}
        for buffer in dict.fromkeys(access.buffer for member in self.members for access in member.accesses):
            is_own = buffer.kind == "arena" and touched[buffer] <= inside
            if is_own and self.is_apart(buffer):
                (stride,) = {stride for member in self.members for stride in member.strides(buffer)}
                assert stride is not None
                small[buffer] = _Small(replace(buffer, entries=stride * BLOCK), stride)
        if all(map(_can_turn, (s for s in inside if isinstance(s, MatrixProduct)), repeat(small))):
            small = {buffer: replace(one, is_turned=True) for buffer, one in small.items()}
        block, count = Local("block", "i64"), Local("count", "i64")
        first = times(block, number(BLOCK))
        left = Apply("minimum", "i64", (minus(Extent(self.points), first), number(BLOCK)))
        body: list[Statement] = [Let(count, left)]
        for member in self.members:
            loop = member.loop
            if member.is_product:
                body += _moved(loop.body, loop.index, block, ZERO, small)
            else:
                point = Local(loop.index.name, "i64")
                inner = _moved(loop.body, loop.index, plus(first, point), point, small)
                body.append(replace(loop, index=point, stop=count, body=inner))
        blocks = Apply("floor_div", "i64", (Extent(self.points + (BLOCK - 1)), number(BLOCK)))
        return Loop(block, blocks, tuple(body), "sequential", apart=True)


class _Use:
    """What a statement touches, inner statements included."""

    def __init__(self, statement: Statement) -> None:
        inner = list(walk((statement,)))
        self.written = {buffer for one in inner for buffer in written_buffers(one)}
        self.read = {buffer for one in inner for buffer in read_buffers(one)}
        self.given = {local for one in inner for local in set_locals(one)}
        self.used = {local for one in inner for e in expressions_of(one) for local in locals_of(e)}
        self.can_fail = any(isinstance(one, Fail) for one in inner)
        is_plain = all(isinstance(one, _SIMPLE | Fail | Fill | Copy | Routine | While) for one in inner)
        self.is_known = is_plain and not any(buffer.kind == "pointer" for buffer in self.written | self.read)

    def conflicts(self, other: _Use) -> bool:
        """Whether two statements must keep their order."""
        if not (self.is_known and other.is_known) or (self.can_fail and other.can_fail):
            return True
        meet = self.written & (other.written | other.read) or other.written & self.read
        return bool(meet) or self.shares_locals(other)

    def shares_locals(self, other: _Use) -> bool:
        """Whether one gives a value to a local of the other."""
        return bool(self.given & (other.given | other.used) or other.given & self.used)


@dataclass(frozen=True)
class _Small:
    """An array as large as a block, and how far apart points lie in it. Turned, they lie side by side, so that what is
    done for every point is done for several at a time."""

    buffer: Buffer
    stride: Size
    is_turned: bool = False

    def index(self, place: Expression, index: Local, here: Expression) -> Expression:
        """The place of an entry, the point being `here`."""
        if not self.is_turned:
            return substitute(place, {index: here})
        return plus(times(substitute(place, {index: ZERO}), number(BLOCK)), here)

    def matrix(self, matrix: Matrix, index: Local, here: Expression) -> Matrix:
        """A matrix in it."""
        place = self.index(matrix.index, index, here)
        if not self.is_turned:
            return replace(matrix, buffer=self.buffer, index=place)
        down, across = (size(1) if step == self.stride else step * BLOCK for step in (matrix.down, matrix.across))
        return Matrix(self.buffer, place, down, across)


_TRANSPOSED: dict[Triangle, Triangle] = {"whole": "whole", "columns": "rows", "rows": "columns"}


def _can_turn(product: MatrixProduct, small: Mapping[Buffer, _Small]) -> bool:
    """Whether a product can be done with points side by side in arrays of a block."""
    if product.runs is not None:
        return False
    for matrix in (product.target, product.left, product.right):
        if matrix.buffer in small and (matrix.down, matrix.across).count(small[matrix.buffer].stride) != 1:
            return False
    target = product.target
    return target.buffer not in small or (
        product.triangle in _TRANSPOSED and target.down == small[target.buffer].stride and target.across.constant == 1
    )


def _transposed(product: MatrixProduct) -> MatrixProduct:
    """The same product, by rows of the other axis."""

    def turned(matrix: Matrix) -> Matrix:
        return replace(matrix, down=matrix.across, across=matrix.down)

    return replace(
        product,
        target=turned(product.target),
        left=turned(product.right),
        right=turned(product.left),
        rows=product.columns,
        columns=product.rows,
        triangle=_TRANSPOSED[product.triangle],
    )


def _moved(
    block: Iterable[Statement], index: Local, there: Expression, here: Expression, small: Mapping[Buffer, _Small]
) -> Block:
    """A body with its point at `there` in whole arrays and `here` in those of a block."""

    def change(expression: Expression) -> Expression:
        match expression:
            case Load(buffer=buffer, index=place) if buffer in small:
                return Load(small[buffer].buffer, small[buffer].index(place, index, here))
            case Load(buffer=buffer, index=place):
                return Load(buffer, change(place))
            case Apply(operands=operands) if any(isinstance(part, Load) for part in parts(expression)):
                return replace(expression, operands=tuple(map(change, operands)))
        return substitute(expression, {index: there})

    found: list[Statement] = []
    for statement in block:
        changed = change_expressions(statement, change)
        match statement:
            case Store(buffer=buffer, index=place) | Update(buffer=buffer, index=place) if buffer in small:
                assert isinstance(changed, Store | Update)
                changed = replace(changed, buffer=small[buffer].buffer, index=small[buffer].index(place, index, here))
            case MatrixProduct(target=target, left=left, right=right):
                matrices = [
                    small[matrix.buffer].matrix(matrix, index, here)
                    if matrix.buffer in small
                    else replace(matrix, index=change(matrix.index))
                    for matrix in (target, left, right)
                ]
                assert isinstance(changed, MatrixProduct)
                changed = replace(changed, target=matrices[0], left=matrices[1], right=matrices[2])
                if target.buffer in small and small[target.buffer].is_turned:
                    changed = _transposed(changed)
            case Loop(body=body):
                assert isinstance(changed, Loop)
                changed = replace(changed, body=_moved(body, index, there, here, small))
            case If(then=then, otherwise=otherwise):
                sides = [_moved(side, index, there, here, small) for side in (then, otherwise)]
                assert isinstance(changed, If)
                changed = replace(changed, then=sides[0], otherwise=sides[1])
        found.append(changed)
    return tuple(found)
