"""Arrays of records, records as vector spaces, generic records called by the host."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])


@cases(
    Case(
        "zeros_like record",
        """
record S:
    a: f64
    c: i32
def f(s: S) -> S = zeros_like(s)
""",
        "f",
        {"a": 2.0, "c": 3},
        expect=[0.0, 3],
    ),
    Case(
        "a generic record from the host",
        """
record S[n]:
    a: f64[n]
    b: f64
def step[P: record](q: P, g: P, r: f64) -> P = q - r * g
""",
        "step",
        {"a": x, "b": 1.0},
        {"a": y, "b": 2.0},
        0.5,
        expect=[x - 0.5 * y, 0.0],
    ),
    Case(
        "shape generic",
        """
def h[*s](x: f64[*s]) -> f64[*s] = 2 * x
""",
        "h",
        x,
        expect=2 * x,
    ),
    Case(
        "the gradient of a function of any shape",
        """
def h[*s](x: f64[*s]) -> f64 = sum(x * x)
""",
        "h",
        x.reshape(2, 2),
        expect=2 * x.reshape(2, 2),
        wrt="x",
    ),
    Case(
        "dtype generic",
        """
def h[T: float](x: T, y: T) -> T = x * y
""",
        "h",
        np.float32(2),
        np.float32(3),
        expect=np.float32(6),
    ),
    Case(
        "*s + n",
        """
def h[*s, n, T: float](x: T[*s, n]) -> T[*s] = sum(x, axis=-1)
""",
        "h",
        x.reshape(2, 2),
        expect=x.reshape(2, 2).sum(-1),
    ),
    Case(
        "empty list",
        """
record P:
    w: f64
def f(k: size, ps: P[k]) -> f64:
    s = 0.0
    for p in ps:
        s += p.w
    return s
""",
        "f",
        0,
        [],
        expect=0.0,
    ),
    Case(
        "an empty list of records",
        """
record P:
    w: f64
def f[k](ps: P[k]) -> f64:
    s = 0.0
    for p in ps:
        s += p.w
    return s
""",
        "f",
        [],
        expect=0.0,
    ),
    Case(
        "a list of records",
        """
record P:
    w: f64
def f[k](ps: P[k]) -> f64:
    s = 0.0
    for p in ps:
        s += p.w
    return s
""",
        "f",
        [{"w": 1.0}, {"w": 3.0}],
        expect=4.0,
    ),
    Case(
        "zero extents",
        """
def f[n, m](x: f64[n, m]) -> (f64, f64[m], f64[n], f64, f64):
    return sum(x), sum(x, axis=0), max(x, axis=1), prod(x), logsumexp(x)
""",
        "f",
        np.zeros((0, 3)),
        expect=[0.0, np.zeros(3), np.zeros(0), 1.0, -np.inf],
        is_smooth=False,
    ),
    Case(
        "zero concat",
        """
def f[n, m](x: f64[n], y: f64[m]) -> f64[n + m] = concat(x, y)
""",
        "f",
        np.zeros(0),
        x,
        expect=x,
    ),
    Case(
        "zero cum",
        """
def f[n](x: f64[n]) -> f64[n] = cumsum(x)
""",
        "f",
        np.zeros(0),
        expect=np.zeros(0),
    ),
    Case(
        "zero sort",
        """
def f[n](x: f64[n]) -> f64[n] = sort(x)
""",
        "f",
        np.zeros(0),
        expect=np.zeros(0),
    ),
    Case(
        "zero matmul",
        """
def f[n,m,k](x: f64[n,m], y: f64[m,k]) -> f64[n,k] = x @ y
""",
        "f",
        np.zeros((2, 0)),
        np.zeros((0, 3)),
        expect=np.zeros((2, 3)),
    ),
    Case(
        "grad empty",
        """
def f[n](x: f64[n]) -> f64 = sum(x * x)
""",
        "f",
        np.zeros(0),
        expect=np.zeros(0),
        wrt="x",
    ),
    Case(
        "loop collect 0",
        """
def f(s: size) -> f64[s]:
    x = 1.0
    for t in range(s):
        x *= 2
        y[t] = x
    return y
""",
        "f",
        0,
        expect=np.zeros(0),
    ),
    Case(
        "a generic record from the host 2",
        """
record S[n]:
    a: f64[n]
    b: f64
record Mom[P: record]:
    v: P

def step[P: record](q: P, g: P, r: f64) -> P = q - r * g
""",
        "step",
        {"a": x, "b": 1.0},
        {"a": y, "b": 2.0},
        0.5,
        expect=[x - 0.5 * y, 0.0],
    ),
    Case(
        "a record that holds a generic record",
        """
record S[n]:
    a: f64[n]
    b: f64
record Mom[P: record]:
    v: P

def step[P: record](q: P, g: P, r: f64 = 0.5) -> (P, Mom[P]) = q - r * g, Mom(v=g)
""",
        "step",
        {"a": x, "b": 1.0},
        {"a": y, "b": 2.0},
        expect=[x - 0.5 * y, 0.0, y, 2.0],
    ),
    Case(
        "array",
        """
record S[n]:
    a: f64[n]
    b: f64
record Mom[P: record]:
    v: P

def step[P: record](q: P, g: P, r: f64 = 0.5) -> P = q - r * g
""",
        "step",
        x,
        y,
        expect=[x - 0.5 * y],
    ),
    Case(
        "grad",
        """
record S[n]:
    a: f64[n]
    b: f64
record Mom[P: record]:
    v: P

def n2[P: record](q: P) -> f64 = dot(q, q)
""",
        "n2",
        {"a": x, "b": 1.0},
        expect=[2 * x, 2.0],
        wrt="q",
    ),
    Case(
        "Mom[P]",
        """
record S[n]:
    a: f64[n]
    b: f64
record Mom[P: record]:
    v: P

def n2[P: record](q: P, m: Mom[P]) -> P = q + m.v
""",
        "n2",
        {"a": x, "b": 1.0},
        {"v": {"a": y, "b": 2.0}},
        expect=[x + y, 3.0],
    ),
    Case(
        "empty list 2",
        """
record P:
    w: f64
    v: f64[3]
def f[k](ps: P[k]) -> f64:
    s = 0.0
    for p in ps:
        s += p.w
    return s
""",
        "f",
        [],
        expect=0.0,
    ),
    Case(
        "typed broadcast record",
        """
record P:
    a: f64[3]
    b: f64
def f() -> P:
    p: P = 2.0
    return p
""",
        "f",
        expect=[np.full(3, 2.0), 2.0],
    ),
    Case(
        "record ops",
        """
record P:
    a: f64[2]
    b: f64
def f(p: P, q: P) -> P = sqrt(p * q / 2 + p ** 2) - 1
""",
        "f",
        {"a": x[:2], "b": 3.0},
        {"a": y[:2], "b": 1.0},
        expect=[np.sqrt(x[:2] * y[:2] / 2 + x[:2] ** 2) - 1, np.sqrt(1.5 + 9) - 1],
    ),
)
def test_records(case: Case):
    case.run()


@cases(
    Refused(
        "literal []",
        """
def f() -> f64[0] = []
""",
        "f",
        says="an array is not empty",
    ),
    Refused(
        "size mism",
        """
record S[n]:
    a: f64[n]
    b: f64
record Mom[P: record]:
    v: P

def step[P: record](q: P, g: P, r: f64) -> P = q - r * g
""",
        "step",
        {"a": x, "b": 1.0},
        {"a": y[:2], "b": 2.0},
        0.5,
        says="`g.a` has an axis of length 2 where q_n is declared",
    ),
    Refused(
        "empty list 3",
        """
record P[n]:
    w: f64[n]
def f[k, n](ps: P[n][k]) -> f64 = sum(ps.w)
""",
        "f",
        [],
        says="`ps` is an empty list, which does not say the sizes of `ps.w`",
    ),
)
def test_records_refused(case: Refused):
    case.run()
