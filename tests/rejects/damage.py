"""Programs damaged in every token, and the demand that each is accepted or refused with a place and a title."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dgraph.ops  # noqa: F401 (fills the table of ops)
from dgraph.errors import DgraphError, Diagnostic
from dgraph.frontend import check, functions, lower_function, parse_program
from dgraph.ir.verify import verify
from dgraph.reader.parse import parser
from dgraph.types import Function

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    file for folder in ("tests/programs", "examples", "dgraph/std") for file in (ROOT / folder).rglob("*.dg")
)

NO_WORDS = ("_NEWLINE", "_INDENT", "_DEDENT", "LONG_STRING")

REPLACEMENTS = ("stray", "f32", "3", "-1.5", "if", "for", ")", "[", "+", "=", ":", "\n", "\n    ", '"text"')
"""What a token is replaced by: names, numbers, keywords, brackets, operators, a new line and a new block."""

SECONDS = 20.0
"""How long one program may take; it should take a fiftieth of one."""


def damaged(text: str) -> Iterator[tuple[str, str]]:
    """The text with each of its words deleted, doubled and replaced, each with a name for the damage."""
    for token in parser("dg.lark").lex(text):
        if token.type in NO_WORDS:
            continue
        before, word, after = text[: token.start_pos], str(token), text[token.end_pos :]
        place = f"{token.line}:{token.column} {word!r}"
        yield f"{place} deleted", before + after
        yield f"{place} doubled", f"{before}{word} {word}{after}"
        for new in REPLACEMENTS:
            if new != word:
                yield f"{place} -> {new!r}", before + new + after


class TooSlow(Exception):
    """A program took longer than it may."""


@contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    """Stop what runs inside after a time, where the system can."""
    if not hasattr(signal, "SIGVTALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def found_in(text: str) -> list[Diagnostic]:
    """The diagnostics of a program, all functions lowered; none if it is accepted."""
    try:
        module = parse_program(text, "model.dg")
        found = check(module)
        if not found:
            for name, function in functions(module).items():
                if not any(formal.type is None or isinstance(formal.type, Function) for formal in function.formals):
                    verify(lower_function(module, name))
    except DgraphError as fault:
        return list(fault.diagnostics)
    return found


def weakness(text: str) -> str | None:
    """What is wrong with how a program is received; None if it is accepted, or refused as it should be."""
    try:
        with limited():
            found = found_in(text)
            return next(filter(None, map(fault_of, found)), None)
    except TooSlow:
        return f"takes longer than {SECONDS} s"
    except Exception as escape:  # that none escapes is what is tested
        return f"{type(escape).__name__}: {escape}"


def fault_of(diagnostic: Diagnostic) -> str | None:
    """What a diagnostic lacks."""
    if not diagnostic.title.strip():
        return "a diagnostic without a title"
    if not diagnostic.labels:
        return f"no place: {diagnostic.title}"
    for label in diagnostic.labels:
        if label.span.source.path == "model.dg":
            if not 0 <= label.span.start <= label.span.end <= len(label.span.source.text):
                return f"a place outside the text: {diagnostic.title}"
        elif label is diagnostic.labels[0]:
            return f"a place in another file ({label.span}): {diagnostic.title}"
    return None if diagnostic.render() else "an empty message"
