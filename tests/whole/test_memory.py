"""What is said of memory before a call is what the call takes."""

import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.kernels.compile import CompiledGraph

PROGRAMS = Path(__file__).parents[1] / "programs"

CHAIN = """
def f[n, m](w: f64[n, m], x: f64[m]) -> f64:
    h = tanh(w @ x)
    k = exp(h @ w) * x
    s[i, j] = k[i] * k[j]
    return sum(s @ x) + sum(h)
"""

LOOP = """
def f[n](x: f64[n], steps: size) -> f64:
    for t in range(steps):
        x = x + 0.01 * sin(x)
    return sum(x * x)
"""

COUNTED = """
def f(x: f64[5], y: f64, steps: i32, skipped: i32) -> f64:
    for t in range(max(2 * steps - skipped, 0)):
        x = x + 0.01 * sin(x * y)
    return sum(x * x)
"""

FACTORS = """
def f[m, n](a: f64[m, n], b: f64[n]) -> f64:
    q, r = qr(a)
    w, v = eigh(a.T @ a + eye(n))
    return sum(q) + sum(solve(r + eye(n), b) * b) + sum(w) + sum(v * v)
"""

FIXED = """
def f(a: f64[4, 4]) -> f64 = sum((a @ exp(a)) @ a)
"""


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


CASES = [
    (CHAIN, lambda k: (normal(3 * k, k), normal(k)), (0, 1, 5, 60)),
    (LOOP, lambda k: (normal(k), 10 * k), (0, 1, 7, 50)),
    (COUNTED, lambda k: (normal(5), 0.5, k, 3), (1, 2, 30, 3000)),
    (FACTORS, lambda k: (normal(2 * k, k) + np.eye(2 * k, k), normal(k)), (1, 4, 50)),
    (FIXED, lambda _: (normal(4, 4),), (0,)),
]


def fresh(compiled):
    """The same function without any memory."""
    kernel = CompiledGraph.from_bytes(compiled.kernel.to_bytes())
    return type(compiled)(compiled.function, compiled.options, compiled.signature, kernel)


@pytest.mark.parametrize("transform", [None, dg.value_and_grad])
@pytest.mark.parametrize(("text", "arguments", "sizes"), CASES)
def test_what_is_foretold_is_what_is_allocated(text, arguments, sizes, transform):
    f = dg.parse(text).f
    first = text.partition("(")[2].partition(":")[0]
    compiled = dg.compile(f if transform is None else transform(f, wrt=first))
    for k in sizes:
        step = fresh(compiled)
        told = step.memory(*arguments(k))
        assert not told.open
        assert step.held_bytes == 0
        result = step(*arguments(k))
        assert step.held_bytes == told.arena + told.tapes
        parts = result if isinstance(result, tuple) else (result,)
        assert told.results == sum(part.nbytes for part in parts)
        assert told.peak == told.arena + told.results + told.tapes


def test_what_python_sees_allocated_is_what_is_foretold():
    """The blocks come from Python's raw allocator, which can be watched."""
    compiled = dg.compile(dg.value_and_grad(dg.parse(LOOP).f, wrt="x"))
    arguments = (normal(1000), 3000)
    compiled(np.zeros(3), 4)
    step = fresh(compiled)
    told = step.memory(*arguments)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = step(*arguments)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result is not None
    assert told.peak > 24_000_000
    assert 0 <= now - before - told.peak < 20_000
    assert 0 <= peak - before - told.peak < 20_000


def test_the_arena_is_as_large_as_the_largest_call_and_no_larger():
    step = dg.compile(dg.parse(LOOP).f, parallel=False)
    largest = 0
    for n in (10, 1000, 1500, 20, 100_000, 3):
        step(normal(n), 2)
        largest = max(largest, step.memory(normal(n), 2).arena)
        assert step.held_bytes == largest


def test_calls_at_once_have_an_arena_each():
    step = dg.compile(dg.parse(CHAIN).f)
    inputs = [(normal(3 * k, k), normal(k)) for k in range(1, 40)]
    alone = [step(*given) for given in inputs]
    with ThreadPoolExecutor(4) as threads:
        assert [float(x) for x in threads.map(lambda given: step(*given), inputs * 5)] == [float(x) for x in alone] * 5


def test_loops_that_the_run_counts_are_named():
    slope = dg.compile(dg.grad(dg.load(PROGRAMS / "newton.dg").cube_root, wrt="a"))
    told = slope.memory(2.0)
    assert told.tapes == 0
    assert {place.rpartition(":")[2] for place, _ in told.open} == {"9"}
    assert all(count == 8 for _, count in told.open)
    slope(2.0)
    assert slope.held_bytes > 0
    assert [tape["is_foretold"] for tape in slope.report["tapes"]] == [False] * len(told.open)


def test_the_report_has_formulas():
    report = dg.compile(dg.parse(LOOP).f).report
    assert (report["arena_bytes"], report["result_bytes"], report["tapes"]) == ("16 * n + 2048", "8", [])
    slope = dg.compile(dg.grad(dg.parse(LOOP).f, wrt="x")).report
    assert (slope["arena_bytes"], slope["result_bytes"]) == ("8 * n * steps + 24 * n", "8 * n")
    counted = dg.compile(dg.grad(dg.parse(COUNTED).f, wrt="x")).report
    assert counted["tapes"] == [{"loop": "<text>:3", "step_bytes": "40", "is_foretold": True}]
    either = dg.compile(dg.parse(CHAIN).f).report["arena_bytes"]
    assert either == "16 * n + 2048 or 8 * m + 8 * n or 16 * m or 8 * m * m + 8 * m + 2048"


MEASURED = """
import resource
import sys
import numpy as np
import dgraph as dg

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

step = dg.compile(dg.value_and_grad(dg.parse(sys.argv[1]).f, wrt="x"))
x = np.ones(20_000)
step(x, 1)
before = resident()
step(x, 1500)
print(step.memory(x, 1500).peak, resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the resident set is read from /proc")
def test_the_resident_set_grows_by_what_is_foretold():
    run = subprocess.run([sys.executable, "-c", MEASURED, LOOP], capture_output=True, text=True, check=True)
    told, measured = map(int, run.stdout.split())
    assert told > 200_000_000
    assert abs(measured - told) < 0.1 * told
