"""Loops and their gradients beside JAX, Equinox, PyTorch and a reverse sweep written by hand in C.

    python benchmarks/control_flow.py            # prints, and writes its section of docs/benchmarks.md
    python benchmarks/control_flow.py --quick    # small sizes, prints alone; with --alone without peers
    python benchmarks/control_flow.py sines      # some cases alone, prints alone

Peers where they are installed (`pip install -e ".[bench]"`, equinox, gcc). One thread on one core for all; answers are
compared before anything is timed. Memory is the peak of the resident set during one gradient, above what it was after
compilation, in a process of its own for each contender.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from math import comb
from pathlib import Path
from typing import Any

from measure import fastest, machine, pin_to_one_core, versions, write_section

pin_to_one_core()

import numpy as np  # noqa: E402
from control_flow_jax import jax_peers  # noqa: E402
from control_flow_peers import Peer, c_peers, torch_peers  # noqa: E402

import dgraph as dg  # noqa: E402

PROGRAM = Path(__file__).with_suffix(".dg")


@dataclass(frozen=True)
class Case:
    """A program: what it is, its arguments, how far answers may differ, and dgraph's functions for it.

    `functions` are names of contenders, of a primal and of its gradient, and the budget with which this is compiled, if
    any. `state` are the bytes of the carried values and `budget` those of the annotation, for what is predicted.
    """

    title: str
    data: Callable[[bool], dict[str, Any]]
    arguments: Callable[[dict[str, Any]], tuple[Any, ...]]
    functions: tuple[tuple[str, str, str, str | None], ...]
    tolerance: float = 1e-9
    state: Callable[[dict[str, Any]], int] = lambda _: 0
    budget: int = 0


def _lorenz(quick: bool) -> dict[str, Any]:
    steps = 1_024 if quick else 1_000_000
    return {"y": np.ones(3), "p": np.array([10.0, 28.0, 8 / 3]), "h": 1e-5, "steps": steps, "slots": 1000}


def _roots(quick: bool) -> dict[str, Any]:
    return {"a": np.linspace(-2, 4, 200 if quick else 20_000)}


def _heat(quick: bool) -> dict[str, Any]:
    cells, steps = (100, 64) if quick else (10_000, 10_000)
    return {"u": np.sin(np.linspace(0, 20, cells)), "r": 0.2, "steps": steps, "slots": 100}


def _lstm(quick: bool) -> dict[str, Any]:
    random = np.random.default_rng(0)
    steps, d, h = (50, 4, 8) if quick else (5_000, 32, 64)
    w, u, b = (0.1 * random.standard_normal(shape) for shape in ((d, 4 * h), (h, 4 * h), (4 * h)))
    return {"w": w, "u": u, "b": b, "x": random.standard_normal((steps, d)), "h": h}


def _edit(quick: bool) -> dict[str, Any]:
    random = np.random.default_rng(0)
    n = 30 if quick else 1_000
    return {"x": random.standard_normal(n), "y": random.standard_normal(n), "gap": 1.0}


def _sines(quick: bool) -> dict[str, Any]:
    return {"y": 0.3, "c": 0.5, "steps": 1_024 if quick else 1_000_000, "slots": 1000}


CASES = {
    "lorenz": Case(
        "Lorenz system, 1,000,000 steps of Runge-Kutta; with respect to start and parameters",
        _lorenz,
        lambda d: (d["y"], d["p"], d["h"], d["steps"]),
        (
            ("dgraph", "lorenz", "lorenz_gradient", None),
            ("dgraph, 20 MB of states", "lorenz", "lorenz_lean_gradient", None),
            ("dgraph, budget 50 MB", "lorenz", "lorenz_gradient", "50MB"),
        ),
        1e-7,
        lambda _: 24,
        20_000_000,
    ),
    "roots": Case(
        "Newton's method for 20,000 roots, each a `while`; with respect to every equation",
        _roots,
        lambda d: (d["a"],),
        (
            ("dgraph", "roots", "roots_gradient", None),
            ("dgraph, @implicit", "roots_implicit", "roots_implicit_gradient", None),
        ),
    ),
    "heat": Case(
        "Nonlinear heat equation, 10,000 cells, 10,000 steps; with respect to the initial state",
        _heat,
        lambda d: (d["u"], d["r"], d["steps"]),
        (
            ("dgraph", "heat", "heat_gradient", None),
            ("dgraph, 400 MB of states", "heat", "heat_lean_gradient", None),
            ("dgraph, budget 500 MB", "heat", "heat_gradient", "500MB"),
        ),
    ),
    "lstm": Case(
        "LSTM of 5,000 steps, 32 inputs, 64 units; with respect to all weights",
        _lstm,
        lambda d: ({name: d[name] for name in ("w", "u", "b")}, d["x"]),
        (("dgraph", "lstm", "lstm_gradient", None),),
    ),
    "edit": Case(
        "Soft edit distance of two series of 1,000 numbers, rows updated in place; with respect to both",
        _edit,
        lambda d: (d["x"], d["y"], d["gap"]),
        (("dgraph", "edit", "edit_gradient", None),),
    ),
    "sines": Case(
        "y = sin(y) + c, 1,000,000 steps; with respect to start and c",
        _sines,
        lambda d: (d["y"], d["c"], d["steps"]),
        (("dgraph", "sines", "sines_gradient", None), ("dgraph, 1,000 slots", "sines", "sines_lean_gradient", None)),
        1e-9,
        lambda _: 8,
        8_000,
    ),
    "logistic": Case(
        "y = c y (1 - y), 1,000,000 steps; with respect to start and c",
        lambda quick: {"y": 0.3, "c": 2.9, "steps": 1_024 if quick else 1_000_000, "slots": 1000},
        lambda d: (d["y"], d["c"], d["steps"]),
        (("dgraph", "logistic", "logistic_gradient", None),),
    ),
}


# ---- contenders ------------------------------------------------------------------------------------------------------


def flat(answer: Any) -> list[np.ndarray]:
    """The numbers of an answer in order, whatever the tuples and records around them."""
    if isinstance(answer, tuple | list):
        return [leaf for part in answer for leaf in flat(part)]
    if isinstance(answer, Mapping):
        return [leaf for part in answer.values() for leaf in flat(part)]
    if hasattr(answer, "detach"):
        return [answer.detach().numpy()]
    return [np.asarray(answer, np.float64)]


def contenders(name: str, data: dict[str, Any], small: dict[str, Any], alone: bool) -> dict[str, Peer]:
    """Everybody who takes part in a case, by name; dgraph first."""
    case = CASES[name]
    program = dg.load(PROGRAM)
    found = []
    for title, primal, gradient, budget in case.functions:
        value, slope = dg.compile(getattr(program, primal)), dg.compile(getattr(program, gradient), budget=budget)
        given, tiny = case.arguments(data), case.arguments(small)
        memory = slope.memory(*given)
        found.append(
            Peer(
                title,
                lambda value=value, given=given: value(*given),
                lambda slope=slope, given=given: slope(*given),
                lambda slope=slope, tiny=tiny: slope(*tiny),
                foretold=None if memory.open else memory.peak,
                slowdown=None if budget is None else slope.choice(*given)["slowdown"],
            )
        )
    if not alone:
        found += [*c_peers(name, data), *jax_peers(name, data), *torch_peers(name, data)]
    return {peer.name: peer for peer in found}


def compare(name: str, taking_part: dict[str, Peer]) -> None:
    """Stop unless all answers agree, relative to the largest entry; who runs a part of the steps has another answer."""
    ours = None
    for title, peer in taking_part.items():
        if peer.gradient is None or peer.part != 1:
            continue
        theirs = flat(peer.gradient())
        ours = theirs if ours is None else ours
        for one, other in zip(ours, theirs, strict=True):
            scale = float(np.abs(one).max(initial=1e-30))
            worst = float(np.abs(one.reshape(-1) - np.asarray(other).reshape(-1)).max(initial=0)) / scale
            if not worst <= CASES[name].tolerance:
                sys.exit(f"{name}: dgraph and {title} differ by {worst:.1e} (relative)")


# ---- memory ----------------------------------------------------------------------------------------------------------


def resident(field: str) -> int:
    """A field of this process's memory in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.split(f"{field}:")[1].split()[0]) * 1024


def measure_memory(name: str, title: str, quick: bool) -> None:
    """Print the bytes that one gradient adds to the resident set at its peak."""
    peer = contenders(name, CASES[name].data(quick), CASES[name].data(True), title.startswith("dgraph"))[title]
    peer.warm()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    assert peer.gradient is not None
    answer = peer.gradient()
    print(json.dumps(resident("VmHWM") - before))
    del answer


def peak(name: str, title: str, quick: bool) -> int | None:
    """The peak of a contender, from a process of its own; None where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, __file__, "--memory", name, title, *(["--quick"] if quick else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


# ---- tables ----------------------------------------------------------------------------------------------------------


def advances(steps: int, slots: int) -> int:
    """The least number of steps run forwards when `slots` states are kept (Griewank and Walther)."""
    most = 0
    while comb(slots + most, slots) < steps:
        most += 1
    return most * steps - comb(slots + most, slots + 1)


def measured(name: str, quick: bool, alone: bool) -> list[str]:
    """The table of a case."""
    case, data = CASES[name], CASES[name].data(quick)
    taking_part = contenders(name, data, CASES[name].data(True), alone)
    compare(name, taking_part)
    calls: dict[str, Callable[[], object]] = {}
    for title, peer in taking_part.items():
        if peer.primal is not None:
            calls[f"{title}/primal"] = peer.primal
        if peer.gradient is not None:
            calls[f"{title}/gradient"] = peer.gradient
    seconds = fastest(calls, 1) if quick else fastest(calls)
    for title, peer in taking_part.items():
        for part in ("primal", "gradient"):
            if f"{title}/{part}" in seconds:
                seconds[f"{title}/{part}"] /= peer.part
    first = next(iter(taking_part))
    lines = [
        f"### {case.title}" if not quick else f"### {name}, small",
        "",
        "| | primal (ms) | gradient (ms) | gradient / primal | gradient / dgraph's | peak (MB) | foretold (MB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, peer in taking_part.items():
        primal, gradient = seconds.get(f"{title}/primal"), seconds.get(f"{title}/gradient")
        is_whole = gradient is not None and peer.part == 1
        highest = peak(name, title, quick) if is_whole and (not quick or title == first) else None
        cells = [
            f"{primal * 1e3:.4g}" if primal is not None else "-",
            f"{gradient * 1e3:.4g}" if gradient is not None else "-",
            f"{gradient / primal:.2f}" if gradient is not None and primal is not None else "-",
            f"{gradient / seconds[f'{first}/gradient']:.3g}" if gradient is not None else "-",
            f"{highest / 1e6:.1f}" if highest is not None else "-",
            f"{peer.foretold / 1e6:.1f}" if peer.foretold is not None else "-",
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return [*lines, "", *within_slots(case, data, seconds), *within_budgets(taking_part, seconds)]


def within_budgets(taking_part: dict[str, Peer], seconds: dict[str, float]) -> list[str]:
    """What the model says that a budget costs, and what it does cost."""
    first, *others = taking_part
    lines = []
    for title in others:
        slowdown = taking_part[title].slowdown
        if slowdown is not None:
            predicted = slowdown * seconds[f"{first}/gradient"]
            ratio = seconds[f"{title}/gradient"] / predicted
            lines.append(f"{title}: by the model {slowdown:.2f} times the plain gradient, {predicted * 1e3:.4g} ms;")
            lines += [f"measured is {ratio:.2f} of that.", ""]
    return lines


def within_slots(case: Case, data: dict[str, Any], seconds: dict[str, float]) -> list[str]:
    """What recomputation should cost: the steps run forwards at the price of the primal, over the plain gradient."""
    if not case.budget or len(case.functions) < 2:
        return []
    plain, lean = case.functions[0][0], case.functions[1][0]
    slots = case.budget // case.state(data)
    again = advances(data["steps"], slots)
    predicted = seconds[f"{plain}/gradient"] + again / data["steps"] * seconds[f"{plain}/primal"]
    ratio = seconds[f"{lean}/gradient"] / predicted
    return [
        f"{slots:,} slots run {again:,} steps forwards. From the plain gradient and the primal this should take",
        f"{predicted * 1e3:.4g} ms; measured is {ratio:.2f} of that.",
        "",
    ]


def main(arguments: list[str]) -> None:
    """Measure, print, and write the section if everything was measured."""
    quick = "--quick" in arguments
    if arguments[:1] == ["--memory"]:
        measure_memory(arguments[1], arguments[2], quick)
        return
    names = [name for name in arguments if name in CASES]
    lines = [
        "Written by `python benchmarks/control_flow.py`. A gradient is a value and its derivatives; `peak` is what one",
        "adds to the resident set, measured in a process of its own.",
        "",
        f"{date.today().isoformat()}; {machine()};",
        f"dgraph {dg.__version__}, {versions('numpy', 'llvmlite', 'jax', 'equinox', 'torch')}",
        "",
    ]
    for name in names or CASES:
        lines += measured(name, quick, "--alone" in arguments)
    if quick or names:
        print("\n".join(lines))
    else:
        write_section("Control flow", lines)


if __name__ == "__main__":
    main(sys.argv[1:])
