"""Error function, gamma function and the inverse hyperbolic functions."""

from __future__ import annotations

from dgraph.kernels import coefficients
from dgraph.kernels.math_exponential import FORMAT, exp, log, scaled_exponential
from dgraph.kernels.primitives import elementwise
from dgraph.kernels.values import Value, absolute, call_library, copysign, fma, horner, select

# How many low bits to clear so that the square of what is left is exact.
_HALF_MANTISSA = {"f32": 12, "f64": 27}
_ERFC_CENTRE = 3.0
_ERFC_END = {"f32": 11.0, "f64": 28.0}


def complement_of_large(size: Value) -> Value:
    """erfc for arguments from 0.95 on: e^(-x^2) times a polynomial over (1 + 2 x)."""
    bounded = select(size > _ERFC_END[size.type], _ERFC_END[size.type], size)
    mapped = (bounded - _ERFC_CENTRE) / (bounded + _ERFC_CENTRE)
    cleared = _HALF_MANTISSA[size.type]
    high = ((bounded.bits() >> cleared) << cleared).as_float()
    square_rest = (bounded - high) * (bounded + high)
    decay = exp(-(high * high)) * (1.0 - square_rest + square_rest * square_rest * 0.5)
    return decay * horner(mapped, coefficients.ERFC[size.type]) / fma(bounded, 2.0, 1.0)


@elementwise("erf", once=True)
def erf(x: Value) -> Value:
    """Error function."""
    size = absolute(x)
    near = size * horner(size * size, coefficients.ERF[x.type])
    return copysign(select(size > 1.0, 1.0 - complement_of_large(size), near), x)


@elementwise("erfc", once=True)
def erfc(x: Value) -> Value:
    """1 - erf(x), relatively accurate where it is small."""
    size = absolute(x)
    far = complement_of_large(size)
    near = 1.0 - x * horner(x * x, coefficients.ERF[x.type])
    return select(size > 1.0, select(x < 0.0, 2.0 - far, far), near)
