"""The examples that find an optimum: against scikit-learn, SciPy, a closed form, and the truth table of XOR."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der, rosen_hess
from sklearn.linear_model import LogisticRegression

import dgraph as dg
from dgraph.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.append(str(EXAMPLES))
softmax = importlib.import_module("softmax_regression")
PENALTY = 1e-3


def trusted(x: np.ndarray, label: np.ndarray) -> LogisticRegression:
    """The optimum by scikit-learn, whose C weighs the sum of the losses against the penalty."""
    model = LogisticRegression(C=1 / (PENALTY * len(label)), solver="newton-cholesky", tol=1e-12, max_iter=1000)
    return model.fit(x, label)


@pytest.mark.parametrize("digit", [8, 0])
def test_logistic_regression_is_scikit_learns(digit):
    x, label = softmax.digits()
    program = dg.load(EXAMPLES / "logistic_regression.dg")
    image = np.uint8(x * 16).reshape(-1, 8, 8)
    found = dg.compile(program.main)(image, label, digit)
    expected = trusted(x, label == digit)
    np.testing.assert_allclose(found[:-1], expected.coef_[0], rtol=0, atol=1e-9)
    assert found[-1] == pytest.approx(expected.intercept_[0], abs=1e-9)


def test_softmax_regression_is_scikit_learns():
    x, label = softmax.digits()
    found = softmax.fit(x, label, PENALTY)
    ours, expected = softmax.record(found.x), trusted(x, label)
    np.testing.assert_allclose(ours["w"], expected.coef_.T, rtol=0, atol=1e-6)
    # What is added to all offsets alike changes nothing.
    np.testing.assert_allclose(
        ours["b"] - ours["b"].mean(), expected.intercept_ - expected.intercept_.mean(), rtol=0, atol=1e-6
    )
    probability = expected.predict_proba(x)[np.arange(len(label)), label]
    objective = -np.log(probability).mean() + 0.5 * PENALTY * np.sum(expected.coef_**2)
    assert found.fun == pytest.approx(objective, rel=1e-12)
    assert np.linalg.norm(found.jac) < 1e-9


def test_softmax_regression_prints_what_it_reaches(capsys):
    softmax.main()
    assert "objective 0.2618645472" in capsys.readouterr().out


@pytest.fixture(scope="module")
def rosenbrock():
    return dg.load(EXAMPLES / "rosenbrock.dg")


def test_the_function_is_scipys(rosenbrock):
    x = np.random.default_rng(0).normal(size=7)
    value, slope = dg.value_and_grad(rosenbrock.rosenbrock)(x)
    assert value == pytest.approx(rosen(x), rel=1e-14)
    np.testing.assert_allclose(slope, rosen_der(x), rtol=1e-12)
    np.testing.assert_allclose(dg.hessian(rosenbrock.rosenbrock)(x), rosen_hess(x), rtol=1e-12, atol=1e-10)


def test_newtons_steps_are_those_of_scipys_hessian(rosenbrock):
    x = np.array([-1.2, 1.0])
    for point in dg.compile(rosenbrock.newton)(x, 6):
        x = x - np.linalg.solve(rosen_hess(x), rosen_der(x))
        np.testing.assert_allclose(point, x, rtol=1e-9)


def test_newtons_method_converges_quadratically(rosenbrock):
    start = np.full(3, 1.2)
    path = dg.compile(rosenbrock.newton)(start, 12)
    gaps = np.linalg.norm(np.vstack([start, path]) - 1, axis=1)
    assert gaps[-1] < 1e-15
    # A gap is at most the square of the one before, times how fast the Hessian changes over twice its least eigenvalue.
    # Over this range of gaps a method of first order, which makes gaps less than ten times smaller, would exceed that.
    changes = 2400 + 2 * 400 + 400
    most = changes / (2 * np.linalg.eigvalsh(rosen_hess(np.ones(3))).min())
    near = [k for k in range(12) if 1e-7 < gaps[k] < 0.1]
    assert len(near) >= 3
    assert gaps[near[-1]] < 0.1 / most
    for k in near:
        assert gaps[k + 1] < most * gaps[k] ** 2


@pytest.mark.parametrize("start", [[-1.2, 1.0], [5.0, -3.0], [0.0, 2.0, 0.5]])
def test_the_minimum_is_found(rosenbrock, start):
    x, count = dg.compile(rosenbrock.minimum)(np.array(start))
    np.testing.assert_allclose(x, 1, rtol=0, atol=1e-12)
    assert 0 < count < 60


def test_the_other_minimum_in_six_dimensions_is_scipys(rosenbrock):
    start = np.array([-1.2, 1.0] * 3)
    x, _ = dg.compile(rosenbrock.minimum)(start)
    assert x[0] < -0.9
    expected = minimize(rosen, x + 0.01, jac=rosen_der, hess=rosen_hess, method="trust-exact", options={"gtol": 1e-12})
    np.testing.assert_allclose(x, expected.x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n", [2, 20, 10_000])
def test_the_minimum_in_many_dimensions(rosenbrock, n):
    x, count = dg.compile(rosenbrock.minimum_in_many_dimensions)(np.full(n, 2.0))
    np.testing.assert_allclose(x, 1, rtol=0, atol=1e-10)
    assert 0 < count < 60


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_xor_is_learnt(seed, tmp_path, capsys):
    program, run = str(EXAMPLES / "xor.dg"), tmp_path / "run"
    assert main(["train", program, "--seed", str(seed), "--out", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["final"]["accuracy"] == 1.0
    pairs, truth = "x=[[0,0],[0,1],[1,0],[1,1]]", "y=[0,1,1,0]"
    assert main(["run", program, "--params", str(run), "--arg", pairs, "--arg", truth, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["result"]
    np.testing.assert_allclose(answers, [0, 1, 1, 0], rtol=0, atol=0.1)


def test_xor_is_out_of_reach_of_one_neuron():
    """No line separates the two classes: the best that a single neuron gets is three of four."""
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    grid = np.linspace(-2, 2, 21)
    weights = np.array([(a, b, c) for a in grid for b in grid for c in grid])
    right = ((weights[:, :2] @ x.T + weights[:, 2:] > 0) == [False, True, True, False]).sum(axis=1)
    assert right.max() == 3
