"""Sums of several rows of entries at a time, one in each lane, each in the order that `sums` fixes for one row.

The lanes of a sum are added by halves. For several rows the halves of two of them share a vector, so that what a row
alone would need three additions for takes less than one.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from dgraph.kernels.memory import place_of
from dgraph.kernels.memory import store as store_entry
from dgraph.kernels.nests import WIDTHS
from dgraph.kernels.primitives import PRIMITIVES
from dgraph.kernels.sums import CHAINS, LANES
from dgraph.kernels.values import POINTER, ROWS, SCALARS, Strided, Value
from dgraph.kernels.vector_memory import VectorMemory

_I32 = ir.IntType(32)


def sums_of_rows(
    pointer: Value, index: Strided, count: Value, mask: Value | None, memory: VectorMemory, new_block: Any
) -> Value:
    """The sums of so many entries from each of the indices on; the rows are usually as long as they are apart."""
    builder = pointer.builder
    name = pointer.type.removeprefix(POINTER)
    length = index.stride
    assert isinstance(length, int)
    starts = index if mask is None else memory.with_readable(index, mask)
    places = [place_of(pointer, memory.lane_of(starts, row)) for row in range(ROWS)]
    whole, odd, after = (new_block(f"sums.{part}") for part in ("whole", "odd", "after"))
    builder.cbranch(count.equals(length).llvm, whole, odd)
    builder.position_at_end(whole)
    found = _Rows(builder, name).emit(places, length)
    first = builder.block
    builder.branch(after)
    builder.position_at_end(odd)
    row = memory.slot(found.type)
    places_vector = Value(builder, starts.llvm, "i64")
    places_row = memory.spilled(places_vector)

    def one(lane: Any) -> None:
        start = memory.entry(places_row, places_vector, lane)
        total = PRIMITIVES[f"sum_{name}"].emit(builder, [place_of(pointer, start), count.llvm], apart=True)
        store_entry(memory.as_row(row, name), Value(builder, lane, "i64"), Value(builder, total, name))

    memory.count(ROWS, one)
    each = builder.load(row, typ=found.type)
    second = builder.block
    builder.branch(after)
    builder.position_at_end(after)
    result = builder.phi(found.type)
    result.add_incoming(found, first)
    result.add_incoming(each, second)
    return Value(builder, result, name)


class _Rows:
    """The code of sums of rows whose length is known."""

    def __init__(self, builder: Any, name: str) -> None:
        self.builder = builder
        self.name = name
        self.lanes = LANES[name]
        self.zero = ir.Constant(ir.VectorType(SCALARS[name], self.lanes), None)

    def emit(self, places: list[Any], length: int) -> Any:
        """The sums, a lane for each row."""
        vectors = [self.partial(place, length) for place in places]
        while vectors[0].type.count > ROWS:
            vectors = [self.builder.fadd(*self.halves(vector)) for vector in vectors]
        # Lane l of a vector is added to lane l + half: of two rows at a time, then of four, then of all eight.
        while len(vectors) > 1:
            width = vectors[0].type.count // (ROWS // len(vectors)) // 2
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [self.paired(one, other, width) for one, other in pairs]
        return vectors[0]

    def partial(self, place: Any, length: int) -> Any:
        """The vector of partial sums of one row."""
        builder = self.builder
        chains = [self.zero] * CHAINS
        at = 0
        while at + self.lanes * CHAINS <= length:
            for chain in range(CHAINS):
                chains[chain] = builder.fadd(chains[chain], self.entries(place, at + chain * self.lanes))
            at += self.lanes * CHAINS
        while at + self.lanes <= length:
            chains[0] = builder.fadd(chains[0], self.entries(place, at))
            at += self.lanes
        return builder.fadd(builder.fadd(chains[0], chains[1]), builder.fadd(chains[2], chains[3]))

    def entries(self, place: Any, at: int) -> Any:
        """Entries of a row from a place on."""
        builder = self.builder
        start = builder.gep(place, [SCALARS["i64"](at)], inbounds=True, source_etype=SCALARS[self.name])
        return builder.load(start, typ=self.zero.type, align=WIDTHS[self.name])

    def halves(self, vector: Any) -> tuple[Any, Any]:
        """The lower and the upper lanes."""
        half = vector.type.count // 2
        return self.shuffled(vector, vector, range(half)), self.shuffled(vector, vector, range(half, 2 * half))

    def paired(self, one: Any, other: Any, width: int) -> Any:
        """Lanes of two vectors, which hold rows of `2 * width` lanes, added by halves to rows of `width` lanes."""
        count = one.type.count
        lower = [lane for lane in range(2 * count) if lane // width % 2 == 0]
        upper = [lane for lane in range(2 * count) if lane // width % 2 == 1]
        return self.builder.fadd(self.shuffled(one, other, lower), self.shuffled(one, other, upper))

    def shuffled(self, one: Any, other: Any, lanes: Any) -> Any:
        """Some lanes of two vectors."""
        places = [*lanes]
        return self.builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, len(places)), places))
