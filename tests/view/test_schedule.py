"""Schedules: what is drawn of a loop is what its gradient does."""

from math import comb
from pathlib import Path

import pytest

import dgraph as dg
from dgraph.errors import ArgumentError
from dgraph.program.schedules import MOST_STEPS, schedules_of
from dgraph.view import Schedule

PROGRAM = """
def plain(y: f64, n: size) -> f64:
    for i in range(n):
        y = sin(y)
    return y

def slots(y: f64, n: size) -> f64:
    @checkpoint(slots=4)
    for i in range(n):
        y = sin(y)
    return y

def every(y: f64, n: size) -> f64:
    @checkpoint(every=5)
    for i in range(n):
        y = sin(y)
    return y

def within(y: f64, n: size) -> f64:
    @checkpoint(budget="100B")
    for i in range(n):
        y = sin(y)
    return y

def on_disk(y: f64, n: size) -> f64:
    @checkpoint(slots=2, disk=3)
    for i in range(n):
        y = sin(y)
    return y

def online(y: f64) -> f64:
    @checkpoint(slots=3)
    while y > 0.1:
        y = sin(y)
    return y

def online_on_disk(y: f64) -> f64:
    @checkpoint(slots=2, disk=3)
    while y > 0.1:
        y = sin(y)
    return y

def halving(y: f64) -> f64:
    while y > 1.0:
        y = y / 2.0
    return y

def nested(y: f64, n: size) -> f64:
    for i in range(3):
        @checkpoint(every=2)
        for j in range(n):
            y = sin(y)
    return y

def flat(y: f64) -> f64 = y * y

def slope(y: f64, n: size) -> f64 = grad(slots)(y, n)
"""


@pytest.fixture(scope="module")
def program() -> dg.Program:
    return dg.parse(PROGRAM)


def of(program: dg.Program, name: str, **arguments: float) -> Schedule:
    (found,) = schedules_of(program.function(name), {"y": 0.5, **arguments})
    return found


def fewest(steps: int, slots: int) -> int:
    turns = next(turns for turns in range(1, steps + 1) if comb(slots + turns, slots) >= steps)
    return turns * steps - comb(slots + turns, slots + 1)


def orders(schedule: Schedule, *kinds: str) -> list[int]:
    return [act.step for act in schedule.acts if act.kind in kinds]


@pytest.mark.parametrize("name", ["plain", "slots", "every"])
@pytest.mark.parametrize("steps", [0, 1, 2, 5, 6, 23])
def test_every_step_is_reversed_once_from_the_last_to_the_first(program: dg.Program, name: str, steps: int):
    schedule = of(program, name, n=steps)
    assert orders(schedule, "reverse") == list(reversed(range(steps)))
    assert set(orders(schedule, "advance", "tape")) == set(range(steps))


def test_a_plain_loop_runs_each_step_once_and_keeps_all(program: dg.Program):
    schedule = of(program, "plain", n=12)
    assert orders(schedule, "tape") == list(range(12))
    assert not orders(schedule, "advance")
    assert schedule.again == 0
    assert max(schedule.counts("residuals")) == 12
    assert not any(schedule.counts("state"))


@pytest.mark.parametrize("steps", [2, 9, 36, 100])
def test_slots_advance_as_few_steps_as_can_be(program: dg.Program, steps: int):
    schedule = of(program, "slots", n=steps)
    assert len(orders(schedule, "advance")) == schedule.again == fewest(steps, 4)
    assert max(schedule.counts("state")) == min(steps, 5), "and the state of the step that is being reversed"
    assert max(schedule.counts("residuals")) == 1


def test_blocks_keep_their_starts_and_the_residuals_of_one_block(program: dg.Program):
    schedule = of(program, "every", n=23)
    assert orders(schedule, "advance") == list(range(23))
    assert sorted({item.step for item in schedule.kept if item.place == "state"}) == [0, 5, 10, 15, 20]
    assert max(schedule.counts("residuals")) == 5
    assert schedule.again == 23


def test_a_budget_is_a_number_of_slots(program: dg.Program):
    """A state is a number and the order of its step; one more state is at work."""
    schedule = of(program, "within", n=60)
    assert schedule.title == "for in line 21: @checkpoint(budget=100B)"
    assert schedule.again == fewest(60, 100 // 16 - 1)


def test_states_on_disk_are_drawn(program: dg.Program):
    schedule = of(program, "on_disk", n=100)
    assert schedule.title == "for in line 27: @checkpoint(slots=2, disk=3)"
    assert max(schedule.counts("disk")) == 3
    assert max(schedule.counts("state")) == 3, "two, and that of the step that is being reversed"
    assert fewest(100, 5) <= schedule.again < fewest(100, 2)
    assert orders(schedule, "reverse") == list(reversed(range(100)))


def test_the_states_of_a_while_are_placed_as_it_runs(program: dg.Program):
    schedule = of(program, "online")
    assert schedule.steps > 200
    assert max(schedule.counts("state")) == 4
    assert orders(schedule, "reverse") == list(reversed(range(schedule.steps)))
    assert schedule.again >= fewest(schedule.steps, 3)


def test_the_states_that_a_while_writes_are_drawn(program: dg.Program):
    """Two in memory, and one that is being reversed."""
    schedule = of(program, "online_on_disk")
    assert max(schedule.counts("disk")) == 3
    assert max(schedule.counts("state")) == 3
    assert orders(schedule, "reverse") == list(reversed(range(schedule.steps)))


def test_the_trips_of_a_while_and_of_an_inner_loop_are_found(program: dg.Program):
    assert of(program, "halving", y=100.0).steps == 7
    inner = of(program, "nested", n=4)
    assert inner.steps == 4
    assert inner.title == "for in line 51: @checkpoint(every=2)"


@pytest.mark.parametrize(
    ("name", "arguments", "title"),
    [
        ("flat", {}, "flat has no loop"),
        ("slope", {"n": 3}, "slope is not drawn: it differentiates, or maps, a function"),
        ("plain", {"n": MOST_STEPS + 1}, "a schedule of 2,001 steps cannot be read"),
    ],
)
def test_what_cannot_be_drawn_is_said(program: dg.Program, name: str, arguments: dict[str, float], title: str):
    with pytest.raises(ArgumentError) as fault:
        schedules_of(program.function(name), {"y": 0.5, **arguments})
    assert fault.value.diagnostics[0].title == title


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_picture_is_written(program: dg.Program, tmp_path: Path, suffix: str):
    path = tmp_path / f"schedule{suffix}"
    program.function("slots").draw(path, stage="schedule", y=0.5, n=20)
    assert path.stat().st_size > 2000


def test_a_schedule_is_no_graph(program: dg.Program, tmp_path: Path):
    with pytest.raises(ArgumentError, match=r"cannot be written as `\.dot`"):
        program.function("slots").draw(tmp_path / "schedule.dot", stage="schedule", y=0.5, n=20)
    assert not list(tmp_path.iterdir())
