"""What a pass is: a named function from graph to graph, registered with a one-line description.

Most passes treat every region alike and look at nothing outside it: `each_region` applies such a change to all
regions, inner ones first, each once even where several nodes share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from dgraph.classes import dataclass
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.verify import verify as check_graph

Change = Callable[[Region], Region]
"""A change of one region whose nested regions have been changed already."""


Run = TypeVar("Run", bound=Callable[..., Graph])


@dataclass(frozen=True)
class Pass:
    """A registered pass."""

    name: str
    description: str
    run: Callable[[Graph], Graph]


PASSES: dict[str, Pass] = {}
"""Every pass by name, filled by the decorator `graph_pass`."""


def graph_pass(description: str) -> Callable[[Run], Run]:
    """Register a function from graph to graph under its own name. Settings of its own must have defaults."""

    def register(run: Run) -> Run:
        PASSES[run.__name__] = Pass(run.__name__, description, run)
        return run

    return register


def run_passes(graph: Graph, names: Iterable[str], *, verify: bool = False) -> Graph:
    """The graph after the named passes, one after another.

    With `verify` the graph is checked before the first pass and after each. Raises `InvalidGraph` if a check fails.
    """
    if verify:
        check_graph(graph)
    for name in names:
        graph = PASSES[name].run(graph)
        if verify:
            check_graph(graph)
    return graph


def each_region(graph: Graph, change: Change) -> Graph:
    """The graph with every region changed, inner regions first."""
    return graph.with_region(change_regions(graph.region, change, {}))


def change_regions(region: Region, change: Change, done: dict[Region, Region]) -> Region:
    """A region and all inside it changed, inner regions first; `done` remembers regions met before."""
    found = done.get(region)
    if found is None:
        nodes = tuple(
            with_regions(node, [change_regions(r, change, done) for r in node.regions]) if node.regions else node
            for node in region.nodes
        )
        same = all(one is other for one, other in zip(nodes, region.nodes, strict=True))
        found = done[region] = change(region if same else Region(region.inputs, nodes, region.outputs))
    return found


def with_regions(node: Node, regions: Iterable[Region]) -> Node:
    """The node with other regions; the node itself if they are its own."""
    if not node.regions:
        return node
    given = tuple(regions)
    same = all(one is other for one, other in zip(given, node.regions, strict=True))
    return node if same else replace(node, regions=given)


def with_operands(node: Node, known: Mapping[Value, Value]) -> Node:
    """The node with its operands replaced where `known` says so; the node itself if none is."""
    if not known or known.keys().isdisjoint(node.operands):
        return node
    operands = tuple(known.get(operand, operand) for operand in node.operands)
    return Node(node.op, operands, node.results, node.regions, node.span, node.scope, node.derived)


def outputs_of(region: Region, known: Mapping[Value, Value]) -> tuple[Value, ...]:
    """The outputs of a region after a replacement."""
    return tuple(known.get(output, output) for output in region.outputs)


def same_nodes(region: Region, nodes: Iterable[Node], outputs: tuple[Value, ...]) -> Region:
    """A region with other nodes and outputs; the region itself if they are its own."""
    given = tuple(nodes)
    if outputs == region.outputs and given == region.nodes:
        return region
    return Region(region.inputs, given, outputs)
