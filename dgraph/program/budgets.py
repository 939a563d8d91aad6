"""The ways in which a function can keep less for its derivative, and what a call takes with each.

A way says which loops keep some states only, whether by `slots` or by `every`, what a byte that a step keeps costs, and
what straight code computes again. It is planned as a whole program, so that what is compared with a budget is what a
call takes. How many states a loop keeps is left to each call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import Span
from dgraph.ir.evaluate import bind_sizes
from dgraph.ir.graph import Graph
from dgraph.kernels.allowance import Allowance
from dgraph.kernels.compile import CompiledGraph, compile_program, interface_of, plan_graph
from dgraph.kernels.demand import Memory
from dgraph.kernels.interface import Interface
from dgraph.kernels.nests import Program
from dgraph.passes.body_curves import BodyCurve, body_curves
from dgraph.passes.costs import Costs
from dgraph.passes.keeping import with_settings
from dgraph.passes.rematerialise import Halves
from dgraph.passes.residuals import residuals
from dgraph.passes.trade_off import TradeOff
from dgraph.program.compiled import Options
from dgraph.program.pipeline import after_cuts, before_cuts, before_keeping, keeping_less
from dgraph.sizes import Atom


@dataclass(frozen=True)
class Way:
    """The loops that keep some states only, by their place among all that keep something, with the kind of their
    settings; the forward values of straight code that are computed again, by their place; and what a byte costs that a
    step of a loop keeps, in seconds, by the places of loops, with items that stay kept in spite of it, and the sizes at
    which that is weighed against work (`#3` is argument 3)."""

    loops: tuple[tuple[int, str], ...] = ()
    again: tuple[int, ...] = ()
    prices: tuple[tuple[str, float], ...] = ()
    stay: tuple[tuple[str, tuple[int, ...]], ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Plan:
    """A way as a loop program, and the name of the setting of each loop."""

    program: Program
    interface: Interface
    names: Mapping[int, str]


@dataclass(frozen=True)
class Point:
    """The sizes and whole numbers of a call: values of the size variables, and arguments by their position."""

    known: Mapping[Any, int]
    numbers: Mapping[int, int]

    def memory(self, plan: Plan, settings: Mapping[str, int]) -> Memory:
        """The bytes that a call uses."""
        return plan.interface.memory({**self.known, **settings}, self.numbers.__getitem__)

    @property
    def all(self) -> dict[Any, int]:
        """By the names that numbers of steps go by."""
        return {**self.known, **{f"#{at}": number for at, number in self.numbers.items()}}

    @property
    def sizes(self) -> tuple[tuple[str, int], ...]:
        """The same, in order."""
        return tuple(sorted((str(name), number) for name, number in self.all.items()))


class Ways:
    """The ways in which a function can keep less."""

    def __init__(self, graph: Graph, options: Options, budget: int, words: str) -> None:
        self.graph = before_keeping(graph)
        self.options = options
        self.budget = budget
        self.words = words
        self.graphs: dict[tuple[tuple[int, str], ...], tuple[Graph, dict[int, str]]] = {}
        self.stepped: dict[Way, Graph] = {}
        self.curves: dict[Way, list[BodyCurve]] = {}
        self.plans: dict[Way, Plan] = {}

    def point(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> Point:
        """The sizes and numbers of a call on such leaves."""
        known = bind_sizes(self.graph, leaves, extents)
        whole = {at: int(leaf) for at, leaf in enumerate(leaves) if leaf.ndim == 0 and leaf.dtype.kind in "iu"}
        return Point(known, whole)

    def optimised(self, way: Way) -> tuple[Graph, dict[int, str]]:
        """The optimised graph with the loops of a way keeping less, and the names of their settings."""
        found = self.graphs.get(way.loops)
        if found is None:
            graph, names = with_settings(self.graph, dict(way.loops))
            found = self.graphs[way.loops] = keeping_less(graph), names
        return found

    def uncut(self, way: Way) -> Graph:
        """The graph of a way before it is chosen what the steps of its loops keep."""
        key = replace(way, prices=(), stay=(), sizes=())
        found = self.stepped.get(key)
        if found is None:
            graph, _ = self.optimised(way)
            if way.again:
                search = TradeOff(graph, {}, None)
                again = frozenset(search.halves.values[at] for at in way.again)
                graph = search.graph_of(search.point(again))
            found = self.stepped[key] = before_cuts(graph)
        return found

    def bodies(self, way: Way, point: Point) -> list[BodyCurve]:
        """What a step of each loop may keep, at the sizes of a call."""
        key = replace(way, prices=(), stay=(), sizes=point.sizes)
        found = self.curves.get(key)
        if found is None:
            graph = self.uncut(way)
            found = self.curves[key] = body_curves(graph, _atoms(graph, point.sizes))
        return found

    def finished(self, way: Way) -> Graph:
        """The last graph of a way."""
        graph = self.uncut(way)
        sizes = _atoms(graph, way.sizes)
        return after_cuts(residuals(graph, price=dict(way.prices), sizes=sizes, stay=dict(way.stay)))

    def plan(self, way: Way) -> Plan:
        """A way as a loop program."""
        found = self.plans.get(way)
        if found is None:
            _, names = self.optimised(way)
            finished = self.finished(way)
            program = plan_graph(finished, **self.options.of_plan())
            found = self.plans[way] = Plan(program, interface_of(finished, program), names)
        return found

    def places(self, way: Way) -> tuple[str, ...]:
        """Where the values that are computed again are made."""
        if not way.again:
            return ()
        graph, _ = self.optimised(way)
        values = Halves(graph.region, Costs()).values
        spans = (graph.region.producers[values[at]].span for at in way.again)
        return tuple(dict.fromkeys(str(span) for span in spans if is_shown(span)))

    def compiled(self, way: Way, allowance: Allowance) -> CompiledGraph:
        """The kernels of a way."""
        plan = self.plan(way)
        return compile_program(plan.program, plan.interface, allowance)


def _atoms(graph: Graph, sizes: Sequence[tuple[str, int]]) -> dict[Atom, int]:
    """Sizes and numbers of arguments as the atoms of a graph."""
    inputs = graph.region.inputs
    return {inputs[int(name[1:])] if name.startswith("#") else name: number for name, number in sizes}


def is_shown(span: Span) -> bool:
    """Whether a place is one of the program's text."""
    return bool(span.source.text)
