"""The sketched programs run as they stand, equal NumPy, and pass `dgraph check`."""

from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.program.check import check_program

PROGRAMS = Path(__file__).parents[1] / "programs"
RANDOM = np.random.default_rng(0)
NINE = ["mlp", "newton", "rk4", "gmm", "lstm", "conv", "hvp", "branch", "adam"]


def load(name: str) -> dg.Program:
    return dg.load(PROGRAMS / f"{name}.dg")


@pytest.mark.parametrize("name", NINE)
def test_check_passes(name: str):
    said: list[str] = []
    found = check_program(load(name), None, {}, said.append)
    assert [diagnostic for diagnostic in found if diagnostic.severity == "error"] == []
    assert any("agree" in line for line in said)


def test_newton_finds_roots_and_their_derivatives():
    program = load("newton")
    for a in (0.5, 8.0, 27.0):
        assert program.cube_root(a) == pytest.approx(np.cbrt(a), rel=1e-12)
        assert program.sensitivity(a) == pytest.approx(np.cbrt(a) / (3 * a), rel=1e-9)
    second = dg.grad(program.sensitivity)(8.0)
    assert second == pytest.approx(-2 / 9 * 8.0 ** (-5 / 3), rel=1e-6)


def numpy_rk4(p: dict[str, float], y: np.ndarray, span: float, steps: int) -> np.ndarray:
    def lotka(z: np.ndarray) -> np.ndarray:
        met = z[0] * z[1]
        return np.array([p["birth"] * z[0] - p["catch"] * met, p["growth"] * met - p["death"] * z[1]])

    dt = span / steps
    for _ in range(steps):
        k1 = lotka(y)
        k2 = lotka(y + dt / 2 * k1)
        k3 = lotka(y + dt / 2 * k2)
        k4 = lotka(y + dt * k3)
        y = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


def test_rk4_and_its_adjoint():
    program = load("rk4")
    p = {"birth": 1.1, "catch": 0.4, "death": 0.4, "growth": 0.1}
    y = np.array([10.0, 10.0])
    assert program.final(p, y) == pytest.approx(numpy_rk4(p, y, 10.0, 1000)[0], rel=1e-12)
    slope = program.sensitivity(p, y)
    for name in p:
        step = 1e-5
        up, down = dict(p) | {name: p[name] + step}, dict(p) | {name: p[name] - step}
        difference = (numpy_rk4(up, y, 10.0, 1000)[0] - numpy_rk4(down, y, 10.0, 1000)[0]) / (2 * step)
        assert slope[name] == pytest.approx(difference, rel=1e-6)


def numpy_gmm(m: dict[str, np.ndarray], x: np.ndarray) -> float:
    n, d = x.shape
    k = len(m["weight"])
    logp = np.zeros((n, k))
    for c in range(k):
        matrix = np.diag(np.exp(m["scale"][c])) + np.tril(m["lower"][c], -1)
        u = (x - m["mean"][c]) @ matrix.T
        logp[:, c] = m["weight"][c] + m["scale"][c].sum() - 0.5 * (u**2).sum(axis=1)
    lse = np.log(np.exp(m["weight"]).sum())
    return float(np.log(np.exp(logp).sum(axis=1)).sum() - n * (lse + 0.5 * d * np.log(2 * np.pi)))


@pytest.mark.parametrize(("n", "d", "k"), [(7, 3, 2), (20, 1, 4)])
def test_gmm(n: int, d: int, k: int):
    program = load("gmm")
    shapes = {"weight": (k,), "mean": (k, d), "scale": (k, d), "lower": (k, d, d)}
    m = {name: 0.5 * RANDOM.standard_normal(shape) for name, shape in shapes.items()}
    x = RANDOM.standard_normal((n, d))
    assert program.log_likelihood(m, x) == pytest.approx(numpy_gmm(m, x), rel=1e-12)
    slope = program.score(m, x)
    for name, value in m.items():
        for at in np.ndindex(value.shape):
            up, down = value.copy(), value.copy()
            up[at] += 1e-6
            down[at] -= 1e-6
            difference = (numpy_gmm(m | {name: up}, x) - numpy_gmm(m | {name: down}, x)) / 2e-6
            assert slope[name][at] == pytest.approx(difference, rel=1e-6, abs=1e-6)


def test_lstm():
    program = load("lstm")
    t, d, h = 6, 3, 4
    p = {"w": RANDOM.standard_normal((d + h, 4 * h)).astype("f4"), "b": RANDOM.standard_normal(4 * h).astype("f4")}
    xs = RANDOM.standard_normal((t, d)).astype("f4")
    out = memory = np.zeros(h)
    expected = []

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    for x in xs:
        i, f, o, g = np.split(np.concatenate([x, out]) @ p["w"] + p["b"], 4)
        memory = sigmoid(f + 1) * memory + sigmoid(i) * np.tanh(g)
        out = sigmoid(o) * np.tanh(memory)
        expected.append(out)
    np.testing.assert_allclose(program.run(p, xs), expected, rtol=2e-5, atol=2e-6)


def test_convolution():
    program = load("conv")
    a = RANDOM.standard_normal((6, 5, 2)).astype("f4")
    k = RANDOM.standard_normal((3, 3, 2, 4)).astype("f4")
    b = RANDOM.standard_normal(4).astype("f4")
    windows = np.lib.stride_tricks.sliding_window_view(a.astype("f8"), (3, 3), axis=(0, 1))
    expected = np.einsum("ijnpq,pqno->ijo", windows, k) + b
    np.testing.assert_allclose(program.conv2d(a, k, b), expected, rtol=1e-5, atol=1e-5)
    padded = np.pad(a.astype("f8"), ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    np.testing.assert_allclose(
        program.conv2d_same(a, k), np.einsum("ijnpq,pqno->ijo", windows, k), rtol=1e-5, atol=1e-5
    )
    seed = RANDOM.standard_normal((6, 5, 4)).astype("f4")
    slope = np.einsum("ijnpq,ijo->pqno", windows, seed)
    np.testing.assert_allclose(program.filter_gradient(a, k, seed), slope, rtol=1e-5, atol=1e-5)
    pooled = a[:6, :4].reshape(3, 2, 2, 2, 2).max(axis=(1, 3))
    np.testing.assert_array_equal(program.max_pool(a[:6, :4]), pooled)


def test_branches():
    program = load("branch")
    prediction, target = RANDOM.standard_normal(9), RANDOM.standard_normal(9)
    r, width = prediction - target, 0.7
    expected = np.where(abs(r) <= width, 0.5 * r**2, width * (abs(r) - 0.5 * width)).mean()
    assert program.total(prediction, target, width) == pytest.approx(expected, rel=1e-13)
    slope = dg.grad(program.total)(prediction, target, width)
    np.testing.assert_allclose(slope, np.clip(r, -width, width) / 9, rtol=1e-13)
    x = RANDOM.standard_normal((2, 3)).astype("f4")
    np.testing.assert_allclose(program.leaky(x), np.where(x > 0, x, np.float32(0.01) * x))
    with pytest.raises(dg.DgraphError, match="the batch is empty"):
        program.total(np.zeros(0), np.zeros(0), 1.0)


def test_adam():
    program = load("adam")
    x = np.linspace(-1, 1, 20).astype("f4")
    y = 3 * x - 1
    steps, p = 50, np.zeros(2)
    m = v = np.zeros(2)
    curve = []
    for t in range(steps):
        residual = p[0] * x + p[1] - y
        curve.append((residual**2).mean())
        slope = np.array([(2 * residual * x).mean(), (2 * residual).mean()])
        slope = slope * min(1, 1 / np.linalg.norm(slope))
        m = 0.9 * m + 0.1 * slope
        v = 0.999 * v + 0.001 * slope**2
        move = (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
        p = p - 0.01 * 0.5 ** (t // 100) * move
    line, found = program.fit({"a": 0.0, "b": 0.0}, x, y, steps)
    np.testing.assert_allclose(found, curve, rtol=1e-4)
    np.testing.assert_allclose([line.a, line.b], p, rtol=1e-4)


def test_perceptron_step():
    program = load("mlp")
    x = RANDOM.standard_normal((5, 784)).astype("f4") * 0.1
    label = RANDOM.integers(0, 10, 5).astype("i4")
    model = program.params["model"]
    w1, b1, w2, b2 = (np.asarray(v, "f8") for v in (*model.layer1.values(), *model.layer2.values()))
    h = np.maximum(x @ w1 + b1, 0)
    z = h @ w2 + b2
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(5), label]).mean()
    p[np.arange(5), label] -= 1
    value, after = program.step(x, label, 0.5)
    assert value == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(after.layer2.w, w2 - 0.5 * h.T @ p / 5, rtol=1e-4, atol=1e-6)
    back = (p @ w2.T) * (h > 0)
    np.testing.assert_allclose(after.layer1.w, w1 - 0.5 * x.T @ back / 5, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after.layer1.b, b1 - 0.5 * back.sum(axis=0) / 5, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("path", sorted((PROGRAMS.parents[1] / "examples").glob("*.dg")), ids=lambda path: path.stem)
def test_examples_pass_the_check(path: Path):
    assert [found for found in check_program(dg.load(path), None, {}) if found.severity == "error"] == []
