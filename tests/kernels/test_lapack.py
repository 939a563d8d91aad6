"""Factorisations in generated code against the interpreter: at sizes where loops and where LAPACK do the work."""

# Bodies of loops and spaces are called with more than each of them uses.
# ruff: noqa: ARG005

from functools import cache

import numpy as np
import pytest
from nest_graphs import K, M, N, evaluate, make_graph

from dgraph.errors import NotSupported
from dgraph.ir.op import OPS
from dgraph.kernels import blas
from dgraph.kernels.compile import compile_graph, plan_graph
from dgraph.kernels.cuda_nests import cuda_program
from dgraph.kernels.lapack_source import SMALL
from dgraph.kernels.loops_text import print_loops
from dgraph.types import F32, F64, Array

SIZES = [0, 1, 2, 3, SMALL, SMALL + 1, 70]
BOTH = pytest.mark.parametrize("dtype", [F64, F32], ids=str)


def limit(dtype):
    return 1e-10 if dtype is F64 else 2e-3


def square(n, dtype, seed=0):
    return np.random.default_rng(seed + n).normal(size=(n, n)).astype(dtype.numpy)


def definite(n, dtype):
    x = square(n, dtype)
    return x @ x.T + n * np.eye(n, dtype=dtype.numpy) + np.triu(x, 1) / 10


def normal(dtype, *shape):
    return np.random.default_rng(7).normal(size=shape).astype(dtype.numpy)


def close(found, wanted, dtype):
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=limit(dtype), atol=limit(dtype))


@cache
def systems(dtype):
    """Solving with a matrix and its transpose, for a matrix and a vector, and both forms of the determinant."""

    def build(g, a, b, c):
        factors = (a, *g.apply(OPS["lu"](), a))
        solved = [g.lu_solve(*factors, x, transpose_a=turned) for x in (b, c) for turned in (False, True)]
        return [*solved, g.lu_det(*factors), g.lu_logdet(*factors)]

    graph = make_graph([("a", Array(dtype, (N, N))), ("b", Array(dtype, (N, K))), ("c", Array(dtype, (N,)))], build)
    return graph, compile_graph(graph)


def check_systems(dtype, n, k):
    graph, machine = systems(dtype)
    a = square(n, dtype) + 2 * np.eye(n, dtype=dtype.numpy)
    arguments = [a, normal(dtype, n, k), normal(dtype, n)]
    found = machine.call(arguments)
    close(found, evaluate(graph, arguments), dtype)
    np.testing.assert_allclose(a @ found[0], arguments[1], atol=10 * limit(dtype))
    np.testing.assert_allclose(a.T @ found[3], arguments[2], atol=10 * limit(dtype))


@BOTH
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("k", [0, 1, 5])
def test_systems(dtype, n, k):
    check_systems(dtype, n, k)


@BOTH
@pytest.mark.parametrize("n", SIZES)
def test_cholesky(dtype, n):
    graph = make_graph([("a", Array(dtype, (N, N)))], lambda g, a: [g.cholesky(a)])
    a = definite(n, dtype)
    found = compile_graph(graph).call([a])
    close(found, evaluate(graph, [a]), dtype)
    if n:
        assert np.isnan(compile_graph(graph).call([-a])[0]).all()


@BOTH
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("unit", [True, False])
def test_triangles(dtype, lower, turned, unit):
    facts = {"lower": lower, "transpose_a": turned, "unit": unit}
    inputs = [("a", Array(dtype, (N, N))), ("b", Array(dtype, (N, K))), ("c", Array(dtype, (N,)))]
    graph = make_graph(inputs, lambda g, a, b, c: [g.triangular_solve(a, x, **facts) for x in (b, c)])
    machine = compile_graph(graph)
    for n in SIZES:
        a = square(n, dtype) / max(n, 1) + 2 * np.eye(n, dtype=dtype.numpy)
        arguments = [a, normal(dtype, n, 3), normal(dtype, n)]
        close(machine.call(arguments), evaluate(graph, arguments), dtype)


TALL = [(0, 0), (3, 0), (1, 1), (2, 1), (5, 2), (40, 40), (90, 30), (200, 3)]


@BOTH
def test_qr(dtype):
    graph = make_graph([("a", Array(dtype, (M, N)))], lambda g, a: g.apply(OPS["qr"](), a))
    machine = compile_graph(graph)
    for shape in TALL:
        a = normal(dtype, *shape)
        close(machine.call([a]), evaluate(graph, [a]), dtype)
    assert all(np.isnan(array).all() for array in machine.call([normal(dtype, 2, 5)]))


@BOTH
def test_svd(dtype):
    graph = make_graph([("a", Array(dtype, (M, N)))], lambda g, a: g.apply(OPS["svd"](), a))
    machine = compile_graph(graph)
    for shape in TALL:
        a = normal(dtype, *shape)
        u, s, vt = machine.call([a])
        unit = np.eye(shape[1])
        close([u.T @ u, vt @ vt.T, u * s @ vt], [x.astype(dtype.numpy) for x in (unit, unit, a)], dtype)
        close([s], evaluate(graph, [a])[1:2], dtype)
    for wrong in (normal(dtype, 2, 5), np.full((4, 4), np.nan, dtype.numpy)):
        assert all(np.isnan(array).all() for array in machine.call([wrong]))


@BOTH
@pytest.mark.parametrize("n", SIZES)
def test_eigh(dtype, n):
    graph = make_graph([("a", Array(dtype, (N, N)))], lambda g, a: g.apply(OPS["eigh"](), a))
    machine = compile_graph(graph)
    a = square(n, dtype)
    w, v = machine.call([a])
    close([v * w @ v.T, v.T @ v], [(a + a.T) / 2, np.eye(n, dtype=dtype.numpy)], dtype)
    close([w], evaluate(graph, [a])[:1], dtype)
    if n:
        a[-1, 0] = np.inf
        assert all(np.isnan(array).all() for array in machine.call([a]))


def test_operands_that_are_views_are_read_as_they_lie():
    def build(g, a, b):
        turned = g.transpose(a, axes=(1, 0))
        b = g.transpose(b, axes=(1, 0))
        factors = (turned, *g.apply(OPS["lu"](), turned))
        return [g.triangular_solve(turned, b), g.transpose(g.lu_solve(*factors, b), axes=(1, 0)), g.cholesky(turned)]

    graph = make_graph([("a", Array(F64, (N, N))), ("b", Array(F64, (K, N)))], build)
    for n in (4, 30):
        arguments = [definite(n, F64), normal(F64, 3, n)]
        before = [np.array(argument) for argument in arguments]
        close(compile_graph(graph).call(arguments), evaluate(graph, arguments), F64)
        for argument, copy in zip(arguments, before, strict=True):
            np.testing.assert_array_equal(argument, copy)


def test_in_index_spaces_loops_and_branches():
    def build(g, a, b):
        def point(h, at, _threads, _own):
            own = h.index(a, *at)
            w, v = h.apply(OPS["eigh"](), own)
            return [h.lu_solve(own, *h.apply(OPS["lu"](), own), h.index(b, *at)), w, h.mul(v, v)]

        def step(h, i, carried, _walked):
            own = h.index(a, i)
            is_even = h.equal(h.mod(i, h.number(2)), h.number(0))
            turned = h.if_(
                is_even,
                lambda q: [q.triangular_solve(own, carried[0])],
                lambda q: [q.dot(q.cholesky(own), carried[0])],
            )
            return list(turned)

        found = g.space((K,), point)
        return [*found, *g.for_(g.number(K), [g.reduce_sum(b, axes=(0,))], step, length=K)]

    graph = make_graph([("a", Array(F64, (K, N, N))), ("b", Array(F64, (K, N)))], build)
    machine = compile_graph(graph)
    for n, k in [(3, 4), (20, 3), (2, 0)]:
        arguments = [np.array([definite(n, F64) * (1 + at) for at in range(k)]).reshape(k, n, n), normal(F64, k, n)]
        close(machine.call(arguments), evaluate(graph, arguments), F64)


@pytest.mark.parametrize("n", [SMALL + 1, SMALL + 2, 70])
def test_a_lapack_with_short_integers(monkeypatch, n):
    """SciPy's, where NumPy's own is not found: it writes two exchanges into each word."""
    pytest.importorskip("scipy")
    systems.cache_clear()
    blas.address.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(blas, "_symbol_of_numpy", lambda name: None)
            check_systems(F64, n, 2)
            assert blas.address("dgetrf") == blas._from_scipy("dgetrf")
    finally:
        systems.cache_clear()
        blas.address.cache_clear()


@BOTH
def test_object_code_of_the_reference_route_is_the_same(dtype):
    """Numba reads the same source."""
    from dgraph.kernels.native import compile_source
    from dgraph.kernels.numba_source import print_program

    graph = make_graph([("a", Array(dtype, (N, N)))], lambda g, a: [g.cholesky(a), *g.apply(OPS["eigh"](), a)])
    source = print_program(plan_graph(graph))
    assert f"kernel_cholesky_{dtype}" in source
    assert compile_source(source, "numba")


def test_the_loop_text_names_routines():
    graph = make_graph([("a", Array(F64, (M, N)))], lambda g, a: g.apply(OPS["qr"](), a))
    assert "= qr(" in print_loops(plan_graph(graph))


def test_cuda_refuses_by_name():
    graph = make_graph([("a", Array(F64, (N, N)))], lambda g, a: [g.cholesky(a)])
    with pytest.raises(NotSupported, match="`cholesky` of linear algebra cannot be printed for CUDA yet"):
        cuda_program(graph)
