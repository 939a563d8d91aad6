"""The loop program as numba-cuda source: each outermost nest is a kernel over the points of its loops, the rest is a
driver in Python that launches them.

Arrays are flat device arrays. A thread takes every so-manieth point; sums over all points are made block by block in
shared memory, and the blocks are added up by the driver in order. Entries that several points add to are changed by
atomic operations, whose order is not fixed. Loops that carry arrays inside a point and tapes are not printed yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dgraph.errors import NOWHERE, NotSupported, Span
from dgraph.ir.graph import Graph
from dgraph.kernels.cuda_helpers import PREAMBLE, for_driver, helpers_for
from dgraph.kernels.lower import lower_graph
from dgraph.kernels.nest_parts import expressions_of, parts, read_buffers, walk, written_buffers
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Call,
    Copy,
    Expression,
    Fail,
    Fill,
    Kernel,
    Let,
    Literal,
    Local,
    Loop,
    Point,
    Program,
    Statement,
    Store,
    Swap,
    Update,
)
from dgraph.kernels.outline import outline
from dgraph.kernels.printer import Printer, Text, literal
from dgraph.kernels.scalars import TIGHT
from dgraph.kernels.schedule import perfect
from dgraph.kernels.tidy import tidy
from dgraph.kernels.views import as_static, plus
from dgraph.sizes import Size, product

NUMBA_NAMES = {"f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64", "u8": "uint8", "bool": "boolean"}
NUMPY_NAMES = {**NUMBA_NAMES, "bool": "bool_"}
NEUTRAL: dict[str, dict[str, str]] = {
    "add": {},
    "mul": {},
    "maximum": {
        "f32": "-inf_f32",
        "f64": "-inf_f64",
        "i32": "i32(-2147483648)",
        "i64": "-9223372036854775808",
        "u8": "u8(0)",
    },
    "minimum": {
        "f32": "inf_f32",
        "f64": "inf_f64",
        "i32": "i32(2147483647)",
        "i64": "9223372036854775807",
        "u8": "u8(255)",
    },
    "logical_and": {"bool": "True"},
    "logical_or": {"bool": "False"},
}
_ATOMICS = {"add": "add", "maximum": "max", "minimum": "min"}
_THREADS = 128


def cuda_program(graph: Graph) -> Program:
    """The loop program of a graph with one kernel per nest and matrix products as nests."""
    return tidy(outline(lower_graph(graph, blas=False), for_device=True))


def cuda_text(graph: Graph) -> str:
    """The numba-cuda source of a graph. Raises `NotSupported` for what cannot be printed yet."""
    return print_cuda(cuda_program(graph))


def print_cuda(program: Program) -> str:
    """The numba-cuda source of a program made by `cuda_program`."""
    kernels = [_KernelPrinter(program, kernel).function() for kernel in program.kernels]
    driver = _DriverPrinter(program).function()
    helpers = helpers_for("\n".join([*kernels, driver]))
    return "\n\n".join(part for part in (PREAMBLE, helpers, *kernels, for_driver(driver)) if part)


def parameters(kernel: Kernel) -> list[tuple[str, str]]:
    """What a kernel takes, in order, as (array or scalar, machine type): buffers, scalars, sizes, partial totals, and
    the place where it reports a failed check."""
    found = [("array", buffer.type) for buffer in kernel.buffers]
    found += [("scalar", local.type) for local in kernel.scalars if local not in kernel.results]
    found += [("scalar", "i64") for _ in kernel.sizes]
    found += [("array", local.type) for local in kernel.results]
    return [*found, ("array", "i64")] if kernel.can_fail else found


def _refuse(what: str, span: Span) -> NotSupported:
    note = "the CPU kernels can do this"
    return NotSupported.at(span, f"{what} is not supported on CUDA yet", "needed here", note=note)


class _CudaPrinter(Printer):
    """Memory by indexing."""

    span: Span = NOWHERE

    def load(self, buffer: Buffer, index: Expression) -> Text:
        """A read."""
        return f"{self.buffer(buffer)}[{self.text(index)}]", TIGHT

    def store(self, buffer: Buffer, index: Expression, value: str) -> None:
        """A write."""
        self.line(f"{self.buffer(buffer)}[{self.text(index)}] = {value}")

    def special(self, expression: Expression) -> Text:
        """Tapes."""
        raise _refuse("a tape", self.span)

    def loop(self, loop: Loop) -> None:
        """A loop; what cannot be printed in it is reported at its place."""
        outer, self.span = self.span, loop.span if loop.span is not NOWHERE else self.span
        super().loop(loop)
        self.span = outer


class _KernelPrinter(_CudaPrinter):
    """One kernel: a loop over the points of a thread."""

    def __init__(self, program: Program, kernel: Kernel) -> None:
        super().__init__(program)
        self.kernel = kernel
        self.ops = {local: _total_op(local, kernel) for local in kernel.results}

    def function(self) -> str:
        """The kernel as a function."""
        kernel = self.kernel
        nest = _nest(kernel)
        self.span = nest.span
        for name in kernel.sizes:
            self.atom(name)
        formals = [self.buffer(buffer) for buffer in kernel.buffers]
        formals += [self.local(local) for local in kernel.scalars if local not in kernel.results]
        formals += [self.atom(name) for name in kernel.sizes]
        formals += [self.names.of(("partial", local), f"{local.name}_of_blocks") for local in kernel.results]
        if kernel.can_fail:
            formals.append("fault")
        self.points(nest)
        for local in kernel.results:
            self.finish(local)
        return "\n".join(["@cuda.jit", f"def {kernel.name}({', '.join(formals)}):", *self.lines]) + "\n"

    def points(self, nest: Loop) -> None:
        """The loop over points; the indices are taken from the number of the point."""
        chain, body = perfect(nest)
        self.check_writes([loop.index for loop in chain], body)
        self.comment(f"{nest.note}  {nest.span if nest.span is not NOWHERE else ''}")
        for local in self.kernel.results:
            self.line(f"{self.local(local)} = {_neutral(self.ops[local], local.type, self.span)}")
        stops = extents_of(chain)
        total = self.size(product(stops))[0]
        if len(chain) == 1:
            self.line(f"for {self.local(chain[0].index)} in range(cuda.grid(1), {total}, cuda.gridsize(1)):")
        else:
            rest = self.names.fresh("point")
            self.line(f"for {rest} in range(cuda.grid(1), {total}, cuda.gridsize(1)):")
            for place in range(len(chain) - 1, 0, -1):
                extent, level = self.size(stops[place])
                extent = extent if level > 5 else f"({extent})"
                self.line(f"    {self.local(chain[place].index)} = {rest} % {extent}")
                outer = self.local(chain[0].index) if place == 1 else self.names.fresh("point")
                self.line(f"    {outer} = {rest} // {extent}")
                rest = outer
        self.block(body)

    def check_writes(self, indices: list[Local], body: Block) -> None:
        """Every block that is written must be the point's own."""
        own = set(indices)
        for statement in walk(body):
            if isinstance(statement, Let) and any(local in own for local in _locals(expressions_of(statement))):
                own.add(statement.local)
        for statement in walk(body):
            place = _written_place(statement)
            if place is not None and not any(local in own for local in _locals([place])):
                raise _refuse("an array made at every point", self.span)

    def finish(self, local: Local) -> None:
        """The total of a block: pairs of threads, then pairs of pairs."""
        name, partial = self.local(local), self.names.of(("partial", local), "")
        shared, half = self.names.fresh(f"shared_{name}"), self.names.fresh("half")
        combined = self.text(
            Apply(self.ops[local], local.type, (Local("left", local.type), Local("right", local.type)))
        )
        left, right = f"{shared}[cuda.threadIdx.x]", f"{shared}[cuda.threadIdx.x + {half}]"
        combined = re.sub(r"\bleft\w*", left, re.sub(r"\bright\w*", right, combined))
        self.line(f"{shared} = cuda.shared.array({_THREADS}, {NUMBA_NAMES[local.type]})")
        self.line(f"{left} = {name}")
        self.line("cuda.syncthreads()")
        self.line(f"{half} = {_THREADS // 2}")
        self.line(f"while {half} > 0:")
        self.line(f"    if cuda.threadIdx.x < {half}:")
        self.line(f"        {left} = {combined}")
        self.line("    cuda.syncthreads()")
        self.line(f"    {half} = {half} // 2")
        self.line("if cuda.threadIdx.x == 0:")
        self.line(f"    {partial}[cuda.blockIdx.x] = {shared}[0]")

    def update(self, update: Update) -> None:
        """Other points may add to the same entry."""
        atomic = _ATOMICS.get(update.op)
        if atomic is None:
            raise _refuse(f"accumulating by {update.op}", self.span)
        place, value = self.text(update.index), self.text(update.value)
        self.line(f"cuda.atomic.{atomic}({self.buffer(update.buffer)}, {place}, {value})")

    def other(self, statement: Statement) -> None:
        """Blocks of memory go entry by entry; a failed check ends the thread."""
        match statement:
            case Fill(buffer=buffer, index=index, count=count, value=value):
                self.entries(count, buffer, index, value)
            case Copy(target=target, target_index=to, source=source, source_index=at, count=count):
                self.entries(count, target, to, (source, at))
            case Fail(check=check):
                self.line(f"fault[0] = {check}")
                self.line("return")
            case Point() | Swap():
                raise _refuse("a loop that carries arrays inside a point", self.span)
            case _:
                raise _refuse("a tape inside a point", self.span)

    def entries(
        self, count: Expression, target: Buffer, start: Expression, source: Literal | tuple[Buffer, Expression]
    ) -> None:
        """A loop that fills or copies."""
        step = Local("k", "i64")
        self.line(f"for {self.local(step)} in range({self.text(count)}):")
        self.depth += 1
        value = self.text(source) if isinstance(source, Literal) else self.load(source[0], plus(source[1], step))[0]
        self.store(target, plus(start, step), value)
        self.depth -= 1


class _DriverPrinter(_CudaPrinter):
    """The driver: host code that launches kernels one after another."""

    def function(self) -> str:
        """The driver as a function of flat device arrays, numbers, and the flat device arrays of the results."""
        program = self.program
        for name in program.sizes:
            self.atom(name)
        formals = [self.buffer(i) if isinstance(i, Buffer) else self.local(i) for i in program.inputs]
        formals += [self.buffer(output) for output in program.outputs]
        formals += [self.atom(name) for name in program.sizes]
        self.comment(f"{program.name}: arrays are flat device arrays; results are written to the last of them")
        if program.checks:
            self.line("fault = cuda.to_device([0])")
        for buffer in self.own_buffers():
            entries = self.size(buffer.entries)[0]
            self.line(f"{self.buffer(buffer)} = cuda.device_array(max({entries}, 1), np.{NUMPY_NAMES[buffer.type]})")
        self.depth = 0
        self.block(program.body)
        self.depth = 1
        self.line("cuda.synchronize()")
        head = f"def run({', '.join(formals)}):"
        return "\n".join([head, *self.lines]) + "\n"

    def own_buffers(self) -> list[Buffer]:
        """The arena buffers that the driver and its kernels use."""
        found: dict[Buffer, None] = {}
        for statement in walk(self.program.body):
            for buffer in _buffers(statement):
                if buffer.kind == "arena":
                    found.setdefault(buffer)
        return list(found)

    def other(self, statement: Statement) -> None:
        """Launches, blocks of memory, exchanges."""
        match statement:
            case Call():
                self.launch(statement)
            case Fill(buffer=buffer, index=index, count=count, value=value):
                self.line(f"{self.piece(buffer, index, count)}[:] = {self.text(value)}")
            case Copy(target=target, target_index=to, source=source, source_index=at, count=count):
                pieces = self.piece(target, to, count), self.piece(source, at, count)
                self.line(f"{pieces[0]}.copy_to_device({pieces[1]})")
            case Point(buffer=buffer, to=to, index=index):
                self.line(f"{self.buffer(buffer)} = {self.buffer(to)}[{self.text(index)}:]")
            case Swap(one=one, other=other):
                first, second = self.buffer(one), self.buffer(other)
                self.line(f"{first}, {second} = {second}, {first}")
            case Fail(check=check):
                self.line(f"raise RuntimeError({self.program.checks[check - 1].title!r})")
            case _:
                raise _refuse("a tape", self.span)

    def piece(self, buffer: Buffer, start: Expression, count: Expression) -> str:
        """So many entries from a place on."""
        return f"{self.buffer(buffer)}[{self.text(start)} : {self.text(plus(start, count))}]"

    def launch(self, call: Call) -> None:
        """A launch; totals of the blocks are added up in order."""
        kernel = call.kernel
        points = product(extents_of(perfect(_nest(kernel))[0]))
        arguments = [self.buffer(buffer) for buffer in call.buffers]
        scalars = zip(kernel.scalars, call.scalars, strict=True)
        arguments += [self.text(given) for local, given in scalars if local not in kernel.results]
        arguments += [self.atom(name) for name in kernel.sizes]
        partials = []
        grid = self.names.fresh("grid")
        self.line(f"{grid} = blocks({self.size(points)[0]})")
        for local in call.results:
            partial = self.names.fresh(f"{local.name}_of_blocks")
            partials.append((local, partial))
            self.line(f"{partial} = cuda.device_array({grid}, np.{NUMPY_NAMES[local.type]})")
            arguments.append(partial)
        if kernel.can_fail:
            arguments.append("fault")
        self.line(f"{kernel.name}[{grid}, THREADS]({', '.join(arguments)})")
        if kernel.can_fail:
            self.line("if fault[0] != 0:")
            titles = [check.title for check in self.program.checks]
            self.line(f"    raise RuntimeError({titles!r}[fault[0] - 1])")
        for (local, partial), mine in zip(partials, kernel.results, strict=True):
            entry = Local("part", local.type)
            name = self.names.fresh("part")
            self.names.known[entry] = name
            self.line(f"for {name} in {partial}.copy_to_host():")
            combined = Apply(_total_op(mine, kernel), local.type, (local, entry))
            self.line(f"    {self.local(local)} = {self.text(combined)}")


def _nest(kernel: Kernel) -> Loop:
    """The nest that a kernel consists of."""
    (nest,) = kernel.body
    assert isinstance(nest, Loop)
    return nest


def extents_of(chain: Sequence[Loop]) -> tuple[Size, ...]:
    """The extents of parallel loops, which are sizes."""
    found = [as_static(loop.stop) for loop in chain]
    return tuple(extent for extent in found if extent is not None)


def _total_op(local: Local, kernel: Kernel) -> str:
    """The operation by which a kernel gathers a total."""
    ops = set()
    for statement in walk(kernel.body):
        if isinstance(statement, Let) and statement.local is local:
            match statement.value:
                case Apply(op=op, operands=(left, _)) if left is local and op in NEUTRAL:
                    ops.add(op)
                case _:
                    ops.add("")
    if len(ops) != 1 or "" in ops:
        raise _refuse("a value that the points of an index space pass on", _nest(kernel).span)
    return ops.pop()


def _neutral(op: str, type_: str, span: Span) -> str:
    """What a total starts from."""
    if op in ("add", "mul"):
        return literal(0 if op == "add" else 1, type_)[0]
    found = NEUTRAL[op].get(type_)
    if found is None:
        raise _refuse(f"accumulating by {op}", span)
    return found


def _written_place(statement: Statement) -> Expression | None:
    match statement:
        case Store(index=index) | Fill(index=index) | Copy(target_index=index):
            return index
    return None


def _locals(expressions: Sequence[Expression]) -> Iterator[Local]:
    for expression in expressions:
        for part in parts(expression):
            if isinstance(part, Local):
                yield part


def _buffers(statement: Statement) -> Iterator[Buffer]:
    yield from read_buffers(statement)
    yield from written_buffers(statement)
