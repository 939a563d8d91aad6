"""Fits `softmax_regression.dg` to the digits by SciPy's trust region method, with exact products with the Hessian.

Run it with `python examples/softmax_regression.py`.
"""

from pathlib import Path

import numpy as np
from scipy.optimize import OptimizeResult, minimize

import dgraph as dg

HERE = Path(__file__).parent
PENALTY = 1e-3


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The pixels of all digits as numbers from 0 to 1, and which digits they are."""
    with np.load(HERE / "data" / "digits.npz") as data:
        return data["image"].reshape(-1, 64) / 16.0, data["label"]


def record(flat: np.ndarray) -> dict[str, np.ndarray]:
    """The parameters of the program from all their numbers in one row."""
    return {"w": flat[:640].reshape(64, 10), "b": flat[640:]}


def row(parameters: object) -> np.ndarray:
    """The other way round."""
    return np.concatenate([np.ravel(parameters["w"]), parameters["b"]])


def fit(x: np.ndarray, label: np.ndarray, penalty: float) -> OptimizeResult:
    """The optimum from zero parameters."""
    program = dg.load(HERE / "softmax_regression.dg")
    value_and_grad = dg.compile(dg.value_and_grad(program.objective, wrt="m"))
    hvp = dg.compile(dg.hvp(program.objective, wrt="m"))

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = value_and_grad(record(flat), x, label, penalty)
        return float(value), row(slope)

    def bent(flat: np.ndarray, direction: np.ndarray) -> np.ndarray:
        return row(hvp(record(flat), x, label, penalty, record(direction)))

    return minimize(value_and_slope, np.zeros(650), jac=True, hessp=bent, method="trust-ncg", options={"gtol": 1e-10})


def main() -> None:
    """Print what the fit reaches."""
    x, label = digits()
    found = fit(x, label, PENALTY)
    right = dg.load(HERE / "softmax_regression.dg").accuracy(record(found.x), x, label)
    print(f"objective {found.fun:.12f}, slope {np.linalg.norm(found.jac):.0e}, after {found.nit} steps")
    print(f"{right:.1%} of the {len(label)} digits are read rightly")


if __name__ == "__main__":
    main()
