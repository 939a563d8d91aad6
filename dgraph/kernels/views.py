"""Views: how an array lies in a buffer. Slices, transposes and broadcasts of a view are views of the same buffer.

Also the arithmetic of indices: i64 expressions that fold what the sizes decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.kernels.nests import Apply, Buffer, Expression, Extent, Literal, Load, Local, Sum, number
from dgraph.sizes import Size, product, size
from dgraph.types import Shape

ZERO = number(0)


def as_static(expression: Expression) -> Size | None:
    """The size that an expression is, if the sizes alone decide it."""
    if isinstance(expression, Extent):
        return expression.size
    if isinstance(expression, Literal) and expression.type == "i64":
        return size(int(expression.value))
    return None


def plus(left: Expression, right: Expression) -> Expression:
    """Sum of two i64 expressions."""
    one, other = as_static(left), as_static(right)
    if one is not None and other is not None:
        return Extent(one + other)
    if one is not None and not one.terms:
        return right
    if other is not None and not other.terms:
        return left
    if isinstance(left, Apply) and left.op == "add" and other is not None:
        inner = as_static(left.operands[1])
        if inner is not None:
            return plus(left.operands[0], Extent(inner + other))
    if one is not None:
        return plus(right, left)
    return Apply("add", "i64", (left, right))


def times(left: Expression, right: Expression) -> Expression:
    """Product of two i64 expressions."""
    one, other = as_static(left), as_static(right)
    if one is not None and other is not None:
        return Extent(one * other)
    if one is not None:
        return times(right, left)
    if other is not None and other.constant == 0:
        return ZERO
    if other is not None and other.constant == 1:
        return left
    return Apply("mul", "i64", (left, right))


def minus(left: Expression, right: Expression) -> Expression:
    """Difference of two i64 expressions."""
    other = as_static(right)
    if other is not None:
        return plus(left, Extent(-other))
    return Apply("sub", "i64", (left, right))


def rounded_up(length: Expression, step: int) -> Expression:
    """How many steps cover a length."""
    static = as_static(length)
    if static is not None:
        return Extent((static + (step - 1)) // step)
    return Apply("floor_divide", "i64", (plus(length, number(step - 1)), number(step)))


def coefficient(expression: Expression, index: Local, known: Mapping[Local, Size | None]) -> Size | None:
    """By how much an i64 expression grows from one value of `index` to the next, or None if that is not fixed.

    `known` gives the growth of other locals that depend on the index, None where it is not fixed; locals that it does
    not name do not depend on it.
    """
    match expression:
        case Local():
            return size(1) if expression is index else known.get(expression, size(0))
        case Extent() | Literal():
            return size(0)
        case Apply(op="add" | "sub" | "mul" as op, type="i64", operands=(left, right)):
            one, other = coefficient(left, index, known), coefficient(right, index, known)
            if one is None or other is None:
                return None
            if op != "mul":
                return one + other if op == "add" else one - other
            return _grown(one, right, other, left)
        case Apply(op="most"):
            return size(0)
        case Apply(operands=operands):
            return _if_fixed(operands, index, known)
        case Load(index=inner):
            return _if_fixed((inner,), index, known)
        case Sum(index=inner, count=count):
            return _if_fixed((inner, count), index, known)
    return None


def _grown(one: Size, right: Expression, other: Size, left: Expression) -> Size | None:
    """The growth of a product, from those of its factors."""
    if not one.terms and not other.terms:
        return size(0)
    if one.terms and other.terms:
        return None
    factor = as_static(right if one.terms else left)
    return None if factor is None else (one if one.terms else other) * factor


def _if_fixed(operands: Sequence[Expression], index: Local, known: Mapping[Local, Size | None]) -> Size | None:
    """No growth, if none of the operands grows."""
    steps = [coefficient(operand, index, known) for operand in operands]
    return size(0) if all(step is not None and not step.terms for step in steps) else None


def row_major(shape: Shape) -> tuple[Size, ...]:
    """The strides of an array without gaps, last axis fastest."""
    return tuple(product(shape[axis + 1 :]) for axis in range(len(shape)))


@dataclass(frozen=True)
class View:
    """An array in a buffer: entry (i, j) lies at `offset + i * strides[0] + j * strides[1]`, in entries."""

    buffer: Buffer
    offset: Expression
    shape: Shape
    strides: tuple[Size, ...]

    @property
    def is_compact(self) -> bool:
        """Whether the entries follow one another without gaps in row-major order."""
        wanted = row_major(self.shape)
        pairs = zip(self.shape, self.strides, wanted, strict=True)
        return all(extent.is_literal_one or stride == whole for extent, stride, whole in pairs)

    @property
    def entries(self) -> Size:
        """Number of entries."""
        return product(self.shape)

    def at(self, indices: Sequence[Expression]) -> View:
        """The sub-array at leading indices."""
        offset = self.offset
        for index, stride in zip(indices, self.strides, strict=False):
            offset = plus(offset, times(index, Extent(stride)))
        return View(self.buffer, offset, self.shape[len(indices) :], self.strides[len(indices) :])

    def index(self, indices: Sequence[Expression]) -> Expression:
        """The index in the buffer of one entry."""
        return self.at(indices).offset

    def transposed(self, axes: Sequence[int]) -> View:
        """Axis k of the result is axis `axes[k]`."""
        return replace(
            self, shape=tuple(self.shape[axis] for axis in axes), strides=tuple(self.strides[axis] for axis in axes)
        )

    def broadcast(self, shape: Shape) -> View:
        """Widened along new leading axes and literal-1 axes: entries repeat with stride 0."""
        extra = len(shape) - len(self.shape)
        strides = [size(0)] * extra
        for own, wanted, stride in zip(self.shape, shape[extra:], self.strides, strict=True):
            strides.append(size(0) if own.is_literal_one and not wanted.is_literal_one else stride)
        return replace(self, shape=shape, strides=tuple(strides))

    def sliced(self, starts: Sequence[Size], steps: Sequence[int], shape: Shape) -> View:
        """Entry k along an axis is entry `start + k * step`."""
        offset = self.offset
        for start, stride in zip(starts, self.strides, strict=True):
            offset = plus(offset, Extent(size(start) * stride))
        strides = tuple(stride * step for stride, step in zip(self.strides, steps, strict=True))
        return View(self.buffer, offset, shape, strides)

    def reshaped(self, shape: Shape) -> View | None:
        """The same entries in another shape, or None if they would have to be moved."""
        kept = [(e, s) for e, s in zip(self.shape, self.strides, strict=True) if not e.is_literal_one]
        wanted = [extent for extent in shape if not extent.is_literal_one]
        if [extent for extent, _ in kept] == wanted:
            strides = iter([stride for _, stride in kept])
            return replace(
                self, shape=shape, strides=tuple(size(1) if e.is_literal_one else next(strides) for e in shape)
            )
        return replace(self, shape=shape, strides=row_major(shape)) if self.is_compact else None


def whole(buffer: Buffer, shape: Shape) -> View:
    """A buffer seen as a row-major array."""
    return View(buffer, ZERO, shape, row_major(shape))
