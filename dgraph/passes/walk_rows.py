"""Rows that a loop reads at its own index are walked: the loop is handed one at every step.

That is the form in which other passes see that a step needs nothing of the others.
"""

from __future__ import annotations

from dataclasses import replace

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import For
from dgraph.ops.index import Index
from dgraph.passes.base import each_region, graph_pass, outputs_of, same_nodes, with_operands
from dgraph.types import Array


@graph_pass("rows read at the index of a loop are walked")
def walk_rows(graph: Graph) -> Graph:
    """Walk rows in the loops of every region."""
    return each_region(graph, _walked)


def _walked(region: Region) -> Region:
    nodes = [_with_walks(node) if isinstance(node.op, For) else node for node in region.nodes]
    return same_nodes(region, nodes, region.outputs)


def _with_walks(loop: Node) -> Node:
    op, (body,) = loop.op, loop.regions
    assert isinstance(op, For)
    lead = op.leading_operands()
    captured = dict(zip(body.inputs[lead:], loop.operands[lead:], strict=True))
    rows: dict[Value, Value] = {}
    known: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in body.nodes:
        array = node.operands[0] if isinstance(node.op, Index) else None
        if array in captured and node.operands[1:] == body.inputs[:1] and _has_steps(array, op):
            known[node.result] = rows.setdefault(array, node.result)
        else:
            nodes.append(with_operands(node, known))
    if not rows:
        return loop
    inputs = (*body.inputs[:lead], *rows.values(), *body.inputs[lead:])
    operands = (*loop.operands[:lead], *(captured[array] for array in rows), *loop.operands[lead:])
    inner = Region(inputs, tuple(nodes), outputs_of(body, known))
    return replace(loop, op=replace(op, walks=op.walks + len(rows)), operands=operands, regions=(inner,))


def _has_steps(array: Value, op: For) -> bool:
    """Whether an array has a row for every step."""
    assert isinstance(array.type, Array)
    return array.type.rank > 1 and array.type.shape[0] == op.length
