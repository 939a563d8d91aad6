"""`dgraph fmt`: a program in the one way in which programs are written, its meaning and its comments untouched."""

from __future__ import annotations

from collections.abc import Iterator

from lark import Token, Tree

from dgraph.reader.files import prepare
from dgraph.reader.format_layout import INDENT, lay_out
from dgraph.reader.format_roles import set_roles
from dgraph.reader.format_words import Group, Item, Line, head, logical_lines, tail
from dgraph.reader.parse import parse

MOST_BLANKS = (2, 1)
"""How many blank lines may follow one another, between the items of a module and inside them."""


class FormatFault(Exception):
    """The formatted text would not say what the program says: a fault of dgraph itself, never of the program."""


def format_text(text: str, path: str) -> str:
    """The text of a program, formatted. Raises `ParseError` for a text that is no program.

    The result is read again: unless it gives the same tree and holds the same comments, `FormatFault` is raised.
    """
    source, tree = parse("dg.lark", "module", text, path)
    lines = logical_lines(source.text + "\n")
    comments = list(comments_of(lines))
    rows: list[str] = []
    for at, line in enumerate(lines):
        rows.extend([""] * blanks_above(lines, at))
        if line.comment:
            rows.append(" " * (line.depth * INDENT) + line.comment)
        else:
            set_roles(line)
            rows.extend(lay_out(line))
    result = "\n".join([*rows, ""]) if rows else ""
    again = prepare(result, path).text + "\n"
    if not same(tree, parse("dg.lark", "module", result, path)[1]):
        raise FormatFault(f"formatting {path} would change its meaning")
    if list(comments_of(logical_lines(again))) != comments:
        raise FormatFault(f"formatting {path} would lose a comment")
    return result


def same(one: Tree[Token], other: Tree[Token]) -> bool:
    """Whether two trees are equal, without recursion."""
    pairs: list[tuple[object, object]] = [(one, other)]
    while pairs:
        left, right = pairs.pop()
        if not (isinstance(left, Tree) and isinstance(right, Tree)):
            if left != right:
                return False
        elif left.data != right.data or len(left.children) != len(right.children):
            return False
        else:
            pairs.extend(zip(left.children, right.children, strict=True))
    return True


def comments_of(lines: list[Line]) -> Iterator[str]:
    """All comments, in their order."""
    for line in lines:
        if line.comment:
            yield line.comment
        yield from comments_in(line.items)


def comments_in(items: list[Item]) -> Iterator[str]:
    """The comments among the items of a line."""
    for item in items:
        yield from head(item).before
        if isinstance(item, Group):
            yield from filter(None, [item.opener.after])
            yield from comments_in(item.items)
            yield from item.closer.before
        yield from filter(None, [tail(item).after])


def blanks_above(lines: list[Line], at: int) -> int:
    """How many blank lines stand above a line: those of the source, within bounds.

    An item of the module that is more than one line has one above and below it, its comments and annotations
    included; nothing has one directly below an annotation, or the line that opens its block.
    """
    line = lines[at]
    if at == 0 or is_annotation(lines[at - 1]) or (line.depth > lines[at - 1].depth and not lines[at - 1].comment):
        return 0
    written = min(line.blanks, MOST_BLANKS[line.depth > 0])
    if line.depth > 0 or joined(lines[at - 1]) or not (ends_block(lines, at) or begins_block(lines, at)):
        return written
    return max(written, 1)


def joined(line: Line) -> bool:
    """Whether a line belongs to the one below it: a comment, or an annotation."""
    return line.depth == 0 and (bool(line.comment) or is_annotation(line))


def is_annotation(line: Line) -> bool:
    """Whether a line annotates the one below it."""
    return not line.comment and line.first.is_("@")


def ends_block(lines: list[Line], at: int) -> bool:
    """Whether the docstring of the module, or an item of more than one line, ends above a line."""
    above = at - 1
    if lines[above].depth > 0 or (not lines[above].comment and lines[above].first.kind == "LONG_STRING"):
        return True
    while above > 0 and joined(lines[above - 1]):
        above -= 1
        if is_annotation(lines[above]):
            return True
    return False


def begins_block(lines: list[Line], at: int) -> bool:
    """Whether an item of more than one line begins at a line, its comments and annotations included."""
    while joined(lines[at]):
        if is_annotation(lines[at]):
            return True
        at += 1
        if at == len(lines) or lines[at].blanks:
            return False
    return at + 1 < len(lines) and lines[at + 1].depth > 0
