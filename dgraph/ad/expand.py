"""Expansion: every `jvp`, `vjp` and `vmap` node is replaced by ordinary nodes, innermost first; then functions with
rules of their own are plain functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dgraph.ad.jvp import jvp
from dgraph.ad.reversals import is_kept, tangents_as_nodes
from dgraph.ad.solutions import solutions
from dgraph.ad.sparse.compress import without_sparse
from dgraph.ad.vjp import vjp
from dgraph.ad.vmap import vmap
from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.inline import inline_calls
from dgraph.ir.op import Op


def expand(graph: Graph) -> Graph:
    """The graph without transforms. It computes the same, and its derivatives are ordinary nodes."""
    region = inline_calls(_settled(without_transforms(without_sparse(graph.region))), "custom")
    return graph.with_region(remove_dead_code(solutions(region)))


def expand_but_rules(graph: Graph) -> Graph:
    """The graph without transforms, in which functions with rules are still nodes of their own."""
    return graph.with_region(solutions(without_transforms(without_sparse(graph.region))))


def without_transforms(region: Region) -> Region:
    """The region with ordinary nodes for its transforms; only `custom` nodes stay."""
    return _Expansion().region(region)


def _settled(region: Region, in_custom: bool = False) -> Region:
    """The region without what tells `custom` nodes how their functions were to be differentiated without their rules:
    a stopped gradient inside is the value itself."""
    nodes: list[Node] = []
    known: dict[Value, Value] = {}
    for node in region.nodes:
        operands = tuple(known.get(operand, operand) for operand in node.operands)
        if in_custom and node.op.name == "stop_gradient":
            known[node.result] = operands[0]
            continue
        regions = tuple(_settled(inner, in_custom or node.op.name == "custom") for inner in node.regions)
        same = (operands, regions) == (node.operands, node.regions)
        nodes.append(node if same else replace(node, operands=operands, regions=regions))
    outputs = tuple(known.get(output, output) for output in region.outputs)
    same = (tuple(nodes), outputs) == (region.nodes, region.outputs)
    return region if same else Region(region.inputs, tuple(nodes), outputs)


class _Expansion:
    """One run: a region met before, or transformed before in the same way, is remembered.

    Inside of what is reversed (`keeps`), a `vjp` waits until the transforms around it are known: see `reversals`.
    """

    def __init__(self) -> None:
        self.done: dict[tuple[Region, bool], Region] = {}
        self.derived: dict[tuple[Op, Region, bool], Region] = {}

    def region(self, region: Region, keeps: bool = False) -> Region:
        """A region without transforms but those that wait; the region itself if it has none."""
        key = region, keeps
        found = self.done.get(key)
        if found is None:
            found = self.done[key] = self._expanded(region, keeps)
        return found

    def _expanded(self, region: Region, keeps: bool) -> Region:
        inner = [
            tuple(self.region(part, keeps or node.op.name == "vjp") for part in node.regions) for node in region.nodes
        ]
        plain = all(node.op.name not in TRANSFORMS for node in region.nodes)
        if plain and all(regions == node.regions for node, regions in zip(region.nodes, inner, strict=True)):
            return region
        g = Builder()
        known = {value: g.input(value.type, value.name) for value in region.inputs}
        for node, regions in zip(region.nodes, inner, strict=True):
            operands = [known[operand] for operand in node.operands]
            if node.op.name in TRANSFORMS and not (keeps and is_kept(node)):
                op: Any = node.op
                scope = (*node.scope, op.function) if op.function else node.scope
                with g.at(derived=node.derived):
                    results = g.inline(self.transformed(op, regions[0], keeps), operands, scope)
            else:
                with g.at(span=node.span, scope=node.scope, derived=node.derived):
                    names = [value.name for value in node.results]
                    results = list(g.apply(node.op, *operands, regions=regions, names=names))
            known.update(zip(node.results, results, strict=True))
        return g.close([known[output] for output in region.outputs])

    def transformed(self, op: Op, region: Region, keeps: bool) -> Region:
        """The region that computes what a transform of a region stands for. If it `keeps`, what waited waits on."""
        key = op, region, keeps
        found = self.derived.get(key)
        if found is None:
            made: Any = op
            found = _inside(made.function, TRANSFORMS[op.name](op, region))
            found = self.derived[key] = found if keeps else self.region(found)
        return found


def _inside(function: str, region: Region) -> Region:
    """The region as it stands in the scope of a function: nodes that a call or transform of that same function put
    there before do not say so twice."""
    nodes = (replace(node, scope=node.scope[1:]) if node.scope[:1] == (function,) else node for node in region.nodes)
    return Region(region.inputs, tuple(nodes), region.outputs)


def _expand_jvp(op: Any, region: Region) -> Region:
    return remove_dead_code(jvp(region, op.active))


def _expand_vjp(op: Any, region: Region) -> Region:
    return vjp(region, op.wrt, op.seeded)


def _expand_vmap(op: Any, region: Region) -> Region:
    return vmap(region, op.mapped, op.extent)


TRANSFORMS: dict[str, Callable[[Any, Region], Region]] = {
    "jvp": _expand_jvp,
    "vjp": _expand_vjp,
    "vjp_tangent": tangents_as_nodes,
    "vmap": _expand_vmap,
}
"""How each transform of a region is written with ordinary nodes."""
