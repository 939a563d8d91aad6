"""What loops keep for their gradients: how many bytes at two sizes, whatever the price, and never another bit."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Graph, Node, walk
from dgraph.passes.residuals import residuals
from dgraph.program.pipeline import stage
from dgraph.types import Accumulator, Array, Tape

PROGRAMS = dg.parse(
    '''
def touched[n, m](x: f64[m], w: f64, j: i32[n]) -> f64:
    """One place after another."""
    for t in range(n):
        x[j[t]] = tanh(x[j[t]] * w)
    return sum(x * x)

def nested[n, k, m](x: f64[m], w: f64, j: i32[n, k]) -> f64:
    for t in range(n):
        for s in range(k):
            x[j[t, s]] = tanh(x[j[t, s]] * w)
    return sum(x * x)

def chosen[n, m](x: f64[m], w: f64, j: i32[n]) -> f64:
    """Both sides of a choice change the array, and read other places of it."""
    for t in range(n):
        if x[j[t]] > 0:
            x[j[t]] = tanh(x[j[t]] * w)
        else:
            x[j[t]] = x[j[t]] * x[(j[t] + 3) % 5] + w
    return sum(x * x)

def rows[n, m](x: f64[m, 3], w: f64, j: i32[n]) -> f64:
    for t in range(n):
        x[j[t], :] = tanh(x[j[t], :] * w)
    return sum(x * x)

def alignment[n, m](a: f64[n], b: f64[m]) -> f64:
    """A soft distance with one row of the table, which is updated in place."""
    row: f64[m + 1] = 0.0
    for i in range(n):
        corner = row[0]
        row[0] = row[0] + 1.0
        for j in range(m):
            up = row[j + 1]
            row[j + 1] = (a[i] - b[j]) ** 2 - log(exp(-corner) + exp(-up) + exp(-row[j]))
            corner = up
    return row[m]

def looked_at[n, m](x: f64[m], w: f64, j: i32[n]) -> f64:
    """The whole array is read at every step, and one place of it changed."""
    total = 0.0
    for t in range(n):
        s = sum(sin(x))
        x[j[t]] = s * w
        total += s
    return total + sum(x * x)

def turned[n, m](x: f64[m], w: f64, j: i32[n]) -> f64:
    """Two places exchanged at every step, two arrays at once, from the last step to the first."""
    y = x
    total = 0.0
    for t in range(n - 1, -1, -1):
        first = x[j[t]]
        x[j[t]] = x[0]
        x[0] = first
        y[j[t]] = sum(cos(x)) * w
        total += sum(sin(y))
    return total

def sorted_by_swaps[n](x: f64[n], w: f64[n]) -> f64:
    for i in range(n):
        for k in range(n - 1 - i):
            if x[k] > x[k + 1]:
                big = x[k]
                x[k] = x[k + 1]
                x[k + 1] = big
    return sum(x * w)

def collected[n](x: f64[n]) -> f64:
    """A buffer that is only written: a collected result."""
    out: f64[n] = 0.0
    s = 0.0
    for i in range(n):
        s = sin(s + x[i])
        out[i] = s * s
    return sum(out * out)

def strided[n](x: f64[2 * n + 1], w: f64) -> f64:
    """An array that is not changed, read at affine places."""
    s = 0.0
    for i in range(n):
        s = sin(s * w + x[2 * i + 1] * x[2 * i])
    return s

def counted(x: f64, end: f64) -> f64:
    """Which side a step takes follows from a carry that counts."""
    k = 3
    while x < end:
        if k % 2 == 0:
            x = x + x * x
        else:
            x = x * 1.5
        k += 3
    return x * k

def noisy[m](x: f64[m], w: f64, key: key, n: i32) -> f64:
    """Noise from a key that each step hands on."""
    for t in range(n):
        here, key = split(key)
        noise: f64[m] = normal(here)
        x = x + w * noise * x
    return sum(x)

def numbered[m](x: f64[m], w: f64, key: key, n: i32) -> f64:
    """Noise from the number of the step."""
    for t in range(n):
        noise: f64[m] = normal(fold(key, t))
        x = x + w * noise * x
    return sum(x)

def batched[b, n, m](x: f64[b, m], w: f64, j: i32[n]) -> f64:
    return sum(vmap(looked_at, over=x)(x, w, j))

def twice[n, m](x: f64[m], w: f64, j: i32[n]) -> f64:
    return sum(grad(looked_at, wrt=x)(x, w, j) ** 2)

def batched_twice[b, n, m](x: f64[b, m], w: f64, j: i32[n]) -> f64:
    return sum(vmap(twice, over=x)(x, w, j))
'''
)


def gradient(name: str, wrt: str, price: float | None = 0.0) -> Graph:
    names = tuple(wrt.split())
    transformed = dg.value_and_grad(getattr(PROGRAMS, name), wrt=names if len(names) > 1 else names[0])
    graph = stage(transformed.graph, "optimised")
    return graph if price is None else residuals(graph, price=price)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape)


def places(bound: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, bound, shape).astype(np.int32)


def bytes_kept(graph: Graph, arguments: list[Any]) -> int:
    """The bytes of all entries that loops put on tapes."""
    total = 0

    def entries(found: Any) -> None:
        nonlocal total
        total += 0 if isinstance(found, list) else np.asarray(found).nbytes

    def see(node: Node, results: Any) -> None:
        for value, found in zip(node.results, results, strict=True):
            if isinstance(value.type, Tape) and node.regions and node.op.name in ("for", "while"):
                for entry in found or ():
                    entries(entry)

    evaluate(graph, arguments, observer=see)
    return total


def work(graph: Graph, arguments: list[Any]) -> int:
    """Numbers that are made, where an update in place makes as many as it changes."""
    total = 0

    def see(node: Node, results: Any) -> None:
        nonlocal total
        if node.regions:
            return
        if node.op.name in ("set_at", "accumulate"):
            type_ = node.operands[-1].type
            assert isinstance(type_, Array)
            total += 1
        elif not any(isinstance(value.type, Accumulator) for value in node.results):
            total += sum(int(np.size(found)) for found in results)

    evaluate(graph, arguments, observer=see)
    return total


CASES: dict[str, tuple[str, Callable[[int, int], list[Any]]]] = {
    "touched": ("x w", lambda n, m: [drawn(m), 0.9, places(m, n)]),
    "nested": ("x w", lambda n, m: [drawn(m), 0.9, places(m, n // 4, 4)]),
    "chosen": ("x w", lambda n, m: [drawn(m), 0.9, places(m, n)]),
    "rows": ("x w", lambda n, m: [drawn(m, 3), 0.9, places(m, n)]),
    "looked_at": ("x w", lambda n, m: [drawn(m), 0.1, places(m, n)]),
    "batched": ("x w", lambda n, m: [drawn(2, m), 0.1, places(m, n)]),
    "twice": ("x w", lambda n, m: [drawn(m), 0.1, places(m, n)]),
    "batched_twice": ("x w", lambda n, m: [drawn(2, m), 0.1, places(m, n)]),
    "turned": ("x w", lambda n, m: [drawn(m), 0.1, places(m, n)]),
    "alignment": ("a b", lambda n, m: [drawn(n), drawn(m)]),
    "sorted_by_swaps": ("x w", lambda n, _m: [drawn(n), drawn(n)]),
    "collected": ("x", lambda n, _m: [drawn(n)]),
    "strided": ("x w", lambda n, _m: [drawn(2 * n + 1), 0.3]),
    "counted": ("x", lambda n, _m: [0.5, float(n)]),
    "noisy": ("x w", lambda n, m: [drawn(m), 0.1, np.uint64(3), n]),
    "numbered": ("x w", lambda n, m: [drawn(m), 0.1, np.uint64(3), n]),
}


@pytest.mark.parametrize("name", CASES)
def test_no_price_changes_a_bit(name: str):
    wrt, arguments = CASES[name]
    given = arguments(8, 6)
    expected = [np.asarray(found).tobytes() for found in evaluate(gradient(name, wrt, None), given)]
    for price in (0.0, 1e-11, 1e-9, 1e-6, math.inf):
        found = [np.asarray(value).tobytes() for value in evaluate(gradient(name, wrt, price), given)]
        assert found == expected, price


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_differences(name: str):
    wrt, arguments = CASES[name]
    given = arguments(6, 5)
    _, *slopes = evaluate(gradient(name, wrt, math.inf), given)
    function = stage(getattr(PROGRAMS, name).graph, "optimised")
    names = [formal.name for formal in function.formals]
    for one, slope in zip(wrt.split(), slopes, strict=True):
        at = names.index(one)
        along = np.random.default_rng(2).standard_normal(np.shape(given[at]))
        up, down = ([*given[:at], given[at] + step * along, *given[at + 1 :]] for step in (1e-6, -1e-6))
        difference = (evaluate(function, up)[0] - evaluate(function, down)[0]) / 2e-6
        assert abs(np.sum(slope * along) - difference) <= 1e-7 * (1 + abs(difference))


@pytest.mark.parametrize("name", ["touched", "nested"])
@pytest.mark.parametrize("price", [0.0, math.inf])
def test_updates_are_kept_and_not_the_array(name: str, price: float):
    wrt, arguments = CASES[name]
    graph = gradient(name, wrt, price)
    kept = {(n, m): bytes_kept(graph, arguments(n, m)) for n in (8, 16) for m in (5, 50)}
    assert kept[8, 5] == kept[8, 50]
    assert kept[16, 5] == 2 * kept[8, 5]
    assert kept[8, 5] <= 8 * 16
    done = {(n, m): work(graph, arguments(n, m)) for n in (8, 16) for m in (5, 500)}
    assert done[8, 500] - done[8, 5] == done[16, 500] - done[16, 5], "the array counts once, not at every step"
    assert done[16, 5] - done[8, 5] <= 8 * 60


def test_a_choice_keeps_entries_of_an_array_that_changes():
    graph = gradient("chosen", "x w")
    kept = {(n, m): bytes_kept(graph, CASES["chosen"][1](n, m)) for n in (8, 16) for m in (6, 60)}
    assert max(kept.values()) <= 16 * 32
    assert kept[8, 60] <= 8 * 32


def test_a_table_is_kept_entry_by_entry():
    graph = gradient("alignment", "a b")
    kept = {(n, m): bytes_kept(graph, CASES["alignment"][1](n, m)) for n in (4, 8) for m in (6, 12)}
    assert kept[8, 12] == 2 * kept[4, 12] == 4 * kept[4, 6], "a few entries for each update of the row"
    assert kept[4, 6] <= 6 * 8 * 4 * 6


@pytest.mark.parametrize(("name", "most"), [("looked_at", 8), ("turned", 24)])
def test_an_array_that_is_read_whole_is_walked_backwards(name: str, most: int):
    """Where memory is dear: what is overwritten is kept, not the array. Places follow from what is captured."""
    wrt, arguments = CASES[name]
    graph = gradient(name, wrt, math.inf)
    for n, m in ((8, 5), (8, 50), (16, 50)):
        assert bytes_kept(graph, arguments(n, m)) == most * n
    fast = gradient(name, wrt, 0.0)
    assert bytes_kept(fast, arguments(8, 50)) >= 8 * 8 * 50, "storing is faster than computing again"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("touched", lambda m: [drawn(m), 0.9, places(m, 2000)]),
        ("nested", lambda m: [drawn(m), 0.9, places(m, 40, 50)]),
        ("chosen", lambda m: [drawn(m), 0.9, places(m, 2000)]),
        ("rows", lambda m: [drawn(m, 3), 0.9, places(m, 2000)]),
        ("alignment", lambda m: [drawn(20_000 // m), drawn(m)]),
        ("sorted_by_swaps", lambda _m: [drawn(300), drawn(300)]),
        ("collected", lambda m: [drawn(m)]),
        ("strided", lambda m: [drawn(m + 1 - m % 2), 0.3]),
    ],
)
def test_the_reverse_copies_no_array_at_a_step(name: str, arguments: Callable[[int], list[Any]]):
    """2000 copies of 100,000 numbers would take a tenth of a second at the least."""
    names = tuple(CASES[name][0].split())
    transformed = dg.value_and_grad(getattr(PROGRAMS, name), wrt=names if len(names) > 1 else names[0])
    least = math.inf
    for m in (10, *[100_000 if name != "alignment" else 10_000] * 5):
        given = arguments(m)
        start = time.process_time()
        transformed(*given)
        least = min(least, time.process_time() - start) if m > 10 else math.inf
    assert least < 0.03


def test_what_counts_is_not_kept():
    graph = gradient("counted", "x")
    entries = [
        str(value.type)
        for node in walk(graph.region)
        for value in node.results
        if isinstance(value.type, Tape) and node.op.name == "while"
    ]
    assert not any("i32" in entry or "bool" in entry for entry in entries), entries


def test_noise_is_kept_or_its_key_or_nothing():
    def entries(name: str, price: float) -> list[str]:
        graph = gradient(name, "x w", price)
        return sorted(
            str(value.type) for node in walk(graph.region) for value in node.results if isinstance(value.type, Tape)
        )

    assert not any("key" in entry for entry in entries("noisy", 0.0) + entries("numbered", 0.0)), "nothing reads them"
    assert [entry for entry in entries("noisy", math.inf) if "key" in entry] == ["tape<key>"]
    assert not any("key" in entry for entry in entries("numbered", math.inf))
    arguments = [drawn(50), 0.1, np.uint64(3), 8]
    assert bytes_kept(gradient("noisy", "x w", math.inf), arguments) == 8 * (8 * 50 + 8), "the state and a key"
    assert bytes_kept(gradient("numbered", "x w", math.inf), arguments) == 8 * 8 * 50
