"""What the sketched programs over sequences compute, against NumPy and finite differences."""

from pathlib import Path

import numpy as np
import pytest

import dgraph as dg

PROGRAMS = Path(__file__).parents[1] / "programs"


def load(name: str) -> dg.Program:
    return dg.load(PROGRAMS / f"{name}.dg")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def difference(function, x: np.ndarray, along: np.ndarray, step: float = 1e-6) -> float:
    """The derivative of a function along a direction, by a central difference."""
    return (function(x + step * along) - function(x - step * along)) / (2 * step)


def diagonal_lstm(main: np.ndarray, extra: np.ndarray, state: np.ndarray, sequence: np.ndarray) -> float:
    state, total, b = state.copy(), 0.0, main.shape[1] // 4
    for t in range(len(sequence) - 1):
        x = sequence[t] * extra[0]
        for k in range(len(main) // 2):
            wf, wi, wo, wc = main[2 * k].reshape(4, b)
            bf, bi, bo, bc = main[2 * k + 1].reshape(4, b)
            forget, leave = sigmoid(x * wf + bf), sigmoid(x * wo + bo)
            enter, change = sigmoid(state[2 * k] * wi + bi), np.tanh(state[2 * k] * wc + bc)
            state[2 * k + 1] = state[2 * k + 1] * forget + enter * change
            state[2 * k] = x = leave * np.tanh(state[2 * k + 1])
        y = x * extra[1] + extra[2]
        total += sequence[t + 1] @ (y - np.log(2 + np.exp(y).sum()))
    return -total / (b * (len(sequence) - 1))


def test_diagonal_lstm_and_its_gradient(rng):
    program = load("lstm_gradbench")
    depth, b, c = 2, 3, 5
    main, extra = rng.normal(size=(2 * depth, 4 * b)), rng.normal(size=(3, b))
    state, sequence = rng.normal(size=(2 * depth, b)), rng.normal(size=(c, b))
    assert program.loss(main, extra, state, sequence) == pytest.approx(
        diagonal_lstm(main, extra, state, sequence), rel=1e-12
    )
    by_main, by_extra = program.gradient(main, extra, state, sequence)
    away, aside = rng.normal(size=main.shape), rng.normal(size=extra.shape)
    assert (by_main * away).sum() == pytest.approx(
        difference(lambda m: diagonal_lstm(m, extra, state, sequence), main, away), rel=1e-6
    )
    assert (by_extra * aside).sum() == pytest.approx(
        difference(lambda e: diagonal_lstm(main, e, state, sequence), extra, aside), rel=1e-6
    )


def stacked_score(p: dict, xs: np.ndarray, length: int) -> np.ndarray:
    h = p["gru"]["candidate"].shape[1]
    depth = len(p["lstm"]["w"])
    hidden, cell, top = np.zeros((depth, h)), np.zeros((depth, h)), np.zeros(h)
    for step in range(min(length, len(xs))):
        x = xs[step] @ p["embed"]
        for k in range(depth):
            i, f, o, g = (np.concatenate([x, hidden[k]]) @ p["lstm"]["w"][k] + p["lstm"]["b"][k]).reshape(4, h)
            cell[k] = sigmoid(f + 1) * cell[k] + sigmoid(i) * np.tanh(g)
            x = hidden[k] = sigmoid(o) * np.tanh(cell[k])
        update, reset = sigmoid(np.concatenate([x, top]) @ p["gru"]["gates"]).reshape(2, h)
        fresh = np.tanh(np.concatenate([x, reset * top]) @ p["gru"]["candidate"])
        top = (1 - update) * top + update * fresh
    return top @ p["out"]


def test_stack_of_lstm_and_gru(rng):
    program = load("lstm_gru_stack")
    n, t, depth, d, h = 3, 4, 2, 5, 3

    def f32(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    p = {
        "embed": f32(d, h),
        "lstm": {"w": f32(depth, 2 * h, 4 * h), "b": f32(depth, 4 * h)},
        "gru": {"gates": f32(2 * h, 2 * h), "candidate": f32(2 * h, h)},
        "out": f32(h, 2),
    }
    xs, length, label = f32(n, t, d), np.array([4, 1, 3], np.int32), np.array([0, 1, 1], np.int32)
    z = np.array([stacked_score(p, xs[i], length[i]) for i in range(n)])
    expected = (np.log(np.exp(z).sum(axis=1)) - z[range(n), label]).mean()
    assert program.loss(p, xs, length, label) == pytest.approx(expected, rel=1e-5)
    # Steps past the end of a sequence change nothing, so nothing depends on them.
    slope = dg.grad(program.loss, wrt="xs")(p, xs, length, label)
    assert not slope[1, 1:].any() and not slope[2, 3:].any() and slope[2, 2].any()


def soft_dtw(x: np.ndarray, y: np.ndarray, gamma: float, band: int) -> float:
    table = np.full((len(x) + 1, len(y) + 1), 1e10)
    table[0, 0] = 0.0
    for i in range(len(x)):
        for j in range(len(y)):
            if abs(i - j) <= band:
                last = np.array([table[i, j], table[i, j + 1], table[i + 1, j]])
                low = last.min()
                cost = ((x[i] - y[j]) ** 2).sum()
                table[i + 1, j + 1] = cost + low - gamma * np.log(np.exp(-(last - low) / gamma).sum())
    return table[-1, -1]


@pytest.mark.parametrize("band", [1, 2, 9])
def test_soft_dtw(rng, band: int):
    program = load("softdtw")
    x, y = rng.normal(size=(5, 2)), rng.normal(size=(6, 2))
    assert program.distance(x, y, 0.3, band) == pytest.approx(soft_dtw(x, y, 0.3, band), rel=1e-12)
    away = rng.normal(size=x.shape)
    slope = dg.grad(program.distance)(x, y, 0.3, band)
    assert (slope * away).sum() == pytest.approx(difference(lambda v: soft_dtw(v, y, 0.3, band), x, away), rel=1e-6)


def test_barycentre_goes_downhill(rng):
    program = load("softdtw")
    xs, start = rng.normal(size=(3, 5, 2)), rng.normal(size=(4, 2))

    def total(z: np.ndarray) -> float:
        return float(np.mean([soft_dtw(z, x, 0.1, len(z)) for x in xs]))

    once = program.barycentre(xs, start, 0.01, 1)
    slope = (start - once) / 0.01
    away = rng.normal(size=start.shape)
    assert (slope * away).sum() == pytest.approx(difference(total, start, away), rel=1e-6)
    assert total(program.barycentre(xs, start, 0.02, 25)) < total(start)


def recurrent(p: dict, xs: np.ndarray, hidden: np.ndarray) -> tuple[float, np.ndarray]:
    total = 0.0
    for s in range(len(xs) - 1):
        hidden = np.tanh(p["w"][xs[s]] + hidden @ p["u"])
        z = hidden @ p["out"]
        total += (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), xs[s + 1]]).mean()
    return total / (len(xs) - 1), hidden


def test_truncated_backpropagation(rng):
    program = load("tbptt")
    d, h, n = 4, 3, 2
    p = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in (("w", (d, h)), ("u", (h, h)), ("out", (h, d)))
    }
    xs = rng.integers(0, d, size=(2, 20, n)).astype(np.int32)
    hidden = rng.normal(size=(n, h)).astype(np.float32)
    value, after = program.segment(p, xs[0], hidden)
    expected, expected_after = recurrent({name: w.astype(float) for name, w in p.items()}, xs[0], hidden.astype(float))
    assert value == pytest.approx(expected, rel=1e-5)
    assert after == pytest.approx(expected_after, rel=1e-4, abs=1e-6)
    # Without a step the mean over both segments is that of two plain runs, the hidden state handed on.
    later, _ = recurrent({name: w.astype(float) for name, w in p.items()}, xs[1], expected_after)
    still, mean = program.whole(p, xs, hidden, np.float32(0))
    assert mean == pytest.approx((expected + later) / 2, rel=1e-5)
    assert still["u"] == pytest.approx(p["u"])


def test_characters_at_temperature_zero_are_the_likeliest(rng):
    program = load("char_sampling")
    v, h = 6, 4
    p = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in (("embed", (v, h)), ("w", (h, h)), ("out", (h, v)))
    }
    hidden, symbol, expected = np.zeros(h), 2, []
    for _ in range(8):
        hidden = np.tanh(p["embed"][symbol] + hidden @ p["w"])
        symbol = int((hidden @ p["out"]).argmax())
        expected.append(symbol)
    text = program.sample(p, 5, 2, np.float32(1e-6), 8)
    assert text.tolist() == expected


def test_characters_follow_the_softmax():
    program = load("char_sampling")
    z = np.array([0.0, 1.0, -1.0], np.float32)
    pick = dg.compile(program.pick)
    drawn = np.bincount([int(pick(key, z, np.float32(1.0))) for key in range(3000)], minlength=3) / 3000
    assert drawn == pytest.approx(np.exp(z) / np.exp(z).sum(), abs=0.03)


def test_text_ends_at_the_stop_symbol():
    program = load("char_sampling")
    v, h = 4, 3
    p = {"embed": np.zeros((v, h), np.float32), "w": np.zeros((h, h), np.float32), "out": np.zeros((h, v), np.float32)}
    text, count = program.until_stop(p, 3, 1, 0, 50)
    count = int(count)
    assert (text[count - 1 :] == 0).all() and (text[: count - 1] != 0).all()
    assert program.until_stop(p, 3, 0, 0, 50)[1] == 0
