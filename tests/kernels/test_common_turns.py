"""Loops that points leave at different turns, and what they keep for the way back, in lanes."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.native import compile_source
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Loop, TapeReserve
from dgraph.program.pipeline import stage

TEXT = """
def newton(a: f64, m: i64) -> f64:
    x = 1.0
    change = 1.0
    while abs(change) > 1e-10:
        change = (x + 0.5 * sin(x) - a) / (1 + 0.5 * cos(x))
        x = x - change
    return x

def counted(a: f64, m: i64) -> f64:
    x = a
    k: i64 = 0
    while k < m:
        x = sin(x) + 0.25 * a
        k = k + 1
    return x * x

def chosen(a: f64, m: i64) -> f64:
    x = [a, a * a, 1.0]
    k: i64 = 0
    while k < m:
        for j in range(4):
            x = [0.5 * x[1] * x[2], sin(x[0]), 0.3 * x[2] + x[0]]
        if x[0] > 0.05:
            x = x * 0.75
        else:
            x = exp(x) * a
        k = k + 1
    return sum(x)

def stepped(a: f64, m: i64) -> f64:
    x = a
    for k in range(m):
        x = x * cos(x) + 0.125
        if x > 0.5:
            x = x * x
    return x

def nested(a: f64, m: i64) -> f64:
    x = a
    k: i64 = 0
    while k < m:
        y = x
        while abs(y) > 0.5:
            y = y * 0.75 - 0.01 * a
        x = y + sin(x)
        k = k + 1
    return x

def both(a: f64, m: i64) -> f64:
    x = counted(a, m) + 1.5
    y = 1.0
    while y < x:
        y = y * 1.25 + 0.01 * x
    return newton(y, m) * x
"""
NAMES = ["newton", "counted", "chosen", "stepped", "nested", "both"]
for _name in NAMES:
    TEXT += f"""
@entry
def {_name}s[n](a: f64[n], m: i64[n]) -> f64 = sum({_name}(a[i], m[i]) for i)

@entry
def {_name}_slopes[n](a: f64[n], m: i64[n]) -> (f64, f64[n]) = value_and_grad({_name}s, wrt=a)(a, m)

@entry
def {_name}_slope(a: f64, m: i64) -> (f64, f64) = value_and_grad({_name}, wrt=a)(a, m)

def {_name}_total[n](a: f64[n], m: i64[n]) -> f64 = sum(grad({_name}s, wrt=a)(a, m))

@entry
def {_name}_bends[n](a: f64[n], m: i64[n]) -> f64[n] = grad({_name}_total, wrt=a)(a, m)

def {_name}_slope_alone(a: f64, m: i64) -> f64 = grad({_name}, wrt=a)(a, m)

@entry
def {_name}_bend(a: f64, m: i64) -> f64 = grad({_name}_slope_alone, wrt=a)(a, m)
"""
TURNS = [0, 1, 2, 7, 0, 300, 3, 16, 17, 33, 1, 0, 0, 5]
RNG = np.random.default_rng(3)
A = RNG.uniform(-1.2, 1.3, 43)
M = np.array((TURNS * 4)[:43], np.int64)


@pytest.fixture(scope="module")
def program() -> dg.Program:
    return dg.parse(TEXT)


def lanes_of(program: dg.Program, name: str) -> list[Loop]:
    plan = plan_graph(stage(program.function(name).graph, "kernels"))
    return [one for kernel in plan.kernels for one in walk(kernel.body) if isinstance(one, Loop) and one.lanes]


@pytest.mark.parametrize("name", NAMES)
def test_what_points_keep_lies_in_rows(program: dg.Program, name: str) -> None:
    inside = [one for loop in lanes_of(program, f"{name}_slopes") for one in walk(loop.body)]
    assert any(isinstance(one, TapeReserve) for one in inside)


def test_a_loop_with_turns_of_its_own_for_each_point_has_lanes(program: dg.Program) -> None:
    assert any(isinstance(one, Loop) for loop in lanes_of(program, "steppeds") for one in walk(loop.body))


@pytest.mark.parametrize("name", NAMES)
def test_each_point_is_as_alone(program: dg.Program, name: str) -> None:
    value, slopes = program.function(f"{name}_slopes")(A, M)
    alone = [program.function(f"{name}_slope")(a, m) for a, m in zip(A, M, strict=True)]
    np.testing.assert_array_equal(slopes, [slope for _, slope in alone])
    np.testing.assert_allclose(value, sum(one for one, _ in alone), rtol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_slopes_are_those_of_the_interpreter(program: dg.Program, name: str) -> None:
    a, m = A[:13], np.minimum(M[:13], 20)
    function = program.function(f"{name}_slopes")
    expected = evaluate(stage(function.graph, "expand"), [a, m])
    found = function(a, m)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-13)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives(program: dg.Program, name: str) -> None:
    m = np.minimum(M, 9)
    bends = program.function(f"{name}_bends")(A, m)
    alone = [program.function(f"{name}_bend")(a, k) for a, k in zip(A, m, strict=True)]
    np.testing.assert_allclose(bends, alone, rtol=1e-13, atol=1e-15)
    slope, step = program.function(f"{name}_slopes"), 1e-6
    quotients = (slope(A + step, m)[1] - slope(A - step, m)[1]) / (2 * step)
    np.testing.assert_allclose(bends, quotients, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [0, 1, 8, 9, 31, 33])
def test_any_number_of_points(program: dg.Program, name: str, count: int) -> None:
    found = program.function(f"{name}_slopes")(A[:count], M[:count])
    np.testing.assert_array_equal(found[1], program.function(f"{name}_slopes")(A, M)[1][:count])


def test_both_routes_make_the_same_bits(program: dg.Program) -> None:
    pytest.importorskip("numba")
    for name in NAMES:
        kernel = dg.compile(program.function(f"{name}_slopes")).kernel
        other = type(kernel)(
            kernel.interface, kernel.source, kernel.report, compile_source(kernel.source, "numba"), kernel.allowance
        )
        for one, two in zip(kernel.call([A, M]), other.call([A, M]), strict=True):
            np.testing.assert_array_equal(one, two, err_msg=name)


@pytest.mark.parametrize("turns", [[0] * 40, [1] * 40, [0] * 39 + [1000], [5000] + [0] * 39])
def test_turns_far_apart(program: dg.Program, turns: list[int]) -> None:
    a, m = np.linspace(-1, 1, 40), np.array(turns, np.int64)
    slopes = program.counted_slopes(a, m)[1]
    x, slope = a.copy(), np.ones(40)
    for turn in range(max(turns)):
        x, slope = np.where(turn < m, (np.sin(x) + 0.25 * a, np.cos(x) * slope + 0.25), (x, slope))
    np.testing.assert_allclose(slopes, 2 * x * slope, rtol=1e-10)
