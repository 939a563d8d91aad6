"""What elementwise ops share: operands of equal shapes, one NumPy function, one scalar at each point of an index space.

The same classes at rank 0 are the scalar bodies of index spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dgraph.errors import InvalidGraph
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, require
from dgraph.sizes import product
from dgraph.types import BOOL, Array, DType, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

FLOATS = ("float",)
NUMBERS = ("float", "int")
BOOLS = ("bool",)
ANYTHING = ("float", "int", "bool", "key")


def arrays(op: Op, types: Sequence[ValueType], count: int | None = None) -> list[Array]:
    """Operand types that must be arrays, so many of them."""
    if count is not None and len(types) != count:
        raise InvalidGraph(f"{op.name}: {len(types)} operands where {count} belong")
    found = [type_ for type_ in types if isinstance(type_, Array)]
    require(len(found) == len(types), f"{op.name}: an operand is not an array")
    return found


def array_type(value: Value) -> Array:
    """The type of a value that is an array."""
    if not isinstance(value.type, Array):
        raise InvalidGraph(f"{value!r} is not an array")
    return value.type


def entry(h: Builder, array: Value, indices: Sequence[Value]) -> Value:
    """The entry of an array at a point that is known to be inside."""
    return h.index(array, *indices, policy="proven") if array_type(array).shape else array


class Elementwise(Op):
    """An op applied to each entry: operands of one shape and, unless `infer` says otherwise, one dtype.

    `kinds` are the dtypes allowed; `numpy` is the NumPy function that is its meaning; `weight` is its price in
    additions.
    """

    kinds: ClassVar[tuple[str, ...]] = FLOATS
    numpy: ClassVar[Callable[..., Any]]
    weight: ClassVar[int] = 1

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The common type."""
        found = arrays(self, types, self.arity)
        first = found[0]
        if found.count(first) != len(found):
            raise InvalidGraph(f"{self.name}: operands {', '.join(map(str, types))} differ")
        require(first.dtype.kind in self.kinds, f"{self.name}: not defined for {first.dtype}")
        return (Array(self.result_dtype(first.dtype), first.shape),)

    def result_dtype(self, dtype: DType) -> DType:
        """The dtype of the result for operands of a dtype."""
        return dtype

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The NumPy function."""
        return type(self).numpy(*operands)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """The scalar form at each point."""
        shape = array_type(operands[0]).shape
        if not shape:
            return (self.scalar(g, *operands),)
        return (g.map(shape, lambda h, *at: self.scalar(h, *(entry(h, operand, at) for operand in operands))),)

    def scalar(self, h: Builder, *operands: Value) -> Value:
        """The op on scalars: itself, or written with simpler ones."""
        return h.emit(self, *operands)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """So many operations per entry; each operand is read and the result written once."""
        found = arrays(self, types)
        entries = product(found[0].shape)
        moved = sum(type_.dtype.bytes for type_ in found) + self.result_dtype(found[-1].dtype).bytes
        return Cost(entries * self.weight, entries * moved)


class Unary(Elementwise):
    """A smooth function of one number: its rule for derivatives is its slope. `is_steep` if that is infinite somewhere
    though the function is not: where no tangent arrives it counts for nothing then."""

    arity: ClassVar[int | None] = 1
    weight: ClassVar[int] = 10
    is_steep: ClassVar[bool] = False

    def slope(self, g: Builder, x: Value, y: Value) -> Value:
        """The derivative at x, where the result is y."""
        raise NotImplementedError(self.name)

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """Slope times tangent."""
        (tangent,) = tangents
        if tangent is None:
            return (None,)
        slope = self.slope(g, primals[0], results[0])
        return (g.steep(slope, tangent) if self.is_steep else g.mul(slope, tangent),)


class Steps(Elementwise):
    """A function of one number that is constant almost everywhere: its derivative is a structural zero."""

    arity: ClassVar[int | None] = 1

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """A structural zero."""
        return (None,)


class Predicate(Elementwise):
    """A question about numbers: the results are bools."""

    kinds: ClassVar[tuple[str, ...]] = NUMBERS

    def result_dtype(self, dtype: DType) -> DType:
        """Bool."""
        return BOOL

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """A structural zero."""
        return (None,)


def like(g: Builder, value: float | int | bool, model: Value) -> Value:
    """A constant of the type of another value."""
    return g.full(value, array_type(model))


def summed(g: Builder, *terms: Value | None) -> Value | None:
    """The sum of the terms that are there; None if none is."""
    total: Value | None = None
    for term in terms:
        if term is not None:
            total = term if total is None else g.add(total, term)
    return total
