"""The inner loop of matrix products: rows times vectors of columns, whose sums stay in registers.

A tile adds `a[row, k] * b[k, column]` over a range of k by fused multiply-adds, starting from zero, and adds the sums
to `c[row, column]`, or replaces it. So a sum depends on nothing but the range. Rows beyond the last are computed as the
last one again, columns beyond the last are masked: nothing outside of the arrays is read or written.

In a nested product rows and k come in runs: so many a step apart, then the next run, whose first is a leap from the
first of the one before. In a tile of a triangle only some entries count (`Triangle`). A loop over the k that all of
them share stands between loops over the k that some of them have, where a mask leaves the others as they are; what lies
outside is not even multiplied by zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from dgraph.kernels.primitives import Body, Primitive
from dgraph.kernels.product_symbols import Kind
from dgraph.kernels.values import POINTER, SCALARS, Value, declare, fma, select

_I1, _I32, _I64 = SCALARS["bool"], SCALARS["i32"], SCALARS["i64"]


def tile_name(kind: Kind, rows: int, vectors: int, type_name: str) -> str:
    """What source calls a tile."""
    return f"tile_{kind}_{rows}x{vectors}_{type_name}"


def tile(kind: Kind, rows: int, vectors: int, lanes: int, type_name: str) -> Primitive:
    """The primitive of one tile.

    Its operands: a, and its entries from row to row and from k to k; b, and its entries from k to k; c, and its entries
    from row to row; how many rows and columns are left; whether to add. Then the ranges of k (some: from `first`, all:
    from `start`, some: from `stop` to `last`); where the diagonal lies; whether what counts is beyond it. For a nested
    product instead how many k there are; the length of a run of rows, the number of the first row in its run, and the
    leaps of a and c; the same of k, and the leaps of a and b.
    """
    pointer = POINTER + type_name
    more = 9 if kind == "nested" else 6
    operands = (pointer, "i64", "i64", pointer, "i64", pointer, "i64", *("i64",) * (3 + more))
    made = _NestedTile if kind == "nested" else _RangeTile

    def body(*values: Value) -> None:
        made(kind, rows, vectors, lanes, type_name, values).emit()

    name = tile_name(kind, rows, vectors, type_name)
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
    """The code of one tile: where its rows lie in a and c, and the sums of the products of a k."""

    def __init__(
        self, form: Kind, rows: int, vectors: int, lanes: int, type_name: str, values: Sequence[Value]
    ) -> None:
        super().__init__(values[0].builder, lanes, type_name)
        self.form = form
        self.rows = rows
        self.vectors = vectors
        self.a, self.a_row, self.a_k, self.b, self.b_k, self.c, self.c_row = (value.llvm for value in values[:7])
        self.rows_left, self.columns_left, self.add = (value.llvm for value in values[7:10])
        self.others = [value.llvm for value in values[10:]]
        self.last_row = self.builder.sub(self.rows_left, _I64(1))
        self.mask = self.below(self.columns_left, (self.vectors - 1) * self.lanes)
        self.lines: list[Any] = []
        self.results: list[Any] = []

    def smaller(self, one: Any, other: Any) -> Any:
        """The smaller of two integers."""
        return self.builder.select(self.builder.icmp_signed("<", one, other), one, other)

    def loop(
        self, start: Any, stop: Any, places: tuple[Any, Any], sums: list[Any], is_partial: bool = False
    ) -> list[Any]:
        """Add the products of a range of k, whose first lie at an offset in the lines of a and at a place of b."""
        builder = self.builder
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
        from_a, from_b = places
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
        start = self.place(self.a, offset)
        for row, further in enumerate(self.lines):
            if is_partial and row and self.form == "rows":
                shared = [self.counts(k, row, 0)] * self.vectors
            entry = self.spread(builder.load(self.place(start, further), typ=self.scalar, align=self.align))
            for at, column in enumerate(columns):
                old = sums[row * self.vectors + at]
                new = fma(*(Value(builder, part, self.type) for part in (entry, column, old)))
                if is_partial:
                    new = select(Value(builder, shared[at], "bool"), new, Value(builder, old, self.type))
                found.append(new.llvm)
        return found

    def counts(self, k: Any, row: int, at: int) -> Any:
        """A mask of the lanes that have a k."""
        raise NotImplementedError

    def write(self, sums: list[Any]) -> None:
        """Add the sums to the result, or replace it. All is read before anything is written: a row may come twice."""
        builder = self.builder
        places = [
            (self.place(line, _I64(at * self.lanes)), self.kept(row, at))
            for row, line in enumerate(self.results)
            for at in range(self.vectors)
        ]
        reads, fresh, after = (builder.append_basic_block(name) for name in ("reads", "fresh", "after"))
        builder.cbranch(builder.icmp_signed("!=", self.add, _I64(0)), reads, fresh)
        totals = []
        for block in (reads, fresh):
            builder.position_at_end(block)
            starts = [self.load(place, mask) if block is reads else self.zero for place, mask in places]
            totals.append([builder.fadd(start, new) for start, new in zip(starts, sums, strict=True)])
            builder.branch(after)
        builder.position_at_end(after)
        pending = []
        for added, plain in zip(*totals, strict=True):
            total = builder.phi(self.kind)
            total.add_incoming(added, reads)
            total.add_incoming(plain, fresh)
            pending.append(total)
        for total, (place, mask) in zip(pending, places, strict=True):
            self.store(total, place, mask)

    def kept(self, _row: int, at: int) -> Any:
        """A mask of the lanes of the result that are written; None for all."""
        return self.mask if at == self.vectors - 1 else None


class _RangeTile(_Tile):
    """A tile whose rows and k are a step apart, of a whole product or a triangle."""

    def emit(self) -> None:
        """Emit the tile."""
        builder = self.builder
        self.first, self.start, self.stop, self.last, self.diagonal, self.more = self.others
        self.at = [_I64(0), *(self.smaller(_I64(row), self.last_row) for row in range(1, self.rows))]
        self.lines = [builder.mul(row, self.a_row) for row in self.at]
        self.results = [self.place(self.c, builder.mul(row, self.c_row)) for row in self.at]
        self.is_more = builder.icmp_signed("!=", self.more, _I64(0))
        self.more_lanes = self.spread(self.is_more)
        sums = [self.zero] * (self.rows * self.vectors)
        if self.form in ("columns", "rows"):
            sums = self.loop(self.first, self.start, self.places(self.first), sums, is_partial=True)
        sums = self.loop(self.start, self.stop, self.places(self.start), sums)
        if self.form in ("columns", "rows"):
            sums = self.loop(self.stop, self.last, self.places(self.stop), sums, is_partial=True)
        self.write(sums)

    def places(self, k: Any) -> tuple[Any, Any]:
        """Where a k lies in the lines of a, and in b."""
        return self.builder.mul(k, self.a_k), self.place(self.b, self.builder.mul(k, self.b_k))

    def counts(self, k: Any, row: int, at: int) -> Any:
        """A mask of the lanes that have a k."""
        builder = self.builder
        beyond = builder.sub(k, self.diagonal)
        if self.form == "rows":
            inside = builder.icmp_signed("<", beyond, self.at[row])
            return self.spread(builder.xor(inside, self.is_more))
        narrow = builder.sub(builder.trunc(beyond, _I32), _I32(at * self.lanes))
        inside = builder.icmp_signed(">", self.numbers, self.spread(narrow))
        return builder.xor(inside, self.more_lanes)

    def kept(self, row: int, at: int) -> Any:
        """A mask of the lanes of the result that are written; None for all."""
        builder = self.builder
        mask = super().kept(row, at)
        if self.form != "corner":
            return mask
        inside = self.below(builder.add(self.at[row], self.diagonal), at * self.lanes)
        inside = builder.xor(inside, self.more_lanes)
        return inside if mask is None else builder.and_(inside, mask)


class _NestedTile(_Tile):
    """A tile whose rows and k come in runs."""

    def emit(self) -> None:
        """Emit the tile."""
        builder = self.builder
        deep, row_run, row, a_leap, c_leap, k_run, k, a_jump, b_jump = self.others
        back = builder.sub(row_run, _I64(1))
        over_a, over_c = (
            builder.sub(leap, builder.mul(back, step)) for leap, step in ((a_leap, self.a_row), (c_leap, self.c_row))
        )
        line, result = _I64(0), _I64(0)
        self.lines, self.results = [line], [self.c]
        for number in range(1, self.rows):
            is_there = builder.icmp_signed("<=", _I64(number), self.last_row)
            further = builder.add(row, _I64(1))
            is_over = builder.icmp_signed("==", further, row_run)
            row = builder.select(is_over, _I64(0), further)
            a_step, c_step = (
                builder.select(is_there, builder.select(is_over, over, step), _I64(0))
                for over, step in ((over_a, self.a_row), (over_c, self.c_row))
            )
            line, result = builder.add(line, a_step), builder.add(result, c_step)
            self.lines.append(line)
            self.results.append(self.place(self.c, result))
        self.write(self.runs(deep, k_run, k, a_jump, b_jump))

    def runs(self, deep: Any, run: Any, first: Any, a_jump: Any, b_jump: Any) -> list[Any]:
        """The sums over k, a run at a time; the first may begin inside of a run."""
        builder = self.builder
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("runs.head", "runs.body", "runs.after"))
        builder.branch(head)
        builder.position_at_end(head)
        left, number, from_a, from_b = (builder.phi(value.type) for value in (deep, first, _I64(0), self.b))
        carried = [builder.phi(self.kind) for _ in range(self.rows * self.vectors)]
        starts = [deep, first, _I64(0), self.b, *[self.zero] * len(carried)]
        for phi, value in zip([left, number, from_a, from_b, *carried], starts, strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed(">", left, _I64(0)), body, after)
        builder.position_at_end(body)
        count = self.smaller(builder.sub(run, number), left)
        found = self.loop(_I64(0), count, (from_a, from_b), carried)
        next_a = builder.add(from_a, builder.sub(a_jump, builder.mul(number, self.a_k)))
        next_b = self.place(from_b, builder.sub(b_jump, builder.mul(number, self.b_k)))
        news = [builder.sub(left, count), _I64(0), next_a, next_b, *found]
        for phi, value in zip([left, number, from_a, from_b, *carried], news, strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return carried
