"""What the loops of a program could keep less: the loops, their prices, and the same program with a setting for each.

A setting is a size variable that each call gives a number: how many states a loop keeps (`slots`), or every which
(`every`). So one compiled program serves all sizes, and how much it keeps is decided when these are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dgraph.errors import Span
from dgraph.ir.graph import Formal, Graph, Node, Region, Value
from dgraph.ops.control import For
from dgraph.passes.base import with_regions
from dgraph.passes.costs import Costs
from dgraph.sizes import Size, variable
from dgraph.types import Extent, Tape


@dataclass(frozen=True)
class KeepingLoop:
    """A loop that keeps something at every step for its reverse: its place among all such loops, how many steps it
    has, how often it runs, the bytes of what it keeps, and the seconds of a step."""

    at: int
    span: Span
    steps: Size
    runs: int
    bytes: int
    seconds: float


def keeping_loops(graph: Graph, costs: Costs) -> tuple[list[KeepingLoop], float]:
    """The loops without `@checkpoint` that keep something, and the seconds of the whole program."""
    seconds = costs.region(graph.region).seconds
    found: list[KeepingLoop] = []
    seen: dict[Node, int] = {}

    def visit(region: Region, runs: int) -> None:
        for node in region.nodes:
            inner = runs
            if isinstance(node.op, For):
                steps = costs.count(node.operands[0])
                inner = runs * max(costs.number(steps), 1)
                if _keeps(node) and node not in seen:
                    seen[node] = len(seen)
                    step = costs.region(node.regions[0]).seconds
                    kept = sum(costs.bytes(value) for value in node.results if isinstance(value.type, Tape))
                    found.append(KeepingLoop(seen[node], node.span, steps, runs, kept * runs, step))
            for body in node.regions:
                visit(body, inner)

    visit(graph.region, 1)
    return found, seconds


def _keeps(node: Node) -> bool:
    return isinstance(node.op, For) and node.op.tapes > 0 and not node.op.has_wish


def with_settings(graph: Graph, kinds: Mapping[int, str]) -> tuple[Graph, dict[int, str]]:
    """The program with a setting for each of the loops in `kinds`, which says of which kind; the names of the settings.

    A setting is a formal of type `size` behind all others.
    """
    names: dict[int, str] = {}
    taken = set(graph.sizes)
    for at, kind in kinds.items():
        name = f"{kind}_{at}"
        while name in taken:
            name += "_"
        taken.add(name)
        names[at] = name
    seen: dict[Node, int] = {}
    done: dict[Region, Region] = {}

    def changed(region: Region) -> Region:
        if region not in done:
            done[region] = Region(region.inputs, tuple(map(node_of, region.nodes)), region.outputs)
        return done[region]

    def node_of(node: Node) -> Node:
        if _keeps(node) and node not in seen:
            seen[node] = len(seen)
        at = seen.get(node, -1)
        inner = with_regions(node, map(changed, node.regions)) if node.regions else node
        if at not in names:
            return inner
        wish = variable(names[at])
        op = replace(node.op, slots=wish) if kinds[at] == "slots" else replace(node.op, every=wish)  # type: ignore[call-arg]
        return replace(inner, op=op)

    region = changed(graph.region)
    formals = tuple(Formal(name, Extent()) for name in names.values())
    sizes = (*graph.sizes, *names.values())
    return replace(graph, region=region, formals=(*graph.formals, *formals), sizes=sizes), names


def by_arguments(steps: Size, inputs: Sequence[Value], costs: Costs) -> Size:
    """A number of steps by sizes and by arguments that are numbers, `#3` being argument 3; what follows from neither
    has the value that it has in the prices."""
    places: dict[object, Size | int] = {value: variable(f"#{at}") for at, value in enumerate(inputs)}
    known = {
        atom: places[atom] if atom in places else costs.number(variable(atom))
        for atom in steps.atoms()
        if not isinstance(atom, str) and (atom in places or isinstance(atom, Value))
    }
    return steps.substitute(known)
