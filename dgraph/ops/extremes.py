"""The larger and the smaller of numbers, entry by entry."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.op import Cost, SizeOf
from dgraph.ops.elementwise import NUMBERS, Elementwise, array_type, like, summed
from dgraph.types import ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


class _Extreme(Elementwise):
    """The larger or smaller of two numbers. Ties share the derivative equally; NaN wins and has a tie with itself."""

    arity = 2
    kinds = NUMBERS

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The tangent of the winner, or half of both."""
        x, y = primals
        if self.name == "minimum":
            x, y = y, x
        if tangents[0] is None and tangents[1] is None:
            return (None,)
        both = summed(g, *tangents)
        assert both is not None
        dx, dy = (g.zeros(array_type(both)) if tangent is None else tangent for tangent in tangents)
        half = g.mul(like(g, 0.5, both), both)
        return (g.select(g.greater(x, y), dx, g.select(g.less(x, y), dy, half)),)


@dataclass(frozen=True)
class Maximum(_Extreme):
    """The larger of two numbers; NaN if one is NaN. Ties share the derivative equally."""

    name = "maximum"
    numpy = np.maximum


@dataclass(frozen=True)
class Minimum(_Extreme):
    """The smaller of two numbers; NaN if one is NaN. Ties share the derivative equally."""

    name = "minimum"
    numpy = np.minimum


class _Farthest(Elementwise):
    """The largest or smallest of several numbers, of more than two. Those that are equal to it share the derivative
    equally; of NaN all are. `of_two` names the op that compares two."""

    of_two: ClassVar[str]

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """One after another."""
        return reduce(type(self).numpy, operands)

    def scalar(self, h: Builder, *operands: Value) -> Value:
        """One after another."""
        return reduce(getattr(h, self.of_two), operands)

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The mean of the tangents of those that are equal to the result."""
        (most,) = results
        zero, one = like(g, 0.0, most), like(g, 1.0, most)
        behind = [g.less(x, most) if self.name == "largest" else g.greater(x, most) for x in primals]
        moved = summed(g, *(t if t is None else g.select(b, zero, t) for b, t in zip(behind, tangents, strict=True)))
        if moved is None:
            return (None,)
        return (g.div(moved, reduce(g.add, (g.select(b, zero, one) for b in behind))),)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """A comparison less than there are numbers."""
        least = super().cost(types)
        return Cost(least.operations * (len(types) - 1), least.bytes)


@dataclass(frozen=True)
class Largest(_Farthest):
    """The largest of several numbers; NaN if one is NaN. Ties share the derivative equally."""

    name = "largest"
    of_two = "maximum"
    numpy = np.maximum


@dataclass(frozen=True)
class Smallest(_Farthest):
    """The smallest of several numbers; NaN if one is NaN. Ties share the derivative equally."""

    name = "smallest"
    of_two = "minimum"
    numpy = np.minimum
