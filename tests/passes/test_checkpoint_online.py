"""`@checkpoint(slots=c)` on a `while`: which states are kept, and how many steps are run again."""

import random
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from test_checkpoint_schedule import fewest

import dgraph.ops  # noqa: F401
from dgraph.ad import expand
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import Interpreter, evaluate
from dgraph.ir.graph import Formal, Graph, Region, walk
from dgraph.ir.op import OPS
from dgraph.passes import OPTIMISE, run_passes
from dgraph.passes.online_slots import Placement
from dgraph.passes.rerun import number
from dgraph.sizes import size
from dgraph.types import F64, I64, Array, Tape, Tuple

ROWS = 41


def kept_by_the_rule(steps: int, slots: int) -> list[int]:
    """The orders of the states that Wang, Moin and Iaccarino's rule has kept, from its definition."""
    kept: list[tuple[int, float]] = []
    for order in range(steps):
        if not kept:
            kept.append((order, np.inf))
        elif len(kept) < slots:
            kept.append((order, 0))
        else:
            behind = [at for at in range(slots) if any(level > kept[at][1] for _, level in kept[at + 1 :])]
            _, level = kept.pop(behind[-1] if behind else -1)
            kept.append((order, 0 if behind else level + 1))
    return [order for order, _ in kept]


def run_again(steps: int, slots: int) -> int:
    """How many steps the backward loop advances, each part of the loop on its best schedule. One slot is enough where
    the newest state is at work."""
    kept = kept_by_the_rule(steps, max(slots, 2))
    ends = [*kept[1:], steps] if kept else []
    return sum(fewest(end - start, max(slots - at, 1)) for at, (start, end) in enumerate(zip(kept, ends, strict=True)))


@cache
def placement(slots: int) -> Region:
    """The states after so many steps, as a stack."""
    g = Builder()
    steps, zero = g.input(Array(I64), "steps"), number(g, 0)
    arrays = [g.zeros(Array(I64, (size(ROWS),))) for _ in range(4)]

    def step(h, order, carried, _walked):
        return Placement.of(carried).with_state(h, number(h, slots), order, [h.mul(order, order)]).values

    found = Placement.of(g.for_(steps, Placement(zero, zero, zero, *arrays[:3], (arrays[3],)).values, step))
    stack = found.as_stack(g, steps)
    assert stack.moved is not None
    return g.close([stack.top, stack.depth, stack.orders, *stack.moved, *stack.rows])


@pytest.mark.parametrize("slots", [2, 3, 4, 7, 12, 40])
def test_states_are_kept_by_the_rule(slots: int):
    draw = random.Random(slots)
    interpreter = Interpreter({})
    for steps in (1, 2, slots - 1, slots, slots + 1, 10 * slots, *(draw.randint(1, 700) for _ in range(4))):
        top, depth, orders, places, moved, rows = interpreter.run(placement(slots), [np.int64(steps)])
        expected = kept_by_the_rule(steps, slots)
        assert orders[:depth].tolist() == expected
        assert top == expected[-1] == steps - 1
        assert rows[places[:depth]].tolist() == [order**2 for order in expected]
        assert sorted(places[:depth]) == list(range(len(expected)))
        assert moved == depth == len(expected)


@pytest.mark.parametrize(
    ("steps", "slots", "known", "unknown"),
    [
        (1000, 5, 6284, 6380),
        (1000, 10, 3636, 4113),
        (1000, 20, 2747, 2848),
        (4096, 16, 15_244, 18_768),
        (10_000, 100, 24_747, 24_848),
    ],
)
def test_known_figures(steps: int, slots: int, known: int, unknown: int):
    """Steps that are advanced, the last one apart: of a loop with a known number of steps, and of one without."""
    assert fewest(steps, slots) == known
    assert steps - 1 + run_again(steps, slots) == unknown


@cache
def gradient_of_a_loop(**wish: int | str) -> Graph:
    """d/dy of y = sin(y) while i < n."""
    f = Builder()
    count, zero, start = f.input(Array(I64), "n"), number(f, 0), f.input(Array(F64), "y")

    def goes_on(h, carried):
        return h.less_equal(h.add(carried[0], number(h, 1)), count)

    def step(h, carried):
        return [h.add(carried[0], number(h, 1)), h.sin(carried[1])]

    end = f.while_([zero, start], goes_on, step, **wish)[1]
    g = Builder()
    inputs = [g.input(Array(I64), "n"), g.input(Array(F64), "y")]
    op = OPS["vjp"](function="f", wrt=(False, True), seeded=(True,))
    results = g.apply(op, *inputs, g.constant(1.0, F64), regions=[f.close([end])])
    region = g.close(results)
    formals = (Formal("n", Array(I64)), Formal("y", Array(F64)))
    graph = Graph("f", (), formals, Tuple(tuple(value.type for value in region.outputs)), region)
    return run_passes(expand(graph), OPTIMISE, verify=True)


def ops_run(graph: Graph, steps: int) -> Counter[str]:
    """How often each op is run."""
    seen: Counter[str] = Counter()
    evaluate(graph, [steps, 0.3], observer=lambda node, _: seen.update([node.op.name]))
    return seen


def drawn() -> list[tuple[int, int]]:
    """Numbers of steps up to 2000 and of slots up to 40, such that a test does not last long."""
    draw = random.Random(2)
    trips = [(steps, slots) for slots in (1, 2, 5) for steps in (0, 1, 2, slots - 1, slots, slots + 1, 10 * slots)]
    found = [*trips, (1000, 5), (1000, 10), (1000, 20)]
    while len(found) < 60:
        steps, slots = draw.randint(0, 2000), draw.randint(1, 40)
        if run_again(steps, slots) < 10_000:
            found.append((steps, slots))
    return found


@pytest.mark.parametrize(("steps", "slots"), drawn())
def test_as_many_steps_are_run_again_as_the_formula_says(steps: int, slots: int):
    graph = gradient_of_a_loop(slots=slots)
    seen = ops_run(graph, steps)
    assert seen["sin"] == steps + run_again(steps, slots)
    assert seen["cos"] == steps, "each step is reversed once"
    assert evaluate(graph, [steps, 0.3]) == evaluate(gradient_of_a_loop(), [steps, 0.3])


def test_one_slot_is_as_good_as_if_the_number_of_steps_were_known():
    assert all(steps - 1 + run_again(steps, 1) == fewest(steps, 1) for steps in range(1, 50))


@pytest.mark.parametrize("wish", [{"slots": 4}, {"every": 4}, {"budget": "400B"}])
def test_the_condition_is_asked_once_before_each_step(wish):
    for steps in (0, 1, 3, 4, 5, 40):
        seen = ops_run(gradient_of_a_loop(**wish), steps)
        assert seen["less_equal"] == steps + 1
        assert seen["cos"] == steps, "each step is reversed once"


def test_there_are_no_more_states_than_slots():
    """One row more holds the state that is just being reversed. The interpreter refuses an index beyond the rows."""
    graph = gradient_of_a_loop(slots=4)
    nodes = list(walk(graph.region))
    assert not any(isinstance(value.type, Tape) for node in nodes for value in node.results)
    kept = [node.result.type for node in nodes if node.op.name == "undefined" and node.result.type.shape]
    assert {type_.shape[0].constant for type_ in kept} == {5}
    assert sum(type_.dtype is F64 for type_ in kept) == 1, "the states"
    for steps in (0, 1, 4, 5, 6, 60, 61, 200):
        evaluate(graph, [steps, 0.3])


def test_a_wish_changes_what_is_stored_only():
    graph = gradient_of_a_loop(slots=4)
    wished = [node for node in walk(graph.region) if getattr(node.op, "has_wish", False)]
    assert wished == []
    assert replace(OPS["while"](), slots=3).keeps_less
    assert not OPS["while"](every=0).keeps_less
