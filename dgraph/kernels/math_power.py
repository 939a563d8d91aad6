"""Powers of floats, with the special cases of the C library.

|x|^y = e^(y log |x|). In single precision double is wide enough for the middle; in double the logarithm and the product
are held as a sum of two numbers, since an error of the product is multiplied by up to 700 in units of the result.
"""

from __future__ import annotations

from dgraph.kernels import coefficients
from dgraph.kernels.long_numbers import Long, exact_fma, ordered_sum
from dgraph.kernels.math_exponential import (
    FORMAT,
    INFINITY,
    LOG2_E,
    NAN,
    clamp,
    exp,
    exponential_minus_one,
    log,
    power_of_two,
    split_exponent,
)
from dgraph.kernels.primitives import elementwise
from dgraph.kernels.values import Value, absolute, call_library, copysign, horner, host_has_fma, intrinsic, select

_FORM = FORMAT["f64"]
_TWO_THIRDS = 0.6666666666666666
_TWO_THIRDS_REST = 3.700743415417188e-17


def long_logarithm(x: Value) -> Long:
    """The logarithm of a positive number."""
    exponent, fraction = split_exponent(x)
    total = fraction + 2.0
    lost = fraction - (total - 2.0)
    s = fraction / total
    s_rest = exact_fma(s, -lost, exact_fma(-s, total, fraction)) / total
    square = s * s
    square_rest = exact_fma(s, s, -square) + s * s_rest * 2.0
    cube = square * s
    cube_rest = exact_fma(square, s, -cube) + exact_fma(square_rest, s, square * s_rest)
    third = cube * _TWO_THIRDS
    third_rest = exact_fma(cube, _TWO_THIRDS, -third) + exact_fma(cube, _TWO_THIRDS_REST, cube_rest * _TWO_THIRDS)
    tail = cube * square * horner(square, coefficients.LOG_TAIL)
    # Largest first: exponent * ln 2, then 2 s, then 2/3 s^3, each sum with what it loses.
    whole = exponent * _FORM.ln2_high
    sum_of_two = whole + s * 2.0
    sum_of_three = sum_of_two + third
    rest = (s * 2.0 - (sum_of_two - whole)) + (third - (sum_of_three - sum_of_two))
    rest = rest + (exact_fma(exponent, _FORM.ln2_low, exact_fma(s_rest, 2.0, third_rest)) + tail)
    return ordered_sum(sum_of_three, rest)


def exponent_of_power(size: Value, y: Value) -> Long:
    """y log(size) for a size that is not negative, within the range of exponents."""
    logarithm = long_logarithm(size)
    product = y * logarithm.high
    rest = exact_fma(y, logarithm.low, exact_fma(y, logarithm.high, -product))
    product = select(size.equals(0.0), y * -INFINITY, select(size.equals(INFINITY), y * INFINITY, product))
    rest = select(absolute(product) < 800.0, rest, 0.0)
    return Long(clamp(product, _FORM.exp_low, _FORM.exp_high), rest)


def long_power(size: Value, y: Value) -> Value:
    """size^y for a size that is not negative."""
    exponent = exponent_of_power(size, y)
    shifted = exact_fma(exponent.high, LOG2_E, _FORM.rounder)
    whole = shifted - _FORM.rounder
    n = shifted.bits() - size.constant(_FORM.rounder).bits()
    r = exact_fma(whole, -_FORM.ln2_low, exact_fma(whole, -_FORM.ln2_high, exponent.high)) + exponent.low
    half = n >> 1
    return ((exponential_minus_one(r) + 1.0) * power_of_two(half)) * power_of_two(n - half)


@elementwise("pow", arity=2, once=True)
def power(x: Value, y: Value) -> Value:
    """x^y."""
    size = absolute(x)
    if x.type == "f32":
        magnitude = exp(y.cast("fpext", "f64") * log(size.cast("fpext", "f64"))).cast("fptrunc", "f32")
    elif host_has_fma():
        magnitude = long_power(size, y)
    else:
        return call_library("pow", x, y)
    return signed_power(x, y, magnitude)


def signed_power(x: Value, y: Value, magnitude: Value) -> Value:
    """x^y from |x|^y, with the special cases of the C library."""
    is_whole = intrinsic("llvm.trunc", y).equals(y)
    half = y * 0.5
    is_odd = is_whole & intrinsic("llvm.trunc", half).differs(half)
    magnitude = select(absolute(x).equals(1.0), 1.0, magnitude)
    signed = select(is_odd, copysign(magnitude, x), magnitude)
    has_no_value = (x < 0.0) & (x > -INFINITY) & ~is_whole
    signed = select(has_no_value, NAN, signed)
    signed = select(x.differs(x) | y.differs(y), NAN, signed)
    return select(y.equals(0.0) | x.equals(1.0), 1.0, signed)
