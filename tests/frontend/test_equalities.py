"""`assert n == 2 * m` makes sizes equal for the types of the rest of a function."""

import numpy as np
import pytest
from frontend_run import faults, run

import dgraph as dg
from dgraph.errors import CheckFailed

PROGRAM = """
def both[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    assert n == m
    return x + y
def apart[n, m](x: f64[n], y: f64[m]) -> f64:
    assert m == n + 1
    return sum(x[i] * y[i + 1] for i)
def folded[n, m](x: f64[n], y: f64[m]) -> f64[2, m]:
    assert n == 2 * m, "twice as many"
    z: f64[n] = ones()
    return reshape(x + z, (2, m)) * y
def calls[k, j](x: f64[k], y: f64[j]) -> f64[k] = 2 * both(x, y) + x
def slope[n, m](x: f64[n], y: f64[m]) -> f64[n] = grad(apart)(x, y)
def branch[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    if x[0] > 0:
        assert n == m
        return x * y
    return x
def early[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    if x[0] < 0:
        return x
    scope checked:
        assert m == n
    return x * y
record Pair[n]:
    a: f64[n]
def records[n, m](x: f64[n], y: f64[m]) -> f64[n]:
    p = Pair(a=x)
    q = Pair(a=y)
    assert n == m and len(x) > 0
    return (p + q).a
"""
X, Y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, 6.0, 7.0, 9.0])
NUMBERS = [
    ("both", (X, Y), X + Y),
    ("apart", (X[:3], Y), X[:3] @ Y[1:]),
    ("folded", (X, Y[:2]), (X + 1).reshape(2, 2) * Y[:2]),
    ("calls", (X, Y), 2 * (X + Y) + X),
    ("slope", (X[:3], Y), Y[1:]),
    ("branch", (X, Y), X * Y),
    ("early", (X, Y), X * Y),
    ("early", (-X, Y[:2]), -X),
    ("branch", (-X, Y[:2]), -X),
    ("records", (X, Y), X + Y),
]
DIFFER = [
    ("both", (X, Y[:2])),
    ("both", (X[:2], Y)),
    ("apart", (X, Y)),
    ("folded", (X, Y)),
    ("calls", (X[:1], Y)),
    ("slope", (X, Y)),
    ("branch", (X, Y[:2])),
    ("early", (X, Y[:2])),
    ("records", (X, Y[:2])),
]


@pytest.fixture(scope="module")
def compiled():
    return dg.parse(PROGRAM)


@pytest.mark.parametrize(("name", "arguments", "wanted"), NUMBERS)
def test_numbers(compiled, name, arguments, wanted):
    for found in (run(PROGRAM, name, *arguments), getattr(compiled, name)(*arguments)):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


@pytest.mark.parametrize(("name", "arguments"), DIFFER)
def test_the_check_stays(compiled, name, arguments):
    for call in (lambda: run(PROGRAM, name, *arguments), lambda: getattr(compiled, name)(*arguments)):
        with pytest.raises(CheckFailed, match=r"does not hold|twice as many"):
            call()


def test_nothing_is_known_before_the_assertion():
    text = "def f[n, m](x: f64[n], y: f64[m]) -> f64[n]:\n    z = x + y\n    assert n == m\n    return z"
    assert [fault.title for fault in faults(text)] == ["the shapes [n] and [m] do not fit"]
