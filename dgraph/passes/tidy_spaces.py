"""Index spaces in their simplest form, so that the passes that fuse them see what they are.

* constants stand in the regions that read them, not among the captures;
* an accumulation into a fresh buffer exactly at the point's own indices is a yield;
* a space directly inside another one, with little around it, makes one space of more axes;
* an accumulator opened for one space and read after it is a buffer of that space;
* an accumulator that a space does not write to passes it by;
* a space that copies an array is the array, and so is a stack of what a loop walks;
* what is yielded or stacked twice is one array.

A yield in place of an accumulation gives -0 where 0 + -0 was 0; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.op import RegionOp
from dgraph.ops.control import For, Space
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.index import Accumulate, Freeze, Fresh, Index
from dgraph.ops.transform import Transform
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.base import each_region, graph_pass, outputs_of, same_nodes, with_operands
from dgraph.types import Accumulator, Array, ValueType

LITTLE = 6
"""How many nodes around an inner space may be repeated at each of its points: what a compiler moves out again."""


@graph_pass("index spaces in their simplest form")
def tidy_spaces(graph: Graph) -> Graph:
    """Tidy every region, inner ones first, then pull constants inwards."""
    tidy = each_region(graph, _tidy)
    return tidy.with_region(_with_constants(tidy.region))


def _tidy(region: Region) -> Region:
    known: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in region.nodes:
        node = with_operands(node, known)
        if isinstance(node.op, Space):
            node = _flat(_yielding(_bypassed(node, known)))
            known.update(_copies(node))
        elif isinstance(node.op, For):
            known.update(_walked_stacks(node))
        nodes.append(node)
    return closed_buffers(same_nodes(region, nodes, outputs_of(region, known)))


# ---- accumulators that pass by --------------------------------------------------------------------------------------


def _bypassed(node: Node, known: dict[Value, Value]) -> Node:
    """A space without the accumulators that it hands through; `known` learns what their results are."""
    assert isinstance(node.op, Space)
    body, rank = node.regions[0], len(node.op.extents)
    idle = [at for at in range(node.op.accumulators) if body.outputs[at] is body.inputs[rank + at]]
    if not idle:
        return node
    known.update((node.results[at], node.operands[at]) for at in idle)
    inner = Region(_but(body.inputs, [rank + at for at in idle]), body.nodes, _but(body.outputs, idle))
    op = replace(node.op, accumulators=node.op.accumulators - len(idle))
    return replace(node, op=op, operands=_but(node.operands, idle), results=_but(node.results, idle), regions=(inner,))


def _but(values: Sequence[Value], positions: Sequence[int]) -> tuple[Value, ...]:
    """The values without those at some positions."""
    return tuple(value for at, value in enumerate(values) if at not in positions)


def _repeated(node: Node, places: slice) -> dict[Value, Value]:
    """The results at some places that are another result once more."""
    first: dict[Value, Value] = {}
    pairs = zip(node.results[places], node.regions[0].outputs[places], strict=True)
    return {result: one for result, output in pairs if (one := first.setdefault(output, result)) is not result}


def _copies(node: Node) -> dict[Value, Value]:
    """The results of a space that are other results, or arrays it reads entry by entry."""
    assert isinstance(node.op, Space)
    body = node.regions[0]
    indices = body.inputs[: len(node.op.extents)]
    captured = dict(zip(body.inputs[node.op.leading_inputs(0) :], node.operands[node.op.accumulators :], strict=True))
    found = _repeated(node, node.op.yields)
    for result, output in zip(node.results[node.op.yields], body.outputs[node.op.yields], strict=True):
        maker = body.producers.get(output)
        if maker is not None and isinstance(maker.op, Index) and maker.operands[1:] == indices and indices:
            array = captured.get(maker.operands[0])
            if array is not None and array.type == result.type:
                found[result] = array
    return found


def _walked_stacks(node: Node) -> dict[Value, Value]:
    """The stacks of a loop that are other stacks, or arrays it walks."""
    op, (body,) = node.op, node.regions
    assert isinstance(op, For)
    first = 1 + op.carries
    walked = dict(zip(body.inputs[first:], node.operands[first : first + op.walks], strict=False))
    stacks = slice(op.carries, op.carries + op.stacks)
    pairs = zip(node.results[stacks], body.outputs[stacks], strict=True)
    again = {result: walked[v] for result, v in pairs if v in walked and walked[v].type == result.type}
    return _repeated(node, stacks) | again


# ---- buffers that are yields ----------------------------------------------------------------------------------------


def _yielding(node: Node) -> Node:
    """A space whose own buffers are yields where each point writes exactly its own entry."""
    assert isinstance(node.op, Space)
    rank, threads = len(node.op.extents), node.op.accumulators
    for position, buffer in reversed(list(enumerate(node.op.buffers))):
        body = node.regions[0]
        at = rank + threads + position
        indices = body.inputs[:rank]
        made = _as_entry(body, body.inputs[at], indices, buffer.shape == node.op.extents, buffer)
        if made is None:
            continue
        region, entry = made
        outputs = (*_but(region.outputs, [threads + position]), entry)
        inner = Region(_but(region.inputs, [at]), region.nodes, outputs)
        op = replace(node.op, buffers=tuple(b for k, b in enumerate(node.op.buffers) if k != position))
        results = (*_but(node.results, [threads + position]), node.results[threads + position])
        node = replace(node, op=op, results=results, regions=(inner,))
    return node


def _as_entry(
    body: Region, accumulator: Value, indices: Sequence[Value], complete: bool, kind: Accumulator
) -> tuple[Region, Value] | None:
    """A body that computes what it would have written at its own indices, and that value; None if it writes elsewhere
    or more than once. `complete` says that the indices run over all axes of the buffer."""
    users = body.users.get(accumulator, ())
    if len(users) != 1 or accumulator in body.outputs:
        return None
    (user,) = users
    if isinstance(user.op, Accumulate):
        entry = user.operands[-1]
        if not complete or user.operands[1:-1] != tuple(indices) or user.result not in body.outputs:
            return None
        return Region(body.inputs, tuple(node for node in body.nodes if node is not user), body.outputs), entry
    if not isinstance(user.op, Space) or accumulator not in user.operands[: user.op.accumulators]:
        return None
    inner, rank = user.regions[0], len(user.op.extents)
    thread = user.operands.index(accumulator)
    if user.results[thread] not in body.outputs:
        return None
    captured = dict(zip(user.operands[user.op.accumulators :], inner.inputs[user.op.leading_inputs(0) :], strict=True))
    seen = [captured.get(index) for index in indices]
    known = [index for index in seen if index is not None]
    if len(known) < len(seen):
        return None
    shape = kind.shape[len(indices) :]
    made = _as_entry(inner, inner.inputs[rank + thread], [*known, *inner.inputs[:rank]], shape == user.op.extents, kind)
    if made is None:
        return None
    region, value = made
    outputs = (*_but(region.outputs, [thread]), value)
    op = replace(user.op, accumulators=user.op.accumulators - 1)
    assert isinstance(value.type, Array)
    result = Value(Array(value.type.dtype, user.op.extents + value.type.shape), value.name)
    changed = replace(
        user,
        op=op,
        operands=_but(user.operands, [thread]),
        results=(*_but(user.results, [thread]), result),
        regions=(Region(_but(region.inputs, [rank + thread]), region.nodes, outputs),),
    )
    nodes = tuple(changed if node is user else node for node in body.nodes)
    return Region(body.inputs, nodes, body.outputs), result


# ---- a space inside a space -----------------------------------------------------------------------------------------


def _flat(node: Node) -> Node:
    """One space of more axes for a space whose points do little but run another one."""
    assert isinstance(node.op, Space)
    body, rank, threads = node.regions[0], len(node.op.extents), node.op.accumulators
    inner = next((n for n in body.nodes if isinstance(n.op, Space)), None)
    around = [n for n in body.nodes if n is not inner]
    if inner is None or len(around) > LITTLE or not all(_is_little(n) for n in around):
        return node
    assert isinstance(inner.op, Space)
    written = body.inputs[rank : node.op.leading_inputs(0)]
    if inner.op.buffers or inner.operands[: inner.op.accumulators] != written or body.outputs != inner.results:
        return node
    if any(n in body.users.get(result, ()) for result in inner.results for n in around):
        return node
    nested, own = inner.regions[0], len(inner.op.extents)
    captured = zip(inner.operands[inner.op.accumulators :], nested.inputs[inner.op.leading_inputs(0) :], strict=True)
    known = {value: operand for operand, value in captured}
    heads = (*body.inputs[:rank], *nested.inputs[:own], *nested.inputs[own : own + len(written)])
    inputs = (*heads, *body.inputs[node.op.leading_inputs(0) :])
    nodes = (*around, *(with_operands(n, known) for n in nested.nodes))
    region = Region(inputs, nodes, outputs_of(nested, known))
    op = Space(node.op.extents + inner.op.extents, threads, node.op.buffers)
    return replace(node, op=op, regions=(region,))


def _is_little(node: Node) -> bool:
    return isinstance(node.op, Index | Constant | SizeValue) or (
        isinstance(node.op, Elementwise) and node.op.weight <= 1
    )


# ---- buffers opened outside -----------------------------------------------------------------------------------------


def closed_buffers(region: Region) -> Region:
    """The region with accumulators that one space alone writes made buffers of that space."""
    makers = region.producers
    moved: dict[Node, dict[int, tuple[Node, Node]]] = {}
    known: dict[Value, Value] = {}
    gone: set[Node] = set()
    for node in region.nodes:
        if not isinstance(node.op, Freeze) or node.operands[0] not in makers:
            continue
        writer = makers[node.operands[0]]
        start = makers.get(writer.operands[0]) if isinstance(writer.op, Accumulate) else None
        if isinstance(writer.op, Accumulate) and len(writer.operands) == 2 and start and isinstance(start.op, Fresh):
            known[node.result] = writer.operands[1]
            gone |= {node, writer, start}
        elif isinstance(writer.op, Space):
            thread = writer.results.index(node.operands[0])
            opener = makers.get(writer.operands[thread]) if thread < writer.op.accumulators else None
            if opener is not None and isinstance(opener.op, Fresh):
                moved.setdefault(writer, {})[thread] = opener, node
                gone |= {node, opener}
    if not gone:
        return region
    nodes = [_with_buffers(node, moved[node]) if node in moved else node for node in region.nodes if node not in gone]
    for found in list(known):
        while known[found] in known:
            known[found] = known[known[found]]
    nodes = [with_operands(node, known) for node in nodes]
    return Region(region.inputs, tuple(nodes), outputs_of(region, known))


def _with_buffers(node: Node, threads: dict[int, tuple[Node, Node]]) -> Node:
    """A space some of whose accumulators are its own buffers; the frozen arrays are its results."""
    assert isinstance(node.op, Space)
    body, rank, count = node.regions[0], len(node.op.extents), node.op.accumulators
    positions = sorted(threads)
    kinds: list[ValueType] = [node.operands[at].type for at in positions]
    kept = count - len(positions)
    head = _but(body.inputs[rank : rank + count], positions)
    own = tuple(body.inputs[rank + at] for at in positions)
    inputs = (*body.inputs[:rank], *head, *own, *body.inputs[rank + count :])
    outputs = (*_but(body.outputs[:count], positions), *(body.outputs[at] for at in positions), *body.outputs[count:])
    results = (
        *_but(node.results[:count], positions),
        *(threads[at][1].result for at in positions),
        *node.results[count:],
    )
    buffers = (*(kind for kind in kinds if isinstance(kind, Accumulator)), *node.op.buffers)
    op = replace(node.op, accumulators=kept, buffers=buffers)
    operands = _but(node.operands, positions)
    return replace(node, op=op, operands=operands, results=results, regions=(Region(inputs, body.nodes, outputs),))


# ---- constants ------------------------------------------------------------------------------------------------------


def _with_constants(region: Region) -> Region:
    """The region with constants in the nested regions that read them."""
    makers = {node.result: node for node in region.nodes if isinstance(node.op, Constant | SizeValue)}
    nodes = []
    for node in region.nodes:
        if isinstance(node.op, RegionOp) and not isinstance(node.op, Transform):
            node = _constants_inside(node, makers)
        nodes.append(node)
    return same_nodes(region, nodes, region.outputs)


def _constants_inside(node: Node, makers: dict[Value, Node]) -> Node:
    assert isinstance(node.op, RegionOp)
    lead = node.op.leading_operands()
    known = [at for at in range(lead, len(node.operands)) if node.operands[at] in makers]
    regions = []
    for position, region in enumerate(node.regions):
        first = node.op.leading_inputs(position) - lead
        inside = [
            replace(makers[node.operands[at]], results=(region.inputs[first + at],), scope=())
            for at in known
            if region.inputs[first + at] in region.used
        ]
        inputs = _but(region.inputs, [first + at for at in known])
        changed = Region(inputs, (*inside, *region.nodes), region.outputs) if known else region
        regions.append(_with_constants(changed))
    if not known and all(one is other for one, other in zip(regions, node.regions, strict=True)):
        return node
    return replace(node, operands=_but(node.operands, known), regions=tuple(regions))
