"""Helpers of generated CUDA source: what is written as `tanh_f32(x)` and the like, as Python for numba-cuda.

Each helper is a plain function, which the driver calls under its name with an underscore, and a device function.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dgraph.kernels.scalars import RANDOM_BITS

FLOATS = ("f32", "f64")
INTEGERS = ("i32", "i64", "u8")
TYPES = (*FLOATS, *INTEGERS, "bool")
_MATH = (
    "exp",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "asin",
    "acos",
    "atan",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "erfc",
    "lgamma",
    "sqrt",
)
_BITS = {"and": "x & y", "or": "x | y", "xor": "x ^ y", "shl": "x << y", "shr": "x >> y"}
_WRAPPING = {"add": "x + y", "sub": "x - y", "mul": "x * y"}

_POWI = """\
    result, base, left = {t}(1), x, abs(n)
    while left > 0:
        if left & 1:
            result = {t}(result * base)
        base = {t}(base * base)
        left = left >> 1
    return result if n >= 0 else {t}(1) / result"""

PREAMBLE = """\
import math

import numpy as np
from numba import boolean, cuda, float32, float64, int32, int64, uint8

f32, f64, i32, i64, u8 = float32, float64, int32, int64, uint8
inf_f32, nan_f32, inf_f64, nan_f64 = math.inf, math.nan, math.inf, math.nan
THREADS = 128


def blocks(points):
    return max(1, min((points + THREADS - 1) // THREADS, 4096))
"""


def _one(name: str, formals: str, value: str) -> tuple[str, str]:
    return name, f"def _{name}({formals}):\n    return {value}"


def _definitions() -> Iterator[tuple[str, str]]:
    for t in FLOATS:
        for name in _MATH:
            yield _one(f"{name}_{t}", "x", f"{t}(math.{name}(x))")
        yield _one(f"exp2_{t}", "x", f"{t}({t}(2) ** x)")
        yield _one(f"atan2_{t}", "y, x", f"{t}(math.atan2(y, x))")
        yield _one(f"pow_{t}", "x, y", f"{t}(math.pow(x, y))")
        yield _one(f"rsqrt_{t}", "x", f"{t}(1) / {t}(math.sqrt(x))")
        yield _one(f"sigmoid_{t}", "x", f"{t}(1) / ({t}(1) + {t}(math.exp(-x)))")
        yield _one(f"softplus_{t}", "x", f"{t}(max(x, {t}(0)) + math.log1p(math.exp(-abs(x))))")
        yield _one(f"floor_{t}", "x", f"{t}(math.floor(x))")
        yield _one(f"ceil_{t}", "x", f"{t}(math.ceil(x))")
        yield _one(f"round_{t}", "x", f"{t}(round(x))")
        yield _one(f"fma_{t}", "x, y, z", "x * y + z")
        yield _one(f"isnan_{t}", "x", "x != x")
        yield _one(f"isinf_{t}", "x", f"abs(x) == inf_{t}")
        yield _one(f"isfinite_{t}", "x", f"abs(x) < inf_{t}")
        yield _one(f"floor_div_{t}", "x, y", f"{t}(math.floor(x / y))")
        yield _one(f"mod_{t}", "x, y", f"{t}(x - y * {t}(math.floor(x / y)))")
    for t in INTEGERS:
        yield _one(f"floor_div_{t}", "x, y", f"{t}(x // y) if y != 0 else {t}(0)")
        yield _one(f"mod_{t}", "x, y", f"{t}(x % y) if y != 0 else {t}(0)")
        for name, value in {**_BITS, **_WRAPPING}.items():
            yield _one(f"{name}_{t}", "x, y", f"{t}({value})")
        yield _one(f"lshr_{t}", "x, y", f"{t}((x >> y) & (({t}(1) << ({8 * _WIDTH[t]} - y)) - {t}(1)))")
    for t in (*FLOATS, *INTEGERS):
        yield _one(f"maximum_{t}", "x, y", "x if x > y or x != x else y")
        yield _one(f"minimum_{t}", "x, y", "x if x < y or x != x else y")
        yield _one(f"abs_{t}", "x", "x if x >= 0 else -x")
        yield _one(f"sign_{t}", "x", f"{t}(1) if x > 0 else ({t}(-1) if x < 0 else {t}(x))")
        yield _one(f"neg_{t}", "x", f"{t}(-x)")
        yield f"powi_{t}", f"def _powi_{t}(x, n):\n{_POWI.format(t=t)}"
    for t in TYPES:
        yield _one(f"select_{t}", "condition, x, y", "x if condition else y")
        for target in TYPES:
            yield _one(f"convert_{t}_{target}", "x", "x != 0" if target == "bool" else f"{target}(x)")
    yield _one("and_bool", "x, y", "x and y")
    yield _one("or_bool", "x, y", "x or y")
    yield _one("xor_bool", "x, y", "x != y")
    yield _one("not_bool", "x", "not x")
    yield "random_bits", _plain(RANDOM_BITS)


_WIDTH = {"i32": 4, "i64": 8, "u8": 1}


def _plain(source: str) -> str:
    """A helper of Numba source without annotations, under its name for the driver."""
    head, _, body = source.rstrip().partition("\n")
    head = re.sub(r"(\w+): \w+", r"\1", head.partition(" ->")[0].rstrip(":"))
    return head.replace("def ", "def _") + ":\n" + body


DEFINITIONS: dict[str, str] = dict(_definitions())
"""The source of every helper by name."""


def helpers_for(text: str) -> str:
    """The definitions of all helpers that a text calls, those that they call first."""
    found: dict[str, str] = {}

    def add(name: str) -> None:
        if name in found:
            return
        source = DEFINITIONS[name]
        for called in _called(source.partition("\n")[2]):
            if called != name:
                add(called)
        found[name] = source

    for name in _called(text):
        add(name)
    return "\n\n\n".join(f"{source}\n\n\n{name} = cuda.jit(device=True)(_{name})" for name, source in found.items())


def for_driver(text: str) -> str:
    """A text that calls helpers as plain functions."""
    return re.sub(r"\b(\w+)\(", lambda found: f"_{found[0]}" if found[1] in DEFINITIONS else found[0], text)


def _called(text: str) -> list[str]:
    return [name for name in dict.fromkeys(re.findall(r"\b(\w+)\(", text)) if name in DEFINITIONS]
