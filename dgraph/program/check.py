"""`dgraph check`: types and sizes of everything, then the derivatives of each `@entry` against differences.

The check works in f64 at random points of small sizes. For random directions dx and ct it compares, for the function
f in question,

    jvp(f)(x, dx)   with   (f(x + h dx) - f(x - h dx)) / 2h, extrapolated to h = 0 (Richardson)
    <ct, jvp(f)(x, dx)>   with   <vjp(f)(x, ct), dx>

What cannot be checked is said, and fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dgraph.errors import DgraphError, Diagnostic, Label, Span
from dgraph.frontend import tree
from dgraph.program.arguments import extent, flatten, is_extent
from dgraph.program.compiled import Compiled
from dgraph.program.functions import Function, Program, compile, jvp, vjp
from dgraph.program.generic import concrete
from dgraph.sizes import Atom
from dgraph.types import Array, leaves

Leaf = np.ndarray[Any, Any]
Report = Callable[[str], object]
DRAWS = 8
"""Points tried before a function counts as not checkable."""
STEPS = (1e-2, 1e-3, 1e-4, 1e-5)
TOLERANCE = 1e-6
DUALITY = 1e-10
BEND = 1e-2
"""Relative difference between the slopes to both sides above which a point is not smooth."""


def check_program(
    program: Program, name: str | None, given: Mapping[str, Any], report: Report | None = None
) -> list[Diagnostic]:
    """All faults of a program, or of one function of it, and warnings of what this version does not do.
    `given` fixes arguments by name."""
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
    declared = {formal.name for item in entries.values() for formal in item.formals}
    unknown = [known for known in given if known not in declared | set(module.stored)]
    if unknown:
        listed = ", ".join(sorted(declared)) or "none"
        title = f"no function that is checked has an argument `{unknown[0]}`"
        return [Diagnostic(title, (), f"their arguments are {listed}")]
    found = [
        Diagnostic(
            "`@checkpoint` is read but not obeyed yet: every step of this loop is stored",
            (Label(note.span),),
            "results and derivatives are the same; only the memory is that of a plain loop",
            severity="warning",
        )
        for note in tree.walk(module.tree)
        if isinstance(note, tree.Annotation) and note.name == "checkpoint"
    ]
    say = report or _say_nothing
    count = len(module.functions)
    say(f"types and sizes are right in {count} function{'' if count == 1 else 's'}")
    if not entries:
        say(f"no function is marked @entry, so no derivatives were compared; {program.path}:NAME compares those of one")
    for known, item in entries.items():
        try:
            said = check_derivatives(program.function(known), given, program.seed)
            say(f"{known}: {said}")
        except DgraphError as fault:
            found.extend(fault.diagnostics)
        except _Unchecked as reason:
            title = f"the derivatives of `{known}` could not be checked: {reason}"
            note = "give a point where the function is smooth with --arg name=value"
            found.append(Diagnostic(title, (Label(_place(item.span), ""),), note))
        except _Wrong as reason:
            found.append(
                Diagnostic(f"the derivatives of `{known}` are wrong: {reason}", (Label(_place(item.span), ""),))
            )
    return found


def _say_nothing(line: str) -> None:
    """For who wants the faults only."""


class _Unchecked(Exception):
    """Nothing could be said."""


class _Wrong(Exception):
    """A derivative differs."""


def _place(span: Span) -> Span:
    """The first line of a declaration."""
    end = span.source.text.find("\n", span.start)
    return Span(span.source, span.start, min(span.end, end if end >= 0 else span.end))


def check_derivatives(function: Function, given: Mapping[str, Any], seed: int = 0) -> str:
    """Check one function; returns what was done in words. Raises `DgraphError` for a fault of the program."""
    function = concrete(function, given, "f64")
    plain = compile(function, precision="f64")
    signature = plain.signature
    floats = [
        formal.name for formal in signature.formals if any(leaf.dtype.is_float for _, leaf in leaves(formal.type))
    ]
    if not floats:
        return "takes no floats, so it has no derivatives to check"
    if not any(leaf.dtype.is_float for _, leaf in leaves(signature.result)):
        return "returns no floats, so it has no derivatives to check"
    forward = compile(jvp(function, floats), precision="f64")
    backward = compile(vjp(function, floats), precision="f64")
    reason = "no point was tried"
    for draw in range(DRAWS):
        random = np.random.default_rng((seed, draw))
        point, extents = draw_point(plain, given, random, draw)
        try:
            return _compare(plain, forward, backward, point, extents, random)
        except _Unchecked as fault:
            reason = str(fault)
        except DgraphError as fault:
            if draw == DRAWS - 1:
                raise
            reason = fault.diagnostics[0].title
    raise _Unchecked(reason)


def draw_point(
    compiled: Any, given: Mapping[str, Any], random: np.random.Generator, draw: int
) -> tuple[list[Leaf], dict[str, int]]:
    """Leaves at a random point: sizes 2 to 5, floats around 0 (later draws: positive, then small), integers that are
    legal indices of every axis. Params have the program's values, moved a little in later draws."""
    signature = compiled.signature
    sizes: dict[Atom, int] = {}
    for position, name in enumerate(signature.sizes):
        sizes[name] = 2 + (position + draw) % 4
    fixed: dict[str, list[Leaf]] = {}
    for formal in signature.formals:
        if formal.name in given and is_extent(formal):
            sizes[formal.name] = extent(formal.name, given[formal.name])
        elif formal.name in given:
            fixed[formal.name] = [_promoted(leaf) for leaf in _flatten_promoted(formal, given[formal.name])]
            for array, (_, leaf) in zip(fixed[formal.name], leaves(formal.type, formal.name), strict=True):
                for axis, number in zip(leaf.shape, array.shape, strict=True):
                    for atom in axis.atoms():
                        if axis.terms == (((atom,), 1),):
                            sizes[atom] = number
    point: list[Leaf] = []
    for formal in signature.formals:
        if is_extent(formal):
            continue
        if formal.name in fixed:
            point += fixed[formal.name]
            continue
        stored = formal.name in signature.params
        values = None
        if stored:
            values = [_promoted(leaf) for leaf in _flatten_promoted(formal, compiled.program.value_of(formal.name))]
        for at, (_, leaf) in enumerate(leaves(formal.type, formal.name)):
            shape = tuple(axis.evaluate(sizes.__getitem__) for axis in leaf.shape)
            if values is not None and draw and leaf.dtype.is_float:
                point.append(np.asarray(values[at] + 0.1 * random.standard_normal(shape)))
            elif values is not None:
                point.append(values[at])
            elif leaf.dtype.is_float:
                normal = random.standard_normal(shape)
                spread = (normal, 0.5 + random.random(shape), 0.1 * normal)[draw % 3]
                point.append(np.asarray(spread, leaf.dtype.numpy))
            elif leaf.dtype.kind == "bool":
                point.append(np.asarray(random.integers(0, 2, shape), bool))
            elif leaf.dtype.kind == "key":
                point.append(np.asarray(random.integers(0, 2**63, shape), leaf.dtype.numpy))
            else:
                low, high = (0, 2) if shape else (2, 4)
                point.append(np.asarray(random.integers(low, high, shape), leaf.dtype.numpy))
    return point, {formal.name: sizes[formal.name] for formal in signature.formals if is_extent(formal)}


def _flatten_promoted(formal: Any, value: Any) -> list[Leaf]:
    """The leaves of a value whose floats may still be f32."""
    from dgraph.types import F32, F64, map_leaves

    fault: DgraphError | None = None
    for dtype in (F64, F32):
        wanted = map_leaves(formal.type, lambda leaf, d=dtype: Array(d, leaf.shape) if leaf.dtype.is_float else leaf)  # type: ignore[misc]
        try:
            return list(flatten(formal.name, wanted, value))
        except DgraphError as found:
            fault = fault or found
    assert fault is not None
    raise fault


def _promoted(leaf: Leaf) -> Leaf:
    return leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf


def _compare(
    plain: Compiled,
    forward: Compiled,
    backward: Compiled,
    point: list[Leaf],
    extents: dict[str, int],
    random: np.random.Generator,
) -> str:
    """Compare differences, forward and reverse mode at one point."""
    direction: dict[int, Leaf] = {
        at: np.asarray(random.standard_normal(leaf.shape)) for at, leaf in enumerate(point) if leaf.dtype == np.float64
    }

    def value(step: float) -> list[Leaf]:
        moved = [leaf + step * direction[at] if at in direction else leaf for at, leaf in enumerate(point)]
        return _floats(plain.kernel.call(moved, extents))

    base = value(0.0)
    if not all(np.isfinite(leaf).all() for leaf in base):
        raise _Unchecked("the function is not finite at the points tried")
    moves: list[Leaf] = [direction[at] if at in direction else np.zeros_like(leaf) for at, leaf in enumerate(point)]
    parts = _by_formal(plain, moves).values()
    along = [leaf for part in parts if any(leaf.dtype == np.float64 for leaf in part) for leaf in part]
    tangents = _floats(_call_with(forward, plain, point, along, extents)[len(plain.kernel.outputs) :])
    worst = _difference(value, base, tangents)
    if worst > TOLERANCE:
        raise _Wrong(f"forward mode and differences differ by {worst:.1e} (relative)")
    seeds: list[Leaf] = [np.asarray(random.standard_normal(leaf.shape)) for leaf in base]
    kinds = [port.type.dtype.is_float for port in plain.kernel.outputs]
    shapes = [np.asarray(leaf) for leaf in plain.kernel.call(point, extents)]
    waiting = iter(seeds)
    cotangents = [
        next(waiting) if is_float else np.zeros_like(leaf) for is_float, leaf in zip(kinds, shapes, strict=True)
    ]
    pulled = _floats(_call_with(backward, plain, point, cotangents, extents))
    if not all(np.isfinite(leaf).all() for leaf in pulled):
        raise _Unchecked("reverse mode is not finite at the points tried")
    left = sum(float(np.vdot(seed, tangent)) for seed, tangent in zip(seeds, tangents, strict=True))
    right = sum(float(np.vdot(pull, dx)) for pull, dx in zip(pulled, direction.values(), strict=True))
    sums = (float(np.abs(s).max(initial=0) * np.abs(t).sum()) for s, t in zip(seeds, tangents, strict=True))
    apart = abs(left - right) / max(1.0, *sums)
    if apart > DUALITY:
        raise _Wrong(f"reverse and forward mode differ by {apart:.1e} (relative)")
    names = ", ".join(name for name, part in _by_formal(plain, point).items() if _floats(part))
    return f"derivatives in {names} agree: forward with differences to {worst:.0e}, reverse with forward to {apart:.0e}"


def _floats(leaves_: Sequence[Any]) -> list[Leaf]:
    return [array for array in map(np.asarray, leaves_) if array.dtype == np.float64]


def _call_with(
    derived: Compiled, plain: Compiled, point: Sequence[Leaf], extra: Sequence[Leaf], extents: dict[str, int]
) -> list[Any]:
    """Call a transform at a point: its formals are those of the function by name, and others that take `extra`."""
    known = _by_formal(plain, point)
    rest = iter(extra)
    given: list[Leaf] = []
    for formal in derived.signature.formals:
        given += known[formal.name] if formal.name in known else [next(rest) for _ in leaves(formal.type)]
    return derived.kernel.call(given, extents)


def _by_formal(compiled: Compiled, values: Sequence[Leaf]) -> dict[str, list[Leaf]]:
    """Leaves by the formal that they belong to."""
    waiting = iter(values)
    return {formal.name: [next(waiting) for _ in leaves(formal.type)] for formal in compiled.signature.formals}


def _difference(value: Callable[[float], list[Any]], base: list[Any], tangents: list[Any]) -> float:
    """The smallest relative difference over the steps, each extrapolated from h and h / 2. Raises `_Unchecked` if it
    says nothing, as the function is not finite or not smooth there."""
    best = bend = np.inf
    for step in STEPS:
        far, near = (value(step), value(-step)), (value(step / 2), value(-step / 2))
        worst = sharpest = 0.0
        for p, m, p2, m2, tangent, leaf in zip(*far, *near, tangents, base, strict=True):
            estimate = (4 * (p2 - m2) / step - (p - m) / (2 * step)) / 3
            if not np.isfinite(estimate).all():
                worst = sharpest = np.inf
                break
            scale = max(1e-3, float(np.abs(tangent).max(initial=0)), float(np.abs(leaf).max(initial=0)) * 1e-3)
            worst = max(worst, float(np.abs(estimate - tangent).max(initial=0)) / scale)
            # Where there is a tangent, the slopes to both sides approach each other.
            sharpest = max(sharpest, float(np.abs(p - 2 * leaf + m).max(initial=0)) / step / scale)
        best, bend = min(best, worst), min(bend, sharpest)
    if not np.isfinite(best):
        raise _Unchecked("the function is not finite near the points tried")
    if best > TOLERANCE and bend > BEND:
        raise _Unchecked("the function has a kink or a jump at the points tried")
    return best
