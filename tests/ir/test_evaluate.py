"""The interpreter: sizes from arguments, faults with a place, regions against plain Python."""

import numpy as np
import pytest

import dgraph.ops  # noqa: F401
from dgraph.errors import ArgumentError, CheckFailed, Source, Span
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import evaluate, solve_sizes
from dgraph.ir.graph import Formal, Graph
from dgraph.sizes import size, variable
from dgraph.types import F32, F64, I64, Accumulator, Array, Extent, Tuple

N, M = variable("n"), variable("m")


def graph_of(inputs, build, sizes=("n",), extents=()):
    g = Builder()
    outputs = build(g, *(g.input(type_, label) for label, type_ in inputs))
    formals = [Formal(label, type_) for label, type_ in inputs] + [Formal(label, Extent()) for label in extents]
    return Graph("f", sizes, tuple(formals), Tuple(tuple(v.type for v in outputs)), g.close(outputs))


def test_sizes_are_solved_left_to_right():
    shapes = [("a", Array(F64, (2 * N + 1,))), ("b", Array(F64, (N * M,)))]
    graph = graph_of(shapes, lambda _g, a, b: [a, b], ("n", "m"))
    assert solve_sizes(graph, [(7,), (12,)], {}) == {"n": 3, "m": 4}


def test_sizes_that_come_later_serve_earlier_shapes():
    graph = graph_of([("a", Array(F64, (N * M,))), ("b", Array(F64, (N,)))], lambda _g, a, _b: [a], ("n", "m"))
    assert solve_sizes(graph, [(12,), (3,)], {}) == {"n": 3, "m": 4}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([(6,), (3,)], "`a` has an axis of length 6"),
        ([(7,), (4,)], "`b` has an axis of length 4"),
        ([(7, 1), (3,)], "`a` has 2 axes"),
    ],
)
def test_arguments_that_do_not_fit(shapes, words):
    graph = graph_of([("a", Array(F64, (2 * N + 1,))), ("b", Array(F64, (N,)))], lambda _g, a, _b: [a])
    with pytest.raises(ArgumentError, match=words):
        evaluate(graph, [np.zeros(shape) for shape in shapes])


def test_a_size_nobody_gives():
    graph = graph_of([("a", Array(F64))], lambda _g, a: [a], ("n",))
    with pytest.raises(ArgumentError, match="the size `n`"):
        evaluate(graph, [1.0])
    with pytest.raises(ArgumentError, match="takes 1 arrays, not 2"):
        evaluate(graph, [1.0, 2.0])


def test_a_size_formal():
    graph = graph_of([], lambda g: [g.iota(extent=N)], ("n",), ("n",))
    assert evaluate(graph, [], {"n": 3})[0].tolist() == [0, 1, 2]


def test_arguments_and_results_keep_their_dtypes():
    graph = graph_of([("x", Array(F32, (N,))), ("i", Array(I64))], lambda g, x, i: [g.index(x, i), g.sin(x)])
    number, array = evaluate(graph, [[1, 2, 3], 1])
    assert (number, number.dtype, array.dtype) == (2.0, np.float32, np.float32)


def test_arguments_are_not_changed():
    def build(g, x):
        return [g.set_at(x, g.constant(0, I64), g.constant(9.0, F64)), x]

    given = np.arange(3.0)
    changed, kept = evaluate(graph_of([("x", Array(F64, (N,)))], build), [given])
    assert changed.tolist() == [9, 1, 2]
    assert kept.tolist() == given.tolist() == [0, 1, 2]


def test_an_index_out_of_range_is_located():
    source = Source("a.dg", "x[i]")
    g = Builder()
    x, i = g.input(Array(F64, (N,)), "x"), g.input(Array(I64), "i")
    with g.at(span=Span(source, 0, 4)):
        y = g.index(x, i)
    formals = (Formal("x", x.type), Formal("i", i.type))
    graph = Graph("f", ("n",), formals, y.type, g.close([y]))
    with pytest.raises(CheckFailed, match="out of range") as fault:
        evaluate(graph, [np.zeros(3), 3])
    assert "a.dg:1:1" in str(fault.value)


@pytest.mark.parametrize(("policy", "expected"), [("clip", 2.0), ("drop", 0.0)])
def test_policies(policy, expected):
    graph = graph_of([("x", Array(F64, (N,))), ("i", Array(I64))], lambda g, x, i: [g.index(x, i, policy=policy)])
    assert evaluate(graph, [np.arange(3.0), 5]) == [expected]


def test_a_loop_with_everything():
    """Carries, walks, stacks; reversed; against Python."""

    def build(g, x):
        def step(h, i, carried, walked):
            c = h.add(h.mul(carried[0], h.constant(0.5, F64)), walked[0])
            return [c, h.mul(c, h.cast(i, dtype=F64))]

        return list(g.for_(g.number(N), [g.constant(1.0, F64)], step, walks=[x], length=N, reverse=True))

    x = np.array([1.0, 2.0, 4.0])
    c, rows = 1.0, np.zeros(3)
    for i in (2, 1, 0):
        c = c * 0.5 + x[i]
        rows[i] = c * i
    last, stacked = evaluate(graph_of([("x", Array(F64, (N,)))], build), [x])
    assert last == c
    assert stacked.tolist() == rows.tolist()


def test_a_while_counts_its_trips():
    def build(g, x):
        def more(h, carried):
            return h.greater(carried[0], h.constant(1.0, F64))

        return list(g.while_([x], more, lambda h, carried: [h.mul(carried[0], h.constant(0.5, F64))]))

    graph = graph_of([("x", Array(F64))], build, ())
    assert evaluate(graph, [8.0]) == [1.0, 3]
    assert evaluate(graph, [0.5]) == [0.5, 0]


def test_only_the_taken_side_runs():
    def build(g, x):
        far = g.constant(7, I64)
        return list(g.if_(g.less(g.index(x, g.constant(0, I64)), g.constant(0.0, F64)), lambda h: [h.index(x, far)],
                          lambda h: [h.constant(1.0, F64)]))  # fmt: skip

    graph = graph_of([("x", Array(F64, (N,)))], build)
    assert evaluate(graph, [np.ones(2)]) == [1.0]
    with pytest.raises(CheckFailed):
        evaluate(graph, [-np.ones(2)])


@pytest.mark.parametrize(("kind", "expected"), [("add", 6.0), ("mul", 6.0), ("max", 3.0), ("min", 1.0)])
def test_accumulators(kind, expected):
    def build(g, x):
        def point(h, indices, _threads, own):
            return [h.accumulate(own[0], h.index(x, *indices))]

        return list(g.space((N,), point, buffers=[Accumulator(F64, (), kind)]))

    assert evaluate(graph_of([("x", Array(F64, (N,)))], build), [np.array([1.0, 3.0, 2.0])]) == [expected]


def test_empty_spaces_and_loops():
    def build(g, x):
        (total,) = g.space(
            (N,), lambda h, at, _t, own: [h.accumulate(own[0], h.index(x, *at))], buffers=[Accumulator(F64)]
        )
        last, rows = g.for_(
            g.number(N), [total], lambda _h, _i, carried, walked: [*carried, *walked], walks=[x], length=N
        )
        return [total, last, rows, g.map((N, size(2)), lambda h, i, _j: h.index(x, i))]

    total, last, rows, table = evaluate(graph_of([("x", Array(F64, (N,)))], build), [np.zeros(0)])
    assert (total, last, rows.shape, table.shape) == (0, 0, (0,), (0, 2))


def test_an_observer_sees_every_node():
    seen = []
    graph = graph_of([("x", Array(F64, (N,)))], lambda g, x: [g.map((N,), lambda h, i: h.sin(h.index(x, i)))])
    evaluate(graph, [np.zeros(2)], observer=lambda node, _values: seen.append(node.op.name))
    assert seen == ["index", "sin"] * 2 + ["space"]
