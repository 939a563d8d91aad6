"""Reductions over axes. `axes` are in ascending order and vanish from the shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, require
from dgraph.ops.elementwise import BOOLS, FLOATS, NUMBERS, array_type, arrays, entry, like
from dgraph.ops.index import neutral
from dgraph.ops.shape import ravel, unravel
from dgraph.sizes import product, size
from dgraph.types import I64, Accumulator, Array, DType, Shape, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


def over(g: Builder, extents: Sequence[Any], kind: str, dtype: DType, body: Callable[..., Value]) -> Value:
    """The reduction of `body(h, *indices)` over an index space by an accumulator of a kind."""

    def point(h: Builder, indices: list[Value], _accumulators: list[Value], own: list[Value]) -> list[Value]:
        return [h.accumulate(own[0], body(h, *indices))]

    (result,) = g.space(tuple(extents), point, buffers=[Accumulator(dtype, (), kind)])
    return result


def back(g: Builder, value: Value, axes: tuple[int, ...], shape: Shape) -> Value:
    """A reduced value repeated along the axes that it lost."""
    kept = tuple(extent for axis, extent in enumerate(shape) if axis not in axes)
    if axes != tuple(range(len(axes))):
        ones = tuple(size(1) if axis in axes else extent for axis, extent in enumerate(shape))
        value = g.reshape(value, shape=ones)
    return value if kept == shape else g.broadcast(value, shape=shape)


class Reduction(Op):
    """An op that combines the entries along some axes."""

    arity: ClassVar[int | None] = 1
    kinds: ClassVar[tuple[str, ...]] = NUMBERS
    axes: tuple[int, ...]

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The operand's type without the axes."""
        (given,) = arrays(self, types, 1)
        require(given.dtype.kind in self.kinds, f"{self.name}: not defined for {given.dtype}")
        ascending = sorted(set(self.axes)) == list(self.axes)
        require(
            ascending and all(0 <= axis < given.rank for axis in self.axes), f"{self.name}: axes {self.axes} of {given}"
        )
        kept = tuple(extent for axis, extent in enumerate(given.shape) if axis not in self.axes)
        return (Array(self.result_dtype(given.dtype), kept),)

    def result_dtype(self, dtype: DType) -> DType:
        """The dtype of the result for an operand of a dtype."""
        return dtype

    def point(self, h: Builder, extents: Shape, dtype: DType, read: Callable[..., Value]) -> Value:
        """The reduction of `read(h, *indices)` over the extents, written with scalar ops."""
        raise NotImplementedError(self.name)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """At each point of the axes that stay, a reduction over the others."""
        (x,) = operands
        given = array_type(x)
        kept = [axis for axis in range(given.rank) if axis not in self.axes]
        extents = tuple(given.shape[axis] for axis in self.axes)

        def outer(h: Builder, *at: Value) -> Value:
            def read(q: Builder, *inner: Value) -> Value:
                where = dict(zip(kept, at, strict=True)) | dict(zip(self.axes, inner, strict=True))
                return entry(q, x, [where[axis] for axis in range(given.rank)])

            return self.point(h, extents, given.dtype, read)

        return (g.map([given.shape[axis] for axis in kept], outer) if kept else outer(g),)


class Folded(Reduction):
    """A reduction that an accumulator of `kind` does."""

    kind: ClassVar[str]
    numpy: ClassVar[Callable[..., Any]]

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's reduction, from the neutral element."""
        (x,) = operands
        start = np.asarray(_neutral(self.kind, x.dtype), x.dtype)
        return type(self).numpy(x, axis=self.axes, initial=start)[()]

    def point(self, h: Builder, extents: Shape, dtype: DType, read: Callable[..., Value]) -> Value:
        """An accumulation."""
        return over(h, extents, self.kind, dtype, read)


def _neutral(kind: str, dtype: Any) -> Any:
    """The neutral element for a NumPy dtype."""
    from dgraph.types import dtype_of_numpy

    known = dtype_of_numpy(dtype)
    assert known is not None
    return neutral(Accumulator(known, (), kind))


@dataclass(frozen=True)
class ReduceSum(Folded):
    """Sum over axes; of nothing it is 0."""

    name = "reduce_sum"
    kind = "add"
    linear_in = (0,)
    axes: tuple[int, ...] = ()

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's sum in the operand's dtype."""
        return np.sum(operands[0], axis=self.axes, dtype=operands[0].dtype)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The cotangent repeated."""
        return (back(g, cotangent, self.axes, array_type(operands[0]).shape),)


@dataclass(frozen=True)
class ReduceProd(Folded):
    """Product over axes; of nothing it is 1. The derivative is right where entries are 0."""

    name = "reduce_prod"
    kind = "mul"
    axes: tuple[int, ...] = ()

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's product in the operand's dtype."""
        return np.prod(operands[0], axis=self.axes, dtype=operands[0].dtype)

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The product rule, factor by factor: no division, so zeros are no exception."""
        (x,), (tangent,) = primals, tangents
        if tangent is None:
            return (None,)
        moved = tangent
        given = array_type(x)
        kept = [axis for axis in range(given.rank) if axis not in self.axes]
        extents = tuple(given.shape[axis] for axis in self.axes)

        def outer(h: Builder, *at: Value) -> Value:
            def step(q: Builder, flat: Value, carried: list[Value], _walked: list[Value]) -> list[Value]:
                where = dict(zip(kept, at, strict=True)) | dict(zip(self.axes, unravel(q, extents, flat), strict=True))
                indices = [where[axis] for axis in range(given.rank)]
                factor, change = entry(q, x, indices), entry(q, moved, indices)
                total, slope = carried
                return [q.mul(total, factor), q.add(q.mul(slope, factor), q.mul(total, change))]

            starts = [h.constant(1.0, given.dtype), h.constant(0.0, given.dtype)]
            return h.for_(h.number(product(extents)), starts, step)[1]

        return (g.map([given.shape[axis] for axis in kept], outer) if kept else outer(g),)


class _Extremum(Folded):
    """The largest or smallest entry; its derivative belongs to the first one, in row-major order."""

    winner: ClassVar[str]

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The tangent at the winner; 0 where there was none to choose from."""
        (x,), (tangent,) = primals, tangents
        if tangent is None:
            return (None,)
        moved = tangent
        given = array_type(x)
        kept = [axis for axis in range(given.rank) if axis not in self.axes]
        extents = tuple(given.shape[axis] for axis in self.axes)
        winners = getattr(g, self.winner)(x, axes=self.axes)

        def read(h: Builder, *at: Value) -> Value:
            inner = unravel(h, extents, entry(h, winners, at))
            where = dict(zip(kept, at, strict=True)) | dict(zip(self.axes, inner, strict=True))
            indices = [where[axis] for axis in range(given.rank)]
            return h.index(moved, *indices, policy="drop") if indices else moved

        return (g.map([given.shape[axis] for axis in kept], read) if kept else read(g),)


@dataclass(frozen=True)
class ReduceMax(_Extremum):
    """Largest entry over axes, NaN if one is NaN; of nothing it is -inf. The derivative belongs to the first."""

    name = "reduce_max"
    kind = "max"
    numpy = np.max
    winner = "argmax"
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class ReduceMin(_Extremum):
    """Smallest entry over axes, NaN if one is NaN; of nothing it is inf. The derivative belongs to the first."""

    name = "reduce_min"
    kind = "min"
    numpy = np.min
    winner = "argmin"
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class ReduceAny(Folded):
    """Whether one entry holds; of nothing it is false."""

    name = "reduce_any"
    kind = "or"
    kinds = BOOLS
    numpy = np.any
    axes: tuple[int, ...] = ()

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's any."""
        return np.any(operands[0], axis=self.axes)


@dataclass(frozen=True)
class ReduceAll(Folded):
    """Whether all entries hold; of nothing it is true."""

    name = "reduce_all"
    kind = "and"
    kinds = BOOLS
    numpy = np.all
    axes: tuple[int, ...] = ()

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's all."""
        return np.all(operands[0], axis=self.axes)


class _Winner(Reduction):
    """The row-major position, over all of the axes, of the first extreme entry; a NaN wins; -1 if there is none."""

    numpy: ClassVar[Callable[..., Any]]
    extreme: ClassVar[str]

    def result_dtype(self, dtype: DType) -> DType:
        """A position is an i64."""
        return I64

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's function over the axes flattened."""
        (x,) = operands
        x = np.asarray(x)
        kept = [axis for axis in range(x.ndim) if axis not in self.axes]
        shape = [x.shape[axis] for axis in kept]
        rows = np.transpose(x, [*kept, *self.axes]).reshape([*shape, int(np.prod([x.shape[a] for a in self.axes]))])
        found = np.full(shape, -1) if rows.shape[-1] == 0 else type(self).numpy(rows, axis=-1)
        return np.asarray(found, np.int64)[()]

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """A structural zero."""
        return (None,)

    def point(self, h: Builder, extents: Shape, dtype: DType, read: Callable[..., Value]) -> Value:
        """The extreme entry, then the least position that holds it."""
        best = over(h, extents, self.extreme, dtype, read)
        never = h.constant(np.iinfo(np.int64).max, I64)

        def place(q: Builder, *inner: Value) -> Value:
            here = read(q, *inner)
            wins = q.equal(here, best)
            if dtype.is_float:
                wins = q.logical_or(wins, q.isnan(here))
            return q.select(wins, ravel(q, extents, inner), never)

        first = over(h, extents, "min", I64, place)
        return h.select(h.equal(first, never), h.constant(-1, I64), first)


@dataclass(frozen=True)
class Argmax(_Winner):
    """Position of the first largest entry over axes, in row-major order; a NaN wins; -1 of nothing."""

    name = "argmax"
    numpy = np.argmax
    extreme = "max"
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Argmin(_Winner):
    """Position of the first smallest entry over axes, in row-major order; a NaN wins; -1 of nothing."""

    name = "argmin"
    numpy = np.argmin
    extreme = "min"
    axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class LogSumExp(Reduction):
    """`log(sum(exp(x)))` over axes without overflow; of nothing -inf. Derivative 0 where it is infinite."""

    name = "logsumexp"
    kinds = FLOATS
    axes: tuple[int, ...] = ()

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """A comparison, an exponential and two sums per entry."""
        (given,) = arrays(self, types, 1)
        return Cost(product(given.shape) * 13, super().cost(types).bytes)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """With the largest entry taken out, unless it is infinite."""
        (x,) = operands
        largest = np.max(x, axis=self.axes, keepdims=True, initial=-np.inf)
        base = np.where(np.isinf(largest), x.dtype.type(0), largest)
        total = np.log(np.sum(np.exp(x - base), axis=self.axes, keepdims=True)) + base
        return np.squeeze(total, axis=self.axes)[()]

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The sum of exp(x - y) dx."""
        (x,), (tangent,), (y,) = primals, tangents, results
        if tangent is None:
            return (None,)
        shape = array_type(x).shape
        infinite = g.equal(g.abs(y), like(g, np.inf, y))
        away = g.sub(x, back(g, y, self.axes, shape))
        weight = g.exp(g.select(back(g, infinite, self.axes, shape), like(g, -np.inf, x), away))
        return (g.reduce_sum(g.mul(weight, tangent), axes=self.axes),)

    def point(self, h: Builder, extents: Shape, dtype: DType, read: Callable[..., Value]) -> Value:
        """A maximum, a sum, a logarithm."""
        largest = over(h, extents, "max", dtype, read)
        infinite = h.equal(h.abs(largest), h.constant(np.inf, dtype))
        base = h.select(infinite, h.constant(0.0, dtype), largest)
        total = over(h, extents, "add", dtype, lambda q, *inner: q.exp(q.sub(read(q, *inner), base)))
        return h.add(h.log(total), base)
