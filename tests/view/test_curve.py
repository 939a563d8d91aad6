"""Learning curves."""

import math
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from dgraph.errors import ArgumentError
from dgraph.view.curve import learning_curve

ROWS = [{"epoch": k, "loss": 2.0**-k, "validation loss": 2.0**-k + 0.1, "accuracy": 1 - 0.5**k} for k in range(1, 6)]


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_formats(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = learning_curve(ROWS, tmp_path / f"curve{suffix}")
    assert path.read_bytes().startswith(start)
    assert "matplotlib.pyplot" not in sys.modules


def test_every_quantity_is_drawn_with_its_last_value(tmp_path: Path) -> None:
    text = learning_curve(ROWS, tmp_path / "curve.svg").read_text()
    ET.fromstring(text)
    for words in ("loss (0.03125)", "validation loss (0.1313)", "accuracy (0.9688)"):
        assert f"<!-- {words} -->" in text


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"loss": 1.0}],
        [{"loss": math.nan}, {"loss": math.inf}],
        [{"loss": -1.0, "accuracy": 0.5}, {"loss": 0.0}],
        [{"$x_{": 1.0, "<b>&": 2.0, "_hidden": 3.0}],
    ],
)
def test_unusual_rows(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    ET.fromstring(learning_curve(rows, tmp_path / "curve.svg").read_text())


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"cannot be written as `\.gif`"):
        learning_curve(ROWS, tmp_path / "curve.gif")
