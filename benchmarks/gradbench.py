"""The problems of the AD benchmark, values and derivatives, beside JAX, PyTorch and Enzyme in their strongest forms.

    python benchmarks/gradbench.py                    # prints, and writes its section of docs/benchmarks.md
    python benchmarks/gradbench.py --quick --alone    # small sizes, without peers, prints alone
    python benchmarks/gradbench.py --only gmm lse     # some problems; --sizes, --tools and --rounds narrow it further

`--data FOLDER` has files of the benchmark's inputs and answers; without them the hand of `ht` is missing, and `ba` and
`lstm` are drawn. `--yardstick FOLDER` has the kernels compiled by hand. `--enzyme PYTHON` is the interpreter of an
environment with the wheel `enzyme-ad`. What is missing is left out with a note.

A tool runs in a process of its own, with one thread on one core. Answers are compared before anything is timed, entry
by entry, relative to the entry or a millionth of the largest one: to 1e-9 with the benchmark's, to 1e-7 with one
another, since both round: in `lse` sums of a million terms cancel. A form whose answer differs is not timed. A ratio is
our fastest form, called bound, over the fastest form of any tool that differentiates.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from measure import ROUNDS, SLOW_ROUNDS, SLOW_SECONDS, machine, pin_to_one_core, versions, write_section

pin_to_one_core()

import numpy as np  # noqa: E402
from gradbench_data import QUICK_SIZES, SIZES, MissingData, Workload, workload  # noqa: E402
from gradbench_worker import ToolFailure, Worker  # noqa: E402

OURS = "dgraph"
HAND = "hand-compiled"
TOOLS = {OURS: "gradbench_dgraph", "JAX": "gradbench_jax", "PyTorch": "gradbench_torch", "Enzyme": "gradbench_enzyme"}
KNOWN_TOLERANCE = 1e-9
TOLERANCE = 1e-7
LIMIT = 150.0
KNOWN: dict[str, Sequence[float]] = {
    "particle": [0.2071918746486116],
    "saddle": [8.246324826140356e-06] * 4,
}


@dataclass
class Measured:
    """A case: seconds by form and part, and to which tool a form belongs."""

    name: str
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)

    def fastest(self, tools: Sequence[str], part: str) -> tuple[str, float] | None:
        """The fastest form of some tools."""
        found = [(s[part], form) for form, s in self.seconds.items() if part in s and self.tools[form] in tools]
        return (min(found)[1], min(found)[0]) if found else None

    def ratio(self, of: Sequence[str], part: str = "derivative") -> float | None:
        """Our fastest form over the fastest of these tools."""
        ours, theirs = self.fastest([OURS], part), self.fastest(of, part)
        return ours[1] / theirs[1] if ours and theirs else None


# ---- answers ---------------------------------------------------------------------------------------------------------


def apart(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """How far answers differ: per entry, relative to it or to a millionth of the largest one."""
    if [part.size for part in one] != [part.size for part in other]:
        one, other = ([np.concatenate([part.reshape(-1) for part in parts])] for parts in (one, other))
    worst = 0.0
    for mine, theirs in zip(one, other, strict=True):
        left, right = mine.reshape(-1).astype(np.float64), theirs.reshape(-1).astype(np.float64)
        if left.shape != right.shape:
            return math.inf
        size = np.abs(right)
        scale = np.maximum(np.maximum(size, 1e-6 * size.max(initial=0.0)), 1e-300)
        difference = float((np.abs(left - right) / scale).max(initial=0.0))
        worst = max(worst, difference if difference == difference else math.inf)
    return worst


def off(work: Workload, part: str, found: Sequence[np.ndarray]) -> float:
    """How far an answer is from what is known of it beforehand."""
    if part == "derivative" and work.problem in KNOWN:
        return apart(found, [np.array(KNOWN[work.problem])])
    if part not in work.golden:
        return 0.0
    if work.problem == "ba":
        last = found[-1].reshape(-1)
        found = [found[0].reshape(-1)[:2], last[:1]] if part == "primal" else [last[:30], last[-1:]]
    return apart(found, [work.golden[part]])


@dataclass
class Comparison:
    """The answers of a case: what is known, and what the first form found."""

    work: Workload
    reference: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, part: str, answer: Path) -> str:
        """What is wrong with an answer in a file; nothing, if it is near what is known and near the first one."""
        with np.load(answer) as file:
            found = [file[entry] for entry in file.files]
        part = "derivative" if part == "checked" else part
        known, between = off(self.work, part, found), apart(found, self.reference.setdefault(part, found))
        if known <= KNOWN_TOLERANCE and between <= TOLERANCE:
            return ""
        return f"differs by {known:.1e} from what is known, by {between:.1e} from the first form's"


# ---- measuring -------------------------------------------------------------------------------------------------------


class Bench:
    """The tools that take part, and what is to be said about those that do not."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.rounds = options.rounds
        self.data = options.data
        self.notes: list[str] = []
        self.failures: list[str] = []
        self.workers: dict[str, Worker] = {}
        modules = dict(TOOLS)
        if options.yardstick is not None:
            modules[HAND] = "gradbench_yardstick"
        interpreters = {"Enzyme": options.enzyme}
        for tool, module in modules.items():
            if (options.alone and tool != OURS) or (options.tools and tool not in options.tools):
                continue
            given = {"data": str(options.data) if options.data else None, "path": [str(options.yardstick or ".")]}
            if tool == "Enzyme" and options.enzyme is None:
                self.notes.append("Enzyme is left out: no interpreter was named with `--enzyme`.")
                continue
            self.workers[tool] = Worker(module, interpreters.get(tool, sys.executable), given)

    def measure(self, problem: str, size: str) -> Measured | None:
        """All forms of a case, in turn."""
        name = f"{problem} {size}"
        try:
            comparison = Comparison(workload(problem, size, self.data))
        except MissingData as missing:
            self.notes.append(f"{missing}.")
            return None
        case = Measured(name)
        for tool in list(self.workers):
            self._start(tool, case, comparison)
        failed: set[str] = set()
        for number in range(self.rounds):
            for form, tool in case.tools.items():
                for part, best in case.seconds[form].items():
                    if tool in failed or (number >= SLOW_ROUNDS and best > SLOW_SECONDS):
                        continue
                    try:
                        seconds = self.workers[tool].ask(LIMIT, do="time", form=form, part=part)
                    except ToolFailure as failure:
                        self.notes.append(f"{name}, {form}, {part}: {failure}.")
                        failed.add(tool)
                    else:
                        case.seconds[form][part] = min(best, seconds)
        for form, tool in list(case.tools.items()):
            if tool in failed:
                del case.tools[form], case.seconds[form]
        return case

    def _start(self, tool: str, case: Measured, comparison: Comparison) -> None:
        """The forms of a tool run once, and their answers compared."""
        worker, work = self.workers[tool], comparison.work

        def prepared() -> dict[str, list[str]]:
            found: dict[str, list[str]] = worker.ask(LIMIT, do="prepare", problem=work.problem, size=work.size)
            return found

        try:
            names = prepared()
        except ToolFailure as failure:
            self.notes.append(f"{tool} is left out of {case.name}: {failure}.")
            if not worker.versions:
                self.workers.pop(tool).stop()
            return
        for form, parts in names.items():
            for part in parts:
                with tempfile.TemporaryDirectory() as folder:
                    answer = Path(folder) / "answer.npz"
                    try:
                        worker.ask(LIMIT, do="first", form=form, part=part, answer=str(answer))
                    except ToolFailure as failure:
                        self.notes.append(f"{case.name}, {form}, {part}: {failure}.")
                        if worker.process is None:
                            prepared()
                        break
                    wrong = comparison.add(part, answer) if tool != HAND else ""
                if wrong:
                    self.failures.append(f"{case.name}: the {part} of {form} {wrong}")
                    continue
                case.tools[form] = tool
                case.seconds.setdefault(form, {})[part] = math.inf

    def versions(self) -> str:
        """What the tools say of themselves."""
        return ", ".join(worker.versions for worker in self.workers.values() if worker.versions)

    def stop(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.stop()


# ---- tables ----------------------------------------------------------------------------------------------------------


def micro(seconds: float | None) -> str:
    return f"{seconds * 1e6:.4g}" if seconds is not None else "-"


def over(one: float | None, other: float | None) -> str:
    return f"{one / other:.2f}" if one is not None and other is not None else "-"


def mean(ratios: Sequence[float | None]) -> str:
    """The geometric mean of the ratios that there are."""
    known = [math.log(ratio) for ratio in ratios if ratio is not None]
    return f"{math.exp(sum(known) / len(known)):.3f}" if known else "-"


def details(cases: Sequence[Measured]) -> list[str]:
    """A row per form."""
    lines = [
        "| case (µs) | | primal | derivative | derivative / primal | derivative / dgraph's |",
        "|---|---|---|---|---|---|",
    ]
    for case in cases:
        ours = case.fastest([OURS], "derivative")
        for form, seconds in case.seconds.items():
            primal, slope = seconds.get("primal"), seconds.get("derivative")
            cells = [micro(primal), micro(slope), over(slope, primal), over(slope, ours[1] if ours else None)]
            lines.append(f"| {case.name} | {form} | {' | '.join(cells)} |")
    return lines


def summary(cases: Sequence[Measured], peers: Sequence[str]) -> list[str]:
    """A row per case, and the geometric means."""
    lines = [
        "| case (µs) | primal | derivative | checked | derivative / primal | fastest AD peer | its derivative | "
        "dgraph / peer | primals | hand-compiled | dgraph / hand |",
        "|---" * 11 + "|",
    ]
    for case in cases:
        best = {part: case.fastest([OURS], part) for part in ("primal", "derivative", "checked")}
        primal, slope, checked = (found[1] if found else None for found in best.values())
        peer, hand = case.fastest(peers, "derivative"), case.fastest([HAND], "derivative")
        other = case.fastest(peers, "primal")
        cells = [
            micro(primal),
            micro(slope),
            micro(checked),
            over(slope, primal),
            peer[0] if peer else "-",
            micro(peer[1] if peer else None),
            over(slope, peer[1] if peer else None),
            over(primal, other[1] if other else None),
            micro(hand[1] if hand else None),
            over(slope, hand[1] if hand else None),
        ]
        lines.append(f"| {case.name} | {' | '.join(cells)} |")
    ratios = [case.ratio(peers) for case in cases]
    within = sum(ratio is not None and ratio <= 0.5 for ratio in ratios)
    return [
        *lines,
        "",
        f"Geometric mean of derivatives over the fastest peer's {mean(ratios)}; of primals "
        f"{mean([case.ratio(peers, 'primal') for case in cases])}; of derivatives over the hand-compiled kernels' "
        f"{mean([case.ratio([HAND]) for case in cases])}.",
        f"At most half the fastest peer's time in {within} of {sum(r is not None for r in ratios)} cases.",
    ]


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats")
    parser.add_argument("--alone", action="store_true", help="without peers")
    parser.add_argument("--only", nargs="+", choices=list(SIZES), help="these problems")
    parser.add_argument("--sizes", nargs="+", help="these sizes, by the names that tables show")
    parser.add_argument("--tools", nargs="+", choices=[*TOOLS, HAND], help="these tools")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--yardstick", type=Path)
    parser.add_argument("--enzyme", help="an interpreter that has the wheel enzyme-ad")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds = 1
    return options


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and write the section if everything was measured."""
    options = parsed(arguments)
    bench = Bench(options)
    cases: list[Measured] = []
    try:
        for problem, sizes in (QUICK_SIZES if options.quick else SIZES).items():
            for size in sizes:
                if (options.only and problem not in options.only) or (options.sizes and size not in options.sizes):
                    continue
                case = bench.measure(problem, size)
                if case is not None:
                    cases.append(case)
                    print("\n".join(details([case])[2:]), flush=True)
        versions_used = bench.versions()
    finally:
        bench.stop()
    peers = [tool for tool in TOOLS if tool != OURS]
    left_out = [f"without {tool}, which was not asked for" for tool in peers if tool not in (options.tools or peers)]
    lines = [
        "Written by `python benchmarks/gradbench.py`. Calls of dgraph are bound, but for `checked`. `primals` is the",
        "ratio of the fastest primals.",
        "",
        f"{date.today().isoformat()}; {machine()};",
        f"{versions_used}, {versions('numpy')}",
        "",
        *summary(cases, peers),
        "",
        "### Every form",
        "",
        *details(cases),
        *([""] + [f"- {note}" for note in dict.fromkeys([*left_out, *bench.notes])] if left_out or bench.notes else []),
    ]
    if options.quick or options.only or options.sizes or options.alone:
        print("\n".join(lines))
    else:
        write_section("The AD benchmark", lines)
    if bench.failures:
        sys.exit("\n".join(bench.failures))


if __name__ == "__main__":
    main(sys.argv[1:])
