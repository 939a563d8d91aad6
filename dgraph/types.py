"""Types: dtypes, arrays, the two kinds of value that only loops and index spaces use, tuples, records, functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from dgraph.classes import dataclass
from dgraph.sizes import Atom, Size, size

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class DType:
    """The type of one number. `kind` is float, int, bool or key; an unsigned integer is an int."""

    name: str
    kind: str
    bytes: int
    numpy_name: str

    @cached_property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy dtype that holds it."""
        import numpy

        return numpy.dtype(self.numpy_name)

    @property
    def is_float(self) -> bool:
        """Whether values have tangents."""
        return self.kind == "float"

    def __str__(self) -> str:
        return self.name


F32 = DType("f32", "float", 4, "float32")
F64 = DType("f64", "float", 8, "float64")
I32 = DType("i32", "int", 4, "int32")
I64 = DType("i64", "int", 8, "int64")
U8 = DType("u8", "int", 1, "uint8")
BOOL = DType("bool", "bool", 1, "bool")
KEY = DType("key", "key", 8, "uint64")
DTYPES = {dtype.name: dtype for dtype in (F32, F64, I32, I64, U8, BOOL, KEY)}


def dtype_of_numpy(dtype: object) -> DType | None:
    """The dtype that a NumPy dtype holds, or None. `uint64` is read as a key."""
    return next((known for known in DTYPES.values() if known.numpy == dtype), None)


Shape = tuple[Size, ...]


@dataclass(frozen=True)
class Array:
    """A dense array; rank 0 is a scalar."""

    dtype: DType
    shape: Shape = ()

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]" if self.shape else str(self.dtype)


@dataclass(frozen=True)
class Accumulator:
    """A write-only value, used exactly once, threaded like a carry; its only op is `accumulate`.

    `kind` is the operator that combines entries: add, mul, max, min, and, or. Only add is ever differentiated.
    """

    dtype: DType
    shape: Shape = ()
    kind: str = "add"

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __str__(self) -> str:
        body = str(Array(self.dtype, self.shape))
        return f"acc<{body}>" if self.kind == "add" else f"acc<{body}, {self.kind}>"


@dataclass(frozen=True)
class Tape:
    """What a loop remembers of its steps: one entry per step. Only loops write and walk tapes."""

    entry: ValueType

    def __str__(self) -> str:
        return f"tape<{self.entry}>"


ValueType = Array | Accumulator | Tape
"""The types of graph values."""


@dataclass(frozen=True)
class Extent:
    """The type of a formal of type `size`: an integer given by the host that is also a size variable."""

    def __str__(self) -> str:
        return "size"


@dataclass(frozen=True)
class Tuple:
    """A tuple of values."""

    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


@dataclass(frozen=True)
class Record:
    """A record: named fields in order. `axes` are the leading axes of an array of records, put on every leaf."""

    name: str
    fields: tuple[tuple[str, Type], ...]
    arguments: tuple[object, ...] = ()
    axes: Shape = ()

    def field(self, name: str) -> Type | None:
        """The type of a field with the leading axes put in front, or None."""
        found = dict(self.fields).get(name)
        return None if found is None else with_axes(found, self.axes)

    def __str__(self) -> str:
        arguments = f"[{', '.join(map(str, self.arguments))}]" if self.arguments else ""
        return f"{self.name}{arguments}" + (f"[{', '.join(map(str, self.axes))}]" if self.axes else "")


@dataclass(frozen=True)
class Function:
    """A function formal; functions are static and never graph values."""

    formals: tuple[Type, ...]
    result: Type

    def __str__(self) -> str:
        return f"fn({', '.join(map(str, self.formals))}) -> {self.result}"


Type = Array | Extent | Tuple | Record | Function
"""The types of the language."""


def with_axes(type_: Type, axes: Shape) -> Type:
    """The type with leading axes on every leaf."""
    if not axes:
        return type_
    if isinstance(type_, Array):
        return Array(type_.dtype, axes + type_.shape)
    if isinstance(type_, Record):
        return replace(type_, axes=axes + type_.axes)
    if isinstance(type_, Tuple):
        return Tuple(tuple(with_axes(item, axes) for item in type_.items))
    raise TypeError(f"a {type_} cannot stand in an array")


def leaves(type_: Type, name: str = "") -> Iterator[tuple[str, Array]]:
    """The arrays inside a type in order, each with its qualified name: `model.layer1.w`, `result.0`.

    A `size` and a function have no leaves.
    """
    if isinstance(type_, Array):
        yield name, type_
    elif isinstance(type_, Tuple):
        for position, item in enumerate(type_.items):
            yield from leaves(item, f"{name}.{position}" if name else str(position))
    elif isinstance(type_, Record):
        for field, item in type_.fields:
            yield from leaves(with_axes(item, type_.axes), f"{name}.{field}" if name else field)


def map_leaves(type_: Type, change: Callable[[Array], Array]) -> Type:
    """The same tree with every array type replaced."""
    if isinstance(type_, Array):
        return change(type_)
    if isinstance(type_, Tuple):
        return Tuple(tuple(map_leaves(item, change) for item in type_.items))
    if isinstance(type_, Record):
        fields = tuple((name, map_leaves(with_axes(item, type_.axes), change)) for name, item in type_.fields)
        return Record(type_.name, fields, type_.arguments)
    return type_


def substitute_type(type_: ValueType, values: dict[Atom, Size]) -> ValueType:
    """A value type with size atoms replaced."""
    if isinstance(type_, Tape):
        return Tape(substitute_type(type_.entry, values))
    return replace(type_, shape=tuple(extent.substitute(values) for extent in type_.shape))


def tangent_type(type_: ValueType) -> ValueType | None:
    """The type of a tangent of a value: itself for floats, None for values that have no tangent."""
    if isinstance(type_, Tape):
        return type_ if tangent_type(type_.entry) is not None else None
    return type_ if type_.dtype.is_float else None


def scalar(dtype: DType) -> Array:
    """The type of one number."""
    return Array(dtype)


def array(dtype: DType, *shape: Size | int) -> Array:
    """An array type from sizes or numbers."""
    return Array(dtype, tuple(map(size, shape)))
