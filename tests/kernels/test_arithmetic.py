"""Integer and float arithmetic of generated source against Python and NumPy."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from elementwise import NUMPY, Runner

from dgraph.kernels.helpers import PRIMITIVES
from dgraph.kernels.math import MATH, precise_name

Array = np.ndarray[Any, Any]
INTEGERS = ["i32", "i64", "u8"]
FLOATS = ["f32", "f64"]
SCALARS = [*FLOATS, *INTEGERS, "bool"]
TWO = ["add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "floor_div", "mod", "powi", "minimum", "maximum"]
ONE = ["neg", "abs", "sign", "not"]


@pytest.fixture(scope="module")
def run() -> Runner:
    """Everything tested here, compiled once."""
    names = [MATH[op, dtype] for op in ONE + TWO for dtype in SCALARS if (op, dtype) in MATH]
    names += [MATH[op, "bool"] for op in ("select",)] + [MATH["select", dtype] for dtype in FLOATS + INTEGERS]
    names += [MATH[op, dtype] for op in ("isnan", "isfinite", "fma") for dtype in FLOATS]
    names.append(MATH["most", "i64"])
    names += [f"convert_{source}_{target}" for source in SCALARS for target in SCALARS]
    return Runner(names)


def interesting(dtype: str) -> Array:
    if dtype == "bool":
        return np.array([False, True])
    kind = np.iinfo(NUMPY[dtype])
    values = {0, 1, 2, 3, 5, 7, 10, 100, kind.max, kind.max - 1, kind.min, kind.min + 1}
    values |= {-value for value in values if kind.min <= -value <= kind.max}
    random = np.random.default_rng(2).integers(kind.min, kind.max, 20, endpoint=True)
    return np.array([*sorted(values), *(int(value) for value in random)], NUMPY[dtype])


def pairs(dtype: str) -> tuple[Array, Array]:
    values = interesting(dtype)
    x, y = np.meshgrid(values, values)
    return x.ravel(), y.ravel()


def wrapped(value: int, dtype: str) -> int:
    bits = np.dtype(NUMPY[dtype]).itemsize * 8
    value &= 2**bits - 1
    return value - 2**bits if dtype != "u8" and value >= 2 ** (bits - 1) else value


def by_python(function: Callable[[int, int], int], x: Array, y: Array, dtype: str) -> Array:
    return np.array([wrapped(function(int(a), int(b)), dtype) for a, b in zip(x, y, strict=True)], NUMPY[dtype])


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("add", operator.add),
        ("sub", operator.sub),
        ("mul", operator.mul),
        ("and", operator.and_),
        ("or", operator.or_),
        ("xor", operator.xor),
        ("minimum", min),
        ("maximum", max),
        ("floor_div", lambda a, b: a // b if b else 0),
        ("mod", lambda a, b: a % b if b else 0),
    ],
)
def test_integers_of_two(run: Runner, name: str, function: Callable[[int, int], int], dtype: str) -> None:
    x, y = pairs(dtype)
    np.testing.assert_array_equal(run(MATH[name, dtype], x, y), by_python(function, x, y, dtype))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_shifts(run: Runner, dtype: str) -> None:
    bits = np.dtype(NUMPY[dtype]).itemsize * 8
    values = interesting(dtype)
    x, y = (side.ravel() for side in np.meshgrid(values, np.arange(bits).astype(NUMPY[dtype])))
    np.testing.assert_array_equal(run(MATH["shl", dtype], x, y), by_python(operator.lshift, x, y, dtype))
    unsigned = by_python(lambda a, b: (a & (2**bits - 1)) >> b, x, y, dtype)
    np.testing.assert_array_equal(run(MATH["lshr", dtype], x, y), unsigned)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_of_one(run: Runner, dtype: str) -> None:
    x = interesting(dtype)
    none = np.zeros_like(x)
    np.testing.assert_array_equal(run(MATH["neg", dtype], x), by_python(lambda a, _: -a, x, none, dtype))
    np.testing.assert_array_equal(run(MATH["abs", dtype], x), by_python(lambda a, _: abs(a), x, none, dtype))
    np.testing.assert_array_equal(run(MATH["not", dtype], x), by_python(lambda a, _: ~a, x, none, dtype))
    np.testing.assert_array_equal(run(MATH["sign", dtype], x), np.sign(x.astype(np.int64)))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_powers_of_integers_wrap(run: Runner, dtype: str) -> None:
    values = interesting(dtype)
    x, n = (side.ravel() for side in np.meshgrid(values, np.arange(0, 70)))
    np.testing.assert_array_equal(run(MATH["powi", dtype], x, n), by_python(lambda a, b: a**b, x, n, dtype))
    reciprocals = run(MATH["powi", dtype], values, np.full(values.shape, -3))
    expected = [int(a) ** 3 if abs(int(a)) == 1 else 0 for a in values]
    np.testing.assert_array_equal(reciprocals, expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_powers_of_floats(run: Runner, dtype: str) -> None:
    values = np.array([0.0, -0.0, 1.0, -1.5, 0.3, 1e3, math.inf, -math.inf, math.nan], NUMPY[dtype])
    x, n = (side.ravel() for side in np.meshgrid(values, np.arange(-12, 13)))
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(np.longdouble), n)
        rounded = expected.astype(NUMPY[dtype])
    tolerance = 16 * np.finfo(NUMPY[dtype]).eps
    np.testing.assert_allclose(run(MATH["powi", dtype], x, n), rounded, rtol=tolerance)


@pytest.mark.parametrize("name", ["and", "or", "xor"])
def test_truth_values_of_two(run: Runner, name: str) -> None:
    x, y = pairs("bool")
    np.testing.assert_array_equal(run(MATH[name, "bool"], x, y), getattr(np, f"logical_{name}")(x, y))


def test_negation_of_truth_values(run: Runner) -> None:
    np.testing.assert_array_equal(run(MATH["not", "bool"], np.array([False, True])), [True, False])


def test_any_byte_but_zero_is_true(run: Runner) -> None:
    stored = np.array([0, 1, 2, 255], np.uint8).view(np.bool_)
    np.testing.assert_array_equal(run(MATH["not", "bool"], stored), [True, False, False, False])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "floor_div", "mod", "minimum", "maximum"])
def test_floats_of_two(run: Runner, name: str, dtype: str) -> None:
    special = [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 0.3, 7.0, 1e10, math.inf, -math.inf, math.nan]
    values = np.array([*special, *np.random.default_rng(0).normal(size=20)], NUMPY[dtype])
    x, y = (side.ravel() for side in np.meshgrid(values, values))
    function = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "floor_div": np.floor_divide}.get(name)
    with np.errstate(all="ignore"):
        expected = (function or getattr(np, name))(x, y)
    result = run(MATH[name, dtype], x, y)
    np.testing.assert_array_equal(result, expected)
    zero = expected == 0
    if name not in ("minimum", "maximum"):  # of equal zeros NumPy may return either
        np.testing.assert_array_equal(np.signbit(result[zero]), np.signbit(expected[zero]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_fused_multiply_add_rounds_once(run: Runner, dtype: str) -> None:
    small = float(np.finfo(NUMPY[dtype]).eps)
    x = np.array([1 + small, 3.0], NUMPY[dtype])
    y = np.array([1 - small, 5.0], NUMPY[dtype])
    z = np.array([-1.0, 0.25], NUMPY[dtype])
    np.testing.assert_array_equal(run(MATH["fma", dtype], x, y, z), np.array([-small * small, 15.25], NUMPY[dtype]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_classes_of_floats(run: Runner, dtype: str) -> None:
    x = np.array([0.0, 1.0, math.inf, -math.inf, math.nan, -3.0], NUMPY[dtype])
    for name in ("isnan", "isfinite"):
        np.testing.assert_array_equal(run(MATH[name, dtype], x), getattr(np, name)(x))


@pytest.mark.parametrize("dtype", SCALARS)
def test_selection(run: Runner, dtype: str) -> None:
    x = np.array([0, 1, 1, 0], NUMPY[dtype])
    y = np.array([1, 0, 1, 0], NUMPY[dtype])
    condition = np.array([True, False, False, True])
    np.testing.assert_array_equal(run(MATH["select", dtype], condition, x, y), np.where(condition, x, y))


@pytest.mark.parametrize("target", SCALARS)
@pytest.mark.parametrize("source", [*INTEGERS, "bool"])
def test_conversions_of_integers_wrap(run: Runner, source: str, target: str) -> None:
    x = interesting(source)
    np.testing.assert_array_equal(run(f"convert_{source}_{target}", x), x.astype(NUMPY[target]))


@pytest.mark.parametrize("target", SCALARS)
@pytest.mark.parametrize("source", FLOATS)
def test_conversions_of_floats_truncate_and_saturate(run: Runner, source: str, target: str) -> None:
    x = np.array([0.0, -0.0, 0.9, -0.9, 1.5, 100.5, -100.5, 1e30, -1e30, math.inf, -math.inf, math.nan], NUMPY[source])
    result = run(f"convert_{source}_{target}", x)
    if target == "bool":
        expected: Any = x != 0
    elif target in FLOATS:
        with np.errstate(over="ignore"):
            expected = x.astype(NUMPY[target])
    else:
        kind = np.iinfo(NUMPY[target])
        expected = [
            0 if math.isnan(v) else kind.max if v > kind.max else kind.min if v < kind.min else int(v) for v in x
        ]
    np.testing.assert_array_equal(result, expected)


def test_the_most_of_one_turn_is_its_number(run: Runner) -> None:
    x = interesting("i64")
    np.testing.assert_array_equal(run(MATH["most", "i64"], x), x)


def test_every_scalar_primitive_of_numbers_is_tested_somewhere() -> None:
    """A primitive that nobody names in these tests would be a primitive that nobody checked."""
    here = {*ONE, *TWO, "select", "isnan", "isfinite", "fma", "most"}
    from test_math import FUNCTIONS
    from test_math_precise import NAMES, PAIRS

    there = {*FUNCTIONS, "lgamma", "digamma", "sqrt", "floor", "ceil", "round", "pow", "atan2"}
    there |= {precise_name(name, "f64") for name in PAIRS} | {precise_name(*name) for name in NAMES}
    assert {op for op, _ in MATH} <= here | there
    assert all(name in PRIMITIVES for name in MATH.values())
