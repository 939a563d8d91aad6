"""Graphs that are printed for CUDA, with arguments. Run as a program it runs them all through their CUDA source: in the
simulator where `NUMBA_ENABLE_CUDASIM=1`, else on the device.
"""

# Bodies of loops and spaces are called with more than each of them uses.
# ruff: noqa: ARG001

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from nest_graphs import K, M, N, arguments_for, make_graph

from dgraph.errors import CheckFailed
from dgraph.ir.op import OPS
from dgraph.sizes import size
from dgraph.types import BOOL, F32, F64, I32, I64, KEY, U8, Accumulator, Array

VECTOR = Array(F64, (N,))
MATRIX = Array(F64, (N, M))
Case = tuple[Any, list[list[Any]]]
CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    """Add a case."""
    CASES[make.__name__] = make
    return make


def chain(dtype: Any) -> Any:
    """An elementwise chain of all the mathematics."""

    def build(g: Any, x: Any, w: Any) -> Any:
        def point(h: Any, i: Any) -> Any:
            a, b = h.index(x, i), h.index(w, i)
            bounded = h.tanh(h.mul(a, b))
            terms = [h.sigmoid(a), h.softplus(b), h.relu(a), h.sin(a), h.cos(b), h.tan(bounded), h.erf(a)]
            terms += [h.asin(bounded), h.acos(bounded), h.atan(a), h.atan2(a, b), h.sinh(bounded), h.cosh(bounded)]
            terms += [h.log1p(h.exp(a)), h.expm1(bounded), h.log(h.abs(a)), h.sqrt(h.abs(b)), h.rsqrt(h.exp(b))]
            terms += [h.pow(h.exp(a), b), h.powi(a, exponent=3), h.powi(h.exp(b), exponent=-2), h.fma(a, b, a)]
            terms += [h.lgamma(h.exp(a)), h.digamma(h.add(a, h.constant(0.25, dtype)))]
            total = bounded
            for term in terms:
                total = h.add(total, term)
            return total

        return [g.map([N], point)]

    return make_graph([("x", Array(dtype, (N,))), ("w", Array(dtype, (N,)))], build)


@case
def chain_f32() -> Case:
    graph = chain(F32)
    return graph, [arguments_for(graph, {"n": n}, n) for n in (7, 25, 0)]


@case
def chain_f64() -> Case:
    graph = chain(F64)
    return graph, [arguments_for(graph, {"n": n}, n) for n in (5, 23)]


@case
def broadcast() -> Case:
    def build(g: Any, x: Any, row: Any, number: Any) -> Any:
        scaled = g.mul(x, g.broadcast(row, shape=(N, M)))
        return [g.add(scaled, g.broadcast(number, shape=(N, M))), g.broadcast(number, shape=(M,)), g.transpose(x)]

    graph = make_graph([("x", MATRIX), ("row", Array(F64, (M,))), ("number", Array(F64))], build)
    return graph, [arguments_for(graph, {"n": n, "m": m}) for n, m in ((3, 4), (1, 9), (0, 2), (2, 0))]


@case
def gather() -> Case:
    graph = make_graph(
        [("x", MATRIX), ("at", Array(I32, (K,)))],
        lambda g, x, at: [
            g.map([K, M], lambda h, i, j: h.index(x, h.cast(h.index(at, i), dtype=I64), j)),
            g.map([K], lambda h, i: h.index(x, h.cast(h.index(at, i), dtype=I64), i, policy="drop")),
            g.map([K], lambda h, i: h.index(x, h.cast(h.index(at, i), dtype=I64), i, policy="clip")),
        ],
    )
    return graph, [[np.arange(12.0).reshape(3, 4), np.array([2, 0, 1, 2, 0], np.int32)]]


@case
def failing_gather() -> Case:
    graph = make_graph(
        [("x", VECTOR), ("at", Array(I64, (K,)))],
        lambda g, x, at: [g.map([K], lambda h, i: h.index(x, h.index(at, i)))],
    )
    return graph, [[np.arange(3.0), np.array([0, 1, 2])], [np.arange(3.0), np.array([0, 1, 7])]]


@case
def failing_assertion() -> Case:
    def build(g: Any, x: Any) -> Any:
        g.apply(OPS["check"](message="x must be small", names=("x",)), g.less(x, g.constant(2.0, F64)), x)
        return [g.sqrt(x)]

    return make_graph([("x", Array(F64))], build), [[np.float64(1.5)], [np.float64(4.25)]]


@case
def guarded() -> Case:
    def build(g: Any, x: Any) -> Any:
        zero = g.constant(0.0, F64)

        def point(h: Any, indices: Any, _threaded: Any, own: Any) -> Any:
            value = h.index(x, indices[0])
            (root,) = h.if_(h.greater(value, zero), lambda q: [q.sqrt(value)], lambda _: [zero])
            (total,) = h.if_(
                h.less(value, zero), lambda q: [q.accumulate(own[0], q.log(q.neg(value)))], lambda _: [own[0]]
            )
            return [total, root]

        return g.space([N], point, buffers=[Accumulator(F64)])

    graph = make_graph([("x", VECTOR)], build)
    return graph, [arguments_for(graph, {"n": n}, n) for n in (6, 31)]


@case
def totals() -> Case:
    def build(g: Any, x: Any, counts: Any, flags: Any) -> Any:
        return [
            *(getattr(g, op)(x, axes=(0, 1)) for op in ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min")),
            *(getattr(g, op)(x, axes=(0, 1)) for op in ("argmax", "argmin", "logsumexp")),
            *(getattr(g, op)(counts, axes=(0,)) for op in ("reduce_sum", "reduce_max", "reduce_min")),
            *(getattr(g, op)(flags, axes=(0,)) for op in ("reduce_any", "reduce_all")),
            g.div(g.reduce_sum(x, axes=(0, 1)), g.cast(g.number(N * M), dtype=F64)),
        ]

    inputs = [("x", MATRIX), ("counts", Array(I32, (N,))), ("flags", Array(BOOL, (N,)))]
    graph = make_graph(inputs, build)
    found = [arguments_for(graph, {"n": n, "m": m}, n) for n, m in ((3, 5), (9, 4), (1, 1))]
    with_nan = [np.array([[1.0, np.nan, 3.0]]), np.array([-5], np.int32), np.array([True])]
    return graph, [*found, with_nan]


@case
def rows_and_columns() -> Case:
    def build(g: Any, x: Any) -> Any:
        ops = ("reduce_sum", "reduce_max", "argmax", "logsumexp")
        return [getattr(g, op)(x, axes=(axis,)) for op in ops for axis in (0, 1)]

    graph = make_graph([("x", Array(F32, (N, M)))], build)
    with_nan = np.array([[1, np.nan], [2, 3]], np.float32)
    return graph, [*(arguments_for(graph, {"n": n, "m": m}, n) for n, m in ((4, 3), (2, 11))), [with_nan]]


@case
def scatter() -> Case:
    kinds = [Accumulator(dtype, (M,), kind) for dtype in (F64, I64) for kind in ("add", "max", "min")]
    kinds += [Accumulator(BOOL, (M,), "or"), Accumulator(BOOL, (M,), "and")]

    def build(g: Any, x: Any, at: Any, room: Any) -> Any:
        def point(h: Any, indices: Any, _threaded: Any, own: Any) -> Any:
            (i,) = indices
            place, value = h.index(at, i), h.index(x, i)
            flag = h.less(value, h.constant(0.0, F64))
            values = [value, value, value, i, i, i, flag, flag]
            return [h.accumulate(a, place, v, policy="drop") for a, v in zip(own, values, strict=True)]

        return g.space([N], point, buffers=kinds)

    graph = make_graph([("x", VECTOR), ("at", Array(I64, (N,))), ("room", Array(F64, (M,)))], build)
    at = np.array([0, 2, 2, -1, 1, 5, 0, 2, 1])
    x = np.array([0.5, -1.5, 2.0, 9.0, np.nan, 1.0, -4.0, 8.0, 3.0])
    return graph, [[x, at, np.zeros(3)], [x, at, np.zeros(7)]]


@case
def own_entries() -> Case:
    """Updates that need no atomic operation, and one entry that all points share."""

    def build(g: Any, x: Any) -> Any:
        def point(h: Any, indices: Any, _threaded: Any, own: Any) -> Any:
            i, j = indices
            value = h.index(x, i, j)
            return [h.accumulate(own[0], j, i, value), h.accumulate(own[1], h.number(0), value)]

        return g.space([N, M], point, buffers=[Accumulator(F64, (M, N)), Accumulator(F64, (K,))])

    graph = make_graph([("x", MATRIX), ("y", Array(F64, (K,)))], lambda g, x, _: build(g, x))
    return graph, [arguments_for(graph, {"n": 3, "m": 2, "k": 1})]


@case
def integers() -> Case:
    def build(g: Any, a: Any, b: Any, c: Any) -> Any:
        def number(h: Any, x: Any, y: Any) -> Any:
            low = h.sub(h.mul(x, y), h.add(x, y))
            parts = h.add(h.floor_divide(x, y), h.mod(x, y))
            signs = h.add(h.sign(x), h.abs(h.neg(y)))
            largest = h.minimum(h.maximum(x, y), low)
            return h.add(h.add(low, parts), h.add(signs, h.add(largest, h.powi(x, exponent=3))))

        def real(h: Any, x: Any, y: Any) -> Any:
            return h.add(h.add(h.floor_divide(x, y), h.mod(x, y)), h.add(h.round(x), h.mul(h.floor(y), h.ceil(x))))

        return [
            g.map([N], lambda h, i: number(h, h.index(a, i), h.index(b, i))),
            g.map([N], lambda h, i: h.cast(h.mul(h.index(a, i), h.index(b, i)), dtype=U8)),
            g.map([N], lambda h, i: real(h, h.index(c, i), h.cast(h.index(b, i), dtype=F64))),
            g.map([N], lambda h, i: h.cast(h.minimum(h.abs(h.index(c, i)), h.constant(9.0, F64)), dtype=U8)),
            g.map(
                [N], lambda h, i: h.logical_not(h.logical_or(h.cast(h.index(a, i), dtype=BOOL), h.isnan(h.index(c, i))))
            ),
            g.map([N], lambda h, i: h.sign(h.index(c, i))),
        ]

    graph = make_graph([("a", Array(I32, (N,))), ("b", Array(I32, (N,))), ("c", VECTOR)], build)
    a = np.array([2**30, -7, 7, 123456789, 0, -(2**31), 5], np.int32)
    b = np.array([5, 2, -2, 987654321, 0, 3, 0], np.int32)
    c = np.array([2.5, -3.5, np.inf, 3.25, -0.5, 1e20, -1e20])
    return graph, [[a, b, c]]


@case
def saturation() -> Case:
    graph = make_graph(
        [("x", VECTOR)],
        lambda g, x: [
            g.map([N], lambda h, i, dtype=dtype: h.cast(h.index(x, i), dtype=dtype)) for dtype in (I32, U8, I64)
        ],
    )
    return graph, [[np.array([np.inf, np.nan, -0.5, 1e20, -1e20])]]


@case
def product() -> Case:
    graph = make_graph(
        [("x", MATRIX), ("y", Array(F64, (M, K))), ("v", Array(F64, (M,)))],
        lambda g, x, y, v: [g.dot(x, y), g.dot(x, v), g.dot(v, v)],
    )
    return graph, [arguments_for(graph, {"n": n, "m": m, "k": k}) for n, m, k in ((3, 4, 2), (1, 6, 5), (2, 0, 3))]


@case
def arrays_at_points() -> Case:
    def build(g: Any, x: Any) -> Any:
        def point(h: Any, i: Any) -> Any:
            row = h.map([M], lambda q, j: q.mul(q.index(x, i, j), q.cast(q.add(i, j), dtype=F64)))
            short = h.map([size(3)], lambda q, j: q.cast(q.add(i, j), dtype=F64))
            turned = h.tanh(row)
            sums = h.add(h.reduce_sum(turned, axes=(0,)), h.reduce_max(row, axes=(0,)))
            return h.add(sums, h.reduce_sum(h.mul(short, short), axes=(0,)))

        return [g.map([N], point), g.map([N], lambda h, i: h.cumsum(h.index(x, i), axis=0))]

    graph = make_graph([("x", MATRIX)], build)
    return graph, [arguments_for(graph, {"n": n, "m": m}) for n, m in ((30, 4), (2, 7))]


@case
def loops_in_points() -> Case:
    def build(g: Any, x: Any) -> Any:
        def newton(h: Any, i: Any) -> Any:
            value = h.index(x, i)
            half = h.constant(0.5, F64)

            def more(q: Any, carried: Any) -> Any:
                (root,) = carried
                return q.greater(q.abs(q.sub(q.mul(root, root), q.abs(value))), q.constant(1e-12, F64))

            roots = h.while_(
                [h.constant(3.0, F64)], more, lambda q, c: [q.mul(half, q.add(c[0], q.div(q.abs(value), c[0])))]
            )
            return roots[0]

        def powers(h: Any, i: Any) -> Any:
            row = h.index(x, i)
            step = h.for_(h.number(4), [h.broadcast(row, shape=(M,))], lambda q, _t, c, _w: [q.mul(q.sin(c[0]), c[0])])
            return h.reduce_sum(step[0], axes=(0,))

        return [g.map([N], newton), g.map([N], powers)]

    graph = make_graph([("x", VECTOR), ("y", Array(F64, (M,)))], lambda g, x, _: build(g, x))
    return graph, [arguments_for(graph, {"n": n, "m": 3}) for n in (5, 18)]


@case
def loops_on_the_host() -> Case:
    def build(g: Any, x: Any) -> Any:
        def step(h: Any, i: Any, carried: Any, _walked: Any) -> Any:
            scaled = h.map([N], lambda q, j: q.add(q.mul(q.index(carried[0], j), carried[1]), q.cast(i, dtype=F64)))
            return [scaled, h.div(carried[1], h.constant(2.0, F64))]

        return g.for_(g.number(N), [x, g.constant(0.75, F64)], step)

    graph = make_graph([("x", VECTOR)], build)
    return graph, [arguments_for(graph, {"n": n}) for n in (5, 4, 1)]


@case
def choices_on_the_host() -> Case:
    def build(g: Any, x: Any) -> Any:
        total = g.reduce_sum(x, axes=(0,))
        return g.if_(g.less(total, g.constant(0.0, F64)), lambda h: [h.neg(x)], lambda h: [h.mul(x, x)])

    return make_graph([("x", VECTOR)], build), [[np.array([1.0, 2.0, -0.5])], [np.array([1.0, -2.0, -0.5])]]


@case
def random_numbers() -> Case:
    def build(g: Any, x: Any, key: Any) -> Any:
        return [g.add(x, g.uniform(key, shape=(N,), dtype=F64)), g.fold(key, g.number(N)), g.split(key, count=2)]

    graph = make_graph([("x", VECTOR), ("key", Array(KEY))], build)
    return graph, [[np.zeros(n), np.uint64(0x9876543210FEDCBA)] for n in (6, 17)]


@case
def numbers_alone() -> Case:
    graph = make_graph(
        [("x", Array(F32)), ("n", Array(I64)), ("flag", Array(BOOL))],
        lambda g, x, n, flag: [g.exp(x), g.select(flag, n, g.add(n, n)), g.number(3)],
    )
    return graph, [[np.float32(1.5), np.int64(4), np.bool_(flag)] for flag in (True, False)]


def run_all(directory: Path) -> None:
    """Run every case and write what came out, or the words of the error."""
    from dgraph.kernels.cuda_run import run_cuda

    for name, make in CASES.items():
        graph, rounds = make()
        for number, arguments in enumerate(rounds):
            file = directory / f"{name}-{number}"
            try:
                found = run_cuda(graph, arguments, threads=4, blocks=3)
                np.savez(file.with_suffix(".npz"), *found)
            except CheckFailed as fault:
                file.with_suffix(".check").write_text(str(fault))
            except Exception:
                file.with_suffix(".fault").write_text(traceback.format_exc())


if __name__ == "__main__":
    run_all(Path(sys.argv[1]))
