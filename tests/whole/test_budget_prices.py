"""A budget makes the steps of loops keep less: the cheapest bytes go first, no bit differs, the peak is foretold."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.program import budget_search

from .test_budget import assert_same_bits, checked

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

def two[n](x: f64[n], w: f64, steps: size) -> f64:
    for t in range(steps):
        x = x + 0.01 * sin(x) * exp(-w * x)
    for t in range(2 * steps):
        x = 0.9 * x + 0.01 * cos(x) * tanh(w * x)
    return sum(x * x)
"""
)

WIDE = dg.value_and_grad(PROGRAMS.wide, wrt=("x", "w"))
TWO = dg.value_and_grad(PROGRAMS.two, wrt=("x", "w"))


def given(n: int, steps: int) -> tuple:
    return np.linspace(-1, 1, n), 1.3, steps


def test_a_step_keeps_less_before_its_loop_runs_again():
    free = dg.compile(WIDE)
    arguments = given(2000, 60)
    expected, whole = free(*arguments), free.memory(*arguments).peak
    choices = []
    for share in (0.9, 0.5, 0.25, 0.15):
        limit = int(whole * share)
        choices.append(checked(dg.compile(WIDE, budget=f"{limit}B"), limit, arguments, expected))
    assert [bool(choice["loops"]) for choice in choices] == [False, False, False, True]
    bytes_ = [choice["steps"][0]["bytes"] for choice in choices[:3]]
    assert bytes_ == sorted(bytes_, reverse=True)
    assert bytes_[0] > bytes_[-1] == 16_000, "the state alone"
    slow = [choice["slowdown"] for choice in choices]
    assert slow == sorted(slow)
    assert slow[2] < 1.2 < slow[3], "less than a run of all steps"


def test_one_of_two_loops_keeps_less_where_that_is_enough():
    free = dg.compile(TWO)
    arguments = given(2000, 60)
    expected, whole = free(*arguments), free.memory(*arguments).peak
    found = [
        checked(dg.compile(TWO, budget=f"{int(whole * share)}B"), int(whole * share), arguments, expected)
        for share in (0.85, 0.5)
    ]
    assert len(found[0]["steps"]) == 1
    assert len(found[1]["steps"]) == 2
    assert found[0]["slowdown"] < found[1]["slowdown"]


def test_what_is_chosen_serves_until_the_peak_would_break_the_budget(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("DGRAPH_CACHE_DIR", str(tmp_path))
    asked = []
    search = budget_search.choose

    def noted(*facts):
        asked.append(facts)
        return search(*facts)

    monkeypatch.setattr(budget_search, "choose", noted)
    free = dg.compile(WIDE)
    whole = free.memory(*given(2000, 60)).peak
    limit = whole // 2
    step = dg.compile(WIDE, budget=f"{limit}B")
    for n, steps, times in ((2000, 60, 1), (2000, 50, 1), (1000, 100, 1), (10, 3, 1), (2000, 160, 2), (2000, 60, 2)):
        checked(step, limit, given(n, steps), free(*given(n, steps)))
        assert len(asked) == times, (n, steps)


def test_blocks_of_steps_keep_less_of_each_step_too():
    free = dg.compile(WIDE)
    arguments = given(2000, 100)
    expected = free(*arguments)
    needed = None
    for limit in (620_000, 560_000, 500_000):
        choice = checked(dg.compile(WIDE, budget=f"{limit}B"), limit, arguments, expected)
        assert choice["loops"]
        needed = choice if choice["loops"][0]["keeps"] == "every" and choice["steps"] else needed
    assert needed is not None


def test_second_derivatives_keep_less_of_a_step():
    bent = dg.hvp(PROGRAMS.wide, wrt="x")
    arguments = (*given(500, 20), np.ones(500))
    free = dg.compile(bent)
    limit = free.memory(*arguments).peak // 2
    assert checked(dg.compile(bent, budget=f"{limit}B"), limit, arguments, free(*arguments))["steps"]


def test_a_budget_that_all_keeps_within_changes_nothing():
    free, step = dg.compile(WIDE), dg.compile(WIDE, budget="1GB")
    arguments = given(100, 10)
    assert_same_bits(step(*arguments), free(*arguments))
    assert step.choice(*arguments)["steps"] == []
    assert step.source == free.source


def test_what_a_budget_has_left_keeps_single_values():
    """Between two points that prices choose: one array more than the slower one fits."""
    free = dg.compile(WIDE)
    arguments = given(2000, 60)
    expected = free(*arguments)
    found = {}
    for arrays in (1, 2, 3, 4, 5):
        limit = 60 * 16_000 * arrays + 130_000
        choice = checked(dg.compile(WIDE, budget=f"{limit}B"), limit, arguments, expected)
        assert not choice["loops"]
        found[arrays] = choice["steps"][0]["bytes"] if choice["steps"] else 80_000
    assert found == {1: 16_000, 2: 32_000, 3: 48_000, 4: 64_000, 5: 80_000}
