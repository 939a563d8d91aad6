"""Jacobians in no certain mode: which sweeps a call takes, and that the result is the same whichever these are."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ad.sparse.deciding import deciding
from dgraph.program.chosen_sweeps import ChosenSweeps
from dgraph.program.pipeline import stage

PROGRAMS = Path(__file__).parents[1] / "programs"
RNG = np.random.default_rng(5)

MODELS = dg.parse("""
def residual[n](u: f64[n]) -> f64[n]:
    left[i] = u[i - 1] if i > 0 else 0.0 for i in range(n)
    right[i] = u[i + 1] if i < n - 1 else 0.0 for i in range(n)
    return 2 * u - left - right + 0.01 * exp(u)

def energy[n](x: f64[n]) -> f64 = sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i)

def arrow[n](x: f64[n]) -> f64 = sum(exp(x[0] * x[i]) * sin(x[i]) ** 2 * cos(x[i]) for i in range(n))

def full[n](x: f64[n]) -> f64[n] = sin(x) * logsumexp(x) * exp(tanh(x))

def gathered[n, m](x: f64[n], at: i32[m], scale: i32) -> f64[m]:
    y[j] = sin(x[at[j]]) * exp(cos(x[at[(j + 1) % m]])) * f64(scale) for j
    return y

def stepped[n](x: f64[n], rounds: i32, wide: bool) -> f64[n]:
    for t in range(rounds):
        y[i] = sin(x[i]) + x[(i + 1) % n] * exp(x[i]) for i in range(n)
        x = y
    if wide:
        x = x + flip(x)
    return x

record Pair[n]:
    a: f64[n]
    b: f64

def of_pair[n](p: Pair[n]) -> (f64[n], f64):
    y[i] = exp(p.a[i]) * p.b + (sin(p.a[i - 1]) if i > 0 else 0.0) for i in range(n)
    return y, p.b ** 2

def any_shape[*s](x: f64[*s]) -> f64[*s] = exp(x) * sin(x) * tanh(x) * exp(cos(x))

def rooted[n](x: f64[n]) -> f64[n] = sqrt(x) * exp(sin(x)) * cos(x) ** 3

@entry
def newton[n](x: f64[n], rounds: i32) -> f64[n]:
    for t in range(rounds):
        h = hessian(energy)(x)
        step = grad(energy)(x)
        x[i] -= step[i] / h[i, i] for i
    return x

@entry
def newton_dense[n](x: f64[n], rounds: i32) -> f64[n]:
    for t in range(rounds):
        h = hessian(energy, mode="forward")(x)
        step = grad(energy)(x)
        x[i] -= step[i] / h[i, i] for i
    return x

@entry
def batch[b, n](x: f64[b, n]) -> f64[b, n, n] = vmap(jacobian(residual), over=u)(x)

@entry
def under_slope[n](x: f64[n]) -> f64 = sum(jacobian(residual)(x) ** 2)

@entry
def both[n](x: f64[n]) -> (f64[n, n], f64[n, n]) = jacobian(residual)(x), jacobian(residual, mode="sparse")(x)
""")
N = 1500
X = RNG.normal(size=N)
AT = RNG.integers(0, N, N).astype(np.int32)


def same(found: Any, expected: Any) -> None:
    """Equal to the last bit, nan and infinities too."""
    np.testing.assert_array_equal(found, expected)


# Kind, function, arguments, options, and how many sweeps the call takes.
CASES: dict[str, tuple[str, str, tuple[Any, ...], dict[str, Any], int]] = {
    "tridiagonal": ("jacobian", "residual", (X,), {}, 3),
    "small": ("jacobian", "residual", (X[:300],), {}, 300),
    "full": ("jacobian", "full", (X[:1000],), {}, 1000),
    "hessian": ("hessian", "energy", (X,), {}, 3),
    "arrow": ("hessian", "arrow", (X / 5,), {}, 2),
    "gather": ("jacobian", "gathered", (X, AT, 2), {"wrt": "x"}, 4),
    "steps": ("jacobian", "stepped", (X / 9, 2, False), {"wrt": "x"}, 3),
    "more steps": ("jacobian", "stepped", (X / 9, 4, False), {"wrt": "x"}, 5),
    "a choice": ("jacobian", "stepped", (X / 9, 2, True), {"wrt": "x"}, 6),
}


@pytest.mark.parametrize("name", CASES)
def test_what_costs_least_is_taken(name: str):
    kind, function, arguments, options, sweeps = CASES[name]
    made, transform = getattr(MODELS, function), getattr(dg, kind)
    found = transform(made, **options)
    assert found.compiled.sweeps(*arguments) == (sweeps,)
    dense = transform(made, mode="forward", **options)(*arguments)
    result = found(*arguments)
    assert isinstance(result, np.ndarray) and result.shape == dense.shape
    if kind == "hessian" and sweeps < len(dense):
        # An entry may be the one on the other side of the diagonal.
        np.testing.assert_allclose(result, dense, rtol=1e-13, atol=1e-13)
    else:
        same(result, dense)
    same(found(*arguments), result)


def test_wide_functions_go_in_reverse():
    few = dg.parse("""
def f[n](x: f64[n], w: f64[n, 20]) -> f64[20]:
    y[k] = sum(exp(sin(x[i] * w[i, k])) for i) for k
    return y
""")
    found = dg.jacobian(few.f).compiled
    x, w = RNG.normal(size=4000), RNG.normal(size=(4000, 20))
    choice = found.choice(x, w)
    assert (choice.ways, choice.sweeps) == (("reverse",), (20,))
    same(found(x, w), dg.jacobian(few.f, mode="reverse")(x, w))


def test_integers_decide_anew():
    found = dg.jacobian(MODELS.gathered, wrt="x")
    alike = np.zeros(N, np.int32)
    for at, sweeps in ((AT, 4), (alike, 1), (np.arange(N, dtype=np.int32), 2), (AT, 4)):
        assert found.compiled.sweeps(X, at, 2) == (sweeps,)
        same(found(X, at, 2), dg.jacobian(MODELS.gathered, wrt="x", mode="forward")(X, at, 2))


def test_an_integer_that_becomes_a_float_decides_nothing():
    def names(function: str) -> set[str]:
        graph = stage(getattr(MODELS, function).graph, "inline")
        return {graph.formals[at].name for at in deciding(graph.region)}

    assert names("gathered") == {"at"}
    assert names("stepped") == {"rounds", "wide"}


def test_infinite_slopes_stay_where_they_are():
    x = np.abs(X)
    x[7] = 0.0
    found = dg.jacobian(MODELS.rooted)
    assert found.compiled.sweeps(x) == (1,)
    result = found(x)
    same(result, dg.jacobian(MODELS.rooted, mode="forward")(x))
    assert np.isinf(result[7, 7]) and np.isfinite(np.delete(result, 7, axis=0)).all()


def test_records_keep_their_tree():
    pair = {"a": X, "b": 0.3}
    found = dg.jacobian(MODELS.of_pair)
    assert found.compiled.sweeps(pair) == (3,)
    (slopes, total), (dense, last) = found(pair), dg.jacobian(MODELS.of_pair, mode="forward")(pair)
    same(slopes.a, dense.a)
    same(slopes.b, dense.b)
    same(total.a, last.a)
    assert total.b == last.b == 0.6


def test_generic_functions_choose_too():
    x = RNG.normal(size=(40, 40))
    found = dg.jacobian(MODELS.any_shape)
    same(found(x), dg.jacobian(MODELS.any_shape, mode="forward")(x))
    assert found.compiled.exact((x,), {}).sweeps(x) == (1,)


def test_inside_a_loop():
    x = np.full(N, 1.2)
    function = MODELS.newton.compiled
    assert function.sweeps(x, 3) == (3,)
    np.testing.assert_allclose(function(x, 3), MODELS.newton_dense(x, 3), rtol=1e-12)


def test_inside_of_vmap_and_of_derivatives_sweeps_are_not_shared():
    x = RNG.normal(size=(2, 30))
    assert not isinstance(MODELS.batch.compiled, ChosenSweeps)
    same(MODELS.batch(x), np.stack([dg.jacobian(MODELS.residual)(row) for row in x]))
    slope = dg.grad(MODELS.under_slope)
    assert not isinstance(slope.compiled, ChosenSweeps)
    jacobian = np.diag(2 + 0.01 * np.exp(x[0]))
    np.testing.assert_allclose(slope(x[0]), 2 * np.diag(jacobian) * 0.01 * np.exp(x[0]), rtol=1e-12)


def test_beside_a_sparse_one():
    function = MODELS.both.compiled
    assert function.sweeps(X) == (3,)
    one, other = function(X)
    same(one, other)


def test_bound_integers_may_change():
    at = AT.copy()
    run = dg.jacobian(MODELS.gathered, wrt="x").compiled.bind(X, at, 2)
    run()
    at[:] = AT[::-1].copy()
    same(run(), dg.jacobian(MODELS.gathered, wrt="x", mode="forward")(X, at, 2))


def test_bound_floats_may_change():
    x = X.copy()
    run = dg.jacobian(MODELS.residual).compiled.bind(x)
    run()
    x[:] = 2 * X
    same(run(), dg.jacobian(MODELS.residual, mode="forward")(x))


def test_memory_profile_and_copies(tmp_path: Path):
    function = dg.jacobian(MODELS.residual).compiled
    memory = function.memory(X)
    assert memory.results == 8 * N * N
    assert {row.runs for row in function.profile(X).rows} == {1}
    same(pickle.loads(pickle.dumps(function))(X), function(X))
    function.export(tmp_path / "jacobian.dgb")
    same(dg.load_bundle(tmp_path / "jacobian.dgb")(X), function(X))


def test_a_budget_keeps_to_plain_sweeps():
    found = dg.compile(dg.jacobian(MODELS.residual), budget="200MB")
    same(found(X), dg.jacobian(MODELS.residual)(X))


def test_bundle_adjustment():
    program = dg.load(PROGRAMS / "ba.dg")
    n, m, p = 20, 200, 800
    arguments = (
        RNG.normal(size=(n, 11)),
        RNG.normal(size=(m, 3)) + 5,
        RNG.normal(size=p),
        RNG.integers(0, n, p).astype(np.int32),
        RNG.integers(0, m, p).astype(np.int32),
        RNG.normal(size=(p, 2)),
    )
    found = dg.jacobian(program.residuals, wrt=("cams", "x", "w"))
    assert found.compiled.sweeps(*arguments) == (14,)
    dense = dg.jacobian(program.residuals, wrt=("cams", "x", "w"), mode="forward")(*arguments)
    for blocks, expected in zip(found(*arguments), dense, strict=True):
        for block, wanted in zip(blocks, expected, strict=True):
            same(block, wanted)
