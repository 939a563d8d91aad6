"""Checks that go before a nest: the same failures, told alike, and lanes for the nest that is left."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.errors import CheckFailed
from dgraph.ir.evaluate import evaluate
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Fail, Loop
from dgraph.program.pipeline import stage

TEXT = """
@entry
def gathered[n, m](x: f64[m, 3], k: i32[n], j: i32[n]) -> f64[n]:
    y[i] = sum(x[k[i], c] * sin(x[j[i], c]) for c)
    return y

@entry
def nested[n, m](x: f64[m], k: i32[n, 4]) -> f64[n]:
    y[i] = sum(exp(x[k[i, c]]) for c)
    return y

@entry
def late[n, m](x: f64[m], s: f64[n]) -> f64[n]:
    y[i] = x[i32(floor(exp(s[i])))] * s[i]
    return y

@entry
def last(x: f64[7], n: i32) -> f64[7]:
    y[i] = x[i + n] if i > 2 else x[i]
    return y
"""


@pytest.fixture(scope="module")
def program() -> dg.Program:
    return dg.parse(TEXT)


def told(program: dg.Program, name: str, *arguments) -> tuple[str, str]:
    """How the compiled function and the interpreter refuse arguments."""
    function = program.function(name)
    found = []
    for run in (function, lambda *given: evaluate(stage(function.graph, "expand"), list(given))):
        with pytest.raises(CheckFailed) as failed:
            run(*arguments)
        found.append(str(failed.value))
    return found[0], found[1]


def has_lanes(program: dg.Program, name: str) -> bool:
    plan = plan_graph(stage(program.function(name).graph, "kernels"))
    loops = [one for kernel in plan.kernels for one in walk(kernel.body) if isinstance(one, Loop) and one.lanes]
    return bool(loops) and not any(isinstance(inner, Fail) for loop in loops for inner in walk((loop,)))


def test_indices_are_checked_before_points_go_together(program: dg.Program):
    rng = np.random.default_rng(0)
    x, k, j = rng.normal(size=(20, 3)), rng.integers(0, 20, 1000), rng.integers(0, 20, 1000)
    k, j = k.astype(np.int32), j.astype(np.int32)
    assert has_lanes(program, "gathered")
    np.testing.assert_allclose(program.gathered(x, k, j), (x[k] * np.sin(x[j])).sum(1), rtol=1e-13, atol=1e-14)
    assert program.gathered(x, k[:0], j[:0]).shape == (0,)


@pytest.mark.parametrize(("at_k", "at_j"), [((5, 20), (3, 20)), ((3, -1), (3, 25)), ((999, 20), None), (None, (7, -3))])
def test_the_first_failure_is_told(program: dg.Program, at_k, at_j):
    x, k, j = np.ones((20, 3)), np.zeros(1000, np.int32), np.zeros(1000, np.int32)
    for array, at in ((k, at_k), (j, at_j)):
        if at is not None:
            array[at[0]] = at[1]
    compiled, interpreted = told(program, "gathered", x, k, j)
    assert compiled == interpreted


def test_checks_inside_inner_loops(program: dg.Program):
    x, k = np.linspace(-1, 1, 9), np.arange(400, dtype=np.int32).reshape(100, 4) % 9
    np.testing.assert_allclose(program.nested(x, k), np.exp(x[k]).sum(1), rtol=1e-14)
    k[60, 2], k[61, 0] = 9, -1
    compiled, interpreted = told(program, "nested", x, k)
    assert compiled == interpreted and "9" in compiled


def test_what_needs_the_computed_is_told_afterwards(program: dg.Program):
    x, s = np.arange(5.0), np.full(50, 0.5)
    np.testing.assert_allclose(program.late(x, s), x[1] * s)
    s[30] = 3.0
    compiled, interpreted = told(program, "late", x, s)
    assert compiled == interpreted
    plan = plan_graph(stage(program.late.graph, "kernels"))
    (kernel,) = plan.kernels
    lanes = [one for one in walk(kernel.body) if isinstance(one, Loop) and one.lanes]
    assert lanes and not any(isinstance(one, Fail) for one in walk(tuple(lanes)))


def test_checks_on_one_side_of_a_choice(program: dg.Program):
    x = np.arange(7.0)
    np.testing.assert_array_equal(program.last(x, 0), x)
    compiled, interpreted = told(program, "last", x, 2)
    assert compiled == interpreted
