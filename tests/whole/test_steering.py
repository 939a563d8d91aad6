"""Schedules: what `explain` tells of them, and forcing or forbidding what is chosen by cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.cli import main

TEXT = """
@entry
def energy[n, d, k](x: f64[n, d], c: f64[k, d], w: f64[d, d]) -> f64:
    y = x @ w
    far[i, j] = sum((y[i, r] - c[j, r]) ** 2 for r)
    return sum(logsumexp(-far[i, j] for j) for i)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "energy.dg"
    found.write_text(TEXT, encoding="utf-8")
    return found


@pytest.fixture
def values() -> list[np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    return [random.normal(size=shape) for shape in ((203, 7), (5, 7), (7, 7))]


@pytest.mark.parametrize(
    "schedule",
    [{"lanes": "off"}, {"lanes": "on"}, {"products": "off"}, {"blocks": "off"}, {"lanes": "off", "products": "off"}],
)
def test_a_steered_schedule_computes_the_same(values: list[Any], schedule: dict[str, str]) -> None:
    slope = dg.value_and_grad(dg.parse(TEXT).energy, ("x", "c", "w"))
    value, slopes = slope(*values)
    steered_value, steered = dg.compile(slope, schedule=schedule)(*values)
    np.testing.assert_allclose(steered_value, value, rtol=1e-13)
    for one, other in zip(steered, slopes, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-15)


def explained(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    assert main(["explain", str(path), *options, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["schedule"]
    assert isinstance(rows, list)
    return rows


def test_explain_tells_what_was_considered_and_taken(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = explained(path, capsys)
    choices = [(row, ways) for row in rows for ways in row["considered"]]
    assert choices
    for row, ways in choices:
        (taken,) = [way for way in ways if way["taken"]]
        assert taken["cost"] == min(way["cost"] for way in ways)
        assert row["lanes"] or taken["way"] == "vectors in its inner loops"
    assert any(row["line"] == 5 for row in rows)


def test_explain_follows_the_steering(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert any(row["lanes"] for row in explained(path, capsys))
    assert sum(row["products"] for row in explained(path, capsys)) > 0
    assert not any(row["lanes"] for row in explained(path, capsys, "--schedule", "lanes=off"))
    assert sum(row["products"] for row in explained(path, capsys, "--schedule", "products=off")) == 0


def test_commands_take_a_steering(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(path), "--stage", "loops", "--schedule", "lanes=off"]) == 0
    assert "at a time" not in capsys.readouterr().out
    assert main(["explain", str(path), "--schedule", "lanes=off"]) == 0
    assert "schedule" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"tiles": "off"}, "a schedule has no `tiles` that could be steered, only lanes, products, blocks"),
        ({"lanes": "8"}, "schedule lanes='8' is not one of 'auto', 'on', 'off'"),
        ("lanes=off", "a schedule is steered by a mapping, not by 'lanes=off'"),
    ],
)
def test_what_cannot_be_steered_is_told(schedule: Any, words: str) -> None:
    with pytest.raises(dg.DgraphError) as caught:
        dg.compile(dg.parse(TEXT).energy, schedule=schedule)
    assert words in str(caught.value)


def test_a_wrong_steering_of_a_command_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(path), "--schedule", "lanes"]) == 1
    assert "schedule lanes='' is not one of" in capsys.readouterr().err
