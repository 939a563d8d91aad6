"""Arithmetic that operators of generated source cannot say: wrapping integers, rounding, NaN-propagating choice."""

from __future__ import annotations

from dgraph.kernels.math_exponential import INFINITY
from dgraph.kernels.primitives import Primitive, elementwise, every_type, register
from dgraph.kernels.values import (
    FLOATS,
    INTEGERS,
    SCALARS,
    Value,
    absolute,
    copysign,
    fma,
    intrinsic,
    select,
    square_root,
)

NUMBERS = FLOATS + INTEGERS
LOGICAL = (*INTEGERS, "bool")


@elementwise("add", types=NUMBERS, arity=2)
def add(x: Value, y: Value) -> Value:
    """Sum; integers wrap at their width."""
    return x + y


@elementwise("sub", types=NUMBERS, arity=2)
def sub(x: Value, y: Value) -> Value:
    """Difference; integers wrap at their width."""
    return x - y


@elementwise("mul", types=NUMBERS, arity=2)
def mul(x: Value, y: Value) -> Value:
    """Product; integers wrap at their width."""
    return x * y


@elementwise("neg", types=NUMBERS)
def neg(x: Value) -> Value:
    """Negation; integers wrap at their width."""
    return -x


@elementwise("and", types=LOGICAL, arity=2)
def bitwise_and(x: Value, y: Value) -> Value:
    """Bits that both have."""
    return x & y


@elementwise("or", types=LOGICAL, arity=2)
def bitwise_or(x: Value, y: Value) -> Value:
    """Bits that either has."""
    return x | y


@elementwise("xor", types=LOGICAL, arity=2)
def bitwise_xor(x: Value, y: Value) -> Value:
    """Bits that differ."""
    return x ^ y


@elementwise("not", types=LOGICAL)
def bitwise_not(x: Value) -> Value:
    """Every bit inverted."""
    return ~x


@elementwise("shl", types=INTEGERS, arity=2)
def shift_left(x: Value, count: Value) -> Value:
    """Bits moved up; the count is below the width."""
    return x << count


@elementwise("lshr", types=INTEGERS, arity=2)
def shift_right_unsigned(x: Value, count: Value) -> Value:
    """Bits moved down, filled with zeros."""
    return x.make(x.builder.lshr(x.llvm, count.llvm))


@elementwise("abs", types=NUMBERS)
def absolute_value(x: Value) -> Value:
    """Absolute value; the lowest integer is its own."""
    if x.is_float:
        return absolute(x)
    return x if x.type == "u8" else select(x < 0, -x, x)


@elementwise("sign", types=NUMBERS)
def sign(x: Value) -> Value:
    """-1, 0 or 1; 0 for both zeros, as in NumPy, and NaN for NaN."""
    if x.is_float:
        return select(absolute(x) > 0.0, copysign(x.constant(1.0), x), x + 0.0)
    below = x.constant(0) if x.type == "u8" else select(x < 0, x.constant(-1), 0)
    return select(x > 0, 1, below)


@elementwise("maximum", types=NUMBERS, arity=2)
def maximum(x: Value, y: Value) -> Value:
    """The larger; NaN if either is."""
    return intrinsic("llvm.maximum", x, y) if x.is_float else select(x > y, x, y)


@elementwise("minimum", types=NUMBERS, arity=2)
def minimum(x: Value, y: Value) -> Value:
    """The smaller; NaN if either is."""
    return intrinsic("llvm.minimum", x, y) if x.is_float else select(x < y, x, y)


elementwise("fma", arity=3)(fma)
elementwise("sqrt")(square_root)


@elementwise("rsqrt")
def reciprocal_square_root(x: Value) -> Value:
    """1 / sqrt(x)."""
    return 1.0 / square_root(x)


@elementwise("floor")
def floor(x: Value) -> Value:
    """Largest whole number not above."""
    return intrinsic("llvm.floor", x)


@elementwise("ceil")
def ceil(x: Value) -> Value:
    """Smallest whole number not below."""
    return intrinsic("llvm.ceil", x)


@elementwise("round")
def round_half_even(x: Value) -> Value:
    """Nearest whole number, halves to the even one."""
    return intrinsic("llvm.roundeven", x)


@elementwise("isnan", result="bool")
def is_nan(x: Value) -> Value:
    """Whether it is NaN."""
    return x.differs(x)


@elementwise("isfinite", result="bool")
def is_finite(x: Value) -> Value:
    """Whether it is neither NaN nor an infinity."""
    return absolute(x) < INFINITY


def _divide_integers(x: Value, y: Value) -> tuple[Value, Value]:
    """Quotient and remainder rounded towards zero; 0 and 0 for a divisor of 0."""
    is_zero = y.equals(0)
    divisor = select(is_zero, 1, y)
    if x.type == "u8":
        quotient = x.make(x.builder.udiv(x.llvm, divisor.llvm))
    else:
        # The lowest number divided by -1 traps on some machines: dividing by -1 is negating, which wraps.
        is_minus = y.equals(-1)
        safe = select(is_minus, 1, divisor)
        raw = x.make(x.builder.sdiv(x.llvm, safe.llvm))
        quotient = select(is_minus, -x, raw)
    return select(is_zero, 0, quotient), select(is_zero, 0, x - quotient * divisor)


@elementwise("most", types=("i64",))
def most(x: Value) -> Value:
    """The number itself; of turns of a loop that go several at a time the largest."""
    return x


@elementwise("floor_div", types=NUMBERS, arity=2, once=True)
def floor_div(x: Value, y: Value) -> Value:
    """Quotient rounded down, as in Python; an integer divided by 0 is 0, a float gives an infinity or NaN."""
    if x.is_float:
        return _floor_div_float(x, y)
    quotient, remainder = _divide_integers(x, y)
    return quotient if x.type == "u8" else quotient - _overshoots(remainder, y)


@elementwise("mod", types=NUMBERS, arity=2, once=True)
def mod(x: Value, y: Value) -> Value:
    """Remainder with the sign of the divisor, as in Python; by 0 an integer gives 0, a float NaN."""
    if x.is_float:
        return _mod_float(x, y)
    _, remainder = _divide_integers(x, y)
    return remainder if x.type == "u8" else remainder + _overshoots(remainder, y) * y


def _overshoots(remainder: Value, divisor: Value) -> Value:
    """1 where the truncated quotient lies above the exact one, else 0."""
    differs = (remainder ^ divisor) < 0
    return select(differs & remainder.differs(0), remainder.constant(1), 0)


def _remainder(x: Value, y: Value) -> Value:
    return x.make(x.builder.frem(x.llvm, y.llvm))


def _crosses(remainder: Value, divisor: Value) -> Value:
    """Whether a truncated remainder has the sign that Python's does not."""
    return remainder.differs(0.0) & ((remainder < 0.0) ^ (divisor < 0.0))


def _mod_float(x: Value, y: Value) -> Value:
    remainder = _remainder(x, y)
    moved = select(_crosses(remainder, y), remainder + y, remainder)
    return select(remainder.equals(0.0), copysign(remainder, y), moved)


def _floor_div_float(x: Value, y: Value) -> Value:
    remainder = _remainder(x, y)
    quotient = (x - remainder) / y
    quotient = select(_crosses(remainder, y), quotient - 1.0, quotient)
    lower = intrinsic("llvm.floor", quotient)
    rounded = select(quotient - lower > 0.5, lower + 1.0, lower)
    rounded = select(quotient.equals(0.0), copysign(x.constant(0.0), x / y), rounded)
    return select(y.equals(0.0), x / y, rounded)


def power_of_integer(x: Value, n: Value) -> Value:
    """x^n by squaring, at most 64 steps; a negative power of an integer is 0 unless the base is 1 or -1."""
    builder = x.builder
    is_negative = n < 0
    if x.is_float:
        count = select(is_negative, -n, n)
        base = x
    else:
        # Powers of 1 and -1 depend on parity alone, and any other reciprocal rounds to 0.
        is_unit = x.equals(1) if x.type == "u8" else x.equals(1) | x.equals(-1)
        base = select(is_negative, select(is_unit, x, 0), x)
        count = n
    start = builder.block
    head, step, done = (builder.append_basic_block(name) for name in ("head", "step", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    bits, square, result = (builder.phi(kind) for kind in (n.llvm.type, x.llvm.type, x.llvm.type))
    builder.cbranch(builder.icmp_unsigned("!=", bits, bits.type(0)), step, done)
    builder.position_at_end(step)
    factor = select(x.make(builder.trunc(bits, SCALARS["bool"]), "bool"), x.make(square), 1)
    product = x.make(result) * factor
    doubled = x.make(square) * x.make(square)
    halved = builder.lshr(bits, bits.type(1))
    builder.branch(head)
    for phi, first, following in (
        (bits, count.llvm, halved),
        (square, base.llvm, doubled.llvm),
        (result, x.constant(1).llvm, product.llvm),
    ):
        phi.add_incoming(first, start)
        phi.add_incoming(following, step)
    builder.position_at_end(done)
    final = x.make(result)
    return select(is_negative, 1.0 / final, final) if x.is_float else final


for _type in NUMBERS:
    register(Primitive(f"powi_{_type}", (_type, "i64"), _type, power_of_integer, once=True))


def _choose(condition: Value, chosen: Value, otherwise: Value) -> Value:
    return select(condition, chosen, otherwise)


def convert(target: str, x: Value) -> Value:
    """Convert a number; a float becomes an integer by truncation, saturating, and NaN becomes 0."""
    source = x.type
    if source == target:
        return x
    if target == "bool":
        return x.differs(0)
    if source in FLOATS:
        if target in FLOATS:
            return x.cast("fptrunc" if target == "f32" else "fpext", target)
        return intrinsic("llvm.fptoui.sat" if target == "u8" else "llvm.fptosi.sat", x, result=target)
    is_unsigned = source in ("u8", "bool")
    if target in FLOATS:
        return x.cast("uitofp" if is_unsigned else "sitofp", target)
    if SCALARS[target].width < SCALARS[source].width:
        return x.cast("trunc", target)
    return x.cast("zext" if is_unsigned else "sext", target)


def _converter(target: str) -> object:
    return lambda x: convert(target, x)


for _type in every_type():
    register(Primitive(f"select_{_type}", ("bool", _type, _type), _type, _choose))
    for _other in every_type():
        register(Primitive(f"convert_{_other}_{_type}", (_other,), _type, _converter(_type)))  # type: ignore[arg-type]
