"""Sine, cosine and tangent of numbers so large that pi in three parts does not reduce them.

The number is m 2^e with an integer m, and only so many bits of 1 / pi matter as neither become whole turns with 2^e nor
vanish beside the smallest remainder that a double can have, 2^-62 of pi: a window of 192 bits. Its product with m,
modulo the whole turns, is the angle in units of pi, and its first two words have more than 60 bits that count.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from dgraph.kernels.values import SCALARS, Value, declare, fma, intrinsic, select

WORD, WIDE, WINDOW = ir.IntType(64), ir.IntType(192), 192
AHEAD = 64
"""Zeros before the point of 1 / pi in the table, for numbers with a fraction."""

PI, PI_REST = 3.141592653589793, 1.2246467991473532e-16
_MANTISSA, _LOWEST = 52, 1075
_LOW_BITS = 11
_EXPONENTS = 2048


@functools.cache
def bits_of_reciprocal_pi() -> tuple[int, ...]:
    """1 / pi in words, with `AHEAD` zeros before the point and bits for a window at every exponent."""
    count = -(-(_EXPONENTS - _LOWEST + AHEAD + WINDOW) // 64) + 1
    digits = 64 * count + 64
    one = 1 << digits

    def arc_tangent_of_one_over(number: int) -> int:
        total = term = one // number
        step = 1
        while term:
            term //= -number * number
            step += 2
            total += term // step
        return total

    pi = 16 * arc_tangent_of_one_over(5) - 4 * arc_tangent_of_one_over(239)
    whole = (one << (64 * count - AHEAD)) // pi
    return tuple(whole >> (64 * (count - 1 - i)) & (1 << 64) - 1 for i in range(count))


def _table(module: Any) -> Any:
    name = "dgraph.reciprocal_pi"
    known = module.globals.get(name)
    if known is not None:
        return known
    words = bits_of_reciprocal_pi()
    kind = ir.ArrayType(WORD, len(words))
    table = ir.GlobalVariable(module, kind, name)
    table.initializer = ir.Constant(kind, list(words))
    table.global_constant = True
    table.linkage = "internal"
    return table


def half_turns(size: Value) -> tuple[Value, Value]:
    """A number that is not negative in units of pi, modulo 2: one bit before the point and 127 behind it, in two
    words."""
    builder = size.builder
    bits = size.bits().llvm
    exponent = builder.lshr(bits, WORD(_MANTISSA))
    mantissa = builder.or_(builder.and_(bits, WORD((1 << _MANTISSA) - 1)), WORD(1 << _MANTISSA))
    start = builder.add(exponent, WORD(AHEAD - _LOWEST - 1))
    first, shift = builder.lshr(start, WORD(6)), size.make(builder.and_(start, WORD(63)), "i64")
    table = _table(builder.module)

    def word(offset: int) -> Value:
        place = builder.gep(table, [WORD(0), builder.add(first, WORD(offset))], inbounds=True)
        return size.make(builder.load(place), "i64")

    window: Any = WIDE(0)
    for offset in range(WINDOW // 64):
        joined = intrinsic("llvm.fshl", word(offset), word(offset + 1), shift).llvm
        window = builder.or_(builder.shl(window, WIDE(64)), builder.zext(joined, WIDE))
    turns = builder.mul(window, builder.zext(mantissa, WIDE))
    high, low = (builder.trunc(builder.lshr(turns, WIDE(64 * place)), WORD) for place in (2, 1))
    return size.make(high, "i64"), size.make(low, "i64")


def reduce_large(size: Value, halvings: int = 0, ahead: bool = False) -> tuple[Value, Value]:
    """The angle from the nearest multiple of pi / 2^halvings to a large number, and the parity of the multiple; `ahead`
    looks half such a step further. The code stands once in the module."""
    builder = size.builder
    name = "dgraph.large_angle"
    known = builder.module.globals.get(name)
    both = ir.LiteralStructType([SCALARS["f64"], WORD])
    function = declare(builder.module, name, ir.FunctionType(both, [SCALARS["f64"], WORD, WORD]))
    if known is None:
        keep_apart(function)
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        operands = zip(function.args, ("f64", "i64", "i64"), strict=True)
        angle, parity = _reduced(*(Value(inner, operand, kind) for operand, kind in operands))
        first = inner.insert_value(ir.Constant(both, ir.Undefined), angle.llvm, 0)
        inner.ret(inner.insert_value(first, parity.llvm, 1))
    found = builder.call(function, [size.llvm, WORD(halvings), WORD(int(ahead) << 62)])
    return size.make(builder.extract_value(found, 0)), size.make(builder.extract_value(found, 1), "i64")


def keep_apart(function: Any) -> None:
    """A function of this module alone that is not inlined, nor optimised: it seldom runs, but is often compiled."""
    function.linkage = "internal"
    function.attributes.add("nounwind")
    function.attributes.add("noinline")
    function.attributes.add("optnone")


def _reduced(size: Value, halvings: Value, ahead: Value) -> tuple[Value, Value]:
    builder = size.builder
    high, low = half_turns(size)
    high, low = intrinsic("llvm.fshl", high, low, halvings) + ahead, low << halvings
    parity = high + (1 << 62)
    high, low = intrinsic("llvm.fshl", high, low, high.constant(1)), low << 1
    is_negative = high < 0
    # All bits turned over instead of negated: that is wrong by less than what the words do not hold.
    high, low = (select(is_negative, word ^ -1, word) for word in (high, low))
    # A double comes no closer to a multiple than that the first word is not 0.
    ctlz = declare(builder.module, "llvm.ctlz.i64", ir.FunctionType(WORD, [WORD, SCALARS["bool"]]))
    zeros = high.make(builder.call(ctlz, [high.llvm, SCALARS["bool"](0)]))
    top = intrinsic("llvm.fshl", high, low, zeros).llvm
    upper = size.make(builder.uitofp(builder.lshr(top, WORD(_LOW_BITS)), SCALARS["f64"]))
    lower = size.make(builder.uitofp(builder.and_(top, WORD((1 << _LOW_BITS) - 1)), SCALARS["f64"]))
    angle = fma(upper, PI, fma(upper, PI_REST, lower * (PI * 2.0**-_LOW_BITS)))
    angle = angle * ((1023 - 53 - (zeros + halvings)) << _MANTISSA).as_float()
    return select(is_negative, -angle, angle), parity.make(builder.lshr(parity.llvm, WORD(63)))


def lane_by_lane(name: str, body: Callable[[Value], Value], x: Value) -> Value:
    """A function of one double, which stands once in the module and is called for every lane."""
    builder = x.builder
    double = SCALARS["f64"]
    known = builder.module.globals.get(name)
    function = declare(builder.module, name, ir.FunctionType(double, [double]))
    if known is None:
        keep_apart(function)
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        inner.ret(body(Value(inner, function.args[0], "f64")).llvm)

    def called(entry: Any) -> Any:
        if x.type == "f64":
            return builder.call(function, [entry])
        return builder.fptrunc(builder.call(function, [builder.fpext(entry, double)]), SCALARS["f32"])

    if x.lanes == 1:
        return x.make(called(x.llvm))
    result: Any = ir.Constant(x.llvm.type, ir.Undefined)
    for lane in range(x.lanes):
        index = ir.Constant(ir.IntType(32), lane)
        result = builder.insert_element(result, called(builder.extract_element(x.llvm, index)), index)
    return x.make(result)
