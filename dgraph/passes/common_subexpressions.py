"""Equal computations are done once.

Two nodes of a region are equal if their ops (facts included) and operands are, those of commutative ops in any order,
and their regions up to names and places in the source. What a side of a choice computes from captures and what the
region around it has computed already is captured. Nothing moves out of a region, so nothing leaves a choice.
Accumulators are used exactly once, so nodes that make or take one are never shared, nor are those that write states
to disk or read them again; a check equal to an earlier one is left out, since the first has failed already where the
second would.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.op import RegionOp
from dgraph.ops.control import If
from dgraph.ops.transform import Transform
from dgraph.passes.base import graph_pass, outputs_of, same_nodes, with_operands, with_regions
from dgraph.types import Accumulator, Array

COMMUTATIVE = frozenset({"add", "mul", "logical_and", "logical_or", "equal", "not_equal"})
"""Ops of two operands that may change places without a change of bits; of two zeros, `maximum` may give either."""


@graph_pass("equal computations are done once")
def common_subexpressions(graph: Graph) -> Graph:
    """Share equal nodes within every region."""
    return graph.with_region(Sharing().region(graph.region))


class Sharing:
    """Shares within regions, remembering regions met before. Equal regions have equal numbers."""

    def __init__(self) -> None:
        self.done: dict[Region, Region] = {}
        self.numbers: dict[Region, int] = {}
        self.contents: dict[Hashable, int] = {}

    def region(self, region: Region) -> Region:
        """The region with equal nodes shared, outer ones first: then nested regions capture fewer values."""
        if region in self.done:
            return self.done[region]
        known: dict[Value, Value] = {}
        first: dict[Hashable, Node] = {}
        nodes = []
        for node in region.nodes:
            node = _capturing(_merge_captures(with_operands(node, known)), first)
            if node.regions:
                node = with_regions(node, map(self.region, node.regions))
            if any(isinstance(value.type, Accumulator) for value in (*node.operands, *node.results)) or uses_disk(node):
                nodes.append(node)
                continue
            key = _key(node, node.operands), tuple(map(self.number, node.regions))
            earlier = first.setdefault(key, node)
            if earlier is node:
                nodes.append(node)
            else:
                known.update(zip(node.results, earlier.results, strict=True))
        shared = same_nodes(region, nodes, outputs_of(region, known))
        self.done[region] = self.done[shared] = shared
        return shared

    def number(self, region: Region) -> int:
        """A number that regions share if they are equal up to the names of their values and their places."""
        found = self.numbers.get(region)
        if found is None:
            found = self.numbers[region] = self.number_of(self.content(region))
        return found

    def number_of(self, content: Hashable) -> int:
        """A number that stands for a content."""
        return self.contents.setdefault(content, len(self.contents))

    def content(self, region: Region) -> Hashable:
        """A region with its values numbered in order."""
        numbers: dict[Value, int] = {}

        def define(values: Sequence[Value]) -> tuple[Hashable, ...]:
            for value in values:
                numbers[value] = len(numbers)
            return tuple(value.type for value in values)

        content: list[Hashable] = [define(region.inputs)]
        for node in region.nodes:
            operands = _key(node, tuple(numbers[value] for value in node.operands))
            content.append((operands, tuple(map(self.number, node.regions))))
            define(node.results)
        content.append(tuple(numbers[value] for value in region.outputs))
        return tuple(content)


def uses_disk(node: Node) -> bool:
    """Whether a node writes states to disk or reads them again, itself or inside its regions."""
    if not node.regions:
        return node.op.effect == "disk"
    return node.op.effect == "disk" or any(uses_disk(inner) for region in node.regions for inner in region.nodes)


def _key(node: Node, operands: tuple[Hashable, ...]) -> Hashable:
    """What nodes without regions share exactly if they compute the same of these operands."""
    return node.op, frozenset(operands) if node.op.name in COMMUTATIVE else operands


def _capturing(node: Node, known: Mapping[Hashable, Node]) -> Node:
    """A node that captures what its regions would compute of captures although it is known outside.

    Only numbers: an array that is captured has to be stored, and what reads it may be elementwise. Choices are what
    this is about: out of loops and index spaces such work is hoisted anyway.
    """
    if not isinstance(node.op, If):
        return node
    captures = list(node.operands[1:])
    asked: dict[Value, None] = {}
    replaced: list[dict[Value, Value]] = []
    for region in node.regions:
        outside = dict(zip(region.inputs, captures, strict=True))
        found: dict[Value, Value] = {}
        for inner in region.nodes:
            if inner.regions or any(operand not in outside for operand in inner.operands):
                continue
            key = _key(inner, tuple(outside[operand] for operand in inner.operands)), ()
            earlier = known.get(key)
            if earlier is not None and all(isinstance(v.type, Array) and not v.type.shape for v in earlier.results):
                pairs = list(zip(inner.results, earlier.results, strict=True))
                outside.update(pairs)
                # A constant is made where it is read; it counts only as an operand of what is captured.
                found.update(pairs if inner.operands else ())
        replaced.append(found)
        asked.update((outer, None) for value, outer in found.items() if value in region.used)
    if not asked:
        return node
    regions = []
    for region, found in zip(node.regions, replaced, strict=True):
        entry = {outer: Value(outer.type, outer.name) for outer in asked}
        names = {value: entry[outer] for value, outer in found.items() if outer in entry}
        kept = (inner for inner in region.nodes if not any(result in names for result in inner.results))
        nodes = tuple(with_operands(inner, names) for inner in kept)
        regions.append(Region((*region.inputs, *entry.values()), nodes, outputs_of(region, names)))
    operands = (*node.operands, *asked)
    return Node(node.op, operands, node.results, tuple(regions), node.span, node.scope, node.derived)


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
