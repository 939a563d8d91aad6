"""Colouring of patterns: which columns or rows of a sparse matrix can share one sweep (Curtis, Powell and Reid 1974).

Sets of colours are the bits of Python integers, so a union is one operation however many colours there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Colours = np.ndarray[Any, Any]
"""A colour for each column, counted from 0 without gaps."""


def count(colours: Colours) -> int:
    """How many colours are used."""
    return int(colours.max()) + 1 if len(colours) else 0


def column_colouring(pattern: Any) -> Colours:
    """Colours such that columns of one colour have no row in common; the fewer of two greedy orders, as the columns
    stand and the one with most neighbours first. `pattern` is a CSR array of bools."""
    columns = pattern.tocsc()
    in_row = np.diff(pattern.indptr)
    # How often a column meets another one: an upper bound of its neighbours.
    met = np.asarray(pattern.T.astype(np.int64) @ in_row.astype(np.int64)).ravel()
    orders = [np.arange(pattern.shape[1]), np.argsort(-met, kind="stable")]
    return min((_greedy(columns, pattern.shape[0], order) for order in orders), key=count)


def _greedy(columns: Any, rows: int, order: Any) -> Colours:
    """Each column in turn gets the first colour that no column in one of its rows has."""
    used = [0] * rows
    found = np.zeros(columns.shape[1], np.int64)
    starts, indices = columns.indptr.tolist(), columns.indices.tolist()
    for column in order.tolist():
        here = indices[starts[column] : starts[column + 1]]
        taken = 0
        for row in here:
            taken |= used[row]
        colour = _first_free(taken)
        found[column] = colour
        for row in here:
            used[row] |= 1 << colour
    return found


def _first_free(taken: int) -> int:
    """The least number whose bit is not set."""
    return (~taken & (taken + 1)).bit_length() - 1


def star_colouring(pattern: Any) -> Colours:
    """Colours of the vertices of a symmetric pattern such that neighbours differ and every path of four vertices has
    three colours (Gebremedhin, Manne and Pothen 2005); vertices with most neighbours first."""
    starts, indices = pattern.indptr.tolist(), pattern.indices.tolist()
    near = [
        [other for other in indices[starts[vertex] : starts[vertex + 1]] if other != vertex]
        for vertex in range(pattern.shape[0])
    ]
    colours = [-1] * len(near)
    around = [0] * len(near)
    # by_colour[v][c]: how many neighbours of v have colour c.
    by_colour: list[dict[int, int]] = [{} for _ in near]
    # Colours that a neighbour of v may not take, because a vertex of that colour joins v to another one of v's colour.
    closing = [0] * len(near)
    for vertex in sorted(range(len(near)), key=lambda at: -len(near[at])):
        colour = _first_free(_forbidden(vertex, near, colours, around, by_colour, closing))
        colours[vertex] = colour
        _note(vertex, near, colours, around, by_colour, closing)
    return np.array(colours, np.int64)


def _forbidden(
    vertex: int,
    near: list[list[int]],
    colours: list[int],
    around: list[int],
    by_colour: list[dict[int, int]],
    closing: list[int],
) -> int:
    """The colours that would make two neighbours alike, or a path of four vertices two-coloured."""
    taken = around[vertex]
    for other in near[vertex]:
        is_repeated = colours[other] < 0 or by_colour[vertex][colours[other]] > 1
        taken |= around[other] if is_repeated else closing[other]
    return taken


def _note(
    vertex: int,
    near: list[list[int]],
    colours: list[int],
    around: list[int],
    by_colour: list[dict[int, int]],
    closing: list[int],
) -> None:
    """Write down what a newly coloured vertex means for those around it."""
    colour = colours[vertex]
    for other in near[vertex]:
        around[other] |= 1 << colour
        by_colour[other][colour] = by_colour[other].get(colour, 0) + 1
        if colours[other] < 0:
            continue
        if by_colour[other][colour] == 2:
            for end in near[other]:
                if colours[end] == colour:
                    closing[end] |= 1 << colours[other]
        elif by_colour[other][colour] > 2:
            closing[vertex] |= 1 << colours[other]
        if by_colour[vertex][colours[other]] > 1:
            closing[other] |= 1 << colour


def column_places(pattern: Any, colours: Colours) -> Any:
    """For each entry of the pattern, in CSR order: its place in the compressed products, colour by colour, row by
    row."""
    rows = entry_rows(pattern)
    return colours[pattern.indices] * pattern.shape[0] + rows


def star_places(pattern: Any, colours: Colours) -> Any:
    """The same for a symmetric pattern and a star colouring: entry (i, j) is read in row i where no other neighbour of
    i has the colour of j, else in row j."""
    rows, columns = entry_rows(pattern), pattern.indices.astype(np.int64)
    extent, used = pattern.shape[0], count(colours)
    met = rows * used + colours[columns]
    _, inverse, times = np.unique(met, return_inverse=True, return_counts=True)
    is_alone = times[inverse] == 1
    return np.where(is_alone, colours[columns] * extent + rows, colours[rows] * extent + columns)


def entry_rows(pattern: Any) -> Any:
    """The row of each entry of a CSR array."""
    return np.repeat(np.arange(pattern.shape[0], dtype=np.int64), np.diff(pattern.indptr))
