"""Another float width for a whole program: f32 for speed, f64 to check."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from dgraph.ir.graph import Formal, Graph, Node, Region, Value
from dgraph.types import DTYPES, Accumulator, Array, DType, Tape, Type, ValueType, map_leaves


def change_precision(graph: Graph, precision: str) -> Graph:
    """The graph with every float of the given dtype (`f32` or `f64`): arguments, constants, casts, results."""
    return _Change(DTYPES[precision]).graph(graph)


class _Change:
    """One change; regions that several nodes share are changed once."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        self.done: dict[Region, Region] = {}

    def graph(self, graph: Graph) -> Graph:
        """The graph with other floats."""
        formals = tuple(Formal(formal.name, self.tree(formal.type)) for formal in graph.formals)
        return replace(graph, formals=formals, result=self.tree(graph.result), region=self.region(graph.region))

    def tree(self, type_: Type) -> Type:
        """A type of the language with other floats."""
        return map_leaves(type_, lambda leaf: Array(self.fact(leaf.dtype), leaf.shape))

    def region(self, region: Region) -> Region:
        """A region with other floats."""
        found = self.done.get(region)
        if found is None:
            known: dict[Value, Value] = {}
            inputs = self.values(region.inputs, known)
            nodes = tuple(self.node(node, known) for node in region.nodes)
            found = self.done[region] = Region(inputs, nodes, tuple(known[output] for output in region.outputs))
        return found

    def node(self, node: Node, known: dict[Value, Value]) -> Node:
        """A node with other floats."""
        changed = {f.name: self.fact(getattr(node.op, f.name)) for f in fields(node.op)}
        operands = tuple(known[operand] for operand in node.operands)
        regions = tuple(map(self.region, node.regions))
        op: Any = type(node.op)(**changed)
        return replace(node, op=op, operands=operands, results=self.values(node.results, known), regions=regions)

    def values(self, values: tuple[Value, ...], known: dict[Value, Value]) -> tuple[Value, ...]:
        """New values of the changed types."""
        known.update((value, Value(self.type(value.type), value.name)) for value in values)
        return tuple(known[value] for value in values)

    def type(self, type_: ValueType) -> ValueType:
        """A value type with another float."""
        if isinstance(type_, Tape):
            return Tape(self.type(type_.entry))
        return replace(type_, dtype=self.fact(type_.dtype))

    def fact(self, fact: Any) -> Any:
        """A fact of an op with another float."""
        if isinstance(fact, DType):
            return self.dtype if fact.is_float else fact
        if isinstance(fact, Array | Accumulator | Tape):
            return self.type(fact)
        return tuple(map(self.fact, fact)) if isinstance(fact, tuple) else fact
