"""Linear systems by an LU factorisation that is made once and kept: solving, determinants.

The factors of a are those of its columns in another order: row k of a is reduced by the columns before k, and column k
was exchanged with column `pivots[k]`. `lower` holds the lower triangle L, and above its diagonal the upper triangle U,
whose own diagonal is 1: with P the exchanges, a = L @ U @ P.

Ops that are given the factors are given a too: their derivatives are those of a function of a, and are written with the
same factors at every order, so a system is factored once however often it is differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import NotDifferentiable
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, require
from dgraph.ops.elementwise import array_type, arrays, entry, like, summed
from dgraph.ops.linalg_triangles import TriangularSolve, diagonal, places, require_right_side, require_square
from dgraph.sizes import product
from dgraph.types import I64, Array, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


@dataclass(frozen=True)
class Lu(Op):
    """The factors of a square matrix, and for each column that with which it was exchanged, the one with the largest
    entry in its row. A zero is left on the diagonal where the matrix is singular."""

    name = "lu"
    arity = 1

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """A matrix of the type of a, and an integer per column."""
        (a,) = arrays(self, types, 1)
        n = require_square(self, a)
        return a, Array(I64, (n,))

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """Elimination by columns."""
        a = np.array(operands[0])
        pivots = np.zeros(len(a), np.int64)
        for k in range(len(a)):
            p = pivots[k] = k + int(np.argmax(np.abs(a[k, k:])))
            a[:, [k, p]] = a[:, [p, k]]
            if a[k, k] != 0:
                a[k, k + 1 :] /= a[k, k]
                a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
        return a, pivots

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """none: what is computed with the factors has the derivatives"""
        raise NotDifferentiable.at(g.span, "the factors of a matrix are not differentiated, only what they solve")

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """Two thirds of the cube of the size."""
        (a,) = arrays(self, types, 1)
        n = a.shape[0]
        return Cost(n * n * n * 2 // 3, n * n * 2 * a.dtype.bytes)


def exchanged(x: Any, pivots: Any, *, backwards: bool) -> None:
    """Exchange the rows of an array, in place, by the pivots of a factorisation."""
    order = range(len(pivots))
    for k in reversed(order) if backwards else order:
        x[[k, pivots[k]]] = x[[pivots[k], k]]


class OfFactors(Op):
    """An op on a matrix a and its factors."""

    def factored(self, types: Sequence[ValueType], count: int) -> list[Array]:
        """The operand types, the first three being a matrix and its factors."""
        found = arrays(self, types, count)
        a, factors, pivots = found[:3]
        n = require_square(self, a)
        require(
            factors == a and pivots == Array(I64, (n,)), f"{self.name}: {factors} and {pivots} are no factors of {a}"
        )
        return found


@dataclass(frozen=True)
class LuSolve(OfFactors):
    """The x with a @ x = b, for a vector or matrix b, by the factors of a; `transpose_a` solves with the transpose."""

    name = "lu_solve"
    arity = 4
    linear_in = (3,)
    transpose_a: bool = False

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The type of b."""
        a, _, _, b = self.factored(types, 4)
        require_right_side(self, a, b)
        return (b,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """Substitution with both triangles."""
        _, factors, pivots, b = operands
        lower = TriangularSolve(True, self.transpose_a)
        upper = TriangularSolve(False, self.transpose_a, True)
        x = np.array(b)
        if self.transpose_a:
            exchanged(x, pivots, backwards=False)
            return lower.evaluate(size_of, factors, upper.evaluate(size_of, factors, x))
        x = upper.evaluate(size_of, factors, lower.evaluate(size_of, factors, x))
        exchanged(x, pivots, backwards=True)
        return x

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """The same op, with the same factors, of db - da @ x."""
        a, factors, pivots, _ = primals
        da, _, _, db = tangents
        moved = None if da is None else g.neg(g.dot(da, results[0], transpose_a=self.transpose_a))
        right = summed(g, db, moved)
        return (None if right is None else g.emit(self, a, factors, pivots, right),)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The same factors, transposed."""
        return None, None, None, g.emit(LuSolve(not self.transpose_a), *operands[:3], cotangent)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """A product and a difference for each entry of a and column of b."""
        a, b = arrays(self, types, 4)[::3]
        moved = product(a.shape) + product(b.shape) * 2
        return Cost(a.shape[0] * product(b.shape) * 2, moved * a.dtype.bytes)


class Determinant(OfFactors):
    """A function of the determinant of a, computed from the factors."""

    arity: ClassVar[int | None] = 3

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """A number."""
        return (Array(self.factored(types, 3)[0].dtype),)

    def trace(self, g: Builder, primals: Sequence[Value], da: Value) -> Value:
        """The trace of inv(a) @ da: the tangent of the logarithm of the determinant."""
        row, column = places(g, da)
        unit = g.select(g.equal(row, column), like(g, 1.0, da), g.zeros(da.type))
        inverse = g.emit(LuSolve(True), *primals, unit)
        return g.reduce_sum(g.mul(inverse, da), axes=(0, 1))


@dataclass(frozen=True)
class LuLogdet(Determinant):
    """The logarithm of the absolute value of the determinant of a; -inf for a singular one."""

    name = "lu_logdet"

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The sum of the logarithms of the pivots."""
        return np.sum(np.log(np.abs(np.diagonal(operands[1]))))

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """The trace of inv(a) @ da."""
        da = tangents[0]
        return (None if da is None else self.trace(g, primals, da),)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """The sum of the logarithms of the pivots."""
        return (g.reduce_sum(g.log(g.abs(diagonal(g, operands[1]))), axes=(0,)),)


@dataclass(frozen=True)
class LuDet(Determinant):
    """The determinant of a. Where a is singular its derivatives are NaN."""

    name = "lu_det"

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The product of the pivots, with the sign of the exchanges."""
        _, factors, pivots = operands
        signs = np.where(pivots == np.arange(len(pivots)), 1, -1).astype(factors.dtype)
        return np.prod(np.diagonal(factors) * signs)

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Tangents:
        """The determinant times the trace of inv(a) @ da."""
        da = tangents[0]
        return (None if da is None else g.mul(results[0], self.trace(g, primals, da)),)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """The product of the pivots, with the sign of the exchanges."""
        _, factors, pivots = operands
        (n, _) = array_type(factors).shape

        def factor(h: Builder, k: Value) -> Value:
            own = h.index(factors, k, k, policy="proven")
            return h.select(h.equal(entry(h, pivots, [k]), k), own, h.neg(own))

        return (g.reduce_prod(g.map((n,), factor), axes=(0,)),)
