"""Exponentials, logarithms, trigonometric and hyperbolic functions, and the functions of neural networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.op import SizeOf
from dgraph.ops.elementwise import Elementwise, Unary, like, summed

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


@dataclass(frozen=True)
class Exp(Unary):
    """Exponential function."""

    name = "exp"
    numpy = np.exp

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """The result itself."""
        return y


@dataclass(frozen=True)
class Expm1(Unary):
    """`exp(x) - 1`, accurate near 0."""

    name = "expm1"
    numpy = np.expm1

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """exp(x): y + 1 would lose all digits where x is very negative."""
        return g.exp(x)


@dataclass(frozen=True)
class Log(Unary):
    """Natural logarithm; NaN below 0."""

    name = "log"
    numpy = np.log

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """dx / x."""
        (tangent,) = tangents
        return (None if tangent is None else g.div(tangent, primals[0]),)


@dataclass(frozen=True)
class Log1p(Unary):
    """`log(1 + x)`, accurate near 0."""

    name = "log1p"
    numpy = np.log1p

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """dx / (1 + x)."""
        (x,), (tangent,) = primals, tangents
        return (None if tangent is None else g.div(tangent, g.add(like(g, 1.0, x), x)),)


@dataclass(frozen=True)
class Sin(Unary):
    """Sine of an angle in radians."""

    name = "sin"
    numpy = np.sin

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """cos(x)."""
        return g.cos(x)


@dataclass(frozen=True)
class Cos(Unary):
    """Cosine of an angle in radians."""

    name = "cos"
    numpy = np.cos

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """-sin(x)."""
        return g.neg(g.sin(x))


@dataclass(frozen=True)
class Tan(Unary):
    """Tangent of an angle in radians."""

    name = "tan"
    numpy = np.tan

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """1 + y**2."""
        return g.add(like(g, 1.0, y), g.mul(y, y))


@dataclass(frozen=True)
class Asin(Unary):
    """Angle between -pi/2 and pi/2 with sine x; NaN outside -1 to 1."""

    name = "asin"
    numpy = np.arcsin
    is_steep = True

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """1 / sqrt(1 - x**2)."""
        return g.powi(_leg(g, x), exponent=-1)


@dataclass(frozen=True)
class Acos(Unary):
    """Angle between 0 and pi with cosine x; NaN outside -1 to 1."""

    name = "acos"
    numpy = np.arccos
    is_steep = True

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """-1 / sqrt(1 - x**2)."""
        return g.neg(g.powi(_leg(g, x), exponent=-1))


def _leg(g: Builder, x: Value) -> Value:
    """sqrt(1 - x**2), accurate near 1."""
    one = like(g, 1.0, x)
    return g.sqrt(g.mul(g.sub(one, x), g.add(one, x)))


@dataclass(frozen=True)
class Atan(Unary):
    """Angle between -pi/2 and pi/2 with tangent x."""

    name = "atan"
    numpy = np.arctan

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """1 / (1 + x**2)."""
        one = like(g, 1.0, x)
        return g.div(one, g.add(one, g.mul(x, x)))


@dataclass(frozen=True)
class Atan2(Elementwise):
    """`atan2(y, x)`: the angle of the point (x, y), between -pi and pi."""

    name = "atan2"
    arity = 2
    numpy = np.arctan2
    weight = 15

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """(x dy - y dx) / (x**2 + y**2)."""
        (y, x), (dy, dx) = primals, tangents
        turn = summed(g, None if dy is None else g.mul(x, dy), None if dx is None else g.neg(g.mul(y, dx)))
        return (None if turn is None else g.div(turn, g.add(g.mul(x, x), g.mul(y, y))),)


@dataclass(frozen=True)
class Sinh(Unary):
    """Hyperbolic sine."""

    name = "sinh"
    numpy = np.sinh

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """cosh(x)."""
        return g.cosh(x)


@dataclass(frozen=True)
class Cosh(Unary):
    """Hyperbolic cosine."""

    name = "cosh"
    numpy = np.cosh

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """sinh(x)."""
        return g.sinh(x)


@dataclass(frozen=True)
class Tanh(Unary):
    """Hyperbolic tangent."""

    name = "tanh"
    numpy = np.tanh

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """1 - y**2."""
        return g.sub(like(g, 1.0, y), g.mul(y, y))


@dataclass(frozen=True)
class Sigmoid(Unary):
    """Logistic function `1 / (1 + exp(-x))`, without overflow."""

    name = "sigmoid"

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """With the exponential of -|x|."""
        (x,) = operands
        one = x.dtype.type(1)
        small = np.exp(-np.absolute(x))
        return np.where(x < 0, small, one)[()] / (one + small)

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """y (1 - y)."""
        return g.mul(y, g.sub(like(g, 1.0, y), y))


@dataclass(frozen=True)
class Softplus(Unary):
    """`log(1 + exp(x))`, without overflow."""

    name = "softplus"
    weight = 20

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """With the exponential of -|x|."""
        (x,) = operands
        return np.maximum(x, x.dtype.type(0)) + np.log1p(np.exp(-np.absolute(x)))

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """sigmoid(x)."""
        return g.sigmoid(x)
