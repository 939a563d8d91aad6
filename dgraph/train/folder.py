"""The run folder: parameters, metrics, curve and pictures, every file written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from dgraph import params as parameters
from dgraph.errors import DataError, Diagnostic
from dgraph.ir.graph import Formal
from dgraph.program.arguments import build
from dgraph.reader.files import write_whole
from dgraph.types import leaves

if TYPE_CHECKING:
    from dgraph.program.functions import Program

PARAMETERS = "params.safetensors"
METRICS = "metrics.csv"
SUMMARY = "summary.json"
RUNNING = ".running"
"""Claims a folder. The claim is a lock on this file, so that it ends with the process, however that ends."""

DRAFT = re.compile(r"\.(params|checkpoint|metrics|summary|curve|graph|gradient)\.[a-z]+\.[a-z0-9_]{8}")
"""The names of the files that `write_whole` has not finished."""


@contextmanager
def new_folder(asked: Path | None, program: str) -> Iterator[Path]:
    """A new run folder for as long as a run takes: the one asked for, which must be empty, else the next free
    `runs/NAME-NUMBER`. It goes again if the run leaves nothing in it. Raises `DataError`."""
    try:
        folder = _next_folder(program) if asked is None else asked
        folder.mkdir(parents=True, exist_ok=True)
        if any(entry.name != RUNNING and not DRAFT.fullmatch(entry.name) for entry in folder.iterdir()):
            note = f"choose another with --out DIR, or go on with the run in it: --resume {folder}"
            raise DataError(Diagnostic(f"the run folder {folder} is not empty", (), note))
    except OSError as fault:
        title = f"cannot make the run folder {asked or 'runs'}"
        raise DataError(Diagnostic(title, (), fault.strerror or "")) from None
    with claimed(folder):
        yield folder


@contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """Hold a run folder for one process. Raises `DataError` if another one holds it."""
    path = folder / RUNNING
    try:
        mark = path.open("a")
    except OSError as fault:
        raise DataError(Diagnostic(f"cannot write to the run folder {folder}", (), fault.strerror or "")) from None
    with mark:
        try:
            _lock(mark)
        except OSError:
            note = "wait for it, or choose another folder with --out DIR"
            raise DataError(Diagnostic(f"another run is writing to {folder}", (), note)) from None
        # What a killed run was still writing; nobody else writes here now.
        for entry in list(folder.iterdir()):
            if DRAFT.fullmatch(entry.name):
                with suppress(OSError):
                    entry.unlink()
        try:
            yield folder
        finally:
            with suppress(OSError):
                path.unlink()
                folder.rmdir()


def _lock(mark: IO[str]) -> None:
    """Lock an open file for this process, or raise `OSError` at once."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(mark.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _next_folder(program: str) -> Path:
    """The next free numbered folder, made so that no other run gets it."""
    runs = Path("runs")
    runs.mkdir(exist_ok=True)
    number = 1
    while True:
        folder = runs / f"{program}-{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def save_params(
    folder: Path, formals: Sequence[Formal], values: Mapping[str, Sequence[Any]], facts: Mapping[str, Any]
) -> None:
    """Write the leaves of params and states under their qualified names."""
    named: dict[str, np.ndarray[Any, Any]] = {}
    for formal in formals:
        for (label, _), leaf in zip(leaves(formal.type, formal.name), values[formal.name], strict=True):
            named[label] = np.asarray(leaf)
    parameters.save(folder / PARAMETERS, named, facts)


def load_params(program: Program, place: Path | str) -> None:
    """Give a program the parameters of a run: a run folder or a parameter file. Raises `DataError`."""
    from dgraph.frontend import stored

    folder = Path(place)
    if not folder.exists():
        raise DataError(Diagnostic(f"there is no run folder {folder}", (), "--params takes what `dgraph train` wrote"))
    path = folder / PARAMETERS if folder.is_dir() else folder
    values, _ = parameters.load(path)
    found = {}
    for name, info in stored(program.module).items():
        type_ = info.type
        if any(label in values for label, _ in leaves(type_, name)):
            found[name] = build(type_, parameters.fit_leaves(name, type_, values))
    if not found:
        raise DataError(Diagnostic(f"{path} holds no parameters of {program.path}", (), f"it has {', '.join(values)}"))
    program.set_params(found)


def save_metrics(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write one row per epoch as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / METRICS, text.getvalue().encode())


def save_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write what the run was and reached as JSON."""
    write_whole(folder / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
