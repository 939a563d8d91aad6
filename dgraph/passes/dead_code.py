"""What reaches no output and no check is removed."""

from __future__ import annotations

from dgraph.ir.dead_code import without_dead_code
from dgraph.ir.graph import Graph
from dgraph.passes.base import graph_pass


@graph_pass("what reaches no output and no check is removed")
def dead_code(graph: Graph) -> Graph:
    """The graph without dead nodes, results, carries, captures and yields."""
    return without_dead_code(graph)
