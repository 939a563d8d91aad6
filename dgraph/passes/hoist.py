"""Work that is the same in every step of a loop, or at every point of an index space, is done once, before it.

Nothing leaves a choice, and what can fault stays: the loop may make no step.
"""

from __future__ import annotations

from dgraph.ir import hoist as loops
from dgraph.ir.graph import Graph
from dgraph.passes.base import graph_pass


@graph_pass("work that every step repeats is done once, before the loop")
def hoist(graph: Graph) -> Graph:
    """Hoist out of `for`, `while` and index spaces."""
    return graph.with_region(loops.hoist(graph.region, loops=("for", "while", "space")))
