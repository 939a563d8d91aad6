"""At a point, a loop that keeps something for each step serves for a loop that makes the same steps and keeps nothing.

The way there of a gradient runs a loop for its result, and the way back runs it again for what its reverse needs. Where
both stand at the same point of an index space, the first is left out.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import For, Space, While
from dgraph.ops.index import Index
from dgraph.passes.base import change_regions, graph_pass, outputs_of, same_nodes, with_operands, with_regions
from dgraph.passes.common_subexpressions import COMMUTATIVE, Sharing


@graph_pass("a loop at a point that keeps its steps serves for one that makes the same")
def join_loops(graph: Graph) -> Graph:
    """Join the loops at the points of every space."""
    sharing, done = Sharing(), dict[Region, Region]()

    def points(region: Region) -> Region:
        nodes = []
        for node in region.nodes:
            is_space = isinstance(node.op, Space)
            nodes.append(with_regions(node, [_joined(body, sharing) for body in node.regions]) if is_space else node)
        return same_nodes(region, nodes, region.outputs)

    return graph.with_region(change_regions(graph.region, points, done))


def _joined(region: Region, sharing: Sharing) -> Region:
    loops = [_Steps(node, sharing) for node in region.nodes if isinstance(node.op, For | While)]
    known: dict[Value, Value] = {}
    moved: dict[Node, Node] = {}
    for position, one in enumerate(loops):
        for two in loops[position + 1 :]:
            if one.loop in moved or two.loop in moved.values() or not _can_stand_at(two.loop, one.loop, region):
                continue
            results = _served(one, two)
            if results is not None:
                moved[one.loop] = two.loop
                known.update(results)
    if not moved:
        return region
    nodes = [moved.get(node, node) for node in region.nodes if node not in moved.values()]
    return same_nodes(region, (with_operands(node, known) for node in nodes), outputs_of(region, known))


def _served(one: _Steps, two: _Steps) -> dict[Value, Value] | None:
    """What stands for the results of a loop, if another one makes the same steps and keeps more."""
    loop, other = one.loop, two.loop
    if one.kind != two.kind or not one.numbers_of_nodes <= two.numbers_of_nodes or two.adds_effects(one):
        return None
    carries = one.op.carries
    if one.outputs[:carries] != two.outputs[:carries] or one.condition != two.condition:
        return None
    found = dict(zip(loop.results[:carries], other.results[:carries], strict=True))
    kept = len(one.outputs)
    for value, number in zip(loop.results[carries:kept], one.outputs[carries:], strict=True):
        rest = zip(other.results[carries:], two.outputs[carries:], strict=False)
        same = next((found for found, theirs in rest if theirs == number and found.type == value.type), None)
        if same is None:
            return None
        found[value] = same
    found.update(zip(loop.results[kept:], other.results[len(two.outputs) :], strict=True))
    return found


def _can_stand_at(other: Node, loop: Node, region: Region) -> bool:
    """Whether a node needs nothing that is not there before an earlier one."""
    before = {*region.inputs}
    for node in region.nodes:
        if node is loop:
            break
        before.update(node.results)
    return before.issuperset(other.operands)


class _Steps:
    """The steps of a loop with what they compute numbered: equal keys are equal values in the same step."""

    def __init__(self, loop: Node, sharing: Sharing) -> None:
        self.loop = loop
        op: Any = loop.op
        self.op = op
        self.sharing = sharing
        lead = op.leading_operands()
        none = {"tapes": 0, "stacks": 0} if isinstance(loop.op, For) else {"tapes": 0}
        self.kind = (replace(op, **none), loop.operands[:lead])
        self.captured = loop.operands[lead:]
        self.effects: set[Hashable] = set()
        self.numbers_of_nodes: set[Hashable] = set()
        body = loop.regions[-1]
        self.outputs = self.numbered(body, op.leading_inputs(len(loop.regions) - 1))
        self.condition = self.numbered(loop.regions[0], op.leading_inputs(0)) if len(loop.regions) > 1 else ()

    def numbered(self, region: Region, lead: int) -> list[Hashable]:
        """The keys of the outputs of a region."""
        keys: dict[Value, Hashable] = {value: place for place, value in enumerate(region.inputs[:lead])}
        keys.update(zip(region.inputs[lead:], self.captured, strict=True))
        for node in region.nodes:
            operands = [keys[operand] for operand in node.operands]
            taken = frozenset(operands) if node.op.name in COMMUTATIVE else tuple(operands)
            number = self.sharing.number_of((node.op, taken, tuple(map(self.sharing.number, node.regions))))
            self.numbers_of_nodes.add(number)
            if has_effect(node):
                self.effects.add(number)
            keys.update((result, (number, place)) for place, result in enumerate(node.results))
        return [keys[output] for output in region.outputs]

    def adds_effects(self, other: _Steps) -> bool:
        """Whether something can fail here that cannot in another loop."""
        return not self.effects <= other.effects


def has_effect(node: Node) -> bool:
    """Whether a node does more than compute its results, or may fail, itself or inside its regions."""
    inner = (each for region in node.regions for each in region.nodes)
    can_fail = isinstance(node.op, Index) and node.op.policy == "error"
    return can_fail or node.op.effect != "pure" or any(map(has_effect, inner))
