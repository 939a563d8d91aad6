"""A loop program with a clock around each of its parts: kernels, products of matrices, routines, blocks of memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.errors import Span
from dgraph.kernels.nest_parts import blocks_of, distinct, read_buffers, walk, written_buffers
from dgraph.kernels.nests import (
    Block,
    Buffer,
    Call,
    Copy,
    Fill,
    If,
    Loop,
    MatrixProduct,
    Note,
    Program,
    Routine,
    Statement,
    Timed,
    While,
)
from dgraph.sizes import Size, size

WORDS = 2
"""Words of the state for one part: its nanoseconds and its runs."""

_KINDS = {MatrixProduct: "product", Routine: "routine", Fill: "fill", Copy: "copy"}


@dataclass(frozen=True)
class Part:
    """One timed part. `bytes` are those of the arrays that it reads and writes, each counted once."""

    name: str
    bytes: Size
    spans: tuple[Span, ...]
    words: tuple[str, ...]


def timed(program: Program) -> tuple[Program, list[Part]]:
    """The program with its parts timed, and the parts; number `i` has the words from `WORDS * i` on."""
    parts: list[Part] = []
    body = tuple(_timed(program.body, parts))
    return replace(program, body=body), parts


def _timed(block: Block, parts: list[Part]) -> Iterator[Statement]:
    words = ""
    for statement in block:
        match statement:
            case Note(words=said):
                words = said
                yield statement
            case Call() | MatrixProduct() | Routine() | Fill() | Copy():
                yield Timed((statement,), WORDS * len(parts))
                parts.append(_part(statement, words))
                words = ""
            case Loop(body=body):
                yield replace(statement, body=tuple(_timed(body, parts)))
            case While(test=test, body=body):
                yield replace(statement, test=tuple(_timed(test, parts)), body=tuple(_timed(body, parts)))
            case If(then=then, otherwise=otherwise):
                yield replace(statement, then=tuple(_timed(then, parts)), otherwise=tuple(_timed(otherwise, parts)))
            case _:
                yield statement


def _part(statement: Statement, words: str) -> Part:
    touched = sum((buffer.bytes for buffer in _buffers(statement)), size(0))
    if not isinstance(statement, Call):
        first = next(written_buffers(statement))
        span = statement.span if isinstance(statement, Routine) else first.span
        return Part(f"{_KINDS[type(statement)]} {first.name}", touched, _known([span]), (words,) if words else ())
    loops = [inner for inner in walk(statement.kernel.body) if isinstance(inner, Loop) and inner.note]
    notes = tuple(distinct(loop.note for loop in loops)) or ((statement.kernel.note,) if statement.kernel.note else ())
    return Part(statement.kernel.name, touched, _known(loop.span for loop in loops), notes)


def _known(spans: Iterable[Span]) -> tuple[Span, ...]:
    return tuple(distinct(span for span in spans if span.source.text))


def _buffers(statement: Statement) -> list[Buffer]:
    inside = [inner for block in blocks_of(statement) for inner in walk(block)]
    return distinct(b for one in (statement, *inside) for found in (read_buffers, written_buffers) for b in found(one))
