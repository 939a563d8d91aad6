"""How scalar ops are written in CUDA source, and the device functions that this text calls.

Names of the `math` module stand for functions of NVIDIA's libdevice. NumPy's types wrap integers at their width and
keep `f32` arithmetic in `f32`: a plain literal or an integer would widen it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dgraph.kernels.scalars import TIGHT
from dgraph.ops.random import MULTIPLIERS, ROUNDS, STEPS

Text = tuple[str, int]

COMPARISON, UNARY, POWER = 3, 6, 7
"""Precedences between those of sums and of single names; `or`, `and`, `not` bind loosest."""

_OR, _AND, _NOT = 0, 1, 2
_COMPARISONS = {
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
}
_ARITHMETIC = {"add": ("+", 4), "sub": ("-", 4), "mul": ("*", 5), "div": ("/", 5)}
_MATH = {
    *("exp", "expm1", "log", "log1p", "pow", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "atan2"),
    *("sinh", "cosh", "tanh", "erf", "lgamma", "floor", "ceil", "isnan", "isfinite"),
}
_TYPED = {
    "sigmoid": "sigmoid",
    "softplus": "softplus",
    "rsqrt": "rsqrt",
    "round": "round_even",
    "floor_divide": "floor_divide",
    "mod": "modulo",
}
_RANGES = {
    "u8": ("0", "255"),
    "i32": ("-2147483648", "2147483647"),
    "i64": ("-9223372036854775808", "9223372036854775807"),
}

NEUTRAL: dict[str, dict[str, float | int | bool]] = {
    "add": {"f32": 0, "f64": 0, "i32": 0, "i64": 0, "u8": 0},
    "mul": {"f32": 1, "f64": 1, "i32": 1, "i64": 1, "u8": 1},
    "maximum": {"f32": float("-inf"), "f64": float("-inf"), "i32": -(2**31), "i64": -(2**63), "u8": 0},
    "minimum": {"f32": float("inf"), "f64": float("inf"), "i32": 2**31 - 1, "i64": 2**63 - 1, "u8": 255},
    "logical_and": {"bool": True},
    "logical_or": {"bool": False},
}
"""What a total starts from, by the op that gathers it and the type."""


class Unprintable(Exception):
    """An op that has no CUDA text yet; the argument is its name."""


def scalar_text(op: str, result: str, types: list[str], operands: list[Text], facts: tuple[int, ...]) -> Text:
    """The text of a scalar operation and its precedence, from those of its operands. Raises `Unprintable`."""
    type_ = types[0]
    plain = [text for text, _ in operands]

    def at(position: int, level: int) -> str:
        text, precedence = operands[position]
        return text if precedence >= level else f"({text})"

    def call(name: str, *texts: str) -> Text:
        return f"{name}({', '.join(texts)})", TIGHT

    if op in _COMPARISONS:
        return f"{at(0, COMPARISON + 1)} {_COMPARISONS[op]} {at(1, COMPARISON + 1)}", COMPARISON
    if op in _ARITHMETIC:
        sign, level = _ARITHMETIC[op]
        return _narrow(result, (f"{at(0, level)} {sign} {at(1, level + 1)}", level))
    match op:
        case "logical_and":
            return f"{at(0, _AND)} and {at(1, _AND + 1)}", _AND
        case "logical_or":
            return f"{at(0, _OR)} or {at(1, _OR + 1)}", _OR
        case "logical_not":
            return f"not {at(0, _NOT)}", _NOT
        case "neg":
            return _narrow(result, (f"-{at(0, UNARY)}", UNARY))
        case "abs":
            return operands[0] if type_ == "u8" else _narrow(result, call("abs", *plain))
        case "relu":
            return call("maximum", plain[0], "0.0" if type_ == "f64" else "0" if type_ == "i64" else f"{type_}(0)")
        case "select":
            return f"({at(1, _OR)} if {at(0, _OR)} else {at(2, _OR)})", TIGHT
        case "fma":
            return call("cuda.fma", *plain)
        case "powi":
            return _narrow(result, (f"{at(0, POWER + 1)} ** {facts[0]}", POWER))
        case "stop_gradient":
            return operands[0]
        case "cast":
            return _cast(type_, result, operands[0])
        case "bits" | "fold":
            return call("random_bits", *plain, *map(str, facts))
    if op in _MATH:
        return call(f"math.{op}", *plain)
    if op in ("maximum", "minimum"):
        return call(op, *plain)
    if op in ("sign", "digamma"):
        return call(result, f"{op}({plain[0]})")
    if op in _TYPED and type_ in ("f32", "f64"):
        return call(f"{_TYPED[op]}_{type_}", *plain)
    if op in ("floor_divide", "mod"):
        return call(result, f"{_TYPED[op]}_integer({', '.join(plain)})")
    raise Unprintable(op)


def _narrow(type_: str, text: Text) -> Text:
    """Arithmetic of short integers is done in 64 bits: back to their width."""
    return (f"{type_}({text[0]})", TIGHT) if type_ in ("i32", "u8") else text


def _cast(source: str, target: str, operand: Text) -> Text:
    """Floats to integers truncate and saturate, integers wrap."""
    text, precedence = operand
    if source == target:
        return operand
    if target == "bool":
        return f"{text if precedence > COMPARISON else f'({text})'} != 0", COMPARISON
    if target in _RANGES and source[0] == "f":
        return f"{target}(saturated({text}, {', '.join(_RANGES[target])}))", TIGHT
    return f"{target}({text})", TIGHT


# ---- device functions ------------------------------------------------------------------------------------------------

_TYPED_BODIES = {
    "sigmoid(x)": "return 1.0 / (1.0 + math.exp(-x))",
    "softplus(x)": "return maximum(x, 0.0) + math.log1p(math.exp(-abs(x)))",
    "rsqrt(x)": "return 1.0 / math.sqrt(x)",
    "round_even(x)": """\
whole = math.floor(x)
rest = x - whole
if rest > 0.5 or (rest == 0.5 and whole != 2.0 * math.floor(0.5 * whole)):
    return whole + 1.0
return whole""",
    "floor_divide(x, y)": """\
if y == 0.0:
    return x / y
rest = math.fmod(x, y)
quotient = (x - rest) / y
if rest != 0.0 and (rest < 0.0) != (y < 0.0):
    quotient = quotient - 1.0
whole = math.floor(quotient)
return whole + 1.0 if quotient - whole > 0.5 else whole""",
    "modulo(x, y)": """\
rest = math.fmod(x, y)
return rest + y if rest != 0.0 and (rest < 0.0) != (y < 0.0) else rest""",
}
_BODIES = {
    "digamma(x)": """\
# Reflection, then recurrence up to 10, then the asymptotic series.
total, at = 0.0, 1.0 * x
if at <= 0.0:
    if at == math.floor(at):
        return math.nan
    total = -math.pi / math.tan(math.pi * at)
    at = 1.0 - at
while at < 10.0:
    total = total - 1.0 / at
    at = at + 1.0
square = 1.0 / (at * at)
series = 1.0 / 240.0 - square * (1.0 / 132.0 - square * 691.0 / 32760.0)
series = 1.0 / 12.0 - square * (1.0 / 120.0 - square * (1.0 / 252.0 - square * series))
return total + math.log(at) - 0.5 / at - square * series""",
    "maximum(x, y)": "return x if x > y or x != x else y",
    "minimum(x, y)": "return x if x < y or x != x else y",
    "sign(x)": """\
if x > 0:
    return 1
if x < 0:
    return -1
return x""",
    "floor_divide_integer(x, y)": "return x // y if y != 0 else 0",
    "modulo_integer(x, y)": "return x % y if y != 0 else 0",
    "saturated(x, low, high)": """\
if x != x:
    return 0
if x <= low:
    return low
return high if x >= high else int(x)""",
    "random_bits(key, position, stream, lane)": f"""\
# Philox 4x32-10; the high word keeps its sign, so nothing overflows.
key_0, key_1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
word_0, word_1 = position & 0xFFFFFFFF, position >> 32 & 0xFFFFFFFF
word_2, word_3 = stream, 0
for step in range({ROUNDS}):
    left, right = word_0 * {MULTIPLIERS[0]}, word_2 * {MULTIPLIERS[1]}
    word_0 = (right >> 32 & 0xFFFFFFFF) ^ word_1 ^ key_0
    word_2 = (left >> 32 & 0xFFFFFFFF) ^ word_3 ^ key_1
    word_1, word_3 = right & 0xFFFFFFFF, left & 0xFFFFFFFF
    key_0, key_1 = key_0 + {STEPS[0]} & 0xFFFFFFFF, key_1 + {STEPS[1]} & 0xFFFFFFFF
low, high = (word_0, word_1) if lane == 0 else (word_2, word_3)
return ((high ^ 0x80000000) - 0x80000000) * 4294967296 + low""",
    "atomic_maximum(array, index, value)": """\
if value != value:
    array[index] = value  # the atomic operation passes over NaN
else:
    cuda.atomic.max(array, index, value)""",
    "atomic_minimum(array, index, value)": """\
if value != value:
    array[index] = value  # the atomic operation passes over NaN
else:
    cuda.atomic.min(array, index, value)""",
    "report(fault, check)": "return cuda.atomic.cas(fault, 0, 0, check) == 0  # whether no other thread was first",
}


def _device_function(head: str, body: str) -> str:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"@cuda.jit(device=True)\ndef {head}:\n{lines}\n"


def _for_type(head: str, body: str, type_: str) -> tuple[str, str]:
    """A function of floats for one type: its literals have that type."""
    name, _, formals = head.partition("(")
    return f"{name}_{type_}({formals}", re.sub(r"\b\d+\.\d+\b", r"f32(\g<0>)", body) if type_ == "f32" else body


def _all_functions() -> Iterator[tuple[str, str]]:
    for head, body in _BODIES.items():
        yield head.partition("(")[0], _device_function(head, body)
    for head, body in _TYPED_BODIES.items():
        for type_ in ("f32", "f64"):
            yield f"{head.partition('(')[0]}_{type_}", _device_function(*_for_type(head, body, type_))


DEVICE_FUNCTIONS = dict(_all_functions())
"""The source of every device function by name."""


def device_functions(text: str) -> list[str]:
    """The device functions that a text calls and those that they call, in an order in which they can be defined."""
    called = {name for name in re.findall(r"\b(\w+)\(", text) if name in DEVICE_FUNCTIONS}
    inner = {name for found in called for name in re.findall(r"\b(\w+)\(", DEVICE_FUNCTIONS[found])}
    return [source for name, source in DEVICE_FUNCTIONS.items() if name in called | inner]
