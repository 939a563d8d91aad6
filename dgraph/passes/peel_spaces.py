"""Index spaces seen as spaces over their first index, whose points run a space over the other indices.

A buffer to which every point adds only at its own first index is then the point's own: a smaller array, yielded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.control import If, Space
from dgraph.ops.index import Accumulate, Freeze, Fresh
from dgraph.passes.tidy_spaces import closed_buffers
from dgraph.types import Accumulator, Array


def peeled(space: Node) -> Node:
    """The same work as a space over the first index alone; the results are those of the space, those of its own
    buffers that are yielded now behind the others."""
    assert isinstance(space.op, Space)
    return _with_own_buffers(space if len(space.op.extents) == 1 else _outer(space))


def _outer(space: Node) -> Node:
    """A space over the first index around one over the others."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    rank, lead = len(op.extents), op.leading_inputs(0)
    first, written, captured = body.inputs[0], body.inputs[rank:lead], body.inputs[lead:]
    outer_first, outer_written, outer_captured = _again(first), _all_again(written), _all_again(captured)
    nested = Region((*body.inputs[1:lead], first, *captured), body.nodes, body.outputs)
    yields = []
    for result in space.results[op.yields]:
        assert isinstance(result.type, Array)
        yields.append(Value(Array(result.type.dtype, result.type.shape[1:]), result.name))
    results = (*_all_again(written), *yields)
    operands = (*outer_written, outer_first, *outer_captured)
    inner = replace(
        space, op=Space(op.extents[1:], len(written)), operands=operands, results=results, regions=(nested,), scope=()
    )
    region = Region((outer_first, *outer_written, *outer_captured), (inner,), results)
    return replace(space, op=replace(op, extents=op.extents[:1]), regions=(region,))


def _again(value: Value) -> Value:
    return Value(value.type, value.name)


def _all_again(values: Iterable[Value]) -> tuple[Value, ...]:
    return tuple(map(_again, values))


# ---- buffers of a point ----------------------------------------------------------------------------------------------


def _with_own_buffers(space: Node) -> Node:
    """The space with each buffer to which a point adds only at its own index yielded by the points."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    for at in reversed(range(len(op.buffers))):
        place = 1 + op.accumulators + at
        if op.buffers[at].shape[:1] == op.extents and op.buffers[at].kind == "add":
            narrow = _narrowed(body, body.inputs[place], body.inputs[0])
            if narrow is not None:
                return _with_own_buffers(_yielded(space, at, *narrow))
    return space


def _yielded(space: Node, at: int, body: Region, result: Value) -> Node:
    """The space with a buffer that is now an input of the body, and ends as `result`, opened and yielded by it."""
    op = space.op
    assert isinstance(op, Space)
    place, position = 1 + op.accumulators + at, op.accumulators + at
    start, old = body.inputs[place], space.results[position]
    assert isinstance(start.type, Accumulator)
    entry = Value(Array(start.type.dtype, start.type.shape), old.name)
    nodes = (Node(Fresh(start.type), (), (start,)), *body.nodes, Node(Freeze(), (result,), (entry,)))
    region = Region(_but(body.inputs, place), nodes, (*_but(body.outputs, position), entry))
    buffers = (*op.buffers[:at], *op.buffers[at + 1 :])
    results = (*_but(space.results, position), old)
    return replace(space, op=replace(op, buffers=buffers), results=results, regions=(closed_buffers(region),))


def _but(values: Sequence[Value], position: int) -> tuple[Value, ...]:
    return (*values[:position], *values[position + 1 :])


def _narrowed(region: Region, accumulator: Value, index: Value | None) -> tuple[Region, Value] | None:
    """A region whose input `accumulator` lacks its first axis, along which it is written at an index alone, and what
    that becomes; None if it is written elsewhere."""
    known = {accumulator: _narrow(accumulator)}
    last = accumulator
    nodes: list[Node] = []
    for node in region.nodes:
        if last in node.operands:
            changed = _narrowed_node(node, last, known[last], index)
            if changed is None:
                return None
            node, old, new = changed
            known[old] = new
            last = old
        nodes.append(node)
    inputs = tuple(known.get(value, value) for value in region.inputs)
    outputs = tuple(known.get(value, value) for value in region.outputs)
    return Region(inputs, tuple(nodes), outputs), known[last]


def _narrow(value: Value) -> Value:
    assert isinstance(value.type, Accumulator)
    return Value(replace(value.type, shape=value.type.shape[1:]), value.name)


def _narrowed_node(
    node: Node, accumulator: Value, narrow: Value, index: Value | None
) -> tuple[Node, Value, Value] | None:
    """A node that adds to the accumulator, its result as it was, and as it is now."""
    if index is None or node.operands.count(accumulator) != 1:
        return None
    if isinstance(node.op, Accumulate):
        if len(node.operands) < 3 or node.operands[1] is not index:
            return None
        if node.op.policy == "error" and node.derived != "adjoint":
            # A place that may not be there is told of with all of its indices; on the way back it has been there.
            return None
        result = _narrow(node.result)
        return replace(node, operands=(narrow, *node.operands[2:]), results=(result,)), node.result, result
    if not isinstance(node.op, Space | If):
        return None
    first = node.op.leading_operands()
    place = node.operands.index(accumulator)
    regions, ends = [], []
    for position, inner in enumerate(node.regions):
        captured = dict(zip(node.operands[first:], inner.inputs[node.op.leading_inputs(position) :], strict=True))
        own = captured[accumulator] if place >= first else inner.inputs[len(_extents(node)) + place]
        found = _narrowed(inner, own, captured.get(index))
        if found is None:
            return None
        regions.append(found[0])
        ends.append(found[0].outputs.index(found[1]))
    (end,) = set(ends)
    old, new = node.results[end], _narrow(node.results[end])
    operands = tuple(narrow if operand is accumulator else operand for operand in node.operands)
    results = tuple(new if result is old else result for result in node.results)
    return replace(node, operands=operands, results=results, regions=tuple(regions)), old, new


def _extents(node: Node) -> Sequence[object]:
    return node.op.extents if isinstance(node.op, Space) else ()
