"""The binomial schedule: where states are stored, how many steps are advanced, and how many states there are."""

import random
from collections import Counter
from functools import cache
from math import comb

import numpy as np
import pytest

import dgraph.ops  # noqa: F401
from dgraph.ad import expand
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import Interpreter, evaluate
from dgraph.ir.graph import Formal, Graph, walk
from dgraph.ir.op import OPS
from dgraph.passes import OPTIMISE, run_passes
from dgraph.passes.slots import split
from dgraph.types import F64, I64, Array, Tape, Tuple


def fewest(steps: int, slots: int) -> int:
    """Griewank and Walther's t(n, c)."""
    if steps <= 1:
        return 0
    turns = next(turns for turns in range(1, steps + 1) if comb(slots + turns, slots) >= steps)
    return turns * steps - comb(slots + turns, slots + 1)


@cache
def by_trial(steps: int, slots: int) -> int:
    """The same by trying all schedules."""
    if steps <= 1:
        return 0
    if slots == 1:
        return steps * (steps - 1) // 2
    return min(far + by_trial(far, slots) + by_trial(steps - far, slots - 1) for far in range(1, steps))


def gradient_of_a_loop(slots: int, is_value_wanted: bool = False) -> Graph:
    """d/dy of so many steps of y = sin(y)."""
    f = Builder()
    count, start = f.input(Array(I64), "n"), f.input(Array(F64), "y")
    (end,) = f.for_(count, [start], lambda h, _i, carried, _w: [h.sin(carried[0])], slots=slots)
    g = Builder()
    inputs = [g.input(Array(I64), "n"), g.input(Array(F64), "y")]
    op = OPS["vjp"](function="f", wrt=(False, True), seeded=(True,))
    results = g.apply(op, *inputs, g.constant(1.0, F64), regions=[f.close([end])])
    region = g.close(results if is_value_wanted else results[1:])
    formals = (Formal("n", Array(I64)), Formal("y", Array(F64)))
    result = Tuple(tuple(value.type for value in region.outputs))
    return run_passes(expand(Graph("f", (), formals, result, region)), OPTIMISE, verify=True)


def test_the_formula_is_the_least():
    assert all(fewest(steps, slots) == by_trial(steps, slots) for steps in range(50) for slots in range(1, 8))


def test_states_are_stored_where_the_least_is_advanced():
    g = Builder()
    left, slots = g.input(Array(I64), "left"), g.input(Array(I64), "slots")
    region = g.close([split(g, left, slots)])
    interpreter = Interpreter({})
    draw = random.Random(0)
    pairs = [(steps, count) for steps in range(2, 40) for count in range(1, 9)]
    pairs += [(draw.randint(2, 100_000), draw.randint(2, 60)) for _ in range(100)]
    for steps, count in pairs:
        (far,) = interpreter.run(region, [np.int64(steps), np.int64(count)])
        assert 1 <= far < steps
        rest = fewest(steps - far, count - 1) if count > 1 else 0
        assert count > 1 or far == steps - 1
        assert far + fewest(int(far), count) + rest == fewest(steps, count), (steps, count)


def drawn() -> list[tuple[int, int]]:
    """Numbers of steps up to 2000 and of slots up to 40, such that a test does not last long."""
    draw = random.Random(1)
    found = [(steps, slots) for slots in (1, 2, 5) for steps in (0, 1, 2, slots - 1, slots, slots + 1, 10 * slots)]
    while len(found) < 60:
        steps, slots = draw.randint(0, 2000), draw.randint(1, 40)
        if fewest(steps, slots) < 15_000:
            found.append((steps, slots))
    return found


@pytest.mark.parametrize(("steps", "slots"), drawn())
def test_as_many_steps_are_advanced_as_the_formula_says(steps: int, slots: int):
    graph = gradient_of_a_loop(slots)
    seen: Counter[str] = Counter()
    (slope,) = evaluate(graph, [steps, 0.3], observer=lambda node, _: seen.update([node.op.name]))
    assert seen["sin"] == fewest(steps, slots)
    assert seen["cos"] == steps, "each step is reversed once"
    value, expected = 0.3, 1.0
    cosines = []
    for _ in range(steps):
        cosines.append(np.cos(value))
        value = np.sin(value)
    for cosine in reversed(cosines):
        expected *= cosine
    assert slope == expected


@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_the_last_step_is_not_run_again_where_the_value_is_wanted(steps: int):
    seen: Counter[str] = Counter()
    evaluate(gradient_of_a_loop(3, True), [steps, 0.3], observer=lambda node, _: seen.update([node.op.name]))
    assert seen["sin"] == fewest(steps, 3) + 1
    assert seen["cos"] == steps


def test_there_are_no_more_states_than_slots():
    """One row more holds the state that is just being reversed. The interpreter refuses an index beyond the rows."""
    graph = gradient_of_a_loop(4)
    nodes = list(walk(graph.region))
    assert not any(isinstance(value.type, Tape) for node in nodes for value in node.results)
    kept = [node.result.type.shape for node in nodes if node.op.name == "undefined" and node.result.type.shape]
    assert len(kept) == 2, "the states and the orders of their steps"
    assert {shape[0].constant for shape in kept} == {5}
    for steps in (0, 1, 4, 5, 6, 60, 61, 200):
        evaluate(graph, [steps, 0.3])
