"""Points several at a time: what they add to shared entries, keep from loop to loop and leave out; on both routes."""

# Bodies of loops and spaces are called with more than each of them uses.

import numpy as np
import pytest
from nest_graphs import K, M, N, arguments_for, compare, evaluate, make_graph

from dgraph.kernels.compile import CompiledGraph, interface_of, plan_graph
from dgraph.kernels.native import compile_source
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Loop
from dgraph.kernels.numba_source import print_program
from dgraph.kernels.report import report_of
from dgraph.types import F32, F64, I64, Accumulator, Array

VECTOR = Array(F64, (N,))


def lanes_of(graph):
    """The lanes of the loops that ask for some."""
    statements = (statement for kernel in plan_graph(graph).kernels for statement in walk(kernel.body))
    return [loop.lanes for loop in statements if isinstance(loop, Loop) and loop.lanes]


def on_both_routes(graph, *sizes, ulp=16, arguments=None):
    """Machine code by both routes gives the same bits, and what the interpreter gives but for the order of sums."""
    program = plan_graph(graph)
    interface, source = interface_of(graph, program), print_program(program)
    machines = [
        CompiledGraph(interface, source, report_of(program), compile_source(source, through=route))
        for route in ("direct", "numba")
    ]
    for seed, at in enumerate(sizes):
        leaves = arguments(at, seed) if arguments else arguments_for(graph, at, seed)
        direct, numba = (machine.call(leaves) for machine in machines)
        compare(direct, numba)
        compare(direct, evaluate(graph, leaves), ulp)


def spread(g, extents, point, *buffers):
    return list(g.space(extents, lambda h, at, _t, own: point(h, *at, *own), buffers=list(buffers)))


def weighted(h, x, w, i, k):
    """A number that takes a loop."""
    return h.sum_over([M], F64, lambda q, j: q.exp(q.mul(q.index(x, j, i), q.index(w, k, j))))


MANY = [("x", Array(F64, (M, N))), ("w", Array(F64, (K, M)))]
SIZES = [{"n": n, "m": m, "k": k} for n, m, k in ((0, 3, 2), (1, 1, 1), (33, 4, 3), (70, 2, 17), (9, 0, 2))]


def test_a_sum_over_points_for_each_turn_of_a_loop():
    def build(g, x, w):
        def point(h, i, total):
            def turn(q, k, owned):
                return [q.accumulate(owned, k, weighted(q, x, w, i, k))]

            return list(h.space([K], lambda q, at, threaded, _o: turn(q, *at, *threaded), accumulators=[total]))

        return spread(g, [N], point, Accumulator(F64, (K,)))

    graph = make_graph(MANY, build)
    assert set(lanes_of(graph)) > {8}
    on_both_routes(graph, *SIZES, ulp=64)


def test_entries_that_points_choose():
    def build(g, x, _w, place):
        def point(h, i, total, counts):
            value = h.sum_over([M], F64, lambda q, j: q.exp(q.index(x, j, i)))
            at = h.cast(h.index(place, i), dtype=I64)
            is_in = h.less(value, h.constant(2.5, F64))

            one = h.constant(1, I64)

            def then(q):
                return [q.accumulate(total, at, value, policy="drop"), q.accumulate(counts, at, one, policy="drop")]

            return list(h.if_(is_in, then, lambda _: [total, counts]))

        return spread(g, [N], point, Accumulator(F64, (K,)), Accumulator(I64, (K,)))

    graph = make_graph([*MANY, ("place", Array(I64, (N,)))], build)

    def arguments(at, seed):
        random = np.random.default_rng(seed)
        x, w = random.normal(size=(at["m"], at["n"])), random.normal(size=(at["k"], at["m"]))
        return [x, w, random.integers(0, at["k"], at["n"])]

    assert lanes_of(graph)
    on_both_routes(graph, *SIZES[:4], ulp=64, arguments=arguments)


@pytest.mark.parametrize("kind", ["max", "min", "mul"])
def test_other_kinds_of_totals(kind):
    def build(g, x, w):
        def point(h, i, total, best):
            value = weighted(h, x, w, i, h.number(0))

            def turn(q, indices, threaded, _own):
                (k,) = indices
                return [q.accumulate(threaded[0], k, q.mul(value, q.index(w, k, q.number(0))))]

            each = h.space([K], turn, accumulators=[total])
            return [*each, h.accumulate(best, value)]

        return spread(g, [N], point, Accumulator(F64, (K,), kind), Accumulator(F64, (), kind))

    graph = make_graph(MANY, build)
    on_both_routes(graph, {"n": 33, "m": 5, "k": 4}, {"n": 2, "m": 2, "k": 2}, ulp=256)


def test_tables_that_live_from_one_loop_to_the_next():
    def build(g, x, w):
        def point(h, i, total):
            table = h.map([K], lambda q, k: weighted(q, x, w, i, k))
            top = h.reduce_max(table, axes=(0,))

            def turn(q, k, owned):
                share = q.exp(q.sub(q.index(table, k), top))
                return [q.accumulate(owned, k, share)]

            (made,) = h.space([K], lambda q, at, threaded, _o: turn(q, *at, *threaded), accumulators=[total])
            return [made]

        return spread(g, [N], point, Accumulator(F64, (K,)))

    graph = make_graph(MANY, build)
    assert lanes_of(graph)
    on_both_routes(graph, {"n": 0, "m": 2, "k": 3}, {"n": 45, "m": 3, "k": 9}, {"n": 64, "m": 3, "k": 1}, ulp=64)


def test_single_precision():
    def build(g, x, w):
        def point(h, i, total):
            def turn(q, k, owned):
                value = q.sum_over([M], F32, lambda r, j: r.mul(r.index(x, i, j), r.index(w, k, j)))
                return [q.accumulate(owned, k, q.tanh(value))]

            return list(h.space([K], lambda q, at, threaded, _o: turn(q, *at, *threaded), accumulators=[total]))

        return spread(g, [N], point, Accumulator(F32, (K,)))

    graph = make_graph([("x", Array(F32, (N, M))), ("w", Array(F32, (K, M)))], build)
    on_both_routes(graph, {"n": 70, "m": 5, "k": 9}, {"n": 3, "m": 2, "k": 2}, ulp=256)


def test_what_points_do_one_by_one():
    def build(g, x, w):
        def point(h, i, total):
            def nearest(q, indices, _threaded, own):
                (k,) = indices
                return [q.accumulate(own[0], q.abs(q.sub(weighted(q, x, w, i, k), q.constant(2.0, F64))))]

            (least,) = h.space([K], nearest, buffers=[Accumulator(F64, (), "min")])
            found = h.cast(h.mul(least, h.constant(3.0, F64)), dtype=I64)

            def then(q):
                def turn(r, indices, threaded, _own):
                    (j,) = indices
                    term = r.mul(r.index(x, j, i), least)
                    return [r.accumulate(threaded[0], found, j, term, policy="drop")]

                return list(q.space([M], turn, accumulators=[total]))

            return list(h.if_(h.less(found, h.number(4)), then, lambda _: [total]))

        return spread(g, [N], point, Accumulator(F64, (K, M)))

    graph = make_graph(MANY, build)
    assert lanes_of(graph)
    on_both_routes(graph, *SIZES, ulp=64)
