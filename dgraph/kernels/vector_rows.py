"""Small arrays of points that go several at a time, written as rows: each point's entries lie side by side.

A vector holds one entry of each of eight points. Eight vectors are a square that is turned over in registers, so that
each point's eight entries are stored at once, instead of sixty-four entries one by one.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from dgraph.kernels.memory import place_of
from dgraph.kernels.nests import WIDTHS
from dgraph.kernels.values import Strided, Value
from dgraph.kernels.vector_memory import VectorMemory
from dgraph.kernels.vector_plan import Nature, Plan, update_of

SIDE = 8
"""Points and entries of a square."""
FEWEST = 4
"""Entries of a row that are worth it."""

_I32 = ir.IntType(32)


def row_of_stores(statements: Sequence[ast.stmt], plan: Plan) -> list[ast.Call]:
    """The stores that a block begins with, as far as they write entries side by side, at a distance from point to
    point; none if they are few."""
    found: list[ast.Call] = []
    for statement in statements:
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=[ast.Name() as pointer, index, value]) as store):
                pass
            case _:
                break
        if not name.startswith("store_") or plan.nature(index) != Nature.STRIDED or update_of(store) is not None:
            break
        if found and not _follows(found[-1], store):
            break
        if any(isinstance(part, ast.Name) and part.id == pointer.id for part in ast.walk(value)):
            break
        found.append(store)
    return found if len(found) >= FEWEST else []


def _follows(one: ast.Call, other: ast.Call) -> bool:
    """Whether a store writes the entry behind that of another."""
    (start, first), (again, second) = split_index(one.args[1]), split_index(other.args[1])
    same = all(ast.dump(a) == ast.dump(b) for a, b in ((one.func, other.func), (one.args[0], other.args[0])))
    return same and second == first + 1 and ast.dump(start) == ast.dump(again)


def split_index(index: ast.expr) -> tuple[ast.expr, int]:
    """An index as something and a constant."""
    match index:
        case ast.BinOp(left=left, op=ast.Add(), right=ast.Constant(value=int(number))):
            return left, number
    return index, 0


def store_rows(memory: VectorMemory, pointer: Value, index: Strided, columns: Sequence[Value]) -> None:
    """Write an entry of each column for each lane, from the place of the lane on."""
    name = columns[0].type
    for start in range(0, len(columns), SIDE):
        part = columns[start : start + SIDE]
        vectors = [_in_memory(memory, column) for column in part]
        vectors += [ir.Constant(vectors[0].type, ir.Undefined)] * (SIDE - len(part))
        for first in range(0, memory.lanes, SIDE):
            rows = _turned_over(memory, [_lanes_from(memory, vector, first) for vector in vectors])
            for lane, row in enumerate(rows):
                place = place_of(pointer, index.lane(first + lane) + start)
                _store(memory, place, row, len(part), name)


def _in_memory(memory: VectorMemory, column: Value) -> Any:
    """A column as its entries are held in memory."""
    return memory.builder.zext(column.llvm, memory.vector("bool")) if column.type == "bool" else column.llvm


def _lanes_from(memory: VectorMemory, vector: Any, first: int) -> Any:
    """Eight lanes of a vector."""
    if memory.lanes == SIDE:
        return vector
    places = ir.Constant(ir.VectorType(_I32, SIDE), list(range(first, first + SIDE)))
    return memory.builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), places)


def _turned_over(memory: VectorMemory, rows: list[Any]) -> list[Any]:
    """A square with rows and columns exchanged: blocks of 1, 2 and 4 change places."""
    for step in (1, 2, 4):
        turned = list(rows)
        for at in range(SIDE):
            if at & step:
                continue
            low = [c if not c & step else SIDE + c - step for c in range(SIDE)]
            high = [c + step if not c & step else SIDE + c for c in range(SIDE)]
            for place, choice in ((at, low), (at + step, high)):
                pattern = ir.Constant(ir.VectorType(_I32, SIDE), choice)
                turned[place] = memory.builder.shuffle_vector(rows[at], rows[at + step], pattern)
        rows = turned
    return rows


def _store(memory: VectorMemory, place: Any, row: Any, count: int, name: str) -> None:
    """Write the first entries of a row."""
    builder = memory.builder
    if count == SIDE:
        builder.store(row, builder.bitcast(place, ir.PointerType(row.type)), align=WIDTHS[name])
        return
    mask = ir.Constant(ir.VectorType(ir.IntType(1), SIDE), [int(at < count) for at in range(SIDE)])
    signature = ir.FunctionType(ir.VoidType(), [row.type, place.type, _I32, mask.type])
    function = memory.masked("store", name, signature, SIDE)
    builder.call(function, [row, place, _I32(WIDTHS[name]), mask])
