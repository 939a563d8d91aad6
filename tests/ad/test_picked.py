"""The way back from a least or greatest entry begins at the winner, wherever its terms were computed."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ad import expand
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Node, walk
from dgraph.program.pipeline import stage

TEXT = """
def nearest[n, k, d](x: f64[n, d], y: f64[k, d]) -> f64:
    return sum(min(sum((x[i, c] - y[j, c]) ** 2 for c) for j) for i)

def farthest[n, k, d](x: f64[n, d], y: f64[k, d]) -> f64:
    return sum(max(min(exp(x[i, c] * y[j, c]) for c) for j) for i)

def stepped[n, k, d](x: f64[n, d], y: f64[k, d]) -> f64:
    s = 0.0
    for i in range(n):
        s = sin(s) + max(s * x[i, c] * y[i % k, c] for c)
    return s

@entry
def nearest_slope[n, k, d](x: f64[n, d], y: f64[k, d]) -> (f64[n, d], f64[k, d]) = grad(nearest, wrt=(x, y))(x, y)

@entry
def farthest_slope[n, k, d](x: f64[n, d], y: f64[k, d]) -> (f64[n, d], f64[k, d]) = grad(farthest, wrt=(x, y))(x, y)

@entry
def stepped_slope[n, k, d](x: f64[n, d], y: f64[k, d]) -> (f64[n, d], f64[k, d]) = grad(stepped, wrt=(x, y))(x, y)

def lowest[n](x: f64[n], scale: f64[n]) -> f64 = min(x[i] * scale[i] for i)

@entry
def lowest_slope[n](x: f64[n], scale: f64[n]) -> f64[n] = grad(lowest, wrt=x)(x, scale)
"""
PROGRAM = dg.parse(TEXT)
X, Y = np.random.default_rng(3).normal(size=(2, 4, 3))


def adjoint_nodes(name: str) -> list[Node]:
    graph = stage(getattr(PROGRAM, name).graph, "optimised")
    return [node for node in walk(graph.region) if node.derived == "adjoint"]


@pytest.mark.parametrize("name", ["nearest", "farthest", "stepped"])
def test_the_slope_is_that_of_differences(name: str):
    value = getattr(PROGRAM, name)
    found = evaluate(expand(getattr(PROGRAM, f"{name}_slope").graph), [X, Y], {"n": 4, "k": 4, "d": 3})
    for at, slope in enumerate(found):
        for place in np.ndindex(slope.shape):
            moved = []
            for step in (1e-6, -1e-6):
                arguments = [X.copy(), Y.copy()]
                arguments[at][place] += step
                moved.append(evaluate(expand(value.graph), arguments, {"n": 4, "k": 4, "d": 3})[0])
            assert slope[place] == pytest.approx((moved[0] - moved[1]) / 2e-6, abs=1e-7)


def test_nothing_is_written_for_those_that_lost():
    assert not any(node.op.name == "fresh" for node in adjoint_nodes("nearest_slope"))
    assert all("{k}" not in str(getattr(node.op, "extents", "")) for node in adjoint_nodes("nearest_slope"))


def test_what_lost_has_no_slope_even_if_it_is_infinite():
    found = evaluate(expand(PROGRAM.lowest_slope.graph), [np.array([1.0, 2.0]), np.array([1.0, np.inf])], {"n": 2})
    assert found[0].tolist() == [1.0, 0.0]


def test_of_nothing_the_slope_is_empty():
    graph = expand(PROGRAM.nearest_slope.graph)
    one, other = evaluate(graph, [X, np.zeros((0, 3))], {"n": 4, "k": 0, "d": 3})
    assert not one.any() and other.shape == (0, 3)


POOL = """
def pool[n, m](x: f64[n, m]) -> f64[n // 2, m // 3]:
    y[i, j] = (
        max(x[2 * i + a, 3 * j + b] for a in range(2) for b in range(3))
    ) for i in range(n // 2) for j in range(m // 3)
    return y

def loss[n, m](x: f64[n, m], w: f64[n // 2, m // 3]) -> f64 = sum(pool(x) ** 2 * w)
"""


def test_windows_read_all_their_entries_and_give_the_winner_its_share() -> None:
    program = dg.parse(POOL)
    slope = dg.grad(program.loss, wrt="x")
    names = {node.op.name for node in walk(stage(slope.graph, "expand").region)}
    assert "if" not in names
    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 4, (7, 10)).astype(float), rng.normal(size=(3, 3))
    x[0, 4] = np.nan
    x[4:6, :3] = -np.inf
    wanted = np.zeros_like(x)
    for i, j in np.ndindex(3, 3):
        window = x[2 * i : 2 * i + 2, 3 * j : 3 * j + 3].ravel()
        at = int(np.argmax(np.isnan(window))) if np.isnan(window).any() else int(np.argmax(window))
        wanted[2 * i + at // 3, 3 * j + at % 3] = 2 * window[at] * w[i, j]
    np.testing.assert_array_equal(dg.compile(slope)(x, w), wanted)
    x = rng.normal(size=(4, 6))
    hessian = dg.compile(dg.hessian(program.loss, wrt="x"))(x, w[:2, :2]).reshape(24, 24)
    held = np.zeros(24)
    for i, j in np.ndindex(2, 2):
        at = int(np.argmax(x[2 * i : 2 * i + 2, 3 * j : 3 * j + 3]))
        held[(2 * i + at // 3) * 6 + 3 * j + at % 3] = 2 * w[i, j]
    np.testing.assert_allclose(hessian, np.diag(held), atol=1e-14)
