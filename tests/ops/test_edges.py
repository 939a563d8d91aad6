"""Values and derivatives where something special happens: kinks, zeros, infinities, NaN, the ends of integers."""

import math

import numpy as np
import pytest

import dgraph.ops  # noqa: F401
from dgraph.ad import jvp, vjp
from dgraph.errors import CheckFailed
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import Interpreter
from dgraph.ir.op import OPS
from dgraph.sizes import size
from dgraph.types import BOOL, F32, F64, I32, I64, KEY, U8, Array, dtype_of_numpy

INF, NAN = math.inf, math.nan
LOW, HIGH = -(2**31), 2**31 - 1


def evaluate(op, *operands):
    with np.errstate(all="ignore"):
        return op.evaluate(lambda extent: extent.constant, *operands)


def region_of(op, operands):
    g = Builder()
    inputs = [
        g.input(Array(dtype_of_numpy(operand.dtype), tuple(map(size, np.shape(operand))))) for operand in operands
    ]
    return g.close(g.apply(op, *inputs))


def run(region, arrays):
    with np.errstate(all="ignore"):
        return Interpreter({}).run(region, [np.asarray(array)[()] for array in arrays])


# ---- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "facts", "dtype", "operands", "expected"),
    [
        ("add", {}, "i4", (HIGH, 1), LOW),
        ("add", {}, "u1", (200, 100), 44),
        ("sub", {}, "u1", (0, 1), 255),
        ("sub", {}, "i4", (LOW, 1), HIGH),
        ("mul", {}, "i4", (2**16, 2**16), 0),
        ("mul", {}, "i8", (2**62, 3), -(2**62)),
        ("neg", {}, "i4", (LOW,), LOW),
        ("neg", {}, "u1", (1,), 255),
        ("abs", {}, "i4", (LOW,), LOW),
        ("sign", {}, "i4", (-7,), -1),
        ("sign", {}, "f8", (NAN,), NAN),
        ("floor_divide", {}, "i4", (-7, 2), -4),
        ("floor_divide", {}, "i4", (7, -2), -4),
        ("floor_divide", {}, "i4", (7, 0), 0),
        ("floor_divide", {}, "i4", (LOW, -1), LOW),
        ("floor_divide", {}, "u1", (255, 0), 0),
        ("floor_divide", {}, "f8", (-7.5, 2.0), -4.0),
        ("mod", {}, "i4", (-7, 2), 1),
        ("mod", {}, "i4", (7, -2), -1),
        ("mod", {}, "i4", (7, 0), 0),
        ("mod", {}, "i4", (LOW, -1), 0),
        ("mod", {}, "f8", (-1.0, 3.0), 2.0),
        ("mod", {}, "f8", (1.0, -3.0), -2.0),
        ("mod", {}, "f8", (1.0, 0.0), NAN),
        ("maximum", {}, "f8", (1.0, NAN), NAN),
        ("minimum", {}, "f8", (NAN, 1.0), NAN),
        ("maximum", {}, "u1", (200, 100), 200),
        ("relu", {}, "f8", (-INF,), 0.0),
        ("relu", {}, "f8", (NAN,), NAN),
        ("sqrt", {}, "f8", (-1.0,), NAN),
        ("round", {}, "f8", (2.5,), 2.0),
        ("round", {}, "f8", (-3.5,), -4.0),
        ("sigmoid", {}, "f8", (-INF,), 0.0),
        ("sigmoid", {}, "f8", (INF,), 1.0),
        ("sigmoid", {}, "f8", (-745.0,), 5e-324),
        ("sigmoid", {}, "f4", (-80.0,), np.float32(np.exp(-80.0))),
        ("softplus", {}, "f8", (1000.0,), 1000.0),
        ("softplus", {}, "f8", (-745.0,), 5e-324),
        ("softplus", {}, "f8", (-INF,), 0.0),
        ("expm1", {}, "f8", (1e-300,), 1e-300),
        ("log1p", {}, "f8", (1e-300,), 1e-300),
        ("log", {}, "f8", (0.0,), -INF),
        ("pow", {}, "f8", (0.0, 0.0), 1.0),
        ("pow", {}, "f8", (NAN, 0.0), 1.0),
        ("pow", {}, "f8", (1.0, NAN), 1.0),
        ("pow", {}, "f8", (-INF, 0.5), INF),
        ("pow", {}, "f8", (-2.0, 3.0), -8.0),
        ("pow", {}, "f8", (-2.0, 0.5), NAN),
        ("powi", {"exponent": 0}, "f8", (NAN,), 1.0),
        ("powi", {"exponent": 2}, "f8", (1e-200,), 0.0),
        ("powi", {"exponent": -1}, "f8", (-0.0,), -INF),
        ("powi", {"exponent": 3}, "f8", (0.1,), 0.1 * (0.1 * 0.1)),
        ("powi", {"exponent": 21}, "i4", (3,), 3**21 - 2 * 2**32),
        ("atan2", {}, "f8", (0.0, -0.0), math.pi),
        ("atan2", {}, "f8", (-0.0, -0.0), -math.pi),
        ("equal", {}, "f8", (NAN, NAN), False),
        ("not_equal", {}, "f8", (NAN, NAN), True),
        ("less", {}, "f8", (NAN, 1.0), False),
        ("greater_equal", {}, "f8", (NAN, NAN), False),
        ("equal", {}, "f8", (0.0, -0.0), True),
        ("isfinite", {}, "f8", (-INF,), False),
        ("cast", {"dtype": I32}, "f8", (-2.9,), -2),
        ("cast", {"dtype": U8}, "i8", (-1,), 255),
        ("cast", {"dtype": I32}, "i8", (2**32 + 5,), 5),
        ("cast", {"dtype": BOOL}, "f8", (NAN,), True),
        ("cast", {"dtype": BOOL}, "i4", (0,), False),
        ("cast", {"dtype": F32}, "f8", (1e300,), INF),
        ("erf", {}, "f8", (INF,), 1.0),
        ("lgamma", {}, "f8", (0.5,), math.log(math.sqrt(math.pi))),
        ("fma", {}, "f8", (1 + 2.0**-30, 1 - 2.0**-30, -1.0), -(2.0**-60)),
        ("fma", {}, "f8", (INF, 0.0, 1.0), NAN),
        ("fma", {}, "f8", (1e308, 10.0, -INF), -INF),
        ("fma", {}, "f8", (1e308, 10.0, -1e308), INF),
        ("fma", {}, "f4", (1 + 2.0**-12, 1 + 2.0**-12, 2.0**-80), np.float32(1 + 2.0**-11 + 2.0**-23)),
        ("fma", {}, "f4", (1 + 2.0**-12, 1 + 2.0**-12, -(2.0**-80)), np.float32(1 + 2.0**-11)),
    ],
)
def test_values(name, facts, dtype, operands, expected):
    found = evaluate(OPS[name](**facts), *(np.dtype(dtype).type(operand) for operand in operands))
    if found.dtype.kind == "f" and name in ("lgamma", "softplus", "sigmoid"):
        np.testing.assert_allclose(found, expected, rtol=2 * np.finfo(found.dtype).eps)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "entries", "expected"),
    [
        ("reduce_sum", [], 0.0),
        ("reduce_prod", [], 1.0),
        ("reduce_max", [], -INF),
        ("reduce_min", [], INF),
        ("logsumexp", [], -INF),
        ("argmax", [], -1),
        ("argmin", [], -1),
        ("reduce_max", [1.0, NAN, 2.0], NAN),
        ("reduce_min", [1.0, NAN, 2.0], NAN),
        ("reduce_max", [-INF, -INF], -INF),
        ("argmax", [1.0, 3.0, 3.0], 1),
        ("argmin", [2.0, 1.0, 1.0], 1),
        ("argmax", [-INF, -INF], 0),
        ("argmin", [INF, INF], 0),
        ("argmax", [1.0, NAN, INF, NAN], 1),
        ("argmin", [1.0, NAN, -INF, NAN], 1),
        ("argmax", [-0.0, 0.0], 0),
        ("logsumexp", [1000.0, 1000.0], 1000.0 + math.log(2)),
        ("logsumexp", [-1000.0, -1000.0], -1000.0 + math.log(2)),
        ("logsumexp", [-INF, -INF], -INF),
        ("logsumexp", [INF, 1.0], INF),
        ("logsumexp", [INF, -INF], INF),
        ("logsumexp", [-INF, 1.0], 1.0),
        ("logsumexp", [INF, NAN], NAN),
        ("logsumexp", [-INF, NAN], NAN),
    ],
)
def test_reductions_and_their_index_spaces(name, entries, expected):
    op, x = OPS[name](axes=(0,)), np.array(entries)
    np.testing.assert_array_equal(evaluate(op, x), expected)
    g = Builder()
    region = g.close(op.expand(g, [g.input(Array(F64, (size(len(entries)),)))]))
    np.testing.assert_array_equal(run(region, [x]), [expected])


def test_reductions_of_nothing_in_other_dtypes():
    nothing = np.zeros((0,), np.int32)
    assert evaluate(OPS["reduce_max"](axes=(0,)), nothing) == LOW
    assert evaluate(OPS["reduce_min"](axes=(0,)), nothing) == HIGH
    assert evaluate(OPS["reduce_min"](axes=(0,)), nothing.astype(np.uint8)) == 255
    assert evaluate(OPS["reduce_all"](axes=(0,)), nothing.astype(bool))
    assert not evaluate(OPS["reduce_any"](axes=(0,)), nothing.astype(bool))


def test_integer_sums_and_products_wrap_at_their_width():
    many = np.full(3, 100, np.uint8)
    assert evaluate(OPS["reduce_sum"](axes=(0,)), many) == 300 % 256
    assert evaluate(OPS["reduce_prod"](axes=(0,)), many) == 10**6 % 256
    np.testing.assert_array_equal(evaluate(OPS["cumsum"](), many), np.array([100, 200, 44], np.uint8))


def test_argmax_counts_over_several_axes_in_row_major_order():
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(evaluate(OPS["argmax"](axes=(0, 2)), x), [7, 7, 7])
    np.testing.assert_array_equal(evaluate(OPS["argmin"](axes=(1, 2)), -x), [11, 11])


def test_constants_are_equal_by_their_bits():
    def constant(value, dtype=F64):
        return OPS["constant"](value=value, dtype=dtype)

    assert constant(0.0) != constant(-0.0)
    assert constant(float("nan")) == constant(float("nan"))
    assert hash(constant(float("nan"))) == hash(constant(float("nan")))
    assert constant(1) == constant(1.0) and hash(constant(1)) == hash(constant(1.0))
    assert constant(1, I64) != constant(1, I32) and constant(1, F64) != constant(1, I64)
    assert constant(0.1, F32) == constant(float(np.float32(0.1)), F32)
    assert constant(-1, U8).number == 255 and constant(2**64 + 3, KEY).number == 3
    assert constant(1e300, F32).number == np.inf
    assert constant(1.0) != "1.0"


# ---- derivatives at kinks -------------------------------------------------------------------------------------------

KINKS = [
    ("relu", {}, [0.0], [0.0]),
    ("relu", {}, [-0.0], [0.0]),
    ("relu", {}, [5e-324], [1.0]),
    ("abs", {}, [0.0], [0.0]),
    ("abs", {}, [-0.0], [0.0]),
    ("maximum", {}, [1.0, 1.0], [0.5, 0.5]),
    ("maximum", {}, [0.0, -0.0], [0.5, 0.5]),
    ("maximum", {}, [2.0, 1.0], [1.0, 0.0]),
    ("maximum", {}, [-INF, INF], [0.0, 1.0]),
    ("largest", {}, [1.0, 1.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3, 0.0]),
    ("largest", {}, [0.0, -0.0, -1.0], [0.5, 0.5, 0.0]),
    ("largest", {}, [INF, 2.0, INF], [0.5, 0.0, 0.5]),
    ("largest", {}, [NAN, 2.0, INF, 0.0], [0.25, 0.25, 0.25, 0.25]),
    ("smallest", {}, [1.0, 3.0, 1.0, 1.0], [1 / 3, 0.0, 1 / 3, 1 / 3]),
    ("minimum", {}, [1.0, 1.0], [0.5, 0.5]),
    ("minimum", {}, [2.0, 1.0], [0.0, 1.0]),
    ("sqrt", {}, [0.0], [INF]),
    ("sqrt", {}, [-0.0], [INF]),
    ("log", {}, [0.0], [INF]),
    ("powi", {"exponent": 1}, [0.0], [1.0]),
    ("powi", {"exponent": 2}, [0.0], [0.0]),
    ("powi", {"exponent": 3}, [0.0], [0.0]),
    ("powi", {"exponent": -1}, [0.0], [-INF]),
    ("pow", {}, [0.0, 0.0], [0.0, 0.0]),
    ("pow", {}, [0.0, 0.5], [INF, 0.0]),
    ("pow", {}, [0.0, 1.0], [1.0, 0.0]),
    ("pow", {}, [0.0, 2.0], [0.0, 0.0]),
    ("pow", {}, [2.0, 0.0], [0.0, math.log(2.0)]),
    ("pow", {}, [1.0, INF], [INF, 0.0]),
    ("sigmoid", {}, [1000.0], [0.0]),
    ("sigmoid", {}, [-1000.0], [0.0]),
    ("softplus", {}, [1000.0], [1.0]),
    ("softplus", {}, [-1000.0], [0.0]),
    ("softplus", {}, [0.0], [0.5]),
    ("tanh", {}, [INF], [0.0]),
    ("atan", {}, [INF], [0.0]),
    ("atan", {}, [1e200], [0.0]),
    ("reduce_max", {"axes": (0,)}, [[1.0, 3.0, 3.0]], [[0.0, 1.0, 0.0]]),
    ("reduce_max", {"axes": (0,)}, [[NAN, 3.0, NAN]], [[1.0, 0.0, 0.0]]),
    ("reduce_max", {"axes": (0, 1)}, [[[1.0, 3.0], [3.0, 0.0]]], [[[0.0, 1.0], [0.0, 0.0]]]),
    ("reduce_max", {"axes": (0,)}, [[-INF, -INF]], [[1.0, 0.0]]),
    ("reduce_max", {"axes": (0,)}, [[]], [[]]),
    ("reduce_min", {"axes": (0,)}, [[3.0, 1.0, 1.0]], [[0.0, 1.0, 0.0]]),
    ("reduce_prod", {"axes": (0,)}, [[2.0, 0.0, 3.0]], [[0.0, 6.0, 0.0]]),
    ("reduce_prod", {"axes": (0,)}, [[0.0, 0.0, 3.0]], [[0.0, 0.0, 0.0]]),
    ("logsumexp", {"axes": (0,)}, [[-INF, -INF]], [[0.0, 0.0]]),
    ("logsumexp", {"axes": (0,)}, [[INF, 1.0]], [[0.0, 0.0]]),
    ("logsumexp", {"axes": (0,)}, [[-INF, 1.0]], [[0.0, 1.0]]),
    ("logsumexp", {"axes": (0,)}, [[-0.5, -0.5]], [[0.5, 0.5]]),
]
"""Op, facts, operands, and its derivative with respect to each entry of each operand."""


@pytest.mark.parametrize(("name", "facts", "operands", "expected"), KINKS)
def test_kinks_forward(name, facts, operands, expected):
    """One operand moves at a time, so that no other rule hides a fault; one entry at a time."""
    arrays = [np.asarray(operand, np.float64)[()] for operand in operands]
    region = region_of(OPS[name](**facts), arrays)
    for at, slopes in enumerate(expected):
        moved = jvp(region, [position == at for position in range(len(arrays))])
        for place in np.ndindex(np.shape(slopes)):
            tangent = np.zeros(np.shape(slopes))
            tangent[place] = 1.0
            _, found = run(moved, [*arrays, tangent])
            np.testing.assert_allclose(found, np.asarray(slopes)[place], rtol=1e-15)


@pytest.mark.parametrize(("name", "facts", "operands", "expected"), KINKS)
def test_kinks_reverse(name, facts, operands, expected):
    arrays = [np.asarray(operand, np.float64)[()] for operand in operands]
    region = region_of(OPS[name](**facts), arrays)
    for at, slopes in enumerate(expected):
        back = vjp(region, [position == at for position in range(len(arrays))], [True])
        _, found = run(back, [*arrays, np.float64(1.0)])
        np.testing.assert_allclose(found, slopes, rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "facts", "operands", "expected"),
    [
        ("relu", {}, [0.0], 0.0),
        ("abs", {}, [0.0], 0.0),
        ("maximum", {}, [1.0, 1.0], 0.0),
        ("powi", {"exponent": 2}, [0.0], 2.0),
        ("powi", {"exponent": 3}, [0.0], 0.0),
        ("pow", {}, [0.0, 2.0], 2.0),
        ("pow", {}, [0.0, 1.0], 0.0),
        ("sqrt", {}, [0.0], -INF),
        ("reduce_max", {"axes": (0,)}, [[3.0, 3.0]], 0.0),
        ("reduce_prod", {"axes": (0,)}, [[0.0, 0.0, 3.0]], 6.0),
        ("reduce_prod", {"axes": (0,)}, [[0.0, 2.0, 3.0]], 10.0),
        ("logsumexp", {"axes": (0,)}, [[-INF, -INF]], 0.0),
        ("logsumexp", {"axes": (0,)}, [[INF, 1.0]], 0.0),
        ("logsumexp", {"axes": (0,)}, [[-0.5, -0.5]], 0.0),
    ],
)
@pytest.mark.parametrize("mode", ["forward over forward", "reverse over forward", "forward over reverse"])
def test_kinks_to_the_second_order(name, facts, operands, expected, mode):
    """The second derivative along the direction of ones, of the first operand."""
    arrays = [np.asarray(operand, np.float64)[()] for operand in operands]
    region = region_of(OPS[name](**facts), arrays)
    first = [at == 0 for at in range(len(arrays))]
    ones, result = np.ones_like(arrays[0]), np.float64(1.0)
    if mode == "forward over reverse":
        back = vjp(region, first, [True])
        *_, found = run(jvp(back, [*first, False]), [*arrays, result, ones])
        found = np.sum(found)
    elif mode == "forward over forward":
        *_, found = run(jvp(jvp(region, first), [*first, False]), [*arrays, ones, ones])
    else:
        *_, back = run(vjp(jvp(region, first), [*first, False], [False, True]), [*arrays, ones, result])
        found = np.sum(back)
    np.testing.assert_allclose(found, expected, atol=1e-15)


# ---- checks ---------------------------------------------------------------------------------------------------------


def check_region():
    g = Builder()
    holds, x, count = g.input(Array(BOOL)), g.input(Array(F64)), g.input(Array(I64))
    g.apply(OPS["check"](message="x is too large", names=("x", "count")), holds, x, count)
    return g.close([x])


def test_a_check_that_holds_changes_nothing():
    assert run(check_region(), [np.True_, np.float64(1.5), np.int64(2)]) == (1.5,)


def test_a_check_that_fails_shows_the_values():
    with pytest.raises(CheckFailed, match=r"x is too large[\s\S]*x = 1\.5, count = 2"):
        run(check_region(), [np.False_, np.float64(1.5), np.int64(2)])


def test_a_slice_outside_of_its_array_is_a_fault_of_the_run():
    op = OPS["slice"](starts=(size(2),), steps=(1,), shape=(size(2),))
    with pytest.raises(CheckFailed, match="leave an axis of length 3"):
        run(region_of(op, [np.zeros(3)]), [np.zeros(3)])
