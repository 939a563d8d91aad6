"""Pictures of functions: any stage, with forward values in blue and adjoints in red when arguments are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.errors import ArgumentError, Diagnostic
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import Interpreter, bind_sizes
from dgraph.ir.graph import Graph, Region, Value, walk
from dgraph.ops.transform import Transform
from dgraph.program.arguments import bind_arguments, extent, flatten, is_extent, located
from dgraph.program.generic import concrete
from dgraph.program.pipeline import stage as stage_of
from dgraph.types import Array
from dgraph.types import leaves as leaves_of
from dgraph.view import Scene, draw, record, scene_of, svg

if TYPE_CHECKING:
    from dgraph.program.functions import Function

Values = dict[Value, Any]
DRAWN = ("source", "optimised", "forward", "reverse", "kernels", "schedule")


def draw_function(
    function: Function,
    path: str | Path,
    stage: str = "source",
    arguments: Mapping[str, Any] | None = None,
    wrt: Sequence[str] | None = None,
) -> None:
    """Write a picture of a stage.

    source, optimised, kernels: the graph of the function there; forward: the source graph; reverse: the graph that
    computes value and derivatives, or, with `arguments`, the forward graph with every value and every adjoint on it;
    schedule: in which order the gradient, with `arguments`, runs the steps of loops, and what it keeps meanwhile.
    """
    if stage == "schedule":
        from dgraph.program.schedules import draw_schedule

        return draw_schedule(function, path, arguments or {})
    draw(scene_of_function(function, stage, arguments, wrt), Path(path))


def svg_of(function: Function) -> str:
    """The source graph as SVG text."""
    return svg(scene_of_function(function, "source", None, None))


def scene_of_function(
    function: Function, stage: str, arguments: Mapping[str, Any] | None, wrt: Sequence[str] | None
) -> Scene:
    """The scene that a picture shows."""
    if stage not in DRAWN:
        raise ArgumentError(Diagnostic(f"stage={stage!r} is not one of {', '.join(map(repr, DRAWN))}"))
    function = concrete(function, arguments or {})
    title = f"{function.recipe} ({stage})"
    if stage == "reverse" and arguments is None:
        from dgraph.program.functions import value_and_grad

        derived = value_and_grad(function, list(wrt) if wrt else float_formals(function.graph))
        return scene_of(stage_of(derived.graph, "optimised"), title=title)
    graph = function.graph if stage in ("source", "forward", "reverse") else stage_of(function.graph, stage)
    if arguments is None:
        return scene_of(graph, title=title)
    leaves, extents = leaves_for(function, graph, arguments)
    if stage == "reverse" or any(isinstance(node.op, Transform) for node in walk(graph.region)):
        # Only ordinary nodes have values of their own.
        graph = stage_of(graph, "expand")
    if stage == "reverse":
        values = record(graph, leaves, extents)
        return scene_of(graph, values=values, adjoints=adjoint_values(graph, leaves, extents), title=title)
    return scene_of(graph, values=record(graph, leaves, extents), title=title)


def float_formals(graph: Graph) -> list[str]:
    """The names of the formals, params among them, that hold floats."""
    return [f.name for f in graph.formals if any(leaf.dtype.is_float for _, leaf in leaves_of(f.type))]


def leaves_for(function: Function, graph: Graph, arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, int]]:
    """Leaves and size formals of a graph from arguments by name; params default to the program's values."""
    declared = {formal.name for formal in graph.formals}
    stored = {name: function.program.value_of(name) for name in function.program.module.stored if name in declared}
    defaults = {**function.lowered[1].defaults, **stored}
    leaves: list[Any] = []
    extents: dict[str, int] = {}
    try:
        values = bind_arguments(graph.name, graph.formals, (), arguments, defaults)
        for formal, value in zip(graph.formals, values, strict=True):
            if is_extent(formal):
                extents[formal.name] = extent(formal.name, value)
            else:
                leaves += flatten(formal.name, formal.type, value)
    except ArgumentError as fault:
        raise located(fault, function) from None
    return leaves, extents


def adjoint_values(graph: Graph, leaves: Sequence[Any], extents: Mapping[str, int]) -> Values:
    """The derivative of the first output with respect to every float value of the top region.

    Every such value v is replaced by v + e with an input e = 0; one reverse sweep gives the cotangents of all e.
    """
    from dgraph.ad import vjp

    probed, watched = _probed(graph.region)
    inputs = len(graph.region.inputs)
    wrt = [value.type.dtype.is_float for value in graph.region.inputs if isinstance(value.type, Array)]
    wrt += [True] * len(watched)
    seeded = [at == 0 for at in range(len(probed.outputs))]
    derivative = vjp(probed, wrt, seeded)
    sizes = bind_sizes(graph, leaves, extents)
    interpreter = Interpreter(sizes)
    zeros = [interpreter.empty(value.type)[()] for value in watched if isinstance(value.type, Array)]
    first = probed.outputs[0].type
    assert isinstance(first, Array)
    one = np.ones_like(interpreter.empty(first))[()]
    arguments = [leaf if np.ndim(leaf) else leaf[()] for leaf in leaves]
    outputs = interpreter.run(derivative, [*arguments, *zeros, one])[len(probed.outputs) :]
    moving = [value for value, asked in zip(graph.region.inputs, wrt[:inputs], strict=True) if asked]
    return dict(zip([*moving, *watched], outputs, strict=True))


def _probed(region: Region) -> tuple[Region, list[Value]]:
    """The region with an input added to every float result, and the values so watched."""
    g = Builder()
    known: dict[Value, Value] = {value: g.input(value.type, value.name) for value in region.inputs}
    moving = [
        value
        for node in region.nodes
        if node.op.name != "constant"
        for value in node.results
        if isinstance(value.type, Array) and value.type.dtype.is_float
    ]
    watched = {value: g.input(value.type) for value in moving}
    for node in region.nodes:
        for value, result in zip(node.results, g.copy(node, [known[v] for v in node.operands]), strict=True):
            known[value] = g.add(result, watched[value]) if value in watched else result
    return g.close([known[value] for value in region.outputs]), moving
