"""Comparisons, logic on bools, questions about floats, and the choice per entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import SizeOf, require
from dgraph.ops.elementwise import ANYTHING, BOOLS, FLOATS, Elementwise, Predicate, arrays
from dgraph.types import BOOL, Array, DType, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


@dataclass(frozen=True)
class Less(Predicate):
    """Whether `x < y`."""

    name = "less"
    arity = 2
    numpy = np.less


@dataclass(frozen=True)
class LessEqual(Predicate):
    """Whether `x <= y`."""

    name = "less_equal"
    arity = 2
    numpy = np.less_equal


@dataclass(frozen=True)
class Greater(Predicate):
    """Whether `x > y`."""

    name = "greater"
    arity = 2
    numpy = np.greater


@dataclass(frozen=True)
class GreaterEqual(Predicate):
    """Whether `x >= y`."""

    name = "greater_equal"
    arity = 2
    numpy = np.greater_equal


@dataclass(frozen=True)
class Equal(Predicate):
    """Whether `x == y`."""

    name = "equal"
    arity = 2
    kinds = ANYTHING
    numpy = np.equal


@dataclass(frozen=True)
class NotEqual(Predicate):
    """Whether `x != y`: true if one is NaN."""

    name = "not_equal"
    arity = 2
    kinds = ANYTHING
    numpy = np.not_equal


@dataclass(frozen=True)
class LogicalAnd(Elementwise):
    """Whether both hold."""

    name = "logical_and"
    arity = 2
    kinds = BOOLS
    numpy = np.logical_and


@dataclass(frozen=True)
class LogicalOr(Elementwise):
    """Whether one holds."""

    name = "logical_or"
    arity = 2
    kinds = BOOLS
    numpy = np.logical_or


@dataclass(frozen=True)
class LogicalNot(Elementwise):
    """Whether it does not hold."""

    name = "logical_not"
    arity = 1
    kinds = BOOLS
    numpy = np.logical_not


@dataclass(frozen=True)
class IsNan(Predicate):
    """Whether x is NaN."""

    name = "isnan"
    arity = 1
    kinds = FLOATS
    numpy = np.isnan


@dataclass(frozen=True)
class IsFinite(Predicate):
    """Whether x is neither infinite nor NaN."""

    name = "isfinite"
    arity = 1
    kinds = FLOATS
    numpy = np.isfinite


@dataclass(frozen=True)
class Select(Elementwise):
    """`select(c, x, y)`: x where c holds, else y. Both sides are computed; linear in both together."""

    name = "select"
    arity = 3
    kinds = ANYTHING

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The type of the sides."""
        condition, x, y = arrays(self, types, 3)
        require(condition == Array(BOOL, x.shape), f"select: the condition is a {condition} for sides of {x}")
        require(x == y, f"select: sides {x} and {y} differ")
        return (x,)

    def result_dtype(self, dtype: DType) -> DType:
        """That of the sides."""
        return dtype

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's where."""
        return np.where(*operands)[()]

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The tangent of the chosen side; a missing one is 0."""
        _, dx, dy = tangents
        if dx is None and dy is None:
            return (None,)
        zero = g.zeros(results[0].type) if dx is None or dy is None else None
        return (g.select(primals[0], dx or zero, dy or zero),)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The cotangent where the side is chosen, else 0."""
        zero = g.zeros(cotangent.type)
        left = g.select(operands[0], cotangent, zero) if linear[1] else None
        right = g.select(operands[0], zero, cotangent) if linear[2] else None
        return None, left, right
