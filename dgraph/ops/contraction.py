"""Sums of products of the entries of two arrays, by letters for the axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, require
from dgraph.ops.elementwise import NUMBERS, array_type, arrays, entry
from dgraph.ops.reduce import over
from dgraph.sizes import Size, product
from dgraph.types import Array, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


@dataclass(frozen=True)
class Contract(Op):
    """`result[written] = sum of a[left] * b[right]` over the letters that are not written, to which a third operand is
    added.

    Each letter stands in at least two of the three places. With `below="sr"` only the terms with s < r + shift count:
    the others are neither multiplied nor added, and entries of the result without any are 0, or the third operand's.
    """

    name = "contract"
    left: str = ""
    right: str = ""
    written: str = ""
    below: str = ""
    shift: int = 0

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """An axis for each written letter."""
        places = (self.left, self.right, self.written)
        require(2 <= len(types) <= 3, f"contract: {len(types)} operands")
        found = arrays(self, types, len(types))
        shown = f"contract {self.left}, {self.right} -> {self.written}: {found[0]} and {found[1]}"
        require(found[0].dtype == found[1].dtype and found[0].dtype.kind in NUMBERS, shown)
        for letters, type_ in zip(places, found, strict=False):
            require(len(letters) == type_.rank and len(set(letters)) == len(letters), f"{shown}: letters and axes")
        for letter in set("".join(places)):
            require(sum(letter in letters for letters in places) > 1, f"{shown}: {letter} stands in one place")
        extents: dict[str, Size] = {}
        for letters, type_ in zip(places, found[:2], strict=False):
            for letter, extent in zip(letters, type_.shape, strict=True):
                require(extents.setdefault(letter, extent) == extent, f"{shown}: extents of {letter} differ")
        if self.below:
            require(len(set(self.below)) == 2 and set(self.below) <= set(extents), f"{shown}: below {self.below}")
        result = Array(found[0].dtype, tuple(extents[letter] for letter in self.written))
        require(len(types) == 2 or types[2] == result, f"{shown}: the third operand is {types[-1]}")
        return (result,)

    def extents(self, left: ValueType, right: ValueType) -> dict[str, Size]:
        """The extent of each letter."""
        assert isinstance(left, Array) and isinstance(right, Array)
        return dict(zip(self.left + self.right, left.shape + right.shape, strict=True))

    @property
    def summed(self) -> str:
        """The letters that are summed over."""
        return "".join(letter for letter in self.left if letter not in self.written)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's einsum; over a triangle, one number of its first letter at a time."""
        a, b, *added = operands
        extents = dict(zip(self.left + self.right, a.shape + b.shape, strict=True))
        places = (self.left, self.right, self.written)
        formula = "{},{}->{}".format(*places)
        if not self.below:
            return added[0] + np.einsum(formula, a, b) if added else np.einsum(formula, a, b)
        total = added[0].copy() if added else np.zeros([extents[letter] for letter in self.written], a.dtype)
        low, high = self.below[0], self.below[1]
        for number in range(extents[low]):
            at = {low: number, high: slice(max(0, number - self.shift + 1), None)}
            one, other, into = (
                array[tuple(at.get(letter, slice(None)) for letter in letters)]
                for array, letters in zip((a, b, total), places, strict=True)
            )
            into += np.einsum(formula.replace(low, ""), one, other)
        return total

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The product rule; what is added has its own tangent."""
        terms = [tangents[2]] if len(tangents) == 3 and tangents[2] is not None else []
        if tangents[0] is not None:
            terms += g.apply(self, tangents[0], primals[1])
        if tangents[1] is not None:
            terms += g.apply(self, primals[0], tangents[1])
        total = terms[0] if terms else None
        for term in terms[1:]:
            total = term if total is None else g.add(total, term)
        return (total,)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """Again a sum of products: of the cotangent and the other operand, over the same triangle."""
        found: list[Value | None] = [None] * len(operands)
        if linear[0]:
            op = Contract(self.written, self.right, self.left, self.below, self.shift)
            (found[0],) = g.apply(op, cotangent, operands[1])
        elif linear[1]:
            op = Contract(self.left, self.written, self.right, self.below, self.shift)
            (found[1],) = g.apply(op, operands[0], cotangent)
        if len(operands) == 3 and linear[2]:
            found[2] = cotangent
        return found

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A sum of products at each point."""
        extents = self.extents(operands[0].type, operands[1].type)
        summed = self.summed
        dtype = array_type(operands[0]).dtype

        def counts(h: Builder, at: dict[str, Value]) -> Value:
            low, high = (at[letter] for letter in self.below)
            return h.less(low, h.add(high, h.constant(self.shift, dtype=low.type.dtype)))  # type: ignore[union-attr]

        def point(h: Builder, *written: Value) -> Value:
            at = dict(zip(self.written, written, strict=True))

            def term(q: Builder, *inner: Value) -> Value:
                known = at | dict(zip(summed, inner, strict=True))
                pair = zip(operands[:2], (self.left, self.right), strict=True)
                one, other = (entry(q, array, [known[letter] for letter in letters]) for array, letters in pair)
                value = q.mul(one, other)
                if self.below:
                    value = q.select(counts(q, known), value, q.constant(0, dtype=dtype))
                return value

            total = over(h, [extents[letter] for letter in summed], "add", dtype, term) if summed else term(h)
            return h.add(entry(h, operands[2], written), total) if len(operands) == 3 else total

        return (g.map([extents[letter] for letter in self.written], point) if self.written else point(g),)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """A product and a sum for each pair of entries that meet."""
        found = arrays(self, types, len(types))
        extents = self.extents(types[0], types[1])
        result = product(tuple(extents[letter] for letter in self.written))
        moved = sum((product(type_.shape) for type_ in found), result)
        return Cost(product(tuple(extents.values())) * 2, moved * found[0].dtype.bytes)
