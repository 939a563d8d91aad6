"""Equal computations of one region are done once; equal regions become one.

Two nodes are equal if their ops (facts included), operands and regions are. Nothing moves between regions, so nothing
leaves a choice. Accumulators are used exactly once, so nodes that make or take one are never shared; a check equal to
an earlier one is left out, since the first has failed already where the second would.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.op import RegionOp
from dgraph.ops.transform import Transform
from dgraph.passes.base import graph_pass, outputs_of, same_nodes, with_operands, with_regions
from dgraph.types import Accumulator


@graph_pass("equal computations are done once")
def common_subexpressions(graph: Graph) -> Graph:
    """Share equal nodes within every region, and equal regions."""
    return graph.with_region(Sharing().region(graph.region))


class Sharing:
    """Shares within regions, remembering regions met before, and regions by their content."""

    def __init__(self) -> None:
        self.done: dict[Region, Region] = {}
        self.interned: dict[Hashable, Region] = {}

    def region(self, region: Region) -> Region:
        """The region with equal nodes shared, outer ones first: then nested regions capture fewer values."""
        if region in self.done:
            return self.done[region]
        known: dict[Value, Value] = {}
        first: dict[Hashable, Node] = {}
        nodes = []
        for node in region.nodes:
            node = _merge_captures(with_operands(node, known))
            if node.regions:
                node = with_regions(node, map(self.region, node.regions))
            if any(isinstance(value.type, Accumulator) for value in (*node.operands, *node.results)):
                nodes.append(node)
                continue
            earlier = first.setdefault((node.op, node.operands, node.regions), node)
            if earlier is node:
                nodes.append(node)
            else:
                known.update(zip(node.results, earlier.results, strict=True))
        shared = self.intern(same_nodes(region, nodes, outputs_of(region, known)))
        self.done[region] = self.done[shared] = shared
        return shared

    def intern(self, region: Region) -> Region:
        """The first region met that equals this one up to the names of its values."""
        numbers: dict[Value, int] = {}

        def number(values: Sequence[Value]) -> tuple[Hashable, ...]:
            for value in values:
                numbers[value] = len(numbers)
            return tuple(value.type for value in values)

        key: list[Hashable] = [number(region.inputs)]
        for node in region.nodes:
            key.append((node.op, tuple(numbers[value] for value in node.operands), node.regions, node.scope))
            number(node.results)
        key.append(tuple(numbers[value] for value in region.outputs))
        return self.interned.setdefault(tuple(key), region)


def _merge_captures(node: Node) -> Node:
    """A node that captures one value several times, capturing it once."""
    if not isinstance(node.op, RegionOp) or isinstance(node.op, Transform):
        return node
    start = node.op.leading_operands()
    captures = node.operands[start:]
    first = {value: at for at, value in reversed(list(enumerate(captures)))}
    if len(first) == len(captures):
        return node
    kept = [at for at, value in enumerate(captures) if first[value] == at]
    regions = []
    for position, region in enumerate(node.regions):
        lead = node.op.leading_inputs(position)
        inside = region.inputs[lead:]
        known = {inside[at]: inside[first[value]] for at, value in enumerate(captures) if first[value] != at}
        body = tuple(with_operands(inner, known) for inner in region.nodes)
        inputs = (*region.inputs[:lead], *(inside[at] for at in kept))
        regions.append(Region(inputs, body, outputs_of(region, known)))
    operands = (*node.operands[:start], *(captures[at] for at in kept))
    return Node(node.op, operands, node.results, tuple(regions), node.span, node.scope, node.derived)
