"""Loops that threads share: the same bits for any number of threads, faults in the order of the program, nesting,
forks, interrupts, and calls from several Python threads at once."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import dgraph as dg
from dgraph.kernels.compile import CompiledGraph, compile_graph, interface_of, plan_graph
from dgraph.kernels.native import compile_source
from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Call, Loop
from dgraph.kernels.numba_source import print_program
from dgraph.kernels.split import LEAST, MOST, MOST_APART, Copies, Split
from dgraph.kernels.thread_pool import VARIABLE, available, the_pool
from dgraph.program.explain import explain
from dgraph.program.pipeline import stage
from dgraph.sizes import size, variable

COUNTS = (1, 2, 3, 4, 7)

PROGRAM = dg.parse(
    """
def lse[n](x: f64[n]) -> f64:
    top = max(x)
    return top + log(sum(exp(x - top)))

@entry
def pieces[n, k](x: f64[n], w: f64[k], at: i32[n]) -> f64:
    return sum(tanh(x[i] * w[at[i]]) for i)

def slopes[n, k](x: f64[n], w: f64[k], at: i32[n]) -> (f64[n], f64[k]) = grad(pieces, wrt=(x, w))(x, w, at)

def nearest[n, k, d](p: f64[n, d], c: f64[k, d]) -> f64:
    return sum(min(sum((p[i, e] - c[j, e]) ** 2 for e) for j) for i)

def step[n, k, d](p: f64[n, d], c: f64[k, d]) -> f64[k, d] = grad(nearest, wrt=c)(p, c)

def roots[n](x: f64[n]) -> f64[n]:
    def one(a: f64) -> f64:
        y = a + 1.0
        while abs(y * y - a) > 1e-9 * a:
            y = 0.5 * (y + a / y)
        return y
    return [one(x[i]) for i]

def counts[n](x: f64[n]) -> (f64, f64, i32, bool):
    return max(x), min(x), argmax(x), all(x[i] > -10.0 for i)

def inside[n, m](x: f64[n, m]) -> f64[n]:
    s[i, j] = exp(x[i, j] - x[i, 0])
    return [sum(s[i, j] / (1.0 + s[i, m - 1 - j]) for j) for i]

def layer[n, m, k](x: f64[n, m], w: f64[m, k], v: f64[k]) -> f64:
    return sum(tanh(x @ w + v) ** 2)

def back[n, m, k](x: f64[n, m], w: f64[m, k], v: f64[k]) -> (f64[m, k], f64[k]) = grad(layer, wrt=(w, v))(x, w, v)

def picked[n, k](w: f64[k], at: i32[n]) -> f64[n] = [exp(w[at[i]]) for i]

def checked[n](x: f64[n]) -> f64[n]:
    def one(a: f64) -> f64:
        assert a < 2.0, "too large"
        return log(a)
    return [one(x[i]) for i]
"""
)


def arguments(name, n, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.uniform(0.5, 1.5, n)
    at = draw.integers(0, 5, n).astype(np.int32)
    points, centres = draw.normal(size=(n, 3)), draw.normal(size=(7, 3))
    matrices = draw.normal(size=(n, 6)), draw.normal(size=(6, 4)), draw.normal(size=4)
    given = {
        "lse": (x,),
        "roots": (x,),
        "counts": (x,),
        "pieces": (x, draw.normal(size=5), at),
        "slopes": (x, draw.normal(size=5), at),
        "nearest": (points, centres),
        "step": (points, centres),
        "inside": (draw.normal(size=(n, 9)),),
        "layer": matrices,
        "back": matrices,
    }
    return given[name]


NAMES = ("lse", "pieces", "slopes", "nearest", "step", "roots", "counts", "inside", "layer", "back")
ADDING = ("slopes", "step", "back")
"""Those whose points add to entries that they share."""


def flat(result):
    return [np.asarray(part).copy() for part in (result if isinstance(result, tuple) else (result,))]


def same(one, other):
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


# ---- results -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n"), [(name, n) for name in NAMES for n in (0, 1, 37, 700) if n or name not in ("lse", "counts")]
)
def test_any_number_of_threads_gives_the_same_bits(name, n):
    given = arguments(name, n)
    function = PROGRAM.function(name)
    alone = flat(dg.compile(function, schedule={"threads": "off"})(*given))
    found = []
    for count in COUNTS:
        shared = dg.compile(function, parallel=count, schedule={"threads": "on"})
        for _ in range(3):
            found.append(flat(shared(*given)))
    assert all(same(found[0], other) for other in found)
    if name in ADDING:
        for one, other in zip(found[0], alone, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    else:
        assert same(found[0], alone)


@pytest.mark.parametrize("name", ["lse", "slopes", "step"])
def test_large_calls_use_threads_and_small_ones_do_not(name):
    function = PROGRAM.function(name)
    shared = dg.compile(function, parallel=3)
    small, large = arguments(name, 40), arguments(name, 400_000)
    shared(*small)
    assert shared.kernel.parted is not None
    assert "form" not in vars(shared.kernel.parted)
    found = flat(shared(*large))
    assert "form" in vars(shared.kernel.parted)
    assert same(found, flat(dg.compile(function, parallel=1)(*large)))
    assert same(found, flat(shared.bind(*large)()))
    assert same(flat(shared(*small)), flat(dg.compile(function, parallel=False)(*small)))


@pytest.mark.parametrize("name", ["lse", "slopes", "step", "inside", "counts"])
def test_both_routes_run_the_same_parts(name):
    graph = stage(PROGRAM.function(name).graph, "kernels")
    program = plan_graph(graph, schedule={"threads": "on"})
    source, interface = print_program(program), interface_of(graph, program)
    assert "in shared(" in source
    given = arguments(name, 300)
    results = []
    for route in ("direct", "numba"):
        compiled = CompiledGraph(interface, source, {}, compile_source(source, through=route))
        compiled.allow(3)
        results.append(compiled.call(given))
    assert same(*results)


# ---- what is shared ------------------------------------------------------------------------------------------------


def loops_of(name):
    graph = stage(PROGRAM.function(name).graph, "kernels")
    program = plan_graph(graph, schedule={"threads": "on"})
    return [s for kernel in program.kernels for s in walk(kernel.body) if isinstance(s, Loop)], program


def test_a_shared_loop_holds_one_call_and_what_it_calls_shares_nothing():
    loops, program = loops_of("step")
    shared = [loop for loop in loops if loop.kind == "threads"]
    assert shared
    for loop in shared:
        (call,) = loop.body
        assert isinstance(call, Call)
        assert not any(isinstance(s, Loop) and s.kind == "threads" for s in walk(call.kernel.body))
        assert call.kernel in program.kernels


def test_points_that_add_to_shared_entries_have_arrays_of_their_parts():
    _, program = loops_of("step")
    kinds = {room.name: room.copies.kind for room in program.rooms.values() if room.copies is not None}
    assert "apart" in kinds.values() and "threads" in kinds.values()
    assert any(split.has_arrays and split.most == MOST_APART for _, split in program.splits)


def test_products_are_cut_into_bands_with_the_same_bits():
    draw = np.random.default_rng(0)
    program = dg.parse("def f[n, m, k](a: f64[n, k], b: f64[k, m]) -> f64[n, m] = a @ b")
    given = draw.normal(size=(300, 290)), draw.normal(size=(290, 41))
    whole = dg.compile(program.f, schedule={"threads": "off"})(*given)
    for count in (1, 2, 3):
        shared = dg.compile(program.f, parallel=count, schedule={"threads": "on"})
        assert np.array_equal(shared(*given), whole)
    assert "in shared(" in shared.source


def test_convolutions_have_the_same_bits():
    draw = np.random.default_rng(1)
    program = dg.parse("""
def f[s, h, w, a, b, c, o](x: f64[s, h, w, c], k: f64[a, b, c, o]) -> f64[s, h - a + 1, w - b + 1, o]:
    z[n, i, j, p] = sum(x[n, i + u, j + v, q] * k[u, v, q, p] for u, v, q)
    return z

def loss[s, h, w, a, b, c, o](x: f64[s, h, w, c], k: f64[a, b, c, o]) -> f64 = sum(f(x, k) ** 2)
""")
    given = draw.normal(size=(3, 14, 15, 9)), draw.normal(size=(5, 4, 9, 11))
    for function in (program.f, dg.grad(program.loss, wrt=("x", "k"))):
        whole = flat(dg.compile(function, schedule={"threads": "off"})(*given))
        for count in (1, 2, 3):
            assert same(flat(dg.compile(function, parallel=count, schedule={"threads": "on"})(*given)), whole)


def test_splits_depend_on_sizes_alone():
    n = variable("n")
    split = Split(LEAST * n, size(2 * LEAST), n, 64)
    assert [split.parts({"n": count}.__getitem__) for count in (0, 1, 3, 4, 100_000)] == [1, 1, 1, 2, 64]
    assert Copies(split, "threads").evaluate({"n": 8}.__getitem__, 3) == 3
    assert Copies(split, "threads").evaluate({"n": 4}.__getitem__, 3) == 2
    assert Copies(split, "apart").evaluate({"n": 1}.__getitem__, 3) == 0
    assert Copies(split, "parts").evaluate({"n": 8}.__getitem__, 1) == 4


def test_memory_that_threads_need_is_told():
    given = arguments("step", 400_000)
    told = {}
    for count in (1, 2, 7):
        compiled = dg.compile(PROGRAM.step, parallel=count)
        told[count] = compiled.memory(*given)
        compiled(*given)
        assert compiled.held_bytes == told[count].arena + told[count].tapes
    assert told[1].arena <= told[2].arena < told[7].arena
    small = arguments("step", 40)
    compiled(*small)
    assert compiled.held_bytes == told[7].arena + compiled.memory(*small).arena
    compiled(*given)
    assert compiled.held_bytes == told[7].arena


# ---- faults --------------------------------------------------------------------------------------------------------


def test_the_first_fault_in_program_order_is_told():
    compiled = {count: dg.compile(PROGRAM.picked, parallel=count, schedule={"threads": "on"}) for count in COUNTS}
    at = np.zeros(5000, np.int32)
    at[[1200, 3000, 4900]] = 99, 98, 97
    told = set()
    for each in compiled.values():
        with pytest.raises(dg.DgraphError) as fault:
            each(np.ones(4), at)
        told.add(str(fault.value))
    assert len(told) == 1
    assert "99" in told.pop()
    checked = {count: dg.compile(PROGRAM.checked, parallel=count, schedule={"threads": "on"}) for count in COUNTS}
    x = np.ones(3000)
    x[[700, 2900]] = 3.0, 4.0
    told = set()
    for each in checked.values():
        with pytest.raises(dg.DgraphError, match="too large") as fault:
            each(x)
        told.add(str(fault.value))
        np.testing.assert_array_equal(each(np.ones(3000)), np.zeros(3000))
    assert len(told) == 1


def test_numbers_of_threads_that_are_none_are_refused():
    for wrong in (0, -1, "two", 1.5, None):
        with pytest.raises(dg.DgraphError, match="no number of threads"):
            dg.compile(PROGRAM.lse, parallel=wrong)


def test_the_environment_bounds_the_threads(monkeypatch):
    monkeypatch.setenv(VARIABLE, "3")
    assert available() == 3
    assert dg.compile(PROGRAM.lse).kernel.threads == 3
    monkeypatch.setenv(VARIABLE, "many")
    assert 1 <= available() <= (os.cpu_count() or 1)
    monkeypatch.delenv(VARIABLE)
    assert 1 <= available() <= (os.cpu_count() or 1)


# ---- life with others ----------------------------------------------------------------------------------------------


def test_python_threads_call_one_function_at_once():
    shared = dg.compile(PROGRAM.step, parallel=3, schedule={"threads": "on"})
    given = [arguments("step", 900, seed) for seed in range(4)]
    wanted = [shared(*each).copy() for each in given]
    faults = []

    def work(mine):
        for turn in range(60):
            which = (mine + turn) % 4
            if not np.array_equal(shared(*given[which]), wanted[which]):
                faults.append((mine, turn))

    workers = [threading.Thread(target=work, args=(mine,)) for mine in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not faults


def test_a_pool_in_use_lets_the_second_caller_work_alone():
    pool = the_pool()
    pool.start(2)
    turn = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    share = ctypes.CFUNCTYPE(None, ctypes.c_void_p, turn, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    function = share(pool.words[0])
    seen = []
    inner = turn(lambda _context, part, slot: seen.append(("inner", part, slot)))

    def outer(_context, part, slot):
        function(pool.address, inner, None, 3, 2)
        seen.append(("outer", part, slot))

    function(pool.address, turn(outer), None, 4, 2)
    assert sorted(part for kind, part, _ in seen if kind == "outer") == [0, 1, 2, 3]
    assert [slot for kind, _, slot in seen if kind == "inner"] == [0] * 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_computes_and_starts_threads_of_its_own():
    code = """
import os, sys
import numpy as np
import dgraph as dg
program = dg.parse("def f[n](x: f64[n]) -> f64 = sum(exp(x))")
f = dg.compile(program.f, parallel=3)
x = np.linspace(0, 1, 1_000_000)
bound = f.bind(x)
wanted = float(f(x))
from dgraph.kernels.thread_pool import the_pool
assert the_pool().words[2] == 2
child = os.fork()
if child == 0:
    good = the_pool().words[2] == 0 and float(bound()) == wanted and float(f(x)) == wanted
    good = good and the_pool().words[2] == 2 and float(f(x)) == wanted
    os._exit(0 if good else 1)
_, status = os.waitpid(child, 0)
assert float(f(x)) == wanted
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_an_interrupt_ends_a_loop_of_calls_and_leaves_all_in_order():
    shared = dg.compile(PROGRAM.slopes, parallel=3, schedule={"threads": "on"})
    given = arguments("slopes", 5000)
    wanted = flat(shared(*given))

    def interrupt(_number, _frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in (0.002, 0.005, 0.011):
            signal.setitimer(signal.ITIMER_REAL, delay)
            until = time.monotonic() + 30
            with pytest.raises(KeyboardInterrupt):
                while time.monotonic() < until:
                    shared(*given)
            assert same(flat(shared(*given)), wanted)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_second_form_travels_with_the_first():
    given = arguments("step", 400_000)
    compiled = dg.compile(PROGRAM.step, parallel=2)
    wanted = compiled(*given)
    again = CompiledGraph.from_bytes(compiled.kernel.to_bytes())
    again.allow(2)
    assert np.array_equal(again.call(given)[0], wanted)
    assert compile_graph(stage(PROGRAM.step.graph, "kernels"), parallel=False).threads == 1


def test_explain_names_the_loops_that_are_shared_and_their_parts():
    found = explain(PROGRAM.step)["threads"]
    assert {row["most"] for row in found} <= {MOST_APART, MOST}
    assert all(row["parts"] is None and "n" in row["operations"] for row in found if row["most"] == MOST_APART)
    points, centres = arguments("step", 400_000)
    found = explain(PROGRAM.step, arguments={"p": points, "c": centres})["threads"]
    assert max(row["parts"] for row in found) == MOST_APART
