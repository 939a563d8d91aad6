"""What the sketched models compute: mixtures, hands, cameras, energy models, ensembles, against NumPy."""

from math import lgamma, log, pi, sqrt
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg

PROGRAMS = Path(__file__).parents[1] / "programs"


def load(name: str) -> dg.Program:
    return dg.load(PROGRAMS / f"{name}.dg")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(17)


def log_sum_exp(x: np.ndarray) -> np.ndarray:
    top = x.max(axis=-1, keepdims=True)
    return (top + np.log(np.exp(x - top).sum(axis=-1, keepdims=True)))[..., 0]


def packed_posterior(g: dict[str, np.ndarray], x: np.ndarray, gamma: float, m: int) -> float:
    (n, d), k = x.shape, len(g["alpha"])
    beta = np.zeros((n, k))
    for c in range(k):
        factor = np.diag(np.exp(g["q"][c]))
        # The strict lower triangle, column by column.
        factor.T[np.triu_indices(d, 1)] = g["l"][c]
        y = (x - g["mu"][c]) @ factor.T
        beta[:, c] = g["alpha"][c] + g["q"][c].sum() - 0.5 * (y**2).sum(axis=1)
    degrees = d + m + 1
    log_gamma_d = 0.25 * d * (d - 1) * log(pi) + sum(lgamma(0.5 * degrees - 0.5 * j) for j in range(d))
    prior = k * (degrees * d * log(gamma / sqrt(2)) - log_gamma_d)
    weights = 0.5 * gamma**2 * ((np.exp(g["q"]) ** 2).sum() + (g["l"] ** 2).sum()) - m * g["q"].sum()
    fit = log_sum_exp(beta).sum() - n * (0.5 * d * log(2 * pi) + log_sum_exp(g["alpha"]))
    return float(fit + prior - weights)


@pytest.mark.parametrize(("n", "d", "k"), [(5, 3, 2), (4, 1, 3)])
def test_packed_mixture(rng, n: int, d: int, k: int):
    program = load("gmm_packed")
    shapes = {"alpha": (k,), "mu": (k, d), "q": (k, d), "l": (k, d * (d - 1) // 2)}
    g = {name: 0.5 * rng.normal(size=shape) for name, shape in shapes.items()}
    x = rng.normal(size=(n, d))
    assert program.objective(g, x, 1.2, 2) == pytest.approx(packed_posterior(g, x, 1.2, 2), rel=1e-12)
    slope = program.jacobian_(g, x, 1.2, 2)
    away = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    up, down = ({name: g[name] + s * 1e-6 * away[name] for name in g} for s in (1, -1))
    expected = (packed_posterior(up, x, 1.2, 2) - packed_posterior(down, x, 1.2, 2)) / 2e-6
    assert sum((slope[name] * away[name]).sum() for name in g) == pytest.approx(expected, rel=1e-6)


def about(axis: np.ndarray, angle: float, v: np.ndarray) -> np.ndarray:
    """Rodrigues' formula."""
    return v * np.cos(angle) + np.cross(axis, v) * np.sin(angle) + axis * (axis @ v) * (1 - np.cos(angle))


def projected(v: np.ndarray, x: np.ndarray, w: float, feature: np.ndarray) -> np.ndarray:
    angle = np.linalg.norm(v[:3])
    seen = about(v[:3] / angle, angle, x - v[3:6]) if angle else x - v[3:6]
    p = seen[:2] / seen[2]
    s = p @ p
    return w * (v[6] * (1 + v[9] * s + v[10] * s**2) * p + v[7:9] - feature)


def test_bundle_adjustment(rng):
    program = load("ba")
    n, m, p = 2, 3, 4
    cams, x = rng.normal(size=(n, 11)), rng.normal(size=(m, 3)) + 5
    cams[1, :3] = 0.0
    w, feature = rng.normal(size=p), rng.normal(size=(p, 2))
    cam, point = np.array([0, 1, 0, 1], np.int32), np.array([2, 0, 1, 2], np.int32)
    residual, weight = program.residuals(cams, x, w, cam, point, feature)
    expected = [projected(cams[cam[j]], x[point[j]], w[j], feature[j]) for j in range(p)]
    assert residual == pytest.approx(np.array(expected), rel=1e-10)
    assert weight == pytest.approx(1 - w**2)
    sparse = program.compressed(cams, x, w, cam, point, feature)
    dense = np.zeros((3 * p, 11 * n + 3 * m + p))
    for row in range(3 * p):
        for entry in range(sparse["start"][row], sparse["start"][row + 1]):
            dense[row, sparse["column"][entry]] += sparse["value"][entry]

    def flat(all_: np.ndarray) -> np.ndarray:
        c, y, u = all_[: 11 * n].reshape(n, 11), all_[11 * n : 11 * n + 3 * m].reshape(m, 3), all_[11 * n + 3 * m :]
        first = [projected(c[cam[j]], y[point[j]], u[j], feature[j]) for j in range(p)]
        return np.concatenate([np.ravel(first), 1 - u**2])

    cams[1, :3] = rng.normal(size=3)
    sparse = program.compressed(cams, x, w, cam, point, feature)
    dense = np.zeros_like(dense)
    for row in range(3 * p):
        for entry in range(sparse["start"][row], sparse["start"][row + 1]):
            dense[row, sparse["column"][entry]] += sparse["value"][entry]
    at = np.concatenate([cams.ravel(), x.ravel(), w])
    for column in range(len(at)):
        away = np.zeros_like(at)
        away[column] = 1e-6
        slope = (flat(at + away) - flat(at - away)) / 2e-6
        assert dense[:, column] == pytest.approx(slope, rel=1e-5, abs=1e-6)


def turned(axis: int, a: float) -> np.ndarray:
    c, s = np.cos(a), np.sin(a)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    r = np.eye(3)
    r[i, i], r[i, j], r[j, i], r[j, j] = c, -s, s, c
    return r


def skinned(hand: dict, theta: np.ndarray) -> np.ndarray:
    b = len(hand["parent"])
    pose = np.zeros((b + 3, 3))
    pose[0], pose[1], pose[2] = theta[:3], 1.0, theta[3:6]
    for finger in range(5):
        row, at = 5 + 4 * finger, 6 + 4 * finger
        pose[row, :2], pose[row + 1, 0], pose[row + 2, 0] = theta[at : at + 2], theta[at + 2], theta[at + 3]
    absolute = np.zeros((b, 4, 4))
    for k in range(b):
        a = pose[k + 3]
        local = np.eye(4)
        local[:3, :3] = turned(2, a[1]) @ turned(1, a[2]) @ turned(0, a[0])
        own = hand["base_relative"][k] @ local
        absolute[k] = own if hand["parent"][k] < 0 else absolute[hand["parent"][k]] @ own
    move = absolute @ hand["inverse_absolute"]
    p = np.einsum("ik,krc,ic->ir", hand["weight"], move, hand["position"])[:, :3]
    if hand["mirrored"]:
        p[:, 0] *= -1
    angle = np.linalg.norm(pose[0])
    return np.array([about(pose[0] / angle, angle, one) for one in p * pose[1]]) + pose[2]


@pytest.mark.parametrize("mirrored", [False, True])
def test_hand_tracking(rng, mirrored: bool):
    program = load("ht")
    b, v, t, n = 22, 6, 3, 4
    parent = np.array([-1] + [max(0, k - 1) for k in range(1, b)], np.int32)
    hand = {
        "parent": parent,
        "base_relative": 0.4 * rng.normal(size=(b, 4, 4)),
        "inverse_absolute": rng.normal(size=(b, 4, 4)),
        "position": rng.normal(size=(v, 4)),
        "weight": rng.uniform(size=(v, b)),
        "mirrored": mirrored,
    }
    theta, us, points = rng.normal(size=26), rng.uniform(size=(n, 2)), rng.normal(size=(n, 3))
    triangle, match = rng.integers(0, v, size=(t, 3)).astype(np.int32), rng.integers(0, t, size=n).astype(np.int32)

    def objective(angles: np.ndarray, at: np.ndarray) -> np.ndarray:
        p = skinned(hand, angles)[triangle[match]]
        share = np.column_stack([at, 1 - at.sum(axis=1)])
        return points - np.einsum("nk,nkr->nr", share, p)

    assert program.objective(hand, theta, us, points, triangle, match) == pytest.approx(objective(theta, us), rel=1e-9)
    tall = program.tall(hand, theta, us, points, triangle, match).reshape(n, 3, 28)
    for column in range(28):
        away, aside = np.zeros(26), np.zeros((n, 2))
        if column < 2:
            aside[:, column] = 1e-6
        else:
            away[column - 2] = 1e-6
        slope = (objective(theta + away, us + aside) - objective(theta - away, us - aside)) / 2e-6
        assert tall[:, :, column] == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_hopfield_recalls_a_pattern(rng):
    program = load("hopfield")
    patterns = np.sign(rng.normal(size=(2, 40)))
    w = patterns.T @ patterns / 40
    np.fill_diagonal(w, 0.0)
    assert program.hebb(patterns) == pytest.approx(w)
    start = patterns[0].copy()
    start[:4] *= -1
    found, trace = program.recall(w, start, 3, 9)
    assert np.array_equal(found, patterns[0])
    assert trace[0] == pytest.approx(-0.5 * start @ w @ start)
    assert trace[-1] == pytest.approx(-0.5 * patterns[0] @ w @ patterns[0])
    assert (np.diff(trace) <= 1e-12).all()
    assert np.array_equal(program.until_still(w, start), patterns[0])


def free_energy(p: dict, x: np.ndarray) -> np.ndarray:
    return -(x @ p["a"]) - np.log1p(np.exp(x @ p["w"] + p["b"])).sum(axis=-1)


def test_boltzmann_machine(rng):
    program = load("rbm")
    v, h, n = 4, 3, 5
    p = {name: rng.normal(size=shape).astype(np.float32) for name, shape in (("w", (v, h)), ("a", v), ("b", h))}
    x = rng.integers(0, 2, size=(n, v)).astype(np.float32)
    assert program.free_energy(p, x[0]) == pytest.approx(free_energy(p, x[0]), rel=1e-5)
    # The difference of the free energies of data and chain is linear in `a` with the difference of their means.
    slope = dg.grad(program.divergence)(p, x, 3, 1)
    ghosts = x.mean(axis=0) + slope["a"]
    assert ghosts * n == pytest.approx(np.round(ghosts * n), abs=1e-5)
    assert (ghosts > -1e-6).all() and (ghosts < 1 + 1e-6).all()
    moved = program.update(p, x, 3, np.float32(0.1))
    for name in p:
        assert moved[name] == pytest.approx(p[name] - 0.1 * slope[name], rel=1e-5, abs=1e-6)


def test_gibbs_draws_from_the_conditionals():
    program = load("rbm")
    p = {"w": np.zeros((2, 1), np.float32), "a": np.array([1.0, -2.0], np.float32), "b": np.zeros(1, np.float32)}
    gibbs = dg.compile(program.gibbs)
    drawn = np.mean([gibbs(p, key, np.zeros(2, np.float32)) for key in range(3000)], axis=0)
    assert drawn == pytest.approx(1 / (1 + np.exp([-1.0, 2.0])), abs=0.03)


def policy_reward(p: dict, x: np.ndarray, y: np.ndarray) -> float:
    return float(-((np.tanh(x @ p["w1"]) @ p["w2"] - y) ** 2).mean())


def test_evolution_estimates_the_gradient(rng):
    program = load("evolution")
    d, h, n = 2, 2, 6
    p = {"w1": rng.normal(size=(d, h)).astype(np.float32), "w2": rng.normal(size=h).astype(np.float32)}
    x, y = rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=n).astype(np.float32)
    assert program.reward(p, x, y) == pytest.approx(policy_reward(p, x, y), rel=1e-5)
    assert program.compare(p, x, y, 1) > 0.9
    for estimate in (program.estimate, program.in_parallel):
        found = estimate(p, x, y, 2, np.float32(0.05), 4000)
        slope = dg.grad(program.reward)(p, x, y)
        scale = max(np.abs(slope["w1"]).max(), np.abs(slope["w2"]).max())
        for name in p:
            assert np.abs(found[name] - slope[name]).max() < 0.15 * scale


def mlp(p: dict, x: np.ndarray) -> np.ndarray:
    return np.maximum(x @ p["w1"] + p["b1"], 0) @ p["w2"] + p["b2"]


def test_adversarial_pair(rng):
    program = load("gan")
    real = rng.normal(size=(6, 2)).astype(np.float32)
    critic = {name: np.asarray(value) for name, value in program.params["critic"].items()}
    constant = dict(program.params["generator"]) | {"w1": np.zeros((8, 64), np.float32)}
    fake = mlp(constant, np.zeros((6, 8)))
    softplus = lambda z: np.log1p(np.exp(z))  # noqa: E731
    expected = softplus(-mlp(critic, real)).mean() + softplus(mlp(critic, fake)).mean()
    assert program.critic_loss(real, 1, generator=constant) == pytest.approx(expected, rel=1e-5)
    assert program.generator_loss(real, 1, generator=constant) == pytest.approx(
        softplus(-mlp(critic, fake)).mean(), rel=1e-5
    )
    blocked = dg.grad(program.critic_loss, wrt="generator")(real, 1)
    assert not any(np.any(value) for value in blocked.values())
    generator, moved = program.both(real, 1, np.float32(0))
    assert moved["w1"] == pytest.approx(critic["w1"])
    assert generator["w2"] == pytest.approx(program.params["generator"]["w2"])


def dense(p: dict, x: np.ndarray) -> np.ndarray:
    return x @ p["w"] + p["b"]


def test_synthetic_gradients(rng):
    program = load("synthetic_gradients")
    n, d, h, k, rate = 5, 3, 4, 2, 0.1

    def layer(i: int, o: int) -> dict[str, np.ndarray]:
        return {"w": rng.normal(size=(i, o)).astype(np.float32), "b": rng.normal(size=o).astype(np.float32)}

    m = {"lower": layer(d, h), "upper": layer(h, k), "guess": layer(h, h)}
    x, label = rng.normal(size=(n, d)).astype(np.float32), np.array([0, 1, 1, 0, 1], np.int32)
    hidden = np.maximum(dense(m["lower"], x), 0)
    predicted = dense(m["guess"], hidden)
    z = dense(m["upper"], hidden)
    share = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    back = (share - np.eye(k)[label]) / n
    true = back @ m["upper"]["w"].T
    gap = 2 * (predicted - true) / predicted.size
    live = predicted * (hidden > 0)
    moved, cost = program.step(m, x, label, np.float32(rate))
    assert cost == pytest.approx(-np.log(share[np.arange(n), label]).mean(), rel=1e-5)
    slopes = {"lower": (x, live), "upper": (hidden, back), "guess": (hidden, gap)}
    for name, (inputs, outputs) in slopes.items():
        assert moved[name]["w"] == pytest.approx(m[name]["w"] - rate * inputs.T @ outputs, rel=1e-4, abs=1e-5)
        assert moved[name]["b"] == pytest.approx(m[name]["b"] - rate * outputs.sum(axis=0), rel=1e-4, abs=1e-5)


def test_ensemble(rng):
    program = load("ensemble")
    e, n, d, h, k = 2, 6, 3, 4, 3

    def f32(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    nets = {"w1": f32(e, d, h), "b1": f32(e, h), "w2": f32(e, h, k), "slope": np.full(e, 0.1, np.float32)}
    x, label = f32(n, d), rng.integers(0, k, size=n).astype(np.int32)
    masks = np.array([[True] * n, [True, False] * 3])

    def shares(i: int) -> np.ndarray:
        a = x @ nets["w1"][i] + nets["b1"][i]
        z = np.where(a > 0, a, nets["slope"][i] * a) @ nets["w2"][i]
        return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

    for i in range(e):
        one = {name: value[i] for name, value in nets.items()}
        chosen = masks[i]
        expected = -np.log(shares(i)[np.arange(n), label])[chosen].sum() / chosen.sum()
        assert program.loss(one, x, label, masks[i]) == pytest.approx(expected, rel=1e-5)
    votes = np.mean([shares(i) for i in range(e)], axis=0).argmax(axis=1)
    assert program.vote(nets, x).tolist() == votes.tolist()
    rates = np.array([0.5, 0.0], np.float32)
    trained = program.train(nets, x, label, masks, rates, 20)
    assert trained["w1"][1] == pytest.approx(nets["w1"][1])
    before, after = (
        program.loss({name: group[name][0] for name in nets}, x, label, masks[0]) for group in (nets, trained)
    )
    assert after < before
    table = program.confusion(label, votes.astype(np.int32), k)
    expected_table = np.zeros((k, k), int)
    np.add.at(expected_table, (label, votes), 1)
    assert table.tolist() == expected_table.tolist()
