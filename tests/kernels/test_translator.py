"""Direct translation: the same results as Numba on every construct, and refusal of what is not in the language."""

from __future__ import annotations

import numpy as np
import pytest

from dgraph.kernels.load import load_object
from dgraph.kernels.native import compile_source
from dgraph.kernels.translator import SourceFault, translate

BODIES = {
    "the counter of a loop keeps its last value": """
    last = -1
    for i in range(n + 1):
        last = i
    total = i + 100 * last
""",
    "an empty range leaves the counter alone": """
    i = 77
    for i in range(5, 5):
        i = 3
    total = i
""",
    "the body may assign the counter": """
    total = 0
    for i in range(n):
        total = total * 3 + i
        i = 1000
""",
    "the bounds are evaluated once": """
    total = 0
    m = n
    for i in range(m):
        m = 0
        total += i + 1
""",
    "ranges with steps": """
    total = 0
    for i in range(2, n, 3):
        total = total * 5 + i
    for i in range(n, -4, -2):
        total = total * 5 + i
    for i in range(3, 9, -1):
        total = 1
""",
    "nested loops with break and continue": """
    total = 0
    for i in range(n):
        j = 0
        while True:
            j += 1
            if j > i:
                break
            if (i + j) % 3 == 0:
                continue
            total = total * 2 + j
        if total > 100000:
            break
""",
    "division and remainder round down": """
    total = 0
    for i in range(-7, 8):
        for j in range(-3, 4):
            total = total * 31 + i // j * 5 + i % j
""",
    "shifts and bits": """
    total = ((n << 5) | 3) ^ (-n >> 1) & 1023
""",
    "chosen values": """
    total = (n if n > 3 else -n) + (1 if x > 0.0 else 2 if x < -1.0 else 3)
""",
    "connected conditions look no further than they must": """
    total = 0
    for i in range(-2, n):
        if i >= 0 and i < 4 and load_i64(table, i) != 0 or i == -1:
            total = total * 2 + 1
        if not (i > 1 or i < 0):
            total += 3
""",
    "early exits": """
    total = 0
    for i in range(n):
        if i == 3:
            return total * 10
        else:
            total += i
    while n > 0:
        n -= 1
        if n == 2:
            return -total
""",
    "branches that assign": """
    if n > 4:
        total = 1
        y = x
    elif n > 2:
        total = 2
        y = -x
    else:
        total = 3
        y = 0.0
    if y > 0.1:
        total += 10
""",
    "numbers of every type": """
    a = f32(0.1) * f32(3.0) - f32(-1)
    b = add_i32(i32(2147483647), i32(1))
    c = u8(200)
    total = convert_i32_i64(b) + convert_u8_i64(add_u8(c, c)) + convert_f32_i64(a * f32(1000.0))
    if b < 5 and c > 7 and i32(3) != c and c == 200:
        total += 1
    if f32(n) > a or f64(b) > x or i64(c) == 3:
        total += 2
    if bool(n):
        total += 4
""",
    "infinities and what is not a number": """
    total = 0
    if inf_f32 > f32(0.0) and -inf_f64 < x and nan_f64 != nan_f64 and not (nan_f32 == nan_f32):
        total = 1
""",
}
PROGRAM = """
def kernel_0(table: pointer_i64, n: i64, x: f64) -> i64:
    {body}
    return total

def entry(table: pointer_i64) -> i64:
    return kernel_0(table, load_i64(table, 0), load_f64(pointer_f64(address_i64(table)), 1))
"""


@pytest.mark.parametrize("name", BODIES)
def test_both_compilers_give_the_same(name: str) -> None:
    source = PROGRAM.format(body=BODIES[name].strip())
    programs = [load_object(compile_source(source, through=route)) for route in ("direct", "numba")]
    for n in (0, 1, 2, 3, 4, 5, 12):
        for x in (0.25, -3.0):
            table = np.array([n, np.float64(x).view(np.int64), 1, 1], np.int64)
            direct, reference = (program.call(table.ctypes.data) for program in programs)
            assert direct == reference, (n, x)


FAULTS = {
    "x = 1\n    x = 2.0": "x is i64 and is assigned f64",
    "x = y": "unknown name",
    "x = unknown(1)": "unknown function",
    "x = 1 + 2.0": "i64 meets f64",
    "x = i32(1) + i32(1)": "no such operator for i32",
    "x = u8(1) << u8(1)": "no such operator for u8",
    "x = 1 / 2": "no such operator for i64",
    "x = 1.0 % 2.0": "no such operator for f64",
    "x = 2 ** 3": "no such operator for i64",
    "x = -i32(n)": "no such operator for i32",
    "x = 1 < 2.0": "i64 is compared with f64",
    "x = 1 < 2 < 3": "no such expression",
    "x = not 1": "this is i64, not bool",
    "x = exp_f64(1)": "takes",
    "x = exp_f64(1.0, 2.0)": "takes",
    "x = store_i64(table, 0, 1)": "no such expression",
    "x = 1 if True else 2.0": "i64 or f64",
    "x = (1, 2)": "no such expression",
    "x, y = 1, 2": "no such statement",
    "x = table[0]": "no such expression",
    "x = table.y": "no such expression",
    "x = table.y()": "no such call",
    "x = exp_f64(x=1.0)": "no such call",
    "x = f32(1, 2)": "a type takes one number",
    "if 1:\n        pass": "this is i64, not bool",
    "for i in range(1.0):\n        pass": "this is f64, not i64",
    "for i in range(0, 9, 0):\n        pass": "the step of a range",
    "for i in range(0, 9, n):\n        pass": "the step of a range",
    "for i in table:\n        pass": "no such statement",
    "return 1.0": "the result is i64, not f64",
    "raise ValueError": "no such statement",
    "del n": "no such statement",
}


@pytest.mark.parametrize("body", FAULTS)
def test_what_is_not_in_the_language_is_refused(body: str) -> None:
    source = f"def entry(table: pointer_i64) -> i64:\n    n = load_i64(table, 0)\n    {body}\n    return 0\n"
    with pytest.raises(SourceFault, match=FAULTS[body]):
        translate(source, "entry")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("x = 1\n", "only functions"),
        ("def entry(table) -> i64:\n    return 0\n", "has no type"),
        ("def entry(table: pointer_f16) -> i64:\n    return 0\n", "no such type"),
        ("def f32(x: f64) -> f64:\n    return x\n", "f32 is defined already"),
        ("def exp_f32(x: f32) -> f32:\n    return x\n", "exp_f32 is defined already"),
        ("def f(x: f32):\n    pass\n\ndef f(x: f32):\n    pass\n", "f is defined already"),
        ("def entry(table: pointer_i64) -> [1]:\n    return 0\n", "no such type"),
    ],
)
def test_faults_of_whole_functions(source: str, problem: str) -> None:
    with pytest.raises(SourceFault, match=problem):
        translate(source, "entry")


def test_a_fault_names_its_line() -> None:
    with pytest.raises(SourceFault, match=r"^line 3: i64 meets f64: n \+ 1.0"):
        translate("def entry(table: pointer_i64) -> i64:\n    n = 1\n    return n + 1.0\n", "entry")
