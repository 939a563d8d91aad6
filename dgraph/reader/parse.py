"""The parsers, one per grammar and start rule, and the way from a text to a tree or to diagnostics."""

from __future__ import annotations

import re
from functools import cache
from typing import NoReturn

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

from dgraph.errors import Diagnostic, ParseError, Source
from dgraph.reader import layout
from dgraph.reader.explain import explain, explain_layout
from dgraph.reader.files import grammar_text, prepare
from dgraph.reader.layout import Layout, LayoutError
from dgraph.reader.tables import parser_from_tables

MOST = 10
"""How many diagnostics one text may earn."""

STARTS = {"dg.lark": ("module", "signature"), "rules.lark": ("rules",)}
"""The rules from which a text may be read, for each grammar."""

# Where reading may start again after a mistake. Docstrings are matched first, so that no line of one is taken for code.
RESTART = re.compile(
    r'"""[\s\S]*?"""|^(?P<item>(?:def|import|from|(?:record|param|state|type)[ \t]+\w)\b|@)', re.MULTILINE
)

# Nodes that stand for no nesting of their own: lists of parts, and the wrappers of one part.
FLAT = frozenset(
    {
        *("module", "constant", "field", "signature", "formals", "formal", "dims", "annotations", "annotation"),
        *("suite", "place", "targets", "bind", "result", "at"),
        *("arguments", "keyword", "subscripts", "indices", "over_range", "guard"),
    }
)


@cache
def parser(grammar: str) -> Lark:
    """The parser of a grammar file, from tables if they fit."""
    return parser_from_tables(grammar, Layout()) or build(grammar)


def build(grammar: str, *, strict: bool = False) -> Lark:
    """A new parser; a strict one refuses a grammar with any conflict, and needs the package interegular."""
    return Lark(
        grammar_text(grammar),
        parser="lalr",
        lexer="basic",
        postlex=Layout(),
        start=list(STARTS[grammar]),
        propagate_positions=True,
        maybe_placeholders=True,
        import_paths=[import_grammar],
        strict=strict,
    )


def import_grammar(_base: object, name: str) -> tuple[str, str]:
    """The text of a grammar that another one imports parts of."""
    if name != "dg.lark":
        raise OSError(f"no grammar is called {name}")
    return name, grammar_text(name)


def parse(grammar: str, start: str, text: str, path: str) -> tuple[Source, Tree[Token]]:
    """The source and its tree, or a `ParseError`."""
    source = prepare(text, path)
    reader = parser(grammar)
    found: list[Diagnostic] = []
    restart: int | None = 0
    while restart is not None and len(found) < MOST:
        # What was read before is blanked, which keeps every offset.
        rest = "\n" * restart + source.text[restart:]
        # Lines end in a line feed, the last one too; a signature is not a line.
        rest = rest.rstrip() if start == "signature" else rest + "\n"
        try:
            tree = reader.parse(rest, start)
        except LayoutError as fault:
            found.append(explain_layout(source, fault))
            reached = max(begin for begin, _, _ in fault.labels)
        except UnexpectedInput as fault:
            diagnostic, reached = explain(reader, start, source, rest, fault)
            found.append(diagnostic)
        else:
            if found:
                break
            check_depth(source, tree)
            return source, tree if grammar == "dg.lark" else unprefixed(tree)
        restart = next_item(source.text, restart, reached) if start == "module" else None
    raise ParseError(*found)


def next_item(text: str, start: int, reached: int) -> int | None:
    """The offset of the first declaration after a mistake, past the one at which reading began."""
    for match in RESTART.finditer(text, start):
        if match["item"] and match.start() > start and match.start() >= reached:
            return match.start()
    return None


def unprefixed(tree: Tree[Token]) -> Tree[Token]:
    """The tree with plain names for nodes of rules that a grammar imports: Lark calls them `dg__dims` and so on."""
    for node in tree.iter_subtrees():
        if node.data.startswith("dg__"):
            node.data = node.data.removeprefix("dg__")
    return tree


def check_depth(source: Source, tree: Tree[Token]) -> None:
    """Refuse a tree nested so deeply that walking it by recursion might fail."""
    stack = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        if node.data not in FLAT:
            depth += 1
            if depth > layout.LIMIT:
                refuse_depth(source, node)
        inside = depth
        for child in node.children:
            if isinstance(child, Tree):
                # Every `elif` is an `if` inside the `else` of the one before.
                inside += child.data == "elif"
                stack.append((child, inside))


def refuse_depth(source: Source, node: Tree[Token]) -> NoReturn:
    """Raise for a node that lies too deep."""
    start = 0 if node.meta.empty else node.meta.start_pos
    raise ParseError(explain_layout(source, layout.too_deep(start, start + 1)))
