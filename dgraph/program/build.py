"""Compile a function from its text: front end, pipeline, kernels."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from dgraph.frontend import module_sources
from dgraph.kernels.compile import CompiledGraph, compile_graph
from dgraph.passes import change_precision
from dgraph.program.lower import lower
from dgraph.program.pipeline import stage
from dgraph.program.signature import Signature

if TYPE_CHECKING:
    from dgraph.program.compiled import Options
    from dgraph.program.functions import Program, Recipe


def build_kernel(
    program: Program, recipe: Recipe, options: Options
) -> tuple[Signature, CompiledGraph, list[tuple[str, str]]]:
    """The signature, the compiled kernels, and every file that was read with a hash of its content."""
    graph, signature = lower(program.module, recipe)
    if options.precision is not None:
        graph = change_precision(graph, options.precision)
        signature = Signature.of(graph, signature.params, signature.defaults)
    kernel = compile_graph(stage(graph, "kernels"), checks=options.checks, parallel=options.parallel)
    read = []
    for path, _ in module_sources(program.module):
        file = Path(path)
        if file.is_file():
            read.append((str(file.resolve()), hashlib.sha256(file.read_bytes()).hexdigest()))
    return signature, kernel, read
