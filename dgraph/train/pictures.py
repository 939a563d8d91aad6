"""The pictures of a run: learning curve, graph of the loss, graph of its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dgraph.program.pictures import draw_function
from dgraph.view.curve import learning_curve

if TYPE_CHECKING:
    from dgraph.program.functions import Program


def draw_run(
    folder: Path, program: Program, loss: str, trained: Sequence[str], rows: Sequence[Mapping[str, float]]
) -> None:
    """Write `curve`, `graph` and `gradient` as SVG and PNG; the gradient is that of a loss with respect to the params
    trained by it."""
    for suffix in (".svg", ".png"):
        learning_curve(rows, folder / f"curve{suffix}", Path(program.path).stem)
        draw_function(program.function(loss), folder / f"graph{suffix}", "source")
        draw_function(program.function(loss), folder / f"gradient{suffix}", "reverse", wrt=list(trained))
