"""Elementary functions for `math="precise"`: within about half a unit in the last place.

Single precision is computed in double. In double, exponentials and logarithms are computed as sums of two numbers and
rounded at the end, in vectors as the fast ones are. Functions of angles are the C library's, lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import factorial

from dgraph.kernels import math_exponential, math_special, math_trigonometric
from dgraph.kernels.long_numbers import Long, exact_fma, ordered_sum, sum_of_two
from dgraph.kernels.math_exponential import FORMAT, LOG2_E, clamp, power_of_two, with_special_logarithms
from dgraph.kernels.math_power import exponent_of_power, long_logarithm, signed_power
from dgraph.kernels.primitives import elementwise
from dgraph.kernels.values import Value, absolute, call_library, copysign, horner, host_has_fma, select, square_root

PRECISE = "precise_"
"""What the name of such a function begins with."""

_FORM = FORMAT["f64"]
# (e^r - 1 - r - r^2 / 2) / r^3 over r: the series, to 1e-21 for |r| <= ln(2) / 2.
_AFTER_SQUARE = tuple(1 / factorial(k) for k in range(3, 18))
# Where 1 vanishes beside e^x, and e^-x beside e^x, even in a sum of two numbers.
_ALONE = 80.0
# Below it log(1 + e^x) is two terms of its series.
_TWO_TERMS = -30.0

One = Callable[[Value], Value]


def through_double(body: Callable[..., Value]) -> Callable[..., Value]:
    """Single precision by a function of doubles."""

    def wide(*operands: Value) -> Value:
        return body(*(operand.cast("fpext", "f64") for operand in operands)).cast("fptrunc", "f32")

    return wide


def precise(name: str, fast: One) -> Callable[[One], One]:
    """Register a function of doubles under its precise name; single precision is the fast one of doubles, rounded."""

    def add(body: One) -> One:
        elementwise(PRECISE + name, types=("f64",), once=True)(body)
        elementwise(PRECISE + name, types=("f32",), once=True)(through_double(fast))
        return body

    return add


# ---- exponentials ----------------------------------------------------------------------------------------------------


def reduced(x: Long) -> tuple[Value, Long]:
    """The integer n and e^r - 1 of e^x = 2^n e^r with |r| <= ln(2) / 2."""
    shifted = exact_fma(x.high, LOG2_E, _FORM.rounder)
    whole = shifted - _FORM.rounder
    n = shifted.bits() - x.high.constant(_FORM.rounder).bits()
    coarse = exact_fma(whole, -_FORM.ln2_high, x.high)
    fine = exact_fma(whole, -_FORM.ln2_low, coarse)
    lost = exact_fma(whole, -_FORM.ln2_low, coarse - fine)
    r = sum_of_two(fine, lost + x.low)
    square = r.high * r.high
    half_rest = exact_fma(r.high, r.high, -square) * 0.5 + r.high * r.low
    beyond = r.high * square * horner(r.high, _AFTER_SQUARE)
    total = ordered_sum(r.high, square * 0.5)
    return n, ordered_sum(total.high, total.low + (r.low + (half_rest + beyond)))


def scaled(n: Value, tail: Long) -> Long:
    """2^n (1 + tail) for an n that a normal number can have."""
    scale = power_of_two(n)
    total = ordered_sum(scale, tail.high * scale)
    return Long(total.high, total.low + tail.low * scale)


def long_exponential(x: Value) -> Long:
    """e^x of a number for which it is normal."""
    return scaled(*reduced(Long(x, x.constant(0.0))))


def long_exponential_minus_one(x: Value) -> Long:
    """e^x - 1 without cancellation, for a number of at most `_ALONE`."""
    n, tail = reduced(Long(x, x.constant(0.0)))
    scale = power_of_two(n)
    less = sum_of_two(scale, -1.0)
    return less + Long(tail.high * scale, tail.low * scale)


def rounded_exponential(x: Long, halvings: int = 0) -> Value:
    """e^x / 2^halvings; scaled in two steps to reach the ends of the range."""
    n, tail = reduced(x)
    total = ordered_sum(x.high.constant(1.0), tail.high)
    mantissa = total.high + (total.low + tail.low)
    half = n >> 1
    return mantissa * power_of_two(half) * power_of_two(n - half - halvings)


@precise("exp", math_exponential.exp)
def exp(x: Value) -> Value:
    """e^x."""
    return rounded_exponential(Long(clamp(x, _FORM.exp_low, _FORM.exp_high), x.constant(0.0)))


@precise("expm1", math_exponential.expm1)
def expm1(x: Value) -> Value:
    """e^x - 1 without cancellation near 0."""
    near = long_exponential_minus_one(clamp(x, -_ALONE, _ALONE)).rounded()
    return copysign(select(x > _ALONE, exp(x), near), x)


@precise("sinh", math_exponential.sinh)
def sinh(x: Value) -> Value:
    """Hyperbolic sine, (E + E / (E + 1)) / 2 with E = e^|x| - 1."""
    size = absolute(x)
    grown = long_exponential_minus_one(clamp(size, 0.0, _ALONE))
    near = (grown + grown / (grown + _one(x))).rounded() * 0.5
    return copysign(select(size > _ALONE, _half_exponential(size), near), x)


@precise("cosh", math_exponential.cosh)
def cosh(x: Value) -> Value:
    """Hyperbolic cosine."""
    size = absolute(x)
    grown = long_exponential(clamp(size, 0.0, _ALONE))
    near = (grown + _one(x) / grown).rounded() * 0.5
    return select(size > _ALONE, _half_exponential(size), near)


@precise("tanh", math_exponential.tanh)
def tanh(x: Value) -> Value:
    """Hyperbolic tangent, E / (E + 2) with E = e^(2 |x|) - 1."""
    doubled = absolute(x) * 2.0
    grown = long_exponential_minus_one(clamp(doubled, 0.0, _ALONE))
    return copysign((grown / (grown + _one(x) * 2.0)).rounded(), x)


@precise("sigmoid", math_exponential.sigmoid)
def sigmoid(x: Value) -> Value:
    """1 / (1 + e^-x), which is e^x where x is far below 0."""
    decayed = long_exponential(clamp(-absolute(x), -_ALONE, 0.0))
    is_positive = x >= 0.0
    above = Long(select(is_positive, 1.0, decayed.high), select(is_positive, 0.0, decayed.low))
    return select(x < -_ALONE, exp(x), (above / (_one(x) + decayed)).rounded())


def _half_exponential(size: Value) -> Value:
    return rounded_exponential(Long(clamp(size, 0.0, _FORM.exp_high + 1.0), size.constant(0.0)), 1)


def _one(x: Value) -> Long:
    return Long(x.constant(1.0), x.constant(0.0))


# ---- logarithms, powers and roots ------------------------------------------------------------------------------------


@precise("log", math_exponential.log)
def log(x: Value) -> Value:
    """Natural logarithm."""
    return with_special_logarithms(x, long_logarithm(x).high)


def long_logarithm_of_sum(total: Long) -> Long:
    """The logarithm of a positive sum of two numbers."""
    zero = total.high.constant(0.0)
    ratio = Long(total.low, zero) / Long(total.high, zero)
    return long_logarithm(total.high) + Long(ratio.high, exact_fma(ratio.high, ratio.high * -0.5, ratio.low))


@precise("log1p", math_exponential.log1p)
def log1p(x: Value) -> Value:
    """log(1 + x)."""
    total = sum_of_two(x, 1.0)
    y = with_special_logarithms(total.high, long_logarithm_of_sum(total).rounded())
    return select(x.equals(0.0), x, y)


@precise("softplus", math_exponential.softplus)
def softplus(x: Value) -> Value:
    """log(1 + e^x): x far above 0, e^x far below, and e^x - e^(2x) / 2 where 1 + e^x holds too little of e^x."""
    decayed = long_exponential(clamp(-absolute(x), -_ALONE, 0.0))
    linear = Long(select(x > 0.0, clamp(x, 0.0, _ALONE), 0.0), x.constant(0.0))
    y = (linear + long_logarithm_of_sum(_one(x) + decayed)).rounded()
    small = decayed.high + exact_fma(decayed.high, decayed.high * -0.5, decayed.low)
    below = select(x < -_ALONE, exp(x), small)
    return select(x > _ALONE, x, select(x < _TWO_TERMS, below, y))


@elementwise(PRECISE + "pow", types=("f64",), arity=2, once=True)
def power(x: Value, y: Value) -> Value:
    """x^y."""
    return signed_power(x, y, rounded_exponential(exponent_of_power(absolute(x), y)))


@precise("rsqrt", lambda x: 1.0 / square_root(x))
def rsqrt(x: Value) -> Value:
    """1 / sqrt(x): the rounded quotient, corrected by half of what its square times x lacks to 1."""
    y = 1.0 / square_root(x)
    scaled_root = x * y
    rest = exact_fma(x, y, -scaled_root)
    lacking = exact_fma(-scaled_root, y, 1.0) - rest * y
    is_ordinary = (x > 0.0) & (x < math_exponential.INFINITY)
    return select(is_ordinary, exact_fma(y * 0.5, lacking, y), y)


# ---- angles, and what is near enough in double -----------------------------------------------------------------------


# The C library loses bits of angles that are nearly multiples of pi / 2 only where these are this close.
_CLOSE = 2.0**-40


def of_library(name: str, large: One) -> One:
    """A function of an angle by the C library. Close to where it vanishes, or has no bound, the angle of a large number
    decides all bits, and the library's has too few (8 units at the double that comes closest)."""

    def body(x: Value) -> Value:
        y = call_library(name, x)
        if not host_has_fma():
            return y
        size = absolute(y)
        is_close = (absolute(x) > math_trigonometric.LARGE["f64"]) & ((size < _CLOSE) | (size > 1.0 / _CLOSE))
        return math_trigonometric.computed_again(x, y, is_close, large, name)

    return body


for _name, _large in (
    ("sin", math_trigonometric.large_sine),
    ("cos", math_trigonometric.large_cosine),
    ("tan", math_trigonometric.large_tangent),
):
    elementwise(PRECISE + _name, types=("f64",), once=True)(of_library(_name, _large))
    elementwise(PRECISE + _name, types=("f32",), once=True)(through_double(partial(call_library, _name)))

for _name, _arity, _fast in (
    ("asin", 1, math_trigonometric.asin),
    ("acos", 1, math_trigonometric.acos),
    ("atan", 1, math_trigonometric.atan),
    ("atan2", 2, math_trigonometric.atan2),
):
    elementwise(PRECISE + _name, types=("f64",), arity=_arity, once=True)(partial(call_library, _name))
    elementwise(PRECISE + _name, types=("f32",), arity=_arity, once=True)(through_double(_fast))

elementwise(PRECISE + "erf", types=("f32",), once=True)(through_double(math_special.erf))
