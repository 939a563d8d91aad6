"""Scalars, elementwise ops, views and reductions."""

# Bodies of loops and spaces are called with more than each of them uses.

import ctypes

import numpy as np
import pytest
from nest_graphs import K, M, N, arguments_for, check, compare, make_graph

from dgraph.kernels.compile import compile_graph
from dgraph.sizes import size
from dgraph.types import BOOL, F32, F64, I32, I64, U8, Array

FLOATS = pytest.mark.parametrize("dtype", [F32, F64], ids=str)


@FLOATS
def test_scalar_chain(dtype):
    scalar = Array(dtype)

    def build(g, x, y):
        z = g.div(g.sub(g.mul(x, y), g.constant(0.1, dtype)), g.add(g.abs(y), g.constant(1.0, dtype)))
        return [g.neg(z), g.select(g.less(x, y), x, y), g.maximum(x, y), g.powi(z, exponent=3), g.cast(z, dtype=I64)]

    check(make_graph([("x", scalar), ("y", scalar)], build), {}, {})


@FLOATS
def test_elementwise_chain_unfused(dtype):
    vector = Array(dtype, (N, M))

    def build(g, x, y):
        z = g.mul(g.add(x, y), g.sub(x, y))
        return [z, g.sqrt(g.abs(z)), g.relu(z), g.greater(x, y)]

    check(make_graph([("x", vector), ("y", vector)], build), {"n": 3, "m": 4}, {"n": 0, "m": 2}, {"n": 65, "m": 33})


@pytest.mark.parametrize("dtype", [I32, I64, U8], ids=str)
def test_integers(dtype):
    vector = Array(dtype, (N,))

    def build(g, x, y):
        return [
            g.add(x, y),
            g.mul(g.sub(x, y), y),
            g.floor_divide(x, y),
            g.mod(x, y),
            g.maximum(x, y),
            g.cast(x, dtype=F64),
            g.equal(x, y),
        ]

    x = np.array([0, 7, 250, 3, 200, 9], dtype.numpy)
    y = np.array([3, 0, 9, 3, 100, 5], dtype.numpy)
    check(make_graph([("x", vector), ("y", vector)], build), arguments=[x, y])


def test_bools():
    vector = Array(BOOL, (N,))

    def build(g, x, y):
        return [g.logical_and(x, g.logical_not(y)), g.logical_or(x, y), g.equal(x, y), g.not_equal(x, y)]

    check(make_graph([("x", vector), ("y", vector)], build), {"n": 9})


def test_scalars_of_every_dtype():
    kinds = [F32, F64, I32, I64, U8, BOOL]

    def build(g, *values):
        return [*values, *(g.broadcast(value, shape=(N,)) for value in values)]

    graph = make_graph(
        [(f"x{dtype}", Array(dtype)) for dtype in kinds] + [("v", Array(F64, (N,)))], lambda g, *v: build(g, *v[:-1])
    )
    check(graph, {"n": 3}, {"n": 0})


def test_broadcast_slice_transpose():
    def build(g, x, v):
        wide = g.broadcast(v, shape=(N, M))
        turned = g.transpose(g.add(x, wide), axes=(1, 0))
        part = g.slice(turned, starts=(size(1), size(0)), steps=(1, 2), shape=(M - 1, N // 2))
        flipped = g.slice(x, starts=(N - 1, M - 1), steps=(-1, -1), shape=(N, M))
        column = g.broadcast(
            g.reshape(g.slice(x, starts=(size(0), size(0)), steps=(1, 1), shape=(N, size(1))), shape=(N, size(1))),
            shape=(N, M),
        )
        return [turned, part, flipped, g.mul(flipped, column), wide, g.reshape(turned, shape=(N * M,))]

    graph = make_graph([("x", Array(F64, (N, M))), ("v", Array(F64, (M,)))], build)
    check(graph, {"n": 4, "m": 3}, {"n": 5, "m": 1}, {"n": 0, "m": 2})


def test_unslice_and_concat():
    def build(g, x, y):
        both = g.concat(x, y, axis=1)
        padded = g.unslice(x, starts=(size(1), size(2)), steps=(2, 1), shape=(2 * N + 1, M + 3))
        return [both, padded, g.concat(y, x, axis=1), g.concat(x, x, axis=0)]

    graph = make_graph([("x", Array(F32, (N, M))), ("y", Array(F32, (N, K)))], build)
    check(graph, {"n": 2, "m": 3, "k": 1}, {"n": 1, "m": 0, "k": 4})


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("op", ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "argmax", "argmin"])
def test_reductions(op, axes):
    graph = make_graph([("x", Array(F64, (N, M)))], lambda g, x: [getattr(g, op)(x, axes=axes)])
    check(
        graph,
        {"n": 3, "m": 4},
        {"n": 0, "m": 3},
        {"n": 3, "m": 0},
        {"n": 40, "m": 70},
        compiled=op in ("reduce_sum", "argmax"),
        ulp=200,
    )


def test_reductions_of_other_dtypes():
    def build(g, x, b, f):
        return [
            g.reduce_sum(x, axes=(0,)),
            g.reduce_max(x, axes=(0,)),
            g.reduce_any(b, axes=(0,)),
            g.reduce_all(b, axes=(0,)),
            g.reduce_max(f, axes=(0,)),
            g.logsumexp(f, axes=(0,)),
        ]

    graph = make_graph([("x", Array(I32, (N,))), ("b", Array(BOOL, (N,))), ("f", Array(F32, (N,)))], build)
    machine = check(graph, {"n": 7}, {"n": 0}, {"n": 300}, ulp=4)
    f = np.array([1.0, np.nan, 3.0], np.float32)
    x, b = np.zeros(3, np.int32), np.array([True, False, True])
    assert np.isnan(machine.call([x, b, f])[4])


@pytest.mark.parametrize(
    ("a", "b", "facts"),
    [
        ((N, K), (K, M), {}),
        ((K, N), (K, M), {"transpose_a": True}),
        ((N, K), (M, K), {"transpose_b": True}),
        ((K, N), (M, K), {"transpose_a": True, "transpose_b": True}),
        ((N, K), (K,), {}),
        ((K, N), (K,), {"transpose_a": True}),
        ((K,), (K, M), {}),
        ((K,), (M, K), {"transpose_b": True}),
        ((K,), (K,), {}),
        ((size(2), N, K), (size(2), K, M), {}),
        ((size(2), K, N), (size(2), M, K), {"transpose_a": True, "transpose_b": True}),
    ],
)
def test_dot(a, b, facts):
    graph = make_graph([("a", Array(F64, a)), ("b", Array(F64, b))], lambda g, x, y: [g.dot(x, y, **facts)])
    every = [{"n": 3, "m": 4, "k": 5}, {"n": 1, "m": 1, "k": 1}, {"n": 2, "m": 3, "k": 0}, {"n": 0, "m": 3, "k": 2}]
    check(graph, *every, ulp=8)


def test_dot_of_views():
    def build(g, x, y):
        turned = g.transpose(x, axes=(1, 0))
        row = g.slice(x, starts=(size(0), size(0)), steps=(1, 2), shape=(N, size(2)))
        return [
            g.dot(turned, y),
            g.dot(x, x, transpose_b=True),
            g.dot(row, row, transpose_a=True),
            g.dot(g.broadcast(g.constant(2.0, F64), shape=(M, N)), y),
        ]

    graph = make_graph([("x", Array(F64, (N, M))), ("y", Array(F64, (N, K)))], build)
    check(graph, {"n": 3, "m": 4, "k": 2}, {"n": 1, "m": 5, "k": 1}, ulp=8)


def test_dot_of_integers():
    graph = make_graph([("x", Array(I64, (N, M))), ("y", Array(I64, (M, K)))], lambda g, x, y: [g.dot(x, y)])
    check(graph, {"n": 3, "m": 4, "k": 2})


def test_products_of_every_length_leave_the_blas_as_it_was():
    from dgraph.kernels.blas import address

    threads = ctypes.CFUNCTYPE(ctypes.c_int)(address("get_threads"))
    before = threads()
    graph = make_graph([("x", Array(F32, (N, M))), ("y", Array(F32, (M, K)))], lambda g, x, y: [g.dot(x, y)])
    machine = compile_graph(graph)
    for n, m, k in ((2, 3, 4), (6, 6, 8), (40, 50, 60), (330, 330, 330)):
        x, y = arguments_for(graph, {"n": n, "m": m, "k": k})
        compare(machine.call([x, y]), [x @ y], ulp=64)
        assert threads() == before
