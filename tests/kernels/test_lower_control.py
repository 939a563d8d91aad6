"""Loops, choices, tapes, updates in place."""

# Bodies of loops and spaces are called with more than each of them uses.
# ruff: noqa: ARG001, ARG005

import numpy as np
import pytest
from nest_graphs import M, N, check, compare, evaluate, make_graph

from dgraph.kernels.compile import plan_graph
from dgraph.kernels.numba_source import print_program
from dgraph.sizes import size
from dgraph.types import BOOL, F32, F64, I64, Array

VECTOR = Array(F64, (N,))
MATRIX = Array(F64, (N, M))
SCALAR = Array(F64)


def scaled(g, array, factor):
    """An array times a scalar."""
    return g.mul(array, g.broadcast(factor, shape=array.type.shape))


def test_for_with_carries_walks_and_stacks():
    def build(g, xs, start):
        def step(h, i, carried, walked):
            state, total = carried
            (row,) = walked
            new = h.tanh(h.add(state, row))
            s = h.reduce_sum(new, axes=(0,))
            return [new, h.add(total, h.mul(s, h.cast(i, dtype=F64))), new, s]

        return g.for_(g.number(N), [start, g.constant(0.0, F64)], step, walks=[xs], length=N)

    graph = make_graph([("xs", MATRIX), ("start", Array(F64, (M,)))], build)
    check(graph, {"n": 4, "m": 3}, {"n": 1, "m": 2}, {"n": 0, "m": 3}, {"n": 7, "m": 0}, ulp=4)


def test_for_exchanges_its_carries():
    def build(g, a, b, x, y):
        def step(h, i, carried, walked):
            p, q, s, t = carried
            return [q, h.add(p, q), t, h.add(s, t)]

        return g.for_(g.number(5), [a, b, x, y], step)

    check(make_graph([("a", VECTOR), ("b", VECTOR), ("x", SCALAR), ("y", SCALAR)], build), {"n": 3})


def test_for_starts_twice_from_one_array():
    def build(g, a):
        doubled = g.add(a, a)

        def step(h, i, carried, walked):
            p, q = carried
            return [h.add(p, q), h.sub(p, q)]

        first = g.for_(g.number(3), [doubled, doubled], step)
        captured = g.for_(g.number(2), [doubled], lambda h, i, c, w: [h.add(c[0], doubled)])
        return [*first, *captured]

    check(make_graph([("a", VECTOR)], build), {"n": 3})


def test_for_count_at_run_time():
    def build(g, count, x):
        kept = g.for_(count, [x], lambda h, i, c, w: [h.mul(c[0], h.constant(1.5, F64))], reverse=True)
        order = g.for_(
            count, [g.constant(0, I64)], lambda h, i, c, w: [h.add(h.mul(c[0], h.number(10)), i)], reverse=True
        )
        return [*kept, *order]

    graph = make_graph([("count", Array(I64)), ("x", SCALAR)], build)
    for count in (4, 0, -3):
        check(graph, arguments=[np.int64(count), 2.0])


def test_size_formal():
    def build(g, x):
        return g.for_(g.number(K), [x], lambda h, i, c, w: [h.add(c[0], x), c[0]], length=K)

    from nest_graphs import K

    graph = make_graph([("x", VECTOR)], build, size_formals=["k"])
    check(graph, {"n": 2, "k": 3}, {"n": 2, "k": 0}, formals=["k"])


def test_while_and_trips():
    def build(g, x, v):
        def test(h, c):
            return h.less(c[0], h.constant(100.0, F64))

        def body(h, c):
            return [h.add(h.mul(c[0], h.constant(2.0, F64)), h.constant(1.0, F64)), scaled(h, c[1], c[0])]

        return g.while_([x, v], test, body)

    graph = make_graph([("x", SCALAR), ("v", VECTOR)], build)
    for start in (1.0, 99.5, 101.0):
        check(graph, arguments=[start, np.array([0.5, -1.0])])


@pytest.mark.parametrize("is_array", [False, True])
def test_reverse_walk_of_a_tape(is_array):
    def build(g, xs, start):
        def step(h, i, carried, walked):
            state = (
                h.tanh(h.add(carried[0], walked[0]))
                if is_array
                else h.tanh(h.mul(carried[0], h.index(walked[0], h.number(0))))
            )
            return [state, state, carried[0]]

        last, stack, tape = g.for_(g.number(N), [start], step, walks=[xs], tapes=1, length=N)

        def back(h, i, carried, walked):
            old, _row = walked
            return [h.add(h.mul(carried[0], old), old)]

        (ct,) = g.for_(g.number(N), [last], back, walks=[tape, xs], reverse=True)
        (forth,) = g.for_(g.number(N), [last], back, walks=[tape, xs])
        return [last, stack, ct, forth]

    start = Array(F64, (M,)) if is_array else SCALAR
    graph = make_graph([("xs", MATRIX), ("start", start)], build)
    check(graph, {"n": 5, "m": 3}, {"n": 0, "m": 2}, {"n": 1, "m": 1}, ulp=4, copies=2)


def test_while_with_tapes_walked_back():
    def build(g, x, v):
        def body(h, c):
            new = h.add(scaled(h, c[1], h.constant(0.5, F64)), c[1])
            return [h.mul(c[0], h.constant(1.7, F64)), new, c[0], new]

        _, _, numbers, arrays, trips = g.while_([x, v], lambda h, c: h.less(c[0], h.constant(1e6, F64)), body, tapes=2)

        def back(h, i, c, w):
            return [h.add(h.mul(c[0], h.constant(0.9, F64)), w[0]), h.add(scaled(h, c[1], h.constant(0.5, F64)), w[1])]

        return [*g.for_(trips, [x, v], back, walks=[numbers, arrays], reverse=True), trips]

    graph = make_graph([("x", SCALAR), ("v", VECTOR)], build)
    for start in (1.0, 2e6, 0.001):
        check(graph, arguments=[start, np.array([0.5, -1.0, 2.0])], ulp=2, copies=2)


def tapes_of_tapes(g, xs, inner_is_while):
    """An outer loop that tapes the tapes of an inner one, and reverse loops over both."""

    def outer(h, i, carried, walked):
        def advance(q, value):
            return q.add(q.mul(value, q.constant(1.1, F64)), walked[0])

        if inner_is_while:
            inner = h.while_(
                [carried[0]],
                lambda q, c: q.less(c[0], q.cast(q.mul(i, q.number(3)), dtype=F64)),
                lambda q, c: [advance(q, c[0]), c[0]],
                tapes=1,
            )
            last, tape, trips = inner
        else:
            trips = i
            last, tape = h.for_(i, [carried[0]], lambda q, j, c, w: [advance(q, c[0]), c[0]], tapes=1)
        return [last, tape, trips]

    start = g.constant(0.5, F64)
    last, tapes, trips = g.for_(g.number(N), [start], outer, walks=[xs], tapes=2)

    def back(h, i, carried, walked):
        return h.for_(
            walked[1],
            [carried[0]],
            lambda q, j, c, w: [q.add(q.mul(c[0], q.constant(0.5, F64)), w[0])],
            walks=[walked[0]],
            reverse=True,
        )

    return [last, *g.for_(g.number(N), [last], back, walks=[tapes, trips], reverse=True)]


@pytest.mark.parametrize("inner_is_while", [False, True])
def test_tapes_of_tapes(inner_is_while):
    graph = make_graph([("xs", VECTOR)], lambda g, xs: tapes_of_tapes(g, g.abs(xs), inner_is_while))
    check(graph, {"n": 6}, {"n": 0}, {"n": 1}, {"n": 40}, copies=2, ulp=2)


def test_tapes_made_and_used_in_one_turn_or_point():
    def build(g, xs, count):
        def forth_and_back(h, x):
            last, tape = h.for_(count, [x], lambda q, j, c, w: [q.mul(c[0], c[0]), c[0]], tapes=1)
            return h.for_(count, [last], lambda q, j, c, w: [q.mul(c[0], w[0])], walks=[tape], reverse=True)[0]

        (walked,) = g.for_(
            g.number(N), [g.constant(0.0, F64)], lambda h, i, c, w: [h.add(c[0], forth_and_back(h, w[0]))], walks=[xs]
        )
        return [walked, g.map([N], lambda h, i: forth_and_back(h, h.index(xs, i)))]

    graph = make_graph([("xs", VECTOR), ("count", Array(I64))], build)
    machine = check(graph, arguments=[np.linspace(0.5, 1.1, 9), np.int64(4)], ulp=2)
    words = machine._pool._idle[0].state
    tops = [words[4 * row + 2] for row in range(1, machine.interface.rows)]
    assert tops == [0, 0]


def test_tape_through_a_choice():
    def build(g, flag, xs):
        def loop(h, factor):
            return h.for_(
                h.number(N),
                [h.constant(1.0, F64)],
                lambda q, i, c, w: [q.mul(c[0], w[0]), q.mul(c[0], q.constant(factor, F64))],
                walks=[xs],
                tapes=1,
            )

        def forth(h):
            first, tape = loop(h, 1.0)
            second, other = loop(h, 2.0)
            return [h.add(first, second), tape, other]

        def other_way(h):
            first, tape = loop(h, 3.0)
            type_ = tape.type
            return [first, tape, h.emit(dgraph_op("undefined", type_))]

        value, tape, other = g.if_(flag, forth, other_way)
        (back,) = g.for_(
            g.number(N),
            [value],
            lambda h, i, c, w: [h.sub(h.mul(c[0], h.constant(0.5, F64)), w[0])],
            walks=[tape],
            reverse=True,
        )

        def again(h):
            return h.for_(h.number(N), [value], lambda q, i, c, w: [q.add(c[0], w[0])], walks=[other], reverse=True)

        return [value, back, *g.if_(flag, again, lambda h: [h.neg(value)])]

    graph = make_graph([("flag", Array(BOOL)), ("xs", VECTOR)], build)
    for flag in (True, False):
        check(graph, arguments=[flag, np.array([0.5, 1.5, -1.25])])


def dgraph_op(name, type_):
    from dgraph.ir.op import OPS

    return OPS[name](type=type_)


def test_zero_tape_is_never_read():
    def build(g, x):
        from dgraph.types import Tape

        tape = g.zeros(Tape(Array(F64, (N,))))
        return g.for_(g.number(0), [x], lambda h, i, c, w: [h.add(c[0], w[0])], walks=[tape])

    check(make_graph([("x", VECTOR)], build), {"n": 3})


def test_if_takes_one_side():
    def build(g, flag, x, v):
        def then(h):
            return [h.sqrt(x), h.add(v, v), v]

        def otherwise(h):
            return [h.neg(x), scaled(h, v, x), h.sub(v, h.broadcast(x, shape=(N,)))]

        return g.if_(flag, then, otherwise)

    graph = make_graph([("flag", Array(BOOL)), ("x", SCALAR), ("v", VECTOR)], build)
    for flag in (True, False):
        check(graph, arguments=[flag, 4.0, np.array([1.0, 2.0])])


def test_if_exchanges_arrays_that_are_dead():
    def build(g, flag, v):
        a, b = g.add(v, v), g.mul(v, v)

        def exchange(h):
            return [b, a]

        return g.if_(flag, exchange, lambda h: [a, h.sub(b, a)])

    graph = make_graph([("flag", Array(BOOL)), ("v", VECTOR)], build)
    for flag in (True, False):
        check(graph, arguments=[flag, np.array([1.0, 2.0, 5.0])])


def test_choice_inside_loop_inside_space():
    def build(g, xs, steps):
        def point(h, i):
            def step(q, k, c, w):
                def up(r):
                    return [r.add(c[0], r.index(xs, i)), c[1]]

                def down(r):
                    return [r.mul(c[0], r.constant(0.5, F64)), r.add(c[1], k)]

                return list(q.if_(q.less(c[0], q.constant(3.0, F64)), up, down))

            last, count = h.for_(steps, [h.constant(0.0, F64), h.constant(0, I64)], step)
            return h.add(last, h.cast(count, dtype=F64))

        return [g.map([N], point)]

    graph = make_graph([("xs", VECTOR), ("steps", Array(I64))], build)
    check(graph, arguments=[np.array([0.1, 1.0, 2.5, -1.0]), np.int64(11)])


def test_set_at_in_loops_is_in_place():
    def build(g, z, v):
        def step(h, i, c, w):
            value = h.add(h.index(c[0], h.sub(h.sub(h.number(N), i), h.number(1))), w[0])
            return [h.set_at(c[0], i, value)]

        return g.for_(g.number(N), [z], step, walks=[v])

    graph = make_graph([("z", VECTOR), ("v", VECTOR)], build)
    machine = check(graph, {"n": 5}, {"n": 0})
    assert machine.source.count("copy_bytes") == 1


def test_set_at_in_a_choice_in_a_loop_is_in_place():
    def build(g, z, v):
        def step(h, i, c, w):
            value = h.add(h.index(c[0], i), w[0])
            return list(
                h.if_(h.greater(w[0], h.constant(0.0, F64)), lambda q: [q.set_at(c[0], i, value)], lambda q: [c[0]])
            )

        return g.for_(g.number(N), [z], step, walks=[v])

    machine = check(make_graph([("z", VECTOR), ("v", VECTOR)], build), {"n": 5}, {"n": 0})
    assert machine.source.count("copy_bytes") == 1


def test_set_at_keeps_what_is_still_read():
    def build(g, z, v):
        a = g.add(z, z)
        b = g.set_at(a, g.number(0), g.constant(9.0, F64), policy="proven")
        c = g.set_at(b, g.number(1), g.constant(8.0, F64), policy="proven")
        rows = g.map([N, N], lambda h, i, j: h.add(h.index(z, i), h.index(v, j)))
        swapped = g.set_at(rows, g.number(0), g.index(rows, g.number(1)))
        flipped = g.slice(g.index(swapped, g.number(1)), starts=(N - 1,), steps=(-1,), shape=(N,))
        turned = g.set_at(swapped, g.number(1), flipped)
        zeros = g.full(0.0, Array(F64, (N,)))
        return [a, c, turned, g.set_at(zeros, g.number(1), g.constant(1.0, F64)), zeros]

    check(make_graph([("z", VECTOR), ("v", VECTOR)], build), {"n": 3}, {"n": 2})


def test_outputs_do_not_overlap():
    def build(g, x):
        y = g.add(x, x)
        return [y, y, x, g.reshape(y, shape=(N,)), g.slice(x, starts=(size(0),), steps=(1,), shape=(N,))]

    machine = check(make_graph([("x", VECTOR)], build), {"n": 3})
    x = np.arange(3.0)
    results = machine.call([x])
    results[0][:] = -1
    compare(results[1:], [2 * x, x, 2 * x, x])
    assert not any(np.shares_memory(x, result) for result in results)


def test_loop_in_loop_with_arrays():
    def build(g, a):
        def outer(h, i, c, w):
            def inner(q, j, d, u):
                return [q.add(q.mul(d[0], q.broadcast(q.constant(0.5, F64), shape=(N,))), c[0])]

            (state,) = h.for_(h.number(3), [c[0]], inner)
            return [state, h.reduce_sum(state, axes=(0,))]

        return g.for_(g.number(M), [a], outer, length=M)

    graph = make_graph([("a", VECTOR), ("size", Array(F64, (M,)))], lambda g, a, _: build(g, a))
    check(graph, {"n": 3, "m": 4}, {"n": 2, "m": 0})


def test_invariant_and_unused_carries():
    def build(g, a, x):
        def step(h, i, c, w):
            return [c[0], h.add(c[1], h.index(c[0], i)), h.add(c[2], c[2])]

        return g.for_(g.number(N), [a, x, a], step)[:2]

    check(make_graph([("a", VECTOR), ("x", SCALAR)], build), {"n": 3})


def test_interpreter_agrees_at_f32():
    def build(g, xs):
        return g.for_(
            g.number(N), [g.constant(0.1, F32)], lambda h, i, c, w: [h.add(c[0], w[0]), c[0]], walks=[xs], length=N
        )

    graph = make_graph([("xs", Array(F32, (N,)))], build)
    check(graph, {"n": 10})
    assert evaluate(graph, [np.ones(2, np.float32)])[0].dtype == np.float32


SMALL = Array(F64, (size(3),))


def test_small_carries_become_locals():
    """Element updates at fixed places, a carry that the body does not read, and a swap."""

    def build(g, a, b):
        def step(h, i, c, w):
            one, other, _ = c
            changed = h.set_at(one, h.number(1), h.index(one, h.number(2)))
            return [h.add(other, changed), one, h.index(one, h.number(0))]

        start = g.index(a, g.number(0))
        return g.for_(g.number(5), [a, b, start], step)

    graph = make_graph([("a", SMALL), ("b", SMALL)], build)
    check(graph, {})
    assert "arena" not in print_program(plan_graph(graph))


def test_a_small_array_that_one_side_of_a_choice_writes():
    def build(g, a):
        def step(h, i, c, w):
            first = h.equal(i, h.number(0))
            (kept,) = h.if_(first, lambda k: [k.sin(c[0])], lambda k: [c[1]])
            (used,) = h.if_(first, lambda k: [c[0]], lambda k: [k.add(kept, c[0])])
            return [used, kept]

        return g.for_(g.number(5), [a, a], step)

    check(make_graph([("a", SMALL)], build), {})


def test_the_turns_of_a_small_loop_keep_what_is_read_after_it():
    def build(g, a):
        def step(h, i, c, w):
            def inner(q, j, d, u):
                entry = q.index(d[0], j, policy="proven")
                return [q.set_at(d[0], j, q.add(entry, entry), policy="proven"), entry]

            state, last = h.for_(h.number(3), [c[0], c[1]], inner)
            return [state, last]

        return g.for_(g.number(5), [a, g.index(a, g.number(1))], step)

    check(make_graph([("a", SMALL)], build), {})


def test_the_tape_of_a_while_grows_without_losing_entries():
    def build(g, x, limit):
        def step(h, c):
            return [h.add(c[0], h.constant(1.0, F64)), h.add(h.mul(c[1], h.constant(0.75, F64)), c[0]), c[1]]

        starts, half = [g.constant(0.0, F64), x], g.constant(0.5, F64)
        *_, tape, trips = g.while_(starts, lambda h, c: h.less(c[0], limit), step, tapes=1)
        back = g.for_(trips, [x], lambda h, i, c, w: [h.add(h.mul(c[0], half), w[0])], walks=[tape], reverse=True)
        return [*back, trips]

    graph = make_graph([("x", SCALAR), ("limit", SCALAR)], build)
    machine = check(graph, arguments=[0.5, 40.0])
    for limit in (0.0, 1.0, 15.0, 16.0, 17.0, 1000.0, 70_000.0, 3.0):
        compare(machine.call([0.5, limit]), evaluate(graph, [0.5, limit]))
