"""The pictures of a run: learning curve, graph of the loss, graph of its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dgraph.program.pictures import draw_function
from dgraph.view.curve import learning_curve

if TYPE_CHECKING:
    from dgraph.program.functions import Program


def draw_run(folder: Path, program: Program, loss: str, rows: Sequence[Mapping[str, float]]) -> None:
    """Write `curve`, `graph` and `gradient` as SVG and PNG."""
    for suffix in (".svg", ".png"):
        learning_curve(rows, folder / f"curve{suffix}")
        draw_function(program.function(loss), folder / f"graph{suffix}", "source")
        draw_function(program.function(loss), folder / f"gradient{suffix}", "reverse", wrt=trainable(program))


def trainable(program: Program) -> list[str]:
    """The names of the params."""
    return [name for name, item in program.module.stored.items() if item.kind == "param"]
