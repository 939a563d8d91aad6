"""Large arrays that a loop keeps are made where they are kept: values are those of the interpreter, and nothing is
copied."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.kernels.compile import compile_graph
from dgraph.program.pipeline import stage

PROGRAMS = dg.parse(
    """
def fixed[n](x: f64[n], w: f64) -> f64:
    for t in range(3):
        x = x + w * x * x
    return sum(x)

def sized[n](x: f64[n], w: f64, steps: size) -> f64:
    for t in range(steps):
        x = x + w * x * x
    return sum(x)

def counted[n](x: f64[n], w: f64, steps: i32) -> f64:
    for t in range(steps):
        x = x + w * x * x
    return sum(x)

def exchanged[n](x: f64[n], w: f64, steps: i32) -> f64:
    y = 0.5 * x
    for t in range(steps):
        x, y = y, x + w * x * y
    return sum(x * y)

def touched[n](x: f64[n], w: f64, steps: i32) -> f64:
    for t in range(steps):
        x[t % 5] = w * sum(x * x)
        x[1:-1] += w * x[2:] * x[:-2]
    return sum(x)

def nested[n](x: f64[n], w: f64, steps: i32) -> f64:
    for t in range(steps):
        for s in range(t):
            x = x + w * x * x
        x = 0.9 * x * x
    return sum(x)

def blocks[n](x: f64[n], w: f64, steps: i32) -> f64:
    @checkpoint(every=3)
    for t in range(steps):
        x = x + w * x * x
    return sum(x)

def stopped[n](x: f64[n], w: f64, steps: i32) -> f64:
    for t in range(steps):
        if t % 2 == 0:
            x = x + w * x * x
    return sum(x)
"""
)
NAMES = ("fixed", "sized", "counted", "exchanged", "touched", "nested", "blocks", "stopped")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [40, 511, 512, 700])
def test_gradients_are_those_of_the_interpreter(name: str, n: int):
    slope = dg.value_and_grad(getattr(PROGRAMS, name), wrt=("x", "w"))
    compiled = dg.compile(slope)
    graph = stage(slope.graph, "kernels")
    x = np.random.default_rng(n).uniform(-1, 1, n)
    for steps in (0, 1, 2, 7):
        given = [x, 0.01] if name == "fixed" else [x, 0.01, steps]
        value, (dx, dw) = compiled(*given)
        leaves, sizes = ([x, 0.01], {"steps": steps}) if name == "sized" else (given, {})
        expected = evaluate(graph, leaves, extents=sizes)
        for one, other in zip((value, dx, dw), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13)


def test_no_step_copies_a_large_state():
    graph = stage(dg.grad(PROGRAMS.counted, wrt="x").graph, "kernels")
    source = compile_graph(graph).source
    assert "if 512 <= n:" in source
    assert source.count("if t + 1 < count:") == 1
    small = dg.parse("def f(x: f64[100], k: i32) -> f64:\n    for t in range(k):\n        x = x * x\n    return sum(x)")
    assert "t + 1 < count" not in compile_graph(stage(dg.grad(small.f, wrt="x").graph, "kernels")).source


def test_bits_do_not_depend_on_where_states_are_made():
    """Below and above the limit the same numbers come out, entry by entry."""
    compiled = dg.compile(dg.value_and_grad(PROGRAMS.counted, wrt="x"))
    x = np.random.default_rng(0).uniform(-1, 1, 600)
    _, whole = compiled(x, 0.01, 9)
    _, part = compiled(x[:500].copy(), 0.01, 9)
    assert whole[:500].tobytes() == part.tobytes()


def test_the_way_back_through_a_nonlinear_stencil_is_one_nest():
    heat = dg.parse(
        """
def f[n](u: f64[n], r: f64, steps: i32) -> f64:
    for t in range(steps):
        k = 1 + 0.5 * u * u
        flow = 0.5 * (k[1:] + k[:-1]) * (u[1:] - u[:-1])
        u[1:-1] += r * (flow[1:] - flow[:-1])
    return sum(u * u)
"""
    )
    source = compile_graph(stage(dg.grad(heat.f, wrt="u").graph, "kernels")).source
    back = source[source.index("# adjoint f for") :]
    assert back.count("        kernel_") == 1
