"""What a function and its derivative cost and keep, and why: plain data for people and for programs to read.

Formulas hold for all sizes; numbers are there where arguments decide the sizes. Seconds are those of the model in
`dgraph.passes.costs`, not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.errors import ArgumentError
from dgraph.ir.counts import numbers_of
from dgraph.ir.evaluate import solve_sizes, wished
from dgraph.ir.graph import Formal, Graph, Region, walk
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.nests import Program as Nests
from dgraph.kernels.planning import plan_in_parts
from dgraph.kernels.report import most_in_use
from dgraph.kernels.rooms import Room, arrange
from dgraph.kernels.steering import Steering
from dgraph.ops.transform import Transform
from dgraph.passes import FUSE, OPTIMISE, run_passes
from dgraph.passes.body_curves import body_curves
from dgraph.passes.costs import Costs, Work
from dgraph.passes.trade_off import Point, TradeOff
from dgraph.program.arguments import bind_arguments, extent, flatten, is_extent, located
from dgraph.program.budget_search import choose
from dgraph.program.budgets import Way, Ways
from dgraph.program.compiled import Options
from dgraph.program.explain_amounts import Amounts, Words
from dgraph.program.explain_checkpoints import has_wish
from dgraph.program.explain_loops import kernels_of, loops_of, place
from dgraph.program.explain_schedule import schedule_of, threads_of
from dgraph.program.explain_steps import add_curves
from dgraph.program.explain_trips import steps_of_whiles
from dgraph.program.functions import Function, value_and_grad
from dgraph.program.generic import concrete
from dgraph.program.pipeline import before_cuts, stage
from dgraph.sizes import Atom, Size, variable
from dgraph.types import Array, Extent, Tape, Tuple, leaves

if TYPE_CHECKING:
    from dgraph.types import Type

MOST_NODES = 2000
"""Nodes of a graph from which on the peaks of its choices are estimated, not planned."""


def explain(
    function: Function,
    wrt: Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    budget: int | None = None,
    schedule: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Cost, memory, loops, copies, kernels, schedule and the curve of a function and its derivative.

    The derivative is that with respect to `wrt`, or to the first float formal; a function that differentiates itself is
    explained as it is. Raises `DgraphError` for a faulty program, and for arguments that do not fit.
    """
    function = concrete(function, arguments or {})
    derivative = _derivative(function, wrt)
    parts = {"function": _Part(function, arguments or {}, schedule)}
    if derivative is not None:
        parts["derivative"] = _Part(derivative, arguments or {}, schedule)
    last = parts["derivative" if derivative is not None else "function"]
    choice = None if budget is None else last.choice(budget)
    found: dict[str, Any] = {
        "function": function.recipe.words,
        "derivative": None if derivative is None else derivative.recipe.words,
        "wrt": None if derivative is None or wrt is None else list(wrt),
        "sizes": {str(name): number for name, number in last.sizes.items()},
        "cost": {name: part.cost() for name, part in parts.items()},
        "memory": {name: part.memory() for name, part in parts.items()},
        "loops": last.loops(),
        "copies": last.copies(),
        "kernels": kernels_of(last.kernels, last.amounts),
        "schedule": schedule_of(last.plan),
        "threads": last.threads(),
        "curve": last.curve(budget),
        "choice": choice,
    }
    if derivative is not None and last.is_known:
        again = sum((loop["checkpoint"] or {}).get("again") or 0.0 for loop in found["loops"])
        found["cost"]["derivative"]["again"] = again
        found["cost"]["derivative"]["seconds"] += again
        seconds = parts["function"].work.seconds
        found["cost"]["ratio"] = found["cost"]["derivative"]["seconds"] / seconds if seconds else None
    return found


def _derivative(function: Function, wrt: Sequence[str] | None) -> Function | None:
    """The function whose derivative is explained; None if there is none, or the function has it in itself."""
    graph = function.graph
    if wrt is not None:
        return value_and_grad(function, tuple(wrt))
    if any(isinstance(node.op, Transform) for node in walk(graph.region)):
        return None
    has_float = any(leaf.dtype.is_float for formal in graph.formals for leaf in _arrays(formal.type))
    return value_and_grad(function) if has_float and _is_scalar(graph.result) else None


def _arrays(type_: Type) -> list[Array]:
    return [] if isinstance(type_, Extent) else [leaf for _, leaf in leaves(type_)]


def _is_scalar(type_: Type) -> bool:
    if isinstance(type_, Tuple) and type_.items:
        type_ = type_.items[0]
    return isinstance(type_, Array) and not type_.shape and type_.dtype.is_float


class _Part:
    """One function at its stages."""

    def __init__(self, function: Function, arguments: Mapping[str, Any], schedule: Mapping[str, str] | None) -> None:
        graph = self.graph = function.graph
        self.taken: tuple[Graph, Mapping[str, int], Way] | None = None
        self.in_blocks: frozenset[str] = frozenset()
        self.words = function.recipe.words
        leaves_ = self.leaves = given_leaves(function, graph, arguments)
        extents = self.extents = {
            formal.name: extent(formal.name, arguments[formal.name])
            for formal in graph.formals
            if is_extent(formal) and formal.name in arguments
        }
        self.sizes = _sizes(graph, leaves_, extents)
        self.numbers: dict[Atom, int] = {**self.sizes, **_wishes(graph, leaves_, self.sizes)}
        self.is_known = all(name in self.numbers for name in graph.sizes)
        # Everything before `@checkpoint` is obeyed.
        self.before = run_passes(stage(graph, "expand"), OPTIMISE[: OPTIMISE.index("checkpoint")])
        self.optimised = stage(graph, "optimised")
        self.kernels = run_passes(self.optimised, FUSE)
        self.at_most: dict[Atom, int] = {}
        for stage_ in (self.before, self.optimised, self.kernels):
            self.numbers.update(_whole_numbers(stage_, leaves_))
            exact, bounds = steps_of_whiles(stage_, self.numbers)
            self.numbers.update(exact)
            self.at_most.update(bounds)
        self.schedule = schedule
        self.plan: Nests = plan_graph(self.kernels, schedule=schedule)
        self.costs = Costs(self.numbers)
        self.costs.region(self.kernels.region)
        # A loop with `@checkpoint` is priced as if all were kept; what is run again is told apart.
        plain = run_passes(self.before, FUSE) if has_wish(self.before) else self.kernels
        self.work: Work = self.costs.region(plain.region)
        self.amounts = Amounts(self.costs, Words(self.kernels), self.is_known)

    def threads(self) -> list[dict[str, Any]]:
        """The kernels that threads share, and into how many parts the sizes cut them."""
        number = (lambda atom: self.costs.number(variable(atom))) if self.is_known else None
        return threads_of(plan_in_parts(self.plan, Steering.of(self.schedule)), number)

    def cost(self) -> dict[str, Any]:
        """What a call does, by the model."""
        work = self.work
        return {
            "operations": self.amounts.of(work.operations),
            "products": self.amounts.of(work.products),
            "moved": self.amounts.of(work.moved),
            "seconds": work.seconds if self.is_known else None,
            "assumed": self.amounts.assumed(work.operations + work.products + work.moved),
        }

    def memory(self) -> dict[str, Any]:
        """What a call holds: the arena as it is planned, tapes, arguments and results."""
        region = self.kernels.region
        tapes = Size(())
        for node in region.nodes:
            for result in node.results:
                if isinstance(result.type, Tape):
                    tapes = tapes + self.costs.size_bytes(result)
        held = {
            "tapes": tapes,
            "results": sum(map(self.costs.size_bytes, region.outputs), Size(())),
            "arguments": sum(map(self.costs.size_bytes, region.inputs), Size(())),
        }
        return {"arena": self.arena(), **{name: self.amounts.of(count) for name, count in held.items()}}

    def arena(self) -> dict[str, Any]:
        """The bytes of the arena: as formulas of what is in use at once, and as it is laid out for known sizes."""
        rooms = tuple(self.plan.rooms.values())
        words = " or ".join(self.amounts.words.formula(count) for count in most_in_use(rooms)) or "0"
        return {"formula": words, "number": self.laid_out(rooms) if self.is_known else None}

    def laid_out(self, rooms: Sequence[Room]) -> int:
        """The bytes of an arena with these rooms."""
        return arrange(rooms, lambda atom: self.costs.number(variable(atom))).total

    def loops(self) -> list[dict[str, Any]]:
        """What loops keep: as the budget chooses it, if there is one."""
        graph, numbers, way = self.kernels, self.numbers, None
        if self.taken is not None:
            graph, settings, way = self.taken
            numbers = {**numbers, **_whole_numbers(graph, self.leaves)}
            numbers.update(settings.items())
            numbers.update(steps_of_whiles(graph, numbers)[0])
        found = loops_of(self.before, graph, numbers, self.at_most, self.is_known)
        for at in self.in_blocks:
            # The loop over blocks, and the one over the steps of a block: the latter tells what a step keeps.
            first, *rest = (loop for loop in found if f"{loop['file']}:{loop['line']}" == at)
            found = [loop for loop in found if loop is not first or not rest]
        uncut = before_cuts(self.optimised) if self.is_known else None
        add_curves(found, [] if uncut is None else body_curves(uncut, self.numbers), way)
        return found

    def copies(self) -> list[dict[str, Any]]:
        """Updates that could not be done in place."""
        return [
            {**place(one.span), "why": one.reason, "bytes": self.amounts.of(one.bytes), "each_step": one.each_step}
            for one in dict.fromkeys(self.plan.copies)
            if one.span.source.text
        ]

    def curve(self, budget: int | None) -> dict[str, Any] | None:
        """What the straight code can trade, and the point that is taken."""
        if not self.is_known:
            return None
        is_small = sum(1 for _ in walk(self.optimised.region)) <= MOST_NODES
        search = TradeOff(self.optimised, self.numbers, self.arena_of if is_small else None)
        points = search.curve()
        held = self.memory()
        beside = sum(held[name]["number"] or 0 for name in ("tapes", "results"))
        room = None if budget is None else max(budget - beside, 0)
        chosen = points[0] if room is None else search.within(room)
        if chosen not in points:
            points = sorted([*points, chosen], key=lambda point: (point.seconds, -point.peak))
        return {
            "is_planned": is_small,
            "budget": budget,
            "fits": room is None or chosen.peak <= room,
            "points": [_point(self.optimised, point, point == chosen) for point in points],
        }

    def choice(self, budget: int) -> dict[str, Any] | None:
        """What a call with these arguments chooses to keep within a budget; None if not all of them are known."""
        if not self.is_known or any(leaf is None for leaf in self.leaves):
            return None
        leaves_ = [np.asarray(leaf) for leaf in self.leaves]
        ways = Ways(self.graph, Options(), budget, self.words)
        point = ways.point(leaves_, self.extents)
        try:
            way, allowance = choose(ways, point)
        except ArgumentError as fault:
            return {"budget": budget, "fits": False, "why": fault.diagnostics[0].title}
        plan = ways.plan(way)
        numbers = allowance.chosen(partial(point.memory, plan), point.all)
        self.taken = ways.finished(way), numbers, way
        self.in_blocks = frozenset(allowance.words)
        return {"fits": True, **allowance.told(numbers, point.all, point.memory(plan, numbers).peak)}

    def arena_of(self, graph: Graph) -> int:
        """The bytes of the arena that is planned for a graph."""
        return self.laid_out(tuple(plan_graph(run_passes(graph, FUSE)).rooms.values()))


def _point(graph: Graph, point: Point, is_chosen: bool) -> dict[str, Any]:
    makers = [node for node in graph.region.nodes if any(result in point.again for result in node.results)]
    again: dict[tuple[Any, ...], None] = dict.fromkeys(tuple(place(node.span).items()) for node in makers)
    return {
        "bytes": point.peak,
        "seconds": point.seconds,
        "nodes": len(makers),
        "again": [dict(at) for at in again],
        "chosen": is_chosen,
    }


# ---- sizes ----------------------------------------------------------------------------------------------------------


def given_leaves(function: Function, graph: Graph, arguments: Mapping[str, Any]) -> list[Any]:
    """The leaves of the arguments by name and of the params of the program, None for those that are not given."""
    values: dict[str, Any] = dict.fromkeys(formal.name for formal in graph.formals)
    found: list[Any] = []
    try:
        bind_arguments(graph.name, graph.formals, (), arguments, values)
        for formal in graph.formals:
            if is_extent(formal):
                continue
            if formal.name in arguments:
                found += flatten(formal.name, formal.type, arguments[formal.name])
            elif formal.name in function.program.module.stored:
                found += flatten(formal.name, formal.type, function.program.value_of(formal.name))
            else:
                found += [None] * len(list(leaves(formal.type)))
    except ArgumentError as fault:
        raise located(fault, function) from None
    return found


def _sizes(graph: Graph, given: Sequence[Any], extents: Mapping[str, int]) -> dict[Atom, int]:
    """The sizes that the given leaves decide."""
    pairs = list(zip(graph.input_names, graph.region.inputs, given, strict=True))
    kept = [(name, value, leaf) for name, value, leaf in pairs if leaf is not None]
    formals = tuple(Formal(name, value.type) for name, value, _ in kept if isinstance(value.type, Array))
    part = Graph(graph.name, (), formals, graph.result, Region(tuple(v for _, v, _ in kept), (), ()), graph.span)
    return solve_sizes(part, [np.shape(leaf) for _, _, leaf in kept], extents)


def _wishes(graph: Graph, given: Sequence[Any], sizes: Mapping[Atom, int]) -> dict[Atom, int]:
    """The numbers of the wishes that the given leaves and the sizes decide."""
    found: dict[Atom, int] = {}
    for wish in graph.wishes:
        if all(given[at] is not None for at in numbers_of(wish.value)):
            with suppress(KeyError):
                found.update(wished([wish], sizes, lambda at: int(given[at])))
    return found


def _whole_numbers(graph: Graph, given: Sequence[Any]) -> dict[Atom, int]:
    """The integers among the arguments, as atoms of sizes."""
    return {
        value: int(leaf)
        for value, leaf in zip(graph.region.inputs, given, strict=True)
        if leaf is not None and not np.ndim(leaf) and np.asarray(leaf).dtype.kind in "iu"
    }
