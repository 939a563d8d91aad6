"""The signature of a compiled function as plain data, so that a cached function can be called without parsing."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from dgraph.classes import dataclass
from dgraph.ir.graph import Formal, Graph
from dgraph.kernels.interface import size_from_json, size_to_json
from dgraph.sizes import Size
from dgraph.types import DTYPES, Array, Extent, Record, Tuple, Type


@dataclass(frozen=True)
class Swept:
    """A Jacobian whose sweeps a call may choose: its rows and columns, and the operations of its function."""

    rows: Size
    columns: Size
    operations: Size

    def to_json(self) -> list[Any]:
        """Plain data."""
        return [size_to_json(count) for count in (self.rows, self.columns, self.operations)]

    @classmethod
    def from_json(cls, data: list[Any]) -> Swept:
        """What `to_json` wrote."""
        return cls(*map(size_from_json, data))


@dataclass(frozen=True)
class Signature:
    """What the host needs to know of a function: its formals in order (`params` of them are params and states that it
    reads, given by name), default values that are plain numbers, size variables, and the tree of the result.
    `is_sparse` if a call adds to its arguments what it takes to compress Jacobians; `jacobians` are those whose sweeps
    a call may choose."""

    name: str
    sizes: tuple[str, ...]
    formals: tuple[Formal, ...]
    result: Type
    params: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    is_sparse: bool = False
    jacobians: tuple[Swept, ...] = ()

    @classmethod
    def of(cls, graph: Graph, params: tuple[str, ...], defaults: dict[str, Any]) -> Signature:
        """The signature of a graph."""
        return cls(graph.name, graph.sizes, graph.formals, graph.result, params, defaults)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "sizes": list(self.sizes),
            "formals": [[formal.name, _type_to_json(formal.type)] for formal in self.formals],
            "result": _type_to_json(self.result),
            "params": list(self.params),
            "defaults": self.defaults,
            "is_sparse": self.is_sparse,
            "jacobians": [jacobian.to_json() for jacobian in self.jacobians],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Signature:
        """The signature that `to_json` wrote."""
        formals = tuple(Formal(name, type_from_json(type_)) for name, type_ in data["formals"])
        result = type_from_json(data["result"])
        jacobians = tuple(map(Swept.from_json, data["jacobians"]))
        facts = tuple(data["params"]), data["defaults"], data["is_sparse"], jacobians
        return cls(data["name"], tuple(data["sizes"]), formals, result, *facts)


def _type_to_json(type_: Type) -> Any:
    if isinstance(type_, Array):
        return ["array", type_.dtype.name, [size_to_json(extent) for extent in type_.shape]]
    if isinstance(type_, Tuple):
        return ["tuple", [_type_to_json(item) for item in type_.items]]
    if isinstance(type_, Record):
        fields = [[name, _type_to_json(item)] for name, item in type_.fields]
        return ["record", type_.name, fields, [size_to_json(extent) for extent in type_.axes]]
    if isinstance(type_, Extent):
        return ["size"]
    raise TypeError(f"the host cannot pass a {type_}")


def type_from_json(data: Any) -> Type:
    """A type from plain data."""
    kind, *rest = data
    if kind == "array":
        return Array(DTYPES[rest[0]], tuple(map(size_from_json, rest[1])))
    if kind == "tuple":
        return Tuple(tuple(map(type_from_json, rest[0])))
    if kind == "record":
        fields = tuple((name, type_from_json(item)) for name, item in rest[1])
        return Record(rest[0], fields, (), tuple(map(size_from_json, rest[2])))
    return Extent()
