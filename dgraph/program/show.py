"""Any stage of a function as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dgraph.ir.text import print_graph
from dgraph.program.functions import Function, Program, value_and_grad
from dgraph.program.pipeline import stage as stage_of

if TYPE_CHECKING:
    from dgraph.ir.graph import Graph


def stage_text(program: Program, function: Function | None, stage: str, wrt: Sequence[str] | None = None) -> str:
    """The text of a stage: tree (of the whole file), graph, optimised, grad, loops, numba, llvm, cuda, ptx."""
    if stage == "tree" or function is None:
        from dgraph.frontend.tree import print_tree

        return print_tree(program.module.tree)
    if stage == "graph":
        return print_graph(function.graph)
    if stage == "optimised":
        return print_graph(stage_of(function.graph, "optimised"))
    if stage == "grad":
        return print_graph(stage_of(value_and_grad(function, wrt).graph, "optimised"))
    return _kernel_text(stage_of(function.graph, "kernels"), stage)


def _kernel_text(graph: Graph, stage: str) -> str:
    if stage in ("cuda", "ptx"):
        from dgraph.kernels.cuda import cuda_text, ptx_text

        return cuda_text(graph) if stage == "cuda" else ptx_text(graph)
    from dgraph.kernels.compile import llvm_text, loops_text, numba_text

    return {"loops": loops_text, "numba": numba_text, "llvm": llvm_text}[stage](graph)
