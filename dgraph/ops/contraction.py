"""Sums of products of the entries of two arrays, by letters for the axes."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, require
from dgraph.ops.elementwise import NUMBERS, array_type, arrays, entry
from dgraph.ops.reduce import over
from dgraph.sizes import Size, product, size
from dgraph.types import Accumulator, Array, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


@functools.cache
def terms_of(letters: str) -> tuple[tuple[tuple[str, int], ...], ...]:
    """The letters of each axis and how often they count: `s2i+aq` has the axes s, twice i plus a, and q."""
    found: list[tuple[tuple[str, int], ...]] = []
    for joins, times, letter in re.findall(r"(\+?)(\d*)([a-z])", letters):
        term = (letter, int(times or 1))
        found[len(found) - bool(joins) :] = [(*found[-1], term) if joins else (term,)]
    return tuple(found)


@functools.cache
def axes_of(letters: str) -> tuple[str, ...]:
    """The letters of each axis: `s2i+aq` has the axes s, ia and q."""
    return tuple("".join(letter for letter, _ in terms) for terms in terms_of(letters))


def is_plain(letters: str) -> bool:
    """Whether each axis has one letter that counts once."""
    return not re.search(r"[+\d]", letters)


@dataclass(frozen=True)
class Contract(Op):
    """`result[written] = sum of a[left] * b[right]` over the letters that are not written, to which a third operand is
    added.

    Each letter stands in at least two of the three places; `2i+p` stands for an axis that is read or written at
    2 i + p. A letter without an axis of its own in an operand counts as far as the others leave room.
    With `below="sr"` only the terms with s < r + shift count: the others are neither multiplied nor added, and entries
    of the result without any are 0, or the third operand's. A result that is written at sums or multiples needs a third
    operand.
    """

    name = "contract"
    left: str = ""
    right: str = ""
    written: str = ""
    below: str = ""
    shift: int = 0

    @property
    def places(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """The axes of the factors and of the result."""
        return axes_of(self.left), axes_of(self.right), axes_of(self.written)

    @property
    def times(self) -> tuple[dict[str, int], ...]:
        """How often each letter counts, in the factors and in the result."""
        return tuple(
            {letter: times for terms in terms_of(place) for letter, times in terms}
            for place in (self.left, self.right, self.written)
        )

    @property
    def letters(self) -> str:
        """Every letter once."""
        return "".join(dict.fromkeys("".join(axis for place in self.places for axis in place)))

    @property
    def summed(self) -> str:
        """The letters that are summed over."""
        return "".join(letter for letter in self.letters if letter not in self.written)

    @property
    def has_windows(self) -> bool:
        """Whether the result is written at sums or multiples of indices."""
        return not is_plain(self.written)

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """An axis for each written letter."""
        require(2 <= len(types) <= 3, f"contract: {len(types)} operands")
        found = arrays(self, types, len(types))
        shown = f"contract {self.left}, {self.right} -> {self.written}: {found[0]} and {found[1]}"
        require(found[0].dtype == found[1].dtype and found[0].dtype.kind in NUMBERS, shown)
        for place, type_ in zip(self.places, found, strict=False):
            held = "".join(place)
            require(len(place) == type_.rank and len(set(held)) == len(held), f"{shown}: letters and axes")
        for letter in self.letters:
            count = sum(letter in "".join(place) for place in self.places)
            require(count > 1, f"{shown}: {letter} stands in one place")
        extents = self.extents(*types)
        require(set(extents) == set(self.letters), f"{shown}: letters without extent")
        for letters, type_ in zip((self.left, self.right, self.written), found, strict=False):
            for terms, extent in zip(terms_of(letters), type_.shape, strict=True):
                ((letter, times), *more) = terms
                require(bool(more) or times > 1 or extents[letter] == extent, f"{shown}: extents of {letter} differ")
        if self.below:
            require(len(set(self.below)) == 2 and set(self.below) <= set(extents), f"{shown}: below {self.below}")
            require(is_plain(self.left + self.right + self.written), f"{shown}: a triangle of sums")
        require(len(types) == 3 or not self.has_windows, f"{shown}: no third operand")
        if self.has_windows:
            return (found[2],)
        result = Array(found[0].dtype, tuple(extents[letter] for letter in self.written))
        require(len(types) == 2 or types[2] == result, f"{shown}: the third operand is {types[-1]}")
        return (result,)

    def extents(self, *types: ValueType) -> dict[str, Size]:
        """The extent of each letter that the operands decide."""
        return self._extents([type_.shape for type_ in types if isinstance(type_, Array)])

    def _extents(self, shapes: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Of an axis of its own, else what is left of an axis that all sums of letters fill."""
        found: dict[str, Any] = {}
        places = (self.left, self.right, self.written)
        axes = [
            pair
            for place, shape in zip(places, shapes, strict=False)
            for pair in zip(terms_of(place), shape, strict=True)
        ]
        for (first, *more), extent in axes:
            if not more and first[1] == 1:
                found.setdefault(first[0], extent)
        for terms, extent in axes:
            unknown = [letter for letter, times in terms if letter not in found and times == 1]
            rest = [(found[letter] - 1) * times for letter, times in terms if letter in found]
            if len(unknown) == 1 and len(rest) == len(terms) - 1:
                found[unknown[0]] = extent - sum(rest, start=extent - extent)
        return found

    def applied(self, g: Builder, left: Value, right: Value, result: ValueType) -> Value:
        """The sum of products, of a type; it is added to zeros where the factors alone do not decide all extents."""
        known = self.extents(left.type, right.type)
        is_known = not self.has_windows and known == self.extents(left.type, right.type, result)
        (found,) = g.apply(self, left, right, *(() if is_known else (g.zeros(result),)))
        return found

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's einsum; over a triangle or windows of the result, one number of a letter at a time."""
        a, b, *added = operands
        extents: dict[str, int] = self._extents([array.shape for array in operands])
        one, other = (_spread(array, terms_of(place), extents) for array, place in ((a, self.left), (b, self.right)))
        names = ["".join(place) for place in self.places]
        if not (self.below or self.has_windows):
            total = np.einsum(f"{names[0]},{names[1]}->{names[2]}", one, other)
            return added[0] + total if added else total
        total = added[0].copy() if added else np.zeros([extents[letter] for letter in self.written], a.dtype)
        fixed = self.below[0] if self.below else "".join(axis[1:] for axis in self.places[2])
        axes = terms_of(self.written)
        for numbers in itertools.product(*(range(extents[letter]) for letter in fixed)):
            at: dict[str, Any] = dict(zip(fixed, numbers, strict=True))
            rest = [name.translate(str.maketrans("", "", fixed)) for name in names]
            if self.below:
                at[self.below[1]] = slice(max(0, numbers[0] - self.shift + 1), None)
            parts = (
                array[tuple(at.get(letter, slice(None)) for letter in name)]
                for array, name in zip((one, other), names, strict=False)
            )
            into = total[tuple(_window(terms, at, extents) for terms in axes)]
            into += np.einsum(f"{rest[0]},{rest[1]}->{rest[2]}", *parts)
        return total

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The product rule; what is added has its own tangent."""
        total = tangents[2] if len(tangents) == 3 else None
        for factors in ((tangents[0], primals[1]), (primals[0], tangents[1])):
            if factors[0] is None or factors[1] is None:
                continue
            term = self.applied(g, factors[0], factors[1], results[0].type)
            total = term if total is None else g.add(total, term)
        return (total,)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """Again a sum of products: of the cotangent and the other operand, over the same triangle."""
        found: list[Value | None] = [None] * len(operands)
        for at, op in (
            (0, Contract(self.written, self.right, self.left, self.below, self.shift)),
            (1, Contract(self.left, self.written, self.right, self.below, self.shift)),
        ):
            if linear[at]:
                factors = (cotangent, operands[1]) if at == 0 else (operands[0], cotangent)
                found[at] = op.applied(g, *factors, operands[at].type)
        if len(operands) == 3 and linear[2]:
            found[2] = cotangent
        return found

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A sum of products at each point."""
        extents = self.extents(*(operand.type for operand in operands))
        dtype = array_type(operands[0]).dtype

        def multiple(h: Builder, index: Value, times: int) -> Value:
            return index if times == 1 else h.mul(index, h.constant(times, dtype=array_type(index).dtype))

        def indices(h: Builder, at: dict[str, Value], place: str) -> list[Value]:
            return [
                functools.reduce(h.add, (multiple(h, at[letter], times) for letter, times in terms))
                for terms in terms_of(place)
            ]

        def term(h: Builder, at: dict[str, Value]) -> Value:
            pair = zip(operands[:2], (self.left, self.right), strict=True)
            one, other = (entry(h, array, indices(h, at, place)) for array, place in pair)
            value = h.mul(one, other)
            if not self.below:
                return value
            low, high = (at[letter] for letter in self.below)
            counts = h.less(low, h.add(high, h.constant(self.shift, dtype=array_type(low).dtype)))
            return h.select(counts, value, h.constant(0, dtype=dtype))

        def point(h: Builder, *written: Value) -> Value:
            known = dict(zip(self.written, written, strict=True))
            counts = [extents[letter] for letter in self.summed]

            def inner(q: Builder, *at: Value) -> Value:
                return term(q, known | dict(zip(self.summed, at, strict=True)))

            total = over(h, counts, "add", dtype, inner) if counts else inner(h)
            return h.add(entry(h, operands[2], written), total) if len(operands) == 3 else total

        def write(h: Builder, at: list[Value], _threaded: list[Value], own: list[Value]) -> list[Value]:
            known = dict(zip(self.letters, at, strict=True))
            return [h.accumulate(own[0], *indices(h, known, self.written), term(h, known), policy="proven")]

        if self.has_windows:
            buffer = Accumulator(dtype, array_type(operands[2]).shape, "add")
            (found,) = g.space(tuple(extents[letter] for letter in self.letters), write, buffers=[buffer])
            return (g.add(operands[2], found),)
        return (g.map([extents[letter] for letter in self.written], point) if self.written else point(g),)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """A product and a sum for each pair of entries that meet."""
        found = arrays(self, types, len(types))
        (result,) = self.infer(types, ())
        assert isinstance(result, Array)
        moved = sum((product(type_.shape) for type_ in (*found, result)), size(0))
        return Cost(product(tuple(self.extents(*types).values())) * 2, moved * found[0].dtype.bytes)


def _spread(array: Any, axes: Sequence[Sequence[tuple[str, int]]], extents: dict[str, int]) -> Any:
    """The array with an axis for each letter, where one axis is read at sums or multiples of letters."""
    if all(len(terms) == 1 and terms[0][1] == 1 for terms in axes):
        return array
    letters = [(letter, times * array.strides[at]) for at, terms in enumerate(axes) for letter, times in terms]
    shape = [extents[letter] for letter, _ in letters]
    if not all(shape):
        return np.zeros(shape, array.dtype)
    return np.lib.stride_tricks.as_strided(array, shape, [stride for _, stride in letters], writeable=False)


def _window(terms: Sequence[tuple[str, int]], at: dict[str, Any], extents: dict[str, int]) -> Any:
    """What of an axis of the result is written, where all letters of a sum but the first have numbers."""
    (letter, times), *shifts = terms
    if not shifts and times == 1:
        return at.get(letter, slice(None))
    start = sum(count * at[shift] for shift, count in shifts)
    return slice(start, start + times * extents[letter], times)
