"""Training runs: what a step does, what is kept, and that a run goes on to the same bits wherever it was stopped."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import dgraph as dg
from dgraph.train import load_params, train_program
from dgraph.train.progress import Progress

NOISY = """
record Net:
    w: f32[4, 8] = he_normal()
    v: f32[8] = glorot_row()

record Seen:
    mean: f32[4] = zeros()
    steps: i32 = 0

def glorot_row[T: float, o](key: key) -> T[o]:
    draw: T[o] = normal(key)
    return draw / 3

param net: Net
param bias: Bias
state seen: Seen

record Bias:
    b: f32 = 0.0

@train(optimiser=adam(rate=1e-2), wrt=net, batch=16, epochs=6, validation=0.2, patience=4, clip=0.5)
def fit[n](x: f32[n, 4], y: f32[n], key: key) -> (f32, Seen):
    kept: bool[n, 8] = bernoulli(key, 0.8)
    now = Seen(mean=0.9 * seen.mean + 0.1 * mean(x, axis=0), steps=seen.steps + 1)
    h = relu((x - seen.mean) @ net.w)
    z = (h / 0.8 if kept else 0.0) @ net.v + bias.b
    return mean((z - y) ** 2), now

@train(optimiser=nesterov(rate=1e-2), wrt=bias)
def shift[n](x: f32[n, 4], y: f32[n]) -> f32:
    return mean((relu(x @ net.w) @ net.v + bias.b - y) ** 2)

@metric
def worst[n](x: f32[n, 4], y: f32[n]) -> f32 = max(abs(relu(x @ net.w) @ net.v + bias.b - y))
"""


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch):
    """Pictures take longer than these runs; those of a run are looked at in test_train.py."""
    monkeypatch.setattr("dgraph.train.start.draw_run", lambda *_: None)


def write(folder: Path, text: str, **columns: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "program.dg").write_text(text, encoding="utf-8")
    np.savez(folder / "data.npz", **columns)
    return folder / "program.dg"


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    draws = np.random.default_rng(3)
    x = draws.standard_normal((101, 4)).astype(np.float32)
    return write(tmp_path / "in", NOISY, x=x, y=np.sin(x[:, 0]) + x[:, 1] * x[:, 2])


def train(path: Path, out: Path, *settings: str, seed: int = 0, resume: bool = False) -> dict:
    place = {"resume": out} if resume else {"out": out, "data": path.parent / "data.npz"}
    return train_program(dg.load(path, seed=seed), settings=settings, quiet=True, **place)


def same(left: Path, right: Path) -> None:
    """Two runs are equal to the last bit in all that they keep."""
    for name in ("params.safetensors", "checkpoint.safetensors"):
        a, b = load_file(left / name), load_file(right / name)
        assert a.keys() == b.keys()
        for label, leaf in a.items():
            assert leaf.dtype == b[label].dtype and leaf.tobytes() == b[label].tobytes(), label
    assert (left / "metrics.csv").read_bytes() == (right / "metrics.csv").read_bytes()
    one, other = (json.loads((folder / "summary.json").read_text()) for folder in (left, right))
    assert one["final"] == other["final"] and one["epochs"] == other["epochs"]


def test_a_run_goes_on_from_an_epoch_to_equal_bits(noisy: Path, tmp_path: Path):
    train(noisy, tmp_path / "straight", "epochs=5", seed=9)
    train(noisy, tmp_path / "parts", "epochs=1", seed=9)
    train(noisy, tmp_path / "parts", "epochs=3", seed=9, resume=True)
    summary = train(noisy, tmp_path / "parts", "epochs=5", seed=9, resume=True)
    assert summary["epochs"] == 5
    same(tmp_path / "straight", tmp_path / "parts")
    arrays = load_file(tmp_path / "parts" / "checkpoint.safetensors")
    # 65 rows to train on, in 5 batches of at most 16.
    assert arrays["values/seen.steps"] == 25


def test_ctrl_c_between_any_two_steps_loses_nothing(noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train(noisy, tmp_path / "straight", "epochs=3")
    stops = iter([4, 1, 5, 3, 100])
    left = next(stops)

    def step(_: Progress) -> None:
        nonlocal left
        left -= 1
        if not left:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(noisy, tmp_path / "parts", "epochs=3")
    assert not (tmp_path / "parts" / "params.safetensors").exists()
    interrupts = 1
    for left in stops:  # noqa: B007
        try:
            train(noisy, tmp_path / "parts", resume=True)
            break
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts == 4
    same(tmp_path / "straight", tmp_path / "parts")


def test_killed_at_random_times_nothing_that_was_saved_is_lost(noisy: Path, tmp_path: Path):
    out, straight = tmp_path / "killed", tmp_path / "straight"
    wish = ["--set", "epochs=60", "--set", "patience=60"]
    first = [sys.executable, "-m", "dgraph", "train", str(noisy), "--json"]
    data = ["--data", str(noisy.parent / "data.npz")]
    subprocess.run([*first, *wish, *data, "--out", str(straight)], check=True, capture_output=True, timeout=200)
    draws, kills, seen = random.Random(5), 0, 0
    command = [*first, *wish, *data, "--out", str(out)]
    ends = time.monotonic() + 200
    while time.monotonic() < ends:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if kills < 5:
            # It is killed while it writes: soon after a new epoch is there.
            before = _changed(out)
            while process.poll() is None and _changed(out) == before:
                time.sleep(0.002)
            time.sleep(draws.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
            kills += process.wait() < 0
        else:
            _, said = process.communicate()
            assert process.returncode == 0, said
            break
        process.stderr.close()
        if (out / "params.safetensors").exists():
            load_params(dg.load(noisy), out)
            rows = list(csv.DictReader((out / "metrics.csv").open())) if (out / "metrics.csv").exists() else []
            assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
            assert len(rows) >= seen
            seen = len(rows)
        command = [*first, "--resume", str(out)]
    assert kills == 5 and seen > 0
    same(straight, out)


def _changed(folder: Path) -> int:
    try:
        return (folder / "checkpoint.safetensors").stat().st_mtime_ns
    except OSError:
        return 0


def test_a_run_says_what_it_cannot_go_on_with(noisy: Path, tmp_path: Path):
    out = tmp_path / "run"
    with pytest.raises(dg.DgraphError, match="there is no run folder"):
        train(noisy, out, resume=True)
    train(noisy, out, "epochs=1", seed=4)
    with pytest.raises(dg.DgraphError, match="seed 4, not 0"):
        train(noisy, out, resume=True)
    with pytest.raises(dg.DgraphError, match="its own folder"):
        train_program(dg.load(noisy, seed=4), out=tmp_path / "x", resume=out, quiet=True)
    with pytest.raises(dg.DgraphError, match="not that with which the run began"):
        train(noisy, out, "validation=0.3", seed=4, resume=True)
    wider = write(tmp_path / "other", NOISY.replace("8", "9"), x=np.zeros(1))
    with pytest.raises(dg.DgraphError, match=r"does not fit the program: `net.w`"):
        train_program(dg.load(wider, seed=4), data=noisy.parent / "data.npz", resume=out, quiet=True)
    (out / "checkpoint.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(dg.DgraphError, match="damaged"):
        train(noisy, out, seed=4, resume=True)


def test_a_run_goes_on_from_another_folder(noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    train_program(dg.load("in/program.dg"), data="in/data.npz", out="run", settings=["epochs=1"], quiet=True)
    monkeypatch.chdir(noisy.parent)
    settings = ["epochs=2"]
    summary = train_program(dg.load("program.dg"), resume=tmp_path / "run", settings=settings, quiet=True)
    assert summary["epochs"] == 2
    columns = dict(np.load("data.npz"))
    train_program(dg.load("program.dg"), data=columns, out="arrays", settings=["epochs=1"], quiet=True)
    with pytest.raises(dg.DgraphError, match="began with arrays"):
        train_program(dg.load("program.dg"), resume="arrays", settings=settings, quiet=True)
    again = train_program(dg.load("program.dg"), data=columns, resume="arrays", settings=settings, quiet=True)
    assert again["final"] == summary["final"]


def test_two_runs_do_not_share_a_folder(noisy: Path, tmp_path: Path):
    from dgraph.train.folder import claimed

    (tmp_path / "run").mkdir()
    with claimed(tmp_path / "run"), pytest.raises(dg.DgraphError, match="another run"):
        train(noisy, tmp_path / "run", "epochs=1")
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / ".running").touch()  # left by a run that was killed
    train(noisy, tmp_path / "run", "epochs=1")
    assert not (tmp_path / "run" / ".running").exists()


PULLED = """
param w: f64[1] = zeros()

@train(optimiser=sgd(rate=0.05), batch=8, epochs=40, test=4, validation=8, patience=3, shuffle=False)
def loss[n](y: f64[n]) -> f64 = mean((w[0] - y[i]) ** 2 for i)

@metric
def distance[n](y: f64[n]) -> f64 = mean(abs(w[0] - y[i]) for i)
"""


def test_early_stopping_hands_over_the_best(tmp_path: Path):
    """Training pulls w from 0 to 10; the validation rows are at 3, the test rows at 4."""
    y = np.concatenate([np.full(16, 10.0), np.full(8, 3.0), np.full(4, 4.0)])
    path = write(tmp_path / "in", PULLED, y=y)
    program = dg.load(path)
    summary = train_program(program, data=tmp_path / "in" / "data.npz", out=tmp_path / "run", quiet=True)
    w, curve = 0.0, []
    for _ in range(40):
        for _ in range(2):
            w -= 0.05 * 2 * (w - 10)
        curve.append((w, (w - 3) ** 2))
    best = int(np.argmin([cost for _, cost in curve]))
    assert 0 < best < 10
    assert summary["epochs"] == best + 4
    assert summary["final"]["epoch"] == best + 1
    kept = curve[best][0]
    assert program.params["w"][0] == pytest.approx(kept, rel=1e-12)
    assert summary["final"]["validation_loss"] == pytest.approx(curve[best][1], rel=1e-6)
    assert summary["final"]["validation_distance"] == pytest.approx(abs(kept - 3), rel=1e-6)
    assert summary["final"]["distance"] == pytest.approx(abs(kept - 4), rel=1e-6)
    assert summary["rows"] == {"train": 16, "validation": 8, "test": 4}
    again = train_program(dg.load(path), resume=tmp_path / "run", quiet=True)
    assert again["epochs"] == best + 4 and again["final"] == summary["final"]
    longer = train_program(dg.load(path), resume=tmp_path / "run", settings=["patience=5"], quiet=True)
    assert longer["epochs"] == best + 6 and longer["final"] == summary["final"]


def test_rows_for_validation_are_drawn_by_the_seed():
    from dgraph.train.data import split
    from dgraph.train.settings import Plan

    columns = {"x": np.arange(100), "y": np.arange(100) * 2}
    plan = Plan(validation=0.25, test=20)
    first, again, other = (split(columns, None, plan, seed) for seed in (1, 1, 2))
    assert first.test["x"].tolist() == list(range(80, 100))
    assert len(first.validation["x"]) == 20 and len(first.train["x"]) == 60
    assert sorted([*first.train["x"], *first.validation["x"]]) == list(range(80))
    assert first.validation["x"].tolist() == again.validation["x"].tolist()
    assert first.validation["x"].tolist() != other.validation["x"].tolist()
    assert (first.validation["y"] == 2 * first.validation["x"]).all()


ALTERNATE = """
param a: f64[1] = zeros()
param b: f64[1] = ones()

@train(optimiser=sgd(rate=0.1), wrt=a, batch=2, epochs=3, test=0, shuffle=False)
def first[n](x: f64[n]) -> f64 = mean((a[0] - b[0] * x[i]) ** 2 for i)

@train(optimiser=sgd(rate=0.2), wrt=b)
def second[n](x: f64[n]) -> f64 = mean((b[0] + a[0] - x[i]) ** 2 for i)
"""


def test_train_functions_take_turns_in_the_order_of_the_file(tmp_path: Path):
    x = np.array([1.0, 2.0, -1.0, 0.5, 3.0])
    summary = train_program(program := dg.parse(ALTERNATE), data={"x": x}, out=tmp_path / "run", quiet=True)
    a, b = 0.0, 1.0
    for _ in range(3):
        totals = np.zeros(2)
        for batch in (x[:2], x[2:4], x[4:]):
            totals[0] += ((a - b * batch) ** 2).mean() * len(batch) / 5
            a -= 0.1 * 2 * (a - b * batch).mean()
            totals[1] += ((b + a - batch) ** 2).mean() * len(batch) / 5
            b -= 0.2 * 2 * (b + a - batch).mean()
    assert program.params["a"][0] == pytest.approx(a, rel=1e-12)
    assert program.params["b"][0] == pytest.approx(b, rel=1e-12)
    assert [summary["final"]["first"], summary["final"]["second"]] == pytest.approx(totals, rel=1e-6)


def test_every_step_draws_from_its_own_key(tmp_path: Path):
    text = """
param w: f64[1] = normal()
state log: f64[12] = zeros()

@train(optimiser=sgd(rate=0.0), batch=2, epochs=3, test=0)
def loss[n](x: f64[n], key: key) -> (f64, f64[12]):
    draw: f64[1] = normal(key)
    return w[0] * mean(x), concat(log[1:], draw)
"""
    program = dg.parse(text)
    start = program.params["w"][0]
    train_program(program, data={"x": np.ones(8)}, out=tmp_path / "run", quiet=True)
    log = program.params["log"]
    assert len(set(log)) == 12 and (log != 0).all()
    assert start not in log
    other = dg.parse(text)
    train_program(other, data={"x": np.ones(8)}, out=tmp_path / "other", quiet=True)
    np.testing.assert_array_equal(other.params["log"], log)


def test_params_of_one_shape_start_apart():
    program = dg.parse("param a: f64[5] = normal()\nparam b: f64[5] = normal()\ndef f() -> f64[5] = a - b\n")
    assert (program.f() != 0).all()


def test_clip_bounds_the_slope_of_all_params_together(tmp_path: Path):
    text = """
param a: f64[1] = zeros()
param b: f32[1] = zeros()

@train(optimiser=sgd(rate=1.0), clip=0.5, batch=8, epochs=1, test=0)
def loss[n](x: f64[n]) -> f64 = mean((300 * a[0] + f64(400 * b[0])) * x[i] for i)
"""
    train_program(program := dg.parse(text), data={"x": np.ones(8)}, out=tmp_path / "run", quiet=True)
    assert program.params["a"][0] == pytest.approx(-0.3, rel=1e-6)
    assert program.params["b"][0] == pytest.approx(-0.4, rel=1e-6)
    small = dg.parse(text)
    train_program(small, data={"x": np.full(8, 1e-4)}, out=tmp_path / "small", quiet=True)
    assert small.params["a"][0] == pytest.approx(-0.03, rel=1e-9)


def test_an_optimiser_of_the_program_itself(tmp_path: Path):
    text = """
record Count:
    steps: i32

def halving_start[P: record](p: P) -> Count = Count(steps=0)

def halving[P: record](p: P, slope: P, s: Count, rate: f64, every: i32 = 2) -> (P, Count):
    \"\"\"Gradient descent whose rate halves every few steps.\"\"\"
    return p - rate * 0.5 ** (s.steps // every) * slope, Count(steps=s.steps + 1)

param w: f64[1] = zeros()

@train(optimiser=halving(rate=0.4), batch=2, epochs=3, test=0)
def loss[n](x: f64[n]) -> f64 = w[0] * mean(x)
"""
    for at, (settings, every) in enumerate([([], 2), (["every=3"], 3)]):
        program = dg.parse(text)
        train_program(program, data={"x": np.ones(4)}, settings=settings, out=tmp_path / str(at), quiet=True)
        assert program.params["w"][0] == pytest.approx(-sum(0.4 * 0.5 ** (t // every) for t in range(6)), rel=1e-12)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good(tmp_path: Path):
    text = """
param w: f64[1] = ones()

@train(optimiser=sgd(rate=1.0), batch=2, epochs=9, test=0, shuffle=False)
def loss[n](x: f64[n]) -> f64 = mean(log(w[0] - x[i]) for i)
"""
    path = write(tmp_path / "in", text, x=np.array([-1.0, -1.0, -2.0, -2.0]))
    program = dg.load(path)
    with pytest.raises(dg.DgraphError, match=r"the loss became (nan|-inf) in step \d of epoch [2-9]") as caught:
        train(path, tmp_path / "run")
    assert "smaller rate" in str(caught.value) and "def loss[n]" in str(caught.value)
    load_params(program, tmp_path / "run")
    assert np.isfinite(program.params["w"]).all()
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert rows and all(np.isfinite(float(row["loss"])) for row in rows)


def test_a_parameter_that_is_not_finite_is_never_saved(tmp_path: Path):
    text = """
param w: f64[1] = zeros()

@train(optimiser=sgd(rate=1.0), batch=4, epochs=3, test=0)
def loss[n](x: f64[n]) -> f64 = mean(sqrt(abs(w[0])) + x[i] for i) + sqrt(w[0])
"""
    with pytest.raises(dg.DgraphError, match="a parameter became infinite or nan in step 1 of epoch 1"):
        train_program(dg.parse(text), data={"x": np.ones(4)}, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("patience=3", ["validation=0.1"]),
        ("validation=1.5", ["neither a count of rows nor a fraction"]),
        ("bach=3", ["did you mean `batch`"]),
        ("epochs=many", ["`epochs` of `@train`"]),
        ("wrt=x", ["does not read a param `x`"]),
        ("optimiser=adam(rate=2, beta=1)", ["no option `beta`", "rate, b1, b2"]),
        ("optimiser=adam(epochs=2)", ["no option `epochs`"]),
        ("optimiser=adm(rate=2)", ["did you mean `adam`"]),
        ("optimiser=cost(rate=2)", ["`cost_start`"]),
    ],
)
def test_faults_of_annotations_show_the_place(tmp_path: Path, annotation: str, words: list[str]):
    text = f"""
param w: f64[1] = zeros()

@train({annotation})
def cost[n](x: f64[n]) -> f64 = w[0] * mean(x)
"""
    with pytest.raises(dg.DgraphError) as caught:
        train_program(dg.parse(text), data={"x": np.ones(9)}, out=tmp_path / "run", quiet=True)
    for word in (*words, "--> <text>:"):
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("(f64, f64[1]) = w[0] * mean(x), w", "two values, and reads no state"),
        ("(f64, f64[2]) = w[0] * mean(x), s", "the new value of `s: f64[1]`"),
        ("(f64, f64[1]) = w[0] * mean(x) * t[0], s + t", "reads two states, `s` and `t`"),
    ],
)
def test_what_a_train_function_returns_is_checked(tmp_path: Path, body: str, words: str):
    body = body.replace(", s", ", concat(s, s)") if "f64[2]" in body else body
    text = f"""
param w: f64[1] = zeros()
state s: f64[1] = zeros()
state t: f64[1] = zeros()

@train(optimiser=sgd())
def cost[n](x: f64[n]) -> {body}
"""
    with pytest.raises(dg.DgraphError) as caught:
        train_program(dg.parse(text), data={"x": np.ones(9)}, out=tmp_path / "run", quiet=True)
    assert words in str(caught.value)


def test_two_train_functions_must_agree_on_the_plan(tmp_path: Path):
    text = ALTERNATE.replace("wrt=b)", "wrt=b, batch=3)")
    with pytest.raises(dg.DgraphError, match="differ in batch: 2 and 3"):
        train_program(dg.parse(text), data={"x": np.ones(9)}, out=tmp_path / "run", quiet=True)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "dgraph", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=200)


def test_the_command_line_trains_resumes_and_uses_parameters(tmp_path: Path):
    text = PULLED + "\n@entry\ndef guess(scale: f64) -> f64 = scale * w[0]\n"
    path = write(tmp_path / "in", text, y=np.full(28, 10.0))
    data, out = tmp_path / "in" / "data.npz", tmp_path / "run"
    done = command("train", path, "--data", data, "--out", out, "--set", "epochs=2", "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert "epoch 2/2" in done.stdout and "validation_distance" in done.stdout and "seconds" in done.stdout
    done = command("train", path, "--resume", out, "--set", "epochs=3", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["epochs"] == 3 and summary["seed"] == 3 and summary["settings"] == ["epochs=2", "epochs=3"]
    w = 10 - 10 * 0.9**6
    done = command("run", f"{path}:guess", "--params", out, "--arg", "scale=2", "--json")
    assert json.loads(done.stdout)["result"] == pytest.approx(2 * w, rel=1e-12)
    done = command("grad", f"{path}:guess", "--params", out, "--arg", "scale=2", "--wrt", "scale", "--json")
    assert json.loads(done.stdout)["derivatives"]["scale"] == pytest.approx(w, rel=1e-12)
    done = command("train", path, "--data", data, "--params", out, "--out", tmp_path / "more", "--set", "epochs=1")
    assert done.returncode == 0, done.stderr
    done = command("run", f"{path}:guess", "--params", tmp_path / "more", "--arg", "scale=1", "--json")
    assert json.loads(done.stdout)["result"] == pytest.approx(10 - 10 * 0.9**8, rel=1e-12)
    for wrong, words in (
        (["--out", out], "--resume"),
        (["--resume", out, "--seed", 1], "seed 3, not 1"),
        (["--resume", tmp_path / "none"], "no run folder"),
        (["--device", "cuda"], "not supported yet"),
        (["--set", "epoch=3"], "did you mean `epochs`"),
        (["--set", "data=3"], "--data PATH"),
    ):
        done = command("train", path, "--data", data, *wrong)
        assert done.returncode == 1 and words in done.stderr, done.stderr


def test_parameters_serve_in_another_precision(tmp_path: Path):
    text = "param w: f32[2] = ones()\n\n@entry\ndef f(x: f32) -> f32 = x * sum(w) / 3\n"
    path = write(tmp_path / "in", text)
    done = command("run", path, "--arg", "x=1", "--precision", "f64", "--json")
    assert json.loads(done.stdout)["result"] == 2 / 3
