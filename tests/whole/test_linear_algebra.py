"""Linear algebra as a program says it: values, derivatives, faults."""

import itertools

import numpy as np
import pytest

import dgraph as dg
from dgraph.errors import CheckFailed

PROGRAM = '''
"""Functions of matrices."""

def solved[n, *s](a: f64[n, n], b: f64[n, *s]) -> f64[n, *s] = solve(a, b)
def inverse[n](a: f64[n, n]) -> f64[n, n] = inv(a)
def determinant[n](a: f64[n, n]) -> f64 = det(a)
def log_determinant[n](a: f64[n, n]) -> f64 = logdet(a)
def factor[n](a: f64[n, n]) -> f64[n, n] = cholesky(a)
def lower[n](l: f64[n, n], b: f64[n]) -> f64[n] = triangular_solve(l, b)
def upper[n, k](u: f64[n, n], b: f64[n, k]) -> f64[n, k]:
    return triangular_solve(u, b, lower=False, transpose=True, unit=True)

def fitted[m, n](a: f64[m, n], b: f64[m]) -> f64[n] = lstsq(a, b)
def tall(a: f64[5, 3], b: f64[5, 2]) -> f64[3, 2] = lstsq(a, b)
def wide(a: f64[3, 5], b: f64[3]) -> f64[5] = lstsq(a, b)

def sum_of_fit[m, n](a: f64[m, n], b: f64[m]) -> f64:
    x = lstsq(a, b)
    return sum(sin(x[i]) for i)

def orthogonal[m, n](a: f64[m, n]) -> (f64[m, n], f64[n, n]):
    q, r = qr(a)
    return q, r

def values[n](a: f64[n, n]) -> f64:
    w, v = eigh(a)
    return sum(w[i] ** 3 for i)

def nuclear[m, n](a: f64[m, n]) -> f64:
    u, s, vt = svd(a)
    return sum(s)

def projected[n](a: f64[n, n], k: size) -> f64[n, n]:
    w, v = eigh(a)
    return v[:, :k] @ v[:, :k].T

def polar[m, n](a: f64[m, n]) -> f64[m, n]:
    u, s, vt = svd(a)
    return u @ vt

def many[b, n](a: f64[b, n, n], y: f64[b, n]) -> f64[b, n] = vmap(solved, over=(a, b))(a, y)

def filtered[n](a: f64[n, n], x: f64[n], steps: size) -> f64:
    for t in range(steps):
        spread = a @ a.T + (1 + t) * eye(n)
        l = cholesky(spread)
        x = triangular_solve(l, x) + solve(a, x) * 0.5
        if x[0] > 0.0:
            x = inv(spread) @ x
    return sum(x ** 2)

def single[n](a: f32[n, n], b: f32[n]) -> f32[n] = solve(a, b)
def counted[n](a: f64[n, n]) -> f64[n] = solve(a, [i for i in range(n)])
'''


@pytest.fixture(scope="module")
def program():
    return dg.parse(PROGRAM)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def difference(f, x, direction, step=1e-6):
    return (f(x + step * direction) - f(x - step * direction)) / (2 * step)


def cofactors(a):
    """The derivative of the determinant, minor by minor."""
    n = len(a)
    minor = [[np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) for j in range(n)] for i in range(n)]
    return np.array(minor).reshape(n, n) * (-1.0) ** np.add.outer(np.arange(n), np.arange(n))


@pytest.mark.parametrize("n", [0, 1, 2, 4, 13, 40])
def test_values_are_numpys(program, rng, n):
    a, b = rng.normal(size=(n, n)) + 2 * np.eye(n), rng.normal(size=(n, 3))
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(program.solved(a, b), np.linalg.solve(a, b), **close)
    np.testing.assert_allclose(program.solved(a, b[:, 0]), np.linalg.solve(a, b)[:, 0], **close)
    cube = rng.normal(size=(n, 2, 3))
    wanted = np.linalg.solve(a, cube.reshape(n, 6)).reshape(n, 2, 3)
    np.testing.assert_allclose(program.solved(a, cube), wanted, **close)
    np.testing.assert_allclose(program.inverse(a), np.linalg.inv(a), **close)
    np.testing.assert_allclose(program.determinant(a), np.linalg.det(a), rtol=1e-10)
    np.testing.assert_allclose(program.log_determinant(a), np.linalg.slogdet(a)[1], **close)
    spread = a @ a.T + np.eye(n)
    np.testing.assert_allclose(program.factor(spread), np.linalg.cholesky(spread), **close)
    np.testing.assert_allclose(
        program.lower(np.tril(a) + n * np.eye(n), b[:, 0]),
        np.linalg.solve(np.tril(a) + n * np.eye(n), b[:, 0]),
        **close,
    )
    unit = np.triu(a, 1) / (n + 1) + np.eye(n)
    np.testing.assert_allclose(program.upper(unit + np.tril(a), b), np.linalg.solve(unit.T, b), **close)
    if n:
        np.testing.assert_allclose(program.counted(a), np.linalg.solve(a, np.arange(n)), **close)


def test_single_precision(program, rng):
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((20, 20), (20,)))
    found = program.single(a, b)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.linalg.solve(a, b), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5), (3, 0), (0, 3)])
def test_least_squares(program, rng, shape):
    a, b = rng.normal(size=shape), rng.normal(size=shape[0])
    wanted = np.linalg.lstsq(a, b)[0] if a.size else np.zeros(shape[1])
    np.testing.assert_allclose(program.fitted(a, b), wanted, rtol=1e-9, atol=1e-12)
    direction = rng.normal(size=shape)
    slope = dg.grad(program.sum_of_fit)(a, b)
    assert np.sum(slope * direction) == pytest.approx(
        difference(lambda x: program.sum_of_fit(x, b), a, direction), rel=1e-6, abs=1e-6
    )


def test_least_squares_of_known_sizes(program, rng):
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    np.testing.assert_allclose(program.tall(a, b), np.linalg.lstsq(a, b)[0], rtol=1e-10)
    np.testing.assert_allclose(program.wide(a.T, b[:3, 0]), np.linalg.lstsq(a.T, b[:3, 0])[0], rtol=1e-10)


def test_orthogonal_factors(program, rng):
    a = rng.normal(size=(6, 4))
    q, r = program.orthogonal(a)
    np.testing.assert_allclose(q @ r, a, atol=1e-13)
    np.testing.assert_allclose(q.T @ q, np.eye(4), atol=1e-13)
    assert (np.diagonal(r) > 0).all()


# ---- determinants -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", range(6))
def test_the_slope_of_a_determinant_at_every_rank(program, rng, rank):
    a = rng.normal(size=(5, rank)) @ rng.normal(size=(rank, 5))
    assert program.determinant(a) == pytest.approx(np.linalg.det(a), rel=1e-10, abs=1e-13)
    np.testing.assert_allclose(dg.grad(program.determinant)(a), cofactors(a), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rank", range(4))
def test_the_curvature_of_a_determinant_at_every_rank(program, rng, rank):
    a = rng.normal(size=(3, rank)) @ rng.normal(size=(rank, 3))
    signs = np.zeros((3, 3, 3))
    for order in itertools.permutations(range(3)):
        signs[order] = np.linalg.det(np.eye(3)[list(order)])
    wanted = np.einsum("ikm,jln,mn->ijkl", signs, signs, a)
    np.testing.assert_allclose(dg.hessian(program.determinant)(a), wanted, rtol=1e-10, atol=1e-12)


def test_determinants_of_nearly_and_wholly_singular_matrices(program):
    near = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0 + 1e-9], [1.0, 0.0, 1.0]])
    np.testing.assert_allclose(dg.grad(program.determinant)(near), cofactors(near), atol=1e-14)
    assert program.determinant(np.zeros((4, 4))) == 0 and program.determinant(np.zeros((0, 0))) == 1
    np.testing.assert_array_equal(dg.grad(program.determinant)(np.zeros((1, 1))), [[1.0]])
    exchanged = np.eye(4)[[1, 2, 3, 0]]
    assert program.determinant(exchanged) == -1
    exchanged[2, 3] = 0
    np.testing.assert_allclose(dg.grad(program.determinant)(exchanged), cofactors(exchanged), atol=1e-15)


# ---- derivatives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_in_a_loop_with_a_branch(program, rng, steps):
    a, x = rng.normal(size=(3, 3)) + 3 * np.eye(3), rng.normal(size=3)
    slopes = dg.grad(program.filtered, wrt=("a", "x"))(a, x, steps)
    forward = dg.grad(program.filtered, wrt=("a", "x"), mode="forward")(a, x, steps)
    directions = rng.normal(size=(3, 3)), rng.normal(size=3)
    wanted = (
        difference(lambda y: program.filtered(y, x, steps), a, directions[0]),
        difference(lambda y: program.filtered(a, y, steps), x, directions[1]),
    )
    for slope, other, direction, number in zip(slopes, forward, directions, wanted, strict=True):
        assert np.sum(slope * direction) == pytest.approx(number, rel=1e-6, abs=1e-9)
        np.testing.assert_allclose(slope, other, rtol=1e-10, atol=1e-13)


def test_vmap_is_a_loop(program, rng):
    a, y = rng.normal(size=(6, 3, 3)), rng.normal(size=(6, 3))
    np.testing.assert_allclose(program.many(a, y), np.linalg.solve(a, y[..., None])[..., 0], rtol=1e-10)


def test_values_that_repeat(program):
    a = np.diag([1.0, 1, 2, 3])
    np.testing.assert_allclose(dg.grad(program.values)(a), 3 * a @ a, atol=1e-13)
    np.testing.assert_allclose(dg.grad(program.nuclear)(np.eye(3)), np.eye(3), atol=1e-14)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [5, 20, 40])
def test_values_that_lapack_leaves_a_little_apart(program, n, seed):
    """The projection onto the space of the smallest eigenvalue, and the nearest orthogonal columns."""
    rng = np.random.default_rng(seed)
    q, r = (np.linalg.qr(rng.normal(size=shape))[0] for shape in ((n, n), (n + 2, n)))
    w = np.sort(rng.integers(1, 4, n)).astype(float)
    w[0] = 1
    k = int(np.sum(w == 1))
    a, b = (q * w) @ q.T, (r * w) @ q.T
    da, db = rng.normal(size=a.shape), rng.normal(size=b.shape)
    inner = q.T @ (da + da.T) @ q / 2
    mixed = np.not_equal.outer(w == 1, w == 1)
    wanted = q @ np.where(mixed, -inner / np.where(mixed, np.abs(np.subtract.outer(w, w)), 1), 0) @ q.T
    found = dg.jvp(program.projected)(a, k, da)[1]
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    ct = rng.normal(size=a.shape)
    assert np.sum(dg.vjp(program.projected)(a, k, ct) * da) == pytest.approx(np.sum(found * ct), rel=1e-11)
    inner = r.T @ db @ q
    wanted = r @ ((inner - inner.T) / np.add.outer(w, w)) @ q.T + (db - r @ inner @ q.T) @ (q / w) @ q.T
    found = dg.jvp(program.polar)(b, db)[1]
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    ct = rng.normal(size=b.shape)
    assert np.sum(dg.vjp(program.polar)(b, ct) * db) == pytest.approx(np.sum(found * ct), rel=1e-11)


def test_a_system_is_factored_once():
    squares = dg.parse("def f[n](a: f64[n, n], b: f64[n]) -> f64 = sum(solve(a, b) ** 2)")
    hvp = dg.compile(dg.hvp(squares.f))
    assert hvp.source.count("    kernel_lu_f64(") == 1


# ---- faults -------------------------------------------------------------------------------------------------------

FAULTS = [
    ("solved", (np.ones((3, 3)), np.ones(3)), "the matrix is singular: `solve` has no answer"),
    ("solved", (np.ones((20, 20)), np.ones(20)), "the matrix is singular: `solve` has no answer"),
    ("inverse", (np.zeros((1, 1)),), "the matrix is singular: `inv` has no answer"),
    ("factor", (np.diag([1.0, -1.0]),), "the matrix is not positive definite: `cholesky` has no factor"),
    ("factor", (np.full((2, 2), np.nan),), "the matrix is not positive definite: `cholesky` has no factor"),
    ("lower", (np.diag([1.0, 0.0]), np.ones(2)), "the triangle has a zero on its diagonal"),
    ("orthogonal", (np.ones((2, 3)),), "`qr` takes a matrix with at least as many rows as columns"),
    ("nuclear", (np.ones((2, 3)),), "`svd` takes a matrix with at least as many rows as columns"),
    ("fitted", (np.ones((4, 2)), np.ones(4)), "columns or rows of the matrix are dependent"),
    ("fitted", (np.ones((2, 4)), np.ones(2)), "columns or rows of the matrix are dependent"),
    ("many", (np.zeros((2, 3, 3)), np.ones((2, 3))), "the matrix is singular: `solve` has no answer"),
]


@pytest.mark.parametrize(("name", "arguments", "title"), FAULTS)
def test_what_has_no_answer_stops_with_a_place(program, name, arguments, title):
    with pytest.raises(CheckFailed) as caught:
        getattr(program, name)(*arguments)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.title.startswith(title)
    word = title.split("`")[1] if "`" in title else ""
    place = diagnostic.labels[0].span
    assert word in PROGRAM[place.start : place.end] or place.end - place.start == 1


def test_without_checks_what_has_no_answer_is_not_a_number(program):
    free = dg.compile(program.factor, checks="off")
    assert np.isnan(free(-np.eye(3))).all()
    assert not np.isfinite(dg.compile(program.solved, checks="off")(np.zeros((2, 2)), np.ones(2))).any()


@pytest.mark.parametrize(
    ("body", "title"),
    [
        ("solve(a, a)", "`solve` takes a square matrix"),
        ("solve(v, v)", "`solve` takes a matrix"),
        ("solve(s, v)", "`solve` of 3 equations for 2 numbers"),
        ("solve(s, 1.0)", "`solve` takes a vector or a matrix"),
        ("cholesky(a)", "`cholesky` takes a square matrix"),
        ("det(a)", ""),
        ("eigh(c)", "`eigh` takes a matrix"),
        ("svd(a)", "`svd` takes a matrix with at least as many rows as columns"),
        ("qr(a)", "`qr` takes a matrix with at least as many rows as columns"),
        ("triangular_solve(s, w, lower=1)", "`lower` is True or False"),
        ("inv()", "`inv` needs an argument `a`"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(body, title):
    head = "def f(a: f64[2, 3], s: f64[3, 3], c: f64[2, 2, 2], v: f64[2], w: f64[3]) -> f64:"
    text = f"{head}\n    x = {body}\n    return 1.0\n"
    with pytest.raises(dg.DgraphError) as caught:
        dg.parse(text).f(*(np.ones(shape) for shape in ((2, 3), (3, 3), (2, 2, 2), 2, 3)))
    diagnostic = caught.value.diagnostics[0]
    assert diagnostic.title.startswith(title) and diagnostic.labels
