"""Loops whose turns threads share: the last step of the schedule.

The outermost loop of a nest, or a loop over blocks of points, is cut into parts (`split`), each a call of a kernel of
its own. What turns share (`thread_parts`) is there for each thread or part: scratch memory, terms of totals, arrays
that points add to. Small loops have one part, which is called as it would be without threads.
"""

from __future__ import annotations

from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.kernels.lanes import NEUTRAL
from dgraph.kernels.nest_parts import (
    distinct,
    expressions_of,
    parts,
    read_buffers,
    read_first,
    touching,
    walk,
    written_buffers,
)
from dgraph.kernels.nests import (
    WIDTHS,
    Apply,
    Block,
    Buffer,
    Call,
    Expression,
    Extent,
    Fill,
    If,
    Kernel,
    Let,
    Literal,
    Load,
    Local,
    Loop,
    MatrixProduct,
    Parts,
    Point,
    Program,
    Statement,
    Store,
    Update,
    While,
    number,
)
from dgraph.kernels.numba_source import needs_state
from dgraph.kernels.rewrite_nests import rename, with_buffers
from dgraph.kernels.rooms import LINE
from dgraph.kernels.split import ADDED, LEAST, MOST, MOST_APART, Copies, Split
from dgraph.kernels.thread_code import SLOT
from dgraph.kernels.thread_parts import NotApart, Turns, given_sizes, is_place, turns_of, with_place
from dgraph.kernels.views import ZERO, minus, plus, rounded_up, times
from dgraph.sizes import Size, size

ONE = number(1)
BAND = 128
"""Rows of a matrix product that stay together."""
_SIDE_BY_SIDE = 64
"""Turns of a loop without inner loops that stay together: they write to neighbouring entries."""


def in_threads(program: Program, least: int = LEAST) -> Program:
    """The program with its loops cut into parts where that may pay: each has so much work, at least."""
    return _Sharing(program, least).run()


@dataclass(frozen=True)
class _Cut:
    """A kernel cut into parts, how its loops are, the kernels of the parts, which of its arrays are scratch, and the
    arrays that calls of it need besides."""

    kernel: Kernel
    splits: tuple[Split, ...]
    parts: tuple[Kernel, ...]
    scratch: dict[Buffer, Copies]
    more: tuple[Buffer, ...]


class _Sharing:
    def __init__(self, program: Program, least: int) -> None:
        self.program = program
        self.least = least
        self.kernels = list(program.kernels)
        self.cuts: dict[Kernel, _Cut] = {}

    def run(self) -> Program:
        """All kernels cut that can be, and their calls."""
        body = self.with_blocks(self.program.body)
        touched = touching(body)
        calls: dict[Kernel, list[Call]] = {}
        for statement in walk(body):
            if isinstance(statement, Call):
                calls.setdefault(statement.kernel, []).append(statement)
        kernels: list[Kernel] = []
        splits: list[tuple[str, Split]] = []
        inner = {s.kernel for kernel in self.kernels for s in walk(kernel.body) if isinstance(s, Call)}
        for kernel in self.kernels:
            can_be_cut = kernel in calls and kernel not in inner and not kernel.uses_tapes
            cut = None
            if can_be_cut:
                private = _private(kernel, calls[kernel], touched)
                cut = _KernelCut(kernel, private, self.least, len(splits)).run()
            if cut is None:
                kernels.append(kernel)
                continue
            self.cuts[kernel] = cut
            kernels += [*cut.parts, cut.kernel]
            splits += [(kernel.name, split) for split in cut.splits]
        return replace(self.program, body=self.block(body), kernels=tuple(kernels), splits=tuple(splits))

    # ---- blocks of points that the driver runs -------------------------------------------------------------------

    def with_blocks(self, block: Block) -> Block:
        """A block with its loops over blocks of points as kernels."""
        return tuple(self.blocks_in(statement) for statement in block)

    def blocks_in(self, statement: Statement) -> Statement:
        match statement:
            case MatrixProduct(triangle="whole", runs=None):
                return self.as_kernel(_in_bands(statement)) or statement
            case Loop(apart=True) if _is_alone(statement):
                return self.as_kernel(statement) or statement
            case Loop(body=body):
                return replace(statement, body=self.with_blocks(body))
            case While(test=test, body=body):
                return replace(statement, test=self.with_blocks(test), body=self.with_blocks(body))
            case If(then=then, otherwise=otherwise):
                return If(statement.condition, self.with_blocks(then), self.with_blocks(otherwise))
        return statement

    def as_kernel(self, loop: Loop) -> Call | None:
        """The call of a kernel that runs a loop of the driver, if it can be cut."""
        kernel = _kernel_of(f"kernel_{len(self.kernels)}", loop)
        if _KernelCut(kernel, set(), self.least).run(is_trial=True) is None:
            return None
        self.kernels.append(kernel)
        return Call(kernel, kernel.buffers, kernel.scalars, ())

    # ---- calls -----------------------------------------------------------------------------------------------------

    def block(self, block: Block) -> Block:
        """A block with calls of the kernels that were cut."""
        return tuple(self.statement(statement) for statement in block)

    def statement(self, statement: Statement) -> Statement:
        match statement:
            case Call(kernel=kernel) if kernel in self.cuts:
                cut = self.cuts[kernel]
                buffers = [
                    replace(mine, entries=_pitch(theirs), copies=cut.scratch[theirs]) if theirs in cut.scratch else mine
                    for mine, theirs in zip(statement.buffers, kernel.buffers, strict=True)
                ]
                more = [replace(buffer) for buffer in cut.more]
                return replace(statement, kernel=cut.kernel, buffers=(*buffers, *more))
            case Loop(body=body):
                return replace(statement, body=self.block(body))
            case While(test=test, body=body):
                return replace(statement, test=self.block(test), body=self.block(body))
            case If(then=then, otherwise=otherwise):
                return If(statement.condition, self.block(then), self.block(otherwise))
        return statement


def _private(kernel: Kernel, calls: list[Call], touched: dict[Buffer, set[Statement]]) -> set[Buffer]:
    """The arrays of a kernel that nothing else touches, whichever call of it is looked at."""
    found = set(kernel.buffers)
    for call in calls:
        for mine, theirs in zip(call.buffers, kernel.buffers, strict=True):
            if mine.kind != "arena" or mine.entries != theirs.entries or touched[mine] != {call}:
                found.discard(theirs)
    return found


def _in_bands(product: MatrixProduct) -> Loop:
    """A matrix product as a loop over bands of its rows, in which it has the same bits."""
    band, count = Local("band", "i64"), Local("count", "i64")
    first = times(band, number(BAND))
    target, left = (
        replace(matrix, index=plus(matrix.index, times(first, Extent(matrix.down))))
        for matrix in (product.target, product.left)
    )
    rows = Let(count, _least(minus(product.rows, first), number(BAND)))
    body = (rows, replace(product, target=target, left=left, rows=count))
    return Loop(band, rounded_up(product.rows, BAND), body, note="product", apart=True)


def _is_alone(loop: Loop) -> bool:
    """Whether the kernels that a loop calls can be called by threads."""
    calls = [statement for statement in walk(loop.body) if isinstance(statement, Call)]
    return bool(calls) and not any(needs_state(call.kernel) for call in calls)


def _kernel_of(name: str, loop: Loop) -> Kernel:
    """A kernel that runs a loop of the driver."""
    inner = list(walk((loop,)))
    buffers = distinct(b for statement in inner for b in (*read_buffers(statement), *written_buffers(statement)))
    scalars = tuple(read_first((loop,))[0])
    note = next((call.kernel.note for call in inner if isinstance(call, Call)), "")
    return Kernel(name, tuple(buffers), scalars, tuple(distinct(given_sizes(inner))), (), (), (loop,), note=note)


def _pitch(buffer: Buffer) -> Size:
    """Entries from one copy of a buffer to the next, in whole lines of the cache."""
    line = LINE // WIDTHS[buffer.type]
    count = buffer.entries.constant
    return size(-(-count // line) * line) if count is not None else (buffer.entries + (line - 1)) // line * line


class _KernelCut:
    """A kernel being cut."""

    def __init__(self, kernel: Kernel, private: set[Buffer], least: int, first_split: int = 0) -> None:
        self.kernel = kernel
        self.least = least
        self.first_split = first_split
        self.private = private
        self.parts: list[Kernel] = []
        self.splits: list[Split] = []
        self.scratch: dict[Buffer, Copies] = {}
        self.more: list[Buffer] = []
        self.own: list[Buffer] = []

    def run(self, is_trial: bool = False) -> _Cut | None:
        """The kernel cut, or None if it has no loop that threads can share. In a trial every array may be private."""
        body: list[Statement] = []
        touched = touching(self.kernel.body)
        for statement in self.kernel.body:
            body += self.statement(statement, touched, is_trial)
        if not self.parts:
            return None
        kernel = self.kernel
        sizes = distinct((*kernel.sizes, *given_sizes(walk(tuple(body)))))
        buffers, own = (*kernel.buffers, *self.more), (*kernel.own, *self.own)
        whole = replace(kernel, body=tuple(body), buffers=buffers, own=own, sizes=tuple(sizes))
        return _Cut(whole, tuple(self.splits), tuple(self.parts), self.scratch, tuple(self.more))

    def statement(self, statement: Statement, touched: dict[Buffer, set[Statement]], is_trial: bool) -> Block:
        """The statements in place of one of the kernel's own."""
        if not isinstance(statement, Loop) or not (statement.apart or statement.kind == "parallel"):
            return (statement,)
        inside = set(walk((statement,)))
        private = {buffer for buffer in touched if touched[buffer] <= inside}
        if not is_trial:
            private &= self.private
        try:
            turns = turns_of(self.kernel.body, statement, self.kernel.results, private)
        except NotApart:
            return (statement,)
        added = size(0)
        for buffer in turns.shared:
            added = added + buffer.entries
        most = MOST_APART if turns.shared else MOST
        unit = size(self.least) + (ADDED * added if self.least > 1 else 0)
        split = Split(turns.work, unit, turns.turns, most)
        if (turns.work.constant is not None and turns.work.constant < 2 * self.least) or turns.turns.constant == 1:
            return (statement,)
        name = f"{self.kernel.name}_part{len(self.parts) or ''}"
        cut = _LoopCut(name, statement, turns, split, self.first_split + len(self.splits))
        for buffer in turns.scratch:
            self.scratch[buffer] = Copies(split, "threads")
        found = cut.run()
        self.parts.append(cut.kernel)
        self.splits.append(split)
        self.more += cut.more
        self.own += cut.own
        return found


class _LoopCut:
    """A loop being cut into parts: `kernel` runs a part, `more` and `own` are arrays and pointers that the kernel
    around needs."""

    def __init__(self, name: str, loop: Loop, turns: Turns, split: Split, place: int) -> None:
        self.name, self.loop, self.turns, self.split, self.place = name, loop, turns, split, place
        self.part, self.parts, self.slot = (Local(word, "i64") for word in ("part", "parts", "slot"))
        self.first, self.length = Local("first", "i64"), Local("length", "i64")
        has_inner = any(isinstance(statement, Loop | While | Call) for statement in walk(loop.body))
        self.step = loop.lanes or (1 if has_inner else _SIDE_BY_SIDE)
        self.more: list[Buffer] = []
        self.own: list[Buffer] = []
        self.given: dict[Buffer, Buffer] = {}
        self.before: list[Statement] = []
        self.inside: list[Statement] = []
        self.ending: list[Statement] = []
        self.after: list[Statement] = []

    def run(self) -> Block:
        """The statements in place of the loop."""
        body = self.loop.body
        for buffer in self.turns.scratch:
            body = self.with_pointer(body, buffer, times(self.slot, Extent(_pitch(buffer))))
        for buffer, op in self.turns.shared.items():
            body = self.add_shared(body, buffer, op)
        for total in self.turns.sums:
            body = self.add_sum(body, total)
        for total, op in self.turns.totals.items():
            self.add_total(total, op)
        call = self.call(body)
        together = rounded_up(minus(self.loop.stop, self.loop.start), self.step)
        length = Apply("floor_div", "i64", (plus(together, minus(self.parts, ONE)), self.parts))
        counts = Let(self.parts, Parts(self.place)), Let(self.length, times(length, number(self.step)))
        shared = Loop(self.part, self.parts, (call,), "threads")
        return *counts, *self.before, shared, *self.after

    def call(self, body: Block) -> Call:
        """The kernel of a part, and its call."""
        loop = self.loop
        last = Local("last", "i64")
        first = plus(loop.start, times(self.part, self.length))
        head = (Let(self.first, first), Let(last, _least(plus(self.first, self.length), loop.stop)))
        turns = replace(loop, start=self.first, stop=last, body=body)
        if any(is_place(part, loop) for s in walk(body) for e in expressions_of(s) for part in parts(e)):
            # Rows of lanes begin where lanes begin to be counted.
            lane = Local(loop.index.name, "i64")
            body = with_place(body, loop, Apply("mod", "i64", (lane, number(loop.lanes))))
            body = rename(body, {loop.index: plus(self.first, lane)})
            turns = replace(loop, index=lane, start=ZERO, stop=minus(last, self.first), body=body)
        whole: Block = (*head, *self.inside, turns, *self.ending)
        inner = list(walk(whole))
        own = distinct(statement.buffer for statement in inner if isinstance(statement, Point))
        touched = distinct(b for statement in inner for b in (*read_buffers(statement), *written_buffers(statement)))
        buffers = tuple(buffer for buffer in touched if buffer not in own)
        scalars = tuple(read_first(whole)[0])
        sizes = tuple(distinct(given_sizes(inner)))
        self.kernel = Kernel(self.name, buffers, scalars, sizes, (), tuple(own), whole, note=loop.note)
        slot = Apply(SLOT, "i64", (self.part,))
        given = tuple(slot if local is self.slot else local for local in scalars)
        return Call(self.kernel, tuple(self.given.get(buffer, buffer) for buffer in buffers), given, ())

    def with_pointer(self, body: Block, buffer: Buffer, start: Expression, base: Buffer | None = None) -> Block:
        """The body with an array replaced by its memory from an entry on."""
        pointer = Buffer(buffer.name, buffer.type, buffer.entries, "pointer")
        self.inside.append(Point(pointer, base or buffer, start))
        return with_buffers(body, {buffer: pointer})

    def add_shared(self, body: Block, buffer: Buffer, op: str) -> Block:
        """An array that turns add to: parts add to arrays of their own, one part to the array itself."""
        apart = Buffer(buffer.name, buffer.type, buffer.entries, copies=Copies(self.split, "apart"))
        target = Buffer(buffer.name, buffer.type, buffer.entries, "pointer")
        self.more.append(apart)
        self.own.append(target)
        self.before.append(If(self.is_one(), (Point(target, buffer),), (Point(target, apart),)))
        self.given[buffer] = target
        count = Extent(buffer.entries)
        changed = self.with_pointer(body, buffer, times(self.part, count))
        pointer = self.inside[-1]
        assert isinstance(pointer, Point)
        empty = Fill(pointer.buffer, ZERO, count, Literal(NEUTRAL[op, buffer.type], buffer.type))
        self.inside.append(If(self.is_one(), (), (empty,)))
        at, entry = Local("at", "i64"), Local("entry", "i64")
        update = Update(buffer, entry, Load(apart, plus(times(at, count), entry)), op)
        added = Loop(at, self.parts, (Loop(entry, count, (update,), "parallel"),))
        self.after.append(If(self.is_one(), (), (added,)))
        return changed

    def add_sum(self, body: Block, total: Local) -> Block:
        """A sum of floats: each turn leaves its term, and they are added in order."""
        terms = Buffer("terms", total.type, self.turns.turns)
        self.more.append(terms)
        turn = Local("turn", "i64")
        found: list[Statement] = []
        for statement in body:
            if isinstance(statement, Let) and statement.local is total:
                assert isinstance(statement.value, Apply)
                found.append(Store(terms, minus(self.loop.index, self.loop.start), statement.value.operands[1]))
            else:
                found.append(statement)
        added = Let(total, Apply("add", total.type, (total, Load(terms, turn))))
        self.after.append(Loop(turn, minus(self.loop.stop, self.loop.start), (added,), "ordered"))
        return tuple(found)

    def add_total(self, total: Local, op: str) -> None:
        """An extreme or a count: each part leaves its own."""
        ends = Buffer(total.name, total.type, size(1), copies=Copies(self.split, "parts"))
        self.more.append(ends)
        if op == "add":
            self.inside.append(Let(total, Literal(0, total.type)))
        self.ending.append(Store(ends, self.part, total))
        at = Local("at", "i64")
        combined = Let(total, Apply(op, total.type, (total, Load(ends, at))))
        self.after.append(Loop(at, self.parts, (combined,), "ordered"))

    def is_one(self) -> Expression:
        """Whether there is one part."""
        return Apply("less_equal", "bool", (self.parts, ONE))


def _least(one: Expression, other: Expression) -> Expression:
    return Apply("minimum", "i64", (one, other))


__all__ = ["in_threads"]
