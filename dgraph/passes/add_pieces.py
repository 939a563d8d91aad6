"""A sum of pieces that lie beside one another is added to an accumulator piece by piece.

The reverse of cutting an array into slices lays every slice's cotangent out with zeros around it and adds the results
up, to be accumulated. Where the pieces do not meet, each entry gets one of them, so only the pieces are added: one
index space for each, of the piece's extents. Where 0 would have been added to -0 that stays; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Value
from dgraph.ops.index import Accumulate
from dgraph.ops.shape import Unslice
from dgraph.passes.base import each_region, graph_pass
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.types import Accumulator

MOST = 16
"""A sum of more pieces is left as it is."""


@graph_pass("sums of pieces that do not meet are accumulated piece by piece")
def add_pieces(graph: Graph) -> Graph:
    """Add pieces in every region."""
    return each_region(graph, lambda region: rewrite(region, _added))


def _added(g: Rewriter, node: Node) -> Sequence[Value] | None:
    op = node.op
    if not isinstance(op, Accumulate) or (len(node.operands) > 2 and op.policy != "proven"):
        return None
    accumulator = node.operands[0]
    assert isinstance(accumulator.type, Accumulator)
    if accumulator.type.kind != "add":
        return None
    pieces = _pieces(g, node.operands[-1])
    if pieces is None or not all(_are_apart(one, other) for one, other in combinations(pieces, 2)):
        return None
    for piece in pieces:
        accumulator = _add(g, accumulator, node.operands[1:-1], piece)
    return [accumulator]


def _pieces(g: Rewriter, value: Value) -> list[Node] | None:
    """The pieces of which a value is the sum, each laid out; None if it is something else."""
    found: list[Node] = []
    waiting = [value]
    while waiting:
        maker = g.maker(waiting.pop())
        if maker is not None and maker.op.name == "add":
            waiting += maker.operands
        elif maker is not None and isinstance(maker.op, Unslice) and maker.op.shape and set(maker.op.steps) == {1}:
            found.append(maker)
        else:
            return None
        if len(found) + len(waiting) > MOST:
            return None
    return found[::-1]


def _are_apart(one: Node, other: Node) -> bool:
    """Whether two pieces have no place in common: along some axis one ends where the other has not begun."""
    for axis in range(len(one.op.shape)):  # type: ignore[attr-defined]
        (low, high), (begin, end) = _range(one, axis), _range(other, axis)
        if (begin - high).is_nonnegative() or (low - end).is_nonnegative():
            return True
    return False


def _range(piece: Node, axis: int) -> tuple[Any, Any]:
    op: Any = piece.op
    start = op.starts[axis]
    return start, start + piece.operands[0].type.shape[axis]  # type: ignore[union-attr]


def _add(g: Builder, accumulator: Value, indices: Sequence[Value], piece: Node) -> Value:
    op: Any = piece.op
    entries = piece.operands[0]

    def point(h: Builder, at: list[Value], threaded: list[Value], _own: list[Value]) -> list[Value]:
        entry = h.index(entries, *at, policy="proven")
        places = (h.add(index, h.number(start)) for index, start in zip(at, op.starts, strict=True))
        return [h.accumulate(threaded[0], *indices, *places, entry, policy="proven")]

    (result,) = g.space(entries.type.shape, point, accumulators=[accumulator])  # type: ignore[union-attr]
    return result
