"""Object code in memory: by our own loader and by LLVM's, with the same results."""

import ctypes
import platform
import struct
import sys

import numpy as np
import pytest

from dgraph.kernels import load
from dgraph.kernels.elf import image_of
from dgraph.kernels.load import load_object
from dgraph.kernels.native import compile_source, compile_text

HERE = sys.platform == "linux" and platform.machine() == "x86_64"
PROGRAM = """
def kernel_0(x: pointer_f64, y: pointer_f64, n: i64):
    for i in lanes_8(n):
        store_f64(y, i, exp_f64(load_f64(x, i)) + sin_f64(load_f64(x, i) * 3.25))


def entry(table: pointer_i64) -> i64:
    n = load_i64(table, 2)
    kernel_0(pointer_f64(load_i64(table, 0)), pointer_f64(load_i64(table, 1)), n)
    return n
"""
DOUBLED = """
@base = external global i8
declare i64 @labs(i64)

define i64 @entry(ptr %table) {
  %number = load i64, ptr %table
  %size = call i64 @labs(i64 %number)
  %sum = add i64 %size, ptrtoint (ptr @base to i64)
  ret i64 %sum
}
"""


@pytest.fixture(params=["own", "LLVM's"])
def loader(request, monkeypatch):
    if request.param == "LLVM's":
        monkeypatch.setattr(load, "image_of", lambda _code, _address_of: None)
    elif not HERE:
        pytest.skip("our own loader is for Linux on x86-64")
    return request.param


def test_code_with_constants_runs_from_either_loader(loader):
    x = np.linspace(-30.0, 30.0, 1003)
    y = np.zeros_like(x)
    table = np.array([x.ctypes.data, y.ctypes.data, len(x)], np.int64)
    entry = load_object(compile_source(PROGRAM))
    assert entry.call(table.ctypes.data) == len(x)
    np.testing.assert_allclose(y, np.exp(x) + np.sin(x * 3.25), rtol=1e-13)
    assert ("Image" in type(entry.engine).__name__) == (loader == "own")


def test_code_finds_what_it_is_told_of_and_the_c_library(loader):
    entry = load_object(compile_text(DOUBLED), known={"base": 1000})
    assert entry.call(ctypes.addressof(ctypes.c_int64(-7))) == 1007
    assert loader


def test_the_code_lives_as_long_as_its_call():
    call = load_object(compile_source(PROGRAM)).call
    x = np.ones(5)
    y = np.zeros(5)
    table = np.array([x.ctypes.data, y.ctypes.data, 5], np.int64)
    assert call(table.ctypes.data) == 5
    assert y.all()


@pytest.mark.skipif(not HERE, reason="our own loader is for Linux on x86-64")
def test_what_is_not_known_is_left_to_llvm():
    code = compile_text(DOUBLED)
    assert image_of(code, {"base": 1, "labs": 2}.get) is not None
    assert image_of(code, {"base": 1}.get) is None
    assert image_of(b"", {}.get) is None
    assert image_of(b"MZ" + code[2:], {}.get) is None
    # Another processor.
    assert image_of(code[:18] + struct.pack("<H", 183) + code[20:], {"base": 1, "labs": 2}.get) is None
    # A variable that can be written to.
    assert image_of(compile_text("@v = global i64 5\ndefine ptr @entry() {\n  ret ptr @v\n}\n"), {}.get) is None
