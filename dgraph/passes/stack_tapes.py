"""Tapes whose entries all have one size become arrays: stacked outputs of the loop that writes them.

A loop writes a tape in the order of its steps and other loops walk it; where the number of steps is a size and the
entries are arrays of sizes, an array holds the same in a place that is planned before the run.
"""

from __future__ import annotations

from dataclasses import replace

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import For
from dgraph.passes.base import each_region, graph_pass, same_nodes, with_operands
from dgraph.types import Array, Tape


@graph_pass("tapes of equal entries become arrays")
def stack_tapes(graph: Graph) -> Graph:
    """Stack tapes in every region."""
    return each_region(graph, _stacked)


def _stacked(region: Region) -> Region:
    known: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in region.nodes:
        node = with_operands(node, known)
        if isinstance(node.op, For) and node.op.tapes and node.op.length is not None:
            node = _with_stacks(node, region, known)
        nodes.append(node)
    return same_nodes(region, nodes, region.outputs)


def _with_stacks(node: Node, region: Region, known: dict[Value, Value]) -> Node:
    """The loop with stacks in place of tapes where that can be; `known` learns the arrays that replace tapes."""
    assert isinstance(node.op, For) and node.op.length is not None
    (body,) = node.regions
    first = node.op.carries + node.op.stacks
    chosen = [at for at in range(first, len(body.outputs)) if _can_stack(node, at, region)]
    if not chosen:
        return node
    for at in chosen:
        entry = body.outputs[at].type
        assert isinstance(entry, Array)
        array = Array(entry.dtype, (node.op.length, *entry.shape))
        known[node.results[at]] = Value(array, node.results[at].name)
    rest = [at for at in range(first, len(body.outputs)) if at not in chosen]
    order = [*range(first), *chosen, *rest]
    inner = Region(body.inputs, body.nodes, tuple(body.outputs[at] for at in order))
    results = tuple(known.get(node.results[at], node.results[at]) for at in order)
    op = replace(node.op, stacks=node.op.stacks + len(chosen), tapes=node.op.tapes - len(chosen))
    return replace(node, op=op, results=results, regions=(inner,))


def _can_stack(node: Node, at: int, region: Region) -> bool:
    tape = node.results[at]
    assert isinstance(tape.type, Tape)
    entry = tape.type.entry
    if not isinstance(entry, Array) or tape in region.outputs:
        return False
    if not all(isinstance(atom, str) for extent in entry.shape for atom in extent.atoms()):
        return False
    return all(_only_walks(user, tape) for user in region.users.get(tape, ()))


def _only_walks(user: Node, tape: Value) -> bool:
    """Whether a node reads a tape step by step and in no other way."""
    if not isinstance(user.op, For):
        return False
    walks = slice(1 + user.op.carries, user.op.leading_operands())
    others = (*user.operands[: walks.start], *user.operands[walks.stop :])
    return tape not in others
