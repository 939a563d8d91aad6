"""The documentation is true: its programs check, its commands print what it shows, its Python runs."""

import re
from pathlib import Path

import pytest
from doc_pages import FENCE, ROOT, agree, blocks_of, run_page

PAGES = [page for page in sorted(ROOT.glob("docs/**/*.md")) if FENCE.search(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_does_what_it_shows(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run_page(page, tmp_path, request.config.getoption("--update"))


def test_links_lead_somewhere() -> None:
    dead = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"))
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert not dead


def test_blocks_are_found_with_their_places() -> None:
    page = "a\n```dg f.dg\nx = 1\n```\n```console\n$ echo 2\n2\n```\n"
    first, second = blocks_of(page)
    assert (first.kind, first.text, first.line) == ("dg f.dg", "x = 1\n", 2)
    assert page[second.start :].startswith("$ echo")


@pytest.mark.parametrize(
    ("wanted", "printed", "holds"),
    [
        ("value 1.5\n", "value 1.5000000000001\n", True),
        ("value 1.5\n", "value 1.500001\n", False),
        ("value 1.5\n", "values 1.5\n", False),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nb\nc\n", False),
        ("a ... c\n", "a b c\n", True),
        ("a\n", "a\nb\n", False),
        ("slope 0.0\n", "slope 1e-17\n", True),
        ("agree to 3e-13\n", "agree to 0e+00\n", True),
        ("agree to 3e-13\n", "agree to 2e-05\n", False),
    ],
)
def test_what_agrees(wanted: str, printed: str, holds: bool) -> None:
    assert agree(wanted, printed) is holds
