"""The error function, the logarithm of the gamma function and its derivative."""

from __future__ import annotations

from collections.abc import Callable

from dgraph.kernels import coefficients
from dgraph.kernels.math_exponential import INFINITY, NAN, exp, exponential_minus_one, log
from dgraph.kernels.math_trigonometric import PI, small_tangent
from dgraph.kernels.primitives import elementwise
from dgraph.kernels.values import Value, absolute, call_library, copysign, fma, horner, intrinsic, select

# How many low bits to clear so that the square of what is left is exact.
_HALF_MANTISSA = {"f32": 12, "f64": 27}
_ERFC_CENTRE = 3.0
_SHIFT = 10
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
_ERFC_END = {"f32": 11.0, "f64": 28.0}


def complement_of_large(size: Value) -> Value:
    """erfc for arguments from 0.45 on: e^(-x^2) times a polynomial over (1 + 2 x)."""
    bounded = select(size > _ERFC_END[size.type], _ERFC_END[size.type], size)
    mapped = (bounded - _ERFC_CENTRE) / (bounded + _ERFC_CENTRE)
    cleared = _HALF_MANTISSA[size.type]
    high = ((bounded.bits() >> cleared) << cleared).as_float()
    square_rest = (bounded - high) * (bounded + high)
    coarse = exp(-(high * high))
    decay = fma(coarse, exponential_minus_one(-square_rest), coarse)
    return decay * horner(mapped, coefficients.ERFC[size.type]) / fma(bounded, 2.0, 1.0)


@elementwise("erf", once=True)
def erf(x: Value) -> Value:
    """Error function."""
    size = absolute(x)
    near = fma(size, horner(size * size, coefficients.ERF[x.type]), size)
    return copysign(select(size > 1.0, 1.0 - complement_of_large(size), near), x)


@elementwise("lgamma", once=True)
def lgamma(x: Value) -> Value:
    """Logarithm of the absolute value of the gamma function, by the C library."""
    return call_library("lgamma", x)


def shifted_up(x: Value) -> tuple[Value, Value]:
    """The argument moved up by `_SHIFT` where it is small, and the sum of 1 / (x + k) over the way."""
    is_small = x < float(_SHIFT)
    start = select(is_small, x, 1.0)
    total = x.constant(0.0)
    for step in range(_SHIFT):
        total = total + 1.0 / (start + float(step))
    return select(is_small, x + float(_SHIFT), x), select(is_small, total, 0.0)


def through_double(body: Callable[[Value], Value]) -> Callable[[Value], Value]:
    """Compute single precision in double: sums that cancel near a zero stay accurate."""

    def wide(x: Value) -> Value:
        return body(x) if x.type == "f64" else body(x.cast("fpext", "f64")).cast("fptrunc", "f32")

    return wide


def reflect(x: Value) -> tuple[Value, Value, Value]:
    """Whether the argument is below 1/2, 1 - x where it is, and the tangent of pi x."""
    is_low = x < 0.5
    fraction = x - intrinsic("llvm.rint", x)
    return is_low, select(is_low, 1.0 - x, x), small_tangent(fraction * PI)


@elementwise("digamma", once=True)
@through_double
def digamma(x: Value) -> Value:
    """Derivative of lgamma; NaN at the negative poles."""
    is_low, mirrored, slope = reflect(x)
    large, total = shifted_up(mirrored)
    reciprocal = 1.0 / large
    square = reciprocal * reciprocal
    series = horner(square, tuple(-b / (2 * k) for k, b in enumerate(_BERNOULLI, 1)))
    y = log(large) - reciprocal * 0.5 + square * series - total
    y = select(is_low, select(slope.equals(0.0), NAN, y - PI / slope), y)
    return select(x.equals(0.0), copysign(x.constant(INFINITY), -x), y)
