"""Training from the outside: real digits, run folders, settings, faults."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.train import train_program

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits_mlp.dg"

REGRESSION = """
record Line:
    slope: f64 = 0.0
    offset: f64 = 0.0

param line: Line

@train(optimiser=OPTIMISER, batch=16, epochs=60, test=0.25, data="line.npz")
def loss[n](x: f64[n], y: f64[n]) -> f64:
    return mean((line.slope * x[i] + line.offset - y[i]) ** 2 for i)

@metric
def worst[n](x: f64[n], y: f64[n]) -> f64:
    return max(abs(line.slope * x[i] + line.offset - y[i]) for i)
"""


@pytest.fixture
def line(tmp_path: Path):
    x = np.random.default_rng(0).standard_normal(64)
    np.savez(tmp_path / "line.npz", x=x, y=3 * x - 1)

    def write(optimiser: str) -> dg.Program:
        path = tmp_path / "line.dg"
        path.write_text(REGRESSION.replace("OPTIMISER", optimiser), encoding="utf-8")
        return dg.load(path)

    return write


def test_digits_reach_97_percent(tmp_path: Path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "dgraph", "train", str(DIGITS), "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["final"]["accuracy"] >= 0.97
    assert summary["rows"] == {"train": 1437, "validation": 0, "test": 360}
    names = {path.name for path in out.iterdir()}
    pictures = {f"{name}.{suffix}" for name in ("curve", "graph", "gradient") for suffix in ("svg", "png")}
    assert names == {"params.safetensors", "checkpoint.safetensors", "metrics.csv", "summary.json"} | pictures
    rows = list(csv.DictReader((out / "metrics.csv").open(encoding="utf-8")))
    assert len(rows) == summary["epochs"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


@pytest.mark.parametrize("optimiser", ["sgd(rate=0.1)", "adam(rate=0.05)"])
def test_a_line_is_fitted(line, tmp_path: Path, optimiser: str):
    summary = train_program(line(optimiser), data=None, settings=[], out=tmp_path / "run", quiet=True)
    assert summary["final"]["worst"] < 1e-2
    program = line(optimiser)
    from dgraph.train.folder import load_params

    load_params(program, tmp_path / "run")
    assert program.params["line"].slope == pytest.approx(3, abs=1e-2)
    assert program.loss(np.array([1.0]), np.array([2.0])) < 1e-3


def test_equal_seeds_give_equal_bits(line, tmp_path: Path):
    for name in ("a", "b"):
        train_program(line("adam(rate=0.05)"), data=None, settings=["epochs=3"], out=tmp_path / name, quiet=True)
    assert (tmp_path / "a" / "metrics.csv").read_bytes() == (tmp_path / "b" / "metrics.csv").read_bytes()


@pytest.mark.parametrize(
    ("optimiser", "settings", "words"),
    [
        ("sgd(rate=0.1)", ["epochs=0"], "epochs=0"),
        ("sgd(rate=0.1)", ["epochs"], "NAME=NUMBER"),
        ("sgdd(rate=0.1)", [], "sgdd"),
        ("sgd(speed=0.1)", [], "speed"),
        ("sgd(rate=1e9)", [], "smaller rate"),
        ("sgd(rate=0.1)", ["test=64"], "none is left"),
    ],
)
def test_faults_are_diagnostics(line, tmp_path: Path, optimiser: str, settings: list[str], words: str):
    with pytest.raises(dg.DgraphError) as caught:
        train_program(line(optimiser), data=None, settings=settings, out=tmp_path / "run", quiet=True)
    assert words in str(caught.value)


def test_missing_columns_are_named(line, tmp_path: Path):
    np.savez(tmp_path / "other.npz", x=np.zeros(4))
    with pytest.raises(dg.DgraphError, match="`y`"):
        train_program(line("sgd(rate=0.1)"), data=tmp_path / "other.npz", settings=[], out=tmp_path / "r", quiet=True)


def test_a_folder_in_use_is_refused(line, tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("kept")
    with pytest.raises(dg.DgraphError, match="not empty"):
        train_program(line("sgd(rate=0.1)"), data=None, settings=[], out=tmp_path / "run", quiet=True)


def test_pictures_are_of_the_params_that_are_trained(tmp_path: Path):
    text = """
param used: f64[1] = zeros()
param spare: f64[1] = zeros()

@train(optimiser=sgd(rate=0.4), epochs=1)
def loss[n](x: f64[n]) -> f64 = mean((used[0] - x) ** 2)

@entry
def f(scale: f64) -> f64 = scale * sqrt(used[0] + spare[0] - 1)
"""
    (tmp_path / "two.dg").write_text(text, encoding="utf-8")
    train_program(dg.load(tmp_path / "two.dg"), data={"x": np.full(9, 2.0)}, out=tmp_path / "run", quiet=True)
    said = (tmp_path / "run" / "gradient.svg").read_text(encoding="utf-8")
    assert "used" in said and "spare" not in said
    # Around the first values there is no root; at those of the run there is.
    command = [sys.executable, "-m", "dgraph", "check", str(tmp_path / "two.dg")]
    first, trained = (
        subprocess.run([*command, *more], capture_output=True, text=True, timeout=100)
        for more in ([], ["--params", str(tmp_path / "run")])
    )
    assert first.returncode == 1 and "could not be checked" in first.stderr
    assert trained.returncode == 0 and "agree" in trained.stdout, trained.stderr
