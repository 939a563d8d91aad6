"""What a call adds to its arguments for compressed sweeps: the numbers of the sweeps, the colour of each entry of the
sides, and where each entry of a block is found among the products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dgraph.ad.sparse.colouring import (
    column_colouring,
    column_places,
    count,
    entry_rows,
    star_colouring,
    star_places,
)
from dgraph.ad.sparse.compress import Jacobian
from dgraph.classes import dataclass

REVERSE = 2
"""The time of a reverse sweep in forward sweeps."""


@dataclass(frozen=True)
class Coloured:
    """The pattern of a whole Jacobian with the colours of its columns or rows, whichever `way` has them share sweeps,
    and for each entry its place among the products."""

    pattern: Any
    way: str
    colours: Any
    places: Any

    @property
    def sweeps(self) -> int:
        """One for each colour."""
        return count(self.colours)

    @property
    def price(self) -> int:
        """The time of the sweeps in forward sweeps."""
        return self.sweeps * (REVERSE if self.way == "rows" else 1)


def fewest(pattern: Any, is_symmetric: bool) -> int:
    """A price that no colouring is below: entries that share a row or a column are had by products of their own."""
    if is_symmetric:
        return int(pattern.nnz // max(pattern.shape[0], 1) + 1) // 2
    columns = int(np.diff(pattern.indptr).max(initial=0))
    return min(columns, REVERSE * int(np.bincount(pattern.indices, minlength=1).max(initial=0)))


def coloured(pattern: Any, is_symmetric: bool) -> Coloured:
    """The pattern with the colours of its columns or of its rows, whichever takes less time; a symmetric one with a
    star colouring, and with its diagonal."""
    if is_symmetric:
        return _by_stars(pattern)
    columns = column_colouring(pattern)
    least = int(np.bincount(pattern.indices, minlength=1).max(initial=0))
    if count(columns) > REVERSE * least:
        rows = column_colouring(pattern.T.tocsr())
        if count(columns) > REVERSE * count(rows):
            places = rows[entry_rows(pattern)] * pattern.shape[1] + pattern.indices
            return Coloured(pattern, "rows", rows, places)
    return Coloured(pattern, "columns", columns, column_places(pattern, columns))


def _by_stars(pattern: Any) -> Coloured:
    from scipy import sparse

    diagonal = sparse.eye_array(pattern.shape[0], dtype=bool, format="csr")
    whole = (pattern + pattern.T + diagonal).tocsr()
    whole.sort_indices()
    colours = star_colouring(whole)
    return Coloured(whole, "columns", colours, star_places(whole, colours))


@dataclass(frozen=True)
class Seeds:
    """The further arguments for one Jacobian in the order of its further inputs, the pattern of each block in
    compressed rows, and the number of sweeps."""

    arrays: tuple[Any, ...]
    patterns: tuple[Any, ...]
    sweeps: int


def seeds_of(jacobian: Jacobian, found: Coloured, rows: Sequence[Any], columns: Sequence[Any]) -> Seeds:
    """The further arguments for a coloured pattern; `rows` and `columns` are the shapes of the outputs and inputs."""
    from scipy import sparse

    arrays: list[Any] = []
    for way in jacobian.ways:
        is_taken = way == found.way
        arrays.append(np.arange(found.sweeps if is_taken else 0))
        start = 0
        for shape in columns if way == "columns" else rows:
            many = _count(shape)
            held = found.colours[start : start + many] if is_taken else np.zeros(many, np.int64)
            arrays.append(np.ascontiguousarray(held).reshape(shape))
            start += many
    at_row, at_column = entry_rows(found.pattern), found.pattern.indices
    patterns = []
    above = 0
    for height in map(_count, rows):
        left = 0
        for width in map(_count, columns):
            here = (at_row >= above) & (at_row < above + height) & (at_column >= left) & (at_column < left + width)
            which = np.flatnonzero(here)
            for way in jacobian.ways:
                places = found.places[which] if way == found.way else np.full(len(which), -1)
                arrays.append(np.ascontiguousarray(places, np.int64))
            inner = at_row[which] - above, at_column[which].astype(np.int64) - left
            if not jacobian.is_entries:
                arrays.append(inner[0] * width + inner[1])
            starts = np.concatenate([[0], np.cumsum(np.bincount(inner[0], minlength=height))])
            patterns.append(sparse.csr_array((np.ones(len(which), bool), inner[1], starts), shape=(height, width)))
            left += width
        above += height
    return Seeds(tuple(arrays), tuple(patterns), found.sweeps)


def _count(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))
