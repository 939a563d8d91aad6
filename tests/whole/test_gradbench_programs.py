"""The programs of GradBench equal NumPy's formulas and derivatives, compiled and interpreted."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Region
from dgraph.ops.transform import Jvp, Vjp
from dgraph.program.arguments import build
from dgraph.program.pipeline import stage

from . import gradbench_formulas as formulas

FOLDER = Path(__file__).parents[2] / "examples" / "gradbench"
WAYS = ["compiled", "interpreted"]
MODES = ["rr", "rf", "fr", "ff"]
BEST_CHARGE = 0.2071918746486116
SADDLE = 8.246324826140356e-06


def run(way: str, file: str, name: str, *arguments: Any) -> Any:
    """A function of an example on its arguments, by its machine code or by the interpreter."""
    function = dg.load(FOLDER / f"{file}.dg").function(name)
    if way == "compiled":
        return function(*arguments)
    leaves, extents = function.compiled.leaves(arguments, {})
    found = evaluate(stage(function.graph, "expand"), leaves, extents)
    return build(function.compiled.signature.result, iter(found))


def close(found: Any, expected: Any) -> None:
    """Equal to 1e-9, relative to the entry, or where entries cancel to 1e-13 of the largest."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13 * np.abs(expected).max(initial=0))
    assert np.shape(found) == expected.shape


def ways(small: list[tuple[Any, ...]], large: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Small sizes in both ways; those that fill blocks and lanes and leave a rest by machine code alone."""
    return [(way, *sizes) for way in WAYS for sizes in small] + [("compiled", *sizes) for sizes in large]


@pytest.mark.parametrize(
    ("way", "n", "d", "k", "gamma", "m"),
    ways(
        [(7, 3, 2, 1.0, 0), (5, 4, 3, 1.7, 2), (4, 1, 2, 0.6, 1), (3, 2, 1, 1.0, 0)],
        [(131, 17, 5, 1.0, 0), (67, 9, 34, 1.2, 1), (300, 2, 3, 1.0, 0)],
    ),
)
def test_gmm(way, n, d, k, gamma, m):
    rng = np.random.default_rng(31337)
    x = rng.normal(size=(n, d))
    sizes = {"alpha": (k,), "mu": (k, d), "q": (k, d), "l": (k, d * (d - 1) // 2)}
    g = {name: rng.normal(size=size) for name, size in sizes.items()}
    value, slope = formulas.gmm(g, x, gamma, m)
    close(run(way, "gmm", "objective", g, x, gamma, m), value)
    found = run(way, "gmm", "derivative", g, x, gamma, m)
    for name in sizes:
        close(found[name], slope[name])


def observations(n: int, m: int, p: int) -> tuple[np.ndarray, ...]:
    """Cameras before points, the second without a rotation."""
    rng = np.random.default_rng(5)
    cams = rng.normal(size=(n, 11)) * [*[0.4] * 3, *[0.1] * 3, 1, 1, 1, 0.1, 0.01]
    if n > 1:
        cams[1, :3] = 0.0
    x = rng.normal(size=(m, 3)) + np.array([0.0, 0.0, 5.0])
    cam, point = rng.integers(0, n, p), rng.integers(0, m, p)
    return cams, x, rng.uniform(0.5, 2, p), cam.astype(np.int32), point.astype(np.int32), rng.normal(size=(p, 2))


@pytest.mark.parametrize(("way", "n", "m", "p"), ways([(3, 4, 17), (1, 1, 1), (2, 3, 0)], [(5, 20, 203)]))
def test_ba(way, n, m, p):
    arguments = observations(n, m, p)
    assert p < 10 or 1 in arguments[3]
    errors, weights, dense, pattern = formulas.ba(*arguments)
    found = run(way, "ba", "objective", *arguments)
    close(found[0], errors)
    close(found[1], weights)
    rows = run(way, "ba", "derivative", *arguments)
    assert len(rows.value) == len(rows.column) == 31 * p
    assert len(rows.start) == 3 * p + 1
    close(csr_array((rows.value, rows.column, rows.start), shape=dense.shape).toarray(), dense)
    held = csr_array((np.ones(31 * p), rows.column, rows.start), shape=dense.shape).toarray()
    np.testing.assert_array_equal(held, pattern)
    # Fifteen entries for each of the two rows of an observation: its camera, its point, its weight.
    for j in range(p):
        expected = np.flatnonzero(pattern[2 * j])
        np.testing.assert_array_equal(rows.column[30 * j : 30 * j + 15], expected)
        np.testing.assert_array_equal(rows.column[30 * j + 15 : 30 * j + 30], expected)


def a_hand(v: int, mirrored: bool) -> dict[str, Any]:
    rng = np.random.default_rng(11)
    return {
        "parent": np.array(
            [-1, 0, *[[1, 4 * f + 2, 4 * f + 3, 4 * f + 4][j] for f in range(5) for j in range(4)]], "i4"
        ),
        "base_relative": np.eye(4) + 0.3 * rng.normal(size=(22, 4, 4)),
        "inverse_absolute": np.eye(4) + 0.3 * rng.normal(size=(22, 4, 4)),
        "position": np.concatenate([rng.normal(size=(v, 3)), np.ones((v, 1))], axis=1),
        "weight": rng.uniform(size=(v, 22)) * (rng.uniform(size=(v, 22)) < 0.2),
        "mirrored": mirrored,
    }


@pytest.mark.parametrize(
    ("way", "v", "n", "mirrored", "angle"),
    [
        *(("compiled", 7, 5, False, 0.7), ("compiled", 7, 5, True, 1e-5), ("compiled", 45, 37, True, 0.7)),
        ("interpreted", 2, 5, True, 0.7),
    ],
)
def test_ht(way, v, n, mirrored, angle):
    rng = np.random.default_rng(3)
    hand = a_hand(v, mirrored)
    theta = rng.normal(size=26)
    theta[:3] *= angle / np.linalg.norm(theta[:3])
    us, points = rng.uniform(size=(n, 2)), rng.normal(size=(n, 3))
    triangle, match = rng.integers(0, v, (4, 3)).astype("i4"), rng.integers(0, 4, n).astype("i4")
    corners = triangle[match]
    expected = formulas.ht(hand, theta, us, points, corners).real
    close(run(way, "ht", "objective", hand, theta, us, points, triangle, match), expected)
    by_theta = formulas.complex_step(lambda theta: formulas.ht(hand, theta, us, points, corners), theta)
    by_us = formulas.complex_step(lambda us: formulas.ht(hand, theta, us, points, corners), us)
    columns = np.concatenate([np.einsum("irid->ird", by_us), by_theta], axis=2).reshape(3 * n, 28)
    close(run(way, "ht", "derivative", hand, theta, us, points, triangle, match), columns)


@pytest.mark.parametrize(("way", "v"), [("compiled", 7), ("interpreted", 2)])
def test_ht_without_triangles(way, v):
    rng = np.random.default_rng(4)
    hand, theta, points, match = (
        a_hand(v, False),
        rng.normal(size=26),
        rng.normal(size=(3, 3)),
        np.array([0, 1, 1], "i4"),
    )
    vertices = formulas.ht_skin(hand, theta)[match].real
    close(run(way, "ht", "simple_objective", hand, theta, points, match), points - vertices)
    slopes = formulas.complex_step(lambda theta: points - formulas.ht_skin(hand, theta)[match], theta)
    close(run(way, "ht", "simple_derivative", hand, theta, points, match), slopes.reshape(9, 26))


@pytest.mark.parametrize(
    ("way", "layers", "bits", "characters"), ways([(2, 3, 6), (1, 5, 2), (3, 1, 4)], [(2, 14, 9), (2, 2, 70)])
)
def test_lstm(way, layers, bits, characters):
    rng = np.random.default_rng(7)
    main, extra = rng.normal(size=(2 * layers, 4 * bits)), rng.normal(size=(3, bits))
    state, sequence = rng.normal(size=(2 * layers, bits)), rng.integers(0, 2, (characters, bits)).astype(float)
    close(run(way, "lstm", "objective", main, extra, state, sequence), formulas.lstm(main, extra, state, sequence).real)
    by_main = formulas.complex_step(lambda main: formulas.lstm(main, extra, state, sequence), main)
    by_extra = formulas.complex_step(lambda extra: formulas.lstm(main, extra, state, sequence), extra)
    expected = np.concatenate([by_main.ravel(), by_extra.ravel()])
    close(run(way, "lstm", "derivative", main, extra, state, sequence), expected)


@pytest.mark.parametrize(("way", "n"), ways([(1,), (2,), (4,)], [(6,)]))
def test_det(way, n):
    a = np.random.default_rng(n).normal(size=(n, n))
    value = np.linalg.det(a)
    cofactors = value * np.linalg.inv(a).T
    close(run(way, "det", "objective", a, 2**n), value)
    close(run(way, "det", "derivative", a, 2**n), cofactors)
    close(run(way, "det", "permutations", a), value)
    close(run(way, "det", "permutations_derivative", a), cofactors)


def test_det_wants_a_place_for_every_set_of_columns():
    with pytest.raises(dg.DgraphError, match="there are 2\\^n sets of n columns"):
        run("compiled", "det", "objective", np.eye(3), 7)


@pytest.mark.parametrize(
    ("way", "n", "k", "d"), ways([(30, 4, 3), (5, 1, 2), (6, 6, 1)], [(531, 37, 9), (200, 11, 16), (77, 3, 33)])
)
def test_kmeans(way, n, k, d):
    points = np.random.default_rng(n).uniform(size=(n, d))
    centroids = points[-k:].copy()
    cost, direction = formulas.kmeans(points, centroids)
    close(run(way, "kmeans", "objective", points, centroids), cost)
    close(run(way, "kmeans", "derivative", points, centroids), direction)


@pytest.mark.parametrize(("way", "m", "n"), ways([(8, 16), (5, 7), (1, 2)], [(128, 1025), (40, 37)]))
def test_llsq(way, m, n):
    x = np.random.default_rng(m).uniform(size=m)
    value, slope = formulas.llsq(x, n)
    close(run(way, "llsq", "objective", x, n), value)
    close(run(way, "llsq", "derivative", x, n), slope)


@pytest.mark.parametrize("way", WAYS)
def test_lse(way):
    uniform = np.random.default_rng(0).uniform
    for x in (uniform(size=50), uniform(size=5001), np.array([-3.0]), np.array([700.0, 900.0, -1e300])):
        close(run(way, "lse", "objective", x), formulas.log_sum_exp(x))
        close(run(way, "lse", "derivative", x), formulas.softmax(x))


@pytest.mark.parametrize(("way", "n", "steps"), ways([(12, 5), (5, 40), (1, 3), (3, 1)], [(40, 37), (67, 19)]))
def test_ode(way, n, steps):
    x = np.random.default_rng(n).uniform(size=n)
    y = formulas.ode(x, steps)
    close(run(way, "ode", "objective", x, steps), y)
    slope = formulas.complex_step(lambda x: formulas.ode(x, steps)[-1], x)
    close(run(way, "ode", "derivative", x, steps), slope)
    # The last entry is homogeneous in each x, so its derivative is itself over x.
    close(slope, y[-1] / x)


@pytest.mark.parametrize(("way", "w"), [("compiled", 0.0), ("compiled", 0.2), ("compiled", -1.0), ("interpreted", 0.1)])
def test_a_particle_and_its_derivative(way, w):
    close(run(way, "particle", "objective", w), formulas.particle_miss(w).real)
    close(run(way, "particle", "derivative", w), formulas.particle_miss(complex(w, 1e-30)).imag / 1e-30)


@pytest.mark.parametrize("mode", MODES)
def test_where_the_particle_comes_down_nearest(mode):
    assert run("compiled", "particle", mode, 0.0) == pytest.approx(BEST_CHARGE, rel=1e-9)


def nested(region: Region, outer: str = "") -> set[str]:
    """The modes of derivatives within derivatives, as `rf` for reverse over forward."""
    found = set()
    for node in region.nodes:
        letter = {Vjp: "r", Jvp: "f"}.get(type(node.op), "")
        if letter and outer:
            found.add(outer + letter)
        for inner in node.regions:
            found |= nested(inner, letter or outer)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("file", ["particle", "saddle"])
def test_the_modes_are_those_that_the_name_says(file, mode):
    assert nested(dg.load(FOLDER / f"{file}.dg").function(mode).graph.region) == {mode}


@pytest.mark.parametrize("mode", MODES)
def test_saddle(mode):
    a, b = run("compiled", "saddle", mode, np.ones(2))
    np.testing.assert_allclose([*a, *b], SADDLE, rtol=1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_the_ridge_of_the_saddle_and_its_derivative(way):
    # From (1, 1) the inner descent always ends at the same place, so its derivative by the outer point is 0.
    a = np.array([0.3, -0.7])
    assert run(way, "saddle", "objective", a, np.ones(2)) == pytest.approx(a @ a - 2 * SADDLE**2, rel=1e-12)
    np.testing.assert_allclose(run(way, "saddle", "derivative", a, np.ones(2)), 2 * a, rtol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_hello(way):
    assert run(way, "hello", "objective", 3.0) == 9.0
    assert run(way, "hello", "derivative", 3.0) == 6.0


def test_the_python_of_the_page_runs(monkeypatch):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(FOLDER.parents[1])
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(block, {})


def test_the_page_lists_every_program():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert {file.name for file in FOLDER.glob("*.dg")} == set(re.findall(r"\]\((\w+\.dg)\)", page))
