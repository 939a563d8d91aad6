"""Loop programs as numba-cuda source: PTX without a device, meaning in the simulator."""

# Bodies of loops and spaces are called with more than each of them uses.
# ruff: noqa: ARG001

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from nest_graphs import K, M, N, compare, evaluate, make_graph

from dgraph.errors import NotSupported, Source, Span
from dgraph.kernels.cuda_source import cuda_program, cuda_text, parameters
from dgraph.kernels.ptx import ptx_of_kernels
from dgraph.types import BOOL, F32, F64, I64, Accumulator, Array

VECTOR = Array(F32, (N,))
MATRIX = Array(F32, (N, M))

# The simulator replaces numba.cuda when it is first imported, so it needs a process of its own.
RUNNER = """
import json, sys
import numpy as np
task = json.load(sys.stdin)
scope = {}
exec(compile(task["source"], "<generated>", "exec"), scope)
scope["blocks"] = lambda points: 2
scope["THREADS"] = task["threads"]
from numba import cuda
arrays = [np.array(values, dtype) for values, dtype in task["arrays"]]
results = [cuda.to_device(np.zeros(count, dtype)) for count, dtype in task["results"]]
scope["run"](*(cuda.to_device(a.ravel()) if a.ndim else a[()] for a in arrays), *results, *task["sizes"])
print(json.dumps([result.copy_to_host().tolist() for result in results]))
"""


def simulate(graph, arguments):
    """What the source computes in the simulator, as arrays of the wanted shapes."""
    wanted = evaluate(graph, arguments)
    arrays = [np.asarray(x, v.type.dtype.numpy) for x, v in zip(arguments, graph.region.inputs, strict=True)]
    sizes = dict(
        pair
        for value, array in zip(graph.region.inputs, arrays, strict=True)
        for pair in zip(map(str, value.type.shape), array.shape, strict=True)
    )
    task = {
        "source": cuda_text(graph),
        "threads": 128,
        "arrays": [(array.tolist(), str(array.dtype)) for array in arrays],
        "results": [(max(np.size(result), 1), str(np.asarray(result).dtype)) for result in wanted],
        "sizes": [sizes[name] for name in graph.sizes],
    }
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNNER],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    found = [
        np.reshape(np.array(values, np.asarray(result).dtype)[: np.size(result)], np.shape(result))
        for values, result in zip(json.loads(ran.stdout), wanted, strict=True)
    ]
    return found, wanted


def check_ptx(graph):
    """Every kernel compiles for compute capability 9.0."""
    try:
        texts = ptx_of_kernels(graph)
    except NotSupported as fault:
        if "NVVM" in str(fault):
            pytest.skip("neither a CUDA toolkit nor its wheels are installed")
        raise
    assert texts
    assert all(".target sm_90" in text and ".visible .entry" in text for text in texts.values())
    return texts


def chain():
    def build(g, x, w):
        def point(h, i, j):
            p = h.mul(h.index(x, i, j), h.index(w, j))
            return h.add(h.tanh(p), h.maximum(h.sigmoid(p), h.exp(h.neg(h.powi(p, exponent=2)))))

        return [g.map([N, M], point)]

    return make_graph([("x", MATRIX), ("w", Array(F32, (M,)))], build)


def reductions():
    def build(g, x):
        total = g.reduce_sum(x, axes=(0, 1))
        return [
            g.div(total, g.cast(g.number(N), dtype=F32)),
            g.reduce_max(x, axes=(0, 1)),
            g.reduce_sum(x, axes=(0,)),
            g.logsumexp(x, axes=(1,)),
            g.argmax(x, axes=(1,)),
            g.dot(x, x, transpose_b=True),
        ]

    return make_graph([("x", MATRIX)], build)


def scatter():
    def build(g, x, at, flags):
        def point(h, indices, _threaded, own):
            (i,) = indices
            entry = h.index(x, i)

            def then(q):
                return [q.accumulate(own[0], q.index(at, i), entry, policy="drop")]

            return list(h.if_(h.index(flags, i), then, lambda _: [own[0]]))

        (sums,) = g.space([N], point, buffers=[Accumulator(F32, (K,))])
        return [sums]

    inputs = [("x", VECTOR), ("at", Array(I64, (N,))), ("flags", Array(BOOL, (N,)))]
    return make_graph([*inputs, ("room", Array(F32, (K,)))], lambda g, x, at, flags, _: build(g, x, at, flags))


def test_chain():
    graph = chain()
    check_ptx(graph)
    random = np.random.default_rng(0)
    arguments = [random.normal(size=(5, 3)).astype(np.float32), random.normal(size=3).astype(np.float32)]
    compare(*simulate(graph, arguments), ulp=8)


def test_reductions():
    graph = reductions()
    texts = check_ptx(graph)
    assert any("bar.sync" in text for text in texts.values())
    x = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    compare(*simulate(graph, [x]), ulp=16)


def test_scatter():
    graph = scatter()
    texts = check_ptx(graph)
    assert any("atom." in text or "red." in text for text in texts.values())
    x, at = np.arange(1, 9, dtype=np.float32), np.array([0, 2, 2, -1, 1, 5, 0, 2])
    compare(*simulate(graph, [x, at, np.array([1, 1, 1, 1, 0, 1, 1, 1], bool), np.zeros(3, np.float32)]))


def test_loops_on_the_host_launch_kernels():
    def build(g, x):
        def step(h, i, carried, _walked):
            scaled = h.map([N], lambda q, j: q.mul(q.index(carried[0], j), carried[1]))
            return [scaled, h.div(carried[1], h.constant(2.0, F32))]

        return g.for_(g.number(3), [x, g.constant(0.75, F32)], step)

    graph = make_graph([("x", VECTOR)], build)
    check_ptx(graph)
    compare(*simulate(graph, [np.arange(5, dtype=np.float32)]))


def test_failed_checks():
    graph = make_graph(
        [("x", VECTOR), ("at", Array(I64, (N,)))],
        lambda g, x, at: [g.map([N], lambda h, i: h.index(x, h.index(at, i)))],
    )
    check_ptx(graph)
    x = np.arange(3, dtype=np.float32)
    compare(*simulate(graph, [x, np.array([2, 0, 1])]))
    with pytest.raises(RuntimeError, match="out of range"):
        simulate_only(graph, [x, np.array([2, 0, 3])])


def simulate_only(graph, arguments):
    """The simulator's own error, where the interpreter fails too."""
    task = {
        "source": cuda_text(graph),
        "threads": 4,
        "arrays": [(np.asarray(x).tolist(), str(np.asarray(x).dtype)) for x in arguments],
        "results": [(3, "float32")],
        "sizes": [3],
    }
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNNER],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        timeout=200,
        check=False,
    )
    raise RuntimeError(ran.stderr if ran.returncode else "it did not fail")


def test_random_bits():
    from dgraph.types import KEY

    graph = make_graph(
        [("key", Array(KEY)), ("x", VECTOR)], lambda g, key, x: [g.add(x, g.uniform(key, shape=(N,), dtype=F32))]
    )
    check_ptx(graph)


def test_what_is_not_printed_is_refused_at_its_place():
    source = Source("model.dg", "for s in range(n):\n    y = x\n")

    def build(g, x):
        with g.at(span=Span(source, 0, 18)):
            last, tape = g.for_(g.number(N), [x], lambda h, _i, c, _w: [h.mul(c[0], c[0]), c[0]], tapes=1)
            return g.for_(g.number(N), [last], lambda h, _i, c, w: [h.add(c[0], w[0])], walks=[tape], reverse=True)

    graph = make_graph([("x", Array(F64)), ("v", VECTOR)], lambda g, x, _: build(g, x))
    with pytest.raises(NotSupported, match="a tape is not supported on CUDA yet"):
        cuda_text(graph)
    rows = make_graph(
        [("x", MATRIX)],
        lambda g, x: [
            g.map([N], lambda h, i: h.reduce_sum(h.set_at(h.index(x, i), h.number(0), h.constant(1.0, F32)), axes=(0,)))
        ],
    )
    with pytest.raises(NotSupported, match="an array made at every point"):
        cuda_text(rows)


def test_parameters_follow_the_source():
    program = cuda_program(reductions())
    text = cuda_text(reductions())
    for kernel in program.kernels:
        head = next(line for line in text.splitlines() if line.startswith(f"def {kernel.name}("))
        assert head.count(",") + 1 == len(parameters(kernel))
