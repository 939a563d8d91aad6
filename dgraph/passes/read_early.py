"""Entries of an array are read before a node that may write over it, so that it can be changed in place.

A node that replaces entries, or a loop that carries an array, makes a copy while anything still reads the old array.
Reads of single entries that stand later only because they were written later move before it, with the arithmetic of
their indices; what may fail stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import For, While
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.index import Index, SetAt
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.base import each_region, graph_pass, same_nodes
from dgraph.types import Array


@graph_pass("entries are read before their array is changed")
def read_early(graph: Graph) -> Graph:
    """Move reads forward in every region."""
    return each_region(graph, _early)


def _early(region: Region) -> Region:
    order = {node: at for at, node in enumerate(region.nodes)}
    placed: dict[Node, None] = {}
    for node in region.nodes:
        if node in placed:
            continue
        for array in _overwritten(node):
            for reader in region.users[array]:
                needed = _needed(region, reader, placed) if _is_entry(reader) else None
                if needed is not None and node not in needed:
                    placed.update(dict.fromkeys(sorted(needed, key=order.__getitem__)))
        placed[node] = None
    return same_nodes(region, placed, region.outputs)


def _overwritten(node: Node) -> Iterator[Value]:
    """The arrays in whose memory a node could work."""
    if isinstance(node.op, SetAt):
        yield node.operands[0]
    elif isinstance(node.op, For | While):
        first = 1 if isinstance(node.op, For) else 0
        for value in node.operands[first : first + node.op.carries]:
            if isinstance(value.type, Array) and value.type.rank:
                yield value


def _is_entry(node: Node) -> bool:
    if not isinstance(node.op, Index) or node.op.policy != "proven":
        return False
    return isinstance(node.result.type, Array) and not node.result.type.rank


def _needed(region: Region, reader: Node, placed: dict[Node, None]) -> set[Node] | None:
    """A reader and what has to stand before it and does not yet; None if some of that cannot move."""
    found: set[Node] = set()
    pending = [reader]
    while pending:
        node = pending.pop()
        if node in placed or node in found:
            continue
        if node.op.effect != "pure" or not (isinstance(node.op, Elementwise | Constant | SizeValue) or _is_entry(node)):
            return None
        found.add(node)
        pending += [region.producers[operand] for operand in node.operands if operand in region.producers]
    return found
