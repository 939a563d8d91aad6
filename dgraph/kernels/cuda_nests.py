"""Cutting a loop program for a device: every outermost parallel nest becomes a kernel, and so does every run of scalar
statements between them, for one thread. What remains is a driver that launches kernels, loops and chooses.

Scalars that kernels make stay on the device, in arrays of one entry. The driver itself knows sizes, numbers among the
arguments and its own loop indices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import field, replace

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE, NotSupported, Span
from dgraph.ir.graph import Graph, Region
from dgraph.kernels.cuda_scalars import NEUTRAL
from dgraph.kernels.lower import lower_graph
from dgraph.kernels.nest_parts import (
    blocks_of,
    distinct,
    expressions_of,
    locals_of,
    parts,
    read_buffers,
    read_first,
    set_locals,
    walk,
    written_buffers,
)
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Call,
    Copy,
    Expression,
    Extent,
    Fail,
    Fill,
    If,
    Kernel,
    Let,
    Load,
    Local,
    Loop,
    MatrixProduct,
    Note,
    Point,
    PointTape,
    Program,
    Routine,
    Statement,
    Store,
    Swap,
    TapeReserve,
    TapeSetTop,
    TapeTop,
    Update,
    While,
)
from dgraph.kernels.outline import sizes_of
from dgraph.kernels.structure import shape_of
from dgraph.kernels.tidy import tidy
from dgraph.kernels.views import ZERO, coefficient, plus
from dgraph.sizes import size


@dataclass(frozen=True, eq=False)
class CudaProgram:
    """A program cut into kernels. `slots` are the scalars that live on the device, `shared` the arrays that several
    kernels touch; `places` say where in the source the ops of the graph stand, by name."""

    program: Program
    slots: frozenset[Expression]
    shared: frozenset[Buffer]
    places: dict[str, Span]
    span: Span

    def refuse(self, what: str, span: Span = NOWHERE, op: str = "") -> NotSupported:
        """The error for what has no CUDA source yet, at the best place known."""
        return refusal(what, self.places.get(op, self.span) if span is NOWHERE else span)


def refusal(what: str, span: Span) -> NotSupported:
    """The error for what has no CUDA source yet."""
    note = "the CPU kernels can do this"
    return NotSupported.at(span, f"{what} cannot be printed for CUDA yet", "needed here", note=note)


def cuda_program(graph: Graph, checks: str = "on") -> CudaProgram:
    """The program of a graph, cut and tidied. Raises `NotSupported` for what has no CUDA source yet."""
    places: dict[str, Span] = {}
    _find_places(graph.region, places)
    program = lower_graph(graph, checks == "on", products=False)
    for statement in walk(program.body):
        _refuse_tapes(statement, places, graph.span)
    cutter = _Cutter(program)
    body = cutter.block(program.body)
    cut = replace(program, body=body, kernels=tuple(cutter.kernels.values()))
    return CudaProgram(tidy(cut), frozenset(cutter.slots), frozenset(cutter.shared), places, graph.span)


def _find_places(region: Region, places: dict[str, Span]) -> None:
    """The first place of each op."""
    for node in region.nodes:
        places.setdefault(node.op.name, node.span)
        if getattr(node.op, "tapes", 0):
            places.setdefault("tape", node.span)
        for inner in node.regions:
            _find_places(inner, places)


def _refuse_tapes(statement: Statement, places: dict[str, Span], span: Span) -> None:
    tops = (part for expression in expressions_of(statement) for part in parts(expression))
    if isinstance(statement, PointTape | TapeReserve | TapeSetTop) or any(isinstance(part, TapeTop) for part in tops):
        place = places.get("tape", places.get("for", places.get("while", span)))
        raise refusal("a loop that writes or walks a tape", place)
    if isinstance(statement, MatrixProduct):
        raise refusal("a matrix product", places.get("dot", span))
    if isinstance(statement, Routine):
        is_disk = statement.name.startswith("disk_")
        raise refusal("a state on disk" if is_disk else f"`{statement.name}` of linear algebra", statement.span)


# ---- cutting ---------------------------------------------------------------------------------------------------------


@dataclass
class _Cutter:
    program: Program
    kernels: dict[object, Kernel] = field(default_factory=dict)
    slots: set[Expression] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.readers: dict[Local, set[Statement]] = {}
        for statement in walk(self.program.body):
            for expression in expressions_of(statement):
                for local in locals_of(expression):
                    self.readers.setdefault(local, set()).add(statement)
        touched = Counter(buffer for unit in _units(self.program.body) for buffer in _touched(unit))
        self.shared = {buffer for buffer, count in touched.items() if count > 1}

    def block(self, block: Block) -> Block:
        """A block of the driver."""
        done: list[Statement] = []
        scalars: list[Statement] = []
        for statement in block:
            if isinstance(statement, Note):
                continue
            if _is_scalar(statement):
                scalars.append(statement)
                continue
            done += self.one_thread(scalars)
            scalars = []
            done += self.statement(statement)
        return (*done, *self.one_thread(scalars))

    def statement(self, statement: Statement) -> list[Statement]:
        match statement:
            case Loop(kind="parallel"):
                return self.nest(statement)
            case Fill() | Copy():
                return self.nest(as_nest(statement))
            case Point(index=index):
                before, (index,) = self.on_host([index])
                return [*before, replace(statement, index=index)]
            case Loop():
                before, (start, stop) = self.on_host([statement.start, statement.stop])
                return [*before, replace(statement, start=start, stop=stop, body=self.block(statement.body))]
            case If(condition=condition):
                before, (condition,) = self.on_host([condition])
                return [*before, If(condition, self.block(statement.then), self.block(statement.otherwise))]
            case While():
                test = self.block(statement.test)
                before, (condition,) = self.on_host([statement.condition])
                return [While((*test, *before), condition, self.block(statement.body))]
        return [statement]

    def on_host(self, expressions: list[Expression]) -> tuple[list[Statement], list[Expression]]:
        """Expressions that the driver can evaluate: what needs the device is computed there before."""
        before: list[Statement] = []
        found: list[Expression] = []
        for expression in expressions:
            inner = list(parts(expression))
            is_known = isinstance(expression, Local)
            if not is_known and any(isinstance(part, Load) or part in self.slots for part in inner):
                local = Local("found", expression.type)
                self.readers[local] = {Note("read by the driver")}
                before += self.one_thread([Let(local, expression)])
                expression = local
            found.append(expression)
        return before, found

    def nest(self, nest: Loop) -> list[Statement]:
        """The launch of a nest, whose number of points the driver must know."""
        before, (stop,) = self.on_host([nest.stop])
        return [*before, self.call((replace(nest, stop=stop),), nest.note)]

    def one_thread(self, statements: list[Statement]) -> list[Statement]:
        """The launch of a run of scalar statements, unless nothing comes of them."""
        return [self.call(tuple(statements), "")] if statements else []

    def call(self, body: Block, note: str) -> Call:
        whole = list(walk(body))
        inside = set(whole)
        own = distinct(s.buffer for s in whole if isinstance(s, Point))
        buffers = distinct(b for s in whole for b in (*read_buffers(s), *written_buffers(s)) if b not in own)
        given = distinct(local for s in whole if not isinstance(s, Loop) for local in set_locals(s))
        results = tuple(local for local in given if self.readers.get(local, set()) - inside)
        self.slots.update(results)
        scalars = tuple(dict.fromkeys((*read_first(body)[0], *results)))
        can_fail = any(isinstance(statement, Fail) for statement in whole)
        sizes = tuple(distinct(name for statement in whole for name in sizes_of(statement)))
        name = f"kernel_{len(self.kernels)}"
        kernel = Kernel(name, tuple(buffers), scalars, sizes, results, tuple(own), body, False, can_fail, note)
        # A scalar on the device is read another way than a number, so it is part of what makes kernels equal.
        flags = [local in self.slots for local in scalars], [(b.kind, b in self.shared) for b in buffers]
        key = shape_of(kernel), str(flags)
        known = self.kernels.setdefault(key, kernel)
        return Call(known, kernel.buffers, kernel.scalars, kernel.results)


def _units(block: Block) -> Iterator[Statement]:
    """The statements that the driver runs one after another, nests being one."""
    for statement in block:
        inner = blocks_of(statement)
        if not inner or (isinstance(statement, Loop) and statement.kind == "parallel"):
            yield statement
        else:
            for held in inner:
                yield from _units(held)


def _touched(unit: Statement) -> set[Buffer]:
    return {b for statement in walk((unit,)) for b in (*read_buffers(statement), *written_buffers(statement))}


def _is_scalar(statement: Statement) -> bool:
    """Whether one thread is right for a statement: no work that grows with an array."""
    if isinstance(statement, Fill | Copy | MatrixProduct | Point | Swap) or is_point_loop(statement):
        return False
    if isinstance(statement, Loop) and statement.kind == "parallel":
        return False
    return all(_is_scalar(inner) for block in blocks_of(statement) for inner in block)


def as_nest(statement: Fill | Copy) -> Loop:
    """A block of memory filled or copied, entry by entry."""
    k = Local("k", "i64")
    if isinstance(statement, Fill):
        entry: Statement = Store(statement.buffer, plus(statement.index, k), statement.value)
    else:
        source = Load(statement.source, plus(statement.source_index, k))
        entry = Store(statement.target, plus(statement.target_index, k), source)
    return Loop(k, statement.count, (entry,), "parallel")


# ---- the points of a nest --------------------------------------------------------------------------------------------


def is_point_loop(statement: Statement) -> bool:
    """Whether a loop can be one of those whose turns are dealt out to threads."""
    if not isinstance(statement, Loop) or statement.kind != "parallel":
        return False
    return isinstance(statement.stop, Extent) and isinstance(statement.start, Extent) and not statement.start.size.terms


def points_of(kernel: Kernel) -> tuple[list[Loop], Block]:
    """The loops whose turns are dealt out to threads, and what is done at a point. Scalar statements have no loops."""
    chain: list[Loop] = []
    body = kernel.body
    while len(body) == 1 and isinstance(body[0], Loop) and body[0].kind == "parallel":
        if chain and not (is_point_loop(chain[0]) and is_point_loop(body[0])):
            break
        chain.append(body[0])
        body = body[0].body
    return chain, body


def total_op(local: Local, kernel: Kernel) -> str | None:
    """The operation by which the points of a kernel gather a total, or None if that is not what they do."""
    ops: set[str] = set()
    for statement in walk(kernel.body):
        reads = [part for expression in expressions_of(statement) for part in locals_of(expression)]
        match statement:
            case Let(local=target, value=Apply(op=op, operands=(left, _))) if target is local and left is local:
                ops.add(op if reads.count(local) == 1 and local.type in NEUTRAL.get(op, {}) else "")
            case _:
                if local in reads or local in set_locals(statement):
                    return None
    return ops.pop() if len(ops) == 1 and "" not in ops else None


def private_buffers(kernel: Kernel, shared: Set[Buffer]) -> list[Buffer]:
    """The arrays that every point makes for itself: not `shared` with other kernels, and written at places that do not
    depend on the point, or through a pointer."""
    chain, body = points_of(kernel)
    if not chain:
        return []
    dependent: list[set[Local]] = []
    for loop in chain:
        found = {loop.index}
        for statement in walk(body):
            if isinstance(statement, Let) and found & set(locals_of(statement.value)):
                found.add(statement.local)
        dependent.append(found)
    private: dict[Buffer, None] = {}
    for statement in walk(body):
        for buffer, index in _writes(statement):
            read = set(locals_of(index))
            if buffer.kind == "arena" and buffer not in shared and not all(read & found for found in dependent):
                private.setdefault(buffer)
    return list(private)


def _writes(statement: Statement) -> Iterable[tuple[Buffer, Expression]]:
    match statement:
        case Store(buffer=buffer, index=index) | Fill(buffer=buffer, index=index):
            yield buffer, index
        case Copy(target=buffer, target_index=index):
            yield buffer, index
        case Point(to=buffer):
            yield buffer, ZERO


def is_own_entry(update: Update, kernel: Kernel) -> bool:
    """Whether every point updates an entry of its own, and all updates of the array go there."""
    chain, body = points_of(kernel)
    indices = [s.index for s in walk(body) if isinstance(s, Update) and s.buffer is update.buffer]
    if any(index != update.index for index in indices):
        return False
    if not set(locals_of(update.index)) <= {loop.index for loop in chain}:
        return False
    waiting, stride = list(chain), size(1)
    while waiting:
        found = next((loop for loop in waiting if coefficient(update.index, loop.index, {}) == stride), None)
        if found is None or not isinstance(found.stop, Extent):
            return len(waiting) == 1 and found is not None
        waiting.remove(found)
        stride = stride * found.stop.size
    return True
