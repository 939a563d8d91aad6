"""Spans of source text, diagnostics, the error family, and how a diagnostic is printed with carets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import field
from functools import cached_property
from typing import Self

from dgraph.classes import dataclass


@dataclass(frozen=True)
class Source:
    """The text of one `.dg` file (or of a string given to `dg.parse`), with the name shown to the reader."""

    path: str
    text: str = field(repr=False)

    @cached_property
    def line_starts(self) -> tuple[int, ...]:
        """Offset of the first character of every line."""
        starts = [0]
        starts.extend(at + 1 for at, character in enumerate(self.text) if character == "\n")
        return tuple(starts)

    def position(self, offset: int) -> tuple[int, int]:
        """One-based line and column of a character offset."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a one-based line, without its line end."""
        start = self.line_starts[number - 1]
        end = self.line_starts[number] if number < len(self.line_starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")


@dataclass(frozen=True)
class Span:
    """A piece of source text: half-open character offsets into a `Source`."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        """One-based line of the first character."""
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        """One-based column of the first character."""
        return self.source.position(self.start)[1]

    @property
    def text(self) -> str:
        """The source text covered."""
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of another in the same source."""
        return Span(self.source, min(self.start, other.start), max(self.end, other.end))

    def __str__(self) -> str:
        return f"{self.source.path}:{self.line}"


LINE_SHOWN = 120
"""Columns of a source line that a diagnostic shows."""

WORDS_SHOWN = 300
"""Characters of a title, a label or a note that a diagnostic shows."""

NOWHERE = Span(Source("<built in>", ""), 0, 0)
"""The span of nodes that no source text wrote (graphs built by hand in Python)."""


@dataclass(frozen=True)
class Label:
    """Words attached to a place."""

    span: Span
    words: str = ""


@dataclass(frozen=True)
class Diagnostic:
    """One fault: a title in the reader's words, the places involved (the first is the primary one), and what to do."""

    title: str
    labels: tuple[Label, ...] = ()
    note: str = ""
    severity: str = "error"

    def render(self) -> str:
        """The message as text: title, source lines with carets (`^` primary, `-` others), note."""
        out = [f"{self.severity}: {_short(self.title)}"]
        shown = [label for label in self.labels if label.span.source.text]
        if shown:
            width = len(str(max(label.span.line for label in shown)))
            primary = shown[0].span
            out.append(f"{' ' * width}--> {primary.source.path}:{primary.line}:{primary.column}")
            for source in dict.fromkeys(label.span.source for label in shown):
                if source is not primary.source:
                    first = next(label.span for label in shown if label.span.source == source)
                    out.append(f"{' ' * width}::: {source.path}:{first.line}:{first.column}")
                out.extend(_excerpt(source, shown, width))
        if self.note:
            out.append(f"   = {_short(self.note)}")
        return "\n".join(out)

    def to_json(self) -> dict[str, object]:
        """The object printed by `dgraph check --json`."""
        place = self.labels[0].span if self.labels else NOWHERE
        known = bool(self.labels)
        words = "; ".join(part for part in (self.labels[0].words if known else "", self.note) if part)
        return {
            "severity": self.severity,
            "title": self.title,
            "file": place.source.path if known else None,
            "line": place.line if known else None,
            "column": place.column if known else None,
            "note": words,
        }


def _excerpt(source: Source, labels: Sequence[Label], width: int) -> list[str]:
    """The lines of one source that carry labels, each with its rows of carets. Long lines are cut around the label."""
    out: list[str] = []
    here = [(label, "^" if at == 0 else "-") for at, label in enumerate(labels) if label.span.source == source]
    previous = 0
    for number in sorted({label.span.line for label, _ in here}):
        if previous and number > previous + 1:
            out.append(f"{' ' * width} ...")
        previous = number
        line = source.line(number)
        marked = sorted((pair for pair in here if pair[0].span.line == number), key=lambda pair: -pair[0].span.start)
        first = max(0, marked[-1][0].span.column - LINE_SHOWN // 2) if len(line) > LINE_SHOWN else 0
        text = _printable(line[first : first + LINE_SHOWN])
        before, after = "… " if first else "", " …" if len(line) > first + LINE_SHOWN else ""
        out.append(f"{' ' * width} |")
        out.append(f"{number:>{width}} | {before}{text}{after}".rstrip())
        for label, mark in marked:
            column = min(label.span.column - 1 - first, len(text))
            length = max(1, min(label.span.end - label.span.start, len(text) - column))
            indent = " " * (len(before) + column)
            out.append(f"{' ' * width} | {indent}{mark * length} {_short(label.words)}".rstrip())
    return out


def _short(words: str) -> str:
    """Words of a message, cut where a name or a type in them is longer than anyone reads."""
    return words if len(words) <= WORDS_SHOWN else f"{words[:WORDS_SHOWN]} …"


def _printable(text: str) -> str:
    """The text with one visible character for each that a terminal would act on or cannot show."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


class DgraphError(Exception):
    """A fault in a program, its data or its arguments; carries one or more diagnostics."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("\n\n".join(diagnostic.render() for diagnostic in diagnostics))
        self.diagnostics = diagnostics

    def __reduce__(self) -> tuple[type[Self], tuple[Diagnostic, ...]]:
        return type(self), self.diagnostics

    @classmethod
    def at(
        cls, span: Span, title: str, words: str = "", *, also: Iterable[tuple[Span, str]] = (), note: str = ""
    ) -> Self:
        """An error with a primary label, any number of further labels, and a note."""
        return cls(Diagnostic(title, (Label(span, words), *(Label(place, text) for place, text in also)), note))

    @property
    def span(self) -> Span | None:
        """The primary place of the first diagnostic, if it has one."""
        labels = self.diagnostics[0].labels if self.diagnostics else ()
        return labels[0].span if labels else None


class ParseError(DgraphError):
    """The text is not a program."""


class ScopeError(DgraphError):
    """A name is unknown, defined twice, or used where it does not exist."""


class TypeMismatch(DgraphError):
    """A value has another type than its place asks for."""


class SizeMismatch(DgraphError):
    """Two sizes that must agree do not, or cannot be proven to."""


class NotDifferentiable(DgraphError):
    """A derivative was asked for where there is none."""


class NotSupported(DgraphError):
    """The program is legal, but this version cannot handle it yet."""


class ArgumentError(DgraphError):
    """An argument given from the host does not fit the function."""


class CheckFailed(DgraphError):
    """An `assert`, an index check or a size check failed while the program ran."""


class NotFinite(DgraphError):
    """An output is nan or infinite, and someone asked why."""


class DataError(DgraphError):
    """A data file or parameter file is missing, damaged or does not fit."""


class KernelError(DgraphError):
    """Code generation or compilation failed."""


class InvalidGraph(Exception):
    """A graph breaks its own rules: a fault of dgraph itself, never of the user's program."""
