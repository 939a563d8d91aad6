"""What a person sees while a model trains: a bar in a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any


class Progress:
    """Shows steps, losses, metrics and rows per second. Use as a context manager."""

    def __init__(self, epochs: int, steps: int, done: int, quiet: bool) -> None:
        self.epochs = epochs
        self.quiet = quiet
        self.bar: Any = None
        self.task: Any = None
        if not quiet and sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
            self.bar = Bar(*columns, TextColumn("{task.fields[said]}"))
            first = f"epoch {done // max(steps, 1) + 1}/{epochs}"
            self.task = self.bar.add_task(first, total=epochs * steps, completed=done, said="")

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
        said = f"{listed(figures)}  {rows_per_second:,.0f} rows/s"
        if self.bar is not None:
            self.bar.update(self.task, description=f"epoch {min(number + 1, self.epochs)}/{self.epochs}", said=said)
        elif not self.quiet:
            print(f"epoch {number}/{self.epochs}  {said}", flush=True)

    def say(self, words: str) -> None:
        """A line between those of the epochs."""
        if self.bar is not None:
            self.bar.console.print(words)
        elif not self.quiet:
            print(words, flush=True)


def listed(figures: Mapping[str, float]) -> str:
    """Figures in a row."""
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items() if name != "epoch")


def final_lines(summary: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """What a run reached, how long it took, and where it lies."""
    held = summary["rows"]["test"]
    where = f"on {held:,} test rows" if held else "on the training rows, as none is held out"
    others = {name: value for name, value in summary["final"].items() if name != "epoch" and name not in metrics}
    reached = [", ".join(f"{name} {value:.4f}" for name, value in others.items())]
    if metrics:
        reached.append(", ".join(f"{name} {value:.4f}" for name, value in metrics.items()) + f" {where}")
    best = f" (epoch {summary['final']['epoch']} of {summary['epochs']})" if summary["rows"]["validation"] else ""
    epochs = "1 epoch" if summary["epochs"] == 1 else f"{summary['epochs']} epochs"
    return (
        f"{'; '.join(reached)}{best}\n{epochs} in {summary['seconds']:.1f} seconds\n"
        f"parameters, metrics, curve and pictures are in {summary['folder']}"
    )
