"""Work that only one side of a choice reads is done there, and only when that side is taken.

What can fault stays where it is, so that a program fails exactly where it failed before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.hoist import can_fault
from dgraph.ops.control import If
from dgraph.passes.base import graph_pass, same_nodes, with_regions
from dgraph.types import Accumulator

_Use = tuple[Node | None, int | None]
"""The node that reads a value (None: the region's outputs), and the side of a choice that alone does so."""


@graph_pass("work that one side of a choice reads is done on that side")
def sink(graph: Graph) -> Graph:
    """Sink nodes into the sides of choices, in every region."""
    return graph.with_region(_sunk(graph.region, {}))


def _sunk(region: Region, done: dict[Region, Region]) -> Region:
    """A region after sinking, outer nodes first: what sank into a side may sink further."""
    found = done.get(region)
    if found is not None:
        return found
    uses = _uses(region)
    into: dict[Node, list[tuple[Node, int]]] = {}
    kept: list[Node] = []
    for node in reversed(region.nodes):
        readers = {use for result in node.results for use in uses.get(result, ())}
        choice, side = next(iter(readers)) if len(readers) == 1 else (None, None)
        if choice is None or side is None or not _may_sink(node):
            kept.append(node)
            continue
        into.setdefault(choice, []).append((node, side))
        for operand in node.operands:
            uses[operand] = {use for use in uses[operand] if use[0] is not node} | {(choice, side)}
    nodes = []
    for node in reversed(kept):
        if node in into:
            node = _with_sunk(node, into[node][::-1])
        nodes.append(with_regions(node, [_sunk(inner, done) for inner in node.regions]))
    found = done[region] = same_nodes(region, nodes, region.outputs)
    return found


def _uses(region: Region) -> dict[Value, set[_Use]]:
    uses: dict[Value, set[_Use]] = {output: {(None, None)} for output in region.outputs}
    for node in region.nodes:
        if not isinstance(node.op, If):
            for operand in node.operands:
                uses.setdefault(operand, set()).add((node, None))
            continue
        uses.setdefault(node.operands[0], set()).add((node, None))
        for at, operand in enumerate(node.operands[1:]):
            sides = {side for side, inner in enumerate(node.regions) if inner.inputs[at] in inner.used}
            uses.setdefault(operand, set()).update((node, side) for side in sides)
    return uses


def _may_sink(node: Node) -> bool:
    touches = any(isinstance(value.type, Accumulator) for value in (*node.operands, *node.results))
    return not touches and not can_fault(node)


def _with_sunk(choice: Node, sunk: Sequence[tuple[Node, int]]) -> Node:
    """A choice with nodes from outside at the head of its sides."""
    gone = {result for node, _ in sunk for result in node.results}
    captures = list(dict.fromkeys(operand for operand in choice.operands[1:] if operand not in gone))
    captures += dict.fromkeys(v for node, _ in sunk for v in node.operands if v not in gone and v not in captures)
    regions = []
    for side, region in enumerate(choice.regions):
        known: dict[Value, Value] = {}
        for operand, value in zip(choice.operands[1:], region.inputs, strict=True):
            known.setdefault(operand, value)
        inputs = tuple(known.setdefault(operand, Value(operand.type, operand.name)) for operand in captures)
        nodes = []
        for node, where in sunk:
            if where == side:
                results = tuple(known.setdefault(v, Value(v.type, v.name)) for v in node.results)
                operands = tuple(known[operand] for operand in node.operands)
                nodes.append(replace(node, operands=operands, results=results))
        same = {
            value: known[operand]
            for operand, value in zip(choice.operands[1:], region.inputs, strict=True)
            if known[operand] is not value
        }
        body = [replace(n, operands=tuple(same.get(v, v) for v in n.operands)) for n in region.nodes]
        outputs = tuple(same.get(output, output) for output in region.outputs)
        regions.append(Region(inputs, (*nodes, *body), outputs))
    return replace(choice, operands=(choice.operands[0], *captures), regions=tuple(regions))
