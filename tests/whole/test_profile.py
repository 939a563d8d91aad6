"""`dgraph profile` and `step.profile`: runs and bytes are counted by hand; times add up to no more than the call."""

import json
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.cli import main
from dgraph.errors import ArgumentError, CheckFailed

LOOP = """
@entry
def swing[n](x: f64[n], steps: i32) -> f64:
    for t in range(steps):
        x = tanh(sum(x) * x)
    return sum(x)

@entry
def product[n](a: f64[n, n], b: f64[n, n]) -> f64[n, n] = a @ b

@entry
def checked[n](x: f64[n]) -> f64:
    assert sum(x) > 0
    return sum(x)

@entry
def double[n, T: float](x: T[n]) -> T[n] = 2 * x
"""


@pytest.fixture
def program() -> dg.Program:
    return dg.parse(LOOP, path="swing.dg")


def test_parts_run_as_often_as_the_loop(program: dg.Program):
    found = dg.compile(program.swing).profile(np.linspace(0.0, 1.0, 500), 7)
    kernels = [row for row in found.rows if row.name.startswith("kernel")]
    # The sum of each step and the last one only read; the new vector is written to another place.
    assert sorted((row.runs, row.bytes) for row in kernels) == [(1, 8 * 500), (7, 8 * 500), (7, 2 * 8 * 500)]
    (step,) = (row for row in kernels if row.places)
    assert (step.runs, step.places[0]["line"], step.places[0]["text"]) == (7, 5, "x = tanh(sum(x) * x)")
    assert all(row.seconds > 0 for row in kernels)
    assert sum(row.seconds for row in found.rows) <= found.seconds
    assert found.calls == 20


def test_no_steps_no_runs(program: dg.Program):
    found = dg.compile(program.swing).profile(np.ones(3), steps=0)
    assert [row.runs for row in found.rows if row.places and row.places[0]["line"] == 5] == [0] * 1


def test_products_are_parts(program: dg.Program):
    found = dg.compile(program.product).profile(np.eye(8), np.eye(8))
    (row,) = (row for row in found.rows if row.name.startswith("product"))
    assert (row.runs, row.bytes) == (1, 3 * 8 * 64)


def test_what_is_generic_takes_the_types_of_the_call(program: dg.Program):
    found = dg.compile(program.double).profile(np.ones(1000, np.float32))
    assert [row.bytes for row in found.rows] == [8000]


def test_a_check_fails_as_in_a_call(program: dg.Program):
    with pytest.raises(CheckFailed, match="sum"):
        dg.compile(program.checked).profile(-np.ones(3))


def test_some_runs_are_needed(program: dg.Program):
    from dgraph.program.profile import profile

    with pytest.raises(ArgumentError, match="ask for 1 or more"):
        profile(dg.compile(program.product), (np.eye(2), np.eye(2)), runs=0)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "swing.dg"
    path.write_text(LOOP, encoding="utf-8")
    options = ["profile", f"{path}:swing", "--arg", "x=[0.1, 0.2]", "--arg", "steps=3", "--runs", "2"]
    assert main([*options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["function"], found["calls"]) == ("swing", 2)
    assert {row["runs"] for row in found["rows"] if row["name"].startswith("kernel")} == {1, 3}
    assert main([*options, "--grad"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("value_and_grad(swing): ")
    assert "adjoint, line 5: x = tanh(sum(x) * x)" in text and "between them" in text
    assert main([*options[:-1], "0"]) == 1
    assert "ask for 1 or more" in capsys.readouterr().err
