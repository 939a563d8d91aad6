"""The smallest program that goes through every stage: record param, capturing lambda, offset read, gather, a loop that
carries, updates and collects, a choice whose other side is NaN, derivatives with respect to the record, a `while`."""

from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.ir.text import parse_graph, print_graph
from dgraph.ir.verify import verify
from dgraph.program.pipeline import STAGES

PROGRAM = dg.load(Path(__file__).parents[2] / "examples" / "spine.dg")
WEIGHT, SCALE = np.array([1.0, -0.5, 2.0]), 0.7


def numpy_loss(
    weight: np.ndarray, scale: float, x: np.ndarray, at: np.ndarray, steps: int
) -> tuple[float, list[float]]:
    y = scale * np.sqrt(np.maximum(x, 0))
    u = (y[1:] - y[:-1]) * weight[at[:-1] % 3]
    total, trace = 0.0, []
    for _ in range(steps):
        u = np.concatenate([u[:1], u[1:] + 0.1 * (u[:-1] - u[1:])])
        total += float((u**2).sum())
        trace.append(total)
    return total, trace


def arguments(n: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(n)
    return random.standard_normal(n), random.integers(0, 6, n).astype("i4")


MODEL = {"weight": WEIGHT, "scale": SCALE}


@pytest.mark.parametrize(("n", "steps"), [(2, 0), (2, 1), (7, 4), (50, 9)])
def test_values(n: int, steps: int):
    x, at = arguments(n)
    total, trace = PROGRAM.loss(x, at, steps, model=MODEL)
    expected = numpy_loss(WEIGHT, SCALE, x, at, steps)
    assert total == pytest.approx(expected[0], rel=1e-13)
    np.testing.assert_allclose(trace, expected[1], rtol=1e-13)


@pytest.mark.parametrize(("n", "steps"), [(2, 1), (7, 4), (50, 9)])
def test_gradient_with_respect_to_the_record(n: int, steps: int):
    x, at = arguments(n)
    (value, _), slope = dg.value_and_grad(PROGRAM.loss, wrt="model")(x, at, steps, model=MODEL)
    assert value == pytest.approx(numpy_loss(WEIGHT, SCALE, x, at, steps)[0], rel=1e-13)
    for k in range(3):
        h = 1e-6 * np.eye(3)[k]
        up, down = (numpy_loss(WEIGHT + sign * h, SCALE, x, at, steps)[0] for sign in (1, -1))
        assert slope.weight[k] == pytest.approx((up - down) / 2e-6, rel=1e-7, abs=1e-8)
    assert slope.scale == pytest.approx(2 * value / SCALE, rel=1e-12)
    after = PROGRAM.step(x, at, steps, 0.1, model=MODEL)[1]
    np.testing.assert_allclose(after.weight, WEIGHT - 0.1 * slope.weight, rtol=1e-13)


def test_the_untaken_side_reaches_no_derivative():
    x, at = np.array([-1.0, 0.0, 4.0, -2.0]), np.zeros(4, "i4")
    for wrt in ("x", "model"):
        slope, _ = dg.grad(PROGRAM.loss, wrt=wrt)(x, at, 3, model=MODEL)
        leaves = [slope] if wrt == "x" else list(slope.values())
        assert all(np.isfinite(leaf).all() for leaf in leaves)
    slope, _ = dg.grad(PROGRAM.loss, wrt="x")(x, at, 3, model=MODEL)
    np.testing.assert_array_equal(slope[[0, 1, 3]], 0)


def test_second_derivative():
    x, at = arguments(6)
    first = dg.grad(PROGRAM.loss, wrt="model")
    slopes = [first(x, at, 3, model={"weight": WEIGHT + h, "scale": SCALE})[0] for h in (1e-6 * np.eye(3)[1], 0)]
    # The gradient is linear in the weights, so the difference is exact but for rounding.
    along = dg.jvp(first, wrt="model")(x, at, 3, {"weight": np.eye(3)[1], "scale": 0.0}, model=MODEL)[1][0]
    np.testing.assert_allclose(along.weight, (slopes[0].weight - slopes[1].weight) / 1e-6, rtol=1e-8, atol=1e-8)
    # The loss is homogeneous of degree two in the weights and in the scale.
    value = PROGRAM.loss(x, at, 3, model=MODEL)[0]
    twice = dg.jvp(first, wrt="model")(x, at, 3, {"weight": 0 * WEIGHT, "scale": 1.0}, model=MODEL)[1][0]
    assert twice.scale == pytest.approx(2 * value / SCALE**2, rel=1e-12)


@pytest.mark.parametrize("name", ["loss", "gradient"])
def test_every_stage_is_legal_means_the_same_and_reads_back(name: str):
    function = PROGRAM.loss if name == "loss" else dg.grad(PROGRAM.loss, wrt="model")
    x, at = arguments(5)
    expected = None
    graph = function.graph
    for stage, _, run in STAGES:
        graph = verify(run(graph))
        if stage == "inline":
            continue
        found = evaluate(graph, [x, at, WEIGHT, SCALE], {"steps": 4})
        again = parse_graph(print_graph(graph))
        assert print_graph(again) == print_graph(graph)
        expected = expected or found
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)
    compiled = dg.compile(function).kernel.call([x, at, WEIGHT, np.float64(SCALE)], {"steps": 4})
    for one, other in zip(compiled, expected or [], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)


def test_reverse_mode_through_a_while():
    for target in (2.0, 9.0, 1e4):
        value, slope = dg.value_and_grad(PROGRAM.settle, wrt="target")(1.0, target)
        assert value == pytest.approx(np.sqrt(target), rel=1e-12)
        assert slope == pytest.approx(0.5 / np.sqrt(target), rel=1e-9)
    second = dg.grad(dg.grad(PROGRAM.settle, wrt="target"), wrt="target")(1.0, 9.0)
    assert second == pytest.approx(-0.25 * 9.0**-1.5, rel=1e-6)
