"""Parts of a result are made in their places, and rows without a mark are passed by together."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.loops_text import print_loops
from dgraph.program.pipeline import stage

JOINED = """
@entry
def f[n, m](x: f64[n, m], w: f64[n]) -> f64[n * (m + 2)]:
    a[i, j] = exp(x[i, j]) + sum(x[i, k] for k)
    b[i, j] = w[i] * j for i in range(n) for j in range(2)
    return reshape(concat(a, b, axis=1), n * (m + 2))
"""

TURNED = """
@entry
def f[n, m](x: f64[n, m], w: f64[m]) -> f64[m, n + 1]:
    a[i, j] = exp(x[i, j]) * sum(x[i, k] for k)
    b[j, i] = w[j] * i for j in range(m) for i in range(1)
    return concat(transpose(a), b, axis=1)
"""

PICKED = """
@entry
def f[n, k, d, b](x: f64[n, d], c: f64[k, d], pick: i32[b]) -> f64[b]:
    far[i] = max(sum((x[i, m] - c[j, m]) ** 2 for m) for j)
    y[a] = far[pick[a]]
    return y
"""


def test_joined_parts_are_made_where_they_are_returned() -> None:
    program = dg.parse(JOINED)
    x, w = np.random.default_rng(0).normal(size=(5, 3)), np.arange(5.0)
    expected = np.concatenate([np.exp(x) + x.sum(1, keepdims=True), w[:, None] * np.arange(2)], axis=1).reshape(-1)
    np.testing.assert_allclose(dg.compile(program.f)(x, w), expected, rtol=1e-14)
    text = print_loops(plan_graph(stage(program.f.graph, "kernels")))
    assert "room" not in text
    assert "output result" in text


def test_turned_parts_are_made_where_they_are_returned() -> None:
    program = dg.parse(TURNED)
    x, w = np.random.default_rng(0).normal(size=(5, 3)), np.arange(3.0)
    expected = np.concatenate([(np.exp(x) * x.sum(1, keepdims=True)).T, np.zeros((3, 1))], axis=1)
    np.testing.assert_allclose(dg.compile(program.f)(x, w), expected, rtol=1e-14)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 65, 200])
@pytest.mark.parametrize("picks", [0, 1, 5, 300])
def test_rows_that_are_picked(rows: int, picks: int) -> None:
    random = np.random.default_rng(rows * 1000 + picks)
    x, c = random.normal(size=(rows, 4)), random.normal(size=(6, 4))
    pick = random.integers(rows, size=picks).astype(np.int32)
    far = ((x[:, None] - c[None]) ** 2).sum(2).max(1)
    np.testing.assert_allclose(dg.compile(dg.parse(PICKED).f)(x, c, pick), far[pick], rtol=1e-14)
