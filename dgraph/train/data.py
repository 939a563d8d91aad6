"""Training data: columns by name that share their leading size, split into train and test rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dgraph.errors import DataError, Diagnostic
from dgraph.ir.graph import Formal
from dgraph.program.arguments import flatten, read_arrays
from dgraph.types import Array

Columns = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Data:
    """Columns of the rows to train on and of the rows held out."""

    train: Columns
    test: Columns

    @property
    def rows(self) -> int:
        """Number of rows to train on."""
        return len(next(iter(self.train.values())))


def read_columns(path: Path) -> Columns:
    """The arrays of an `.npz` file. Raises `DataError`."""
    if not path.is_file():
        raise DataError(Diagnostic(f"there is no data file {path}", (), "name one with --data FILE.npz"))
    if path.suffix.lower() != ".npz":
        raise DataError(Diagnostic(f"{path} is not an .npz file", (), "other formats are not supported yet"))
    columns = read_arrays(path)
    if isinstance(columns, np.ndarray):
        raise DataError(Diagnostic(f"{path} holds one array without a name", (), "write it with numpy.savez"))
    return columns


def pick_columns(path: Path, columns: Columns, formals: Sequence[Formal]) -> Columns:
    """The columns that a function asks for by the names of its formals, in the declared dtypes. Raises `DataError`."""
    chosen: Columns = {}
    for formal in formals:
        if not isinstance(formal.type, Array) or not formal.type.rank:
            title = f"`{formal.name}: {formal.type}` cannot be a column of the data"
            raise DataError(Diagnostic(title, (), "a column is an array whose first axis is the rows"))
        if formal.name not in columns:
            known = ", ".join(f"`{name}`" for name in columns) or "nothing"
            title = f"{path} has no column `{formal.name}`"
            raise DataError(Diagnostic(title, (), f"it has {known}; data columns are formals by name"))
        (chosen[formal.name],) = flatten(formal.name, formal.type, columns[formal.name])
    lengths = {name: len(column) for name, column in chosen.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"`{name}` {length}" for name, length in lengths.items())
        raise DataError(Diagnostic(f"the columns of {path} differ in length: {listed}"))
    return chosen


def split(columns: Columns, test: int) -> Data:
    """The last `test` rows held out. Raises `DataError` if none is left to train on."""
    rows = len(next(iter(columns.values())))
    if not rows:
        raise DataError(Diagnostic("the data has no rows"))
    if test >= rows:
        raise DataError(Diagnostic(f"{test} of {rows} rows are held out, so none is left to train on"))
    kept = rows - test
    return Data(
        {name: column[:kept] for name, column in columns.items()},
        {name: column[kept:] for name, column in columns.items()},
    )


def batches(columns: Columns, size: int, random: np.random.Generator) -> Iterator[list[np.ndarray[Any, Any]]]:
    """The rows once, in a random order, `size` at a time; the last batch may be shorter."""
    order = random.permutation(len(next(iter(columns.values()))))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield [np.take(column, rows, axis=0) for column in columns.values()]
