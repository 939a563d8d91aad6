"""Schedules of the loops of a function: which steps its gradient runs when, and what it keeps meanwhile.

What a pass makes of a loop is not a list of steps but loops whose counts are computed in the run. So it is watched: a
loop that only counts, with the wish of the loop in question and as many steps, goes through the same passes and runs
in the interpreter. Its carry tells the number of the step, and so does all that is kept or run backwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.ad import expand
from dgraph.errors import ArgumentError, Diagnostic, Label
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import bind_sizes, evaluate
from dgraph.ir.graph import Formal, Graph, Node, Region, Value, walk
from dgraph.ir.op import Op
from dgraph.ops.control import For, While
from dgraph.ops.transform import Transform, Vjp
from dgraph.passes import OPTIMISE, run_passes
from dgraph.program.explain import explain
from dgraph.program.generic import concrete
from dgraph.program.pictures import leaves_for
from dgraph.program.pipeline import stage as stage_of
from dgraph.sizes import Size
from dgraph.types import F32, F64, I64, Array, Tape
from dgraph.view import Act, Kept, Schedule, StepKind, draw_picture, record, schedule_picture

if TYPE_CHECKING:
    from dgraph.program.functions import Function

MOST_STEPS = 2000
"""Steps of a loop beyond which its schedule cannot be read any more."""

Loop = For | While
_WISHES = ("slots", "every", "disk")
_NUMBER = Array(F64)


def draw_schedule(function: Function, path: str | Path, arguments: Mapping[str, Any]) -> None:
    """Draw the schedules of the loops of a function, reversed by its gradient, for arguments by name."""
    title = f"{function.recipe} (schedule)"
    draw_picture(schedule_picture(title, schedules_of(function, arguments)), Path(path))


def schedules_of(function: Function, arguments: Mapping[str, Any]) -> list[Schedule]:
    """The schedule of each loop of a function that has a `@checkpoint`, or of all loops if none has one.

    Of a loop that runs several times, in another loop, the last run is shown. Raises `ArgumentError` if there is no
    loop, if a loop has too many steps, and where arguments do not fit.
    """
    function = concrete(function, arguments)
    graph = stage_of(function.graph, "inline")
    found = list(_loops(graph.region, ()))
    if any(isinstance(node.op, Transform) for node in walk(graph.region)):
        title = f"{function.recipe} is not drawn: it differentiates, or maps, a function"
        note = "name that function: what is drawn of its loops belongs to its gradient"
        raise ArgumentError(Diagnostic(title, (Label(graph.span, "this one"),), note))
    if not found:
        note = "a schedule says in which order the steps of a loop are run and reversed"
        raise ArgumentError(Diagnostic(f"{function.recipe} has no loop", (Label(graph.span, "this function"),), note))
    leaves, extents = leaves_for(function, graph, arguments)
    sizes = bind_sizes(graph, leaves, extents)
    values = record(graph, leaves, extents)
    wished = [item for item in found if _wish(item[1].op)]
    schedules = []
    for path, node in wished or found:
        trips = values.get(path, node.results[-1] if isinstance(node.op, While) else node.operands[0])
        if trips is None:
            continue
        steps = max(int(trips), 0)
        if steps > MOST_STEPS:
            title = f"a schedule of {steps:,} steps cannot be read"
            note = f"give arguments with which the loop has at most {MOST_STEPS:,} steps"
            raise ArgumentError(Diagnostic(title, (Label(node.span, "this loop"),), note))
        op = node.op
        assert isinstance(op, Loop)
        for name, wish in _wish(op).items():
            if isinstance(wish, Size):
                op = replace(op, **{name: wish.evaluate(sizes.__getitem__)})  # type: ignore[arg-type]
        title = _title(node, op)
        if op.budget is not None:
            op = replace(op, budget=None, slots=_slots(function, arguments, node))
        schedules.append(schedule(title, op, steps))
    return schedules


def _slots(function: Function, arguments: Mapping[str, Any], loop: Node) -> int:
    """How many states fit into the budget of a loop."""
    loops = explain(function, arguments=arguments)["loops"]
    states = (found["checkpoint"]["states"] for found in loops if found["line"] == loop.span.line)
    return next(states, None) or 1


def _loops(region: Region, path: tuple[Node, ...]) -> Iterator[tuple[tuple[Node, ...], Node]]:
    for node in region.nodes:
        if isinstance(node.op, Loop):
            yield path, node
        for inner in node.regions:
            yield from _loops(inner, (*path, node))


def _wish(op: Op) -> dict[str, Any]:
    wishes = {name: getattr(op, name, None) for name in (*_WISHES, "budget")}
    return {name: wish for name, wish in wishes.items() if wish is not None}


def _title(node: Node, op: Loop) -> str:
    wish = ", ".join(f"{name}={value}" for name, value in _wish(op).items())
    told = f"@checkpoint({'none' if wish == 'every=0' else wish})" if wish else "everything is kept"
    return f"{node.op.name} in line {node.span.line}: {told}"


def schedule(title: str, op: Loop, steps: int) -> Schedule:
    """The schedule of a loop with the wish of `op` and so many steps."""
    watch = _Watch(steps, isinstance(op, While))
    evaluate(_probe(op), [steps, 0.0], observer=watch)
    return watch.schedule(title, steps)


def _probe(op: Loop) -> Graph:
    """The gradient of a sum of sin(y) for y = 0, 1, 2, ...: a step runs as an addition, its residual is cos(y), and it
    is reversed by a product with that."""
    f = Builder()
    count, first = f.input(Array(I64), "n"), f.input(Array(F64), "y")

    def step(h: Builder, carried: Sequence[Value]) -> list[Value]:
        y, total = carried
        return [h.add(y, h.constant(1.0, F64)), h.add(total, h.cast(h.sin(y), dtype=F32))]

    wish = {name: getattr(op, name) for name in _WISHES if hasattr(op, name)}
    start = [first, f.constant(0.0, F32)]
    if isinstance(op, For):
        ends = f.for_(count, start, lambda h, _index, carried, _walked: step(h, carried), **wish)
    else:
        last = f.cast(count, dtype=F64)
        ends = f.while_(start, lambda h, carried: h.less(carried[0], last), step, **wish)
    g = Builder()
    inputs = [g.input(Array(I64), "n"), g.input(Array(F64), "y")]
    derivative = Vjp(function="count", wrt=(False, True), seeded=(True,))
    results = g.apply(derivative, *inputs, g.constant(1.0, F32), regions=[f.close([ends[1]])])
    formals = (Formal("n", Array(I64)), Formal("y", Array(F64)))
    graph = Graph("count", (), formals, Array(F64), g.close(results[1:]))
    return run_passes(expand(graph), OPTIMISE[: OPTIMISE.index("checkpoint") + 1])


class _Watch:
    """What the interpreter is seen to do with a probe of so many steps."""

    def __init__(self, steps: int, is_online: bool) -> None:
        self.is_online = is_online
        self.cosines = np.array([np.cos(float(step)) for step in range(max(steps, 1))])
        self.acts: list[Act] = []
        self.kept: list[Kept] = []
        self.first: dict[int, int] = {}
        self.taped: dict[int, int] = {}
        self.reversed: dict[int, int] = {}
        self.rows: dict[int, tuple[int, int]] = {}
        self.on_disk: dict[int, tuple[int, int]] = {}

    @property
    def now(self) -> int:
        """The time: how many steps have run."""
        return len(self.acts)

    def __call__(self, node: Node, results: Sequence[Any]) -> None:
        """See a node run."""
        name, is_adjoint = node.op.name, node.derived == "adjoint"
        for value, result in zip(node.results, results, strict=True):
            if value.type == Tape(_NUMBER):
                self._taped(result)
            elif name == "disk_write":
                self._written(int(result))
            elif name == "disk_drop":
                self._given_back(int(result))
            elif name == "set_at" and isinstance(value.type, Array) and value.type.dtype == F64:
                self._stored(result)
            elif value.type != _NUMBER:
                continue
            elif name == "add" and not is_adjoint:
                self._run("advance", int(result) - 1)
            elif name == "cos":
                self._run("tape", self._step(result))
            elif name == "mul" and is_adjoint:
                self._reverse(self._step(result))

    def schedule(self, title: str, steps: int) -> Schedule:
        """What was seen."""
        for row in list(self.rows):
            self._dropped(row)
        self.kept += [Kept(step, first, self.reversed[step], "disk") for step, first in self.on_disk.values()]
        return Schedule(title, steps, tuple(self.acts), tuple(self.kept))

    def _step(self, cosine: float) -> int:
        return int(np.argmin(abs(self.cosines - cosine)))

    def _run(self, kind: StepKind, step: int) -> None:
        """A step runs. Its residual comes after its addition, if that is made at all."""
        if kind == "tape" and self.acts and self.acts[-1] == Act("advance", step):
            self.acts.pop()
        self.first.setdefault(step, self.now)
        self.taped[step] = self.now
        self.acts.append(Act(kind, step))

    def _reverse(self, step: int) -> None:
        self.acts.append(Act("reverse", step))
        self.reversed[step] = self.now
        self.kept.append(Kept(step, self.taped[step], self.now, "residuals"))

    def _stored(self, rows: Sequence[float]) -> None:
        """States are in the rows of an array, of which one was replaced."""
        for row, state in enumerate(rows):
            held = self.rows.get(row)
            if np.isfinite(state) and (held is None or held[0] != state):
                self._dropped(row)
                self.rows[row] = int(state), self.now

    def _dropped(self, row: int) -> None:
        """What a row held was needed until its step was reversed, at most."""
        if row in self.rows:
            step, first = self.rows.pop(row)
            self.kept.append(Kept(step, first, min(self.now, self.reversed.get(step, self.now)), "state"))

    def _written(self, ticket: int) -> None:
        """The state on disk is that which was reached just now; it is needed until its step is reversed. As long as
        nobody knows how many steps there will be it is the first one in memory."""
        reached = self.acts[-1].step + 1 if self.acts else 0
        self.on_disk[ticket] = self.rows[0][0] if self.is_online and not self.reversed else reached, self.now

    def _given_back(self, ticket: int) -> None:
        """A state on disk gave way to another, if it is one."""
        if ticket:
            step, first = self.on_disk.pop(ticket)
            self.kept.append(Kept(step, first, self.now, "disk"))

    def _taped(self, entries: Sequence[float]) -> None:
        """A tape of states begins with that before the first step, a cosine is never zero."""
        if len(entries) and entries[0] == 0.0:
            self.rows.update((-1 - at, (int(state), self.first[int(state)])) for at, state in enumerate(entries))
