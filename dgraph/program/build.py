"""Compile a function from its text: front end, pipeline, kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dgraph.kernels.compile import CompiledGraph, compile_graph
from dgraph.program.lower import lower
from dgraph.program.pipeline import stage
from dgraph.program.signature import Signature

if TYPE_CHECKING:
    from dgraph.ir.graph import Graph
    from dgraph.program.compiled import Options
    from dgraph.program.functions import Program, Recipe


def build_kernel(program: Program, recipe: Recipe, options: Options) -> tuple[Signature, CompiledGraph]:
    """The signature and the compiled kernels of a function."""
    graph, signature = lower(program.module, recipe, options.precision)
    return signature, compile_graph(stage(graph, "kernels"), checks=options.checks, parallel=options.parallel)


def compile_lowered(graph: Graph) -> CompiledGraph:
    """Compile a source graph that no recipe names, such as a training step; its object code is cached by content."""
    return compile_graph(stage(graph, "kernels"))
