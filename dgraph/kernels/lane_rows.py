"""Arrays of turns that go several at a time as rows of lanes: an entry for each lane in each place of the array."""

from __future__ import annotations

from dataclasses import replace

from dgraph.kernels.lanes import Packing, Points
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Expression,
    Extent,
    Fill,
    If,
    Load,
    Local,
    Loop,
    Point,
    PointTape,
    Statement,
    Store,
    Swap,
    TapeReserve,
    TapeSetTop,
    Update,
    While,
    number,
)
from dgraph.kernels.rewrite_nests import change_expressions, rename
from dgraph.kernels.views import ZERO, plus, times


class Rows:
    """Arrays of a turn, and entries brought together, as rows of lanes."""

    def __init__(self, points: Points, packings: tuple[Packing, ...], lanes: int, place: Local) -> None:
        self.lanes = lanes
        self.tapes = points.rows_apart()
        self.place = place
        self.packings = {packing.load: packing for packing in packings}
        made = (*points.own, *(packing.buffer for packing in packings))
        self.buffers = {each: replace(each, entries=each.entries * lanes) for each in made}

    def index(self, index: Expression) -> Expression:
        """Where the entry of a lane is."""
        return plus(times(index, number(self.lanes)), self.place)

    def packed(self) -> Block:
        """Entries brought together, if a loop is going to read them."""
        found: list[Statement] = []
        first: dict[Buffer, Packing] = {}
        for packing in self.packings.values():
            first.setdefault(packing.buffer, packing)
        for packing in first.values():
            names = {loop.index: Local(loop.index.name, "i64") for loop in packing.loops}
            target = Store(self.buffers[packing.buffer], self.index(_row(packing)), packing.load)
            block: Block = (target,)
            for loop in reversed(packing.loops):
                block = (Loop(loop.index, loop.stop, block, "sequential"),)
            some: list[Expression] = [Apply("less", "bool", (loop.start, loop.stop)) for loop in packing.others]
            condition = some[0]
            for other in some[1:]:
                condition = Apply("logical_and", "bool", (condition, other))
            found.append(If(condition, rename(block, names)))
        return tuple(found)

    def block(self, block: Block) -> Block:
        """A block with the arrays as rows; what brings entries together stays as it is."""
        return tuple(statement for each in block for statement in self.statement(each))

    def statement(self, statement: Statement) -> Block:
        """A statement with the arrays as rows."""
        changed = change_expressions(statement, self.expression)
        match changed:
            case Store(buffer=buffer) if buffer in self.buffers.values():
                changed = statement
            case Store(buffer=buffer, index=index) | Update(buffer=buffer, index=index) if buffer in self.buffers:
                changed = replace(changed, buffer=self.buffers[buffer], index=self.index(index))
            case Fill(buffer=buffer, index=index, count=count, value=value):
                at = Local("k", "i64")
                store = Store(self.buffers[buffer], self.index(plus(index, at)), value)
                changed = Loop(at, count, (store,), "sequential")
            case Point(buffer=buffer, to=to, index=index) if to in self.buffers:
                changed = Point(self.buffers[buffer], self.buffers[to], times(index, number(self.lanes)))
            case Point(buffer=buffer, to=to, index=index) if buffer in self.buffers:
                # All points start from one array, of which each changes a copy.
                at, rows = Local("k", "i64"), Buffer(to.name, to.type, buffer.entries * self.lanes, span=to.span)
                store = Store(rows, self.index(at), Load(to, plus(index, at)))
                return (Loop(at, Extent(buffer.entries), (store,), "sequential"), Point(self.buffers[buffer], rows))
            case PointTape(buffer=buffer) if buffer in self.buffers:
                changed = replace(changed, buffer=self.buffers[buffer])
            case TapeReserve(row=row, bytes=count) if row in self.tapes:
                changed = replace(changed, bytes=times(count, number(self.lanes)), lanes=self.lanes)
            case TapeSetTop(row=row, bytes=count) if row in self.tapes:
                changed = replace(changed, bytes=times(count, number(self.lanes)))
            case Swap(one=one, other=other):
                changed = Swap(self.buffers[one], self.buffers[other])
            case Loop(body=body):
                changed = replace(changed, body=self.block(body))
            case While(test=test, body=body):
                changed = replace(changed, test=self.block(test), body=self.block(body))
            case If(then=then, otherwise=otherwise):
                changed = If(changed.condition, self.block(then), self.block(otherwise))
        return (changed,)

    def expression(self, expression: Expression) -> Expression:
        """An expression with reads of the arrays as reads of rows."""
        match expression:
            case Load() if expression in self.packings:
                packing = self.packings[expression]
                return Load(self.buffers[packing.buffer], self.index(_row(packing)))
            case Load(buffer=buffer, index=index):
                index = self.expression(index)
                return Load(self.buffers[buffer], self.index(index)) if buffer in self.buffers else Load(buffer, index)
            case Apply(operands=operands):
                return replace(expression, operands=tuple(map(self.expression, operands)))
        return expression


def _row(packing: Packing) -> Expression:
    row: Expression = ZERO
    for loop in packing.loops:
        row = plus(times(row, loop.stop), loop.index)
    return row
