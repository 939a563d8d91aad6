"""Reading and writing arrays at indices, and what accumulators can do.

`index` and `accumulate` are each other's transposes. Indices are i64 scalars. `policy` says what an index out of range
means: "error" (a run-time fault), "proven" (cannot happen), "clip" (the nearest entry), "drop" (reads give 0, writes
are left out); the transpose uses the same policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Cost, Op, SizeOf, require
from dgraph.sizes import Size, product
from dgraph.types import I64, Accumulator, Array, Tape, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.evaluate import Interpreter
    from dgraph.ir.graph import Node, Value

_NUMBER = Array(I64)

NEUTRAL: dict[str, Any] = {"add": 0, "mul": 1, "max": -np.inf, "min": np.inf, "or": False, "and": True}
"""What an accumulator of each kind starts from. For integers max and min start at the end of the range."""

COMBINE: dict[str, Any] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "or": np.logical_or,
    "and": np.logical_and,
}


def neutral(type_: Accumulator) -> Any:
    """The starting value of an accumulator as a number."""
    if type_.dtype.kind == "int" and type_.kind in ("max", "min"):
        limits = np.iinfo(type_.dtype.numpy_name)
        return limits.min if type_.kind == "max" else limits.max
    return NEUTRAL[type_.kind]


def resolve_index(policy: str, indices: Sequence[Any], shape: Sequence[int]) -> tuple[int, ...] | None:
    """Integer indices under a policy: a tuple, or None for an access that is dropped. Raises `IndexError`."""
    numbers = [int(index) for index in indices]
    inside = all(0 <= index < extent for index, extent in zip(numbers, shape, strict=False))
    if inside:
        return tuple(numbers)
    if policy == "clip":
        return tuple(min(max(index, 0), extent - 1) for index, extent in zip(numbers, shape, strict=False))
    if policy == "drop":
        return None
    raise IndexError(f"index {tuple(numbers)} is out of range for the shape {tuple(shape[: len(numbers)])}")


class Placed(Op):
    """An op that touches one entry or sub-array of its first operand."""

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """The entry is read and written once, whatever lies beside it."""
        array, *others = types
        assert isinstance(array, Array | Accumulator)
        indices = sum(type_ == _NUMBER for type_ in others)
        entry = array.shape[min(indices, array.rank) :]
        combined = product(entry) if isinstance(array, Accumulator) else Size(())
        return Cost(combined, product(entry) * (2 * array.dtype.bytes))


@dataclass(frozen=True)
class Index(Placed):
    """An entry of an array, or a sub-array if there are fewer indices than axes."""

    name: ClassVar[str] = "index"
    policy: str = "error"

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The axes that are left."""
        array, *indices = types
        require(isinstance(array, Array) and len(indices) <= array.rank, "index: too many indices")
        require(all(type_ == _NUMBER for type_ in indices), "index: an index is not an i64")
        assert isinstance(array, Array)
        return (Array(array.dtype, array.shape[len(indices) :]),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """A read."""
        array, *indices = operands
        at = resolve_index(self.policy, indices, np.shape(array))
        return np.zeros(np.shape(array)[len(indices) :], array.dtype)[()] if at is None else array[at]

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """The same read of the tangent."""
        return (None if tangents[0] is None else g.emit(self, tangents[0], *primals[1:]),)


@dataclass(frozen=True)
class SetAt(Placed):
    """An array with one entry or sub-array replaced: `set_at(array, indices..., entry)`. Linear in both together."""

    name: ClassVar[str] = "set_at"
    policy: str = "error"

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The array's type."""
        array, *indices, entry = types
        require(isinstance(array, Array) and all(type_ == _NUMBER for type_ in indices), "set_at: not an index")
        assert isinstance(array, Array)
        require(entry == Array(array.dtype, array.shape[len(indices) :]), f"set_at: a {entry} does not fit")
        return (array,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """A copy with the place written."""
        array, *indices, entry = operands
        at = resolve_index(self.policy, indices, np.shape(array))
        if at is None:
            return array
        changed = np.array(array)
        changed[at] = entry
        return changed

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """The same write into the tangent; a missing tangent is a zero."""
        array, *indices, entry = primals
        if tangents[0] is None and tangents[-1] is None:
            return (None,)
        into = tangents[0] if tangents[0] is not None else g.zeros(array.type)
        what = tangents[-1] if tangents[-1] is not None else g.zeros(entry.type)
        return (g.emit(self, into, *indices, what),)

    def transpose(
        self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value
    ) -> Sequence[Value | None]:
        """The entry's cotangent is a read; the array's is the cotangent with the place set to zero."""
        _array, *indices, entry = operands
        into = g.emit(self, cotangent, *indices, g.zeros(entry.type)) if linear[0] else None
        what = g.emit(Index(self.policy), cotangent, *indices) if linear[-1] else None
        return (into, *(None for _ in indices), what)


@dataclass(frozen=True)
class Fresh(Op):
    """A new accumulator at its neutral element."""

    name: ClassVar[str] = "fresh"
    type: Accumulator

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The accumulator asked for."""
        return (self.type,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """An array that `accumulate` changes in place."""
        shape = tuple(map(size_of, self.type.shape))
        return np.full(shape, neutral(self.type), self.type.dtype.numpy)


@dataclass(frozen=True)
class Freeze(Op):
    """The array that an accumulator has gathered. Linear."""

    name: ClassVar[str] = "freeze"
    linear_in: ClassVar[tuple[int, ...] | None] = (0,)

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """An array of the accumulator's shape."""
        (accumulator,) = types
        require(isinstance(accumulator, Accumulator), "freeze: not an accumulator")
        assert isinstance(accumulator, Accumulator)
        return (Array(accumulator.dtype, accumulator.shape),)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The buffer itself: an accumulator is used once."""
        return operands[0] if operands[0].shape else operands[0][()]

    def transpose(
        self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value
    ) -> Sequence[Value | None]:
        """The cotangent of an accumulator is an array: passed through."""
        return (cotangent,)


@dataclass(frozen=True)
class Accumulate(Placed):
    """`accumulate(accumulator, indices..., entry)`: combine an entry or sub-array into the place. With kind add,
    linear in the accumulator and the entry together."""

    name: ClassVar[str] = "accumulate"
    policy: str = "error"

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The accumulator's type."""
        accumulator, *indices, entry = types
        require(isinstance(accumulator, Accumulator), "accumulate: not an accumulator")
        assert isinstance(accumulator, Accumulator)
        require(all(type_ == _NUMBER for type_ in indices), "accumulate: an index is not an i64")
        wanted = Array(accumulator.dtype, accumulator.shape[len(indices) :])
        require(entry == wanted, f"accumulate: a {entry} into {accumulator} at {len(indices)} indices")
        return (accumulator,)

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """The buffer, changed in place: an accumulator is used once."""
        type_ = node.operands[0].type
        assert isinstance(type_, Accumulator)
        buffer, *indices, entry = operands
        at = resolve_index(self.policy, indices, np.shape(buffer))
        if at is not None:
            with np.errstate(all="ignore"):
                buffer[at] = COMBINE[type_.kind](buffer[at], entry)
        return (buffer,)

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """The same accumulation of tangents; a missing accumulator is a fresh one."""
        accumulator, *indices, _entry = primals
        if tangents[-1] is None:
            return (tangents[0],)
        into = tangents[0] if tangents[0] is not None else g.zeros(accumulator.type)
        return (g.emit(self, into, *indices, tangents[-1]),)

    def transpose(
        self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value
    ) -> Sequence[Value | None]:
        """The cotangent of an accumulator is an array: passed through, and read at the place for the entry."""
        _accumulator, *indices, _entry = operands
        read = None
        if linear[-1]:
            read = g.emit(Index(self.policy), cotangent, *indices) if indices else cotangent
        return (cotangent if linear[0] else None, *(None for _ in indices), read)


@dataclass(frozen=True)
class ZeroTape(Op):
    """A tape of zeros: stands where no tape was written."""

    name: ClassVar[str] = "zero_tape"
    type: Tape

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The tape asked for."""
        return (self.type,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """None: a loop of no steps reads nothing of it."""
        return None


def is_start(node: Node, maker: Node | None) -> bool:
    """Whether a node adds an array to an accumulator that its maker has just opened: that starts as the array."""
    if (
        not isinstance(node.op, Accumulate)
        or len(node.operands) != 2
        or maker is None
        or not isinstance(maker.op, Fresh)
    ):
        return False
    return maker.op.type.kind == "add" and bool(maker.op.type.shape)


@dataclass(frozen=True)
class Undefined(Op):
    """A residual of the side of a choice that was not taken: never read."""

    name: ClassVar[str] = "undefined"
    type: ValueType

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """Nothing is computed and nothing filled."""
        return Cost(Size(()), Size(()))

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The type asked for."""
        return (self.type,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """NaN or 0, which nothing may let through: a choice turned into a select computes with it and drops it."""
        if not isinstance(self.type, Array):
            return None
        shape = tuple(map(size_of, self.type.shape))
        return np.full(shape, np.nan if self.type.dtype.is_float else 0, self.type.dtype.numpy)[()]
