"""What the loops of a program could keep less: the loops, their prices, and the same program with a setting for each.

A setting is a size variable that each call gives a number: how many states a loop keeps (`slots`), or every which
(`every`). So one compiled program serves all sizes, and how much it keeps is decided when these are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.errors import Span
from dgraph.ir.graph import Formal, Graph, Node, Region, Value
from dgraph.ops.control import For, Loop, While
from dgraph.passes.base import with_regions
from dgraph.passes.costs import Costs
from dgraph.sizes import Size, variable
from dgraph.types import Extent, Tape


@dataclass(frozen=True)
class KeepingLoop:
    """A loop that keeps something at every step for its reverse: its place among all such loops, how many steps it has
    (None if only the run knows), how often it runs, the bytes of what it keeps, and the seconds of a step."""

    at: int
    span: Span
    steps: Size | None
    runs: int
    bytes: int
    seconds: float


def keeping_loops(graph: Graph, costs: Costs) -> tuple[list[KeepingLoop], float]:
    """The loops without `@checkpoint` that keep something, and the seconds of the whole program."""
    seconds = costs.region(graph.region).seconds
    found: list[KeepingLoop] = []
    seen: set[Node] = set()

    def visit(region: Region, runs: int) -> None:
        for node in region.nodes:
            inner = runs
            if isinstance(node.op, For | While):
                steps = costs.count(node.operands[0] if isinstance(node.op, For) else node.results[-1])
                inner = runs * max(costs.number(steps), 1)
                if _keeps(node) and node not in seen:
                    seen.add(node)
                    step = costs.region(node.regions[-1]).seconds
                    kept = sum(costs.bytes(value) for value in node.results if isinstance(value.type, Tape))
                    known = steps if isinstance(node.op, For) else None
                    found.append(KeepingLoop(len(found), node.span, known, runs, kept * runs, step))
            for body in node.regions:
                visit(body, inner)

    visit(graph.region, 1)
    return found, seconds


def _keeps(node: Node) -> bool:
    return isinstance(node.op, Loop) and node.op.tapes > 0 and not node.op.has_wish


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
    region = _Settings(kinds, names).region(graph.region)
    formals = tuple(Formal(name, Extent()) for name in names.values())
    sizes = (*graph.sizes, *names.values())
    return replace(graph, region=region, formals=(*graph.formals, *formals), sizes=sizes), names


class _Settings:
    """Loops get their settings, in the order in which `keeping_loops` finds them."""

    def __init__(self, kinds: Mapping[int, str], names: Mapping[int, str]) -> None:
        self.kinds = kinds
        self.names = names
        self.seen: dict[Node, int] = {}
        self.done: dict[Region, Region] = {}

    def region(self, region: Region) -> Region:
        if region not in self.done:
            self.done[region] = Region(region.inputs, tuple(map(self.node, region.nodes)), region.outputs)
        return self.done[region]

    def node(self, node: Node) -> Node:
        if _keeps(node):
            self.seen.setdefault(node, len(self.seen))
        at = self.seen.get(node, -1)
        inner = with_regions(node, [self.region(body) for body in node.regions]) if node.regions else node
        op = node.op
        if at not in self.names or not isinstance(op, For | While):
            return inner
        wish = variable(self.names[at])
        return replace(inner, op=replace(op, slots=wish) if self.kinds[at] == "slots" else replace(op, every=wish))


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
