"""Special functions: the error function and the gamma family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import SizeOf, require
from dgraph.ops.elementwise import Unary, array_type, like
from dgraph.types import DType, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
"""The Bernoulli numbers B2, B4, ... of the asymptotic series."""

FAR = 12
"""From here on, and the order of the derivative further, the asymptotic series has all digits of an f64."""


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
        """SciPy's gammaln, put right next to 0 and at -inf."""
        from scipy import special

        (x,) = operands
        size = np.abs(x)
        near = np.where(size < np.finfo(x.dtype).tiny, -np.log(size), special.gammaln(x))
        return np.where(x == -np.inf, x.dtype.type(np.inf), near)[()]

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
        with np.errstate(divide="ignore"):
            cotangent = 1 / np.tan(np.pi * (wide - np.rint(wide)))
        first, *others = _reflection(self.order)
        far = np.full_like(wide, first)
        for coefficient in others:
            far = far * cotangent + coefficient
        mirrored = (-1) ** self.order * found - np.pi ** (self.order + 1) * far
        # SciPy forgets the sign of 0.
        found = np.where(wide == 0, (-1) ** (self.order + 1) / wide ** (self.order + 1), found)
        return np.where(below, mirrored, found).astype(x.dtype)[()]

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """The next order."""
        return g.polygamma(x, order=self.order + 1)

    def scalar(self, h: Builder, *operands: Value) -> Value:
        """A recurrence and an asymptotic series; below 0 the reflection."""
        return _polygamma(h, operands[0], self.order)


def _reflection(order: int) -> list[float]:
    """The polynomial (highest power first) in c = cot(u) that is the derivative of cot of an order."""
    polynomial = np.poly1d([1.0, 0.0])
    for _ in range(order):
        polynomial = np.polymul(polynomial.deriv(), np.poly1d([-1.0, 0.0, -1.0]))
    return [float(coefficient) for coefficient in polynomial.coeffs]


def _polygamma(h: Builder, x: Value, order: int) -> Value:
    """The derivative of digamma of an order from 1 at a scalar, by scalar ops without a branch: below 0 by reflection,
    near 0 by the recurrence, from there on by the asymptotic series."""
    dtype = array_type(x).dtype
    one = h.constant(1.0, dtype)
    below = h.less(x, h.constant(0.0, dtype))
    upper = _above(h, h.select(below, h.sub(one, x), x), order, dtype)
    angle = h.mul(h.constant(math.pi, dtype), h.sub(x, h.round(x)))
    far = _horner(h, h.div(one, h.tan(angle)), _reflection(order), dtype)
    signed = h.neg(upper) if order % 2 else upper
    return h.select(below, h.sub(signed, h.mul(h.constant(math.pi ** (order + 1), dtype), far)), upper)


def _above(q: Builder, x: Value, order: int, dtype: DType) -> Value:
    """Polygamma for x from 0."""
    sign = 1.0 if order % 2 else -1.0
    steps = FAR + order
    is_near = q.less(x, q.constant(float(steps), dtype))
    start = q.select(is_near, x, q.constant(1.0, dtype))
    climbed = q.constant(0.0, dtype)
    # From the smallest term to the largest, so that least is rounded away.
    for step in reversed(range(steps)):
        away = q.add(start, q.constant(float(step), dtype)) if step else start
        climbed = q.add(climbed, q.div(q.constant(1.0, dtype), q.powi(away, exponent=order + 1)))
    climbed = q.mul(q.constant(sign * math.factorial(order), dtype), climbed)
    z = q.select(is_near, q.add(x, q.constant(float(steps), dtype)), x)
    inverse = q.div(q.constant(1.0, dtype), z)
    series = [
        sign * number * math.factorial(2 * k + order - 1) / math.factorial(2 * k)
        for k, number in enumerate(BERNOULLI, start=1)
    ]
    tail = _horner(q, q.mul(inverse, inverse), [*series[::-1], 0.0], dtype)
    first = q.constant(sign * math.factorial(order - 1), dtype)
    second = q.mul(q.constant(0.5 * sign * math.factorial(order), dtype), inverse)
    found = q.mul(q.powi(inverse, exponent=order), q.add(q.add(first, second), tail))
    return q.select(is_near, q.add(climbed, found), found)


def _horner(q: Builder, x: Value, coefficients: Sequence[float], dtype: DType) -> Value:
    """A polynomial from its coefficients, the highest power first."""
    total = q.constant(coefficients[0], dtype)
    for coefficient in coefficients[1:]:
        total = q.add(q.mul(total, x), q.constant(coefficient, dtype))
    return total
