"""The one entry that is read of a linear array is computed where it is read, so that the way back starts there.

The derivative of a least or greatest entry is that of the winner: it reads one of all tangents. Transposed as it
stands, the read makes an array of zeros with one number in it, and what led to the array is done for all the zeros.

Where a few entries are themselves no more than reads, as in a window of an image, each is read where it is the winner,
and zero is added for the others: neither way has a choice then, and several windows go at a time.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from functools import reduce

from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.arithmetic import Add, Mul, Sub
from dgraph.ops.control import Space
from dgraph.ops.index import Index
from dgraph.ops.values import Constant
from dgraph.sizes import product
from dgraph.types import Array

WINDOW = 16
"""So many reads are all done rather than the one that is chosen."""

_READS = (Index, Constant, Add, Sub, Mul)


def with_entries_picked(
    region: Region, primal: Sequence[Node], linear: Sequence[Node], values: Set[Value]
) -> tuple[list[Node], list[Node]]:
    """The halves of a region whose linear index spaces compute no entries but those that are read, where the primal
    half knows which those are."""
    makers = {result: node for node in linear for result in node.results if isinstance(node.op, Space)}
    if not any(_is_pick(node) and node.operands[0] in makers for node in linear):
        return list(primal), list(linear)
    readers: dict[Value, int] = dict.fromkeys(region.outputs, 1)
    for node in linear:
        for operand in node.operands:
            readers[operand] = readers.get(operand, 0) + 1
    early, late = list(primal), []
    for node in linear:
        maker = makers.get(node.operands[0])
        is_known = values.isdisjoint(node.operands[1:])
        if maker is not None and is_known and _is_pick(node) and readers[node.operands[0]] == 1 and _fits(maker, node):
            if _is_window(maker):
                node = _read_if_chosen(maker, node)
            else:
                tests, node = _entry(maker, node)
                early += tests
        late.append(node)
    needed = remove_dead_code(Region((), tuple(late), tuple(v for v in region.outputs if v in values)))
    return early, list(needed.nodes)


def _is_pick(node: Node) -> bool:
    """Whether a node reads what a place that the run decides holds, or zero if there is no such place."""
    return isinstance(node.op, Index) and node.op.policy == "drop"


def _fits(space: Node, read: Node) -> bool:
    """Whether a read asks for one entry that a point yields."""
    op = space.op
    assert isinstance(op, Space)
    at = space.results.index(read.operands[0])
    is_yield = at >= op.accumulators + len(op.buffers) and not op.accumulators
    return is_yield and 0 < len(op.extents) == len(read.operands) - 1


def _is_window(space: Node) -> bool:
    """Whether a space reads a few numbers and nothing else."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    count = product(op.extents).constant
    is_plain = len(space.results) == 1 and body.outputs[0].type.rank == 0  # type: ignore[union-attr]
    return (
        is_plain and count is not None and count <= WINDOW and all(isinstance(node.op, _READS) for node in body.nodes)
    )


def _read_if_chosen(space: Node, read: Node) -> Node:
    """The sum of the entries of a window, of which all but the chosen one are zero."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    _, *indices = read.operands
    kind = body.outputs[0].type
    assert isinstance(kind, Array)
    g = Builder()
    g.adopt(Region(tuple(dict.fromkeys((*indices, *space.operands))), (), ()))

    def point(h: Builder, *at: Value) -> Value:
        (entry,) = h.inline(body, [*at, *space.operands], space.scope)
        is_here = reduce(h.logical_and, map(h.equal, indices, at))
        return h.select(is_here, entry, h.zeros(kind))

    with g.at(read.span, read.scope, read.derived):
        g.sum_over(op.extents, kind.dtype, point)
    return replace(g.nodes[-1], results=read.results)


def _entry(space: Node, read: Node) -> tuple[list[Node], Node]:
    """What finds out whether the place is there, and the choice that computes its entry."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    _, *indices = read.operands
    output = body.outputs[space.results.index(read.operands[0])]
    first = op.leading_inputs(0)
    point = remove_dead_code(Region(body.inputs, body.nodes, (output,)))
    inputs = (*body.inputs[: len(op.extents)], *body.inputs[first:])
    g = Builder()
    g.adopt(Region(tuple(dict.fromkeys((*indices, *space.operands))), (), ()))
    with g.at(read.span, read.scope, ""):
        is_there = [
            held
            for index, extent in zip(indices, op.extents, strict=True)
            for held in (g.greater_equal(index, g.number(0)), g.less(index, g.number(extent)))
        ]
        held = is_there[0]
        for other in is_there[1:]:
            held = g.logical_and(held, other)
        tests = list(g.nodes)
        entry = output.type
        assert isinstance(entry, Array)
        g.if_(
            held,
            lambda h: h.inline(Region(inputs, point.nodes, point.outputs), [*indices, *space.operands], space.scope),
            lambda h: [h.zeros(entry)],
        )
    return tests, replace(g.nodes[-1], results=read.results, derived=read.derived)
