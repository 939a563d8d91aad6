"""What every random program must satisfy, whatever it computes."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from program_text import DIFFERENTIATED, LINE

import dgraph as dg
from dgraph.ad.sparse.patterns import pattern_of
from dgraph.ir.evaluate import evaluate
from dgraph.program.arguments import build, flatten, is_extent
from dgraph.program.lower import lower
from dgraph.program.pipeline import stage

ROUNDING = 1e-9
"""Relative: sums in another order, then functions of them."""
DUALITY = 1e-11
SMOOTH = 1e-5
FIRST, SECOND = {"n": 3, "m": 2, "steps": 2}, {"n": 5, "m": 4, "steps": 3}
Values = dict[str, Any]


def arguments(random: np.random.Generator, sizes: dict[str, int]) -> Values:
    """A point at which nothing is large."""
    n, m = sizes["n"], sizes["m"]
    draw = random.standard_normal
    return {
        "s": 0.5 * draw(),
        "x": draw(n),
        "y": draw(m),
        "w": draw((n, m)),
        "q": {"a": draw(), "b": draw(n), "k": np.int32(2)},
        "d": draw(n),
        "k": random.integers(0, 2, n),
        "steps": sizes["steps"],
        "r": random.integers(2**60, dtype=np.uint64),
        "p": {"a": draw(), "b": draw(3), "k": np.int32(1)},
    }


def direction(random: np.random.Generator, point: Values) -> Values:
    """A direction in what is differentiated."""
    draw = random.standard_normal
    out: Values = {}
    for name in DIFFERENTIATED:
        held = point[name]
        is_record = isinstance(held, dict)
        out[name] = {"a": draw(), "b": draw(len(held["b"])), "k": held["k"]} if is_record else draw(np.shape(held))
    return out


def moved(point: Values, along: Values, step: float) -> Values:
    """The point a step along a direction."""
    out = dict(point)
    for name, by in along.items():
        held = point[name]
        if isinstance(held, dict):
            out[name] = {"a": held["a"] + step * by["a"], "b": held["b"] + step * by["b"], "k": held["k"]}
        else:
            out[name] = held + step * by
    return out


def with_tangents(points: Sequence[Values], along: Sequence[Values]) -> list[Values]:
    """Points with the tangents that `jvp` appends."""
    return [p | {f"d{name}": by for name, by in step.items()} for p, step in zip(points, along, strict=True)]


def with_cotangents(points: Sequence[Values], seeds: Sequence[Any]) -> list[Values]:
    """Points with the cotangent that `vjp` appends."""
    return [point | {"ct": seed} for point, seed in zip(points, seeds, strict=True)]


def floats(value: Any) -> list[np.ndarray[Any, Any]]:
    """The float leaves of a result."""
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in floats(item)]
    if hasattr(value, "values"):
        return [leaf for item in value.values() for leaf in floats(item)]
    array = np.asarray(value)
    return [array] if array.dtype == np.float64 else []


def apart(found: Any, expected: Any) -> float:
    """The largest difference, relative to what is expected where that is large."""
    worst = 0.0
    for one, other in zip(floats(found), floats(expected), strict=True):
        if not np.array_equal(np.isfinite(one), np.isfinite(other)):
            return np.inf
        with np.errstate(invalid="ignore"):
            difference = np.where(one == other, 0, np.abs(one - other) / (1 + np.abs(other)))
        worst = max(worst, float(np.max(difference, initial=0)))
    return worst


def product(one: Any, other: Any) -> float:
    """The inner product of two results."""
    return sum(float(np.vdot(a, b)) for a, b in zip(floats(one), floats(other), strict=True))


class Interpreted:
    """A function run by the interpreter, from the graph whose transforms are expanded."""

    def __init__(self, function: dg.Function, at: str = "expand") -> None:
        source, self.signature = lower(function.program.module, function.recipe)
        self.graph = stage(source, at)

    def __call__(self, **values: Any) -> Any:
        extents = {formal.name: values[formal.name] for formal in self.graph.formals if is_extent(formal)}
        given = [
            leaf
            for formal in self.graph.formals
            if not is_extent(formal)
            for leaf in flatten(formal.name, formal.type, values[formal.name])
        ]
        return build(self.graph.result, iter(evaluate(self.graph, given, extents)))


class Agreement:
    """The checks of one program; each raises `AssertionError` with what differs. `compiles` says whether the kernels
    run too, or the interpreter only."""

    def __init__(self, text: str, seed: int, compiles: bool) -> None:
        self.text = text
        self.compiles = compiles
        self.main = dg.parse(text).main
        self.random = np.random.default_rng(seed)

    def same(self, words: str, found: Any, expected: Any, within: float = ROUNDING) -> None:
        """Two results agree."""
        difference = apart(found, expected)
        assert difference <= within, f"{words}: {difference:.1e}\n{found}\n{expected}\n{self.text}"

    def runs(self, function: dg.Function, points: Sequence[Values], words: str) -> list[Any]:
        """The results at points of several sizes; the interpreter's, which those of one compilation equal."""
        interpreted = Interpreted(function)
        results = [interpreted(**point) for point in points]
        if self.compiles:
            compiled = dg.compile(function)
            for point, expected in zip(points, results, strict=True):
                self.same(f"{words}: compiled, interpreted", compiled(**point), expected)
        return results

    def points(self) -> list[Values]:
        """One point of each set of sizes."""
        return [arguments(self.random, sizes) for sizes in (FIRST, SECOND)]

    def first_order(self) -> None:
        """Values, forward, differences, reverse."""
        points = self.points()
        values = self.runs(self.main, points, "value")
        along = [direction(self.random, point) for point in points]
        forward = self.runs(dg.jvp(self.main, DIFFERENTIATED), with_tangents(points, along), "jvp")
        seeds = [(self.random.standard_normal(), self.random.standard_normal(len(p["x"])), 0) for p in points]
        reverse = self.runs(dg.vjp(self.main, DIFFERENTIATED), with_cotangents(points, seeds), "vjp")
        main = Interpreted(self.main)
        rows = zip(points, along, values, forward, seeds, reverse, strict=True)
        for point, by, value, (again, tangent), seed, slopes in rows:
            self.same("value of jvp", again, value)
            self.against_differences("jvp", main, point, by, tangent)
            left = product(tangent, (seed[0], seed[1]))
            right = product(slopes, tuple(by[name] for name in DIFFERENTIATED))
            scale = 1 + sum(float(np.abs(a).sum()) for a in floats(slopes))
            assert abs(left - right) <= DUALITY * scale, f"vjp against jvp: {left} {right}\n{self.text}"

    def against_differences(self, words: str, function: Any, point: Values, along: Values, tangent: Any) -> None:
        """A tangent equals the difference quotient, where those of two steps agree (no kink between)."""
        estimates = []
        for step in (1e-4, 2e-5):
            up, down = (floats(function(**moved(point, along, by))) for by in (step, -step))
            estimates.append(tuple((a - b) / (2 * step) for a, b in zip(up, down, strict=True)))
        if apart(estimates[0], estimates[1]) < SMOOTH:
            self.same(f"{words} against differences", tangent, estimates[1], 10 * SMOOTH)

    def second_order(self) -> None:
        """Forward over reverse, reverse over reverse, reverse over forward: one Hessian times one direction."""
        points = self.points()
        along = [direction(self.random, point) for point in points]
        grad, forward = dg.grad(self.main, DIFFERENTIATED), dg.jvp(self.main, DIFFERENTIATED)
        slopes = self.runs(grad, points, "grad")
        over = self.runs(dg.jvp(grad, DIFFERENTIATED), with_tangents(points, along), "jvp of grad")
        nothing = [np.zeros(len(point["x"])) for point in points]
        seeds: list[Any] = [
            (tuple(by[name] for name in DIFFERENTIATED), zero, 0) for by, zero in zip(along, nothing, strict=True)
        ]
        twice = self.runs(dg.vjp(grad, DIFFERENTIATED), with_cotangents(points, seeds), "vjp of grad")
        seeds = [((0.0, zero, 0), (1.0, zero, 0)) for zero in nothing]
        given = with_cotangents(with_tangents(points, along), seeds)
        mixed = self.runs(dg.vjp(forward, DIFFERENTIATED), given, "vjp of jvp")
        gradient = Interpreted(grad)
        rows = zip(points, along, slopes, over, twice, mixed, strict=True)
        for point, by, slope, (again, (tangent, *_)), back, other in rows:
            self.same("gradient of jvp of grad", again, slope)
            self.same("reverse over reverse", back, tangent)
            self.same("reverse over forward", other, tangent)
            self.against_differences("jvp of grad", lambda **v: gradient(**v)[0], point, by, tangent)

    def third_order(self) -> None:
        """Along a line: all eight ways to the third derivative, and differences of the second."""
        line = dg.parse(self.text + LINE).line
        point = self.points()[0]
        by = direction(self.random, point)
        given = point | {f"d{name}": by[name] for name in ("s", "x", "y", "w")} | {"z": 0.0}
        second = None
        found = []
        for modes in itertools.product(("forward", "reverse"), repeat=3):
            function = line
            for mode in modes:
                second, function = function, dg.grad(function, mode=mode)
            found += self.runs(function, [given], f"third: {modes}")
            self.same(f"third: {modes}, {('reverse',) * 3}", found[0], found[-1])
        once = Interpreted(second)
        self.against_differences("third", lambda **v: once(**v), given, {"z": 1.0}, found[0])

    def patterned(self) -> None:
        """Entries of Jacobians and Hessians that are not zero stand in the pattern that is found."""
        (point, _) = self.points()
        grad = dg.grad(self.main, DIFFERENTIATED)
        for words, function in (("Jacobian", self.main), ("Hessian", grad)):
            graph = Interpreted(function).graph
            formals = [formal for formal in graph.formals if not is_extent(formal)]
            leaves = [leaf for formal in formals for leaf in flatten(formal.name, formal.type, point[formal.name])]
            known = [None if np.asarray(leaf).dtype.kind == "f" else np.asarray(leaf) for leaf in leaves]
            rows = [value.type.dtype.is_float for value in graph.region.outputs]
            pattern = pattern_of(
                graph.region, [name == "x" for name in graph.input_names], rows, known, FIRST
            ).toarray()
            tangents = Interpreted(dg.jvp(function, "x"))
            for column, unit in enumerate(np.eye(FIRST["n"])):
                moved_ = tangents(**point, dx=unit)[1]
                entries = np.concatenate([np.ravel(leaf) for leaf in floats(moved_)])
                assert not np.any((entries != 0) & ~pattern[:, column]), f"pattern of the {words}\n{self.text}"

    def checkpointed(self) -> None:
        """What the loops keep is not seen in the bits, at first and second order."""
        if "@checkpoint" not in self.text:
            return
        point = self.points()[0]
        along = direction(self.random, point)
        kept = dg.parse(re.sub(r"@checkpoint\(.*\)", "@checkpoint(none)", self.text)).main
        found = []
        for main in (self.main, kept):
            grad = dg.grad(main, DIFFERENTIATED)
            (over,) = with_tangents([point], [along])
            found.append([floats(Interpreted(grad, "optimised")(**point))])
            found[-1].append(floats(Interpreted(dg.jvp(grad, DIFFERENTIATED), "optimised")(**over)))
        for one, other in zip(*found, strict=True):
            for a, b in zip(one, other, strict=True):
                assert a.tobytes() == b.tobytes(), f"checkpoints: {a} {b}\n{self.text}"

    def batched(self) -> None:
        """`vmap` of the function and of its gradient against a loop of calls."""
        over = (*DIFFERENTIATED, "d", "k", "r")
        for words, function in (("vmap", self.main), ("vmap of grad", dg.grad(self.main, DIFFERENTIATED))):
            points = [arguments(self.random, FIRST) for _ in range(3)]
            batch = {name: stacked([point[name] for point in points]) for name in over} | {"steps": FIRST["steps"]}
            (found,) = self.runs(dg.vmap(function, over), [batch], words)
            single = Interpreted(function)
            expected = [single(**point) for point in points]
            columns = zip(*(floats(value) for value in expected), strict=True)
            self.same(f"{words} against calls", found, tuple(np.stack(column) for column in columns))


def stacked(values: Sequence[Any]) -> Any:
    """Values of one type with an axis in front."""
    if isinstance(values[0], dict):
        return {key: np.stack([value[key] for value in values]) for key in values[0]}
    return np.stack(values)
