"""Which sums of products are matrix products, and how the arrays have to be seen for that.

A sum over some loop indices of `left[...] * right[...]`, written at others, is a (batched) matrix product if its
indices fall into four kinds: batch (in both factors and written), rows (left and written), columns (right and
written), summed (left and right, not written). Several rows, columns or summed indices count as one where they lie
side by side in memory. A batch index may stand anywhere but last: then the array is seen transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dgraph.ir.build import Builder
from dgraph.ir.graph import Value
from dgraph.ops.linalg import Dot
from dgraph.passes.row_products import shape_of
from dgraph.sizes import Size, product

SMALL = 8
"""A product two of whose three extents are literals up to this stays a nest."""


class Loop(NamedTuple):
    """An index of a nest of index spaces: of the space at a level, the one at a position."""

    level: int
    position: int


Loops = tuple[Loop, ...]


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


@dataclass(frozen=True)
class Form:
    """A matrix product: how to see its factors, the op, and how to see its result so that it is written right."""

    swapped: bool
    left: View
    right: View
    op: Dot
    shape: tuple[Size, ...]
    axes: tuple[int, ...]

    def emit(self, g: Builder, left: Value, right: Value) -> Value:
        """The product of two arrays, with axes in the order of what is written."""
        if self.swapped:
            left, right = right, left
        found = g.emit(self.op, self.left.of(g, left), self.right.of(g, right))
        if shape_of(found) != self.shape:
            found = g.reshape(found, shape=self.shape)
        return found if self.axes == tuple(range(len(self.axes))) else g.transpose(found, axes=self.axes)


def product_form(left: Loops, right: Loops, written: Loops, extent: Callable[[Loop], Size]) -> Form | None:
    """The form of a sum over the loops that are not written; None if it is no matrix product, or a small one."""
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
    return Form(
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
