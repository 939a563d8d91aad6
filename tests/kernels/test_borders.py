"""Loops cut at their borders: the same bits as the interpreter, and an inner part without choices."""

import re

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.program.pipeline import stage

INNER = r"in \w+\(first, limit\):"

LINE = """
def f[n](u: f64[n], r: f64) -> f64[n]:
    v = u
    v[1:-1] += r * (u[2:] - 2 * u[1:-1] + u[:-2])
    return v
"""

WIDE = """
def f[n](u: f64[n], r: f64) -> f64[n]:
    v[i] = sum(u[i + p - 2] * r for p in range(5) if 2 <= i + p < n + 2) for i in range(n)
    w[i] = v[i] if i >= 3 and i < n - 4 else u[i] for i in range(n)
    return w
"""

PLANE = """
def f[n](u: f64[n, n], r: f64) -> f64[n, n]:
    v = u
    v[1:-1, 1:-1] += r * (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1])
    return v
"""

STEPS = """
def f[n](u: f64[n], r: f64) -> f64:
    for t in range(3):
        k = 1 + 0.5 * u * u
        flow = 0.5 * (k[1:] + k[:-1]) * (u[1:] - u[:-1])
        u[1:-1] += r * (flow[1:] - flow[:-1])
    return sum(u * u)
"""


@pytest.mark.parametrize("text", [LINE, WIDE, PLANE, STEPS], ids=["line", "wide", "plane", "steps"])
def test_every_length_gives_what_the_interpreter_gives(text: str):
    f = dg.parse(text).f
    function = dg.grad(f, wrt="u") if text is STEPS else f
    for n in (2, 3, 4, 5, 8, 9, 40):
        u = np.sin(np.arange(float(n * n))).reshape(n, n) if text is PLANE else np.sin(np.arange(float(n)))
        expected = evaluate(stage(function.graph, "optimised"), [u, 0.1])
        np.testing.assert_array_equal(function(u, 0.1), expected[0])


@pytest.mark.parametrize("text", [LINE, STEPS], ids=["line", "steps"])
def test_the_inner_part_asks_nothing(text: str):
    f = dg.parse(text).f
    for function in (f, dg.grad(f, wrt="u")) if text is STEPS else (f,):
        source = dg.compile(function).source
        inner = [part.split("\n    limit")[0].split("\n    for ")[0] for part in re.split(INNER, source)[1:]]
        assert inner
        assert not any("if " in part or "select" in part for part in inner)


PIECES = """
def f[n](a: f64[n, 3], b: f64[n]) -> f64[n, 20]:
    y[i, e] = (
        a[i, e - 2] if e >= 2 and e < 5
        else b[i] * e if 12 > e
        else -1.0 if e <= 17
        else b[i]
    ) for i in range(n) for e in range(20)
    return y
"""


def test_a_loop_of_known_length_is_cut_at_every_choice() -> None:
    program = dg.parse(PIECES)
    a, b = np.random.default_rng(0).normal(size=(4, 3)), np.arange(4.0)
    e = np.arange(20)
    expected = np.where(e < 12, b[:, None] * e, np.where(e <= 17, -1.0, b[:, None]))
    expected[:, 2:5] = a
    assert np.array_equal(dg.compile(program.f)(a, b), expected)
    source = dg.compile(program.f).source
    assert all(f"({low}, {high}):" in source for low, high in [(2, 5), (5, 12), (12, 18), (18, 20)])
    assert not re.search(r"\bif e", source)
