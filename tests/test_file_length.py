"""A file that a person reads in one sitting: no Python file is longer than 500 lines."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT = 500
FILES = sorted(file for folder in ("dgraph", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_file_is_short(file):
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= LIMIT, f"{lines} lines; split it by what it holds"
