"""Decompositions that stay smooth where values coincide: blocks in place of values.

An eigenvalue that coincides with others has no second derivative, its vector none at all. The space of the vectors of
all of them has derivatives of every order, and so has the matrix restricted to it: a block. With q, whose columns span
these spaces, and b, the blocks side by side, a = q @ b @ transpose(q). At the point b is diagonal; its derivatives are
not. Every function of matrices has the derivatives of f(b), and these follow from the derivatives of f at the values,
without a division by a gap that is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Op, SizeOf, require
from dgraph.ops.elementwise import array_type, arrays, like, summed
from dgraph.ops.linalg_orthogonal import by_columns, differences, inverted, rounded, rounding, sums
from dgraph.ops.linalg_triangles import diagonal, require_square, symmetric_part, transposed
from dgraph.types import Array, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


def within_blocks(g: Builder, values: Value, matrix: Value) -> Value:
    """The entries of a matrix between values that coincide, 0 elsewhere."""
    values = g.stop_gradient(values)
    limit = g.broadcast(rounded(g, values, array_type(values).shape[0]), shape=array_type(matrix).shape)
    return g.select(g.less_equal(g.abs(differences(g, values)), limit), matrix, g.zeros(matrix.type))


def as_diagonal(g: Builder, values: Value) -> Value:
    """The matrix with a vector on its diagonal."""
    type_ = array_type(values)

    def point(h: Builder, i: Value, j: Value) -> Value:
        return h.select(h.equal(i, j), h.index(values, i, policy="proven"), h.constant(0.0, type_.dtype))

    return g.map((*type_.shape, *type_.shape), point)


@dataclass(frozen=True)
class OverBlocks(Op):
    """The x with x @ b - b @ x = m between different blocks of b, for the symmetric part of m, or for its skew part if
    `skew`, and 0 inside of blocks; the x with x @ b + b @ x = m for the skew part of m if `by` is "sums"; the x with
    x @ b = m if it is "columns". The value of b is diagonal, its derivatives are not. A quotient by 0 is 0.
    """

    name = "over_blocks"
    arity = 2
    linear_in = (1,)
    by: str = "gaps"
    skew: bool = False

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The type of the matrix."""
        blocks, matrix = arrays(self, types, 2)
        n = require_square(self, blocks)
        rows = matrix.shape[:1] if self.by == "columns" else (n,)
        require(matrix == Array(blocks.dtype, (*rows, n)), f"over_blocks: {blocks} and {matrix}")
        return (matrix,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """Quotients by what is on the diagonal."""
        blocks, matrix = operands
        values = np.diagonal(blocks)
        part = matrix
        below = np.broadcast_to(values[None, :], matrix.shape)
        if self.by != "columns":
            half = matrix.dtype.type(0.5) * matrix
            part = half + half.T if self.by == "gaps" and not self.skew else half - half.T
            below = values[None, :] - values[:, None] if self.by == "gaps" else values[None, :] + values[:, None]
        unit = values.dtype.type(len(values) + 2) * values.dtype.type(rounding(values.dtype))
        apart = np.abs(below) > unit * np.max(np.abs(values), initial=0)
        return np.where(apart, part / np.where(apart, below, np.ones_like(below)), np.zeros_like(matrix))

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """The same op of dm - (x @ db - db @ x), dm - (x @ db + db @ x) or dm - x @ db."""
        (x,), (db, dm) = results, tangents
        widened = None
        if db is not None:
            widened = g.dot(x, db)
            if self.by != "columns":
                other = g.dot(db, x)
                widened = g.sub(widened, other) if self.by == "gaps" else g.add(widened, other)
            widened = g.neg(widened)
        above = summed(g, dm, widened)
        return (None if above is None else g.emit(self, primals[0], above),)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The other part over the same gaps; else the same op."""
        op = OverBlocks(self.by, not self.skew) if self.by == "gaps" else self
        return None, g.emit(op, operands[0], cotangent)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """Quotients by what is on the diagonal."""
        blocks, matrix = operands
        values = diagonal(g, blocks)
        if self.by == "gaps":
            return (g.over_gaps(values, matrix, skew=self.skew, vectors_only=True),)
        limit = rounded(g, values, array_type(values).shape[0])
        if self.by == "columns":
            return (by_columns(g, matrix, inverted(g, values, limit)),)
        skew = g.mul(like(g, 0.5, matrix), g.sub(matrix, transposed(g, matrix)))
        return (g.mul(inverted(g, sums(g, values), limit), skew),)


@dataclass(frozen=True)
class EighBlocks(Op):
    """b and q with q @ b @ transpose(q) = (a + transpose(a)) / 2, from the eigenvalues and eigenvectors of that: b has
    them on its diagonal, and derivatives between those that coincide; q is the vectors, which turn only towards those
    of other values."""

    name = "eigh_blocks"
    arity = 3

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Two square matrices."""
        a, w, v = arrays(self, types, 3)
        n = require_square(self, a)
        require(w == Array(a.dtype, (n,)) and v == a, f"eigh_blocks: {a}, {w} and {v}")
        return a, a

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """A diagonal matrix and the vectors."""
        _, w, v = operands
        return np.diag(w), v

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """With M = transpose(q) @ da @ q for the symmetric part of da: M in blocks, and q @ over_blocks(b, M)."""
        (_, w, _), (b, q), da = primals, results, tangents[0]
        if da is None:
            return None, None
        inner = g.dot(q, g.dot(symmetric_part(g, da), q), transpose_a=True)
        return within_blocks(g, w, inner), g.dot(q, g.over_blocks(b, inner))

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A diagonal matrix and the vectors."""
        _, w, v = operands
        return as_diagonal(g, w), v


@dataclass(frozen=True)
class SvdBlocks(Op):
    """p, b, qt with p @ b @ qt = a, from the factors of a singular value decomposition: b has the values on its
    diagonal and symmetric derivatives between those that coincide; p and qt turn together only towards vectors of other
    values."""

    name = "svd_blocks"
    arity = 4

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The left factor like a, and two square matrices."""
        a, u, s, vt = arrays(self, types, 4)
        n = require_square(self, vt)
        fits = u == a and s == Array(a.dtype, (n,)) and a.rank == 2 and a.shape[1] == n
        require(fits, f"svd_blocks: {a}, {u}, {s} and {vt}")
        return a, vt, vt

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The factors, with a diagonal matrix."""
        _, u, s, vt = operands
        return u, np.diag(s), vt

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """With K = transpose(p) @ da @ q: the symmetric part of K inside of blocks; for p and q the sum and the
        difference of its symmetric part over gaps and its skew part over sums, and for p what da adds beyond."""
        (_, _, s, _), (p, b, qt), da = primals, results, tangents[0]
        if da is None:
            return None, None, None
        reach = g.dot(da, qt, transpose_b=True)
        inner = g.dot(p, reach, transpose_a=True)
        apart, together = g.over_blocks(b, inner), g.over_blocks(b, inner, by="sums")
        beyond = g.over_blocks(b, g.sub(reach, g.dot(p, inner)), by="columns")
        return (
            g.add(g.dot(p, g.add(apart, together)), beyond),
            within_blocks(g, s, symmetric_part(g, inner)),
            g.neg(g.dot(g.sub(apart, together), qt)),
        )

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """The factors, with a diagonal matrix."""
        _, u, s, vt = operands
        return u, as_diagonal(g, s), vt
