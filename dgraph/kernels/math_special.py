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
# The zero of digamma between 1 and 2, in two parts, and how far around it its own form serves.
_ROOT = 1.4616321449683622
_ROOT_REST = 9.549995429965697e-17
_ROOT_REACH = 2.0
# (digamma(root + _SHIFT + d) - digamma(root + _SHIFT)) / d over d.
_BEYOND_ROOT = (
    0.09116420428337027,
    -0.0041525930844309175,
    0.0002520317000676907,
    -1.7196777808126642e-05,
    1.2507574550602629e-06,
    -9.46967933612916e-08,
    7.369558839131585e-09,
    -5.850790322485546e-10,
    4.715650012501417e-11,
    -3.845749059377406e-12,
    3.1659595110667095e-13,
    -2.6263777785064125e-14,
    2.1926130852128613e-15,
    -1.840238399340721e-16,
    1.551461348095618e-17,
    -1.3130438649679746e-18,
    1.1149563791792118e-19,
    -9.494808860529587e-21,
    8.105975155021207e-22,
    -6.93555368898714e-23,
    5.945661962860986e-24,
    -5.105818232109918e-25,
)


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


def through_double(body: Callable[[Value], Value]) -> Callable[[Value], Value]:
    """Compute single precision in double: what cancels near a zero stays accurate."""

    def wide(x: Value) -> Value:
        return body(x) if x.type == "f64" else body(x.cast("fpext", "f64")).cast("fptrunc", "f32")

    return wide


@elementwise("lgamma", once=True)
@through_double
def lgamma(x: Value) -> Value:
    """Logarithm of the absolute value of the gamma function, by the C library."""
    return call_library("lgamma", x)


def shifted_up(x: Value) -> tuple[Value, Value, Value]:
    """The argument moved up by `_SHIFT` where it is small, the sum of 1 / (x + k) over the way, and the difference of
    that sum from the one at the root, divided by the distance from there."""
    is_small = x < float(_SHIFT)
    start = select(is_small, x, 1.0)
    total, weighted = x.constant(0.0), x.constant(0.0)
    for step in range(_SHIFT):
        term = 1.0 / (start + float(step))
        total = total + term
        weighted = fma(term, 1.0 / (_ROOT + step), weighted)
    return select(is_small, x + float(_SHIFT), x), select(is_small, total, 0.0), weighted


def reflect(x: Value) -> tuple[Value, Value, Value]:
    """Whether the argument is below 1/2, 1 - x where it is, and the tangent of pi x."""
    is_low = x < 0.5
    fraction = x - intrinsic("llvm.rint", x)
    return is_low, select(is_low, 1.0 - x, x), small_tangent(fraction * PI)


@elementwise("digamma", once=True)
@through_double
def digamma(x: Value) -> Value:
    """Derivative of lgamma; NaN at the negative poles. Around its positive zero it is the distance from there times a
    sum without cancellation."""
    is_low, mirrored, slope = reflect(x)
    large, total, weighted = shifted_up(mirrored)
    reciprocal = 1.0 / large
    square = reciprocal * reciprocal
    series = horner(square, tuple(-b / (2 * k) for k, b in enumerate(_BERNOULLI, 1)))
    y = log(large) - reciprocal * 0.5 + square * series - total
    away = (mirrored - _ROOT) - _ROOT_REST
    y = select(absolute(away) < _ROOT_REACH, away * (horner(away, _BEYOND_ROOT) + weighted), y)
    y = select(is_low, select(slope.equals(0.0), NAN, y - PI / slope), y)
    return select(x.equals(0.0), copysign(x.constant(INFINITY), -x), y)
