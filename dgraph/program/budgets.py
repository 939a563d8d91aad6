"""How a function keeps within a budget of memory: ways to keep less are planned and priced, and the cheapest that fits
is taken.

A way says which loops keep some states only, whether by `slots` or by `every`, and what straight code computes again.
It is planned as a whole program, so that what is compared with the budget is what a call takes. How many states a loop
keeps is left to each call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import ArgumentError, Diagnostic, Label, Span
from dgraph.ir.evaluate import bind_sizes
from dgraph.ir.graph import Graph
from dgraph.kernels.allowance import Allowance, OverBudget, Setting
from dgraph.kernels.compile import CompiledGraph, compile_program, interface_of, plan_graph
from dgraph.kernels.demand import Memory
from dgraph.kernels.interface import Interface
from dgraph.kernels.nests import Program
from dgraph.kernels.rooms import crowd
from dgraph.passes.costs import Costs
from dgraph.passes.keeping import KeepingLoop, by_arguments, keeping_loops, with_settings
from dgraph.passes.rematerialise import Halves
from dgraph.passes.trade_off import TradeOff
from dgraph.program.compiled import Options
from dgraph.program.pipeline import before_keeping, fused, keeping_less
from dgraph.sizes import in_units, size


@dataclass(frozen=True)
class Way:
    """The loops that keep less, by their place among all that keep something, with the kind of their settings; and the
    forward values of straight code that are computed again, by their place."""

    loops: tuple[tuple[int, str], ...] = ()
    again: tuple[int, ...] = ()


LOOPS = 6
"""How many loops are looked at, those first that keep most."""
CHEAP = 1.5
"""A way that takes at most so many times as long is taken without looking further."""
MOST_SLOTS = 2**20
"""How many states a loop keeps at most whose steps nobody can count."""
NAMED = 3
"""How many arrays are named where a budget is too small."""


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


class Ways:
    """The ways in which a function can keep less."""

    def __init__(self, graph: Graph, options: Options, budget: int, words: str) -> None:
        self.graph = before_keeping(graph)
        self.options = options
        self.budget = budget
        self.words = words
        self.graphs: dict[tuple[tuple[int, str], ...], tuple[Graph, dict[int, str]]] = {}
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

    def plan(self, way: Way) -> Plan:
        """A way as a loop program."""
        found = self.plans.get(way)
        if found is None:
            graph, names = self.optimised(way)
            if way.again:
                search = TradeOff(graph, {}, None)
                again = frozenset(search.halves.values[at] for at in way.again)
                graph = search.graph_of(search.point(again))
            finished = fused(graph)
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
        return tuple(dict.fromkeys(str(span) for span in spans if _is_shown(span)))

    def choose(self, point: Point) -> tuple[Way, Allowance]:
        """The cheapest way that keeps within the budget. Raises `ArgumentError` if there is none."""
        return _Search(self, point).best()

    def compiled(self, way: Way, allowance: Allowance) -> CompiledGraph:
        """The kernels of a way."""
        plan = self.plan(way)
        return compile_program(plan.program, plan.interface, allowance)


class _Search:
    """The search for the cheapest way at the sizes of a call."""

    def __init__(self, ways: Ways, point: Point) -> None:
        self.ways = ways
        self.point = point
        inputs = ways.graph.region.inputs
        costs = Costs({**point.known, **{inputs[at]: number for at, number in point.numbers.items()}})
        self.loops, self.seconds = keeping_loops(ways.graph, costs)
        self.steps = {
            loop.at: size(MOST_SLOTS) if loop.steps is None else by_arguments(loop.steps, inputs, costs)
            for loop in self.loops
        }
        self.failed = _Failed(ways, point)
        self.found: tuple[float, Way, Allowance] | None = None

    def best(self) -> tuple[Way, Allowance]:
        """The cheapest way that fits: as it is, with straight code computed again, with loops that keep less, or both.

        Raises `ArgumentError` if none does.
        """
        self.tried(Way())
        if self.found is None:
            self.compute_again(Way())
        largest = sorted(self.loops, key=lambda loop: -loop.bytes)[:LOOPS]
        for count in range(1, len(largest) + 1):
            if self.found is not None and self.found[0] <= CHEAP:
                break
            for loops in _kinds(largest[:count]):
                self.tried(Way(loops))
        if self.found is None and self.failed.least is not None:
            self.compute_again(self.failed.least[1])
        if self.found is None:
            raise self.failed.error()
        return self.found[1:]

    def tried(self, way: Way, added: float = 0.0) -> bool:
        """Whether a way fits; the cheapest of those is remembered."""
        plan = self.ways.plan(way)
        settings = []
        for at, kind in way.loops:
            loop = self.loops[at]
            seconds = 0.0 if loop.steps is None else loop.seconds * loop.runs
            settings.append(Setting(plan.names[at], kind, self.steps[at], seconds))
        words = tuple(f"{self.loops[at].span}" for at, _ in way.loops)
        allowance = Allowance(self.ways.budget, tuple(settings), self.seconds, added, words, self.ways.places(way))
        try:
            numbers = allowance.chosen(partial(self.point.memory, plan), self.point.all)
        except OverBudget as fault:
            self.failed.add(way, fault.least)
            return False
        price = allowance.slowdown(numbers, self.point.all)
        if self.found is None or price < self.found[0]:
            self.found = price, way, allowance
        return True

    def compute_again(self, way: Way) -> None:
        """Try a way with forward values of its straight code computed again: as few as fit, found by halving the curve
        of bytes against seconds."""
        graph, names = self.ways.optimised(way)
        search = TradeOff(graph, {**self.point.known, **dict.fromkeys(names.values(), 1)}, None)
        curve = [point for point in search.curve() if point.again]
        low, high = 0, len(curve)
        while low < high:
            middle = (low + high) // 2
            again = tuple(sorted(search.halves.places[value] for value in curve[middle].again))
            if self.tried(replace(way, again=again), curve[middle].seconds):
                high = middle
            else:
                low = middle + 1


def _kinds(loops: Sequence[KeepingLoop]) -> Iterator[tuple[tuple[int, str], ...]]:
    """Kinds of settings for some loops: all blocks, all slots, slots for the first and blocks for the others. A loop
    whose steps nobody can count has slots."""
    ordered = sorted(loops, key=lambda loop: loop.at)
    forms = [[loop.steps is None or slotted for loop in ordered] for slotted in (False, True)]
    forms.append([loop.steps is None or loop is loops[0] for loop in ordered])
    for form in dict.fromkeys(map(tuple, forms)):
        yield tuple((loop.at, "slots" if slotted else "every") for loop, slotted in zip(ordered, form, strict=True))


class _Failed:
    """The ways that do not fit: that which needs least, and what cannot be foretold."""

    def __init__(self, ways: Ways, point: Point) -> None:
        self.ways = ways
        self.point = point
        self.least: tuple[int, Way, Mapping[str, int]] | None = None
        self.open: dict[Span, str] = {}

    def add(self, way: Way, settings: Mapping[str, int]) -> None:
        """Note a way with the settings that take least."""
        plan = self.ways.plan(way)
        told = self.point.memory(plan, settings)
        if told.open:
            self.open.update({tape.span: tape.words for tape in plan.interface.tapes if tape.total is None})
        elif self.least is None or told.peak < self.least[0]:
            self.least = told.peak, way, settings

    def error(self) -> ArgumentError:
        """The least that is needed and what takes it, or the loops whose steps nobody can count beforehand."""
        words = self.ways.words
        if self.least is None:
            unknown = "how often this runs only the run knows"
            labels = tuple(Label(span, unknown) for span in self.open if _is_shown(span))
            title = f"what {words} keeps cannot be foretold, so it has no budget"
            return ArgumentError(
                Diagnostic(title, labels[:NAMED], "leave `@checkpoint(none)` out, or write `@checkpoint(slots=8)`")
            )
        peak, way, settings = self.least
        plan = self.ways.plan(way)
        known = {**self.point.known, **settings}
        held: dict[Span, list[tuple[int, str]]] = {}
        for count, room in crowd(plan.interface.rooms, known.__getitem__):
            if _is_shown(room.span) and (len(held) < NAMED or room.span in held):
                held.setdefault(room.span, []).append((count, room.name))
        labels = tuple(Label(span, _held(parts)) for span, parts in held.items())
        title = (
            f"{words} needs at least {in_units(peak)} for these arguments, its budget is {in_units(self.ways.budget)}"
        )
        results = self.point.memory(plan, settings).results
        note = (
            f"the least are {peak} bytes, {results} of them for results, with all left out that can be computed again"
        )
        return ArgumentError(Diagnostic(title, labels, note))


def _is_shown(span: Span) -> bool:
    return bool(span.source.text)


def _held(parts: Sequence[tuple[int, str]]) -> str:
    """What is held at a place, in words."""
    names = list(dict.fromkeys(f"`{name}`" for _, name in parts))
    return f"{in_units(sum(count for count, _ in parts))} for {', '.join(names[:NAMED])}"
