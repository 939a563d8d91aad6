"""What the points of several spaces compute alike, and at some cost, is computed once and kept.

The exponentials of a softmax are needed for their sum and then again for each entry. The two spaces cannot become one,
since the sum stands between them; so the exponentials get a space of their own, which merges with the first of the two.
Only dear work is shared, and only what looks at all indices: `split_points` has the rest.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import field, replace

from dgraph.classes import dataclass
from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import Space
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.index import Index
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.base import each_region, graph_pass, outputs_of, same_nodes, with_operands
from dgraph.passes.split_points import DEAR
from dgraph.types import Array


@graph_pass("what the points of several spaces compute alike is computed once")
def share_points(graph: Graph) -> Graph:
    """Share in every region, inner ones first."""
    return each_region(graph, _shared)


def _shared(region: Region) -> Region:
    by_extents: dict[object, list[_Points]] = {}
    known: dict[Hashable, int] = {}
    for node in region.nodes:
        if isinstance(node.op, Space) and node.op.extents:
            by_extents.setdefault(node.op.extents, []).append(_Points(node, known))
    parts: dict[Node, Node] = {}
    changed: dict[Node, Node] = {}
    for spaces in by_extents.values():
        spaces_of: dict[int, list[_Points]] = {}
        for points in spaces:
            for number in points.dear:
                spaces_of.setdefault(number, []).append(points)
        common = {number for number, those in spaces_of.items() if len(those) > 1}
        edge = {number for points in spaces for number in points.edge(common)}
        arrays: dict[int, Value] = {}
        for points in spaces:
            own = sorted(number for number in edge if spaces_of[number][0] is points)
            if own:
                part = _Points(points.part(own), known)
                part.take(arrays)
                parts[points.space] = part.reading()
                arrays.update(zip(own, part.space.results, strict=True))
        for points in spaces:
            points.take(arrays)
        changed.update((points.space, points.reading()) for points in spaces)
    if not parts:
        return region
    nodes = []
    for node in region.nodes:
        if node in parts:
            nodes.append(parts[node])
        nodes.append(changed.get(node, node))
    return same_nodes(region, nodes, region.outputs)


@dataclass(eq=False)
class _Points:
    """A space whose values are numbered: equal numbers are equal values at the same point."""

    space: Node
    known: dict[Hashable, int]
    numbers: dict[Value, int] = field(default_factory=dict)
    dear: dict[int, Value] = field(default_factory=dict)
    taken: dict[int, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        op, (body,) = self.space.op, self.space.regions
        assert isinstance(op, Space)
        everywhere = frozenset(range(len(op.extents)))
        seen: dict[Value, frozenset[int]] = {}
        for axis, value in enumerate(body.inputs[: len(op.extents)]):
            self.numbers[value], seen[value] = self.number(("index", axis)), frozenset([axis])
        captured = zip(body.inputs[op.leading_inputs(0) :], self.space.operands[op.accumulators :], strict=True)
        for value, operand in captured:
            self.numbers[value], seen[value] = self.number(operand), frozenset()
        costs: set[Value] = set()
        for node in body.nodes:
            if not self.counts(node):
                continue
            value = node.result
            number = self.numbers[value] = self.number((node.op, *(self.numbers[o] for o in node.operands)))
            seen[value] = frozenset[int]().union(*(seen[operand] for operand in node.operands))
            is_dear = isinstance(node.op, Elementwise) and node.op.weight >= DEAR
            if is_dear or not costs.isdisjoint(node.operands):
                costs.add(value)
                if seen[value] == everywhere:
                    self.dear.setdefault(number, value)

    def number(self, key: Hashable) -> int:
        return self.known.setdefault(key, len(self.known))

    def counts(self, node: Node) -> bool:
        """Whether a node computes a number, and nothing else, from values with numbers."""
        if not all(operand in self.numbers for operand in node.operands):
            return False
        is_safe = isinstance(node.op, Elementwise | Constant | SizeValue) or (
            isinstance(node.op, Index) and node.op.policy in ("proven", "drop")
        )
        return is_safe and isinstance(node.result.type, Array) and not node.result.type.rank

    def edge(self, common: set[int]) -> Iterator[int]:
        """The common values that something reads which is not common."""
        (body,) = self.space.regions
        for number in common & self.dear.keys():
            value = self.dear[number]
            users = body.users.get(value, ())
            if value in body.outputs or any(self.numbers.get(r) not in common for u in users for r in u.results):
                yield number

    def part(self, own: list[int]) -> Node:
        """A space that yields some values."""
        op, (body,) = self.space.op, self.space.regions
        assert isinstance(op, Space)
        values = tuple(self.dear[number] for number in own)
        inner = remove_dead_code(Region(body.inputs, body.nodes, values))
        lead = op.leading_inputs(0)
        captured = zip(body.inputs[lead:], self.space.operands[op.accumulators :], strict=True)
        kept = [(value, operand) for value, operand in captured if value in inner.used]
        inputs = (*body.inputs[: len(op.extents)], *(value for value, _ in kept))
        results = []
        for value in values:
            assert isinstance(value.type, Array)
            results.append(Value(Array(value.type.dtype, op.extents), value.name))
        region = Region(inputs, inner.nodes, inner.outputs)
        operands = tuple(operand for _, operand in kept)
        return replace(self.space, op=Space(op.extents), operands=operands, results=tuple(results), regions=(region,))

    def take(self, arrays: Mapping[int, Value]) -> None:
        """Read values from arrays from now on."""
        self.taken.update((number, array) for number, array in arrays.items() if number in self.dear)

    def reading(self) -> Node:
        """The space that reads what it has taken."""
        if not self.taken:
            return self.space
        op, (body,) = self.space.op, self.space.regions
        assert isinstance(op, Space)
        reads: dict[Node, Node] = {}
        known: dict[Value, Value] = {}
        inputs, operands = list(body.inputs), list(self.space.operands)
        for number, array in self.taken.items():
            for value, own in self.numbers.items():
                maker = body.producers.get(value) if own == number else None
                if maker is None:
                    continue
                captured, entry = Value(array.type, array.name), Value(value.type, value.name)
                inputs.append(captured)
                operands.append(array)
                indices = body.inputs[: len(op.extents)]
                reads[maker] = replace(maker, op=Index("proven"), operands=(captured, *indices), results=(entry,))
                known[value] = entry
        nodes = (with_operands(reads.get(node, node), known) for node in body.nodes)
        inner = remove_dead_code(Region(tuple(inputs), tuple(nodes), outputs_of(body, known)))
        return replace(self.space, operands=tuple(operands), regions=(inner,))
