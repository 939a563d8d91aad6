"""The 27 nonlinear regression problems of NIST: certified values from both starting points, with dgraph's Jacobian."""

import importlib
import subprocess
import sys
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "nist"
sys.path.append(str(ROOT / "examples" / "nist"))
nist_fit = importlib.import_module("nist_fit")
nist_problems = importlib.import_module("nist_problems")
PROBLEMS = {problem.name: problem for problem in nist_problems.read_problems()}

# With residuals of 1e-14, the rounding of the data to float64 alone decides all further digits; see below.
COARSE = {"Lanczos1": 2.5}
LEAST = 9.5


def test_every_problem_is_there_and_read_rightly():
    assert len(PROBLEMS) == 27
    hahn = PROBLEMS["Hahn1"]
    assert (len(hahn.x), hahn.x[0], hahn.y[0], len(hahn.parameters)) == (236, 24.41, 0.591, 7)
    assert (hahn.starts[0][1], hahn.starts[1][1]) == (-1.0, -0.1)
    assert (hahn.deviations[6], hahn.squares) == (1.3027335327e-08, 1.5324382854)
    assert PROBLEMS["Nelson"].x.shape == (128, 2)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", PROBLEMS)
def test_certified_values_are_reached(name, start):
    problem = PROBLEMS[name]
    found = nist_fit.fit(problem, problem.starts[start])
    assert nist_fit.digits(found.parameters, problem.parameters) >= LEAST
    assert nist_fit.digits(found.deviations, problem.deviations) >= COARSE.get(name, LEAST)
    assert nist_fit.digits(found.squares, problem.squares) >= COARSE.get(name, LEAST)


@pytest.mark.parametrize("name", PROBLEMS)
def test_models_and_slopes_are_right_at_the_certified_values(name):
    problem = PROBLEMS[name]
    model, jacobian = nist_fit.compiled(problem.model)
    b = problem.parameters
    left = np.sum((model(b, problem.x) - problem.y) ** 2)
    # The parameters have eleven digits, which leaves residuals of 1e-11 even where the model is exact.
    assert left == pytest.approx(problem.squares, rel=1e-9, abs=1e-20)
    for at, value in enumerate(b):
        step = 1e-6 * abs(value)
        apart = np.zeros_like(b)
        apart[at] = step
        differences = (model(b + apart, problem.x) - model(b - apart, problem.x)) / (2 * step)
        slopes = jacobian(b, problem.x)[:, at]
        np.testing.assert_allclose(slopes, differences, rtol=1e-6, atol=1e-6 * np.abs(slopes).max())


def test_digits():
    assert nist_fit.digits(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 11
    assert nist_fit.digits(np.array([1.0, 2.002]), np.array([1.0, 2.0])) == pytest.approx(3)


def lanczos_squares(x: list[Decimal], y: list[Decimal], b: list[Decimal]) -> Decimal:
    """The least sum of squares of the model of Lanczos in 50 digits, by Gauss and Newton from parameters nearby."""
    for _ in range(6):
        columns, left = [], []
        for at, value in zip(x, y, strict=True):
            parts = [(-rate * at).exp() for rate in b[1::2]]
            columns.append([term for k in range(3) for term in (parts[k], -b[2 * k] * at * parts[k])])
            left.append(value - sum(b[2 * k] * parts[k] for k in range(3)))
        squares = sum(value**2 for value in left)
        normal = [[sum(row[i] * row[j] for row in columns) for j in range(6)] for i in range(6)]
        right = [sum(row[i] * value for row, value in zip(columns, left, strict=True)) for i in range(6)]
        b = [value + step for value, step in zip(b, solved(normal, right), strict=True)]
    return squares


def solved(matrix: list[list[Decimal]], right: list[Decimal]) -> list[Decimal]:
    """The solution of a positive definite system by elimination."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for k, pivot in enumerate(rows):
        for row in rows[k + 1 :]:
            factor = row[k] / pivot[k]
            row[:] = [entry - factor * above for entry, above in zip(row, pivot, strict=True)]
    result = [Decimal(0)] * len(rows)
    for k in reversed(range(len(rows))):
        rest = sum(rows[k][j] * result[j] for j in range(k + 1, len(rows)))
        result[k] = (rows[k][-1] - rest) / rows[k][k]
    return result


def test_float64_cannot_hold_the_squares_of_lanczos1():
    problem = PROBLEMS["Lanczos1"]
    lines = (FOLDER / "Lanczos1.dat").read_text(encoding="ascii").splitlines()
    rows = [tuple(map(Decimal, line.split())) for line in lines[60:] if line.strip()]
    with localcontext() as context:
        context.prec = 50
        start = [Decimal(value) for value in problem.parameters]
        exact = lanczos_squares([x for _, x in rows], [y for y, _ in rows], start)
        rounded = lanczos_squares([Decimal(float(x)) for _, x in rows], [Decimal(float(y)) for y, _ in rows], start)
        assert nist_fit.digits(float(exact), problem.squares) > 10
        assert nist_fit.digits(float(rounded), problem.squares) < 4


def test_the_table(tmp_path):
    for name in ("DanWood", "Misra1a"):
        (tmp_path / f"{name}.dat").write_bytes((FOLDER / f"{name}.dat").read_bytes())
    command = [sys.executable, str(ROOT / "examples" / "nist"), str(tmp_path)]
    table = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout.splitlines()
    assert table[0].split() == ["problem", "start", "parameters", "deviations", "squares", "evaluations"]
    assert [row.split()[:2] for row in table[1:5]] == [
        ["DanWood", "1"],
        ["DanWood", "2"],
        ["Misra1a", "1"],
        ["Misra1a", "2"],
    ]
    assert all(float(row.split()[2]) > LEAST for row in table[1:5])
