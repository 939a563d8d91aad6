"""How things are timed here: contenders in turn, many short batches each, the fastest batch counts.

Alternating spreads the moods of the machine over all contenders; the minimum is what the code costs undisturbed.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROUNDS = 7
BATCH_SECONDS = 0.05


@dataclass(frozen=True)
class Row:
    """One line of a table: what was measured, seconds by contender."""

    case: str
    seconds: Mapping[str, float]


def fastest(contenders: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds per call of each contender."""
    counts = {name: _count(call) for name, call in contenders.items()}
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(ROUNDS):
        for name, call in contenders.items():
            started = time.perf_counter()
            for _ in range(counts[name]):
                call()
            best[name] = min(best[name], (time.perf_counter() - started) / counts[name])
    return best


def _count(call: Callable[[], object]) -> int:
    """Calls that fill a batch, after a warm-up."""
    for _ in range(3):
        call()
    started = time.perf_counter()
    call()
    return max(1, int(BATCH_SECONDS / max(time.perf_counter() - started, 1e-7)))


def pin_to_one_core() -> None:
    """One thread on one core for everybody, and no processor override for the BLAS library."""
    os.environ.pop("OPENBLAS_CORETYPE", None)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def machine() -> str:
    """Processor and cores."""
    name = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            name = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}"


def versions(*names: str) -> str:
    """Installed versions."""
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def table(rows: list[Row], unit: float, unit_name: str, ours: str = "dgraph") -> list[str]:
    """A Markdown table: times in a unit, and the ratio of ours to the fastest other contender."""
    names = list(dict.fromkeys(name for row in rows for name in row.seconds))
    lines = [f"| case ({unit_name}) | {' | '.join(names)} | {ours} / fastest other |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        cells = [f"{row.seconds[name] / unit:.4g}" if name in row.seconds else "-" for name in names]
        others = [seconds for name, seconds in row.seconds.items() if not name.startswith(ours)]
        ratio = f"{row.seconds[ours] / min(others):.2f}" if others and ours in row.seconds else "-"
        lines.append(f"| {row.case} | {' | '.join(cells)} | {ratio} |")
    return lines
