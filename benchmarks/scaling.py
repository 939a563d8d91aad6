"""How cost grows: time and memory with the number of points, compilation with the size of a graph, time with cores.

    python benchmarks/scaling.py            # prints, plots, and writes its section of docs/benchmarks.md
    python benchmarks/scaling.py --quick    # small, once, prints alone

Points are those of derivatives of the AD benchmark, compiled once for all sizes. Graphs are straight programs of random
operations on short arrays, compiled with empty caches, each in a process of its own. Cores are those that a process may
use.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from measure import PAGE, fastest, machine, versions, write_section

PLOT = PAGE.parent / "images" / "scaling.svg"
LIMIT = 900
POINTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "lse": ("n{}", (1_000, 10_000, 100_000, 1_000_000, 10_000_000)),
    "gmm": ("10_25_{}", (10, 100, 1_000, 10_000)),
    "lstm": ("l2_c{}", (100, 1_000, 10_000, 100_000)),
}
QUICK_POINTS: dict[str, tuple[str, tuple[int, ...]]] = {"lse": ("n{}", (10, 100))}
NODES = (10, 100, 1_000, 10_000)
QUICK_NODES = (10, 30)
SHARED = (("lse", "n1280000"), ("kmeans", "k100_n10000_d8"), ("gmm", "10_25_1000"))
QUICK_SHARED = (("lse", "n50"),)


@dataclass(frozen=True)
class Points:
    """A derivative at a number of points: seconds of a call, bytes that it takes, seconds of its first call."""

    problem: str
    count: int
    call: float
    first: float
    peak: int


@dataclass(frozen=True)
class Size:
    """A graph of so many nodes: processor seconds to read it and to compile its derivative, seconds of a call, and the
    process's bytes."""

    nodes: int
    read: float
    compiled: float
    call: float
    peak: int


# ---- points ----------------------------------------------------------------------------------------------------------


def by_points(known: dict[str, tuple[str, tuple[int, ...]]], rounds: int) -> list[Points]:
    """Derivatives at growing numbers of points."""
    from gradbench_data import workload
    from gradbench_dgraph import ARGUMENTS, PROGRAMS

    import dgraph as dg

    found = []
    for problem, (size, counts) in known.items():
        slope = dg.compile(dg.load(PROGRAMS / f"{problem}.dg").function("derivative"))
        slope(*ARGUMENTS[problem](workload(problem, size.format(counts[0])).inputs))
        for count in counts:
            given = ARGUMENTS[problem](workload(problem, size.format(count)).inputs)
            started = time.perf_counter()
            slope(*given)
            first = time.perf_counter() - started
            call = fastest({"": slope.bind(*given)}, rounds)[""]
            found.append(Points(problem, count, call, first, slope.memory(*given).peak))
    return found


# ---- graphs ----------------------------------------------------------------------------------------------------------


def straight(nodes: int) -> str:
    """A program of about so many operations, each of the two values before it, and its gradient."""
    draw = random.Random(0)
    lines = ["def f(x: f64[64], c: f64) -> f64:", "    v0 = sin(x)", "    v1 = cos(x) + c"]
    made = 3
    while made < nodes:
        last = len(lines) - 2
        text, cost = draw.choice(
            [
                (f"v{last} * {draw.random():.3f} + sin(v{last - 1})", 3),
                (f"tanh(v{last}) - v{last - 1} * c", 3),
                (f"v{last} / (1 + v{last - 1} * v{last - 1})", 3),
            ]
        )
        lines.append(f"    v{last + 1} = {text}")
        made += cost
    lines += [f"    return sum(v{len(lines) - 2})", ""]
    lines += ["def slope(x: f64[64], c: f64) -> (f64[64], f64) = grad(f, wrt=(x, c))(x, c)", ""]
    return "\n".join(lines)


def graph_measured(nodes: int) -> Size:
    """A graph of this size, in this process."""
    import numpy as np

    import dgraph as dg

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "straight.dg"
        warm = Path(folder) / "warm.dg"
        warm.write_text("def f(x: f64[64]) -> f64 = sum(x * sin(x))\n", encoding="utf-8")
        path.write_text(straight(nodes), encoding="utf-8")
        x = np.linspace(0, 1, 64)
        dg.compile(dg.load(warm).function("f"))(x)
        started = time.process_time()
        program = dg.load(path)
        read = time.process_time()
        slope = dg.compile(program.function("slope"))
        slope(x, 0.1)
        compiled = time.process_time()
        call = fastest({"": slope.bind(x, 0.1)}, 2)[""]
    status = Path("/proc/self/status")
    text = status.read_text(encoding="ascii") if status.exists() else ""
    peak = int(text.split("VmHWM:")[1].split()[0]) * 1024 if "VmHWM:" in text else 0
    return Size(nodes, read - started, compiled - read, call, peak)


def by_nodes(known: Sequence[int]) -> tuple[list[Size], list[str]]:
    """Graphs of growing size, each in a process of its own, and notes on those that took too long."""
    found, notes = [], []
    for nodes in known:
        with tempfile.TemporaryDirectory() as folder:
            told = child(["--graph", str(nodes)], {"DGRAPH_CACHE_DIR": folder})
        if told is None:
            notes.append(f"{nodes:,} nodes were given up after {LIMIT} s.")
            break
        found.append(Size(**told))
    return found, notes


# ---- cores -----------------------------------------------------------------------------------------------------------


def shared_measured(problem: str, size: str) -> float:
    """Seconds of a derivative, in this process."""
    from gradbench_data import workload
    from gradbench_dgraph import forms

    form = next(iter(forms(workload(problem, size)).values()))
    return fastest({"": form.derivative}, 3)[""]


def by_cores(known: Sequence[tuple[str, str]]) -> dict[str, dict[int, float]]:
    """Seconds of derivatives by the number of cores that may be used."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    counts = sorted({2**power for power in range(len(cores).bit_length())} | {len(cores)})
    found: dict[str, dict[int, float]] = {}
    for problem, size in known:
        for count in [count for count in counts if count <= len(cores)]:
            variables = {name: str(count) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}
            told = child(["--shared", problem, size, "--cores", str(count)], variables)
            if told is not None:
                found.setdefault(f"{problem} {size}", {})[count] = told
    return found


def child(arguments: Sequence[str], variables: dict[str, str]) -> Any:
    """What a process of this script prints; None if it takes too long."""
    command = [sys.executable, __file__, *arguments]
    try:
        done = subprocess.run(
            command, check=True, env=os.environ | variables, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout.splitlines()[-1])


# ---- what is shown ---------------------------------------------------------------------------------------------------


def plotted(points: Sequence[Points], graphs: Sequence[Size], cores: dict[str, dict[int, float]]) -> None:
    """Draw all three."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "dgraph", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for problem in dict.fromkeys(p.problem for p in points):
        of = [p for p in points if p.problem == problem]
        left.plot([p.count for p in of], [p.call * 1e6 for p in of], "o-", label=problem)
    left.set(xscale="log", yscale="log", xlabel="points", ylabel="µs", title="a derivative")
    for title, value in (("read", lambda g: g.read), ("compile", lambda g: g.compiled)):
        middle.plot([g.nodes for g in graphs], [value(g) for g in graphs], "o-", label=title)
    middle.set(xscale="log", yscale="log", xlabel="nodes", ylabel="s", title="reading and compiling")
    for name, seconds in cores.items():
        right.plot(list(seconds), [seconds[1] / s for s in seconds.values()], "o-", label=name)
    counts = sorted({count for seconds in cores.values() for count in seconds})
    right.set(xlabel="cores", ylabel="times as fast", title="a derivative on more cores", ylim=(0, None), xticks=counts)
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, metadata={"Date": None})


def rows(header: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *(f"| {' | '.join(row)} |" for row in cells)]


def growth(sizes: Sequence[float], costs: Sequence[float]) -> list[str]:
    """By which power of the size each cost grew since the one before."""
    from math import log

    pairs = zip(zip(sizes, costs, strict=True), list(zip(sizes, costs, strict=True))[1:], strict=False)
    return ["-", *(f"{log(after[1] / before[1]) / log(after[0] / before[0]):.2f}" for before, after in pairs)]


def shown(
    points: Sequence[Points], graphs: Sequence[Size], cores: dict[str, dict[int, float]], notes: Sequence[str]
) -> list[str]:
    """The tables."""
    lines = [
        "### Points: a derivative compiled once for all sizes",
        "",
        *rows(
            ("program", "points", "call (µs)", "ns per point", "first call here (µs)", "bytes per point"),
            [
                (
                    p.problem,
                    f"{p.count:,}",
                    f"{p.call * 1e6:.4g}",
                    f"{p.call / p.count * 1e9:.3g}",
                    f"{p.first * 1e6:.4g}",
                    f"{p.peak / p.count:.4g}",
                )
                for p in points
            ],
        ),
        "",
        "### Nodes: a straight program and its gradient, nothing cached, seconds of the processor",
        "",
    ]
    nodes = [g.nodes for g in graphs]
    read, compiled = growth(nodes, [g.read for g in graphs]), growth(nodes, [g.compiled for g in graphs])
    lines += rows(
        ("nodes", "read (s)", "grows as n to the", "compile (s)", "grows as n to the", "call (µs)", "process (MB)"),
        [
            (
                f"{g.nodes:,}",
                f"{g.read:.3g}",
                read[at],
                f"{g.compiled:.3g}",
                compiled[at],
                f"{g.call * 1e6:.4g}",
                f"{g.peak / 1e6:.0f}",
            )
            for at, g in enumerate(graphs)
        ],
    )
    counts = sorted({count for seconds in cores.values() for count in seconds})
    lines += [
        "",
        "### Cores: a derivative in a process that may use so many",
        "",
        *rows(
            ("program (µs)", *(f"{count}" for count in counts)),
            [
                (name, *(f"{seconds[c] * 1e6:.4g}" if c in seconds else "-" for c in counts))
                for name, seconds in cores.items()
            ],
        ),
        "",
        *(f"- {note}" for note in notes),
    ]
    return lines


def main(arguments: Sequence[str]) -> None:
    """Measure, print, plot, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small, once, prints alone")
    parser.add_argument("--graph", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--shared", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.graph is not None:
        print(json.dumps(vars(graph_measured(options.graph))))
        return
    if options.shared is not None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: options.cores]))
        print(json.dumps(shared_measured(*options.shared)))
        return
    quick = options.quick
    points = by_points(QUICK_POINTS if quick else POINTS, 1 if quick else 5)
    graphs, notes = by_nodes(QUICK_NODES if quick else NODES)
    cores = by_cores(QUICK_SHARED if quick else SHARED)
    lines = [
        "Written by `python benchmarks/scaling.py`. A derivative is called bound.",
        "",
        f"{date.today().isoformat()}; {machine()};",
        f"{versions('numpy', 'llvmlite', 'numba')}",
        "",
        "![time against points, compilation against nodes, speed against cores](images/scaling.svg)",
        "",
        *shown(points, graphs, cores, notes),
    ]
    if quick:
        print("\n".join(lines))
    else:
        plotted(points, graphs, cores)
        write_section("Scaling", lines)


if __name__ == "__main__":
    main(sys.argv[1:])
