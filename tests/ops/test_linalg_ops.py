"""Derivatives of factorisations and of what is solved with them, to second order, by the interpreter."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

import dgraph.ops  # noqa: F401
from dgraph.ad import jvp, vjp
from dgraph.errors import NotDifferentiable
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import Interpreter
from dgraph.ir.graph import Region
from dgraph.ir.op import OPS
from dgraph.sizes import size, variable
from dgraph.types import F64, I64, Array

N, M, K = map(variable, "nmk")
SIZES = {"n": 4, "m": 6, "k": 3}
SQUARE, TALL = (N, N), (M, N)


def factors(g, a):
    return a, *g.apply(OPS["lu"](), g.stop_gradient(a))


def both(g, op, a):
    """The results of an op that do not depend on the signs of vectors: numbers as they are, matrices squared."""
    found = g.apply(OPS[op](), a)
    return [value if value.type.rank == 1 else g.mul(value, value) for value in found]


def unit(g):
    return g.map(SQUARE, lambda h, i, j: h.cast(h.equal(i, j), dtype=F64))


FUNCTIONS = {
    "solve": ([SQUARE, (N,)], lambda g, a, b: [g.lu_solve(*factors(g, a), b)]),
    "solve matrix": ([SQUARE, (N, K)], lambda g, a, b: [g.lu_solve(*factors(g, a), b)]),
    "solve transposed": ([SQUARE, (N, K)], lambda g, a, b: [g.lu_solve(*factors(g, a), b, transpose_a=True)]),
    "inv": ([SQUARE], lambda g, a: [g.lu_solve(*factors(g, a), unit(g))]),
    "det": ([SQUARE], lambda g, a: [g.lu_det(*factors(g, a))]),
    "logdet": ([SQUARE], lambda g, a: [g.lu_logdet(*factors(g, a))]),
    "two with one factor": (
        [SQUARE, (N,)],
        lambda g, a, b: (lambda f: [g.lu_solve(*f, g.lu_solve(*f, b)), g.lu_logdet(*f)])(factors(g, a)),
    ),
    "cholesky": ([SQUARE], lambda g, a: [g.cholesky(a)]),
    "lower": ([SQUARE, (N, K)], lambda g, a, b: [g.triangular_solve(a, b)]),
    "upper": ([SQUARE, (N,)], lambda g, a, b: [g.triangular_solve(a, b, lower=False)]),
    "unit lower transposed": (
        [SQUARE, (N, K)],
        lambda g, a, b: [g.triangular_solve(a, b, unit=True, transpose_a=True)],
    ),
    "qr": ([TALL], lambda g, a: g.apply(OPS["qr"](), a)),
    "qr of a square": ([SQUARE], lambda g, a: g.apply(OPS["qr"](), a)),
    "eigh": ([SQUARE], lambda g, a: both(g, "eigh", a)),
    "svd": ([TALL], lambda g, a: both(g, "svd", a)),
    "svd of a square": ([SQUARE], lambda g, a: both(g, "svd", a)),
}


@dataclass(frozen=True)
class Function:
    """A region with the regions of its derivatives and operands to try it on."""

    region: Region
    shapes: list

    @property
    def active(self):
        return [True] * len(self.shapes)

    def operands(self, seed=0):
        """A matrix that is positive definite, but not symmetric, if it is square; then the rest."""
        rng = np.random.default_rng(seed)
        first = rng.normal(size=concrete(self.shapes[0]))
        if first.shape[0] == first.shape[1]:
            first = (first @ first.T + 3 * np.diag(np.arange(1.0, len(first) + 1)) + 0.3 * np.triu(first, 1)) / 5
        return [first, *(rng.normal(size=concrete(shape)) for shape in self.shapes[1:])]

    def directions(self, seed):
        rng = np.random.default_rng(seed)
        return [rng.normal(size=concrete(shape)) for shape in self.shapes]


def concrete(shape):
    return tuple(size(extent).evaluate(SIZES.__getitem__) for extent in shape)


def run(region, arrays):
    return Interpreter(SIZES).run(region, [np.asarray(array)[()] for array in arrays])


@cache
def function(name):
    shapes, build = FUNCTIONS[name]
    g = Builder()
    inputs = [g.input(Array(F64, shape)) for shape in shapes]
    return Function(g.close(build(g, *inputs)), shapes)


@cache
def objective(name):
    """A number that depends on all results of a function, in a way that is not linear."""
    shapes, _ = FUNCTIONS[name]
    g = Builder()
    inputs = [g.input(Array(F64, shape)) for shape in shapes]
    total = g.constant(0.0, F64)
    for at, value in enumerate(g.inline(function(name).region, inputs)):
        weight = g.full(0.3 + 0.2 * at, value.type)
        term = g.mul(g.sin(g.add(value, weight)), value)
        total = g.add(total, g.reduce_sum(term, axes=tuple(range(value.type.rank))) if value.type.rank else term)
    return Function(g.close([total]), shapes)


@cache
def gradient(name):
    """The gradient of the objective, by reverse mode."""
    f = objective(name)
    g = Builder()
    inputs = [g.input(value.type) for value in f.region.inputs]
    _, *slopes = g.inline(vjp(f.region, f.active, [True]), [*inputs, g.constant(1.0, F64)])
    return Function(g.close(slopes), f.shapes)


def close(found, wanted, limit):
    scale = max(1.0, max(np.abs(array).max(initial=0) for array in wanted))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=limit * scale)


def richardson(f: Callable, operands, directions, step=2e-3):
    """Central differences of three steps, extrapolated: the error is of sixth order."""
    table = []
    for h in (step, step / 2, step / 4):
        ends = [f([x + sign * h * d for x, d in zip(operands, directions, strict=True)]) for sign in (1, -1)]
        table.append([(up - down) / (2 * h) for up, down in zip(*ends, strict=True)])
    first = [[(4 * fine - coarse) / 3 for fine, coarse in zip(table[i + 1], table[i], strict=True)] for i in (0, 1)]
    return [(16 * fine - coarse) / 15 for fine, coarse in zip(first[1], first[0], strict=True)]


EACH = pytest.mark.parametrize("name", FUNCTIONS)


@EACH
def test_jvp_agrees_with_differences(name):
    f = function(name)
    operands, directions = f.operands(), f.directions(1)
    results = len(f.region.outputs)
    found = run(jvp(f.region, f.active), [*operands, *directions])[results:]
    close(found, richardson(lambda x: run(f.region, x), operands, directions), 1e-9)


@EACH
def test_vjp_is_the_transpose_of_jvp(name):
    f = function(name)
    operands, directions = f.operands(), f.directions(1)
    results = run(f.region, operands)
    weights = [np.asarray(np.random.default_rng(2).normal(size=value.shape)) for value in results]
    pushed = run(jvp(f.region, f.active), [*operands, *directions])[len(results) :]
    pulled = run(vjp(f.region, f.active, [True] * len(results)), [*operands, *weights])[len(results) :]
    left = sum(np.sum(weight * tangent) for weight, tangent in zip(weights, pushed, strict=True))
    right = sum(np.sum(back * direction) for back, direction in zip(pulled, directions, strict=True))
    assert left == pytest.approx(right, rel=1e-12, abs=1e-12)


@EACH
def test_second_derivatives_agree_with_differences_and_are_symmetric(name):
    f, slope = objective(name), gradient(name)
    operands, u, v = f.operands(), f.directions(1), f.directions(2)
    count = len(operands)
    second = jvp(slope.region, f.active)
    along = [run(second, [*operands, *direction])[count:] for direction in (u, v)]
    close(along[0], richardson(lambda x: run(slope.region, x), operands, u), 1e-8)
    sides = [sum(np.sum(a * b) for a, b in zip(*pair, strict=True)) for pair in ((along[0], v), (along[1], u))]
    assert sides[0] == pytest.approx(sides[1], rel=1e-10, abs=1e-10)


@EACH
def test_all_orders_of_the_modes_agree(name):
    """Forward over reverse, reverse over forward, reverse over reverse: the same products with the Hessian."""
    f, slope = objective(name), gradient(name)
    operands, u = f.operands(), f.directions(1)
    count = len(operands)
    forward_over_reverse = run(jvp(slope.region, f.active), [*operands, *u])[count:]
    pushed = jvp(f.region, f.active)
    once = vjp(pushed, [True] * count + [False] * count, [False, True])
    reverse_over_forward = run(once, [*operands, *u, 1.0])[2:]
    twice = vjp(slope.region, f.active, [True] * count)
    reverse_over_reverse = run(twice, [*operands, *u])[count:]
    close(reverse_over_forward, forward_over_reverse, 1e-11)
    close(reverse_over_reverse, forward_over_reverse, 1e-11)


@pytest.mark.parametrize("name", ["cholesky", "eigh"])
def test_the_cotangent_of_a_symmetric_operand_is_symmetric(name):
    (slope,) = run(gradient(name).region, function(name).operands())
    np.testing.assert_allclose(slope, slope.T, rtol=1e-12)


@pytest.mark.parametrize(("name", "cut"), [("lower", np.triu), ("upper", np.tril)])
def test_the_other_half_of_a_triangle_has_no_cotangent(name, cut):
    slope = run(gradient(name).region, function(name).operands())[0]
    assert not cut(slope, 1 if name == "lower" else -1).any() and np.diagonal(slope).all()


def test_factors_alone_are_not_differentiated():
    g = Builder()
    a = g.input(Array(F64, SQUARE))
    region = g.close(g.apply(OPS["lu"](), a)[:1])
    with pytest.raises(NotDifferentiable, match="only what they solve"):
        jvp(region, [True])


# ---- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_factors_of_a_matrix(n):
    a = np.random.default_rng(n).normal(size=(n, n))
    found, pivots = OPS["lu"]().evaluate(None, a)
    lower, upper = np.tril(found), np.triu(found, 1) + np.eye(n)
    order = np.arange(n)
    for k, p in enumerate(pivots):
        order[[k, p]] = order[[p, k]]
    np.testing.assert_allclose(lower @ upper, a[:, order], atol=1e-14)
    assert n == 0 or np.abs(upper).max() == 1


def test_a_singular_matrix_has_a_zero_pivot():
    found, _ = OPS["lu"]().evaluate(None, np.ones((3, 3)))
    assert np.diagonal(found).tolist() == [1, 0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", ["cholesky", "eigh", "svd"])
def test_what_has_no_factors_is_nan(op, dtype):
    wrong = -np.eye(3, dtype=dtype) if op == "cholesky" else np.full((3, 3), np.inf, dtype)
    found = OPS[op]().evaluate(None, wrong)
    for array in found if isinstance(found, tuple) else (found,):
        assert np.isnan(array).all() and array.dtype == dtype


@pytest.mark.parametrize("op", ["qr", "svd"])
def test_a_wide_matrix_has_no_factors(op):
    shapes = [array.shape for array in OPS[op]().evaluate(None, np.ones((2, 3)))]
    assert shapes == ([(2, 3), (3, 3)] if op == "qr" else [(2, 3), (3,), (3, 3)])
    assert all(np.isnan(array).all() for array in OPS[op]().evaluate(None, np.ones((2, 3))))


def test_the_triangle_of_qr_has_a_positive_diagonal():
    a = np.random.default_rng(0).normal(size=(6, 4))
    q, r = OPS["qr"]().evaluate(None, a)
    np.testing.assert_allclose(q @ r, a, atol=1e-14)
    np.testing.assert_allclose(q.T @ q, np.eye(4), atol=1e-14)
    assert (np.diagonal(r) > 0).all() and not np.tril(r, -1).any()


# ---- where values coincide ----------------------------------------------------------------------------------------


def rotated(values, seed=0):
    """A symmetric matrix with given eigenvalues."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return (q * values) @ q.T


REPEATED = [np.eye(4), np.diag([1.0, 1, 2, 3]), rotated([1.0, 1, 2, 3]), rotated([2.0, 2, 2, 5]), np.zeros((4, 4))]


def slope_of(build, a):
    """The gradient of a number that is a function of a matrix."""
    g = Builder()
    x = g.input(Array(F64, SQUARE))
    region = g.close([build(g, x)])
    return run(vjp(region, [True], [True]), [a, 1.0])[1]


def powers(g, a):
    w, _ = g.apply(OPS["eigh"](), a)
    return g.reduce_sum(g.powi(w, exponent=3), axes=(0,))


@pytest.mark.parametrize("a", REPEATED)
def test_eigenvalues_have_slopes_where_they_repeat(a):
    np.testing.assert_allclose(slope_of(powers, a), 3 * a @ a, atol=1e-13)


def rebuilt(g, a):
    """sum(weight * (v @ diag(sin(w)) @ transpose(v))): the sine of a matrix, which no choice of basis changes."""
    w, v = g.apply(OPS["eigh"](), a)
    scaled = g.mul(v, g.broadcast(g.sin(w), shape=SQUARE))
    i = g.map(SQUARE, lambda h, i, j: h.cast(h.add(h.mul(i, i), j), dtype=F64))
    return g.reduce_sum(g.mul(g.dot(scaled, v, transpose_b=True), i), axes=(0, 1))


def onto_first_two(g, a):
    """sum(weight * P) for the projection P onto the eigenvectors of the two smallest eigenvalues."""
    _, v = g.apply(OPS["eigh"](), a)
    v = g.slice(v, starts=(size(0), size(0)), steps=(1, 1), shape=(N, size(2)))
    i = g.map(SQUARE, lambda h, i, j: h.cast(h.add(h.mul(i, i), j), dtype=F64))
    return g.reduce_sum(g.mul(g.dot(v, v, transpose_b=True), i), axes=(0, 1))


@pytest.mark.parametrize("a", REPEATED[1:3])
def test_a_projection_onto_a_whole_space_has_a_slope(a):
    direction = np.random.default_rng(3).normal(size=(4, 4))
    g = Builder()
    x = g.input(Array(F64, SQUARE))
    region = g.close([onto_first_two(g, x)])
    wanted = richardson(lambda operands: run(region, operands), [a], [direction])[0]
    assert np.sum(slope_of(onto_first_two, a) * direction) == pytest.approx(wanted, rel=1e-8)
    assert run(jvp(region, [True]), [a, direction])[1] == pytest.approx(wanted, rel=1e-8)


def nuclear(g, a):
    _, s, _ = g.apply(OPS["svd"](), a)
    return g.reduce_sum(s, axes=(0,))


def polar(g, a):
    """sum(weight * (u @ vt)): the nearest orthogonal matrix."""
    u, _, vt = g.apply(OPS["svd"](), a)
    i = g.map(SQUARE, lambda h, i, j: h.cast(h.add(h.mul(i, i), j), dtype=F64))
    return g.reduce_sum(g.mul(g.dot(u, vt), i), axes=(0, 1))


ORTHOGONAL = np.linalg.qr(np.random.default_rng(5).normal(size=(4, 4)))[0]
EQUAL = [np.eye(4), 2 * ORTHOGONAL, ORTHOGONAL @ rotated([1.0, 1, 2, 3])]


@pytest.mark.parametrize("a", EQUAL)
def test_singular_values_have_slopes_where_they_repeat(a):
    u, _, vt = np.linalg.svd(a)
    np.testing.assert_allclose(slope_of(nuclear, a), u @ vt, atol=1e-13)


@pytest.mark.parametrize("a", EQUAL)
def test_the_polar_factor_has_a_slope_where_singular_values_repeat(a):
    direction = np.random.default_rng(3).normal(size=(4, 4))
    g = Builder()
    x = g.input(Array(F64, SQUARE))
    region = g.close([polar(g, x)])
    wanted = richardson(lambda operands: run(region, operands), [a], [direction])[0]
    assert np.sum(slope_of(polar, a) * direction) == pytest.approx(wanted, rel=1e-8)


def second(build, a, direction):
    """The derivative of the gradient along a direction."""
    g = Builder()
    x = g.input(Array(F64, SQUARE))
    slope = vjp(g.close([build(g, x)]), [True], [True])
    return run(jvp(slope, [True, False]), [a, 1.0, direction])[-1]


@pytest.mark.parametrize("build", [powers, nuclear, onto_first_two, polar])
def test_second_derivatives_are_nan_where_values_repeat(build):
    direction = np.random.default_rng(3).normal(size=(4, 4))
    repeated, apart = rotated([1.0, 1, 2, 3]), rotated([1.0, 1.2, 2, 3])
    assert np.isnan(second(build, repeated, direction)).any()
    wanted = richardson(lambda operands: [slope_of(build, *operands)], [apart], [direction], 2e-4)
    close([second(build, apart, direction)], wanted, 1e-7)


@pytest.mark.parametrize("a", REPEATED)
def test_a_function_of_values_and_vectors_has_no_slope_where_values_repeat(a):
    """The right slope cannot be known from the slopes by values and vectors; it is never wrong."""
    assert np.isnan(slope_of(rebuilt, a)).any()


def test_vectors_that_do_not_matter_may_repeat():
    """The projection onto the two largest of four eigenvalues, where the others are 0."""
    x = np.random.default_rng(0).normal(size=(4, 2))
    a, direction = x @ x.T, np.random.default_rng(3).normal(size=(4, 4))

    def build(g, a):
        return onto_first_two(g, g.neg(a))

    g = Builder()
    y = g.input(Array(F64, SQUARE))
    region = g.close([build(g, y)])
    wanted = richardson(lambda operands: run(region, operands), [a], [direction])[0]
    assert np.sum(slope_of(build, a) * direction) == pytest.approx(wanted, rel=1e-7)


def test_what_depends_on_the_choice_of_a_basis_has_no_slope():
    def build(g, a):
        _, v = g.apply(OPS["eigh"](), a)
        return g.index(g.mul(v, v), *(g.constant(at, I64) for at in (0, 1)))

    assert np.isnan(slope_of(build, REPEATED[2])).any()
    assert np.isfinite(slope_of(build, rotated([1.0, 1.1, 2, 3]))).all()
