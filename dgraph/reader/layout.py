"""The filter between lexer and parser: soft keywords, indentation, brackets, and the limit on nesting."""

from __future__ import annotations

from collections.abc import Iterator

from lark import Token
from lark.exceptions import LarkError
from lark.lark import PostLex

LIMIT = 200
"""How deep brackets and blocks, and the tree made of them, may nest."""

SOFT = frozenset({"RECORD", "PARAM", "STATE", "TYPE", "SCOPE"})

OPENING = {"LPAR": ")", "LSQB": "]"}
CLOSING = frozenset({"RPAR", "RSQB"})

# No expression holds one of these, so a bracket open before them was forgotten.
NEVER_INSIDE = frozenset({"DEF", "RETURN", "ASSERT", "IMPORT", "FROM", "WHILE", "ELIF"})


class LayoutError(LarkError):
    """A mistake of indentation or brackets: a title, labels as (start, end, words), and a note."""

    def __init__(self, title: str, *labels: tuple[int, int, str], note: str = "") -> None:
        super().__init__(title)
        self.title, self.labels, self.note = title, labels, note


class Layout(PostLex):
    """Turn the column at which each line begins into _INDENT and _DEDENT.

    Line ends inside ( ) and [ ] are dropped, so a long formula may be wrapped. All state is local to one generator,
    so threads may share a parser.
    """

    always_accept = ("_NEWLINE",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The tokens the grammar asks for, from those the lexer found."""
        columns, opened, token = [0], list[Token](), None
        line_start = True
        for token in soften(stream):
            if token.type == "_NEWLINE":
                line_start = True
                if not opened:
                    yield token
                    yield from indent(token, columns)
                continue
            if token.type in OPENING:
                opened.append(token)
            elif token.type in CLOSING:
                close(token, opened)
            elif line_start and opened and token.type in NEVER_INSIDE:
                raise never_closed(opened[-1], begin(token), end(token), f"still open at `{token}`")
            if len(opened) + len(columns) - 1 > LIMIT:
                raise too_deep(begin(token), end(token))
            line_start = False
            yield token
        if opened:
            raise LayoutError(
                f"`{opened[-1]}` is never closed",
                (begin(opened[-1]), end(opened[-1]), "opened here and never closed"),
                note=f"close it with `{OPENING[opened[-1].type]}`",
            )
        for _ in columns[1:]:
            assert token is not None  # a block was opened by a token
            yield Token.new_borrow_pos("_DEDENT", "", token)


def soften(stream: Iterator[Token]) -> Iterator[Token]:
    """A word such as `state` is a keyword only where a line begins with it and a name follows."""
    held: Token | None = None
    line_start = first = True
    for token in stream:
        if first and token.type != "_NEWLINE" and token.column != 1:
            raise LayoutError(
                "the first line is indented", (begin(token), end(token), "a file begins at the left margin")
            )
        first = False
        if token.type == "NAME" and not token.isidentifier():
            raise not_a_name(token)
        if held is not None:
            named = token.type == "NAME" or token.type in SOFT
            yield held if named else Token.new_borrow_pos("NAME", str(held), held)
            held = None
        if token.type not in SOFT:
            yield token
        elif line_start:
            held = token
        else:
            yield Token.new_borrow_pos("NAME", str(token), token)
        line_start = token.type == "_NEWLINE"
    if held is not None:
        yield Token.new_borrow_pos("NAME", str(held), held)


def indent(newline: Token, columns: list[int]) -> Iterator[Token]:
    """The _INDENT or the _DEDENTs that a line end stands for, given the margins of the open blocks."""
    margin = newline.rsplit("\n", 1)[1]
    last = end(newline)
    first = last - len(margin)
    if "\t" in margin:
        at = first + margin.index("\t")
        raise LayoutError(
            "this line is indented with a tab", (at, at + 1, "a tab"), note="indent with spaces, four to a level"
        )
    if len(margin) > columns[-1]:
        columns.append(len(margin))
        yield Token.new_borrow_pos("_INDENT", margin, newline)
    while len(margin) < columns[-1]:
        columns.pop()
        yield Token.new_borrow_pos("_DEDENT", margin, newline)
    if len(margin) > columns[-1]:
        raise LayoutError(
            "the indentation of this line matches no open block",
            (last, last + 1, f"indented by {len(margin)}"),
            note=f"the blocks around it are indented by {', '.join(str(column) for column in columns)} "
            "or by as much as the line above",
        )


def close(token: Token, opened: list[Token]) -> None:
    """Take a closing bracket together with the one it closes."""
    if not opened:
        raise LayoutError(
            f"`{token}` closes nothing", (begin(token), end(token), "no bracket is open here"), note="leave it out"
        )
    opener = opened.pop()
    if OPENING[opener.type] != token:
        raise LayoutError(
            f"`{token}` does not close `{opener}`",
            (begin(token), end(token), f"expected `{OPENING[opener.type]}`"),
            (begin(opener), end(opener), "opened here"),
        )


def never_closed(opener: Token, start: int, stop: int, words: str) -> LayoutError:
    """A bracket forgotten, seen where the next statement begins."""
    return LayoutError(
        f"`{opener}` is never closed",
        (begin(opener), end(opener), "opened here"),
        (start, stop, words),
        note=f"close it with `{OPENING[opener.type]}` at the end of the expression",
    )


def too_deep(start: int, stop: int) -> LayoutError:
    """The refusal of nesting over the limit."""
    return LayoutError(
        f"this is nested more than {LIMIT} deep",
        (start, stop, "too deep"),
        note="give inner parts names of their own, or move them into functions",
    )


def not_a_name(token: Token) -> LayoutError:
    """The refusal of a word with characters such as a superscript, which names cannot have."""
    at = next(index for index in range(1, len(token) + 1) if not token[:index].isidentifier()) - 1
    return LayoutError(
        f"`{token}` is not a name",
        (begin(token) + at, begin(token) + at + 1, f"`{token[at]}` cannot stand in a name"),
        note="names are made of letters, digits and `_`; write powers with `**`",
    )


def begin(token: Token) -> int:
    """The offset of a token's first character."""
    return token.start_pos or 0


def end(token: Token) -> int:
    """The offset after a token's last character."""
    return token.end_pos or 0
