"""How a function keeps within a budget of memory: ways to keep less are planned and priced, and the cheapest that fits
is taken.

A way says which loops keep some states only, and whether by `slots` or by `every`; it is planned as a whole program,
so that what is compared with the budget is what a call takes. How many states is left to each call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

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
from dgraph.program.pipeline import after_keeping, before_keeping
from dgraph.sizes import in_units

Way = tuple[tuple[int, str], ...]
"""The loops that keep less, by their place among all that keep something, and the kind of their settings."""

LOOPS = 6
"""How many loops are looked at, those first that keep most."""
CHEAP = 1.5
"""A way that takes at most so many times as long is taken without looking further."""
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

    def __init__(self, graph: Graph, checks: str, budget: int, words: str) -> None:
        self.graph = before_keeping(graph)
        self.checks = checks
        self.budget = budget
        self.words = words
        self.plans: dict[Way, Plan] = {}

    def point(self, shapes: Sequence[tuple[int, ...]], extents: Mapping[str, int], leaves: Sequence[Any]) -> Point:
        """The sizes and numbers of a call on such leaves."""
        known = bind_sizes(self.graph, list(shapes), dict(extents))
        whole = {at: int(leaf) for at, leaf in enumerate(leaves) if leaf.ndim == 0 and leaf.dtype.kind in "iu"}
        return Point(known, whole)

    def plan(self, way: Way) -> Plan:
        """A way as a loop program."""
        found = self.plans.get(way)
        if found is None:
            graph, names = with_settings(self.graph, dict(way))
            finished = after_keeping(graph)
            program = plan_graph(finished, checks=self.checks)
            found = self.plans[way] = Plan(program, interface_of(finished, program), names)
        return found

    def choose(self, point: Point) -> tuple[Way, Allowance]:
        """The cheapest way that keeps within the budget. Raises `ArgumentError` if there is none."""
        inputs = self.graph.region.inputs
        costs = Costs({**point.known, **{inputs[at]: number for at, number in point.numbers.items()}})
        loops, seconds = keeping_loops(self.graph, costs)
        steps = {loop.at: by_arguments(loop.steps, inputs, costs) for loop in loops}
        largest = sorted(loops, key=lambda loop: -loop.bytes)[:LOOPS]
        failed = _Failed(self, point)
        best: tuple[float, Way, Allowance] | None = None
        for ways in _groups(largest):
            for way in ways:
                plan = self.plan(way)
                settings = tuple(_setting(plan, loops[at], kind, steps[at]) for at, kind in way)
                words = tuple(f"{loops[at].span}" for at, _ in way)
                allowance = Allowance(self.budget, settings, seconds, words)
                try:
                    numbers = allowance.chosen(partial(point.memory, plan), point.all)
                except OverBudget as fault:
                    failed.add(plan, fault.least)
                    continue
                price = allowance.slowdown(numbers, point.all)
                if best is None or price < best[0]:
                    best = price, way, allowance
            if best is not None and best[0] <= CHEAP:
                break
        if best is None:
            raise failed.error()
        return best[1], best[2]

    def compiled(self, way: Way, allowance: Allowance) -> CompiledGraph:
        """The kernels of a way."""
        plan = self.plan(way)
        return compile_program(plan.program, plan.interface, allowance)


def _setting(plan: Plan, loop: KeepingLoop, kind: str, steps: Any) -> Setting:
    return Setting(plan.names[loop.at], kind, steps, loop.seconds * loop.runs)


def _groups(loops: Sequence[KeepingLoop]) -> Iterator[list[Way]]:
    """Ways to keep less of the first loops, of more and more of them."""
    yield [()]
    for count in range(1, len(loops) + 1):
        places = sorted(loop.at for loop in loops[:count])
        ways = [tuple((at, kind) for at in places) for kind in ("every", "slots")]
        if count > 1:
            first = loops[0].at
            ways += [tuple((at, "slots" if at == first else "every") for at in places)]
        yield ways


class _Failed:
    """The ways that do not fit: that which needs least, and what cannot be foretold."""

    def __init__(self, ways: Ways, point: Point) -> None:
        self.ways = ways
        self.point = point
        self.least: tuple[int, Plan, Mapping[str, int]] | None = None
        self.open: dict[Span, str] = {}

    def add(self, plan: Plan, settings: Mapping[str, int]) -> None:
        """Note a way with the settings that take least."""
        told = self.point.memory(plan, settings)
        if told.open:
            self.open.update({tape.span: tape.words for tape in plan.interface.tapes if tape.total is None})
        elif self.least is None or told.peak < self.least[0]:
            self.least = told.peak, plan, settings

    def error(self) -> ArgumentError:
        """The least that is needed and what takes it, or the loops whose steps nobody can count beforehand."""
        words = self.ways.words
        if self.least is None:
            unknown = "how often this runs only the run knows"
            labels = tuple(Label(span, unknown) for span in self.open if _is_shown(span))
            title = f"what {words} keeps cannot be foretold, so it has no budget"
            return ArgumentError(Diagnostic(title, labels[:NAMED], "a `for` with a known number of steps can be"))
        peak, plan, settings = self.least
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
