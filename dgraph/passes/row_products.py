"""Matrix products of many rows at once: what the passes share that gather products of single steps or points."""

from __future__ import annotations

from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.linalg import Dot
from dgraph.sizes import Size, product, size
from dgraph.types import Array, Shape


def shape_of(value: Value) -> Shape:
    """The shape of an array."""
    assert isinstance(value.type, Array)
    return value.type.shape


def row_operand(op: Dot, left: Value, right: Value, many: set[Value], one: set[Value]) -> tuple[bool, bool] | None:
    """Whether, in a product of what differs from step to step (`many`) and what does not (`one`), the rows are the
    right operand; and whether the fixed one is then to be read transposed. None if the product has another form."""
    if left in many and right in one and not op.transpose_a and len(shape_of(left)) < 3 > len(shape_of(right)):
        return (False, op.transpose_b) if (len(shape_of(left)), len(shape_of(right))) != (1, 1) else None
    if right in many and left in one and len(shape_of(right)) == 1 and len(shape_of(left)) == 2:
        return True, not op.transpose_a
    return None


def rows_times(g: Builder, array: Value, matrix: Value, transpose_b: bool) -> Value:
    """Each row (along the last axis) of an array of any rank times a matrix or vector."""
    shape = shape_of(array)
    found = g.dot(as_rows(g, array), matrix, transpose_b=transpose_b)
    return g.reshape(found, shape=(*shape[:-1], *shape_of(found)[1:])) if len(shape) > 2 else found


def as_rows(g: Builder, array: Value) -> Value:
    """The array as a matrix: all axes but the last made one."""
    shape = shape_of(array)
    return array if len(shape) == 2 else g.reshape(array, shape=(product(shape[:-1]), shape[-1]))


def slice_along(g: Builder, array: Value, axis: int, start: Size, step: int, extent: Size) -> Value:
    """A slice of an array along one axis; the array itself if it is whole."""
    shape = list(shape_of(array))
    if shape[axis] == extent and step == 1:
        return array
    starts, steps = [size(0)] * len(shape), [1] * len(shape)
    starts[axis], steps[axis], shape[axis] = start, step, extent
    return g.slice(array, starts=tuple(starts), steps=tuple(steps), shape=tuple(shape))
