"""The learning curve of a training run: loss and metrics over the epochs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from dgraph.errors import ArgumentError, Diagnostic
from dgraph.reader.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png", ".pdf")
_DOTS_PER_INCH = 144
_COLOURS = ("#0550ae", "#b3261e", "#2f9e57", "#8e4ec6", "#d9822b", "#1b9aaa")
_DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))


def learning_curve(rows: Sequence[Mapping[str, float]], path: str | os.PathLike[str], title: str = "training") -> Path:
    """Draw a run to a file. Each row is one epoch: `epoch` (else its number, from 1) and any number of quantities.

    Quantities with `loss` in their name share the upper axes, logarithmic where that is possible; the others the
    lower ones. A quantity may be missing from a row; what is not finite is left out of its line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    target = Path(path)
    if target.suffix not in SUFFIXES:
        raise ArgumentError(
            Diagnostic(f"a learning curve cannot be written as `{target.suffix}`", note=f"use {', '.join(SUFFIXES)}")
        )
    names = list(dict.fromkeys(name for row in rows for name in row if name != "epoch"))
    losses = [name for name in names if "loss" in name]
    others = [name for name in names if "loss" not in name]
    groups = [group for group in (losses, others) if group] or [[]]
    figure = Figure(figsize=(6.4, 0.6 + 2.6 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, parse_math=False)
    panes = figure.subplots(len(groups), sharex=True, squeeze=False)[:, 0]
    for pane, group in zip(panes, groups, strict=True):
        _pane(pane, rows, group)
    panes[-1].set_xlabel("epoch")
    page = BytesIO()
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}
    figure.savefig(page, format=target.suffix[1:], dpi=_DOTS_PER_INCH, metadata=undated[target.suffix])
    write_whole(target, page.getvalue())
    return target


def _pane(pane: Axes, rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> None:
    """The lines of some quantities, each with its last value in the legend."""
    from matplotlib.ticker import MaxNLocator

    positive = bool(names)
    for at, name in enumerate(names):
        points = [
            (float(row.get("epoch", number)), float(row[name]))
            for number, row in enumerate(rows, start=1)
            if name in row and math.isfinite(row[name])
        ]
        positive = positive and bool(points) and all(value > 0 for _, value in points)
        last = f"{points[-1][1]:.4g}" if points else "no finite value"
        pane.plot(
            [epoch for epoch, _ in points],
            [value for _, value in points],
            label=f"{name} ({last})".replace("$", r"\$"),
            marker="o" if len(points) < 40 else "",
            markersize=3,
            color=_COLOURS[at % len(_COLOURS)],
            linestyle=_DASHES[at % len(_DASHES)],
        )
    if names:
        pane.legend(frameon=False)
    if positive and any("loss" in name for name in names):
        pane.set_yscale("log")
    pane.grid(visible=True, alpha=0.3)
    pane.xaxis.set_major_locator(MaxNLocator(integer=True))
