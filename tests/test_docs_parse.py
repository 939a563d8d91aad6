"""Every program in the documentation parses."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgraph.reader import parse_module

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```dg\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")))


def blocks() -> Iterator[object]:
    """The programs of all pages, each with its page and line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            yield pytest.param(block[1], id=f"{page.relative_to(ROOT)}:{line}")


@pytest.mark.parametrize("program", list(blocks()))
def test_program_in_the_documentation_parses(program: str) -> None:
    _, tree = parse_module(program, "docs")
    assert len(tree.children) > 1


def test_the_language_page_has_programs() -> None:
    page = (ROOT / "docs/language.md").read_text(encoding="utf-8")
    assert len(BLOCK.findall(page)) >= 20
