"""The training loop: mini-batches by epoch permutation, one compiled step each, metrics after every epoch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dgraph.errors import DataError, Diagnostic, ScopeError
from dgraph.frontend import functions
from dgraph.ir.graph import Formal
from dgraph.params import fresh_key, initial_leaves
from dgraph.program.arguments import flatten
from dgraph.program.functions import Program
from dgraph.program.generic import concrete
from dgraph.train.data import Columns, Data, batches, pick_columns, read_columns, split
from dgraph.train.folder import run_folder, save_metrics, save_params, save_summary
from dgraph.train.pictures import draw_run
from dgraph.train.progress import Progress, final_line
from dgraph.train.settings import Settings, override, read_settings
from dgraph.train.steps import Step, build_step, leaf_count, takes_key
from dgraph.types import Type

Leaves = list[Any]


@dataclass
class Run:
    """A training run in progress: values of params and states by name as leaves, with their types."""

    program: Program
    settings: list[Settings]
    folder: Path
    types: dict[str, Type]
    values: dict[str, Leaves]
    steps: list[Step] = field(default_factory=list)
    optimisers: list[list[Leaves]] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)

    @property
    def formals(self) -> list[Formal]:
        """Every param and state with its type."""
        return [Formal(name, type_) for name, type_ in self.types.items()]


def train_program(
    program: Program, *, data: Path | None, settings: Sequence[str], out: Path | None, quiet: bool = False
) -> dict[str, Any]:
    """Train a program; returns the summary that the run folder holds.

    `settings` are texts such as `epochs=3`. Raises `DgraphError` for a faulty program, setting or data file; nothing
    is written before all of them are known to fit.
    """
    started = time.perf_counter()
    module = program.module
    folder = program.file.parent if program.file is not None else Path()
    known = functions(module)
    trained = [info for info in known.values() if "train" in info.annotations]
    if not trained:
        raise ScopeError(Diagnostic(f"{program.path} has no @train function", (), "put @train(...) before the loss"))
    asked = [override(read_settings(info, folder), settings) for info in trained]
    path = data or asked[0].data
    if path is None:
        raise DataError(Diagnostic(f"{program.path} names no data", (), "name a file with --data FILE.npz"))
    columns = read_columns(path)
    initial = {name: initial_leaves(module, name, program.seed) for name in module.stored}
    types = {name: type_ for name, (type_, _) in initial.items()}
    values = {name: list(leaves) for name, (_, leaves) in initial.items()}
    steps = [build_step(program, wish, values) for wish in asked]
    needed = list({formal.name: formal for step in steps for formal in step.columns}.values())
    chosen = pick_columns(path, columns, needed)
    parts = split(chosen, asked[0].test_rows(len(next(iter(chosen.values())))))
    metrics = [name for name, info in known.items() if "metric" in info.annotations]
    run = Run(program, asked, Path(), types, values, steps)
    run.optimisers = [[list(leaves) for leaves in step.starts] for step in steps]
    for name in metrics:
        _metric(run, name, {key: column[:1] for key, column in parts.train.items()})
    with run_folder(out, Path(program.path).stem) as run.folder:
        interrupted = False
        try:
            _epochs(run, parts, metrics, quiet)
        except KeyboardInterrupt:
            if not run.rows:
                raise
            interrupted = True
        held = len(next(iter(parts.test.values())))
        summary = {
            "program": program.path,
            "data": str(path),
            "rows": {"train": parts.rows, "test": held},
            "seed": program.seed,
            "epochs": len(run.rows),
            "final": run.rows[-1],
            "seconds": round(time.perf_counter() - started, 3),
            "folder": str(run.folder),
        }
        save_summary(run.folder, summary)
        draw_run(run.folder, program, asked[0].function, run.rows)
    if not quiet:
        print(final_line(run.rows[-1], metrics, held, run.folder))
    if interrupted:
        raise KeyboardInterrupt
    return summary


def _epochs(run: Run, data: Data, metrics: Sequence[str], quiet: bool) -> None:
    """All epochs; after each the parameters and the metrics are on disk."""
    first = run.settings[0]
    random = np.random.default_rng(run.program.seed)
    per_epoch = -(-data.rows // first.batch)
    done = 0
    with Progress(first.epochs, per_epoch, quiet) as progress:
        for epoch in range(1, first.epochs + 1):
            started, losses = time.perf_counter(), np.zeros(len(run.steps))
            for batch in batches(data.train, first.batch, random):
                rows = dict(zip(data.train, batch, strict=True))
                share = len(batch[0]) / data.rows
                for position, step in enumerate(run.steps):
                    losses[position] += share * _step(run, position, step, rows, done)
                done += 1
                progress.step()
            elapsed = time.perf_counter() - started
            names = ["loss"] if len(run.steps) == 1 else [wish.function for wish in run.settings]
            figures = dict(zip(names, losses.tolist(), strict=True))
            if not np.isfinite(losses).all():
                raise DataError(
                    Diagnostic(
                        f"the loss became {losses.tolist()} in epoch {epoch}", (), "try a smaller rate: --set rate=..."
                    )
                )
            held = data.test if next(iter(data.test.values())).size else data.train
            figures |= {name: _metric(run, name, held) for name in metrics}
            figures = {name: float(f"{value:.7g}") for name, value in figures.items()}
            run.rows.append({"epoch": epoch, **figures})
            save_params(run.folder, run.formals, run.values, {"epoch": epoch, "program": run.program.path})
            save_metrics(run.folder, run.rows)
            progress.epoch(epoch, figures, data.rows / elapsed)


def _step(run: Run, position: int, step: Step, rows: Columns, number: int) -> float:
    """One step on one batch: params, states and the optimiser's state are replaced; returns the loss."""
    inputs: Leaves = []
    for formal in step.data:
        if takes_key(formal):
            inputs.append(fresh_key(run.program.seed, number * len(run.steps) + position))
        else:
            inputs.append(rows[formal.name])
    for formal in step.stored:
        inputs += run.values[formal.name]
    for state in run.optimisers[position]:
        inputs += state
    outputs = iter(step.kernel.call(inputs, {}))
    loss = float(next(outputs))
    for formal in step.states:
        run.values[formal.name] = [next(outputs) for _ in range(leaf_count(formal.type))]
    for formal in step.params:
        run.values[formal.name] = [next(outputs) for _ in range(leaf_count(formal.type))]
    run.optimisers[position] = [[next(outputs) for _ in state] for state in run.optimisers[position]]
    return loss


def _metric(run: Run, name: str, columns: Columns) -> float:
    """A metric over rows of data, with the values that params and states have now."""
    compiled = concrete(run.program.function(name), columns).compiled
    inputs: Leaves = []
    for formal in compiled.signature.formals:
        if formal.name in run.values:
            inputs += run.values[formal.name]
        elif formal.name in columns:
            inputs += flatten(formal.name, formal.type, columns[formal.name])
        else:
            title = f"the metric `{name}` asks for `{formal.name}`, which is no column of the data"
            raise DataError(Diagnostic(title, (), f"it has {', '.join(columns)}"))
    (value,) = compiled.kernel.call(inputs, {})
    return float(value)
