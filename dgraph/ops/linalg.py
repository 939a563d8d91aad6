"""Products of vectors and matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, require
from dgraph.ops.elementwise import NUMBERS, array_type, arrays, entry
from dgraph.ops.reduce import over
from dgraph.sizes import Size, product, size
from dgraph.types import Array, Shape, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


@dataclass(frozen=True)
class Dot(Op):
    """Product of vectors and matrices as NumPy's matmul, with equal leading batch axes. `transpose_a` and
    `transpose_b` read the last two axes of a matrix exchanged."""

    name = "dot"
    arity = 2
    linear_in = (0, 1)
    transpose_a: bool = False
    transpose_b: bool = False

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Batch axes, rows of a, columns of b."""
        a, b = arrays(self, types, 2)
        shown = f"dot: {a} and {b}"
        require(a.dtype == b.dtype and a.dtype.kind in NUMBERS, shown)
        require(a.rank > 0 and b.rank > 0, f"{shown}: a scalar")
        require(not (self.transpose_a and a.rank == 1), f"{shown}: a is no matrix")
        require(not (self.transpose_b and b.rank == 1), f"{shown}: b is no matrix")
        batch, rows, common, other, columns = self.parts(a.shape, b.shape)
        require(common == other, f"{shown}: {common} and {other} differ")
        require(a.rank == b.rank or max(a.rank, b.rank) == 2, f"{shown}: batch axes differ")
        require(batch == b.shape[: len(batch)], f"{shown}: batch axes differ")
        return (Array(a.dtype, (*batch, *rows, *columns)),)

    def parts(self, a: Shape, b: Shape) -> tuple[Shape, Shape, Size, Size, Shape]:
        """Batch axes, the row axis of a (none for a vector), both contracted extents, the column axis of b."""
        rows = () if len(a) == 1 else (a[-1] if self.transpose_a else a[-2],)
        columns = () if len(b) == 1 else (b[-2] if self.transpose_b else b[-1],)
        common = a[-2] if self.transpose_a else a[-1]
        other = b[-1] if self.transpose_b or len(b) == 1 else b[-2]
        return a[:-2], rows, common, other, columns

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's matmul."""
        a, b = operands
        left = np.swapaxes(a, -1, -2) if self.transpose_a else a
        return np.matmul(left, np.swapaxes(b, -1, -2) if self.transpose_b else b)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """Again a product: of the cotangent and the other operand."""
        a, b = operands
        ranks = array_type(a).rank, array_type(b).rank
        if linear[0]:
            return self._to_left(g, a, b, cotangent, ranks), None
        return None, self._to_right(g, a, b, cotangent, ranks)

    def _to_left(self, g: Builder, a: Value, b: Value, ct: Value, ranks: tuple[int, int]) -> Value:
        if ranks == (1, 1):
            return g.mul(g.broadcast(ct, shape=array_type(b).shape), b)
        if ranks[0] == 1:
            return g.dot(b, ct, transpose_a=self.transpose_b)
        if ranks[1] == 1:
            return outer(g, b, ct) if self.transpose_a else outer(g, ct, b)
        if self.transpose_a:
            return g.dot(b, ct, transpose_a=self.transpose_b, transpose_b=True)
        return g.dot(ct, b, transpose_b=not self.transpose_b)

    def _to_right(self, g: Builder, a: Value, b: Value, ct: Value, ranks: tuple[int, int]) -> Value:
        if ranks == (1, 1):
            return g.mul(a, g.broadcast(ct, shape=array_type(a).shape))
        if ranks[1] == 1:
            return g.dot(a, ct, transpose_a=not self.transpose_a)
        if ranks[0] == 1:
            return outer(g, ct, a) if self.transpose_b else outer(g, a, ct)
        if self.transpose_b:
            return g.dot(ct, a, transpose_a=True, transpose_b=self.transpose_a)
        return g.dot(a, ct, transpose_a=not self.transpose_a)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A sum of products at each point."""
        a, b = operands
        batch, rows, common, _, columns = self.parts(array_type(a).shape, array_type(b).shape)

        def point(h: Builder, *at: Value) -> Value:
            lead, row = at[: len(batch)], at[len(batch) : len(batch) + len(rows)]
            column = at[len(batch) + len(rows) :]

            def term(q: Builder, k: Value) -> Value:
                left = (k, *row) if self.transpose_a else (*row, k)
                right = (*column, k) if self.transpose_b else (k, *column)
                return q.mul(entry(q, a, (*lead, *left)), entry(q, b, (*lead, *right)))

            return over(h, [common], "add", array_type(a).dtype, term)

        extents = (*batch, *rows, *columns)
        return (g.map(extents, point) if extents else point(g),)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """A product and a sum for each pair of entries that meet."""
        a, b = arrays(self, types, 2)
        batch, rows, common, _, columns = self.parts(a.shape, b.shape)
        result = product((*batch, *rows, *columns))
        moved = product(a.shape) + product(b.shape) + result
        return Cost(result * common * 2, moved * a.dtype.bytes)


def outer(g: Builder, x: Value, y: Value) -> Value:
    """The matrix of products of the entries of two vectors."""
    (rows,), (columns,) = array_type(x).shape, array_type(y).shape
    left = g.broadcast(g.reshape(x, shape=(rows, size(1))), shape=(rows, columns))
    return g.mul(left, g.broadcast(y, shape=(rows, columns)))
