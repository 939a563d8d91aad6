"""A process that answers GradBench's requests, one line of JSON each on standard input, on standard output.

Its runner starts it: `gradbench run --eval ... --tool "python examples/gradbench/tool.py"`. One core is used, as is the
rule there, unless `--multithreaded` is given. Compiling and converting the input are told as the timing "prepare".
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def timed(name: str, work: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """What the work gives, and how long it took, as the protocol tells it."""
    start = time.perf_counter_ns()
    value = work()
    return value, {"name": name, "nanoseconds": time.perf_counter_ns() - start}


def define(message: dict[str, Any]) -> dict[str, Any]:
    """Load the program of a module."""
    from gradbench_problems import problem

    _, taken = timed("load", lambda: problem(message["module"]))
    return {"success": True, "timings": [taken]}


def evaluate(message: dict[str, Any]) -> dict[str, Any]:
    """Run a function as often as is wanted."""
    from gradbench_problems import prepare

    given = message.get("input")
    wanted = given if isinstance(given, dict) else {}
    runs, seconds = int(wanted.get("min_runs", 1)), float(wanted.get("min_seconds", 0))
    run, taken = timed("prepare", lambda: prepare(message["module"], message["function"], given))
    timings = [taken]
    count, elapsed = 0, 0
    while count < max(runs, 1) or elapsed < seconds * 1e9:
        value, taken = timed("evaluate", run.call)
        timings.append(taken)
        count += 1
        elapsed += taken["nanoseconds"]
    return {"success": True, "output": run.answer(value), "timings": timings}


def respond(message: dict[str, Any]) -> dict[str, Any]:
    """The fields of the answer to a message, beside its number."""
    match message["kind"]:
        case "start":
            return {"tool": "dgraph"}
        case "define":
            return define(message)
        case "evaluate":
            return evaluate(message)
    return {}


def answer(line: str) -> str:
    """The line that answers a line. What goes wrong is part of the answer, and never ends the process."""
    number = None
    try:
        message = json.loads(line)
        number = message["id"]
        return json.dumps({"id": number, **respond(message)}, allow_nan=False)
    except Exception as fault:
        error = f"the request has no {fault}" if isinstance(fault, KeyError) else str(fault) or type(fault).__name__
        return json.dumps({"id": number, "success": False, "error": error})


def main() -> None:
    """Answer until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--multithreaded", action="store_true", help="use all cores")
    # The libraries that start threads as they are loaded are imported by the first request, after this.
    if not parser.parse_args().multithreaded and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    try:
        for line in sys.stdin:
            print(answer(line), flush=True)
    except BrokenPipeError:
        # Nobody listens any more. What is left to be written at the end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
