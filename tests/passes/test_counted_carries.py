"""Integers that each step changes by the same number follow from the number of the step: no tape holds them."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import walk
from dgraph.program.pipeline import stage
from dgraph.types import Tape

LOOP = """
def f[m](x: f64[m], n: i32, by: i32) -> f64:
    y = 1.0
    i: {type} = {start}
    {loop}
        y = y * x[i % m] + 0.1
        {change}
    return y
"""

CHANGES = ["i += 1", "i = 3 + i", "i -= 2", "i += i32(by)", "i = i - i32(by)", "i += 2000000000"]
LOOPS = {"while": "k = 0\n    while k < n:\n        k += 1", "for": "for k in range(n):"}


def gradient(loop: str, change: str, type_: str = "i32", start: str = "-3") -> dg.Function:
    text = LOOP.format(loop=LOOPS[loop], change=change.replace("i32(", f"{type_}("), type=type_, start=start)
    return dg.value_and_grad(dg.parse(text).f, wrt="x")


def tapes(function: dg.Function) -> list[str]:
    nodes = walk(stage(function.graph, "kernels").region)
    return [str(value.type) for node in nodes for value in node.results if isinstance(value.type, Tape)]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("type_", ["i32", "i64"])
def test_what_follows_from_the_step_is_not_taped(loop: str, change: str, type_: str):
    function = gradient(loop, change, type_)
    assert set(tapes(function)) == {"tape<f64>"}
    x = np.linspace(0.5, 1.2, 7)
    value, slopes = function(x, 9, 4)
    expected, at, places = 1.0, -3, []
    by = {"i += 1": 1, "i = 3 + i": 3, "i -= 2": -2, "i += i32(by)": 4, "i = i - i32(by)": -4}.get(change, 2 * 10**9)
    for _ in range(9):
        places.append(at % 7)
        expected = expected * x[at % 7] + 0.1
        at += by
        if type_ == "i32":
            at = (at + 2**31) % 2**32 - 2**31
    assert value == expected
    total, slope = np.zeros(7), 1.0
    values = [1.0]
    for place in places:
        values.append(values[-1] * x[place] + 0.1)
    for place, before in zip(reversed(places), reversed(values[:-1]), strict=True):
        total[place] += slope * before
        slope *= x[place]
    np.testing.assert_allclose(slopes, total, rtol=1e-14)


@pytest.mark.parametrize("change", ["i += k % 3", "i = 2 * i + 1", "i = 1 - i", "i += i % 2"])
def test_others_are(change: str):
    function = gradient("while", change)
    assert not {"tape<i32>", "tape<i64>"}.isdisjoint(tapes(function))
    graph = stage(function.graph, "optimised")
    found = evaluate(graph, (np.linspace(0.5, 1.2, 7), 9, 4))
    for one, other in zip(found, function(np.linspace(0.5, 1.2, 7), 9, 4), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-15)


def test_in_nested_loops_and_second_derivatives():
    text = """
def f[m](x: f64[m], n: i32) -> f64:
    y = 1.0
    i = 0
    while i < n:
        j = i
        while j < n:
            y = y * x[j % m] + 0.1 * sin(y) * x[i]
            j += 2
        i += 1
    return y
"""
    f = dg.parse(text).f
    x = np.linspace(0.5, 0.9, 5)
    kept = [name for name in tapes(dg.value_and_grad(f)) if "f64" not in name]
    assert kept == ["tape<i64>"], "the trips of the inner loop"
    hessian = dg.hessian(f, wrt="x")(x, 4)
    step = 1e-5
    slope = dg.grad(f, wrt="x")
    differences = [(slope(x + step * e, 4) - slope(x - step * e, 4)) / (2 * step) for e in np.eye(5)]
    np.testing.assert_allclose(hessian, differences, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-13)
