"""Types: how they print, their leaves, their tangents."""

import numpy as np
import pytest

from dgraph.sizes import size, variable
from dgraph.types import (
    BOOL,
    DTYPES,
    F32,
    F64,
    I64,
    KEY,
    Accumulator,
    Array,
    Extent,
    Function,
    Record,
    Tape,
    Tuple,
    array,
    dtype_of_numpy,
    leaves,
    map_leaves,
    scalar,
    substitute_type,
    tangent_type,
    with_axes,
)

N = variable("n")
POINT = Record("Point", (("x", scalar(F64)), ("tail", array(F64, N))), (N,))


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (scalar(F32), "f32"),
        (array(F64, N, 3), "f64[n, 3]"),
        (Accumulator(F64), "acc<f64>"),
        (Accumulator(I64, (N,), "max"), "acc<i64[n], max>"),
        (Tape(Tape(array(F64, N))), "tape<tape<f64[n]>>"),
        (Tuple((scalar(BOOL), scalar(KEY))), "(bool, key)"),
        (Function((scalar(F64),), array(F64, 2)), "fn(f64) -> f64[2]"),
        (POINT, "Point[n]"),
        (with_axes(POINT, (size(4),)), "Point[n][4]"),
        (Extent(), "size"),
    ],
)
def test_printing(type_: object, text: str):
    assert str(type_) == text


def test_leaves_have_qualified_names_and_the_axes_of_the_record():
    tree = Record("Net", (("layers", with_axes(POINT, (size(2),))), ("pair", Tuple((scalar(F32), scalar(F64))))))
    assert list(leaves(tree, "net")) == [
        ("net.layers.x", array(F64, 2)),
        ("net.layers.tail", array(F64, 2, N)),
        ("net.pair.0", scalar(F32)),
        ("net.pair.1", scalar(F64)),
    ]
    assert list(leaves(Extent(), "k")) == []
    assert POINT.field("tail") == array(F64, N)
    assert POINT.field("nosuch") is None


def test_mapping_leaves():
    double = map_leaves(POINT, lambda leaf: Array(F32, leaf.shape))
    assert list(leaves(double)) == [("x", scalar(F32)), ("tail", array(F32, N))]


def test_tangents():
    assert tangent_type(scalar(F64)) == scalar(F64)
    assert tangent_type(scalar(I64)) is None
    assert tangent_type(Tape(scalar(F32))) == Tape(scalar(F32))
    assert tangent_type(Tape(scalar(BOOL))) is None
    assert tangent_type(Accumulator(F64, (N,))) == Accumulator(F64, (N,))


def test_substitution():
    assert substitute_type(Tape(array(F64, N, 2)), {"n": size(5)}) == Tape(array(F64, 5, 2))
    assert substitute_type(Accumulator(F64, (N,), "max"), {"n": N + 1}) == Accumulator(F64, (N + 1,), "max")


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_numpy_dtypes(dtype):
    assert dtype_of_numpy(dtype.numpy) is dtype
    assert dtype.numpy.itemsize == dtype.bytes


def test_unknown_numpy_dtypes():
    assert dtype_of_numpy(np.dtype("complex128")) is None


def test_axes_of_what_has_none():
    with pytest.raises(TypeError):
        with_axes(Function((), scalar(F64)), (N,))
