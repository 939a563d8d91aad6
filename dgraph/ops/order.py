"""Orders of arrays: sorting along an axis and searching in a sorted array.

NaN comes last, whichever the direction, and entries that are equal keep their order. So a derivative belongs to the
entry that a value came from, the first one of several that are equal standing first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, require
from dgraph.ops.elementwise import NUMBERS, array_type, arrays, entry
from dgraph.sizes import product
from dgraph.types import I64, Array, DType, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]

LEVELS = 20
"""Comparisons that an entry is taken to cost: the logarithm of a long axis."""


def stands_before(h: Builder, x: Value, y: Value, *, descending: bool = False, strictly: bool = False) -> Value:
    """Whether x stands before y in an order with NaN at its end; not `strictly`, equal entries do too."""
    compared = ("greater" if descending else "less") + ("" if strictly else "_equal")
    first: Value = getattr(h, compared)(x, y)
    if not array_type(x).dtype.is_float:
        return first
    if not strictly:
        return h.logical_or(first, h.isnan(y))
    return h.logical_or(first, h.logical_and(h.isnan(y), h.logical_not(h.isnan(x))))


class _Ordered(Op):
    """An op that orders the entries along an axis, by merging sorted runs of twice the length in each pass."""

    axis: int
    descending: bool

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The operand's shape."""
        (given,) = arrays(self, types, 1)
        require(given.dtype.kind in NUMBERS, f"{self.name}: not defined for {given.dtype}")
        require(0 <= self.axis < given.rank, f"{self.name}: axis {self.axis} of {given}")
        return (Array(self.result_dtype(given.dtype), given.shape),)

    def result_dtype(self, dtype: DType) -> DType:
        """The dtype of the result for an operand of a dtype."""
        raise NotImplementedError(self.name)

    def order(self, x: Any) -> Any:
        """The positions along the axis in their order, by NumPy."""
        if not self.descending:
            return np.argsort(x, axis=self.axis, kind="stable").astype(np.int64)
        if x.dtype.kind == "f":
            return np.argsort(-x, axis=self.axis, kind="stable").astype(np.int64)
        # A negative integer may not exist: the order from the other end, equal entries turned round twice.
        last = np.int64(x.shape[self.axis] - 1)
        return np.flip(last - np.argsort(np.flip(x, self.axis), axis=self.axis, kind="stable"), self.axis)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """A few comparisons for every entry."""
        (given,) = arrays(self, types, 1)
        entries = product(given.shape)
        return Cost(entries * LEVELS, entries * (2 * LEVELS * given.dtype.bytes))

    def rows(self, g: Builder, x: Value, with_places: bool) -> Value:
        """At each point of the other axes the ordered entries of a row, or their places."""
        given = array_type(x)
        others = [axis for axis in range(given.rank) if axis != self.axis]
        count = given.shape[self.axis]

        def row(h: Builder, *at: Value) -> Value:
            keys = h.map([count], lambda q, k: entry(q, x, [*at[: self.axis], k, *at[self.axis :]]))
            columns = [keys, h.iota(extent=count)] if with_places else [keys]
            return self.merged(h, columns)[-1]

        if not others:
            return self.merged(g, [x, g.iota(extent=count)] if with_places else [x])[-1]
        found = g.map([given.shape[axis] for axis in others], row)
        if self.axis == given.rank - 1:
            return found
        last = given.rank - 1
        return g.transpose(found, axes=(*range(self.axis), last, *range(self.axis, last)))

    def merged(self, h: Builder, columns: Sequence[Value]) -> Sequence[Value]:
        """Columns of equal length in the order of the first one: runs are merged until one run holds all."""
        one = h.number(1)
        extent = h.number(array_type(columns[0]).shape[0])

        def turn(q: Builder, carried: list[Value]) -> list[Value]:
            width, *source = carried
            return [q.add(width, width), *self.merge_pass(q, extent, width, source)]

        _, *found, _ = h.while_([one, *columns], lambda q, carried: q.less(carried[0], extent), turn)
        return found

    def merge_pass(self, g: Builder, extent: Value, width: Value, source: Sequence[Value]) -> Sequence[Value]:
        """Neighbouring runs of a width merged: one walk over the places, with the next entry of either run, the middle
        and the end of the pair carried along."""
        zero = g.number(0)

        def step(h: Builder, k: Value, carried: list[Value], _walked: list[Value]) -> list[Value]:
            left, right, middle, end, *target = carried
            opens = h.equal(k, end)
            left = h.select(opens, k, left)
            middle = h.select(opens, h.minimum(h.add(k, width), extent), middle)
            right = h.select(opens, middle, right)
            end = h.select(opens, h.minimum(h.add(middle, width), extent), end)
            one = h.number(1)
            # Both reads stay inside where a run is used up, so that no branch is needed.
            places = h.minimum(left, h.sub(extent, one)), h.minimum(right, h.sub(extent, one))
            keys = [h.index(source[0], place, policy="proven") for place in places]
            is_first = stands_before(h, *keys, descending=self.descending)
            is_left = h.logical_or(h.greater_equal(right, end), h.logical_and(h.less(left, middle), is_first))
            taken = h.select(is_left, places[0], places[1])
            entries = [h.index(column, taken, policy="proven") for column in source]
            moved = [h.set_at(into, k, value, policy="proven") for into, value in zip(target, entries, strict=True)]
            after = h.select(is_left, h.add(left, one), left), h.select(is_left, right, h.add(right, one))
            return [*after, middle, end, *moved]

        return g.for_(extent, [zero, zero, zero, zero, *source], step)[4:]


@dataclass(frozen=True)
class Sort(_Ordered):
    """The entries along an axis in ascending or `descending` order, NaN last. Equal entries keep their order."""

    name = "sort"
    arity = 1
    axis: int = 0
    descending: bool = False

    def result_dtype(self, dtype: DType) -> DType:
        """That of the operand."""
        return dtype

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The entries at the places that `argsort` gives."""
        (x,) = operands
        return np.take_along_axis(x, self.order(x), self.axis)

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The tangent of the entry that each value came from."""
        (x,), (tangent,) = primals, tangents
        if tangent is None:
            return (None,)
        moved = tangent
        order = g.argsort(x, axis=self.axis, descending=self.descending)

        def read(h: Builder, *at: Value) -> Value:
            return entry(h, moved, [*at[: self.axis], entry(h, order, at), *at[self.axis + 1 :]])

        return (g.map(array_type(x).shape, read),)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """Sorted runs merged, from single entries to whole rows."""
        return (self.rows(g, operands[0], with_places=False),)


@dataclass(frozen=True)
class Argsort(_Ordered):
    """The places of the entries along an axis in ascending or `descending` order, NaN last, as i64. Equal entries
    keep their order."""

    name = "argsort"
    arity = 1
    axis: int = 0
    descending: bool = False

    def result_dtype(self, dtype: DType) -> DType:
        """A place is an i64."""
        return I64

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's stable argsort."""
        return self.order(operands[0])

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """A structural zero."""
        return (None,)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """Sorted runs merged together with the places of their entries."""
        return (self.rows(g, operands[0], with_places=True),)


@dataclass(frozen=True)
class Searchsorted(Op):
    """`searchsorted(sorted, x)`: how many entries of an ascending array stand before x, as i64; with `right` those
    that are equal to it count too. NaN stands last."""

    name = "searchsorted"
    arity = 2
    right: bool = False

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Places in the shape of the second operand."""
        table, wanted = arrays(self, types, 2)
        fits = table.rank == 1 and table.dtype == wanted.dtype and table.dtype.kind in NUMBERS
        require(fits, f"searchsorted: {wanted} in {table}")
        return (Array(I64, wanted.shape),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's searchsorted."""
        table, wanted = operands
        return np.searchsorted(table, wanted, "right" if self.right else "left").astype(np.int64)[()]

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """A structural zero."""
        return (None,)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """A few comparisons for every entry."""
        table, wanted = arrays(self, types, 2)
        entries = product(wanted.shape)
        return Cost(entries * LEVELS, entries * (LEVELS * table.dtype.bytes))

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """At each point the range of possible places, halved until one is left."""
        table, wanted = operands

        def point(h: Builder, *at: Value) -> Value:
            x = entry(h, wanted, at)

            def halve(q: Builder, carried: list[Value]) -> list[Value]:
                low, high = carried
                middle = q.floor_divide(q.add(low, high), q.number(2))
                here = q.index(table, middle, policy="proven")
                is_before = stands_before(q, here, x, strictly=not self.right)
                return [q.select(is_before, q.add(middle, q.number(1)), low), q.select(is_before, high, middle)]

            start = [h.number(0), h.number(array_type(table).shape[0])]
            return h.while_(start, lambda q, carried: q.less(*carried), halve)[0]

        shape = array_type(wanted).shape
        return (g.map(shape, point) if shape else point(g),)
