"""A matrix that no term of a sum depends on multiplies the sum, not each term; so sums are broadcast, not terms.

What the points of an index space add up at some of their indices, `s[c] += -(q[c]' y[i, c])`, may be a product with a
matrix that is the same for all points that meet in one entry. Then the points add up what is multiplied, and one
product for each entry follows: `s[c] = -(q[c]' (sum of y[i, c] over i))`. The way back of `q (x - m)` with respect to m
is of this kind. The sum is rounded in another order, as the passes about products may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.arithmetic import Neg
from dgraph.ops.control import Space
from dgraph.ops.index import Accumulate, Index
from dgraph.ops.linalg import Dot
from dgraph.ops.shape import Broadcast
from dgraph.passes.base import each_region, graph_pass, outputs_of, with_operands
from dgraph.passes.row_products import shape_of
from dgraph.types import Accumulator, Array


@graph_pass("what multiplies all terms of a sum multiplies the sum")
def sum_first(graph: Graph) -> Graph:
    """Take products out of the sums of every region."""
    return each_region(graph, _changed)


def _changed(region: Region) -> Region:
    if not any(isinstance(node.op, Space) for node in region.nodes):
        return region
    g = Builder()
    g.adopt(Region(region.inputs, (), ()))
    known: dict[Value, Value] = {}
    for node in region.nodes:
        node = with_operands(node, known)
        made: list[tuple[_Sum, Value, Value]] = []
        while isinstance(node.op, Space) and (found := _found(node)) is not None:
            result = node.results[found.position]
            node, summed = _summing(node, found)
            made.append((found, result, summed))
        g.append(node)
        for found, result, summed in made:
            with g.at(found.accumulate.span, node.scope + found.accumulate.scope, found.accumulate.derived):
                known[result] = _multiplied(g, found, result, summed)
    return Region(region.inputs, tuple(g.nodes), outputs_of(region, known)) if known else region


@dataclass(frozen=True)
class _Sum:
    """What a space sums in the place of products: `position` among its accumulators and buffers, the node that adds,
    the term, and the nodes that make a product of it, the last one first. `place` are the axes of the entry."""

    space: Node
    position: int
    accumulate: Node
    place: tuple[int, ...]
    term: Value
    chain: tuple[Node, ...]


def _found(space: Node) -> _Sum | None:
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    rank = len(op.extents)
    for position, value in enumerate(body.inputs[rank : op.leading_inputs(0)]):
        users = body.users.get(value, ())
        node = users[0] if len(users) == 1 else None
        if node is None or not isinstance(node.op, Accumulate) or node.result is not body.outputs[position]:
            continue
        kind, at, entry = value.type, node.operands[1:-1], node.operands[-1]
        assert isinstance(kind, Accumulator)
        own = body.inputs[:rank]
        if kind.kind != "add" or (at and node.op.policy != "proven") or not set(at) <= set(own):
            continue
        place = tuple(map(own.index, at))
        if len(set(place)) == rank or kind.shape[: len(at)] != tuple(op.extents[axis] for axis in place):
            continue
        chain = _chain(
            body, entry, _moving(body, [*(v for v in own if v not in at), *body.inputs[rank : op.leading_inputs(0)]])
        )
        if chain is not None:
            return _Sum(space, position, node, place, *chain)
    return None


def _moving(body: Region, first: Sequence[Value]) -> set[Value]:
    """The values of a point that are not known from the place of the entry alone."""
    moving = set(first)
    for node in body.nodes:
        if node.op.effect != "pure" or any(operand in moving for operand in node.operands):
            moving.update(node.results)
    return moving


def _chain(body: Region, value: Value, moving: set[Value]) -> tuple[Value, tuple[Node, ...]] | None:
    """What is multiplied by what does not move, or broadcast, to make a value, and the nodes that do it."""
    chain: list[Node] = []
    end = 0
    term = value
    while (maker := body.producers.get(value)) is not None and body.users[value] and len(body.users[value]) == 1:
        if isinstance(maker.op, Dot):
            moved = [operand for operand in maker.operands if operand in moving]
            if len(moved) != 1:
                break
            (value,) = moved
        elif isinstance(maker.op, Neg | Broadcast):
            (value,) = maker.operands
        else:
            break
        chain.append(maker)
        if not isinstance(maker.op, Neg):
            end, term = len(chain), value
    return (term, tuple(chain[:end])) if end else None


def _summing(space: Node, found: _Sum) -> tuple[Node, Value]:
    """The space that sums terms, and the sum."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    kind = found.accumulate.operands[0].type
    assert isinstance(kind, Accumulator)
    wanted = Accumulator(kind.dtype, (*(op.extents[axis] for axis in found.place), *shape_of(found.term)))
    at = found.position if found.position >= op.accumulators else op.accumulators
    lead = len(op.extents) + at
    buffer = Value(wanted)
    node = replace(
        found.accumulate,
        op=Accumulate("proven"),
        operands=(buffer, *found.accumulate.operands[1:-1], found.term),
        results=(Value(wanted),),
    )
    summed = Value(Array(kind.dtype, wanted.shape))
    # An own buffer gives way to the other one; what comes from outside passes by, and a buffer comes in front of ours.
    taken = 1 if found.position >= op.accumulators else 0
    passed = {found.accumulate.result: found.accumulate.operands[0]}
    outputs = tuple(passed.get(output, output) for output in body.outputs)
    region = Region(
        (*body.inputs[:lead], buffer, *body.inputs[lead + taken :]),
        tuple(node if other is found.accumulate else other for other in body.nodes),
        (*outputs[:at], node.result, *outputs[at + taken :]),
    )
    first = at - op.accumulators
    buffers = (*op.buffers[:first], wanted, *op.buffers[first + taken :])
    results = (*space.results[:at], summed, *space.results[at + taken :])
    return replace(space, op=replace(op, buffers=buffers), results=results, regions=(region,)), summed


def _multiplied(g: Builder, found: _Sum, result: Value, summed: Value) -> Value:
    """The products of the sums, added to what else the space was to add to."""
    op, (body,) = found.space.op, found.space.regions
    assert isinstance(op, Space)
    fixed = [v for node in found.chain if isinstance(node.op, Dot) for v in node.operands]
    chained = {value for node in found.chain for value in (*node.results, found.term)}
    wanted = [value for value in dict.fromkeys(fixed) if value not in chained]
    nodes = _cone(body, wanted)
    lead = op.leading_inputs(0)
    outside = dict(zip(body.inputs[lead:], found.space.operands[op.accumulators :], strict=True))
    read = {operand for node in nodes for operand in node.operands} | set(wanted)
    inputs = [value for value in body.inputs if value in read]
    region = Region(tuple(inputs), tuple(nodes), tuple(wanted))

    def entry(h: Builder, *at: Value) -> Value:
        own = {body.inputs[axis]: index for axis, index in zip(found.place, at, strict=True)}
        arguments = [own[value] if value in own else outside[value] for value in inputs]
        known = dict(zip(wanted, h.inline(region, arguments), strict=True))
        value = h.emit(Index("proven"), summed, *at) if at else summed
        before = found.term
        for node in reversed(found.chain):
            value = h.emit(node.op, *(value if operand is before else known[operand] for operand in node.operands))
            before = node.result
        return value

    extents = [op.extents[axis] for axis in found.place]
    product = g.map(extents, entry) if extents else entry(g)
    return product if found.position >= op.accumulators else g.emit(Accumulate("proven"), result, product)


def _cone(body: Region, wanted: Sequence[Value]) -> list[Node]:
    """The nodes that compute some values, in order."""
    live = set(wanted)
    nodes = []
    for node in reversed(body.nodes):
        if any(result in live for result in node.results):
            nodes.append(node)
            live.update(node.operands)
    return nodes[::-1]
