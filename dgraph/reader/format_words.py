"""A program for its formatter: logical lines of words and bracket groups, and every comment with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from lark import Token

from dgraph.classes import dataclass
from dgraph.reader.layout import CLOSING, OPENING, begin, end
from dgraph.reader.parse import parser


@dataclass(eq=False)
class Word:
    """A token, the comments around it, and how it is set."""

    kind: str
    text: str
    before: list[str] = field(default_factory=list)
    """Comments on lines of their own above it, where it stands inside brackets."""
    after: str = ""
    """The comment that ends its line."""
    broken: bool = False
    """Whether a line begins with it: at first as written, then as decided."""
    space: bool = False
    """Whether a space stands before it."""
    unary: bool = False
    separator: bool = False
    """Whether it is a comma between the entries of a group or of a tuple."""

    def is_(self, *texts: str) -> bool:
        """Whether it is one of these keywords or signs, and not a name that looks the same."""
        return self.text in texts and self.kind not in ("NAME", "STRING", "LONG_STRING")


@dataclass(eq=False)
class Group:
    """A pair of brackets and what it holds."""

    opener: Word
    items: list[Item] = field(default_factory=list)
    closer: Word = field(default_factory=lambda: Word("", ""))
    open: bool = False
    """Whether what it holds stands on lines of its own."""
    comma: bool = False
    """Whether the grammar takes a comma after the last entry."""
    tuple: bool = False
    """Whether a comma after a single entry makes a tuple of it."""


Item = Word | Group


@dataclass(eq=False)
class Line:
    """A logical line, or a comment on a line of its own outside brackets."""

    depth: int
    blanks: int
    """Blank lines above it."""
    items: list[Item]
    comment: str = ""

    @property
    def first(self) -> Word:
        """The word with which the line begins."""
        return head(self.items[0])


def head(item: Item) -> Word:
    """The first word of an item."""
    return item.opener if isinstance(item, Group) else item


def tail(item: Item) -> Word:
    """The last word of an item."""
    return item.closer if isinstance(item, Group) else item


def logical_lines(text: str) -> list[Line]:
    """The logical lines and comments of a text that parses, which ends in a line feed."""
    lines: list[Line] = []
    margins = [0]
    here: Line | None = None
    inside: list[Group] = []
    last: Word | None = None
    at = 0
    known = margins.copy()
    for token in tokens(text):
        if token.type == "_INDENT":
            margins.append(len(token))
        elif token.type == "_DEDENT":
            margins.pop()
        elif token.type == "_NEWLINE":
            here = None
        else:
            start = begin(token)
            word = Word(token.type, str(token))
            gap = text[at:start]
            if here is None:
                blanks = between(lines, last, gap, known, margins)
                here = Line(len(margins) - 1, blanks, [])
                lines.append(here)
                known = margins.copy()
            elif last is not None:
                inner(last, word, gap)
            place(word, here, inside)
            last, at = word, end(token)
    between(lines, last, text[at:], known, [0])
    return lines


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text, those of its layout too."""
    # Lark.lex would build a second lexer.
    reading = parser("dg.lark").parse_interactive(text, "module")
    found: Iterator[Token] = reading.lexer_thread.lex(reading.parser_state)  # type: ignore[no-untyped-call]
    return found


def place(word: Word, line: Line, inside: list[Group]) -> None:
    """Put a word where it belongs: into the line or the innermost group, as an item or as one end of a group."""
    items = inside[-1].items if inside else line.items
    if word.kind in OPENING:
        group = Group(word)
        items.append(group)
        inside.append(group)
    elif word.kind in CLOSING:
        inside.pop().closer = word
    else:
        items.append(word)


def inner(last: Word, word: Word, gap: str) -> None:
    """Keep the comments and the line end between two words of one logical line."""
    first, *rest = gap.split("\n")
    last.after = first.strip()
    word.before = [comment for comment in map(str.strip, rest) if comment]
    word.broken = bool(rest)


def between(lines: list[Line], last: Word | None, gap: str, known: list[int], margins: list[int]) -> int:
    """Keep the comments between two logical lines, given the margins of the blocks open at each.

    Returns the number of blank lines directly above the second line.
    """
    first, *rest = gap.split("\n")
    if last is None:
        rest.insert(0, first)
    else:
        last.after = first.strip()
    depth, least = len(known) - 1, len(margins) - 1
    blanks = 0
    for row in rest[:-1]:
        comment = row.strip()
        if not comment:
            blanks += 1
            continue
        # A comment belongs to the innermost block whose margin it reaches, of those not yet closed by a comment before.
        column = len(row) - len(row.lstrip())
        while depth > least and known[depth] > column:
            depth -= 1
        lines.append(Line(max(depth, least), blanks, [], comment))
        blanks = 0
    return blanks
