"""Special functions: the error function and the gamma family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.ir.graph import Region
from dgraph.ir.op import SizeOf, require
from dgraph.ops.elementwise import Unary, array_type, like
from dgraph.types import DType, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
"""The Bernoulli numbers B2, B4, ... of the asymptotic series."""

FAR = 12.0
"""From here on the asymptotic series of digamma has all digits of an f64."""


@dataclass(frozen=True)
class Erf(Unary):
    """Error function."""

    name = "erf"
    weight = 15

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """SciPy's erf."""
        from scipy import special

        return special.erf(operands[0])

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """2 / sqrt(pi) exp(-x**2)."""
        return g.mul(like(g, 2 / math.sqrt(math.pi), x), g.exp(g.neg(g.mul(x, x))))


@dataclass(frozen=True)
class Lgamma(Unary):
    """Logarithm of the absolute value of the gamma function."""

    name = "lgamma"
    weight = 25

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """SciPy's gammaln."""
        from scipy import special

        return special.gammaln(operands[0])

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """digamma(x)."""
        return g.digamma(x)


@dataclass(frozen=True)
class Digamma(Unary):
    """Derivative of lgamma."""

    name = "digamma"
    weight = 40

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """SciPy's psi."""
        from scipy import special

        return special.psi(operands[0])

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """polygamma(x) of order 1."""
        return g.polygamma(x, order=1)

    def scalar(self, h: Builder, *operands: Value) -> Value:
        """Steps up to where the asymptotic series serves; below 0 by reflection."""
        return _polygamma(h, operands[0], 0)


@dataclass(frozen=True)
class Polygamma(Unary):
    """The derivative of digamma of an order from 1."""

    name = "polygamma"
    weight = 60
    order: int = 1

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The operand's type."""
        require(self.order >= 1, "polygamma: an order below 1")
        return super().infer(types, regions)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """SciPy's polygamma for positive x, and its reflection."""
        from scipy import special

        (x,) = operands
        wide = np.asarray(x, np.float64)
        below = wide < 0
        found = special.polygamma(self.order, np.where(below, 1 - wide, wide))
        cotangent = 1 / np.tan(np.pi * (wide - np.rint(wide)))
        mirrored = (-1) ** self.order * found - np.pi ** (self.order + 1) * np.polyval(
            _reflection(self.order), cotangent
        )
        return np.where(below, mirrored, found).astype(x.dtype)[()]

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """The next order."""
        return g.polygamma(x, order=self.order + 1)

    def scalar(self, h: Builder, *operands: Value) -> Value:
        """Steps up to where the asymptotic series serves; below 0 by reflection."""
        return _polygamma(h, operands[0], self.order)


def _reflection(order: int) -> list[float]:
    """The polynomial (highest power first) in c = cot(u) that is the derivative of cot of an order."""
    polynomial = np.poly1d([1.0, 0.0])
    for _ in range(order):
        polynomial = np.polymul(polynomial.deriv(), np.poly1d([-1.0, 0.0, -1.0]))
    return [float(coefficient) for coefficient in polynomial.coeffs]


def _polygamma(h: Builder, x: Value, order: int) -> Value:
    """The derivative of digamma of an order (0: digamma itself) at a scalar, by scalar ops."""
    dtype = array_type(x).dtype

    def below(q: Builder) -> list[Value]:
        one = q.constant(1.0, dtype)
        mirrored = _upwards(q, q.sub(one, x), order, dtype)
        angle = q.mul(q.constant(math.pi, dtype), q.sub(x, q.round(x)))
        cotangent = q.div(one, q.tan(angle))
        far = _horner(q, cotangent, _reflection(order), dtype)
        signed = q.neg(mirrored) if order % 2 else mirrored
        return [q.sub(signed, q.mul(q.constant(math.pi ** (order + 1), dtype), far))]

    (found,) = h.if_(h.less(x, h.constant(0.0, dtype)), below, lambda q: [_upwards(q, x, order, dtype)])
    return found


def _upwards(q: Builder, x: Value, order: int, dtype: DType) -> Value:
    """Polygamma for x from 0: the recurrence up to FAR + order, then the asymptotic series."""
    sign = 1.0 if order % 2 else -1.0
    one = q.constant(1.0, dtype)
    step = q.constant(sign * math.factorial(order), dtype)
    end = q.constant(FAR + order, dtype)

    def climb(h: Builder, carried: list[Value]) -> list[Value]:
        z, total = carried
        return [h.add(z, one), h.add(total, h.div(step, h.powi(z, exponent=order + 1)))]

    start = [x, q.constant(0.0, dtype)]
    z, total, _ = q.while_(start, lambda h, carried: h.less(carried[0], end), climb)
    inverse = q.div(one, z)
    series = [
        sign * number * math.factorial(2 * k + order - 1) / math.factorial(2 * k)
        for k, number in enumerate(BERNOULLI, start=1)
    ]
    tail = _horner(q, q.mul(inverse, inverse), [*series[::-1], 0.0], dtype)
    if order == 0:
        half = q.mul(q.constant(0.5, dtype), inverse)
        return q.add(total, q.add(q.sub(q.log(z), half), tail))
    first = q.constant(sign * math.factorial(order - 1), dtype)
    second = q.mul(q.constant(0.5 * sign * math.factorial(order), dtype), inverse)
    inner = q.add(q.add(first, second), tail)
    return q.add(total, q.mul(q.powi(inverse, exponent=order), inner))


def _horner(q: Builder, x: Value, coefficients: Sequence[float], dtype: DType) -> Value:
    """A polynomial from its coefficients, the highest power first."""
    total = q.constant(coefficients[0], dtype)
    for coefficient in coefficients[1:]:
        total = q.add(q.mul(total, x), q.constant(coefficient, dtype))
    return total
