"""Bindings, places and subscripts."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])


@cases(
    Case(
        "swap",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[0], x[1] = x[1], x[0]
    return x
""",
        "f",
        x,
        expect=np.array([2.0, 1, 3, 4]),
    ),
    Case(
        "inferred strided",
        """
def f[n](x: f64[n]) -> f64 = sum(x[2 * i] for i)
""",
        "f",
        x,
        expect=4.0,
    ),
    Case(
        "inferred -i",
        """
def f[n](x: f64[n]) -> f64[n]:
    y[i] = x[n - 1 - i]
    return y
""",
        "f",
        x,
        expect=x[::-1],
    ),
    Case(
        "two axes inferred offsets",
        """
def f[n, m](x: f64[n, m]) -> f64[n - 1, m - 1]:
    y[i, j] = x[i + 1, j + 1] - x[i, j]
    return y
""",
        "f",
        np.arange(12.0).reshape(3, 4),
        expect=np.full((2, 3), 5.0),
    ),
    Case(
        "tuple swap",
        """
def f(a: f64, b: f64) -> (f64, f64):
    a, b = b, a
    return a, b
""",
        "f",
        1.0,
        2.0,
        expect=[2.0, 1.0],
    ),
    Case(
        "nested unpack",
        """
def f(a: f64, b: f64) -> f64:
    (p, q), r = (a, b), a * b
    return p + q + r
""",
        "f",
        1.0,
        2.0,
        expect=5.0,
    ),
    Case(
        "gather 2D idx",
        """
def f[n, a, b](x: f64[n], p: i32[a, b]) -> f64[a, b] = x[p]
""",
        "f",
        x,
        np.array([[0, 3], [1, 2]], np.int32),
        expect=x[np.array([[0, 3], [1, 2]])],
    ),
    Case(
        "gather second axis",
        """
def f[n, m, a](x: f64[n, m], p: i64[a]) -> f64[n, a] = x[:, p]
""",
        "f",
        np.arange(12.0).reshape(3, 4),
        np.array([3, 0]),
        expect=np.arange(12.0).reshape(3, 4)[:, [3, 0]],
    ),
    Case(
        "literal -2 slices",
        """
def f[n](x: f64[n]) -> f64 = sum(x[-3:-1]) + x[-1]
""",
        "f",
        x,
        expect=5 + 4.0,
    ),
    Case(
        "reverse slice",
        """
def f[n](x: f64[n]) -> f64[n] = x[::-1]
""",
        "f",
        x,
        expect=x[::-1],
    ),
    Case(
        "slice step",
        """
def f[n](x: f64[2 * n]) -> f64[n] = x[1::2]
""",
        "f",
        x,
        expect=x[1::2],
    ),
    Case(
        "... middle",
        """
def f[a, b, c](x: f64[a, b, c]) -> f64[a, b] = x[..., 0]
""",
        "f",
        np.ones((2, 3, 4)),
        expect=np.ones((2, 3)),
    ),
    Case(
        "runtime slice",
        """
def f[n](x: f64[n], s: i32) -> f64[2] = x[s : s + 2]
""",
        "f",
        x,
        1,
        expect=x[1:3],
    ),
)
def test_bindings(case: Case):
    case.run()


@cases(
    Refused(
        "one name twice",
        """
def f(x: f64) -> f64:
    a, a = x, x + 1
    return a
""",
        "f",
        1.0,
        says="`a` is bound twice here",
    ),
    Refused(
        "one name twice in a nested target",
        """
def f(x: f64) -> f64:
    (a, b), a = (x, x), x
    return a
""",
        "f",
        1.0,
        says="`a` is bound twice here",
    ),
    Refused(
        "one name twice after for",
        """
def f[n](x: f64[n]) -> f64:
    s = 0.0
    for a, a in zip(x, x):
        s += a
    return s
""",
        "f",
        x,
        says="`a` is bound twice here",
    ),
    Refused(
        "place twice",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[0], x[0] = x[1], x[2]
    return x
""",
        "f",
        x,
        says="`x[0]` is bound twice here",
    ),
    Refused(
        "index twice",
        """
def f[n](x: f64[n]) -> f64[n, n]:
    z[i, i] = x[i]
    return z
""",
        "f",
        x,
        says="the index `i` stands here twice",
    ),
    Refused(
        "gather 2 arrays refused",
        """
def f[n](x: f64[n, n], p: i64[n]) -> f64[n] = x[p, p]
""",
        "f",
        np.eye(2),
        np.array([0, 1]),
        says="two arrays of indices in one subscript",
    ),
    Refused(
        "out-of-range gather",
        """
def f[n, a](x: f64[n], p: i64[a]) -> f64[a] = x[p]
""",
        "f",
        x,
        np.array([4]),
        says="index (4,) is out of range for the shape (4,)",
    ),
    Refused(
        "neg computed",
        """
def f[n](x: f64[n], i: i64) -> f64 = x[i]
""",
        "f",
        x,
        -1,
        says="index (-1,) is out of range for the shape (4,)",
    ),
    Refused(
        "mask refused",
        """
def f[n](x: f64[n]) -> f64 = sum(x[x > 0])
""",
        "f",
        x,
        says="a mask is not a subscript",
    ),
    Refused(
        "runtime slice oob",
        """
def f[n](x: f64[n], s: i32) -> f64[2] = x[s : s + 2]
""",
        "f",
        x,
        3,
        says="index (4,) is out of range for the shape (4,)",
    ),
)
def test_bindings_refused(case: Refused):
    case.run()
