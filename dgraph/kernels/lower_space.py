"""Lowering of index spaces: a nest of parallel loops around the point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dgraph.ir.graph import Node
from dgraph.ir.places import space_turn
from dgraph.kernels.lower_index import open_accumulator
from dgraph.kernels.lowering import describe
from dgraph.kernels.nests import Extent, Loop, number
from dgraph.kernels.scope import Binding, Scope
from dgraph.kernels.views import View
from dgraph.types import Array

if TYPE_CHECKING:
    from dgraph.kernels.lower import GraphLowering


def _space(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    """Yields are written where they belong, at once where the point makes an array; a rank-0 buffer is a local."""
    op: Any = node.op
    (body,) = node.regions
    rank, threads = len(op.extents), op.accumulators
    written = threads + len(op.buffers)
    indices = [lowering.index(value.name, extent) for value, extent in zip(body.inputs, op.extents, strict=False)]
    threaded = [scope.bindings[value] for value in node.operands[:threads]]
    own: list[Binding] = [
        open_accumulator(lowering, type_, scope.targets.get(result), result.name)
        for type_, result in zip(op.buffers, node.results[threads:], strict=False)
    ]
    yields: list[View | None] = []
    for result in node.results[written:]:
        assert isinstance(result.type, Array)
        yields.append(lowering.allocate(scope, result) if result.type.rank else None)
    captured = [scope.bindings[value] for value in node.operands[threads:]]
    places = [view.at(indices) if view is not None else None for view in yields]
    targets = [place if place is not None and place.shape else None for place in places]
    turn = space_turn([value.name for value in body.inputs[:rank]], node.span)
    with lowering.block() as statements, lowering.turn(), lowering.inside(turn, *indices):
        found = lowering.region(body, [*indices, *threaded, *own, *captured], [*[None] * written, *targets])
        for place, value in zip(places, found[written:], strict=True):
            if place is not None:
                lowering.put(place, value)
    for axis in reversed(range(rank)):
        note = describe(node) if axis == 0 else ""
        statements = [
            Loop(indices[axis], Extent(op.extents[axis]), tuple(statements), "parallel", number(0), note, node.span)
        ]
    lowering.out.extend(statements)
    scope.bindings.update(zip(node.results[:threads], threaded, strict=True))
    for result, made in zip(node.results[threads:written], own, strict=True):
        scope.bindings[result] = made
        if isinstance(made, View):
            scope.owned.add(made.buffer)
    for result, view, value in zip(node.results[written:], yields, found[written:], strict=True):
        scope.bindings[result] = value if view is None else view


RULES = {"space": _space}
