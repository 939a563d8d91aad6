"""The examples with long loops against closed forms, brute force and differences."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_adjoint_of_an_orbit_that_settles() -> None:
    """In the long run the third coordinate is rho - 1, whatever the other parameters are."""
    program = dg.load(EXAMPLES / "lorenz.dg")
    mean, slopes = program.main(200_000)
    assert mean == pytest.approx(11.0, abs=3e-3)
    np.testing.assert_allclose(slopes, [0.0, 1.0, 0.0], atol=3e-4)


def test_the_adjoint_of_an_orbit_is_its_tangent() -> None:
    program = dg.load(EXAMPLES / "lorenz.dg")
    y, p = np.array([1.0, 1.0, 20.0]), np.array([10.0, 28.0, 8 / 3])
    for wrt in ("y", "p"):
        forward = dg.grad(program.height, wrt=wrt, mode="forward")(y, p, 0.005, 300)
        reverse = dg.grad(program.height, wrt=wrt)(y, p, 0.005, 300)
        np.testing.assert_allclose(reverse, forward, rtol=1e-11)


def test_the_conductivity_is_found() -> None:
    path = dg.load(EXAMPLES / "heat_inverse.dg").main()
    np.testing.assert_allclose(path[-1], [0.4, 1.1], rtol=1e-9)
    distances = np.abs(path - [0.4, 1.1]).max(axis=1)
    assert distances[0] > 0.3 and all(late < early for early, late in pairwise(distances[1:6]))


def paths(n: int, m: int) -> list[list[tuple[int, int]]]:
    """All alignments of n and m points."""
    if (n, m) == (1, 1):
        return [[(0, 0)]]
    before = [(n - 1, m), (n, m - 1), (n - 1, m - 1)]
    return [[*path, (n - 1, m - 1)] for i, j in before if i and j for path in paths(i, j)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1), (3, 4), (4, 4)])
def test_alignments_are_a_sum_over_all_paths(shape: tuple[int, int]) -> None:
    program = dg.load(EXAMPLES / "alignment.dg")
    n, m = shape
    random = np.random.default_rng(n * 10 + m)
    x, y, width = random.normal(size=n), random.normal(size=m), 0.3
    cost = (x[:, None] - y[None, :]) ** 2
    ways = paths(n, m)
    weights = np.array([np.exp(-sum(cost[place] for place in way) / width) for way in ways])
    share = np.zeros(shape)
    for way, weight in zip(ways, weights / weights.sum(), strict=True):
        for place in way:
            share[place] += weight
    assert program.distance(cost, width) == pytest.approx(-width * np.log(weights.sum()), rel=1e-12)
    np.testing.assert_allclose(program.alignment(x, y, width), share, rtol=1e-10, atol=1e-14)


def test_truncated_derivatives_take_the_state_at_the_cut_as_given() -> None:
    program = dg.load(EXAMPLES / "recall.dg")
    cell = program.value_of("cell")
    random = np.random.default_rng(0)
    x = np.where(random.random((5, 10)) < 0.5, 1.0, -1.0)

    def after(w: np.ndarray, state: np.ndarray, steps: range) -> np.ndarray:
        for i in steps:
            state = np.tanh(state @ w + np.outer(x[:, i], cell.u) + cell.b)
        return state

    def loss(w: np.ndarray, state: np.ndarray, steps: range) -> float:
        return float(np.mean((after(w, state, steps) @ cell.out - x[:, 0]) ** 2))

    start = np.zeros((5, len(cell.b)))
    for window, state, steps in [
        (10, start, range(10)),
        (5, after(cell.w, start, range(5)), range(5, 10)),
        (3, after(cell.w, start, range(9)), range(9, 10)),
    ]:
        found = dg.grad(program.loss)(cell, x, window).w
        for i, j in [(0, 0), (2, 7), (11, 3)]:
            h = np.zeros_like(cell.w)
            h[i, j] = 1e-5
            slope = (loss(cell.w + h, state, steps) - loss(cell.w - h, state, steps)) / 2e-5
            assert found[i, j] == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_what_is_cut_off_is_not_learnt() -> None:
    by_full, by_truncated = dg.load(EXAMPLES / "recall.dg").main(0)
    assert by_full == 1.0
    assert by_truncated < 0.8
