"""Any stage of a function as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from dgraph.errors import Span
from dgraph.ir.text import print_graph
from dgraph.program.functions import Function, Program, value_and_grad
from dgraph.program.generic import concrete
from dgraph.program.pipeline import stage as stage_of

if TYPE_CHECKING:
    from dgraph.ir.graph import Graph


def tree_text(program: Program) -> str:
    """The syntax tree of the whole file, one line per node."""
    return "\n".join(_tree("", program.module.tree, 0)) + "\n"


def _tree(label: str, thing: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(thing, tuple):
        for item in thing:
            yield from _tree(label, item, depth)
        return
    held = [(f.name, getattr(thing, f.name)) for f in fields(thing)]
    words = [f"{name}={value!r}" for name, value in held if isinstance(value, str | int | float) and value != ""]
    span = getattr(thing, "span", None)
    place = f"  :{span.line}" if isinstance(span, Span) else ""
    yield f"{indent}{label + ': ' if label else ''}{type(thing).__name__} {' '.join(words)}".rstrip() + place
    for name, value in held:
        if value is None or isinstance(value, str | int | float | Span):
            continue
        if isinstance(value, tuple) and value and isinstance(value[0], str):
            yield f"{indent}  {name}: {' '.join(map(str, value))}"
        else:
            yield from _tree(name, value, depth + 1)


def stage_text(
    function: Function, stage: str, wrt: Sequence[str] | None = None, schedule: Mapping[str, str] | None = None
) -> str:
    """The text of a stage of a function: graph, optimised, grad, loops, numba, llvm, cuda, ptx. `schedule` steers
    loops, numba and llvm."""
    function = concrete(function, {})
    if stage == "graph":
        return print_graph(function.graph)
    if stage == "optimised":
        return print_graph(stage_of(function.graph, "optimised"))
    if stage == "grad":
        return print_graph(stage_of(value_and_grad(function, wrt).graph, "optimised"))
    return _kernel_text(stage_of(function.graph, "kernels"), stage, schedule)


def _kernel_text(graph: Graph, stage: str, schedule: Mapping[str, str] | None) -> str:
    if stage in ("cuda", "ptx"):
        from dgraph.kernels.cuda_source import cuda_text, ptx_text

        return cuda_text(graph) if stage == "cuda" else ptx_text(graph)
    from dgraph.kernels.compile import plan_graph
    from dgraph.kernels.loops_text import print_loops
    from dgraph.kernels.native import llvm_text
    from dgraph.kernels.numba_source import print_program

    program = plan_graph(graph, schedule=schedule)
    if stage == "loops":
        return print_loops(program)
    source = print_program(program)
    return source if stage == "numba" else llvm_text(source)
