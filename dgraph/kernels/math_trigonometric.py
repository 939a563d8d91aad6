"""Circular functions and their inverses.

Sine, cosine and tangent subtract a multiple of pi held in three parts; beyond `LARGE` that loses accuracy, and
lanes are computed one by one as `math_large_angles` does. This is the one place with a branch, hence `vector_lanes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from dgraph.kernels import coefficients
from dgraph.kernels.math_exponential import FORMAT, clamp
from dgraph.kernels.math_large_angles import lane_by_lane, reduce_large
from dgraph.kernels.primitives import Primitive, elementwise, register
from dgraph.kernels.values import (
    FLOATS,
    Value,
    absolute,
    call_library,
    copysign,
    fma,
    horner,
    host_has_fma,
    select,
    square_root,
)

PI_PARTS = {
    "f32": (3.1415927410125732, -8.742277657347586e-08, -3.4302490200117637e-15),
    "f64": (3.141592653589793, 1.2246467991473532e-16, -2.9947698097183397e-33),
}
LARGE = {"f32": 1.0e5, "f64": 1.0e9}
# Loops over f32 run in 16, 8 or 4 lanes, by the machine's registers and by what else the loop holds.
VECTOR_LANES = {"f32": (16, 8, 4), "f64": (16, 8, 4, 2)}
PI = 3.141592653589793
HALF_PI = PI / 2.0


def subtract_multiple(x: Value, whole: Value, scale: float) -> Value:
    """`x - whole * scale * pi`, for a scale that is a power of two."""
    for part in PI_PARTS[x.type]:
        x = fma(whole, -part * scale, x)
    return x


def half_wave(r: Value) -> Value:
    """Sine for |r| <= pi / 2, never beyond 1."""
    square = r * r
    return clamp(fma(horner(square, coefficients.SIN[r.type]) * square, r, r), -1.0, 1.0)


def quarter_wave(r: Value) -> Value:
    """Tangent for |r| <= pi / 4."""
    square = r * r
    return fma(horner(square, coefficients.TAN[r.type]) * square, r, r)


def with_parity(n: Value, y: Value) -> Value:
    """Change the sign where n is odd."""
    return (y.bits() ^ (n << (31 if n.type == "i32" else 63))).as_float()


def small_sine(x: Value) -> Value:
    """Sine where the multiple of pi is small."""
    rounder = FORMAT[x.type].rounder
    shifted = fma(x, 1.0 / PI, rounder)
    r = subtract_multiple(x, shifted - rounder, 1.0)
    y = with_parity(shifted.bits(), half_wave(r))
    return select(x.equals(0.0), x, y)


def small_cosine(x: Value) -> Value:
    """Cosine where the multiple is small: sine of what lies beyond an odd multiple of pi / 2."""
    rounder = FORMAT[x.type].rounder
    shifted = fma(absolute(x), 1.0 / PI, -0.5) + rounder
    whole = shifted - rounder
    r = subtract_multiple(absolute(x), whole * 2.0 + 1.0, 0.5)
    return with_parity(shifted.bits() + 1, half_wave(r))


def small_tangent(x: Value) -> Value:
    """Tangent where the multiple is small: a polynomial below pi / 4, the negative reciprocal above."""
    rounder = FORMAT[x.type].rounder
    shifted = fma(x, 2.0 / PI, rounder)
    y = quarter_wave(subtract_multiple(x, shifted - rounder, 0.5))
    is_odd = (shifted.bits() & 1).differs(0)
    y = select(is_odd, -1.0 / y, y)
    return select(x.equals(0.0), x, y)


def large_sine(x: Value) -> Value:
    """Sine of a large number, infinity and NaN among them."""
    r, n = reduce_large(absolute(x))
    return copysign(x.constant(1.0), x) * with_parity(n, half_wave(r)) + (x - x)


def large_cosine(x: Value) -> Value:
    """Cosine of a large number: sine of half a turn of pi further."""
    r, n = reduce_large(absolute(x), ahead=True)
    return with_parity(n, half_wave(r)) + (x - x)


def large_tangent(x: Value) -> Value:
    """Tangent of a large number."""
    r, n = reduce_large(absolute(x), halvings=1)
    y = quarter_wave(r)
    return copysign(x.constant(1.0), x) * select((n & 1).differs(0), -1.0 / y, y) + (x - x)


def with_large_arguments(small: Callable[[Value], Value], large: Callable[[Value], Value], name: str) -> Any:
    """Compute with `small`, and again with `large` where an argument is that."""

    def body(x: Value) -> Value:
        if not host_has_fma():
            # Products with the parts of pi would be rounded, and what is left after subtracting them be wrong.
            return call_library(name, x)
        return computed_again(x, small(x), absolute(x) > LARGE[x.type], large, name)

    return body


def computed_again(x: Value, y: Value, condition: Value, large: Callable[[Value], Value], name: str) -> Value:
    """The function values y of x, but for the lanes with a condition, which are computed one by one as those of large
    numbers."""
    builder = x.builder
    start = builder.block
    with builder.if_then(_any_lane(condition), likely=False):
        again = lane_by_lane(f"dgraph.large_{name}", large, select(condition, x, LARGE[x.type]))
        exact = select(condition, again, y)
        slow = builder.block
    joined = builder.phi(y.llvm.type)
    joined.add_incoming(y.llvm, start)
    joined.add_incoming(exact.llvm, slow)
    return y.make(joined)


def _any_lane(condition: Value) -> Any:
    if condition.lanes == 1:
        return condition.llvm
    whole = ir.IntType(condition.lanes)
    return condition.builder.icmp_unsigned("!=", condition.builder.bitcast(condition.llvm, whole), whole(0))


_SMALL_AND_LARGE = {
    "sin": (small_sine, large_sine),
    "cos": (small_cosine, large_cosine),
    "tan": (small_tangent, large_tangent),
}
for _name, (_small, _large) in _SMALL_AND_LARGE.items():
    for _type in FLOATS:
        _body = with_large_arguments(_small, _large, _name)
        register(Primitive(f"{_name}_{_type}", (_type,), _type, _body, vector_lanes=VECTOR_LANES[_type]))


@elementwise("atan", once=True)
def atan(x: Value) -> Value:
    """Arc tangent; above 1 by the arc tangent of the reciprocal."""
    size = absolute(x)
    is_steep = size > 1.0
    r = select(is_steep, 1.0 / size, size)
    square = r * r
    angle = fma(horner(square, coefficients.ATAN[x.type]) * square, r, r)
    return copysign(select(is_steep, HALF_PI - angle, angle), x)


@elementwise("atan2", arity=2, once=True)
def atan2(y: Value, x: Value) -> Value:
    """Angle of the point (x, y), with the signed zeros and infinities of the C library."""
    across, along = absolute(y), absolute(x)
    is_steep = across > along
    smaller, larger = select(is_steep, along, across), select(is_steep, across, along)
    ratio = smaller / larger
    ratio = select(smaller.equals(larger), select(larger.equals(0.0), larger, 1.0), ratio)
    square = ratio * ratio
    angle = fma(horner(square, coefficients.ATAN[x.type]) * square, ratio, ratio)
    angle = select(is_steep, HALF_PI - angle, angle)
    angle = select(x.bits() < 0, PI - angle, angle)
    angle = select(x.differs(x) | y.differs(y), float("nan"), angle)
    return copysign(angle, y)


def arc_sine_series(r: Value, square: Value) -> Value:
    """Arc sine for |r| <= 1/2."""
    return fma(horner(square, coefficients.ASIN[r.type]) * square, r, r)


@elementwise("asin", once=True)
def asin(x: Value) -> Value:
    """Arc sine: above 1/2 from the arc sine of sqrt((1 - x) / 2)."""
    size = absolute(x)
    is_steep = size > 0.5
    square = select(is_steep, (1.0 - size) * 0.5, size * size)
    r = select(is_steep, square_root(square), size)
    angle = arc_sine_series(r, square)
    return copysign(select(is_steep, HALF_PI - angle * 2.0, angle), x)


@elementwise("acos", once=True)
def acos(x: Value) -> Value:
    """Arc cosine, accurate where it vanishes."""
    size = absolute(x)
    is_steep = size > 0.5
    square = select(is_steep, (1.0 - size) * 0.5, size * size)
    angle = arc_sine_series(select(is_steep, square_root(square), size), square)
    doubled = angle * 2.0
    steep = select(x < 0.0, PI - doubled, doubled)
    return select(is_steep, steep, HALF_PI - copysign(angle, x))
