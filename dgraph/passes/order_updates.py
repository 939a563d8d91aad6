"""What reads an array runs before what changes it, so that the change needs no copy.

`set_at`, and a loop that carries an array, write over it where nothing reads it any more. The transpose of an update
both clears a place of the cotangent and reads it, in any order; only one of the two orders costs as little as the
update did. A node that could change an array is moved behind the nodes that read it, views of it included, unless these
need its result.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from dgraph.ir.dead_code import has_check
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.hoist import can_fault
from dgraph.ops.control import Call, For, If, While
from dgraph.ops.index import Index, SetAt, is_start
from dgraph.passes.base import each_region, graph_pass
from dgraph.passes.expand_arrays import VIEWS
from dgraph.types import Array


@graph_pass("what reads an array runs before what changes it in place")
def order_updates(graph: Graph) -> Graph:
    """Order the nodes of every region."""
    return each_region(graph, _ordered)


def _ordered(region: Region) -> Region:
    places = {node: at for at, node in enumerate(region.nodes)}
    before: dict[Node, set[Node]] = {}
    for node in region.nodes:
        start = node.operands[1:2] if node.operands and is_start(node, region.producers.get(node.operands[0])) else ()
        for value in (*updated(node), *start):
            if value not in region.outputs:
                for reader in _readers(region, value):
                    if places[reader] > places[node] and _may_pass(region, places, before, node, reader):
                        before.setdefault(node, set()).add(reader)
    return _sorted(region, places, before) if before else region


def updated(node: Node) -> Iterator[Value]:
    """The arrays among the operands of a node that it writes over if it may."""
    op = node.op
    if isinstance(op, SetAt):
        yield node.operands[0]
    elif isinstance(op, For | While):
        lead = int(isinstance(op, For))
        yield from (value for value in node.operands[lead : lead + op.carries] if _is_array(value))
    elif isinstance(op, If | Call):
        first = op.leading_operands()
        changed = {value for region in node.regions for value in _changed_inputs(region)}
        for region in node.regions:
            inputs = zip(region.inputs, node.operands[first:], strict=True)
            yield from (operand for value, operand in inputs if value in changed)


def _changed_inputs(region: Region) -> Iterator[Value]:
    inputs = set(region.inputs)
    return (value for node in region.nodes for value in updated(node) if value in inputs)


def _is_array(value: Value) -> bool:
    return isinstance(value.type, Array) and bool(value.type.shape)


def _readers(region: Region, value: Value) -> Iterator[Node]:
    """The nodes that read an array, or a part of it that is not copied."""
    for user in region.users.get(value, ()):
        yield user
        if isinstance(user.op, (Index, *VIEWS)) and _is_array(user.result):
            yield from _readers(region, user.result)


def _may_pass(
    region: Region, places: Mapping[Node, int], before: Mapping[Node, set[Node]], writer: Node, reader: Node
) -> bool:
    """Whether a writer can be moved behind a reader: this needs nothing of it, and no fault is met in another order."""
    between = region.nodes[places[writer] + 1 : places[reader] + 1]
    if can_fault(writer) and any(has_check(node) for node in between):
        return False
    needed, pending = set[Node](), [reader]
    while pending:
        node = pending.pop()
        if node is writer:
            return False
        if node not in needed:
            needed.add(node)
            pending += before.get(node, ())
            pending += (region.producers[value] for value in node.operands if value in region.producers)
    return True


def _sorted(region: Region, places: Mapping[Node, int], before: Mapping[Node, set[Node]]) -> Region:
    """The nodes in an order in which each comes after what it needs and after those named, else as they were."""
    missing: dict[Node, int] = {}
    waiting: dict[Node, list[Node]] = {}
    for node in region.nodes:
        needs = {region.producers[value] for value in node.operands if value in region.producers}
        needs |= before.get(node, set())
        missing[node] = len(needs)
        for other in needs:
            waiting.setdefault(other, []).append(node)
    ready = [places[node] for node in region.nodes if not missing[node]]
    found = []
    while ready:
        node = region.nodes[heapq.heappop(ready)]
        found.append(node)
        for other in waiting.get(node, ()):
            missing[other] -= 1
            if not missing[other]:
                heapq.heappush(ready, places[other])
    return Region(region.inputs, tuple(found), region.outputs)
