"""The elementary functions of `math="precise"`: within about half a unit in the last place, special values as the fast
ones have them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from elementwise import Runner
from test_math import DTYPES, FUNCTIONS, errors, needs_long_double, samples, wide

import dgraph as dg
from dgraph.kernels.math import MATH, precise_name

PAIRS = ("pow", "atan2")
NAMES = [(name, dtype) for name in FUNCTIONS for dtype in DTYPES if precise_name(name, dtype) != name]
SPECIAL = [0.0, math.inf, 1.0, 0.5, 2.0, 3.0, 2.5, 1e-310, 1e30, 1e300, 1e-30, 710.2, 745.0, 1100.0]


@pytest.fixture(scope="module")
def run() -> Runner:
    """Every precise function, and the fast ones that they are compared with."""
    ways = [key for name in (*FUNCTIONS, *PAIRS) for key in ((name, dtype) for dtype in DTYPES)]
    fast = [MATH[key] for key in ways]
    return Runner(list(dict.fromkeys(fast + [MATH[precise_name(*key), key[1]] for key in ways])))


def test_every_function_that_is_off_by_more_has_a_precise_form() -> None:
    assert {name for name, dtype in NAMES if dtype == "f32"} == set(FUNCTIONS)
    # erf and digamma of doubles are the fast ones; the page on accuracy says how far they are off.
    assert {name for name, dtype in NAMES if dtype == "f64"} == set(FUNCTIONS) - {"erf"}


@needs_long_double
@pytest.mark.parametrize(("name", "dtype"), NAMES)
def test_functions_are_right_to_half_a_unit(run: Runner, name: str, dtype: str) -> None:
    x = samples(DTYPES[dtype])
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name][0](wide(x))
    result = run(MATH[precise_name(name, dtype), dtype], x)
    distance = errors(result, expected)
    # Results that are no normal numbers are rounded twice.
    bound = np.where(np.abs(expected) < np.finfo(DTYPES[dtype]).tiny, 0.76, 0.6)
    worst = int((distance - bound).argmax())
    assert distance[worst] <= bound[worst], f"{name}({x[worst]!r}) = {result[worst]!r}, not {expected[worst]!r}"


@needs_long_double
def test_powers_are_right_to_less_than_a_unit(run: Runner) -> None:
    random = np.random.default_rng(3)
    x = np.exp(random.uniform(-1, 1, 50_000) * 2.0 ** random.uniform(-20, 9.4, 50_000))
    with np.errstate(all="ignore"):
        y = random.uniform(-705, 705, x.size) / np.log(x)
        expected = wide(x) ** wide(y)
    # What the logarithm lacks is multiplied by up to 700.
    assert errors(run(MATH["precise_pow", "f64"], x, y), expected).max() <= 0.95


@pytest.mark.parametrize(
    ("name", "value"),
    [("cos", -4.687165924254627611e-19), ("sin", 1.0), ("tan", -2133485385753703843.67)],
)
def test_the_double_that_comes_closest_to_a_multiple_of_half_pi(run: Runner, name: str, value: float) -> None:
    x = np.array([6381956970095103.0 * 2.0**797, 0.25] * 17)
    result = run(MATH[precise_name(name, "f64"), "f64"], x)
    assert (np.abs(result[::2] - value) <= np.spacing(abs(value))).all()
    np.testing.assert_allclose(result[1::2], getattr(math, name)(0.25), rtol=1e-16)


@pytest.mark.parametrize(("name", "dtype"), NAMES)
def test_special_values_are_those_of_the_fast_functions(run: Runner, name: str, dtype: str) -> None:
    with np.errstate(over="ignore"):
        x = np.array([*SPECIAL, *np.negative(SPECIAL), math.nan], DTYPES[dtype])
    fast, precise = run(MATH[name, dtype], x), run(MATH[precise_name(name, dtype), dtype], x)
    is_told = np.isnan(precise) | np.isinf(precise) | (precise == 0)
    np.testing.assert_array_equal(is_told, np.isnan(fast) | np.isinf(fast) | (fast == 0))
    np.testing.assert_array_equal(precise[is_told], fast[is_told])
    np.testing.assert_array_equal(np.signbit(precise[precise == 0]), np.signbit(fast[precise == 0]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PAIRS)
def test_special_pairs_are_those_of_the_fast_functions(run: Runner, name: str, dtype: str) -> None:
    with np.errstate(over="ignore"):
        grid = np.array([*SPECIAL, *np.negative(SPECIAL), math.nan], DTYPES[dtype])
    x, y = (side.ravel() for side in np.meshgrid(grid, grid, indexing="ij"))
    fast, precise = run(MATH[name, dtype], x, y), run(MATH[precise_name(name, dtype), dtype], x, y)
    np.testing.assert_allclose(precise, fast, rtol=4 * float(np.finfo(DTYPES[dtype]).eps))
    np.testing.assert_array_equal(np.signbit(precise[precise == 0]), np.signbit(fast[precise == 0]))


PROGRAM = """
@entry
def wave[n](x: f64[n]) -> f64 = sum(sin(x) * tanh(x) + exp(-x * x) * log1p(abs(x)))
"""


def test_the_option_of_a_program_and_its_derivative() -> None:
    wave = dg.parse(PROGRAM).wave
    x = np.random.default_rng(8).normal(size=1000)
    exact = np.sum(np.sin(wide(x)) * np.tanh(wide(x)) + np.exp(-(wide(x) ** 2)) * np.log1p(np.abs(wide(x))))
    precise = dg.compile(wave, math="precise")
    assert "precise_tanh_f64" in precise.source
    assert "precise" not in dg.compile(wave).source
    np.testing.assert_allclose(precise(x), float(exact), rtol=1e-15)
    slope = dg.compile(dg.grad(wave), math="precise")(x)
    np.testing.assert_allclose(slope, dg.grad(wave)(x), rtol=1e-13, atol=1e-15)


def test_a_bundle_and_a_budget_keep_the_option(tmp_path: Path) -> None:
    wave = dg.parse(PROGRAM).wave
    x = np.linspace(-3, 3, 101)
    precise = dg.compile(wave, math="precise")
    precise.export(tmp_path / "wave.dgb")
    assert dg.load_bundle(tmp_path / "wave.dgb")(x) == precise(x)
    assert dg.compile(wave, math="precise", budget="1MB")(x) == precise(x)


def test_an_option_that_does_not_exist_is_told() -> None:
    with pytest.raises(dg.DgraphError, match="math='exact' is not one of 'fast', 'precise'"):
        dg.compile(dg.parse(PROGRAM).wave, math="exact")
