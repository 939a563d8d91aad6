"""Values from nothing or from their type: constants, sizes, counting, change of dtype, the end of differentiation, and
order without dependence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, require
from dgraph.ops.elementwise import ANYTHING, Elementwise, array_type, arrays
from dgraph.sizes import Size, size
from dgraph.types import F64, I64, Array, DType, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.graph import Value

Tangents = Sequence["Value | None"]


@dataclass(frozen=True, eq=False)
class Constant(Op):
    """A number written in the program. Two constants are equal if their bits are: 0 is not -0, NaN is NaN."""

    name = "constant"
    arity = 0
    value: float | int | bool
    dtype: DType = F64

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """A scalar."""
        arrays(self, types, 0)
        return (Array(self.dtype),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The number in its dtype."""
        return self.number

    @property
    def number(self) -> Any:
        """The number as a NumPy scalar; an integer wraps, a float too large for its dtype becomes infinite."""
        with np.errstate(all="ignore"):
            if self.dtype.kind in ("int", "key") and isinstance(self.value, int):
                bits = 8 * self.dtype.bytes
                return np.array(int(self.value) % 2**bits, f"uint{bits}").view(self.dtype.numpy)[()]
            return np.array(self.value).astype(self.dtype.numpy)[()]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant):
            return NotImplemented
        return self.dtype == other.dtype and bool(self.number.tobytes() == other.number.tobytes())

    def __hash__(self) -> int:
        return hash((self.dtype, self.number.tobytes()))

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """Itself."""
        return g.apply(self)


@dataclass(frozen=True)
class SizeValue(Op):
    """A size as an i64."""

    name = "size"
    arity = 0
    value: Size

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """An i64."""
        arrays(self, types, 0)
        return (Array(I64),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The number of the size."""
        return np.int64(size_of(self.value))

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """Itself."""
        return g.apply(self)


@dataclass(frozen=True)
class Iota(Op):
    """The numbers 0, 1, 2, ... as i64."""

    name = "iota"
    arity = 0
    extent: Size

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """One axis of the extent."""
        arrays(self, types, 0)
        return (Array(I64, (self.extent,)),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's arange."""
        return np.arange(size_of(self.extent), dtype=np.int64)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """The index at each point."""
        return (g.map([self.extent], lambda _, i: i),)


@dataclass(frozen=True)
class Cast(Elementwise):
    """Change of dtype. Floats round to the nearest, or towards 0 to an integer (out of range: any value); integers
    wrap; to bool: whether it is not 0. Linear between floats."""

    name = "cast"
    arity = 1
    kinds = ANYTHING
    dtype: DType = F64

    def result_dtype(self, dtype: DType) -> DType:
        """The dtype asked for."""
        return self.dtype

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The shape with the dtype asked for."""
        (given,) = arrays(self, types, 1)
        require((given.dtype.kind == "key") == (self.dtype.kind == "key"), f"cast: {given.dtype} to {self.dtype}")
        return super().infer(types, regions)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NumPy's astype."""
        return operands[0].astype(self.dtype.numpy)

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """The tangent in the other dtype, between floats."""
        (tangent,) = tangents
        return (g.cast(tangent, dtype=self.dtype) if tangent is not None and self.dtype.is_float else None,)

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The cotangent in the operand's dtype."""
        return (g.cast(cotangent, dtype=array_type(operands[0]).dtype),)


@dataclass(frozen=True)
class StopGradient(Elementwise):
    """x itself; its derivative is a structural zero."""

    name = "stop_gradient"
    arity = 1
    kinds = ANYTHING

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The operand."""
        return operands[0]

    def jvp(self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Tangents) -> Tangents:
        """A structural zero."""
        return (None,)


@dataclass(frozen=True)
class After(Op):
    """`after(x, y)`: x itself, not to be had before y. Linear in x. Only passes make it: what is computed of it is not
    shared with what was computed of x, nor computed sooner than y."""

    name = "after"
    arity = 2
    linear_in = (0,)

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The type of x."""
        return (arrays(self, types, 2)[0],)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The first operand."""
        return operands[0]

    def transpose(self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value) -> Tangents:
        """The cotangent, for x."""
        return (cotangent, None)

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """Itself."""
        return g.apply(self, *operands)

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """Nothing."""
        return Cost(size(0), size(0))
