"""Literals, integers, conversions, division by zero, types that are not there."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])


@cases(
    Case(
        "a literal beside u8 that wraps",
        """
def f(x: u8) -> u8 = x + 250
""",
        "f",
        np.uint8(10),
        expect=np.uint8(4),
    ),
    Case(
        "float literal f32",
        """
def f[n](x: f32[n]) -> f32:
    total = 0.0
    for v in x:
        total += v * 2.5
    return total
""",
        "f",
        np.array([1, 2], np.float32),
        expect=np.float32(7.5),
    ),
    Case(
        "int div float",
        """
def f(a: i32, b: i32) -> f64 = a / b
""",
        "f",
        7,
        2,
        expect=3.5,
    ),
    Case(
        "// % neg",
        """
def f(a: i32, b: i32) -> (i32, i32) = a // b, a % b
""",
        "f",
        -7,
        2,
        expect=[-4, 1],
    ),
    Case(
        "wrap",
        """
def f(a: i32) -> i32 = a + 2147483647
""",
        "f",
        1,
        expect=-2147483648,
    ),
    Case(
        "const re-read",
        """
half = 0.5
def f(a: f32, b: f64) -> (f32, f64) = a * half, b * half
""",
        "f",
        np.float32(1),
        1.0,
        expect=[0.5, 0.5],
    ),
    Case(
        "reshape meets",
        """
def f[n](x: f64[2 * n]) -> f64[n, 2] = reshape(x)
""",
        "f",
        x,
        expect=x.reshape(2, 2),
    ),
    Case(
        "normal meets",
        """
def f(k: key) -> f64:
    z: f64[3] = normal(k)
    return sum(z * 0)
""",
        "f",
        1,
        expect=0.0,
    ),
    Case(
        "power",
        """
def f(x: f64, n: i32) -> f64 = x ** n + 2.0 ** n + x ** 2 + x ** -1
""",
        "f",
        2.0,
        3,
        expect=8 + 8 + 4 + 0.5,
    ),
    Case(
        "complex chained",
        """
def f[n](x: f64[n]) -> bool[n] = not (x < 2) or x == 1
""",
        "f",
        x,
        expect=np.array([True, True, True, True]),
    ),
)
def test_numbers(case: Case):
    case.run()


@cases(
    Refused(
        "division of integers by the literal zero",
        """
def f(a: i32) -> i32 = a // 0
""",
        "f",
        1,
        says="division by zero",
    ),
    Refused(
        "remainder of integers by the literal zero",
        """
def f(a: i32) -> i32 = a % 0
""",
        "f",
        1,
        says="division by zero",
    ),
    Refused(
        "a size divided by zero",
        """
def f(n: size) -> i64 = n // 0
""",
        "f",
        1,
        says="division by zero",
    ),
    Refused(
        "division by a constant that is zero",
        """
def f(a: i32) -> i32 = a // (2 - 2)
""",
        "f",
        1,
        says="division by zero",
    ),
    Refused(
        "remainder by a constant that is zero",
        """
z = 0
def f(a: i32) -> i32 = a % z
""",
        "f",
        1,
        says="division by zero",
    ),
    Refused(
        "f16",
        """
def f(x: f16) -> f16 = x
""",
        "f",
        np.float16(1),
        says="`f16` is not supported on this device",
    ),
    Refused(
        "bf16",
        """
def f(x: bf16[3]) -> bf16[3] = x
""",
        "f",
        np.float16(1),
        says="`bf16` is not supported on this device",
    ),
    Refused(
        "a cast to f16",
        """
def f(x: f64) -> f64 = f64(f16(x))
""",
        "f",
        1.0,
        says="`f16` is not supported on this device",
    ),
    Refused(
        "a type of the language it has not",
        """
def f(x: u16) -> u16 = x
""",
        "f",
        1,
        says="`u16` is not defined",
    ),
    Refused(
        "a python type",
        """
def f(x: float) -> float = x
""",
        "f",
        1.0,
        says="`float` is not defined",
    ),
    Refused(
        "i8",
        """
def f(x: i8) -> i8 = x
""",
        "f",
        np.uint8(10),
        says="`i8` is not defined",
    ),
    Refused(
        "f32 f64 mix refused",
        """
def f(a: f32, b: f64) -> f64 = a * b
""",
        "f",
        np.float32(1),
        1.0,
        says="f32 and f64 do not mix",
    ),
    Refused(
        "bool number refused",
        """
def f(a: bool) -> f64 = a * 2.0
""",
        "f",
        True,
        says="a bool is not a number",
    ),
    Refused(
        "float to int refused",
        """
def f(a: f64) -> i32:
    x: i32 = a
    return x
""",
        "f",
        1.0,
        says="i32 is wanted here",
    ),
)
def test_numbers_refused(case: Refused):
    case.run()
