"""The sketch programs, lowered and run by the interpreter, against NumPy and finite differences."""

from typing import Any

import numpy as np
import pytest
from frontend_run import PROGRAMS, differences, program, run

from dgraph.frontend import check, functions, lower_function, lower_initialiser
from dgraph.ir.evaluate import evaluate
from dgraph.ir.verify import verify


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", sorted(file.stem for file in PROGRAMS.glob("*.dg")))
def test_every_program_is_clean(name):
    module = program(name)
    assert check(module) == []
    for function, info in functions(module).items():
        if {"entry", "train", "metric"} & set(info.annotations):
            verify(lower_function(module, function))


def test_newton():
    module = program("newton")
    assert run(module, "cube_root", 27.0) == pytest.approx(3.0, rel=1e-12)
    assert run(module, "sensitivity", 27.0) == pytest.approx(1 / 27, rel=1e-10)


def lotka(p: Any, y: Any) -> Any:
    met = y[0] * y[1]
    return np.array([p[0] * y[0] - p[1] * met, p[3] * met - p[2] * y[1]])


def integrated(p: Any, y: Any) -> Any:
    dt = 10.0 / 1000
    for _ in range(1000):
        k1 = lotka(p, y)
        k2 = lotka(p, y + dt / 2 * k1)
        k3 = lotka(p, y + dt / 2 * k2)
        k4 = lotka(p, y + dt * k3)
        y = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y[0]


def test_rk4():
    module = program("rk4")
    p, y = np.array([1.1, 0.4, 0.4, 0.1]), np.array([10.0, 5.0])
    assert run(module, "final", *p, y) == pytest.approx(integrated(p, y), rel=1e-13)
    expected = differences(lambda q: integrated(q, y), p)
    np.testing.assert_allclose(run(module, "sensitivity", *p, y), expected, rtol=1e-7)


def rosenbrock(x: Any) -> Any:
    return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(len(x) - 1))


def test_hvp(rng):
    module = program("hvp")
    x, v = rng.normal(size=5), rng.normal(size=5)
    assert run(module, "rosenbrock", x) == pytest.approx(rosenbrock(x), rel=1e-14)
    n = len(x)
    exact = np.zeros((n, n))
    for i in range(n - 1):
        exact[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        exact[i + 1, i + 1] += 200
        exact[i, i + 1] = exact[i + 1, i] = -400 * x[i]
    np.testing.assert_allclose(run(module, "hvp", x, v), exact @ v, rtol=1e-12)
    np.testing.assert_allclose(run(module, "by_columns", x), exact, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(run(module, "curvature", x), np.diag(exact), rtol=1e-12)


def test_branch(rng):
    module = program("branch")
    a, b = rng.normal(size=7) * 2, rng.normal(size=7)
    away = np.abs(a - b)
    expected = np.where(away <= 1, 0.5 * away**2, away - 0.5).mean()
    assert run(module, "total", a, b, 1.0) == pytest.approx(expected, rel=1e-14)


def windows(a: Any, count: int) -> Any:
    h, w = a.shape[0] - count + 1, a.shape[1] - count + 1
    return [[a[p : p + h, q : q + w] for q in range(count)] for p in range(count)]


def test_conv(rng):
    module = program("conv")
    a, k = rng.normal(size=(5, 6, 2)).astype("f4"), rng.normal(size=(3, 3, 2, 4)).astype("f4")
    valid = sum(windows(a, 3)[p][q] @ k[p, q] for p in range(3) for q in range(3))
    np.testing.assert_allclose(run(module, "conv2d", a, k, np.ones(4, "f4")), valid + 1, rtol=2e-5, atol=2e-5)
    padded = windows(np.pad(a, ((1, 1), (1, 1), (0, 0))), 3)
    same = sum(padded[p][q] @ k[p, q] for p in range(3) for q in range(3))
    np.testing.assert_allclose(run(module, "conv2d_same", a, k), same, rtol=2e-5, atol=2e-5)
    seed = rng.normal(size=(5, 6, 4)).astype("f4")
    slope = np.array([[np.einsum("ijn,ijo->no", padded[p][q], seed) for q in range(3)] for p in range(3)])
    np.testing.assert_allclose(run(module, "filter_gradient", a, k, seed), slope, rtol=2e-5, atol=2e-5)
    x = rng.normal(size=(4, 6, 3)).astype("f4")
    np.testing.assert_array_equal(run(module, "max_pool", x), x.reshape(2, 2, 3, 2, 3).max((1, 3)))


def test_adam(rng):
    module = program("adam")
    x = rng.normal(size=20).astype("f4")
    y = (3 * x + 1).astype("f4")
    a, b, curve = run(module, "fit", np.float32(0), np.float32(0), x, y, steps=40)
    p, m, v, losses = np.zeros(2), np.zeros(2), np.zeros(2), []
    for t in range(40):
        gap = p[0] * x + p[1] - y
        losses.append((gap**2).mean())
        slope = np.array([(2 * gap * x).mean(), (2 * gap).mean()])
        slope *= min(1, 1.0 / np.linalg.norm(slope))
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        step = m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
        p = p - 0.01 * 0.5 ** (t // 100) * step
    np.testing.assert_allclose([a, b], p, rtol=1e-4)
    np.testing.assert_allclose(curve, losses, rtol=1e-4)
    assert curve.dtype == np.float32


def lstm_loss(w: Any, b: Any, xs: Any, target: Any) -> Any:
    def sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    h = target.shape[1]
    out, memory, total = np.zeros(h), np.zeros(h), 0.0
    for x, wanted in zip(xs, target, strict=True):
        i, f, o, g = np.split(np.concatenate([x, out]) @ w + b, 4)
        memory = sigmoid(f + 1) * memory + sigmoid(i) * np.tanh(g)
        out = sigmoid(o) * np.tanh(memory)
        total += ((out - wanted) ** 2).sum()
    return total / target.size


def test_lstm(rng):
    module = program("lstm")
    w, b = rng.normal(size=(7, 16)), rng.normal(size=16)
    xs, target = rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
    arguments = [value.astype("f4") for value in (w, b, xs, target)]
    assert run(module, "loss", *arguments) == pytest.approx(lstm_loss(w, b, xs, target), rel=1e-5)
    by_w, by_b = run(module, "gradient", *arguments)
    np.testing.assert_allclose(by_b, differences(lambda z: lstm_loss(w, z, xs, target), b), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(by_w, differences(lambda z: lstm_loss(z, b, xs, target), w), rtol=1e-3, atol=1e-6)


def mixture(weight: Any, mean: Any, scale: Any, lower: Any, x: Any) -> Any:
    k, d = mean.shape
    total = 0.0
    for row in x:
        terms = []
        for c in range(k):
            u = (np.tril(lower[c], -1) + np.diag(np.exp(scale[c]))) @ (row - mean[c])
            terms.append(weight[c] + scale[c].sum() - 0.5 * u @ u)
        total += np.logaddexp.reduce(terms)
    return total - len(x) * (np.logaddexp.reduce(weight) + 0.5 * d * np.log(2 * np.pi))


def test_gmm(rng):
    module = program("gmm")
    parts = [rng.normal(size=shape) for shape in ((2,), (2, 3), (2, 3), (2, 3, 3))]
    x = rng.normal(size=(5, 3))
    assert run(module, "log_likelihood", *parts, x) == pytest.approx(mixture(*parts, x), rel=1e-13)
    for at, slope in enumerate(run(module, "score", *parts, x)):
        expected = differences(lambda z, at=at: mixture(*parts[:at], z, *parts[at + 1 :], x), parts[at])
        np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-7)


def test_mlp(rng):
    module = program("mlp")
    model = evaluate(lower_initialiser(module, "model"), [np.uint64(7)])
    assert model[0].std() == pytest.approx(np.sqrt(2 / (784 + 128)), rel=0.02)
    assert not model[1].any()
    x, label = rng.normal(size=(3, 784)).astype("f4"), np.array([1, 2, 9], "i4")

    def loss(w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        z = np.maximum(x.astype(float) @ w1 + b1, 0) @ w2 + b2
        return np.mean([np.logaddexp.reduce(row) - row[at] for row, at in zip(z, label, strict=True)])

    value, *after = run(module, "step", x, label, np.float32(0.01), *model)
    wide = [part.astype(float) for part in model]
    assert value == pytest.approx(loss(*wide), rel=1e-5)
    expected = wide[3] - 0.01 * differences(lambda b2: loss(*wide[:3], b2), wide[3])
    np.testing.assert_allclose(after[3], expected, rtol=1e-4, atol=1e-7)


def test_kalman_smoother(rng):
    module = program("kalman_smoother")
    a, c = rng.normal(size=(3, 3)) * 0.5, rng.normal(size=(2, 3))
    q, r = np.eye(3) * 0.3, np.eye(2) * 0.2
    ys, seen = rng.normal(size=(6, 2)), np.array([1, 1, 0, 1, 1, 1], bool)
    mu, cov, total, mus, covs = np.zeros(3), np.eye(3), 0.0, [], []
    for y, is_seen in zip(ys, seen, strict=True):
        mu, cov = a @ mu, a @ cov @ a.T + q
        if is_seen:
            gap, spread = y - c @ mu, c @ cov @ c.T + r
            gain = np.linalg.solve(spread, c @ cov).T
            mu, cov = mu + gain @ gap, cov - gain @ c @ cov
            total -= 0.5 * (gap @ np.linalg.solve(spread, gap) + np.linalg.slogdet(spread)[1])
        mus.append(mu)
        covs.append(cov)
    got = run(module, "filter", a, c, q, r, ys, seen)
    np.testing.assert_allclose(got[0], mus, rtol=1e-10)
    np.testing.assert_allclose(got[1], covs, rtol=1e-10, atol=1e-14)
    assert got[2] == pytest.approx(total, rel=1e-12)


def test_det(rng):
    module = program("det")
    a = rng.normal(size=(4, 4))
    assert run(module, "det", a) == pytest.approx(np.linalg.det(a), rel=1e-12)
    np.testing.assert_allclose(run(module, "cofactors", a), np.linalg.det(a) * np.linalg.inv(a).T, rtol=1e-10)


def test_lstm_gradbench_updates_in_nested_loops(rng):
    module = program("lstm_gradbench")
    main, extra, state, sequence = (rng.normal(size=shape) for shape in ((4, 12), (3, 3), (4, 3), (4, 3)))

    def loss(main: Any) -> Any:
        def sigmoid(x: Any) -> Any:
            return 1 / (1 + np.exp(-x))

        held, total = state.copy(), 0.0
        for t in range(3):
            x = sequence[t] * extra[0]
            for k in range(2):
                wf, wi, wo, wc = np.split(main[2 * k], 4)
                bf, bi, bo, bc = np.split(main[2 * k + 1], 4)
                cell = held[2 * k + 1] * sigmoid(x * wf + bf)
                cell = cell + sigmoid(held[2 * k] * wi + bi) * np.tanh(held[2 * k] * wc + bc)
                x = sigmoid(x * wo + bo) * np.tanh(cell)
                held[2 * k], held[2 * k + 1] = x, cell
            y = x * extra[1] + extra[2]
            total += sequence[t + 1] @ (y - np.log(2 + np.exp(y).sum()))
        return -total / 9

    assert run(module, "loss", main, extra, state, sequence) == pytest.approx(loss(main), rel=1e-13)
    by_main, _ = run(module, "gradient", main, extra, state, sequence)
    np.testing.assert_allclose(by_main, differences(loss, main), rtol=1e-6, atol=1e-8)


def test_ensemble_counts_through_computed_places():
    module = program("ensemble")
    truth, guess = np.array([0, 1, 1, 2], "i4"), np.array([0, 2, 1, 2], "i4")
    expected = np.zeros((3, 3))
    np.add.at(expected, (truth, guess), 1)
    np.testing.assert_array_equal(run(module, "confusion", truth, guess, k=3), expected)


def test_heat_recovers_what_it_simulated(rng):
    module = program("heat")
    k, u0 = np.exp(rng.normal(size=5) * 0.1), rng.normal(size=6)
    u = u0.copy()
    for _ in range(10):
        flow = k * (u[1:] - u[:-1])
        u[1:-1] += 0.1 * (flow[1:] - flow[:-1])
    np.testing.assert_allclose(run(module, "simulate", k, u0, 0.1, 10), u, rtol=1e-13)
    found = run(module, "gauss_newton", np.zeros(5), u0, u, 0.1, 10, 6, 1e-9)
    np.testing.assert_allclose(run(module, "simulate", np.exp(found), u0, 0.1, 10), u, rtol=1e-6)


def test_particle_hits_its_target():
    """The force found lets the particle fly through the origin, by a simulation in NumPy."""
    module = program("particle_saddle")
    w = run(module, "particle")

    def miss(w: float) -> float:
        x, v, charges = np.array([0.0, 8.0]), np.array([0.75, 0.0]), np.array([[10.0, 10 - w], [10.0, 0.0]])
        last = v
        while x[1] > 0:
            last = v
            away = x - charges
            v = v + 0.1 * (away / np.linalg.norm(away, axis=1, keepdims=True) ** 3).sum(0)
            x = x + 0.1 * last
        return float((x - x[1] / last[1] * last)[0] ** 2)

    assert run(module, "miss", w) == pytest.approx(miss(w), abs=1e-12)
    assert miss(w) < 1e-6
