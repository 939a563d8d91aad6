"""What a name of a program is bound to while it is lowered.

Graph values stand at the leaves; records and tuples are trees over them; functions, sizes, dtypes and literals are
static and never reach the graph as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import Span
from dgraph.frontend import tree as t
from dgraph.frontend.modules import Module
from dgraph.ir.graph import Value
from dgraph.sizes import Size
from dgraph.types import Array, DType, Shape, Tuple, Type
from dgraph.types import Record as RecordType

WeakKey = tuple[Any, ...]
"""Says which literal, in which function instance, chose the dtype of a weak value."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """A graph value.

    `weak` names the literals whose dtype this value took by default: if it meets another dtype of its kind, those
    literals take that one instead. `soft` marks integers that take the integer type they meet (sizes, indices).
    `affine` is the value of an integer as a polynomial over sizes, indices and other integers of the graph, where more
    is known of it than that it is itself.
    """

    value: Value
    weak: frozenset[WeakKey] = frozenset()
    soft: bool = False
    affine: Size | None = None

    @property
    def type(self) -> Array:
        """The type of the graph value."""
        assert isinstance(self.value.type, Array)
        return self.value.type

    @property
    def dtype(self) -> DType:
        """The dtype of the graph value."""
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        """The shape of the graph value."""
        return self.type.shape


@dataclass(frozen=True, eq=False)
class Literal:
    """A number or truth value written in the program, or computed from such, that has no dtype yet."""

    value: bool | int | float


@dataclass(frozen=True, eq=False)
class Extent:
    """A size: static, and an i64 wherever a number is wanted."""

    size: Size


@dataclass(frozen=True, eq=False)
class Text:
    """A string."""

    value: str


@dataclass(frozen=True, eq=False)
class TupleValue:
    """A tuple."""

    items: tuple[Bound, ...]


@dataclass(frozen=True, eq=False)
class RecordValue:
    """A record; the leaves of an array of records carry its axes in front."""

    declaration: t.Record
    arguments: tuple[object, ...]
    axes: Shape
    fields: Mapping[str, Bound]

    @property
    def name(self) -> str:
        """The name of the record type."""
        return self.declaration.name


@dataclass(frozen=True, eq=False)
class Pending:
    """A shape-less maker such as `zeros()`: becomes a value when it meets a type."""

    words: str
    span: Span
    make: Callable[[Type, Span], Bound]


@dataclass(frozen=True, eq=False)
class DTypeValue:
    """A dtype as a name: `f32`, or a generic `T: float`; called, it casts."""

    dtype: DType


@dataclass(frozen=True, eq=False)
class ShapeValue:
    """A generic `*s`: a run of axes; in an expression a tuple of sizes."""

    shape: Shape


@dataclass(frozen=True, eq=False)
class TypeValue:
    """A generic `P: record`: a type as a name."""

    type: Type


@dataclass(frozen=True, eq=False)
class RecordMaker:
    """The name of a record: called with keywords it builds one."""

    declaration: t.Record
    module: Module


@dataclass(frozen=True, eq=False)
class AliasValue:
    """The name of a type alias."""

    declaration: t.TypeAlias
    module: Module


@dataclass(frozen=True, eq=False)
class ModuleValue:
    """An imported module."""

    module: Module


@dataclass(frozen=True, eq=False)
class Builtin:
    """A function of the language itself."""

    name: str


@dataclass(frozen=True, eq=False)
class Closure:
    """A `def` or `lambda` with what it captures; `names` is None for a function of a module."""

    function: t.Function | t.Lambda
    module: Module
    names: Mapping[str, Binding] | None = None

    @property
    def words(self) -> str:
        """The function as a message calls it."""
        return f"`{self.function.name}`" if isinstance(self.function, t.Function) else "this lambda"


@dataclass(frozen=True, eq=False)
class Transformed:
    """A derivative or batched version of a function. `kind` is one of the transforms of the language."""

    kind: str
    function: FunctionValue
    wrt: tuple[str, ...]
    is_tuple: bool
    mode: str
    span: Span

    @property
    def words(self) -> str:
        """The function as a message calls it."""
        kind = "grad" if self.kind == "slope" else self.kind
        return f"`{kind}` of {self.function.words}"


FunctionValue = Closure | Transformed
"""What can be called with named arguments, and transformed."""

Bound = (
    Leaf
    | Literal
    | Extent
    | Text
    | TupleValue
    | RecordValue
    | Pending
    | DTypeValue
    | ShapeValue
    | TypeValue
    | RecordMaker
    | AliasValue
    | ModuleValue
    | Builtin
    | Closure
    | Transformed
)
"""Anything a name can be bound to."""


@dataclass(frozen=True, eq=False)
class Binding:
    """A name's value and the place that bound it; `origin` is what it was before an assertion wrote its sizes anew."""

    value: Bound
    span: Span
    origin: Binding | None = None


@dataclass(frozen=True)
class Annotated:
    """An annotation with its arguments as Python values; a call such as `adam(rate=1e-3)` is an `Annotated` too."""

    name: str
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)


def leaves_of(value: Bound, name: str = "") -> Iterator[tuple[str, Bound]]:
    """The values at the leaves of tuples and records, with their qualified names."""
    if isinstance(value, TupleValue):
        for position, item in enumerate(value.items):
            yield from leaves_of(item, f"{name}.{position}" if name else str(position))
    elif isinstance(value, RecordValue):
        for part, item in value.fields.items():
            yield from leaves_of(item, f"{name}.{part}" if name else part)
    else:
        yield name, value


def map_bound(value: Bound, change: Callable[[Bound], Bound]) -> Bound:
    """The same tree with every leaf replaced."""
    if isinstance(value, TupleValue):
        return TupleValue(tuple(map_bound(item, change) for item in value.items))
    if isinstance(value, RecordValue):
        return replace(value, fields={name: map_bound(item, change) for name, item in value.fields.items()})
    return change(value)


def rebuild(value: Bound, leaves: Iterator[Bound]) -> Bound:
    """The same tree with its leaves taken in order."""
    return map_bound(value, lambda _: next(leaves))


def type_of(value: Bound) -> Type | None:
    """The type of a value made of graph values only; None if it is or holds something static."""
    if isinstance(value, Leaf):
        return value.type
    if isinstance(value, TupleValue):
        items = [type_of(item) for item in value.items]
        return None if any(item is None for item in items) else Tuple(tuple(item for item in items if item is not None))
    if isinstance(value, RecordValue):
        fields: list[tuple[str, Type]] = []
        for name, item in value.fields.items():
            held = type_of(item)
            if held is None:
                return None
            fields.append((name, strip_axes(held, len(value.axes))))
        return RecordType(value.name, tuple(fields), value.arguments, value.axes)
    return None


def strip_axes(type_: Type, count: int) -> Type:
    """The type without its leading axes."""
    if count == 0:
        return type_
    if isinstance(type_, Array):
        return Array(type_.dtype, type_.shape[count:])
    if isinstance(type_, Tuple):
        return Tuple(tuple(strip_axes(item, count) for item in type_.items))
    if isinstance(type_, RecordType):
        return replace(type_, axes=type_.axes[count:])
    raise TypeError(f"a {type_} has no axes")


def describe(value: Bound) -> str:
    """A value's type in words for a message."""
    if isinstance(value, Literal):
        kind = "bool" if isinstance(value.value, bool) else "an integer" if isinstance(value.value, int) else "a float"
        return f"{kind} literal" if kind != "bool" else "bool"
    if isinstance(value, Extent):
        return f"the size {value.size}"
    if isinstance(value, TupleValue):
        return f"({', '.join(describe(item) for item in value.items)})"
    if isinstance(value, RecordValue):
        known = type_of(value)
        return str(known) if known is not None else value.name
    if isinstance(value, Leaf):
        return str(value.type)
    if isinstance(value, Pending):
        return f"{value.words}, which has no shape yet"
    if isinstance(value, Closure | Transformed | Builtin):
        return "a function"
    if isinstance(value, Text):
        return "a string"
    if isinstance(value, ModuleValue):
        return "a module"
    return "a type"
