"""Means and places of extremes of nothing are faults of the run; of something they are numbers."""

import numpy as np
import pytest
from frontend_run import run

import dgraph as dg
from dgraph.errors import CheckFailed
from dgraph.frontend import lower_function, parse_program

PROGRAM = """
def total[n](x: f64[n]) -> f64 = mean(x * x)
def top[n](x: f64[n]) -> i64 = argmax(x)
def spread[n](x: f64[n]) -> f64 = std(x)
def large[n](x: f64[n]) -> f64 = mean(x[i] for i if x[i] > 10)
def least[n](x: f64[n]) -> i64 = argmin(x[i] for i if x[i] > 10)
def chosen[n](x: f64[n], c: bool[n]) -> i64 = argmax(x[i] for i if c[i])
def columns[n, m](x: f64[n, m]) -> i64[m] = argmax(x[i, :] for i if x[i, 0] > 10)
def rows[n, m](x: f64[n, m]) -> f64[n] = [mean(x[i, j] for j) for i]
def down[n, m](x: f64[n, m]) -> f64[m] = mean(x, axis=0)
def steps[n](x: f64[n], s: size) -> f64:
    t = 0.0
    for i in range(s):
        t += mean(x)
    return t
def either[n](x: f64[n]) -> f64 = mean(x) if n > 0 else 7.0
def asserted[n](x: f64[n]) -> f64:
    assert n > 0
    return mean(x)
def slope[n](x: f64[n]) -> f64[n] = grad(total)(x)
def curve[n](x: f64[n]) -> f64[n, n] = hessian(total)(x)
def slope_large[n](x: f64[n]) -> f64[n] = grad(large)(x)
def each[b, n](x: f64[b, n]) -> f64[b] = vmap(total)(x)
def each_large[b, n](x: f64[b, n]) -> f64[b] = vmap(large)(x)
"""
X = np.array([3.0, 11.0, 20.0, 14.0])
M = np.array([[20.0, 1.0], [2.0, 30.0], [11.0, 5.0]])
NONE, FLAT, BARE = np.zeros(0), np.zeros((3, 0)), np.zeros((0, 3))

NUMBERS = [
    ("total", (X,), np.mean(X * X)),
    ("top", (X,), 2),
    ("spread", (X,), np.std(X)),
    ("large", (X,), 15.0),
    ("least", (X,), 1),
    ("chosen", (X, np.array([True, True, False, False])), 1),
    ("chosen", (np.full(3, -np.inf), np.array([False, True, True])), 1),
    ("columns", (M,), [0, 2]),
    ("rows", (M,), M.mean(1)),
    ("rows", (np.zeros((0, 0)),), np.zeros(0)),
    ("down", (M,), M.mean(0)),
    ("down", (np.zeros((0, 0)),), np.zeros(0)),
    ("steps", (X, 3), 3 * X.mean()),
    ("steps", (NONE, 0), 0.0),
    ("either", (X,), X.mean()),
    ("either", (NONE,), 7.0),
    ("asserted", (X,), X.mean()),
    ("slope", (X,), X / 2),
    ("curve", (X,), np.eye(4) / 2),
    ("slope_large", (X,), np.array([0, 1, 1, 1]) / 3),
    ("each", (M,), (M * M).mean(1)),
    ("each_large", (M,), [20.0, 30.0, 11.0]),
]
NOTHING = [
    ("total", (NONE,)),
    ("top", (NONE,)),
    ("spread", (NONE,)),
    ("large", (X[:1],)),
    ("large", (NONE,)),
    ("least", (X[:1],)),
    ("least", (NONE,)),
    ("chosen", (X, np.zeros(4, bool))),
    ("columns", (M / 10,)),
    ("rows", (FLAT,)),
    ("down", (BARE,)),
    ("steps", (NONE, 1)),
    ("slope", (NONE,)),
    ("slope_large", (X[:1],)),
    ("each", (FLAT,)),
    ("each_large", (M - 5,)),
]


@pytest.fixture(scope="module")
def compiled():
    return dg.parse(PROGRAM)


def interpreted(name, arguments):
    extents = {"s": arguments[1]} if name == "steps" else {}
    return run(PROGRAM, name, *(argument for argument in arguments if not isinstance(argument, int)), **extents)


@pytest.mark.parametrize(("name", "arguments", "wanted"), NUMBERS)
def test_numbers(compiled, name, arguments, wanted):
    for found in (interpreted(name, arguments), getattr(compiled, name)(*arguments)):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


@pytest.mark.parametrize(("name", "arguments"), NOTHING)
def test_nothing_is_a_fault(compiled, name, arguments):
    for call in (lambda: interpreted(name, arguments), lambda: getattr(compiled, name)(*arguments)):
        with pytest.raises(CheckFailed, match="of nothing") as caught:
            call()
        assert caught.value.diagnostics[0].labels


@pytest.mark.parametrize(
    ("text", "checks"),
    [
        ("def f[n](x: f64[n]) -> f64 = mean(x)", 1),
        ("def f[n](x: f64[n + 1]) -> f64 = mean(x)", 0),
        ("def f(x: f64[3]) -> i64 = argmax(x)", 0),
        ("def f[n](x: f64[n, n]) -> f64[n] = [mean(x[i, j] for j) for i]", 0),
        ("def f[n, m](x: f64[n, m]) -> f64[n] = [mean(x[i, j] for j) for i]", 1),
        ("def f[n](x: f64[n]) -> f64 = mean(x) if n >= 1 else 0.0", 0),
    ],
)
def test_sizes_are_checked_once_and_only_where_they_may_be_zero(text, checks):
    graph = lower_function(parse_program(text), "f")
    assert [node.op.name for node in graph.region.nodes].count("check") == checks
    inner = [node for outer in graph.region.nodes for region in outer.regions for node in region.nodes]
    assert all(node.op.name != "check" for node in inner)
