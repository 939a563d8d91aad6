"""Running sums and products along an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Op, SizeOf, require
from dgraph.ops.elementwise import NUMBERS, array_type, arrays, entry
from dgraph.types import ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]
Step = Callable[["Builder", list["Value"], list["Value"]], list["Value"]]


class Running(Op):
    """An op whose entry k combines the entries 0 to k along an axis; with `reverse` those from k to the end."""

    arity: ClassVar[int | None] = 1
    numpy: ClassVar[Callable[..., Any]]
    axis: int
    reverse: bool

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The operand's type."""
        (given,) = arrays(self, types, 1)
        require(given.dtype.kind in NUMBERS, f"{self.name}: not defined for {given.dtype}")
        require(0 <= self.axis < given.rank, f"{self.name}: axis {self.axis} of {given}")
        return (given,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's function, of the reversed array if need be."""
        (x,) = operands
        turned = np.flip(x, self.axis) if self.reverse else x
        found = type(self).numpy(turned, axis=self.axis, dtype=x.dtype)
        return np.flip(found, self.axis) if self.reverse else found

    def rows(self, g: Builder, arrays: Sequence[Value], starts: Sequence[float], step: Step) -> Value:
        """A loop along the axis at each point of the others. `step` takes the carries and the entries of the arrays
        and returns the new carries; the last carry of each step is collected."""
        given = array_type(arrays[0])
        others = [axis for axis in range(given.rank) if axis != self.axis]

        def row(h: Builder, *at: Value) -> Value:
            def body(q: Builder, k: Value, carried: list[Value], _walked: list[Value]) -> list[Value]:
                indices = [*at[: self.axis], k, *at[self.axis :]]
                new = step(q, carried, [entry(q, array, indices) for array in arrays])
                return [*new, new[-1]]

            count = given.shape[self.axis]
            carries = [h.constant(start, given.dtype) for start in starts]
            return h.for_(h.number(count), carries, body, reverse=self.reverse, length=count)[-1]

        if not others:
            return row(g)
        found = g.map([given.shape[axis] for axis in others], row)
        if self.axis == given.rank - 1:
            return found
        last = given.rank - 1
        return g.transpose(found, axes=(*range(self.axis), last, *range(self.axis, last)))


@dataclass(frozen=True)
class Cumsum(Running):
    """Running sum along an axis; with `reverse` from the end."""

    name = "cumsum"
    numpy = np.cumsum
    linear_in = (0,)
    axis: int = 0
    reverse: bool = False

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The running sum from the other end."""
        return (g.cumsum(cotangent, axis=self.axis, reverse=not self.reverse),)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A loop along the axis."""
        return (self.rows(g, operands, [0.0], lambda q, carried, here: [q.add(carried[0], here[0])]),)


@dataclass(frozen=True)
class Cumprod(Running):
    """Running product along an axis; with `reverse` from the end. The derivative is right where entries are 0."""

    name = "cumprod"
    numpy = np.cumprod
    axis: int = 0
    reverse: bool = False

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The product rule, factor by factor."""
        (x,), (tangent,) = primals, tangents
        if tangent is None:
            return (None,)

        def step(q: Builder, carried: list[Value], here: list[Value]) -> list[Value]:
            total, slope = carried
            factor, change = here
            return [q.mul(total, factor), q.add(q.mul(slope, factor), q.mul(total, change))]

        return (self.rows(g, [x, tangent], [1.0, 0.0], step),)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A loop along the axis."""
        return (self.rows(g, operands, [1.0], lambda q, carried, here: [q.mul(carried[0], here[0])]),)
