"""The problems of the AD benchmark by dgraph: the programs of `examples/gradbench`, called bound and checked."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from gradbench_data import Workload
from measure import versions

import dgraph as dg

PROGRAMS = Path(__file__).parents[1] / "examples" / "gradbench"
VERSIONS = f"dgraph {dg.__version__}, {versions('llvmlite')}"


class Compiled:
    """A function and its derivative, compiled when they are first wanted; `checked` is a call with all checks."""

    def __init__(self, file: str, arguments: Sequence[Any], primal: str = "objective", derivative: str = "derivative"):
        self.file, self.arguments = file, arguments
        self.names = {"primal": primal, "derivative": derivative}
        self.parts = ("primal", "derivative", "checked")

    def _compiled(self, part: str) -> Any:
        return dg.compile(dg.load(PROGRAMS / f"{self.file}.dg").function(self.names[part]))

    @cached_property
    def primal(self) -> Callable[[], Any]:
        """A bound call of the function."""
        return self._compiled("primal").bind(*self.arguments)

    @cached_property
    def derivative(self) -> Callable[[], Any]:
        """A bound call of the derivative."""
        return self._compiled("derivative").bind(*self.arguments)

    @cached_property
    def checked(self) -> Callable[[], Any]:
        """A plain call of the derivative."""
        slope, arguments = self._compiled("derivative"), self.arguments
        return lambda: slope(*arguments)


def forms(work: Workload) -> dict[str, Compiled]:
    """The forms of a problem by name."""
    given = work.inputs
    if work.problem in ("particle", "saddle"):
        (start,) = given.values()
        found = {
            f"dgraph {mode}": Compiled(work.problem, (start,), derivative=mode) for mode in ("ff", "fr", "rf", "rr")
        }
        for form in found.values():
            form.parts = ("derivative", "checked")
        if work.problem == "particle":
            found["dgraph ff"].parts = ("primal", "derivative", "checked")
        return found
    if work.problem == "ht" and given["us"] is None:
        arguments = [_hand(given), given["theta"], given["points"], _indices(given["correspondences"])]
        return {"dgraph": Compiled("ht", arguments, "simple_objective", "simple_derivative")}
    found = {"dgraph": Compiled(work.problem, ARGUMENTS[work.problem](given))}
    if work.problem == "det" and len(given["a"]) <= 8:
        found["dgraph permutations"] = Compiled("det", (given["a"],), "permutations", "permutations_derivative")
    return found


def _indices(values: Any) -> Any:
    return np.asarray(values, np.int32)


def _gmm(given: Any) -> list[Any]:
    return [{name: given[name] for name in ("alpha", "mu", "q", "l")}, given["x"], given["gamma"], given["m"]]


def _ba(given: Any) -> list[Any]:
    cam, point = (_indices(given["obs"][:, place]).copy() for place in (0, 1))
    return [given["cams"], given["x"], given["w"], cam, point, given["feats"]]


def _hand(given: Any) -> dict[str, Any]:
    return {
        "parent": _indices(given["parents"]),
        "base_relative": given["base_relatives"],
        "inverse_absolute": given["inverse_base_absolutes"],
        "position": given["base_positions"],
        "weight": given["weights"],
        "mirrored": bool(given["is_mirrored"]),
    }


def _ht(given: Any) -> list[Any]:
    triangles, match = _indices(given["triangles"]), _indices(given["correspondences"])
    return [_hand(given), given["theta"], given["us"], given["points"], triangles, match]


ARGUMENTS: dict[str, Callable[[Any], list[Any]]] = {
    "gmm": _gmm,
    "ba": _ba,
    "ht": _ht,
    "lstm": lambda given: [given[name] for name in ("main_params", "extra_params", "state", "sequence")],
    "det": lambda given: [given["a"], 2 ** len(given["a"])],
    "kmeans": lambda given: [given["points"], given["centroids"]],
    "llsq": lambda given: [given["x"], given["n"]],
    "lse": lambda given: [given["x"]],
    "ode": lambda given: [given["x"], given["s"]],
}
