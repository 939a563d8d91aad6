"""What the tests of the front end share: programs by name, and running a lowered function with the interpreter."""

from pathlib import Path
from typing import Any

import numpy as np

import dgraph.ops  # noqa: F401 (fills the table of ops)
from dgraph.ad import expand
from dgraph.errors import DgraphError, Diagnostic
from dgraph.frontend import Module, Target, check, load_program, lower_function, parse_program
from dgraph.ir.evaluate import evaluate
from dgraph.ir.verify import verify
from dgraph.types import DType, Type

PROGRAMS = Path(__file__).parent.parent / "programs"


def program(name: str) -> Module:
    return load_program(PROGRAMS / f"{name}.dg")


def run(
    module: Module | str,
    target: Target,
    *arguments: Any,
    types: dict[str, Type] | None = None,
    precision: DType | None = None,
    **extents: int,
) -> Any:
    """The results of a function: one array, or a list of the leaves."""
    if isinstance(module, str):
        module = parse_program(module)
    graph = verify(lower_function(module, target, types=types, precision=precision))
    results = evaluate(verify(expand(graph)), arguments, extents)
    return results[0] if len(results) == 1 else results


def faults(text: str) -> list[Diagnostic]:
    """The diagnostics of a program, those of parsing too."""
    try:
        return check(parse_program(text, "test.dg"))
    except DgraphError as fault:
        return list(fault.diagnostics)


def differences(function: Any, x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient of a scalar function by central differences."""
    x = np.asarray(x, float)
    slope = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        away = np.zeros_like(x)
        away[at] = step
        slope[at] = (function(x + away) - function(x - away)) / (2 * step)
    return slope
