"""The workloads of the AD benchmark: the inputs of each problem at each size, drawn as the benchmark draws them.

NumPy's legacy generator with the benchmark's seed, in the benchmark's order of sizes, timed or not.
Cameras and points of `ba` are distinct here, where the benchmark repeats one of each: what runs is the same, and wrong
indices show. A folder of files `<problem>_<size>.npz` (entries `in_*`, `golden_primal`, `golden_derivative`) takes the
place of what is drawn, and its answers are compared as well; the hand of `ht` is in such a file alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

SEED = 31337
BITS = 14
BONES = 22
THETAS = 26
TRIANGLES = 1084

SIZES: dict[str, tuple[str, ...]] = {
    "gmm": ("2_5_1000", "10_25_1000", "32_50_1000", "64_100_1000"),
    "ba": ("1", "8", "14"),
    "ht": ("simplesmall_hand1_t26_c100", "hand1_t26_c100", "hand7_t26_c3200", "hand11_t26_c51200"),
    "lstm": ("l2_c1024", "l4_c4096", "l6_c8192"),
    "det": ("5", "8", "10"),
    "kmeans": ("k10_n1000_d8", "k100_n10000_d8", "k1000_n10000_d16"),
    "llsq": ("n16_m128", "n1024_m128", "n16392_m128"),
    "lse": ("n2500", "n80000", "n1280000"),
    "ode": ("n1000_s1", "n1000_s100", "n10000_s10", "n100000_s100"),
    "particle": ("w0",),
    "saddle": ("1_1",),
}
QUICK_SIZES: dict[str, tuple[str, ...]] = {
    "gmm": ("3_4_20",),
    "ba": ("n3_m5_p11",),
    "ht": ("simpledrawn_v30_c7", "drawn_v30_c7"),
    "lstm": ("l2_c9",),
    "det": ("4",),
    "kmeans": ("k3_n40_d4",),
    "llsq": ("n8_m5",),
    "lse": ("n50",),
    "ode": ("n12_s5",),
    "particle": ("w0",),
    "saddle": ("1_1",),
}
CAMERAS = {
    "1": (49, 7776, 31843),
    "8": (88, 64298, 383937),
    "14": (356, 226730, 1255268),
}


@dataclass(frozen=True)
class Workload:
    """Inputs by name, and the expected answers where a file gives them (of `ba` the first 30 values and the last)."""

    problem: str
    size: str
    inputs: dict[str, Any]
    golden: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """One way of a tool to compute a problem: calls for the value and for the derivatives alone, waited for.

    `derivative` answers with the same arrays whoever computes them: of `gmm` for alpha, mu, q, l; of `ba` row pointers,
    columns and values; of `lstm` for main and extra parameters; of everything else one array. `parts` are those that
    are timed.
    """

    primal: Callable[[], Any]
    derivative: Callable[[], Any]
    parts: tuple[str, ...] = ("primal", "derivative")


def arrays(answer: Any) -> list[np.ndarray]:
    """The arrays of an answer in order, whatever the tuples and records around them."""
    if isinstance(answer, tuple | list):
        return [leaf for part in answer for leaf in arrays(part)]
    if isinstance(answer, Mapping):
        return [leaf for part in answer.values() for leaf in arrays(part)]
    if hasattr(answer, "detach"):
        return [answer.detach().numpy()]
    return [np.asarray(answer)]


class MissingData(Exception):
    """The inputs of a workload are in a file that was not given."""


def workload(problem: str, size: str, folder: Path | None = None) -> Workload:
    """The inputs of a problem at a size."""
    given: dict[str, Any] = {}
    golden: dict[str, np.ndarray] = {}
    path = folder / f"{problem}_{size}.npz" if folder is not None else None
    if path is not None and path.exists():
        with np.load(path) as file:
            entries = {name: file[name] for name in file.files}
        given = {name[3:]: entry for name, entry in entries.items() if name.startswith("in_")}
        golden = {name[7:]: entry for name, entry in entries.items() if name.startswith("golden_") and entry.ndim < 3}
        golden.pop("source")
    return Workload(problem, size, DRAWN[problem](size, given, folder), golden)


def numbers(size: str) -> list[int]:
    """The numbers in the name of a size: 3, 20 of `l3_c20`."""
    return [int(part.lstrip("abcdefghijklmnopqrstuvwxyz")) for part in size.split("_") if part[-1:].isdigit()]


def replayed(size: str, official: list[str], draw: Any) -> Any:
    """What `draw` makes of a size after it made all official sizes before it, of one seed."""
    random = np.random.RandomState(SEED)
    for other in official:
        drawn = draw(random, other)
        if other == size:
            return drawn
    return draw(np.random.RandomState(SEED), size)


def _gmm(size: str, given: dict[str, Any], _folder: Path | None) -> dict[str, Any]:
    d, k, n = numbers(size)
    random = np.random.default_rng(SEED)
    x = np.stack([random.normal(size=d) for _ in range(n)])
    drawn = {
        "x": x,
        "alpha": random.normal(size=k),
        "mu": np.stack([random.uniform(size=d) for _ in range(k)]),
        "q": np.stack([random.normal(size=d) for _ in range(k)]),
        "l": np.stack([random.normal(size=d * (d - 1) // 2) for _ in range(k)]),
    }
    return {**{name: given.get(name, value) for name, value in drawn.items()}, "m": 0, "gamma": 1.0}


def _ba(size: str, given: dict[str, Any], _folder: Path | None) -> dict[str, Any]:
    n, m, p = CAMERAS[size] if size in CAMERAS else numbers(size)
    place = np.arange(p)
    if given:
        cams, points = np.tile(given["cam"], (n, 1)), np.tile(given["x"], (m, 1))
        weights, feats = np.full(p, float(given["w"])), np.tile(given["feat"], (p, 1))
    else:
        random = np.random.RandomState(SEED)
        cams, points, weights, feats = random.rand(n, 11), random.rand(m, 3), random.rand(p), random.rand(p, 2)
        points[:, 2] += 2.0
    observed = np.stack([place % n, place % m], axis=1)
    return {"cams": cams, "x": points, "w": weights, "feats": feats, "obs": observed}


def _hand(vertices: int) -> dict[str, Any]:
    """A hand as good as any: bones in a chain per finger, two bones of weight for each vertex."""
    random = np.random.RandomState(SEED)
    parents = np.array([-1, 0, *(0 if bone % 4 == 2 else bone - 1 for bone in range(2, BONES))])
    relatives = np.tile(np.eye(4), (BONES, 1, 1))
    relatives[:, :3, :] += 0.1 * random.randn(BONES, 3, 4)
    absolutes = relatives.copy()
    for bone, parent in enumerate(parents):
        if parent >= 0:
            absolutes[bone] = absolutes[parent] @ relatives[bone]
    weights = np.zeros((vertices, BONES))
    for row in weights:
        row[random.choice(BONES, 2, replace=False)] = random.dirichlet((1, 1))
    return {
        "theta": 0.3 * random.randn(THETAS),
        "parents": parents,
        "base_relatives": relatives,
        "inverse_base_absolutes": np.linalg.inv(absolutes),
        "base_positions": np.concatenate([random.randn(vertices, 3), np.ones((vertices, 1))], axis=1),
        "weights": weights,
        "triangles": random.randint(vertices, size=(TRIANGLES, 3)),
        "is_mirrored": False,
    }


def _ht(size: str, given: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    count = numbers(size)[-1]
    is_simple = size.startswith("simple")
    if given:
        inputs = {name: entry for name, entry in given.items() if name != "bone_count"}
        return {**inputs, "is_mirrored": bool(given["is_mirrored"]), "us": None if is_simple else given["us"]}
    if "drawn" in size:
        model = _hand(numbers(size)[0])
    else:
        stem = "simplesmall_hand1" if is_simple else "hand1"
        path = folder / f"ht_{stem}_t26_c100.npz" if folder is not None else None
        if path is None or not path.exists():
            raise MissingData(f"the hand of ht_{size} is in a file ht_{stem}_t26_c100.npz: name its folder by --data")
        model = workload("ht", f"{stem}_t26_c100", folder).inputs
    random = np.random.RandomState(SEED)
    most = len(model["base_positions"]) if is_simple else TRIANGLES
    drawn = {"correspondences": random.randint(most, size=count), "points": random.randn(count, 3)}
    return {**model, **drawn, "us": None if is_simple else random.rand(count, 2) / 2}


def _lstm(size: str, given: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    layers, length = numbers(size)
    if given:
        return dict(given)
    random = np.random.default_rng(SEED)
    sequence = random.integers(0, 2, (length, BITS)).astype(np.float64)
    path = folder / "lstm_l2_c1024.npz" if folder is not None else None
    if path is not None and path.exists():
        with np.load(path) as file:
            sequence = np.resize(file["in_sequence"], (length, BITS))
    return {
        "main_params": random.random((2 * layers, 4 * BITS)),
        "extra_params": random.random((3, BITS)),
        "state": random.random((2 * layers, BITS)),
        "sequence": sequence,
    }


def _det(size: str, given: dict[str, Any], _folder: Path | None) -> dict[str, Any]:
    ell = int(size)
    drawn = replayed(size, [str(n) for n in range(5, 12)], lambda random, name: random.rand(int(name) ** 2))
    return {"a": np.asarray(given.get("A", drawn)).reshape(ell, ell)}


def _kmeans(size: str, given: dict[str, Any], _folder: Path | None) -> dict[str, Any]:
    every = sorted(product((10, 100, 1000), (1000, 10000), (8, 16)), key=lambda s: s[0] * s[1] * s[2])
    names = [f"k{k}_n{n}_d{d}" for k, n, d in every]
    points = given.get("points", replayed(size, names, lambda random, name: random.rand(*numbers(name)[1:])))
    return {"points": points, "centroids": given.get("centroids", points[-numbers(size)[0] :].copy())}


def _llsq(size: str, given: dict[str, Any], _folder: Path | None) -> dict[str, Any]:
    counts = [16 * 2**i for i in range(9)] + [8196, 16392]
    drawn = replayed(size, [f"n{n}_m128" for n in counts], lambda random, name: random.rand(numbers(name)[1]))
    return {"x": given.get("x", drawn), "n": numbers(size)[0]}


def _lse(size: str, given: dict[str, Any], _folder: Path | None) -> dict[str, Any]:
    names = [f"n{2500 * 2**i}" for i in range(10)]
    return {"x": given.get("x", replayed(size, names, lambda random, name: random.rand(*numbers(name))))}


def _ode(size: str, given: dict[str, Any], _folder: Path | None) -> dict[str, Any]:
    every = sorted(product((1000, 10000, 100000), (1, 10, 100)), key=lambda s: s[0] * s[1])
    drawn = replayed(size, [f"n{n}_s{s}" for n, s in every], lambda random, name: random.rand(numbers(name)[0]))
    return {"x": given.get("x", drawn), "s": numbers(size)[1]}


DRAWN: dict[str, Any] = {
    "gmm": _gmm,
    "ba": _ba,
    "ht": _ht,
    "lstm": _lstm,
    "det": _det,
    "kmeans": _kmeans,
    "llsq": _llsq,
    "lse": _lse,
    "ode": _ode,
    "particle": lambda *_: {"w": 0.0},
    "saddle": lambda *_: {"start": np.ones(2)},
}
