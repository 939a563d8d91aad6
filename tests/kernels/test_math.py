"""Accuracy of the elementary functions in units in the last place, and their special values.

Single precision is compared with NumPy in double, double with NumPy in long double or with the C library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from elementwise import Runner

from dgraph.kernels.math import MATH

Array = np.ndarray[Any, Any]
Reference = Callable[[Array], Array]
LONG = np.longdouble
HAS_LONG_DOUBLE = bool(np.finfo(LONG).nmant > 60)
needs_long_double = pytest.mark.skipif(not HAS_LONG_DOUBLE, reason="long double is no wider than double here")


def libm(function: Callable[[float], float]) -> Reference:
    """A C library function as a reference, with the overflow and domain errors of Python's wrapper undone."""

    def one(x: float) -> float:
        try:
            return function(x)
        except (OverflowError, ValueError):
            return math.nan

    return lambda x: np.array([one(float(entry)) for entry in x.ravel()]).reshape(x.shape).astype(x.dtype)


def sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


# Name, reference, bound in units in the last place for f32 and for f64.
FUNCTIONS: dict[str, tuple[Reference, float, float]] = {
    "exp": (np.exp, 1.1, 1.1),
    "expm1": (np.expm1, 2.0, 2.0),
    "log": (np.log, 1.0, 1.0),
    "log1p": (np.log1p, 1.0, 1.0),
    "tanh": (np.tanh, 3.0, 3.0),
    "sigmoid": (sigmoid, 2.5, 2.5),
    "softplus": (softplus, 2.0, 2.0),
    "sin": (np.sin, 3.5, 3.5),
    "cos": (np.cos, 3.5, 3.5),
    "tan": (np.tan, 3.0, 3.0),
    "sinh": (np.sinh, 2.0, 2.0),
    "cosh": (np.cosh, 2.0, 2.0),
    "asin": (np.arcsin, 2.5, 2.5),
    "acos": (np.arccos, 2.0, 2.0),
    "atan": (np.arctan, 2.0, 2.0),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5, 1.5),
    "erf": (libm(math.erf), 1.5, 2.5),
}
DTYPES = {"f32": np.float32, "f64": np.float64}


@pytest.fixture(scope="module")
def run() -> Runner:
    """Every function of one operand that is tested here, compiled once."""
    one = [*FUNCTIONS, "lgamma", "digamma", "sqrt", "floor", "ceil", "round", "abs", "sign"]
    two = ["pow", "atan2", "minimum", "maximum"]
    return Runner([MATH[op, dtype] for op in one + two for dtype in DTYPES])


def samples(dtype: Any, count: int = 20_001) -> Array:
    """Arguments of every size, most where the functions are interesting, and the special ones."""
    kind = np.finfo(dtype)
    random = np.random.default_rng(5)
    largest = 800.0 if dtype == np.float64 else 110.0
    tiny, huge = float(np.log(float(kind.tiny))), float(np.log(float(kind.max)))
    special = [0.0, math.inf, math.nan, 1.0, 2.0, 0.5, float(kind.smallest_subnormal), float(kind.tiny) / 3]
    special += [float(kind.tiny), float(kind.max), float(kind.eps), math.pi, math.pi / 2, math.e, 8.0, 1000.0]
    values = np.concatenate(
        [
            random.choice([-1, 1], count) * np.exp(random.uniform(tiny, huge, count) * 0.999),
            random.uniform(-20, 20, count),
            random.uniform(-1.5, 1.5, count),
            random.uniform(-largest, largest, count),
            random.uniform(-1e5, 1e5, count),
            special,
            np.negative(special),
        ]
    )
    return values.astype(dtype)


def wide(x: Array) -> Array:
    return x.astype(LONG if x.dtype == np.float64 else np.float64)


def errors(result: Array, reference: Array) -> Array:
    """Distances in units in the last place; infinite where one is NaN or infinite and the other is not."""
    dtype = result.dtype
    with np.errstate(all="ignore"):
        rounded = reference.astype(dtype)
        distance = np.abs(result.astype(LONG) - reference.astype(LONG)) / np.spacing(np.abs(rounded)).astype(LONG)
    same = (result == rounded) | (np.isnan(result) & np.isnan(rounded))
    distance = np.where(same, np.where(np.isfinite(distance), np.minimum(distance, 1), 0), distance)
    return np.where(np.isnan(distance), np.inf, distance)


@needs_long_double
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_accurate(run: Runner, name: str, dtype: str) -> None:
    reference, *bounds = FUNCTIONS[name]
    x = samples(DTYPES[dtype])
    with np.errstate(all="ignore"):
        expected = reference(wide(x))
    result = run(MATH[name, dtype], x)
    if name == "erf":
        # Python's own erf knows NaN and infinity, and raises nothing.
        assert np.isnan(result[np.isnan(x)]).all()
    distance = errors(result, expected)
    worst = int(distance.argmax())
    bound = bounds[list(DTYPES).index(dtype)]
    assert distance[worst] <= bound, f"{name}({x[worst]!r}) = {result[worst]!r}, not {expected[worst]!r}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sin", "tan", "tanh", "expm1", "log1p", "sinh", "asin", "atan", "erf"])
def test_odd_functions_keep_the_sign_of_zero(run: Runner, name: str, dtype: str) -> None:
    result = run(MATH[name, dtype], np.array([0.0, -0.0], DTYPES[dtype]))
    assert list(result) == [0.0, 0.0]
    assert list(np.signbit(result)) == [False, True]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("exp", -math.inf, 0.0),
        ("exp", -1e4, 0.0),
        ("exp", 1e4, math.inf),
        ("exp", 0.0, 1.0),
        ("expm1", -math.inf, -1.0),
        ("expm1", -1e30, -1.0),
        ("expm1", math.inf, math.inf),
        ("log", 0.0, -math.inf),
        ("log", -0.0, -math.inf),
        ("log", -1.0, math.nan),
        ("log", 1.0, 0.0),
        ("log", math.inf, math.inf),
        ("log1p", -1.0, -math.inf),
        ("log1p", -2.0, math.nan),
        ("tanh", math.inf, 1.0),
        ("tanh", -1e30, -1.0),
        ("sigmoid", math.inf, 1.0),
        ("sigmoid", -math.inf, 0.0),
        ("softplus", math.inf, math.inf),
        ("softplus", -math.inf, 0.0),
        ("sin", math.inf, math.nan),
        ("cos", -math.inf, math.nan),
        ("tan", math.inf, math.nan),
        ("cos", 0.0, 1.0),
        ("asin", 1.0, math.pi / 2),
        ("asin", 1.001, math.nan),
        ("acos", 1.0, 0.0),
        ("acos", -1.0, math.pi),
        ("acos", -1.001, math.nan),
        ("atan", math.inf, math.pi / 2),
        ("rsqrt", 0.0, math.inf),
        ("rsqrt", math.inf, 0.0),
        ("erf", math.inf, 1.0),
        ("lgamma", 1.0, 0.0),
        ("lgamma", 0.0, math.inf),
        ("digamma", 0.0, -math.inf),
        ("digamma", -0.0, math.inf),
        ("digamma", -1.0, math.nan),
        ("digamma", math.inf, math.inf),
    ],
)
def test_special_values(run: Runner, name: str, argument: float, value: float, dtype: str) -> None:
    # Long enough that the vector loop computes some of them and the remainder loop the rest.
    result = run(MATH[name, dtype], np.full(131, argument, DTYPES[dtype]))
    np.testing.assert_array_equal(result, np.full(131, value, DTYPES[dtype]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*FUNCTIONS, "lgamma", "digamma", "sqrt", "floor", "round", "abs", "sign"])
def test_not_a_number_stays_so(run: Runner, name: str, dtype: str) -> None:
    result = run(MATH[name, dtype], np.array([1.0, math.nan, 2.0] * 40, DTYPES[dtype]))
    assert np.isnan(result[1::3]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp", "tanh", "sin", "log", "erf"])
def test_a_value_does_not_depend_on_its_neighbours(run: Runner, name: str, dtype: str) -> None:
    x = samples(DTYPES[dtype], 300)
    together = run(MATH[name, dtype], x)
    alone = np.concatenate([run(MATH[name, dtype], x[i : i + 1]) for i in range(x.size)])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_exponentials(run: Runner, dtype: str) -> None:
    low, high = (-103.9, -87.5) if dtype == "f32" else (-745.1, -708.5)
    x = np.linspace(low, high, 10_001).astype(DTYPES[dtype])
    result = run(MATH["exp", dtype], x)
    assert (result[x > low + 1] > 0).all()
    assert (errors(result, np.exp(wide(x))) <= 1.1).all()


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        # The double that comes closest to a multiple of pi / 2.
        ("cos", 6381956970095103.0 * 2.0**797, -4.687165924254627611e-19),
        ("sin", 6381956970095103.0 * 2.0**797, 1.0),
        ("tan", 6381956970095103.0 * 2.0**797, -2133485385753703843.67),
        ("sin", 1e22, -0.85220084976718880177),
        ("cos", 1e22, 0.5232147853951389455),
        ("tan", 1e22, -1.6287782256068988785),
        ("sin", 1e300, -0.81788191211590859705),
        ("sin", 1.7976931348623157e308, 0.0049619547891840617905),
        ("cos", 1.7976931348623157e308, -0.99998768942655993746),
    ],
)
def test_angles_of_many_turns(run: Runner, name: str, argument: float, value: float) -> None:
    sign = 1 if name == "cos" else -1
    result = run(MATH[name, "f64"], np.array([argument, -argument, 0.5] * 9))
    assert (np.abs(result[0::3] - value) <= 3 * np.spacing(abs(value))).all()
    np.testing.assert_array_equal(result[1::3], sign * result[0::3])
    np.testing.assert_allclose(result[2::3], getattr(math, name)(0.5), rtol=1e-15)


@needs_long_double
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_large_angles_are_accurate_in_single_precision(run: Runner, name: str) -> None:
    x = np.exp(np.random.default_rng(6).uniform(np.log(1.1e5), 88, 5000)).astype(np.float32)
    expected = getattr(np, name)(x.astype(LONG))
    assert errors(run(MATH[name, "f32"], x), expected).max() <= 0.51


@pytest.mark.parametrize("dtype", DTYPES)
def test_sines_stay_within_one(run: Runner, dtype: str) -> None:
    random = np.random.default_rng(7)
    close = random.normal(size=100_000) * 10.0 ** random.uniform(-10, 0, 100_000)
    x = (random.integers(0, 1000, close.size) * (math.pi / 2) + close).astype(DTYPES[dtype])
    for name in ("sin", "cos"):
        assert np.abs(run(MATH[name, dtype], x)).max() == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_lgamma_against_python(run: Runner, dtype: str) -> None:
    x = np.random.default_rng(1).uniform(-30, 60, 5000).astype(DTYPES[dtype])
    expected = libm(math.lgamma)(x.astype(np.float64))
    if dtype == "f32":
        assert errors(run(MATH["lgamma", dtype], x), libm(math.lgamma)(x.astype(np.float64))).max() <= 0.51
    # Python's own lgamma, the reference, is not relatively accurate near its zeros.
    bound = 8 * np.finfo(DTYPES[dtype]).eps * (1 + np.abs(expected))
    assert (np.abs(run(MATH["lgamma", dtype], x) - expected) <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_digamma_against_its_recurrence_and_closed_forms(run: Runner, dtype: str) -> None:
    euler = 0.57721566490153286061
    tolerance = 8 * np.finfo(DTYPES[dtype]).eps
    harmonic = [-euler + sum(1 / k for k in range(1, n)) for n in range(1, 40)]
    digamma = MATH["digamma", dtype]
    np.testing.assert_allclose(run(digamma, np.arange(1, 40.0)), harmonic, rtol=tolerance)
    np.testing.assert_allclose(run(digamma, np.array([0.5])), [-euler - 2 * math.log(2)], rtol=tolerance)
    # psi(x + 1) = psi(x) + 1 / x holds below 1/2 too, where reflection is used.
    x = (np.arange(-400, 400) / 16 + 1 / 64).astype(DTYPES[dtype])
    size = 1 + np.abs(run(digamma, x)) + np.abs(1 / x)
    assert (np.abs(run(digamma, x + 1) - run(digamma, x) - 1 / x) <= 8 * tolerance * size).all()


@needs_long_double
def test_digamma_is_accurate_where_its_terms_cancel(run: Runner) -> None:
    x = np.concatenate([np.linspace(0.5, 1.4, 20_000), np.linspace(1.5, 12, 20_000)])
    far, total = x.astype(LONG) + 40, sum(1 / (x.astype(LONG) + k) for k in range(40))
    terms = ((2, 12), (4, -120), (6, 252), (8, -240), (10, 132))
    series = sum(1 / (LONG(divisor) * far**power) for power, divisor in terms)
    expected = np.log(far) - 1 / (2 * far) - series - total
    assert errors(run(MATH["digamma", "f64"], x), expected).max() <= 5.5


@needs_long_double
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("scale", "bound"), [(4.0, 1.2), (1.0, 1.2), (40.0, 1.5)])
def test_powers_are_accurate(run: Runner, scale: float, bound: float, dtype: str) -> None:
    random = np.random.default_rng(3)
    largest = float(np.log(np.finfo(DTYPES[dtype]).max))
    x = np.exp(random.uniform(-1, 1, 50_000) * min(largest, 80.0 / scale)).astype(DTYPES[dtype])
    y = (random.uniform(-1, 1, 50_000) * scale).astype(DTYPES[dtype])
    distance = errors(run(MATH["pow", dtype], x, y), wide(x) ** wide(y))
    assert distance.max() <= bound
    # Results near the ends of the range, where an error of the logarithm counts most.
    y = (random.uniform(-1.05, 1.05, 50_000) * largest / np.log(wide(x))).astype(DTYPES[dtype])
    with np.errstate(all="ignore"):
        expected = wide(x) ** wide(y)
    assert errors(run(MATH["pow", dtype], x, y), expected).max() <= 2.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_that_are_whole_numbers_are_exact(run: Runner, dtype: str) -> None:
    x, y = (side.ravel().astype(DTYPES[dtype]) for side in np.meshgrid(np.arange(-12, 13), np.arange(0, 7)))
    np.testing.assert_array_equal(run(MATH["pow", dtype], x, y), x.astype(np.int64) ** y.astype(np.int64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_special_values_are_those_of_the_c_library(run: Runner, dtype: str) -> None:
    values = [0.0, 0.5, 1.0, 2.0, 3.0, 2.5, 1e30, math.inf, 1e-30]
    grid = np.array([*values, *np.negative(values), math.nan], DTYPES[dtype])
    x, y = (side.ravel() for side in np.meshgrid(grid, grid, indexing="ij"))
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    result = run(MATH["pow", dtype], x, y)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    np.testing.assert_array_equal(
        np.signbit(result), np.signbit(expected) & ~np.isnan(expected) | np.signbit(result) & np.isnan(result)
    )
    np.testing.assert_allclose(result, expected, rtol=np.finfo(DTYPES[dtype]).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_angles_of_points(run: Runner, dtype: str) -> None:
    values = [0.0, 1e-30, 0.5, 1.0, 7.0, 1e30, math.inf]
    grid = np.concatenate(
        [np.array([*values, *np.negative(values), math.nan]), np.random.default_rng(0).normal(size=60)]
    )
    y, x = (side.ravel().astype(DTYPES[dtype]) for side in np.meshgrid(grid, grid))
    result = run(MATH["atan2", dtype], y, x)
    expected = np.arctan2(wide(y), wide(x))
    sure = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result[sure]), np.signbit(expected[sure]))
    assert errors(result, expected).max() <= 2.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("sqrt", np.sqrt),
        ("floor", np.floor),
        ("ceil", np.ceil),
        ("round", np.round),
        ("abs", np.abs),
        ("sign", np.sign),
    ],
)
def test_exact_functions(run: Runner, name: str, reference: Reference, dtype: str) -> None:
    x = np.concatenate([samples(DTYPES[dtype], 2000), (np.arange(-50, 50) / 2).astype(DTYPES[dtype])])
    with np.errstate(all="ignore"):
        expected = reference(x)
    np.testing.assert_array_equal(run(MATH[name, dtype], x), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["minimum", "maximum"])
def test_choices_between_two(run: Runner, name: str, dtype: str) -> None:
    values = np.array([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 3.5], DTYPES[dtype])
    x, y = (side.ravel() for side in np.meshgrid(values, values))
    np.testing.assert_array_equal(run(MATH[name, dtype], x, y), getattr(np, name)(x, y))


@needs_long_double
@pytest.mark.parametrize("dtype", DTYPES)
def test_machines_without_fused_multiply_add(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("values", "math_trigonometric", "math_power"):
        monkeypatch.setattr(f"dgraph.kernels.{module}.host_has_fma", lambda: False)
    names = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "sin", "cos", "tan", "atan", "asin", "erf"]
    without = Runner([MATH[name, dtype] for name in [*names, "pow"]])
    x = samples(DTYPES[dtype], 5000)
    for name in names:
        reference, *bounds = FUNCTIONS[name]
        with np.errstate(all="ignore"):
            expected = reference(wide(x))
        assert errors(without(MATH[name, dtype], x), expected).max() <= bounds[list(DTYPES).index(dtype)] + 0.5, name
    base, exponent = np.exp(x[np.abs(x) < 5]), x[np.abs(x) < 5]
    assert errors(without(MATH["pow", dtype], base, exponent), wide(base) ** wide(exponent)).max() <= 1.0
