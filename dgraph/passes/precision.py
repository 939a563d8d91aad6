"""Promotion of all floats of a graph to one precision, at the caller's wish."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from dgraph.ir.graph import Formal, Graph, Node, Region, Value
from dgraph.types import F32, F64, Accumulator, Array, DType, Tape, map_leaves


def change_precision(graph: Graph, name: str) -> Graph:
    """The graph with every float of the dtype called `name`: inputs, outputs, constants and all between."""
    change = _Change({"f32": F32, "f64": F64}[name])
    formals = tuple(Formal(formal.name, map_leaves(formal.type, change.array)) for formal in graph.formals)
    result = map_leaves(graph.result, change.array)
    return Graph(graph.name, graph.sizes, formals, result, change.region(graph.region), graph.span)


class _Change:
    """Replaces float dtypes; a region shared by several nodes is changed once."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        self.regions: dict[Region, Region] = {}

    def array(self, type_: Array) -> Array:
        return replace(type_, dtype=self.dtype) if type_.dtype.is_float else type_

    def fact(self, fact: Any) -> Any:
        """A type, dtype, value of such, or anything else unchanged."""
        if isinstance(fact, DType):
            return self.dtype if fact.is_float else fact
        if isinstance(fact, Array | Accumulator):
            return replace(fact, dtype=self.fact(fact.dtype))
        if isinstance(fact, Tape):
            return Tape(self.fact(fact.entry))
        if isinstance(fact, tuple):
            return tuple(map(self.fact, fact))
        return fact

    def region(self, region: Region) -> Region:
        if region in self.regions:
            return self.regions[region]
        known = {value: Value(self.fact(value.type), value.name) for value in region.inputs}
        nodes: list[Node] = []
        for node in region.nodes:
            results = tuple(Value(self.fact(value.type), value.name) for value in node.results)
            known.update(zip(node.results, results, strict=True))
            facts = {field.name: self.fact(getattr(node.op, field.name)) for field in fields(node.op)}
            operands = tuple(known[value] for value in node.operands)
            regions = tuple(map(self.region, node.regions))
            nodes.append(replace(node, op=replace(node.op, **facts), operands=operands, results=results, regions=regions))
        changed = Region(
            tuple(known[value] for value in region.inputs), tuple(nodes), tuple(known[value] for value in region.outputs)
        )
        self.regions[region] = changed
        return changed
