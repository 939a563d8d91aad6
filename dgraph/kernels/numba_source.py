"""The loop program as Numba source: the text that is compiled and shown to the user.

The entry reads the table that the caller fills: for each input its address and extents (a scalar input: its bits), the
formals of type `size`, the address of each output, the address of the state (rows of tape memory, the first being the
arena; then the values of a failed check; then scalars that kernels leave behind), and where the rooms of the arena are
if the sizes decide it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from dgraph.kernels.bind import (
    FAULT_VALUES,
    MISFIT,
    OUT_OF_MEMORY,
    Layout,
    binding_steps,
    parts_place,
    pool_place,
    scalars_place,
)
from dgraph.kernels.disk_source import disk_helpers_for
from dgraph.kernels.lapack_source import helper_name, helpers_for
from dgraph.kernels.nests import (
    WIDTHS,
    Apply,
    Buffer,
    Call,
    Copy,
    Expression,
    Extent,
    Fail,
    Fill,
    Kernel,
    Literal,
    Loop,
    MatrixProduct,
    Parts,
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
    Timed,
)
from dgraph.kernels.printer import Printer, Text
from dgraph.kernels.rooms import are_fixed, fixed_arrangement
from dgraph.kernels.scalars import RANDOM_BITS, TIGHT
from dgraph.kernels.views import plus

PRODUCT_KERNEL = "kernel_product"
"""The kernel for products of matrices, followed by the type."""

_PRODUCT = """\
def kernel_product_{t}(
    m: i64, n: i64, k: i64, a: pointer_{t}, a_row: i64, a_k: i64, b: pointer_{t}, b_k: i64, b_column: i64,
    c: pointer_{t}, c_row: i64, adds: i64
):
    if m * n * k > 64:
        product_whole_{t}(m, n, k, a, a_row, a_k, b, b_k, b_column, c, c_row, adds, 0, 0)
    else:
        # A call costs more than so few multiplications.
        for i in range(m):
            for j in range(n):
                start = {t}(0.0)
                if adds != 0:
                    start = load_{t}(c, i * c_row + j)
                total = {t}(0.0)
                for p in range(k):
                    total = fma_{t}(load_{t}(a, i * a_row + p * a_k), load_{t}(b, p * b_k + j * b_column), total)
                store_{t}(c, i * c_row + j, start + total)
"""


def print_program(program: Program) -> str:
    """The source of a program: kernels first, the entry last."""
    parts = [_KernelPrinter(program, kernel).function() for kernel in program.kernels]
    parts.append(_EntryPrinter(program).function())
    helpers = {"random_bits": RANDOM_BITS}
    helpers |= {f"{PRODUCT_KERNEL}_{type_}": _PRODUCT.format(t=type_) for type_ in ("f32", "f64")}
    used = [text for name, text in helpers.items() if any(f"{name}(" in part for part in parts)]
    parts[:0] = [*used, *helpers_for(parts), *disk_helpers_for(parts)]
    return "\n\n".join(parts)


class _NumbaPrinter(Printer):
    """Memory by typed pointers."""

    @property
    def fault_place(self) -> int:
        """The word of the state where values of a failed check are put."""
        return 4 * self.program.rows

    @property
    def scratch_place(self) -> int:
        """The word of the state where kernels leave scalars."""
        return scalars_place(self.program.rows, len(self.program.splits))

    # ---- memory -------------------------------------------------------------------------------------------------

    def load(self, buffer: Buffer, index: Expression) -> Text:
        """A read through a pointer."""
        return f"load_{buffer.type}({self.buffer(buffer)}, {self.text(index)})", TIGHT

    def store(self, buffer: Buffer, index: Expression, value: str) -> None:
        """A write through a pointer."""
        self.line(f"store_{buffer.type}({self.buffer(buffer)}, {self.text(index)}, {value})")

    def special(self, expression: Expression) -> Text:
        """Sums, tape tops and parts."""
        match expression:
            case Sum(buffer=buffer, index=index, count=count):
                return f"sum_{buffer.type}({self.pointer_at(buffer, index)}, {self.text(count)})", TIGHT
            case TapeTop(row=row):
                return f"load_i64(state, {self.row_index(row)} + 2)", TIGHT
            case Parts(split=split):
                return f"maximum_i64(load_i64(state, {parts_place(self.program.rows) + split}), 1)", TIGHT
        return super().special(expression)

    def row_index(self, row: Expression) -> str:
        """The word of the state where a row of tape memory is described."""
        text, precedence = self.expression(row)
        return f"4 * {text}" if precedence >= 6 else f"4 * ({text})"

    def pointer_at(self, buffer: Buffer, index: Expression) -> str:
        """A pointer to an entry."""
        if isinstance(index, Extent) and not index.size.terms:
            return self.buffer(buffer)
        return f"offset_{buffer.type}({self.buffer(buffer)}, {self.text(index)})"

    def address_at(self, buffer: Buffer, index: Expression) -> str:
        """The address of an entry."""
        return f"address_{buffer.type}({self.pointer_at(buffer, index)})"

    # ---- statements ---------------------------------------------------------------------------------------------

    def other(self, statement: Statement) -> None:
        """Blocks of memory, pointers, tapes, failures, products, calls."""
        match statement:
            case Fill():
                self.fill(statement)
            case Copy():
                self.copy(statement)
            case MatrixProduct():
                self.product(statement)
            case Routine(name=name, type=type_, written=written, read=read, sizes=sizes):
                places = [self.pointer_at(place.buffer, place.index) for place in (*written, *read)]
                operands = [*places, *(self.size(extent)[0] for extent in sizes)]
                self.line(f"{helper_name(name, type_)}({', '.join(operands)})")
            case Point(buffer=buffer, to=to, index=index):
                self.line(f"{self.buffer(buffer)} = {self.pointer_at(to, index)}")
            case Swap(one=one, other=other):
                first, second, between = self.buffer(one), self.buffer(other), self.names.fresh("between")
                self.line(f"{between} = {first}")
                self.line(f"{first} = {second}")
                self.line(f"{second} = {between}")
            case PointTape(buffer=buffer, row=row, start=start):
                place = self.text(start)
                address = f"load_i64(state, {self.row_index(row)})" + ("" if place == "0" else f" + {place}")
                self.line(f"{self.buffer(buffer)} = pointer_{buffer.type}({address})")
            case TapeReserve(row=row, start=start, bytes=count):
                # An empty tape has memory too, so that 0 can only mean that there is none left.
                text = self.text(plus(start, count))
                self.line(f"if tape_reserve(offset_i64(state, {self.row_index(row)}), {text} + 64) == 0:")
                self.line(f"    return {OUT_OF_MEMORY}")
            case TapeSetTop(row=row, start=start, bytes=count):
                self.line(f"store_i64(state, {self.row_index(row)} + 2, {self.text(plus(start, count))})")
            case Fail(check=check, values=values):
                self.values_to_state(self.fault_place, values[:FAULT_VALUES])
                self.line(f"return {check}")
            case Call():
                self.call(statement)
            case Timed():
                self.timed(statement)
            case _:
                super().other(statement)

    def loop(self, loop: Loop) -> None:
        """A loop; one that threads share finds their pool in the state."""
        if loop.kind == "threads":
            place = pool_place(self.program.rows)
            self.line(f"pool = load_i64(state, {place})")
            self.line(f"threads = load_i64(state, {place + 1})")
        super().loop(loop)

    def timed(self, timed: Timed) -> None:
        """A block between two looks at the clock."""
        start = self.names.fresh("start")
        place = self.scratch_place + self.program.scalars + timed.place
        self.line(f"{start} = clock(state)")
        self.depth -= 1
        self.block(timed.body)
        self.depth += 1
        self.line(f"store_i64(state, {place}, load_i64(state, {place}) + (clock(state) - {start}))")
        self.line(f"store_i64(state, {place + 1}, load_i64(state, {place + 1}) + 1)")

    def copy(self, copy: Copy) -> None:
        """A block of memory copied."""
        target, source = (
            self.address_at(copy.target, copy.target_index),
            self.address_at(copy.source, copy.source_index),
        )
        text = f"copy_bytes({target}, {source}, {self.bytes(copy.count, copy.target.type)})"
        if "pointer" in (copy.target.kind, copy.source.kind):
            # Blocks that a loop exchanged may have ended where they are wanted.
            self.line(f"if {target} != {source}:")
            text = f"    {text}"
        self.line(text)

    def values_to_state(self, place: int, values: Iterable[Expression]) -> None:
        for position, value in enumerate(values):
            per_word = 8 // WIDTHS[value.type]
            pointer = "state" if value.type == "i64" else f"pointer_{value.type}(address_i64(state))"
            self.line(f"store_{value.type}({pointer}, {(place + position) * per_word}, {self.text(value)})")

    def word(self, place: int, type_: str) -> str:
        """The value of a machine type in a word of the state."""
        pointer = "state" if type_ == "i64" else f"pointer_{type_}(address_i64(state))"
        return f"load_{type_}({pointer}, {place * (8 // WIDTHS[type_])})"

    def bytes(self, count: Expression, type_: str) -> str:
        width = WIDTHS[type_]
        if isinstance(count, Extent):
            return self.size(count.size * width)[0]
        return self.text(Apply("mul", "i64", (count, Literal(width, "i64"))))

    def fill(self, fill: Fill) -> None:
        value = fill.value.value
        if value == 0 and math.copysign(1.0, float(value)) > 0:
            self.line(
                f"fill_zero({self.address_at(fill.buffer, fill.index)}, {self.bytes(fill.count, fill.buffer.type)})"
            )
            return
        index = self.names.fresh("k")
        self.line(f"for {index} in range({self.text(fill.count)}):")
        pointer = self.pointer_at(fill.buffer, fill.index)
        self.line(f"    store_{fill.buffer.type}({pointer}, {index}, {self.text(fill.value)})")

    # ---- products -----------------------------------------------------------------------------------------------

    def product(self, product: MatrixProduct) -> None:
        """A product of matrices."""
        sizes = [self.text(count) for count in (product.rows, product.columns, product.inner)]
        left, right, target = product.left, product.right, product.target
        places = [self.pointer_at(matrix.buffer, matrix.index) for matrix in (left, right, target)]
        strides = (left.down, left.across, right.down, right.across, target.down)
        a_row, a_k, b_k, b_column, c_row = (self.size(stride)[0] for stride in strides)
        operands = [*sizes, places[0], a_row, a_k, places[1], b_k, b_column, places[2], c_row, str(int(product.adds))]
        type_ = target.buffer.type
        name = f"{PRODUCT_KERNEL}_{type_}"
        if product.triangle != "whole":
            name = f"product_{product.triangle}_{type_}"
            operands += [self.size(product.shift)[0], str(int(product.more))]
        if product.runs is not None:
            name = f"product_nested_{type_}"
            runs = product.runs
            leaps = (runs.rows, runs.left_down, runs.target_down, runs.inner, runs.left_across, runs.right_down)
            operands += [self.size(leap)[0] for leap in leaps]
        self.line(f"{name}({', '.join(operands)})")

    # ---- calls --------------------------------------------------------------------------------------------------

    def call(self, call: Call) -> None:
        kernel = call.kernel
        arguments = [self.buffer(buffer) for buffer in call.buffers]
        arguments += [self.text(scalar) for scalar in call.scalars]
        arguments += [self.atom(name) for name in kernel.sizes]
        if needs_state(kernel):
            arguments.append("state")
        text = f"{kernel.name}({', '.join(arguments)})"
        if kernel.can_fail:
            self.line(f"status = {text}")
            self.line("if status != 0:")
            self.line("    return status")
        elif returns_value(kernel):
            self.line(f"{self.local(call.results[0])} = {text}")
            return
        else:
            self.line(text)
        for position, local in enumerate(call.results):
            self.line(f"{self.local(local)} = {self.word(self.scratch_place + position, local.type)}")


def returns_value(kernel: Kernel) -> bool:
    """Whether a kernel returns the scalar that it leaves behind."""
    return len(kernel.results) == 1 and not kernel.can_fail


def needs_state(kernel: Kernel) -> bool:
    """Whether a kernel takes the state."""
    return kernel.uses_tapes or kernel.can_fail or len(kernel.results) > 1 or has_parts(kernel)


def has_parts(kernel: Kernel) -> bool:
    """Whether threads may share turns of a kernel."""
    return any(isinstance(statement, Loop) and statement.kind == "threads" for statement in kernel.body)


def layout_of(program: Program) -> Layout:
    """The table of a program."""
    rooms = 0 if are_fixed(program.rooms.values()) else len(program.rooms)
    ranks = tuple(map(len, program.input_shapes)), tuple(map(len, program.output_shapes))
    return Layout(ranks[0], program.size_formals, ranks[1], rooms)


class _KernelPrinter(_NumbaPrinter):
    def __init__(self, program: Program, kernel: Kernel) -> None:
        super().__init__(program)
        self.kernel = kernel

    def function(self) -> str:
        """The kernel as a function."""
        kernel = self.kernel
        for name in kernel.sizes:
            self.atom(name)
        parameters = [f"{self.buffer(buffer)}: pointer_{buffer.type}" for buffer in kernel.buffers]
        parameters += [f"{self.local(local)}: {local.type}" for local in kernel.scalars]
        parameters += [f"{self.atom(name)}: i64" for name in kernel.sizes]
        if needs_state(kernel):
            parameters.append("state: pointer_i64")
        result = ""
        if kernel.can_fail:
            result = " -> i64"
        elif returns_value(kernel):
            result = f" -> {kernel.results[0].type}"
        head = f"def {kernel.name}({', '.join(parameters)}){result}:"
        self.depth = 0
        self.block(kernel.body)
        self.depth = 1
        if returns_value(kernel):
            self.line(f"return {self.local(kernel.results[0])}")
        else:
            self.values_to_state(self.scratch_place, kernel.results)
            if kernel.can_fail:
                self.line("return 0")
        return "\n".join([head, *self.lines]) + "\n"


class _EntryPrinter(_NumbaPrinter):
    def function(self) -> str:
        """The entry: sizes from the table, memory, the driver."""
        program = self.program
        self.comment(f"{program.name}")
        for name in program.sizes:
            self.atom(name)
        layout = layout_of(program)
        self.sizes(layout)
        self.memory(layout)
        self.depth = 0
        self.block(program.body)
        self.depth = 1
        self.line("return 0")
        return "\n".join(["def entry(table: pointer_i64) -> i64:", *self.lines]) + "\n"

    def sizes(self, layout: Layout) -> None:
        """Every size variable from the extents in the table, and whether the other extents agree."""
        for formal, slot in zip(layout.size_formals, layout.size_slots, strict=True):
            self.line(f"{self.atom(formal)} = load_i64(table, {slot})")
        for step in binding_steps(layout, self.program.input_shapes):
            actual = f"load_i64(table, {step.slot})"
            if step.solves is None:
                self.line(f"if {actual} != {self.size(step.extent)[0]}:")
                self.line(f"    return {MISFIT}")
                continue
            name = self.atom(step.solves)
            rest, factor = self.size(step.rest), step.factor
            if factor == 1:
                self.line(
                    f"{name} = {actual}"
                    + (f" - {rest[0] if rest[1] > 4 else f'({rest[0]})'}" if step.rest.terms else "")
                )
            else:
                self.line(f"{name} = floor_div_i64({actual} - ({rest[0]}), {factor})")
                self.line(f"if {factor} * {name} + ({rest[0]}) != {actual}:")
                self.line(f"    return {MISFIT}")
            if step.rest.terms or factor < 0 or factor > 1:
                self.line(f"if {name} < 0:")
                self.line(f"    return {MISFIT}")

    def memory(self, layout: Layout) -> None:
        program = self.program
        for source, slot in zip(program.inputs, layout.input_slots, strict=True):
            if isinstance(source, Buffer):
                self.line(f"{self.buffer(source)} = pointer_{source.type}(load_i64(table, {slot}))")
            else:
                per_word = 8 // WIDTHS[source.type]
                pointer = "table" if source.type == "i64" else f"pointer_{source.type}(address_i64(table))"
                self.line(f"{self.local(source)} = load_{source.type}({pointer}, {slot * per_word})")
        for output, slot in zip(program.outputs, layout.output_slots, strict=True):
            self.line(f"{self.buffer(output)} = pointer_{output.type}(load_i64(table, {slot}))")
        self.line(f"state = pointer_i64(load_i64(table, {layout.state_slot}))")
        if program.rooms:
            fixed = fixed_arrangement(tuple(program.rooms.values()))
            total = f"load_i64(table, {layout.arena_slot})" if fixed is None else str(fixed.total)
            self.line(f"arena = arena_reserve(state, {total})")
            self.line("if arena == 0:")
            self.line(f"    return {OUT_OF_MEMORY}")
            for place, buffer in enumerate(program.rooms):
                if fixed is None:
                    start = f"arena + load_i64(table, {layout.arena_slot + 1 + place})"
                else:
                    start = f"arena + {fixed.offsets[place]}" if fixed.offsets[place] else "arena"
                self.line(f"{self.buffer(buffer)} = pointer_{buffer.type}({start})")
        if program.rows > 1:
            row = self.names.fresh("row")
            self.line(f"for {row} in range(1, {program.rows}):")
            self.line(f"    store_i64(state, 4 * {row} + 2, 0)")
