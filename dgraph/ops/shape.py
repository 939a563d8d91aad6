"""Moving entries: broadcast, reshape, transpose, slice and its transpose, concat. All linear, for any dtype.

Views such as squeeze, expand and flatten are reshapes; a flip is a slice with a step of -1; padding is `unslice`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, bytes_of, require
from dgraph.ops.elementwise import array_type, arrays, entry
from dgraph.sizes import Size, product, size
from dgraph.types import Array, Shape, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


class Move(Op):
    """A linear op with one operand that computes nothing: its cost is the entries of its result moved."""

    arity: ClassVar[int | None] = 1
    linear_in: ClassVar[tuple[int, ...] | None] = (0,)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """Every entry of the result is read once and written once."""
        (result,) = self.infer(types, ())
        assert isinstance(result, Array)
        return Cost(size(0), product(result.shape) * (2 * result.dtype.bytes))


@dataclass(frozen=True)
class Broadcast(Move):
    """The operand repeated along new leading axes and along axes of literal size 1."""

    name = "broadcast"
    shape: Shape = ()

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The shape asked for."""
        (given,) = arrays(self, types, 1)
        lead = len(self.shape) - given.rank
        require(lead >= 0, f"broadcast: {given} to fewer axes")
        for one, wanted in zip(given.shape, self.shape[lead:], strict=True):
            require(one == wanted or one.is_literal_one, f"broadcast: an axis of {one} to {wanted}")
        return (Array(given.dtype, self.shape),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's broadcast_to, a view."""
        return np.broadcast_to(operands[0], tuple(map(size_of, self.shape)))[()]

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The sum over the axes that were repeated."""
        given = array_type(operands[0]).shape
        lead = len(self.shape) - len(given)
        stretched = tuple(lead + at for at, one in enumerate(given) if one != self.shape[lead + at])
        total = cotangent
        if lead or stretched:
            total = g.reduce_sum(cotangent, axes=(*range(lead), *stretched))
        return (g.reshape(total, shape=given) if stretched else total,)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A read at the trailing indices, 0 along stretched axes."""
        (x,) = operands
        given = array_type(x).shape
        lead = len(self.shape) - len(given)

        def point(h: Builder, *at: Value) -> Value:
            zero = [h.number(0) for one in given if one.is_literal_one][:1]
            indices = [zero[0] if one.is_literal_one else i for one, i in zip(given, at[lead:], strict=True)]
            return entry(h, x, indices)

        return (g.map(self.shape, point),)


@dataclass(frozen=True)
class Reshape(Move):
    """The same entries in row-major order with other axes."""

    name = "reshape"
    shape: Shape = ()

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The shape asked for, of as many entries."""
        (given,) = arrays(self, types, 1)
        require(product(given.shape) == product(self.shape), f"reshape: {given} to {Array(given.dtype, self.shape)}")
        return (Array(given.dtype, self.shape),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's reshape."""
        return np.reshape(operands[0], tuple(map(size_of, self.shape)))[()]

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The reshape back."""
        return (g.reshape(cotangent, shape=array_type(operands[0]).shape),)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A read where the flat positions agree, taken apart only within groups of axes that really change."""
        (x,) = operands
        groups = groups_of_axes(array_type(x).shape, self.shape)

        def point(h: Builder, *at: Value) -> Value:
            indices: list[Value] = []
            for given, wanted in groups:
                here = at[wanted[0] : wanted[1]]
                flat = ravel(h, self.shape[wanted[0] : wanted[1]], here)
                indices += unravel(h, array_type(x).shape[given[0] : given[1]], flat)
            return entry(h, x, indices)

        return (g.map(self.shape, point),)


def groups_of_axes(given: Shape, wanted: Shape) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The smallest runs of axes (as half-open pairs) that can be seen to have equal numbers of entries, in order."""
    groups = []
    i = j = 0
    while i < len(given) or j < len(wanted):
        start = i, j
        i, j = min(i + 1, len(given)), min(j + 1, len(wanted))
        while (i, j) != (len(given), len(wanted)):
            left, right = product(given[start[0] : i]), product(wanted[start[1] : j])
            if left == right:
                break
            if j < len(wanted) and (i == len(given) or (left - right).is_nonnegative()):
                j += 1
            else:
                i += 1
        groups.append(((start[0], i), (start[1], j)))
    return groups


def ravel(h: Builder, shape: Shape, indices: Sequence[Value]) -> Value:
    """The row-major position of an index tuple."""
    flat: Value | None = None
    for extent, index in zip(shape, indices, strict=True):
        if not extent.is_literal_one:
            flat = index if flat is None else h.add(h.mul(flat, h.number(extent)), index)
    return h.number(0) if flat is None else flat


def unravel(h: Builder, shape: Shape, flat: Value) -> list[Value]:
    """The index tuple at a row-major position."""
    indices: list[Value] = []
    wide = [at for at, extent in enumerate(shape) if not extent.is_literal_one]
    for at in reversed(range(len(shape))):
        if shape[at].is_literal_one:
            indices.append(h.number(0))
        elif at == wide[0]:
            indices.append(flat)
        else:
            extent = h.number(shape[at])
            indices.append(h.mod(flat, extent))
            flat = h.floor_divide(flat, extent)
    return indices[::-1]


@dataclass(frozen=True)
class Transpose(Move):
    """The axes in another order: axis k of the result is axis `axes[k]` of the operand."""

    name = "transpose"
    axes: tuple[int, ...] = (1, 0)

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The shape in that order."""
        (given,) = arrays(self, types, 1)
        require(sorted(self.axes) == list(range(given.rank)), f"transpose: axes {self.axes} of {given}")
        return (Array(given.dtype, tuple(given.shape[axis] for axis in self.axes)),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's transpose, a view."""
        return np.transpose(operands[0], self.axes)[()]

    @property
    def inverse(self) -> tuple[int, ...]:
        """Where each axis of the operand went."""
        return tuple(self.axes.index(axis) for axis in range(len(self.axes)))

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The axes back in their order."""
        return (g.transpose(cotangent, axes=self.inverse),)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A read at the indices in their old order."""
        (result,) = self.infer([operands[0].type], ())
        assert isinstance(result, Array)
        return (g.map(result.shape, lambda h, *at: entry(h, operands[0], [at[axis] for axis in self.inverse])),)


@dataclass(frozen=True)
class Slice(Move):
    """Every `steps[k]`-th entry of axis k from `starts[k]`, `shape[k]` of them. A step may be negative."""

    name = "slice"
    starts: Shape = ()
    steps: tuple[int, ...] = ()
    shape: Shape = ()

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The shape asked for."""
        (given,) = arrays(self, types, 1)
        ranks = {len(self.starts), len(self.steps), len(self.shape), given.rank}
        require(len(ranks) == 1, f"slice: facts for {sorted(ranks)} axes of {given}")
        require(0 not in self.steps, "slice: a step of 0")
        return (Array(given.dtype, self.shape),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's basic slicing, a view. Raises `IndexError` outside of the array."""
        (x,) = operands
        return x[places(self, size_of, np.shape(x), tuple(map(size_of, self.shape)))]

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The cotangent placed into zeros."""
        shape = array_type(operands[0]).shape
        return (g.unslice(cotangent, starts=self.starts, steps=self.steps, shape=shape),)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A read at `start + step * index`."""
        (x,) = operands

        def point(h: Builder, *at: Value) -> Value:
            return entry(h, x, [affine(h, *axis) for axis in zip(self.starts, self.steps, at, strict=True)])

        return (g.map(self.shape, point),)


@dataclass(frozen=True)
class Unslice(Move):
    """Zeros of `shape` with the operand at every `steps[k]`-th place of axis k from `starts[k]`: the transpose of
    `slice`. With steps of 1 it pads."""

    name = "unslice"
    starts: Shape = ()
    steps: tuple[int, ...] = ()
    shape: Shape = ()

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The shape asked for."""
        (given,) = arrays(self, types, 1)
        ranks = {len(self.starts), len(self.steps), len(self.shape), given.rank}
        require(len(ranks) == 1, f"unslice: facts for {sorted(ranks)} axes of {given}")
        require(0 not in self.steps, "unslice: a step of 0")
        return (Array(given.dtype, self.shape),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's assignment to a slice. Raises `IndexError` outside of the array."""
        (x,) = operands
        result = np.zeros(tuple(map(size_of, self.shape)), x.dtype)
        result[places(self, size_of, result.shape, np.shape(x))] = x
        return result[()]

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The slice at these places."""
        shape = array_type(operands[0]).shape
        return (g.slice(cotangent, starts=self.starts, steps=self.steps, shape=shape),)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """A read at `(index - start) / step`, 0 where that is not a place of the operand."""
        (x,) = operands

        def point(h: Builder, *at: Value) -> Value:
            indices = []
            for start, step, index in zip(self.starts, self.steps, at, strict=True):
                away = h.sub(index, h.number(start)) if step > 0 else h.sub(h.number(start), index)
                if abs(step) != 1:
                    stride = h.number(abs(step))
                    meets = h.equal(h.mod(away, stride), h.number(0))
                    away = h.select(meets, h.floor_divide(away, stride), h.number(-1))
                indices.append(away)
            return h.index(x, *indices, policy="drop") if indices else x

        return (g.map(self.shape, point),)


def places(op: Slice | Unslice, size_of: SizeOf, shape: Sequence[int], count: Sequence[int]) -> tuple[slice, ...]:
    """The NumPy slices that an op means in an array of a shape. Raises `IndexError` if one leaves it."""
    found = []
    for start, step, extent, many in zip(map(size_of, op.starts), op.steps, shape, count, strict=True):
        last = start + (many - 1) * step
        if many > 0 and not (0 <= start < extent and 0 <= last < extent):
            raise IndexError(f"{many} entries from {start} in steps of {step} leave an axis of length {extent}")
        end = last + (1 if step > 0 else -1)
        found.append(slice(start, end if end >= 0 else None, step) if many > 0 else slice(0, 0))
    return tuple(found)


def affine(h: Builder, start: Size, step: int, index: Value) -> Value:
    """`start + step * index`, written as simply as can be."""
    scaled = index if abs(step) == 1 else h.mul(h.number(abs(step)), index)
    if step < 0:
        return h.sub(h.number(start), scaled)
    return scaled if start.constant == 0 else h.add(h.number(start), scaled)


@dataclass(frozen=True)
class Concat(Op):
    """Arrays one after another along an axis. Linear in all of them together."""

    name = "concat"
    axis: int = 0

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The first shape with the extents along the axis added up."""
        found = arrays(self, types)
        require(
            bool(found) and 0 <= self.axis < found[0].rank, f"concat: axis {self.axis} of {', '.join(map(str, found))}"
        )
        first = found[0]
        total = size(0)
        for type_ in found:
            total = total + type_.shape[self.axis] if type_.rank == first.rank else total
            fits = type_ == Array(
                first.dtype, _with_extent(first.shape, self.axis, type_.shape[self.axis : self.axis + 1])
            )
            require(fits, f"concat: {first} and {type_}")
        return (Array(first.dtype, _with_extent(first.shape, self.axis, (total,))),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's concatenate."""
        return np.concatenate(operands, self.axis)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """Every entry is read once and written once."""
        return Cost(size(0), bytes_of(self.infer(types, ())[0]) * 2)

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The tangents one after another; a missing one is 0."""
        if all(tangent is None for tangent in tangents):
            return (None,)
        pairs = zip(primals, tangents, strict=True)
        filled = [g.zeros(primal.type) if tangent is None else tangent for primal, tangent in pairs]
        return (g.concat(*filled, axis=self.axis),)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """Each operand gets its slice."""
        found: list[Value | None] = []
        offset = size(0)
        for operand, moved in zip(operands, linear, strict=True):
            shape = array_type(operand).shape
            starts = tuple(offset if axis == self.axis else size(0) for axis in range(len(shape)))
            found.append(g.slice(cotangent, starts=starts, steps=(1,) * len(shape), shape=shape) if moved else None)
            offset = offset + shape[self.axis]
        return found

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """At each point a read of the array that it falls in."""
        (result,) = self.infer([operand.type for operand in operands], ())
        assert isinstance(result, Array)

        def read(h: Builder, at: Sequence[Value], position: int, offset: Size) -> Value:
            x = operands[position]
            index = at[self.axis] if offset.constant == 0 else h.sub(at[self.axis], h.number(offset))
            here = [*at[: self.axis], index, *at[self.axis + 1 :]]
            if position == len(operands) - 1:
                return entry(h, x, here)
            end = offset + array_type(x).shape[self.axis]
            inside = h.less(at[self.axis], h.number(end))
            (found,) = h.if_(inside, lambda q: [entry(q, x, here)], lambda q: [read(q, at, position + 1, end)])
            return found

        return (g.map(result.shape, lambda h, *at: read(h, at, 0, size(0))),)


def _with_extent(shape: Shape, axis: int, extent: Shape) -> Shape:
    """A shape with the extent of one axis replaced."""
    return (*shape[:axis], *extent, *shape[axis + 1 :])
