"""Updates over a generator: which places are distinct, guards, slices, records, counts of the run."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])


@cases(
    Case(
        "shifted by one",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[i + 1] = x[i] for i in range(n - 1)
    return x
""",
        "f",
        x,
        expect=np.array([1.0, 1, 2, 3]),
    ),
    Case(
        "every second place",
        """
def f[n](x: f64[2 * n]) -> f64[2 * n]:
    x[2 * i] = 0.0 for i in range(n)
    return x
""",
        "f",
        x,
        expect=np.array([0.0, 2, 0, 4]),
    ),
    Case(
        "two axes with offsets and strides",
        """
def f[n, m](x: f64[n, m]) -> f64[n, m]:
    x[n - 1 - i, 2 * j + 1] = x[i, j] for i in range(n) for j in range(m // 2)
    return x
""",
        "f",
        np.arange(12.0).reshape(3, 4),
        expect=(
            lambda a: (
                [
                    a.__setitem__((2 - i, 2 * j + 1), b)
                    for i, j, b in [(i, j, np.arange(12.0).reshape(3, 4)[i, j]) for i in range(3) for j in range(2)]
                ]
                and a
            )
        )(np.arange(12.0).reshape(3, 4)),
    ),
    Case(
        "infer",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[i + 1] = x[i] for i
    return x
""",
        "f",
        x,
        expect=np.array([1.0, 1, 2, 3]),
    ),
    Case(
        "both in one axis coupling",
        """
def f[n](x: f64[n, n], v: f64[n]) -> f64[n, n]:
    x[i, i] = v[i] for i
    return x
""",
        "f",
        np.zeros((4, 4)),
        x,
        expect=np.diag(x),
    ),
    Case(
        "i, i+j",
        """
def f[n](x: f64[n, 2 * n]) -> f64[n, 2 * n]:
    x[i, i + j] = 1.0 for i in range(n) for j in range(n)
    return x
""",
        "f",
        np.zeros((2, 4)),
        expect=np.array([[1.0, 1, 0, 0], [0, 1, 1, 0]]),
    ),
    Case(
        "2i+p",
        """
def f[n](x: f64[2 * n]) -> f64[2 * n]:
    x[2 * i + p] = x[2 * i] for i in range(n) for p in range(2)
    return x
""",
        "f",
        x,
        expect=np.array([1.0, 1, 3, 3]),
    ),
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
        "stepping range",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[i] = x[i] * 2 for i in range(1, n, 2)
    return x
""",
        "f",
        x,
        expect=np.array([1.0, 4, 3, 8]),
    ),
    Case(
        "loop var",
        """
def f[n](x: f64[n, n]) -> f64[n, n]:
    for k in range(n):
        x[k, i] = x[k, i] + k for i
    return x
""",
        "f",
        np.zeros((2, 2)),
        expect=np.array([[0.0, 0], [1, 1]]),
    ),
    Case(
        "run-time count",
        """
def f[n](x: f64[n], k: i32) -> f64[n]:
    x[i] = 0.0 for i in range(k)
    return x
""",
        "f",
        x,
        2,
        expect=np.array([0.0, 0, 3, 4]),
    ),
    Case(
        "+= runtime count",
        """
def f[n](x: f64[n], k: i32) -> f64[n]:
    x[i] += 1.0 for i in range(k)
    return x
""",
        "f",
        x,
        2,
        expect=np.array([2.0, 3, 3, 4]),
    ),
    Case(
        "*=",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[i] *= 2.0 for i
    return x
""",
        "f",
        x,
        expect=2 * x,
    ),
    Case(
        "slices with gen",
        """
def f[n, m](x: f64[n, m], v: f64[m]) -> f64[n, m]:
    x[i, :] = v * i for i
    return x
""",
        "f",
        np.zeros((2, 2)),
        np.array([1.0, 2]),
        expect=np.array([[0.0, 0], [1, 2]]),
    ),
    Case(
        "whole row",
        """
def f[n, m](x: f64[n, m], v: f64[m]) -> f64[n, m]:
    x[i] = v * i for i
    return x
""",
        "f",
        np.zeros((2, 2)),
        np.array([1.0, 2]),
        expect=np.array([[0.0, 0], [1, 2]]),
    ),
    Case(
        "columns",
        """
def f[n, m](x: f64[n, m], v: f64[n]) -> f64[n, m]:
    x[:, j] = v * j for j
    return x
""",
        "f",
        np.zeros((2, 2)),
        np.array([1.0, 2]),
        expect=np.array([[0.0, 1], [0, 2]]),
    ),
    Case(
        "a guard on the entries",
        """
def f[n](x: f64[n], m: f64[n]) -> f64[n]:
    x[i] = m[i] ** 2 for i if m[i] > 0
    return x
""",
        "f",
        x,
        np.array([-1.0, 2, -3, 3]),
        expect=np.array([1.0, 4, 3, 9]),
    ),
    Case(
        "a guard that keeps the place inside",
        """
def f[n](x: f64[n], k: i32) -> f64[n]:
    x[i + 1] = x[i] for i in range(n) if i + 1 < n
    return x
""",
        "f",
        x,
        1,
        expect=np.array([1.0, 1, 2, 3]),
    ),
    Case(
        "grad",
        """
def f[n](x: f64[n]) -> f64:
    x[i] = log(x[i]) for i if x[i] > 0
    return sum(x)
""",
        "f",
        np.array([-1.0, 0, 2]),
        expect=np.array([1, 1, 0.5]),
        wrt="x",
    ),
    Case(
        "+= guard",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[i] += sqrt(x[i]) for i if x[i] > 0
    return x
""",
        "f",
        np.array([-1.0, 0, 4]),
        expect=np.array([-1, 0, 6.0]),
        is_smooth=False,
    ),
)
def test_updates(case: Case):
    case.run()


@cases(
    Refused(
        "overlap refused",
        """
def f[n](x: f64[n]) -> f64[n]:
    x[i + j] = 1.0 for i in range(2) for j in range(2)
    return x
""",
        "f",
        x,
        says="these places are not provably distinct",
    ),
)
def test_updates_refused(case: Refused):
    case.run()
