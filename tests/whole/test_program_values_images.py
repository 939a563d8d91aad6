"""What the sketched programs with convolutions, normalisation and dropout compute, against NumPy."""

from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import dgraph as dg

PROGRAMS = Path(__file__).parents[1] / "programs"


def load(name: str) -> dg.Program:
    return dg.load(PROGRAMS / f"{name}.dg")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(13)


def convolved(x: np.ndarray, w: np.ndarray, pad: int = 0) -> np.ndarray:
    """The correlation of an image [h, w, c] with filters [kh, kw, c, f], the borders filled with zeros."""
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    windows = sliding_window_view(x, w.shape[:2], axis=(0, 1))
    return np.einsum("ijcab,abcf->ijf", windows, w)


def halved(x: np.ndarray) -> np.ndarray:
    h, w, c = x.shape
    return x[: h // 2 * 2, : w // 2 * 2].reshape(h // 2, 2, w // 2, 2, c).max(axis=(1, 3))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def softmax_loss(z: np.ndarray, label: np.ndarray) -> float:
    top = z.max(axis=1)
    return float((top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(len(z)), label]).mean())


def lenet(m, image: np.ndarray) -> np.ndarray:
    x = halved(relu(convolved(image, m["conv1"]["w"], 2) + m["conv1"]["b"]))
    x = halved(relu(convolved(x, m["conv2"]["w"]) + m["conv2"]["b"]))
    h = relu(x.reshape(-1) @ m["dense1"]["w"] + m["dense1"]["b"])
    h = relu(h @ m["dense2"]["w"] + m["dense2"]["b"])
    return h @ m["dense3"]["w"] + m["dense3"]["b"]


def test_lenet(rng):
    program = load("lenet")
    net = program.params["net"]
    image = rng.normal(size=(28, 28, 1)).astype(np.float32)
    assert program.logits(net, image) == pytest.approx(lenet(net, image), rel=1e-3, abs=1e-4)
    images = rng.integers(0, 256, size=(3, 28, 28, 1)).astype(np.uint8)
    label = np.array([3, 0, 9], np.int32)
    z = np.array([lenet(net, one.astype(np.float32) / 255) for one in images])
    assert program.loss(images, label) == pytest.approx(softmax_loss(z, label), rel=1e-4)


def test_strided_convolution(rng):
    program = dg.parse(
        (PROGRAMS / "lenet.dg").read_text()
        + """
@entry
def strided[h, w](p: Conv[3, 3, 2, 4], x: f32[h, w, 2]) -> f32[(h - 1) // 2 + 1, (w - 1) // 2 + 1, 4]:
    return conv(p, x, stride=2, pad=1)
"""
    )
    p = {"w": rng.normal(size=(3, 3, 2, 4)).astype(np.float32), "b": rng.normal(size=4).astype(np.float32)}
    x = rng.normal(size=(7, 6, 2)).astype(np.float32)
    expected = convolved(x, p["w"], 1)[::2, ::2] + p["b"]
    assert program.strided(p, x) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_inception_block(rng):
    program = load("inception")
    c = 3

    def filters(k: int, i: int, o: int) -> dict[str, np.ndarray]:
        return {"w": rng.normal(size=(k, k, i, o)).astype(np.float32)}

    p = {
        "one": filters(1, c, 16),
        "three": (filters(1, c, 8), filters(3, 8, 24)),
        "five": (filters(1, c, 4), filters(5, 4, 8)),
        "pool": filters(1, c, 8),
    }
    x = rng.normal(size=(6, 5, c)).astype(np.float32)

    def same(layer: dict[str, np.ndarray], image: np.ndarray) -> np.ndarray:
        return relu(convolved(image, layer["w"], len(layer["w"]) // 2))

    border = np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    pooled = sliding_window_view(border, (3, 3), axis=(0, 1)).max(axis=(-2, -1))
    expected = np.concatenate(
        [
            same(p["one"], x),
            same(p["three"][1], same(p["three"][0], x)),
            same(p["five"][1], same(p["five"][0], x)),
            same(p["pool"], pooled),
        ],
        axis=-1,
    )
    assert program.block(p, x) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_routing_is_attention(rng):
    query, keys = rng.normal(size=4).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    values = rng.normal(size=(5, 4)).astype(np.float32)
    weight = np.exp(keys @ query / 2)
    assert load("inception").route(query, keys, values) == pytest.approx(weight / weight.sum() @ values, rel=1e-4)


def test_widening_keeps_the_function(rng):
    program = load("inception")
    w1, w2 = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(4, 2)).astype(np.float32)
    wide1, wide2 = program.widened(w1, w2, np.array([2, 0, 2], np.int32))
    assert wide1.shape == (3, 7) and np.array_equal(wide1[:, 4], w1[:, 2])
    x = rng.normal(size=(6, 3)).astype(np.float32)
    assert relu(x @ wide1) @ wide2 == pytest.approx(relu(x @ w1) @ w2, rel=1e-4, abs=1e-5)


@pytest.fixture
def layers(rng):
    shapes = ((3, 3, 3, 16), (3, 3, 16, 32), (3, 3, 32, 32))
    return tuple({"w": (0.3 * rng.normal(size=shape)).astype(np.float32)} for shape in shapes)


def activity(layers, x: np.ndarray, channel: int) -> float:
    for p in layers:
        x = relu(convolved(x, p["w"].astype(float), 1))
    return float(x[:, :, channel].mean())


def test_adversarial_goes_down_the_gradient(rng, layers):
    program = load("deepdream")
    x = rng.uniform(size=(4, 5, 3)).astype(np.float32)
    assert program.activity(layers, x, 7) == pytest.approx(activity(layers, x, 7), rel=1e-4)
    moved = program.adversarial(layers, x, 7, np.float32(1e-3))
    assert np.abs(moved - x) == pytest.approx(np.full(x.shape, 1e-3), rel=1e-2)
    slope = dg.grad(program.activity, wrt="x")(layers, x, 7)
    away = rng.normal(size=x.shape)
    step = 1e-5
    expected = (activity(layers, x + step * away, 7) - activity(layers, x - step * away, 7)) / (2 * step)
    assert (slope * away).sum() == pytest.approx(expected, rel=1e-3)
    assert np.array_equal(moved < x, slope > 0)


def test_dream_grows_and_stays_a_picture(rng, layers):
    program = load("deepdream")
    x = rng.uniform(size=(2, 3, 3)).astype(np.float32)
    assert np.array_equal(program.double(x), x.repeat(2, axis=0).repeat(2, axis=1))
    dream = program.dream(layers, x, 7)
    assert dream.shape == (8, 12, 3) and dream.min() >= 0 and dream.max() <= 1
    plain = x.repeat(4, axis=0).repeat(4, axis=1)
    assert activity(layers, dream, 7) > activity(layers, plain, 7)


def test_batch_normalisation(rng):
    program = load("batchnorm")
    net = program.params["net"]
    x = rng.normal(size=(6, 784)).astype(np.float32)
    label = rng.integers(0, 10, size=6).astype(np.int32)
    running = {"mean": rng.normal(size=100).astype(np.float32), "var": rng.uniform(1, 2, size=100).astype(np.float32)}
    h = x @ net["w1"]
    centre, spread = h.mean(axis=0), h.var(axis=0)
    value, updated = program.loss(x, label, running=running)
    expected = relu((h - centre) / np.sqrt(spread + 1e-5)) @ net["w2"]
    assert value == pytest.approx(softmax_loss(expected, label), rel=1e-4)
    assert updated["mean"] == pytest.approx(0.9 * running["mean"] + 0.1 * centre, rel=1e-3, abs=1e-5)
    assert updated["var"] == pytest.approx(0.9 * running["var"] + 0.1 * spread, rel=1e-3)
    seen = relu((h - running["mean"]) / np.sqrt(running["var"] + 1e-5)) @ net["w2"]
    assert program.predict(x, running=running).tolist() == seen.argmax(axis=1).tolist()


def test_dropout_leaves_out_a_share_and_scales_the_rest():
    program = load("dropout")
    x = np.ones((200, 300), np.float32)
    keep = np.float32(0.8)
    y = program.dropout(3, x, keep, True)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / keep}
    assert (y > 0).mean() == pytest.approx(0.8, abs=0.01)
    assert np.array_equal(program.dropout(3, x, keep, False), x)
    filters = program.dropout_filters(4, np.ones((50, 4, 3, 20), np.float32), keep)
    assert (filters == filters[:, :1, :1]).all()
    assert (filters > 0).mean() == pytest.approx(0.8, abs=0.05)


def test_loss_under_dropout_is_that_of_the_thinned_net(rng):
    program = load("dropout")
    net = program.params["net"]
    # Dead inputs give a loss of log 10 whatever the masks are; a live input does not.
    label = np.array([1, 2], np.int32)
    assert program.loss(np.zeros((2, 784), np.float32), label, 5) == pytest.approx(np.log(10), rel=1e-6)
    x = rng.normal(size=(2, 784)).astype(np.float32)
    keys = [program.loss(x, label, key) for key in (1, 1, 2)]
    assert keys[0] == keys[1] != keys[2]
    assert np.isfinite(dg.grad(program.loss, wrt="net")(x, label, 1)["w1"]).all() and net["w2"].shape == (500, 10)
