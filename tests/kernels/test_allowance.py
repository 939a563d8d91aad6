"""Settings within a budget: as many slots as fit, and never a step more than the schedule needs."""

from functools import cache

import pytest

from dgraph.kernels.allowance import Allowance, OverBudget, Setting, slots_for
from dgraph.kernels.demand import Memory
from dgraph.ops.binomial import fewest, most_runs
from dgraph.sizes import size, variable


@cache
def least_steps(steps, slots):
    """The least number of advances, by trying where to store next."""
    if steps <= 1:
        return 0
    if slots == 1:
        return steps * (steps - 1) // 2
    return min(at + least_steps(at, slots) + least_steps(steps - at, slots - 1) for at in range(1, steps))


def test_steps_again_are_the_least_possible():
    for steps in range(1, 45):
        for slots in range(1, 9):
            assert fewest(steps, slots) == least_steps(steps, slots)
    assert fewest(1000, 10) == 3636
    assert fewest(10**6, 1) == 10**6 * (10**6 - 1) // 2
    assert fewest(0, 3) == 0


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 99, 100, 101, 5000, 10**6])
def test_the_fewest_slots_for_a_number_of_runs(steps):
    for runs in (1, 2, 3, 7, 50, 4000):
        slots = slots_for(steps, runs)
        assert most_runs(steps, slots) <= runs
        assert slots == 1 or runs > 100 or most_runs(steps, slots - 1) > runs


def memory_of(states, entries):
    """Memory of loops with slots and with blocks."""

    def memory(numbers):
        arena = 0
        for name, number in numbers.items():
            steps = int(name.partition("_")[2])
            arena += (number + 1) * states if name[0] == "s" else -(-steps // number) * states + number * entries
        return Memory(arena, 8, 0)

    return memory


def test_settings_fill_the_budget_and_do_not_exceed_it():
    memory = memory_of(100, 300)
    for budget in (300, 1000, 5000, 100_000):
        allowance = Allowance(budget, (Setting("s_400", "slots", size(400), 1.0),), 10.0)
        numbers = allowance.chosen(memory, {})
        assert memory(numbers).peak <= budget
        assert numbers["s_400"] == 400 or memory({"s_400": numbers["s_400"] + 1}).peak > budget
        assert allowance.slowdown(numbers, {}) == (10.0 + fewest(400, numbers["s_400"])) / 10.0
    with pytest.raises(OverBudget):
        Allowance(207, (Setting("s_400", "slots", size(400), 1.0),)).chosen(memory, {})


def test_blocks_are_as_long_as_needs_least():
    memory = memory_of(100, 300)
    found = Allowance(10_000, (Setting("e_300", "every", variable("n"), 1.0),)).chosen(memory, {"n": 300})
    best = min(range(1, 301), key=lambda each: memory({"e_300": each}).peak)
    assert memory(found).peak <= 1.02 * memory({"e_300": best}).peak


def test_loops_share_a_budget_by_how_often_their_steps_run():
    memory = memory_of(100, 0)
    settings = tuple(Setting(f"s_{steps}", "slots", size(steps), 1.0) for steps in (1000, 10))
    numbers = Allowance(4000, settings).chosen(memory, {})
    assert memory(numbers).peak <= 4000
    assert numbers["s_10"] >= 2
    assert max(most_runs(1000, numbers["s_1000"]), most_runs(10, numbers["s_10"])) <= 3


def test_what_cannot_be_foretold_is_over_every_budget():
    def memory(_numbers):
        return Memory(8, 8, 0, (("here", 8),))

    with pytest.raises(OverBudget):
        Allowance(10**9).chosen(memory, {})
