"""The benchmark of loops runs, and its programs agree with one another, at tiny sizes and without peers."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "control_flow.py"


def test_the_benchmark_of_loops_runs_small():
    command = [sys.executable, str(SCRIPT), "--quick", "--alone"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| dgraph")]
    assert len(rows) == 12
    assert all(float(cell) > 0 for row in rows for cell in row.split("|")[2:5])
