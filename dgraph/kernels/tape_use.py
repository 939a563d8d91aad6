"""Which tapes of a loop program have a length that its arguments decide.

A tape written in the driver, outside of any loop, is as long as its loop has steps; if these follow from sizes and from
arguments that are whole numbers, so does its memory. So does that of a tape with a length of sizes that every turn of a
loop gives up again. The length of all others only the run knows.
"""

from __future__ import annotations

from collections import Counter

from dgraph.ir.counts import COUNTING, Count, Given, Made
from dgraph.kernels.demand import TapeDemand
from dgraph.kernels.nest_parts import set_locals, walk
from dgraph.kernels.nests import Apply, Expression, Extent, Let, Literal, Local, Program, TapeReserve, TapeTop
from dgraph.kernels.notices import TapeRow
from dgraph.sizes import size


def tape_demands(program: Program) -> tuple[TapeDemand, ...]:
    """The demand of every row of tape memory."""
    finder = _Finder(program)
    return tuple(TapeDemand(row.entry, finder.total(row), row.words, row.span) for row in program.tapes)


class _Finder:
    def __init__(self, program: Program) -> None:
        self.numbers = {source: at for at, source in enumerate(program.inputs) if isinstance(source, Local)}
        self.values: dict[Local, Expression] = {}
        self.reserved: dict[int, Expression] = {}
        set_again: set[Local] = set()
        for statement in walk(program.body):
            for local in set_locals(statement):
                if local in self.values or local in set_again:
                    self.values.pop(local, None)
                    set_again.add(local)
                elif isinstance(statement, Let):
                    self.values[local] = statement.value
        # A tape that may grow later is longer than it was at first.
        reserves = [s for s in walk(program.body) if isinstance(s, TapeReserve) and isinstance(s.row, Extent)]
        often = Counter(statement.row for statement in reserves)
        for statement in reserves:
            if often[statement.row] == 1 and statement in program.body:
                assert isinstance(statement.row, Extent)
                self.reserved[statement.row.size.constant or 0] = statement.bytes

    def total(self, row: TapeRow) -> Count | None:
        """The bytes on a row; None if only the run knows."""
        if row.is_alone and row.steps is not None:
            return row.entry * row.steps
        reserved = self.reserved.get(row.row)
        return None if reserved is None else self.count(reserved)

    def count(self, expression: Expression) -> Count | None:
        """An integer expression by sizes and arguments."""
        match expression:
            case Extent(size=extent):
                return extent
            case Literal(value=int(value)):
                return size(value)
            case TapeTop():
                return size(0)
            case Local() if expression in self.numbers and expression.type in ("i32", "i64", "u8"):
                return Given(self.numbers[expression])
            case Local() if expression in self.values:
                return self.count(self.values[expression])
            case Apply(op=op, operands=operands) if op in COUNTING and expression.type in ("i32", "i64"):
                parts = [self.count(operand) for operand in operands]
                found = tuple(part for part in parts if part is not None)
                return Made(op, found) if len(found) == len(parts) else None
        return None
