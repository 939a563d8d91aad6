"""How things are timed here: contenders in turn, many short batches each, the fastest batch counts.

Alternating spreads the moods of the machine over all contenders; the minimum is what the code costs undisturbed.
Each benchmark writes a section of its own on the page of benchmarks.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROUNDS = 7
BATCH_SECONDS = 0.05
SLOW_SECONDS = 1.0
SLOW_ROUNDS = 2
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Row:
    """One line of a table: what was measured, seconds by contender."""

    case: str
    seconds: Mapping[str, float]


def fastest(contenders: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds per call of each contender; one that takes over a second leaves after two rounds."""
    best = {name: _warm(call) for name, call in contenders.items()}
    counts = {name: max(1, int(BATCH_SECONDS / seconds)) for name, seconds in best.items()}
    for number in range(rounds):
        for name, call in contenders.items():
            if number >= SLOW_ROUNDS and best[name] > SLOW_SECONDS:
                continue
            started = time.perf_counter()
            for _ in range(counts[name]):
                call()
            best[name] = min(best[name], (time.perf_counter() - started) / counts[name])
    return best


def _warm(call: Callable[[], object]) -> float:
    """Seconds of a call after a warm-up, which is one call if that is slow."""
    seconds = _seconds(call)
    for _ in range(3):
        if seconds > SLOW_SECONDS:
            break
        seconds = _seconds(call)
    return max(seconds, 1e-7)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def write_section(title: str, lines: Sequence[str]) -> None:
    """Print a section and put it in its place on the page of benchmarks, leaving the other sections as they are."""
    print("\n".join(lines))
    head, *sections = PAGE.read_text(encoding="utf-8").split("\n## ")
    found = {section.partition("\n")[0]: section.partition("\n")[2] for section in sections}
    found[title] = "\n".join(lines)
    text = "".join(f"\n## {name}\n\n{body.strip()}\n" for name, body in found.items())
    PAGE.write_text(f"{head.strip()}\n{text}", encoding="utf-8")


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
