"""Work that is the same in every step of a loop, or at every point of an index space, is done once, before it.

Nothing leaves a choice, and what can fault stays: the loop may make no step. One exception are copies: what a point
that chooses brings together from arrays that all points share, of a known and small size, is brought together once.
"""

from __future__ import annotations

from dataclasses import replace

from dgraph.ir import hoist as loops
from dgraph.ir.graph import Graph, Node, Region, Value, walk
from dgraph.ops.control import If, Space
from dgraph.ops.index import Index
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.base import each_region, graph_pass, with_regions
from dgraph.passes.expand_arrays import VIEWS
from dgraph.sizes import product
from dgraph.types import Array

LARGEST = 4096
"""Entries of a copy that leaves a choice."""


@graph_pass("work that every step repeats is done once, before the loop")
def hoist(graph: Graph) -> Graph:
    """Hoist out of `for`, `while` and index spaces."""
    graph = each_region(graph, _with_copies_out)
    return graph.with_region(loops.hoist(graph.region, loops=("for", "while", "space")))


def _with_copies_out(region: Region) -> Region:
    """A region in whose index spaces copies stand in front of choices."""
    if not any(isinstance(node.op, Space) for node in region.nodes):
        return region
    nodes = tuple(
        with_regions(node, [_copies_out(node)]) if isinstance(node.op, Space) else node for node in region.nodes
    )
    same = all(one is other for one, other in zip(nodes, region.nodes, strict=True))
    return region if same else Region(region.inputs, nodes, region.outputs)


def _copies_out(space: Node) -> Region:
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    shared = set(body.inputs[op.leading_inputs(0) :])
    nodes: list[Node] = []
    for node in body.nodes:
        if isinstance(node.op, If):
            node, copies = _parted(node, shared)
            nodes += copies
        nodes.append(node)
    return body if len(nodes) == len(body.nodes) else Region(body.inputs, tuple(nodes), body.outputs)


def _parted(choice: Node, shared: set[Value]) -> tuple[Node, list[Node]]:
    """A choice without the copies of shared arrays on its sides, and these."""
    copies: list[Node] = []
    own: list[dict[Node, Value]] = []
    for side in choice.regions:
        outside = {v: o for v, o in zip(side.inputs, choice.operands[1:], strict=True) if o in shared}
        own.append({})
        for node in side.nodes:
            if _is_copy(node) and all(operand in outside for operand in node.operands):
                result = own[-1][node] = Value(node.result.type, node.result.name)
                operands = tuple(outside[operand] for operand in node.operands)
                copies.append(replace(node, operands=operands, results=(result,), scope=choice.scope + node.scope))
    if not copies:
        return choice, []
    sides = []
    for side, gone in zip(choice.regions, own, strict=True):
        inner = {result: node.result for node, result in gone.items()}
        inputs = [inner.get(node.result) or Value(node.result.type, node.result.name) for node in copies]
        nodes = tuple(node for node in side.nodes if node not in gone)
        sides.append(Region((*side.inputs, *inputs), nodes, side.outputs))
    operands = (*choice.operands, *(node.result for node in copies))
    return replace(choice, operands=operands, regions=tuple(sides)), copies


def _is_copy(node: Node) -> bool:
    """Whether a node only brings entries together, so many as a number says."""
    op = node.op
    if not isinstance(op, Space) or op.accumulators or op.buffers or len(node.results) != 1 or not node.operands:
        return False
    kind = node.result.type
    assert isinstance(kind, Array)
    entries = product(kind.shape).constant
    if entries is None or entries > LARGEST:
        return False
    inside = list(walk(node.regions[0]))
    return all(isinstance(n.op, (Constant, SizeValue, *VIEWS)) or _is_read(n) for n in inside)


def _is_read(node: Node) -> bool:
    return isinstance(node.op, Index) and node.op.policy == "proven"
