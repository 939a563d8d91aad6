"""Changes of a program that change nothing of what it means: value, gradient and curvature stay the same."""

import numpy as np
import pytest

import dgraph as dg

X = np.array([0.7, -0.4, 1.3, 0.2])
V = np.array([0.3, 1.1, -0.6, 0.8])

PLAIN = """
def inner(a: f64, b: f64) -> f64 = tanh(a * b) + a

@entry
def f[n](x: f64[n], c: f64) -> f64:
    s = sum(x[i] ** 2 for i)
    m = max(x[i] for i)
    y = inner(s, c)
    z = 0.0
    for i in range(n):
        w = exp(-x[i] * c)
        u = sin(x[i])
        z += w * u if x[i] > 0 else u ** 2
    return y * z + m
"""

CHANGES = {
    "independent lines change places": [
        (
            "    s = sum(x[i] ** 2 for i)\n    m = max(x[i] for i)\n",
            "    m = max(x[i] for i)\n    s = sum(x[i] ** 2 for i)\n",
        ),
        ("        w = exp(-x[i] * c)\n        u = sin(x[i])\n", "        u = sin(x[i])\n        w = exp(-x[i] * c)\n"),
        ("    y = inner(s, c)\n    z = 0.0\n", "    z = 0.0\n    y = inner(s, c)\n"),
    ],
    "names change": [("inner", "squash"), ("z", "total"), ("[n]", "[many]"), ("range(n)", "range(many)")],
    "a call is written out": [("inner(s, c)", "tanh(s * c) + s")],
    "a call takes a lambda": [("inner(s, c)", "(lambda a, b: tanh(a * b) + a)(s, c)")],
    "a constant is folded by hand": [("z = 0.0", "z = 1.0 - 0.25 * 4.0")],
    "an input becomes a constant": [("* c)", "* 0.9)"), ("inner(s, c)", "inner(s, 0.9)")],
    "a formula becomes a loop": [
        ("    s = sum(x[i] ** 2 for i)\n", "    s = 0.0\n    for k in range(n):\n        s += x[k] * x[k]\n")
    ],
    "a loop becomes a formula": [
        (
            "    for i in range(n):\n        w = exp(-x[i] * c)\n        u = sin(x[i])\n"
            "        z += w * u if x[i] > 0 else u ** 2\n",
            "    z += sum(exp(-x[i] * c) * sin(x[i]) if x[i] > 0 else sin(x[i]) ** 2 for i)\n",
        )
    ],
    "a choice becomes a branch": [
        (
            "        z += w * u if x[i] > 0 else u ** 2\n",
            "        if x[i] > 0:\n            z += w * u\n        else:\n            z += u ** 2\n",
        )
    ],
    "a choice turns around": [("w * u if x[i] > 0 else u ** 2", "u ** 2 if x[i] <= 0 else w * u")],
    "nothing is added": [("return y * z + m", "return (y * z + m) * 1.0 + 0.0")],
    "dead lines come and go": [("    y = inner", "    unused = log(s) / (s - s)\n    y = inner")],
}


def figures(text: str) -> list[np.ndarray]:
    """Value, gradients in x and c, and the curvature along V, of a program."""
    f = dg.parse(text).f
    value, (slope_x, slope_c) = dg.value_and_grad(f, wrt=("x", "c"))(X, 0.9)
    return [value, slope_x, slope_c, dg.hvp(f, wrt="x")(X, 0.9, V)]


@pytest.mark.parametrize("change", CHANGES)
def test_value_and_derivatives_stay_the_same(change: str) -> None:
    text = PLAIN
    for before, after in CHANGES[change]:
        assert before in text
        text = text.replace(before, after)
    plain, changed = figures(PLAIN), figures(text)
    if change == "an input becomes a constant":
        assert changed[2] == 0
        del plain[2], changed[2]
    for a, b in zip(plain, changed, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-13, atol=1e-14)


def test_the_figures_are_those_of_the_formula() -> None:
    def f(x: np.ndarray, c: float) -> float:
        s = np.sum(x**2)
        terms = np.where(x > 0, np.exp(-x * c) * np.sin(x), np.sin(x) ** 2)
        return (np.tanh(s * c) + s) * np.sum(terms) + np.max(x)

    value, slope_x, slope_c, curvature = figures(PLAIN)
    step = 1e-5
    ends = [(f(X + step * e, 0.9) - f(X - step * e, 0.9)) / (2 * step) for e in np.eye(4)]
    assert value == pytest.approx(f(X, 0.9), rel=1e-14)
    np.testing.assert_allclose(slope_x, ends, rtol=1e-8)
    assert slope_c == pytest.approx((f(X, 0.9 + step) - f(X, 0.9 - step)) / (2 * step), rel=1e-8)
    gradient = dg.grad(dg.parse(PLAIN).f, wrt="x")
    np.testing.assert_allclose(
        curvature, (gradient(X + step * V, 0.9) - gradient(X - step * V, 0.9)) / (2 * step), rtol=1e-7
    )
