"""What was written to a place is read there: no read waits for an update, and no update is written over.

A read of an array that `set_at` has changed is the entry if it reads that place, and a read of the array before the
change if it reads another one. A write that a later one covers, with none but writes to other places between, is
left out. The reverse of updates is full of both: a place of a cotangent is read, cleared and added to in turn.

Where indices are checked, a read of what was written needs no check: the write made it. A write that checks is left out
of derivatives only, whose indices the function has checked; elsewhere a fault would be told of the later one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.index import Index, SetAt
from dgraph.passes.base import each_region, graph_pass
from dgraph.passes.index_forms import meet
from dgraph.passes.rewrite import Rewriter, rewrite

FOLLOWED = ("proven", "error")
"""Policies of indices under which a place is what the index says."""

FARTHEST = 8
"""Through so many updates a read or a write is followed."""


@graph_pass("reads and writes of a place that was just written see what was written")
def read_updates(graph: Graph) -> Graph:
    """Follow reads and writes in every region, inner ones first."""
    return each_region(graph, _followed)


def _followed(region: Region) -> Region:
    if not any(_is_update(node) for node in region.nodes):
        return region
    read = remove_dead_code(rewrite(region, _read))
    again: dict[Value, Value] = {}

    def is_between(value: Value) -> bool:
        known = again.get(value, value)
        return known not in read.outputs and len(read.users.get(known, ())) == 1

    def written(g: Rewriter, node: Node) -> Sequence[Value] | None:
        if not _is_update(node):
            return None
        found = _uncovered(g, node, is_between)
        if found is None:
            return None
        array, updates = found
        for update in updates:
            array = g.emit(update.op, array, *update.operands[1:])
            again[array] = again.get(update.result, update.result)
        return [array]

    return remove_dead_code(rewrite(read, written))


def _is_update(node: Node | None) -> bool:
    return node is not None and isinstance(node.op, SetAt) and node.op.policy in FOLLOWED


def _read(g: Rewriter, node: Node) -> Sequence[Value] | None:
    if not isinstance(node.op, Index) or node.op.policy not in FOLLOWED:
        return None
    array, *indices = node.operands
    for _ in range(FARTHEST):
        update: Any = g.maker(array)
        if not _is_update(update):
            break
        earlier, *places, entry = update.operands
        truth = meet(g.maker, indices, places)
        if truth is False:
            array = earlier
        elif truth and len(places) <= len(indices):
            rest = indices[len(places) :]
            return [g.emit(node.op, entry, *rest) if rest else entry]
        else:
            break
    return None if array is node.operands[0] else [g.emit(node.op, array, *indices)]


def _uncovered(g: Rewriter, node: Node, is_between: Callable[[Value], bool]) -> tuple[Value, list[Node]] | None:
    """An array and the updates that make of it what a write makes, without an earlier one that the write covers."""
    array, *indices, _entry = node.operands
    updates = [node]
    for _ in range(FARTHEST):
        update: Any = g.maker(array)
        if not is_between(array) or not _is_update(update):
            return None
        array, *places, _old = update.operands
        truth = meet(g.maker, indices, places)
        if truth and len(indices) <= len(places) and (update.op.policy == "proven" or update.derived):
            return array, updates[::-1]
        if truth is not False:
            return None
        updates.append(update)
    return None
