"""Sums in a fixed order: the same numbers give the same bits on every machine, as fast as memory can be read.

Four vectors of partial sums take turns, then one; they are added pairwise, then their lanes by halves, and what is left
over is added one by one. A vector has 16 lanes of f32 or 8 of f64 wherever it runs: a machine with shorter registers
uses several for one.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from dgraph.kernels.primitives import Primitive, register
from dgraph.kernels.values import FLOATS, POINTER, SCALARS, Value

LANES = {"f32": 16, "f64": 8}
CHAINS = 4
_I64 = SCALARS["i64"]
_I32 = ir.IntType(32)


def sum_of(pointer: Value, count: Value) -> Value:
    """The sum of so many entries in a row."""
    name = pointer.type.removeprefix(POINTER)
    summation = _Summation(pointer.builder, pointer.llvm, count.llvm, SCALARS[name], LANES[name])
    return Value(pointer.builder, summation.emit(), name)


class _Summation:
    """The code of one sum."""

    def __init__(self, builder: Any, pointer: Any, count: Any, scalar: Any, lanes: int) -> None:
        self.builder = builder
        self.pointer = pointer
        self.count = count
        self.scalar = scalar
        self.lanes = lanes
        self.vector = ir.VectorType(scalar, lanes)

    def emit(self) -> Any:
        """The sum."""
        builder = self.builder
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        at, chains = self.loop(_I64(0), self.lanes * CHAINS, self.vector, [zero] * CHAINS)
        at, (first,) = self.loop(at, self.lanes, self.vector, chains[:1])
        left, right = builder.fadd(first, chains[1]), builder.fadd(chains[2], chains[3])
        _, (total,) = self.loop(at, 1, self.scalar, [self.across(builder.fadd(left, right))])
        return total

    def loop(self, start: Any, step: int, kind: Any, sums: list[Any]) -> tuple[Any, list[Any]]:
        """Add entries from a place on, as long as a whole step is left; where it ended, and the new sums."""
        builder = self.builder
        before = builder.block
        head, body, after = (builder.append_basic_block(name) for name in ("sum.head", "sum.body", "sum.after"))
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(_I64)
        index.add_incoming(start, before)
        carried = [builder.phi(kind) for _ in sums]
        for phi, value in zip(carried, sums, strict=True):
            phi.add_incoming(value, before)
        end = builder.add(index, _I64(step))
        builder.cbranch(builder.icmp_signed("<=", end, self.count), body, after)
        builder.position_at_end(body)
        width = self.lanes if kind == self.vector else 1
        for position, phi in enumerate(carried):
            place = builder.gep(
                self.pointer, [builder.add(index, _I64(position * width))], inbounds=True, source_etype=self.scalar
            )
            entries = builder.load(place, typ=kind, align=self.scalar_bytes)
            phi.add_incoming(builder.fadd(phi, entries), body)
        index.add_incoming(end, body)
        builder.branch(head)
        builder.position_at_end(after)
        return index, carried

    @property
    def scalar_bytes(self) -> int:
        return 4 if self.scalar == SCALARS["f32"] else 8

    def across(self, vector: Any) -> Any:
        """The sum of the lanes, upper half onto lower half."""
        builder = self.builder
        lanes = self.lanes
        while lanes > 1:
            lanes //= 2
            undefined = ir.Constant(vector.type, ir.Undefined)
            halves = [
                builder.shuffle_vector(vector, undefined, ir.Constant(ir.VectorType(_I32, lanes), [*part]))
                for part in (range(lanes), range(lanes, 2 * lanes))
            ]
            vector = builder.fadd(*halves)
        return builder.extract_element(vector, _I32(0))


for _type in FLOATS:
    register(Primitive(f"sum_{_type}", (POINTER + _type, "i64"), _type, sum_of, once=True))
