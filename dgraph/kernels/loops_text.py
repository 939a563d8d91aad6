"""The loop program as text for people: what `dgraph show --stage loops` prints."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatchmethod

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
    Let,
    Literal,
    Load,
    Local,
    Loop,
    MatrixProduct,
    Note,
    Point,
    PointTape,
    Program,
    Statement,
    Store,
    Sum,
    Swap,
    TapeReserve,
    TapeSetTop,
    Update,
    While,
)

SYMBOLS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "less": "<", "less_equal": "<=", "greater": ">",
    "greater_equal": ">=", "equal": "==", "not_equal": "!=", "logical_and": "and", "logical_or": "or",
}  # fmt: skip


def print_loops(program: Program) -> str:
    """The driver and its kernels."""
    printer = _Printer()
    sizes = f"[{', '.join(program.sizes)}]" if program.sizes else ""
    inputs = ", ".join(map(printer.declared, program.inputs))
    lines = [f"program {program.name}{sizes}({inputs}) -> {', '.join(map(printer.declared, program.outputs))}:"]
    lines += printer.block(program.body, 1)
    for kernel in program.kernels:
        parameters = [*map(printer.declared, kernel.buffers), *map(printer.declared, kernel.scalars)]
        note = f"  # {' '.join(kernel.note.split())}" if kernel.note else ""
        lines += ["", f"{kernel.name}({', '.join(parameters)}):{note}", *printer.block(kernel.body, 1)]
    return "\n".join(lines) + "\n"


class _Printer:
    """Gives buffers and locals their own names and prints statements."""

    def __init__(self) -> None:
        self.names: dict[Buffer | Local, str] = {}
        self.taken: set[str] = set()

    def name(self, thing: Buffer | Local) -> str:
        if thing not in self.names:
            wish = thing.name or "t"
            name, count = wish, 1
            while name in self.taken:
                count += 1
                name = f"{wish}_{count}"
            self.taken.add(name)
            self.names[thing] = name
        return self.names[thing]

    def declared(self, thing: Buffer | Local) -> str:
        if isinstance(thing, Local):
            return f"{self.name(thing)}: {thing.type}"
        return f"{self.name(thing)}: {thing.type}[{thing.entries}]"

    def block(self, block: Block, depth: int) -> list[str]:
        return [f"{'    ' * depth}{line}" for statement in block for line in self.lines(statement)] or [
            f"{'    ' * depth}nothing"
        ]

    def inner(self, block: Block) -> list[str]:
        return self.block(block, 1)

    def text(self, value: Expression, top: bool = True) -> str:
        """An expression."""
        if isinstance(value, Local):
            return self.name(value)
        if isinstance(value, Literal):
            return repr(value.value)
        if isinstance(value, Extent):
            words = str(value.size)
            return words if top or " " not in words else f"({words})"
        if isinstance(value, Load):
            return f"{self.name(value.buffer)}[{self.text(value.index)}]"
        if isinstance(value, Sum):
            start, count = self.text(value.index), self.text(value.count)
            return f"sum({self.name(value.buffer)}[{start}, {count} entries])"
        if isinstance(value, Apply):
            if value.op in SYMBOLS and len(value.operands) == 2:
                left, right = (self.text(operand, False) for operand in value.operands)
                words = f"{left} {SYMBOLS[value.op]} {right}"
                return words if top else f"({words})"
            parts = [*map(self.text, value.operands), *map(str, value.facts)]
            return f"{value.op}({', '.join(parts)})"
        return f"top of tape {self.text(value.row)}"

    @singledispatchmethod
    def lines(self, statement: Statement) -> Iterator[str]:
        """The lines of one statement."""
        raise TypeError(type(statement))

    @lines.register
    def _let(self, s: Let) -> Iterator[str]:
        yield f"{self.name(s.local)} = {self.text(s.value)}"

    @lines.register
    def _store(self, s: Store) -> Iterator[str]:
        yield f"{self.name(s.buffer)}[{self.text(s.index)}] = {self.text(s.value)}"

    @lines.register
    def _update(self, s: Update) -> Iterator[str]:
        place = f"{self.name(s.buffer)}[{self.text(s.index)}]"
        symbol = SYMBOLS.get(s.op)
        value = self.text(s.value)
        yield f"{place} {symbol}= {value}" if symbol in ("+", "*") else f"{place} = {s.op}({place}, {value})"

    @lines.register
    def _loop(self, s: Loop) -> Iterator[str]:
        note = f"  # {' '.join(s.note.split())}" if s.note else ""
        kind = "" if s.kind == "sequential" else f" {s.kind}"
        yield f"for {self.name(s.index)} in {self.text(s.start)} .. {self.text(s.stop)}{kind}:{note}"
        yield from self.inner(s.body)

    @lines.register
    def _while(self, s: While) -> Iterator[str]:
        yield "loop:"
        yield from self.inner(s.test) if s.test else ()
        yield f"    leave unless {self.text(s.condition)}"
        yield from self.inner(s.body)

    @lines.register
    def _if(self, s: If) -> Iterator[str]:
        yield f"if {self.text(s.condition)}:"
        yield from self.inner(s.then)
        if s.otherwise:
            yield "else:"
            yield from self.inner(s.otherwise)

    @lines.register
    def _fill(self, s: Fill) -> Iterator[str]:
        yield f"fill {self.name(s.buffer)}[{self.text(s.index)}, {self.text(s.count)} entries] with {s.value.value!r}"

    @lines.register
    def _copy(self, s: Copy) -> Iterator[str]:
        target = f"{self.name(s.target)}[{self.text(s.target_index)}]"
        yield f"copy {self.text(s.count)} entries {self.name(s.source)}[{self.text(s.source_index)}] to {target}"

    @lines.register
    def _product(self, s: MatrixProduct) -> Iterator[str]:
        left, right = (f"{self.name(m.buffer)}{'ᵀ' if m.transposed else ''}" for m in (s.left, s.right))
        yield f"{self.name(s.target.buffer)} = {left} @ {right}  # [{s.rows}, {s.inner}] @ [{s.inner}, {s.columns}]"

    @lines.register
    def _point(self, s: Point) -> Iterator[str]:
        yield f"{self.name(s.buffer)} -> {self.name(s.to)}[{self.text(s.index)}]"

    @lines.register
    def _swap(self, s: Swap) -> Iterator[str]:
        yield f"swap {self.name(s.one)} and {self.name(s.other)}"

    @lines.register
    def _point_tape(self, s: PointTape) -> Iterator[str]:
        yield f"{self.name(s.buffer)} -> tape {self.text(s.row)} at byte {self.text(s.start)}"

    @lines.register
    def _reserve(self, s: TapeReserve) -> Iterator[str]:
        yield f"tape {self.text(s.row)}: room for {self.text(s.bytes)} bytes"

    @lines.register
    def _set_top(self, s: TapeSetTop) -> Iterator[str]:
        yield f"tape {self.text(s.row)}: top = {self.text(s.bytes)}"

    @lines.register
    def _fail(self, s: Fail) -> Iterator[str]:
        yield f"fail check {s.check}({', '.join(map(self.text, s.values))})"

    @lines.register
    def _note(self, s: Note) -> Iterator[str]:
        yield f"# {' '.join(s.words.split())}"

    @lines.register
    def _call(self, s: Call) -> Iterator[str]:
        results = f"{', '.join(map(self.name, s.results))} = " if s.results else ""
        yield f"{results}{s.kernel.name}({', '.join([*map(self.name, s.buffers), *map(self.text, s.scalars)])})"
