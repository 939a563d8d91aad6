"""The optimisers of the standard library, step by step against their textbook formulas in NumPy."""

from collections.abc import Callable

import numpy as np
import pytest

import dgraph as dg

Pair = tuple[np.ndarray, float]

PROGRAM = """
record Inner:
    b: F = 0.0

record Net[n]:
    w: F[n] = ones()
    inner: Inner

def slope_of[n](p: Net[n]) -> Net[n]:
    # Any field of slopes does: this one is neither symmetric nor constant.
    return Net(w=sin(3 * p.w) + p.inner.b, inner=Inner(b=p.inner.b ** 2 - sum(p.w)))

@entry
def follow[n](p: Net[n], steps: size) -> (F[steps, n], F[steps]):
    s = NAME_start(p)
    for t in range(steps):
        p, s = NAME(p, slope_of(p), sOPTIONS)
        w[t] = p.w
        b[t] = p.inner.b
    return w, b
"""

Field = Callable[[np.ndarray], np.ndarray]


def field(p: np.ndarray) -> np.ndarray:
    """`slope_of`, with w and b in one vector."""
    w, b = p[:-1], p[-1]
    return np.append(np.sin(3 * w) + b, b**2 - w.sum())


def sgd(p, g, s, _, rate=0.01, momentum=0.0, decay=0.0):
    # PyTorch's form: the velocity in units of slopes.
    s["v"] = momentum * s.get("v", 0) + g + decay * p
    return p - rate * s["v"]


def momentum(p, g, s, _, rate=0.01, momentum=0.9, decay=0.0):
    return sgd(p, g, s, 0, rate, momentum, decay)


def nesterov(p, g, s, _, rate=0.01, momentum=0.9, decay=0.0):
    # PyTorch's form.
    g = g + decay * p
    s["v"] = momentum * s.get("v", 0) + g
    return p - rate * (g + momentum * s["v"])


def rmsprop(p, g, s, _, rate=0.001, keep=0.9, decay=0.0, eps=1e-8):
    g = g + decay * p
    s["r"] = keep * s.get("r", 0) + (1 - keep) * g * g
    return p - rate * g / (np.sqrt(s["r"]) + eps)


def adam(p, g, s, t, rate=0.001, b1=0.9, b2=0.999, eps=1e-8, decay=0.0):
    g = g + decay * p
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    # Kingma and Ba's efficient form: the corrections go into the rate.
    corrected = rate * np.sqrt(1 - b2**t) / (1 - b1**t)
    return p - corrected * s["m"] / (np.sqrt(s["v"]) + eps * np.sqrt(1 - b2**t))


def adamw(p, g, s, t, rate=0.001, b1=0.9, b2=0.999, eps=1e-8, decay=0.01):
    return adam(p, g, s, t, rate, b1, b2, eps) - rate * decay * p


OPTIMISERS = {f.__name__: f for f in (sgd, momentum, nesterov, rmsprop, adam, adamw)}
START = np.array([0.3, -1.2, 0.7, 0.1])


def program(name: str, options: str, dtype: str) -> dg.Program:
    return dg.parse(PROGRAM.replace("F", dtype).replace("NAME", name).replace("OPTIONS", options))


def followed(name: str, options: dict[str, float], dtype: str, steps: int) -> np.ndarray:
    said = "".join(f", {key}={value}" for key, value in options.items())
    kind = {"f32": np.float32, "f64": np.float64}[dtype]
    start = START.astype(kind)
    w, b = program(name, said, dtype).follow({"w": start[:-1], "inner": {"b": start[-1]}}, steps)
    return np.column_stack([w, b])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sgd", {}),
        ("sgd", {"rate": 0.05, "momentum": 0.8, "decay": 0.3}),
        ("momentum", {"rate": 0.02}),
        ("momentum", {"momentum": 0.5, "decay": 0.1}),
        ("nesterov", {"rate": 0.02}),
        ("nesterov", {"momentum": 0.5, "decay": 0.1}),
        ("rmsprop", {}),
        ("rmsprop", {"rate": 0.01, "keep": 0.7, "decay": 0.2, "eps": 1e-3}),
        ("adam", {}),
        ("adam", {"rate": 0.02, "b1": 0.5, "b2": 0.9, "eps": 1e-2, "decay": 0.3}),
        ("adamw", {}),
        ("adamw", {"rate": 0.05, "b1": 0.8, "b2": 0.99, "decay": 0.5}),
    ],
)
def test_steps_equal_the_textbook(name: str, options: dict[str, float]):
    p, state, expected = START.copy(), {}, []
    for t in range(1, 13):
        p = OPTIMISERS[name](p, field(p), state, t, **options)
        expected.append(p)
    found = followed(name, options, "f64", 12)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert np.abs(found[-1] - START).max() > 1e-3
    np.testing.assert_allclose(followed(name, options, "f32", 12), expected, rtol=2e-4, atol=2e-5)


NESTEROV = """
record Net[n]:
    w: f64[n] = ones()

def slope_of[n](p: Net[n]) -> Net[n] = Net(w=sin(3 * p.w) + sum(p.w))

@entry
def follow[n](p: Net[n], rates: f64[STEPS], STEPS: size) -> (f64[STEPS, n], f64[STEPS, n]):
    s = nesterov_start(p)
    for t in range(STEPS):
        p, s = nesterov(p, slope_of(p), s, rate=rates[t], momentum=0.8)
        w[t] = p.w
        v[t] = s.velocity.w
    return w, v
"""


def test_nesterov_is_the_lectures_formula():
    """v = a v - e grad(q + a v), q = q + v: the points q behind the parameters are those of the formula, also when
    the rate changes from step to step."""
    rates = 0.05 / np.sqrt(np.arange(1, 16))
    start = np.array([0.4, -0.9, 1.3])
    w, v = dg.parse(NESTEROV.replace("rates: f64[STEPS], STEPS: size", "STEPS: size, rates: f64[STEPS]")).follow(
        {"w": start}, 15, rates
    )
    q, speed = start.copy(), np.zeros(3)
    for t, rate in enumerate(rates):
        ahead = q + 0.8 * speed
        speed = 0.8 * speed - rate * (np.sin(3 * ahead) + ahead.sum())
        q = q + speed
        np.testing.assert_allclose(w[t] - 0.8 * v[t], q, rtol=1e-12)
        np.testing.assert_allclose(v[t], speed, rtol=1e-12)


def test_clip_norm_bounds_the_norm_and_keeps_the_direction():
    text = """
record Net:
    w: f64[2] = ones()
    b: f64 = 0.0

@entry
def f(p: Net, limit: f64) -> Net = clip_norm(p, limit)
"""
    f = dg.parse(text).f
    long = f({"w": np.array([3.0, 0.0]), "b": 4.0}, 1.0)
    np.testing.assert_allclose([*long.w, long.b], [0.6, 0.0, 0.8], rtol=1e-15)
    short = f({"w": np.array([0.3, 0.0]), "b": 0.4}, 1.0)
    assert [*short.w, short.b] == [0.3, 0.0, 0.4]
    still = f({"w": np.zeros(2), "b": 0.0}, 1.0)
    assert [*still.w, still.b] == [0.0, 0.0, 0.0]
