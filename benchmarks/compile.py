"""How long it takes to begin: cold compilation, a start from the cache, the import, and the cost of a call.

    python benchmarks/compile.py                     # prints, and writes its section of docs/benchmarks.md
    python benchmarks/compile.py --quick --alone     # small sizes, once, without peers, prints alone

Every start is a process of its own, on one core. `first` is the time from the program's text to its first result, after
imports: reading, types, derivatives, code and the call itself.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from importlib.util import find_spec

from measure import Row, fastest, machine, pin_to_one_core, table, versions, write_section

pin_to_one_core()

from starts import PACKAGES, fewest  # noqa: E402

CASES = {
    "MLP 784-128-10, a training step": ("step", "64"),
    "gmm 10_25_1000": ("gmm", "10_25_1000"),
    "ba 1": ("ba", "1"),
    "ht of 544 vertices": ("ht", "drawn_v544_c100"),
    "lstm l2_c1024": ("lstm", "l2_c1024"),
    "kmeans k100_n10000_d8": ("kmeans", "k100_n10000_d8"),
    "ode n1000_s100": ("ode", "n1000_s100"),
}
QUICK_CASES = {"lse n50": ("lse", "n50")}


def imports(tools: Sequence[str], runs: int) -> list[Row]:
    """Seconds that an import adds to an interpreter that does nothing."""
    best: dict[str, float] = {}
    for _ in range(runs):
        for name, code in {"": "pass", **{tool: f"import {PACKAGES[tool]}" for tool in tools}}.items():
            before = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            best[name] = min(best.get(name, float("inf")), time.perf_counter() - before)
    return [Row("import", {tool: best[tool] - best[""] for tool in tools})]


def starts(cases: dict[str, tuple[str, str]], tools: Sequence[str], empty: int, filled: int) -> list[list[Row]]:
    """Cold first results, cold processes and warm processes."""
    found: list[list[Row]] = [[], [], []]
    for title, case in cases.items():
        cold, warm = fewest(tools, case, empty, filled)
        for rows, seconds, part in zip(found, (cold, cold, warm), ("first", "whole", "whole"), strict=True):
            rows.append(Row(title, {tool: seconds[tool][part] for tool in tools}))
    return found


def calls(alone: bool) -> list[Row]:
    """Seconds of a call that does next to nothing."""
    from spine import overhead_calls, peers

    return [Row("sum of five arrays of one entry", fastest(overhead_calls({} if alone else peers())))]


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and write the section if everything was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small case, once")
    parser.add_argument("--alone", action="store_true", help="without peers")
    options = parser.parse_args(arguments)
    installed = [tool for tool in PACKAGES if find_spec(PACKAGES[tool].partition(".")[0]) is not None]
    known = ["dgraph"] if options.alone else installed
    pair = [tool for tool in known if tool != "PyTorch eager"]
    once = options.quick
    first, cold, warm = starts(QUICK_CASES if once else CASES, pair, 1 if once else 3, 1 if once else 5)
    begin = imports(known, 1 if once else 7)
    lines = [
        "Written by `python benchmarks/compile.py`. Every start is a process of its own; `bound` is a call without",
        "checks on fixed arrays.",
        "",
        f"{date.today().isoformat()}; {machine()};",
        f"{versions('numpy', 'llvmlite', 'numba', 'jax', 'jaxlib', 'torch')}",
        "",
        "### From a program's text to its first derivative, nothing cached, imports not counted",
        "",
        *table(first, 1e-3, "ms"),
        "",
        "### The same as a whole process, imports included",
        "",
        *table(cold, 1e-3, "ms"),
        "",
        "### A whole process with filled caches",
        "",
        *table(warm, 1e-3, "ms"),
        "",
        "### Import",
        "",
        *table(begin, 1e-3, "ms"),
        "",
        "### A call",
        "",
        *table(calls(options.alone), 1e-6, "µs"),
        "",
    ]
    if options.quick or options.alone:
        print("\n".join(lines))
    else:
        write_section("Compiling and starting", lines)


if __name__ == "__main__":
    main(sys.argv[1:])
