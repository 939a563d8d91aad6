"""The pipeline as one readable list: what a graph goes through between the front end and the kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dgraph.ad import expand
from dgraph.ir.graph import Graph
from dgraph.ir.verify import verify
from dgraph.passes import FUSE, INLINE, OPTIMISE, run_passes

STAGES: list[tuple[str, str, Callable[[Graph], Graph]]] = [
    ("inline", "calls replaced by bodies, forms that lose digits by better ones", partial(run_passes, names=INLINE)),
    ("expand", "jvp, vjp and vmap become ordinary nodes", expand),
    ("optimised", "folded, shared, hoisted, dead code removed", partial(run_passes, names=OPTIMISE)),
    ("kernels", "array ops fused into index spaces", partial(run_passes, names=FUSE)),
]
"""Name of the graph after each step, what the step does, and the step."""


KEEPING = OPTIMISE.index("checkpoint")
"""The pass before which it is decided which loops keep some states only."""
CUTTING = FUSE.index("residuals")
"""The pass that chooses what the steps of loops keep."""


def before_keeping(graph: Graph) -> Graph:
    """A source graph up to where it is decided what its loops keep."""
    return verify(run_passes(stage(graph, "expand"), OPTIMISE[:KEEPING]))


def keeping_less(graph: Graph) -> Graph:
    """The optimised graph, with what its loops keep as they are told."""
    return verify(run_passes(graph, OPTIMISE[KEEPING:]))


def before_cuts(graph: Graph) -> Graph:
    """An optimised graph up to where it is chosen what the steps of its loops keep."""
    return verify(run_passes(graph, FUSE[:CUTTING]))


def after_cuts(graph: Graph) -> Graph:
    """The last graph, from one with that chosen."""
    return verify(run_passes(graph, FUSE[CUTTING + 1 :]))


def stage(graph: Graph, name: str) -> Graph:
    """The graph after a stage; "source" is the graph itself. Every stage in between is verified."""
    if name == "source":
        return graph
    for reached, _, step in STAGES:
        graph = verify(step(graph))
        if reached == name:
            return graph
    raise ValueError(f"no stage is called {name}")
