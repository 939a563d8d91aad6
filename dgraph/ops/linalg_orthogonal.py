"""Orthogonal factors of matrices: QR, eigenvectors of symmetric matrices, singular vectors.

Where two eigenvalues or singular values coincide, the vectors that belong to them are any basis of a space. What is
known to be the same for every basis is differentiated by blocks (`linalg_blocks`). Of the rest, what depends on the
values only has its first derivatives there. What depends on the vectors only (`vectors_only`, found before
differentiation) has them if it is the same for every basis. Of what depends on both the derivative cannot be known from
one basis, and second derivatives cannot either: they are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, require
from dgraph.ops.elementwise import array_type, arrays, entry, like, summed
from dgraph.ops.linalg_triangles import diagonal, require_square, symmetric_part, transposed, triangle
from dgraph.types import Array, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value
    from dgraph.sizes import Size

Tangents = Sequence["Value | None"]

CLUSTER = 4
"""Values of a matrix of n columns coincide if they differ by at most (n + 2) times so many units in the last place of
the largest one: that much LAPACK leaves between values that are equal."""


def _tall(op: Op, types: Sequence[ValueType]) -> Array:
    """A matrix of floats; that it has no more columns than rows is for the front end to see to."""
    (a,) = arrays(op, types, 1)
    require(a.dtype.is_float and a.rank == 2, f"{op.name}: {a} is no matrix of floats")
    return a


def _nothing(a: Any) -> tuple[Any, ...]:
    """NaN in place of factors: of all the shapes that the factors of an m by n matrix have."""
    m, n = a.shape
    return tuple(np.full(shape, np.nan, a.dtype) for shape in ((m, n), (n,), (n, n)))


def by_columns(g: Builder, matrix: Value, scale: Value) -> Value:
    """The matrix with each column multiplied by an entry of a vector."""
    return g.mul(matrix, g.broadcast(scale, shape=array_type(matrix).shape))


def differences(g: Builder, values: Value) -> Value:
    """The matrix of `values[j] - values[i]`."""
    (n,) = array_type(values).shape
    across = g.broadcast(values, shape=(n, n))
    return g.sub(across, transposed(g, across))


def sums(g: Builder, values: Value) -> Value:
    """The matrix of `values[i] + values[j]`."""
    (n,) = array_type(values).shape
    across = g.broadcast(values, shape=(n, n))
    return g.add(across, transposed(g, across))


def rounding(dtype: Any) -> float:
    """How far apart numbers must be for each column, beside the largest of them, to count as different."""
    return CLUSTER * float(np.finfo(dtype).eps)


def halfway(dtype: Any) -> float:
    """What is nothing, beside 1, after a computation that lost half of the digits."""
    return float(np.sqrt(np.finfo(dtype).eps))


def scaled(g: Builder, array: Value, factor: float) -> Value:
    """A factor times the largest absolute value of an array; a constant for derivatives."""
    type_ = array_type(array)
    largest = g.reduce_max(g.abs(g.stop_gradient(array)), axes=tuple(range(type_.rank)))
    return g.mul(g.constant(factor, type_.dtype), largest)


def rounded(g: Builder, array: Value, columns: Size) -> Value:
    """What is nothing but rounding beside the largest absolute value of an array that a matrix of so many columns gave;
    a constant for derivatives."""
    dtype = array_type(array).dtype
    return g.mul(g.cast(g.number(columns + 2), dtype=dtype), scaled(g, array, rounding(dtype.numpy)))


def inverted(g: Builder, entries: Value, limit: Value) -> Value:
    """The reciprocal of each entry, 0 for those that are not larger than a limit."""
    is_large = g.greater(g.abs(entries), g.broadcast(limit, shape=array_type(entries).shape))
    one = like(g, 1.0, entries)
    return g.select(is_large, g.div(one, g.select(is_large, entries, one)), g.zeros(entries.type))


@dataclass(frozen=True)
class OverGaps(Op):
    """Entry (i, j) of the symmetric part of a matrix, or of its skew part if `skew`, over `values[j] - values[i]`; 0 on
    the diagonal. Where other values coincide it is NaN, or 0 if `vectors_only`; `strict` leaves a skew part that is not
    0 there NaN: it is the cotangent of a turn of the basis, on whose choice something depends. What of it is only
    rounding counts as 0, also where values only nearly coincide.
    """

    name = "over_gaps"
    arity = 2
    linear_in = (1,)
    skew: bool = False
    vectors_only: bool = False
    strict: bool = False

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The type of the matrix."""
        values, matrix = arrays(self, types, 2)
        n = require_square(self, matrix)
        require(values == Array(matrix.dtype, (n,)), f"over_gaps: {values} and {matrix}")
        return (matrix,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """A quotient where there is a gap."""
        values, matrix = operands
        kind = values.dtype.type
        unit, root = kind(len(matrix) + 2) * kind(rounding(values.dtype)), kind(halfway(values.dtype))
        greatest, most = np.max(np.abs(values), initial=0), np.max(np.abs(matrix), initial=0)
        half = kind(0.5) * matrix
        part = half - half.T if self.skew else half + half.T
        gaps = values[None, :] - values[:, None]
        apart = np.abs(gaps) > unit * greatest
        zero = np.zeros_like(matrix)
        fine = np.eye(len(matrix), dtype=bool)
        if self.is_judged:
            part = np.where((np.abs(part) <= unit * most) & (np.abs(gaps) <= root * greatest), zero, part)
            fine |= np.abs(part) <= root * most
        elif self.vectors_only:
            fine |= True
        undefined = np.where(fine, zero, np.full_like(matrix, np.nan))
        return np.where(apart, part / np.where(apart, gaps, np.ones_like(gaps)), undefined)

    @property
    def is_judged(self) -> bool:
        """Whether the entries say if what was computed depends on the choice of a basis."""
        return self.skew and self.vectors_only and self.strict

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """The same op of dy - z * (dx[j] - dx[i]) for entry (i, j)."""
        values, _ = primals
        moved, dm = tangents
        widened = None if moved is None else g.neg(g.mul(results[0], differences(g, moved)))
        above = summed(g, dm, widened)
        return (None if above is None else g.emit(self, values, above),)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The other part over the same gaps."""
        return None, g.emit(OverGaps(not self.skew, self.vectors_only, self.strict), operands[0], cotangent)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A quotient where there is a gap."""
        values, matrix = operands
        dtype = array_type(values).dtype
        (n,) = array_type(values).shape
        least = rounded(g, values, n)
        if self.is_judged:
            near, nothing = scaled(g, values, halfway(dtype.numpy)), rounded(g, matrix, n)
            most = scaled(g, matrix, halfway(dtype.numpy))

        def point(h: Builder, i: Value, j: Value) -> Value:
            half = h.constant(0.5, dtype)
            one, other = (h.mul(half, entry(h, matrix, at)) for at in ([i, j], [j, i]))
            part = h.sub(one, other) if self.skew else h.add(one, other)
            gap = h.sub(entry(h, values, [j]), entry(h, values, [i]))
            undefined = zero = h.constant(0.0, dtype)
            if self.is_judged:
                is_rounding = h.less_equal(h.abs(part), nothing)
                part = h.select(h.logical_and(is_rounding, h.less_equal(h.abs(gap), near)), zero, part)
                fine = h.logical_or(h.equal(i, j), h.less_equal(h.abs(part), most))
            elif not self.vectors_only:
                fine = h.equal(i, j)
            if self.is_judged or not self.vectors_only:
                undefined = h.select(fine, zero, h.constant(float("nan"), dtype))
            apart = h.greater(h.abs(gap), least)
            quotient = h.div(part, h.select(apart, gap, h.constant(1.0, dtype)))
            return h.select(apart, quotient, undefined)

        return (g.map(array_type(matrix).shape, point),)


@dataclass(frozen=True)
class Qr(Op):
    """q with orthonormal columns and an upper triangle r with q @ r = a, for an a with at least as many rows as
    columns. The diagonal of r is not negative, which makes the factors unique where the columns of a are independent.
    """

    name = "qr"
    arity = 1

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """q like a, and a square matrix of as many columns."""
        a = _tall(self, types)
        return a, Array(a.dtype, (a.shape[1], a.shape[1]))

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's factors with the signs settled."""
        (a,) = operands
        if a.shape[0] < a.shape[1]:
            q, _, r = _nothing(a)
            return q, r
        q, r = np.linalg.qr(a)
        sign = np.where(np.diagonal(r) < 0, -1, 1).astype(a.dtype)
        return q * sign, sign[:, None] * r

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """With X = dx @ inv(r) and W the skew matrix with the lower triangle of transpose(q) @ X: X - q @ (transpose(q)
        @ X - W), and (transpose(q) @ X - W) @ r. For independent columns."""
        (q, r), (da,) = results, tangents
        if da is None:
            return None, None
        x = transposed(g, g.triangular_solve(r, transposed(g, da), lower=False, transpose_a=True))
        inner = g.dot(q, x, transpose_a=True)
        lower = triangle(g, inner, lower=True, strict=True)
        upper = g.sub(inner, g.sub(lower, transposed(g, lower)))
        return g.sub(x, g.dot(q, upper)), g.dot(upper, r)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """Twice the entries times the columns, for each factor."""
        a = _tall(self, types)
        m, n = a.shape
        return Cost(m * n * n * 4, (m * n * 2 + n * n) * a.dtype.bytes)


@dataclass(frozen=True)
class Eigh(Op):
    """The eigenvalues of (a + transpose(a)) / 2 in ascending order, and the matrix whose columns are the eigenvectors.

    The symmetric part is meant, so the cotangent of a is symmetric. NaN where a is not finite.
    """

    name = "eigh"
    arity = 1
    vectors_only: bool = False

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """A vector and a matrix."""
        (a,) = arrays(self, types, 1)
        n = require_square(self, a)
        return Array(a.dtype, (n,)), a

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's eigenvalues and eigenvectors of the symmetric part."""
        half = operands[0] * operands[0].dtype.type(0.5)
        try:
            if np.isfinite(half).all():
                found = np.linalg.eigh(half + half.T)
                return found.eigenvalues, found.eigenvectors
        except np.linalg.LinAlgError:
            pass
        return _nothing(half)[1:]

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """With M = transpose(v) @ dx @ v for the symmetric part of dx: the diagonal of M, and v @ over_gaps(w, M)."""
        (w, v), (da,) = results, tangents
        if da is None:
            return None, None
        inner = g.dot(v, g.dot(symmetric_part(g, da), v), transpose_a=True)
        turned = g.over_gaps(w, inner, vectors_only=self.vectors_only, strict=True)
        return diagonal(g, inner), g.dot(v, turned)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """Nine times the cube of the size."""
        (a,) = arrays(self, types, 1)
        n = a.shape[0]
        return Cost(n * n * n * 9, n * n * 2 * a.dtype.bytes)


@dataclass(frozen=True)
class Svd(Op):
    """u, s, vt with u @ diag(s) @ vt = a, for an a with at least as many rows as columns: u has the shape of a and
    orthonormal columns, s is not negative and descends, vt is square and orthogonal. The largest entry of each row of
    vt is positive. NaN where a is not finite."""

    name = "svd"
    arity = 1
    vectors_only: bool = False

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """u like a, a number and a row for each column."""
        a = _tall(self, types)
        n = a.shape[1]
        return a, Array(a.dtype, (n,)), Array(a.dtype, (n, n))

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's reduced decomposition."""
        (a,) = operands
        try:
            if a.shape[0] >= a.shape[1] and np.isfinite(a).all():
                found = np.linalg.svd(a, full_matrices=False)
                largest = np.argmax(np.abs(found.Vh), axis=1) if a.shape[1] else np.zeros(0, np.int64)
                sign = np.where(found.Vh[np.arange(a.shape[1]), largest] < 0, -1, 1).astype(a.dtype)
                return found.U * sign, found.S, sign[:, None] * found.Vh
        except np.linalg.LinAlgError:
            pass
        return _nothing(a)

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """With K = transpose(u) @ dx @ v: the diagonal of K for s; for u and v the sum and the difference of
        over_gaps(s, K) and (K - transpose(K)) / (s[i] + s[j]) / 2, and for u what dx adds beyond the columns of u.
        Divisions by singular values that are 0 give 0."""
        (u, s, vt), (da,) = results, tangents
        if da is None:
            return None, None, None
        reach = g.dot(da, vt, transpose_b=True)
        inner = g.dot(u, reach, transpose_a=True)
        limit = rounded(g, s, array_type(s).shape[0])
        apart = g.over_gaps(s, inner, vectors_only=self.vectors_only)
        skew = g.mul(like(g, 0.5, inner), g.sub(inner, transposed(g, inner)))
        together = g.mul(inverted(g, sums(g, s), limit), skew)
        left, right = g.add(apart, together), g.sub(apart, together)
        beyond = by_columns(g, g.sub(reach, g.dot(u, inner)), inverted(g, s, limit))
        return g.add(g.dot(u, left), beyond), diagonal(g, inner), g.neg(g.dot(right, vt))

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """Some twenty operations for each entry and column."""
        a = _tall(self, types)
        m, n = a.shape
        return Cost(m * n * n * 20, (m * n * 2 + n * n) * a.dtype.bytes)
