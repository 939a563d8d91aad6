"""Matrix products on register tiles: against NumPy, and against sums that are added one product at a time."""

from __future__ import annotations

import ctypes
import functools
import itertools

import numpy as np
import pytest

from dgraph.kernels import product_library
from dgraph.kernels.cache import Cache
from dgraph.kernels.load import load_object
from dgraph.kernels.native import compile_lightly, compile_source
from dgraph.kernels.processor import Processor, this_processor
from dgraph.kernels.product_source import DEPTH, product_source
from dgraph.kernels.product_symbols import TRIANGLES

KINDS = {"f32": np.float32, "f64": np.float64}
PROCESSORS = {"this": this_processor(), "32 bytes": Processor(32, 16), "16 bytes": Processor(16, 32)}


@functools.cache
def kernel(kind: str, type_name: str, processor: str = "this"):
    loaded = load_object(compile_lightly(product_source(kind, type_name, PROCESSORS[processor])))
    operands = 18 if kind == "nested" else 14
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * operands)(loaded.address)
    function.engine = loaded.engine
    return function


def multiply(function, a, b, c, adds=0, shift=0, more=0) -> None:
    """Run on matrices with any strides; the columns of c lie side by side."""
    width = a.itemsize
    (a_row, a_k), (b_k, b_column), (c_row, _) = ([step // width for step in x.strides] for x in (a, b, c))
    function(
        *(a.shape[0], b.shape[1], a.shape[1]),
        *(a.ctypes.data, a_row, a_k, b.ctypes.data, b_k, b_column, c.ctypes.data, c_row, adds, shift, more),
    )


def laid(rng, rows: int, columns: int, kind: type, layout: str) -> np.ndarray:
    """A matrix in a layout, in the middle of not-a-numbers that must not be read for a result."""
    tall, wide = (columns, rows) if layout == "turned" else (rows, columns)
    step = 3 if layout == "apart" else 1
    held = np.full((tall + 2, step * wide + 5), np.nan, kind)
    inner = held[1 : tall + 1, 2 : 2 + step * wide : step]
    inner[:] = rng.normal(size=inner.shape)
    return inner.T if layout == "turned" else inner


def counted(triangle: str, m: int, n: int, depth: int, shift: int, more: int) -> np.ndarray:
    """Which products count."""
    if triangle == "whole":
        return np.ones((m, n, depth), bool)
    i, j, k = np.ogrid[:m, :n, :depth]
    low, high = {"columns": (k, j), "rows": (k, i), "corner": (j, i)}[triangle]
    return np.broadcast_to((low < high + shift) != bool(more), (m, n, depth))


def expected(triangle: str, a, b, c, adds: int, shift: int, more: int) -> np.ndarray:
    m, depth = a.shape
    wanted = counted(triangle, m, b.shape[1], max(depth, 1), shift, more)
    terms = np.where(wanted[:, :, :depth], a.astype(float)[:, None, :] * b.astype(float).T[None], 0.0)
    sums = terms.sum(axis=2) + (c if adds else 0)
    return np.where(wanted[:, :, 0], sums, c) if triangle == "corner" else sums


def check(function, kind: type, triangle: str, m: int, n: int, depth: int, layouts, *facts: int) -> None:
    adds, shift, more = facts
    rng = np.random.default_rng(m * 1000 + n * 50 + depth)
    a, b = laid(rng, m, depth, kind, layouts[0]), laid(rng, depth, n, kind, layouts[1])
    held = rng.normal(size=(m + 2, n + 7)).astype(kind)
    c = held[1 : m + 1, 3 : 3 + n]
    wanted = held.copy()
    wanted[1 : m + 1, 3 : 3 + n] = expected(triangle, a, b, c, adds, shift, more)
    multiply(function, a, b, c, adds, shift, more)
    np.testing.assert_allclose(held, wanted, rtol=0, atol=np.finfo(kind).eps * 8 * (depth + 2))
    outside = np.ones(held.shape, bool)
    outside[1 : m + 1, 3 : 3 + n] = False
    np.testing.assert_array_equal(held[outside], wanted[outside])


LAYOUTS = ("rows", "turned", "apart")


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("type_name", KINDS)
def test_every_small_shape(type_name: str, processor: str) -> None:
    function = kernel("whole", type_name, processor)
    kind = KINDS[type_name]
    layouts = itertools.cycle(itertools.product(LAYOUTS, LAYOUTS, (0, 1)))
    for m, n, depth in itertools.product(range(21), range(21), (0, 1, 2, 5, 11, 20)):
        *pair, adds = next(layouts)
        check(function, kind, "whole", m, n, depth, pair, adds, 0, 0)


@pytest.mark.parametrize("type_name", KINDS)
def test_shapes_of_several_tiles_and_blocks(type_name: str) -> None:
    function = kernel("whole", type_name)
    sizes = [
        (1, 130, 3),
        (30, 70, 40),
        (5, 49, 2 * DEPTH + 7),
        (DEPTH + 3, 25, 9),
        (61, 97, DEPTH),
        (200, 61, DEPTH + 1),
    ]
    for (m, n, depth), one, other, adds in itertools.product(sizes, LAYOUTS, LAYOUTS, (0, 1)):
        check(function, KINDS[type_name], "whole", m, n, depth, (one, other), adds, 0, 0)


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("triangle", TRIANGLES[1:])
@pytest.mark.parametrize("type_name", KINDS)
def test_triangles(type_name: str, triangle: str, processor: str) -> None:
    function = kernel(triangle, type_name, processor)
    sizes = [(3, 4, 5), (1, 1, 1), (17, 5, 17), (12, 12, 12), (6, 40, 20), (30, 30, 70), (20, 50, DEPTH + 30)]
    cases = itertools.product(sizes, (-20, -3, 0, 1, 9, DEPTH), (0, 1))
    layouts = itertools.cycle(itertools.product(LAYOUTS, LAYOUTS, (0, 1)))
    for ((m, n, depth), shift, more), (*pair, adds) in zip(cases, layouts, strict=False):
        check(function, KINDS[type_name], triangle, m, n, depth, pair, adds, shift, more)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("triangle", ["columns", "rows"])
def test_what_lies_outside_of_a_triangle_does_not_count(triangle: str, bad: float) -> None:
    for size, more in itertools.product((1, 7, 10, 33), (0, 1)):
        rng = np.random.default_rng(size)
        a, b = rng.normal(size=(2, size, size))
        counts = counted(triangle, size, size, size, 0, more)
        triangular = a if triangle == "rows" else b
        inside = counts[:, 0, :] if triangle == "rows" else counts[0].T
        full, c = triangular.copy(), np.empty((size, size))
        triangular[~inside] = bad
        full[~inside] = 0.0
        multiply(kernel(triangle, "f64"), a, b, c, 0, 0, more)
        np.testing.assert_allclose(c, (full if triangle == "rows" else a) @ (b if triangle == "rows" else full))


@pytest.mark.parametrize("type_name", KINDS)
@pytest.mark.parametrize("triangle", TRIANGLES)
def test_sums_are_added_in_one_order_whatever_the_tiles(triangle: str, type_name: str) -> None:
    library = ctypes.CDLL(None)
    fma = library.fmaf if type_name == "f32" else library.fma
    number = ctypes.c_float if type_name == "f32" else ctypes.c_double
    fma.restype, fma.argtypes = number, [number] * 3
    m, n, depth = 14, 37, DEPTH + 5
    rng = np.random.default_rng(7)
    a, b, start = (rng.normal(size=shape).astype(KINDS[type_name]) for shape in ((m, depth), (depth, n), (m, n)))
    counts = counted(triangle, m, n, depth, 2, 1)
    wanted = start.copy()
    for i, j in itertools.product(range(m), range(n)):
        if triangle == "corner" and not counts[i, j, 0]:
            continue
        for block in range(0, depth, DEPTH):
            total = 0.0
            for k in range(block, min(depth, block + DEPTH)):
                total = fma(a[i, k], b[k, j], total) if counts[i, j, k] else total
            wanted[i, j] = wanted[i, j] + wanted.dtype.type(total)
    for processor in PROCESSORS:
        c = start.copy()
        multiply(kernel(triangle, type_name, processor), a, b, c, 1, 2, 1)
        np.testing.assert_array_equal(c, wanted)


def multiply_runs(function, a, b, c, adds=0) -> None:
    """Run on `a[run, row, run, k]`, `b[run, k, column]` and `c[run, row, column]`, whose columns lie side by side."""
    (runs, row_run, k_runs, k_run), width = a.shape, a.itemsize
    (a_leap, a_row, a_jump, a_k), (b_jump, b_k, b_column), (c_leap, c_row, _) = (
        [step // width for step in x.strides] for x in (a, b, c)
    )
    function(
        *(runs * row_run, b.shape[2], k_runs * k_run, a.ctypes.data, a_row, a_k, b.ctypes.data, b_k, b_column),
        *(c.ctypes.data, c_row, adds, row_run, a_leap, c_leap, k_run, a_jump, b_jump),
    )


def in_sand(rng, shape, order, kind: type) -> np.ndarray:
    """An array whose axes lie in an order, among not-a-numbers that must not be read for a result."""
    held = np.full([shape[axis] + 3 for axis in order], np.nan, kind)
    inner = held[tuple(slice(1, 1 + shape[axis]) for axis in order)]
    inner[:] = rng.normal(size=inner.shape)
    return inner.transpose(np.argsort(order))


RUNS = [
    (1, 1, 1, 1, 1),
    (3, 5, 2, 3, 6),
    (2, 24, 5, 5, 17),
    (4, 3, 3, 100, 50),
    (1, 30, 2, DEPTH + 9, 33),
    (7, 1, 9, 1, 3),
]
RUNS += [
    (30, 10, 2, 7, 20),
    (11, 20, 3, 90, 61),
    (0, 3, 2, 2, 4),
    (2, 0, 2, 2, 4),
    (2, 3, 0, 2, 4),
    (2, 3, 2, 0, 4),
    (2, 3, 2, 2, 0),
]


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("type_name", KINDS)
def test_rows_and_sums_in_runs(type_name: str, processor: str) -> None:
    function, kind = kernel("nested", type_name, processor), KINDS[type_name]
    rng = np.random.default_rng(5)
    orders = itertools.cycle(
        itertools.product(((0, 1, 2, 3), (2, 3, 0, 1), (3, 0, 2, 1)), ((0, 1, 2), (2, 0, 1), (1, 2, 0)))
    )
    for (runs, row_run, k_runs, k_run, n), adds, _ in itertools.product(RUNS, (0, 1), range(5)):
        one, other = next(orders)
        a = in_sand(rng, (runs, row_run, k_runs, k_run), one, kind)
        b = in_sand(rng, (k_runs, k_run, n), other, kind)
        c = in_sand(rng, (runs, row_run, n), (0, 1, 2), kind)
        wanted = c.base.copy()
        wanted[1 : runs + 1, 1 : row_run + 1, 1 : n + 1] = np.einsum("rsqk,qkj->rsj", a, b) + (c if adds else 0)
        multiply_runs(function, a, b, c, adds)
        np.testing.assert_allclose(c.base, wanted, rtol=0, atol=np.finfo(kind).eps * 8 * (k_runs * k_run + 2))


@pytest.mark.parametrize("type_name", KINDS)
def test_runs_have_the_bits_of_one_range(type_name: str) -> None:
    rng = np.random.default_rng(6)
    for runs, row_run, k_runs, k_run, n in RUNS:
        m, depth = runs * row_run, k_runs * k_run
        a, b, c = (rng.normal(size=shape).astype(KINDS[type_name]) for shape in ((m, depth), (depth, n), (m, n)))
        wanted = c.copy()
        multiply(kernel("whole", type_name), a, b, wanted, 1)
        for processor in PROCESSORS:
            found = c.copy()
            split = (
                a.reshape(runs, row_run, k_runs, k_run),
                b.reshape(k_runs, k_run, n),
                found.reshape(runs, row_run, n),
            )
            multiply_runs(kernel("nested", type_name, processor), *split, 1)
            np.testing.assert_array_equal(found, wanted)


def test_the_optimiser_and_numba_keep_every_bit() -> None:
    rng = np.random.default_rng(3)
    a, b, quick, slow = rng.normal(size=(4, 29, 29))
    multiply(kernel("whole", "f64"), a, b, quick)
    for route in ("direct", "numba"):
        source = product_source("whole", "f64", this_processor())
        loaded = load_object(compile_source(source, route))
        function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 14)(loaded.address)
        multiply(function, a, b, slow)
        np.testing.assert_array_equal(quick, slow)


def test_object_code_is_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Cache, "default", classmethod(lambda cls: cls(tmp_path)))
    code_of = product_library.code_of.__wrapped__
    first = code_of("whole_f32")
    assert len(list(tmp_path.glob("??/*"))) == 1
    monkeypatch.setattr(product_library, "_compiled", lambda kind: pytest.fail(kind))
    assert code_of("whole_f32") == first
