"""Pages of documentation as programs: their files, commands and Python, run in order in a folder of the page.

A fence says what its block is:

* `dg NAME.dg` is a file, written into the folder and checked;
* `console` holds commands after `$ ` and what each prints, standard error included;
* `python` is executed; the blocks of a page share their names;
* `pycon` is a Python session, with what it prints.

In what is printed, `...` stands for anything: within a line for any text, alone on a line for any lines. Numbers agree
to nine digits, since the last bits belong to the machine.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(dg \S+\.dg|console|python|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")


@dataclass(frozen=True)
class Block:
    """A fenced block: what its fence says, its text, where the text stands in the page, and the line."""

    kind: str
    text: str
    start: int
    line: int


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page that can be run."""
    return [
        Block(found[1], found[2], found.start(2), page.count("\n", 0, found.start()) + 1)
        for found in FENCE.finditer(page)
    ]


def agree(expected: str, printed: str) -> bool:
    """Whether what was printed is what the page shows."""
    wanted, found = expected.rstrip("\n").split("\n"), printed.rstrip("\n").split("\n")
    if "..." not in wanted:
        return len(wanted) == len(found) and all(map(lines_agree, wanted, found))
    at = wanted.index("...")
    head, rest = wanted[:at], "\n".join(wanted[at + 1 :])
    if not agree_start(head, found):
        return False
    if not rest:
        return True
    return any(agree(rest, "\n".join(found[start:])) for start in range(len(head), len(found)))


def agree_start(head: list[str], found: list[str]) -> bool:
    """Whether the first lines agree."""
    return len(found) >= len(head) and all(map(lines_agree, head, found))


def lines_agree(wanted: str, found: str) -> bool:
    """Whether two lines have the same words, and numbers equal to nine digits."""
    if "..." in wanted:
        pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
        return re.fullmatch(pattern, found.rstrip()) is not None
    if wanted.rstrip() == found.rstrip():
        return True
    if " ".join(NUMBER.sub("0", wanted).split()) != " ".join(NUMBER.sub("0", found).split()):
        return False
    pairs = zip_longest(NUMBER.findall(wanted), NUMBER.findall(found))
    return all(a is not None and b is not None and numbers_agree(a, b) for a, b in pairs)


def numbers_agree(wanted: str, found: str) -> bool:
    """Whether two numbers agree to nine digits, or are both rounding errors. A number of one digit, as `3e-13`, tells
    the size of an error."""
    a, b = float(wanted), float(found)
    told = all(re.fullmatch(r"\de[-+]\d\d", text) for text in (wanted, found))
    return abs(a - b) <= 1e-9 * max(abs(a), abs(b)) or max(abs(a), abs(b)) < (1e-9 if told else 1e-14)


def commands_of(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


def run_command(command: str, folder: Path) -> str:
    """What a command of a page prints."""
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": tools + os.pathsep + os.environ["PATH"], "COLUMNS": "100"}
    done = subprocess.run(
        command,
        shell=True,
        executable="/bin/bash",
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    return done.stdout


def run_page(path: Path, folder: Path, update: bool) -> None:
    """Run a page in a folder. With `update`, what the commands of the page print is written into it anew, except
    where a `...` shows that it was shortened by hand, and pictures that differ are kept anew."""
    (folder / "examples").symlink_to(ROOT / "examples")
    page = path.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "page"}
    changes: list[tuple[int, int, str]] = []
    with chdir(folder):
        for block in blocks_of(page):
            place = f"{path.relative_to(ROOT)}:{block.line}"
            if block.kind == "python":
                exec(compile("\n" * block.line + block.text, place, "exec"), names)
            elif block.kind == "pycon":
                changes.extend(run_session(block, names, place, update))
            elif block.kind == "console":
                changes.extend(run_console(block, folder, place, update))
            else:
                Path(block.kind.split()[1]).write_text(block.text, encoding="utf-8")
    compare_pictures(path, folder, update)
    for start, end, text in reversed(changes):
        page = page[:start] + text + page[end:]
    if changes:
        path.write_text(page, encoding="utf-8", newline="\n")


def compare_pictures(path: Path, folder: Path, update: bool) -> None:
    """The pictures that a page shows and draws: each stands beside the documentation with the same words in it."""
    for link in re.findall(r"!\[[^\]]*\]\(([^)]+\.svg)\)", path.read_text(encoding="utf-8")):
        drawn, kept = folder / Path(link).name, path.parent / link
        if drawn.is_file() and words_of(drawn) != words_of(kept):
            assert update, (
                f"{kept.relative_to(ROOT)} is not what {path.relative_to(ROOT)} draws; write it: pytest --update"
            )
            kept.write_bytes(drawn.read_bytes())


def words_of(picture: Path) -> list[str]:
    """The words of an SVG picture in alphabetical order: they are the same with every layout engine."""
    text = picture.read_text(encoding="utf-8") if picture.is_file() else ""
    return sorted(re.findall(r"<text[^>]*>([^<]*)</text>", text))


def run_session(block: Block, names: dict[str, object], place: str, update: bool) -> list[tuple[int, int, str]]:
    """Run a Python session and compare what it prints; the pieces of the page to write anew."""
    text = ""
    for piece in doctest.DocTestParser().parse(block.text):
        if isinstance(piece, str):
            text += piece
            continue
        with redirect_stdout(StringIO()) as out:
            exec(compile(piece.source, place, "single"), names)
        printed = out.getvalue().rstrip("\n")
        printed += "\n" if printed else ""
        if not agree(piece.want, printed):
            shortened = "..." in piece.want
            assert update and not shortened, differs(place, f">>> {piece.source}", printed, piece.want)
        else:
            printed = piece.want
        first, *more = piece.source.splitlines(keepends=True)
        text += "".join([f">>> {first}", *(f"... {line}" for line in more)]) + printed
    return [(block.start, block.start + len(block.text), text)] if text != block.text else []


def differs(place: str, source: str, printed: str, expected: str) -> str:
    """What to say when a page shows something else than what is printed."""
    return f"{place}: {source.rstrip()}\n--- prints\n{printed}--- the page says\n{expected}"


def run_console(block: Block, folder: Path, place: str, update: bool) -> list[tuple[int, int, str]]:
    """Run the commands of a block; the pieces of the page to write anew, as (start, end, text)."""
    changes = []
    at = block.start
    for command, expected in commands_of(block):
        at += len(f"$ {command}\n")
        printed = run_command(command, folder)
        if printed and not printed.endswith("\n"):
            printed += "\n"
        if not agree(expected, printed):
            shortened = any("..." in line for line in expected.splitlines())
            assert update and not shortened, differs(place, f"$ {command}", printed, expected)
            changes.append((at, at + len(expected), printed))
        at += len(expected)
    return changes
