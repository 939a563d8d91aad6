"""Inlining: every `call` is replaced by the body of its function, in nested regions too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dgraph.ir.graph import Graph, Node, Region, Value


def inline_calls(region: Region, name: str = "call") -> Region:
    """The region without `call` nodes, or without those of another op that applies its region as a call does. Nodes of
    a function get its name in front of their scope."""
    return _Inliner(name).region(region)


def without_calls(graph: Graph) -> Graph:
    """The graph without `call` nodes."""
    return graph.with_region(inline_calls(graph.region))


class _Inliner:
    """One run: shared regions are visited once and stay shared."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done: dict[Region, Region] = {}

    def region(self, region: Region) -> Region:
        """A region without calls; the region itself if it has none."""
        found = self.done.get(region)
        if found is None:
            found = self.done[region] = self._inlined(region)
        return found

    def _inlined(self, region: Region) -> Region:
        nodes: list[Node] = []
        known: dict[Value, Value] = {}
        for node in region.nodes:
            operands = tuple(known.get(operand, operand) for operand in node.operands)
            regions = tuple(map(self.region, node.regions))
            if node.op.name == self.name:
                outputs = self._paste(nodes, regions[0], operands, node)
                known.update(zip(node.results, outputs, strict=True))
            elif (operands, regions) == (node.operands, node.regions):
                nodes.append(node)
            else:
                nodes.append(replace(node, operands=operands, regions=regions))
        outputs = tuple(known.get(output, output) for output in region.outputs)
        same = (tuple(nodes), outputs) == (region.nodes, region.outputs)
        return region if same else Region(region.inputs, tuple(nodes), outputs)

    def _paste(self, nodes: list[Node], body: Region, operands: tuple[Value, ...], call: Node) -> tuple[Value, ...]:
        """Append the nodes of a function with fresh results; its outputs."""
        op: Any = call.op
        scope = (*call.scope, op.function) if op.function else call.scope
        known = dict(zip(body.inputs, operands, strict=True))
        for node in body.nodes:
            fresh = tuple(Value(result.type, result.name) for result in node.results)
            nodes.append(
                replace(
                    node,
                    operands=tuple(known[operand] for operand in node.operands),
                    results=fresh,
                    scope=scope + node.scope,
                    derived=node.derived or call.derived,
                )
            )
            known.update(zip(node.results, fresh, strict=True))
        return tuple(known[output] for output in body.outputs)
