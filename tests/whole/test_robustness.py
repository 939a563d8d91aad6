"""What goes wrong around a program: odd values, changed files, damaged caches, interrupts, runs side by side."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

import dgraph as dg

COMMAND = [sys.executable, "-m", "dgraph"]

PROGRAM = dg.parse(
    dedent("""
    record Pair:
        a: f64
        b: f64[2]

    def square(x: f64) -> f64 = x * x
    def half(x: f32) -> f32 = x / 2
    def total[n](x: f64[n]) -> f64 = sum(x)
    def same(p: Pair) -> Pair = p
    def firsts[n](p: Pair[n]) -> f64[n] = p.a
    def bytes_[n](x: u8[n]) -> u8[n] = x
    def make(n: size) -> f64[n] = zeros(n)
    def pick[n](x: f64[n], i: i32[n]) -> f64[n]:
        y[j] = x[i[j]]
        return y
    """)
)
X = np.arange(3.0)


class Shared:
    """An array of another library."""

    def __init__(self, array: np.ndarray | None) -> None:
        self.array = array

    def __dlpack__(self, **options: object) -> object:
        if self.array is None:
            raise BufferError("on another device")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0) if self.array is not None else (2, 0)


def read_only() -> np.ndarray:
    array = X.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "x", [X.astype(">f8"), read_only(), Shared(X), np.repeat(X, 2)[::2], [0, 1, 2.0], np.frombuffer(X.tobytes())]
)
def test_arrays_of_all_kinds_go_in(x: object):
    assert PROGRAM.total(x) == 3.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: PROGRAM.total(X.astype("f2")), "float16"),
        (lambda: PROGRAM.total(X.astype(complex)), "complex128"),
        (lambda: PROGRAM.total(np.array([1, None])), "object"),
        (lambda: PROGRAM.total([1, None]), "not every entry"),
        (lambda: PROGRAM.total([[1], [2, 3]]), "differ in length"),
        (lambda: PROGRAM.total(None), "not None"),
        (lambda: PROGRAM.total(Shared(None)), "on another device"),
        (lambda: PROGRAM.square(10**400), "in range"),
        (lambda: PROGRAM.square(x=10**400), "in range"),
        (lambda: PROGRAM.half(x=1e300), "fits"),
        (lambda: PROGRAM.bytes_([256]), "0 to 255"),
        (lambda: PROGRAM.make(True), "whole number"),
        (lambda: PROGRAM.make(2**70), "whole number"),
        (lambda: PROGRAM.make(2**40), "memory"),
        (lambda: PROGRAM.same({"a": 1, "b": [1, 2], "c": 3}), "no field `c`"),
        (lambda: PROGRAM.same({"a": 1}), "needs the field `b`"),
        (lambda: PROGRAM.firsts([{"a": 1, "b": [1, 2]}, {"a": 1, "b": [1]}]), "differ in shape"),
        (lambda: PROGRAM.firsts([{"a": 1, "b": [1, 2]}, 3]), "`p[1]`"),
        (lambda: dg.grad(PROGRAM.square, wrt=1.5), "no name"),
        (lambda: dg.compile(None), "takes a function"),
        (lambda: dg.parse("", seed=-1), "seed"),
        (lambda: PROGRAM.square.draw("x.svg", stage="none"), "stage"),
    ],
)
def test_values_that_do_not_fit_are_diagnostics(call: Callable[[], object], words: str):
    with pytest.raises(dg.DgraphError) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize("index", [3, -1, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("transform", [lambda f: f, dg.jvp, dg.vjp, dg.jacobian])
def test_an_index_out_of_range_is_a_located_check(index: int, transform: Callable[[dg.Function], dg.Function]):
    extra = [X] if transform in (dg.jvp, dg.vjp) else []
    with pytest.raises(dg.DgraphError, match="out of range") as caught:
        transform(PROGRAM.pick)(X, [0, index, 0], *extra)
    assert caught.value.span is not None and "x[i[j]]" in caught.value.span.text


def test_errors_travel_between_processes():
    with pytest.raises(dg.DgraphError) as caught:
        PROGRAM.total(None)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and type(again) is type(caught.value)


# ---- files and caches -----------------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.dg").write_text(text, encoding="utf-8")
    return folder / "main.dg"


@pytest.mark.usefixtures("own_cache")
def test_a_changed_import_is_seen_even_through_another(tmp_path: Path):
    main = write(
        tmp_path,
        main="from middle import f\ndef main(x: f64) -> f64 = f(x)\n",
        middle="from one import f\n",
        one="def f(x: f64) -> f64 = x + 1\n",
        two="def f(x: f64) -> f64 = x + 2\n",
    )
    assert [dg.load(main).main(1.0) for _ in range(2)] == [2, 2]
    write(tmp_path, middle="from two import f\n")
    assert dg.load(main).main(1.0) == 3
    write(tmp_path, two="def f(x: f64) -> f64 = x + 3\n")
    assert dg.load(main).main(1.0) == 4
    (tmp_path / "two.dg").unlink()
    with pytest.raises(dg.DgraphError, match="two"):
        dg.load(main)


@pytest.mark.usefixtures("own_cache")
def test_a_folder_called_std_is_not_the_standard_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("std").mkdir()
    write(Path("std"), main="from other import f\ndef main(x: f64) -> f64 = f(x)\n", other="def f(x: f64) -> f64 = x\n")
    assert dg.load("std/main.dg").main(1.0) == 1
    write(Path("std"), other="def f(x: f64) -> f64 = 2 * x\n")
    assert dg.load("std/main.dg").main(1.0) == 2


@pytest.mark.usefixtures("own_cache")
def test_a_faulty_program_fails_when_it_is_loaded(tmp_path: Path):
    main = write(tmp_path, main="def main(x: f64) -> f64 = x +\n")
    for _ in range(2):
        with pytest.raises(dg.DgraphError, match="expression"):
            dg.load(main)


@pytest.mark.usefixtures("own_cache")
def test_a_program_that_changed_since_it_was_loaded_says_so(tmp_path: Path):
    main = write(tmp_path, main="def main(x: f64) -> f64 = x\n")
    dg.load(main)
    program = dg.load(main)
    write(tmp_path, main="def main(x: f64) -> f64 = 2 * x\n")
    with pytest.raises(dg.DgraphError, match="changed"):
        program.main(1.0)
    assert dg.load(main).main(1.0) == 2


@pytest.mark.usefixtures("own_cache")
def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, main="def main(x: f64) -> f64 = x\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    dg.load("main.dg")
    program = dg.load("main.dg")
    monkeypatch.chdir("elsewhere")
    assert program.main(1.0) == 1


def test_a_damaged_cache_is_no_cache(tmp_path: Path, own_cache: Path):
    main = write(tmp_path, main="def main(x: f64) -> f64 = x + 1\n")
    assert dg.load(main).main(1.0) == 2
    for at, file in enumerate(sorted(path for path in own_cache.rglob("*") if path.is_file())):
        data = file.read_bytes()
        file.write_bytes([b"", data[:50], data[:-3], b"garbage" * 9][at % 4])
    assert dg.load(main).main(1.0) == 2


@pytest.mark.usefixtures("own_cache")
def test_many_processes_start_at_once(tmp_path: Path):
    main = write(tmp_path, main="def main(x: f64) -> f64 = sin(x) + 1\n")
    command = [*COMMAND, "run", str(main), "--arg", "x=0"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0] for process in started] == ["result = 1.0\n"] * 4


@pytest.mark.usefixtures("own_cache")
def test_threads_may_call_a_function_first_together(tmp_path: Path):
    text = "param w: f64 = 2.0\ndef main[n](x: f64[n]) -> f64 = w * sum(tanh(x[i]) ** 3 for i)\n"
    program = dg.load(write(tmp_path, main=text))
    slope = dg.grad(program.main)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(slope(X))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = 6 * np.tanh(X) ** 2 / np.cosh(X) ** 2
    assert len(found) == 4
    for slopes in found:
        np.testing.assert_allclose(slopes, expected, rtol=1e-13)


# ---- training -------------------------------------------------------------------------------------------------------

TRAINED = """
record Model:
    w: f32[4, 3] = 0.0

param model: Model

@train(optimiser=sgd(rate=0.1), batch=8, epochs=2, test=0.25, data="data.npz")
def loss[n](x: f32[n, 4], label: i32[n]) -> f32:
    z = x @ model.w
    return mean(-z[i, label[i]] + log(sum(exp(z[i, j]) for j)) for i)
"""


@pytest.fixture
def training(tmp_path: Path):
    random = np.random.default_rng(0)
    x = random.standard_normal((40, 4)).astype("f4")
    label = random.integers(0, 3, 40).astype("i4")
    np.savez(tmp_path / "data.npz", x=x, label=label)
    wrong = np.where(np.arange(40) == 3, 7, label).astype("i4")
    np.savez(tmp_path / "label.npz", x=x, label=wrong)
    np.savez(tmp_path / "short.npz", x=x, label=label[:30])
    np.savez(tmp_path / "none.npz", x=x[:0], label=label[:0])
    np.savez(tmp_path / "number.npz", x=np.float32(1), label=label)
    np.savez(tmp_path / "wide.npz", x=x.astype("f8"), label=label)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "data.npz").read_bytes()[:400])
    (tmp_path / "text.npz").write_text("no numbers", encoding="utf-8")
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (tmp_path / "model.dg").write_text(TRAINED, encoding="utf-8")
    return tmp_path


def train(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "train", "model.dg", "--out", "run", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=250)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "label.npz"], "label[i]"),
        (["--data", "short.npz"], "differ in length"),
        (["--data", "none.npz"], "no rows"),
        (["--data", "number.npz"], "no axes"),
        (["--data", "wide.npz"], "astype"),
        (["--data", "cut.npz"], "damaged"),
        (["--data", "text.npz"], "damaged"),
        (["--data", "missing.npz"], "no data file"),
        (["--set", "epochs=inf"], "epochs=inf"),
        (["--set", "test=inf"], "test=inf"),
        (["--set", "=1"], "NAME=NUMBER"),
        (["--seed", "-1"], "seed"),
        (["--device", "cuda"], "not supported yet"),
        (["--out", "file"], "File exists"),
    ],
)
def test_faults_leave_no_folder(training: Path, options: list[str], words: str):
    done = train(training, *options)
    assert done.returncode == 1, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (training / "run").exists()


@pytest.mark.parametrize("options", [["batch=1000"], ["test=0"], ["epochs=1"], ["batch=7"]])
def test_odd_settings_train(training: Path, options: list[str]):
    done = train(training, "--set", options[0])
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(" run")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_an_interrupted_training_keeps_whole_files(training: Path):
    command = [*COMMAND, "train", "model.dg", "--set", "epochs=1000000", "--out", "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=training)
    deadline = time.monotonic() + 120
    while not (training / "run" / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and errors == "interrupted\n"
    names = {path.name for path in (training / "run").iterdir()}
    assert {"params.safetensors", "metrics.csv", "summary.json", "curve.svg"} <= names
    assert not any(name.startswith(".") for name in names)


def test_two_trainings_never_share_a_folder(training: Path):
    command = [*COMMAND, "train", "model.dg", "--out", "run", "--json"]
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=training) for _ in range(2)]
    assert sorted(process.wait(timeout=250) for process in started) == [0, 1]


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"\x00\x01ELF", b"def main(x: f64) -> f64 = x\xff\n", b"#" * 2_000_000])
def test_what_is_no_program_is_said(tmp_path: Path, content: bytes):
    (tmp_path / "main.dg").write_bytes(content)
    done = subprocess.run([*COMMAND, "run", str(tmp_path / "main.dg")], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and done.stderr.startswith("error:")


def test_a_pipe_that_closes_is_no_fault(tmp_path: Path):
    main = write(tmp_path, main="def main(x: f64) -> f64 = x\n")
    command = [*COMMAND, "show", str(main), "--stage", "llvm"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=100) in (0, 1)


def test_a_point_without_a_derivative_is_not_called_wrong(tmp_path: Path):
    text = "param w: f64 = 0.0\n@entry\ndef main(x: f64) -> f64 = 1.0 if w > 0 else abs(w) * x\n"
    main = write(tmp_path, main=text)
    done = subprocess.run([*COMMAND, "check", str(main)], capture_output=True, text=True, timeout=100)
    assert "are wrong" not in done.stderr, done.stderr
