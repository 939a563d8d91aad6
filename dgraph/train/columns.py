"""Columns read from files: `.npz` keys, the named columns of a `.csv` file, or a folder of idx files."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import DataError, Diagnostic, Label, Source, Span
from dgraph.program.arguments import read_arrays
from dgraph.train.idx import read_idx
from dgraph.types import Array

Column = np.ndarray[Any, Any]
Columns = dict[str, Column]
Reader = Callable[[Array], Column]
"""Gives a column for the type that the program declares; a text file has no types of its own."""

KINDS = "an .npz file, a .csv file, or a folder of idx files (train-*, t10k-*)"
TRUTH = {"true": True, "1": True, "false": False, "0": False}
PARTS = {"train": "train", "t10k": "test"}
"""The parts of the data by what the names of idx files begin with."""
ENTRIES = {"images": "image", "labels": "label"}


@dataclass(frozen=True)
class Table:
    """Data by column. `test` holds rows that the source itself keeps apart for testing."""

    path: Path
    train: Mapping[str, Reader]
    test: Mapping[str, Reader] | None = None


def read_table(path: Path) -> Table:
    """The columns of a data file or folder. Raises `DataError`."""
    if path.is_dir():
        return _idx_folder(path)
    if not path.is_file():
        raise DataError(Diagnostic(f"there is no data file {path}", (), f"--data takes {KINDS}"))
    kind = path.suffix.lower()
    if kind == ".npz":
        columns = read_arrays(path)
        if isinstance(columns, np.ndarray):
            raise DataError(Diagnostic(f"{path} holds one array without a name", (), "write it with numpy.savez"))
        return table_of(columns, path)
    if kind == ".csv":
        return Table(path, _CsvFile(path).readers())
    raise DataError(Diagnostic(f"{path} is no data that dgraph reads", (), f"--data takes {KINDS}"))


def table_of(columns: Mapping[str, Column], path: Path) -> Table:
    """Arrays by name as a table."""
    return Table(path, {name: _always(column) for name, column in columns.items()})


def _always(column: Column) -> Reader:
    return lambda _: column


# ---- idx folders -----------------------------------------------------------------------------------------------------


def _idx_folder(folder: Path) -> Table:
    """`train-images-idx3-ubyte.gz` gives the column `image` of the training rows, `t10k-labels...` the column `label`
    of the test rows, and so on."""
    parts: dict[str, dict[str, Reader]] = {"train": {}, "test": {}}
    for file in sorted(folder.iterdir()):
        start, dash, rest = file.name.partition("-")
        if start not in PARTS or not dash or not file.is_file():
            continue
        entries = rest.replace(".", "-").partition("-")[0]
        name = ENTRIES.get(entries, entries)
        # Of a file that lies there packed and unpacked, the unpacked one comes first and is taken.
        parts[PARTS[start]].setdefault(name, _later(file))
    if not parts["train"]:
        note = "it should hold train-images-idx3-ubyte, train-labels-idx1-ubyte and the like, or the same with .gz"
        raise DataError(Diagnostic(f"the folder {folder} holds no idx files of training data", (), note))
    return Table(folder, parts["train"], parts["test"] or None)


def _later(file: Path) -> Reader:
    read = cache(partial(read_idx, file))
    return lambda _: read()


# ---- csv -------------------------------------------------------------------------------------------------------------


class _CsvFile:
    """A text of rows under a line of column names. Only the columns that are asked for have to be numbers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.text = path.read_text(encoding="utf-8-sig")
        except OSError as fault:
            raise DataError(Diagnostic(f"cannot read {path}", (), fault.strerror or "")) from None
        except UnicodeDecodeError as fault:
            title = f"{path} is not UTF-8 text: byte {fault.start} is 0x{fault.object[fault.start]:02x}"
            raise DataError(Diagnostic(title, (), "save the file as UTF-8")) from None

    @cached_property
    def rows(self) -> list[tuple[int, list[str]]]:
        """The rows that are not empty, each with its line in the file. Raises `DataError`."""
        lines = self.text.splitlines(keepends=True)
        reader = csv.reader(lines, strict=True, skipinitialspace=True)
        rows, line = [], 1
        try:
            for row in reader:
                if any(map(str.strip, row)):
                    rows.append((line, [cell.strip() for cell in row]))
                line = reader.line_num + 1
        except csv.Error as fault:
            raise self.fault(f"line {line} of {self.path} cannot be read: {fault}", line) from None
        return rows

    def readers(self) -> dict[str, Reader]:
        """The columns by name. Raises `DataError` for a header that names none."""
        if len(self.rows) < 2:
            what = "is empty" if not self.rows else "has no rows under its first line"
            note = "its first line names the columns, and each line after it is a row"
            raise DataError(Diagnostic(f"{self.path} {what}", (), note))
        line, names = self.rows[0]
        if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
            raise self.fault(f"the cells of {self.path} are not separated by commas", line, note="write a,b,c")
        for at, name in enumerate(names):
            if _is_number(name):
                title = f"the first line of {self.path} holds the number {name} where a column name belongs"
                raise self.fault(title, line, at, "put a line of names first, as in x,y,label")
            if not name or name in names[:at]:
                title = f"column {at + 1} of {self.path} has {'no name' if not name else f'the name `{name}` again'}"
                raise self.fault(title, line, at, "every column needs a name of its own")
        for line, row in self.rows[1:]:
            if len(row) != len(names):
                title = f"line {line} of {self.path} has {len(row)} cells, and the first line names {len(names)}"
                raise self.fault(title, line, min(len(row), len(names)) - 1)
        return {name: self._reader(name, at) for at, name in enumerate(names)}

    def _reader(self, name: str, at: int) -> Reader:
        def read(declared: Array) -> Column:
            if declared.rank != 1:
                title = f"`{name}: {declared}` has {declared.rank} axes, and {self.path} has one number in a cell"
                raise DataError(Diagnostic(title, (), "write arrays with numpy.savez(..., key=array) as an .npz file"))
            out = np.empty(len(self.rows) - 1, declared.dtype.numpy)
            place, cell = self.rows[0][0], ""
            try:
                for row, (line, cells) in enumerate(self.rows[1:]):
                    place, cell = line, cells[at]
                    out[row] = self._number(cell, declared)
            except (ValueError, KeyError, OverflowError):
                shown = f"`{cell[:40]}`" if cell else "nothing"
                title = f"line {place} of {self.path}, column `{name}`: {shown} is no {declared.dtype}"
                note = "every cell of a column that the program reads is a number (nan and inf are written so)"
                raise self.fault(title, place, at, note) from None
            return out

        return read

    @staticmethod
    def _number(cell: str, declared: Array) -> float | int | bool:
        if "_" in cell:
            raise ValueError(cell)
        if declared.dtype.kind == "bool":
            return TRUTH[cell.lower()]
        if declared.dtype.is_float:
            return float(cell)
        number = float(cell) if "." in cell or "e" in cell.lower() else int(cell)
        if number != int(number):
            raise ValueError(cell)
        return int(number)

    def fault(self, title: str, line: int, at: int | None = None, note: str = "") -> DataError:
        """A fault at a line, or at one of its cells."""
        source = Source(str(self.path), self.text)
        start = source.line_starts[line - 1]
        words = source.line(line)
        end = start + len(words)
        if at is not None and '"' not in words:
            cells = list(_cells(words))
            start, end = start + cells[at][0], start + cells[at][1]
        return DataError(Diagnostic(title, (Label(Span(source, start, max(end, start + 1)), ""),), note))


def _cells(line: str) -> Iterator[tuple[int, int]]:
    """Where the cells of a line stand, without the blanks around them."""
    start = 0
    for cell in line.split(","):
        inner = cell.strip()
        first = start + (cell.index(inner) if inner else 0)
        yield first, first + len(inner)
        start += len(cell) + 1


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
