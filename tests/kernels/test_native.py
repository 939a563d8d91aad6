"""Compiling source to object code, loading it here and in fresh processes, memory, tapes and matrix products."""

from __future__ import annotations

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dgraph.kernels import blas, native
from dgraph.kernels.call import Workspace
from dgraph.kernels.load import load_object
from dgraph.kernels.native import Route, compile_source

DTYPES = {"f32": np.float32, "f64": np.float64}
ROUTES: tuple[Route, ...] = ("direct", "numba")


def table(*words: Any) -> np.ndarray[Any, Any]:
    """A table of numbers and of the addresses of arrays, which the caller keeps alive."""
    return np.array([word.ctypes.data if isinstance(word, np.ndarray) else word for word in words], np.int64)


def execute(source: str, *words: Any) -> int:
    """The status of a program, compiled both ways; the second run starts from the same arrays."""
    row = table(*words)
    kept = [(word, word.copy()) for word in words if isinstance(word, np.ndarray)]
    results = []
    for route in ROUTES:
        for word, before in kept:
            word[...] = before
        status = load_object(compile_source(source, through=route)).call(row.ctypes.data)
        results.append((status, [word.tobytes() for word, _ in kept]))
    assert results[0] == results[1]
    return int(results[0][0])


SCALE = """
def kernel_scale(x: pointer_f32, y: pointer_f32, n: i64, factor: f32):
    for i in range(n):
        store_f32(y, i, factor * load_f32(x, i))

def entry(table: pointer_i64) -> i64:
    kernel_scale(pointer_f32(load_i64(table, 0)), pointer_f32(load_i64(table, 1)), load_i64(table, 2), f32(3.0))
    return 0
"""


def test_a_kernel_runs() -> None:
    x = np.arange(1001, dtype=np.float32)
    y = np.zeros_like(x)
    assert execute(SCALE, x, y, x.size) == 0
    np.testing.assert_array_equal(y, 3 * x)


def test_the_status_comes_back() -> None:
    source = "def entry(table: pointer_i64) -> i64:\n    return load_i64(table, 0) - 1\n"
    assert [execute(source, number) for number in (1, 43, 0, -(2**62))] == [0, 42, -1, -(2**62) - 1]


def test_control_flow_and_helpers() -> None:
    source = """
def collatz(n: i64) -> i64:
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps += 1
    return steps

def kernel_longest(limit: i64) -> i64:
    best = 0
    for n in range(1, limit):
        if n == 77:
            continue
        steps = collatz(n)
        if steps > best:
            best = steps
        if best > 1000:
            break
    for n in range(10, 0, -3):
        best += n
    return best

def entry(table: pointer_i64) -> i64:
    return kernel_longest(load_i64(table, 0))
"""
    assert execute(source, 100) == 118 + 10 + 7 + 4 + 1


def test_kernels_with_scalar_results_and_every_type() -> None:
    source = """
def kernel_f32(x: f32) -> f32:
    return x * f32(0.5)

def kernel_i32(x: i32, y: u8) -> i32:
    return add_i32(x, convert_u8_i32(y))

def kernel_bool(x: f64, y: bool) -> bool:
    return x > 0.0 and y

def kernel_pointer(x: pointer_f64) -> pointer_f64:
    return offset_f64(x, 2)

def entry(table: pointer_i64) -> i64:
    if kernel_f32(f32(3.0)) != f32(1.5):
        return 1
    if kernel_i32(i32(2147483647), u8(2)) != i32(-2147483647):
        return 2
    if not kernel_bool(1.0, True) or kernel_bool(1.0, False) or kernel_bool(nan_f64, True):
        return 3
    x = pointer_f64(load_i64(table, 0))
    if load_f64(kernel_pointer(x), 1) != 4.0:
        return 4
    if address_f64(kernel_pointer(x)) != load_i64(table, 0) + 16:
        return 5
    if -inf_f32 > f32(0.0) or inf_f64 < 1e308 or nan_f32 == nan_f32:
        return 6
    return 0
"""
    assert execute(source, np.array([1.0, 2.0, 3.0, 4.0])) == 0


def test_helpers_may_be_named_like_functions_of_the_c_library() -> None:
    source = """
def sin(x: f64) -> f64:
    return x + 100.0

def malloc(n: i64) -> i64:
    return n + 1

def entry(table: pointer_i64) -> i64:
    return malloc(convert_f64_i64(sin(sin_f64(1e300) * 0.0)))
"""
    assert execute(source) == 101


def test_operands_of_other_types_are_refused() -> None:
    source = "def entry(table: pointer_i64) -> i64:\n    x = {}\n    return 0\n"
    for wrong in ("exp_f32(1.0)", "add_i32(1, 2)", "load_f32(table, 0)", "exp_f64(f32(1.0))"):
        for route in ROUTES:
            with pytest.raises(Exception, match="takes"):
                compile_source(source.format(wrong), through=route)


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64", "u8", "bool"])
def test_memory_of_every_type(dtype: str) -> None:
    source = f"""
def kernel_reverse(x: pointer_{dtype}, y: pointer_{dtype}, n: i64):
    last = offset_{dtype}(y, n - 1)
    for i in range(n):
        store_{dtype}(last, -i, load_{dtype}(x, i))

def entry(table: pointer_i64) -> i64:
    x = pointer_{dtype}(load_i64(table, 0))
    y = pointer_{dtype}(load_i64(table, 1))
    kernel_reverse(x, y, load_i64(table, 2))
    fill_zero(address_{dtype}(x), load_i64(table, 3))
    copy_bytes(load_i64(table, 4), load_i64(table, 1), load_i64(table, 3))
    return 0
"""
    kind = {"f32": "f4", "f64": "f8", "i32": "i4", "i64": "i8", "u8": "u1", "bool": "?"}[dtype]
    x = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, 37).astype(kind)
    before, y, z = x.copy(), np.empty_like(x), np.empty_like(x)
    assert execute(source, x, y, x.size, x.nbytes, z) == 0
    np.testing.assert_array_equal(y, before[::-1])
    np.testing.assert_array_equal(z, y)
    assert not x.any()


def test_tapes_grow_and_keep_their_entries() -> None:
    source = """
def entry(table: pointer_i64) -> i64:
    row = pointer_i64(load_i64(table, 0))
    n = load_i64(table, 1)
    top = 0
    for i in range(n):
        size = i % 7 + 1
        base = tape_reserve(row, 8 * (top + size))
        if base == 0:
            return -1
        for j in range(size):
            store_i64(pointer_i64(base), top + j, i * 10 + j)
        top = top + size
    for back in range(n):
        i = n - 1 - back
        size = i % 7 + 1
        top = top - size
        for j in range(size):
            if load_i64(pointer_i64(load_i64(row, 0)), top + j) != i * 10 + j:
                return i + 1
    if load_i64(row, 0) % 64 != 0:
        return -2
    base = tape_reserve(row, 100)
    if base != load_i64(row, 0):
        return -3
    if tape_reserve(row, 10 * load_i64(row, 1)) != load_i64(row, 0):
        return -4
    return 0
"""
    workspace = Workspace(2, state_words=4, tape_rows=1)
    workspace.words[0], workspace.words[1] = workspace.state_address, 20_000
    loaded = load_object(compile_source(source))
    assert loaded.call(workspace.address) == 0
    assert workspace.state[1] >= 10 * 20_000 * 4 * 8
    assert workspace.state[2] == 0
    assert loaded.call(workspace.address) == 0


def test_a_tape_without_memory_says_so() -> None:
    source = """
def entry(table: pointer_i64) -> i64:
    return tape_reserve(pointer_i64(load_i64(table, 0)), 1 << 61)
"""
    row = np.zeros(4, np.int64)
    assert execute(source, row) == 0


def gemm_source(dtype: str) -> str:
    return f"""
def entry(table: pointer_i64) -> i64:
    scalars = pointer_{dtype}(load_i64(table, 6))
    a = pointer_{dtype}(load_i64(table, 7))
    b = pointer_{dtype}(load_i64(table, 8))
    c = pointer_{dtype}(load_i64(table, 9))
    gemm_{dtype}(
        load_i64(table, 0), load_i64(table, 1), load_i64(table, 2), load_i64(table, 3), load_i64(table, 4),
        load_{dtype}(scalars, 0), a, load_i64(table, 5), b, load_i64(table, 10), load_{dtype}(scalars, 1), c,
        load_i64(table, 11))
    return 0
"""


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrix_products(dtype: str) -> None:
    loaded = load_object(compile_source(gemm_source(dtype)))
    random = np.random.default_rng(0)
    kind = DTYPES[dtype]
    sizes = [(3, 4, 5), (1, 1, 1), (17, 1, 9), (1, 33, 2), (40, 30, 0), (0, 3, 4), (3, 0, 4), (64, 48, 80)]
    for (m, n, k), trans_a, trans_b, beta in itertools.product(sizes, (0, 1), (0, 1), (0.0, 1.0, -0.5)):
        a = random.normal(size=(k, m) if trans_a else (m, k)).astype(kind)
        b = random.normal(size=(n, k) if trans_b else (k, n)).astype(kind)
        c = random.normal(size=(m, n)).astype(kind)
        expected = 2 * (a.T if trans_a else a) @ (b.T if trans_b else b) + (beta * c if beta else 0)
        if beta == 0:
            c[:] = np.nan  # must not be read
        scalars = np.array([2.0, beta], kind)
        lda, ldb = a.shape[1], b.shape[1]
        row = table(trans_a, trans_b, m, n, k, lda, scalars, a, b, c, ldb, n)
        assert loaded.call(row.ctypes.data) == 0
        np.testing.assert_allclose(c, expected, rtol=1e-5 if dtype == "f32" else 1e-13, atol=np.finfo(kind).eps * 100)


def test_both_places_of_the_blas_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert blas.address("sgemm") != 0
    found = blas._from_scipy("dgemm")
    monkeypatch.setattr(blas, "address", lambda _: found)
    a, b = np.random.default_rng(0).normal(size=(2, 5, 5))
    c = np.empty((5, 5))
    assert execute(gemm_source("f64"), 0, 0, 5, 5, 5, 5, np.array([1.0, 0.0]), a, b, c, 5, 5) == 0
    np.testing.assert_allclose(c, a @ b)


def test_loops_use_the_widest_vectors_of_the_machine() -> None:
    source = """
def kernel_0(x: pointer_f32, w: pointer_f32, y: pointer_f32, n: i64, m: i64):
    for i in range(1, n - 1):
        for j in range(1, m - 1):
            v = load_f32(x, (i - 1) * m + j) + load_f32(x, (i + 1) * m + j) - load_f32(x, i * m + j - 1)
            store_f32(y, i * m + j, tanh_f32(v) * sin_f32(v) + select_f32(v > f32(0.0), load_f32(w, j), v))

def kernel_1(x: pointer_f32, n: i64) -> f32:
    best = -inf_f32
    for i in range(n):
        best = maximum_f32(best, load_f32(x, i))
    return best

def entry(table: pointer_i64) -> i64:
    x = load_i64(table, 0)
    y = load_i64(table, 1)
    kernel_0(pointer_f32(x), pointer_f32(x), pointer_f32(y), load_i64(table, 2), load_i64(table, 3))
    store_f32(pointer_f32(y), 0, kernel_1(pointer_f32(x), load_i64(table, 2)))
    return 0
"""
    text = native.llvm_text(source)
    widths = {int(width) for width in re.findall(r"<(\d+) x float>", text)}
    assert max(widths) >= 4
    assert re.search(r"call <\d+ x float> @dgraph.sin_f32.x\d+", text)
    assert re.search(r"@llvm.maximum.v\d+f32", text)
    assert "memcheck" not in text


def test_object_code_needs_no_symbols_but_those_of_the_process() -> None:
    source = """
def entry(table: pointer_i64) -> i64:
    numbers = pointer_f64(address_i64(table))
    x = load_f64(numbers, 0)
    y = pow_f64(x, 2.5) + lgamma_f64(x) + sin_f64(x) + mod_f64(x, 0.7) + tanh_f64(x)
    store_f64(numbers, 1, y)
    fill_zero(load_i64(table, 2), tape_reserve(pointer_i64(load_i64(table, 3)), 16))
    return 0
"""
    text = native.llvm_text(source)
    declared = set(re.findall(r"declare [^@]*@([\w.]+)\(", text)) | set(
        re.findall(r"^@([\w.]+) = external", text, re.M)
    )
    outside = {name for name in declared if not name.startswith("llvm.")}
    assert outside <= {"pow", "lgamma", "sin", "fmod", "memmove", "memset", "PyMem_RawRealloc"}


def test_a_call_keeps_its_code_alive() -> None:
    source = "def entry(table: pointer_i64) -> i64:\n    return {}\n"
    calls = [load_object(compile_source(source.format(number))).call for number in range(3)]
    assert [call(0) for call in calls] == [0, 1, 2]


def test_programs_are_compiled_and_run_by_several_threads() -> None:
    def work(number: int) -> int:
        source = f"""
def kernel_{number}(n: i64) -> f64:
    total = 0.0
    for i in range(n):
        total += exp_f64(convert_i64_f64(i) * 0.0) * {float(number)}
    return total

def entry(table: pointer_i64) -> i64:
    return convert_f64_i64(kernel_{number}(load_i64(table, 0)))
"""
        return execute(source, 1000)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(8))) == [1000 * number for number in range(8)]
