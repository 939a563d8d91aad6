"""What a person sees while a model trains: a bar in a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any


class Progress:
    """Shows steps, loss, metrics and rows per second. Use as a context manager."""

    def __init__(self, epochs: int, steps: int, quiet: bool) -> None:
        self.epochs = epochs
        self.quiet = quiet
        self.bar: Any = None
        self.task: Any = None
        self.started = time.perf_counter()
        if not quiet and sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
            self.bar = Bar(*columns, TextColumn("{task.fields[said]}"))
            self.task = self.bar.add_task("epoch 1", total=epochs * steps, said="")

    def __enter__(self) -> Progress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self) -> None:
        """One more step is done."""
        if self.bar is not None:
            self.bar.advance(self.task)

    def epoch(self, number: int, figures: Mapping[str, float], rows_per_second: float) -> None:
        """An epoch is done."""
        listed = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
        said = f"{listed}  {rows_per_second:,.0f} rows/s"
        if self.bar is not None:
            self.bar.update(self.task, description=f"epoch {min(number + 1, self.epochs)}/{self.epochs}", said=said)
        elif not self.quiet:
            print(f"epoch {number}/{self.epochs}  {said}", flush=True)


def final_line(figures: Mapping[str, float], metrics: Sequence[str], held: int, folder: Path) -> str:
    """What a run reached, and where it lies."""
    where = f"on {held:,} test rows" if held else "on the training rows, as none is held out"
    losses = {name: value for name, value in figures.items() if name != "epoch" and name not in metrics}
    reached = [", ".join(f"{name} {value:.4f}" for name, value in losses.items()) + " in training"]
    if metrics:
        reached.append(", ".join(f"{name} {figures[name]:.4f}" for name in metrics) + f" {where}")
    return f"{'; '.join(reached)}\nparameters, metrics, curve and pictures are in {folder}"
