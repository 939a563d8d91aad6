"""The corpus of refused programs: one folder per theme, and for each message

NAME.dg        a program that earns it
NAME.txt       the message, whole, as `dgraph check NAME.dg` prints it
NAME.cured.dg  the program without the fault; its first line is a comment that says when the message comes

Where the fault lies in a call, not in the program, NAME.call stands in place of the cure: its first line is that
comment, the lines after it are commands (`$ dgraph run NAME.dg`) and Python (`>>> p.f(1.0)`, where `p` is the program
loaded); one of them fails with NAME.txt, and those after it do not.
"""

import io
import shlex
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dgraph as dg
from dgraph.cli import main
from dgraph.errors import DgraphError

HERE = Path(__file__).parent

THEMES = {
    "text": "Characters, lines and brackets",
    "words": "Words of other languages",
    "operators": "Operators and expressions",
    "blocks": "Statements and blocks",
    "declarations": "Functions, records, params and imports",
    "names": "Names and annotations",
    "types": "Types and numbers",
    "shapes": "Shapes and sizes",
    "subscripts": "Subscripts and members",
    "indices": "Index formulas and reducers",
    "bindings": "Bindings and updates",
    "loops": "Loops",
    "branches": "Branches and choices",
    "calls": "Calls and records",
    "transforms": "Derivatives and vmap",
    "random": "Random numbers, makers and initial values",
    "arguments": "Arguments given by the caller",
    "running": "While a program runs",
    "training": "Training",
    "files": "Files and folders",
}
"""The folders in the order of the page, with their headings."""


@dataclass(frozen=True)
class Case:
    """One message of the corpus."""

    theme: str
    name: str

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return HERE / self.theme

    @property
    def program(self) -> Path:
        """The program that is refused, or that is called wrongly."""
        return self.folder / f"{self.name}.dg"

    @property
    def cured(self) -> Path:
        """The program without the fault."""
        return self.folder / f"{self.name}.cured.dg"

    @property
    def call(self) -> Path:
        """The commands of a message that a call earns."""
        return self.folder / f"{self.name}.call"

    @property
    def expected(self) -> Path:
        """The message."""
        return self.folder / f"{self.name}.txt"

    @property
    def is_call(self) -> bool:
        """Whether the fault lies in a call."""
        return self.call.exists()

    @property
    def when(self) -> str:
        """When the message comes."""
        return self.cure_lines[0].removeprefix("# ")

    @property
    def cure_lines(self) -> list[str]:
        """The lines of the file that holds the cure."""
        return (self.call if self.is_call else self.cured).read_text(encoding="utf-8").splitlines()

    def message(self, folder: Path) -> str:
        """What is printed, in a folder that holds the files of the theme; empty if nothing is refused."""
        with chdir(folder):
            if self.is_call:
                said = (said for _, said in self.lines() if said)
                return next(said, "")
            return refusal_of_command(["check", f"{self.name}.dg"])

    def lines(self) -> Iterator[tuple[str, str]]:
        """The lines of a call, run in order, each with how it was refused (empty if it was not)."""
        names = {"dg": dg, "np": np, "name": self.name}
        for line in self.cure_lines[1:]:
            if line.startswith("$ dgraph "):
                yield line, refusal_of_command(shlex.split(line)[2:])
            elif line.startswith(">>> "):
                yield line, refusal_of_python(line.removeprefix(">>> "), names)
            else:
                raise ValueError(f"{self.call}: {line!r} is neither a command nor Python")


def refusal_of_command(arguments: list[str]) -> str:
    """What a command writes to standard error, if it fails as a fault of the program or of the arguments does."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        code = main(arguments)
    if code not in (0, 1):
        raise AssertionError(f"exit code {code}: {errors.getvalue()}")
    return errors.getvalue().rstrip("\n") if code else ""


def refusal_of_python(line: str, names: dict[str, object]) -> str:
    """The error that a line of Python raises, if it is one of ours."""
    if "p" not in names and Path(f"{names['name']}.dg").exists():
        names["p"] = dg.load(f"{names['name']}.dg")
    try:
        exec(line, names)
    except DgraphError as fault:
        return str(fault)
    return ""


def cases() -> list[Case]:
    """All messages, in the order of the page."""
    found = []
    for theme in THEMES:
        stems = {
            file.name.split(".")[0]
            for file in (HERE / theme).glob("*")
            if file.suffix in (".dg", ".call") and file.is_file()
        }
        found += [Case(theme, stem) for stem in sorted(stems)]
    return found


def copied(case: Case, folder: Path) -> Path:
    """A copy of the files of a message, with the modules beside it, in which commands may write."""
    beside = case.folder.glob("*/*.dg")
    for file in sorted([*case.folder.glob(f"{case.name}.*"), *beside]):
        target = folder / file.relative_to(case.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return folder
