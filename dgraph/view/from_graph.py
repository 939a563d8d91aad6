"""From a graph to its scene: region ops and scopes as clusters, every value drawn from where it is computed."""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.graph import Graph
from dgraph.view.region_rules import RULES
from dgraph.view.scene import Direction, Scene
from dgraph.view.walk import Known, Values, Walk, facing_of, place


def scene_of(
    graph: Graph,
    *,
    values: Values | None = None,
    adjoints: Values | None = None,
    title: str | None = None,
    texts: Sequence[str] = (),
) -> Scene:
    """The scene of a graph, with lines of text under its signature.

    With a recording as `values` every node shows what it computed, or `not run`: nodes of the reverse pass as
    adjoints, the others as forward values. `adjoints` gives forward nodes an adjoint of their own besides. Of a plain
    mapping a node shows what is in it.
    """
    walk = Walk(RULES, values, adjoints)
    known: Known = {}
    region = graph.region
    for name, value in zip(graph.input_names, region.inputs, strict=True):
        facing = {facing_of(user) for user in region.users.get(value, ())}
        direction: Direction = "adjoint" if facing == {"adjoint"} else "forward"
        known[value] = walk.add([value], name, "input", "input", direction=direction)
    walk.read(region, known)
    for name, value in zip(graph.output_names, region.outputs, strict=True):
        label = name if name == "result" else f"result.{name}"
        walk.add_exit(known[value], value, label, "output", "output")
    lines = [_signature(graph), *texts]
    if values is not None and any(box.kind in ("for", "while", "space") for box in walk.regions):
        lines.append("values inside loops and index spaces are those of the last step")
    if adjoints is not None and any(box.kind != "scope" for box in walk.regions):
        lines.append("adjoints are those of values outside of loops, choices and index spaces")
    return Scene(title or graph.name, tuple(walk.regions), tuple(walk.nodes), tuple(walk.edges), tuple(lines))


def _signature(graph: Graph) -> str:
    sizes = f"[{', '.join(graph.sizes)}]" if graph.sizes else ""
    formals = ", ".join(f"{formal.name}: {formal.type}" for formal in graph.formals)
    return f"{graph.name}{sizes}({formals}) -> {graph.result}   {place(graph.span)}".rstrip()
