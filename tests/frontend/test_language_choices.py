"""Short circuits, chained comparisons, choices by entry, assertions."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])
z = np.array([-1.0, 0.0, 1.0, 2.0])


@cases(
    Case(
        "chain once",
        """
def f(key: key, x: f64) -> bool:
    return 0.0 <= x * x < 4.0 < 5.0
""",
        "f",
        0,
        1.0,
        expect=True,
    ),
    Case(
        "short circuit scalar",
        """
def f[n](x: f64[n], i: i32) -> bool = i < n and x[i] > 0
""",
        "f",
        x,
        10,
        expect=False,
    ),
    Case(
        "or",
        """
def f[n](x: f64[n], i: i32) -> bool = i >= n or x[i] > 0
""",
        "f",
        x,
        10,
        expect=True,
    ),
    Case(
        "arrays",
        """
def f[n](x: f64[n]) -> bool[n] = x > 1 and not x > 3
""",
        "f",
        x,
        expect=(x > 1) & ~(x > 3),
    ),
    Case(
        "chained arrays",
        """
def f[n](x: f64[n]) -> bool[n] = 1 < x <= 3
""",
        "f",
        x,
        expect=(x > 1) & (x <= 3),
    ),
    Case(
        "chain short circuit",
        """
def f[n](x: f64[n], i: i32) -> bool = 0 <= i < n and 1 < x[i] < 3
""",
        "f",
        x,
        9,
        expect=False,
    ),
    Case(
        "log grad",
        """
def f[n](x: f64[n]) -> f64 = sum(log(x) if x > 0 else x)
""",
        "f",
        z,
        expect=np.array([1, 1, 1, 0.5]),
        wrt="x",
    ),
    Case(
        "sqrt 2nd",
        """
def g[n](x: f64[n]) -> f64 = sum(sqrt(x) * x if x > 0 else 0.0)
def f[n](x: f64[n]) -> f64[n] = hvp(g)(x, x)
""",
        "f",
        z,
        expect=np.where(z > 0, 0.75 * np.sqrt(np.abs(z)), 0),
        is_smooth=False,
    ),
    Case(
        "bound before",
        """
def g[n](x: f64[n]) -> f64:
    r = sqrt(x)
    return sum(r if x > 0 else 0.0)
def f[n](x: f64[n]) -> f64[n] = hvp(g)(x, x)
def h[n](x: f64[n]) -> f64[n] = grad(g)(x)
""",
        "h",
        z,
        expect=np.array([0, 0, 0.5, 0.5 / np.sqrt(2)]),
        is_smooth=False,
    ),
    Case(
        "hvp",
        """
def g[n](x: f64[n]) -> f64:
    r = sqrt(x)
    return sum(r if x > 0 else 0.0)
def f[n](x: f64[n]) -> f64[n] = hvp(g)(x, x)
""",
        "f",
        z,
        expect=np.array([0, 0, -0.25, -0.25 * 2**-0.5]),
        is_smooth=False,
    ),
    Case(
        "scalar bound before",
        """
def f(x: f64) -> f64:
    r = log(x)
    s = r * r
    return s if x > 0 else 0.0
""",
        "f",
        -1.0,
        expect=0.0,
        wrt="x",
    ),
    Case(
        "hessian",
        """
def g(x: f64) -> f64:
    r = sqrt(x)
    return r if x > 0 else 0.0
def f(x: f64) -> f64 = hessian(g)(x)
""",
        "f",
        0.0,
        expect=0.0,
        is_smooth=False,
    ),
    Case(
        "where",
        """
def f[n](x: f64[n]) -> f64 = sum(where(x > 0, log(x), x))
""",
        "f",
        z,
        expect=np.array([1, 1, 1, 0.5]),
        wrt="x",
    ),
    Case(
        "elementwise user fn",
        """
def g(v: f64) -> f64 = log(v)
def f[n](x: f64[n]) -> f64 = sum(vmap(g)(x) if x > 0 else x)
""",
        "f",
        z,
        expect=np.array([1, 1, 1, 0.5]),
        wrt="x",
    ),
    Case(
        "elementwise division by sum",
        """
def f[n](x: f64[n]) -> f64 = sum(1 / x if x != 0 else 0.0)
""",
        "f",
        z,
        expect=np.array([-1, 0, -1, -0.25]),
        wrt="x",
    ),
    Case(
        "indexed",
        """
def f[n](x: f64[n]) -> f64:
    z[i] = log(x[i]) if x[i] > 0 else 0.0
    return sum(z)
""",
        "f",
        z,
        expect=np.array([0, 0, 1, 0.5]),
        wrt="x",
    ),
    Case(
        "broadcast",
        """
def f[n, m](x: f64[n, m], v: f64[m]) -> f64[n, m] = x if v > 2 else 0.0
""",
        "f",
        np.ones((2, 4)),
        x,
        expect=np.where(x > 2, np.ones((2, 4)), 0),
    ),
    Case(
        "** under choice",
        """
def f[n](x: f64[n]) -> f64 = sum(x ** 0.5 if x > 0 else 0.0)
""",
        "f",
        z,
        expect=np.array([0, 0, 0.5, 0.5 / np.sqrt(2)]),
        wrt="x",
    ),
    Case(
        "lambda atan2",
        """
def f[n](x: f64[n], y: f64[n]) -> f64 = sum(atan2(x, y) if x > 0 else 0.0)
""",
        "f",
        z,
        z,
        expect=np.array([0, 0, 0.5, 0.25]),
        wrt="x",
    ),
    Case(
        "assert x   2",
        """
def f(x: f64) -> f64:
    if x > 1:
        assert x < 2
    return x
""",
        "f",
        0.0,
        expect=0.0,
    ),
    Case(
        "grad with assert",
        """
def f[n](x: f64[n]) -> f64:
    s = 0.0
    for i in range(n):
        assert x[i] > -10 and x[i] < 9, "positive entries only"
        s += x[i] ** 2
    return s
""",
        "f",
        z,
        expect=2 * z,
        wrt="x",
    ),
)
def test_choices(case: Case):
    case.run()


@cases(
    Refused(
        "assert loops",
        """
def f[n](x: f64[n]) -> f64:
    s = 0.0
    for i in range(n):
        assert x[i] > 0, "positive entries only"
        s += log(x[i])
    return s
""",
        "f",
        z,
        says="positive entries only",
    ),
    Refused(
        "while",
        """
def f(x: f64) -> f64:
    while x > 1:
        x = x / 2
        assert x > 0.9, "too small"
    return x
""",
        "f",
        3.0,
        says="too small",
    ),
    Refused(
        "assert under if",
        """
def f(x: f64) -> f64:
    if x > 1:
        assert x < 2
    return x
""",
        "f",
        3.0,
        says="`x < 2` does not hold",
    ),
    Refused(
        "assert compound shows",
        """
def f(x: f64, y: f64) -> f64:
    assert 0 < x < 5 and y * 2 > x, "bad"
    return x
""",
        "f",
        3.0,
        1.0,
        says="bad",
    ),
    Refused(
        "all",
        """
def f[n](x: f64[n]) -> f64:
    assert all(x > 0), "must be positive"
    return sum(x)
""",
        "f",
        z,
        says="must be positive",
    ),
    Refused(
        "array cond",
        """
def f[n](x: f64[n]) -> f64:
    assert x > 0
    return sum(x)
""",
        "f",
        z,
        says="a condition is one bool",
    ),
    Refused(
        "literal false",
        """
def f(x: f64) -> f64:
    assert False, "never"
    return x
""",
        "f",
        1.0,
        says="never",
    ),
)
def test_choices_refused(case: Refused):
    case.run()
