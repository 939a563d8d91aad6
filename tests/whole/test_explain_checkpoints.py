"""What `dgraph explain` foretells of checkpoints is what happens in runs."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import dgraph as dg
from dgraph.cli import main
from dgraph.ir.evaluate import evaluate
from dgraph.program.explain import explain as explained
from dgraph.program.pipeline import stage

FOR = """
def f(x: f64, n: i64, c: i64) -> f64:
    @checkpoint({})
    for t in range(n):
        x = sin(x)
    return x
"""

WHILE = """
def f(x: f64, n: i64, c: i64) -> f64:
    t = {start}
    @checkpoint({wish})
    while {condition}:
        x = sin(x)
        t {step}
    return x
"""

Told = tuple[dict, str]


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    def run(text: str, *options: str, **arguments: float) -> Told:
        path = tmp_path / "p.dg"
        path.write_text(text, encoding="utf-8")
        given = [part for name, value in arguments.items() for part in ("--arg", f"{name}={value}")]
        assert main(["explain", f"{path}:f", *given, *options, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert main(["explain", f"{path}:f", *given, *options]) == 0
        return found, capsys.readouterr().out

    return run


def seen_in_a_run(text: str, n: int, c: int) -> Counter[str]:
    """How often ops run in the gradient."""
    seen: Counter[str] = Counter()
    graph = stage(dg.grad(dg.parse(text).f).graph, "optimised")
    evaluate(graph, [0.3, n, c], observer=lambda node, _: seen.update([node.op.name]))
    return seen


@pytest.mark.parametrize(("n", "c"), [(0, 1), (1, 3), (40, 3), (41, 100), (200, 1)])
def test_a_computed_number_is_told_with_what_it_takes(told: Callable[..., Told], n: int, c: int):
    text = FOR.format("slots=2 * c")
    found, words = told(text, x=0.3, n=n, c=c)
    asked = found["loops"][0]["checkpoint"]
    assert (asked["value"], asked["number"]) == ("2 * c", min(2 * c, max(n, 1)))
    assert asked["advances"] == seen_in_a_run(text, n, c)["sin"]
    assert f"slots=2 * c, which is {min(2 * c, max(n, 1))}, a state has 8 bytes" in words


def test_without_its_arguments_it_is_told_as_it_is_written(told: Callable[..., Told]):
    for option in ("slots=c + 1", "every=c + 1"):
        found, words = told(FOR.format(option), n=40)
        asked = found["loops"][0]["checkpoint"]
        assert (asked["value"], asked["number"]) == ("c + 1", None)
        assert "advances" not in asked
        assert f"{option}, a state has 8 bytes" in words


@pytest.mark.parametrize(("n", "c", "d"), [(0, 1, 1), (1, 1, 1), (30, 1, 2), (300, 2, 5), (300, 3, 40), (1000, 1, 7)])
def test_states_on_disk_are_counted(told: Callable[..., Told], n: int, c: int, d: int):
    text = FOR.format(f"slots=c, disk={d}")
    found, words = told(text, x=0.3, n=n, c=c)
    asked, seen = found["loops"][0]["checkpoint"], seen_in_a_run(text, n, c)
    disk = asked["disk"]
    assert (disk["value"], disk["states"]) == (d, d)
    assert (asked["advances"], disk["writes"]) == (seen["sin"], seen["disk_write"])
    assert disk["reads"] == seen["disk_read"]
    assert "at most on disk" in words


@pytest.mark.parametrize(("n", "d"), [(1, 1), (30, 1), (200, 4)])
def test_states_that_a_while_writes_are_counted(told: Callable[..., Told], n: int, d: int):
    text = WHILE.format(start="0", condition="t < n", step="+= 1", wish=f"slots=c, disk={d}")
    found, words = told(text, x=0.3, n=n, c=2)
    asked, seen = found["loops"][0]["checkpoint"], seen_in_a_run(text, n, 2)
    assert asked["advances"] == seen["sin"]
    assert (asked["disk"]["writes"], asked["disk"]["reads"]) == (seen["disk_write"], seen["disk_read"])
    assert "at most on disk" in words


def test_an_amount_on_disk(told: Callable[..., Told]):
    asked = told(FOR.format('slots=2, disk="2kB"'), x=0.3, n=500, c=1)[0]["loops"][0]["checkpoint"]
    assert asked["disk"]["states"] == 2000 // (8 + 16)


COUNTERS = [
    ("0", "t < n", "+= 1", lambda n: n),
    ("0", "t <= n", "+= 1", lambda n: n + 1),
    ("2", "n > t", "+= 3", lambda n: max(-(-(n - 2) // 3), 0)),
    ("n", "t > 0", "-= 1", lambda n: n),
    ("2 * n", "t >= n", "-= 2", lambda n: n // 2 + 1),
    ("n", "0 < t", "-= 1", lambda n: n),
]


@pytest.mark.parametrize(("start", "condition", "step", "trips"), COUNTERS)
def test_a_while_that_counts_has_a_schedule(told: Callable[..., Told], start, condition, step, trips):
    text = WHILE.format(start=start, condition=condition, step=step, wish="slots=c")
    for n, c in ((30, 3), (0, 1), (9, 50)):
        loop = told(text, x=0.3, n=n, c=c)[0]["loops"][0]
        assert loop["steps"]["number"] == trips(n)
        assert loop["checkpoint"]["advances"] == seen_in_a_run(text, n, c)["sin"]


@pytest.mark.parametrize("condition", ["t < n and x > 0", "x > 0 and t < n", "x > 0 and t < n and x < 5"])
def test_of_a_while_with_more_in_its_condition_the_most_is_told(told: Callable[..., Told], condition: str):
    text = WHILE.format(start="0", condition=condition, step="+= 1", wish="slots=4")
    found, words = told(text, x=0.3, n=60, c=1)
    loop = found["loops"][0]
    assert loop["steps"]["number"] is None
    assert loop["checkpoint"]["at_most"] == 60
    assert loop["checkpoint"]["advances"] == seen_in_a_run(text, 60, 1)["sin"]
    assert "if there are 60 steps, " in words


@pytest.mark.parametrize(
    ("condition", "step"),
    [("x > 0.2", "+= 1"), ("t < n or x > 0.2", "+= 1"), ("t < n", "-= 1"), ("t < i64(floor(10 * x))", "+= 1")],
)
def test_of_other_whiles_nothing_is_told(condition: str, step: str):
    text = WHILE.format(start="0", condition=condition, step=step, wish="slots=4")
    loop = explained(dg.parse(text).f, arguments={"x": 0.3, "n": 60, "c": 1})["loops"][0]
    assert loop["steps"]["number"] is None
    assert not {"at_most", "advances"} & loop["checkpoint"].keys()


def test_a_limit_that_the_loop_changes_is_none():
    text = WHILE.format(start="0", condition="t < n", step="+= 1\n        n = n - i64(floor(x))", wish="slots=4")
    loop = explained(dg.parse(text).f, arguments={"x": 0.3, "n": 60, "c": 1})["loops"][0]
    assert loop["steps"]["number"] is None


FREE = FOR.replace("    @checkpoint({})\n", "")


def test_what_a_budget_chooses_is_what_a_call_chooses(told: Callable[..., Told]):
    step = dg.compile(dg.value_and_grad(dg.parse(FREE).f), budget="20kB")
    found, words = told(FREE, "--budget", "20kB", x=0.3, n=100_000, c=1)
    choice = step.choice(0.3, 100_000, 1)
    assert found["choice"]["fits"]
    assert {name: found["choice"][name] for name in ("budget", "peak", "slowdown", "again")} == {
        name: choice[name] for name in ("budget", "peak", "slowdown", "again")
    }
    (mine,), (other,) = found["choice"]["loops"], choice["loops"]
    assert (mine["keeps"], mine["number"]) == (other["keeps"], other["number"])
    assert f"keeps a state every {mine['number']} steps" in words


def test_a_budget_that_is_too_small_or_ample(told: Callable[..., Told]):
    found, words = told(FREE, "--budget", "100B", x=0.3, n=1000, c=1)
    assert not found["choice"]["fits"]
    assert "needs at least" in words
    found, words = told(FREE, "--budget", "1MB", x=0.3, n=1000, c=1)
    assert (found["choice"]["fits"], found["choice"]["loops"]) == (True, [])
    assert "all is kept" in words
    assert told(FREE, "--budget", "1MB", n=1000)[0]["choice"] is None
    assert told(FREE, x=0.3, n=1000, c=1)[0]["choice"] is None
