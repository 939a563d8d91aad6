"""Programs of index formulas at which kernels once went wrong: the same numbers as the interpreter."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Literal, Loop
from dgraph.program.pipeline import stage

PROGRAM = dg.parse("""
def best[m](c: f64[4, 4], y: f64[m], u: f64[m, 4], count: i32) -> (f64, f64[m]):
    b[i, j] = c[j, j] * argmax(u[k, j] for k in range(count)) for i in range(3) for j in range(4)
    z[i] = y[i] + b[i % 3, i % 4] for i in range(m)
    return sum(b[i, j] for i, j), z

def stepped[m](v: f64[6], t: i32, z: f64[m], h: i32[m]) -> f64:
    y = v
    for j in range(m):
        y[t] = y[t] * z[h[j]] + 0.1 * y[(t + 1) % 6]
    return sum(y)

def total[n, m](v: f64[n, 6], t: i32[n], z: f64[m], h: i32[m]) -> f64 = sum(vmap(stepped, over=(v, t))(v, t, z, h))

def slope[n, m](v: f64[n, 6], t: i32[n], z: f64[m], h: i32[m]) -> f64[m] = grad(total, wrt=z)(v, t, z, h)

def chosen[n, m](x: f64[n], y: f64[m], k: i32[n], low: i32) -> (f64, f64[n]):
    z[i] = (y[k[i]] if x[i] > 0 or k[i] >= low else 0.5 * x[i]) for i in range(n)
    return sum(z), z
""")
RNG = np.random.default_rng(3)


def agree(name: str, *arguments: np.ndarray | np.number) -> None:
    """The kernels give what the interpreter gives."""
    function = PROGRAM.function(name)
    expected = evaluate(stage(function.graph, "expand"), list(arguments))
    found = function(*arguments)
    for one, other in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [1, 5])
def test_what_a_loop_finds_out_is_not_taken_for_what_it_started_from(count: int):
    agree("best", RNG.normal(size=(4, 4)), RNG.normal(size=5), RNG.normal(size=(5, 4)), np.int32(count))


@pytest.mark.parametrize("n", [0, 1, 5, 31, 33])
def test_lanes_without_a_point_touch_no_entry_that_they_choose(n: int):
    m = 4
    t, h = RNG.integers(0, 6, n).astype(np.int32), RNG.integers(0, m, m).astype(np.int32)
    agree("slope", RNG.normal(size=(n, 6)), t, RNG.normal(size=m), h)


def test_the_places_of_such_lanes_would_be_anything():
    plan = plan_graph(stage(PROGRAM.slope.graph, "kernels"))
    runs = [one for kernel in plan.kernels for one in walk(kernel.body) if isinstance(one, Loop) and one.lanes]
    assert len(runs) > 1
    assert not any(isinstance(run.stop, Literal) for run in runs)


@pytest.mark.parametrize("n", [0, 1, 9, 40])
def test_checks_on_a_side_that_a_choice_decides(n: int):
    agree("chosen", RNG.normal(size=n), RNG.normal(size=5), RNG.integers(0, 5, n).astype(np.int32), np.int32(3))
