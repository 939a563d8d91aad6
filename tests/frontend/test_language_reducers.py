"""Reducers over generators, also over counts that only the run decides, and of nothing."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])
matrix = np.arange(12.0).reshape(3, 4)


@cases(
    Case(
        "a guarded product",
        """
def f(k: i32) -> f64 = prod(1.0 * (i + 1) for i in range(k) if i != 1)
""",
        "f",
        4,
        expect=12.0,
    ),
    Case(
        "a maximum",
        """
def f[n](x: f64[n], k: i32) -> f64 = max(x[i] for i in range(k))
""",
        "f",
        x,
        3,
        expect=3.0,
    ),
    Case(
        "a guarded minimum",
        """
def f[n](x: f64[n], k: i32) -> f64 = min(x[i] for i in range(k) if x[i] > 1)
""",
        "f",
        x,
        3,
        expect=2.0,
        is_smooth=False,
    ),
    Case(
        "logsumexp over a count",
        """
def f[n](x: f64[n], k: i32) -> f64 = logsumexp(x[i] for i in range(k))
""",
        "f",
        x,
        3,
        expect=np.log(np.exp(x[:3]).sum()),
    ),
    Case(
        "any over a count",
        """
def f[n](x: f64[n], k: i32) -> bool = any(x[i] > 2 for i in range(k))
""",
        "f",
        x,
        2,
        expect=False,
    ),
    Case(
        "all over a count",
        """
def f[n](x: f64[n], k: i64) -> bool = all(x[i] > 0 for i in range(k))
""",
        "f",
        x,
        2,
        expect=True,
    ),
    Case(
        "argmax over a count",
        """
def f[n](x: f64[n], k: i64) -> i64 = argmax(x[i] for i in range(k))
""",
        "f",
        x[::-1].copy(),
        3,
        expect=0,
    ),
    Case(
        "a mean over a count",
        """
def f[n](x: f64[n], k: i64) -> f64 = mean(x[i] for i in range(k))
""",
        "f",
        x,
        3,
        expect=2.0,
    ),
    Case(
        "a guarded mean over a count",
        """
def f[n](x: f64[n], k: i64) -> f64 = mean(x[i] for i in range(k) if x[i] > 1)
""",
        "f",
        x,
        3,
        expect=2.5,
        is_smooth=False,
    ),
    Case(
        "a guarded sum over a count",
        """
def f[n](x: f64[n], k: i64) -> f64 = sum(x[i] for i in range(k) if x[i] > 1)
""",
        "f",
        x,
        3,
        expect=5.0,
        is_smooth=False,
    ),
    Case(
        "two counts",
        """
def f[n](x: f64[n], k: i64) -> f64 = sum(x[i] * x[j] for i in range(k) for j in range(k))
""",
        "f",
        x,
        3,
        expect=36.0,
    ),
    Case(
        "a count and an axis",
        """
def f[n](x: f64[n], k: i64) -> f64 = sum(x[i] * x[j] for i in range(k) for j)
""",
        "f",
        x,
        3,
        expect=60.0,
    ),
    Case(
        "gradient of a guarded logsumexp",
        """
def f[n](x: f64[n], k: i64) -> f64 = logsumexp(x[i] for i in range(k) if x[i] > 1)
""",
        "f",
        x,
        3,
        expect=np.concatenate([[0], np.exp(x[1:3]) / np.exp(x[1:3]).sum(), [0]]),
        wrt="x",
    ),
    Case(
        "a guarded argmin over a count",
        """
def f[n](x: f64[n], k: i64) -> i64 = argmin(x[i] for i in range(k) if x[i] > 1)
""",
        "f",
        x,
        3,
        expect=1,
    ),
    Case(
        "gradient of a maximum over a count",
        """
def f[n](x: f64[n], k: i64) -> f64 = max(x[i] * x[i] for i in range(k))
""",
        "f",
        x,
        3,
        expect=np.array([0, 0, 6.0, 0]),
        wrt="x",
    ),
    Case(
        "vec",
        """
def f[n,m](x: f64[n,m], k: i64) -> f64[m] = max(x[i] for i in range(k))
""",
        "f",
        matrix,
        2,
        expect=matrix[:2].max(0),
    ),
    Case(
        "reducers guards",
        """
def f[n](x: f64[n]) -> (f64, f64, bool, bool, i64):
    a = prod(x[i] for i if x[i] > 1)
    b = min(x[i] for i if x[i] > 1)
    c = any(x[i] > 3 for i)
    d = all(x[i] > 3 for i if i > 2)
    return a, b, c, d, argmin(x[i] for i if x[i] > 2)
""",
        "f",
        x,
        expect=[24.0, 2.0, True, True, 2],
    ),
    Case(
        "max axis tuple",
        """
def f[a, b, c](x: f64[a, b, c]) -> f64[b] = max(x, axis=(0, 2))
""",
        "f",
        np.arange(24.0).reshape(2, 3, 4),
        expect=np.arange(24.0).reshape(2, 3, 4).max((0, 2)),
    ),
    Case(
        "empties",
        """
def f[n](x: f64[n]) -> (f64, f64, f64, f64, bool, bool, f64):
    return sum(x), prod(x), max(x), min(x), any(x > 0), all(x > 0), logsumexp(x)
""",
        "f",
        np.zeros(0),
        expect=[0, 1, -np.inf, np.inf, False, True, -np.inf],
    ),
    Case(
        "max elementwise several",
        """
def f[n](x: f64[n], y: f64[n]) -> f64[n] = max(x, y, 3)
""",
        "f",
        x,
        y,
        expect=np.maximum(np.maximum(x, y), 3),
    ),
    Case(
        "max ties",
        """
def f(a: f64, b: f64) -> f64 = max(a, b)
""",
        "f",
        1.0,
        1.0,
        expect=0.5,
        wrt="a",
    ),
    Case(
        "reduce max tie",
        """
def f[n](x: f64[n]) -> f64 = max(x)
""",
        "f",
        np.ones(3),
        expect=np.array([1.0, 0, 0]),
        wrt="x",
    ),
    Case(
        "runtime reduce max tie",
        """
def f[n](x: f64[n], k: i32) -> f64 = max(x[i] for i in range(k))
""",
        "f",
        np.ones(3),
        3,
        expect=np.array([1.0, 0, 0]),
        wrt="x",
    ),
    Case(
        "runtime max nan",
        """
def f[n](x: f64[n], k: i32) -> f64 = max(x[i] for i in range(k))
""",
        "f",
        np.array([1, np.nan, 3]),
        3,
        expect=np.nan,
        is_smooth=False,
    ),
    Case(
        "runtime int max",
        """
def f[n](x: i32[n], k: i32) -> (i32, i32, i32):
    return max(x[i] for i in range(k)), prod(x[i] for i in range(k)), min(x[i] for i in range(k - k))
""",
        "f",
        np.array([1, 5, 3], np.int32),
        3,
        expect=[5, 15, 2**31 - 1],
    ),
    Case(
        "argmax 2 runtime",
        """
def f[n](x: f64[n, n], k: i32) -> (i64, i64) = argmax(x[i, j] for i in range(1, k) for j in range(1, n))
""",
        "f",
        np.arange(9.0).reshape(3, 3),
        3,
        expect=[2, 2],
    ),
    Case(
        "argmax 2 guard",
        """
def f[n](x: f64[n, n]) -> (i64, i64) = argmin(x[i, j] for i in range(1, n) for j if j > 0)
""",
        "f",
        np.arange(9.0).reshape(3, 3),
        expect=[1, 1],
    ),
    Case(
        "argmax unpack use",
        """
def f[n](x: f64[n, n]) -> f64:
    i, j = argmax(x[i, j] for i, j)
    return x[i, j]
""",
        "f",
        np.arange(9.0).reshape(3, 3),
        expect=np.eye(9)[8].reshape(3, 3),
        wrt="x",
    ),
    Case(
        "lse runtime inf",
        """
def f[n](x: f64[n], k: i32) -> f64 = logsumexp(x[i] for i in range(k))
""",
        "f",
        np.array([-np.inf, -np.inf]),
        2,
        expect=-np.inf,
        is_smooth=False,
    ),
    Case(
        "lse 0",
        """
def f[n](x: f64[n], k: i32) -> f64 = logsumexp(x[i] for i in range(k))
""",
        "f",
        np.array([1.0]),
        0,
        expect=-np.inf,
        is_smooth=False,
    ),
    Case(
        "hessian lse",
        """
def g[n](x: f64[n], k: i32) -> f64 = logsumexp(x[i] for i in range(k))
def f[n](x: f64[n], k: i32) -> f64[n, n] = hessian(g)(x, k)
""",
        "f",
        np.array([1.0, 1, 5]),
        2,
        expect=np.array([[0.25, -0.25, 0], [-0.25, 0.25, 0], [0, 0, 0]]),
    ),
    Case(
        "sum of bools",
        """
def f[n](x: f64[n]) -> i64 = sum(x > 1)
""",
        "f",
        x,
        expect=3,
    ),
    Case(
        "mean of bools",
        """
def f[n](x: f64[n]) -> f64 = mean(x > 1)
""",
        "f",
        x,
        expect=0.75,
        is_smooth=False,
    ),
)
def test_reducers(case: Case):
    case.run()


@cases(
    Refused(
        "the mean of nothing over a count",
        """
def f[n](x: f64[n], k: i64) -> f64 = mean(x[i] for i in range(k))
""",
        "f",
        x,
        0,
        says="the mean of nothing: the range is empty",
    ),
    Refused(
        "a range that depends on another index",
        """
def f[n](x: f64[n, n]) -> f64 = sum(x[i, j] for i in range(n) for j in range(i))
""",
        "f",
        np.ones((2, 2)),
        says="the range of `j` depends on `i`",
    ),
    Refused(
        "the mean of nothing under a guard",
        """
def f[n](x: f64[n], k: i64) -> f64 = mean(x[i] for i in range(k) if x[i] > 9)
""",
        "f",
        x,
        3,
        says="the mean of nothing: no term satisfies the guard",
    ),
    Refused(
        "mean empty",
        """
def f[n](x: f64[n]) -> f64 = mean(x)
""",
        "f",
        np.zeros(0),
        says="the mean of nothing: choose another value where this size is 0",
    ),
    Refused(
        "argmax empty",
        """
def f[n](x: f64[n]) -> i64 = argmax(x)
""",
        "f",
        np.zeros(0),
        says="the argmax of nothing: choose another value where this size is 0",
    ),
)
def test_reducers_refused(case: Refused):
    case.run()
