"""Choices that are less than they look: those that a choice around has made, and results that are another result.

On a side of a choice its predicate is known, so a choice by the same predicate inside is one of its sides. A result
that is what another result is on both sides is that result, and one that both sides take from outside is what they
take. Where one side leaves a result undefined nothing reads it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import If
from dgraph.ops.index import Undefined
from dgraph.passes.base import graph_pass, outputs_of, same_nodes, with_operands, with_regions
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.types import Array


@graph_pass("choices that a choice around has made are made, results that are another result are one")
def simplify_choices(graph: Graph) -> Graph:
    """Simplify the choices of every region."""
    return graph.with_region(_Choices().region(graph.region, {}))


class _Choices:
    """One run: regions of which nothing is known are simplified once."""

    def __init__(self) -> None:
        self.done: dict[Region, Region] = {}

    def region(self, region: Region, truths: Mapping[Value, bool]) -> Region:
        """A region, some of whose inputs are true or false."""
        if truths:
            return _without_repeats(rewrite(region, lambda g, node: self.rule(g, node, truths)))
        found = self.done.get(region)
        if found is None:
            found = _without_repeats(rewrite(region, lambda g, node: self.rule(g, node, {})))
            self.done[region] = self.done[found] = found
        return found

    def rule(self, g: Rewriter, node: Node, truths: Mapping[Value, bool]) -> Sequence[Value] | None:
        """What stands for a node with regions: a side of a choice that is made, or the node with simpler regions."""
        if not node.regions:
            return None
        if not isinstance(node.op, If):
            changed = with_regions(node, [self.region(inner, {}) for inner in node.regions])
        else:
            predicate, *captures = node.operands
            if predicate in truths:
                return g.inline(node.regions[0 if truths[predicate] else 1], captures, node.scope)
            sides = []
            for side, truth in zip(node.regions, (True, False), strict=True):
                known = {predicate: truth, **truths}
                inputs = zip(side.inputs, captures, strict=True)
                sides.append(self.region(side, {value: known[outer] for value, outer in inputs if outer in known}))
            changed = with_regions(node, sides)
        if changed is node:
            return None
        g.append(changed)
        return list(changed.results)


def _without_repeats(region: Region) -> Region:
    known: dict[Value, Value] = {}
    nodes = []
    for node in region.nodes:
        node = with_operands(node, known)
        nodes.append(node)
        if isinstance(node.op, If):
            known.update(_repeated(node))
    return same_nodes(region, nodes, outputs_of(region, known)) if known else region


def _repeated(choice: Node) -> dict[Value, Value]:
    """The results that are another result, or a value from outside."""
    found: dict[Value, Value] = {}
    outside = [dict(zip(side.inputs, choice.operands[1:], strict=True)) for side in choice.regions]
    kept: list[int] = []
    for at, result in enumerate(choice.results):
        if not isinstance(result.type, Array):
            continue
        taken = {names.get(side.outputs[at]) for side, names in zip(choice.regions, outside, strict=True)}
        (only, *others) = taken
        if not others and only is not None:
            found[result] = only
            continue
        same = next((other for other in kept if _stands_for(choice, other, at)), None)
        if same is None:
            kept.append(at)
        else:
            found[result] = choice.results[same]
    return found


def _stands_for(choice: Node, one: int, other: int) -> bool:
    """Whether a result is another one on each side where the other is defined."""
    if choice.results[one].type != choice.results[other].type:
        return False
    return all(
        side.outputs[one] is side.outputs[other] or _is_undefined(side, side.outputs[other]) for side in choice.regions
    )


def _is_undefined(side: Region, value: Value) -> bool:
    maker = side.producers.get(value)
    return maker is not None and isinstance(maker.op, Undefined)
