"""From a failure of the parser to a diagnostic: where, what was found, what fits there, what to write instead."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from lark import Lark, Token
from lark.exceptions import LarkError, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.lexer import TerminalDef

from dgraph.classes import dataclass
from dgraph.errors import Diagnostic, Label, Source, Span
from dgraph.reader import layout
from dgraph.reader.advice import Mistake, key, table
from dgraph.reader.layout import CLOSING, OPENING, LayoutError, begin, end

WORDS = {
    "_NEWLINE": "the end of the line",
    "_INDENT": "an indented block",
    "_DEDENT": "the end of the block",
    "NAME": "a name",
    "INT": "a number",
    "FLOAT": "a number",
    "STRING": "a string",
    "LONG_STRING": "a docstring",
    "COMPARE": "a comparison",
    "REBIND": "`+=`",
    "$END": "the end of the file",
}

LAYOUT = frozenset({"_NEWLINE", "_INDENT", "_DEDENT"})
UNSEEN = LAYOUT | {"$END"}
VERBATIM = frozenset({"NAME", "INT", "FLOAT", "COMPARE", "REBIND"})

TYPE = frozenset({"NAME", "LPAR", "FN"})
OPERANDS = frozenset({"NAME", "INT", "FLOAT", "STRING", "TRUE", "FALSE", "LPAR", "LSQB", "MINUS"})
OPERATORS = frozenset({"PLUS", "MINUS", "STAR", "SLASH", "AT", "PERCENT", "COMPARE", "IF", "AND", "OR"})
AFTER_OPERAND = OPERATORS | {"DOT", "LPAR", "LSQB", "FOR"}
MOST = 5
"""With more possibilities than this, naming them all helps nobody."""


@dataclass(frozen=True)
class Stop:
    """Where the parser stopped: the place to mark, and the tokens before it."""

    source: Source
    start: int
    stop: int
    before: tuple[Token, ...]

    @property
    def row(self) -> int:
        """The one-based line of the place."""
        return self.source.position(self.start)[0]

    @property
    def opener(self) -> Token | None:
        """The innermost bracket still open."""
        opened: list[Token] = []
        for token in self.before:
            if token.type in OPENING:
                opened.append(token)
            elif token.type in CLOSING:
                opened.pop()
        return opened[-1] if opened else None

    def label(self, words: str) -> Label:
        """Words at the place."""
        return Label(Span(self.source, self.start, self.stop), words)


def explain_layout(source: Source, fault: LayoutError) -> Diagnostic:
    """The diagnostic of a mistake of indentation or brackets."""
    size = len(source.text)
    labels = (Label(Span(source, min(start, size), min(stop, size)), words) for start, stop, words in fault.labels)
    return Diagnostic(fault.title, tuple(labels), fault.note)


def explain(reader: Lark, start: str, source: Source, text: str, fault: UnexpectedInput) -> tuple[Diagnostic, int]:
    """The diagnostic of any other failure, and the offset from which on the text is not to blame."""
    if isinstance(fault, UnexpectedCharacters):
        at = fault.pos_in_stream or 0
        return explain_character(reader, source, at), at
    if not isinstance(fault, UnexpectedToken):
        raise fault
    stop = stopped(reader, start, source, text, fault.token)
    opener = stop.opener
    if opener is not None and left_open(stop, opener):
        place = marked(stop, "word", {"before": ""})
        return explain_layout(source, layout.never_closed(opener, *place, "still open here")), place[0]
    return explain_token(reader, stop, fault), stop.start


def explain_token(reader: Lark, stop: Stop, fault: UnexpectedToken) -> Diagnostic:
    """The diagnostic of a token that does not fit where it stands."""
    token, accepts = fault.token, set(fault.accepts or fault.expected)
    word = quoted(token)
    if accepts == {"_INDENT"}:
        return missing_block(stop)
    advice = table(reader).find(stop.source, stop.start, key(fault), inside=stop.opener is not None)
    if advice is not None:
        return advised(stop, word, *advice)
    if token.type == "_INDENT":
        return Diagnostic(
            "this line is indented, but opens no block",
            (stop.label("further to the right than the line above"),),
            "only a line that ends in `:` is followed by an indented block; a long expression goes on inside ( )",
        )
    fitting = readable(reader.terminals, accepts)
    note = ""
    if "NAME" in accepts and token.type not in VERBATIM | UNSEEN and token.isalpha():
        note = f"{word} is a keyword and cannot be a name"
    title = f"{word} comes too early" if token.type in UNSEEN else f"did not expect {word} here"
    return Diagnostic(title, (stop.label(f"expected {fitting}" if fitting else ""),), note)


def explain_character(reader: Lark, source: Source, at: int) -> Diagnostic:
    """The diagnostic of a character with which no word of the language begins."""
    character = source.text[at]
    stop = Stop(source, at, at + 1, ())
    advice = table(reader).find(source, at, None, inside=False)
    if advice is not None:
        return advised(stop, f"`{character}`", *advice)
    code = f"U+{ord(character):04X}"
    if character.isprintable():
        return Diagnostic(f"`{character}` ({code}) is not part of the language", (stop.label("leave it out"),))
    name = unicodedata.name(character, "").lower()
    title = f"the invisible character {code}{f' ({name})' if name else ''} is not part of the language"
    return Diagnostic(title, (stop.label("leave it out, or write a plain space"),))


def advised(stop: Stop, word: str, mistake: Mistake, found: dict[str, str]) -> Diagnostic:
    """The diagnostic that a known mistake asks for, with the words found put in."""
    words = found | {"token": word.strip("`")}

    def fill(text: str) -> str:
        return re.sub(r"<(\w+)>", lambda match: words.get(match[1], match[0]), text)

    place = Span(stop.source, *marked(stop, mistake.mark, found))
    return Diagnostic(fill(mistake.title), (Label(place, fill(mistake.label)),), fill(mistake.note))


def marked(stop: Stop, mark: str, found: dict[str, str]) -> tuple[int, int]:
    """What to underline, by the `mark` of a mistake."""
    line = stop.source.line(stop.row)
    first = stop.source.line_starts[stop.row - 1]
    left = stop.start - len(found["before"])
    if mark == "word":
        word = re.compile(r"\w*").match(line, margin(line))
        return first + margin(line), first + (word.end() if word else 0)
    if mark == "line":
        return first + margin(line), first + len(line.rstrip())
    if mark == "before":
        return left, stop.stop
    if mark == "left" and found["before"].strip():
        return left, left + len(found["before"].rstrip())
    if mark == "at":
        return stop.start, stop.start + len(found["at"])
    return stop.start, stop.stop


def missing_block(stop: Stop) -> Diagnostic:
    """The diagnostic of a line that ends in `:` and is not followed by an indented one."""
    colon = stop.before[-1]
    header = Label(Span(stop.source, begin(colon), end(colon)), "opens a block")
    if stop.start >= len(stop.source.text.rstrip()):
        return Diagnostic("this line opens a block, and nothing follows it", (header,), "write the block, indented")
    return Diagnostic(
        "this line should be indented", (stop.label("expected an indented block"), header), "indent by four spaces"
    )


def left_open(stop: Stop, opener: Token) -> bool:
    """Whether the line at which the parser stopped looks like a new statement, and so a bracket was forgotten."""
    row, _ = stop.source.position(begin(opener))
    if stop.row <= row:
        return False
    line = stop.source.line(stop.row)
    return margin(line) <= margin(stop.source.line(row)) and line.strip()[:1] not in (")", "]")


def margin(line: str) -> int:
    """How far a line is indented."""
    return len(line) - len(line.lstrip())


def stopped(reader: Lark, rule: str, source: Source, text: str, token: Token) -> Stop:
    """The place of a token that failed. What has no place of its own is marked after the last word before it."""
    limit = begin(token) if token.type != "$END" else len(text)
    before: list[Token] = []
    try:
        # Lark.lex would build a second lexer.
        again = reader.parse_interactive(text, rule)
        tokens: Iterator[Token] = again.lexer_thread.lex(again.parser_state)  # type: ignore[no-untyped-call]
        for earlier in tokens:
            if begin(earlier) >= limit:
                break
            if earlier.type not in LAYOUT:
                before.append(earlier)
    except LarkError:
        # The lexer may stop before the parser's place is reached only where the parser itself stopped.
        pass
    size = len(source.text)
    if token.type == "_INDENT":
        start = end(token)
        word = re.compile(r"\w+|.").match(text, start)
        stop = word.end() if word else start
    elif token.type in UNSEEN:
        start = end(before[-1]) if before else 0
        stop = start + 1
    else:
        start, stop = begin(token), begin(token) + len(token.split("\n", 1)[0])
    return Stop(source, min(start, size), min(stop, size), tuple(before))


def quoted(token: Token) -> str:
    """A token in the reader's words."""
    return f"`{token}`" if token.type in VERBATIM else WORDS.get(token.type) or f"`{token}`"


def readable(terminals: Iterable[TerminalDef], accepts: set[str]) -> str:
    """What would fit, with the many words that begin an operand or follow one folded together."""
    if accepts == TYPE:
        return "a type"
    left, out = set(accepts), []
    if left >= OPERANDS:
        left -= OPERANDS | {"NOT", "LAMBDA"}
        out.append("an expression")
    elif len(left & OPERATORS) >= 6:
        left -= AFTER_OPERAND
        left -= {name for name in left if name.startswith("__ANON")}
        out.append("an operator")
    patterns = {terminal.name: terminal.pattern.value for terminal in terminals}
    out += [WORDS.get(name) or f"`{patterns.get(name, name)}`" for name in sorted(left)]
    out = list(dict.fromkeys(out))
    return " or ".join(", ".join(out).rsplit(", ", 1)) if len(out) <= MOST else ""
