"""Every message: what earns it, how it reads, what cures it. Messages and `docs/errors.md` are written anew with

pytest tests/rejects/test_rejects_corpus.py --update
"""

import itertools
import re
import tempfile
from contextlib import chdir
from functools import cache
from pathlib import Path

import pytest
from corpus import HERE, THEMES, Case, cases, copied
from sites import Frames, recorded, sites
from unreached import UNREACHED

import dgraph.ops  # noqa: F401 (fills the table of ops)
from dgraph.errors import DgraphError
from dgraph.frontend import check, load_program
from dgraph.reader.advice import mistakes

PAGE = HERE.parents[1] / "docs" / "errors.md"
HEAD = """# Messages

Every message that a program or a call of one can earn, with an example and its cure. A message has a title; the place
in the text, marked with `^`; other places involved, marked with `-`; and, behind `=`, what to do. `dgraph check`
reports up to ten faults of a program at once.

This page is generated from `tests/rejects`: edit the programs there and run
`pytest tests/rejects/test_rejects_corpus.py --update`.
"""
LONGEST = 24
"""Lines of an example that are shown; of a longer one, the first few."""

ALL = cases()
SITES = sites()
by_case = pytest.mark.parametrize("case", ALL, ids=[f"{case.theme}/{case.name}" for case in ALL])


@cache
def earned(case: Case) -> tuple[str, Frames]:
    """The message of a case, and the lines of the package that made what it says."""
    with tempfile.TemporaryDirectory() as folder, recorded() as found:
        said = case.message(copied(case, Path(folder)))
    # Who knows the place only later makes the diagnostic again, under the same title.
    titles = {diagnostic.title for diagnostic in found if diagnostic.render() in said}
    return said, Frames().union(*(frames for diagnostic, frames in found.items() if diagnostic.title in titles))


@by_case
def test_the_message_is_as_written(case: Case, request: pytest.FixtureRequest) -> None:
    said, _ = earned(case)
    assert said, "nothing is refused"
    if request.config.getoption("--update"):
        case.expected.write_text(said + "\n", encoding="utf-8", newline="\n")
    assert case.expected.is_file() and case.expected.read_text(encoding="utf-8") == said + "\n", "see pytest --update"


@by_case
def test_the_message_teaches(case: Case) -> None:
    title, *rest = earned(case)[0].splitlines()
    assert re.match(r"(error|warning): \S", title) and not title.endswith((".", "!"))
    assert len(title) < 140
    if not case.is_call:
        assert title.startswith("error: ") and re.match(r" *--> [\w/]+\.dg:\d+:\d+$", rest[0])
        assert re.search(r"\^ \S", "\n".join(rest)) or rest[-1].startswith("   = "), "neither a label nor a note"
    assert "Traceback" not in earned(case)[0]


@by_case
def test_the_cure_is_accepted(case: Case, tmp_path: Path) -> None:
    assert re.match(r"# [`A-Z].*\.$", case.cure_lines[0])
    with chdir(copied(case, tmp_path)):
        if case.is_call:
            said = [said for _, said in case.lines()]
            assert sum(map(bool, said)) == 1, "one line fails"
            return
        try:
            found = check(load_program(case.cured.name))
        except DgraphError as fault:
            found = list(fault.diagnostics)
    assert not found, "\n".join(diagnostic.render() for diagnostic in found)


def test_every_message_of_the_code_is_in_the_corpus() -> None:
    reached = set[tuple[str, int]]().union(*(earned(case)[1] for case in ALL))
    missing = {
        site.key for site in SITES if not any((site.file, line) in reached for line in range(site.first, site.last + 1))
    }
    unknown = sorted(missing - set(UNREACHED))
    assert not unknown, "no program of tests/rejects earns these:\n" + "\n".join(unknown)
    stale = sorted(set(UNREACHED) - missing)
    assert not stale, "these are earned now, or gone; take them from tests/rejects/unreached.py:\n" + "\n".join(stale)


def test_every_known_mistake_is_in_the_corpus() -> None:
    titles = {earned(case)[0].splitlines()[0].removeprefix("error: ") for case in ALL}

    def is_earned(title: str) -> bool:
        pattern = re.sub("<[a-z]+>", ".+", re.escape(title))
        return any(re.fullmatch(pattern, found) for found in titles)

    missing = sorted({mistake.title for mistake in mistakes() if not is_earned(mistake.title)})
    assert not missing, "no program of tests/rejects earns these of grammar/mistakes.toml:\n" + "\n".join(missing)


def test_the_corpus_has_no_stray_files() -> None:
    known = {path for case in ALL for path in (case.program, case.cured, case.call, case.expected)}
    found = {file for theme in THEMES for file in (HERE / theme).iterdir() if file.is_file()}
    assert not sorted(found - known)
    assert len(ALL) >= 300


# ---- the page -------------------------------------------------------------------------------------------------------


def page() -> str:
    """The page. Characters that are not text are shown by their pictures, as NUL by `␀`."""
    lines = [HEAD, *(f"- [{title}](#{anchor(title)})" for title in THEMES.values()), ""]
    for theme, group in itertools.groupby(ALL, lambda case: case.theme):
        lines += [f"## {THEMES[theme]}", ""]
        for case in group:
            lines += entry(case)
    return re.sub(r"[\x00-\x09\x0b-\x1f]", lambda found: chr(0x2400 + ord(found[0])), "\n".join(lines))


def anchor(title: str) -> str:
    """How a page refers to one of its titles."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def entry(case: Case) -> list[str]:
    """The part of the page about one message."""
    message = case.expected.read_text(encoding="utf-8").rstrip("\n")
    title = re.sub(r"^(error|warning): ", "", message.split("\n", 1)[0])
    program = case.program.read_text(encoding="utf-8").splitlines() if case.program.exists() else []
    rest = case.cure_lines[1:]
    before: list[str] = []
    if case.is_call:
        at = failing(case)
        before, rest = rest[: at + 1], rest[at + 1 :]
    out = [f"### {title}", "", case.when, ""]
    for block in (program, before):
        if block:
            out += fenced(block)
    out += fenced(message.splitlines())
    if rest:
        out += ["Instead:", "", *fenced(rest)]
    return out


def failing(case: Case) -> int:
    """Which line of a call fails."""
    with tempfile.TemporaryDirectory() as folder, chdir(copied(case, Path(folder))):
        return next(at for at, (_, said) in enumerate(case.lines()) if said)


def fenced(lines: list[str]) -> list[str]:
    """A block of text as it stands; of a long one, the beginning."""
    shown = lines if len(lines) <= LONGEST else [*lines[:6], "..."]
    return ["```text", *(line if len(line) <= 160 else f"{line[:150]} ..." for line in shown), "```", ""]


def test_the_page_of_messages_is_fresh(request: pytest.FixtureRequest) -> None:
    text = page()
    if request.config.getoption("--update"):
        PAGE.write_text(text, encoding="utf-8", newline="\n")
    assert PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text, "rewrite docs/errors.md with: pytest --update"
