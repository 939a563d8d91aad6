"""Arithmetic on numbers, entry by entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import SizeOf, require
from dgraph.ops.elementwise import NUMBERS, Elementwise, Steps, Unary, arrays, like, summed
from dgraph.types import ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


@dataclass(frozen=True)
class Add(Elementwise):
    """Sum: `x + y`. Linear in both together."""

    name = "add"
    arity = 2
    kinds = NUMBERS
    numpy = np.add

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """dx + dy."""
        return (summed(g, *tangents),)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The cotangent goes to both."""
        return tuple(cotangent if moved else None for moved in linear)


@dataclass(frozen=True)
class Sub(Elementwise):
    """Difference: `x - y`. Linear in both together."""

    name = "sub"
    arity = 2
    kinds = NUMBERS
    numpy = np.subtract

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """dx - dy."""
        dx, dy = tangents
        if dy is None:
            return (dx,)
        return (g.neg(dy) if dx is None else g.sub(dx, dy),)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The cotangent, and its negative."""
        return cotangent if linear[0] else None, g.neg(cotangent) if linear[1] else None


@dataclass(frozen=True)
class Mul(Elementwise):
    """Product: `x * y`."""

    name = "mul"
    arity = 2
    kinds = NUMBERS
    numpy = np.multiply
    linear_in = (0, 1)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The cotangent times the other operand."""
        x, y = operands
        return (g.mul(cotangent, y), None) if linear[0] else (None, g.mul(x, cotangent))


@dataclass(frozen=True)
class Steep(Elementwise):
    """`steep(x, y)`: `x * y`, but 0 where one of them is 0, even if the other is infinite or NaN. The product in
    derivatives of functions with an infinite slope somewhere: where nothing arrives, nothing is passed on."""

    name = "steep"
    arity = 2
    weight = 3
    linear_in = (0, 1)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """A product and a choice."""
        x, y = operands
        return np.where((x == 0) | (y == 0), x.dtype.type(0), x * y)[()]

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The same product of the cotangent with the other operand."""
        x, y = operands
        return (g.steep(cotangent, y), None) if linear[0] else (None, g.steep(x, cotangent))

    def scalar(self, h: Builder, *operands: Value) -> Value:
        """A product and a choice."""
        zero = like(h, 0.0, operands[0])
        nothing = h.logical_or(*(h.equal(operand, zero) for operand in operands))
        return h.select(nothing, zero, h.mul(*operands))


@dataclass(frozen=True)
class Div(Elementwise):
    """Quotient of floats: `x / y`."""

    name = "div"
    arity = 2
    numpy = np.divide
    weight = 4

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """(dx - z dy) / y, where z is the quotient; where y varies, times 1 / y, which is the same for all tangents."""
        dx, dy = tangents
        if dy is None:
            return (None if dx is None else g.div(dx, primals[1]),)
        through = g.mul(results[0], dy)
        changed = g.neg(through) if dx is None else g.sub(dx, through)
        return (g.mul(changed, g.div(like(g, 1.0, primals[1]), primals[1])),)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The cotangent over y: the quotient is linear in x only."""
        return g.div(cotangent, operands[1]), None


@dataclass(frozen=True)
class Neg(Elementwise):
    """Change of sign: `-x`."""

    name = "neg"
    arity = 1
    kinds = NUMBERS
    numpy = np.negative
    linear_in = (0,)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The negative cotangent."""
        return (g.neg(cotangent),)


@dataclass(frozen=True)
class Abs(Unary):
    """Absolute value; its derivative at 0 is 0."""

    name = "abs"
    kinds = NUMBERS
    numpy = np.absolute
    weight = 1

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """sign(x)."""
        return g.sign(x)


@dataclass(frozen=True)
class Sign(Steps):
    """-1, 0 or 1 after the sign of x."""

    name = "sign"
    kinds = NUMBERS
    numpy = np.sign


@dataclass(frozen=True)
class Floor(Steps):
    """The largest whole number at most x."""

    name = "floor"
    numpy = np.floor


@dataclass(frozen=True)
class Ceil(Steps):
    """The smallest whole number at least x."""

    name = "ceil"
    numpy = np.ceil


@dataclass(frozen=True)
class Round(Steps):
    """The nearest whole number, a half to the even one."""

    name = "round"
    numpy = np.rint


class _Division(Elementwise):
    """A division that rounds. Its `policy` says what a divisor of 0 means among integers: "error" (a run-time fault) or
    "drop" (the result is 0)."""

    arity = 2
    kinds = NUMBERS
    weight = 6
    policy: str

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The common type."""
        require(self.policy in ("error", "drop"), f"{self.name}: no policy is called {self.policy}")
        return super().infer(types, regions)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The NumPy function. Raises `ZeroDivisionError` for an integer divisor of 0, if that is a fault."""
        x, y = operands
        if self.policy == "error" and y.dtype.kind in "iu" and not np.all(y):
            raise ZeroDivisionError("division by zero")
        return type(self).numpy(x, y)


@dataclass(frozen=True)
class FloorDivide(_Division):
    """Quotient rounded down: `x // y`. An integer over 0 is a fault, or 0, as `policy` says."""

    name = "floor_divide"
    numpy = np.floor_divide
    policy: str = "drop"

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """A structural zero."""
        return (None,)


@dataclass(frozen=True)
class Mod(_Division):
    """Remainder with the sign of y: `x % y`. An integer modulo 0 is a fault, or 0, as `policy` says."""

    name = "mod"
    numpy = np.remainder
    policy: str = "drop"

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """dx - (x // y) dy."""
        dx, dy = tangents
        if dy is None:
            return (dx,)
        through = g.mul(g.floor_divide(*primals), dy)
        return (g.neg(through) if dx is None else g.sub(dx, through),)


@dataclass(frozen=True)
class Relu(Elementwise):
    """x where it is positive, else 0; NaN stays. Its derivative at 0 is 0."""

    name = "relu"
    arity = 1
    kinds = NUMBERS

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The larger of x and 0."""
        (x,) = operands
        return np.maximum(x, x.dtype.type(0))

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The tangent where x is positive."""
        (tangent,) = tangents
        if tangent is None:
            return (None,)
        zero = like(g, 0.0, tangent)
        return (g.select(g.greater(primals[0], zero), tangent, zero),)


@dataclass(frozen=True)
class Sqrt(Unary):
    """Square root; NaN below 0. Its derivative at 0 is inf."""

    name = "sqrt"
    numpy = np.sqrt
    weight = 4
    is_steep = True

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """0.5 / y: 0.5 times a power, since the rule for powers is steep in its turn."""
        # The root of -0 is -0; adding 0 makes it 0, so that the slope there is inf and not -inf.
        return g.mul(like(g, 0.5, y), g.powi(g.add(y, like(g, 0.0, y)), exponent=-1))


@dataclass(frozen=True)
class Rsqrt(Unary):
    """One over the square root."""

    name = "rsqrt"
    weight = 6

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """A division by the root."""
        (x,) = operands
        return x.dtype.type(1) / np.sqrt(x)

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """-0.5 y / x."""
        return g.div(g.mul(like(g, -0.5, y), y), x)


@dataclass(frozen=True)
class Fma(Elementwise):
    """`x * y + z` rounded once. Only passes make it: a program says what is rounded where."""

    name = "fma"
    arity = 3

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """Exact rational arithmetic, rounded once; the plain formula where a factor is not finite or all is zero."""
        x, y, z = operands
        plain = np.where(np.isfinite(x) & np.isfinite(y) & ~np.isfinite(z), z, x * y + z)
        exact = np.array(plain)
        for at in np.ndindex(plain.shape):
            entries = [np.asarray(operand)[at] for operand in (x, y, z)]
            if all(map(np.isfinite, entries)):
                exact[at] = _fused(entries[0], entries[1], entries[2], plain[at])
        return exact[()]

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """y dx + x dy + dz."""
        (x, y, _), (dx, dy, dz) = primals, tangents
        return (summed(g, dx and g.mul(dx, y), dy and g.mul(x, dy), dz),)


def _fused(x: Any, y: Any, z: Any, plain: Any) -> Any:
    """`x * y + z` of finite floats, rounded once. `plain` is the result where it is exactly 0: it has the sign."""
    from fractions import Fraction

    total = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    if total == 0:
        return plain
    try:
        rounded = float(total)
    except OverflowError:
        return np.copysign(np.inf, float(total > 0) - 0.5)
    if x.dtype == np.float64 or Fraction(rounded) == total:
        return rounded
    # Rounding to f64 and then to f32 rounds twice. With the inexact f64 made odd, the second rounding decides rightly.
    if np.float64(rounded).view(np.int64) % 2 == 0:
        rounded = np.nextafter(rounded, np.inf if Fraction(rounded) < total else -np.inf)
    return np.float32(rounded)


@dataclass(frozen=True)
class Pow(Elementwise):
    """Power of floats: `x ** y`; NaN for negative x unless y is whole. 0 ** 0 is 1 with derivatives 0."""

    name = "pow"
    arity = 2
    weight = 20

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """IEEE 754 pow. With a rank-0 exponent NumPy would take a root for 0.5, which is wrong at -0 and -inf."""
        x, y = operands
        return np.power(np.atleast_1d(x), np.atleast_1d(y)).reshape(np.shape(x))[()]

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """y x**(y - 1) dx + x**y log(x) dy; at x = 0 the first is 0 if y = 0, the second if y >= 0."""
        (x, y), (dx, dy) = primals, tangents
        zero, one = like(g, 0.0, x), like(g, 1.0, x)
        at_zero = g.equal(x, zero)
        through_base = through_exponent = None
        if dx is not None:
            both = g.logical_and(at_zero, g.equal(y, zero))
            lower = g.select(both, zero, g.sub(y, one))
            through_base = g.steep(g.pow(x, lower), g.mul(y, dx))
        if dy is not None:
            quiet = g.logical_and(at_zero, g.greater_equal(y, zero))
            through_exponent = g.mul(g.mul(results[0], g.log(g.select(quiet, one, x))), dy)
        return (summed(g, through_base, through_exponent),)


@dataclass(frozen=True)
class Powi(Elementwise):
    """Power with a fixed integer exponent, by repeated squaring; a negative one is 1 over the positive power."""

    name = "powi"
    arity = 1
    kinds = NUMBERS
    weight = 4
    exponent: int = 2

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The operand's type."""
        whole = arrays(self, types, 1)[0].dtype.kind == "int"
        require(self.exponent >= 0 or not whole, "powi: a negative power of an integer")
        return super().infer(types, regions)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The products in the order that `power` states."""
        (x,) = operands
        one = np.ones_like(x)[()]
        found = power(x, abs(self.exponent), np.multiply) if self.exponent else one
        return one / found if self.exponent < 0 else found

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """n x**(n - 1) dx; a structural zero for n = 0. That of 1 / x is made from 1 / x."""
        (x,), (tangent,) = primals, tangents
        n = self.exponent
        if tangent is None or n == 0:
            return (None,)
        if n == 1:
            return (tangent,)
        lower = x if n == 2 else g.mul(results[0], results[0]) if n == -1 else g.powi(x, exponent=n - 1)
        slope = g.mul(like(g, float(n), x), lower)
        return (g.steep(slope, tangent) if n < 0 else g.mul(slope, tangent),)


def power(x: Any, exponent: int, multiply: Any) -> Any:
    """x to a positive exponent: squares for the bits of the exponent from the lowest, multiplied up as they are met.

    The one order of products, for the interpreter and for kernels.
    """
    found: Any = None
    while True:
        if exponent % 2:
            found = x if found is None else multiply(found, x)
        exponent //= 2
        if not exponent:
            return found
        x = multiply(x, x)
