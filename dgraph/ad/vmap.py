"""Batching: one index space over the batch whose point is the function.

So `if`, `while` and loops need no batch rule: each point takes its own branch and makes its own trips.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from dgraph.ad.unzip import Unzip
from dgraph.ir.build import Builder
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.hoist import LOOPS
from dgraph.ir.inline import inline_calls
from dgraph.ir.places import LANE
from dgraph.sizes import Size
from dgraph.types import Array

LONGEST = 256
"""Steps of a loop up to which what it computes for all points alike is kept for them."""


def vmap(region: Region, mapped: Sequence[bool], extent: Size) -> Region:
    """The region for every entry of a leading axis of the inputs marked in `mapped`; every output gets that axis."""
    region = apart(inline_calls(region), mapped)
    g = Builder()
    inputs: list[Value] = []
    for value, flag in zip(region.inputs, mapped, strict=True):
        assert isinstance(value.type, Array)
        shape = (extent, *value.type.shape) if flag else value.type.shape
        inputs.append(g.input(Array(value.type.dtype, shape), value.name))

    def point(h: Builder, indices: list[Value], _accumulators: list[Value], _buffers: list[Value]) -> list[Value]:
        arguments = [
            h.index(value, *indices, policy="proven") if flag else value
            for value, flag in zip(inputs, mapped, strict=True)
        ]
        return h.inline(region, arguments)

    names = [value.name for value in region.outputs]
    return g.close(g.space([extent], point, names=names, indices=[LANE]))


def apart(region: Region, mapped: Sequence[bool]) -> Region:
    """The region with loops cut in two where only a part of what they carry depends on the inputs marked in `mapped`:
    what does not is then done once for all points, as where one function is moved in many directions."""
    nodes = _Parts().halves(region, mapped).nodes
    return Region(region.inputs, nodes, region.outputs)


class _Parts(Unzip):
    """Cuts all but choices that points make for themselves, long loops, and loops whose steps only the run counts."""

    def may_cut(self, region: Region, node: Node, dependent: Set[Value]) -> bool:
        """Whether what a node does for all points alike may be taken apart from the rest."""
        if node.op.name == "if":
            return node.operands[0] not in dependent
        if node.op.name not in LOOPS:
            return True
        count = next((made for made in region.nodes if node.operands[0] in made.results), None)
        steps = getattr(count.op, "value", None) if count is not None and node.op.name == "for" else None
        steps = steps.constant if isinstance(steps, Size) else steps
        return steps is not None and steps <= LONGEST
