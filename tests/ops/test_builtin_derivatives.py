"""Derivatives of the functions of the language that work on whole arrays: against differences, forward and reverse, to
the second order, mapped, interpreted and compiled; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import dgraph as dg
from dgraph.ad import expand
from dgraph.frontend import check, lower_function, parse_program
from dgraph.ir.evaluate import evaluate

STEP = 1e-6
X = np.random.default_rng(4).uniform(0.3, 1.9, (3, 4)) * np.random.default_rng(5).choice([-1, 1], (3, 4))

EXPRESSIONS = [
    "pad(x, 1)",
    "pad(x, ((1, 0), (0, 2)), value=x[0, 1] ** 2)",
    "pad(x, 1, axis=1, value=2.0)",
    "flip(x)",
    "flip(x, axis=1)",
    "tile(x, (2, 1, 2))",
    "squeeze(x[1:2], axis=0)",
    "expand(x, (0, 2))",
    "reshape(x, -1)",
    "transpose(x)",
    "x.T",
    "concat([x, x ** 2], axis=1)",
    "stack(x, sin(x), axis=1)",
    "split(x, 2, axis=1)[1]",
    "diag(x[:, :3])",
    "diag(x[0], 1)",
    "tril(x, 1)",
    "triu(x, -1)",
    "cumsum(x, axis=1)",
    "cumsum(x, reverse=True)",
    "cumprod(x, axis=0)",
    "cumprod(x, axis=1, reverse=True)",
    "sort(x)",
    "sort(x, axis=0, descending=True)",
    "x[0][argsort(x[0])]",
    "x[:, 0] * searchsorted(sort(x[:, 1]), x[:, 0])",
    "clip(x, -1, x[0] + 0.01)",
    "where(x > 0, x ** 3, sin(x))",
    "max(x, x[0] ** 2)",
    "round(x, 1) * x",
    "softmax(x, axis=0)",
    "log_softmax(x, axis=(0, 1))",
    "logsumexp(x, axis=1)",
    "prod(x, axis=(0, 1))",
    "max(x, axis=0)",
    "min(x, axis=1)",
    "mean(x, axis=-1)",
    "var(x, axis=0, ddof=1)",
    "std(x, axis=1)",
    "norm(x, axis=1)",
    "norm(x)",
    "dot(x, sin(x))",
    "cross_entropy(x, arange(3))",
    "one_hot(arange(3), 4) * x",
    "sqrt(sum(x ** 2, axis=1))",
    "lgamma(abs(x) + 0.5) * digamma(abs(x) + 1)",
    "asin(x / 2) * acos(x / 2)",
    "abs(x) ** 0.7",
    "atan2(x, x[0] + 3)",
    "x % 0.37",
]
NAMES = [f"e{at}" for at in range(len(EXPRESSIONS))]

PROGRAM = "".join(
    f"""
def {name}(x: f64[3, 4]) -> f64 = sum(sin({expression}))
def {name}_reverse(x: f64[3, 4]) -> f64[3, 4] = grad({name}, mode="reverse")(x)
def {name}_forward(x: f64[3, 4]) -> f64[3, 4] = grad({name}, mode="forward")(x)
def {name}_along(x: f64[3, 4], v: f64[3, 4]) -> f64[3, 4] = jvp({name}_reverse)(x, v)[1]
def {name}_back(x: f64[3, 4], v: f64[3, 4]) -> f64[3, 4] = vjp({name}_reverse)(x, v)
"""
    for name, expression in zip(NAMES, EXPRESSIONS, strict=True)
)


@pytest.fixture(scope="module")
def module():
    return parse_program(PROGRAM)


def interpreted(module, name, *arguments):
    return evaluate(expand(lower_function(module, name)), arguments)[0]


def slopes(function, x):
    """Central differences, entry by entry."""
    found = np.zeros((*x.shape, *np.shape(function(x))))
    for at in np.ndindex(x.shape):
        away = np.zeros_like(x)
        away[at] = STEP
        found[at] = (function(x + away) - function(x - away)) / (2 * STEP)
    return found


@pytest.mark.parametrize("name", NAMES, ids=EXPRESSIONS)
def test_derivatives(module, name):
    value = lower_function(module, name)
    reverse, forward = (interpreted(module, f"{name}_{mode}", X) for mode in ("reverse", "forward"))
    np.testing.assert_allclose(reverse, slopes(lambda x: evaluate(value, [x])[0], X), rtol=2e-6, atol=2e-7)
    np.testing.assert_allclose(forward, reverse, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES, ids=EXPRESSIONS)
def test_second_derivatives(module, name):
    v = np.random.default_rng(6).normal(size=X.shape)
    slope = expand(lower_function(module, f"{name}_reverse"))
    ends = [evaluate(slope, [X + sign * STEP * v])[0] for sign in (1, -1)]
    along, back = (interpreted(module, f"{name}_{mode}", X, v) for mode in ("along", "back"))
    np.testing.assert_allclose(along, (ends[0] - ends[1]) / (2 * STEP), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(back, along, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("first", range(0, len(NAMES), 10))
def test_compiled_and_mapped(module, first):
    names = NAMES[first : first + 10]
    calls = ", ".join(f"vmap({name}_reverse)(x)" for name in names)
    results = dg.parse(f"{PROGRAM}\ndef every(x: f64[2, 3, 4]) = ({calls})\n").every(np.stack([X, 0.7 * X]))
    for name, found in zip(names, results, strict=True):
        wanted = [interpreted(module, f"{name}_reverse", x) for x in (X, 0.7 * X)]
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13, err_msg=name)


@pytest.mark.parametrize(
    ("expression", "title"),
    [
        ("reshape(x, (5, -1))", "does not fall into parts of 5 entries"),
        ("reshape(x, (-1, -1))", "only one size can be -1"),
        ("reshape(x, 0, -1)", "does not fall into parts of 0 entries"),
        ("transpose(x, (0, 0))", "not the 2 axes in another order"),
        ("concat(x, x[0])", "do not join along axis 0"),
        ("concat(x, x, axis=2)", "there is no axis 2"),
        ("stack(x, x[0])", "different shapes"),
        ("split(x, 5)", "does not split into 5 equal parts"),
        ("pad(x, (1, 2, 3))", "3 widths for one axis"),
        ("pad(x, ((1, 2), (3, 4), (5, 6)))", "3 pairs of widths for 2 axes"),
        ("pad(x, 1, value=x)", "padded with one number"),
        ("pad(x, -1)", "a size is wanted here"),
        ("flip(x, axis=(0, -2))", "an axis is named twice"),
        ("sum(x, axis=(0, 0))", "an axis is named twice"),
        ("sum(x, axis=2)", "there is no axis 2"),
        ("squeeze(x, axis=0)", "axis 0 has length 3, not 1"),
        ("tile(x, (2, 2), axis=0)", "2 numbers of repetitions for 1 axis"),
        ("diag(pad(x, 1, axis=0), k=1.5)", "a size is wanted here"),
        ("tril(x[0])", "`tril` is of a matrix"),
        ("arange(0.5)", "`arange` counts in integers"),
        ("arange(0, 4, 0)", "the step of `arange` is a literal other than 0"),
        ("arange(start=2)", "`arange` needs an argument `stop`"),
        ("cumsum(x > 0)", "`cumsum` is of numbers"),
        ("cumsum(x, reverse=1)", "`reverse` is `True` or `False`"),
        ("sort(x > 0)", "`sort` is of numbers"),
        ("sort(1.0)", "an array is wanted here"),
        ("searchsorted(x, 1)", "looks in an array of one axis"),
        ('searchsorted(x[0], 1, side="up")', "`side` is"),
        ("round(x, 0.5)", "`decimals` is a literal integer"),
        ("one_hot(x, 3)", "labels are integers"),
        ("norm(x, axis=3)", "there is no axis 3"),
        ("argmax(x > 0)", "`argmax` reduces numbers"),
        ("len(x, x)", "`len` takes 1 argument"),
        ("sqrt(x, x)", "`sqrt` takes 1 argument"),
        ("clip(x, 0)", "`clip` needs an argument `high`"),
        ("exp(x > 0)", "`exp` is a function of numbers"),
    ],
)
def test_what_is_refused(expression, title):
    found = check(parse_program(f"def f(x: f64[3, 4]):\n    return {expression}\n"))
    assert any(title in fault.title for fault in found), [fault.title for fault in found]
    assert found[0].labels
