"""Functions that are generic in a dtype or a shape, called from the host."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg

TEXT = """
def leaky[*s](x: f32[*s], slope: f32 = 0.25) -> f32[*s] = x if x > 0 else slope * x
def total[n, T: float](x: T[2 * n], scale: T = 0.5) -> T = sum(x) * scale
def product[*s](x: f64[*s], y: f64[*s]) -> f64[*s] = x * y
def rows[*s, n](x: f64[*s, n]) -> f64[*s, n] = 2 * x
def twice[T: number](x: T) -> T = x * 2
def apply[T: float](f: fn(T) -> T, x: T) -> T = f(x)
"""
PROGRAM = dg.parse(TEXT)
X = np.array([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])


@pytest.mark.parametrize("x", [X, X[0], X[None], X[:0], np.float64(-2.0)])
def test_any_shape(x: np.ndarray):
    x = x.astype(np.float32)
    np.testing.assert_array_equal(PROGRAM.leaky(x), np.where(x > 0, x, np.float32(0.25) * x))
    np.testing.assert_array_equal(PROGRAM.leaky(x, slope=2.0), np.where(x > 0, x, 2 * x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_float(dtype: type):
    x = np.arange(6).astype(dtype)
    found = PROGRAM.total(x, 2)
    assert found == 30 and found.dtype == dtype
    np.testing.assert_array_equal(dg.grad(PROGRAM.total)(x), np.full(6, 0.5, dtype))


def test_numbers_and_lists_take_the_declared_dtype():
    assert PROGRAM.leaky(-2.0) == np.float32(-0.5)
    np.testing.assert_array_equal(PROGRAM.leaky([-2.0, 4.0]), np.array([-0.5, 4.0], np.float32))


def test_transforms_of_generic_functions():
    x = X.astype(np.float32)
    _, tangent = dg.jvp(PROGRAM.leaky)(x, dx=np.ones_like(x))
    np.testing.assert_array_equal(tangent, np.where(x > 0, np.float32(1), np.float32(0.25)))
    np.testing.assert_array_equal(dg.vmap(PROGRAM.rows)(X), 2 * X)
    np.testing.assert_array_equal(dg.vmap(PROGRAM.product, over=("x", "y"))(X, X), X * X)


def test_precision_promotes():
    found = dg.compile(PROGRAM.leaky, precision="f64")(X)
    assert found.dtype == np.float64


def test_kernels_are_there_after_a_call():
    compiled = dg.compile(PROGRAM.twice)
    with pytest.raises(dg.DgraphError, match="call it first"):
        _ = compiled.source
    assert compiled(np.int32(4)) == 8
    assert "def entry" in compiled.source


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: PROGRAM.twice(), "misses the argument `x`"),
        (lambda: PROGRAM.twice(2), "of any dtype"),
        (lambda: PROGRAM.twice(np.float16(2)), "stands for numbers"),
        (lambda: PROGRAM.total(np.arange(6)), "stands for floats"),
        (lambda: PROGRAM.total(np.ones(5)), "length 5"),
        (lambda: PROGRAM.twice(None), "takes numbers"),
        (lambda: PROGRAM.leaky([[1], [2, 3]]), "differ in length"),
        (lambda: PROGRAM.product(X, X.T), "length 3"),
        (lambda: PROGRAM.product(X, 2.0), "no axes"),
        (lambda: PROGRAM.rows(1.0), "generic in `s`"),
        (lambda: dg.vmap(PROGRAM.rows)(1.0), "vmap runs over its first"),
        (lambda: PROGRAM.apply(np.sin, np.float64(1)), "takes a function"),
    ],
)
def test_faults_are_diagnostics(call: Callable[[], object], words: str):
    with pytest.raises(dg.DgraphError) as caught:
        call()
    assert words in str(caught.value)


def test_generic_functions_are_checked_and_drawn(tmp_path: Path):
    from dgraph.program.check import check_program

    said: list[str] = []
    assert check_program(PROGRAM, "leaky", {}, said.append) == []
    assert "derivatives in x, slope agree" in said[1]
    PROGRAM.leaky.draw(tmp_path / "leaky.svg")
    assert (tmp_path / "leaky.svg").stat().st_size > 0
