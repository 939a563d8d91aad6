"""Loops and branches per lane: a batch is its single calls, bit for bit, however many steps each of them makes."""

import itertools
from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ad import expand
from dgraph.frontend import Derived, lower_function, parse_program
from dgraph.ir.evaluate import evaluate

TEXT = """
# As many steps as the logarithm of x: none for x <= 1, many for large x.
def halvings(x: f64, c: f64) -> f64:
    y, t = x, 0
    while y > 1.0:
        y = 0.5 * y + 0.01 * sin(c * y)
        t += 1
    return y * c + 0.1 * t * x

# Would never end from x <= 0: the branch does not go there.
def endless(x: f64, c: f64) -> f64:
    y = c
    if x > 0:
        while y < 20.0:
            y = y * (1 + x) + x
    else:
        y = c * x ** 2
    return y

# Ends for each lane by its own flag; a lane that has ended must not see the later steps of others, where 1 / y is
# infinite.
def flagged(x: f64, c: f64) -> f64:
    y, s, done, t = x, 0.0, False, 0
    while not done and t < 40:
        s += 1 / y
        y -= 0.25
        done = y <= 0.0 or s > 9.0
        t += 1
    return s * c + y

def nested(x: f64, c: f64) -> f64:
    s = 0.0
    for i in range(3):
        y = x * i
        while y > 0.5:
            y = y * y / (1 + y) if y > c else 0.3 * y
        s += y * sin(c * i) + x
    return s

def updated(x: f64, c: f64) -> f64:
    z, i = [c, x, c * x, 1.0], 0
    while i < 3 and abs(z[i]) > 0.2:
        z[i + 1] += z[i] ** 2
        i += 1
    return sum(z) * z[i]

def kept(x: f64, c: f64) -> f64:
    s, trips = c, i32(floor(abs(x) + 0.3))
    @checkpoint(WISH)
    for t in range(trips):
        s = sin(s * x) + 0.1 * t
        if s > 0.5:
            s = s * c
    return s + x

def empty(x: f64, c: f64) -> f64:
    y = x
    while y > 1e9:
        y = log(-y)
    return y ** 2 * c
"""
NAMES = ("halvings", "endless", "flagged", "nested", "updated", "kept", "empty")
X = np.array([0.5, 1.0, 1.5, 40.0, -2.0, 3.25, 1e4, 0.0, 7.0])
C = np.array([0.3, 1.1, -0.4, 0.8, 0.9, 1.3, 0.25, 2.0, 0.6])
WISHES = ("none", "every=2", "slots=1", "slots=3", 'budget="40B"')


def text(wish: str = "none") -> str:
    """The program with one wish on its loop, and batches of batches."""
    lines = [TEXT.replace("WISH", wish)]
    for name in NAMES:
        lines.append(f"def {name}_slope(x: f64, c: f64) -> (f64, f64) = grad({name}, wrt=(x, c))(x, c)\n")
        curve = f"jacobian({name}_slope, wrt=(x, c), mode=MODE)(x, c)"
        for mode in ("forward", "reverse"):
            lines.append(f"def {name}_{mode}(x: f64, c: f64) = " + curve.replace("MODE", f'"{mode}"') + "\n")
        lines.append(f"def {name}_total[n](x: f64[n], c: f64[n]) -> f64 = sum(vmap({name}, over=(x, c))(x, c))\n")
    return "".join(lines)


def leaves(value: Any) -> list[np.ndarray]:
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in leaves(item)]
    return [np.asarray(value)]


def lanes(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Lanes for which single calls stay finite and end."""
    keep = (X < 100) if name in ("kept", "flagged") else np.ones(len(X), bool)
    if name == "endless":
        keep &= (X <= 0) | (C > 0)
    if name == "flagged":
        keep &= X > 0
    return X[keep], C[keep]


def interpreted(target: Any, wish: str = "none") -> Any:
    graph = expand(lower_function(parse_program(text(wish)), target))
    return lambda *arguments: evaluate(graph, list(arguments))


@pytest.mark.parametrize("name", NAMES)
def test_interpreted_batches_are_single_calls(name: str) -> None:
    x, c = lanes(name)
    for inner in (name, f"{name}_slope", f"{name}_forward", f"{name}_reverse"):
        single = interpreted(inner)
        rows = [leaves(single(*row)) for row in zip(x, c, strict=True)]
        batch = leaves(interpreted(Derived("vmap", inner, wrt=("x", "c")))(x, c))
        assert [np.stack(column).tobytes() for column in zip(*rows, strict=True)] == [part.tobytes() for part in batch]


@pytest.mark.parametrize("name", NAMES)
def test_compiled_batches_are_single_calls(name: str) -> None:
    program = dg.parse(text())
    x, c = lanes(name)
    wrt = ("x", "c")
    function = getattr(program, name)
    for single in (dg.value_and_grad(function, wrt=wrt), getattr(program, f"{name}_reverse")):
        rows = [leaves(single(*row)) for row in zip(x, c, strict=True)]
        batch = leaves(dg.vmap(single, over=wrt)(x, c))
        for found, column in zip(batch, zip(*rows, strict=True), strict=True):
            assert found.tobytes() == np.stack(column).tobytes()
    slopes = leaves(dg.grad(getattr(program, f"{name}_total"), wrt=wrt)(x, c))
    expected = leaves(dg.vmap(dg.grad(function, wrt=wrt), over=wrt)(x, c))
    for found, one in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(found, one, rtol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_lanes_are_right(name: str) -> None:
    """Against differences, where these agree with one another."""
    x, c = lanes(name)
    function, slope = interpreted(name), interpreted(f"{name}_slope")
    checked = 0
    for row in zip(x, c, strict=True):
        found = slope(*row)
        for at in range(2):
            along = np.eye(2)[at]
            estimates = []
            for step in (1e-5, 3e-6):
                ahead, back = (function(*(np.array(row) + by * along))[0] for by in (step, -step))
                estimates.append((ahead - back) / (2 * step))
            if estimates[0] == pytest.approx(estimates[1], rel=1e-5, abs=1e-7):
                assert found[at] == pytest.approx(estimates[1], rel=1e-4, abs=1e-6), (row, at)
                checked += 1
    assert checked >= 2 * len(x) - 4


@pytest.mark.parametrize("name", ["halvings", "flagged", "kept"])
def test_a_batch_of_batches(name: str) -> None:
    program = dg.parse(text())
    x, c = lanes(name)
    slope = dg.value_and_grad(getattr(program, name), wrt=("x", "c"))
    every = [leaves(slope(a, b)) for a, b in itertools.product(x, c[:3])]
    found = leaves(dg.vmap(dg.vmap(slope, over="c"), over="x")(x, c[:3]))
    for part, column in zip(found, zip(*every, strict=True), strict=True):
        assert part.tobytes() == np.reshape(np.stack(column), (len(x), 3)).tobytes()


def test_what_a_loop_in_a_batch_keeps_is_not_seen() -> None:
    x, c = lanes("kept")
    found = []
    for wish in WISHES:
        program = dg.parse(text(wish))
        both = dg.value_and_grad(program.kept, wrt=("x", "c"))
        batch = leaves(dg.vmap(both, over=("x", "c"))(x, c))
        curve = leaves(dg.vmap(program.kept_forward, over=("x", "c"))(x, c))
        back = leaves(dg.vmap(program.kept_reverse, over=("x", "c"))(x, c))
        total = leaves(dg.grad(program.kept_total, wrt=("x", "c"))(x, c))
        found.append([part.tobytes() for part in (*batch, *curve, *back, *total)])
    assert all(other == found[0] for other in found[1:])
