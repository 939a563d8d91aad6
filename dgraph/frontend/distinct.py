"""Whether the places that a formula writes are distinct: no two points of its indices have the same subscripts.

A subscript is affine in the indices. One with a single index of a factor other than 0 tells that index; so does one in
which the index moves further than all others together can, as the digits of a number do (`2 * i + p` with `p` below 2);
and so do several whose factors are independent (`i + j, i - j`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import permutations

from dgraph.frontend.ranges import is_never_negative, split_linear
from dgraph.sizes import Atom, Size, size

Row = Mapping[Atom, Size]
"""The factor of each index in one subscript."""

MOST_DIGITS = 4


def factors(subscript: Size, indices: Sequence[Atom]) -> Row | None:
    """The factors of the indices in a subscript; None if it is not affine in them."""
    row: dict[Atom, Size] = {}
    rest = subscript
    for index in indices:
        parts = split_linear(rest, index)
        if parts is None or any(other in set(parts[0].atoms()) for other in indices):
            return None
        if parts[0] != size(0):
            row[index] = parts[0]
        rest = parts[1]
    return row


def are_distinct(rows: Sequence[Row], extents: Mapping[Atom, Size | None]) -> bool:
    """Whether the subscripts tell all indices, each of which runs over an extent (None if only the run decides it)."""
    told: set[Atom] = set()
    while True:
        before = len(told)
        for row in rows:
            open_ = {index: factor for index, factor in row.items() if index not in told}
            if open_ and _are_digits(open_, extents):
                told.update(open_)
        if len(told) == before:
            break
    left = [index for index in extents if index not in told]
    return not left or _rank(rows, left) == len(left)


def _magnitude(factor: Size) -> Size | None:
    """A factor without its sign; None if that is not known."""
    return next((value for value in (factor, -factor) if is_never_negative(value)), None)


def _are_digits(row: Row, extents: Mapping[Atom, Size | None]) -> bool:
    """Whether one subscript tells all of its indices: in some order each moves it further than all later ones can."""
    magnitudes = {index: _magnitude(factor) for index, factor in row.items()}
    if len(row) > MOST_DIGITS or any(magnitude is None for magnitude in magnitudes.values()):
        return False
    return any(_in_order(order, magnitudes, extents) for order in permutations(row))


def _in_order(
    order: Sequence[Atom], magnitudes: Mapping[Atom, Size | None], extents: Mapping[Atom, Size | None]
) -> bool:
    # Where an extent is 0 there are no points, so each may be taken to be at least 1.
    reach = size(0)
    for index in reversed(order):
        magnitude, extent = magnitudes[index], extents[index]
        if magnitude is None or not is_never_negative(magnitude - 1 - reach):
            return False
        if extent is None:
            return index == order[0]
        reach = reach + magnitude * (extent - 1)
    return True


def _rank(rows: Sequence[Row], indices: Sequence[Atom]) -> int:
    """The rank of the integer factors of some indices."""
    matrix: list[list[Fraction]] = []
    for row in rows:
        held = [row.get(index, size(0)).constant for index in indices]
        if all(value is not None for value in held):
            matrix.append([Fraction(value or 0) for value in held])
    rank = 0
    for column in range(len(indices)):
        pivot = next((at for at in range(rank, len(matrix)) if matrix[at][column]), None)
        if pivot is None:
            continue
        matrix[rank], matrix[pivot] = matrix[pivot], matrix[rank]
        for at in range(rank + 1, len(matrix)):
            scale = matrix[at][column] / matrix[rank][column]
            matrix[at] = [a - scale * b for a, b in zip(matrix[at], matrix[rank], strict=True)]
        rank += 1
    return rank
