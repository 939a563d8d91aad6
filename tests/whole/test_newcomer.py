"""What somebody meets who uses dgraph for the first time, and does not handle it gently."""

import copy
import dataclasses
import json
import pickle
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.cli import main

COMMAND = [sys.executable, "-m", "dgraph"]
FIRST = """
record Pair:
    a: f64 = 1.0
    b: f64[2] = zeros()

record Shelf:
    items: f64
    keys: f64[2]

param p: Pair

def square(x: f64) -> f64 = x * x
def half(x: f32) -> f32 = x / 2
def scaled[T: float, *s](x: T[*s], factor: T) -> T[*s] = factor * x
def total[n](x: f64[n]) -> f64 = sum(x)
def both(x: f64, y: f64 = 3.0) -> f64 = x * y
def same(q: Pair) -> Pair = q
def shelf(x: f64) -> Shelf = Shelf(items=x, keys=[x, 2 * x])
def pair(t: (f64, f64[2])) -> f64 = 1.0
def with_param(x: f64) -> f64 = p.a * x + sum(p.b)
def fixed() -> f64 = 2.0
"""
TRAINED = """
param w: f64 = 0.5

@train(optimiser=sgd(rate=0.1), batch=2, epochs=3, test=0)
def loss[n](x: f64[n]) -> f64 = mean((w * x - 1) ** 2)
"""


@pytest.fixture
def program() -> dg.Program:
    return dg.parse(FIRST)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first.dg").write_text(FIRST, encoding="utf-8")
    (tmp_path / "trained.dg").write_text(TRAINED, encoding="utf-8")
    return tmp_path


# ---- functions ------------------------------------------------------------------------------------------------------


def test_a_function_asked_for_again_is_the_same_and_compiled_once(program: dg.Program):
    assert program.square is program.square and program.square.compiled is program.square.compiled
    assert dg.grad(program.square) is dg.grad(program.square)
    assert dg.grad(program.both, "x") is not dg.grad(program.both, "y")
    assert dg.grad(program.both, "y")(2.0) == 2.0 and dg.grad(program.both, "x")(2.0) == 3.0


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_what_was_used_can_be_copied_and_sent_elsewhere(program: dg.Program, again: Callable[[object], object]):
    used = [program.square, dg.grad(program.square), dg.compile(program.square, checks="off")]
    assert [again(one)(3.0) for one in used if one(3.0)] == [9.0, 6.0, 9.0]
    assert again(dg.compile(program.scaled))(np.float32(2), 3.0) == 6
    assert again(program).square(3.0) == 9.0


def test_compiled_functions_show_what_they_are(program: dg.Program):
    assert repr(dg.compile(dg.grad(program.square))) == "<dgraph compiled grad(square) of <text>>"
    assert repr(dg.compile(program.scaled)) == "<dgraph compiled scaled of <text>>"


@pytest.mark.parametrize("number", [1e39, -1e300, 10**39])
def test_a_number_that_does_not_fit_is_refused_by_position_and_by_name(program: dg.Program, number: float):
    assert program.half(3.4e38) == np.float32(1.7e38)
    for call in (lambda: program.half(number), lambda: program.half(x=number)):
        with pytest.raises(dg.DgraphError, match="not every number given fits"):
            call()


@pytest.mark.parametrize(
    ("call", "words", "shown"),
    [
        (lambda p: dg.jvp(p.square)(1.0), "misses an argument: `dx", "def square"),
        (lambda p: p.scaled([1.0], 2.0), "may be of any dtype", "x: T[*s]"),
        (lambda p: p.scaled(np.arange(3), 2.0), "stands for floats", "x: T[*s]"),
        (lambda p: p.pair((1.0,)), "2 entries, not one of 1", "t: (f64, f64[2])"),
        (lambda p: p.square(np.uint64(3)), "is uint64", "x: f64"),
        (lambda p: p.set_params({"p": 3}), "needs the field `a`", "param p"),
        (lambda p: dg.grad(p.square, "y")(1.0), "no formal `y`", "def square"),
    ],
)
def test_faults_show_the_declaration(program: dg.Program, call: Callable[[dg.Program], object], words: str, shown: str):
    with pytest.raises(dg.DgraphError) as caught:
        call(program)
    assert words in str(caught.value)
    assert caught.value.span is not None and shown in caught.value.span.source.line(caught.value.span.line)


@pytest.mark.parametrize(
    "call",
    [lambda: dg.load(3), lambda: dg.load(""), lambda: dg.load("a\0b"), lambda: dg.parse(b""), lambda: dg.parse(3)],
)
def test_what_is_no_program_at_all(call: Callable[[], object]):
    with pytest.raises(dg.DgraphError, match=r"takes the (path|text) of a program"):
        call()


def test_params_keep_their_values_when_new_ones_are_refused(program: dg.Program):
    with pytest.raises(dg.DgraphError):
        program.set_params({"p": {"a": "one", "b": [1, 2]}})
    assert program.with_param(2.0) == 2.0
    program.set_params({"p": {"a": 2, "b": [1, 1]}})
    assert program.with_param(2.0) == 6.0


# ---- records --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Given:
    a: float
    b: object


def test_records_compare_as_wholes(program: dg.Program):
    one, same, other = (program.same(Given(1.0, [x, 2.0])) for x in (1.0, 1.0, 3.0))
    assert one == same and one != other and one != {"a": 1.0} and one != program.shelf(1.0)
    assert program.shelf(2.0) == program.shelf(2.0)
    with pytest.raises(TypeError):
        hash(one)


@pytest.mark.usefixtures("folder")
def test_fields_may_have_the_names_of_methods(program: dg.Program, capsys: pytest.CaptureFixture[str]):
    shelf = program.shelf(2.0)
    assert shelf.items == 2.0 and list(shelf["keys"]) == [2.0, 4.0]
    assert main(["run", "first.dg:shelf", "--arg", "x=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"result": {"items": 2.0, "keys": [2.0, 4.0]}}
    assert main(["run", "first.dg:shelf", "--arg", "x=2"]) == 0
    assert capsys.readouterr().out == "result.items = 2.0\nresult.keys: f64[2] =\n[2. 4.]\n"


# ---- commands -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_singles_are_written_with_their_own_digits(capsys: pytest.CaptureFixture[str]):
    assert main(["run", "first.dg:half", "--arg", "x=0.2"]) == 0
    assert capsys.readouterr().out == "result = 0.1\n"
    arguments = ["--arg", "x=[0.1, NaN]", "--arg", "factor=1", "--precision", "f32", "--json"]
    assert main(["run", "first.dg:scaled", *arguments]) == 0
    assert capsys.readouterr().out == '{"result": [0.1, "nan"]}\n'


@pytest.mark.usefixtures("folder")
def test_a_precision_says_what_a_generic_function_is_called_with(capsys: pytest.CaptureFixture[str]):
    arguments = ["run", "first.dg:scaled", "--arg", "x=[1, 2]", "--arg", "factor=3"]
    assert main(arguments) == 1
    assert "or say a precision" in capsys.readouterr().err
    assert main([*arguments, "--precision", "f64"]) == 0
    assert "f64[2] =\n[3. 6.]" in capsys.readouterr().out


def test_pictures_take_the_defaults_of_formals(folder: Path, capsys: pytest.CaptureFixture[str]):
    for stage in ("forward", "reverse"):
        assert main(["draw", "first.dg:both", "--stage", stage, "--arg", "x=2", "-o", f"{stage}.svg"]) == 0
        assert "6" in (folder / f"{stage}.svg").read_text(encoding="utf-8")
    assert main(["draw", "first.dg:both", "--stage", "forward", "--arg", "z=2", "-o", "no.svg"]) == 1
    assert "first.dg:16:5" in capsys.readouterr().err and not (folder / "no.svg").exists()


@pytest.mark.usefixtures("folder")
def test_a_checked_argument_that_does_not_fit_is_shown_where_it_is_declared(capsys: pytest.CaptureFixture[str]):
    assert main(["check", "first.dg:total", "--arg", "x=2", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(one["line"], one["column"]) for one in found["diagnostics"]] == [(15, 14)]


@pytest.mark.usefixtures("folder")
@pytest.mark.skipif(sys.platform == "win32", reason="the shell closes the streams")
@pytest.mark.parametrize(
    ("closed", "line", "code"),
    [
        (">&-", "run first.dg:square --arg x=2", 0),
        (">&-", "run first.dg:square --arg x=two", 1),
        ("2>&-", "run first.dg:square --arg x=two", 1),
        ("<&-", "fmt -", 0),
        (">&- 2>&- <&-", "show first.dg --stage tree", 0),
    ],
)
def test_closed_streams_are_no_fault(closed: str, line: str, code: int):
    ran = subprocess.run(
        ["/bin/sh", "-c", f"'{sys.executable}' -m dgraph {line} {closed}"], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == code and "fault of dgraph" not in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.usefixtures("folder")
@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_an_interrupt_while_the_command_starts_is_no_traceback():
    script = (
        "import sys, signal, builtins\n"
        "from dgraph.cli import main\n"
        "plain = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'numpy':\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    return plain(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "sys.exit(main(['run', 'first.dg:square', '--arg', 'x=2']))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are those of POSIX")
def test_formatting_keeps_permissions_and_leaves_read_only_files_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    script = folder / "script.dg"
    script.write_text("def f( x:f64 )->f64=x\n", encoding="utf-8")
    script.chmod(0o444)
    assert main(["fmt", "script.dg"]) == 1
    assert "read-only" in capsys.readouterr().err and script.read_text(encoding="utf-8").startswith("def f( x")
    script.chmod(0o750)
    assert main(["fmt", "script.dg"]) == 0
    assert stat.S_IMODE(script.stat().st_mode) == 0o750 and script.read_text(encoding="utf-8").startswith("def f(x")


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_a_column_with_nan_is_named(capsys: pytest.CaptureFixture[str]):
    np.savez("data.npz", x=np.array([1.0, np.nan, 2.0]))
    assert main(["train", "trained.dg", "--data", "data.npz", "--out", "run"]) == 1
    assert "hold nan or inf in the column `x`" in capsys.readouterr().err and not Path("run").exists()


def test_what_a_killed_run_left_half_written_goes_with_the_next(folder: Path, capsys: pytest.CaptureFixture[str]):
    np.savez("data.npz", x=np.array([1.0, 2.0, 3.0]))
    run = folder / "run"
    run.mkdir()
    (run / ".checkpoint.safetensors.h_ppl0be").write_bytes(b"half")
    assert main(["train", "trained.dg", "--data", "data.npz", "--out", "run", "--set", "epochs=1"]) == 0
    assert "1 epoch in" in capsys.readouterr().out
    (run / ".metrics.csv.abcdefgh").write_bytes(b"half")
    (run / ".env.template").write_bytes(b"mine")
    assert main(["train", "trained.dg", "--resume", "run", "--set", "epochs=2"]) == 0
    assert [file.name for file in run.iterdir() if file.name.startswith(".")] == [".env.template"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")
def test_a_killed_run_goes_on_to_the_same_parameters(folder: Path):
    np.savez("data.npz", x=np.linspace(0.5, 2, 64))
    line = [*COMMAND, "train", "trained.dg", "--data", "data.npz", "--set"]
    with subprocess.Popen([*line, "epochs=1000000", "--out", "killed"], stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not (folder / "killed" / "metrics.csv").exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    rows = (folder / "killed" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    epochs = len(rows) + 5
    subprocess.run([*line[:5], "--resume", "killed", "--set", f"epochs={epochs}"], check=True, capture_output=True)
    subprocess.run([*line, f"epochs={epochs}", "--out", "straight"], check=True, capture_output=True)
    for name in ("params.safetensors", "metrics.csv"):
        assert (folder / "killed" / name).read_bytes() == (folder / "straight" / name).read_bytes()
    assert not list((folder / "killed").glob(".*"))
