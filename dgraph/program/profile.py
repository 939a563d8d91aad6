"""Where the time of a call goes: a function compiled with a clock around each kernel, product and block of memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import ArgumentError, Diagnostic
from dgraph.kernels.bind import scalars_place
from dgraph.kernels.bound_call import BoundCall
from dgraph.kernels.compile import CompiledGraph, compile_program, interface_of, plan_graph
from dgraph.kernels.timing import WORDS, Part, timed
from dgraph.program.compiled import Compiled
from dgraph.program.explain_loops import place
from dgraph.program.pipeline import stage

RUNS = 20
"""Calls of which the fastest is told, unless others are asked for."""

SECONDS = 5.0
"""No further call is begun after so long."""


@dataclass(frozen=True)
class Row:
    """A part of a call: its name, seconds, how often it ran, the bytes of the arrays that it reads and writes at one
    run (None if only the run decides them), and the places in the source that it computes."""

    name: str
    seconds: float
    runs: int
    bytes: int | None
    places: tuple[Mapping[str, Any], ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """The fastest of some calls: its seconds, and its parts in the order of the program. What the parts leave of the
    seconds is the work between them."""

    function: str
    calls: int
    seconds: float
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        rows = [{**vars(row), "places": list(row.places), "words": list(row.words)} for row in self.rows]
        return {"function": self.function, "calls": self.calls, "seconds": self.seconds, "rows": rows}


def profile(
    compiled: Compiled, arguments: Sequence[Any] = (), named: Mapping[str, Any] | None = None, runs: int = RUNS
) -> Profile:
    """Call a compiled function with a clock around its parts, and tell the fastest of `runs` calls.

    Raises `ArgumentError` for arguments that do not fit, for no runs, and where the system has no clock for this.
    """
    from dgraph.kernels.clock import CLOCK

    if CLOCK is None:
        raise ArgumentError(Diagnostic("this system has no `clock_gettime`, so parts of a call cannot be timed"))
    if runs < 1:
        raise ArgumentError(Diagnostic(f"{runs} runs give nothing to tell: ask for 1 or more"))
    named = named or {}
    compiled = compiled.exact(arguments, named)
    leaves, extents = compiled.leaves(arguments, named)
    graph = stage(compiled.source_graph(), "kernels")
    program = plan_graph(graph, **compiled.options.of_plan())
    interface = interface_of(graph, program)
    with_clock, parts = timed(program)
    place_of_times = scalars_place(program.rows, len(program.splits)) + program.scalars
    wider = replace(interface, scalars=interface.scalars + WORDS * len(parts))
    kernel = compile_program(with_clock, wider)
    bound = kernel.bind(compiled.given(leaves, extents), extents)
    seconds, words, calls = _fastest(bound, place_of_times, WORDS * len(parts), runs)
    known = _sizes(kernel, bound, extents)
    rows = tuple(_row(part, words[WORDS * at], words[WORDS * at + 1], known) for at, part in enumerate(parts))
    return Profile(compiled.function.recipe.words, calls, seconds, rows)


def _fastest(bound: BoundCall, first: int, count: int, runs: int) -> tuple[float, list[int], int]:
    """Seconds and words of the fastest call, and how many there were. One call before them meets cold memory."""
    state = bound.workspace.state
    began = time.perf_counter()
    bound()
    best: tuple[float, list[int]] | None = None
    calls = 0
    while best is None or (calls < runs and time.perf_counter() - began < SECONDS):
        for at in range(count):
            state[first + at] = 0
        start = time.perf_counter()
        bound()
        seconds = time.perf_counter() - start
        calls += 1
        if best is None or seconds < best[0]:
            best = seconds, list(state[first : first + count])
    return *best, calls


def _sizes(kernel: CompiledGraph, bound: BoundCall, extents: Mapping[str, int]) -> Mapping[Any, int]:
    shapes = [array.shape for array in bound.arrays]
    return kernel.interface.solve(shapes, dict(extents), lambda at: int(bound.arrays[at]))


def _row(part: Part, nanoseconds: int, runs: int, known: Mapping[Any, int]) -> Row:
    try:
        count: int | None = part.bytes.evaluate(known.__getitem__)
    except KeyError:
        count = None
    places = tuple({str(at): at for at in map(place, part.spans)}.values())
    return Row(part.name, nanoseconds * 1e-9, runs, count, places, part.words)
