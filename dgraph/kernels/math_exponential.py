"""Exponentials, logarithms, hyperbolic functions and powers: branch-free, so that loops over them vectorise.

Arguments are reduced to a small range, where a polynomial of `coefficients` serves; special values come out of the
arithmetic or are put right by a select. With `n = rint(x / ln 2)`, e^x = 2^n e^r and |r| <= ln(2) / 2.
"""

from __future__ import annotations

from dgraph.classes import dataclass
from dgraph.kernels import coefficients
from dgraph.kernels.primitives import elementwise
from dgraph.kernels.values import Value, absolute, copysign, fma, horner, select

LOG2_E = 1.4426950408889634
INFINITY = float("inf")
NAN = float("nan")


@dataclass(frozen=True)
class Format:
    """What the formulas need to know of a float format."""

    mantissa: int
    bias: int
    rounder: float  # adding it rounds to the nearest integer, which its low bits then hold
    ln2_high: float  # few enough bits that a product with an exponent is exact
    ln2_low: float
    exp_high: float  # e^x is infinite from here on
    exp_low: float  # and zero below this
    saturated: float  # e^-x vanishes beside 1
    smallest_normal: float
    root_half_bits: int


FORMAT = {
    "f32": Format(
        mantissa=23,
        bias=127,
        rounder=12582912.0,
        ln2_high=0.693359375,
        ln2_low=-2.12194440e-4,
        exp_high=88.8,
        exp_low=-104.0,
        saturated=20.0,
        smallest_normal=1.1754943508222875e-38,
        root_half_bits=0x3F3504F3,
    ),
    "f64": Format(
        mantissa=52,
        bias=1023,
        rounder=6755399441055744.0,
        ln2_high=6.93147180369123816490e-01,
        ln2_low=1.90821492927058770002e-10,
        exp_high=709.9,
        exp_low=-746.0,
        saturated=44.0,
        smallest_normal=2.2250738585072014e-308,
        root_half_bits=0x3FE6A09E667F3BCD,
    ),
}


def power_of_two(n: Value) -> Value:
    """2^n of an integer exponent that a normal number can have."""
    form = FORMAT["f32" if n.type == "i32" else "f64"]
    return ((n + form.bias) << form.mantissa).as_float()


def reduce_exponent(x: Value) -> tuple[Value, Value]:
    """The integer n and e^r - 1 of e^x = 2^n e^r."""
    form = FORMAT[x.type]
    shifted = fma(x, LOG2_E, form.rounder)
    whole = shifted - form.rounder
    n = shifted.bits() - x.constant(form.rounder).bits()
    r = fma(whole, -form.ln2_low, fma(whole, -form.ln2_high, x))
    return n, exponential_minus_one(r)


def exponential_minus_one(r: Value) -> Value:
    """e^r - 1 for |r| <= ln(2) / 2."""
    return fma(horner(r, coefficients.EXP[r.type]), r * r, r)


def clamp(x: Value, low: float, high: float) -> Value:
    """The argument kept within bounds; NaN stays NaN."""
    capped = select(x > high, high, x)
    return select(capped < low, low, capped)


def scaled_exponential(x: Value, halvings: int) -> Value:
    """e^x / 2^halvings, which can be finite where e^x is not; scaled in two steps to reach the subnormals."""
    n, tail = reduce_exponent(x)
    half = n >> 1
    return ((tail + 1.0) * power_of_two(half)) * power_of_two(n - half - halvings)


@elementwise("exp", once=True)
def exp(x: Value) -> Value:
    """e^x."""
    form = FORMAT[x.type]
    return scaled_exponential(clamp(x, form.exp_low, form.exp_high), 0)


@elementwise("expm1", once=True)
def expm1(x: Value) -> Value:
    """e^x - 1 without cancellation near 0."""
    form = FORMAT[x.type]
    n, tail = reduce_exponent(clamp(x, -form.saturated, form.exp_high))
    half_scale = power_of_two(n - 1)
    return copysign(fma(tail, half_scale, half_scale - 0.5) * 2.0, x)


@elementwise("tanh", once=True)
def tanh(x: Value) -> Value:
    """Hyperbolic tangent, E / (E + 2) with E = e^(2 |x|) - 1."""
    doubled = absolute(x) * 2.0
    bound = FORMAT[x.type].saturated
    n, tail = reduce_exponent(select(doubled > bound, bound, doubled))
    scale = power_of_two(n)
    grown = fma(tail, scale, scale - 1.0)
    return copysign(grown / (grown + 2.0), x)


@elementwise("sigmoid", once=True)
def sigmoid(x: Value) -> Value:
    """1 / (1 + e^-x), relatively accurate on both sides."""
    decayed = exp(-absolute(x))
    return select(x >= 0.0, 1.0, decayed) / (decayed + 1.0)


@elementwise("sinh", once=True)
def sinh(x: Value) -> Value:
    """Hyperbolic sine: a polynomial below 1, halves of exponentials above."""
    size = absolute(x)
    small = fma(horner(x * x, coefficients.SINH[x.type]), x * x * x, x)
    half = scaled_exponential(clamp(size, 0.0, FORMAT[x.type].exp_high + 1.0), 1)
    return copysign(select(size < 1.0, absolute(small), half - 0.25 / half), x)


@elementwise("cosh", once=True)
def cosh(x: Value) -> Value:
    """Hyperbolic cosine."""
    half = scaled_exponential(clamp(absolute(x), 0.0, FORMAT[x.type].exp_high + 1.0), 1)
    return half + 0.25 / half


@dataclass(frozen=True)
class Logarithm:
    """The parts of log(x) = exponent * ln 2 + log(1 + f): f itself, f^2 / 2 and the rest of the series."""

    exponent: Value
    fraction: Value
    half_square: Value
    rest: Value

    def joined(self, correction: Value | float) -> Value:
        """The logarithm, with a small correction added where it loses least."""
        form = FORMAT[self.exponent.type]
        low = fma(self.exponent, form.ln2_low, self.rest + correction)
        return fma(self.exponent, form.ln2_high, self.fraction - (self.half_square - low))


def split_exponent(x: Value) -> tuple[Value, Value]:
    """The exponent and f of a positive number, subnormal ones too: 1 + f lies between sqrt(1/2) and sqrt(2)."""
    form = FORMAT[x.type]
    is_subnormal = x < form.smallest_normal
    lift = form.mantissa + 2
    bits = select(is_subnormal, x * 2.0**lift, x).bits()
    n = (bits - form.root_half_bits) >> form.mantissa
    fraction = (bits - (n << form.mantissa)).as_float() - 1.0
    exponent = integer_to_float(n)
    return select(is_subnormal, exponent - float(lift), exponent), fraction


def reduce_logarithm(x: Value) -> Logarithm:
    """The parts of the logarithm of a positive number."""
    exponent, fraction = split_exponent(x)
    s = fraction / (fraction + 2.0)
    square = s * s
    half_square = fraction * fraction * 0.5
    series = square * horner(square, coefficients.LOG[x.type])
    return Logarithm(exponent, fraction, half_square, s * (half_square + series))


def integer_to_float(n: Value) -> Value:
    """A small integer as a float of its width; 64-bit integers go through the bits, which every machine can do."""
    if n.type == "i32":
        return n.cast("sitofp", "f32")
    rounder = n.constant(FORMAT["f64"].rounder, "f64")
    return (n + rounder.bits()).as_float() - rounder


def with_special_logarithms(x: Value, y: Value) -> Value:
    """Put the logarithms of 0, of infinity, of negative numbers and of NaN right."""
    y = select(x < INFINITY, y, x)
    y = select(x.equals(0.0), -INFINITY, y)
    return select(x < 0.0, NAN, y)


@elementwise("log", once=True)
def log(x: Value) -> Value:
    """Natural logarithm."""
    return with_special_logarithms(x, reduce_logarithm(x).joined(0.0))


@elementwise("log1p", once=True)
def log1p(x: Value) -> Value:
    """log(1 + x): the logarithm of the rounded sum, corrected by what rounding lost."""
    total = x + 1.0
    lost = select(x > 1.0, 1.0 - (total - x), x - (total - 1.0)) / total
    y = with_special_logarithms(total, reduce_logarithm(total).joined(lost))
    return select(x.equals(0.0), x, y)


@elementwise("softplus", once=True)
def softplus(x: Value) -> Value:
    """log(1 + e^x), without overflow."""
    return select(x > 0.0, x, 0.0) + log1p(exp(-absolute(x)))
