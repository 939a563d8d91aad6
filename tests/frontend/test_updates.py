"""Updates over a generator: places that an affine subscript moves through, and guards."""

import numpy as np
import pytest
from frontend_run import faults, run

import dgraph as dg
from dgraph.errors import CheckFailed

PROGRAM = """
def shift[n](x: f64[n]) -> f64[n]:
    x[i + 1] = x[i] for i in range(n - 1)
    return x
def shift_all[n](x: f64[n]) -> f64[n]:
    x[i + 1] = x[i] for i
    return x
def turn[n](x: f64[n]) -> f64[n]:
    x[n - 1 - i] = x[i] for i
    return x
def odd[n](x: f64[2 * n]) -> f64[2 * n]:
    x[2 * i + 1] = 0.0 for i in range(n)
    return x
def swap[n](x: f64[n, n], y: f64[n, n]) -> f64[n, n]:
    x[j, i] = y[i, j] for i in range(n) for j in range(n)
    return x
def column[n, m](x: f64[n, m]) -> f64[n, m]:
    x[i, 0] = 9.0 + i for i
    return x
def leave[n](x: f64[n]) -> f64[n]:
    x[i + 1] = 1.0 for i in range(n)
    return x
def roots[n](x: f64[n], m: f64[n]) -> f64[n]:
    x[i] = sqrt(m[i]) for i if m[i] > 0
    return x
def energy[n](x: f64[n], m: f64[n]) -> f64 = sum(roots(x, m) * x)
def slope_x[n](x: f64[n], m: f64[n]) -> f64[n] = grad(energy, wrt=x)(x, m)
def slope_m[n](x: f64[n], m: f64[n]) -> f64[n] = grad(energy, wrt=m)(x, m)
def many[b, n](x: f64[b, n], m: f64[n]) -> f64[b, n] = vmap(roots, over=x)(x, m)
def marked[n](x: f64[n], c: bool[n]) -> f64[n]:
    x[i + 1] = 7.0 for i in range(n) if c[i]
    return x
def proven[n](x: f64[n]) -> f64[n]:
    x[i + 1] = 7.0 for i in range(n) if i + 1 < n
    return x
def rows[n, m](x: f64[n, m], c: bool[n]) -> f64[n, m]:
    x[i] = 2 * x[n - 1 - i] for i if c[i]
    return x
"""
X, M = np.array([1.0, 2.0, 3.0, 4.0]), np.array([4.0, -1.0, 0.0, 9.0])
A = np.arange(12.0).reshape(3, 4)
C = np.array([True, False, True, False])
ROOTS = np.array([2.0, 2.0, 3.0, 3.0])
COLUMN, ROWS = A.copy(), A.copy()
COLUMN[:, 0] = [9, 10, 11]
ROWS[[0, 2]] = 2 * A[[2, 0]]

NUMBERS = [
    ("shift", (X,), [1, 1, 2, 3]),
    ("shift", (X[:1],), [1]),
    ("shift_all", (X,), [1, 1, 2, 3]),
    ("turn", (X,), X[::-1]),
    ("odd", (X,), [1, 0, 3, 0]),
    ("swap", (np.eye(3), A[:, :3]), A[:, :3].T),
    ("column", (A,), COLUMN),
    ("roots", (X, M), ROOTS),
    ("slope_x", (X, M), ROOTS + np.array([0, 2, 3, 0])),
    ("slope_m", (X, M), [1 / 4, 0, 0, 4 / 6]),
    ("many", (np.stack([X, 2 * X]), M), [[2, 2, 3, 3], [2, 4, 6, 3]]),
    ("marked", (X, C), [1, 7, 3, 7]),
    ("proven", (X,), [1, 7, 7, 7]),
    ("rows", (A, C[:3]), ROWS),
]


@pytest.fixture(scope="module")
def compiled():
    return dg.parse(PROGRAM)


@pytest.mark.parametrize(("name", "arguments", "wanted"), NUMBERS)
def test_numbers(compiled, name, arguments, wanted):
    for found in (run(PROGRAM, name, *arguments), getattr(compiled, name)(*arguments)):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


@pytest.mark.parametrize(("name", "arguments"), [("leave", (X,)), ("marked", (X, ~C))])
def test_places_outside_are_faults(compiled, name, arguments):
    for call in (lambda: run(PROGRAM, name, *arguments), lambda: getattr(compiled, name)(*arguments)):
        with pytest.raises(CheckFailed, match="leaves its axis"):
            call()


@pytest.mark.parametrize("place", ["x[p[i]]", "x[i // 2]", "x[i % 2]", "x[0 * i]"])
def test_places_that_may_meet_are_refused(place):
    text = f"def f[n](x: f64[n], p: i32[n]) -> f64[n]:\n    {place} = 1.0 for i in range(n)\n    return x"
    assert [fault.title.split(" is ")[0] for fault in faults(text)] == ["these places are not provably distinct"]


@pytest.mark.parametrize("place", ["x[i, i]", "x[i + j, 2 * i + 2 * j]", "x[i, 0]"])
def test_every_index_must_be_told_by_the_place(place):
    ranges = "for i in range(n) for j in range(n)"
    text = f"def f[n](x: f64[2 * n, 2 * n]) -> f64[2 * n, 2 * n]:\n    {place} = 1.0 {ranges}\n    return x"
    assert ["not provably distinct" in fault.title for fault in faults(text)] == [True]
