"""What the sketched programs with solvers, loops and events compute, against NumPy and closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg

PROGRAMS = Path(__file__).parents[1] / "programs"


def load(name: str) -> dg.Program:
    return dg.load(PROGRAMS / f"{name}.dg")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def slopes(function, x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The derivatives of a function of an array by central differences, axes of the result first."""
    columns = []
    for at in np.ndindex(x.shape):
        away = np.zeros_like(x)
        away[at] = step
        columns.append((np.asarray(function(x + away)) - np.asarray(function(x - away))) / (2 * step))
    return np.moveaxis(np.array(columns).reshape(*x.shape, *np.shape(columns[0])), range(x.ndim), range(-x.ndim, 0))


@pytest.mark.parametrize("n", [1, 2, 4])
def test_determinant_and_cofactors(rng, n: int):
    program = load("det")
    a = rng.normal(size=(n, n))
    assert program.det(a) == pytest.approx(np.linalg.det(a), rel=1e-10)
    assert program.cofactors(a) == pytest.approx(np.linalg.det(a) * np.linalg.inv(a).T, rel=1e-9)


def kalman(m: dict[str, np.ndarray], ys: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, float]:
    """The smoothed means, and the log likelihood (up to the constant), by dense conditioning on all observations."""
    a, c, q, r = m["a"], m["c"], m["q"], m["r"]
    t, d = len(ys), len(a)
    prior = np.zeros((t * d, t * d))
    own = np.eye(d)
    for s in range(t):
        own = a @ own @ a.T + q
        ahead = own
        for later in range(s, t):
            rows, columns = slice(later * d, later * d + d), slice(s * d, s * d + d)
            prior[rows, columns] = ahead
            prior[columns, rows] = ahead.T
            ahead = a @ ahead
    at = np.flatnonzero(seen)
    k = len(c)
    look = np.zeros((len(at) * k, t * d))
    for row, s in enumerate(at):
        look[row * k : row * k + k, s * d : s * d + d] = c
    spread = look @ prior @ look.T + np.kron(np.eye(len(at)), r)
    data = ys[at].ravel()
    known = np.linalg.solve(spread, data)
    return (prior @ look.T @ known).reshape(t, d), -0.5 * (data @ known + np.linalg.slogdet(spread)[1])


def test_kalman_smoother(rng):
    d, k, t = 3, 2, 7
    square = rng.normal(size=(d, d))
    m = {
        "a": rng.normal(size=(d, d)) / 2,
        "c": rng.normal(size=(k, d)),
        "q": square @ square.T + np.eye(d),
        "r": np.diag([0.5, 0.8]),
    }
    ys = rng.normal(size=(t, k))
    seen = np.array([True, False, True, True, False, True, True])
    means, likelihood = kalman(m, ys, seen)
    program = load("kalman_smoother")
    assert program.smooth(m, ys, seen) == pytest.approx(means, rel=1e-8, abs=1e-10)
    assert program.filter(m, ys, seen)[2] == pytest.approx(likelihood, rel=1e-9)


def simulate(k: np.ndarray, u: np.ndarray, dt: float, steps: int) -> np.ndarray:
    for _ in range(steps):
        flow = k * np.diff(u)
        u = u + dt * np.concatenate([[0.0], np.diff(flow), [0.0]])
    return u


def test_heat_takes_the_step_of_gauss_and_newton(rng):
    program = load("heat")
    k = np.exp(0.3 * rng.normal(size=5))
    u0 = np.array([0.0, 2.0, -1.0, 3.0, 0.5, 1.0])
    seen = simulate(k, u0, 0.02, 40)
    assert program.simulate(k, u0, 0.02, 40) == pytest.approx(seen, rel=1e-12)
    start = 0.1 * rng.normal(size=5)
    j = slopes(lambda logk: simulate(np.exp(logk), u0, 0.02, 40), start)
    left = simulate(np.exp(start), u0, 0.02, 40) - seen
    once = start - np.linalg.solve(j.T @ j + 1e-3 * np.eye(5), j.T @ left)
    assert program.gauss_newton(start, u0, seen, 0.02, 40, 1, 1e-3) == pytest.approx(once, rel=1e-5, abs=1e-7)
    found = program.gauss_newton(start, u0, seen, 0.02, 40, 20, 1e-9)
    assert simulate(np.exp(found), u0, 0.02, 40) == pytest.approx(seen, abs=1e-6)


def test_particle_hits_the_origin():
    program = load("particle_saddle")
    w = float(program.particle())
    assert abs(program.miss(w)) < 1e-4
    assert program.potential(np.array([1.0, 2.0]), 3.0) == pytest.approx(
        1 / math.hypot(9.0, 5.0) + 1 / math.hypot(9.0, 2.0)
    )


def test_saddle_is_at_zero():
    first, second = load("particle_saddle").saddle(np.array([1.0, -0.5]))
    assert np.abs(first).max() < 1e-2 and np.abs(second).max() < 1e-2


def test_bounces_follow_the_parabola():
    program = load("event")
    height, loss = 2.0, 0.8
    ball, time, count = program.bounces({"height": height, "speed": 0.0}, loss, 1e-4, 1, 10.0)
    assert count == 1
    assert time == pytest.approx(math.sqrt(2 * height / 9.81), rel=1e-6)
    assert ball["height"] == 0.0
    assert ball["speed"] == pytest.approx(loss * math.sqrt(2 * 9.81 * height), rel=1e-6)
    # After three bounces the speed is loss**3 * sqrt(v**2 + 2 g h), up to an error of the order of the time step.
    slope = program.sensitivity({"height": height, "speed": 1.0}, loss)
    fall = math.sqrt(1 + 2 * 9.81 * height)
    assert slope["height"] == pytest.approx(loss**3 * 9.81 / fall, rel=5e-3)
    assert slope["speed"] == pytest.approx(loss**3 * 1.0 / fall, rel=5e-3)


def test_first_above():
    program = load("event")
    x = np.array([0.5, 1.0, 3.0, 2.0])
    assert [int(program.first_above(x, level)) for level in (0.0, 1.0, 2.5, 9.0)] == [0, 2, 2, 4]


def test_least_squares_of_a_step(rng):
    program = load("llsq_lse_ode")
    x, n = rng.normal(size=4), 9
    t = -1 + 2 * np.arange(n) / (n - 1)
    left = np.sign(t) - np.vander(t, 4, increasing=True) @ x
    assert program.llsq(x, n) == pytest.approx(0.5 * left @ left, rel=1e-12)
    slope = dg.grad(program.llsq, wrt="x")(x, n)
    assert slope == pytest.approx(-np.vander(t, 4, increasing=True).T @ left, rel=1e-10)


def test_log_sum_exp(rng):
    program = load("llsq_lse_ode")
    x = 800 + rng.normal(size=6)
    weights = np.exp(x - x.max())
    assert program.lse(x) == pytest.approx(x.max() + np.log(weights.sum()), rel=1e-14)
    assert dg.grad(program.lse)(x) == pytest.approx(weights / weights.sum(), rel=1e-12)


def test_chain_of_integrals():
    # y1' = x1, y2' = x2 y1, ...: at time 2 the k-th is 2**k / k! times the product of the x up to it.
    program = load("llsq_lse_ode")
    x = np.array([0.7, -1.2, 0.4])
    expected = np.cumprod(x) * np.array([2.0, 2.0, 8 / 6])
    assert program.ode(x, 50) == pytest.approx(expected, rel=1e-10)
    assert program.slope(x, 50) == pytest.approx(expected[-1] / x, rel=1e-10)


def chain_hessian(x: np.ndarray) -> np.ndarray:
    curve = 12 * np.diff(x) ** 2 + 2
    h = np.zeros((len(x), len(x)))
    h[0, 0] = 2.0
    for i, c in enumerate(curve):
        h[i : i + 2, i : i + 2] += c * np.array([[1.0, -1.0], [-1.0, 1.0]])
    return h


def test_newton_by_conjugate_gradients(rng):
    program = load("hessians")
    x, load_ = rng.normal(size=6), rng.normal(size=6)
    step = np.diff(x)
    force = 4 * step**3 + 2 * step
    gradient = np.concatenate([[0.0], force]) - np.concatenate([force, [0.0]]) - load_
    gradient[0] += 2 * x[0]
    once = x - np.linalg.solve(chain_hessian(x), gradient)
    assert program.newton_cg(x, load_, 1) == pytest.approx(once, rel=1e-8)
    still = program.newton_cg(x, load_, 30)
    assert dg.grad(program.energy)(still, load_) == pytest.approx(np.zeros(6), abs=1e-8)


def test_newton_with_a_sparse_hessian(rng):
    program = load("hessians")
    x, load_ = rng.normal(size=30), rng.normal(size=30)
    main, upper = program.bands(x, load_)
    np.testing.assert_allclose(main, np.diag(chain_hessian(x)), rtol=1e-12)
    np.testing.assert_allclose(upper, np.diag(chain_hessian(x), 1), rtol=1e-12)
    slope = dg.grad(program.energy)(x, load_)
    expected = x - np.linalg.solve(chain_hessian(x), slope)
    np.testing.assert_allclose(program.sparse_newton(x, load_), expected, rtol=1e-9, atol=1e-9)
    # A matrix with three diagonals takes three products with it.
    assert program.bands.compiled.sweeps(x, load_) == (3,)


def test_k_means_step_goes_to_the_means(rng):
    points = np.concatenate([rng.normal(size=(20, 2)), 5 + rng.normal(size=(30, 2))])
    centroids = np.array([[0.0, 0.5], [4.0, 5.0]])
    near = ((points[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    means = np.array([points[near == j].mean(axis=0) for j in range(2)])
    # The cost is quadratic in each centroid, so Newton's direction leads from the mean to the centroid.
    assert load("kmeans").direction(points, centroids) == pytest.approx(centroids - means, rel=1e-10)
