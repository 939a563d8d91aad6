"""`dgraph check`: types and sizes of everything, then the rules of the program and the derivatives of each `@entry`.

The check works in f64 at random points of small sizes; `check_kit` says what it compares there. What cannot be checked
is said, and fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from dgraph.errors import ArgumentError, DgraphError, Diagnostic, Label, Span
from dgraph.program.arguments import located
from dgraph.program.check_kit import EQUATIONS, Kit, Unchecked, Wrong
from dgraph.program.check_points import draw_point
from dgraph.program.functions import Function, Program
from dgraph.program.generic import concrete
from dgraph.program.wrong_rules import first_wrong

Report = Callable[[str], object]
DRAWS = 8
"""Points tried before a function counts as not checkable."""
POINTS = 2
"""Points at which everything is compared, of different sizes."""


def check_program(
    program: Program, name: str | None, given: Mapping[str, Any], report: Report | None = None
) -> list[Diagnostic]:
    """All faults of a program, or of one function of it. `given` fixes arguments by name."""
    from dgraph.frontend import check

    try:
        found = list(check(program.module))
    except DgraphError as fault:
        return list(fault.diagnostics)
    if found:
        return found
    module = program.module
    entries = {
        known: item
        for known, item in module.functions.items()
        if (known == name if name is not None else any(note.name == "entry" for note in item.annotations))
    }
    if name is not None and not entries:
        program.function(name)
    ruled = {known: rule for known, rule in module.rules.items() if name in (None, known, rule.name)}
    checked = [*entries.values(), *(module.functions[known] for known in ruled)]
    declared = {formal.name for item in checked for formal in item.formals}
    unknown = [known for known in given if known not in declared | set(module.stored)]
    if unknown:
        listed = ", ".join(sorted(declared)) or "none"
        title = f"no function that is checked has an argument `{unknown[0]}`"
        return [Diagnostic(title, (), f"their arguments are {listed}")]
    say = report or _say_nothing
    count = len(module.functions)
    say(f"types and sizes are right in {count} function{'' if count == 1 else 's'}")
    wrong: list[Diagnostic] = []
    for known, rule in ruled.items():
        wrong += _compared(program.function(known), given, say, _place(rule.span), rule.name)
    if wrong:
        return found + wrong
    entries = {known: item for known, item in entries.items() if known not in ruled}
    if not entries and not ruled:
        say(f"no function is marked @entry, so no derivatives were compared; {program.path}:NAME compares those of one")
    for known, item in entries.items():
        found += _compared(program.function(known), given, say, _place(item.span))
    return found


def _compared(
    function: Function, given: Mapping[str, Any], say: Report, place: Span, rule: str = ""
) -> Iterator[Diagnostic]:
    """The faults of a function's derivatives, or of its rule."""
    name = function.recipe.name
    try:
        for line in check_derivatives(function, given, function.program.seed):
            say(line)
    except ArgumentError as fault:
        yield from located(fault, function).diagnostics
    except DgraphError as fault:
        yield from fault.diagnostics
    except Unchecked as reason:
        title = f"the derivatives of `{name}` could not be checked: {reason}"
        yield Diagnostic(title, (Label(place, ""),), "give a point where the function is smooth with --arg name=value")
    except Wrong as reason:
        if rule:
            title = f"the rule `{rule}` is not the derivative of `{name}`: {reason.args[0]}"
            note = "mend it, or leave it out: then the function is differentiated by itself"
            yield Diagnostic(title, (Label(place, ""),), note)
        else:
            found = reason.args[1]
            labels = (Label(place, ""),) if found is None else (found, Label(place, "in this function"))
            note = "" if found is not None else "no single operation is wrong by itself: please report it"
            yield Diagnostic(f"the derivatives of `{name}` are wrong: {reason.args[0]}", labels, note)


def _say_nothing(line: str) -> None:
    """For who wants the faults only."""


def _place(span: Span) -> Span:
    """The first line of a declaration."""
    end = span.source.text.find("\n", span.start)
    return Span(span.source, span.start, min(span.end, end if end >= 0 else span.end))


def check_derivatives(function: Function, given: Mapping[str, Any], seed: int = 0) -> list[str]:
    """Check one function; returns what was done in lines to read. Raises `DgraphError` for a fault of the program,
    `Wrong` for one of its derivatives, `Unchecked` if no point could be used."""
    name = function.recipe.name
    kit = Kit(concrete(function, given, "f64"))
    if not kit.names:
        return [f"{name}: takes no floats, so it has no derivatives to check"]
    if not kit.returns_floats:
        return [f"{name}: returns no floats, so it has no derivatives to check"]
    reason = "no point was tried"
    found: list[str] = []
    for draw in range(DRAWS):
        random = np.random.default_rng((seed, draw))
        point, extents = draw_point(kit.plain.compiled, given, random, draw)
        try:
            kit.at(point, extents, random)
        except Unchecked as fault:
            reason = str(fault)
            continue
        except Wrong as fault:
            raise Wrong(*fault.args, first_wrong(kit.plain.inlined, point, extents)) from None
        except DgraphError as fault:
            if draw == DRAWS - 1 and not found:
                raise
            reason = fault.diagnostics[0].title
            continue
        found.append(_sizes(kit, point, extents))
        if len(found) == POINTS or kit.plain.is_long:
            break
    if not found:
        raise Unchecked(reason)
    return _table(name, kit, found)


def _sizes(kit: Kit, point: list[Any], extents: Mapping[str, int]) -> str:
    """The numbers that the size variables had at a point."""
    from dgraph.ir.evaluate import bind_sizes

    graph = kit.plain.graph
    known = bind_sizes(graph, point, extents)
    return ", ".join(f"{name} = {known[name]}" for name in graph.sizes)


def _table(name: str, kit: Kit, points: list[str]) -> list[str]:
    """A line for the function and one for each equation with the largest relative difference met."""
    count = len(points)
    sizes = "; ".join(text for text in points if text)
    at = f"at {count} random point{'' if count == 1 else 's'}" + (f" ({sizes})" if sizes else "")
    width = max(map(len, EQUATIONS.values()))
    rows = [
        f"    {words:<{width}}  {kit.worst[key]:.0e}"
        if key in kit.worst
        else f"    {words:<{width}}  too long to compare"
        for key, words in EQUATIONS.items()
    ]
    return [f"{name}: derivatives in {', '.join(kit.names)} agree {at}", *rows]
