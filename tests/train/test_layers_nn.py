"""The layers of the standard library against NumPy, and their derivatives against differences."""

from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.program.check import check_program

STD = Path(dg.__file__).parent / "std" / "nn"
RANDOM = np.random.default_rng(4)


def draw(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape)


def run(text: str, imports: str, **arguments: object):
    """`f` of a text that imports layers, in f64."""
    program = dg.parse(f"{imports}\n\n{text}")
    return dg.compile(program.f, precision="f64")(**arguments)


def checked(text: str, imports: str) -> None:
    """Its derivatives agree with differences."""
    said: list[str] = []
    found = check_program(dg.parse(f"{imports}\n\n{text}"), "f", {}, said.append)
    assert [one.render() for one in found if one.severity == "error"] == []
    assert any("agree" in line for line in said)


def numpy_conv(x: np.ndarray, w: np.ndarray, b: np.ndarray, stride: int, pad: int) -> np.ndarray:
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    kh, kw = w.shape[:2]
    rows = (x.shape[1] - kh) // stride + 1
    columns = (x.shape[2] - kw) // stride + 1
    out = np.zeros((len(x), rows, columns, w.shape[3]))
    for i in range(rows):
        for j in range(columns):
            patch = x[:, i * stride : i * stride + kh, j * stride : j * stride + kw]
            out[:, i, j] = np.tensordot(patch, w, 3) + b
    return out


def test_dense_takes_any_axes_in_front():
    imports = "from nn.layers import Dense, dense"
    text = """
@entry
def f[n](p: Dense[3, 2], one: f32[3], many: f32[n, 3], more: f32[2, n, 3]) -> (f32[2], f32[n, 2], f32[2, n, 2]):
    return dense(p, one), dense(p, many), dense(p, more)
"""
    p = {"w": draw(3, 2), "b": draw(2)}
    given = {"one": draw(3), "many": draw(5, 3), "more": draw(2, 5, 3)}
    for found, x in zip(run(text, imports, p=p, **given), given.values(), strict=True):
        np.testing.assert_allclose(found, x @ p["w"] + p["b"], rtol=1e-13)
    checked(text, imports)


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (1, 1), (2, 0), (2, 2), (3, 1)])
def test_convolution(stride: int, pad: int):
    imports = "from nn.layers import Conv, conv2d"
    out = [(size + 2 * pad - k) // stride + 1 for size, k in ((7, 3), (6, 2))]
    text = f"""
@entry
def f[n](p: Conv[3, 2, 2, 4], x: f32[n, 7, 6, 2]) -> f32[n, {out[0]}, {out[1]}, 4]:
    return conv2d(p, x, stride={stride}, pad={pad})

def one(p: Conv[3, 2, 2, 4], x: f32[7, 6, 2]) -> f32[{out[0]}, {out[1]}, 4] = conv2d(p, x, stride={stride}, pad={pad})
"""
    p = {"w": draw(3, 2, 2, 4), "b": draw(4)}
    x = draw(3, 7, 6, 2)
    expected = numpy_conv(x, p["w"], p["b"], stride, pad)
    np.testing.assert_allclose(run(text, imports, p=p, x=x), expected, rtol=1e-11, atol=1e-12)
    alone = dg.compile(dg.parse(f"{imports}\n{text}").one, precision="f64")(p, x[1])
    np.testing.assert_allclose(alone, expected[1], rtol=1e-11, atol=1e-12)
    checked(text, imports)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolution_is_the_transpose(stride: int):
    """<conv(x), y> = <x, transposed(y)> without biases, filters exchanged in their channels."""
    imports = "from nn.layers import Conv, transposed_conv2d"
    h, w = (7 - 3) // stride + 1, (6 - 2) // stride + 1
    back = stride * (h - 1) + 3, stride * (w - 1) + 2
    text = f"""
@entry
def f[n](p: Conv[3, 2, 4, 2], x: f32[n, {h}, {w}, 4]) -> f32[n, {back[0]}, {back[1]}, 2]:
    return transposed_conv2d(p, x, stride={stride})
"""
    weights, y = draw(3, 2, 2, 4), draw(2, h, w, 4)
    p = {"w": np.swapaxes(weights, 2, 3), "b": np.zeros(2)}
    found = run(text, imports, p=p, x=y)
    x = draw(2, *back, 2)
    left = (numpy_conv(x, weights, np.zeros(4), stride, 0) * y).sum()
    assert (x * found).sum() == pytest.approx(left, rel=1e-11)
    shifted = run(text, imports, p=p | {"b": np.array([1.0, -2.0])}, x=y)
    np.testing.assert_allclose(shifted - found, np.broadcast_to([1.0, -2.0], found.shape), atol=1e-12)
    checked(text, imports)


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 2), (3, 1)])
@pytest.mark.parametrize("kind", ["max", "mean"])
def test_pools(kind: str, window: int, stride: int):
    imports = f"from nn.layers import {kind}_pool"
    out = [(size - window) // stride + 1 for size in (7, 6)]
    text = f"""
@entry
def f[n](x: f32[n, 7, 6, 2]) -> f32[n, {out[0]}, {out[1]}, 2]:
    return {kind}_pool(x, window={window}, stride={stride})
"""
    x = draw(3, 7, 6, 2)
    expected = np.zeros((3, *out, 2))
    for i in range(out[0]):
        for j in range(out[1]):
            part = x[:, i * stride : i * stride + window, j * stride : j * stride + window]
            expected[:, i, j] = getattr(np, kind)(part, axis=(1, 2))
    np.testing.assert_allclose(run(text, imports, x=x), expected, rtol=1e-13)
    checked(text, imports)


def test_pools_halve_by_default():
    text = """
def f[h, w](x: f64[h, w, 1]) -> (f64[h // 2, w // 2, 1], f64[h // 2, w // 2, 1]) = max_pool(x), mean_pool(x)
"""
    program = dg.parse(f"from nn.layers import max_pool, mean_pool\n{text}")
    x = np.arange(20.0).reshape(4, 5, 1)
    largest, middle = program.f(x)
    assert largest[:, :, 0].tolist() == [[6, 8], [16, 18]]
    assert middle[:, :, 0].tolist() == [[3, 5], [13, 15]]


def test_flatten():
    program = dg.parse("from nn.layers import flatten\n\ndef f[n](x: u8[n, 2, 3]) -> u8[n, 6] = flatten(x)\n")
    x = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert program.f(x).tolist() == x.reshape(2, 6).tolist()


def test_embedding():
    imports = "from nn.layers import Embedding, embed"
    text = """
@entry
def f[n](p: Embedding[5, 3], symbols: i32[n, 2]) -> f32[n, 2, 3] = embed(p, symbols)
"""
    table, symbols = draw(5, 3), np.array([[0, 4], [4, 1], [2, 2]], np.int32)
    np.testing.assert_array_equal(run(text, imports, p={"table": table}, symbols=symbols), table[symbols])
    program = dg.parse(f"{imports}\n{text}")
    ct = draw(3, 2, 3)
    slope = dg.compile(dg.vjp(program.f, wrt="p"), precision="f64")({"table": table}, symbols, ct)
    expected = np.zeros((5, 3))
    np.add.at(expected, symbols, ct)
    np.testing.assert_allclose(slope.table, expected, rtol=1e-13)


def test_layer_norm():
    imports = "from nn.layers import Norm, layer_norm"
    text = """
@entry
def f[n](p: Norm[6], x: f32[n, 2, 6]) -> f32[n, 2, 6] = layer_norm(p, x)
"""
    p, x = {"gain": draw(6), "shift": draw(6)}, draw(4, 2, 6)
    centred = x - x.mean(-1, keepdims=True)
    expected = p["gain"] * centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) + p["shift"]
    np.testing.assert_allclose(run(text, imports, p=p, x=x), expected, rtol=1e-12)
    checked(text, imports)


def test_batch_norm_in_training_and_after():
    imports = "from nn.layers import Norm, Running, batch_norm"
    text = """
def f[n](p: Norm[3], seen: Running[3], x: f32[n, 2, 3], training: bool) -> (f32[n, 2, 3], Running[3]):
    return batch_norm(p, seen, x, training)

@entry
def g[n](p: Norm[3], seen: Running[3], x: f32[n, 3]) -> f32[n, 3]:
    y, _ = batch_norm(p, seen, x, training=True)
    return y
"""
    p, x = {"gain": draw(3), "shift": draw(3)}, draw(5, 2, 3)
    seen = {"mean": draw(3), "var": np.exp(draw(3))}
    mean, var = x.mean((0, 1)), x.var((0, 1))
    y, now = run(text, imports, p=p, seen=seen, x=x, training=True)
    np.testing.assert_allclose(y, p["gain"] * (x - mean) / np.sqrt(var + 1e-5) + p["shift"], rtol=1e-12)
    np.testing.assert_allclose(now.mean, 0.9 * seen["mean"] + 0.1 * mean, rtol=1e-12)
    np.testing.assert_allclose(now.var, 0.9 * seen["var"] + 0.1 * var, rtol=1e-12)
    y, now = run(text, imports, p=p, seen=seen, x=x, training=False)
    expected = p["gain"] * (x - seen["mean"]) / np.sqrt(seen["var"] + 1e-5) + p["shift"]
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    np.testing.assert_array_equal(now.var, seen["var"])
    said: list[str] = []
    found = check_program(dg.parse(f"{imports}\n{text}"), "g", {}, said.append)
    assert not found and any("agree" in line for line in said)


def test_dropout_keeps_the_mean():
    text = """
def f(key: key, x: f64[20000], training: bool) -> f64[20000] = dropout(key, x, keep=0.8, training=training)

def filters(key: key, x: f64[50, 4, 5, 40]) -> f64[50, 4, 5, 40] = dropout_filters(key, x, keep=0.25)
"""
    program = dg.parse(f"from nn.layers import dropout, dropout_filters\n{text}")
    x = np.full(20000, 2.0)
    y = program.f(7, x, True)
    assert set(np.unique(y)) == {0.0, 2.5}
    assert y.mean() == pytest.approx(2.0, abs=0.03)
    assert not np.array_equal(y, program.f(8, x, True))
    np.testing.assert_array_equal(program.f(7, x, False), x)
    z = program.filters(7, np.ones((50, 4, 5, 40)))
    assert (z == z[:, :1, :1]).all() and set(np.unique(z)) == {0.0, 4.0}
    assert z.mean() == pytest.approx(1.0, abs=0.15)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def numpy_rnn(p: dict, xs: np.ndarray) -> np.ndarray:
    h, out = np.zeros((xs.shape[1], 4)), []
    for x in xs:
        h = np.tanh(np.concatenate([x, h], 1) @ np.concatenate([p["w"], p["u"]]) + p["b"])
        out.append(h)
    return np.array(out)


def numpy_lstm(p: dict, xs: np.ndarray) -> np.ndarray:
    h, c, out = np.zeros((xs.shape[1], 4)), np.zeros((xs.shape[1], 4)), []
    for x in xs:
        i, f, o, g = np.split(np.concatenate([x, h], 1) @ np.concatenate([p["w"], p["u"]]) + p["b"], 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.array(out)


def numpy_gru(p: dict, xs: np.ndarray) -> np.ndarray:
    h, out = np.zeros((xs.shape[1], 4)), []
    gates, candidate = p["gates"], p["candidate"]
    for x in xs:
        z, r = np.split(sigmoid(x @ gates["w"] + h @ gates["u"] + gates["b"]), 2, 1)
        fresh = np.tanh(x @ candidate["w"] + (r * h) @ candidate["u"] + candidate["b"])
        h = z * h + (1 - z) * fresh
        out.append(h)
    return np.array(out)


def cell_params(kind: str) -> dict:
    if kind == "gru":
        return {name: {"w": draw(3, k), "u": draw(4, k), "b": draw(k)} for name, k in (("gates", 8), ("candidate", 4))}
    k = 16 if kind == "lstm" else 4
    return {"w": draw(3, k), "u": draw(4, k), "b": draw(k)}


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_recurrent_layers_and_cells(kind: str):
    name = kind.capitalize()
    imports = f"from nn.recurrent import {name}, {kind}, {kind}_cell"
    memory = ", memory: f32[n, 4] = zeros()" if kind == "lstm" else ""
    given, result = (", memory", "(f32[n, 4], f32[n, 4])") if kind == "lstm" else ("", "f32[n, 4]")
    text = f"""
@entry
def f[n](p: {name}[3, 4], xs: f32[5, n, 3]) -> f32[5, n, 4] = {kind}(p, xs)

def one(p: {name}[3, 4], xs: f32[5, 3]) -> f32[5, 4] = {kind}(p, xs)

def cell[n](p: {name}[3, 4], x: f32[n, 3], h: f32[n, 4]{memory}) -> {result} = {kind}_cell(p, x, h{given})
"""
    p, xs = cell_params(kind), draw(5, 2, 3)
    expected = {"rnn": numpy_rnn, "lstm": numpy_lstm, "gru": numpy_gru}[kind](p, xs)
    np.testing.assert_allclose(run(text, imports, p=p, xs=xs), expected, rtol=1e-12, atol=1e-13)
    program = dg.parse(f"{imports}\n{text}")
    alone = dg.compile(program.one, precision="f64")(p, xs[:, 1])
    np.testing.assert_allclose(alone, expected[:, 1], rtol=1e-12, atol=1e-13)
    cell = dg.compile(program.cell, precision="f64")
    state = [np.zeros((2, 4))] * (2 if kind == "lstm" else 1)
    for x, row in zip(xs, expected, strict=True):
        found = cell(p, x, *state)
        state = list(found) if kind == "lstm" else [found]
        np.testing.assert_allclose(state[0], row, rtol=1e-12, atol=1e-13)
    checked(text, imports)


def test_an_lstm_starts_by_remembering():
    program = dg.parse("from nn.recurrent import Lstm\n\nparam p: Lstm[2, 3]\n\ndef f() -> f32[12] = p.b\n")
    assert program.f().tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_by_time_brings_time_to_the_front():
    text = """
def f[n, t](x: i32[n, t, 2]) -> i32[t, n, 2] = by_time(x)

def g[n, t](x: u8[n, t]) -> u8[t, n] = by_time(x)
"""
    program = dg.parse(f"from nn.recurrent import by_time\n\n{text}")
    x = np.arange(30, dtype=np.int32).reshape(3, 5, 2)
    np.testing.assert_array_equal(program.f(x), x.swapaxes(0, 1))
    flat = x[:, :, 0].astype(np.uint8)
    np.testing.assert_array_equal(program.g(flat), flat.T)


def test_activations():
    text = """
@entry
def f(x: f64[40]) -> (f64[40], f64[40], f64[40], f64[40], f64[40]):
    return leaky_relu(x, slope=0.2), elu(x), silu(x), gelu(x), gate(x, 2 * x)
"""
    imports = "from nn.activations import leaky_relu, elu, silu, gelu, gate"
    from math import erf

    x = 3 * draw(40)
    leaky, elu, silu, gelu, gate = dg.parse(f"{imports}\n{text}").f(x)
    np.testing.assert_allclose(leaky, np.where(x > 0, x, 0.2 * x), rtol=1e-14)
    np.testing.assert_allclose(elu, np.where(x > 0, x, np.exp(x) - 1), rtol=1e-12)
    np.testing.assert_allclose(silu, x * sigmoid(x), rtol=1e-13)
    np.testing.assert_allclose(gelu, [v * (0.5 + 0.5 * erf(v / 2**0.5)) for v in x], rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(gate, x * sigmoid(2 * x), rtol=1e-13)
    checked(text, imports)


def test_losses():
    text = """
@entry
def f[n, k](z: f64[n, k], label: i32[n], a: f64[n], b: f64[n]) -> (f64, f64, f64, f64, f64, f64):
    return (cross_entropy(z, label), binary_cross_entropy(a, b), squared_error(a, b), absolute_error(a, b),
        hinge(a, b), huber(a, b, width=0.5))

def g[n, k](p: f64[n, k], q: f64[n, k]) -> f64 = divergence(log_softmax(p), log_softmax(q))

def h[n, k](z: f32[n, k], label: u8[n]) -> f32 = accuracy(z, label)
"""
    program = dg.parse(f"from nn.losses import huber, divergence, accuracy\n{text}")
    z, label = 3 * draw(7, 4), RANDOM.integers(0, 4, 7).astype(np.int32)
    a, b = draw(7), RANDOM.integers(0, 2, 7).astype(float)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    s, r = sigmoid(a), np.abs(a - b)
    expected = [
        -np.log(p[np.arange(7), label]).mean(),
        -(b * np.log(s) + (1 - b) * np.log(1 - s)).mean(),
        ((a - b) ** 2).mean(),
        r.mean(),
        np.maximum(0, 1 - a * b).mean(),
        np.where(r <= 0.5, r**2 / 2, 0.5 * (r - 0.25)).mean(),
    ]
    np.testing.assert_allclose(program.f(z, label, a, b), expected, rtol=1e-12)
    other = draw(7, 4)
    q = np.exp(other) / np.exp(other).sum(1, keepdims=True)
    assert program.g(z, other) == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-12)
    shares = (z.argmax(1) == label).mean()
    assert program.h(z.astype(np.float32), label.astype(np.uint8)) == pytest.approx(shares, rel=1e-6)
    extreme = np.array([[1000.0, -1000.0]])
    assert program.f(extreme, np.array([1], np.int32), *np.array([[800.0], [0.0]]))[:2] == (2000.0, 800.0)
