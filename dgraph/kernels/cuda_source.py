"""The loop program as numba-cuda source: the same nests as on the processor, each a kernel, and a driver that launches
them.

Arrays are flat. The points of a nest are dealt out over the grid; what is done at a point, its inner loops included,
one thread does in order. A sum over all points is made by each thread, then by each block and then over the blocks,
always in the same order. Only entries that several points add to are changed by atomic operations, in any order.
"""

from __future__ import annotations

import re

from dgraph.errors import NOWHERE, Span
from dgraph.ir.graph import Graph
from dgraph.kernels.cuda_nests import (
    CudaProgram,
    as_nest,
    cuda_program,
    is_own_entry,
    points_of,
    private_buffers,
    total_op,
)
from dgraph.kernels.cuda_scalars import (
    DEVICE_FUNCTIONS,
    NEUTRAL,
    Unprintable,
    device_functions,
    scalar_text,
)
from dgraph.kernels.nest_parts import distinct, read_buffers, walk, written_buffers
from dgraph.kernels.nests import (
    Apply,
    Buffer,
    Call,
    Copy,
    Expression,
    Extent,
    Fail,
    Fill,
    If,
    Kernel,
    Local,
    Loop,
    Point,
    Program,
    Statement,
    Swap,
    Update,
)
from dgraph.kernels.printer import Names, Printer, Text, literal
from dgraph.kernels.scalars import TIGHT
from dgraph.sizes import Quotient, product

NUMPY = {"f32": "float32", "f64": "float64", "i32": "int32", "i64": "int64", "u8": "uint8", "bool": "bool_"}
"""The NumPy type of each machine type."""

THREADS, BLOCKS = 256, 1024
"""Threads of a block, and the most blocks of a launch."""

FAULT_WORDS = 33
"""Length of the array that a failed check leaves: its number, its values, the numbers of the loops around it."""

_LARGEST_LOCAL = 64
_OWN_NAMES = {"np", "run", "THREADS", "BLOCKS", "blocks", "boolean", "fault_floats", "int", "abs", "max", "min"}
_TOTALS = {"add": "add", "mul": "multiply", "maximum": "maximum", "minimum": "minimum"} | {
    "logical_and": "all",
    "logical_or": "any",
}
_ATOMIC = {
    "add": ("cuda.atomic.add", ("f32", "f64", "i32", "i64")),
    "maximum": ("atomic_maximum", ("f32", "f64", "i32", "i64")),
    "minimum": ("atomic_minimum", ("f32", "f64", "i32", "i64")),
}


def cuda_text(graph: Graph) -> str:
    """The numba-cuda source of a graph. Raises `NotSupported` for what cannot be printed yet."""
    return print_cuda(cuda_program(graph))


def ptx_text(graph: Graph) -> str:
    """The PTX of every kernel for compute capability 9.0; needs a toolkit but no device. Raises `KernelError` where
    there is none."""
    from dgraph.kernels.cuda_ptx import ptx_of_kernels

    return "\n".join(f"// {name}\n{text}" for name, text in ptx_of_kernels(graph).items())


def print_cuda(cut: CudaProgram, threads: int = THREADS, blocks: int = BLOCKS) -> str:
    """The source of a program that was cut into kernels."""
    kernels = [KernelPrinter(cut, kernel).function() for kernel in cut.program.kernels]
    driver = DriverPrinter(cut).function()
    gathered = [_gathering(op, type_) for op, type_ in gatherings(cut.program)]
    device = device_functions("\n".join([*kernels, *gathered]))
    body = "\n\n".join(f"{part.rstrip()}\n" for part in (*device, *gathered, *kernels, driver))
    return f"{_preamble(body, threads, blocks)}\n\n{body}"


def _preamble(body: str, threads: int, blocks: int) -> str:
    """Imports, and short names for the types and constants that a text uses."""
    words = set(re.findall(r"\w+", body))
    types = [type_ for type_ in ("f32", "f64", "i32", "i64", "u8") if type_ in words]
    constants = [f"{name}_{type_}" for type_ in ("f32", "f64") for name in ("inf", "nan")]
    used = [constant for constant in constants if constant in words]
    types = [t for t in NUMPY if t in types or any(constant.endswith(t) for constant in used)]
    lines = ["import math", ""] if "math" in words or used else []
    lines += ["import numpy as np", "from numba import cuda", ""]
    lines += [f"{type_} = np.{NUMPY[type_]}" for type_ in types]
    lines += [f"{name} = {name[-3:]}(math.{name[:3]})" for name in used]
    lines += [f"THREADS, BLOCKS = {threads}, {blocks}", "", ""]
    lines += ["def blocks(points):", "    return max(1, min((points + THREADS - 1) // THREADS, BLOCKS))"]
    return "\n".join(lines) + "\n"


def gatherings(program: Program) -> list[tuple[str, str]]:
    """The operation and type of every total over all points of a kernel."""
    found = [(total_op(local, k) or "", local.type) for k in program.kernels if points_of(k)[0] for local in k.results]
    return distinct(found)


def gathering_name(op: str, type_: str) -> str:
    """The name by which functions that gather totals are called."""
    return f"{_TOTALS[op]}_{type_}"


def _gathering(op: str, type_: str) -> str:
    """A device function that gathers the totals of a block, and a kernel that gathers those of all blocks."""
    name, shared = gathering_name(op, type_), f"np.{NUMPY[type_]}"

    def combined(left: str, right: str) -> str:
        return scalar_text(op, type_, [type_, type_], [(left, TIGHT), (right, TIGHT)], ())[0]

    return f"""\
@cuda.jit(device=True)
def block_{name}(value):
    # Pairs of threads, then pairs of pairs.
    held = cuda.shared.array(THREADS, {shared})
    thread, half = cuda.threadIdx.x, THREADS // 2
    held[thread] = value
    cuda.syncthreads()
    while half > 0:
        if thread < half:
            held[thread] = {combined("held[thread]", "held[thread + half]")}
        cuda.syncthreads()
        half = half // 2
    value = held[0]
    cuda.syncthreads()
    return value


@cuda.jit
def gather_{name}(parts, count, total):
    # One block: what the blocks of another kernel left.
    value = {literal(NEUTRAL[op][type_], type_)[0]}
    for part in range(cuda.threadIdx.x, count, THREADS):
        value = {combined("value", "parts[part]")}
    value = block_{name}(value)
    if cuda.threadIdx.x == 0:
        total[0] = {combined("total[0]", "value")}
"""


# ---- printers --------------------------------------------------------------------------------------------------------


def _names() -> Names:
    """Names for one function, none of which means something else in the source."""
    names = Names()
    names.taken |= _OWN_NAMES | set(DEVICE_FUNCTIONS)
    names.taken |= {f"{what}_{total}_{t}" for what in ("block", "gather") for total in _TOTALS.values() for t in NUMPY}
    return names


class _CudaPrinter(Printer):
    """What kernels and the driver share: memory by indexing, and the text of scalars."""

    def __init__(self, cut: CudaProgram) -> None:
        super().__init__(cut.program, _names())
        self.cut = cut
        self.span: Span = NOWHERE

    def load(self, buffer: Buffer, index: Expression) -> Text:
        """A read."""
        return f"{self.buffer(buffer)}[{self.text(index)}]", TIGHT

    def store(self, buffer: Buffer, index: Expression, value: str) -> None:
        """A write."""
        self.line(f"{self.buffer(buffer)}[{self.text(index)}] = {value}")

    def atom(self, atom: object) -> str:
        """An atom of a size; divisors are positive."""
        if isinstance(atom, Quotient):
            return f"(({self.size(atom.numerator)[0]}) // ({self.size(atom.denominator)[0]}))"
        return super().atom(atom)

    def expression(self, expression: Expression) -> Text:
        """An expression with its precedence."""
        if not isinstance(expression, Apply):
            return super().expression(expression)
        types = [operand.type for operand in expression.operands]
        operands = [self.expression(operand) for operand in expression.operands]
        try:
            return scalar_text(expression.op, expression.type, types, operands, expression.facts)
        except Unprintable:
            raise self.cut.refuse(f"`{expression.op}` of {types[0]}", op=expression.op) from None

    def choice(self, choice: If) -> None:
        """A choice; one that has only the other side is turned round."""
        if choice.then or not choice.otherwise:
            super().choice(choice)
            return
        turned = Apply("logical_not", "bool", (choice.condition,))
        super().choice(If(turned, choice.otherwise))


class KernelPrinter(_CudaPrinter):
    """One kernel."""

    def __init__(self, cut: CudaProgram, kernel: Kernel) -> None:
        super().__init__(cut)
        self.kernel = kernel
        self.chain, self.point = points_of(kernel)
        self.span = self.chain[0].span if self.chain else NOWHERE
        self.private = private_buffers(kernel, cut.shared)
        self.totals = {local: self.total(local) for local in kernel.results} if self.chain else {}
        self.given = [local for local in kernel.scalars if local not in self.totals]

    def total(self, local: Local) -> str:
        """The operation that gathers a total."""
        op = total_op(local, self.kernel)
        if op is None:
            raise self.cut.refuse("a value that the points of an index space pass on", self.span)
        return op

    def parameters(self) -> list[tuple[str, str]]:
        """What the kernel takes, in order, as (array or number, machine type)."""
        arrays = [buffer for buffer in self.kernel.buffers if not _is_local(buffer, self.private)]
        found = [("array", buffer.type) for buffer in arrays]
        found += [("array" if local in self.cut.slots else "number", local.type) for local in self.given]
        found += [("number", "i64") for _ in self.kernel.sizes]
        found += [("array", local.type) for local in self.totals]
        return [*found, ("array", "i64"), ("array", "f64")] if self.kernel.can_fail else found

    def function(self) -> str:
        """The kernel as a function."""
        kernel = self.kernel
        for name in kernel.sizes:
            self.atom(name)
        formals = [self.buffer(buffer) for buffer in kernel.buffers if not _is_local(buffer, self.private)]
        formals += [self.names.of(local, local.name) for local in self.given]
        formals += [self.atom(name) for name in kernel.sizes]
        formals += [self.names.of(("blocks", local), f"{local.name}_of_blocks") for local in self.totals]
        if kernel.can_fail:
            formals += ["fault", "fault_floats"]
        if self.chain:
            self.points()
        else:
            self.depth = 0
            self.block(kernel.body)
        return "\n".join(["@cuda.jit", f"def {kernel.name}({', '.join(formals)}):", *self.lines]) + "\n"

    def local(self, local: Local) -> str:
        """The name of a local, or the entry that holds it on the device."""
        name = self.names.of(local, local.name)
        return f"{name}[0]" if local in self.cut.slots and local not in self.totals else name

    def points(self) -> None:
        """The points of a thread, then its share of totals."""
        nest = self.chain[0]
        self.comment(f"{nest.note}  {nest.span if nest.span is not NOWHERE else ''}")
        for buffer in self.private:
            entries, name = self.size(buffer.entries), self.buffer(buffer)
            if _is_local(buffer, self.private):
                self.line(f"{name} = cuda.local.array({entries[0]}, np.{NUMPY[buffer.type]})")
            else:
                count = entries[0] if entries[1] >= 5 else f"({entries[0]})"
                self.line(f"{name} = {name}[cuda.grid(1) * {count} :]")
        for local, op in self.totals.items():
            self.line(f"{self.local(local)} = {literal(NEUTRAL[op][local.type], local.type)[0]}")
        self.deal()
        self.block(self.point)
        for local, op in self.totals.items():
            name = self.local(local)
            self.line(f"{name} = block_{gathering_name(op, local.type)}({name})")
        if self.totals:
            self.line("if cuda.threadIdx.x == 0:")
        for local in self.totals:
            self.line(f"    {self.names.of(('blocks', local), '')}[cuda.blockIdx.x] = {self.local(local)}")

    def deal(self) -> None:
        """The head of the loop over the points of a thread, and the indices from the number of a point."""
        first, *inner = self.chain
        head = "for {} in range(cuda.grid(1), {}, cuda.gridsize(1)):"
        if not inner:
            self.line(head.format(self.local(first.index), self.text(first.stop)))
            return
        extents = [loop.stop.size for loop in self.chain if isinstance(loop.stop, Extent)]
        rest = self.names.fresh("point")
        self.line(head.format(rest, self.size(product(tuple(extents)))[0]))
        for place in range(len(self.chain) - 1, 0, -1):
            extent, level = self.size(extents[place])
            extent = extent if level >= TIGHT else f"({extent})"
            outer = self.local(first.index) if place == 1 else self.names.fresh("point")
            self.line(f"    {outer}, {self.local(self.chain[place].index)} = {rest} // {extent}, {rest} % {extent}")
            rest = outer

    def update(self, update: Update) -> None:
        """Other points may update the same entry."""
        if not self.chain or update.buffer in self.private or is_own_entry(update, self.kernel):
            super().update(update)
            return
        type_, value = update.buffer.type, self.text(update.value)
        place = f"{self.buffer(update.buffer)}[{self.text(update.index)}]"
        if update.op in ("logical_and", "logical_or"):
            # Whoever writes, writes the same.
            self.line(f"if {value}:" if update.op == "logical_or" else f"if not ({value}):")
            self.line(f"    {place} = {update.op == 'logical_or'}")
            return
        name, types = _ATOMIC.get(update.op, ("", ()))
        if type_ not in types:
            raise self.cut.refuse(f"accumulating {type_} by {update.op} at shared places", self.span)
        self.line(f"{name}({self.buffer(update.buffer)}, {self.text(update.index)}, {value})")

    def other(self, statement: Statement) -> None:
        """Blocks of memory entry by entry; pointers as slices; a failed check ends the thread."""
        match statement:
            case Fill() | Copy():
                self.loop(as_nest(statement))
            case Point(buffer=buffer, to=to, index=index):
                self.line(f"{self.buffer(buffer)} = {self.buffer(to)}[{self.text(index)} :]")
            case Swap(one=one, other=other):
                first, second = self.buffer(one), self.buffer(other)
                self.line(f"{first}, {second} = {second}, {first}")
            case Fail(check=check, values=values):
                self.line(f"if report(fault, {check}):")
                for place, value in enumerate(values[: FAULT_WORDS - 1]):
                    name = "fault_floats" if value.type[0] == "f" else "fault"
                    self.line(f"    {name}[{place + 1}] = {self.text(value)}")
                self.line("return")
            case _:
                raise self.cut.refuse(f"a {type(statement).__name__}", self.span)


def _is_local(buffer: Buffer, private: list[Buffer]) -> bool:
    """Whether an array is short enough to lie in the memory of a thread."""
    entries = buffer.entries.constant
    return buffer in private and entries is not None and 0 < entries <= _LARGEST_LOCAL


class DriverPrinter(_CudaPrinter):
    """The driver."""

    def __init__(self, cut: CudaProgram) -> None:
        super().__init__(cut)
        self.printers = {kernel: KernelPrinter(cut, kernel) for kernel in cut.program.kernels}

    def function(self) -> str:
        """The driver as a function of flat device arrays, numbers, the flat device arrays of the results, and sizes."""
        program = self.program
        for name in program.sizes:
            self.atom(name)
        formals = [self.buffer(i) if isinstance(i, Buffer) else self.local(i) for i in program.inputs]
        formals += [self.buffer(output) for output in program.outputs]
        formals += [self.atom(name) for name in program.sizes]
        if program.checks:
            formals += ["fault", "fault_floats"]
        self.comment(f"{program.name}: arguments, then results, as flat device arrays; then sizes")
        self.allocate()
        if program.body:
            self.depth = 0
            self.block(program.body)
        elif not self.lines[1:]:
            self.line("return")
        return "\n".join([f"def run({', '.join(formals)}):", *self.lines]) + "\n"

    def local(self, local: Local) -> str:
        """The name of a number that the driver knows, or of a scalar on the device, read."""
        name = self.names.of(local, local.name)
        return f"{name}[0]" if local in self.cut.slots else name

    def allocate(self) -> None:
        """Device memory for arrays between kernels and for scalars."""
        private = {(call.kernel, place) for call in self.calls() for place in self.private_places(call.kernel)}
        found: dict[Buffer, None] = {}
        slots: dict[Local, None] = {}
        for statement in walk(self.program.body):
            skipped: set[Buffer] = set()
            if isinstance(statement, Call):
                skipped = {b for place, b in enumerate(statement.buffers) if (statement.kernel, place) in private}
                held = [local for local in statement.scalars if isinstance(local, Local)]
                slots.update(dict.fromkeys(local for local in held if local in self.cut.slots))
            for buffer in (*read_buffers(statement), *written_buffers(statement)):
                if buffer.kind == "arena" and buffer not in skipped:
                    found.setdefault(buffer)
        for buffer in found:
            entries = self.size(buffer.entries)[0]
            entries = entries if buffer.entries.constant else f"max({entries}, 1)"
            self.line(f"{self.buffer(buffer)} = cuda.device_array({entries}, np.{NUMPY[buffer.type]})")
        for local in slots:
            self.line(f"{self.names.of(local, local.name)} = cuda.device_array(1, np.{NUMPY[local.type]})")

    def calls(self) -> list[Call]:
        """All launches."""
        return [statement for statement in walk(self.program.body) if isinstance(statement, Call)]

    def private_places(self, kernel: Kernel) -> list[int]:
        """Which of its arrays every point of a kernel makes for itself."""
        private = self.printers[kernel].private
        return [place for place, buffer in enumerate(kernel.buffers) if buffer in private]

    def other(self, statement: Statement) -> None:
        """Launches and pointers."""
        match statement:
            case Call():
                self.launch(statement)
            case Point(buffer=buffer, to=to, index=index):
                self.line(f"{self.buffer(buffer)} = {self.buffer(to)}[{self.text(index)} :]")
            case Swap(one=one, other=other):
                first, second = self.buffer(one), self.buffer(other)
                self.line(f"{first}, {second} = {second}, {first}")
            case _:
                raise self.cut.refuse(f"a {type(statement).__name__}")

    def launch(self, call: Call) -> None:
        """A launch, and the gathering of what its blocks left."""
        kernel, printer = call.kernel, self.printers[call.kernel]
        chain = printer.chain
        grid, threads = "1", "1"
        if chain:
            grid, threads = f"blocks({self.points(chain)})", "THREADS"
            if printer.totals or self.has_scratch(kernel):
                name = self.names.fresh("grid")
                self.line(f"{name} = {grid}")
                grid = name
        arguments = []
        for mine, buffer in zip(kernel.buffers, call.buffers, strict=True):
            if _is_local(mine, printer.private):
                continue
            if mine in printer.private:
                entries, level = self.size(buffer.entries)
                count = f"{grid} * THREADS * {entries if level >= 5 else f'({entries})'}"
                self.line(f"{self.buffer(buffer)} = cuda.device_array(max({count}, 1), np.{NUMPY[buffer.type]})")
            arguments.append(self.buffer(buffer))
        given = zip(kernel.scalars, call.scalars, strict=True)
        arguments += [self.argument(value) for local, value in given if local in printer.given]
        arguments += [self.atom(name) for name in kernel.sizes]
        parts: list[tuple[str, Local, str]] = []
        for own, local in zip(kernel.results, call.results, strict=True):
            if own in printer.totals:
                part = self.names.fresh(f"{local.name}_of_blocks")
                self.line(f"{part} = cuda.device_array({grid}, np.{NUMPY[local.type]})")
                parts.append((part, local, gathering_name(printer.totals[own], local.type)))
        arguments += [part for part, _, _ in parts]
        if kernel.can_fail:
            arguments += ["fault", "fault_floats"]
        self.line(f"{kernel.name}[{grid}, {threads}]({', '.join(arguments)})")
        if kernel.can_fail:
            self.line("if fault[0] != 0:")
            self.line("    return")
        for part, local, name in parts:
            self.line(f"gather_{name}[1, THREADS]({part}, {grid}, {self.names.of(local, local.name)})")

    def points(self, chain: list[Loop]) -> str:
        """The number of points."""
        extents = [loop.stop.size for loop in chain if isinstance(loop.stop, Extent)]
        return self.size(product(tuple(extents)))[0] if len(extents) == len(chain) else self.text(chain[0].stop)

    def has_scratch(self, kernel: Kernel) -> bool:
        """Whether points of a kernel make arrays that do not lie in the memory of a thread."""
        private = self.printers[kernel].private
        return any(not _is_local(buffer, private) for buffer in private)

    def argument(self, value: Expression) -> str:
        """A scalar of a kernel: a number, or the array that holds it on the device."""
        if isinstance(value, Local) and value in self.cut.slots:
            return self.names.of(value, value.name)
        return self.text(value)
