"""A training run from its beginning, or from where it stopped, to its summary."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from dgraph.errors import ArgumentError, DataError, Diagnostic, ScopeError
from dgraph.frontend import FunctionInfo, functions, stored
from dgraph.ir.graph import Formal
from dgraph.program.arguments import as_array, build, flatten
from dgraph.program.functions import Program
from dgraph.program.generic import concrete
from dgraph.program.lower import chosen_types
from dgraph.sizes import variable
from dgraph.train.checkpoint import Origin, Standing, load_checkpoint, read_origin
from dgraph.train.columns import Table, read_table, table_of
from dgraph.train.data import batch_size, pick_columns, rows_of, split
from dgraph.train.evaluation import Measure
from dgraph.train.folder import claimed, new_folder, save_summary
from dgraph.train.interrupts import Interrupts
from dgraph.train.loop import Run, rounded
from dgraph.train.pictures import draw_run
from dgraph.train.progress import Progress, final_lines
from dgraph.train.settings import override, read_settings
from dgraph.train.steps import build_step
from dgraph.types import F64, Array, Type

GIVEN = Path("the data given")
"""What messages call data that is given as arrays."""


def train_program(
    program: Program,
    *,
    data: Path | str | Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    out: Path | str | None = None,
    resume: Path | str | None = None,
    quiet: bool = False,
    debug: bool = False,
) -> dict[str, Any]:
    """Train a program from the values that its params have now; then they have those that the run hands over.

    `data` is a file, a folder or arrays by column, `settings` are texts such as `epochs=3`, `out` is a new run
    folder. `resume` names the folder of a run to go on with: its settings, its data and its seed are those of before
    unless others are given. With `debug` a run that meets nan or inf names the line where that began. Returns the
    summary that the run folder holds. Raises `DgraphError` for a faulty program, setting or data file; nothing is
    written before all of them are known to fit.
    """
    started = time.perf_counter()
    folder = None if resume is None else Path(resume)
    before = None if folder is None else _origin(program, folder, out)
    run = _prepared(program, data, settings, before)
    run.debug = debug
    place: AbstractContextManager[Path]
    if folder is None:
        place = new_folder(None if out is None else Path(out), Path(program.path).stem)
    else:
        place = claimed(folder)
    with place as made:
        run.folder = made
        if folder is not None:
            _go_on(run, settings, quiet)
        run.standing.seconds += time.perf_counter() - started
        total = run.plan.epochs
        done = run.standing.epoch * run.per_epoch + run.standing.batch
        with Interrupts() as interrupts, Progress(total, run.per_epoch, done, quiet) as progress:
            run.train(progress, interrupts)
            interrupted = interrupts.asked and not run.is_over
            if interrupted:
                progress.say(f"interrupted; go on with: dgraph train {program.path} --resume {run.folder}")
        if not run.standing.rows:
            raise KeyboardInterrupt
        # Of a run that was stopped after its last checkpoint, the files that follow from it may be missing.
        run.save()
        summary, tested = _summary(run)
        save_summary(run.folder, summary)
        first = run.steps[0]
        trained = [formal.name for formal in first.params]
        draw_run(run.folder, program, first.settings.function, trained, run.standing.rows)
        if interrupted:
            raise KeyboardInterrupt
    values = {formal.name: build(formal.type, iter(run.standing.kept[formal.name])) for formal in run.formals}
    program.set_params(values)
    if not quiet:
        print(final_lines(summary, tested))
    return summary


def run_seed(folder: Path | str) -> int:
    """The seed with which the run in a folder began. Raises `DataError`."""
    return read_origin(Path(folder)).seed


def _origin(program: Program, folder: Path, out: Path | str | None) -> Origin:
    """What the run to go on with was started with. Raises `DgraphError` if something else is asked for."""
    if out is not None:
        raise ArgumentError(Diagnostic("a run goes on in its own folder", (), "leave out --out, or copy the folder"))
    origin = read_origin(folder)
    if program.seed != origin.seed:
        title = f"the run in {folder} began with the seed {origin.seed}, not {program.seed}"
        raise ArgumentError(Diagnostic(title, (), "leave out --seed"))
    return origin


def _prepared(
    program: Program, data: Path | str | Mapping[str, Any] | None, settings: Sequence[str], before: Origin | None
) -> Run:
    """A run at its beginning: everything read, compiled and known to fit."""
    module = program.module
    beside = program.file.parent if program.file is not None else Path()
    known = functions(module)
    trained = [info for info in known.values() if "train" in info.annotations]
    if not trained:
        raise ScopeError(Diagnostic(f"{program.path} has no @train function", (), "put @train(...) before the loss"))
    texts = (*(before.settings if before is not None else ()), *settings)
    plan, own = override(*read_settings(trained, beside), texts)
    table = _table(program, data if data is not None else plan.data if before is None else before.data)
    formals = [Formal(name, info.type) for name, info in stored(module).items()]
    values = {formal.name: _leaves(program, formal) for formal in formals}
    types = [_open_types(program, info, table) for info in trained]
    steps = [build_step(program, wish, values, open_) for wish, open_ in zip(own, types, strict=True)]
    needed = {formal.name: (formal, info) for step, info in zip(steps, trained, strict=True) for formal in step.columns}
    chosen, own_test = pick_columns(table, needed)
    if own_test is not None and any(text.partition("=")[0].strip() == "test" for text in settings):
        raise ArgumentError(Diagnostic(f"{table.path} has test rows of its own", (), "leave out --set test="))
    parts = split(chosen, own_test, plan, program.seed)
    size, whole = batch_size([formal for formal, _ in needed.values()], plan)
    if whole and parts.rows < size:
        raise DataError(Diagnostic(f"a step takes {size} rows, and there are {parts.rows} to train on"))
    first = rows_of(parts.train, slice(0, 1))
    metrics = [Measure(program, name, first) for name, info in known.items() if "metric" in info.annotations]
    losses = [Measure(program, wish.function, first) for wish in own] if len(_any(parts.validation)) else []
    starts = [[list(start) for start in step.starts] for step in steps]
    standing = Standing(values, starts, [0.0] * len(steps))
    # A run may be gone on with from another folder.
    place = "" if table.path is GIVEN else str(table.path.absolute())
    origin = Origin(program.path, program.seed, tuple(texts), place, parts.digest)
    if before is not None and before.digest != origin.digest:
        title = f"the data of {table.path} is not that with which the run began"
        raise DataError(Diagnostic(title, (), "the columns, the rows and how they are split must be those of before"))
    return Run(program, plan, parts, steps, losses, metrics, formals, size, whole, origin, standing)


def _table(program: Program, data: Path | str | Mapping[str, Any] | None) -> Table:
    """The data that are given, or those that the run or the program names. Raises `DataError`."""
    if isinstance(data, Mapping):
        return table_of({name: as_array(name, column) for name, column in data.items()}, GIVEN)
    if data is None:
        note = "name a file or a folder with --data PATH, or with data= at @train"
        raise DataError(Diagnostic(f"{program.path} names no data", (), note))
    if not str(data):
        title = "the run began with arrays, not with a file"
        raise DataError(Diagnostic(title, (), "give them again: train_program(..., data={...}, resume=...)"))
    return read_table(Path(data))


def _any(columns: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return next(iter(columns.values()))


def _leaves(program: Program, formal: Formal) -> list[Any]:
    """The leaves of a param as they are now."""
    return [leaf[()] for leaf in flatten(formal.name, formal.type, program.value_of(formal.name))]


def _open_types(program: Program, info: FunctionInfo, table: Table) -> Mapping[str, Type]:
    """The types of formals that a declaration leaves open, by the columns of that name."""
    rows = Array(F64, (variable("rows"),))
    names = [formal.name for formal in info.formals if formal.type is None and formal.name in table.train]
    if not names:
        return {}
    found = concrete(program.function(info.name), {name: table.train[name](rows) for name in names})
    return chosen_types(program.module, found.recipe)


def _go_on(run: Run, settings: Sequence[str], quiet: bool) -> None:
    """Put a run where its folder says that it stands. Raises `DgraphError` if that cannot be."""
    run.standing = load_checkpoint(run.folder, run.formals, [step.optimisers for step in run.steps])
    if run.standing.batch and any(text.partition("=")[0].strip() in ("batch", "shuffle") for text in settings):
        title = f"the run stands in the middle of epoch {run.standing.epoch + 1}, so its batches cannot change now"
        raise ArgumentError(Diagnostic(title, (), "finish the epoch first"))
    if run.is_over and not quiet:
        print(f"nothing is left to train: {run.standing.epoch} epochs are done; --set epochs=N asks for more")


def _summary(run: Run) -> tuple[dict[str, Any], dict[str, float]]:
    """What the run was and reached, and of that the metrics on the test rows."""
    standing = run.standing
    final = dict(standing.rows[standing.kept_epoch - 1])
    tested = {metric.name: final[metric.name] for metric in run.metrics if metric.name in final}
    if run.validates:
        tested = rounded(run.measured(standing.kept, run.tested))
        final |= tested
    parts = {"train": run.data.train, "validation": run.data.validation, "test": run.data.test}
    summary = {
        "program": run.program.path,
        "data": run.origin.data or str(GIVEN),
        "rows": {name: len(_any(columns)) for name, columns in parts.items()},
        "seed": run.program.seed,
        "settings": list(run.origin.settings),
        "epochs": standing.epoch,
        "final": final,
        "seconds": round(standing.seconds, 3),
        "folder": str(run.folder),
    }
    return summary, tested
