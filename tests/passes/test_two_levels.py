"""The schedule for states in memory and on disk: its cost against a search over all schedules, and what is executed."""

import random
import sys
from collections import Counter
from functools import cache

import numpy as np
import pytest

import dgraph.ops
import dgraph.ops.disk
from dgraph.ad import expand
from dgraph.ir.build import Builder
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Formal, Graph
from dgraph.ir.op import OPS
from dgraph.ops.binomial import fewest
from dgraph.ops.two_levels import MOST, TwoLevels
from dgraph.passes import OPTIMISE, run_passes
from dgraph.types import F64, I64, Array, Tuple

sys.setrecursionlimit(20_000)
COSTS = [(0, 0), (1, 0), (5, 5), (2, 7), (30, 10)]


def least(steps: int, slots: int, disk: int, write: int, read: int) -> int:
    """The recursion for two levels over every n."""
    in_memory = np.array([fewest(n, slots) for n in range(steps + 1)])
    fresh = in_memory
    for _ in range(disk):
        stored = in_memory.copy()
        for n in range(2, steps + 1):
            far = np.arange(1, n)
            stored[n] = min(stored[n], int((far + fresh[n - far] + read + stored[far]).min()))
        fresh = np.minimum(in_memory, write + stored)
    return int(fresh[steps])


def work(plan: TwoLevels, steps: int) -> Counter[str]:
    """What the choices amount to: steps run again, states written and read, states on disk at once."""

    def joined(*parts: Counter[str], held: int) -> Counter[str]:
        total: Counter[str] = Counter()
        for part in parts:
            total.update({name: count for name, count in part.items() if name != "held"})
        total["held"] = held
        return total

    @cache
    def fresh(left: int, room: int) -> Counter[str]:
        if not plan.is_worth(left, room):
            return Counter(steps=fewest(left, plan.slots))
        rest = stored(left, room)
        return joined(Counter(written=1), rest, held=rest["held"])

    @cache
    def stored(left: int, room: int) -> Counter[str]:
        far = plan.advance(left, room)
        if far == 0:
            return Counter(steps=fewest(left, plan.slots), held=1)
        assert 0 < far < left
        rest, near = fresh(left - far, room - 1), stored(far, room)
        return joined(Counter(steps=far, read=1), rest, near, held=max(1 + rest["held"], near["held"]))

    return fresh(steps, plan.disk)


def cost(plan: TwoLevels, steps: int) -> int:
    found = work(plan, steps)
    return found["steps"] + plan.write * found["written"] + plan.read * found["read"]


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("slots", [1, 2, 3, 8])
def test_the_choices_are_the_best_of_all(costs: tuple[int, int], slots: int):
    for disk in (1, 2, 3, 5, 9, 40):
        plan = TwoLevels(slots, disk, *costs)
        for steps in (0, 1, 2, 3, 7, 20, 45, 46, 80):
            found = work(plan, steps)
            assert cost(plan, steps) == least(steps, slots, disk, *costs), (disk, steps)
            assert found["held"] <= disk


@pytest.mark.parametrize(("steps", "slots", "disk"), [(1700, 1, 6), (2999, 2, 20), (2500, 8, 20), (1500, 8, 60)])
def test_beyond_the_table_the_choices_are_nearly_the_best(steps: int, slots: int, disk: int):
    best = least(steps, slots, disk, 5, 5)
    assert best <= cost(TwoLevels(slots, disk), steps) <= 1.001 * best


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "slots", "disk"), [(5000, 2, 40), (5000, 1, 150), (4000, 2, 200)])
def test_far_beyond_the_table_the_choices_are_nearly_the_best(steps: int, slots: int, disk: int):
    best = least(steps, slots, disk, 5, 5)
    assert best <= cost(TwoLevels(slots, disk), steps) <= 1.02 * best


@pytest.mark.parametrize(("steps", "slots", "disk"), [(100_000, 8, 20), (1_000_000, 8, MOST), (300_000, 2, 1000)])
def test_long_loops(steps: int, slots: int, disk: int):
    found = work(TwoLevels(slots, disk), steps)
    assert found["held"] <= disk
    assert fewest(steps, slots + disk) <= found["steps"] < fewest(steps, slots) / 2


@cache
def gradient_of_a_loop(slots: int, disk: int) -> Graph:
    """d/dy of so many steps of y = sin(y)."""
    f = Builder()
    count, start = f.input(Array(I64), "n"), f.input(Array(F64), "y")
    (end,) = f.for_(count, [start], lambda h, _i, carried, _w: [h.sin(carried[0])], slots=slots, disk=disk)
    g = Builder()
    inputs = [g.input(Array(I64), "n"), g.input(Array(F64), "y")]
    op = OPS["vjp"](function="f", wrt=(False, True), seeded=(True,))
    _, slope = g.apply(op, *inputs, g.constant(1.0, F64), regions=[f.close([end])])
    formals = (Formal("n", Array(I64)), Formal("y", Array(F64)))
    graph = Graph("f", (), formals, Tuple((slope.type,)), g.close([slope]))
    return run_passes(expand(graph), OPTIMISE, verify=True)


def drawn() -> list[tuple[int, int, int, int]]:
    draw = random.Random(3)
    found = [
        (steps, slots, 2, 0) for slots in (1, 2, 5) for steps in (0, 1, 2, slots - 1, slots, slots + 1, 10 * slots)
    ]
    while len(found) < 45:
        steps, slots, disk, price = draw.randint(0, 1500), draw.randint(1, 9), draw.randint(1, 12), draw.choice([0, 5])
        if cost(TwoLevels(slots, disk, price, price), steps) < 8_000:
            found.append((steps, slots, disk, price))
    return found


@pytest.mark.parametrize(("steps", "slots", "disk", "price"), drawn())
def test_what_is_executed_is_what_was_chosen(
    steps: int, slots: int, disk: int, price: int, monkeypatch: pytest.MonkeyPatch
):
    plan = TwoLevels(slots, disk, price, price)
    monkeypatch.setattr(dgraph.ops.disk, "two_levels", lambda *_: plan)
    seen: Counter[str] = Counter()
    held = most = 0

    def watch(node, _):
        nonlocal held, most
        seen.update([node.op.name])
        held += node.op.name == "disk_write"
        most = max(most, held)

    graph = gradient_of_a_loop(slots, disk)
    (slope,) = evaluate(graph, [steps, 0.3], observer=watch)
    expected = work(plan, steps)
    assert seen["sin"] == expected["steps"]
    assert seen["cos"] == steps, "each step is reversed once"
    assert seen["disk_write"] == expected["written"]
    assert seen["disk_read"] == expected["read"]
    value, cosines = 0.3, []
    for _ in range(steps):
        cosines.append(np.cos(value))
        value = np.sin(value)
    wanted = 1.0
    for cosine in reversed(cosines):
        wanted *= cosine
    assert slope == wanted
