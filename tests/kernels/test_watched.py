"""Points that may fail at what they compute, in lanes: the first failure is told, and nothing is read out of range."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.errors import CheckFailed
from dgraph.ir.evaluate import evaluate
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.native import compile_source
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Fail, If, Loop
from dgraph.program.pipeline import stage

TEXT = """
def halved(a: f64, table: f64[7]) -> f64:
    x = a
    while x > 1.0:
        x = x * 0.5 + 0.125
    assert x > 0.0, "too small"
    k = i64(floor(x * 8.0))
    total = 0.0
    for j in range(3):
        total = total + table[k] * sin(x + table[j])
    assert total < 2.0, "too large"
    return total * table[i64(floor(x * 4.0))]

@entry
def all_halved[n](a: f64[n], table: f64[7]) -> f64 = sum(halved(a[i], table) for i)

@entry
def halved_slopes[n](a: f64[n], table: f64[7]) -> (f64, f64[n], f64[7]):
    value, (da, dt) = value_and_grad(all_halved, wrt=(a, table))(a, table)
    return value, da, dt

def settled(a: f64) -> f64:
    x = 1.0
    k: i32 = 0
    @implicit
    while k < 12:
        x = cos(a * x)
        k = k + 1
    return x

@entry
def all_settled[n](a: f64[n]) -> f64 = sum(settled(a[i]) for i)

@entry
def settled_slopes[n](a: f64[n]) -> (f64, f64[n]) = value_and_grad(all_settled)(a)
"""
TABLE = np.linspace(0.1, 0.7, 7)
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def program() -> dg.Program:
    return dg.parse(TEXT)


def fine(n: int) -> np.ndarray:
    return RNG.uniform(0.1, 20, n) % 0.8 + 0.02


@pytest.mark.parametrize("name", ["all_halved", "settled_slopes"])
def test_points_that_may_fail_have_lanes(program: dg.Program, name: str) -> None:
    plan = plan_graph(stage(program.function(name).graph, "kernels"))
    loops = [one for kernel in plan.kernels for one in walk(kernel.body) if isinstance(one, Loop) and one.lanes]
    assert any(isinstance(one, If) for loop in loops for one in walk(loop.body))
    assert not any(isinstance(one, Fail) for loop in loops for one in walk(loop.body))


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 300])
def test_nothing_fails(program: dg.Program, count: int) -> None:
    a = fine(count)
    for name, arguments in {"halved_slopes": (a, TABLE), "settled_slopes": (a * 0.1,)}.items():
        function = program.function(name)
        expected = evaluate(stage(function.graph, "expand"), list(arguments))
        for one, other in zip(function(*arguments), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


BAD = {"small": -1.0, "small again": -30.0, "large index": 0.95, "not a number": np.nan}


@pytest.mark.parametrize(
    "what", [["small"], ["large index"], ["large index", "small"], ["small", "large index"], list(BAD)]
)
@pytest.mark.parametrize("first", [0, 5, 31, 150])
def test_the_first_failure_is_told(program: dg.Program, what: list[str], first: int) -> None:
    a = fine(320)
    for at, name in enumerate(what):
        a[first + 7 * at] = BAD[name]
    for name in ("all_halved", "halved_slopes"):
        function = program.function(name)
        with pytest.raises(CheckFailed) as failed:
            function(a, TABLE)
        with pytest.raises(CheckFailed) as expected:
            evaluate(stage(function.graph, "expand"), [a, TABLE])
        assert str(failed.value) == str(expected.value)


def test_what_has_not_settled_is_told(program: dg.Program) -> None:
    a = np.full(100, 0.05)
    a[[41, 77]] = 3.0, 2.0
    with pytest.raises(CheckFailed, match="41"):
        program.settled_slopes(a)


def test_both_routes_make_the_same_bits(program: dg.Program) -> None:
    pytest.importorskip("numba")
    kernel = dg.compile(program.halved_slopes).kernel
    other = type(kernel)(
        kernel.interface, kernel.source, kernel.report, compile_source(kernel.source, "numba"), kernel.allowance
    )
    for one, two in zip(kernel.call([fine(77), TABLE]), other.call([fine(0), TABLE]), strict=True):
        assert one.dtype == two.dtype
    a = fine(77)
    for one, two in zip(kernel.call([a, TABLE]), other.call([a, TABLE]), strict=True):
        np.testing.assert_array_equal(one, two)
