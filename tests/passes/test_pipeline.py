"""What the whole pipeline makes of programs whose best form is known: which products and nests are left, and where."""

import itertools
import sys
from collections import Counter

import numpy as np
import pytest
from random_arrays import is_close

import dgraph.ops  # noqa: F401
from dgraph.ad import expand
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Formal, Graph, Region, walk
from dgraph.ir.op import OPS
from dgraph.ir.verify import verify
from dgraph.passes import FUSE, OPTIMISE, PASSES, run_passes
from dgraph.sizes import variable
from dgraph.types import F64, Array, Tape, Tuple

N, M, K, T = (variable(name) for name in ("n", "m", "k", "t"))
SIZES = {"n": 4, "m": 3, "k": 2, "t": 5}


def gradient_of(build, **shapes) -> Graph:
    """Value and gradient of a scalar function of arrays, without transforms."""
    types = {name: Array(F64, shape) for name, shape in shapes.items()}
    f = Builder()
    body = f.close([build(f, *(f.input(type_, name) for name, type_ in types.items()))])
    g = Builder()
    inputs = [g.input(type_, name) for name, type_ in types.items()]
    op = OPS["vjp"](function="f", wrt=(True,) * len(types), seeded=(True,))
    region = g.close(g.apply(op, *inputs, g.constant(1.0, F64), regions=[body]))
    formals = tuple(Formal(name, type_) for name, type_ in types.items())
    sizes = tuple(sorted({str(atom) for type_ in types.values() for extent in type_.shape for atom in extent.atoms()}))
    result = Tuple(tuple(value.type for value in region.outputs))
    return verify(expand(Graph("f", sizes, formals, result, region)))


def optimised(graph: Graph) -> Graph:
    """The graph after the pipeline, which computes the same."""
    after = run_passes(graph, [*OPTIMISE, *FUSE], verify=True)
    rng = np.random.default_rng(0)
    shapes = [tuple(extent.evaluate(SIZES.__getitem__) for extent in v.type.shape) for v in graph.region.inputs]
    arguments = [rng.normal(size=shape) for shape in shapes]
    assert is_close(evaluate(graph, arguments), evaluate(after, arguments))
    return after


def ops(region: Region) -> Counter[str]:
    """How often each op stands in a region itself."""
    return Counter(node.op.name for node in region.nodes)


def layer(g, x, w, b):
    product = g.dot(x, w)
    return g.tanh(g.add(product, g.broadcast(b, shape=product.type.shape)))


def test_a_perceptron():
    """A product each way and for each weight; one nest between products."""

    def loss(g, x, w, b, v):
        y = g.dot(layer(g, x, w, b), v)
        return g.reduce_sum(g.mul(y, y), axes=(0, 1))

    after = optimised(gradient_of(loss, x=(N, M), w=(M, K), b=(K,), v=(K, T)))
    found = ops(after.region)
    assert found["dot"] == 6
    assert found["space"] == 4
    assert set(found) == {"dot", "space"}


def test_a_product_written_as_a_formula_is_a_product_in_the_gradient_too():
    def loss(g, x, w, b):
        def point(h, i, j):
            def term(q, p):
                return q.mul(q.index(x, i, p, policy="proven"), q.index(w, p, j, policy="proven"))

            return h.tanh(h.add(h.index(b, j, policy="proven"), h.sum_over((M,), F64, term)))

        y = g.map((N, K), point)
        return g.reduce_sum(g.mul(y, y), axes=(0, 1))

    found = ops(optimised(gradient_of(loss, x=(N, M), w=(M, K), b=(K,))).region)
    assert (found["dot"], found["space"]) == (3, 1)


def test_a_recurrent_network():
    """In the loops one product each; before and after them the others, for all steps at once; no tape is left."""

    def loss(g, x, w, u, b, h0):
        def step(q, _i, carried, walked):
            (state,) = carried
            bias = q.broadcast(b, shape=(N, K))
            return [q.tanh(q.add(q.add(q.dot(walked[0], w), q.dot(state, u)), bias))]

        (last,) = g.for_(g.number(T), [h0], step, walks=[x], length=T)
        return g.reduce_sum(g.mul(last, last), axes=(0, 1))

    graph = gradient_of(loss, x=(T, N, M), w=(M, K), u=(K, K), b=(K,), h0=(N, K))
    after = optimised(graph)
    loops = [node for node in after.region.nodes if node.op.name == "for"]
    assert [ops(loop.regions[0])["dot"] for loop in loops] == [1, 1]
    assert [ops(loop.regions[0])["space"] for loop in loops] == [1, 1]
    assert ops(after.region)["dot"] == 4
    assert loops[1].op.stacks == 1
    assert not any(isinstance(value.type, Tape) for node in walk(after.region) for value in node.results)
    # Of every step the state before it is kept, and the one after it, of which the slope is made.
    assert loops[0].op.stacks == 2


def test_a_function_of_one_row_applied_to_all():
    """`vmap` of products with vectors is products with matrices, forwards and backwards."""

    def loss(g, x, w, b, v):
        f = Builder()
        row, *rest = (f.input(Array(F64, shape)) for shape in ((M,), (M, K), (K,), (T, K)))
        y = f.dot(rest[2], layer(f, row, *rest[:2]))
        body = f.close([f.reduce_sum(f.mul(y, y), axes=(0,))])
        op = OPS["vmap"](function="one", mapped=(True, False, False, False), extent=N)
        (losses,) = g.apply(op, x, w, b, v, regions=[body])
        return g.reduce_sum(losses, axes=(0,))

    after = optimised(gradient_of(loss, x=(N, M), w=(M, K), b=(K,), v=(T, K)))
    found = ops(after.region)
    assert found["dot"] == 6
    assert sum(node.op.name == "dot" for node in walk(after.region)) == 6


def test_an_optimiser_step_is_one_nest():
    g = Builder()
    type_ = Array(F64, (N, M))
    p, mean, square, slope = (g.input(type_, name) for name in ("p", "mean", "square", "slope"))

    def full(value):
        return g.full(value, type_)

    first = g.add(g.mul(full(0.9), mean), g.mul(full(0.1), slope))
    second = g.add(g.mul(full(0.99), square), g.mul(full(0.01), g.powi(slope, exponent=2)))
    moved = g.sub(p, g.mul(full(0.001), g.div(first, g.add(g.sqrt(g.abs(second)), full(1e-8)))))
    region = g.close([moved, first, second])
    formals = tuple(Formal(value.name, value.type) for value in region.inputs)
    after = optimised(Graph("adam", ("m", "n"), formals, Tuple((type_,) * 3), region))
    (nest,) = after.region.nodes
    assert Counter(node.op.name for node in nest.regions[0].nodes)["index"] == 4


def test_a_mean_and_a_variance_read_the_array_once():
    g = Builder()
    x = g.input(Array(F64, (N, M)), "x")
    region = g.close([g.reduce_sum(x, axes=(1,)), g.reduce_sum(g.mul(x, x), axes=(1,))])
    graph = Graph("f", ("m", "n"), (Formal("x", x.type),), Tuple(tuple(v.type for v in region.outputs)), region)
    (nest,) = optimised(graph).region.nodes
    (rows,) = nest.regions[0].nodes
    assert ops(rows.regions[0]) == {"index": 1, "mul": 1, "accumulate": 2}


def test_chains_fuse_up_to_a_limit():
    g = Builder()
    x = g.input(Array(F64, (N,)), "x")
    y = x
    for _ in range(400):
        y = g.sin(y)
    region = g.close([y])
    after = optimised(Graph("f", ("n",), (Formal("x", x.type),), y.type, region))
    sizes = [len(node.regions[0].nodes) for node in after.region.nodes]
    assert 2 <= len(sizes) <= 6
    assert max(sizes) <= 260


def test_passes_have_names_and_descriptions():
    assert {*OPTIMISE, *FUSE} <= PASSES.keys()
    for found in PASSES.values():
        assert found.description and found.description[0].islower() and "\n" not in found.description


def test_an_illegal_graph_is_found_by_verify():
    g = Builder()
    x = g.input(Array(F64), "x")
    graph = Graph("f", (), (), x.type, g.close([x]))
    with pytest.raises(Exception, match="inputs differ"):
        run_passes(graph, [], verify=True)


def test_the_pipeline_is_near_linear():
    """Twice the layers take about twice the calls of functions."""

    def calls(layers: int) -> int:
        g = Builder()
        x = g.input(Array(F64, (N, M)), "x")
        w = g.input(Array(F64, (M, M)), "w")
        b = g.input(Array(F64, (M,)), "b")
        y = x
        for _ in range(layers):
            y = layer(g, y, w, b)
        region = g.close([y])
        formals = tuple(Formal(value.name, value.type) for value in region.inputs)
        graph = Graph("f", ("m", "n"), formals, y.type, region)
        found = itertools.count()

        def count(_frame: object, event: str, _argument: object) -> None:
            if event == "call":
                next(found)

        sys.setprofile(count)
        try:
            run_passes(graph, [*OPTIMISE, *FUSE])
        finally:
            sys.setprofile(None)
        return next(found)

    calls(5)
    assert calls(200) < 20 * calls(20)
