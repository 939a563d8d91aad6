"""Memory as vectors see it: rows of entries, entries at a distance, and entries that lanes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from dgraph.kernels.memory import load as load_entry
from dgraph.kernels.memory import place_of
from dgraph.kernels.memory import store as store_entry
from dgraph.kernels.nests import WIDTHS
from dgraph.kernels.values import POINTER, SCALARS, Strided, Value, declare, memory_type, splat

_I32 = ir.IntType(32)
_I64 = SCALARS["i64"]


class VectorMemory:
    """Reads and writes for a number of lanes, in code that a builder makes. A mask of None means all lanes."""

    def __init__(self, builder: Any, lanes: int, new_block: Callable[[str], Any], slot: Callable[[Any], Any]) -> None:
        self.builder = builder
        self.lanes = lanes
        self.new_block = new_block
        self.slot = slot

    # ---- lanes -----------------------------------------------------------------------------------------------------

    def lane_of(self, value: Value, lane: int) -> Value:
        """The entry of one lane."""
        if isinstance(value, Strided):
            return value.lane(lane)
        if value.lanes == 1:
            return value
        entry = self.builder.extract_element(value.llvm, ir.Constant(_I32, lane))
        return Value(self.builder, entry, value.type)

    def bits_of(self, mask: Value) -> Any:
        """The lanes that are on as bits of an integer."""
        return self.builder.bitcast(mask.llvm, ir.IntType(self.lanes))

    def any_lane(self, mask: Value) -> Any:
        """Whether some lane is on."""
        bits = self.bits_of(mask)
        return self.builder.icmp_unsigned("!=", bits, bits.type(0))

    def most(self, value: Value, mask: Value | None) -> Value:
        """The largest i64 of the lanes that are on."""
        builder, vector = self.builder, value.llvm
        if mask is not None:
            vector = builder.select(mask.llvm, vector, splat(builder, _I64(-(2**63)), self.lanes))
        signature = ir.FunctionType(_I64, [vector.type])
        function = declare(builder.module, f"llvm.vector.reduce.smax.v{self.lanes}i64", signature)
        return Value(builder, builder.call(function, [vector]), "i64")

    def vector(self, type_name: str) -> Any:
        """The type of entries in memory for all lanes."""
        return ir.VectorType(memory_type(type_name), self.lanes)

    # ---- reading ---------------------------------------------------------------------------------------------------

    def load(self, pointer: Value, index: Value, mask: Value | None, further: int = 0) -> Value:
        """An entry for each lane, so many `further` than its index; lanes that are off read nothing and hold 0."""
        name = pointer.type.removeprefix(POINTER)
        if isinstance(index, Strided) and index.stride == 1:
            raw = self.load_row(pointer, index.base + further, name, mask)
        else:
            raw = self.gather(pointer, index, name, mask, further)
        if name == "bool":
            raw = self.builder.icmp_unsigned("!=", raw, ir.Constant(raw.type, None))
        return Value(self.builder, raw, name)

    def load_row(self, pointer: Value, start: Value, name: str, mask: Value | None) -> Any:
        """Entries in a row."""
        place, kind = place_of(pointer, start), self.vector(name)
        if mask is None:
            return self.builder.load(place, typ=kind, align=WIDTHS[name])
        signature = ir.FunctionType(kind, [place.type, _I32, mask.llvm.type, kind])
        function = self.masked("load", name, signature)
        return self.builder.call(function, [place, _I32(WIDTHS[name]), mask.llvm, ir.Constant(kind, None)])

    def masked(self, what: str, name: str, signature: Any, count: int | None = None) -> Any:
        """LLVM's function for some entries of a vector in memory, of as many as there are lanes unless told."""
        kind = memory_type(name)
        suffix = f"i{kind.width}" if isinstance(kind, ir.IntType) else "f32" if name == "f32" else "f64"
        return declare(self.builder.module, f"llvm.masked.{what}.v{count or self.lanes}{suffix}.p0", signature)

    def gather(self, pointer: Value, index: Value, name: str, mask: Value | None, further: int) -> Any:
        """Entries one by one. Lanes that are off read what another reads, so that all may."""
        if mask is not None:
            index = self.with_readable(index, mask)
        result: Any = ir.Constant(self.vector(name), None)
        for lane in range(self.lanes):
            # The number that all lanes add is left to the address, so that lanes are taken apart once for a row.
            lane_pointer = pointer.make(place_of(pointer, self.lane_of(index, lane)))
            place = place_of(lane_pointer, lane_pointer.make(_I64(further), "i64"))
            entry = self.builder.load(place, typ=memory_type(name))
            result = self.builder.insert_element(result, entry, ir.Constant(_I32, lane))
        return result

    def with_readable(self, index: Value, mask: Value) -> Value:
        """The index with that of the first lane that is on in lanes that are off; one is on."""
        builder = self.builder
        first = self.first_lane(self.bits_of(mask))
        vector = index.llvm
        known = splat(builder, builder.extract_element(vector, first), self.lanes)
        return Value(builder, builder.select(mask.llvm, vector, known), "i64")

    def first_lane(self, bits: Any) -> Any:
        """The lowest lane that is on, as i32."""
        builder = self.builder
        function = declare(
            builder.module, f"llvm.cttz.i{self.lanes}", ir.FunctionType(bits.type, [bits.type, SCALARS["bool"]])
        )
        lowest = builder.call(function, [bits, SCALARS["bool"](1)])
        if self.lanes == _I32.width:
            return lowest
        return builder.zext(lowest, _I32)

    # ---- writing ---------------------------------------------------------------------------------------------------

    def store(self, pointer: Value, index: Value, value: Value, mask: Value | None) -> None:
        """Write an entry for each lane that is on, the lowest first."""
        if not isinstance(index, Strided) or index.stride != 1:
            self.each([index, value], mask, lambda entries: store_entry(pointer, entries[0], entries[1]))
            return
        name = value.type
        raw, place, kind = value.llvm, place_of(pointer, index.base), self.vector(name)
        if name == "bool":
            raw = self.builder.zext(raw, kind)
        if mask is None:
            self.builder.store(raw, self.builder.bitcast(place, ir.PointerType(kind)), align=WIDTHS[name])
            return
        signature = ir.FunctionType(ir.VoidType(), [kind, place.type, _I32, mask.llvm.type])
        function = self.masked("store", name, signature)
        self.builder.call(function, [raw, place, _I32(WIDTHS[name]), mask.llvm])

    def update(
        self,
        pointer: Value,
        index: Value,
        term: Value,
        mask: Value | None,
        combine: Callable[[Value, Value], Value],
    ) -> None:
        """Combine the term of each lane that is on into an entry, the lowest first."""

        def one(entries: list[Value]) -> None:
            at, added = entries
            store_entry(pointer, at, combine(load_entry(pointer, at), added))

        self.each([index, term], mask, one)

    def each(self, values: list[Value], mask: Value | None, act: Callable[[list[Value]], None]) -> None:
        """Act on the entries of each lane that is on, the lowest first."""
        if mask is None:
            for lane in range(self.lanes):
                act([self.lane_of(value, lane) for value in values])
            return
        builder = self.builder
        rows = [self.spilled(value) for value in values]
        head, body, after = (self.new_block(f"each.{name}") for name in ("head", "body", "after"))
        bits = self.bits_of(mask)
        before = builder.block
        builder.branch(head)
        builder.position_at_end(head)
        left = builder.phi(bits.type)
        left.add_incoming(bits, before)
        builder.cbranch(builder.icmp_unsigned("!=", left, bits.type(0)), body, after)
        builder.position_at_end(body)
        lane = builder.zext(self.first_lane(left), _I64)
        act([self.entry(row, value, lane) for row, value in zip(rows, values, strict=True)])
        left.add_incoming(builder.and_(left, builder.sub(left, bits.type(1))), builder.block)
        builder.branch(head)
        builder.position_at_end(after)

    def spilled(self, value: Value) -> Any:
        """The entries of a vector in memory."""
        if value.lanes == 1 or isinstance(value, Strided):
            return None
        raw = value.llvm
        if value.type == "bool":
            raw = self.builder.zext(raw, ir.VectorType(SCALARS["u8"], self.lanes))
        row = self.slot(raw.type)
        self.builder.store(raw, row)
        return row

    def entry(self, row: Any, value: Value, lane: Any) -> Value:
        """The entry of a lane that is known at run time."""
        if isinstance(value, Strided):
            return value.lane(Value(self.builder, lane, "i64"))
        if row is None:
            return value
        return load_entry(self.as_row(row, value.type), Value(self.builder, lane, "i64"))

    def as_row(self, row: Any, name: str) -> Value:
        """A vector on the stack as entries."""
        pointer = self.builder.bitcast(row, ir.PointerType(memory_type(name)))
        return Value(self.builder, pointer, POINTER + name)

    def count(self, turns: int, act: Callable[[Any], None]) -> None:
        """Emit a loop of so many turns."""
        builder = self.builder
        body, after = self.new_block("count.body"), self.new_block("count.after")
        before = builder.block
        builder.branch(body)
        builder.position_at_end(body)
        lane = builder.phi(_I64)
        lane.add_incoming(_I64(0), before)
        act(lane)
        following = builder.add(lane, _I64(1))
        lane.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_unsigned("<", following, _I64(turns)), body, after)
        builder.position_at_end(after)
