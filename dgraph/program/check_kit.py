"""The checks of one function's derivatives, each an equation between two ways to compute the same.

For random directions dx, u and a random cotangent ct, with g(x) = vjp(f)(x, ct), the gradient of <ct, f>:

    forward          jvp(f)(x, dx)            = the difference quotient of f, extrapolated to no step (Richardson)
    reverse          <ct, jvp(f)(x, dx)>      = <g(x), dx>
    second           jvp(g)(x, dx)            = the difference quotient of g
    symmetry         <u, jvp(g)(x, dx)>       = <dx, jvp(g)(x, u)>
    order            jvp of vjp, vjp of vjp, vjp of jvp and jvp of jvp give the same second derivative
    batch            vmap(jvp(f)) on two points = two calls
    meaning          compiled and optimised   = interpreted as written
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.evaluate import Interpreter, bind_sizes, evaluate
from dgraph.ir.graph import Node, walk
from dgraph.program.check_points import Leaf, by_formal, floats
from dgraph.program.functions import Function, compile, jvp, vjp, vmap
from dgraph.types import leaves

if TYPE_CHECKING:
    from dgraph.ir.graph import Graph
    from dgraph.program.compiled import Compiled

Extents = dict[str, int]
STEPS = (1e-2, 1e-3, 1e-4, 1e-5)
QUOTIENT = 1e-6
"""Largest relative difference to an extrapolated difference quotient."""
DUALITY = 1e-12
ROUNDING = 1e-9
"""Largest relative difference between two orders of the same operations."""
BEND = 1e-2
"""Relative difference between the slopes to both sides above which a point is not smooth."""
LARGE = 1e6
"""Values this much larger than the arguments leave no digits to a difference quotient."""
LONG = 30_000
"""Nodes that the interpreter runs before it gives up: then the kernels are asked."""
EQUATIONS = {
    "forward": "forward mode = differences",
    "reverse": "reverse mode = forward mode",
    "second": "second derivative = differences of the first",
    "symmetry": "second derivative is symmetric",
    "order": "second derivative by all orders of the modes",
    "batch": "vmap = single calls",
    "meaning": "compiled = interpreted",
}


class Unchecked(Exception):
    """Nothing could be said at a point."""


class Wrong(Exception):
    """A derivative differs."""


class TooLong(Exception):
    """More nodes ran than the interpreter should wait for."""


class Frozen(Interpreter):
    """Gives what `stop_gradient` gave in a first run again in later ones: what a derivative takes for constant must not
    move in a difference quotient."""

    def __init__(self, sizes: dict[Any, int], kept: list[Any], is_first: bool) -> None:
        super().__init__(sizes, self.count)
        self.kept = kept
        self.is_first = is_first
        self.met = 0
        self.left = LONG

    def count(self, _node: Node, _results: Sequence[Any]) -> None:
        """Give up after a while."""
        self.left -= 1
        if self.left < 0:
            raise TooLong

    def results_of(self, node: Node, operands: list[Any]) -> Sequence[Any]:
        """The results of a node; of a stopped gradient, those of the first run."""
        if not is_stopped(node):
            return super().results_of(node, operands)
        if self.is_first:
            self.kept.append(operands[0])
        self.met += 1
        if self.met > len(self.kept) or np.shape(self.kept[self.met - 1]) != np.shape(operands[0]):
            raise Unchecked("the function takes other branches near the points tried")
        return [self.kept[self.met - 1]]


def is_stopped(node: Node) -> bool:
    """Whether a node is a `stop_gradient` that stands in the text: those of rules and factorisations are none."""
    written = node.span.source.text.startswith("stop_gradient", node.span.start)
    return node.op.name == "stop_gradient" and not node.derived and written


class Run:
    """A function, or a transform of one, run in f64 by the interpreter or by its kernels."""

    def __init__(self, function: Function, is_long: bool = False) -> None:
        self.function = function
        self.is_long = is_long

    @cached_property
    def compiled(self) -> Compiled:
        """The kernels."""
        return compile(self.function, precision="f64")

    @cached_property
    def graph(self) -> Graph:
        """The graph before any optimisation, with ordinary nodes for its transforms."""
        return self._stage("expand")

    @cached_property
    def inlined(self) -> Graph:
        """The graph with its transforms and with its functions that have rules."""
        return self._stage("inline")

    def _stage(self, name: str) -> Graph:
        from dgraph.program.lower import lower
        from dgraph.program.pipeline import stage

        return stage(lower(self.function.program.module, self.function.recipe, "f64")[0], name)

    def interpret(self, point: Sequence[Leaf], extents: Extents) -> list[Leaf]:
        """The results by the interpreter. Raises `TooLong`, and at once if it did before."""
        if self.is_long:
            raise TooLong
        left = LONG

        def count(_node: Node, _results: Sequence[Any]) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                self.is_long = True
                raise TooLong

        with np.errstate(all="ignore"):
            return [np.asarray(leaf) for leaf in evaluate(self.graph, point, extents, count)]

    def call(self, point: Sequence[Leaf], extents: Extents) -> list[Leaf]:
        """The results by the kernels."""
        return [np.asarray(leaf) for leaf in self.compiled.run(point, extents)]

    def near(self, point: Sequence[Leaf], extents: Extents) -> Callable[[Sequence[Leaf]], list[Leaf]]:
        """The function as difference quotients around a point should see it."""
        if not any(map(is_stopped, walk(self.graph.region))):
            return lambda moved: self.call(moved, extents)
        kept: list[Any] = []

        def run(moved: Sequence[Leaf], is_first: bool = False) -> list[Leaf]:
            sizes = bind_sizes(self.graph, moved, extents)
            values = [leaf if leaf.shape else leaf[()] for leaf in map(np.asarray, moved)]
            try:
                with np.errstate(all="ignore"):
                    return [np.asarray(leaf) for leaf in Frozen(sizes, kept, is_first).run(self.graph.region, values)]
            except TooLong:
                raise Unchecked("with `stop_gradient`, it takes too long to be compared with differences") from None

        run(point, is_first=True)
        return run

    def results(self, point: Sequence[Leaf], extents: Extents) -> list[Leaf]:
        """The results by the interpreter, or by the kernels where that takes too long."""
        if "compiled" not in self.__dict__:
            with suppress(TooLong):
                return self.interpret(point, extents)
        return self.call(point, extents)


@dataclass(frozen=True)
class Place:
    """A point with what is drawn for it: directions and a cotangent, as leaves of all formals and results."""

    point: list[Leaf]
    extents: Extents
    along: list[Leaf]
    across: list[Leaf]
    seed: list[Leaf]


class Kit:
    """All checks of a function; `at` runs them at one point and remembers the largest differences."""

    def __init__(self, function: Function) -> None:
        self.plain = Run(function)
        signature = self.plain.compiled.signature
        self.names = [
            formal.name for formal in signature.formals if any(leaf.dtype.is_float for _, leaf in leaves(formal.type))
        ]
        self.returns_floats = any(leaf.dtype.is_float for _, leaf in leaves(signature.result))
        self.worst: dict[str, float] = {}

    def derived(self, function: Function) -> Run:
        """A transform; what takes long takes longer when it is differentiated."""
        return Run(function, self.plain.is_long)

    @cached_property
    def forward(self) -> Run:
        """jvp(f)"""
        return self.derived(jvp(self.plain.function, self.names))

    @cached_property
    def backward(self) -> Run:
        """vjp(f)"""
        return self.derived(vjp(self.plain.function, self.names))

    @cached_property
    def second(self) -> dict[str, Run]:
        """The transforms of transforms, by their words."""
        forward, backward = self.forward.function, self.backward.function
        return {
            "forward over reverse": self.derived(jvp(backward, self.names)),
            "reverse over reverse": self.derived(vjp(backward, self.names)),
            "reverse over forward": self.derived(vjp(forward, self.names)),
            "forward over forward": self.derived(jvp(forward, self.names)),
        }

    @cached_property
    def batched(self) -> Run:
        """vmap(jvp(f))"""
        own = {formal.name for formal in self.plain.compiled.signature.formals}
        formals = [formal.name for formal in self.forward.compiled.signature.formals]
        over = [name for name in formals if name in self.names or name not in own]
        return self.derived(vmap(self.forward.function, over))

    # ---- one point ----------------------------------------------------------------------------------------------

    def at(self, point: list[Leaf], extents: Extents, random: np.random.Generator) -> None:
        """All checks at a point. Raises `Unchecked` where the function is not smooth, `Wrong` where it fails."""
        base = self._value(point, extents)
        if not all(np.isfinite(leaf).all() for leaf in floats(base)):
            raise Unchecked("the function is not finite at the points tried")
        if _largest(floats(base)) > LARGE * (1 + _largest(floats(point))):
            raise Unchecked("the function is too large at the points tried for differences to say anything")
        place = Place(point, extents, _drawn(point, random), _drawn(point, random), _drawn(base, random))
        self._first(place, base)
        self._second(place)
        self._batch(place)

    def _value(self, point: list[Leaf], extents: Extents) -> list[Leaf]:
        """The value, interpreted and compiled."""
        try:
            meant = self.plain.interpret(point, extents)
        except TooLong:
            if any(node.op.name == "while" for node in walk(self.plain.graph.region)):
                self.plain.is_long = False
                raise Unchecked(f"a `while` did not end within {LONG} operations at the points tried") from None
            return self.plain.call(point, extents)
        found = self.plain.call(point, extents)
        self._same("meaning", "the value", found, meant)
        return found

    def _first(self, place: Place, base: list[Leaf]) -> None:
        """Differences, forward, reverse."""
        count = len(base)
        forward = self._both(self.forward, "jvp", place, self._slopes(place.along))
        tangent = forward[count:]
        value = self.plain.near(place.point, place.extents)
        worst = difference(
            lambda step: floats(value(_moved(place.point, place.along, step))),
            floats(base),
            floats(tangent),
        )
        self._note("forward", worst, QUOTIENT, "forward mode and differences differ")
        slopes = self._both(self.backward, "vjp", place, place.seed)
        if not all(np.isfinite(leaf).all() for leaf in floats(slopes)):
            raise Unchecked("reverse mode is not finite at the points tried")
        along = self._slopes(place.along)
        self._note("reverse", _duality(place.seed, tangent, slopes, along), DUALITY, "reverse and forward mode differ")

    def _second(self, place: Place) -> None:
        """The second derivative of <ct, f>, in every way."""
        along, across = self._slopes(place.along), self._slopes(place.across)
        run = self.second["forward over reverse"]
        found = run.results(self._given(run, place, [*place.seed, *along]), place.extents)
        half = len(found) // 2
        base, second = floats(found[:half]), floats(found[half:])
        if not all(np.isfinite(leaf).all() for leaf in second):
            raise Unchecked("the second derivative is not finite at the points tried")

        slope = self.backward.near(self._at(self.backward, place.point, place.seed), place.extents)

        def value(step: float) -> list[Leaf]:
            moved = _moved(place.point, place.along, step)
            return floats(slope(self._at(self.backward, moved, place.seed)))

        worst = difference(value, base, second)
        self._note("second", worst, QUOTIENT, "the second derivative and differences of the first differ")
        other = run.results(self._given(run, place, [*place.seed, *across]), place.extents)[half:]
        scale = 1.0 + max(_largest(base), _largest(second))
        apart = _duality(floats(across), second, floats(other), floats(along), scale)
        self._note("symmetry", apart, ROUNDING, "the second derivative is not symmetric")
        self._orders(place, second, scale)

    def _orders(self, place: Place, second: list[Leaf], scale: float) -> None:
        """Every order of the modes against forward over reverse."""
        along, across = self._slopes(place.along), self._slopes(place.across)
        nothing = [np.zeros_like(leaf) for leaf in place.seed]
        given = {
            "reverse over reverse": [*place.seed, *along],
            "reverse over forward": [*along, *nothing, *place.seed],
            "forward over forward": [*along, *across],
        }
        for words, extra in given.items():
            run = self.second[words]
            found = run.results(self._given(run, place, extra), place.extents)
            if words == "forward over forward":
                quarter = len(found) // 4
                left = sum(float(np.vdot(a, b)) for a, b in _pairs(place.seed, found[3 * quarter :]))
                right = sum(float(np.vdot(a, b)) for a, b in _pairs(floats(across), second))
                sums = sum(float(np.abs(a * b).sum()) for a, b in _pairs(floats(across), second))
                apart = abs(left - right) / (scale + sums)
            else:
                apart = _apart(floats(found), second, scale)
            self._note("order", apart, ROUNDING, f"{words} and forward over reverse differ")

    def _batch(self, place: Place) -> None:
        """Two points at once and one after the other."""
        near = _moved(place.point, place.across, 1e-2)
        along, across = self._slopes(place.along), self._slopes(place.across)
        one = self.forward.results(self._at(self.forward, place.point, along), place.extents)
        two = self.forward.results(self._at(self.forward, near, across), place.extents)
        own = by_formal(self.plain.compiled, place.point)
        moved = by_formal(self.plain.compiled, near)
        rest = iter([np.stack(pair) for pair in zip(along, across, strict=True)])
        given: list[Leaf] = []
        for formal in self.forward.compiled.signature.formals:
            if formal.name in self.names:
                given += [np.stack(pair) for pair in zip(own[formal.name], moved[formal.name], strict=True)]
            elif formal.name in own:
                given += own[formal.name]
            else:
                given += [next(rest) for _ in leaves(formal.type)]
        found = self.batched.results(given, place.extents)
        expected = [np.stack(pair) for pair in zip(one, two, strict=True)]
        self._same("batch", "vmap of jvp", found, expected)

    # ---- arguments ----------------------------------------------------------------------------------------------

    def _slopes(self, values: list[Leaf]) -> list[Leaf]:
        """The leaves of the formals that are differentiated."""
        parts = by_formal(self.plain.compiled, values)
        return [leaf for name in self.names for leaf in parts[name]]

    def _at(self, derived: Run, point: list[Leaf], extra: Sequence[Leaf]) -> list[Leaf]:
        """The leaves for a transform: its formals are those of the function by name, and others that take `extra`."""
        known = by_formal(self.plain.compiled, point)
        rest = iter(extra)
        given: list[Leaf] = []
        for name, formals_leaves in _formals_of(derived):
            given += known[name] if name in known else [next(rest) for _ in range(formals_leaves)]
        return given

    def _given(self, derived: Run, place: Place, extra: Sequence[Leaf]) -> list[Leaf]:
        return self._at(derived, place.point, extra)

    def _both(self, run: Run, words: str, place: Place, extra: Sequence[Leaf]) -> list[Leaf]:
        """The compiled results, after a comparison with the interpreter's."""
        given = self._at(run, place.point, extra)
        found = run.call(given, place.extents)
        with suppress(TooLong):
            self._same("meaning", words, found, run.interpret(given, place.extents))
        return found

    # ---- verdicts -----------------------------------------------------------------------------------------------

    def _same(self, key: str, words: str, found: list[Leaf], expected: list[Leaf]) -> None:
        scale = 1.0 + _largest(floats(expected))
        apart = _apart(floats(found), floats(expected), scale)
        others = zip(found, expected, strict=True)
        if any(one.dtype != np.float64 and not np.array_equal(one, other) for one, other in others):
            apart = np.inf
        self._note(key, apart, ROUNDING, f"{words} is not the same: {EQUATIONS[key]} does not hold")

    def _note(self, key: str, apart: float, limit: float, words: str) -> None:
        if not apart <= limit:
            raise Wrong(f"{words} by {apart:.1e} (relative)")
        self.worst[key] = max(self.worst.get(key, 0.0), apart)


def _formals_of(run: Run) -> list[tuple[str, int]]:
    """Name and number of leaves of the formals of a graph that are no sizes."""
    from dgraph.program.arguments import is_extent

    formals = run.graph.formals
    return [(formal.name, sum(1 for _ in leaves(formal.type))) for formal in formals if not is_extent(formal)]


def _drawn(values: Sequence[Leaf], random: np.random.Generator) -> list[Leaf]:
    """A direction in the floats of some leaves, nothing in the others."""
    return [
        np.asarray(random.standard_normal(leaf.shape)) if leaf.dtype == np.float64 else np.zeros_like(leaf)
        for leaf in map(np.asarray, values)
    ]


def _moved(point: Sequence[Leaf], along: Sequence[Leaf], step: float) -> list[Leaf]:
    return [
        leaf + step * by if leaf.dtype == np.float64 else leaf
        for leaf, by in zip(map(np.asarray, point), along, strict=True)
    ]


def _pairs(one: Sequence[Leaf], other: Sequence[Leaf]) -> list[tuple[Leaf, Leaf]]:
    return list(zip(floats(one), floats(other), strict=True))


def _largest(arrays: Sequence[Leaf]) -> float:
    return max((float(np.abs(array[np.isfinite(array)]).max(initial=0)) for array in arrays), default=0.0)


def _apart(found: Sequence[Leaf], expected: Sequence[Leaf], scale: float) -> float:
    """The largest difference relative to a scale; places that are not finite must be the same."""
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        with np.errstate(invalid="ignore"):
            gap = np.where((one == other) | (np.isnan(one) & np.isnan(other)), 0.0, np.abs(one - other))
        largest = float(np.max(gap, initial=0.0))
        worst = max(worst, np.inf if np.isnan(largest) else largest)
    return worst / scale


def _duality(
    seeds: Sequence[Leaf], moved: Sequence[Leaf], pulled: Sequence[Leaf], along: Sequence[Leaf], scale: float = 1.0
) -> float:
    """How far <seeds, moved> and <pulled, along> are apart, relative to the sums of what cancels in them."""
    left = sum(float(np.vdot(a, b)) for a, b in _pairs(seeds, moved))
    right = sum(float(np.vdot(a, b)) for a, b in _pairs(pulled, along))
    sums = [
        sum(float(np.abs(a * b).sum()) for a, b in pairs) for pairs in (_pairs(seeds, moved), _pairs(pulled, along))
    ]
    return abs(left - right) / max(scale, *sums)


def difference(value: Callable[[float], list[Leaf]], base: Sequence[Leaf], tangents: Sequence[Leaf]) -> float:
    """The smallest relative difference over the steps, each extrapolated from h and h / 2. Raises `Unchecked` if it
    says nothing, as the function is not finite or not smooth there."""
    best = bend = spread = np.inf
    before: list[Leaf] = []
    for step in STEPS:
        far, near = (value(step), value(-step)), (value(step / 2), value(-step / 2))
        worst = sharpest = moved = 0.0
        estimates: list[Leaf] = []
        for at, (p, m, p2, m2, tangent, leaf) in enumerate(zip(*far, *near, tangents, base, strict=True)):
            estimate = (4 * (p2 - m2) / step - (p - m) / (2 * step)) / 3
            if not np.isfinite(estimate).all():
                worst = sharpest = moved = np.inf
                break
            scale = max(1e-3, float(np.abs(tangent).max(initial=0)), float(np.abs(leaf).max(initial=0)) * 1e-3)
            worst = max(worst, float(np.abs(estimate - tangent).max(initial=0)) / scale)
            # Where there is a tangent, the slopes to both sides approach each other, and those of two steps do.
            sharpest = max(sharpest, float(np.abs(p - 2 * leaf + m).max(initial=0)) / step / scale)
            moved = max(moved, float(np.abs(estimate - before[at]).max(initial=0)) / scale if before else np.inf)
            estimates.append(estimate)
        before = estimates if worst < np.inf else []
        best, bend, spread = min(best, worst), min(bend, sharpest), min(spread, moved)
    if not np.isfinite(best):
        raise Unchecked("the function is not finite near the points tried")
    if best > QUOTIENT and (bend > BEND or spread > BEND):
        raise Unchecked("the function has a kink or a jump at the points tried")
    return best
