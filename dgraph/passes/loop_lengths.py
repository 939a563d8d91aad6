"""Loops whose number of steps follows from the sizes say so.

Only such a loop can walk rows, stack what it computes and do matrix products of all its steps at once. A loop with
`@checkpoint`, and what stands inside or around it, is left as it is: its products are rounded alike whatever it keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dgraph.ir.graph import Graph, Node, Region
from dgraph.ops.control import For, Loop
from dgraph.passes.base import graph_pass, same_nodes, with_regions
from dgraph.passes.stack_tapes import Counts, captured, counts_of, steps_of
from dgraph.sizes import Size


@graph_pass("loops whose number of steps is a size say so")
def loop_lengths(graph: Graph) -> Graph:
    """Set lengths in every region."""
    return graph.with_region(_Lengths().region(graph.region, (None,) * len(graph.region.inputs)))


class _Lengths:
    """One run: regions met before with the same numbers are remembered, and which nodes obey a wish."""

    def __init__(self) -> None:
        self.done: dict[tuple[Region, tuple[Size | None, ...]], Region] = {}
        self.wishes: dict[Region, bool] = {}

    def region(self, region: Region, given: Sequence[Size | None]) -> Region:
        """A region and all inside it, for what is known of its inputs."""
        key = region, tuple(given)
        found = self.done.get(key)
        if found is None:
            counts = counts_of(region, given)
            nodes = (node if _is_wished(node) else self.node(node, counts) for node in region.nodes)
            found = self.done[key] = same_nodes(region, nodes, region.outputs)
        return found

    def node(self, node: Node, counts: Counts) -> Node:
        """A node and all inside it, for what is known around it."""
        node = with_regions(node, [self.region(inner, captured(node, inner, counts)) for inner in node.regions])
        if not isinstance(node.op, For) or node.op.length is not None or any(map(self.has_wish, node.regions)):
            return node
        length = steps_of(node, counts)
        return node if length is None else replace(node, op=replace(node.op, length=length))

    def has_wish(self, region: Region) -> bool:
        """Whether a loop in a region says what it keeps."""
        found = self.wishes.get(region)
        if found is None:
            found = self.wishes[region] = any(
                _is_wished(node) or any(map(self.has_wish, node.regions)) for node in region.nodes
            )
        return found


def _is_wished(node: Node) -> bool:
    return isinstance(node.op, Loop) and node.op.has_wish
