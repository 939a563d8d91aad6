"""The table of known mistakes (`grammar/mistakes.toml`), filed by the parser state and token at which each one fails."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from textwrap import indent

from lark import Lark
from lark.exceptions import UnexpectedToken

from dgraph.errors import Source
from dgraph.reader.files import grammar_text


@dataclass(frozen=True)
class Mistake:
    """What to say about one kind of malformed program; the head of `grammar/mistakes.toml` explains the fields."""

    title: str
    label: str = ""
    note: str = ""
    line: str = ""
    before: str = ""
    at: str = ""
    mark: str = ""
    anywhere: bool = False
    character: bool = False
    samples: tuple[str, ...] = ()
    body: tuple[str, ...] = ()

    @property
    def programs(self) -> tuple[str, ...]:
        """Malformed programs that deserve this advice."""
        head = "def f(x: f32) -> f32:\n"
        return self.samples + tuple(head + indent(text.rstrip("\n"), "    ") + "\n" for text in self.body)

    def met(self, source: Source, start: int) -> dict[str, str] | None:
        """The words found by the patterns when all of them match around an offset, else None."""
        row, _ = source.position(start)
        line, first = source.line(row), source.line_starts[row - 1]
        found: dict[str, str] = {}
        for pattern, text in ((self.line, line.strip()), (self.at, line[start - first :])):
            match = re.match(pattern, text)
            if match is None:
                return None
            found |= {name: word for name, word in match.groupdict().items() if word}
        match = re.search(f"(?:{self.before})$", line[: start - first])
        if match is None:
            return None
        return found | {"before": match[0]}


@dataclass(frozen=True)
class Table:
    """All mistakes: those that hold in certain parser states, and those recognised by their text alone."""

    mistakes: tuple[Mistake, ...]
    filed: dict[tuple[int, str], frozenset[int]]

    def find(self, source: Source, start: int, key: tuple[int, str] | None) -> tuple[Mistake, dict[str, str]] | None:
        """The first mistake in the order of the file that fits a place, and what its patterns found there."""
        here = self.filed.get(key, frozenset()) if key else frozenset[int]()
        for number, mistake in enumerate(self.mistakes):
            if mistake.character != (key is None) or not (mistake.anywhere or mistake.character or number in here):
                continue
            found = mistake.met(source, start)
            if found is not None:
                return mistake, found
        return None


@cache
def mistakes() -> tuple[Mistake, ...]:
    """The entries of `grammar/mistakes.toml`."""
    return tuple(
        Mistake(**{name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()})
        for entry in tomllib.loads(grammar_text("mistakes.toml"))["mistake"]
    )


@cache
def table(reader: Lark) -> Table:
    """The table for one parser: every sample is parsed once, and filed where it fails."""
    filed: dict[tuple[int, str], set[int]] = {}
    for number, mistake in enumerate(mistakes()):
        if mistake.anywhere or mistake.character:
            continue
        for program in mistake.programs:
            try:
                reader.parse(program)
            except UnexpectedToken as fault:
                filed.setdefault(key(fault), set()).add(number)
    return Table(mistakes(), {place: frozenset(numbers) for place, numbers in filed.items()})


def key(fault: UnexpectedToken) -> tuple[int, str]:
    """Under what a failure is filed: the state of the parser and the token it could not take."""
    return fault.state.position, fault.token.type
