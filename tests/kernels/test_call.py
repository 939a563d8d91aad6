"""Filling tables from arguments: what fits and what does not, by native code and by plain Python, and from threads."""

from __future__ import annotations

import gc
import math
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dgraph.kernels import call, fill_code
from dgraph.kernels.call import FITS, ArraySpec, Checker, Pool, Workspace
from dgraph.kernels.load import load_object
from dgraph.kernels.native import compile_source

DTYPES = ["f32", "f64", "i32", "i64", "u8", "bool", "key"]


@pytest.fixture(params=["native", "python"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill tables by native code, then by plain Python."""
    if request.param == "python":
        monkeypatch.setattr(call, "native_fill", lambda: None)


def filled(specs: list[ArraySpec], arguments: tuple[Any, ...]) -> tuple[int, list[int], Workspace]:
    checker = Checker(specs)
    workspace = Workspace(checker.end)
    return checker.fill(workspace, arguments), list(workspace.words), workspace


def test_this_interpreter_has_the_expected_layout() -> None:
    assert fill_code.layout_is_known()
    assert fill_code.native_fill() is not None


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [1, 2, 5])
def test_an_array_gives_its_address_and_sizes(dtype: str, rank: int) -> None:
    spec = ArraySpec(dtype, rank)
    value = np.zeros(tuple(range(2, 2 + rank)), spec.numpy)
    status, words, _ = filled([spec], (value,))
    assert status == FITS
    assert words == [value.ctypes.data, *value.shape]


@pytest.mark.usefixtures("both_ways")
def test_arguments_follow_one_another() -> None:
    a, b = np.zeros((3, 0), np.float32), np.zeros(7, np.int64)
    status, words, workspace = filled([ArraySpec("f32", 2), ArraySpec("f64", 0), ArraySpec("i64", 1)], (a, 2.5, b))
    assert status == FITS
    assert words[:3] == [a.ctypes.data, 3, 0]
    assert workspace.floats[3] == 2.5
    assert words[4:] == [b.ctypes.data, 7]


@pytest.mark.usefixtures("both_ways")
def test_a_later_checker_fills_what_follows() -> None:
    first = Checker([ArraySpec("f32", 1)])
    second = Checker([ArraySpec("f64", 2)], first.end)
    workspace = Workspace(second.end)
    a, b = np.zeros(3, np.float32), np.zeros((4, 5))
    assert first.fill(workspace, (a,)) == FITS
    assert second.fill(workspace, (b,)) == FITS
    assert list(workspace.words) == [a.ctypes.data, 3, b.ctypes.data, 4, 5]


MISFITS: list[tuple[str, Any]] = [
    ("another dtype", np.zeros((2, 3), np.float64)),
    ("another rank", np.zeros(6, np.float32)),
    ("transposed", np.zeros((3, 2), np.float32).T),
    ("strided", np.zeros((2, 6), np.float32)[:, ::2]),
    ("swapped bytes", np.zeros((2, 3), np.dtype(np.float32).newbyteorder())),
    ("unaligned", np.zeros(25, np.uint8)[1:].view(np.float32).reshape(2, 3)),
    ("a list", [[1.0, 2.0, 3.0]]),
    ("a number", 1.0),
    ("nothing", None),
    ("a type", np.ndarray),
]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("value", [value for _, value in MISFITS], ids=[name for name, _ in MISFITS])
def test_what_does_not_fit_is_found(value: Any) -> None:
    good = np.zeros((2, 3), np.float32)
    specs = [ArraySpec("f32", 2)] * 3
    assert filled(specs, (good, value, good))[0] == 1
    assert filled(specs, (value, good, value))[0] == 0
    assert filled(specs, (good, good, value))[0] == 2


@pytest.mark.usefixtures("both_ways")
def test_a_misfit_does_not_spoil_the_next_call() -> None:
    checker = Checker([ArraySpec("f32", 1)] * 2)
    workspace = Workspace(checker.end)
    a, b = np.zeros(3, np.float32), np.zeros(4, np.float32)
    assert checker.fill(workspace, (a, None)) == 1
    assert checker.fill(workspace, (None, b)) == 0
    assert checker.fill(workspace, (a, b)) == FITS
    assert list(workspace.words) == [a.ctypes.data, 3, b.ctypes.data, 4]


class Subclass(np.ndarray):  # type: ignore[type-arg]
    """An array of another Python type."""


@pytest.mark.usefixtures("both_ways")
def test_subclasses_and_other_dtype_objects_fit() -> None:
    subclass = np.zeros((2, 3), np.float32).view(Subclass)
    renamed = np.zeros((2, 3), np.dtype(np.float32, metadata={"unit": "m"}))
    plain = np.zeros((2, 3), np.float32)
    status, words, _ = filled([ArraySpec("f32", 2)] * 3, (subclass, renamed, plain))
    assert status == FITS
    assert words == [subclass.ctypes.data, 2, 3, renamed.ctypes.data, 2, 3, plain.ctypes.data, 2, 3]


@pytest.mark.usefixtures("both_ways")
def test_the_number_of_arguments_is_checked() -> None:
    with pytest.raises(ValueError, match="2 arguments are expected, not 1"):
        filled([ArraySpec("f32", 1)] * 2, (np.zeros(3, np.float32),))


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("value", [0.0, -1.5, float("inf"), 3, np.float64(0.1), np.array(0.1)])
def test_doubles_are_passed_by_value(value: Any) -> None:
    status, _, workspace = filled([ArraySpec("f64", 0)], (value,))
    assert status == FITS
    assert workspace.floats[0] == value


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("value", [0.1, 3.4028235e38, 2, math.inf, np.float32(0.1), np.array(0.1, np.float32)])
def test_singles_are_rounded_and_passed_by_value(value: Any) -> None:
    status, _, workspace = filled([ArraySpec("f32", 0)], (value,))
    assert status == FITS
    assert workspace.single_floats[0] == np.float32(value)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("value", [1e39, -1e300, 10**39, 2.0**128 - 2.0**103])
def test_numbers_that_no_single_holds_are_not_made_infinite(value: float) -> None:
    assert filled([ArraySpec("f32", 0)], (value,))[0] == 0


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(
    ("dtype", "value", "word"),
    [
        ("i64", -(2**63), -(2**63)),
        ("i64", np.int64(-7), -7),
        ("i32", -1, 0xFFFFFFFF),
        ("u8", 255, 255),
        ("bool", True, 1),
        ("bool", np.False_, 0),
        ("key", 2**64 - 1, -1),
        ("key", np.uint64(5), 5),
    ],
)
def test_integers_are_passed_by_value(dtype: str, value: Any, word: int) -> None:
    status, words, _ = filled([ArraySpec(dtype, 0)], (value,))
    assert status == FITS
    assert words == [word]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("f64", True),
        ("f64", "1"),
        ("f64", np.float32(1)),
        ("f64", np.zeros(1)),
        ("f32", np.float64(1)),
        ("i32", 2**31),
        ("i32", 1.0),
        ("i32", np.int64(1)),
        ("i64", 2**63),
        ("i64", True),
        ("u8", -1),
        ("bool", 1),
        ("key", -1),
    ],
)
def test_numbers_of_other_types_do_not_fit(dtype: str, value: Any) -> None:
    assert filled([ArraySpec(dtype, 0)], (value,))[0] == 0


def test_a_workspace_is_collected_with_what_it_holds() -> None:
    checker = Checker([ArraySpec("f32", 1)])
    workspace = Workspace(checker.end, state_words=8, tape_rows=2)
    checker.fill(workspace, (np.zeros(3, np.float32),))
    gone = weakref.ref(workspace)
    del workspace
    gc.collect()
    assert gone() is None


SUM_SLOWLY = """
def entry(table: pointer_i64) -> i64:
    x = pointer_f64(load_i64(table, 0))
    n = load_i64(table, 1)
    scratch = pointer_f64(load_i64(table, 2))
    for i in range(n):
        store_f64(scratch, i, load_f64(x, i))
    for turn in range(20):
        for i in range(n):
            store_f64(scratch, i, load_f64(scratch, i) + load_f64(x, i))
    for i in range(n):
        if load_f64(scratch, i) != f64(21.0) * load_f64(x, i):
            return 1
    return 0
"""


def test_threads_never_share_a_workspace() -> None:
    native = load_object(compile_source(SUM_SLOWLY))
    checker = Checker([ArraySpec("f64", 1)])
    pool = Pool(lambda: Workspace(checker.end + 1))
    in_use: set[int] = set()
    scratch: dict[int, np.ndarray[Any, Any]] = {}
    shared = []

    def run(seed: int) -> int:
        values = np.floor(np.random.default_rng(seed).uniform(-100, 100, 5000))
        workspace = pool.take()
        if id(workspace) in in_use:
            shared.append(seed)
        in_use.add(id(workspace))
        assert checker.fill(workspace, (values,)) == FITS
        scratch.setdefault(id(workspace), np.empty_like(values))
        workspace.words[checker.end] = scratch[id(workspace)].ctypes.data
        status: int = native.call(workspace.address)
        in_use.discard(id(workspace))
        pool.give(workspace)
        return status

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(run, range(400)))
    assert statuses == [0] * 400
    assert shared == []


WORK = """
def entry(table: pointer_i64) -> i64:
    x = 0.5
    for i in range(load_i64(table, 0)):
        x = x * 3.7 * (1.0 - x)
    store_f64(pointer_f64(load_i64(table, 1)), 0, x)
    return 0
"""


def test_other_threads_run_during_a_native_call() -> None:
    native = load_object(compile_source(WORK))
    workspace = Workspace(2)
    workspace.words[0] = 30_000_000
    result = np.empty(1)
    workspace.words[1] = result.ctypes.data
    turns = []
    started, finished = threading.Event(), threading.Event()

    def count() -> None:
        started.set()
        while not finished.is_set():
            turns.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    started.wait()
    begin = time.perf_counter()
    native.call(workspace.address)
    end = time.perf_counter()
    finished.set()
    thread.join()
    assert sum(begin < turn < end for turn in turns) > 3
