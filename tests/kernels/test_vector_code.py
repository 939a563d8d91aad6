"""Loops whose turns go several at a time: the same bits as turn by turn, on both routes, whatever is done in them."""

from __future__ import annotations

import ast
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from dgraph.kernels import native
from dgraph.kernels.load import NativeEntry, load_object
from dgraph.kernels.native import compile_source
from dgraph.kernels.vector_plan import Plan, plan_of

PROGRAM = """
def kernel_0(
    x: pointer_f64, y: pointer_f64, s: pointer_f32, c: pointer_i64, b: pointer_bool, total: pointer_f64, n: i64, m: i64
):
    for i in lanes_{lanes}(n):
{body}


def entry(table: pointer_i64) -> i64:
    x = pointer_f64(load_i64(table, 0))
    y = pointer_f64(load_i64(table, 1))
    s = pointer_f32(load_i64(table, 2))
    c = pointer_i64(load_i64(table, 3))
    b = pointer_bool(load_i64(table, 4))
    total = pointer_f64(load_i64(table, 5))
    kernel_0(x, y, s, c, b, total, load_i64(table, 6), load_i64(table, 7))
    return 0
"""
BODIES = {
    "rows of entries": """
store_f64(y, i, exp_f64(load_f64(x, i)) * 2.0 + tanh_f64(load_f64(x, i + n)))
store_f32(s, i, sin_f32(load_f32(s, i)) + convert_f64_f32(load_f64(x, i)))
store_bool(b, i, xor_bool(load_bool(b, i), load_f64(x, i) < 0.5))
store_i64(c, i, load_i64(c, i) * 3 - i)
""",
    "entries at a distance": """
store_f64(y, 3 * i + 1, load_f64(x, i * m + 2) - load_f64(x, i * 5))
store_f32(s, 2 * i, load_f32(s, 2 * i) + f32(1.0))
store_f64(y, 3 * i, load_f64(x, 2 * n - i))
""",
    "entries anywhere": """
store_f64(y, load_i64(c, i), load_f64(x, load_i64(c, i) * m + i % 3))
""",
    "one number for all": """
t = load_f64(x, m) * load_f64(x, 2)
k = m + 3
store_f64(y, i, load_f64(x, i + k) - t)
""",
    "sums that stay in registers": """
best = inf_f64
for j in range(m):
    sum_ = 0.0
    for k in range(3):
        d = load_f64(x, i * 3 + k) - load_f64(total, j * 3 + k)
        sum_ = sum_ + d * d
    best = minimum_f64(best, sum_)
store_f64(y, i, best)
for k in range(m - 1, -1, -1):
    store_f64(y, k * n + i, load_f64(y, k * n + i) + best)
""",
    "sides of a choice": """
v = load_f64(x, i)
t = 1.0
if v > 0.6:
    u = v * 2.0
    t = load_f64(x, i + n) + u
    if v > 0.9:
        t = t * 3.0
    store_f64(y, 2 * i, u)
else:
    if load_i64(c, i) > 3:
        t = load_f64(x, load_i64(c, i))
    for k in range(m):
        t = t * 0.5 + load_f64(x, k)
store_f64(y, 2 * i + 1, t)
""",
    "a choice that is the same for all": """
t = load_f64(x, i)
if m > 2:
    t = t * 2.0
else:
    t = -t
if load_f64(x, 0) > 0.5:
    w = load_f64(x, 1)
    t = t + w
store_f64(y, i, t)
""",
    "choices of an index": """
k = i + 1
if load_f64(x, i) > 0.5:
    k = 0
store_f64(y, i, load_f64(x, k))
store_i64(c, i, k)
""",
    "loops that lanes leave at different turns": """
v = load_f64(x, i)
steps = 0
while True:
    w = v * v
    if not_bool(w > 1e-3):
        break
    v = v * 0.75
    steps = steps + 1
    last = w
    if v > 0.4:
        while True:
            v = v - 0.01
            if v < 0.35:
                break
store_f64(y, i, v)
store_i64(c, i, steps)
""",
    "a loop that none enters": """
v = load_f64(x, i)
while True:
    if v < 5.0:
        break
    v = load_f64(x, 1000000000000)
store_f64(y, i, v)
""",
    "what lanes share": """
k = load_i64(c, i)
store_f64(total, k, load_f64(total, k) + load_f64(x, i))
store_f64(total, 9, load_f64(total, 9) + 0.1)
if load_f64(x, i) > 0.5:
    store_f64(total, k + 10, maximum_f64(load_f64(total, k + 10), load_f64(x, i)))
    store_f64(total, 8, load_f64(total, 8) * load_f64(x, i))
store_f64(y, i, 1.0)
""",
    "powers and divisions": """
v = load_f64(x, i)
store_f64(y, i, powi_f64(v, 3) + powi_f64(v, -m) + pow_f64(v, 2.5) + mod_f64(v, 0.3))
store_f64(y, i + n, powi_f64(v, load_i64(c, i) - 2))
store_i64(c, i, floor_div_i64(load_i64(c, i) - 4, i % 3 - 1) + mod_i64(i, m) + floor_div_i64(i, 3))
""",
    "small arrays of turns": """
v = load_f64(x, i)
store_f64(y, i * 11, v)
store_f64(y, i * 11 + 1, v + 1.0)
store_f64(y, i * 11 + 2, v * v)
store_f64(y, i * 11 + 3, load_f64(x, load_i64(c, i) * 3 + 2))
store_f64(y, i * 11 + 4, 0.5)
store_f64(y, i * 11 + 5, -v)
store_f64(y, i * 11 + 6, load_f64(x, i * 3 + 1))
store_f64(y, i * 11 + 7, 7.0)
store_f64(y, i * 11 + 8, load_f64(x, load_i64(c, i) * 3 + 1))
store_f64(y, i * 11 + 9, v - 2.0)
store_f32(s, i * (m + 3), f32(0.25))
store_f32(s, i * (m + 3) + 1, convert_f64_f32(v))
store_f32(s, i * (m + 3) + 2, convert_f64_f32(-v))
store_f32(s, i * (m + 3) + 3, f32(1.0))
for k in range(2):
    store_bool(b, i * 8 + k * 4, v > 0.25)
    store_bool(b, i * 8 + k * 4 + 1, v > 0.5)
    store_bool(b, i * 8 + k * 4 + 2, True)
    store_bool(b, i * 8 + k * 4 + 3, v > 0.75)
""",
    "entries read again": """
k = load_i64(c, i)
t = load_f64(total, k * 2 + 1)
if t > 0.5:
    t = t + load_f64(total, k * 2 + 1) + load_f64(total, 3 * i + 600)
else:
    t = t * load_f64(total, k * 2 + 2)
for j in range(m):
    t = t + load_f64(total, k * 2 + 2) * load_f64(total, i * 2 + j)
store_f64(y, 2 * i, t + load_f64(total, k * 2 + 2))
""",
    "the place among the lanes": """
store_f64(y, m * {lanes} + mod_i64(i, {lanes}), load_f64(x, i) * 2.0)
store_f64(x, i, load_f64(y, m * {lanes} + mod_i64(i, {lanes})) + 1.0)
""",
    "sums of rows": """
store_f64(y, i, load_f64(y, i) + sum_f64(offset_f64(x, i * 32), m * 8))
store_f64(y, i + n, sum_f64(offset_f64(x, i * 16), 4 + 4 * m))
store_f32(s, i + 400, load_f32(s, i) + sum_f32(offset_f32(s, i * 16), 4 + 4 * m))
""",
    "turns that lanes count together": """
v = load_f64(x, i)
k = load_i64(c, i)
turn = 0
room = 0
steps = 0
while True:
    if not_bool(turn < k):
        break
    if turn == room:
        room = room * 2 + 2
        p = offset_f64(y, m)
    store_f64(p, turn * {lanes} + mod_i64(i, {lanes}), v)
    store_i64(c, 700 + turn, turn + m)
    v = v * 1.5 + convert_i64_f64(load_i64(c, 700 + turn) + room)
    turn = turn + 1
    steps = steps + 1
q = offset_f64(y, m)
for t in range(most_i64(steps) - 1, -1, -1):
    if t < steps:
        v = v - load_f64(q, t * {lanes} + mod_i64(i, {lanes})) * 0.5
store_f64(x, i, v)
""",
    "arithmetic on indices": """
a = (i + 2) * m - i
e = -(3 - i) * 2
store_f64(y, i, convert_i64_f64(a * e) + convert_i64_f64(i) + f64(i + 1))
if i < 2:
    store_f64(y, i + 2 * n, convert_i64_f64(e))
if and_bool(a > e, i >= m):
    store_f64(y, i + 3 * n, 1.0)
""",
}


ROOM = 800


def arguments_for(name: str, n: int) -> list[np.ndarray]:
    """Rows of numbers; the whole ones are small, or all different where lanes must not meet."""
    random = np.random.default_rng(n)
    places = random.integers(0, 8, ROOM)
    if name == "entries anywhere":
        places[:n] = random.permutation(n)
    floats = [random.random(ROOM) for _ in range(3)]
    return [floats[0], floats[1], random.random(ROOM).astype(np.float32), places, random.random(ROOM) > 0.5, floats[2]]


def call(entry: NativeEntry, arrays: list[np.ndarray], n: int, m: int) -> list[np.ndarray]:
    """The arrays after a call."""
    arrays = [array.copy() for array in arrays]
    table = np.array([*(array.ctypes.data for array in arrays), n, m], np.int64)
    assert entry.call(table.ctypes.data) == 0
    return arrays


def source_of(name: str, lanes: int) -> str:
    body = BODIES[name].format(lanes=lanes).strip().splitlines()
    return PROGRAM.format(lanes=lanes, body="\n".join(f"        {line}" for line in body))


def plan_in(source: str) -> Plan | None:
    """What is known about the loop of the first function."""
    (function, *_) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    (loop,) = [node for node in function.body if isinstance(node, ast.For)]
    return plan_of(function, loop)


@pytest.mark.parametrize(
    ("name", "lanes"),
    [
        *((name, 8) for name in BODIES),
        ("sides of a choice", 16),
        ("what lanes share", 32),
        ("small arrays of turns", 16),
    ],
)
def test_lanes_do_what_turns_do(name: str, lanes: int) -> None:
    source = source_of(name, lanes)
    assert plan_in(source) is not None
    direct, numba = (load_object(compile_source(source, through=route)) for route in ("direct", "numba"))
    for n, m in ((0, 3), (1, 3), (lanes - 1, 4), (lanes, 3), (2 * lanes + 5, 2)):
        arrays = arguments_for(name, n)
        for one, other in zip(call(direct, arrays, n, m), call(numba, arrays, n, m), strict=True):
            np.testing.assert_array_equal(one, other)


REFUSED = {
    "a total of all turns": """
total = 0.0
for i in lanes_8(n):
    total = total + convert_i64_f64(i)
""",
    "a number that is read afterwards": """
for i in lanes_8(n):
    k = i * i
n = k
""",
    "bounds that differ": """
for i in lanes_8(n):
    for j in range(i):
        store_i64(x, i, j)
""",
    "one place for all": """
for i in lanes_8(n):
    store_i64(x, 3, i)
""",
    "an exit": """
for i in lanes_8(n):
    if i > 3:
        return 1
""",
    "a break in a choice": """
for i in lanes_8(n):
    while True:
        if i > 3:
            k = 1
            break
""",
    "an exit of some": """
for i in lanes_8(n):
    while True:
        if load_i64(x, i) > 3:
            break
        if load_i64(x, i + n) > 3:
            return 1
""",
    "a number of turns that is read afterwards": """
for i in lanes_8(n):
    k = 0
    while True:
        if load_i64(x, i) < k:
            break
        k = k + 1
    for j in range(k):
        store_i64(x, i, j)
""",
    "a sum in a row": """
for i in lanes_8(n):
    store_f64(pointer_f64(x), i, sum_f64(pointer_f64(x), 3))
""",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_goes_turn_by_turn(name: str) -> None:
    lines = "\n".join(f"    {line}" for line in REFUSED[name].strip().splitlines())
    assert plan_in(f"def kernel_0(x: pointer_i64, n: i64):\n{lines}\n") is None


@pytest.fixture
def avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code for a processor with half as long registers and no masks in its instructions."""

    native._new_machine()  # makes LLVM ready

    def machine() -> Any:
        target = llvm.Target.from_triple(llvm.get_process_triple())
        return target.create_target_machine(cpu="x86-64-v3", features="", opt=3, reloc="pic", jit=True)

    monkeypatch.setattr(native, "_machine", machine)


@pytest.mark.usefixtures("avx2")
@pytest.mark.skipif(not llvm.get_host_cpu_features().get("avx2", False), reason="this processor has no AVX2")
@pytest.mark.parametrize(
    "name", ["sides of a choice", "rows of entries", "sums of rows", "what lanes share", "small arrays of turns"]
)
def test_shorter_registers_give_the_same_bits(name: str) -> None:
    source = source_of(name, 8)
    short = load_object(compile_source(source))
    assert b"zmm" not in llvm_assembly(source).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_machine", native._new_machine)
        host = load_object(compile_source(source))
    for n, m in ((3, 3), (21, 2)):
        arrays = arguments_for(name, n)
        for one, other in zip(call(short, arrays, n, m), call(host, arrays, n, m), strict=True):
            np.testing.assert_array_equal(one, other)


def llvm_assembly(source: str) -> str:
    """The machine code of a program as text."""
    return str(native._machine().emit_assembly(native.optimised_module(source)))
