"""`import dgraph` loads nothing heavy: every part of it waits until it is used."""

import json
import platform
import subprocess
import sys

import pytest

import dgraph


def modules_after(statement):
    """The top-level modules that a fresh interpreter holds after the statement, beyond those it started with."""
    code = f"import sys, json; before = set(sys.modules); {statement}; print(json.dumps([*set(sys.modules) - before]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_import_loads_only_the_standard_library():
    loaded = modules_after("import dgraph")
    assert "dgraph" in loaded
    assert loaded - {"dgraph"} <= sys.stdlib_module_names


@pytest.mark.parametrize("place", ["dgraph.cli", "dgraph.program"])
def test_the_entry_points_leave_the_heavy_libraries_alone(place):
    assert not modules_after(f"import {place}") & {"numba", "llvmlite", "scipy", "matplotlib", "wasmtime"}


def test_a_function_from_the_cache_is_called_without_what_compiles(tmp_path, monkeypatch):
    monkeypatch.setenv("DGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    program = tmp_path / "square.dg"
    program.write_text("def square(x: f64) -> f64 = x * x\n", encoding="utf-8")
    code = f"import sys, json, dgraph as dg; dg.load({str(program)!r}).square(2.0); print(json.dumps([*sys.modules]))"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    loaded = {".".join(name.split(".")[:2]) for name in json.loads(done.stdout)}
    assert "dgraph.kernels" in loaded
    assert not loaded & {"dgraph.ops", "dgraph.frontend", "dgraph.passes", "dgraph.ad", "lark", "numba"}
    if sys.platform == "linux" and platform.machine() == "x86_64":
        assert "llvmlite.binding" not in loaded


def test_every_public_name_can_be_had():
    for name in dgraph.__all__:
        assert getattr(dgraph, name) is not None
        assert name in dir(dgraph)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'dgraph' has no attribute 'lode'"):
        dgraph.lode  # noqa: B018
