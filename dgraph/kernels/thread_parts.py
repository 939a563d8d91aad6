"""What the turns of a loop share, seen from its memory: what threads need apart so that they can take turns.

* A **total** is a local that turns change and nothing else reads. Sums of floats are kept term by term and added up in
  the order of the turns, so they have the bits that one thread gives them; extremes and counts are combined.
* An array whose places do not move with the turn is **scratch** if nothing else touches it, and there once for each
  thread; if turns only add to it, or add at places that they choose, it is **shared**, and there once for each part.
* All other arrays are read, or written by each turn at places of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import field, replace

from dgraph.classes import dataclass
from dgraph.kernels.lanes import NEUTRAL, total_of
from dgraph.kernels.nest_parts import blocks_of, expressions_of, locals_of, parts, read_first, set_locals, walk
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Call,
    Copy,
    Expression,
    Extent,
    Fill,
    If,
    Let,
    Load,
    Local,
    Loop,
    Matrix,
    MatrixProduct,
    Note,
    Point,
    Statement,
    Store,
    Sum,
    Swap,
    Update,
    While,
    number,
)
from dgraph.kernels.plan import aliases
from dgraph.kernels.rewrite_nests import change_block, with_buffers
from dgraph.kernels.schedule import growth
from dgraph.kernels.views import as_static, coefficient
from dgraph.sizes import Quotient, Size, size, variable

_EXACT = {("add", "i32"), ("add", "i64")}
_IDEMPOTENT = {"maximum", "minimum", "logical_and", "logical_or"}
_PLAIN = Let | Store | Update | Fill | Copy | MatrixProduct | If | While | Loop | Note | Call | Point | Swap
_WORK = {"div": 8, "sqrt": 8, "floor_divide": 8, "mod": 8}
_CHEAP = {
    *("add", "sub", "mul", "neg", "abs", "maximum", "minimum", "select", "cast", "fma", "sign", "relu"),
    *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_and", "logical_or"),
    *("logical_not", "stop_gradient", "floor", "ceil", "round", "isnan", "isfinite"),
}
_ELEMENTARY = 15
_UNKNOWN = 16
"""Turns of a loop of unknown length."""
_PRODUCTS = 8
"""Multiplications of a matrix product that count as one operation."""

Range = tuple[Size | None, Size | None]


class NotApart(Exception):
    """Threads cannot take turns at a loop."""


@dataclass(frozen=True)
class _Access:
    """One access of a loop's body: by how much it moves from turn to turn, what it reaches from there on, and whether
    it reads, stores, or combines by an operation."""

    buffer: Buffer
    step: Size | None
    reach: Range
    kind: str


@dataclass
class Turns:
    """What the turns of a loop need apart. `sums` are totals of floats, `totals` others with their operation; `shared`
    arrays are combined by an operation; `turns` bounds their number and `work` is what they do in all."""

    sums: list[Local] = field(default_factory=list)
    totals: dict[Local, str] = field(default_factory=dict)
    scratch: list[Buffer] = field(default_factory=list)
    shared: dict[Buffer, str] = field(default_factory=dict)
    turns: Size = size(0)
    work: Size = size(0)


def turns_of(around: Block, loop: Loop, results: Iterable[Local], private: Set[Buffer]) -> Turns:
    """What the turns of a loop need apart. It stands in a block, which leaves locals behind; nothing but the loop
    touches the arrays `private`. Raises `NotApart`."""
    return _Survey(around, loop).run(set(results), private)


def opened(block: Block) -> Block:
    """A block with what kernels do in place of their calls."""
    found: list[Statement] = []
    for statement in block:
        match statement:
            case Call(kernel=kernel, buffers=buffers, scalars=scalars, results=results):
                found += _given(kernel.scalars, scalars)
                found += opened(with_buffers(kernel.body, dict(zip(kernel.buffers, buffers, strict=True))))
                found += _given(results, kernel.results)
            case Loop():
                found.append(Loop(statement.index, statement.stop, opened(statement.body), start=statement.start))
            case If():
                found.append(If(statement.condition, opened(statement.then), opened(statement.otherwise)))
            case _:
                found.append(statement)
    return tuple(found)


def is_place(expression: Expression, loop: Loop) -> bool:
    """Whether an expression is the place of a turn among the lanes of its loop."""
    match expression:
        case Apply(op="mod", operands=(left, right)):
            return loop.lanes > 0 and left is loop.index and right == number(loop.lanes)
    return False


def with_place(block: Block, loop: Loop, place: Expression) -> Block:
    """A block with another expression in place of the place of a turn among the lanes of its loop."""

    def changed(expression: Expression) -> Expression:
        if is_place(expression, loop):
            return place
        match expression:
            case Apply(operands=operands):
                return replace(expression, operands=tuple(map(changed, operands)))
            case Load(index=index):
                return replace(expression, index=changed(index))
            case Sum(index=index, count=count):
                return replace(expression, index=changed(index), count=changed(count))
        return expression

    return change_block(block, changed, {}) if loop.lanes else block


def _given(locals_: Sequence[Local], values: Sequence[Expression]) -> list[Statement]:
    return [Let(local, value) for local, value in zip(locals_, values, strict=True) if local is not value]


class _Survey:
    def __init__(self, around: Block, loop: Loop) -> None:
        self.around, self.loop = around, loop
        self.place = Local("place", "i64")
        self.body = with_place(opened(loop.body), loop, self.place)
        self.inside = list(walk(self.body))
        self.lets: dict[Local, list[Expression]] = {}
        self.indices: dict[Local, Loop] = {}
        for statement in (*around, *self.inside):
            if isinstance(statement, Let):
                self.lets.setdefault(statement.local, []).append(statement.value)
            elif isinstance(statement, Loop):
                self.indices[statement.index] = statement
        self.ranges: dict[Local, Range] = {}
        self.growth = growth(loop.index, self.body)

    def run(self, results: set[Local], private: Set[Buffer]) -> Turns:
        """All that there is to know."""
        if not all(isinstance(statement, _PLAIN) for statement in self.inside):
            raise NotApart
        found = Turns()
        self.find_totals(found, results)
        self.ranges.clear()
        length = _difference(self.range(self.loop.stop)[1], self.range(self.loop.start)[0] or size(0))
        if length is None or not _is_known(length):
            raise NotApart
        found.turns = length
        found.work = length * self.work(self.body)
        self.ranges = {self.loop.index: (size(0), size(0))}
        self.find_arrays(found, private)
        return found

    # ---- totals --------------------------------------------------------------------------------------------------

    def find_totals(self, found: Turns, results: set[Local]) -> None:
        given = {local for statement in self.inside for local in set_locals(statement)}
        carried = [local for local in read_first(self.body)[0] if local in given]
        for local in carried:
            op = self.total(local)
            if (op, local.type) in (("add", "f32"), ("add", "f64")):
                if sum(isinstance(s, Let) and s.local is local for s in self.loop.body) != 1:
                    raise NotApart
                found.sums.append(local)
            elif op in _IDEMPOTENT or (op, local.type) in _EXACT:
                found.totals[local] = op
            else:
                raise NotApart
        place = next(at for at, statement in enumerate(self.around) if statement is self.loop)
        left = (given | {self.loop.index}) & (results | set(read_first(self.around[place + 1 :])[0]))
        if left - set(carried):
            raise NotApart

    def total(self, local: Local) -> str:
        """The operation by which turns change a local that they do not read otherwise."""
        ops: set[str] = set()
        lets = 0
        for statement in self.inside:
            if isinstance(statement, Let) and statement.local is local:
                change = total_of(statement)
                if change is None or local in locals_of(change[1]):
                    raise NotApart
                ops.add(change[0])
                lets += 1
            elif any(local in locals_of(expression) for expression in expressions_of(statement)):
                raise NotApart
        (op, *others) = ops
        if others or (op == "add" and lets > 1):
            raise NotApart
        return op

    # ---- arrays --------------------------------------------------------------------------------------------------

    def find_arrays(self, found: Turns, private: Set[Buffer]) -> None:
        by_buffer: dict[Buffer, list[_Access]] = {}
        pointers = aliases(self.body)
        for access in self.accesses():
            for buffer in pointers.get(access.buffer, (access.buffer,)):
                if buffer not in pointers:
                    by_buffer.setdefault(buffer, []).append(access)
        for buffer, accesses in by_buffer.items():
            kinds = {access.kind for access in accesses}
            if kinds == {"read"}:
                continue
            steps = {access.step for access in accesses}
            is_fixed = all(step is not None and not step.terms for step in steps)
            if is_fixed and any(access.buffer is not buffer for access in accesses) and buffer not in private:
                raise NotApart
            if is_fixed and buffer in private:
                found.scratch.append(buffer)
            elif not is_fixed and None not in steps and self.is_apart(accesses, kinds, found.turns):
                continue
            elif len(kinds) == 1 and (*kinds, buffer.type) in NEUTRAL:
                (found.shared[buffer],) = kinds
            else:
                raise NotApart

    def is_apart(self, accesses: Sequence[_Access], kinds: set[str], turns: Size) -> bool:
        """Whether no turn touches what another writes. Points of an index space store at places of their own; for all
        else that is shown."""
        (step, *others) = {access.step for access in accesses}
        if others or step is None or not step.is_nonnegative():
            return False
        return kinds == {"store"} or all(
            _meets_at_one(step, turns, one.reach, other.reach)
            for at, one in enumerate(accesses)
            for other in accesses[: at + 1]
        )

    def accesses(self) -> Iterator[_Access]:
        """All accesses of the body."""
        for statement in self.inside:
            for expression in expressions_of(statement):
                for part in parts(expression):
                    if isinstance(part, Load):
                        yield self.access(part.buffer, part.index, "read")
                    elif isinstance(part, Sum):
                        yield self.access(part.buffer, part.index, "read", part.count)
            match statement:
                case Store(buffer=buffer, index=index):
                    yield self.access(buffer, index, "store")
                case Update(buffer=buffer, index=index, op=op):
                    yield self.access(buffer, index, op)
                case Fill(buffer=buffer, index=index, count=count):
                    yield self.access(buffer, index, "store", count)
                case Copy():
                    yield self.access(statement.target, statement.target_index, "store", statement.count)
                    yield self.access(statement.source, statement.source_index, "read", statement.count)
                case Point(to=to, index=index):
                    yield self.access(to, index, "read")
                case MatrixProduct(target=target, left=left, right=right):
                    counts = statement.rows, statement.columns, statement.inner
                    kind = "add" if statement.adds else "store"
                    yield self.matrix(target, counts[0], counts[1], kind)
                    yield self.matrix(left, counts[0], counts[2], "read")
                    yield self.matrix(right, counts[2], counts[1], "read")

    def access(self, buffer: Buffer, index: Expression, kind: str, count: Expression | None = None) -> _Access:
        """An access of one entry, or of several in a row."""
        low, high = self.range(index)
        if count is not None:
            high = _sum(high, _difference(self.range(count)[1], size(1)))
        return _Access(buffer, coefficient(index, self.loop.index, self.growth), (low, high), kind)

    def matrix(self, matrix: Matrix, rows: Expression, columns: Expression, kind: str) -> _Access:
        low, high = self.range(matrix.index)
        for count, step in ((rows, matrix.down), (columns, matrix.across)):
            last = _difference(self.range(count)[1], size(1))
            high = None if high is None or last is None or not step.is_nonnegative() else high + last * step
        return _Access(matrix.buffer, coefficient(matrix.index, self.loop.index, self.growth), (low, high), kind)

    # ---- ranges of indices -----------------------------------------------------------------------------------------

    def range(self, expression: Expression) -> Range:
        """The least and the greatest value of an index in the first turn, as far as they are known."""
        static = as_static(expression)
        if static is not None:
            return static, static
        match expression:
            case Local():
                if expression not in self.ranges:
                    # Where a value follows from itself nothing is known of it.
                    self.ranges[expression] = (None, None)
                    self.ranges[expression] = self.range_of(expression)
                return self.ranges[expression]
            case Apply(op=op, type="i64", operands=(left, right)):
                return self.combined(op, self.range(left), self.range(right))
        return None, None

    def range_of(self, local: Local) -> Range:
        if local is self.place:
            return size(0), size(self.loop.lanes - 1)
        if local in self.indices:
            loop = self.indices[local]
            return self.range(loop.start)[0], _difference(self.range(loop.stop)[1], size(1))
        values = self.lets.get(local, ())
        if not values:
            return variable(local), variable(local)
        return self.range(values[0]) if len(values) == 1 else (None, None)

    def combined(self, op: str, left: Range, right: Range) -> Range:
        match op:
            case "add":
                return _sum(left[0], right[0]), _sum(left[1], right[1])
            case "sub":
                return _difference(left[0], right[1]), _difference(left[1], right[0])
            case "mul":
                factor = right[0]
                if factor is not None and factor == right[1] and factor.is_nonnegative():
                    return tuple(None if end is None else end * factor for end in left)  # type: ignore[return-value]
            case "minimum":
                known = [high for high in (left[1], right[1]) if high is not None]
                return None, min(known, key=lambda high: high.constant is None, default=None)
            case "maximum" if left[1] is not None and right[1] == size(0):
                return None, left[1]
            case "floor_div" | "floor_divide" if right[0] is not None and right[0] == right[1]:
                low, high = (None if end is None else end // right[0] for end in left)
                return low, high
            case "mod" if right[1] is not None:
                return size(0), right[1] - 1
        return None, None

    # ---- work ------------------------------------------------------------------------------------------------------

    def work(self, block: Block) -> Size:
        """About how many operations a block is, as numbers of which a vector holds eight."""
        total = size(0)
        for statement in block:
            total = total + self.own_work(statement)
            inner = size(0)
            for held in blocks_of(statement):
                inner = inner + self.work(held)
            if isinstance(statement, Loop):
                inner = inner * self.length(statement)
            total = total + (inner * 4 if isinstance(statement, While) else inner)
        return total

    def own_work(self, statement: Statement) -> Size:
        match statement:
            case MatrixProduct():
                counts = (statement.rows, statement.columns, statement.inner)
                rows, columns, inner = (self.bound(self.range(count)[1]) for count in counts)
                return (rows * columns * inner) // _PRODUCTS
            case Fill(count=count) | Copy(count=count):
                return self.bound(self.range(count)[1]) // 4
        total = size(0)
        for expression in expressions_of(statement):
            for part in parts(expression):
                if isinstance(part, Load):
                    total = total + 1
                elif isinstance(part, Sum):
                    total = total + self.bound(self.range(part.count)[1]) // 2
                elif isinstance(part, Apply) and part.type != "i64":
                    total = total + (1 if part.op in _CHEAP else _WORK.get(part.op, _ELEMENTARY))
        return total + isinstance(statement, Store | Update)

    def length(self, loop: Loop) -> Size:
        """About how many turns a loop makes."""
        return self.bound(_difference(self.range(loop.stop)[1], self.range(loop.start)[0] or size(0)))

    def bound(self, count: Size | None) -> Size:
        """A count that the sizes of the program decide."""
        return size(_UNKNOWN) if count is None or not _is_known(count) else count


def _meets_at_one(step: Size, turns: Size, one: Range, other: Range) -> bool:
    """Whether what two accesses reach from the places of their turns meets only where the turn is the same."""
    if None in (*one, *other):
        return False
    (low, high), (least, most) = one, other
    assert low is not None and high is not None and least is not None and most is not None
    is_near = (step - 1 - (high - least)).is_nonnegative() and (step - 1 - (most - low)).is_nonnegative()
    is_far = any((gap - turns * step + step - 1).is_nonnegative() for gap in (low - most, least - high))
    return is_near or is_far


def _is_known(count: Size) -> bool:
    """Whether the size variables of the program decide a count."""
    return all(isinstance(atom, str | Quotient) for atom in count.atoms())


def _sum(one: Size | None, other: Size | None) -> Size | None:
    return None if one is None or other is None else one + other


def _difference(one: Size | None, other: Size | None) -> Size | None:
    return None if one is None or other is None else one - other


def given_sizes(statements: Iterable[Statement]) -> Iterator[str]:
    """The size variables that statements and the kernels that they call read."""
    for statement in statements:
        for expression in expressions_of(statement):
            for part in parts(expression):
                if isinstance(part, Extent):
                    yield from (atom for atom in part.size.atoms() if isinstance(atom, str))
        if isinstance(statement, Call):
            yield from statement.kernel.sizes


__all__ = ["NotApart", "Turns", "given_sizes", "turns_of"]
