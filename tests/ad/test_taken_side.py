"""`f if p else g` is the side taken: in value and derivatives to the third order of all modes, wherever the choice
stands and wherever what one side needs is bound, at points where the other side is undefined."""

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ad import expand
from dgraph.frontend import lower_function, parse_program
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Node

POINTS = np.array([0.0, 0.7, -1.0, -0.0, 2.5, -0.3, 1.0])
BELOW = "cos(2 * {x}) + {x}"
ABOVE = {
    "sqrt": "sqrt({x})",
    "log": "{x} ** 3 * log({x})",
    "power": "{x} ** 1.5 / {x}",
    "ratio": "sin({x}) / {x} ** 2",
    "nested": "log(sqrt({x})) * sqrt({x})",
    "overflow": "exp(-1 / {x}) + exp(1e3 * (-{x} - abs({x})))",
    "gamma": "lgamma({x}) * sqrt({x})",
}
"""What is undefined, or has infinite derivatives, at 0 and below."""

FORMS = {
    "array": "return sum({above:x} if x > 0 else {below:x})",
    "where": "return sum(where(x > 0, {above:x}, {below:x}))",
    "bound outside": "y = {above:x}\nreturn sum(y if x > 0 else {below:x})",
    "two choices": "y = {above:x}\na = 2 * y if x > 0 else {below:x}\nb = {below:x} if x <= 0 else 3 * y\n"
    "return sum((a + b) / 5 if x > 0 else (a + b) / 2)",
    "formula": "return sum({above:x[i]} if x[i] > 0 else {below:x[i]} for i)",
    "formula of an array": "y = {above:x}\nreturn sum(y[i] if x[i] > 0 else {below:x[i]} for i)",
    "formula of a formula": "y[i] = {above:x[i]}\nreturn sum(y[i] if x[i] > 0 else {below:x[i]} for i)",
    "for": "s = 0.0\nfor v in x:\n    if v > 0:\n        s += {above:v}\n    else:\n        s += {below:v}\nreturn s",
    "for of an array": "s, y = 0.0, {above:x}\nfor i in range(n):\n    s += y[i] if x[i] > 0 else {below:x[i]}\n"
    "return s",
    "bound before the branch": "s = 0.0\nfor v in x:\n    y = {above:v}\n    if v > 0:\n        s += y\n    else:\n"
    "        s += {below:v}\nreturn s",
    "while": "s, i = 0.0, 0\nwhile i < n:\n    v = x[i]\n"
    "    s += {above:v} if v > 0 else {below:v}\n    i += 1\nreturn s",
    "function": "def one(v: f64) -> f64:\n    if v <= 0:\n        return {below:v}\n    return {above:v}\n"
    "return sum(one(x[i]) for i)",
    "vmap": "def one(v: f64) -> f64:\n    y = {above:v}\n    if v > 0:\n        s = y\n    else:\n"
    "        s = {below:v}\n    return s\nreturn sum(vmap(one)(x))",
    "loop in a point": "def one(v: f64) -> f64:\n    s, y = 0.0, {above:v}\n    for t in range(2):\n"
    "        s += y / 2 if v > 0 else ({below:v}) / 2\n    return s\nreturn sum([one(v) for v in x])",
    "while in a batch": "def one(v: f64) -> f64:\n    s, t = 0.0, 0\n"
    "    while t < 2 and v > -9:\n        y = {above:v}\n"
    "        s += y / 2 if v > 0 else ({below:v}) / 2\n        t += 1\n    return s\nreturn sum(vmap(one)(x))",
    "choice in a choice": "y = {above:x}\nreturn sum((y if x < 1 else 1 * y) if x > 0 else ({below:x} if x < -0.5 else "
    "{below:x}))",
    "array read back": "z: f64[n] = 0.0\nfor i in range(n):\n    z[i] = {above:x[i]} if x[i] > 0 else {below:x[i]}\n"
    "return sum(z)",
    "guarded sum": "return sum({above:x[i]} for i if x[i] > 0) + sum({below:x[i]} for i if not x[i] > 0)",
    "guarded update": "z = {below:x}\nz[i] = {above:x[i]} for i if x[i] > 0\nreturn sum(z)",
}
"""Bodies of F(x) = the sum over all entries of what is above at positive ones, what is below at others."""


BOUND_BEFORE = {
    "bound outside",
    "two choices",
    "formula of an array",
    "formula of a formula",
    "for of an array",
    "bound before the branch",
    "vmap",
    "loop in a point",
    "while in a batch",
    "choice in a choice",
}
"""Here the value itself computes what only one side needs before it chooses; derivatives do not."""


class _Side:
    """Formats an expression of some argument: `{above:v}`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __format__(self, argument: str) -> str:
        return f"({self.text.format(x=argument)})"


def program(form: str, above: str) -> str:
    body = FORMS[form].format(above=_Side(ABOVE[above]), below=_Side(BELOW)).replace("\n", "\n    ")
    return f"def f[n](x: f64[n]) -> f64:\n    {body}\ndef line[n](z: f64, x: f64[n], v: f64[n]) -> f64 = f(x + z * v)\n"


@cache
def alone(text: str, x: float, order: int) -> float:
    """A derivative of one side by itself."""
    return derived(f"def side(x: f64) -> f64 = {text.format(x='x')}\n", "side", ("forward",) * order)(x)


def wanted(above: str, order: int) -> np.ndarray[Any, Any]:
    """The derivatives of the side taken at each of the points."""
    return np.array([alone(ABOVE[above] if x > 0 else BELOW, float(x), order) for x in POINTS])


def derived(text: str, name: str, modes: tuple[str, ...]) -> Callable[..., Any]:
    """A derivative along the first formal, by the interpreter."""
    kinds = "f64, x: f64[n], v: f64[n]" if name == "line" else "f64"
    generic, given = ("[n]", "z, x, v") if name == "line" else ("", "z")
    lines, function = [text], name
    for at, mode in enumerate(modes):
        lines.append(f'def d{at}{generic}(z: {kinds}) -> f64 = grad({function}, mode="{mode}")({given})')
        function = f"d{at}"
    graph = expand(lower_function(parse_program("\n".join(lines) + "\n"), function))
    return lambda *arguments: evaluate(graph, list(arguments))[0]


PAIRS = sorted(
    {*itertools.product(FORMS, ("nested", "ratio")), *itertools.product(("array", "bound before the branch"), ABOVE)}
)


@pytest.mark.parametrize(("form", "above"), PAIRS)
def test_first_and_second_derivatives(form: str, above: str) -> None:
    text = program(form, above)
    text += "def slope[n](x: f64[n]) -> f64[n] = grad(f)(x)\n"
    text += 'def ahead[n](x: f64[n]) -> f64[n] = grad(f, mode="forward")(x)\n'
    for inner in ("slope", "ahead"):
        for outer in ("forward", "reverse"):
            given = f'def both[n](x: f64[n]) = ({inner}(x), jacobian({inner}, mode="{outer}")(x))\n'
            first, second = evaluate(expand(lower_function(parse_program(text + given), "both")), [POINTS])
            np.testing.assert_allclose(first, wanted(above, 1), rtol=1e-13, atol=1e-13, err_msg=inner)
            np.testing.assert_allclose(
                second, np.diag(wanted(above, 2)), rtol=1e-12, atol=1e-12, err_msg=f"{outer} of {inner}"
            )


@pytest.mark.parametrize("form", FORMS)
def test_third_derivatives_along_a_line(form: str) -> None:
    text = program(form, "nested")
    v = np.array([1.0, -0.5, 2.0, 0.3, 1.0, -1.0, 0.7])
    expected = np.dot(wanted("nested", 3), v**3)
    for modes in itertools.product(("forward", "reverse"), repeat=3):
        assert derived(text, "line", modes)(0.0, POINTS, v) == pytest.approx(expected, rel=1e-11), modes


@pytest.mark.parametrize("form", FORMS)
def test_compiled_derivatives(form: str) -> None:
    text = program(form, "nested")
    function = dg.parse(text).f
    np.testing.assert_allclose(dg.grad(function)(POINTS), wanted("nested", 1), rtol=1e-13, atol=1e-13)
    curves = wanted("nested", 2) * POINTS
    np.testing.assert_allclose(dg.hvp(function)(POINTS, POINTS), curves, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_the_other_side_is_not_run(form: str) -> None:
    """No logarithm of what is not positive: not in the value, not in a derivative."""
    for name in ("f", "slope", "curve"):
        text = program(form, "log") + "def slope[n](x: f64[n]) -> f64[n] = grad(f)(x)\n"
        text += "def curve[n](x: f64[n]) -> f64[n, n] = jacobian(slope)(x)\n"
        seen: list[Any] = []

        def watch(node: Node, results: Any, seen: list[Any] = seen) -> None:
            if node.op.name == "log":
                seen.append(results[0])

        if form in BOUND_BEFORE and name == "f":
            continue
        evaluate(expand(lower_function(parse_program(text), name)), [POINTS], observer=watch)
        assert seen and np.isfinite(np.concatenate([np.ravel(value) for value in seen])).all(), name


FAULTS = {
    "read": "x[i] * (y[k[i]] if k[i] < n else 2.0)",
    "division": "x[i] ** 2 * (6 // k[i] if k[i] != 0 else 3)",
    "system": "x[i] * (sum(solve([[1.0 * k[i], 0.0], [0.0, 1.0]], y[:2])) if k[i] > 0 else y[0] ** 2)",
    "assertion": "sure(x[i], k[i]) if k[i] > 0 else x[i] * y[1]",
    "loop": "forever(x[i], k[i]) if k[i] > 0 else x[i] ** 3",
}
"""Entries whose one side stops the run, or never ends, where the other is taken."""


@pytest.mark.parametrize("name", FAULTS)
def test_what_would_fail_on_the_other_side_does_not(name: str) -> None:
    """In compiled code too, in derivatives and batches."""
    program = dg.parse(
        "def sure(x: f64, k: i64) -> f64:\n    assert k > 0\n    return x ** 3 / k\n"
        "def forever(x: f64, k: i64) -> f64:\n    s, t = x, 0\n    while t != k:\n        s, t = sin(s), t + 1\n"
        "    return s\n"
        f"def f[n](x: f64[n], y: f64[n], k: i64[n]) -> f64 = sum({FAULTS[name]} for i)\n"
        f"def one[n](v: f64, j: i64, y: f64[n]) -> f64:\n    x, k = [v for i in range(n)], [j for i in range(n)]\n"
        f"    i = 0\n    return {FAULTS[name]}\n"
    )
    x, y, k = np.array([0.5, -1.2, 2.0]), np.array([0.3, 0.8, -0.4]), np.array([0, 2, 9])
    if name in ("loop", "system", "assertion"):
        k = np.array([0, 2, -1])
    value, slope = dg.value_and_grad(program.f)(x, y, k)
    assert value == pytest.approx(sum(program.one(v, j, y) for v, j in zip(x, k, strict=True)), rel=1e-14)
    both = dg.vmap(dg.value_and_grad(program.one), over=("v", "j"))
    values, slopes = both(x, k, y)
    assert np.sum(values) == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(slopes, slope, rtol=1e-14)
    step = 1e-6
    for at in range(3):
        ahead, back = (program.f(x + by * np.eye(3)[at], y, k) for by in (step, -step))
        assert slope[at] == pytest.approx((ahead - back) / (2 * step), rel=1e-7)
    ahead, back = (dg.grad(program.f)(x + by, y, k) for by in (step, -step))
    np.testing.assert_allclose(
        dg.hvp(program.f)(x, y, k, np.ones(3)), (ahead - back) / (2 * step), rtol=1e-6, atol=1e-9
    )
