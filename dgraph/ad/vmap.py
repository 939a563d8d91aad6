"""Batching: one index space over the batch whose point is the function.

So `if`, `while` and loops need no batch rule: each point takes its own branch and makes its own trips.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.build import Builder
from dgraph.ir.graph import Region, Value
from dgraph.ir.places import LANE
from dgraph.sizes import Size
from dgraph.types import Array


def vmap(region: Region, mapped: Sequence[bool], extent: Size) -> Region:
    """The region for every entry of a leading axis of the inputs marked in `mapped`; every output gets that axis."""
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
