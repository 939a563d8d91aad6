"""The inner loop of matrix products: rows times vectors of columns, whose sums stay in registers.

A tile adds `a[row, k] * b[k, column]` over a range of k by fused multiply-adds, starting from zero, and adds the sums
to `c[row, column]`, or replaces it. So a sum depends on nothing but the range. Rows beyond the last are computed as the
last one again, columns beyond the last are masked: nothing outside of the arrays is read or written.

In a tile of a triangle only some entries count (`Triangle`). A loop over the k that all of them share stands between
loops over the k that some of them have, where a mask leaves the others as they are; what lies outside is not even
multiplied by zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from dgraph.kernels.primitives import Body, Primitive
from dgraph.kernels.product_symbols import Triangle
from dgraph.kernels.values import POINTER, SCALARS, Value, declare, fma, select

_I1, _I32, _I64 = SCALARS["bool"], SCALARS["i32"], SCALARS["i64"]


def tile_name(triangle: Triangle, rows: int, vectors: int, type_name: str) -> str:
    """What source calls a tile."""
    return f"tile_{triangle}_{rows}x{vectors}_{type_name}"


def tile(triangle: Triangle, rows: int, vectors: int, lanes: int, type_name: str) -> Primitive:
    """The primitive of one tile.

    Its operands: a, and its entries from row to row and from k to k; b, and its entries from k to k; c, and its entries
    from row to row; how many rows and columns are left; whether to add; the ranges of k (some: from `first`, all: from
    `start`, some: from `stop` to `last`); where the diagonal lies; whether what counts is beyond it.
    """
    pointer = POINTER + type_name
    operands = (pointer, "i64", "i64", pointer, "i64", pointer, "i64", *("i64",) * 9)

    def body(*values: Value) -> None:
        _Tile(triangle, rows, vectors, lanes, type_name, values).emit()

    name = tile_name(triangle, rows, vectors, type_name)
    return Primitive(name, operands, "none", _apart(name, body), once=False)


def _apart(name: str, body: Body) -> Body:
    """A body in a function of its own that is never inlined."""

    def call(*values: Value) -> None:
        builder = values[0].builder
        known = builder.module.globals.get(name)
        if known is None:
            kinds = [value.llvm.type for value in values]
            known = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
            known.linkage = "internal"
            known.attributes.add("noinline")
            known.attributes.add("nounwind")
            inner = ir.IRBuilder(known.append_basic_block("entry"))
            arguments = zip(known.args, values, strict=True)
            body(*(Value(inner, argument, value.type) for argument, value in arguments))
            inner.ret_void()
        builder.call(known, [value.llvm for value in values])

    return call


class Vectors:
    """Vectors of one length and type in memory."""

    def __init__(self, builder: Any, lanes: int, type_name: str) -> None:
        self.builder = builder
        self.lanes = lanes
        self.type = type_name
        self.scalar = SCALARS[type_name]
        self.kind = ir.VectorType(self.scalar, lanes)
        self.align = 4 if type_name == "f32" else 8
        self.zero = ir.Constant(self.kind, [0.0] * lanes)
        self.numbers = ir.Constant(ir.VectorType(_I32, lanes), [*range(lanes)])

    @property
    def _suffix(self) -> str:
        return f"v{self.lanes}{self.type}.p0"

    def spread(self, value: Any, kind: Any = None) -> Any:
        """A scalar in every lane."""
        vector = ir.VectorType(value.type, self.lanes) if kind is None else kind
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, value, _I32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, self.lanes), None))

    def place(self, base: Any, *steps: Any) -> Any:
        """A pointer so many entries further."""
        for step in steps:
            base = self.builder.gep(base, [step], source_etype=self.scalar)
        return base

    def below(self, count: Any, first: int = 0) -> Any:
        """A mask of the lanes whose number, counted from `first`, lies below a count."""
        narrow = self.builder.sub(self.builder.trunc(count, _I32), _I32(first))
        return self.builder.icmp_signed("<", self.numbers, self.spread(narrow))

    def load(self, pointer: Any, mask: Any = None) -> Any:
        """A vector; where a mask is given, 0 in the lanes outside of it, which are not read."""
        if mask is None:
            return self.builder.load(pointer, typ=self.kind, align=self.align)
        signature = ir.FunctionType(self.kind, [pointer.type, _I32, mask.type, self.kind])
        function = declare(self.builder.module, f"llvm.masked.load.{self._suffix}", signature)
        return self.builder.call(function, [pointer, _I32(self.align), mask, self.zero])

    def store(self, vector: Any, pointer: Any, mask: Any = None) -> None:
        """Write a vector, or its lanes in a mask."""
        if mask is None:
            self.builder.store(vector, self.builder.bitcast(pointer, ir.PointerType(self.kind)), align=self.align)
            return
        signature = ir.FunctionType(ir.VoidType(), [self.kind, pointer.type, _I32, mask.type])
        function = declare(self.builder.module, f"llvm.masked.store.{self._suffix}", signature)
        self.builder.call(function, [vector, pointer, _I32(self.align), mask])


class _Tile(Vectors):
    """The code of one tile."""

    def __init__(
        self, triangle: Triangle, rows: int, vectors: int, lanes: int, type_name: str, values: Sequence[Value]
    ) -> None:
        super().__init__(values[0].builder, lanes, type_name)
        self.triangle = triangle
        self.rows = rows
        self.vectors = vectors
        self.a, self.a_row, self.a_k, self.b, self.b_k, self.c, self.c_row = (value.llvm for value in values[:7])
        self.rows_left, self.columns_left, self.add = (value.llvm for value in values[7:10])
        self.first, self.start, self.stop, self.last, self.diagonal, self.more = (value.llvm for value in values[10:])

    def emit(self) -> None:
        """Emit the tile."""
        builder = self.builder
        last_row = builder.sub(self.rows_left, _I64(1))
        self.at = [_I64(0), *(self.smaller(_I64(row), last_row) for row in range(1, self.rows))]
        self.lines = [self.place(self.a, builder.mul(row, self.a_row)) for row in self.at]
        self.mask = self.below(self.columns_left, (self.vectors - 1) * self.lanes)
        self.is_more = builder.icmp_signed("!=", self.more, _I64(0))
        self.more_lanes = self.spread(self.is_more)
        sums = [self.zero] * (self.rows * self.vectors)
        if self.triangle in ("columns", "rows"):
            sums = self.loop(self.first, self.start, sums, is_partial=True)
        sums = self.loop(self.start, self.stop, sums, is_partial=False)
        if self.triangle in ("columns", "rows"):
            sums = self.loop(self.stop, self.last, sums, is_partial=True)
        self.write(sums)

    def smaller(self, one: Any, other: Any) -> Any:
        """The smaller of two integers."""
        return self.builder.select(self.builder.icmp_signed("<", one, other), one, other)

    def loop(self, start: Any, stop: Any, sums: list[Any], is_partial: bool) -> list[Any]:
        """Add the products of a range of k."""
        builder = self.builder
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        from_a, from_b = builder.mul(start, self.a_k), self.place(self.b, builder.mul(start, self.b_k))
        builder.branch(head)
        builder.position_at_end(head)
        k, offset, line = (builder.phi(value.type) for value in (start, from_a, from_b))
        carried = [builder.phi(self.kind) for _ in sums]
        for phi, value in zip([k, offset, line, *carried], [start, from_a, from_b, *sums], strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", k, stop), body, after)
        builder.position_at_end(body)
        found = self.step(k, offset, line, carried, is_partial)
        further = builder.add(k, _I64(1)), builder.add(offset, self.a_k), self.place(line, self.b_k)
        for phi, value in zip([k, offset, line, *carried], [*further, *found], strict=True):
            phi.add_incoming(value, body)
        builder.branch(head)
        builder.position_at_end(after)
        return carried

    def step(self, k: Any, offset: Any, line: Any, sums: list[Any], is_partial: bool) -> list[Any]:
        """The sums with the products of one k."""
        builder = self.builder
        columns = [
            self.load(self.place(line, _I64(at * self.lanes)), self.mask if at == self.vectors - 1 else None)
            for at in range(self.vectors)
        ]
        found = []
        shared = [self.counts(k, 0, at) for at in range(self.vectors if is_partial else 0)]
        for row, start in enumerate(self.lines):
            if is_partial and row and self.triangle == "rows":
                shared = [self.counts(k, row, 0)] * self.vectors
            entry = self.spread(builder.load(self.place(start, offset), typ=self.scalar, align=self.align))
            for at, column in enumerate(columns):
                old = sums[row * self.vectors + at]
                new = fma(*(Value(builder, part, self.type) for part in (entry, column, old)))
                if is_partial:
                    new = select(Value(builder, shared[at], "bool"), new, Value(builder, old, self.type))
                found.append(new.llvm)
        return found

    def counts(self, k: Any, row: int, at: int) -> Any:
        """A mask of the lanes that have a k."""
        builder = self.builder
        beyond = builder.sub(k, self.diagonal)
        if self.triangle == "rows":
            inside = builder.icmp_signed("<", beyond, self.at[row])
            return self.spread(builder.xor(inside, self.is_more))
        narrow = builder.sub(builder.trunc(beyond, _I32), _I32(at * self.lanes))
        inside = builder.icmp_signed(">", self.numbers, self.spread(narrow))
        return builder.xor(inside, self.more_lanes)

    def write(self, sums: list[Any]) -> None:
        """Add the sums to the result, or replace it. All is read before anything is written: a row may come twice."""
        builder = self.builder
        adds = self.spread(builder.icmp_signed("!=", self.add, _I64(0)))
        pending = []
        for row, number in enumerate(self.at):
            line = self.place(self.c, builder.mul(number, self.c_row))
            for at in range(self.vectors):
                place = self.place(line, _I64(at * self.lanes))
                mask = self.kept(number, at)
                wanted = adds if mask is None else builder.and_(adds, mask)
                total = builder.fadd(self.load(place, wanted), sums[row * self.vectors + at])
                pending.append((total, place, mask))
        for total, place, mask in pending:
            self.store(total, place, mask)

    def kept(self, row: Any, at: int) -> Any:
        """A mask of the lanes of the result that are written; None for all."""
        builder = self.builder
        mask = self.mask if at == self.vectors - 1 else None
        if self.triangle != "corner":
            return mask
        inside = self.below(builder.add(row, self.diagonal), at * self.lanes)
        inside = builder.xor(inside, self.more_lanes)
        return inside if mask is None else builder.and_(inside, mask)
