"""What assertions say of sizes ends with the branch, loop or function that they stand in."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])


@cases(
    Case(
        "branch mixed",
        """
def f[n, m](x: f64[n], y: f64[m], c: bool) -> f64[n]:
    if c:
        assert n == m
        x = x + y
    else:
        x = 2 * x
    return x
""",
        "f",
        x,
        y,
        True,
        expect=x + y,
    ),
    Case(
        "branch new name",
        """
def f[n, m](x: f64[n], y: f64[m], c: bool) -> f64[n]:
    if c:
        assert n == m
        z = x + y
    else:
        z = 2 * x
    return z
""",
        "f",
        x,
        y,
        True,
        expect=x + y,
    ),
    Case(
        "branch return",
        """
def f[n, m](x: f64[n], y: f64[m], c: bool) -> f64:
    def g(q: f64):
        if c:
            assert n == m
            return x + y
        return 2 * x
    return sum(g(1.0))
""",
        "f",
        x,
        y,
        True,
        expect=sum(x + y),
    ),
    Case(
        "scope",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64:
    scope s:
        assert n == m
        z = x + y
    return sum(z + x + y)
""",
        "f",
        x,
        y,
        expect=2 * sum(x + y),
    ),
    Case(
        "record in branch",
        """
record P[k]:
    w: f64[k]
def f[n, m](p: P[n], q: P[m], c: bool) -> P[n]:
    if c:
        assert n == m
        p = p + q
    for i in range(2):
        assert m == n
        p = p + q
    return p
""",
        "f",
        {"w": x},
        {"w": y},
        True,
        expect=[x + 3 * y],
    ),
    Case(
        "range in loop",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64:
    s = 0.0
    for i in range(n):
        assert n == m
        s += y[i] * x[i]
    return s
""",
        "f",
        x,
        y,
        expect=x @ y,
    ),
    Case(
        "closure chain",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64:
    g = lambda a: a * x
    h = lambda a: g(a) + y
    def k(a: f64) -> f64 = sum(h(a))
    assert n == m
    return grad(k)(2.0)
""",
        "f",
        x,
        y,
        expect=10.0,
    ),
    Case(
        "P generic",
        """
record A[n]:
    v: f64[n]
def g[P: record](p: P, q: P) -> P = p + q
def f[n, m](a: A[n], b: A[m]) -> A[m]:
    assert n == m
    return g(a, b)
""",
        "f",
        {"v": x},
        {"v": y},
        expect=[x + y],
    ),
    Case(
        "equations in loops with floor",
        """
def f[n](x: f64[n], k: size) -> f64[n]:
    assert n == 4 * k
    for t in range(2):
        x = concat(x[2 * k:], x[:2 * k])
    return x
""",
        "f",
        x,
        1,
        expect=x,
    ),
    Case(
        "k=1, not divisible",
        """
def f[n](x: f64[n]) -> f64[n]:
    assert n % 2 == 0
    return concat(x[n // 2:], x[:n // 2])
""",
        "f",
        x,
        expect=np.array([3.0, 4, 1, 2]),
    ),
)
def test_asserted_blocks(case: Case):
    case.run()


@cases(
    Refused(
        "big mismatch",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert n == m
    for t in range(3):
        x = x + y
    return x
""",
        "f",
        x,
        np.ones(40_000_000),
        says="`n == m` does not hold",
    ),
    Refused(
        "big mismatch2",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64:
    assert n == m
    return sum(x * y + y)
""",
        "f",
        np.ones(40_000_000),
        x,
        says="`n == m` does not hold",
    ),
    Refused(
        "facts do not leak from a loop",
        """
def f[n](x: f64[n], k: i32) -> f64:
    for i in range(k):
        assert n > 0
    return mean(x)
""",
        "f",
        np.zeros(0),
        0,
        says="the mean of nothing: choose another value where this size is 0",
    ),
)
def test_asserted_blocks_refused(case: Refused):
    case.run()
