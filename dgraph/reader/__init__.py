"""Text to syntax tree: the grammar files, layout by indentation, limits, and messages for malformed programs.

Lark is loaded when the first text is parsed, not when this package is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dgraph.errors import Source
from dgraph.reader.files import grammar_text, read_file

if TYPE_CHECKING:
    from lark import Token, Tree

__all__ = ["grammar_text", "parse_module", "parse_signature", "parse_text", "read_file"]


def parse_module(text: str, path: str) -> tuple[Source, Tree[Token]]:
    """The tree of a whole `.dg` file, or a `ParseError` with up to ten independent diagnostics.

    Spans of the tree are offsets into the text of the `Source` returned, in which a byte order mark is gone and
    every line ends in a line feed.
    """
    return parse_text("dg.lark", "module", text, path)


def parse_signature(text: str, path: str = "<signature>") -> tuple[Source, Tree[Token]]:
    """The tree of a signature alone, such as `[T: float, n](x: T[n]) -> T`."""
    return parse_text("dg.lark", "signature", text, path)


def parse_text(grammar: str, start: str, text: str, path: str) -> tuple[Source, Tree[Token]]:
    """The tree of a text in one of the grammar files, read from a start rule of it."""
    from dgraph.reader.parse import parse

    return parse(grammar, start, text, path)
