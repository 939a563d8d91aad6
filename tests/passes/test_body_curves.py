"""The curve of what a step keeps is what the cuts at its prices keep, and no price has a better choice."""

import itertools
from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Graph, Node
from dgraph.passes.body_curves import body_curves
from dgraph.passes.residuals import residuals
from dgraph.program.pipeline import before_cuts, stage
from dgraph.types import Tape

PROGRAMS = dg.parse(
    """
def wide[n](x: f64[n], w: f64, steps: size) -> f64:
    for t in range(steps):
        a = sin(w * x)
        b = exp(-x * x)
        c = tanh(x + a)
        d = x * x + 0.5 * x
        x = x + 0.01 * (a * b + c * d - d * x)
    return sum(x * x)

def nested[n](x: f64[n], w: f64, steps: size) -> f64:
    for t in range(steps):
        y = x
        for s in range(3):
            y = y + 0.1 * sin(w * y) * cos(y)
        x = x + 0.1 * exp(-y * y) * tanh(x)
    return sum(x * x)

def two[n](x: f64[n], w: f64, steps: size) -> f64:
    for t in range(steps):
        x = x + 0.01 * sin(x) * exp(-w * x)
    for t in range(2 * steps):
        x = 0.9 * x + 0.01 * cos(x) * tanh(w * x)
    return sum(x * x)
"""
)
N, STEPS = 2000, 7
SIZES = {"n": N, "steps": STEPS}


def uncut(name: str) -> Graph:
    slope = dg.value_and_grad(getattr(PROGRAMS, name), wrt=("x", "w"))
    return before_cuts(stage(slope.graph, "optimised"))


def bytes_kept(graph: Graph) -> dict[str, int]:
    """The bytes that loops keep for others in a run, by their places: entries of tapes, and stacks."""
    found: dict[str, int] = {}

    def see(node: Node, results: Any) -> None:
        if node.op.name != "for" or node.derived == "adjoint":
            return
        kept = list(zip(node.results, results, strict=True))[node.op.carries :]
        count = sum(
            sum(np.asarray(e).nbytes for e in entries(value)) if isinstance(key.type, Tape) else value.nbytes
            for key, value in kept
        )
        found[str(node.span)] = found.get(str(node.span), 0) + count

    evaluate(graph, [np.linspace(-1, 1, N), 0.7], extents={"steps": STEPS}, observer=see)
    return found


def entries(tape: Any) -> list[Any]:
    return [leaf for entry in tape for leaf in (entries(entry) if isinstance(entry, list) else [entry])]


@pytest.mark.parametrize("name", ["wide", "two"])
def test_a_cut_at_each_price_keeps_the_bytes_of_the_curve(name: str):
    graph = uncut(name)
    curves = body_curves(graph, SIZES)
    assert len(curves) == (2 if name == "two" else 1)
    for curve in curves:
        assert len(curve.points) >= 2
        assert curve.runs in (STEPS, 2 * STEPS)
        for point in curve.points:
            kept = bytes_kept(residuals(graph, price={curve.place: point.price}, sizes=SIZES))
            assert kept[curve.place] == curve.runs * point.bytes


def test_curves_fall_and_are_hollow():
    for name in ("wide", "two", "nested"):
        for curve in body_curves(uncut(name), SIZES):
            prices, bytes_, seconds = zip(*((p.price, p.bytes, p.seconds) for p in curve.points), strict=True)
            assert list(prices) == sorted(prices)
            assert list(bytes_) == sorted(bytes_, reverse=True)
            assert list(seconds) == sorted(seconds)
            assert [curve.at(price) for price in prices] == list(curve.points)


def test_one_price_is_the_best_for_all_loops_together():
    """No choice of a point for each loop has fewer bytes in all and takes no longer than what one price chooses."""
    curves = body_curves(uncut("two"), SIZES)

    def sums(points: Any) -> tuple[int, float]:
        pairs = list(zip(curves, points, strict=True))
        return sum(c.runs * p.bytes for c, p in pairs), sum(c.runs * p.seconds for c, p in pairs)

    choices = [sums(points) for points in itertools.product(*(curve.points for curve in curves))]
    for price in sorted({point.price for curve in curves for point in curve.points}):
        bytes_, seconds = sums([curve.at(price) for curve in curves])
        assert not any(b < bytes_ and s <= seconds * (1 - 1e-9) for b, s in choices)


def test_an_inner_loop_has_a_curve_of_its_own():
    curves = {curve.place: curve for curve in body_curves(uncut("nested"), SIZES)}
    inner, outer = "<text>:14", "<text>:12"
    assert curves[inner].runs == 3 * STEPS
    assert curves[outer].runs == STEPS
    assert curves[outer].points[-1].bytes == 8 * N, "the state alone: the inner loop runs again"


def test_a_price_at_another_place_changes_nothing():
    graph = uncut("wide")
    assert bytes_kept(residuals(graph, price={"elsewhere:1": 1.0})) == bytes_kept(residuals(graph))


def test_between_two_prices_values_stay_that_save_most_time():
    graph = uncut("wide")
    (curve,) = body_curves(graph, SIZES)
    assert curve.between
    for point in curve.between:
        fast = next(one for one in reversed(curve.points) if one.bytes > point.bytes)
        slow = next(one for one in curve.points if one.bytes < point.bytes)
        assert fast.seconds < point.seconds < slow.seconds
        stay = {curve.place: point.stay}
        kept = bytes_kept(residuals(graph, price={curve.place: point.price}, sizes=SIZES, stay=stay))
        assert kept[curve.place] == curve.runs * point.bytes
