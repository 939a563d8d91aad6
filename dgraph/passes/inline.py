"""Calls are replaced by the bodies of their functions."""

from __future__ import annotations

from dgraph.ir.graph import Graph
from dgraph.ir.inline import without_calls
from dgraph.passes.base import graph_pass


@graph_pass("function calls are replaced by their bodies")
def inline(graph: Graph) -> Graph:
    """The graph without `call` nodes; every node of a function has its name in its scope."""
    return without_calls(graph)
