"""The schedule of nests: order of loops, sums in blocks, points in lanes, guards as bounds; none changes a result."""

# Bodies of loops and spaces are called with more than each of them uses.
# ruff: noqa: ARG001, ARG005

import numpy as np
import pytest
from nest_graphs import K, M, N, arguments_for, check, compare, evaluate, make_graph

from dgraph.kernels.compile import compile_graph, plan_graph
from dgraph.kernels.loops_text import print_loops
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import If, Loop, Sum
from dgraph.types import F32, F64, I64, Accumulator, Array

VECTOR = Array(F64, (N,))
MATRIX = Array(F64, (N, M))


def nests(graph):
    """The statements of every kernel."""
    return [list(walk(kernel.body)) for kernel in plan_graph(graph).kernels]


def loops(statements):
    return [statement for statement in statements if isinstance(statement, Loop)]


def test_loops_that_run_on_become_one():
    graph = make_graph([("x", MATRIX), ("y", MATRIX)], lambda g, x, y: [g.mul(x, y)])
    (statements,) = nests(graph)
    (loop,) = loops(statements)
    assert str(loop.stop.size) == "m * n"
    check(graph, {"n": 3, "m": 5})


def test_loops_with_a_broadcast_stay_two():
    def build(g, x, v):
        return [g.map([N, M], lambda h, i, j: h.add(h.index(x, i, j), h.index(v, j)))]

    graph = make_graph([("x", MATRIX), ("v", Array(F64, (M,)))], build)
    (statements,) = nests(graph)
    assert len(loops(statements)) == 2
    check(graph, {"n": 3, "m": 5})


def test_an_index_that_is_a_number_keeps_its_loop():
    def build(g, x):
        return [g.map([N, M], lambda h, i, j: h.mul(h.index(x, i, j), h.cast(h.sub(i, j), dtype=F64)))]

    graph = make_graph([("x", MATRIX)], build)
    (statements,) = nests(graph)
    assert len(loops(statements)) == 2
    check(graph, {"n": 3, "m": 5})


def test_the_loop_that_reads_in_a_row_is_innermost():
    def build(g, x, y):
        return [g.map([M, N], lambda h, j, i: h.mul(h.index(x, i, j), h.index(y, i, j)))]

    graph = make_graph([("x", MATRIX), ("y", MATRIX)], build)
    (statements,) = nests(graph)
    assert [str(loop.stop.size) for loop in loops(statements)] == ["n", "m"]
    check(graph, {"n": 3, "m": 5})


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000])
def test_sums_in_blocks(dtype, n):
    def build(g, x, y):
        return [
            g.reduce_sum(x, axes=(0,)),
            g.dot(x, y),
            g.sum_over([N], dtype, lambda h, i: h.exp(h.index(x, i))),
        ]

    graph = make_graph([("x", Array(dtype, (N,))), ("y", Array(dtype, (N,)))], build)
    machine = compile_graph(graph)
    x, y = arguments_for(graph, {"n": n}, n)
    wide = [np.asarray(value, np.float64) for value in (x, y)]
    wanted = [wide[0].sum(), wide[0] @ wide[1], np.exp(wide[0]).sum()]
    sizes = [np.abs(wide[0]).sum(), np.abs(wide[0]) @ np.abs(wide[1]), wanted[2]]
    for found, exact, size in zip(machine.call([x, y]), wanted, sizes, strict=True):
        assert abs(found - exact) <= 16 * np.finfo(dtype.numpy).eps * size + np.finfo(dtype.numpy).tiny
    compare(machine.call([x, y]), machine.call([x, y]))


def test_the_same_entries_give_the_same_bits_wherever_they_lie():
    graph = make_graph([("x", MATRIX)], lambda g, x: [g.reduce_sum(x, axes=(1,))])
    machine = compile_graph(graph)
    row = np.random.default_rng(3).normal(size=777)
    (sums,) = machine.call([np.stack([row] * 5)])
    assert len({value.tobytes() for value in sums}) == 1
    (again,) = machine.call([np.concatenate([np.zeros((1, 777)), [row]])])
    assert again[1].tobytes() == sums[0].tobytes()


def test_a_sum_of_plain_entries_needs_no_scratch():
    graph = make_graph([("x", VECTOR)], lambda g, x: [g.reduce_sum(x, axes=(0,))])
    program = plan_graph(graph)
    assert not program.rooms
    ((let,),) = [kernel.body for kernel in program.kernels]
    assert any(isinstance(part, Sum) for part in let.value.operands)


def test_column_sums_go_in_lanes_and_keep_their_order():
    graph = make_graph([("x", MATRIX)], lambda g, x: [g.reduce_sum(x, axes=(0,))])
    (statements,) = nests(graph)
    assert not any(isinstance(statement, If) for statement in statements)
    machine = compile_graph(graph)
    for n, m in ((3, 5), (40, 127), (7, 128), (9, 129), (300, 300), (0, 4), (4, 0)):
        x = np.random.default_rng(n).normal(size=(n, m))
        wanted = np.zeros(m)
        for row in x:
            wanted = wanted + row
        compare(machine.call([x]), [wanted])


def test_points_with_loops_go_in_lanes():
    def build(g, x, steps):
        def point(h, i):
            start = h.index(x, i)

            def step(q, k, carried, _walked):
                a, b = carried
                return [q.add(q.mul(a, start), b), q.select(q.less(a, b), q.mul(b, q.constant(0.5, F64)), a)]

            return h.add(*h.for_(steps, [start, h.constant(0.25, F64)], step))

        return [g.map([N], point)]

    graph = make_graph([("x", VECTOR), ("steps", Array(I64))], build)
    (statements,) = nests(graph)
    assert any(loop.lanes for loop in loops(statements))
    machine = compile_graph(graph)
    for n in (1, 5, 128, 130, 400):
        x = np.random.default_rng(n).uniform(-0.9, 0.9, n)
        compare(machine.call([x, np.int64(6)]), evaluate(graph, [x, np.int64(6)]))


def test_a_total_over_points_that_hold_sums():
    def build(g, x, w):
        def point(h, indices, _threaded, own):
            (j,) = indices
            inner = h.sum_over([N], F64, lambda q, i: q.mul(q.index(x, i, j), q.index(w, i)))
            return [h.accumulate(own[0], h.mul(inner, inner)), h.accumulate(own[1], h.constant(1, I64)), inner]

        return g.space([M], point, buffers=[Accumulator(F64), Accumulator(I64)])

    graph = make_graph([("x", MATRIX), ("w", VECTOR)], build)
    machine = check(graph, {"n": 3, "m": 4}, {"n": 0, "m": 3}, ulp=4)
    x, w = arguments_for(graph, {"n": 20, "m": 300})
    compare(machine.call([x, w]), evaluate(graph, [x, w]), ulp=64)


def test_guards_become_bounds():
    def build(g, a, x):
        def point(h, i):
            def term(q, indices, _threaded, own):
                (j,) = indices
                held = q.logical_and(q.less(j, i), q.less_equal(q.number(1), q.add(j, q.number(1))))

                def then(r):
                    return [r.accumulate(own[0], r.mul(r.index(a, i, j), r.index(x, j)))]

                return list(q.if_(held, then, lambda _: [own[0]]))

            return h.space([N], term, buffers=[Accumulator(F64)])[0]

        return [g.map([N], point)]

    graph = make_graph([("a", Array(F64, (N, N))), ("x", VECTOR)], build)
    (statements,) = nests(graph)
    assert "limit" in compile_graph(graph).source
    assert sum(isinstance(statement, If) for statement in statements) <= 1
    machine = check(graph, {"n": 1}, {"n": 6}, {"n": 0}, ulp=4)
    a, x = arguments_for(graph, {"n": 60})
    compare(machine.call([a, x]), [np.tril(a, -1) @ x], ulp=32)


@pytest.mark.parametrize("op", ["less", "less_equal", "greater", "greater_equal"])
@pytest.mark.parametrize("turned", [False, True])
def test_every_comparison_as_a_bound(op, turned):
    def build(g, x, k, other):
        def term(h, indices, _threaded, own):
            (i,) = indices
            left, right = h.sub(i, h.number(2)), k
            claims = getattr(h, op)(right, left) if turned else getattr(h, op)(left, right)
            also = h.logical_and(claims, h.not_equal(i, other))
            return list(h.if_(also, lambda q: [q.accumulate(own[0], q.index(x, i))], lambda _: [own[0]]))

        return g.space([N], term, buffers=[Accumulator(F64)])

    graph = make_graph([("x", VECTOR), ("k", Array(I64)), ("other", Array(I64))], build)
    x = 2.0 ** np.arange(9)
    machine = compile_graph(graph)
    for k in (-5, -2, 0, 3, 6, 7, 30):
        compare(machine.call([x, np.int64(k), np.int64(4)]), evaluate(graph, [x, np.int64(k), np.int64(4)]))


def test_windows_with_a_border_of_zeros():
    def build(g, a, k):
        def point(h, i):
            def term(q, indices, _threaded, own):
                (p,) = indices
                at = q.sub(q.add(i, p), q.number(1))
                inside = q.logical_and(q.greater_equal(at, q.number(0)), q.less(at, q.number(N)))

                def then(r):
                    return [r.accumulate(own[0], r.mul(r.index(a, at, policy="proven"), r.index(k, p)))]

                return list(q.if_(inside, then, lambda _: [own[0]]))

            return h.space([K], term, buffers=[Accumulator(F64)])[0]

        return [g.map([N], point)]

    graph = make_graph([("a", VECTOR), ("k", Array(F64, (K,)))], build)
    check(graph, {"n": 7, "k": 3}, {"n": 1, "k": 3}, {"n": 4, "k": 9}, ulp=4)


def test_conditional_sums_in_blocks():
    def build(g, x):
        def term(h, indices, _threaded, own):
            value = h.index(x, indices[0])
            holds = h.greater(value, h.constant(0.0, F64))
            return list(h.if_(holds, lambda q: [q.accumulate(own[0], q.log(value))], lambda _: [own[0]]))

        return g.space([N], term, buffers=[Accumulator(F64)])

    graph = make_graph([("x", VECTOR)], build)
    machine = check(graph, {"n": 5}, {"n": 0}, {"n": 20}, ulp=8)
    x = np.random.default_rng(0).normal(size=1000)
    compare(machine.call([x]), [np.log(x[x > 0]).sum()], ulp=64)


def test_text_of_loops():
    def build(g, x, w):
        h = g.tanh(g.dot(x, w))
        return g.for_(g.number(3), [h], lambda q, i, c, v: [q.mul(c[0], c[0])])

    graph = make_graph([("x", MATRIX), ("w", Array(F64, (M, K)))], build, name="model")
    text = print_loops(plan_graph(graph))
    assert "program model[n, m, k]" in text
    assert "(n x m x k)" in text
    assert "parallel i1 in 0 .. k * n:" in text
    assert "exchange" in text
    assert "room dot: 8 * k * n bytes, in use from 1 to 2" in text


def lanes_in(graph):
    """The lanes of all loops that ask for some."""
    return {loop.lanes for statements in nests(graph) for loop in loops(statements) if loop.lanes}


def test_points_that_are_read_again_and_again_are_brought_together():
    def build(g, points, centres):
        def cost(h, indices, _threaded, own):
            (i,) = indices

            def nearest(q, inner, _threaded, best):
                (j,) = inner

                def square(r, c):
                    gap = r.sub(r.index(points, i, c), r.index(centres, j, c))
                    return r.mul(gap, gap)

                return [q.accumulate(best[0], q.sum_over([K], F64, square))]

            (least,) = h.space([M], nearest, buffers=[Accumulator(F64, kind="min")])
            return [h.accumulate(own[0], least)]

        return g.space([N], cost, buffers=[Accumulator(F64)])

    graph = make_graph([("points", Array(F64, (N, K))), ("centres", Array(F64, (M, K)))], build)
    assert lanes_in(graph) == {32}
    machine = check(graph, {"n": 3, "m": 4, "k": 2}, {"n": 0, "m": 3, "k": 1}, {"n": 5, "m": 2, "k": 0}, ulp=4)
    for n in (31, 32, 33, 300):
        points, centres = arguments_for(graph, {"n": n, "m": 5, "k": 3}, n)
        wanted = np.square(points[:, None] - centres).sum(axis=2).min(axis=1).sum()
        compare(machine.call([points, centres]), [wanted], ulp=64)
    assert machine.call([np.ones((4, 3)), np.ones((0, 3))])[0] == np.inf


def test_a_table_of_each_point_gets_a_row_for_every_lane():
    def build(g, x, w):
        def point(h, i):
            first = h.index(x, i)
            table = h.map([K], lambda q, j: q.mul(q.index(w, j), first))
            twice = h.map([K], lambda q, j: q.exp(q.index(table, j)))

            def step(q, k, carried, _walked):
                j = q.sub(q.number(K), q.add(k, q.number(1)))
                return [q.add(q.mul(carried[0], q.index(table, j)), q.index(twice, k))]

            return h.for_(h.number(K), [first], step)[0]

        return [g.map([N], point)]

    graph = make_graph([("x", VECTOR), ("w", Array(F64, (K,)))], build)
    machine = check(graph, {"n": 3, "k": 4}, {"n": 0, "k": 2}, {"n": 2, "k": 0}, ulp=4)
    assert lanes_in(graph)
    x, w = arguments_for(graph, {"n": 77, "k": 9})
    compare(machine.call([x, w]), evaluate(graph, [x, w]), ulp=4)


def test_points_that_stop_at_different_steps():
    def build(g, x):
        def point(h, i):
            start = h.index(x, i)

            def body(q, carried):
                y, steps = carried
                return [q.mul(q.constant(0.5, F64), q.add(y, q.div(start, y))), q.add(steps, q.number(1))]

            def far(q, carried):
                gap = q.abs(q.sub(q.mul(carried[0], carried[0]), start))
                return q.less(q.constant(1e-12, F64), gap)

            return h.while_([h.constant(1.0, F64), h.constant(0, I64)], far, body)

        return list(g.space([N], lambda h, at, _t, _o: list(point(h, *at))))

    graph = make_graph([("x", VECTOR)], build)
    machine = compile_graph(graph)
    assert lanes_in(graph)
    for n in (0, 1, 9, 40):
        x = np.random.default_rng(n).uniform(0.5, 9.0, n)
        compare(machine.call([x]), evaluate(graph, [x]))


def test_only_what_one_loop_makes_gets_rows_of_lanes():
    def build(g, x, w):
        def step(h, k, carried, _walked):
            scaled = h.map([N, K], lambda q, i, j: q.mul(q.index(x, i), q.index(w, j)))
            sums = h.map([N], lambda q, i: q.sum_over([K], F64, lambda r, j: r.exp(r.index(scaled, i, j))))
            return [h.add(carried[0], sums)]

        return list(g.for_(g.number(3), [x], step))

    graph = make_graph([("x", VECTOR), ("w", Array(F64, (K,)))], build)
    check(graph, {"n": 3, "k": 4}, {"n": 19, "k": 20}, ulp=8)
