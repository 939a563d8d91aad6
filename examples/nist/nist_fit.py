"""Least squares with dgraph's Jacobian: Levenberg and Marquardt's method from SciPy, then Gauss and Newton's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from nist_problems import Problem
from scipy.linalg import solve_triangular
from scipy.optimize import least_squares

import dgraph as dg

TIGHT = 1e-15
SCALES = ("jac", 1.0)
POLISH = 100


@dataclass(frozen=True)
class Fit:
    """What a fit found, and with how many evaluations of the model."""

    parameters: np.ndarray
    deviations: np.ndarray
    squares: float
    evaluations: int


@cache
def compiled(model: str) -> tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]:
    """A model and its Jacobian, as machine code."""
    function = getattr(dg.load(Path(__file__).with_name("models.dg")), model)
    return dg.compile(function), dg.compile(dg.jacobian(function, wrt="b", mode="forward"))


def fit(problem: Problem, start: np.ndarray) -> Fit:
    """The fit from a starting point.

    The step of the optimiser is measured in two ways, relative to the columns of the Jacobian and as it is; the better
    result counts.
    """
    model, jacobian = compiled(problem.model)

    def residuals(b: np.ndarray) -> np.ndarray:
        return model(b, problem.x) - problem.y

    def slopes(b: np.ndarray) -> np.ndarray:
        return jacobian(b, problem.x)

    # A trial step may overflow; the optimiser takes a shorter one.
    with np.errstate(over="ignore"):
        tries = [
            least_squares(
                residuals, start, slopes, method="lm", x_scale=scale, xtol=TIGHT, ftol=TIGHT, gtol=TIGHT, max_nfev=5000
            )
            for scale in SCALES
        ]
    best = min(tries, key=lambda found: found.cost)
    b, steps = polish(residuals, slopes, best.x)
    squares = float(np.sum(residuals(b) ** 2))
    triangle = np.linalg.qr(slopes(b), mode="r")
    inverse = solve_triangular(triangle, np.eye(len(b)))
    deviations = np.sqrt(np.sum(inverse**2, axis=1) * squares / (len(problem.y) - len(b)))
    return Fit(b, deviations, squares, sum(found.nfev for found in tries) + steps)


def polish(
    residuals: Callable[[np.ndarray], np.ndarray], slopes: Callable[[np.ndarray], np.ndarray], b: np.ndarray
) -> tuple[np.ndarray, int]:
    """Full steps of Gauss and Newton's method by QR while they become shorter, and their number."""
    shortest = np.inf
    for count in range(POLISH):
        q, r = np.linalg.qr(slopes(b))
        step = solve_triangular(r, q.T @ residuals(b))
        length = np.max(np.abs(step / b))
        if not length < shortest:
            return b, count
        b, shortest = b - step, length
    return b, POLISH


def digits(found: np.ndarray | float, certified: np.ndarray | float) -> float:
    """How many decimal digits of the worst entry are right; certified values have eleven."""
    error = np.max(np.abs(np.subtract(found, certified) / certified))
    return float(-np.log10(max(error, 1e-11)))
