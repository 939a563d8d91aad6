"""Functions of matrices by their eigenvalues and singular values, where these coincide: derivatives of every order in
every composition of the modes, against the same functions written without a decomposition, and against differences."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Graph
from dgraph.program.pipeline import stage

RNG = np.random.default_rng(7)
PROGRAM = dg.parse("""
def symmetric[n](a: f64[n, n]) -> f64[n, n] = 0.5 * (a + a.T)

def cube[n](a: f64[n, n], b: f64[n, n]) -> f64:
    w, v = eigh(a)
    return sum((v @ diag(w ** 3) @ v.T) * b)

def cube_of_columns[n](a: f64[n, n], b: f64[n, n]) -> f64:
    w, v = eigh(a)
    return sum(((v * w ** 3) @ v.T) * b)

def cube_by_formula[n](a: f64[n, n], b: f64[n, n]) -> f64:
    w, v = eigh(a)
    m[i, j] = sum(v[i, k] * w[k] ** 3 * v[j, k] for k)
    return sum(m * b)

def cube_of_root[n](a: f64[n, n], b: f64[n, n]) -> f64:
    w, v = eigh(a)
    r = v @ diag(sqrt(w)) @ v.T
    return sum((r @ r @ r @ r @ r @ r) * b)

def plain_cube[n](a: f64[n, n], b: f64[n, n]) -> f64:
    s = symmetric(a)
    return sum((s @ s @ s) * b)

def system[n](a: f64[n, n], b: f64[n, n]) -> f64:
    w, v = eigh(a)
    return dot(b[0], v @ ((v.T @ b[1]) / w)) + sum(log(w)) + sum(w[k] ** 2 for k)

def plain_system[n](a: f64[n, n], b: f64[n, n]) -> f64:
    s = symmetric(a)
    return dot(b[0], solve(s, b[1])) + logdet(s) + sum(s ** 2)

def form[n](a: f64[n, n], b: f64[n, n]) -> f64:
    w, v = eigh(a)
    y = v.T @ b[0]
    return sum(w ** 2 * y ** 2)

def plain_form[n](a: f64[n, n], b: f64[n, n]) -> f64:
    s = symmetric(a)
    return dot(s @ b[0], s @ b[0])

def traces[n](a: f64[n, n], b: f64[n, n]) -> f64:
    w, v = eigh(a)
    t = dot(w, w)
    return t * sum(w[k] ** 4 for k) + sum(b[0, 0] * t * w ** 2) + norm(w) + var(w)

def plain_traces[n](a: f64[n, n], b: f64[n, n]) -> f64:
    s = symmetric(a)
    t = sum(s ** 2)
    mean_ = sum(s * eye(n)) / f64(n)
    return t * sum((s @ s) ** 2) + b[0, 0] * t ** 2 + sqrt(t) + t / f64(n) - mean_ ** 2

def projection[n](a: f64[n, n], b: f64[n, n]) -> f64:
    w, v = eigh(a)
    p = v[:, :2] @ v[:, :2].T
    return sum(p * b) + sum((p @ b) ** 2)

def plain_projection[n](a: f64[n, n], b: f64[n, n]) -> f64:
    x = symmetric(a) - 1.5 * eye(n)
    for t in range(12):
        x = 0.5 * (x + inv(x))
    p = 0.5 * (eye(n) - x)
    return sum(p * b) + sum((p @ b) ** 2)

def nuclear[m, n](a: f64[m, n], b: f64[m, n]) -> f64:
    u, s, _ = svd(a)
    return sum(s)

def plain_nuclear[m, n](a: f64[m, n], b: f64[m, n]) -> f64:
    w, _ = eigh(a.T @ a)
    return sum(sqrt(w))

def inverse[m, n](a: f64[m, n], b: f64[m, n]) -> f64:
    u, s, vt = svd(a)
    return sum((vt.T @ diag(1 / s) @ u.T) * b.T)

def inverse_by_formula[m, n](a: f64[m, n], b: f64[m, n]) -> f64:
    u, s, vt = svd(a)
    p[i, j] = sum(vt[k, i] * u[j, k] / s[k] for k)
    return sum(p * b.T)

def plain_inverse[m, n](a: f64[m, n], b: f64[m, n]) -> f64 = sum(solve(a.T @ a, a.T) * b.T)

def turn[m, n](a: f64[m, n], b: f64[m, n]) -> f64:
    u, s, vt = svd(a)
    return sum((u @ vt) * b) + sum(((u * s ** 3) @ vt) * b)

def plain_turn[m, n](a: f64[m, n], b: f64[m, n]) -> f64:
    w, v = eigh(a.T @ a)
    return sum((a @ v @ diag(1 / sqrt(w)) @ v.T) * b) + sum((a @ a.T @ a) * b)

def exponential[n](a: f64[n, n], c: f64) -> f64:
    w, v = eigh(a)
    return sum((v @ diag(exp(c * w)) @ v.T)[0]) + logsumexp(c * w)

def plain_exponential[n](a: f64[n, n], c: f64) -> f64:
    s = symmetric(a) * (c / 64)
    e: f64[n, n] = eye(n)
    term = e
    for k in range(1, 14):
        term = term @ s / f64(k)
        e = e + term
    for k in range(6):
        e = e @ e
    return sum(e[0]) + log(sum(e * eye(n)))

def bent[n](a: f64[n, n], b: f64[n, n]) -> f64:
    w, v = eigh(a)
    g = [w[k] ** 2 if w[k] > 0 else exp(w[k]) - 1 for k in range(n)]
    return sum((v @ diag(g) @ v.T) * b) + sum(g)

def repeated[n](a: f64[n, n], times: i32) -> f64:
    total = 0.0
    for k in range(times):
        w, v = eigh(a)
        a = v @ diag(sqrt(1 + w ** 2)) @ v.T
        total += sum(log(w))
    return total + sum(a[0])

def least[n](a: f64[n, n]) -> f64:
    w, v = eigh(a)
    return w[0]

def weighted[n](a: f64[n, n], c: f64[n]) -> f64:
    w, v = eigh(a)
    return sum(c * w)

def fourth[n](a: f64[n, n], b: f64[n]) -> f64:
    w, v = eigh(a)
    y = v.T @ b
    return sum(w * y ** 4)

def cut[n](a: f64[n, n], b: f64[n, n]) -> f64:
    w, v = eigh(a)
    p = v[:, :2] @ v[:, :2].T
    return sum(p * b)
""")


def symmetric(values: list[float]) -> np.ndarray:
    basis = np.linalg.qr(RNG.normal(size=(len(values),) * 2))[0]
    return basis @ np.diag(values) @ basis.T


def tall(rows: int, values: list[float]) -> np.ndarray:
    left, right = (np.linalg.qr(RNG.normal(size=(count, len(values))))[0] for count in (rows, len(values)))
    return left @ np.diag(values) @ right.T


SQUARE = {
    "the identity": np.eye(3),
    "two of three": symmetric([1.0, 1.0, 2.5]),
}
TALL = {
    "a turn": tall(3, [1.5, 1.5, 1.5]),
    "two of three": tall(3, [2.0, 1.5, 1.5]),
    "tall": tall(3, [1.5, 1.5]),
}
PAIRS = [
    *((name, "plain_cube", SQUARE) for name in ("cube", "cube_of_columns", "cube_by_formula", "cube_of_root")),
    ("system", "plain_system", SQUARE),
    ("form", "plain_form", SQUARE),
    ("traces", "plain_traces", SQUARE),
    ("projection", "plain_projection", {"two of three": symmetric([1.0, 1.0, 2.0])}),
    ("nuclear", "plain_nuclear", TALL),
    ("inverse", "plain_inverse", TALL),
    ("inverse_by_formula", "plain_inverse", TALL),
    ("turn", "plain_turn", TALL),
]

ORDERS: dict[str, Callable[[Any], Any]] = {
    "forward": lambda f: dg.jacobian(f, mode="forward"),
    "reverse": dg.grad,
    "forward over reverse": dg.hessian,
    "reverse over reverse": lambda f: dg.jacobian(dg.grad(f), mode="reverse"),
    "forward over forward": lambda f: dg.jacobian(dg.jacobian(f, mode="forward"), mode="forward"),
    "reverse over forward": lambda f: dg.jacobian(dg.jacobian(f, mode="forward"), mode="reverse"),
}


def run(function: dg.Function, *arguments: Any) -> Any:
    """The function by the interpreter: nothing is compiled."""
    (found,) = evaluate(expanded(function), arguments)
    return found


@cache
def expanded(function: dg.Function) -> Graph:
    """The graph of a function and its derivatives as ordinary nodes."""
    return stage(function.graph, "expand")


def close(found: Any, expected: Any, tolerance: float = 2e-13) -> None:
    scale = 1 + np.max(np.abs(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name, plain, points", PAIRS, ids=[name for name, *_ in PAIRS])
def test_first_and_second_derivatives_in_all_modes(name: str, plain: str, points: dict[str, np.ndarray]):
    function, wanted = getattr(PROGRAM, name), getattr(PROGRAM, plain)
    for a in points.values():
        b = RNG.normal(size=a.shape)
        close(run(function, a, b), run(wanted, a, b))
        slope, curvature = run(dg.grad(wanted), a, b), run(dg.hessian(wanted), a, b)
        for order, transform in ORDERS.items():
            close(run(transform(function), a, b), curvature if "over" in order else slope)


@pytest.mark.parametrize("name", ["cube_by_formula", "turn", "plain_projection"])
def test_compiled_and_interpreted_agree(name: str):
    a = TALL["tall"] if name == "turn" else SQUARE["two of three"]
    b = RNG.normal(size=a.shape)
    for order in ("reverse", "forward over reverse"):
        made = ORDERS[order](getattr(PROGRAM, name))
        close(made(a, b), run(made, a, b))


@pytest.mark.parametrize(
    "name, plain", [("cube", "plain_cube"), ("system", "plain_system"), ("inverse", "plain_inverse")]
)
def test_third_derivatives(name: str, plain: str):
    function, wanted = getattr(PROGRAM, name), getattr(PROGRAM, plain)
    a = tall(2, [1.5, 1.5]) if name == "inverse" else symmetric([1.5, 1.5])
    b = RNG.normal(size=a.shape)
    expected = run(dg.jacobian(dg.hessian(wanted), mode="forward"), a, b)
    close(run(dg.jacobian(dg.hessian(function), mode="forward"), a, b), expected)
    close(run(dg.jacobian(dg.jacobian(dg.grad(function), mode="forward"), mode="reverse"), a, b), expected)


def test_what_else_the_function_depends_on():
    a = symmetric([0.5, 0.5, 1.25])
    found = dg.hessian(PROGRAM.exponential, wrt=("a", "c"))(a, 0.7)
    expected = dg.hessian(PROGRAM.plain_exponential, wrt=("a", "c"))(a, 0.7)
    for row, wanted in zip(found, expected, strict=True):
        for block, value in zip(row, wanted, strict=True):
            close(block, value)


def richardson(function: Callable[[float], Any]) -> Any:
    """The derivative at 0 by central differences of three widths."""

    def difference(h: float) -> Any:
        return (np.asarray(function(h)) - np.asarray(function(-h))) / (2 * h)

    first, second, third = (difference(h) for h in (1.6e-2, 8e-3, 4e-3))
    one, other = (4 * second - first) / 3, (4 * third - second) / 3
    return (16 * other - one) / 15


@pytest.mark.parametrize("name", ["bent", "repeated"])
def test_against_differences_of_gradients(name: str):
    function = getattr(PROGRAM, name)
    a = symmetric([-0.7, -0.7, 1.2, 1.2]) if name == "bent" else symmetric([1.0, 1.0, 2.0])
    second = RNG.normal(size=a.shape) if name == "bent" else np.int32(2)
    step = RNG.normal(size=a.shape)
    step += step.T
    slope = dg.grad(function)
    found = np.tensordot(dg.hessian(function)(a, second), step, 2)
    close(found, richardson(lambda h: slope(a + h * step, second)), 1e-7)
    along = np.vdot(slope(a, second), step)
    close(along, richardson(lambda h: function(a + h * step, second)), 1e-7)


def test_empty_and_single_matrices():
    assert dg.hessian(PROGRAM.cube)(np.zeros((0, 0)), np.zeros((0, 0))).shape == (0, 0, 0, 0)
    np.testing.assert_allclose(dg.hessian(PROGRAM.cube)(np.full((1, 1), 2.0), np.ones((1, 1))), 12.0)


def test_batches_and_single_precision():
    a, b = np.stack([np.eye(3), symmetric([1.0, 1.0, 2.0])]), RNG.normal(size=(2, 3, 3))
    found = dg.vmap(dg.hessian(PROGRAM.cube), over=("a", "b"))(a, b)
    close(found, np.stack([dg.hessian(PROGRAM.plain_cube)(*pair) for pair in zip(a, b, strict=True)]))
    single = dg.compile(dg.hessian(PROGRAM.cube), precision="f32")(a[0].astype(np.float32), b[0].astype(np.float32))
    close(single, found[0], 1e-5)


# ---- what has no derivative ------------------------------------------------------------------------------------------


def test_a_single_eigenvalue_beside_others_that_coincide():
    a = symmetric([1.0, 2.0, 2.0])
    values, vectors = np.linalg.eigh(a)
    step = RNG.normal(size=a.shape)
    step += step.T
    turned = vectors.T @ step @ vectors
    expected = 2 * sum(turned[0, j] ** 2 / (values[0] - values[j]) for j in (1, 2))
    for order in ("forward over reverse", "reverse over reverse", "forward over forward", "reverse over forward"):
        found = run(ORDERS[order](PROGRAM.least), a)
        np.testing.assert_allclose(np.vdot(np.tensordot(found, step, 2), step), expected, rtol=1e-12)


def test_eigenvalues_that_coincide_have_no_second_derivatives():
    assert np.isnan(dg.hessian(PROGRAM.least)(np.eye(3))).all()
    assert np.isnan(dg.hessian(PROGRAM.weighted)(np.eye(3), np.arange(3.0))).all()


def test_vectors_of_values_that_coincide_have_no_derivatives():
    assert np.isnan(dg.grad(PROGRAM.fourth)(np.eye(3), np.arange(3.0))).any()
    assert np.isnan(dg.hessian(PROGRAM.fourth)(np.eye(3), np.arange(3.0))).all()


def test_a_part_of_the_vectors_of_one_value_has_no_derivatives():
    a, b = symmetric([1.0, 2.0, 2.0]), RNG.normal(size=(3, 3))
    value, slope = dg.value_and_grad(PROGRAM.cut)(a, b)
    np.testing.assert_allclose(value, PROGRAM.cut(a, b), rtol=1e-12)
    assert np.isnan(slope).any() and np.isnan(dg.jacobian(PROGRAM.cut, mode="forward")(a, b)).any()


@pytest.mark.parametrize("name, is_told", [("least", True), ("weighted", True), ("cube", False), ("system", False)])
def test_the_detective_tells_only_of_what_depends_on_the_basis(name: str, is_told: bool):
    second = {"least": (), "weighted": (np.arange(3.0),)}.get(name, (RNG.normal(size=(3, 3)),))
    slope = dg.compile(dg.grad(getattr(PROGRAM, name)), debug=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        slope(np.eye(3), *second)
    assert bool(told) == is_told
