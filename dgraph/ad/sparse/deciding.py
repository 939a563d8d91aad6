"""Which integers can decide a pattern: those that choose entries, sides of branches or numbers of steps. An integer
that only becomes a float changes no place that is zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.control import Call, For, If, Space, While
from dgraph.ops.transform import SparseJacobian
from dgraph.ops.values import Cast
from dgraph.types import Accumulator, Array, ValueType


def deciding(region: Region, wanted: Iterable[int] = ()) -> set[int]:
    """The inputs of a region that decide something in it, or that outputs at the positions `wanted` read."""
    live = {region.outputs[at] for at in wanted}
    for node in reversed(region.nodes):
        live.update(node.operands[at] for at in _read(node, live))
    return {at for at, value in enumerate(region.inputs) if value in live}


def _read(node: Node, live: set[Value]) -> set[int]:
    """The positions of the operands of a node that decide something in it, or that its live results read."""
    results = {at for at, value in enumerate(node.results) if value in live}
    op = node.op
    if isinstance(op, For | While):
        return _of_loop(node, results)
    if isinstance(op, If):
        inner = set().union(*(deciding(side, results) for side in node.regions))
        return {0, *(1 + at for at in inner)}
    if isinstance(op, Space):
        first = len(op.extents) + op.accumulators + len(op.buffers)
        inner = deciding(node.regions[0], results)
        return {*range(op.accumulators), *(at - first + op.accumulators for at in inner if at >= first)}
    if isinstance(op, Call):
        return deciding(node.regions[0], results)
    if isinstance(op, SparseJacobian):
        return deciding(node.regions[0]) if not results else set(range(len(node.operands)))
    if node.regions or results:
        return set(range(len(node.operands)))
    return _integers(node) if _has_floats(node.results) and not isinstance(op, Cast) else set()


def _of_loop(node: Node, results: set[int]) -> set[int]:
    """The count and the condition decide; what a live carry reads is live in the step before."""
    is_for = isinstance(node.op, For)
    op, body = node.op, node.regions[-1]
    assert isinstance(op, For | While)
    lead = 1 if is_for else 0
    fixed = {0} if is_for else deciding(node.regions[0], [0])
    wanted = {at for at in results if at < len(body.outputs)}
    while True:
        found = fixed | deciding(body, wanted)
        grown = wanted | {at - lead for at in found if lead <= at < lead + op.carries}
        if grown == wanted:
            return found
        wanted = grown


def _integers(node: Node) -> set[int]:
    return {at for at, operand in enumerate(node.operands) if not _is_float(operand.type)}


def _has_floats(values: Sequence[Value]) -> bool:
    return any(_is_float(value.type) for value in values)


def _is_float(type_: ValueType) -> bool:
    return not isinstance(type_, Array | Accumulator) or type_.dtype.is_float
