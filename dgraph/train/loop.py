"""The training loop: mini-batches by epoch permutation, one compiled step each, and after every epoch the figures and
a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import CheckFailed
from dgraph.ir.graph import Formal
from dgraph.params import numbered_key
from dgraph.program.functions import Program
from dgraph.program.nonfinite import culprit, is_finite
from dgraph.train.checkpoint import Leaves, Origin, Standing, Values, save_checkpoint
from dgraph.train.columns import Columns
from dgraph.train.data import Data, batches, count
from dgraph.train.evaluation import Measure
from dgraph.train.folder import save_metrics, save_params
from dgraph.train.interrupts import Interrupts
from dgraph.train.progress import Progress
from dgraph.train.settings import Plan
from dgraph.train.steps import Step, leaf_count, takes_key

DIGITS = 7
"""Significant digits of the figures that are kept."""


@dataclass
class Run:
    """A training run: what does not change about it, and where it stands.

    `size` is the number of rows of a step; with `whole` all batches have that many. `losses` measure the `@train`
    functions, `metrics` the `@metric` functions. With `debug` every number that a step gives is looked at, and where
    one is not finite the run says why.
    """

    program: Program
    plan: Plan
    data: Data
    steps: Sequence[Step]
    losses: Sequence[Measure]
    metrics: Sequence[Measure]
    formals: Sequence[Formal]
    size: int
    whole: bool
    origin: Origin
    standing: Standing
    folder: Path = Path()
    debug: bool = False

    @property
    def per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return self.data.rows // self.size if self.whole else -(-self.data.rows // self.size)

    @property
    def loss_names(self) -> list[str]:
        """The losses as the figures name them."""
        return ["loss"] if len(self.steps) == 1 else [step.settings.function for step in self.steps]

    @property
    def validates(self) -> bool:
        """Whether there are rows to validate on."""
        return count(self.data.validation) > 0

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or too many without an improvement."""
        standing, patience = self.standing, self.plan.patience
        waited = standing.epoch - standing.best_epoch
        return standing.epoch >= self.plan.epochs or (patience is not None and waited >= patience)

    def train(self, progress: Progress, interrupts: Interrupts) -> None:
        """Epoch after epoch until the run is over, or between two steps when it is interrupted. After each epoch the
        parameters, the figures and a checkpoint are on disk."""
        before, started = self.standing.seconds, time.perf_counter()
        while not self.is_over and not interrupts.asked:
            begun, rows = time.perf_counter(), self._batches(progress, interrupts)
            if self.standing.batch == self.per_epoch:
                elapsed = time.perf_counter() - begun
                self._close_epoch()
                progress.epoch(self.standing.epoch, self.standing.rows[-1], rows / elapsed)
            self.standing.seconds = before + time.perf_counter() - started
            self.save()

    def _batches(self, progress: Progress, interrupts: Interrupts) -> int:
        """The batches that are left of an epoch; returns how many rows they had."""
        standing, done = self.standing, 0
        used = self.per_epoch * self.size if self.whole else self.data.rows
        seed, epoch = self.program.seed, standing.epoch
        for batch in batches(self.data, self.size, self.plan, seed, epoch, first=standing.batch, whole=self.whole):
            rows = count(batch)
            for position, step in enumerate(self.steps):
                standing.losses[position] += rows / used * self._step(position, step, batch)
            standing.batch += 1
            standing.steps += 1
            done += rows
            progress.step()
            if interrupts.asked:
                break
        return done

    def _step(self, position: int, step: Step, batch: Columns) -> float:
        """One step on one batch: params, states and the optimiser's state are replaced; returns the loss."""
        standing = self.standing
        inputs: Leaves = []
        for formal in step.data:
            if takes_key(formal):
                inputs.append(numbered_key(self.program.seed, standing.steps * len(self.steps) + position))
            else:
                inputs.append(batch[formal.name])
        for formal in step.stored:
            inputs += standing.values[formal.name]
        for state in standing.optimisers[position]:
            inputs += state
        inputs += step.options
        found = step.kernel.call(inputs, {})
        outputs = iter(found)
        loss = float(next(outputs))
        if not np.isfinite(loss) or (self.debug and not is_finite(found)):
            what = f"the {step.settings.function}" if not np.isfinite(loss) else "a parameter"
            number = str(loss) if not np.isfinite(loss) else "infinite or nan"
            fault = self._failed(f"{what} became {number}", step, batch)
            raise self._explained(fault, step, found, inputs) if self.debug else fault
        for formal in (*step.states, *step.params):
            standing.values[formal.name] = [next(outputs) for _ in range(leaf_count(formal.type))]
        standing.optimisers[position] = [[next(outputs) for _ in state] for state in standing.optimisers[position]]
        return loss

    def _explained(self, fault: CheckFailed, step: Step, outputs: Leaves, inputs: Leaves) -> CheckFailed:
        """The same with the line where numbers stopped being finite."""
        reason = culprit(step.graph, outputs, inputs, {})
        return CheckFailed(*fault.diagnostics, *reason.diagnostics)

    def _failed(self, what: str, step: Step, batch: Columns | None = None) -> CheckFailed:
        standing = self.standing
        spoilt = [name for name, column in (batch or {}).items() if not np.isfinite(column).all()]
        title = f"{what} in step {standing.batch + 1} of epoch {standing.epoch + 1}"
        kept = f"; the parameters after epoch {standing.kept_epoch} are in {self.folder}" if standing.rows else ""
        cure = "try a smaller rate, as in --set rate=1e-4, or clip=1.0"
        if not self.debug:
            cure += "; with --debug the line is named where that began"
        if spoilt:
            cure = f"the rows of this step hold nan or inf in the column `{spoilt[0]}` of the data"
        note = f"{cure}{kept}"
        return CheckFailed.at(step.settings.span, title, note=note)

    def _close_epoch(self) -> None:
        """Count an epoch: its figures, and whether it is the best so far."""
        standing = self.standing
        if not standing.is_finite():
            standing.batch -= 1
            raise self._failed("a parameter became infinite or nan", self.steps[0])
        figures = dict(zip(self.loss_names, standing.losses, strict=True))
        if self.validates:
            held = self.data.validation
            for name, loss in zip(self.loss_names, self.losses, strict=True):
                figures[f"validation_{name}"] = loss.mean(standing.values, held, self.size, whole=self.whole)
            figures |= {f"validation_{key}": value for key, value in self.measured(standing.values, held).items()}
        else:
            figures |= self.measured(standing.values, self.tested)
        standing.epoch += 1
        standing.batch = 0
        standing.losses = [0.0] * len(self.steps)
        standing.rows.append({"epoch": standing.epoch, **rounded(figures)})
        if self.validates:
            watched = f"validation_{self.loss_names[0]}"
            least = standing.rows[standing.best_epoch - 1][watched] if standing.best_epoch else np.inf
            if standing.best is None or standing.rows[-1][watched] < least or np.isnan(least):
                standing.best_epoch, standing.best = standing.epoch, dict(standing.values)

    @property
    def tested(self) -> Columns:
        """The rows for the metrics at the end: those held out, else those trained on."""
        return self.data.test if count(self.data.test) else self.data.train

    def measured(self, values: Values, columns: Columns) -> dict[str, float]:
        """The metrics on some rows."""
        return {metric.name: metric.of(values, columns) for metric in self.metrics}

    def save(self) -> None:
        """Write the checkpoint, and after it what follows from it."""
        standing = self.standing
        save_checkpoint(self.folder, standing, self.origin, self.formals, [step.optimisers for step in self.steps])
        if standing.rows:
            facts = {"epoch": standing.kept_epoch, "program": self.program.path}
            save_params(self.folder, self.formals, standing.kept, facts)
            save_metrics(self.folder, standing.rows)


def rounded(figures: Mapping[str, float]) -> dict[str, Any]:
    """Figures with the digits that are kept."""
    return {name: float(f"{value:.{DIGITS}g}") for name, value in figures.items()}
