"""The sketched programs that train do so as they stand: states, keys, two param sets, optimisers, fixed batches."""

from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.train import train_program

PROGRAMS = Path(__file__).parents[1] / "programs"
DRAWS = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch):
    """Pictures take longer than these runs."""
    monkeypatch.setattr("dgraph.train.start.draw_run", lambda *_: None)


def trained(name: str, out: Path, settings: list[str], **columns: np.ndarray) -> tuple[dg.Program, dict, dict]:
    """A program after training, its first params and the summary."""
    program = dg.load(PROGRAMS / f"{name}.dg")
    before = dict(program.params)
    return program, before, train_program(program, data=columns, settings=settings, out=out / "run", quiet=True)


def classes(rows: int, pixels: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Images that are brighter the larger their label."""
    label = DRAWS.integers(0, 10, rows).astype(np.int32)
    image = DRAWS.standard_normal((rows, *pixels)).astype(np.float32)
    image.reshape(rows, -1)[np.arange(rows), label * 3] += 12
    return image, label


def test_batch_normalisation_carries_its_statistics(tmp_path: Path):
    x, label = classes(512, (784,))
    program, before, summary = trained("batchnorm", tmp_path, ["epochs=6"], x=x, label=label)
    assert summary["final"]["loss"] < 1.0
    running = program.params["running"]
    assert not np.allclose(running.mean, before["running"].mean) and (running.var > 0).all()
    assert (program.predict(x) == label).mean() > 0.8


def test_dropout_draws_and_learns(tmp_path: Path):
    x, label = classes(512, (784,))
    _, _, summary = trained("dropout", tmp_path, ["epochs=6"], x=x, label=label)
    assert summary["final"]["loss"] < 1.2


def test_a_pair_trains_two_sets_of_parameters(tmp_path: Path):
    real = np.float32([2, -1]) + DRAWS.standard_normal((640, 2)).astype(np.float32) / 4
    program, before, summary = trained("gan", tmp_path, ["epochs=3"], real=real)
    assert {"critic_loss", "generator_loss"} < set(summary["final"])
    for name in ("generator", "critic"):
        assert not np.array_equal(program.params[name].w1, before[name].w1)


def test_truncated_backpropagation_carries_the_hidden_state(tmp_path: Path):
    symbols = (np.arange(161)[:, None] * 3 + np.arange(16)) % 64
    settings = ["epochs=4", "batch=20", "shuffle=false", "test=0"]
    program, _, summary = trained("tbptt", tmp_path, settings, xs=symbols.astype(np.int32)[:160])
    assert summary["final"]["loss"] < 3.0 < np.log(64)
    assert np.abs(program.params["carry"]).max() > 0.1


def test_lenet_takes_a_step_on_images_of_bytes(tmp_path: Path):
    label = DRAWS.integers(0, 10, 48)
    image = DRAWS.integers(0, 60, (48, 28, 28, 1)).astype(np.uint8)
    image[np.arange(48), 4 + 2 * label] = 250
    program, before, summary = trained("lenet", tmp_path, ["epochs=3", "batch=16"], image=image, label=label)
    assert summary["rows"]["train"] == 38
    assert summary["final"]["loss"] < np.log(10) + 0.3
    assert not np.array_equal(program.params["net"].conv1.w, before["net"].conv1.w)
