"""A tool in a process of its own: one thread, one core, requests and answers as lines of JSON.

    python benchmarks/gradbench_worker.py gradbench_jax

A request names what to do; an answer that holds `error` says why it was not done. What tools print goes to the standard
error, so that it is not taken for an answer.
"""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from measure import BATCH_SECONDS, SLOW_SECONDS, pin_to_one_core

HERE = Path(__file__).parent


class ToolFailure(Exception):
    """A tool cannot do what it was asked."""


class TimedOut(ToolFailure):
    """A tool did not answer within the limit; its process is gone."""


class Worker:
    """The process of a tool as its client sees it."""

    def __init__(self, module: str, interpreter: str, options: dict[str, Any]) -> None:
        self.module, self.interpreter, self.options = module, interpreter, options
        self.process: subprocess.Popen[str] | None = None
        self.versions = ""

    def ask(self, limit: float, **request: Any) -> Any:
        """The answer to a request. Raises `ToolFailure`; `TimedOut` after `limit` seconds."""
        if self.process is None:
            command = [self.interpreter, str(Path(__file__)), self.module, json.dumps(self.options)]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
            self.versions = self._answer(limit)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer(limit)

    def _answer(self, limit: float) -> Any:
        assert self.process is not None and self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(limit):
                self.stop()
                raise TimedOut(f"no answer within {limit:g} s")
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            raise ToolFailure("its process ended")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise ToolFailure(answer["error"])
        return answer

    def stop(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


# ---- inside the process ----------------------------------------------------------------------------------------------


class Tool:
    """What a process does on request."""

    def __init__(self, module: str, options: dict[str, Any]) -> None:
        sys.path[:0] = options["path"]
        self.module = import_module(module)
        self.folder = Path(options["data"]) if options["data"] else None
        self.forms: dict[str, Any] = {}
        self.counts: dict[tuple[str, str], int] = {}

    def prepare(self, problem: str, size: str) -> dict[str, list[str]]:
        """The forms of a problem at a size, with the parts that each can do."""
        from gradbench_data import workload

        self.forms, self.counts = {}, {}
        self.forms = self.module.forms(workload(problem, size, self.folder))
        return {name: list(form.parts) for name, form in self.forms.items()}

    def first(self, form: str, part: str, answer: str) -> float:
        """Seconds of the first call of a part of a form; its arrays go into a file."""
        import numpy as np
        from gradbench_data import arrays

        started = time.perf_counter()
        value = getattr(self.forms[form], part)()
        seconds = time.perf_counter() - started
        np.savez(answer, *arrays(value))
        return seconds

    def time(self, form: str, part: str) -> float:
        """Seconds of a call in a batch of calls."""
        call = getattr(self.forms[form], part)
        if (form, part) not in self.counts:
            seconds = batch(call, 1)
            if seconds > SLOW_SECONDS:
                return seconds
            if seconds < BATCH_SECONDS:
                seconds = min(seconds, batch(call, 3))
            self.counts[form, part] = max(1, int(BATCH_SECONDS / max(seconds, 1e-7)))
        return batch(call, self.counts[form, part])


def batch(call: Callable[[], Any], count: int) -> float:
    """Seconds of one of `count` calls."""
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count


def answered(make: Callable[[], Any]) -> Any:
    """What is made, or why it could not be made."""
    try:
        return make()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".partition("\n")[0][:200]}


def main(module: str, options: dict[str, Any]) -> None:
    """Answer requests until there are none."""
    pin_to_one_core()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    tools: list[Tool] = []

    def load() -> str:
        tools.append(Tool(module, options))
        return str(tools[0].module.VERSIONS)

    def done(request: dict[str, Any]) -> Any:
        return getattr(tools[0], request.pop("do"))(**request)

    print(json.dumps(answered(load)), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answered(lambda line=line: done(json.loads(line)))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
