"""Training data: columns by name that share their leading size, split into rows to train, validate and test on."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import DataError, Diagnostic, Label
from dgraph.frontend import FunctionInfo
from dgraph.ir.graph import Formal
from dgraph.sizes import Size
from dgraph.train.columns import Column, Columns, Reader, Table
from dgraph.train.settings import Plan
from dgraph.types import Array, DType, dtype_of_numpy

ORDER, HELD = 0, 1
"""Streams of random numbers: the order of rows in an epoch, and the choice of rows for validation."""


@dataclass(frozen=True)
class Data:
    """Columns of the rows to train on, to validate on and to test on; the last two may have no rows."""

    train: Columns
    validation: Columns
    test: Columns

    @property
    def rows(self) -> int:
        """Number of rows to train on."""
        return count(self.train)

    @property
    def digest(self) -> str:
        """A sum over all bytes, by which a run that goes on knows its data again."""
        total = 0
        for part in (self.train, self.validation, self.test):
            for name, column in part.items():
                total = zlib.crc32(f"{name} {column.dtype} {column.shape}".encode(), total)
                total = zlib.crc32(np.ascontiguousarray(column).data.cast("B") if column.size else b"", total)
        return f"{total:08x}"


def count(columns: Columns) -> int:
    """Number of rows."""
    return len(next(iter(columns.values())))


def pick_columns(table: Table, formals: Mapping[str, tuple[Formal, FunctionInfo]]) -> tuple[Columns, Columns | None]:
    """The columns that functions ask for by the names of their formals, in the declared dtypes, and the same of the
    test rows if the source keeps them apart. Raises `DataError`."""
    train = _pick(table, table.train, formals)
    return train, None if table.test is None else _pick(table, table.test, formals)


def _pick(table: Table, readers: Mapping[str, Reader], formals: Mapping[str, tuple[Formal, FunctionInfo]]) -> Columns:
    chosen: Columns = {}
    for formal, info in formals.values():
        labels = tuple(Label(known.span, "asked for here") for known in info.formals if known.name == formal.name)
        if not isinstance(formal.type, Array) or not formal.type.rank:
            title = f"`{formal.name}: {formal.type}` cannot be a column of the data"
            raise DataError(Diagnostic(title, labels, "a column is an array whose first axis is the rows"))
        if formal.name not in readers:
            known = ", ".join(f"`{name}`" for name in readers) or "nothing"
            part = "" if readers is table.train else " in its test part"
            title = f"{table.path} has no column `{formal.name}`{part}"
            raise DataError(Diagnostic(title, labels, f"it has {known}; data columns are formals by name"))
        chosen[formal.name] = fit(formal, readers[formal.name](formal.type), labels)
    lengths = {name: len(column) for name, column in chosen.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"`{name}` {length:,}" for name, length in lengths.items())
        note = "the first axis of every column is the rows of the data"
        raise DataError(Diagnostic(f"the columns of {table.path} differ in length: {listed}", (), note))
    if not chosen:
        raise DataError(Diagnostic("no function asks for a column of the data", (), "columns are formals by name"))
    return chosen


def fit(formal: Formal, column: Column, labels: tuple[Label, ...] = ()) -> Column:
    """A column in the declared dtype, its extents checked. Integers may change their width where every value stays
    the same; floats never change by themselves. Raises `DataError`."""
    type_ = formal.type
    assert isinstance(type_, Array)
    found = dtype_of_numpy(column.dtype.newbyteorder("=")) or column.dtype
    extents = [extent.constant for extent in type_.shape[1:]]
    if not column.ndim:
        title = f"the column `{formal.name}` has no axes: it is one number"
        raise DataError(Diagnostic(title, labels, "the first axis of every column is the rows of the data"))
    have = list(column.shape[1:])
    have_words = f"{found}[{', '.join(['n', *map(str, have)])}]"
    if column.ndim != type_.rank or any(want not in (None, got) for want, got in zip(extents, have, strict=True)):
        title = f"the column `{formal.name}` is {have_words}, and {type_} is declared"
        note = "declare the shape of the data; reshape(x, (n, k)) changes it in the program"
        raise DataError(Diagnostic(title, labels, note))
    if column.dtype.newbyteorder("=") == type_.dtype.numpy:
        return np.require(column, type_.dtype.numpy, ["C", "A"])
    if type_.dtype.kind == "int" and column.dtype.kind in "iu":
        changed = column.astype(type_.dtype.numpy)
        if np.array_equal(changed, column):
            return changed
        title = f"the column `{formal.name}` holds {column.min()} to {column.max()}, which {type_.dtype} cannot hold"
        raise DataError(Diagnostic(title, labels, f"declare `{formal.name}: i64[...]`"))
    title = f"the column `{formal.name}` is {found}, and {type_} is declared"
    raise DataError(Diagnostic(title, labels, _advice(formal.name, found, type_.dtype, have_words)))


def _advice(name: str, found: DType | np.dtype[Any], wanted: DType, words: str) -> str:
    if not isinstance(found, DType):
        return f"write the data with `{name}.astype(numpy.{wanted.numpy_name})`"
    if wanted.is_float and not found.is_float:
        return f"declare `{name}: {words}` and write `{wanted}({name})` in the program"
    return f"declare `{name}: {words}`, or write the data with `{name}.astype(numpy.{wanted.numpy_name})`"


def rows_of(columns: Columns, rows: slice | Column) -> Columns:
    """Some of the rows."""
    if isinstance(rows, slice):
        return {name: column[rows] for name, column in columns.items()}
    return {name: np.take(column, rows, axis=0) for name, column in columns.items()}


def split(columns: Columns, own_test: Columns | None, plan: Plan, seed: int) -> Data:
    """The rows in three parts. Unless the source keeps test rows apart they are the last ones. Rows to validate on
    are drawn from the others by the seed; if the order of the rows matters, they are the last of the others.

    Raises `DataError` if none is left to train on.
    """
    rows = count(columns)
    if not rows:
        raise DataError(Diagnostic("the data has no rows"))
    tested = 0 if own_test is not None else plan.part(plan.test, rows)
    others = rows - tested
    validated = plan.part(plan.validation, others)
    if validated >= others:
        title = f"{tested + validated:,} of {rows:,} rows are held out, so none is left to train on"
        raise DataError(Diagnostic(title, (), "lower test= or validation="))
    test = rows_of(columns, slice(others, rows)) if own_test is None else own_test
    kept: slice | Column = slice(0, others - validated)
    held: slice | Column = slice(others - validated, others)
    if validated and plan.shuffle:
        drawn = np.random.default_rng((seed, HELD)).permutation(others)
        kept, held = np.sort(drawn[validated:]), np.sort(drawn[:validated])
    return Data(rows_of(columns, kept), rows_of(columns, held), test)


def batch_size(formals: Sequence[Formal], plan: Plan) -> tuple[int, bool]:
    """The rows of a step, and whether every batch must have them all: so if a formal fixes its leading size.

    Raises `DataError` if that is not the batch that was asked for.
    """
    fixed = {formal.name: _leading(formal).constant for formal in formals}
    known = {name: rows for name, rows in fixed.items() if rows is not None}
    if not known:
        return plan.batch, False
    name, rows = next(iter(known.items()))
    if set(known.values()) != {rows} or ("batch" in plan.given and plan.batch != rows):
        other = next((f"`{key}` {value}" for key, value in known.items() if value != rows), f"batch={plan.batch}")
        raise DataError(Diagnostic(f"`{name}` has {rows} rows in every step, which does not go with {other}"))
    return rows, True


def _leading(formal: Formal) -> Size:
    assert isinstance(formal.type, Array)
    return formal.type.shape[0]


def batches(
    data: Data, size: int, plan: Plan, seed: int, epoch: int, *, first: int = 0, whole: bool = False
) -> Iterator[Columns]:
    """The training rows once from batch `first` on, `size` at a time, in an order that the seed and the epoch decide,
    or in their own if the plan says not to shuffle. The last batch may be shorter; with `whole` it is left out then.
    """
    order = np.random.default_rng((seed, ORDER, epoch)).permutation(data.rows) if plan.shuffle else None
    end = data.rows - data.rows % size if whole else data.rows
    for start in range(first * size, end, size):
        yield rows_of(data.train, slice(start, start + size) if order is None else order[start : start + size])
