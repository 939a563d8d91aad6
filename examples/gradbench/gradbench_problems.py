"""The problems of GradBench as its requests put them: the functions they name, their inputs, the answers they want."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import dgraph as dg

Input = Mapping[str, Any]

MODES = ("rr", "rf", "fr", "ff")

SHOWN = 30
"""How many entries of the sparse Jacobian an answer holds, beside the last one."""


class BadRequest(Exception):
    """A request names a module or function that is not here, or has no input."""


@dataclass(frozen=True)
class Asked:
    """A function that requests name: that of the program, and what its result is in an answer."""

    function: str
    answer: Callable[[Any], Any]


@dataclass(frozen=True)
class Problem:
    """One problem: its program, the functions that requests name, and the arguments that an input holds."""

    file: str
    functions: Mapping[str, Asked]
    arguments: Callable[[Any], Sequence[Any]]


@dataclass(frozen=True)
class Run:
    """A function with its arguments in place: `call()` computes, `answer(call())` is what the request wants."""

    call: Callable[[], Any]
    answer: Callable[[Any], Any]


def plain(value: Any) -> Any:
    """Numbers, arrays and records as JSON has them."""
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    return np.asarray(value).tolist()


def flat(value: Any) -> Any:
    """Arrays as one row of numbers."""
    return np.ravel(value).tolist()


def _floats(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _indices(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.int32)


def _gmm_arguments(given: Input) -> Sequence[Any]:
    d, k = given["d"], given["k"]
    mixture = {
        "alpha": _floats(given["alpha"]),
        "mu": _floats(given["mu"]).reshape(k, d),
        "q": _floats(given["q"]).reshape(k, d),
        "l": _floats(given["l"]).reshape(k, d * (d - 1) // 2),
    }
    return mixture, _floats(given["x"]).reshape(given["n"], d), float(given["gamma"]), int(given["m"])


def _ba_arguments(given: Input) -> Sequence[Any]:
    """One camera, point, weight and feature, repeated; observation j sees point j through camera j, counted around."""
    n, m, p = given["n"], given["m"], given["p"]
    observation = np.arange(p)
    return (
        np.tile(_floats(given["cam"]), (n, 1)),
        np.tile(_floats(given["x"]), (m, 1)),
        np.full(p, float(given["w"])),
        _indices(observation % n),
        _indices(observation % m),
        np.tile(_floats(given["feat"]), (p, 1)),
    )


def _ba_errors(value: Any) -> Any:
    errors, weights = value
    return {
        "reproj_error": {"elements": errors[0].tolist(), "repeated": len(errors)},
        "w_err": {"element": float(weights[0]), "repeated": len(weights)},
    }


def _ba_matrix(value: Any) -> Any:
    parts = {"rows": value["start"], "cols": value["column"], "vals": value["value"]}
    return {name: [*part[:SHOWN].tolist(), part[-1].item()] for name, part in parts.items()}


def _hand(model: Input) -> dict[str, Any]:
    return {
        "parent": _indices(model["parents"]),
        "base_relative": _floats(model["base_relatives"]),
        "inverse_absolute": _floats(model["inverse_base_absolutes"]),
        "position": _floats(model["base_positions"]),
        "weight": _floats(model["weights"]),
        "mirrored": bool(model["is_mirrored"]),
    }


def _simple_ht_arguments(given: Input) -> Sequence[Any]:
    data = given["data"]
    return _hand(data["model"]), _floats(given["theta"]), _floats(data["points"]), _indices(data["correspondences"])


def _ht_arguments(given: Input) -> Sequence[Any]:
    hand, theta, points, match = _simple_ht_arguments(given)
    return hand, theta, _floats(given["us"]), points, _indices(given["data"]["model"]["triangles"]), match


def _lstm_arguments(given: Input) -> Sequence[Any]:
    return [_floats(given[name]) for name in ("main_params", "extra_params", "state", "sequence")]


def _det_arguments(given: Input) -> Sequence[Any]:
    size = given["ell"]
    return _floats(given["A"]).reshape(size, size), 2**size


PRIMAL = Asked("objective", plain)
DERIVATIVE = Asked("derivative", plain)

PROBLEMS = {
    "hello": Problem("hello", {"square": PRIMAL, "double": DERIVATIVE}, lambda given: [float(given)]),
    "gmm": Problem("gmm", {"objective": PRIMAL, "jacobian": DERIVATIVE}, _gmm_arguments),
    "ba": Problem(
        "ba",
        {"objective": Asked("objective", _ba_errors), "jacobian": Asked("derivative", _ba_matrix)},
        _ba_arguments,
    ),
    "ht": Problem("ht", {"objective": Asked("objective", flat), "jacobian": DERIVATIVE}, _ht_arguments),
    "lstm": Problem("lstm", {"objective": PRIMAL, "jacobian": DERIVATIVE}, _lstm_arguments),
    "det": Problem("det", {"primal": PRIMAL, "gradient": Asked("derivative", flat)}, _det_arguments),
    "kmeans": Problem(
        "kmeans",
        {"cost": PRIMAL, "dir": DERIVATIVE},
        lambda given: [_floats(given["points"]), _floats(given["centroids"])],
    ),
    "llsq": Problem(
        "llsq", {"primal": PRIMAL, "gradient": DERIVATIVE}, lambda given: [_floats(given["x"]), int(given["n"])]
    ),
    "lse": Problem("lse", {"primal": PRIMAL, "gradient": DERIVATIVE}, lambda given: [_floats(given["x"])]),
    "ode": Problem(
        "ode", {"primal": PRIMAL, "gradient": DERIVATIVE}, lambda given: [_floats(given["x"]), int(given["s"])]
    ),
    "particle": Problem("particle", {mode: Asked(mode, plain) for mode in MODES}, lambda given: [float(given["w"])]),
    "saddle": Problem("saddle", {mode: Asked(mode, flat) for mode in MODES}, lambda given: [_floats(given["start"])]),
}
"""The modules that requests name."""

SIMPLE_HT = Problem(
    "ht",
    {"objective": Asked("simple_objective", flat), "jacobian": Asked("simple_derivative", plain)},
    _simple_ht_arguments,
)
"""The module `ht` where the input has no coordinates in triangles."""


def problem(module: str) -> Problem:
    """The problem of a module, with its program loaded."""
    if module not in PROBLEMS:
        raise BadRequest(f"there is no module {module!r}; there are {', '.join(PROBLEMS)}")
    load(PROBLEMS[module].file)
    return PROBLEMS[module]


@cache
def load(file: str) -> dg.Program:
    """A program of this folder."""
    return dg.load(Path(__file__).with_name(f"{file}.dg"))


@cache
def compiled(file: str, name: str) -> Any:
    """A function as machine code."""
    return dg.compile(load(file).function(name))


def prepare(module: str, function: str, given: Any) -> Run:
    """What a request asks for, ready to run on its input."""
    asked = problem(module)
    if module == "ht" and isinstance(given, Mapping) and not given.get("us"):
        asked = SIMPLE_HT
    if function not in asked.functions:
        raise BadRequest(f"{module} has no function {function!r}; it has {', '.join(asked.functions)}")
    if module != "hello" and not isinstance(given, Mapping):
        raise BadRequest("the input is not an object")
    wanted = asked.functions[function]
    return Run(compiled(asked.file, wanted.function).bind(*asked.arguments(given)), wanted.answer)
