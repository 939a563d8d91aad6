"""Index spaces, reads and writes at indices, accumulators, checks."""

# Bodies of loops and spaces are called with more than each of them uses.
# ruff: noqa: ARG001, ARG005

import subprocess
import sys
import threading

import numpy as np
import pytest
from nest_emulator import emulate
from nest_graphs import K, M, N, arguments_for, check, compare, evaluate, make_graph

from dgraph.errors import ArgumentError, CheckFailed, NotSupported, Source, Span
from dgraph.kernels.compile import CompiledGraph, compile_graph
from dgraph.sizes import size
from dgraph.types import BOOL, F32, F64, I32, I64, Accumulator, Array

VECTOR = Array(F64, (N,))
MATRIX = Array(F64, (N, M))


def test_nested_space_with_inner_reduction():
    def build(g, a, x):
        def point(h, i):
            return h.sum_over([M], F64, lambda q, j: q.mul(q.index(a, i, j), q.index(x, j)))

        return [g.map([N], point)]

    graph = make_graph([("a", MATRIX), ("x", Array(F64, (M,)))], build)
    check(graph, {"n": 3, "m": 4}, {"n": 0, "m": 4}, {"n": 3, "m": 0}, {"n": 70, "m": 140}, ulp=64)


def test_convolution_with_offsets():
    def build(g, a, k):
        def point(h, i):
            return h.sum_over([K], F64, lambda q, p: q.mul(q.index(a, q.add(i, p), policy="proven"), q.index(k, p)))

        return [g.map([N - K + 1], point)]

    graph = make_graph([("a", VECTOR), ("k", Array(F64, (K,)))], build)
    machine = check(graph, {"n": 8, "k": 3}, {"n": 3, "k": 3}, ulp=4)
    with pytest.raises(CheckFailed, match=r"the size -k \+ n \+ 1 would be negative"):
        machine.call([np.zeros(2), np.zeros(4)])


def test_guarded_accumulate_and_kinds():
    def build(g, a, x):
        def point(h, indices, _threaded, own):
            (i,) = indices
            value, low = h.index(x, i), h.index(a, i)
            total, largest, product, flag = own
            (total,) = h.if_(
                h.less(low, value), lambda q: [q.accumulate(total, q.sqrt(q.sub(value, low)))], lambda q: [total]
            )
            return [
                total,
                h.accumulate(largest, value),
                h.accumulate(product, value),
                h.accumulate(flag, h.less(value, low)),
            ]

        kinds = [
            Accumulator(F64),
            Accumulator(F64, (), "max"),
            Accumulator(F64, (), "mul"),
            Accumulator(BOOL, (), "or"),
        ]
        return g.space([N], point, buffers=kinds)

    check(make_graph([("a", VECTOR), ("x", VECTOR)], build), {"n": 5}, {"n": 0}, {"n": 200}, ulp=64)


@pytest.mark.parametrize("policy", ["drop", "clip", "error"])
def test_scatter_and_gather(policy):
    def build(g, x, at):
        def point(h, indices, threaded, own):
            (i,) = indices
            place = h.index(at, i)
            read = h.index(x, place, policy=policy)
            (acc,) = threaded
            return [h.accumulate(acc, place, read, policy=policy), h.accumulate(own[0], place, i, policy=policy), read]

        acc = g.emit(fresh(Accumulator(F64, (N,))))
        acc, counts, reads = g.space([K], point, accumulators=[acc], buffers=[Accumulator(I64, (N,))])
        return [g.freeze(acc), counts, reads]

    graph = make_graph([("x", VECTOR), ("at", Array(I64, (K,)))], build)
    x, at = np.array([1.0, 2.0, 4.0]), np.array([2, 0, 2, 1, 2, -1, 5, 3])
    if policy != "error":
        check(graph, arguments=[x, at])
        return
    check(graph, arguments=[x, at[:5]])
    with pytest.raises(CheckFailed, match=r"index \(-1,\) is out of range for the shape \(3,\)"):
        compile_graph(graph).call([x, at])
    off = compile_graph(graph, checks="off").call([x, at])
    compare(off, [np.array([1.0, 2.0, 12.0]), np.array([1, 3, 6]), np.array([4.0, 1, 4, 2, 4, 1, 4, 4])])


def fresh(type_):
    from dgraph.ir.op import OPS

    return OPS["fresh"](type=type_)


def test_rows_as_values():
    def build(g, a, at):
        rows = g.space([K], lambda h, i, _a, _b: [h.index(a, h.index(at, i[0]))])[0]
        dropped = g.map([K], lambda h, i: h.reduce_sum(h.index(a, h.add(i, h.number(1)), policy="drop"), axes=(0,)))

        def point(h, indices, threaded, own):
            row = h.index(rows, indices[0])
            return [h.accumulate(own[0], h.index(at, indices[0]), h.add(row, row)), h.accumulate(own[1], row)]

        sums, total = g.space([K], point, buffers=[Accumulator(F64, (N, M)), Accumulator(F64, (M,), "max")])
        return [rows, dropped, sums, total, g.index(a, g.number(0), g.number(1), policy="clip")]

    graph = make_graph([("a", MATRIX), ("at", Array(I64, (K,)))], build)
    check(graph, arguments=[np.arange(12.0).reshape(3, 4), np.array([2, 0, 2, 1])])


def test_array_made_at_every_point():
    def build(g, x):
        def point(h, i):
            row = h.map([M], lambda q, j: q.mul(q.index(x, i, j), q.cast(q.add(i, j), dtype=F64)))
            turned = h.tanh(row)
            return h.add(h.reduce_sum(turned, axes=(0,)), h.reduce_max(row, axes=(0,)))

        return [g.map([N], point), g.map([N], lambda h, i: h.cumsum(h.index(x, i), axis=0))]

    check(make_graph([("x", MATRIX)], build), {"n": 3, "m": 4}, {"n": 2, "m": 0}, ulp=4)


def test_accumulators_through_loops_and_choices():
    def build(g, x, flags):
        acc, scalar = (g.emit(fresh(Accumulator(F64, shape))) for shape in ((N,), ()))

        def step(h, i, carried, walked):
            a, s = carried

            def then(q):
                return [q.accumulate(a, i, q.index(x, i)), q.accumulate(s, q.index(x, i))]

            return list(h.if_(walked[0], then, lambda q: [q.accumulate(a, x), s]))

        acc, scalar = g.for_(g.number(N), [acc, scalar], step, walks=[flags])
        return [g.freeze(acc), g.freeze(scalar)]

    graph = make_graph([("x", VECTOR), ("flags", Array(BOOL, (N,)))], build)
    machine = check(graph, {"n": 4}, {"n": 0})
    assert "copy_bytes" not in machine.source


def test_scan_sort_and_random():
    def build(g, x, key):
        first = g.uniform(key, shape=(N,), dtype=F64)
        keys = g.split(key, count=3)
        number = g.normal(g.index(keys, g.number(1)), shape=(N,), dtype=F32)
        order = g.permutation(g.fold(key, g.number(7)), extent=N)
        picked = g.map([N], lambda h, i: h.index(x, h.index(order, i)))
        return [first, number, order, picked, g.cumprod(x, axis=0, reverse=True), keys]

    from dgraph.types import KEY

    graph = make_graph([("x", VECTOR), ("key", Array(KEY))], build)
    for n in (5, 0, 33):
        x, key = np.linspace(0.5, 1.5, n), np.uint64(0x9876543210FEDCBA)
        compare(compile_graph(graph).call([x, key]), evaluate(graph, [x, key]), ulp=8)


def test_checks_with_values():
    source = Source("model.dg", "def f(x):\n    assert x > 0, 'x must be positive'\n")

    def build(g, x, v):
        with g.at(span=Span(source, 14, 26)):
            g.apply(op_check("x must be positive", ("x", "flag")), g.greater(x, g.constant(0.0, F64)), x, g.less(x, x))
        return [g.sqrt(x), g.map([N], lambda h, i: inner(h, v, i))]

    def inner(h, v, i):
        value = h.index(v, i)
        h.apply(op_check("", ("i", "value")), h.less(value, h.constant(10.0, F64)), i, value)
        return h.add(value, value)

    graph = make_graph([("x", Array(F64)), ("v", VECTOR)], build)
    machine = compile_graph(graph)
    again = CompiledGraph.from_bytes(machine.to_bytes())
    compare(machine.call([4.0, np.ones(3)]), [2.0, 2 * np.ones(3)])
    for arguments in ([-1.5, np.ones(2)], [1.0, np.array([1.0, 2.0, 11.5])]):
        with pytest.raises(CheckFailed) as wanted:
            evaluate(graph, arguments)
        for run in (machine.call, again.call, lambda leaves: emulate(graph, leaves)):
            with pytest.raises(CheckFailed) as found:
                run(arguments)
            assert str(found.value) == str(wanted.value)
    compare(machine.call([4.0, np.ones(3)]), [2.0, 2 * np.ones(3)])


def op_check(message, names):
    from dgraph.ir.op import OPS

    return OPS["check"](message=message, names=names)


def test_slices_that_leave_the_array():
    graph = make_graph([("x", VECTOR)], lambda g, x: [g.slice(x, starts=(size(2),), steps=(1,), shape=(size(3),))])
    machine = check(graph, {"n": 5}, {"n": 6})
    with pytest.raises(CheckFailed, match="3 entries from 2 in steps of 1 leave an axis of length"):
        machine.call([np.zeros(4)])


def test_arguments_that_do_not_fit():
    graph = make_graph([("x", MATRIX), ("y", Array(F64, (2 * N + 1,)))], lambda g, x, y: [x, y])
    machine = compile_graph(graph)
    machine.call([np.zeros((2, 3)), np.zeros(5)])
    for arguments in ([np.zeros((2, 3)), np.zeros(4)], [np.zeros(3), np.zeros(4)], [np.zeros((2, 3))]):
        with pytest.raises(ArgumentError):
            machine.call(arguments)
    assert machine.call_exact((np.zeros((2, 3), np.float32), np.zeros(5))) is None
    assert machine.call_exact((np.zeros((3, 2)).T, np.zeros(5))) is None


def test_size_solved_from_a_formula():
    graph = make_graph(
        [("x", Array(F32, (2 * N + 1,))), ("y", Array(F32, (N, M - 1)))], lambda g, x, y: [y, g.number(N * M)]
    )
    machine = check(graph, {"n": 3, "m": 2}, {"n": 0, "m": 1})
    with pytest.raises(ArgumentError):
        machine.call([np.zeros(4, np.float32), np.zeros((2, 3), np.float32)])


def test_two_threads_at_once():
    def build(g, x):
        return g.for_(g.number(50), [g.tanh(x)], lambda h, i, c, w: [h.add(h.mul(c[0], c[0]), x)])

    graph = make_graph([("x", VECTOR)], build)
    machine = compile_graph(graph)
    arguments = [np.full(2000 + k, 0.01 * k) for k in range(4)]
    wanted = [evaluate(graph, [x]) for x in arguments]
    faults = []

    def run(k):
        for _ in range(100):
            try:
                compare(machine.call([arguments[k]]), wanted[k], ulp=4)
            except AssertionError as fault:
                faults.append(fault)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_bound_call_reads_and_writes_the_same_memory():
    graph = make_graph(
        [("a", Array(F64)), ("x", VECTOR)], lambda g, a, x: [g.mul(x, g.broadcast(a, shape=(N,))), g.add(a, a)]
    )
    a, x = np.array(2.0), np.arange(3.0)
    bound = compile_graph(graph).bind([a, x])
    outputs = bound()
    compare([outputs[0]], [2 * x])
    x[:] = 7
    a[()] = 3
    assert bound() is outputs
    compare(outputs, [np.full(3, 21.0), np.array(6.0)])


def test_names_from_programs_are_harmless():
    def build(g, x, y):
        total = g.reduce_sum(x, axes=(0,))
        with g.at(scope=("a\nimport os", "§")):
            return [g.mul(g.emit(g_op("tanh"), total, name="class\n0"), y), g.add(x, x)]

    odd = [("for; import os #\n", Array(F32, (N,))), ("load_f32", Array(F32))]
    graph = make_graph(odd, build)
    compare(compile_graph(graph).call([np.ones(2, np.float32), 2.0]), evaluate(graph, [np.ones(2), 2.0]), ulp=4)
    assert "import os" not in "\n".join(
        line for line in compile_graph(graph).source.splitlines() if not line.strip().startswith("#")
    )


def g_op(name):
    from dgraph.ir.op import OPS

    return OPS[name]()


def test_report_and_bytes():
    graph = make_graph([("x", MATRIX)], lambda g, x: [g.dot(g.tanh(x), x, transpose_b=True)])
    machine = compile_graph(graph)
    assert machine.report["arena_bytes"] == "8 * m * n"
    assert machine.report["matrix_products"] == 1
    again = CompiledGraph.from_bytes(machine.to_bytes())
    leaves = arguments_for(graph, {"n": 3, "m": 2})
    compare(again.call(leaves), machine.call(leaves))
    assert again.source == machine.source
    assert again.report == machine.report


def test_kernels_that_do_the_same_are_one():
    graph = make_graph([("x", VECTOR), ("y", VECTOR)], lambda g, x, y: [g.tanh(x), g.tanh(y), g.exp(x)])
    machine = check(graph, {"n": 3}, ulp=4)
    assert machine.source.count("def kernel_") == 2


def test_narrow_integers_in_spaces():
    def build(g, x):
        return g.space(
            [N],
            lambda h, i, _a, own: [h.accumulate(own[0], h.index(x, i[0])), h.accumulate(own[1], h.index(x, i[0]))],
            buffers=[Accumulator(I32), Accumulator(I32, (), "min")],
        )

    graph = make_graph([("x", Array(I32, (N,)))], build)
    check(graph, arguments=[np.array([2**31 - 1, 5, -7], np.int32)])
    check(graph, {"n": 0}, {"n": 100})


def test_warm_start_needs_no_compiler(tmp_path):
    graph = make_graph([("x", MATRIX)], lambda g, x: [g.dot(g.tanh(x), x, transpose_b=True)])
    path = tmp_path / "compiled"
    path.write_bytes(compile_graph(graph).to_bytes())
    code = (
        "import sys, pathlib, numpy as np\n"
        "from dgraph.kernels.compile import CompiledGraph\n"
        f"machine = CompiledGraph.from_bytes(pathlib.Path({str(path)!r}).read_bytes())\n"
        "x = np.ones((2, 3))\n"
        "assert np.allclose(machine.call([x])[0], np.tanh(x) @ x.T)\n"
        "assert machine.call_exact((x,)) is not None\n"
        "assert not {'numba', 'lark', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_many_totals_of_one_space():
    def build(g, x):
        def point(h, indices, _threaded, own):
            entry = h.index(x, indices[0])
            return [h.accumulate(total, h.mul(entry, h.constant(float(k), F64))) for k, total in enumerate(own)]

        return g.space([N], point, buffers=[Accumulator(F64)] * 70)

    check(make_graph([("x", VECTOR)], build), {"n": 3}, ulp=4)


def test_sizes_whose_bytes_cannot_be_counted():
    def build(g, x):
        square = g.map([K, M], lambda h, i, j: h.mul(x, h.cast(h.add(i, j), dtype=F64)))
        return [g.reduce_sum(g.dot(square, square, transpose_b=True), axes=(0, 1))]

    graph = make_graph([("x", Array(F64))], build, size_formals=["k", "m"])
    machine = check(graph, {"k": 3, "m": 2}, formals=["k", "m"], ulp=4)
    for k, m in ((2**33, 2**28), (2**32, 2**32), (2**62, 4)):
        with pytest.raises(ArgumentError, match="not enough memory for f"):
            machine.call([1.0], {"k": k, "m": m})
    filled = make_graph([("x", Array(F64))], lambda g, x: [g.broadcast(x, shape=(K, M, K))], size_formals=["k", "m"])
    with pytest.raises(ArgumentError, match="not enough memory for f"):
        compile_graph(filled).call([1.0], {"k": 2**33, "m": 2**33})


def test_a_tape_that_no_memory_holds():
    def build(g, x, count):
        last, tape = g.for_(count, [x], lambda h, i, c, w: [h.mul(c[0], c[0]), c[0]], tapes=1)
        return g.for_(count, [last], lambda h, i, c, w: [h.add(c[0], w[0])], walks=[tape], reverse=True)

    machine = check(make_graph([("x", Array(F64)), ("count", Array(I64))], build), arguments=[0.5, np.int64(3)])
    for count in (2**45, 2**61, 2**63 - 1):
        with pytest.raises(CheckFailed, match=f"a loop of {count} steps has no memory"):
            machine.call([0.5, np.int64(count)])


def test_nothing_in_and_constants_out():
    graph = make_graph([], lambda g: [g.constant(2.5, F64), g.full(7, Array(I64, (size(3),))), g.constant(True, BOOL)])
    check(graph, {})


def test_arguments_that_are_not_used():
    graph = make_graph([("x", MATRIX), ("a", Array(F32)), ("k", Array(BOOL))], lambda g, x, a, k: [g.constant(1, I64)])
    check(graph, {"n": 2, "m": 0})


def test_arguments_returned_as_they_are():
    kinds = [F32, F64, I32, I64, BOOL]
    inputs = [(f"a{dtype}", Array(dtype)) for dtype in kinds] + [(f"v{dtype}", Array(dtype, (N,))) for dtype in kinds]
    check(make_graph(inputs, lambda g, *values: values), {"n": 4}, {"n": 0})


def test_a_size_that_no_argument_gives():
    graph = make_graph([("x", Array(F64, (N * M,)))], lambda g, x: [g.add(x, x)])
    with pytest.raises(NotSupported, match=r"the size `m` of f cannot be found|the size `n` of f cannot be found"):
        compile_graph(graph)


def test_numbers_and_lists_as_arguments():
    graph = make_graph([("a", Array(F64)), ("x", VECTOR), ("k", Array(I64))], lambda g, a, x, k: [g.add(a, a), x, k])
    machine = compile_graph(graph)
    compare(machine.call([2, [1, 2, 3], 4]), [4.0, np.array([1.0, 2.0, 3.0]), np.int64(4)])
    compare(
        machine.call([np.float32(2), np.arange(6.0)[::2], np.int32(4)]), [4.0, np.array([0.0, 2.0, 4.0]), np.int64(4)]
    )


def test_memory_is_safe_without_checks():
    def build(g, x, at):
        nearest = g.map([K], lambda h, i: h.index(x, h.index(at, i), policy="clip"))
        return [nearest, g.map([K], lambda h, i: h.index(x, h.index(at, i)))]

    graph = make_graph([("x", VECTOR), ("at", Array(I64, (K,)))], build)
    machine = compile_graph(graph, checks="off")
    compare(machine.call([np.zeros(0), np.array([0, 5, -1])]), [np.zeros(3), np.zeros(3)])
    compare(machine.call([np.arange(3.0), np.array([0, 2**40, -(2**62)])]), [np.array([0.0, 2.0, 0.0])] * 2)
    part = make_graph([("x", VECTOR)], lambda g, x: [g.slice(x, starts=(size(2),), steps=(1,), shape=(size(3),))])
    with pytest.raises(CheckFailed, match="leave an axis"):
        compile_graph(part, checks="off").call([np.zeros(3)])


def test_object_code_of_another_machine_is_replaced(monkeypatch):
    graph = make_graph([("x", VECTOR)], lambda g, x: [g.add(x, x)])
    machine = compile_graph(graph)
    with monkeypatch.context() as patch:
        patch.setattr("dgraph.kernels.compile.machine_name", lambda: "another")
        foreign = machine.to_bytes()[: -len(machine.code)] + b"not for this machine"
    compare(CompiledGraph.from_bytes(foreign).call([np.arange(3.0)]), [2 * np.arange(3.0)])
