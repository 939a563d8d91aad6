"""What statements and expressions are made of: walks, and which locals and buffers are read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Call,
    Copy,
    Expression,
    Extent,
    Fail,
    Fill,
    If,
    Let,
    Load,
    Local,
    Loop,
    MatrixProduct,
    Point,
    PointTape,
    Routine,
    Statement,
    Store,
    Sum,
    Swap,
    TapeReserve,
    TapeSetTop,
    TapeTop,
    Timed,
    Update,
    While,
)


def blocks_of(statement: Statement) -> tuple[Block, ...]:
    """The blocks inside a statement, in order of execution."""
    match statement:
        case Loop(body=body) | Timed(body=body):
            return (body,)
        case While(test=test, body=body):
            return (test, body)
        case If(then=then, otherwise=otherwise):
            return (then, otherwise)
    return ()


def walk(block: Block) -> Iterator[Statement]:
    """Every statement of a block and of the blocks inside it, in order."""
    waiting = [*reversed(block)]
    while waiting:
        statement = waiting.pop()
        yield statement
        if not isinstance(statement, Let | Store):
            for inner in reversed(blocks_of(statement)):
                waiting.extend(reversed(inner))


def expressions_of(statement: Statement) -> tuple[Expression, ...]:
    """The expressions that a statement itself evaluates, not those of the blocks inside it."""
    match statement:
        case Let(value=value):
            return (value,)
        case Store(index=index, value=value) | Update(index=index, value=value):
            return (index, value)
        case Loop(start=start, stop=stop):
            return (start, stop)
        case While(condition=condition) | If(condition=condition):
            return (condition,)
        case Fill(index=index, count=count, value=value):
            return (index, count, value)
        case Copy(target_index=target, source_index=source, count=count):
            return (target, source, count)
        case MatrixProduct(target=target_, left=left, right=right, rows=rows, columns=columns, inner=inner):
            matrices = (target_, left, right)
            strides = (stride for matrix in matrices for stride in (matrix.down, matrix.across))
            places = (matrix.index for matrix in matrices)
            runs = () if statement.runs is None else statement.runs.sizes
            return (*places, rows, columns, inner, *map(Extent, (statement.shift, *strides, *runs)))
        case Routine(written=written, read=read, sizes=sizes):
            return (*(place.index for place in (*written, *read)), *map(Extent, sizes))
        case Point(index=index):
            return (index,)
        case PointTape(row=row, start=start):
            return (row, start)
        case TapeReserve(row=row, start=start, bytes=count) | TapeSetTop(row=row, start=start, bytes=count):
            return (row, start, count)
        case Fail(values=values):
            return values
        case Call(scalars=scalars):
            return scalars
    return ()


_INSIDE: dict[type, Callable[[Any], tuple[Expression, ...]]] = {
    Apply: lambda apply: apply.operands[::-1],
    Load: lambda load: (load.index,),
    TapeTop: lambda top: (top.row,),
    Sum: lambda total: (total.count, total.index),
}
"""What stands in an expression, the last first."""


def parts(expression: Expression) -> Iterator[Expression]:
    """An expression and everything inside it."""
    waiting = [expression]
    while waiting:
        expression = waiting.pop()
        yield expression
        inside = _INSIDE.get(type(expression))
        if inside is not None:
            waiting += inside(expression)


def locals_of(expression: Expression) -> list[Local]:
    """The locals that an expression reads."""
    return [part for part in parts(expression) if isinstance(part, Local)]


def distinct(items: Iterable[object]) -> list:  # type: ignore[type-arg]
    """Each item once, in order."""
    return list(dict.fromkeys(items))


def read_buffers(statement: Statement) -> Iterator[Buffer]:
    """The buffers that a statement itself reads."""
    for expression in expressions_of(statement):
        for part in parts(expression):
            if isinstance(part, Load | Sum):
                yield part.buffer
    match statement:
        case Update(buffer=buffer):
            yield buffer
        case Copy(source=source):
            yield source
        case MatrixProduct(target=target, left=left, right=right):
            yield left.buffer
            yield right.buffer
            if statement.adds:
                yield target.buffer
        case Routine(written=written, read=read):
            yield from (place.buffer for place in (*written, *read))
        case Point(to=to):
            yield to
        case Swap(one=one, other=other):
            yield one
            yield other
        case Call(buffers=buffers):
            yield from buffers


def written_buffers(statement: Statement) -> Iterator[Buffer]:
    """The buffers that a statement itself writes."""
    match statement:
        case Store(buffer=buffer) | Update(buffer=buffer) | Fill(buffer=buffer) | Copy(target=buffer):
            yield buffer
        case Point(buffer=buffer) | PointTape(buffer=buffer):
            yield buffer
        case MatrixProduct(target=target):
            yield target.buffer
        case Routine(written=written):
            yield from (place.buffer for place in written)
        case Swap(one=one, other=other):
            yield one
            yield other
        case Call(kernel=kernel, buffers=buffers):
            inside = {buffer for inner in walk(kernel.body) for buffer in written_buffers(inner)}
            for mine, theirs in zip(buffers, kernel.buffers, strict=True):
                if theirs in inside:
                    yield mine


def touching(block: Block) -> dict[Buffer, set[Statement]]:
    """The statements of a block, and inside them, that read or write each buffer."""
    found: dict[Buffer, set[Statement]] = {}
    for statement in walk(block):
        for buffer in (*read_buffers(statement), *written_buffers(statement)):
            found.setdefault(buffer, set()).add(statement)
    return found


def set_locals(statement: Statement) -> Iterator[Local]:
    """The locals that a statement itself gives a value."""
    match statement:
        case Let(local=local):
            yield local
        case Loop(index=index):
            yield index
        case Call(results=results):
            yield from results


def read_first(block: Block) -> tuple[dict[Local, None], set[Local]]:
    """The locals that a block reads before it gives them a value, and those that it gives one for certain."""
    read: dict[Local, None] = {}
    given: set[Local] = set()

    def take(expressions: Iterable[Expression]) -> None:
        for expression in expressions:
            for part in parts(expression):
                if isinstance(part, Local) and part not in given:
                    read.setdefault(part)

    def inside(body: Block, known: set[Local]) -> set[Local]:
        found, certain = read_first(body)
        for local in found:
            if local not in given | known:
                read.setdefault(local)
        return certain

    for statement in block:
        if isinstance(statement, While):
            given |= inside(statement.test, set())
            take(expressions_of(statement))
            inside(statement.body, set())
            continue
        take(expressions_of(statement))
        if isinstance(statement, Loop):
            inside(statement.body, {statement.index})
        elif isinstance(statement, If):
            given |= inside(statement.then, set()) & inside(statement.otherwise, set())
        else:
            given.update(set_locals(statement))
    return read, given
