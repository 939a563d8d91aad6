"""Bundles: a function as a file gives the same bits where its program, the front end and the compiler are not."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.cli import main
from dgraph.errors import ArgumentError, CheckFailed, DataError, NotSupported

TEXT = """
record Layer[n, m]:
    w: f64[n, m]
    b: f64[m]

param scale: f64[2] = [2.0, 3.0]

@entry
def loss[k, n, m](layer: Layer[n, m], x: f64[k, n], steps: i32 = 2) -> f64:
    h = tanh(x @ layer.w + layer.b)
    for s in range(steps):
        h = h + sin(h) * scale[0]
    assert steps < 50, "too many steps"
    return sum(h * h) * scale[1]

def anything[n, T: float](x: T[n]) -> T[n] = 2 * x

def long(y: f64, n: i32) -> f64:
    @checkpoint(slots=2, disk=4)
    for t in range(n):
        y = sin(y)
    return y
"""


@pytest.fixture
def program() -> dg.Program:
    return dg.parse(TEXT, path="layers.dg", seed=3)


@pytest.fixture
def arguments():
    rng = np.random.default_rng(0)
    return {"layer": {"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}, "x": rng.normal(size=(5, 4))}


def test_the_same_bits_come_out(program: dg.Program, arguments, tmp_path: Path):
    step = dg.compile(dg.value_and_grad(program.loss))
    step.export(tmp_path / "step.dgb")
    loaded = dg.load_bundle(tmp_path / "step.dgb")
    value, slope = step(**arguments)
    again, same = loaded(**arguments)
    assert value == again and slope == same
    assert type(same).__name__ == "RecordValue" and same.w.shape == (4, 3)
    bound = loaded.bind(**arguments, steps=0)
    assert bound()[0] == step(**arguments, steps=0)[0]
    assert loaded.memory(**arguments).peak == step.memory(**arguments).peak
    assert pickle.loads(pickle.dumps(loaded))(**arguments)[0] == value


def test_params_travel_with_it(program: dg.Program, arguments, tmp_path: Path):
    program.set_params({"scale": np.array([0.5, 7.0])})
    dg.compile(program.loss).export(tmp_path / "loss.dgb")
    expected = program.loss(**arguments)
    program.set_params({"scale": np.zeros(2)})
    assert dg.load_bundle(tmp_path / "loss.dgb")(**arguments) == expected


def test_faults_are_told_with_the_program_elsewhere(program: dg.Program, arguments, tmp_path: Path):
    dg.compile(program.loss).export(tmp_path / "loss.dgb")
    loaded = dg.load_bundle(tmp_path / "loss.dgb")
    with pytest.raises(CheckFailed, match="too many steps") as failed:
        loaded(**arguments, steps=100)
    assert "layers.dg:13" in str(failed.value) and "assert" in str(failed.value)
    with pytest.raises(ArgumentError, match="misses an argument: `x"):
        loaded(arguments["layer"])
    with pytest.raises(NotSupported, match="no parts to time"):
        loaded.profile(**arguments)
    with pytest.raises(NotSupported, match="copy"):
        loaded.export(tmp_path / "again.dgb")


def test_neither_front_end_nor_compiler_is_loaded(program: dg.Program, tmp_path: Path):
    dg.compile(program.loss).export(tmp_path / "loss.dgb")
    code = f"""
import sys
import numpy as np
import dgraph as dg
f = dg.load_bundle({str(tmp_path / "loss.dgb")!r})
print(f({{"w": np.ones((4, 3)), "b": np.ones(3)}}, np.ones((5, 4))))
unwanted = "lark", "numba", "dgraph.frontend", "dgraph.passes", "dgraph.ops", "dgraph.kernels.lower"
assert not [name for name in unwanted if name in sys.modules]
"""
    environment = {**os.environ, "DGRAPH_CACHE_DIR": str(tmp_path / "empty")}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr
    expected = program.loss({"w": np.ones((4, 3)), "b": np.ones(3)}, np.ones((5, 4)))
    assert float(found.stdout) == expected
    # Nothing was compiled, so there was nothing to keep.
    assert not (tmp_path / "empty").exists()


def test_what_depends_on_the_call_is_refused(program: dg.Program, tmp_path: Path):
    path = tmp_path / "f.dgb"
    for compiled, reason in (
        (dg.compile(program.anything), "generic"),
        (dg.compile(program.loss, budget="1MB"), "chosen at a call"),
        (dg.compile(dg.jacobian(program.long, wrt="y", mode="sparse")), "pattern"),
        (dg.compile(dg.grad(program.long, wrt="y")), "disk"),
    ):
        with pytest.raises(NotSupported, match=reason):
            compiled.export(path)
    assert not list(tmp_path.iterdir())


def test_damage_is_told(program: dg.Program, tmp_path: Path):
    path = tmp_path / "loss.dgb"
    dg.compile(program.loss).export(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), max(len(whole) // 60, 1)):
        path.write_bytes(whole[:place])
        with pytest.raises(DataError, match="bundle"):
            dg.load_bundle(path)
    with pytest.raises(DataError, match="cannot read"):
        dg.load_bundle(tmp_path / "none.dgb")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("function.json", '{"format": 0, "dgraph": "0.0.1"}')
        archive.writestr("code.bin", b"")
        archive.writestr("params.npz", b"")
    with pytest.raises(DataError, match="another format"):
        dg.load_bundle(path)
    with pytest.raises(ArgumentError, match="cannot write"):
        dg.compile(program.loss).export(tmp_path / "no" / "where.dgb")


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, bundle = tmp_path / "p.dg", tmp_path / "p.dgb"
    source.write_text("@entry\ndef f(x: f64) -> f64 = x ** 3\n", encoding="utf-8")
    assert main(["export", str(source), "--grad", "--aot", str(bundle)]) == 0
    assert str(bundle) in capsys.readouterr().out
    source.unlink()
    assert main(["run", str(bundle), "--arg", "x=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"result": [8.0, 12.0]}
