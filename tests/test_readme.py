"""What the README shows is true: its program means what it says, and its commands are the ones that are checked."""

import re
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(
    r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


def test_the_program_takes_one_step_down_the_slope_of_least_squares():
    (text,) = (text for language, text in BLOCKS if language == "")
    x, y = np.array([0.0, 1.0, 2.0, 4.0]), np.array([1.0, 3.0, 4.0, 9.0])
    value, line = dg.parse(text).step(x, y, 0.1)
    assert value == pytest.approx(np.mean(y**2), rel=1e-14)
    assert line.slope == pytest.approx(0.2 * np.mean(x * y), rel=1e-14)
    assert line.offset == pytest.approx(0.2 * np.mean(y), rel=1e-14)


def test_every_file_it_links_to_is_there():
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_commands_run_a_program_that_is_there():
    scripts = [text.strip() for language, text in BLOCKS if language == "sh"]
    (trained,) = re.findall(r"dgraph train (\S+)", "\n".join(scripts))
    assert (ROOT / trained).is_file()
    (tested,) = re.findall(r"\.venv/bin/pytest.*", "\n".join(scripts))
    assert tested in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
