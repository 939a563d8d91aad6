"""What a point computes without looking at all of its indices is computed once for those that it looks at.

In `exp(a[c]) * x[i, c]` over (i, c) the exponentials get a space of their own over c, and a sum over a row that every
entry of the row asks for is done once for the row. Only work that is dear is taken out: what is left is an array to
read. Nothing with an effect, nothing that can fault, and nothing from inside a choice is moved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.hoist import can_fault, speculated
from dgraph.ops.control import Space
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.index import Index
from dgraph.passes.base import graph_pass, outputs_of, same_nodes, with_operands, with_regions
from dgraph.sizes import product
from dgraph.types import Accumulator, Array

DEAR = 10
"""The weight of an op, in additions, from which it is worth an array."""
FEW = 2
"""Repeating work so often, known as a literal, is left as it is."""

_Indices = frozenset[int]


@graph_pass("what looks at some indices of a point is computed once for those")
def split_points(graph: Graph) -> Graph:
    """Split index spaces in every region, inner ones first."""
    return graph.with_region(_split(graph.region, {}))


def _split(region: Region, done: dict[Region, Region]) -> Region:
    found = done.get(region)
    if found is None:
        nodes: list[Node] = []
        for node in region.nodes:
            node = with_regions(node, [_split(inner, done) for inner in node.regions])
            nodes += _parts(node) if isinstance(node.op, Space) else [node]
        found = done[region] = same_nodes(region, nodes, region.outputs)
    return found


def _parts(space: Node) -> list[Node]:
    """The space, behind the smaller ones that now do part of its work."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    if len(op.extents) < 2:
        return [space]
    reads = _indices_read(op, body)
    dear = _dear(body, reads)
    wanted: dict[_Indices, list[Value]] = {}
    for value in _frontier(body, reads):
        seen = reads[value]
        if value not in dear or len(seen) == len(op.extents):
            continue
        others = product(tuple(extent for at, extent in enumerate(op.extents) if at not in seen)).constant
        if others is None or others > FEW:
            wanted.setdefault(seen, []).append(value)
    if not wanted:
        return [space]
    parts: list[Node] = []
    known: dict[Value, Value] = {}
    arrays: list[tuple[Value, Value]] = []
    front: list[Node] = []
    for seen, values in wanted.items():
        part = _part(space, reads, sorted(seen), values)
        parts += _parts(part)
        for value, result in zip(values, part.results, strict=True):
            captured, entry = Value(result.type, result.name), Value(value.type, value.name)
            arrays.append((result, captured))
            maker = body.producers[value]
            at = [body.inputs[position] for position in sorted(seen)]
            places = maker.span, maker.scope, maker.derived
            front.append(Node(Index("proven"), (captured, *at), (entry,), (), *places))
            known[value] = entry
    inputs = (*body.inputs, *(captured for _, captured in arrays))
    inner = Region(inputs, (*front, *(with_operands(node, known) for node in body.nodes)), outputs_of(body, known))
    return [*parts, replace(space, operands=(*space.operands, *(array for array, _ in arrays)), regions=(inner,))]


def _indices_read(op: Space, body: Region) -> dict[Value, _Indices]:
    """The indices on which each value of a point depends; no entry for what must stay in the space."""
    found: dict[Value, _Indices] = {}
    for position, value in enumerate(body.inputs[: len(op.extents)]):
        found[value] = frozenset([position])
    for value in body.inputs[op.leading_inputs(0) :]:
        found[value] = frozenset()
    for node in body.nodes:
        touches = any(isinstance(value.type, Accumulator) for value in (*node.operands, *node.results))
        if touches or can_fault(node) or any(operand not in found for operand in node.operands):
            continue
        union = frozenset().union(*(found[operand] for operand in node.operands))
        found.update((result, union) for result in node.results)
    return found


def _dear(body: Region, reads: dict[Value, _Indices]) -> set[Value]:
    """The values that cost something to compute from indices and captures, by the same indices."""
    found: set[Value] = set()
    for node in body.nodes:
        if not node.results or node.results[0] not in reads:
            continue
        own = reads[node.results[0]]
        inherits = any(operand in found and reads[operand] == own for operand in node.operands)
        is_dear = bool(node.regions) or (isinstance(node.op, Elementwise) and node.op.weight >= DEAR)
        if is_dear or inherits:
            found.update(node.results)
    return found


def _frontier(body: Region, reads: dict[Value, _Indices]) -> Iterable[Value]:
    """Values that depend on some indices, read by something that depends on more."""
    total = {value for node in body.nodes for value in node.results if reads.get(value)}
    found: dict[Value, None] = {}
    for node in body.nodes:
        for operand in node.operands:
            result = node.results[0] if node.results else None
            if operand in total and (result is None or reads.get(result) != reads[operand]):
                found[operand] = None
    found.update((output, None) for output in body.outputs if output in total)
    return found


def _part(space: Node, reads: dict[Value, _Indices], seen: list[int], values: list[Value]) -> Node:
    """A space over some of the indices that yields some values of the point."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    live = set(values)
    nodes: list[Node] = []
    for node in reversed(body.nodes):
        if any(result in live for result in node.results):
            # A read at fixed indices may have been inside only because the whole space has points.
            fixed = isinstance(node.op, Index) and not any(reads[operand] for operand in node.operands)
            nodes.append(replace(node, op=speculated(node.op)) if fixed else node)
            live.update(node.operands)
    lead = op.leading_inputs(0)
    captures = zip(body.inputs[lead:], space.operands[op.accumulators :], strict=True)
    kept = [(value, operand) for value, operand in captures if value in live]
    inputs = (*(body.inputs[at] for at in seen), *(value for value, _ in kept))
    extents = tuple(op.extents[at] for at in seen)
    results = []
    for value in values:
        assert isinstance(value.type, Array)
        results.append(Value(Array(value.type.dtype, extents + value.type.shape), value.name))
    region = Region(inputs, tuple(reversed(nodes)), tuple(values))
    operands = tuple(operand for _, operand in kept)
    return replace(space, op=Space(extents), operands=operands, results=tuple(results), regions=(region,))
