"""The table of known mistakes (`grammar/mistakes.toml`), filed by the parser state and token where each one fails."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from textwrap import indent
from typing import Any

from lark import Lark
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_analysis import Shift

from dgraph.classes import dataclass
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
    outside: bool = False
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
        for name, pattern, text in (
            ("line", self.line, line.strip()),
            ("before", rf".*?(?P<before>{self.before})\Z", line[: start - first]),
            ("at", self.at, line[start - first :]),
        ):
            match = re.match(pattern, text)
            if match is None:
                return None
            found |= {name: match[0]} | {group: word for group, word in match.groupdict().items() if word is not None}
        return found


@dataclass(frozen=True)
class Table:
    """All mistakes: those that hold in certain parser states, and those recognised by their text alone."""

    mistakes: tuple[Mistake, ...]
    filed: dict[tuple[int, str], frozenset[int]]

    def find(
        self, source: Source, start: int, key: tuple[int, str] | None, *, inside: bool
    ) -> tuple[Mistake, dict[str, str]] | None:
        """The first mistake in the order of the file that fits a place, and what its patterns found there.

        A place is known by its parser state and token (none for a character), and whether it is inside brackets.
        """
        here = self.filed.get(key, frozenset()) if key else frozenset[int]()
        for number, mistake in enumerate(self.mistakes):
            if mistake.character != (key is None) or (mistake.outside and inside):
                continue
            if not (mistake.anywhere or mistake.character or number in here):
                continue
            found = mistake.met(source, start)
            if found is not None:
                return mistake, found
        return None


@cache
def mistakes() -> tuple[Mistake, ...]:
    """The entries of `grammar/mistakes.toml`."""
    entries = tomllib.loads(grammar_text("mistakes.toml"))["mistake"]
    return tuple(Mistake(**{name: frozen(value) for name, value in entry.items()}) for entry in entries)


def frozen(value: Any) -> Any:
    """A value of the file, with a tuple for a list."""
    return tuple(value) if isinstance(value, list) else value


@cache
def table(reader: Lark) -> Table:
    """The table for one parser: every sample is parsed once, and filed where it fails."""
    filed: dict[tuple[int, str], set[int]] = {}
    for number, mistake in enumerate(mistakes()):
        if mistake.anywhere or mistake.character or "module" not in reader.options.start:
            continue
        for program in mistake.programs:
            try:
                reader.parse(program, "module")
            except UnexpectedToken as fault:
                filed.setdefault(key(fault), set()).add(number)
    return Table(mistakes(), {place: frozenset(numbers) for place, numbers in filed.items()})


def key(fault: UnexpectedToken) -> tuple[int, str]:
    """Under what a failure is filed: the state of the parser and the token it could not take.

    The state is that after all reductions to which there is no alternative, whatever follows; so it does not depend
    on how the last complete part was written.
    """
    table = fault.state.parse_conf.states
    stack: list[int] = list(fault.state.state_stack)
    while len(actions := set(table[stack[-1]].values())) == 1:
        action, rule = actions.pop()
        if action is Shift:
            break
        del stack[len(stack) - len(rule.expansion) :]
        stack.append(table[stack[-1]][rule.origin.name][1])
    return stack[-1], fault.token.type
