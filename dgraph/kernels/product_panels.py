"""Panels: a few columns of a matrix, over some of its rows, laid side by side in memory of a function's own."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from dgraph.kernels.primitives import Primitive
from dgraph.kernels.product_tiles import Vectors
from dgraph.kernels.values import POINTER, SCALARS, Value

_I32, _I64 = SCALARS["i32"], SCALARS["i64"]
_LINE = 64


def panel(type_name: str, entries: int) -> Primitive:
    """`panel_f64()`: memory for a panel, on the stack."""

    def body(unused: Value) -> Value:
        builder = unused.builder
        with builder.goto_entry_block():
            slot = builder.alloca(ir.ArrayType(SCALARS[type_name], entries))
            slot.align = _LINE
        return Value(builder, builder.bitcast(slot, ir.PointerType(SCALARS[type_name])), POINTER + type_name)

    return Primitive(f"panel_{type_name}", ("i64",), POINTER + type_name, body)


def pack(type_name: str, lanes: int) -> Primitive:
    """`pack_f64(panel, width, b, b_k, depth, columns)`: rows whose entries lie side by side, of full vectors."""
    pointer = POINTER + type_name

    def body(panel: Value, width: Value, b: Value, b_k: Value, depth: Value, columns: Value) -> None:
        vectors = Vectors(panel.builder, lanes, type_name)
        with _Loop(panel.builder, _I64(0), columns.llvm, lanes) as column:
            mask = vectors.below(panel.builder.sub(columns.llvm, column))
            with _Loop(panel.builder, _I64(0), depth.llvm, 1) as k:
                entries = vectors.load(vectors.place(b.llvm, panel.builder.mul(k, b_k.llvm), column), mask)
                vectors.store(entries, vectors.place(panel.llvm, panel.builder.mul(k, width.llvm), column))

    return Primitive(f"pack_{type_name}", (pointer, "i64", pointer, "i64", "i64", "i64"), "none", body)


def pack_turned(type_name: str, lanes: int) -> Primitive:
    """`pack_turned_f64(panel, width, b, b_column, depth, columns)`: columns whose entries lie side by side, so many of
    them at a time turned in registers. The last rows of the panel may be filled up to a full vector."""
    pointer = POINTER + type_name

    def body(panel: Value, width: Value, b: Value, b_column: Value, depth: Value, columns: Value) -> None:
        builder = panel.builder
        vectors = Vectors(builder, lanes, type_name)
        last = builder.sub(columns.llvm, _I64(1))
        with _Loop(builder, _I64(0), columns.llvm, lanes) as column:
            lines = []
            for lane in range(lanes):
                number = builder.add(column, _I64(lane))
                number = builder.select(builder.icmp_signed("<", number, last), number, last)
                lines.append(vectors.place(b.llvm, builder.mul(number, b_column.llvm)))
            with _Loop(builder, _I64(0), depth.llvm, lanes) as k:
                mask = vectors.below(builder.sub(depth.llvm, k))
                rows = turned(builder, [vectors.load(vectors.place(line, k), mask) for line in lines])
                for lane, row in enumerate(rows):
                    number = builder.add(k, _I64(lane))
                    vectors.store(row, vectors.place(panel.llvm, builder.mul(number, width.llvm), column))

    return Primitive(f"pack_turned_{type_name}", (pointer, "i64", pointer, "i64", "i64", "i64"), "none", body)


def turned(builder: Any, rows: list[Any]) -> list[Any]:
    """A square of vectors with rows and columns exchanged: interleaving the first half with the second, again and
    again, brings each entry to its place."""
    lanes = len(rows)
    half = lanes // 2
    kind = ir.VectorType(_I32, lanes)
    low = ir.Constant(kind, [lane // 2 + lanes * (lane % 2) for lane in range(lanes)])
    high = ir.Constant(kind, [half + lane // 2 + lanes * (lane % 2) for lane in range(lanes)])
    for _ in range(lanes.bit_length() - 1):
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [builder.shuffle_vector(one, other, mask) for one, other in pairs for mask in (low, high)]
    return rows


class _Loop:
    """`for index in range(start, stop, step)` around the code of a with block."""

    def __init__(self, builder: Any, start: Any, stop: Any, step: int) -> None:
        self.builder = builder
        self.start = start
        self.stop = stop
        self.step = step

    def __enter__(self) -> Any:
        builder = self.builder
        self.head, body, self.after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        before = builder.block
        builder.branch(self.head)
        builder.position_at_end(self.head)
        self.index = builder.phi(_I64)
        self.index.add_incoming(self.start, before)
        builder.cbranch(builder.icmp_signed("<", self.index, self.stop), body, self.after)
        builder.position_at_end(body)
        return self.index

    def __exit__(self, *_exception: object) -> None:
        builder = self.builder
        self.index.add_incoming(builder.add(self.index, _I64(self.step)), builder.block)
        builder.branch(self.head)
        builder.position_at_end(self.after)
