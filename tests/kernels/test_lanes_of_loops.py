"""Batches of whole programs in lanes: loops that carry arrays, rows copied and exchanged, choices, checks."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.errors import CheckFailed
from dgraph.ir.evaluate import evaluate
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.native import compile_source
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Loop, Swap
from dgraph.program.pipeline import stage

TEXT = """
def mixed(x: f64[6], k: i32[4]) -> f64[6]:
    for t in range(4):
        y: f64[6] = 0.0
        for i in range(6):
            y[i] = x[(i + t) % 6] * 0.5 + sin(x[i])
        y[0:2] = x[2:4]
        y[5] += x[k[t]]
        x = y
    return x

@entry
def batch[n](x: f64[n, 6], k: i32[4]) -> f64[n, 6] = vmap(mixed, over=x)(x, k)

def rows(a: f64[9, 3], s: f64, parent: i32[9]) -> f64[9]:
    m: f64[9, 3] = 0.0
    for b in range(9):
        if parent[b] < 0:
            m[b] = a[b] * s
        else:
            m[b] = m[parent[b]] + s * a[b]
    q[b] = m[b, 0] - m[b, 1] * m[b, 2]
    return q

@entry
def tree[n](a: f64[9, 3], s: f64[n], parent: i32[9]) -> f64[n, 9] = vmap(rows, over=s)(a, s, parent)

def swapped(x: f64[20], s: f64) -> f64[20]:
    u = x * s
    v = x
    for t in range(7):
        w = u
        u = v + 0.1 * s
        v = w * 0.5
        if s > 0.5:
            u[2] = v[1]
    return u - v

@entry
def exchange[n](x: f64[20], s: f64[n]) -> f64[n, 20] = vmap(swapped, over=s)(x, s)

@entry
def slopes(x: f64[20], s: f64) -> f64[20, 20] = jacobian(swapped, wrt=x, mode="forward")(x, s)
"""
RNG = np.random.default_rng(7)
CASES = {
    "batch": (RNG.normal(size=(37, 6)), np.array([0, 1, 2, 3], np.int32)),
    "tree": (RNG.normal(size=(9, 3)), RNG.normal(size=43), np.array([-1, 0, 1, 0, -1, 4, 4, 6, 2], np.int32)),
    "exchange": (RNG.normal(size=20), RNG.uniform(0, 1, 33)),
    "slopes": (RNG.normal(size=20), np.float64(0.7)),
}


@pytest.fixture(scope="module")
def program() -> dg.Program:
    return dg.parse(TEXT)


def lanes_of(program: dg.Program, name: str):
    plan = plan_graph(stage(program.function(name).graph, "kernels"))
    return [one for kernel in plan.kernels for one in walk(kernel.body) if isinstance(one, Loop) and one.lanes]


@pytest.mark.parametrize("name", ["batch", "tree", "exchange"])
def test_the_batch_has_lanes(program: dg.Program, name: str):
    assert any(isinstance(inner, Loop) for loop in lanes_of(program, name) for inner in walk(loop.body))


def test_exchanged_arrays_have_rows(program: dg.Program):
    assert any(isinstance(inner, Swap) for loop in lanes_of(program, "exchange") for inner in walk(loop.body))


@pytest.mark.parametrize("name", sorted(CASES))
def test_each_point_is_as_alone(program: dg.Program, name: str):
    function, arguments = program.function(name), CASES[name]
    expected = evaluate(stage(function.graph, "expand"), list(arguments))
    # The interpreter has NumPy's sine.
    np.testing.assert_allclose(function(*arguments), expected[0], rtol=1e-13 if name == "batch" else 0)


@pytest.mark.parametrize(
    ("name", "alone", "at"), [("batch", "mixed", 0), ("tree", "rows", 1), ("exchange", "swapped", 1)]
)
def test_lanes_change_no_bit(program: dg.Program, name: str, alone: str, at: int):
    arguments = CASES[name]
    found, one = program.function(name)(*arguments), program.function(alone)
    for point, entry in enumerate(arguments[at]):
        np.testing.assert_array_equal(found[point], one(*arguments[:at], entry, *arguments[at + 1 :]))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 31, 32, 33])
def test_any_number_of_points(program: dg.Program, count: int):
    a, s, parent = CASES["tree"]
    found = program.tree(a, s[:count], parent)
    assert found.shape == (count, 9)
    np.testing.assert_array_equal(found, program.tree(a, s, parent)[:count])


def test_both_routes_make_the_same_bits(program: dg.Program):
    pytest.importorskip("numba")
    for name, arguments in CASES.items():
        step = dg.compile(program.function(name))
        kernel = step.kernel
        other = type(kernel)(
            kernel.interface, kernel.source, kernel.report, compile_source(kernel.source, "numba"), kernel.allowance
        )
        one, two = kernel.call(list(arguments)), other.call(list(arguments))
        np.testing.assert_array_equal(one[0], two[0], err_msg=name)


def test_a_bad_parent_is_told(program: dg.Program):
    a, s, parent = CASES["tree"]
    wrong = parent.copy()
    wrong[6] = 9
    with pytest.raises(CheckFailed) as failed:
        program.tree(a, s, wrong)
    with pytest.raises(CheckFailed) as expected:
        evaluate(stage(program.tree.graph, "expand"), [a, s, wrong])
    assert str(failed.value) == str(expected.value)
    assert program.tree(a, s[:0], wrong).shape == (0, 9)
