"""What a batch does for all its points alike is done once: also the part of a loop that no point decides."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.graph import Node, Region, walk
from dgraph.program.pipeline import stage

TEXT = """
def turned(a: f64[5], x: f64[3]) -> f64[3]:
    for k in range(5):
        c = cos(a[k])
        x = [c * x[0] - x[1], x[1] + c * x[2], sin(x[2] * a[k])]
    return x

@entry
def by_angles(a: f64[5], x: f64[3]) -> f64[3, 5] = jacobian(turned, wrt=a, mode="forward")(a, x)

def chosen(a: f64[5], x: f64[3], sharp: bool) -> f64[3]:
    if sharp:
        y = turned(a, x) * a[0]
    else:
        y = turned(a, 2 * x)
    return y

@entry
def by_chosen(a: f64[5], x: f64[3], sharp: bool) -> f64[3, 5] = jacobian(chosen, wrt=a, mode="forward")(a, x, sharp)

def picked(a: f64[5], x: f64[3], k: i32) -> f64:
    y = turned(a, x)
    return y[k] * a[1]

@entry
def by_picked(a: f64[5], x: f64[3], k: i32) -> f64[5] = jacobian(picked, wrt=a, mode="forward")(a, x, k)

@entry
def own_branches(a: f64[4], x: f64) -> f64[4] = vmap(lambda s: (
    exp(x) * s if s > x else s - exp(x)
))(a)

@entry
def long(a: f64[4], y: f64, n: i32) -> f64[4]:
    def step(s: f64) -> f64:
        z = y
        w = s
        for t in range(n):
            z = sin(z)
            w = w * z
        return w
    return vmap(step)(a)
"""


@pytest.fixture(scope="module")
def program() -> dg.Program:
    return dg.parse(TEXT)


A, X = np.array([0.3, -0.2, 0.9, 1.1, -0.4]), np.array([0.5, 1.5, -0.7])


def loops_of(region: Region) -> list[Node]:
    return [node for node in walk(region) if node.op.name == "for"]


def differences(f, a, h=1e-6):
    return np.stack([(np.asarray(f(a + h * e)) - np.asarray(f(a - h * e))) / (2 * h) for e in np.eye(len(a))], -1)


@pytest.mark.parametrize("sharp", [None, True, False])
def test_derivatives_are_right(program: dg.Program, sharp: bool | None):
    name, more = ("turned", ()) if sharp is None else ("chosen", (sharp,))
    found = program.function("by_angles" if sharp is None else "by_chosen")(A, X, *more)
    reverse = dg.jacobian(program.function(name), wrt="a", mode="reverse")(A, X, *more)
    np.testing.assert_allclose(found, reverse, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(found, differences(lambda a: program.function(name)(a, X, *more), A), atol=1e-8)


def test_the_values_of_a_loop_are_computed_once(program: dg.Program):
    graph = stage(program.by_angles.graph, "kernels")
    # One before all directions, and the tangents of each direction; the cosine is in the first.
    assert [node.derived for node in loops_of(graph.region)] == ["", "tangent"]
    outside = [node for node in graph.region.nodes if node.op.name == "for"]
    assert [node.derived for node in outside] == [""]
    assert {node.op.name for node in outside[0].regions[0].nodes} >= {"cos", "sin"}


def test_a_check_that_all_points_share_still_fails(program: dg.Program):
    np.testing.assert_allclose(program.by_picked(A, X, 2), differences(lambda a: program.picked(a, X, 2), A), atol=1e-8)
    with pytest.raises(dg.DgraphError, match="out of range"):
        program.by_picked(A, X, 3)


def test_branches_of_single_points_stay_with_them(program: dg.Program):
    a = np.array([0.1, 2.0, -1.0, 0.5])
    np.testing.assert_array_equal(program.own_branches(a, 0.3), np.where(a > 0.3, np.exp(0.3) * a, a - np.exp(0.3)))


def test_a_loop_of_any_length_keeps_nothing(program: dg.Program):
    a = np.array([0.1, 2.0, -1.0, 0.5])
    graph = stage(program.long.graph, "expand")
    assert not any(node.op.tapes or node.op.stacks for node in loops_of(graph.region))
    z, w = 0.7, a.copy()
    for _ in range(6):
        z = np.sin(z)
        w = w * z
    np.testing.assert_allclose(program.long(a, 0.7, 6), w, rtol=1e-15)
