"""The commands as a person types them, each in its own process."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
LECTURE = f"{ROOT}/examples/lecture.dg:f"


def dgraph(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dgraph", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd or ROOT, timeout=250)


@pytest.fixture
def program(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "program.dg"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_gradient_of_the_lecture_equals_the_closed_form():
    done = dgraph("grad", LECTURE, "--wrt", "x1,x2", "--arg", "x1=2", "--arg", "x2=3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["value"] == pytest.approx([math.sin(6), 6 + math.log(3)], rel=1e-14)
    assert found["derivatives"]["x1"] == pytest.approx(3 * math.cos(6), rel=1e-14)
    assert found["derivatives"]["x2"] == pytest.approx(2 * math.cos(6), rel=1e-14)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_both_modes(mode: str):
    done = dgraph("grad", LECTURE, "--wrt", "x2", "--mode", mode, "--arg", "x1=2", "--arg", "x2=3", "--json")
    assert json.loads(done.stdout)["derivatives"]["x2"] == pytest.approx(2 * math.cos(6), rel=1e-14)


def test_run_takes_json_and_files(program, tmp_path: Path):
    np.save(tmp_path / "w.npy", np.array([1.0, 2.0]))
    np.savez(tmp_path / "d.npz", b=np.array([10.0, 20.0]))
    path = program("def main[n](x: f64[n], w: f64[n], b: f64[n]) -> f64[n] = x * w + b\n")
    files = ["--arg", f"w=@{tmp_path}/w.npy", "--arg", f"b=@{tmp_path}/d.npz:b"]
    done = dgraph("run", path, "--arg", "x=[1, 2]", *files, "--json")
    assert json.loads(done.stdout) == {"result": [11.0, 24.0]}, done.stderr


def test_numbers_that_are_not_finite_are_words(program):
    path = program("def main(x: f64) -> (f64, f64, f64) = (x / 0, -x / 0, 0 * (x / 0))\n")
    done = dgraph("run", path, "--arg", "x=1", "--json")
    assert json.loads(done.stdout) == {"result": ["inf", "-inf", "nan"]}, done.stderr


def test_records_go_in_and_out(program):
    text = """
        record Pair:
            a: f64
            b: f64[2]

        def main(p: Pair) -> Pair = 2 * p
    """
    import textwrap

    done = dgraph("run", program(textwrap.dedent(text)), "--arg", 'p={"a": 1, "b": [2, 3]}', "--json")
    assert json.loads(done.stdout) == {"result": {"a": 2.0, "b": [4.0, 6.0]}}, done.stderr


def test_check_says_what_it_compared():
    done = dgraph("check", f"{ROOT}/examples/lecture.dg")
    assert done.returncode == 0, done.stderr
    assert "f: derivatives in x1, x2 agree" in done.stdout


def test_check_in_json(program):
    done = dgraph("check", program("def f(x: f64) -> f64 = x + yy\n"), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["ok"] is False
    (diagnostic,) = found["diagnostics"]
    assert diagnostic["severity"] == "error"
    assert (diagnostic["line"], diagnostic["column"]) == (1, 28)
    assert "yy" in diagnostic["title"]


def test_a_fault_in_the_program_is_shown_with_carets(program):
    done = dgraph("run", program("def main(x: f64) -> f64 = x + yy\n"), "--arg", "x=1")
    assert done.returncode == 1
    assert "^^" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--arg", "x=one"], "JSON"),
        (["--arg", "x"], "no value"),
        (["--arg", "z=1"], "no argument"),
        ([], "misses"),
        (["--arg", "x=[1]"], "1 axis"),
        (["--arg", "x=true"], "bool"),
        (["--arg", "x=@nothing.npy"], "nothing.npy"),
    ],
)
def test_faulty_arguments(program, arguments: list[str], words: str):
    done = dgraph("run", program("def main(x: f64) -> f64 = x\n"), *arguments)
    assert done.returncode == 1
    assert words in done.stderr and "Traceback" not in done.stderr


def test_wrong_usage_is_2():
    assert dgraph("run").returncode == 2
    assert dgraph("fly").returncode == 2


def test_missing_files_and_functions_are_1():
    assert dgraph("run", "nothing.dg").returncode == 1
    missing = dgraph("run", f"{ROOT}/examples/lecture.dg:g", "--arg", "x1=1")
    assert missing.returncode == 1 and "`g`" in missing.stderr


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf", ".dot"])
def test_draw_writes_every_format(tmp_path: Path, suffix: str):
    target = tmp_path / f"f{suffix}"
    done = dgraph("draw", LECTURE, "-o", str(target))
    assert done.returncode == 0, done.stderr
    starts = {".svg": b"<svg", ".png": b"\x89PNG", ".pdf": b"%PDF", ".dot": b"digraph"}
    assert starts[suffix] in target.read_bytes()[:200]


def test_pictures_show_the_numbers_of_the_lecture(tmp_path: Path):
    arguments = ["--arg", "x1=2", "--arg", "x2=3"]
    pictures = {}
    for stage in ("forward", "reverse"):
        target = tmp_path / f"{stage}.svg"
        assert dgraph("draw", LECTURE, "--stage", stage, *arguments, "-o", str(target)).returncode == 0
        pictures[stage] = target.read_text(encoding="utf-8")

    def numbers(stage: str, prefix: str) -> list[float]:
        return sorted(map(float, re.findall(rf">{prefix}=(-?\d[-+\d.e]*)<", pictures[stage])))

    # x1, x2, v1, v2, y1, y2, and the two results.
    y1, y2 = math.sin(6), 6 + math.log(3)
    values = sorted([2, 3, 6, math.log(3), y1, y2, y1, y2])
    adjoints = sorted([3 * math.cos(6), 2 * math.cos(6), math.cos(6), 0, 1, 0, 1, 0])
    assert numbers("forward", "v") == pytest.approx(values, rel=1e-14)
    assert numbers("reverse", "v") == pytest.approx(values, rel=1e-14)
    assert numbers("reverse", "adj") == pytest.approx(adjoints, rel=1e-14)
    assert numbers("forward", "adj") == []


@pytest.mark.parametrize("stage", ["tree", "graph", "optimised", "grad", "loops", "numba", "llvm"])
def test_show_every_stage(stage: str):
    done = dgraph("show", LECTURE, "--stage", stage)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 100


def test_show_cuda():
    path = f"{ROOT}/benchmarks/spine.dg:chain32"
    done = dgraph("show", path, "--stage", "cuda")
    assert done.returncode == 0, done.stderr
    assert "cuda" in done.stdout


def test_doctor():
    done = dgraph("doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert {"dgraph", "picture layout", "kernel cache", "cuda"} <= json.loads(done.stdout).keys()


def test_a_warm_start_loads_neither_parser_nor_compiler(tmp_path: Path):
    code = (
        "import sys, dgraph as dg\n"
        f"assert dg.load({LECTURE[:-2]!r}).f(2.0, 3.0)[1] > 7\n"
        "print(*sorted({'lark', 'numba', 'scipy', 'matplotlib', 'networkx'} & set(sys.modules)))\n"
    )
    environment = os.environ | {"DGRAPH_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=250)
        for _ in range(2)
    ]
    assert runs[0].returncode == 0, runs[0].stderr
    assert runs[1].stdout.split() == [], runs[1].stdout + runs[1].stderr
