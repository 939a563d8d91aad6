"""Graphs as text: what is printed is read back as the same graph."""

import math

import numpy as np
import pytest

import dgraph.ops  # noqa: F401
from dgraph.errors import InvalidGraph
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Formal, Graph, walk
from dgraph.ir.text import parse_graph, parse_graphs, print_graph
from dgraph.ir.verify import verify
from dgraph.sizes import size, variable
from dgraph.types import BOOL, F32, F64, I64, Accumulator, Array, Extent, Record, Tuple

N, M = variable("n"), variable("m")


def graph_of(inputs, build, name="f"):
    g = Builder()
    outputs = build(g, *(g.input(type_, label) for label, type_ in inputs))
    region = g.close(outputs)
    types = tuple(value.type for value in outputs)
    atoms = {str(atom) for _, type_ in inputs for extent in type_.shape for atom in extent.atoms()}
    formals = tuple(Formal(label, type_) for label, type_ in inputs)
    return Graph(name, tuple(sorted(atoms)), formals, types[0] if len(types) == 1 else Tuple(types), region)


def check(graph):
    """The text is a fixed point of reading and printing, and what was read is legal."""
    text = print_graph(graph)
    read = verify(parse_graph(text))
    assert print_graph(read) == text
    return read


def nested(g, x, p):
    """Every region op but the transforms, with captures, carries, stacks, tapes, buffers."""

    def step(h, _i, carried, walked):
        c = h.add(carried[0], walked[0])
        return [c, h.mul(c, walked[0]), h.sin(c)]

    last, stacked, _tape = g.for_(g.number(N), [g.constant(0.5, F64)], step, walks=[x], tapes=1, length=N, reverse=True)
    (chosen,) = g.if_(p, lambda h: [h.mul(x, stacked)], lambda h: [h.sub(x, stacked)])

    def far(h, carried):
        return h.greater(carried[0], h.constant(0.1, F64))

    shrunk, trips = g.while_([last], far, lambda h, carried: [h.mul(carried[0], h.constant(0.5, F64))], bound=50)

    def point(h, indices, _threads, own):
        (i,) = indices
        inner = h.sum_over((N,), F64, lambda q, j: q.mul(q.index(chosen, i), q.index(x, j, policy="proven")))
        return [h.accumulate(own[0], i, inner, policy="clip"), h.mul(inner, shrunk)]

    gathered, yielded = g.space((N,), point, buffers=[Accumulator(F64, (N,))], names=["gathered", "yielded"])
    body = Builder()
    (called,) = g.call("twice", [gathered], body.close([body.add(*[body.input(gathered.type, "a")] * 2)]))
    return [called, yielded, trips]


def test_every_region_op():
    graph = graph_of([("x", Array(F64, (N,))), ("p", Array(BOOL))], nested)
    read = check(graph)
    arguments = [np.linspace(0.1, 1, 4), True]
    for one, other in zip(evaluate(graph, arguments), evaluate(read, arguments), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, 1e-300, 1e300, math.inf, -math.inf, math.nan, 3.0])
def test_floats_are_exact(value):
    read = check(graph_of([], lambda g: [g.constant(value, F64), g.constant(value, F32)]))
    for node in read.region.nodes:
        assert math.isnan(value) or node.op.value == value
        assert math.copysign(1, node.op.value) == math.copysign(1, value) or math.isnan(value)


@pytest.mark.parametrize("value", [0, -1, 2**62, True, False])
def test_integers_and_bools_are_exact(value):
    dtype = BOOL if isinstance(value, bool) else I64
    (node,) = check(graph_of([], lambda g: [g.constant(value, dtype)])).region.nodes
    assert node.op.value is value or node.op.value == value
    assert type(node.op.value) is type(value)


@pytest.mark.parametrize("extent", [size(3), N, N + 1, 2 * N - M, N * M // 2, (N + 1) // (M + 2) * N, N**2 - 3 * M])
def test_sizes_as_facts_and_in_types(extent):
    graph = graph_of([("x", Array(F64, (N, M)))], lambda g, _x: [g.number(extent), g.full(1.5, Array(F64, (extent,)))])
    assert check(graph).region.outputs[1].type == Array(F64, (extent,))


def test_types_of_every_kind():
    text = (
        "graph f():\n    a: acc<f64[2], max> = fresh(type=acc<f64[2], max>)\n    b: f64[2] = freeze(a)\n    return b\n"
    )
    assert print_graph(parse_graph(text)) == text
    text = "graph f():\n    a: tape<tape<f64[3]>> = zero_tape(type=tape<tape<f64[3]>>)\n    return\n"
    assert print_graph(parse_graph(text)) == text


def test_leaves_of_records_are_formals():
    point = Record("Point", (("x", Array(F64)), ("y", Array(F64, (N,)))))
    g = Builder()
    x, y = g.input(Array(F64)), g.input(Array(F64, (N,)))
    region = g.close([g.mul(g.widen(x, (N,)), y)])
    graph = Graph("f", ("n", "k"), (Formal("p", point), Formal("k", Extent())), region.outputs[0].type, region)
    text = print_graph(graph)
    assert text.startswith("graph f[n, k](p.x: f64, p.y: f64[n], k: size):\n")
    assert print_graph(parse_graph(text)) == text


def test_scope_and_derivation_are_kept():
    def build(g, x):
        with g.at(scope=("layer1", "relu"), derived="adjoint"):
            return [g.sin(x)]

    (node,) = check(graph_of([("x", Array(F64))], build)).region.nodes
    assert (node.scope, node.derived) == (("layer1", "relu"), "adjoint")


def test_names_are_kept_and_made_unique():
    def build(g, x):
        a, b = g.sin(x), g.cos(x)
        return [g.name_result(g.add(a, b), "x"), a]

    text = print_graph(graph_of([("x", Array(F64))], build))
    assert "x_2: f64 = add(v0, v1)" in text
    check(parse_graph(text))


def test_names_that_the_grammar_could_not_read():
    def build(g, x):
        return [g.name_result(g.sin(x), name) for name in ("return", "a b", "2x", "size", "é", "nan")]

    check(graph_of([("x", Array(F64))], build, name="my function"))


def test_several_graphs():
    texts = [print_graph(graph_of([("x", Array(F64))], lambda g, x: [g.sin(x)], name)) for name in ("a", "b")]
    assert [graph.name for graph in parse_graphs("\n".join(texts))] == ["a", "b"]


def test_transforms_are_read():
    text = """graph f(x: f64, ct: f64):
    v0: f64, v1: f64 = vjp(x, ct, function="f", wrt=[true], seeded=[true]):
        region(a: f64):
            v2: f64 = sin(a)
            yield v2
    return v0, v1
"""
    graph = parse_graph(text)
    assert print_graph(graph) == text
    assert len(list(walk(graph.region))) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("graph f(x: f64):\n    y: f64 = nosuch(x)\n    return y\n", "no op is called nosuch"),
        ("graph f(x: f64):\n    y: f32 = sin(x)\n    return y\n", "gives f64, not f32"),
        ("graph f(x: f64):\n    y: f64 = sin(z)\n    return y\n", "z is read before"),
        ("graph f(x: f64):\n    return z\n", "z is read before"),
        ("graph f(x: f65):\n    return x\n", "no dtype is called f65"),
        ("graph f(x: acc<f64>):\n    return\n", "takes arrays"),
    ],
)
def test_faults_of_texts(text, words):
    with pytest.raises(InvalidGraph, match=words):
        parse_graph(text)
