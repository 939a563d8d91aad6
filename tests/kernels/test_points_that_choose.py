"""Points in lanes that choose where they add, in loops that only some of them run, keep the order of the points."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Loop, Update
from dgraph.program.pipeline import stage

PROGRAM = dg.parse("""
def cost[n, k, d](points: f64[n, d], centroids: f64[k, d]) -> f64:
    return sum(min(sum((points[i, c] - centroids[j, c]) ** 2 for c) for j) for i)

def slope[n, k, d](points: f64[n, d], centroids: f64[k, d]) -> f64[k, d]:
    return grad(cost, wrt=centroids)(points, centroids)

def near[n, k, d](points: f64[n, d], centroids: f64[k, d]) -> f64:
    return sum(
        sum(points[i, c] * centroids[j, c] for j, c) if min(abs(points[i, c]) for c) < 0.3 else points[i, 0] for i
    )

def some[n, k, d](points: f64[n, d], centroids: f64[k, d]) -> f64[k, d]:
    return grad(near, wrt=centroids)(points, centroids)
""")
SIZES = [(1, 1, 1), (50, 4, 3), (133, 7, 9)]


def arrays(n: int, k: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.normal(size=(n, d)), rng.normal(size=(k, d))


@pytest.mark.parametrize(("n", "k", "d"), SIZES)
def test_the_nearest_gets_its_points_in_order(n: int, k: int, d: int):
    points, centroids = arrays(n, k, d)
    meant = np.zeros((k, d))
    for point in points:
        nearest = np.argmin([sum((point[c] - one[c]) ** 2 for c in range(d)) for one in centroids])
        meant[nearest] += -(2.0 * (point - centroids[nearest]))
    assert np.array_equal(dg.compile(PROGRAM.slope)(points, centroids), meant)


@pytest.mark.parametrize(("n", "k", "d"), SIZES)
def test_points_that_take_the_other_side_add_nothing(n: int, k: int, d: int):
    points, centroids = arrays(n, k, d)
    meant = points[np.abs(points).min(axis=1) < 0.3].sum(axis=0)
    found = dg.compile(PROGRAM.some)(points, centroids)
    assert found == pytest.approx(np.broadcast_to(meant, (k, d)), rel=1e-12, abs=1e-12)


def test_the_way_back_of_a_minimum_goes_in_lanes():
    program = plan_graph(stage(PROGRAM.slope.graph, "kernels"))
    loops = [one for kernel in program.kernels for one in walk(kernel.body) if isinstance(one, Loop)]
    # The distances of a block of points together, then for each point the row that is nearest.
    assert any(loop.lanes and any(isinstance(inner, Loop) for inner in walk(loop.body)) for loop in loops)
    assert any(isinstance(inner, Update) for loop in loops if not loop.lanes for inner in walk(loop.body))
