"""The benchmarks run at tiny sizes and without peers, and their programs agree with one another."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "control_flow.py"


def test_the_benchmark_of_loops_runs_small():
    command = [sys.executable, str(SCRIPT), "--quick", "--alone"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| dgraph")]
    assert len(rows) == 13
    assert all(float(cell) > 0 for row in rows for cell in row.split("|")[2:5])


def test_the_ad_benchmark_runs_small():
    command = [sys.executable, str(SCRIPT.with_name("gradbench.py")), "--quick", "--alone"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = [line.split("|") for line in lines[lines.index("### Every form") :] if "| dgraph" in line]
    assert len(rows) == 19
    assert all(float(row[4]) > 0 for row in rows)
    assert not [line for line in lines if line.startswith("- ")]


def test_the_benchmark_of_starts_runs_small():
    command = [sys.executable, str(SCRIPT.with_name("compile.py")), "--quick", "--alone"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith(("| lse", "| import", "| sum"))]
    assert len(rows) == 5
    assert all(float(row[2]) > 0 for row in rows)


def test_the_benchmark_of_growth_runs_small():
    command = [sys.executable, str(SCRIPT.with_name("scaling.py")), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith(("| lse", "| 10 ", "| 30 "))]
    assert len(rows) == 5
    assert all(float(row[-2]) > 0 for row in rows)


def test_the_benchmark_of_networks_runs_small():
    command = [sys.executable, str(SCRIPT.with_name("deep.py")), "--quick", "--alone"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if ", batch" in line]
    assert len(rows) == 5
    assert all(float(row[2]) > 0 for row in rows)


def test_the_errors_of_functions_are_small():
    names = ["exp", "cos", "lgamma", "pow"]
    command = [sys.executable, str(SCRIPT.with_name("accuracy.py")), "--quick", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| `")]
    assert len(rows) == 2 * len(names)
    fast, precise = rows[: len(names)], rows[len(names) :]
    assert all(0.4 < float(row[place]) < 3.5 for row in fast for place in (2, 4))
    # The logarithm of the gamma function of doubles has no other form.
    units = [float(row[place]) for row in precise for place in (2, 4) if place == 2 or "lgamma" not in row[1]]
    assert all(0.4 < unit < 1 for unit in units)
