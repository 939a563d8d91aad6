"""Totals in few entries of a large array live in registers, and nothing else changes."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.lower import lower_graph
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Loop, Update
from dgraph.kernels.small_totals import with_small_totals
from dgraph.program.pipeline import stage

TEXT = """
@entry
def bones[n](w: f64[n, 22], move: f64[22, 3, 4], x: f64[n, 4]) -> f64[n, 3]:
    p[i] = sum(w[i, k] * (move[k] @ x[i]) for k)
    return p

@entry
def slopes[n](w: f64[n, 22], move: f64[22, 3, 4], x: f64[n, 4]) -> (f64[n, 22], f64[22, 3, 4]):
    return grad(lambda w, move: sum(bones(w, move, x) ** 2), wrt=(w, move))(w, move)

@entry
def shifted[n, m](x: f64[n, m], at: i32[m]) -> f64[n, 3]:
    y: f64[n, 3] = 1.0
    for i in range(n):
        for k in range(m):
            y[i, at[k]] += x[i, k]
    return y
"""
RNG = np.random.default_rng(1)
W, MOVE, X = RNG.normal(size=(37, 22)), RNG.normal(size=(22, 3, 4)), RNG.normal(size=(37, 4))


@pytest.fixture(scope="module")
def program() -> dg.Program:
    return dg.parse(TEXT)


def test_a_vector_that_a_point_adds_up_is_in_registers(program: dg.Program) -> None:
    plan = plan_graph(stage(program.bones.graph, "kernels"))
    (kernel,) = plan.kernels
    assert not any(isinstance(one, Update) for one in walk(kernel.body))


def test_the_values_are_those_of_the_interpreter(program: dg.Program) -> None:
    for name in ("bones", "slopes"):
        function = program.function(name)
        expected = evaluate(stage(function.graph, "expand"), [W, MOVE, X])
        found = function(W, MOVE, X)
        for one, other in zip(found if isinstance(found, tuple) else [found], expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)
    at = np.array([0, 2, 2, 1, 0], np.int32)
    x = RNG.normal(size=(9, 5))
    y = np.ones((9, 3))
    for k, place in enumerate(at):
        y[:, place] += x[:, k]
    np.testing.assert_array_equal(program.shifted(x, at), y)


def test_places_that_the_run_decides_stay_where_they_are(program: dg.Program) -> None:
    lowered = lower_graph(stage(program.shifted.graph, "kernels"), True, True, False)
    before = [one for one in walk(lowered.body) if isinstance(one, Loop)]
    after = [one for one in walk(with_small_totals(lowered).body) if isinstance(one, Loop)]
    assert len(before) == len(after)
