"""The expected outputs of GradBench at its own sizes, and at others where its own are degenerate.

The files lie beside a checkout, as `../shared/data/gradbench`; without them these tests skip, and those of
`test_gradbench_programs.py` compare with formulas at small sizes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgraph as dg

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "gradbench"
PROGRAMS = ROOT / "examples" / "gradbench"
SHOWN = 30

File = dict[str, np.ndarray]

FILES = [
    *("ba_1", "extra_ba_rand", "det_5", "det_8", "gmm_2_5_1000", "gmm_10_25_1000", "extra_gmm_m2_gamma1p7"),
    *("ht_hand1_t26_c100", "ht_simplesmall_hand1_t26_c100", "kmeans_k10_n1000_d8", "kmeans_k100_n10000_d8"),
    *("llsq_n16_m128", "llsq_n1024_m128", "lse_n2500", "lse_n80000", "lstm_l2_c1024", "extra_lstm_l3_c20_b5"),
    *("ode_n1000_s1", "ode_n1000_s100", "ode_n10000_s10", "extra_ode_n12_s5", "extra_ode_n5_s40"),
]


def gmm(given: File) -> list[Any]:
    mixture = {name: given[f"in_{name}"] for name in ("alpha", "mu", "q", "l")}
    return [mixture, given["in_x"], float(given["in_gamma"]), int(given["in_m"])]


def ba(given: File) -> list[Any]:
    if "in_cams" in given:
        cam, point = given["in_obs"].astype("i4").T
        return [given["in_cams"], given["in_x"], given["in_w"], cam.copy(), point.copy(), given["in_feats"]]
    n, m, p = (int(given[f"in_{name}"]) for name in "nmp")
    j = np.arange(p)
    cams, x = np.tile(given["in_cam"], (n, 1)), np.tile(given["in_x"], (m, 1))
    w, feature = np.full(p, given["in_w"]), np.tile(given["in_feat"], (p, 1))
    return [cams, x, w, (j % n).astype("i4"), (j % m).astype("i4"), feature]


def ht(given: File) -> list[Any]:
    hand = {
        "parent": given["in_parents"].astype("i4"),
        "base_relative": given["in_base_relatives"],
        "inverse_absolute": given["in_inverse_base_absolutes"],
        "position": given["in_base_positions"],
        "weight": given["in_weights"],
        "mirrored": bool(given["in_is_mirrored"]),
    }
    match = given["in_correspondences"].astype("i4")
    if given["in_us"].size == 0:
        return [hand, given["in_theta"], given["in_points"], match]
    triangle = given["in_triangles"].astype("i4")
    return [hand, given["in_theta"], given["in_us"], given["in_points"], triangle, match]


def det(given: File) -> list[Any]:
    n = int(given["in_ell"])
    return [given["in_A"].reshape(n, n), 2**n]


ARGUMENTS: dict[str, Callable[[File], list[Any]]] = {
    "gmm": gmm,
    "ba": ba,
    "ht": ht,
    "det": det,
    "lstm": lambda given: [given[f"in_{name}"] for name in ("main_params", "extra_params", "state", "sequence")],
    "kmeans": lambda given: [given["in_points"], given["in_centroids"]],
    "llsq": lambda given: [given["in_x"], int(given["in_n"])],
    "lse": lambda given: [given["in_x"]],
    "ode": lambda given: [given["in_x"], int(given["in_s"])],
}


def expected(name: str) -> tuple[str, list[Any], np.ndarray, np.ndarray]:
    """The problem, its arguments, and what comes out."""
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there")
    with np.load(DATA / f"{name}.npz") as file:
        given = {key: file[key] for key in file.files}
    problem = name.removeprefix("extra_").partition("_")[0]
    return problem, ARGUMENTS[problem](given), given["golden_primal"], given["golden_derivative"]


def close(found: Any, golden: np.ndarray) -> None:
    """Equal to 1e-9, relative to the entry, or where entries cancel to 1e-12 of the largest."""
    flat = np.ravel(golden)
    np.testing.assert_allclose(np.ravel(found), flat, rtol=1e-9, atol=1e-12 * np.abs(flat).max())


@pytest.mark.parametrize("name", FILES)
def test_the_expected_outputs(name):
    problem, arguments, value, slope = expected(name)
    program = dg.load(PROGRAMS / f"{problem}.dg")
    prefix = "simple_" if "simple" in name else ""
    found = program.function(f"{prefix}objective")(*arguments)
    found_slope = program.function(f"{prefix}derivative")(*arguments)
    if problem == "ba":
        # Of equal observations the files hold the first, and of the matrix the last entry too.
        errors, weights = found
        repeated = value.size == 3
        found = np.concatenate([errors[0], weights[:1]]) if repeated else errors
        entries = found_slope.value
        found_slope = np.append(entries[:SHOWN], entries[-1]) if repeated else entries[: SHOWN * len(weights)]
    elif problem == "gmm":
        found_slope = np.concatenate([found_slope[part].ravel() for part in ("alpha", "mu", "q", "l")])
    close(found, value)
    if problem == "ode" and not slope.any():
        # The derivative is too small for a number: (2^n / n!) times a product.
        assert np.abs(found_slope).max() < 1e-300
    else:
        close(found_slope, slope)


@pytest.mark.parametrize("mode", ["rr", "rf", "fr", "ff"])
def test_the_expected_ends_of_descents(mode):
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there")
    data = json.loads((DATA / "particle_saddle.json").read_text(encoding="utf-8"))
    particle, saddle = (dg.load(PROGRAMS / f"{name}.dg").function(mode) for name in ("particle", "saddle"))
    close(particle(data["particle"]["input"]["w"]), np.array(data["particle"]["golden"]))
    close(saddle(np.array(data["saddle"]["input"]["start"])), np.array(data["saddle"]["golden"]))
