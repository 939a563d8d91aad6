"""Sizes that `assert` makes equal are so in what follows, in loops, branches and functions."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])


@cases(
    Case(
        "assert",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert n == m
    return x + y
""",
        "f",
        x,
        y,
        expect=x + y,
    ),
    Case(
        "loop body",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert n == m
    for t in range(3):
        x = x + y
    return x
""",
        "f",
        x,
        y,
        expect=x + 3 * y,
    ),
    Case(
        "assert in loop body",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    for t in range(3):
        assert n == m
        x = x + y
    return x
""",
        "f",
        x,
        y,
        expect=x + 3 * y,
    ),
    Case(
        "in branch",
        """
def f[n, m](x: f64[n], y: f64[m], c: f64) -> f64:
    z = 0.0
    if c > 0:
        assert n == m
        z = sum(x + y)
    return z
""",
        "f",
        x,
        y,
        1.0,
        expect=(x + y).sum(),
    ),
    Case(
        "nested def",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert n == m
    def g(a: f64) -> f64[n] = a * x + y
    return g(2.0)
""",
        "f",
        x,
        y,
        expect=2 * x + y,
    ),
    Case(
        "nested def before assert",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    def g(a: f64) -> f64[n]:
        assert n == m
        return a * x + y
    return g(2.0)
""",
        "f",
        x,
        y,
        expect=2 * x + y,
    ),
    Case(
        "closure made before assert",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    g = lambda a: a * x + y
    assert n == m
    return g(2.0)
""",
        "f",
        x,
        y,
        expect=2 * x + y,
    ),
    Case(
        "lambda",
        """
def ap[k](h: fn(f64) -> f64[k], v: f64) -> f64[k] = h(v)
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert n == m
    return ap(lambda a: a * x + y, 2.0)
""",
        "f",
        x,
        y,
        expect=2 * x + y,
    ),
    Case(
        "2m",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert n == 2 * m
    return x + concat(y, y)
""",
        "f",
        x,
        y[:2],
        expect=x + np.tile(y[:2], 2),
    ),
    Case(
        "m=n+1",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64:
    assert m == n + 1
    return sum(x[i] * y[i + 1] for i)
""",
        "f",
        x[:3],
        y,
        expect=(x[:3] * y[1:]).sum(),
    ),
    Case(
        "record",
        """
record P[k]:
    w: f64[k]
def f[n, m](p: P[n], q: P[m]) -> P[n]:
    assert n == m
    for i in range(2):
        p = p + q
    return p
""",
        "f",
        {"w": x},
        {"w": y},
        expect=[x + 2 * y],
    ),
    Case(
        "call",
        """
def g[n](x: f64[n], y: f64[n]) -> f64[n] = x * y
def f[n, m](x: f64[n], y: f64[m]) -> f64[m]:
    assert m == n
    s = 0.0
    for i in range(2):
        s += sum(g(x, y))
    return g(x, y) + s
""",
        "f",
        x,
        y,
        expect=x * y + 2 * (x * y).sum(),
    ),
    Case(
        "size formal",
        """
def f[n](x: f64[n], k: size) -> f64[n]:
    assert n == 2 * k
    y: f64[n] = 0.0
    for i in range(k):
        y[2 * i] = x[i]
        y[2 * i + 1] = x[i + k]
    return y
""",
        "f",
        x,
        2,
        expect=np.array([1.0, 3, 2, 4]),
    ),
    Case(
        "while",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert n == m
    while x[0] < 10.0:
        x = x + y
    return x
""",
        "f",
        x,
        y,
        expect=x + 5 * y,
    ),
    Case(
        "elem",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert n == m
    z[i] = x[i] * y[i]
    return z if z > 3 else x
""",
        "f",
        x,
        y,
        expect=np.where(x * y > 3, x * y, x),
    ),
    Case(
        "collected",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert n == m
    for t in range(n):
        z[t] = x[t] + y[t]
    return z
""",
        "f",
        x,
        y,
        expect=x + y,
    ),
    Case(
        "if after",
        """
def f[n, m](x: f64[n], y: f64[m], c: bool) -> f64[n]:
    assert n == m
    if c:
        z = x
    else:
        z = y
    return z
""",
        "f",
        x,
        y,
        True,
        expect=x,
    ),
    Case(
        "early return",
        """
def f[n, m](x: f64[n], y: f64[m], c: bool) -> f64[n]:
    if c:
        return x
    assert n == m
    return y
""",
        "f",
        x,
        y,
        False,
        expect=y,
    ),
    Case(
        "two",
        """
def f[n, m, k](x: f64[n], y: f64[m], z: f64[k]) -> f64[k]:
    assert n == m and m == k
    s = x
    for i in range(2):
        s = s + y + z
    return s
""",
        "f",
        x,
        y,
        x,
        expect=3 * x + 2 * y,
    ),
    Case(
        "chain",
        """
def f[n, m, k](x: f64[n], y: f64[m], z: f64[k]) -> f64[k]:
    assert n == m == k
    s = x
    for i in range(2):
        s = s + y + z
    return s
""",
        "f",
        x,
        y,
        x,
        expect=3 * x + 2 * y,
    ),
    Case(
        "vmap",
        """
def f[b, n, m](x: f64[b, n], y: f64[m]) -> f64[b]:
    assert n == m
    return vmap(lambda v: dot(v, y))(x)
""",
        "f",
        np.stack([x, y]),
        y,
        expect=np.stack([x, y]) @ y,
    ),
    Case(
        "reshape",
        """
def f[n, a](x: f64[n], y: f64[a, a]) -> f64[n]:
    assert n == a * a
    s = x
    for i in range(2):
        s = s + reshape(y, n)
    return s
""",
        "f",
        x,
        x.reshape(2, 2),
        expect=3 * x,
    ),
    Case(
        "len",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert len(x) == len(y)
    for i in range(2):
        x += y
    return x
""",
        "f",
        x,
        y,
        expect=x + 2 * y,
    ),
)
def test_asserted_sizes(case: Case):
    case.run()


@cases(
    Refused(
        "after branch no fact",
        """
def f[n, m](x: f64[n], y: f64[m], c: f64) -> f64:
    z = 0.0
    if c > 0:
        assert n == m
        z = sum(x + y)
    return sum(x + y)
""",
        "f",
        x,
        y,
        1.0,
        says="the shapes [n] and [m] do not fit",
    ),
    Refused(
        "fails at runtime",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert n == m
    for i in range(2):
        x = x + y
    return x
""",
        "f",
        x,
        y[:2],
        says="`n == m` does not hold",
    ),
)
def test_asserted_sizes_refused(case: Refused):
    case.run()
