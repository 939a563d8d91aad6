"""`@` follows NumPy's matmul."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])
a = np.arange(24.0).reshape(2, 3, 4)
v = np.array([1.0, 2.0, 3.0, 4.0])
b = np.arange(40.0).reshape(2, 4, 5)


@cases(
    Case(
        "a batch and a vector",
        """
def f[b,n,m](x: f64[b,n,m], v: f64[m]) -> f64[b,n] = x @ v
""",
        "f",
        a,
        v,
        expect=a @ v,
    ),
    Case(
        "a vector and a batch",
        """
def f[b,n,m](x: f64[b,n,m], v: f64[n]) -> f64[b,m] = v @ x
""",
        "f",
        a,
        v[:3],
        expect=v[:3] @ a,
    ),
    Case(
        "equal batches",
        """
def f[b,n,m,k](x: f64[b,n,m], y: f64[b,m,k]) -> f64[b,n,k] = x @ y
""",
        "f",
        a,
        b,
        expect=a @ b,
    ),
    Case(
        "a batch and a matrix",
        """
def f[b,n,m,k](x: f64[b,n,m], y: f64[m,k]) -> f64[b,n,k] = x @ y
""",
        "f",
        a,
        b[0],
        expect=a @ b[0],
    ),
    Case(
        "a matrix and a batch",
        """
def f[b,n,m,k](x: f64[n,m], y: f64[b,m,k]) -> f64[b,n,k] = x @ y
""",
        "f",
        a[0],
        b,
        expect=a[0] @ b,
    ),
    Case(
        "a literal one stretches",
        """
def f[b,n,m,k](x: f64[1,n,m], y: f64[b,m,k]) -> f64[b,n,k] = x @ y
""",
        "f",
        a[:1],
        b,
        expect=a[:1] @ b,
    ),
    Case(
        "two vectors",
        """
def f[n](x: f64[n], y: f64[n]) -> f64 = x @ y
""",
        "f",
        v,
        v,
        expect=30.0,
    ),
    Case(
        "gradient of a matrix",
        """
def f[n,m](x: f64[n,m], y: f64[m]) -> f64 = sum((x @ y) ** 2)
""",
        "f",
        a[0],
        v,
        expect=2 * np.outer(a[0] @ v, v),
        wrt="x",
    ),
    Case(
        "gradient of a vector beside a batch",
        """
def f[b,n,m](x: f64[b,n,m], y: f64[m]) -> f64 = sum((x @ y) ** 2)
""",
        "f",
        a,
        v,
        expect=2 * np.einsum("bnm,bn->m", a, a @ v),
        wrt="y",
    ),
    Case(
        "integers",
        """
def f[n](x: i32[n,n], y: i32[n,n]) -> i32[n,n] = x @ y
""",
        "f",
        np.arange(4, dtype=np.int32).reshape(2, 2),
        np.arange(4, dtype=np.int32).reshape(2, 2),
        expect=np.arange(4).reshape(2, 2) @ np.arange(4).reshape(2, 2),
    ),
    Case(
        "integers that meet floats",
        """
def f[n](x: i32[n,n], y: f64[n]) -> f64[n] = x @ y
""",
        "f",
        np.arange(4, dtype=np.int32).reshape(2, 2),
        v[:2],
        expect=np.arange(4).reshape(2, 2) @ v[:2],
    ),
    Case(
        "two leading axes",
        """
def f[a,b,n,m](x: f64[a,b,n,m], v: f64[m]) -> f64[a,b,n] = x @ v
""",
        "f",
        a.reshape(2, 3, 2, 2),
        v[:2],
        expect=a.reshape(2, 3, 2, 2) @ v[:2],
    ),
)
def test_products(case: Case):
    case.run()


@cases(
    Refused(
        "a batch is no matrix of vectors",
        """
def f[b,n,m](x: f64[b,n,m], v: f64[b,m]) -> f64[b,n] = x @ v
""",
        "f",
        a,
        np.ones((2, 4)),
        says="`@` sums over axes of lengths m and b",
    ),
)
def test_products_refused(case: Refused):
    case.run()
