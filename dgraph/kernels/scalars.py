"""Which ops act on scalars, and how each is written in generated source for each machine type."""

from __future__ import annotations

from dgraph.ir.op import Op
from dgraph.kernels.math import MATH
from dgraph.ops.arithmetic import Powi
from dgraph.ops.random import DRAW, MULTIPLIERS, ROUNDS, STEPS, Bits, Fold

_COMPARISONS = {
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
}
_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_LOGIC = {"logical_and": "and_bool", "logical_or": "or_bool", "logical_not": "not_bool"}
_BY_NAME = {
    "abs": "abs",
    "sign": "sign",
    "floor": "floor",
    "ceil": "ceil",
    "round": "round",
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "maximum": "maximum",
    "minimum": "minimum",
    "fma": "fma",
    "pow": "pow",
    "powi": "powi",
    "floor_divide": "floor_div",
    "mod": "mod",
    "isnan": "isnan",
    "isfinite": "isfinite",
}
_NAMED = {"most": "most_i64", "thread_slot": "thread_slot"}
_OWN = {"neg", "relu", "select", "cast", "stop_gradient", "bits", "fold"}
_MATH_OPS = {op for op, _ in MATH}
RANDOM_BITS = f"""\
def random_bits(key: i64, position: i64, stream: i64, lane: i64) -> i64:
    # Philox 4x32-10
    key_0 = and_i64(key, 4294967295)
    key_1 = lshr_i64(key, 32)
    word_0 = and_i64(position, 4294967295)
    word_1 = lshr_i64(position, 32)
    word_2 = stream
    word_3 = 0
    for step in range({ROUNDS}):
        left = word_0 * {MULTIPLIERS[0]}
        right = word_2 * {MULTIPLIERS[1]}
        word_0 = xor_i64(xor_i64(lshr_i64(right, 32), word_1), key_0)
        word_1 = and_i64(right, 4294967295)
        word_2 = xor_i64(xor_i64(lshr_i64(left, 32), word_3), key_1)
        word_3 = and_i64(left, 4294967295)
        key_0 = and_i64(key_0 + {STEPS[0]}, 4294967295)
        key_1 = and_i64(key_1 + {STEPS[1]}, 4294967295)
    if lane == 0:
        return or_i64(word_0, shl_i64(word_1, 32))
    return or_i64(word_2, shl_i64(word_3, 32))
"""
"""The helper of generated source that makes random bits, printed where it is used."""

_PRECEDENCE = {"+": 4, "-": 4, "*": 5, "/": 5}
TIGHT = 9
"""The precedence of text that never needs parentheses."""


def is_scalar_op(name: str) -> bool:
    """Whether an op has a scalar form in generated source."""
    return any(name in table for table in (_COMPARISONS, _ARITHMETIC, _LOGIC, _BY_NAME, _OWN, _MATH_OPS))


def scalar_facts(op: Op) -> tuple[int, ...]:
    """The facts of a scalar op that its text needs: an exponent, or the stream and lane of random bits."""
    match op:
        case Powi(exponent=exponent):
            return (exponent,)
        case Bits(lane=lane):
            return DRAW, lane
        case Fold(stream=stream):
            return stream, 0
    return ()


def scalar_text(
    op: str, result: str, types: list[str], operands: list[tuple[str, int]], facts: tuple[int, ...]
) -> tuple[str, int]:
    """The text of a scalar operation and its precedence, from the text and precedence of its operands."""

    def call(name: str, *texts: str) -> tuple[str, int]:
        return f"{name}({', '.join(texts)})", TIGHT

    def at(position: int, level: int) -> str:
        text, precedence = operands[position]
        return text if precedence >= level else f"({text})"

    plain = [text for text, _ in operands]
    type_ = types[0]
    if op in _COMPARISONS:
        if type_ == "bool":
            differs = call("xor_bool", *plain)
            return differs if op == "not_equal" else call("not_bool", differs[0])
        return f"{at(0, 4)} {_COMPARISONS[op]} {at(1, 4)}", 3
    if op in _ARITHMETIC:
        if type_ in ("i32", "u8"):
            return call(f"{op}_{type_}", *plain)
        sign = _ARITHMETIC[op]
        level = _PRECEDENCE[sign]
        return f"{at(0, level)} {sign} {at(1, level + 1)}", level
    if op in _LOGIC:
        return call(_LOGIC[op], *plain)
    if op == "neg":
        return call(f"neg_{type_}", *plain) if type_ in ("i32", "u8") else (f"-{at(0, 6)}", 6)
    if op == "relu":
        return call(f"maximum_{type_}", plain[0], f"{type_}(0)")
    if op == "select":
        return call(f"select_{result}", *plain)
    if op == "cast":
        return operands[0] if type_ == result else call(f"convert_{type_}_{result}", *plain)
    if op in _NAMED:
        return call(_NAMED[op], *plain)
    if op == "stop_gradient":
        return operands[0]
    if op in ("bits", "fold"):
        return call("random_bits", *plain, *map(str, facts))
    if op == "powi":
        return call(f"powi_{type_}", plain[0], str(facts[0]))
    if op in _BY_NAME:
        return call(f"{_BY_NAME[op]}_{type_}", *plain)
    return call(MATH[(op, type_)], *plain)
