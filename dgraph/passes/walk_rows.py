"""Rows that a loop reads or gathers at its own index are walked and stacked: one is handed in, or out, at every step.

That is the form in which other passes see that a step needs nothing of the others. What is gathered into an
accumulator is added to it whole, after the loop.
"""

from __future__ import annotations

from dataclasses import replace

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import For
from dgraph.ops.index import Accumulate, Index
from dgraph.passes.base import each_region, graph_pass, outputs_of, same_nodes, with_operands
from dgraph.types import Accumulator, Array


@graph_pass("rows read or gathered at the index of a loop are walked or stacked")
def walk_rows(graph: Graph) -> Graph:
    """Walk rows in the loops of every region."""
    return each_region(graph, _walked)


def _walked(region: Region) -> Region:
    nodes: list[Node] = []
    known: dict[Value, Value] = {}
    for node in region.nodes:
        node = with_operands(node, known)
        if isinstance(node.op, For) and node.op.length is not None:
            node = _with_walks(node)
            nodes += _with_stacks(node, known)
        else:
            nodes.append(node)
    return same_nodes(region, nodes, outputs_of(region, known))


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


def _with_stacks(loop: Node, known: dict[Value, Value]) -> list[Node]:
    """The loop with stacks in place of gathered rows, and what adds them up; `known` learns what the results are."""
    op, (body,) = loop.op, loop.regions
    assert isinstance(op, For)
    gathered = {carry: node for carry in range(op.carries) if (node := _gathers(op, body, carry)) is not None}
    if not gathered:
        return [loop]
    kept = [at for at in range(op.carries) if at not in gathered]
    inputs = tuple(value for at, value in enumerate(body.inputs) if at - 1 not in gathered)
    ends = op.carries, op.carries + op.stacks
    rows = [node.operands[-1] for node in gathered.values()]
    stacked, after = [], []
    for carry, row in zip(gathered, rows, strict=True):
        start, result = loop.operands[1 + carry], loop.results[carry]
        assert isinstance(start.type, Accumulator)
        stacked.append(Value(Array(start.type.dtype, start.type.shape), row.name))
        known[result] = Value(result.type, result.name)
        whole = Node(Accumulate("proven"), (start, stacked[-1]), (known[result],))
        after.append(replace(whole, span=loop.span, scope=loop.scope, derived=loop.derived))
    outputs = (*(body.outputs[at] for at in kept), *body.outputs[slice(*ends)], *rows, *body.outputs[ends[1] :])
    results = (*(loop.results[at] for at in kept), *loop.results[slice(*ends)], *stacked, *loop.results[ends[1] :])
    gone = set(gathered.values())
    changed = replace(
        loop,
        op=replace(op, carries=len(kept), stacks=op.stacks + len(rows)),
        operands=tuple(value for at, value in enumerate(loop.operands) if at - 1 not in gathered),
        results=results,
        regions=(Region(inputs, tuple(node for node in body.nodes if node not in gone), outputs),),
    )
    return [changed, *after]


def _gathers(op: For, body: Region, carry: int) -> Node | None:
    """The node by which a carried accumulator gets a row at the loop's index and nothing else."""
    value = body.inputs[1 + carry]
    users = body.users.get(value, ())
    if not isinstance(value.type, Accumulator) or value.type.kind != "add" or len(users) != 1:
        return None
    (user,) = users
    at_index = isinstance(user.op, Accumulate) and user.operands[1:-1] == body.inputs[:1]
    return user if at_index and user.result is body.outputs[carry] and value.type.shape[0] == op.length else None
