"""Entries that every point adds once, at its own place, to a buffer of its index space: they are yields."""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.build import Builder
from dgraph.ir.graph import Node, Value
from dgraph.sizes import Size
from dgraph.types import Array


def as_yield(
    h: Builder, extents: Sequence[Size], indices: Sequence[Value], buffer: Value, written: Value
) -> Value | None:
    """The entry that the point in builder `h` adds to an own buffer at its own indices, if it does nothing else to it.

    The buffer is then no longer an input of the point. None if the buffer is written elsewhere too.
    """
    assert not isinstance(buffer.type, Array)
    shape = getattr(buffer.type, "shape", ())
    if written is buffer or tuple(shape[: len(extents)]) != tuple(extents):
        return None
    producers = {result: node for node in h.nodes for result in node.results}
    writes: list[Node] = []
    value = written
    while value is not buffer:
        node = producers.get(value)
        if node is None or node.op.name != "accumulate" or node.operands[1:-1] != tuple(indices):
            return None
        writes.append(node)
        value = node.operands[0]
    writes.reverse()
    h.inputs.remove(buffer)
    h.nodes = [node for node in h.nodes if node not in writes]
    entry = writes[0].operands[-1]
    for node in writes[1:]:
        with h.at(span=node.span, scope=node.scope):
            entry = h.add(entry, node.operands[-1])
    return entry
