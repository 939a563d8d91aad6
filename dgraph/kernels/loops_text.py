"""The loop program as text for a person: what `dgraph show --stage loops` prints."""

from __future__ import annotations

from collections.abc import Iterator

from dgraph.kernels.nests import (
    Buffer,
    Call,
    Copy,
    Expression,
    Fail,
    Fill,
    Kernel,
    Loop,
    Matrix,
    MatrixProduct,
    Parts,
    Place,
    Point,
    PointTape,
    Program,
    Routine,
    Statement,
    Sum,
    Swap,
    TapeReserve,
    TapeSetTop,
    TapeTop,
)
from dgraph.kernels.printer import Printer, Text
from dgraph.kernels.scalars import TIGHT
from dgraph.kernels.views import plus

_TRIANGLES = {
    "whole": "",
    "columns": ", inner {} column{}",
    "rows": ", inner {} row{}",
    "corner": ", column {} row{}",
}


def print_loops(program: Program) -> str:
    """Arrays and memory, the kernels, the driver."""
    return "\n".join(_parts(program))


def _parts(program: Program) -> Iterator[str]:
    head = _LoopsPrinter(program)
    yield f"program {program.name}[{', '.join(program.sizes)}]"
    for source in (*program.inputs, *program.outputs):
        if isinstance(source, Buffer):
            yield f"    {source.kind} {head.buffer(source)}: {source.type}[{source.entries}]"
        else:
            yield f"    input {head.local(source)}: {source.type}"
    for buffer, room in program.rooms.items():
        yield f"    room {head.buffer(buffer)}: {room.bytes} bytes, in use from {room.first} to {room.last}"
    for kernel in program.kernels:
        yield ""
        yield from _LoopsPrinter(program).kernel(kernel)
    yield ""
    yield "driver:"
    head.depth = 0
    head.block(program.body)
    yield from head.lines
    yield ""


class _LoopsPrinter(Printer):
    """Statements in words, memory in brackets."""

    def kernel(self, kernel: Kernel) -> list[str]:
        """A kernel."""
        formals = [self.buffer(buffer) for buffer in kernel.buffers] + [self.local(local) for local in kernel.scalars]
        self.depth = 0
        self.block(kernel.body)
        results = ", ".join(self.local(local) for local in kernel.results)
        ending = [f"    -> {results}"] if results else []
        return [f"{kernel.name}({', '.join(formals)}):", *self.lines, *ending]

    def load(self, buffer: Buffer, index: Expression) -> Text:
        """A read."""
        return f"{self.buffer(buffer)}[{self.text(index)}]", TIGHT

    def store(self, buffer: Buffer, index: Expression, value: str) -> None:
        """A write."""
        self.line(f"{self.buffer(buffer)}[{self.text(index)}] = {value}")

    def special(self, expression: Expression) -> Text:
        """Sums and tapes."""
        match expression:
            case Sum(buffer=buffer, index=index, count=count):
                return f"sum({self.piece(buffer, index, count)})", TIGHT
            case TapeTop(row=row):
                return f"top of tape {self.text(row)}", TIGHT
            case Parts(split=split):
                return f"parts {split}", TIGHT
        return super().special(expression)

    def loop_head(self, loop: Loop) -> str:
        """The kind of the loop and its range."""
        start, stop, index = self.text(loop.start), self.text(loop.stop), self.local(loop.index)
        at_a_time = f", {loop.lanes} at a time" if loop.lanes else ""
        return f"{loop.kind} {index} in {start} .. {stop}{at_a_time}:"

    def piece(self, buffer: Buffer, start: Expression, count: Expression) -> str:
        """Some entries in a row."""
        return f"{self.buffer(buffer)}[{self.text(start)}, {self.text(count)} entries]"

    def place(self, place: Place) -> str:
        """Memory that a routine works on."""
        return f"{self.buffer(place.buffer)}[{self.text(place.index)}, ...]"

    def matrix(self, matrix: Matrix) -> str:
        """A matrix operand."""
        steps = f"{matrix.down} down, {matrix.across} across"
        return f"{self.buffer(matrix.buffer)}[{self.text(matrix.index)}, {steps}]"

    def other(self, statement: Statement) -> None:
        """Everything else, a line each."""
        match statement:
            case Fill(buffer=buffer, index=index, count=count, value=value):
                self.line(f"{self.piece(buffer, index, count)} = {self.text(value)}")
            case Copy(target=target, target_index=to, source=source, source_index=at, count=count):
                self.line(f"{self.piece(target, to, count)} = {self.piece(source, at, count)}")
            case MatrixProduct(target=target, left=left, right=right):
                sizes = " x ".join(map(self.text, (statement.rows, statement.inner, statement.columns)))
                sign = "+=" if statement.adds else "="
                shift = f" + {statement.shift}" if statement.shift.terms else ""
                where = _TRIANGLES[statement.triangle].format(">=" if statement.more else "<", shift)
                if statement.runs is not None:
                    where = f", in runs of {statement.runs.rows} rows and {statement.runs.inner} products"
                self.line(f"{self.matrix(target)} {sign} {self.matrix(left)} @ {self.matrix(right)}  ({sizes}{where})")
            case Routine(name=name, written=written, read=read, sizes=sizes):
                into, given = (", ".join(map(self.place, places)) for places in (written, read))
                self.line(f"{into} = {name}({given})  ({' x '.join(map(str, sizes))})")
            case Point(buffer=buffer, to=to, index=index):
                self.line(f"{self.buffer(buffer)} is {self.buffer(to)} from {self.text(index)}")
            case Swap(one=one, other=other):
                self.line(f"exchange {self.buffer(one)} and {self.buffer(other)}")
            case PointTape(buffer=buffer, row=row, start=start):
                self.line(f"{self.buffer(buffer)} is tape {self.text(row)} from byte {self.text(start)}")
            case TapeReserve(row=row, start=start, bytes=count):
                self.line(f"reserve {self.text(plus(start, count))} bytes on tape {self.text(row)}")
            case TapeSetTop(row=row, start=start, bytes=count):
                self.line(f"tape {self.text(row)} holds {self.text(plus(start, count))} bytes")
            case Fail(check=check, values=values):
                shown = ", ".join(map(self.text, values))
                self.line(f"fail {self.program.checks[check - 1].title!r} ({shown})")
            case Call(kernel=kernel, buffers=buffers, scalars=scalars, results=results):
                operands = ", ".join([*map(self.buffer, buffers), *map(self.text, scalars)])
                into = ", ".join(map(self.local, results))
                self.line(f"{into + ' = ' if into else ''}{kernel.name}({operands})")
            case _:
                super().other(statement)
