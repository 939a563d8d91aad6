"""Triangles of matrices: solving with them, and the Cholesky factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, require
from dgraph.ops.elementwise import array_type, arrays, like, summed
from dgraph.sizes import Size, product, size
from dgraph.types import Array, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


def require_square(op: Op, matrix: Array) -> Size:
    """The size of a square matrix of floats."""
    require(matrix.dtype.is_float and matrix.rank == 2, f"{op.name}: {matrix} is no matrix of floats")
    require(matrix.shape[0] == matrix.shape[1], f"{op.name}: {matrix} is not square")
    return matrix.shape[0]


def require_right_side(op: Op, matrix: Array, right: Array) -> None:
    """A vector or matrix with as many rows as a square matrix, of its dtype."""
    require(right.rank in (1, 2) and right.dtype == matrix.dtype, f"{op.name}: {matrix} and {right}")
    require(right.shape[0] == matrix.shape[0], f"{op.name}: {matrix} and {right} differ in rows")


def transposed(g: Builder, matrix: Value) -> Value:
    """The matrix with its axes exchanged."""
    return g.transpose(matrix, axes=(1, 0))


def symmetric_part(g: Builder, matrix: Value) -> Value:
    """The mean of a matrix and its transpose."""
    return g.mul(like(g, 0.5, matrix), g.add(matrix, transposed(g, matrix)))


def diagonal(g: Builder, matrix: Value) -> Value:
    """The entries (i, i)."""
    extent = array_type(matrix).shape[1]
    return g.map((extent,), lambda h, i: h.index(matrix, i, i, policy="proven"))


def places(g: Builder, matrix: Value) -> tuple[Value, Value]:
    """The row and the column of each entry."""
    rows, columns = array_type(matrix).shape
    down = g.broadcast(g.reshape(g.iota(extent=rows), shape=(rows, size(1))), shape=(rows, columns))
    return down, g.broadcast(g.iota(extent=columns), shape=(rows, columns))


def triangle(g: Builder, matrix: Value, *, lower: bool, strict: bool = False) -> Value:
    """The matrix with zeros outside of a triangle; `strict` leaves the diagonal out too."""
    row, column = places(g, matrix)
    below, above = (row, column) if lower else (column, row)
    inside = g.greater(below, above) if strict else g.greater_equal(below, above)
    return g.select(inside, matrix, g.zeros(matrix.type))


def halved_triangle(g: Builder, matrix: Value) -> Value:
    """The lower triangle with half of the diagonal: L + transpose(L) is the matrix, if that is symmetric."""
    row, column = places(g, matrix)
    weight = g.select(g.equal(row, column), like(g, 0.5, matrix), like(g, 1.0, matrix))
    return triangle(g, g.mul(weight, matrix), lower=True)


@dataclass(frozen=True)
class TriangularSolve(Op):
    """The x with t @ x = b for a triangle t and a vector or matrix b. The other half of t is not read; `transpose`
    solves with the transpose of t; with `unit` the diagonal is taken to be 1.

    A zero on the diagonal gives infinities or NaN.
    """

    name = "triangular_solve"
    arity = 2
    linear_in = (1,)
    lower: bool = True
    transpose_a: bool = False
    unit: bool = False

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The type of b."""
        t, b = arrays(self, types, 2)
        require_square(self, t)
        require_right_side(self, t, b)
        return (b,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """Substitution, row by row."""
        t, b = operands
        matrix = t.T if self.transpose_a else t
        rows = range(len(t))
        is_lower = self.lower != self.transpose_a
        x = np.array(b)
        for k in rows if is_lower else reversed(rows):
            known = slice(k) if is_lower else slice(k + 1, None)
            x[k] -= matrix[k, known] @ x[known]
            if not self.unit:
                x[k] /= matrix[k, k]
        return x

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """The same op of dy - dx @ z, where dx is cut to the triangle."""
        (t, _), (dt, db) = primals, tangents
        moved = None
        if dt is not None:
            cut = triangle(g, dt, lower=self.lower, strict=self.unit)
            moved = g.neg(g.dot(cut, results[0], transpose_a=self.transpose_a))
        right = summed(g, db, moved)
        return (None if right is None else g.emit(self, t, right),)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The same triangle, transposed."""
        op = TriangularSolve(self.lower, not self.transpose_a, self.unit)
        return None, g.emit(op, operands[0], cotangent)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """A product and a difference for each entry of the triangle and column of b."""
        t, b = arrays(self, types, 2)
        moved = product(t.shape) + product(b.shape) * 2
        return Cost(t.shape[0] * product(b.shape), moved * t.dtype.bytes)


@dataclass(frozen=True)
class Cholesky(Op):
    """The lower triangle L with positive diagonal and L @ transpose(L) = (a + transpose(a)) / 2. NaN everywhere if that
    is not positive definite.

    The symmetric part is meant, so the cotangent of a is symmetric.
    """

    name = "cholesky"
    arity = 1

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The type of a."""
        (a,) = arrays(self, types, 1)
        require_square(self, a)
        return (a,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's factor of the symmetric part."""
        half = operands[0] * operands[0].dtype.type(0.5)
        try:
            return np.linalg.cholesky(half + half.T)
        except np.linalg.LinAlgError:
            return np.full_like(operands[0], np.nan)

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """L @ P, where P is the lower triangle, with half of its diagonal, of inv(L) @ dx @ inv(transpose(L))."""
        (factor,), (da,) = results, tangents
        if da is None:
            return (None,)
        left = g.triangular_solve(factor, symmetric_part(g, da))
        both = g.triangular_solve(factor, transposed(g, left))
        return (g.dot(factor, halved_triangle(g, both)),)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """A third of the cube of the size."""
        (a,) = arrays(self, types, 1)
        n = a.shape[0]
        return Cost(n * n * n // 3, n * n * 2 * a.dtype.bytes)
