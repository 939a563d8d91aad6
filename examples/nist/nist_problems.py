"""The files of NIST's Statistical Reference Datasets for nonlinear regression, read from their fixed layout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[2] / "tests" / "nist"

PARAMETER = re.compile(r"\s*b\d+ =\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s*$")
SQUARES = re.compile(r"Residual Sum of Squares:\s+(\S+)")

MODELS = {
    "BoxBOD": "misra1a",
    "Chwirut1": "chwirut",
    "Chwirut2": "chwirut",
    "Gauss1": "gauss",
    "Gauss2": "gauss",
    "Gauss3": "gauss",
    "Hahn1": "cubic_ratio",
    "Lanczos1": "lanczos",
    "Lanczos2": "lanczos",
    "Lanczos3": "lanczos",
    "Thurber": "cubic_ratio",
}
"""The functions of `models.dg` for problems that share a model; the others have one of their own name."""


@dataclass(frozen=True)
class Problem:
    """The data of one problem, two points to start from, and what the fit should give."""

    name: str
    model: str
    x: np.ndarray
    y: np.ndarray
    starts: tuple[np.ndarray, np.ndarray]
    parameters: np.ndarray
    deviations: np.ndarray
    squares: float


def read_problem(file: Path) -> Problem:
    """A problem from its file."""
    lines = file.read_text(encoding="ascii").splitlines()
    rows = np.array([match.groups() for match in map(PARAMETER.match, lines) if match], dtype=float)
    squares = next(float(match[1]) for match in map(SQUARES.match, lines) if match)
    first = max(at for at, line in enumerate(lines) if line.startswith("Data:")) + 1
    data = np.array([line.split() for line in lines[first:] if line.strip()], dtype=float)
    x = data[:, 1] if data.shape[1] == 2 else data[:, 1:]
    # The one model that NIST states for the logarithm of what was observed.
    y = np.log(data[:, 0]) if file.stem == "Nelson" else data[:, 0]
    model = MODELS.get(file.stem, file.stem.lower())
    starts = rows[:, 0].copy(), rows[:, 1].copy()
    return Problem(file.stem, model, x.copy(), y.copy(), starts, rows[:, 2], rows[:, 3], squares)


def read_problems(folder: Path = FOLDER) -> list[Problem]:
    """All problems of a folder, by name."""
    return [read_problem(file) for file in sorted(folder.glob("*.dat"))]
