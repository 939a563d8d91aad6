"""Losses and metrics of a program over rows of data, with given values of its params and states."""

from __future__ import annotations

from dgraph.errors import DataError, Diagnostic, Label
from dgraph.frontend import functions
from dgraph.ir.graph import Formal
from dgraph.params import numbered_key
from dgraph.program.arguments import flatten
from dgraph.program.functions import Program
from dgraph.program.generic import concrete
from dgraph.train.checkpoint import Values
from dgraph.train.columns import Columns
from dgraph.train.data import count, rows_of
from dgraph.train.steps import takes_key

HELD = 1 << 48
"""The number of the first key that evaluations use: no step has so high a number."""


class Measure:
    """A function of a program over columns: its value as one number."""

    def __init__(self, program: Program, name: str, columns: Columns) -> None:
        self.program = program
        self.name = name
        self.compiled = concrete(program.function(name), columns).compiled
        self.formals = self.compiled.signature.formals
        info = functions(program.module)[name]
        for formal in self.formals:
            if formal.name not in program.module.stored and formal.name not in columns and not takes_key(formal):
                title = f"`{name}` asks for `{formal.name}`, which is no column of the data"
                labels = tuple(Label(known.span) for known in info.formals if known.name == formal.name)
                raise DataError(Diagnostic(title, labels, f"it has {', '.join(columns)}"))

    def of(self, values: Values, columns: Columns, number: int = 0) -> float:
        """The value for some rows; a key is the same in every call with the same number."""
        inputs = []
        for formal in self.formals:
            inputs += self._leaves(formal, values, columns, number)
        return float(self.compiled.run(inputs, {})[0])

    def _leaves(self, formal: Formal, values: Values, columns: Columns, number: int) -> list[object]:
        if formal.name in values:
            return values[formal.name]
        if takes_key(formal):
            return [numbered_key(self.program.seed, HELD + number)]
        return list(flatten(formal.name, formal.type, columns[formal.name]))

    def mean(self, values: Values, columns: Columns, size: int, *, whole: bool = False) -> float:
        """The mean over batches of some rows, each counted by its rows: a loss as it is in training. With `whole` a
        shorter last batch is left out."""
        rows = count(columns)
        used = rows - rows % size if whole else rows
        total = 0.0
        for number, start in enumerate(range(0, used, size)):
            batch = rows_of(columns, slice(start, min(start + size, used)))
            total += self.of(values, batch, number) * count(batch) / used
        return total
