"""Kernels of the AD benchmark that were compiled by hand: what the compiler is to come near.

They are modules of a folder that the benchmark is told of (`gmm.py`, `kmeans.py` and so on, on Numba), which take their
inputs from files and check their own answers, so that they are timed alone.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from gradbench_data import Form, Workload
from measure import versions

VERSIONS = versions("numba")
ALIVE: list[Any] = []
"""What the kernels of the present problem know by address."""


def forms(work: Workload) -> dict[str, Form]:
    """The hand-compiled kernels of a problem."""
    return {name: Form(*calls) for name, calls in FORMS[work.problem](work).items()}


@contextmanager
def stored(work: Workload, entries: dict[str, Any]) -> Iterator[Path]:
    """A file of the inputs as the kernels read them, with some entries more."""
    given = {f"in_{name}": value for name, value in work.inputs.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npz"
        np.savez(path, **{**given, **entries})
        yield path


def set_up(module: str, entries: Callable[[Any], dict[str, Any]], *variants: tuple[str, dict[str, Any]]) -> Any:
    """Forms of a module whose `setup` takes a file, by variant."""

    def made(work: Workload) -> dict[str, tuple[Any, Any]]:
        with stored(work, entries(work.inputs)) as path:
            setup = import_module(module).setup
            found = {f"by hand{title}": setup(path, **options) for title, options in variants}
        ALIVE[:] = found.values()
        return {name: made[:2] for name, made in found.items()}

    return made


def answers(primal: Any, derivative: Any) -> dict[str, Any]:
    """Numbers in the shapes of the expected answers, with which the kernels compare."""
    return {"golden_primal": np.ones(primal), "golden_derivative": np.ones(derivative)}


def _gmm_entries(given: Any) -> dict[str, Any]:
    (n, d), k = given["x"].shape, len(given["alpha"])
    return {"in_n": n, "in_d": d, "in_k": k, **answers((), k + 2 * k * d + given["l"].size)}


def _ba_entries(given: Any) -> dict[str, Any]:
    n, m, p = (len(given[name]) for name in ("cams", "x", "w"))
    return {"in_n": n, "in_m": m, "in_p": p, **answers(2 * p, 30 * p)}


def _ht_entries(given: Any) -> dict[str, Any]:
    rows, is_simple = 3 * len(given["points"]), given["us"] is None
    none = {"in_us": np.zeros(0)} if is_simple else {}
    return {"in_bone_count": len(given["parents"]), **none, **answers(rows, (rows, 26 if is_simple else 28))}


def _gmm(work: Workload) -> dict[str, tuple[Any, Any]]:
    """Sizes built in where rows are short, at run time otherwise."""
    if work.inputs["x"].shape[1] < 32:
        return set_up("gmm", _gmm_entries, ("", {}))(work)
    return set_up("gmm_dyn", _gmm_entries, ("", {"fns": import_module("gmm_dyn").build()}))(work)


def _kmeans(work: Workload) -> dict[str, tuple[Any, Any]]:
    points, centroids = work.inputs["points"], np.ascontiguousarray(work.inputs["centroids"])
    (n, d), k = points.shape, len(centroids)
    aligned = import_module("em").aligned
    cost, direction, _ = import_module("kmeans").make(d)
    given = (points, centroids, aligned(n * d), aligned(n), aligned(n, np.int64))
    out = (aligned(k * d), aligned(k), np.zeros((k, d)))
    return {"by hand": (lambda: cost(*given), lambda: direction(*given, *out))}


def _llsq(work: Workload) -> dict[str, tuple[Any, Any]]:
    x, n = work.inputs["x"], work.inputs["n"]
    primal, gradient = import_module("small").make_llsq()
    out, lanes, slope = np.zeros(1), import_module("em").aligned(len(x) * 8), np.zeros(len(x))
    return {"by hand": (lambda: primal(x, n, out), lambda: gradient(x, n, lanes, slope))}


def _lse(work: Workload) -> dict[str, tuple[Any, Any]]:
    x = work.inputs["x"]
    primal, gradient, _ = import_module("small").make_lse()
    out, slope = np.zeros(16), np.zeros(len(x))
    return {"by hand": (lambda: primal(x, out), lambda: gradient(x, slope))}


def _ode(work: Workload) -> dict[str, tuple[Any, Any]]:
    n = len(work.inputs["x"])
    with stored(work, answers(n, n)) as path:
        return {"by hand": import_module("small").ode_setup(path)[:2]}


def _det(work: Workload) -> dict[str, tuple[Any, Any]]:
    a, n = np.ascontiguousarray(work.inputs["a"]).reshape(-1), len(work.inputs["a"])
    module = import_module("det")
    minors, back, slope = np.zeros(1 << n), np.zeros(1 << n), np.zeros(n * n)
    return {"by hand": (lambda: module.det_mask(a, n, minors), lambda: module.grad_mask(a, n, minors, back, slope))}


def _particle(_work: Workload) -> dict[str, tuple[Any, Any]]:
    module, tape = import_module("particle"), np.zeros(4096)
    return {
        f"by hand, {name}": (lambda: module.f(0.0), lambda by=is_reverse: module.argmin(0.0, tape, by))
        for name, is_reverse in (("forward", False), ("reverse", True))
    }


FORMS: dict[str, Callable[[Workload], dict[str, tuple[Any, Any]]]] = {
    "gmm": _gmm,
    "ba": set_up("ba", _ba_entries, ("", {})),
    "ht": set_up("ht", _ht_entries, ("", {"skip": False}), (", zero weights skipped", {"skip": True})),
    "lstm": set_up(
        "lstm",
        lambda given: answers((), given["main_params"].size + given["extra_params"].size),
        (", all stored", {"store": True}),
        (", recomputed", {"store": False}),
    ),
    "det": _det,
    "kmeans": _kmeans,
    "llsq": _llsq,
    "lse": _lse,
    "ode": _ode,
    "particle": _particle,
    "saddle": lambda _: {},
}
