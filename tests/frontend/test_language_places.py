"""Updates where indices share axes, move through slices, and change arrays of records."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])
weights = np.arange(18.0).reshape(2, 3, 3) / 10
b = np.arange(6.0).reshape(2, 3)
layers = {"w": weights, "b": b}


@cases(
    Case(
        "fixed axis",
        """
def f[n](x: f64[3, n], k: i32) -> f64[3, n]:
    x[k, i] = 1.0 for i
    return x
""",
        "f",
        np.zeros((3, 2)),
        1,
        expect=np.array([[0.0, 0], [1, 1], [0, 0]]),
    ),
    Case(
        "last axis fixed",
        """
def f[n](x: f64[n, 3], k: i32) -> f64[n, 3]:
    x[i, k] = 1.0 * i for i
    return x
""",
        "f",
        np.zeros((2, 3)),
        1,
        expect=np.array([[0.0, 0, 0], [0, 1, 0]]),
    ),
    Case(
        "flat",
        """
def f[n, m](x: f64[n, m]) -> f64[n * m]:
    y: f64[n * m] = 0.0
    y[i * m + j] = x[i, j] for i in range(n) for j in range(m)
    return y
""",
        "f",
        np.arange(6.0).reshape(2, 3),
        expect=np.arange(6.0),
    ),
    Case(
        "diag grad",
        """
def f[n](x: f64[n, n], v: f64[n]) -> f64:
    x[i, i] = v[i] ** 2 for i
    return sum(x * x)
""",
        "f",
        np.ones((2, 2)),
        x[:2],
        expect=4 * x[:2] ** 3,
        wrt="v",
    ),
    Case(
        "diag grad x",
        """
def f[n](x: f64[n, n], v: f64[n]) -> f64:
    x[i, i] = v[i] ** 2 for i
    return sum(x * x)
""",
        "f",
        np.ones((2, 2)),
        x[:2],
        expect=2 * (1 - np.eye(2)),
        wrt="x",
    ),
    Case(
        "triangular guard",
        """
def f[n](x: f64[n, n]) -> f64[n, n]:
    x[i, j] = x[j, i] for i for j if j > i
    return x
""",
        "f",
        np.arange(9.0).reshape(3, 3),
        expect=np.tril(np.arange(9.0).reshape(3, 3)) + np.tril(np.arange(9.0).reshape(3, 3), -1).T,
    ),
    Case(
        "i+j guard",
        """
def f[n](x: f64[n, n]) -> f64[n, n]:
    x[i, i + j] = 0.0 for i in range(n) for j in range(1, n) if i + j < n
    return x
""",
        "f",
        np.ones((3, 3)),
        expect=np.tril(np.ones((3, 3))),
    ),
    Case(
        "key arrays no",
        """
def f[n](x: i32[n, n]) -> i32[n, n]:
    x[i, i] = 7 for i
    return x
""",
        "f",
        np.zeros((2, 2), np.int32),
        expect=7 * np.eye(2),
    ),
    Case(
        "bool diag",
        """
def f[n](x: bool[n, n]) -> bool[n, n]:
    x[i, i] = True for i
    return x
""",
        "f",
        np.zeros((2, 2), bool),
        expect=np.eye(2),
    ),
    Case(
        "runtime guard grad",
        """
def f[n](x: f64[n], k: i32) -> f64:
    x[i] = sqrt(x[i]) for i in range(k) if x[i] > 0
    return sum(x)
""",
        "f",
        np.array([-1.0, 4, 9]),
        2,
        expect=np.array([1, 0.25, 1]),
        wrt="x",
    ),
    Case(
        "runtime offset",
        """
def f[n](x: f64[n], k: i32) -> f64[n]:
    x[k + i] = 0.0 for i in range(2)
    return x
""",
        "f",
        x,
        1,
        expect=np.array([1.0, 0, 0, 4]),
    ),
    Case(
        "block in loop",
        """
def f[n](x: f64[2 * n]) -> f64[2 * n]:
    for s in range(n):
        x[s * 2 + i] = x[s * 2 + i] * s for i in range(2)
    return x
""",
        "f",
        x,
        expect=np.array([0.0, 0, 3, 4]),
    ),
    Case(
        "records",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d], s: f64) -> L[h, h][d]:
    ls[k].w[i, j] += s * i for k, i, j
    ls[k] -= 0.5 * ls[k] for k
    return ls
""",
        "f",
        layers,
        1.0,
        expect=[0.5 * (weights + np.arange(3)[None, :, None]), 0.5 * b],
    ),
    Case(
        "record field in record",
        """
record C[n]:
    count: i32[n]
    total: f64[n]
def f[n, m](c: C[n], label: i32[m], v: f64[m]) -> C[n]:
    c.count[label[i]] += 1 for i
    c.total[label[i]] += v[i] for i
    return c
""",
        "f",
        {"count": np.zeros(3, np.int32), "total": np.zeros(3)},
        np.array([0, 2, 2], np.int32),
        np.array([1.0, 2, 3]),
        expect=[np.array([1, 0, 2]), np.array([1.0, 0, 5])],
    ),
    Case(
        "+= slices",
        """
def f[n, m, k](x: f64[n, m], p: i64[k], v: f64[k, m]) -> f64[n, m]:
    x[p[i], 1:] += v[i, 1:] for i
    return x
""",
        "f",
        np.zeros((2, 3)),
        np.array([1, 1]),
        np.ones((2, 3)),
        expect=np.array([[0.0, 0, 0], [0, 2, 2]]),
    ),
    Case(
        "-= col",
        """
def f[n, m, k](x: f64[n, m], p: i64[k], v: f64[k, n]) -> f64[n, m]:
    x[:, p[i]] -= v[i] for i
    return x
""",
        "f",
        np.zeros((2, 3)),
        np.array([1, 1]),
        np.ones((2, 2)),
        expect=np.array([[0.0, -2, 0], [0, -2, 0]]),
    ),
    Case(
        "col permuted",
        """
def f[n, m, q](x: f64[n, q, m], v: f64[n]) -> f64[n, q, m]:
    x[:, 0, j] = v * j for j
    return x
""",
        "f",
        np.zeros((2, 2, 2)),
        np.array([1.0, 2]),
        expect=np.array([[[0.0, 1], [0, 0]], [[0, 2], [0, 0]]]),
    ),
    Case(
        "inner slice",
        """
def f[n, m](x: f64[n, m]) -> f64[n, m]:
    x[i, 1:-1] = 0.0 for i in range(1, n)
    return x
""",
        "f",
        np.ones((2, 4)),
        expect=np.array([[1.0, 1, 1, 1], [1, 0, 0, 1]]),
    ),
    Case(
        "tuple",
        """
def f[n](x: f64[n], y: f64[n]) -> f64[n]:
    p = (x, y)
    p[1][i] = x[i] for i
    return p[1]
""",
        "f",
        x,
        y,
        expect=x,
    ),
    Case(
        "rhs reads old",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[n - 1 - i] = x[i] for i
    return x
""",
        "f",
        x,
        expect=x[::-1],
    ),
    Case(
        "rhs reads old runtime",
        """
def f[n](x: f64[n], k: i32) -> f64[n]:
    x[i + 1] = x[i] for i in range(k)
    return x
""",
        "f",
        x,
        3,
        expect=np.array([1.0, 1, 2, 3]),
    ),
    Case(
        "strided in rec",
        """
record L[i, o]:
    w: f64[i, o]
    b: f64[o]

def f[h, d](ls: L[h, h][d]) -> L[h, h][d]:
    ls.w[..., i, i] = 0.0 for i
    return ls
""",
        "f",
        layers,
        expect=[weights * (1 - np.eye(3)), b],
    ),
    Case(
        "a **",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[i] /= x[0] for i in range(1, n)
    return x
""",
        "f",
        2 * x,
        expect=np.array([2.0, 2, 3, 4]),
    ),
    Case(
        "hessian through scatter",
        """
def g[n](v: f64[n]) -> f64:
    x: f64[n, n] = 0.0
    x[i, i] = v[i] ** 3 for i
    return sum(x)
def f[n](v: f64[n]) -> f64[n, n] = hessian(g)(v)
""",
        "f",
        x,
        expect=6 * np.diag(x),
    ),
)
def test_places(case: Case):
    case.run()


@cases(
    Refused(
        "out of range",
        """
def f[n](x: f64[n, n]) -> f64[n, n]:
    x[i, i + j] = 0.0 for i in range(n) for j in range(1, n)
    return x
""",
        "f",
        np.ones((3, 3)),
        says="index (1, 3) is out of range for the shape (3, 3)",
    ),
    Refused(
        "data dep refused",
        """
def f[n](x: f64[n], p: i64[n]) -> f64[n]:
    x[p[i]] = 0.0 for i
    return x
""",
        "f",
        x,
        np.arange(4),
        says="these places are not provably distinct",
    ),
    Refused(
        "offset data",
        """
def f[n](x: f64[n], p: i64[n]) -> f64[n]:
    x[i + p[i]] = 0.0 for i in range(n)
    return x
""",
        "f",
        x,
        np.arange(4),
        says="these places are not provably distinct",
    ),
    Refused(
        "0 factor",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[0 * i] = 1.0 for i in range(n)
    return x
""",
        "f",
        x,
        says="these places are not provably distinct",
    ),
    Refused(
        "missing index",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[0] = 1.0 for i in range(n)
    return x
""",
        "f",
        x,
        says="these places are not provably distinct",
    ),
)
def test_places_refused(case: Refused):
    case.run()
