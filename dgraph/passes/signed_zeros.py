"""`x + 0.0` is x where x is never -0.0: sums that start at 0, squares, roots of those.

The slope of a root adds 0 to it, so that it is inf at -0 and not -inf. Where the root is of a sum of squares, as that
of a norm, nothing is added; then one over the root is one computation for the slope and for the program.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.op import RegionOp
from dgraph.ops.arithmetic import Powi
from dgraph.ops.control import If, Space
from dgraph.ops.transform import Transform
from dgraph.ops.values import Constant
from dgraph.passes.base import graph_pass, outputs_of, same_nodes, with_operands, with_regions
from dgraph.types import Array

_SAME = frozenset({"sqrt", "broadcast", "index", "reshape", "transpose", "slice", "reduce_sum", "reduce_max"})
"""Ops that make no -0.0 of numbers none of which is that."""


@graph_pass("zero is not added to what is never -0")
def signed_zeros(graph: Graph) -> Graph:
    """Drop additions of 0 in every region."""
    return graph.with_region(_dropped(graph.region, set()))


def _dropped(region: Region, unsigned: set[Value]) -> Region:
    """A region some of whose inputs are never -0.0; `unsigned` learns which values are."""
    known: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in region.nodes:
        node = with_operands(node, known)
        kept = _left(region, node, unsigned)
        if kept is not None:
            known[node.result] = kept
            continue
        if isinstance(node.op, RegionOp) and not isinstance(node.op, Transform):
            captures = node.operands[node.op.leading_operands() :]
            above = _above_zero(region, node.operands[0]) if isinstance(node.op, If) else ()
            inside = []
            for at, inner in enumerate(node.regions):
                inputs = inner.inputs[node.op.leading_inputs(at) :]
                pairs = zip(inputs, captures, strict=True)
                inside.append(
                    {value for value, operand in pairs if operand in unsigned or (at == 0 and operand in above)}
                )
            node = with_regions(node, map(_dropped, node.regions, inside))
            unsigned.update(_unsigned_results(node, inside))
        elif len(node.results) == 1 and _is_unsigned(node, unsigned):
            unsigned.add(node.result)
        nodes.append(node)
    return same_nodes(region, nodes, outputs_of(region, known))


def _left(region: Region, node: Node, unsigned: set[Value]) -> Value | None:
    """What an addition of 0.0 to a value that is never -0.0 leaves."""
    if node.op.name != "add" or not _is_float(node.result):
        return None
    for value, other in (node.operands, node.operands[::-1]):
        maker = region.producers.get(other)
        while maker is not None and maker.op.name == "broadcast":
            maker = region.producers.get(maker.operands[0])
        if value in unsigned and maker is not None and isinstance(maker.op, Constant) and maker.op.number == 0:
            return value
    return None


def _above_zero(region: Region, predicate: Value) -> Sequence[Value]:
    """What a predicate says to be greater than 0."""
    node = region.producers.get(predicate)
    if node is None or node.op.name not in ("greater", "less"):
        return ()
    value, bound = node.operands if node.op.name == "greater" else node.operands[::-1]
    maker = region.producers.get(bound)
    return (value,) if maker is not None and isinstance(maker.op, Constant) and maker.op.number == 0 else ()


def _is_float(value: Value) -> bool:
    return isinstance(value.type, Array) and value.type.dtype.is_float


def _is_unsigned(node: Node, unsigned: set[Value]) -> bool:
    """Whether the result of a node without regions is never -0.0."""
    if not _is_float(node.result):
        return False
    name, operands = node.op.name, node.operands
    if isinstance(node.op, Constant):
        return not (node.op.number == 0 and np.signbit(node.op.number))
    if name in ("mul", "dot"):
        return operands[0] is operands[1] and (name == "mul" or len(operands[0].type.shape) == 1)  # type: ignore[union-attr]
    if isinstance(node.op, Powi):
        return node.op.exponent % 2 == 0 and node.op.exponent > 0
    if name == "add":
        return any(operand in unsigned for operand in operands)
    if name == "select":
        return all(operand in unsigned for operand in operands[1:])
    return name in ("exp", "abs") or (name in _SAME and operands[0] in unsigned)


def _unsigned_results(node: Node, inside: Sequence[set[Value]]) -> list[Value]:
    """The results of a node with regions that are never -0.0."""
    if isinstance(node.op, If):
        return [
            result
            for at, result in enumerate(node.results)
            if all(region.outputs[at] in known for region, known in zip(node.regions, inside, strict=True))
        ]
    if not isinstance(node.op, Space):
        return []
    op, (body,) = node.op, node.regions
    # What a space sums starts at 0.
    sums = [
        result for result, kind in zip(node.results[op.accumulators :], op.buffers, strict=False) if kind.kind == "add"
    ]
    pairs = zip(node.results[op.yields], body.outputs[op.yields], strict=True)
    return [*sums, *(result for result, output in pairs if output in inside[0])]
