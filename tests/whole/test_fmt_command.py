"""The command `dgraph fmt`: in place, whole or not at all, and its reports."""

import io
from pathlib import Path

import pytest

from dgraph.cli import main
from dgraph.reader import format as formatting

UGLY = "x=1 # one\n"
FINE = "x = 1  # one\n"
FAULTY = "x = (1\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    texts = {"ugly": UGLY, "fine": FINE, "faulty": FAULTY}
    for name, text in texts.items():
        (tmp_path / f"{name}.dg").write_text(text, encoding="utf-8")
    return {name: tmp_path / f"{name}.dg" for name in texts}


def test_in_place(files, capsys):
    before = files["fine"].stat().st_mtime_ns, files["fine"].stat().st_ino
    assert main(["fmt", str(files["ugly"]), str(files["fine"])]) == 0
    assert files["ugly"].read_text(encoding="utf-8") == FINE
    assert (files["fine"].stat().st_mtime_ns, files["fine"].stat().st_ino) == before
    assert capsys.readouterr().out == f"formatted {files['ugly']}\n"
    assert main(["fmt", "--check", str(files["ugly"])]) == 0
    assert len(list(files["ugly"].parent.iterdir())) == 3


def test_check_lists_and_fails(files, capsys):
    assert main(["fmt", "--check", str(files["fine"]), str(files["ugly"])]) == 1
    assert capsys.readouterr().out == f"{files['ugly']}\n"
    assert files["ugly"].read_text(encoding="utf-8") == UGLY


def test_diff(files, capsys):
    assert main(["fmt", "--diff", str(files["ugly"]), str(files["fine"])]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["@@ -1 +1 @@", f"-{UGLY.strip()}", f"+{FINE.strip()}"]
    assert files["ugly"].read_text(encoding="utf-8") == UGLY


def test_standard_input(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(UGLY.encode())))
    assert main(["fmt", "-"]) == 0
    assert capsys.readouterr().out == FINE


def test_bytes_that_are_no_text_on_standard_input(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x = \xff\n")))
    assert main(["fmt", "-"]) == 1
    assert "not UTF-8" in capsys.readouterr().err


def test_a_faulty_program_is_left_alone_and_the_others_are_not(files, capsys):
    assert main(["fmt", str(files["faulty"]), str(files["ugly"])]) == 1
    assert files["faulty"].read_text(encoding="utf-8") == FAULTY
    assert files["ugly"].read_text(encoding="utf-8") == FINE
    assert "is never closed" in capsys.readouterr().err


def test_a_missing_file(tmp_path, capsys):
    assert main(["fmt", str(tmp_path / "none.dg")]) == 1
    assert "cannot read" in capsys.readouterr().err


def test_a_link_stays_a_link(files, tmp_path):
    link = tmp_path / "link.dg"
    link.symlink_to(files["ugly"])
    assert main(["fmt", str(link)]) == 0
    assert link.is_symlink()
    assert files["ugly"].read_text(encoding="utf-8") == FINE


def test_a_fault_of_the_formatter_writes_nothing(files, monkeypatch, capsys):
    monkeypatch.setattr(formatting, "lay_out", lambda _: ["x = 2"])
    assert main(["fmt", str(files["ugly"])]) == 3
    assert files["ugly"].read_text(encoding="utf-8") == UGLY
    assert "a fault of dgraph itself" in capsys.readouterr().err
