"""Loops over ranges, arrays, tuples, `enumerate` and `zip`; what is carried and collected."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])


@cases(
    Case(
        "a sum of loop variables takes the type of the count",
        """
def o(a: i32) -> i32:
    s = 0
    for i in range(a):
        s += i
    return s
""",
        "o",
        5,
        expect=10,
    ),
    Case(
        "a loop variable under if",
        """
def o(a: i32) -> i32:
    s = 0
    for i in range(a):
        if i > 2:
            s = i
    return s
""",
        "o",
        5,
        expect=4,
    ),
    Case(
        "a place of an array of i32",
        """
def o[n](x: i32[n]) -> i32:
    best = 0
    for i in range(n):
        if x[i] > x[best]:
            best = i
    return best
""",
        "o",
        np.array([1, 5, 3], np.int32),
        expect=1,
    ),
    Case(
        "a chosen loop variable is i64",
        """
def o[n](x: f64[n]) -> i64:
    best = 0
    for i in range(n):
        best = i if x[i] > x[best] else best
    return best
""",
        "o",
        x,
        expect=3,
    ),
    Case(
        "a sum of loop variables in i64",
        """
def o(a: i64) -> i64:
    s = 0
    for i in range(a):
        s += i
    return s
""",
        "o",
        5,
        expect=10,
    ),
    Case(
        "a product with loop variables",
        """
def o(a: i32) -> i32:
    s = 1
    for i in range(1, a):
        s = s * i + a
    return s
""",
        "o",
        5,
        expect=(((1 * 1 + 5) * 2 + 5) * 3 + 5) * 4 + 5,
    ),
    Case(
        "a loop variable in an update",
        """
def o[n](x: i32[n]) -> i32[n]:
    y: i32[n] = 0
    for i in range(n):
        y[i] = x[i] + i
    return y
""",
        "o",
        np.array([1, 5, 3], np.int32),
        expect=np.array([1, 6, 5]),
    ),
    Case(
        "two carries of two types",
        """
def o[n](x: i32[n]) -> (i32, i64):
    c = 0
    k = 0
    for i in range(n):
        c += x[i]
        k += i
    return c, k
""",
        "o",
        np.array([1, 5, 3], np.int32),
        expect=(9, 3),
    ),
    Case(
        "while",
        """
def o(a: i32) -> i32:
    k = 0
    while k * k < a:
        k += 1
    return k
""",
        "o",
        10,
        expect=4,
    ),
    Case(
        "a sum over a triangle",
        """
def o(a: i32) -> i32:
    s = 0
    for i in range(a):
        for j in range(i):
            s += j * i + 1
    return s
""",
        "o",
        4,
        expect=sum(j * i + 1 for i in range(4) for j in range(i)),
    ),
    Case(
        "sum of idx",
        """
def o(a: i32, n: size) -> i32 = a + sum(i * i for i in range(n))
""",
        "o",
        4,
        3,
        expect=9,
    ),
    Case(
        "no type",
        """
def o(n: size) -> i64:
    s = 0
    for i in range(n):
        s += i
    return s
""",
        "o",
        4,
        expect=6,
    ),
    Case(
        "no type i32 result",
        """
def o(n: size) -> i32:
    s = 0
    for i in range(n):
        s += i
    return s
""",
        "o",
        4,
        expect=6,
    ),
    Case(
        "enumerate of zip",
        """
def f[n](x: f64[n], y: f64[n]) -> f64:
    s = 0.0
    for t, (a, b) in enumerate(zip(x, y)):
        s += t * a * b
    return s
""",
        "f",
        x,
        y,
        expect=(np.arange(4) * x * y).sum(),
    ),
    Case(
        "zip of zip",
        """
def f[n](x: f64[n], y: f64[n], z: f64[n]) -> f64:
    s = 0.0
    for (a, b), c in zip(zip(x, y), z):
        s += c * a * b
    return s
""",
        "f",
        x,
        y,
        y,
        expect=(y * x * y).sum(),
    ),
    Case(
        "a pair as one name",
        """
def f[n](x: f64[n], y: f64[n]) -> f64:
    s = 0.0
    for t, p in enumerate(zip(x, y)):
        s += t * p[0] * p[1]
    return s
""",
        "f",
        x,
        y,
        expect=(np.arange(4) * x * y).sum(),
    ),
    Case(
        "zip with enumerate",
        """
def f[n](x: f64[n], y: f64[n]) -> f64:
    s = 0.0
    for (t, a), b in zip(enumerate(x), y):
        s += t * a * b
    return s
""",
        "f",
        x,
        y,
        expect=(np.arange(4) * x * y).sum(),
    ),
    Case(
        "zip range",
        """
def f[n](x: f64[n]) -> f64:
    s = 0.0
    for t, a in zip(range(n), x):
        s += t * a
    return s
""",
        "f",
        x,
        expect=(np.arange(4) * x).sum(),
    ),
    Case(
        "tuple of pairs",
        """
def f(x: f64) -> f64:
    s = 0.0
    for a, b in ((x, 1.0), (2 * x, 3.0)):
        s += a * b
    return s
""",
        "f",
        2.0,
        expect=14.0,
    ),
    Case(
        "enumerate tuple",
        """
def f(x: f64) -> f64:
    s = 0.0
    for k, a in enumerate((x, 2 * x)):
        s += k * a
    return s
""",
        "f",
        2.0,
        expect=4.0,
    ),
    Case(
        "vmap over multiple",
        """
def g(a: f64, b: f64) -> f64 = a * b
def f[n](x: f64[n], y: f64[n]) -> f64[n] = vmap(g, over=(a, b))(x, y)
""",
        "f",
        x,
        y,
        expect=x * y,
    ),
    Case(
        "vmap one",
        """
def g[n](a: f64, b: f64[n]) -> f64 = a * sum(b)
def f[n](x: f64[n], y: f64[n]) -> f64[n] = vmap(g, over=a)(x, y)
""",
        "f",
        x,
        y,
        expect=x * y.sum(),
    ),
    Case(
        "collected tuple",
        """
def f(s: size) -> (f64[s], i64[s]):
    x = 1.0
    for t in range(s):
        x *= 2
        a[t], b[t] = x, t * t
    return a, b
""",
        "f",
        3,
        expect=[np.array([2.0, 4, 8]), np.array([0, 1, 4])],
    ),
    Case(
        "collected 2d in loop",
        """
def f[n](x: f64[n], s: size) -> f64[s, n]:
    for t in range(s):
        x = x * 2
        h[t, i] = x[i] + i
    return h
""",
        "f",
        x,
        2,
        expect=np.stack([2 * x + np.arange(4), 4 * x + np.arange(4)]),
    ),
    Case(
        "collected in inner loop var",
        """
def f(s: size) -> f64[s, s]:
    for t in range(s):
        for u in range(s):
            g[u] = 1.0 * t * u
        h[t] = g
    return h
""",
        "f",
        3,
        expect=np.outer(np.arange(3), np.arange(3)),
    ),
    Case(
        "loop neg step",
        """
def f[n](x: f64[n]) -> f64:
    s = 0.0
    for i in range(n - 1, -1, -2):
        s = 2 * s + x[i]
    return s
""",
        "f",
        x,
        expect=2 * 4 + 2.0,
    ),
    Case(
        "rebind loop var type change",
        """
def f(x: f64) -> f64:
    y = 1
    for i in range(3):
        y = y * x
    return y
""",
        "f",
        2.0,
        expect=8.0,
    ),
)
def test_loops(case: Case):
    case.run()


@cases(
    Refused(
        "collecting from a range that starts later",
        """
def f[n](x: f64[n]) -> f64[n]:
    for t in range(1, n):
        y[t] = x[t]
    return y
""",
        "f",
        x,
        says="`y` cannot be collected in a range that does not count up from 0 by 1",
    ),
    Refused(
        "zip tuple array",
        """
def f[n](x: f64[n]) -> f64:
    s = 0.0
    for a, k in zip(x, (1.0, 2.0)):
        s += k * a
    return s
""",
        "f",
        x[:2],
        says="this cannot be looped over",
    ),
    Refused(
        "collected under if refused",
        """
def f(s: size, c: bool) -> f64[s]:
    for t in range(s):
        if c:
            h[t] = 1.0
    return h
""",
        "f",
        2,
        True,
        says="`h` cannot be collected under `if`",
    ),
    Refused(
        "while with collect refused",
        """
def f(s: size) -> f64:
    k = 0
    while k < s:
        g[k] = 1.0
        k += 1
    return g[0]
""",
        "f",
        3,
        says="the index `k` hides a name",
    ),
    Refused(
        "carried shape change refused",
        """
def f[n](x: f64[n]) -> f64:
    y = x
    for i in range(3):
        y = y[1:]
    return sum(y)
""",
        "f",
        x,
        says="`y` changes type inside the loop",
    ),
    Refused(
        "local after loop",
        """
def f(x: f64) -> f64:
    for i in range(3):
        y = x
    return y
""",
        "f",
        2.0,
        says="`y` is not visible here",
    ),
)
def test_loops_refused(case: Refused):
    case.run()
