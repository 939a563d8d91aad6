"""Which sums of products are matrix products, and how the arrays have to be seen for that.

A sum over some loop indices of `left[...] * right[...]`, written at others, is a (batched) matrix product if its
indices fall into four kinds: batch (in both factors and written), rows (left and written), columns (right and
written), summed (left and right, not written). Several rows, columns or summed indices count as one where they lie
side by side in memory. What is no stack of such matrices as it lies there, or runs over a triangle only, is written by
letters for the axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import ascii_lowercase
from typing import NamedTuple, Protocol

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.contraction import Contract
from dgraph.ops.linalg import Dot
from dgraph.passes.row_products import shape_of
from dgraph.sizes import Size, product
from dgraph.types import Array

LETTERS = ascii_lowercase[8:] + ascii_lowercase[:8]
"""The names of loop indices, in the order in which they are met."""

SMALL = 8
"""A product two of whose three extents are literals up to this stays a nest."""


class Loop(NamedTuple):
    """An index of a nest of index spaces: of the space at a level, the one at a position."""

    level: int
    position: int


class Term(NamedTuple):
    """A loop index, so many times."""

    loop: Loop
    times: int = 1


Loops = tuple[Loop, ...]
Axes = tuple[tuple[Term, ...], ...]
"""What is read or written along each axis of an array: one loop index, or a multiple, or a sum of some."""


def flat(axes: Axes) -> Loops:
    """All loop indices of some axes."""
    return tuple(term.loop for axis in axes for term in axis)


def is_plain(axis: tuple[Term, ...]) -> bool:
    """Whether an axis is read at a loop index as it is."""
    return len(axis) == 1 and axis[0].times == 1


class Triangle(NamedTuple):
    """Only points with `low < high + shift` count."""

    low: Loop
    high: Loop
    shift: int


@dataclass(frozen=True)
class View:
    """How an array is seen as a stack of matrices or of vectors: the axes exchanged, then axes made one.

    `groups` are the extents of the axes that become one, in order, after `batch` axes that stay.
    """

    axes: tuple[int, ...]
    batch: int
    groups: tuple[int, ...]

    def of(self, g: Builder, array: Value) -> Value:
        """The array, seen so."""
        if self.axes != tuple(range(len(self.axes))):
            array = g.transpose(array, axes=self.axes)
        shape, at = shape_of(array), self.batch
        wanted = list(shape[:at])
        for group in self.groups:
            wanted.append(product(shape[at : at + group]))
            at += group
        return array if tuple(wanted) == shape else g.reshape(array, shape=tuple(wanted))


class Form(Protocol):
    """How a product is computed from arrays."""

    def emit(self, g: Builder, left: Value, right: Value, start: Value | None = None) -> Value:
        """The product of two arrays, with axes in the order of what is written, added to `start` if that is given."""


@dataclass(frozen=True)
class ContractForm:
    """A sum of products by letters, with axes in another order than they are written."""

    op: Contract
    axes: tuple[int, ...]
    shape: tuple[Size, ...]

    def emit(self, g: Builder, left: Value, right: Value, start: Value | None = None) -> Value:
        """One node, and what brings the axes into order."""
        is_in_order = self.axes == tuple(range(len(self.axes)))
        assert start is not None or not self.op.has_windows
        if start is None:
            kind = left.type
            assert isinstance(kind, Array)
            found = self.op.applied(g, left, right, Array(kind.dtype, self.shape))
        else:
            back = tuple(self.axes.index(axis) for axis in range(len(self.axes)))
            found = g.emit(self.op, left, right, start if is_in_order else g.transpose(start, axes=back))
        return found if is_in_order else g.transpose(found, axes=self.axes)


@dataclass(frozen=True)
class DotForm:
    """A matrix product: how to see its factors, the op, and how to see its result so that it is written right."""

    swapped: bool
    left: View
    right: View
    op: Dot
    shape: tuple[Size, ...]
    axes: tuple[int, ...]

    @property
    def is_untouched(self) -> bool:
        """Whether no axes of the factors are exchanged."""
        return all(view.axes == tuple(range(len(view.axes))) for view in (self.left, self.right))

    def emit(self, g: Builder, left: Value, right: Value, start: Value | None = None) -> Value:
        """A product of the arrays, seen so."""
        if self.swapped:
            left, right = right, left
        found = g.emit(self.op, self.left.of(g, left), self.right.of(g, right))
        if shape_of(found) != self.shape:
            found = g.reshape(found, shape=self.shape)
        found = found if self.axes == tuple(range(len(self.axes))) else g.transpose(found, axes=self.axes)
        return found if start is None else g.add(start, found)


def product_form(
    left: Axes, right: Axes, written: Axes, extent: Callable[[Loop], Size], triangle: Triangle | None = None
) -> Form | None:
    """The form of a sum over the loops that are not written; None if it is no matrix product, or a small one."""
    has_windows = not all(map(is_plain, left + right + written))
    if has_windows and triangle is not None:
        return None
    if has_windows or triangle is not None:
        return _contraction((left, right, written), extent, triangle)
    found = _dot(flat(left), flat(right), flat(written), extent)
    is_in_order = found is not None and found.axes == tuple(range(len(written)))
    if found is None or (len(written) > 2 and not (is_in_order and found.is_untouched)):
        return _contraction((left, right, written), extent, None) or found
    return found


def _contraction(
    axes: tuple[Axes, Axes, Axes], extent: Callable[[Loop], Size], triangle: Triangle | None
) -> ContractForm | None:
    """A sum by letters, if it has rows, columns and something to sum. A batch axis that is written last is moved."""
    left, right, written = (flat(place) for place in axes)
    loops = tuple(dict.fromkeys(left + right))
    letters = dict(zip(loops, LETTERS, strict=False))
    summed = tuple(loop for loop in left if loop in right and loop not in written)
    rows = tuple(loop for loop in written if loop in left and loop not in right)
    columns = tuple(loop for loop in written if loop in right and loop not in left)
    if len(loops) > len(LETTERS) or not (summed and rows and columns) or set(loops) != {*written, *summed}:
        return None
    if _is_small([_size(extent, group) for group in (rows, summed, columns)]):
        return None
    held = {axis[0].loop for place in axes for axis in place if is_plain(axis)}
    if not held.issuperset(loops) or not _fits(axes[2], rows, columns):
        return None
    order = axes[2]
    if written[-1] not in (*rows, *columns):
        batch = tuple(loop for loop in written if loop not in (*rows, *columns))
        order = tuple((Term(loop),) for loop in (*batch, *rows, *columns))
    moved = tuple(order.index(axis) for axis in axes[2])
    places = [
        "".join("+".join(f"{times if times > 1 else ''}{letters[loop]}" for loop, times in axis) for axis in place)
        for place in (*axes[:2], order)
    ]
    shape = tuple(extent(loop) for loop in flat(order))
    if triangle is None:
        return ContractForm(Contract(places[0], places[1], places[2]), moved, shape)
    groups = [group for group in (rows, columns, summed) if triangle.low in group or triangle.high in group]
    if len(groups) < 2:
        return None
    below = letters[triangle.low] + letters[triangle.high]
    return ContractForm(Contract(places[0], places[1], places[2], below, triangle.shift), moved, shape)


def _fits(written: Axes, rows: Loops, columns: Loops) -> bool:
    """Whether the kernel can write a result: windows shift along other axes than the last, and leave rows, columns."""
    if all(map(is_plain, written)):
        return True
    shifts = {term.loop for axis in written for term in axis[1:]}
    return (
        is_plain(written[-1])
        and written[-1][0].loop in (*rows, *columns)
        and not {*rows} <= shifts
        and not {*columns} <= shifts
    )


def _dot(left: Loops, right: Loops, written: Loops, extent: Callable[[Loop], Size]) -> DotForm | None:
    """A matrix product, batched or not."""
    swapped = bool(written) and written[-1] in left and written[-1] not in right and not set(right) <= set(left)
    if swapped:
        left, right = right, left
    batch = tuple(loop for loop in written if loop in left and loop in right)
    rows = tuple(loop for loop in written if loop in left and loop not in right)
    columns = tuple(loop for loop in written if loop in right and loop not in left)
    summed = tuple(loop for loop in left if loop not in written)
    if not summed or not (rows or columns) or (batch and not (rows and columns)):
        return None
    if set(written) | set(summed) != {*left, *right} or set(summed) != {loop for loop in right if loop not in written}:
        return None
    one, other = _view(left, batch, rows, summed), _view(right, batch, summed, columns)
    if one is None or other is None or _is_small([_size(extent, group) for group in (rows, summed, columns) if group]):
        return None
    order = (*batch, *rows, *columns)
    return DotForm(
        swapped,
        one[0],
        other[0],
        Dot(transpose_a=one[1] and bool(rows), transpose_b=other[1] and bool(columns)),
        tuple(map(extent, order)),
        tuple(order.index(loop) for loop in written),
    )


def _view(loops: Loops, batch: Loops, first: Loops, second: Loops) -> tuple[View, bool] | None:
    """How to see an array as matrices over two kinds of indices, and whether they lie transposed."""
    rest = tuple(loop for loop in loops if loop not in batch)
    if rest not in (first + second, second + first):
        return None
    transposed = rest != first + second
    axes = tuple(loops.index(loop) for loop in batch + rest)
    moved = axes != tuple(range(len(axes)))
    if moved and (loops[-1] in batch or len(first) > 1 or len(second) > 1):
        return None
    groups = (len(second), len(first)) if transposed else (len(first), len(second))
    return View(axes, len(batch), tuple(group for group in groups if group)), transposed


def _size(extent: Callable[[Loop], Size], loops: Sequence[Loop]) -> Size:
    return product(tuple(map(extent, loops)))


def _is_small(extents: Sequence[Size]) -> bool:
    literal = [extent.constant for extent in extents if extent.constant is not None]
    return sum(value <= SMALL for value in literal) >= min(2, len(extents) - 1)
