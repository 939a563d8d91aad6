"""The list of examples: complete, with commands that exist, and programs that check."""

import re
from pathlib import Path

import pytest

from dgraph.cli import main

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
LIST = (EXAMPLES / "README.md").read_text(encoding="utf-8")
PROGRAMS = sorted(EXAMPLES.rglob("*.dg"))
ROW = re.compile(r"^\| \[(\S+)\]\((\S+)\) \| (.+) \| `(.+)` \|$", re.MULTILINE)
ROWS = ROW.findall(LIST)


def test_every_example_is_listed_once_and_exists():
    listed = [name for name, _, _, _ in ROWS]
    there = {path.name if path.parent == EXAMPLES else path.relative_to(EXAMPLES).parts[0] for path in PROGRAMS}
    assert sorted(listed) == sorted(there)
    assert LIST.count("\n| [") == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_command_names_what_is_there(row):
    name, target, _, command = row
    assert target == name
    program, first, *rest = command.split()
    if program == "python":
        assert (ROOT / first).is_dir() or (ROOT / first).is_file()
    else:
        assert program == "dgraph"
        path, _, function = rest[0].partition(":")
        assert path == f"examples/{name}"
        assert not function or f"def {function}" in (ROOT / path).read_text(encoding="utf-8")
    for data in re.findall(r"=@([^ :]+)", command):
        assert (ROOT / data).is_file()


@pytest.mark.parametrize("command", [command for *_, command in ROWS if command.startswith("dgraph run")])
def test_a_command_that_runs_a_function_runs(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(command.split()[1:]) == 0
    assert capsys.readouterr().out.startswith("result")


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: file.relative_to(EXAMPLES).as_posix())
def test_every_example_has_a_docstring_and_checks(file, capsys):
    """With the derivatives of its entries; without an entry, its types and sizes."""
    text = file.read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert main(["check", str(file)]) == 0
    assert ("derivatives in" in capsys.readouterr().out) == ("\n@entry\n" in text)
