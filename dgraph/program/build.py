"""Compile a function from its text: front end, pipeline, kernels."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from dgraph.kernels.compile import CompiledGraph, compile_graph
from dgraph.program.chosen_sweeps import is_swept, jacobians_of
from dgraph.program.lower import lower
from dgraph.program.pipeline import stage
from dgraph.program.signature import Signature
from dgraph.program.sparse import compressed

if TYPE_CHECKING:
    from dgraph.ir.graph import Graph
    from dgraph.program.compiled import Options
    from dgraph.program.functions import Program, Recipe


def build_kernel(
    program: Program, recipe: Recipe, options: Options, ways: Sequence[str] = ()
) -> tuple[Signature, CompiledGraph]:
    """The signature and the compiled kernels of a function; `ways` has what is chosen for its Jacobians in no certain
    mode."""
    with _garbage_later():
        graph, signature = lower(program.module, recipe, options.precision, leaves_sweeps=bool(ways))
        if not ways and is_swept(graph.region):
            left, _ = lower(program.module, recipe, options.precision, leaves_sweeps=True)
            signature = replace(signature, jacobians=jacobians_of(stage(left, "inline")))
        sparse = compressed(graph, recipe, ways)
        if sparse is not None:
            graph, signature = sparse.graph, replace(signature, is_sparse=True)
        graph = stage(graph, "kernels")
        return signature, compile_graph(graph, **options.of_plan(), parallel=options.parallel)


def compile_lowered(graph: Graph) -> CompiledGraph:
    """Compile a source graph that no recipe names, such as a training step; its object code is cached by content."""
    with _garbage_later():
        return compile_graph(stage(graph, "kernels"))


@contextmanager
def _garbage_later() -> Iterator[None]:
    """Put off the search for garbage: graphs are many small objects that live until the end, and looking through them
    again and again took a sixth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
