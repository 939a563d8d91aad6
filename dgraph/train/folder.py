"""The run folder: parameters, metrics, curve and pictures, every file written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph import params as parameters
from dgraph.errors import DataError, Diagnostic
from dgraph.ir.graph import Formal
from dgraph.program.arguments import build
from dgraph.types import leaves

if TYPE_CHECKING:
    from dgraph.program.functions import Program

PARAMETERS = "params.safetensors"
METRICS = "metrics.csv"
SUMMARY = "summary.json"


def make_folder(asked: Path | None, program: str) -> Path:
    """A new run folder: the one asked for, which must be empty, else the next free `runs/NAME-NUMBER`.

    Raises `DataError`."""
    try:
        if asked is not None:
            asked.mkdir(parents=True, exist_ok=True)
            if any(asked.iterdir()):
                raise DataError(Diagnostic(f"the run folder {asked} is not empty", (), "choose another with --out DIR"))
            return asked
        runs = Path("runs")
        runs.mkdir(exist_ok=True)
        number = 1
        while True:
            folder = runs / f"{program}-{number:03d}"
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
                continue
            return folder
    except OSError as fault:
        raise DataError(Diagnostic(f"cannot make the run folder {asked or 'runs'}", (), str(fault))) from None


def save_params(
    folder: Path, formals: Sequence[Formal], values: Mapping[str, Sequence[Any]], facts: Mapping[str, Any]
) -> None:
    """Write the leaves of params and states under their qualified names."""
    named: dict[str, np.ndarray[Any, Any]] = {}
    for formal in formals:
        for (label, _), leaf in zip(leaves(formal.type, formal.name), values[formal.name], strict=True):
            named[label] = np.asarray(leaf)
    parameters.save(folder / PARAMETERS, named, facts)


def load_params(program: Program, folder: Path) -> None:
    """Give a program the parameters of a run: a run folder or a parameter file. Raises `DataError`."""
    from dgraph.frontend import stored

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
    parameters.write_whole(folder / METRICS, text.getvalue().encode())


def save_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write what the run was and reached as JSON."""
    parameters.write_whole(folder / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
