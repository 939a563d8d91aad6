"""`mode="sparse"`: patterns and sweeps that are known, and the same values as the dense modes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.program.check import check_program
from dgraph.program.pipeline import stage

PROGRAMS = Path(__file__).parents[1] / "programs"
DATA = Path(__file__).parents[3] / "shared" / "data" / "gradbench"

MODELS = dg.parse("""
def chain[n](x: f64[n]) -> f64[n - 1]:
    y[i] = x[i] * x[i + 1] ** 2 for i in range(n - 1)
    return y

def gathered[n, m](x: f64[n], at: i32[m]) -> f64[m]:
    y[j] = sin(x[at[j]]) * x[0] for j
    return y

def scattered[n, m](x: f64[m], at: i32[m], start: f64[n]) -> f64[n]:
    y = start
    for j in range(m):
        y[at[j]] += x[j] ** 2
    return y

def blocks[n](x: f64[n, 3], a: f64[3, 3]) -> f64[n, 3]:
    y[i] = a @ tanh(x[i]) * sum(x[i])
    return y

def heat[n](u: f64[n], steps: i32) -> f64[n]:
    for t in range(steps):
        v = u
        for i in range(1, n - 1):
            v[i] = u[i] + 0.1 * (u[i - 1] - 2 * u[i] + u[i + 1]) * u[i]
        u = v
    return u

def swept[n](x: f64[n]) -> f64[n]:
    y = x
    for k in range(n):
        if k > 1:
            y[k] = sin(x[k]) * y[k - 2]
        else:
            y[k] = x[k] ** 2
    return y

def halved[n](x: f64[n]) -> f64[n]:
    while sum(x ** 2) > 1e-3:
        x = sin(x) * 0.5
    return x

def roots[n](a: f64[n]) -> f64[n]:
    y[i] = root(a[i]) for i
    return y

def root(a: f64) -> f64:
    x = a
    for t in range(8):
        x = 0.5 * (x + a / x)
    return x

def either[n](x: f64[n], c: f64) -> f64[n]:
    if c > 0:
        y = x ** 2
    else:
        y = flip(x) ** 2
    return y

def by_place[n](x: f64[n]) -> f64[n]:
    y[i] = part(x, i64(i)) for i in range(n)
    return y

def part[n](x: f64[n], i: i64) -> f64:
    total = 0.0
    seen: f64[n] = zeros()
    if i < 3:
        for k in range(i):
            total += sin(x[k])
    else:
        seen[i] = x[i - 1] ** 2
        total = seen[i] + seen[0]
    while i > 4:
        total *= x[i]
        i -= 1
    return total

def guarded[n](x: f64[n]) -> f64[n]:
    y[i] = sum(x[j] ** 2 for j in range(n) if j <= i) for i in range(n)
    return y

def summed[n](x: f64[n]) -> f64[n] = cumsum(x ** 2)

def product[n, m](a: f64[n, m], x: f64[m]) -> f64[n] = a @ sin(x)

def totals[n](x: f64[n, 4]) -> f64[n]:
    y[i] = logsumexp(x[i]) for i
    return y

def one[n](x: f64[n]) -> f64[3]:
    return [x[0], 2.0 * x[0], x[0] ** 2]

def few[n](x: f64[n]) -> f64[2]:
    return [sum(sin(x)), x[0]]

record Pair[n]:
    a: f64[n]
    b: f64

def of_pair[n](p: Pair[n], k: i32) -> (f64[n], f64):
    return p.a * p.b, p.b ** 2

def single[n](x: f32[n]) -> f32[n]:
    y[i] = x[i] ** 2 for i
    return y

def arrow[n](x: f64[n]) -> f64 = sum(x[0] ** 2 * x[i] ** 2 for i in range(n))

def rosenbrock[n](x: f64[n]) -> f64 = sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i)

def affine[n](x: f64[n]) -> f64 = sum(x) * 2

def coupled[n](x: f64[n], y: f64[n]) -> f64 = sum(x[i] ** 2 * y[i] for i)

@entry
def newton[n](x: f64[n], rounds: i32) -> f64[n]:
    for t in range(rounds):
        h = hessian(rosenbrock, mode="sparse")(x)
        x -= solve(h, grad(rosenbrock)(x))
    return x

@entry
def batch[b, n](x: f64[b, n]) -> f64[b, n - 1, n] = vmap(jacobian(chain, mode="sparse"), over=x)(x)

@entry
def under_slope[n](x: f64[n]) -> f64 = sum(jacobian(chain, mode="sparse")(x) ** 2)

@entry
def under_slope_dense[n](x: f64[n]) -> f64 = sum(jacobian(chain, mode="forward")(x) ** 2)

@entry
def per_row[b, n](x: f64[b, n], at: i32[b, n]) -> f64[b, n, n]:
    y[r] = jacobian(gathered, wrt=x, mode="sparse")(x[r], at[r])
    return y

@entry
def either_way[n](x: f64[n], flag: bool) -> f64[n - 1, n]:
    if flag:
        j = jacobian(chain, mode="sparse")(x)
    else:
        j = 2 * jacobian(chain, mode="sparse")(x + 1)
    return j
""")
RNG = np.random.default_rng(11)
V7, V20, M = RNG.normal(size=7), np.abs(RNG.normal(size=20)), RNG.normal(size=(3, 3))
AT = np.array([3, 3, 6, 0, 2], np.int32)


def band(rows: int, columns: int, below: int, above: int) -> np.ndarray:
    i, j = np.indices((rows, columns))
    return (j - i >= -below) & (j - i <= above)


def picked() -> np.ndarray:
    found = np.zeros((5, 7), bool)
    found[np.arange(5), AT] = found[:, 0] = True
    return found


def inner_band(n: int, width: int) -> np.ndarray:
    found = band(n, n, width, width)
    found[0] = found[-1] = False
    found[0, 0] = found[-1, -1] = True
    return found


def by_place() -> np.ndarray:
    """Entries differ in what they choose, in how often they repeat it, and in where they write."""
    rows = [[], [0], [0, 1], [2], [3], [4, 5], [5, 6]]
    found = np.zeros((7, 7), bool)
    for row, columns in enumerate(rows):
        found[row, columns] = True
    return found


def every_second(n: int) -> np.ndarray:
    i, j = np.indices((n, n))
    return (j <= i) & ((i - j) % 2 == 0)


# Function, arguments, options, the pattern, and the number of sweeps.
CASES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], np.ndarray, int]] = {
    "band": ("chain", (V7,), {}, band(6, 7, 0, 1), 2),
    "gather": ("gathered", (V7, AT), {"wrt": "x"}, picked(), 2),
    "scatter": ("scattered", (V7[:5], AT, V7), {"wrt": "x"}, np.arange(7)[:, None] == AT, 2),
    "blocks": ("blocks", (RNG.normal(size=(5, 3)), M), {"wrt": "x"}, np.kron(np.eye(5), np.ones((3, 3))) > 0, 3),
    "no steps": ("heat", (V20, np.int32(0)), {}, np.eye(20, dtype=bool), 1),
    "one step": ("heat", (V20, np.int32(1)), {}, inner_band(20, 1), 3),
    "updates": ("swept", (V7,), {}, every_second(7), 4),
    "unknown trips": ("halved", (V7,), {}, np.eye(7, dtype=bool), 1),
    "loop in space": ("roots", (np.abs(V7) + 1,), {}, np.eye(7, dtype=bool), 1),
    "either side": ("either", (V7, 1.0), {"wrt": "x"}, np.eye(7, dtype=bool) | np.eye(7, dtype=bool)[::-1], 2),
    "lane by lane": ("by_place", (V7,), {}, by_place(), 2),
    "guarded sum": ("guarded", (V7,), {}, np.tri(7, dtype=bool), 7),
    "running sum": ("summed", (V7,), {}, np.tri(7, dtype=bool), 7),
    "product": ("product", (RNG.normal(size=(2, 7)), V7), {"wrt": "a"}, np.kron(np.eye(2), np.ones(7)) > 0, 1),
    "rows": ("totals", (RNG.normal(size=(6, 4)),), {}, np.kron(np.eye(6), np.ones(4)) > 0, 1),
    "one column": ("one", (V7,), {}, np.arange(7) < np.ones((3, 1)), 1),
    "few rows": ("few", (V7,), {}, np.stack([np.ones(7, bool), np.arange(7) == 0]), 2),
}


@pytest.mark.parametrize("name", CASES)
def test_known_patterns(name: str):
    function, arguments, options, pattern, sweeps = CASES[name]
    made = getattr(MODELS, function)
    found = dg.jacobian(made, mode="sparse", **options)
    matrix = found(*arguments)
    assert isinstance(matrix, csr_array) and matrix.has_sorted_indices
    dense = dg.jacobian(made, mode="forward", **options)(*arguments).reshape(matrix.shape)
    np.testing.assert_allclose(matrix.toarray(), dense, rtol=1e-12, atol=1e-14)
    stored = csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), matrix.shape).toarray() > 0
    np.testing.assert_array_equal(stored, pattern)
    assert found.compiled.sweeps(*arguments) == (sweeps,)


HESSIANS: dict[str, tuple[str, np.ndarray, int]] = {
    "tridiagonal": ("rosenbrock", band(7, 7, 1, 1), 3),
    "arrow": ("arrow", np.eye(7, dtype=bool) | (np.arange(7) == 0) | (np.arange(7) == 0)[:, None], 2),
    "nothing but the diagonal": ("affine", np.eye(7, dtype=bool), 1),
}


@pytest.mark.parametrize("name", HESSIANS)
def test_known_hessians(name: str):
    function, pattern, sweeps = HESSIANS[name]
    found = dg.hessian(getattr(MODELS, function), mode="sparse")
    matrix = found(V7)
    np.testing.assert_allclose(matrix.toarray(), dg.hessian(getattr(MODELS, function))(V7), rtol=1e-12)
    stored = csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), matrix.shape).toarray() > 0
    np.testing.assert_array_equal(stored, pattern)
    assert found.compiled.sweeps(V7) == (sweeps,)


def test_a_hessian_in_two_arguments_has_four_blocks():
    x, y = V7, RNG.normal(size=7)
    found = dg.hessian(MODELS.coupled, wrt=("x", "y"), mode="sparse")
    dense = dg.hessian(MODELS.coupled, wrt=("x", "y"))(x, y)
    for row, expected in zip(found(x, y), dense, strict=True):
        for block, wanted in zip(row, expected, strict=True):
            np.testing.assert_allclose(block.toarray(), wanted, rtol=1e-12)
    assert found.compiled.sweeps(x, y) == (2,)


def test_records_and_tuples_keep_their_tree():
    pair = {"a": V7, "b": 0.3}
    slopes, total = dg.jacobian(MODELS.of_pair, mode="sparse")(pair, 1)
    np.testing.assert_allclose(slopes.a.toarray(), 0.3 * np.eye(7))
    np.testing.assert_allclose(slopes.b.toarray(), V7[:, None])
    assert total.a.shape == (1, 7) and total.a.nnz == 0
    np.testing.assert_allclose(total.b.toarray(), [[0.6]])


def test_single_precision_stays():
    x = V7.astype(np.float32)
    matrix = dg.jacobian(MODELS.single, mode="sparse")(x)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix.toarray(), np.diag(2 * x), rtol=1e-6)


def test_integers_and_sizes_decide_the_pattern_of_a_call():
    found = dg.jacobian(MODELS.gathered, wrt="x", mode="sparse")
    for size, at in ((7, AT), (7, AT[::-1].copy()), (9, np.array([8, 1], np.int32)), (7, AT)):
        x = RNG.normal(size=size)
        dense = dg.jacobian(MODELS.gathered, wrt="x", mode="forward")(x, at)
        np.testing.assert_allclose(found(x, at).toarray(), dense, rtol=1e-12)


def test_a_pattern_holds_for_all_floats():
    found = dg.jacobian(MODELS.either, wrt="x", mode="sparse")
    for c in (1.0, -1.0):
        dense = dg.jacobian(MODELS.either, wrt="x", mode="forward")(V7, c)
        np.testing.assert_allclose(found(V7, c).toarray(), dense, rtol=1e-12)


def test_empty_arrays():
    found = dg.jacobian(MODELS.gathered, wrt="x", mode="sparse")
    assert found(V7, np.zeros(0, np.int32)).shape == (0, 7)
    assert dg.jacobian(MODELS.summed, mode="sparse")(np.zeros(0)).shape == (0, 0)


def test_a_bound_function_reads_its_arrays_anew():
    x = V7.copy()
    run = dg.jacobian(MODELS.chain, mode="sparse").compiled.bind(x)
    first = run().toarray()
    x[:] = 2 * V7
    dense = dg.jacobian(MODELS.chain, mode="forward")
    np.testing.assert_allclose(first, dense(V7), rtol=1e-12)
    np.testing.assert_allclose(run().toarray(), dense(x), rtol=1e-12)


# ---- inside the language --------------------------------------------------------------------------------------------


def interpreted(function: dg.Function, *leaves: Any) -> Any:
    """The function as the interpreter runs it: a sweep for each entry of the inputs."""
    (found,) = evaluate(stage(function.graph, "expand"), leaves)
    return found


INSIDE: dict[str, tuple[tuple[Any, ...], Callable[[], Any]]] = {
    "newton": ((np.full(6, 1.2), np.int32(12)), lambda: np.ones(6)),
    "under_slope": ((V7,), lambda: MODELS.under_slope_dense(V7)),
    "batch": (
        (RNG.normal(size=(3, 5)),),
        lambda: np.stack([dg.jacobian(MODELS.chain)(row) for row in INSIDE["batch"][0][0]]),
    ),
    "per_row": (
        (RNG.normal(size=(3, 5)), RNG.integers(0, 5, (3, 5)).astype(np.int32)),
        lambda: np.stack([dg.jacobian(MODELS.gathered)(*pair) for pair in zip(*INSIDE["per_row"][0], strict=True)]),
    ),
    "either_way": ((V7, False), lambda: 2 * dg.jacobian(MODELS.chain)(V7 + 1)),
}


@pytest.mark.parametrize("name", INSIDE)
def test_in_the_language_the_result_is_a_dense_array(name: str):
    arguments, expected = INSIDE[name]
    function = getattr(MODELS, name)
    np.testing.assert_allclose(function(*arguments), expected(), rtol=1e-12)
    np.testing.assert_allclose(interpreted(function, *arguments), expected(), rtol=1e-12)


def test_a_loop_around_a_hessian_is_swept_by_colours():
    assert MODELS.newton.compiled.sweeps(np.full(60, 1.2), np.int32(1)) == (3,)


def test_a_derivative_of_a_sparse_jacobian():
    found, expected = dg.grad(MODELS.under_slope)(V7), dg.grad(MODELS.under_slope_dense)(V7)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["ba", "hessians"])
def test_check_passes(name: str):
    said: list[str] = []
    assert check_program(dg.load(PROGRAMS / f"{name}.dg"), None, {}, said.append) == []
    assert any("agree" in line for line in said)


def test_bundle_adjustment():
    program = dg.load(PROGRAMS / "ba.dg")
    n, m, p = 5, 20, 60
    arguments = (
        RNG.normal(size=(n, 11)),
        RNG.normal(size=(m, 3)) + 5,
        RNG.normal(size=p),
        RNG.integers(0, n, p).astype(np.int32),
        RNG.integers(0, m, p).astype(np.int32),
        RNG.normal(size=(p, 2)),
    )
    found = dg.jacobian(program.residuals, wrt=("cams", "x", "w"), mode="sparse")
    by_hand = program.compressed(*arguments)
    whole = csr_array((by_hand["value"], by_hand["column"], by_hand["start"]), (3 * p, 11 * n + 3 * m + p)).toarray()
    (first, second), expected = found(*arguments), np.split(whole, [2 * p])
    dense = program.automatic(*arguments)
    for blocks, arrays, rows in zip((first, second), dense, expected, strict=True):
        joined = np.hstack([block.toarray() for block in blocks])
        np.testing.assert_allclose(joined, rows, rtol=1e-10, atol=1e-12)
        flat = [array.reshape(block.shape) for array, block in zip(arrays, blocks, strict=True)]
        np.testing.assert_allclose(np.hstack(flat), rows, rtol=1e-10, atol=1e-12)
    # A row reads ten numbers of its camera, three of its point and its weight.
    assert found.compiled.sweeps(*arguments) == (14,)


@pytest.mark.skipif(not DATA.is_dir(), reason="the GradBench data are not here")
def test_bundle_adjustment_of_gradbench():
    data = np.load(DATA / "extra_ba_rand.npz")
    program = dg.load(PROGRAMS / "ba.dg")
    cam, point = data["in_obs"].T.astype(np.int32)
    arguments = (data["in_cams"], data["in_x"], data["in_w"], cam, point, data["in_feats"])
    np.testing.assert_allclose(program.residuals(*arguments)[0], data["golden_primal"], rtol=1e-9, atol=1e-9)
    blocks, _ = dg.jacobian(program.residuals, wrt=("cams", "x", "w"), mode="sparse")(*arguments)
    by_cam, by_point, by_weight = (block.toarray().reshape(len(cam), 2, -1) for block in blocks)
    each = np.arange(len(cam))
    entries = [by_cam.reshape(len(cam), 2, -1, 11)[each, :, cam], by_point.reshape(len(cam), 2, -1, 3)[each, :, point]]
    found = np.concatenate([*entries, by_weight[each, :, each][..., None]], axis=2)
    np.testing.assert_allclose(found, data["golden_derivative"], rtol=1e-8, atol=1e-8)
