"""`dgraph explain` as a person uses it: what it says is counted by hand, and watched in runs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.cli import main
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.rooms import arrange
from dgraph.ops.binomial import fewest, most_runs
from dgraph.program.pipeline import stage

Explain = Callable[..., dict]


@pytest.fixture
def explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Explain:
    def run(text: str, *options: str, code: int = 0):
        path = tmp_path / "program.dg"
        path.write_text(text, encoding="utf-8")
        assert main(["explain", str(path), *options, "--json"]) == code
        found = capsys.readouterr()
        # People get the same without a fault.
        assert main(["explain", str(path), *options]) == code
        capsys.readouterr()
        return json.loads(found.out) if code == 0 else found.err

    return run


def numbers(amounts: dict) -> dict:
    return {name: amount["number"] for name, amount in amounts.items() if isinstance(amount, dict)}


def test_costs_are_counted_by_hand(explain: Explain, tmp_path: Path):
    np.save(tmp_path / "x.npy", np.ones((30, 20)))
    np.save(tmp_path / "w.npy", np.ones((20, 10)))
    text = "def main[n, d, k](w: f64[d, k], x: f64[n, d]) -> f64 = sum(tanh(x @ w))\n"
    found = explain(text, "--arg", f"w=@{tmp_path}/w.npy", "--arg", f"x=@{tmp_path}/x.npy")
    assert found["sizes"] == {"n": 30, "d": 20, "k": 10}
    assert found["derivative"] == "value_and_grad(main)"
    assert found["cost"]["function"]["products"] == {"formula": "2 * d * k * n", "number": 2 * 30 * 20 * 10}
    assert found["cost"]["derivative"]["products"]["number"] == 4 * 30 * 20 * 10
    # A tanh and, in the sum, an addition for each entry.
    assert found["cost"]["function"]["operations"]["number"] == 11 * 30 * 10
    assert numbers(found["memory"]["function"])["arguments"] == 8 * (30 * 20 + 20 * 10)
    assert numbers(found["memory"]["derivative"])["results"] == 8 * (1 + 20 * 10)
    assert found["cost"]["ratio"] > 1


def test_without_arguments_there_are_formulas(explain: Explain):
    found = explain("def main[n](x: f64[n]) -> f64 = sum(exp(x) * x)\n")
    assert found["cost"]["function"]["operations"] == {"formula": "12 * n", "number": None}
    assert found["cost"]["function"]["seconds"] is None
    assert found["curve"] is None
    assert "ratio" not in found["cost"]


def test_not_all_arguments_have_to_be_given(explain: Explain):
    text = "def main[n](x: f64[n], y: f64[n], scale: f64) -> f64 = sum(scale * x * y)\n"
    found = explain(text, "--arg", "x=[1, 2, 3]")
    assert found["sizes"] == {"n": 3}
    assert found["cost"]["function"]["operations"]["number"] == 9


def test_the_arena_is_the_one_that_is_planned(explain: Explain):
    text = "def main[n](x: f64[n]) -> f64 = sum(sort(x)[i] * cumsum(exp(x))[i] for i)\n"
    found = explain(text, "--arg", f"x={list(range(1, 101))}")
    graph = dg.value_and_grad(dg.parse(text).function("main")).graph
    program = plan_graph(stage(graph, "kernels"))
    planned = arrange(tuple(program.rooms.values()), {"n": 100}.__getitem__).total
    assert found["memory"]["derivative"]["arena"]["number"] == planned


LOOP = """
def main[n](x: f64[n], w: f64, steps: size) -> f64:
    for t in range(steps):
        y = sin(w * x)
        x = x + 0.1 * y * y
    return sum(x ** 2)
"""


def test_what_a_loop_keeps_stands_with_its_line(explain: Explain):
    found = explain(LOOP, "--arg", "x=[1, 2, 3]", "--arg", "steps=7", "--wrt", "w,x")
    (loop,) = found["loops"]
    assert (loop["line"], loop["text"], loop["steps"]["number"]) == (3, "for t in range(steps):", 7)
    assert loop["kept"]
    assert all(row["bytes"] == {"formula": "8 * n", "number": 24} for row in loop["kept"])
    assert {row["line"] for row in loop["kept"]} <= {3, 4, 5}
    assert loop["carried"] == ["x"]
    kept = sum(row["bytes"]["number"] for row in loop["kept"]) * 7
    assert found["memory"]["derivative"]["tapes"]["number"] + found["memory"]["derivative"]["arena"]["number"] >= kept
    assert all(row["ops"] for row in loop["again"])


def test_what_a_loop_reads_for_nothing(explain: Explain):
    text = """
def main[n](x: f64[n], y: f64, rates: f64[n]) -> f64:
    for t in range(n):
        y = sin(y) * rates[t]
    return y
"""
    (loop,) = explain(text, "--wrt", "y")["loops"]
    assert "rates" in loop["free"]
    assert [row["bytes"]["formula"] for row in loop["kept"]] == ["8"] * len(loop["kept"])


@pytest.mark.parametrize(("option", "states"), [("slots=5", 5), ('budget="400B"', 400 // (24 + 8) - 1)])
def test_checkpoints_are_told_before_they_run(explain: Explain, option: str, states: int):
    text = LOOP.replace("    for", f"    @checkpoint({option})\n    for")
    found = explain(text, "--arg", "x=[1, 2, 3]", "--arg", "steps=200")
    (loop,) = found["loops"]
    asked = loop["checkpoint"]
    assert asked["state"] == {"formula": "8 * n", "number": 24}
    assert asked["states"] == states
    assert asked["advances"] == fewest(200, states)
    assert asked["repetitions"] == most_runs(200, states)
    assert found["cost"]["derivative"]["again"] > 0


def test_every_keeps_blocks(explain: Explain):
    text = LOOP.replace("    for", "    @checkpoint(every=15)\n    for")
    (loop,) = explain(text, "--arg", "x=[1, 2, 3]", "--arg", "steps=200")["loops"]
    assert (loop["checkpoint"]["states"], loop["checkpoint"]["advances"]) == (14, 200)
    none = LOOP.replace("    for", "    @checkpoint(none)\n    for")
    (loop,) = explain(none, "--arg", "x=[1, 2, 3]", "--arg", "steps=200")["loops"]
    assert loop["checkpoint"] == {"option": "every", "value": 0}


def test_the_schedule_is_the_least():
    def by_trial(steps: int, slots: int) -> int:
        if steps <= 1:
            return 0
        if slots == 1:
            return steps * (steps - 1) // 2
        return min(far + by_trial(far, slots) + by_trial(steps - far, slots - 1) for far in range(1, steps))

    assert all(fewest(n, c) == by_trial(n, c) for n in range(12) for c in range(1, 5))
    # A worked number of Griewank and Walther: 10 steps, 3 slots.
    assert (fewest(10, 3), most_runs(10, 3)) == (15, 2)


def test_trips_that_only_the_run_decides_have_a_name(explain: Explain):
    text = "def main(a: f64) -> f64:\n    x = a\n    while x * x > 2.0:\n        x = 0.5 * x\n    return x\n"
    found = explain(text, "--arg", "a=100")
    assert found["loops"][0]["steps"] == {"formula": "trips3", "number": None}
    assert found["cost"]["function"]["assumed"] == ["trips3"]
    assert found["cost"]["function"]["operations"]["number"] is None


PREFIX = """
def main[n](x: f64[n], old: f64[n]) -> f64:
    z = old
    for i in range(1, n):
        z[i] = z[i - 1] * x[i]
    return {result}
"""


def test_a_copy_that_could_not_be_avoided_is_told(explain: Explain):
    """The update starts from an argument: once, before the loop, a copy has to be made."""
    found = explain(PREFIX.format(result="sum(z)"), "--arg", "x=[1, 2, 3]")
    assert [(row["line"], row["each_step"]) for row in found["copies"]] == [(4, False)]
    assert found["copies"][0]["bytes"] == {"formula": "8 * n", "number": 24}
    assert "argument" in found["copies"][0]["why"]


def test_an_update_in_place_is_no_copy(explain: Explain):
    text = PREFIX.format(result="sum(z)").replace("z = old", "z = exp(old)")
    assert explain(text)["copies"] == []


def test_an_old_value_that_is_read_later_costs_a_copy(explain: Explain):
    text = """
def main[n](x: f64[n]) -> f64[n]:
    z = exp(x)
    y = z
    y[0] = 2.0
    return y + z
"""
    (copy,) = explain(text)["copies"]
    assert (copy["line"], copy["why"]) == (5, "its old value is read later")


def test_fused_ops_stand_with_their_lines(explain: Explain):
    text = "def main[n](x: f64[n]) -> f64[n]:\n    y = exp(x)\n    z = y * x\n    return z + sin(z)\n"
    (kernel,) = explain(text)["kernels"]
    assert kernel["lines"] == [2, 3, 4]
    assert kernel["ops"] == {"exp": 1, "mul": 1, "add": 1, "sin": 1}
    assert (kernel["kind"], kernel["over"]) == ("nest", ["n"])


DEEP = "def main[n, m](w: f64[8, m, m], x: f64[n, m]) -> f64:\n" + "".join(
    f"    x = tanh(x @ w[{at}])\n" for at in range(8)
)


def test_the_curve_and_the_point_that_a_budget_chooses(explain: Explain, tmp_path: Path):
    np.save(tmp_path / "w.npy", np.ones((8, 6, 6)))
    np.save(tmp_path / "x.npy", np.ones((200, 6)))
    arguments = ["--arg", f"w=@{tmp_path}/w.npy", "--arg", f"x=@{tmp_path}/x.npy"]
    found = explain(DEEP + "    return sum(x)\n", *arguments)
    points = found["curve"]["points"]
    assert len(points) >= 2
    assert [point["bytes"] for point in points] == sorted((point["bytes"] for point in points), reverse=True)
    assert [point["seconds"] for point in points] == sorted(point["seconds"] for point in points)
    assert points[0]["chosen"]
    assert points[0]["again"] == []
    assert {at["line"] for at in points[-1]["again"]} <= set(range(2, 10))
    # A budget is for the results too.
    budget = points[-2]["bytes"] + found["memory"]["derivative"]["results"]["number"]
    curve = explain(DEEP + "    return sum(x)\n", *arguments, "--budget", f"{budget}B")["curve"]
    (taken,) = (point for point in curve["points"] if point["chosen"])
    assert taken["bytes"] == points[-2]["bytes"]
    assert curve["fits"]
    assert not explain(DEEP + "    return sum(x)\n", *arguments, "--budget", "1kB")["curve"]["fits"]


def test_a_function_that_differentiates_itself_is_explained_as_it_is(explain: Explain):
    text = "def loss[n](x: f64[n]) -> f64 = sum(x ** 3)\n\ndef main[n](x: f64[n]) -> f64[n] = grad(loss)(x)\n"
    found = explain(text, "--arg", "x=[1, 2]")
    assert found["derivative"] is None
    assert list(found["cost"]) == ["function"]


def test_faults_are_diagnostics(explain: Explain):
    text = "def main[n](x: f64[n]) -> f64 = sum(x)\n"
    assert "is no amount of memory" in explain(text, "--budget", "much", code=1)
    assert "has no argument `y`" in explain(text, "--arg", "y=1", code=1)
    assert "has no formal `z`" in explain(text, "--wrt", "z", code=1)


@pytest.mark.parametrize("name", sorted(path.name for path in (Path(__file__).parents[1] / "programs").glob("*.dg")))
def test_every_program_of_the_tests_can_be_explained(name: str, capsys: pytest.CaptureFixture[str]):
    path = Path(__file__).parents[1] / "programs" / name
    for function in list(dg.load(path).module.functions)[-2:]:
        code = main(["explain", f"{path}:{function}"])
        assert code == 0, capsys.readouterr().err


WIDE = """
def main[n](x: f64[n], w: f64, steps: size) -> f64:
    for t in range(steps):
        a = sin(w * x)
        b = exp(-x * x)
        x = x + 0.01 * (a * b + tanh(x + a) * x)
    return sum(x * x)
"""


def test_the_curve_of_a_step_and_the_point_that_a_budget_chooses(explain: Explain, tmp_path: Path):
    np.save(tmp_path / "x.npy", np.linspace(-1, 1, 2000))
    arguments = ["--wrt", "x", "--arg", f"x=@{tmp_path}/x.npy", "--arg", "w=1.3", "--arg", "steps=100"]
    (loop,) = explain(WIDE, *arguments)["loops"]
    points = loop["curve"]
    assert [point["chosen"] for point in points] == [True] + [False] * (len(points) - 1)
    assert points[0]["bytes"] == sum(row["bytes"]["number"] for row in loop["kept"])
    assert [point["bytes"] for point in points] == sorted((point["bytes"] for point in points), reverse=True)
    assert [point["seconds"] for point in points] == sorted(point["seconds"] for point in points)
    assert points[-1]["bytes"] == 16_000, "the state"
    # Half of the memory: less of each step.
    found = explain(WIDE, *arguments, "--budget", f"{points[0]['bytes'] * 50}B")
    (loop,) = found["loops"]
    (taken,) = (point for point in loop["curve"] if point["chosen"])
    assert taken["bytes"] == sum(row["bytes"]["number"] for row in loop["kept"]) < points[0]["bytes"]
    assert [row["bytes"] for row in found["choice"]["steps"]] == [taken["bytes"]]
    assert {row["line"] for row in loop["again"]} == {4, 5, 6}
    # A tenth: a state at the start of each block.
    found = explain(WIDE, *arguments, "--budget", f"{points[0]['bytes'] * 15}B")
    assert [row["keeps"] for row in found["choice"]["loops"]] == ["every"]
    (loop,) = found["loops"]
    assert sum(point["chosen"] for point in loop["curve"]) == 1
