"""The examples that train: each learns, on real digits; MNIST only where its files are at hand."""

from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.train import load_params, train_program

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MNIST = ROOT.parent / "shared" / "data" / "mnist"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch):
    """Pictures take longer than these runs; those of a run are looked at in test_train.py."""
    monkeypatch.setattr("dgraph.train.start.draw_run", lambda *_: None)


@pytest.mark.parametrize(("name", "epochs", "least"), [("digits_conv", 4, 0.92), ("digits_lstm", 12, 0.92)])
def test_examples_on_digits_learn(tmp_path: Path, name: str, epochs: int, least: float):
    program = dg.load(EXAMPLES / f"{name}.dg")
    summary = train_program(program, settings=[f"epochs={epochs}"], out=tmp_path / "run", quiet=True)
    assert summary["final"]["accuracy"] >= least
    # What the run folder holds gives the same answers in a fresh program.
    fresh = dg.load(EXAMPLES / f"{name}.dg", seed=5)
    load_params(fresh, tmp_path / "run")
    with np.load(EXAMPLES / "data" / "digits.npz") as digits:
        image, label = digits["image"][-360:], digits["label"][-360:].astype(np.int32)
    assert float(fresh.accuracy(image, label)) == pytest.approx(summary["final"]["accuracy"], abs=1e-6)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def test_the_mnist_example_learns_patterns_in_idx_files(tmp_path: Path):
    """Each label is a bright row at its own height, in noise."""
    draws = np.random.default_rng(0)
    folder = tmp_path / "patterns"
    folder.mkdir()
    for part, rows in (("train", 1500), ("t10k", 200)):
        label = draws.integers(0, 10, rows).astype(np.uint8)
        image = draws.integers(0, 120, (rows, 28, 28)).astype(np.uint8)
        image[np.arange(rows), 4 + 2 * label] = 250
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(image))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(label))
    program = dg.load(EXAMPLES / "mnist_mlp.dg")
    summary = train_program(program, data=folder, settings=["epochs=4"], out=tmp_path / "run", quiet=True)
    assert summary["rows"] == {"train": 1350, "validation": 150, "test": 200}
    assert summary["final"]["accuracy"] >= 0.95
    assert summary["final"]["validation_accuracy"] >= 0.95


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"the MNIST files are not in {MNIST}")
def test_the_mnist_example_on_mnist(tmp_path: Path):
    """Two epochs are enough to be well on the way; all of them reach over 0.975."""
    program = dg.load(EXAMPLES / "mnist_mlp.dg")
    summary = train_program(program, data=MNIST, settings=["epochs=2"], out=tmp_path / "run", quiet=True)
    assert summary["rows"] == {"train": 54000, "validation": 6000, "test": 10000}
    assert summary["final"]["accuracy"] >= 0.955
