"""Copies of expressions and statements with parts replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Call,
    Copy,
    Expression,
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
from dgraph.kernels.views import minus, plus, times

Change = Callable[[Expression], Expression]

_INDEX_ARITHMETIC = {"add": plus, "sub": minus, "mul": times}


def substitute(expression: Expression, values: Mapping[Local, Expression]) -> Expression:
    """The expression with locals replaced; sums and products of indices fold again."""
    match expression:
        case Local():
            return values.get(expression, expression)
        case Apply(op=op, type="i64", operands=(left, right)) if op in _INDEX_ARITHMETIC:
            return _INDEX_ARITHMETIC[op](substitute(left, values), substitute(right, values))
        case Apply(operands=operands):
            return replace(expression, operands=tuple(substitute(operand, values) for operand in operands))
        case Load(index=index):
            return replace(expression, index=substitute(index, values))
        case Sum(index=index, count=count):
            return replace(expression, index=substitute(index, values), count=substitute(count, values))
        case TapeTop(row=row):
            return TapeTop(substitute(row, values))
    return expression


def change_expressions(statement: Statement, change: Change) -> Statement:
    """A statement with the expressions that it evaluates itself changed; blocks inside it stay as they are."""
    match statement:
        case Let(local=local, value=value):
            return Let(local, change(value))
        case Store(index=index, value=value) | Update(index=index, value=value):
            return replace(statement, index=change(index), value=change(value))
        case Loop(start=start, stop=stop):
            return replace(statement, start=change(start), stop=change(stop))
        case While(condition=condition) | If(condition=condition):
            return replace(statement, condition=change(condition))
        case Fill(index=index, count=count):
            return replace(statement, index=change(index), count=change(count))
        case Copy(target_index=target, source_index=source, count=count):
            return replace(statement, target_index=change(target), source_index=change(source), count=change(count))
        case Point(index=index):
            return replace(statement, index=change(index))
        case PointTape(row=row, start=start):
            return replace(statement, row=change(row), start=change(start))
        case TapeReserve(row=row, start=start, bytes=count) | TapeSetTop(row=row, start=start, bytes=count):
            return replace(statement, row=change(row), start=change(start), bytes=change(count))
        case Fail(values=values):
            return replace(statement, values=tuple(map(change, values)))
        case Call(scalars=scalars):
            return replace(statement, scalars=tuple(map(change, scalars)))
        case MatrixProduct(target=target, left=left, right=right):
            target, left, right = (replace(matrix, index=change(matrix.index)) for matrix in (target, left, right))
            rows, columns, inner = map(change, (statement.rows, statement.columns, statement.inner))
            return replace(statement, target=target, left=left, right=right, rows=rows, columns=columns, inner=inner)
        case Routine(written=written, read=read):
            moved = [tuple(replace(place, index=change(place.index)) for place in places) for places in (written, read)]
            return replace(statement, written=moved[0], read=moved[1])
    return statement


def change_block(block: Block, change: Change, locals_: Mapping[Local, Local]) -> Block:
    """A block with every expression changed and locals that are given values renamed."""
    found: list[Statement] = []
    for statement in block:
        changed = change_expressions(statement, change)
        match changed:
            case Let(local=local):
                changed = replace(changed, local=locals_.get(local, local))
            case Loop(index=index, body=body):
                inner = change_block(body, change, locals_)
                changed = replace(changed, index=locals_.get(index, index), body=inner)
            case While(test=test, body=body):
                test, body = (change_block(part, change, locals_) for part in (test, body))
                changed = replace(changed, test=test, body=body)
            case If(then=then, otherwise=otherwise):
                then, otherwise = (change_block(part, change, locals_) for part in (then, otherwise))
                changed = replace(changed, then=then, otherwise=otherwise)
        found.append(changed)
    return tuple(found)


def rename(block: Block, values: Mapping[Local, Expression]) -> Block:
    """A block with locals replaced by expressions where they are read."""
    renamed = {local: value for local, value in values.items() if isinstance(value, Local)}
    return change_block(block, lambda expression: substitute(expression, values), renamed)


def with_buffers(block: Block, buffers: Mapping[Buffer, Buffer]) -> Block:
    """A block with buffers replaced by others."""
    return tuple(_statement_with(statement, buffers) for statement in block)


def _statement_with(statement: Statement, buffers: Mapping[Buffer, Buffer]) -> Statement:
    changed = change_expressions(statement, lambda expression: _expression_with(expression, buffers))
    match changed:
        case Store(buffer=buffer) | Update(buffer=buffer) | Fill(buffer=buffer) | PointTape(buffer=buffer):
            return replace(changed, buffer=buffers.get(buffer, buffer))
        case Copy(target=target, source=source):
            return replace(changed, target=buffers.get(target, target), source=buffers.get(source, source))
        case MatrixProduct():
            matrices = changed.target, changed.left, changed.right
            moved = [replace(matrix, buffer=buffers.get(matrix.buffer, matrix.buffer)) for matrix in matrices]
            return replace(changed, target=moved[0], left=moved[1], right=moved[2])
        case Routine(written=written, read=read):
            places = [
                tuple(replace(place, buffer=buffers.get(place.buffer, place.buffer)) for place in group)
                for group in (written, read)
            ]
            return replace(changed, written=places[0], read=places[1])
        case Point(buffer=buffer, to=to):
            return replace(changed, buffer=buffers.get(buffer, buffer), to=buffers.get(to, to))
        case Swap(one=one, other=other):
            return Swap(buffers.get(one, one), buffers.get(other, other))
        case Call(buffers=given):
            return replace(changed, buffers=tuple(buffers.get(buffer, buffer) for buffer in given))
        case Loop(body=body) | Timed(body=body):
            return replace(changed, body=with_buffers(body, buffers))
        case While(test=test, body=body):
            return replace(changed, test=with_buffers(test, buffers), body=with_buffers(body, buffers))
        case If(then=then, otherwise=otherwise):
            return If(changed.condition, with_buffers(then, buffers), with_buffers(otherwise, buffers))
    return changed


def _expression_with(expression: Expression, buffers: Mapping[Buffer, Buffer]) -> Expression:
    match expression:
        case Load(buffer=buffer, index=index):
            return Load(buffers.get(buffer, buffer), _expression_with(index, buffers))
        case Sum(buffer=buffer, index=index, count=count):
            index, count = _expression_with(index, buffers), _expression_with(count, buffers)
            return Sum(buffers.get(buffer, buffer), index, count)
        case Apply(operands=operands):
            return replace(expression, operands=tuple(_expression_with(operand, buffers) for operand in operands))
        case TapeTop(row=row):
            return TapeTop(_expression_with(row, buffers))
    return expression
