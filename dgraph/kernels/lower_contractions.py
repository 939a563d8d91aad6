"""Lowering of sums of products by letters: which letters are the rows, the columns and what is summed of a matrix
product on register tiles, and loops over all others around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dgraph.classes import dataclass
from dgraph.ir.graph import Node
from dgraph.kernels.nests import (
    Apply,
    Buffer,
    Expression,
    Extent,
    Literal,
    Local,
    Loop,
    Matrix,
    MatrixProduct,
    number,
)
from dgraph.kernels.product_runs import Runs
from dgraph.kernels.product_symbols import Triangle
from dgraph.kernels.scope import Scope
from dgraph.kernels.sums import LANES
from dgraph.kernels.views import View, plus, times, whole
from dgraph.sizes import Size, size

if TYPE_CHECKING:
    from dgraph.kernels.lower import GraphLowering

ROLES = {(1, 1, 1): "batch", (1, 0, 1): "rows", (0, 1, 1): "columns", (1, 1, 0): "summed"}
"""What a letter is to a product, by whether it stands in the left factor, the right one and the result."""

BLOCK = 64
"""So much of a long axis is walked for all batches in turn, where batches lie inside of it: memory is met in order."""

PAIRS: dict[frozenset[str], Triangle] = {
    frozenset(("summed", "columns")): "columns",
    frozenset(("summed", "rows")): "rows",
    frozenset(("rows", "columns")): "corner",
}
"""The kind of a triangle, by what its two letters are."""


@dataclass(frozen=True)
class _Axis:
    """Letters that count as one: how often, and the steps in the left factor, the right one and the result."""

    letters: str
    extent: Size
    steps: tuple[Size, Size, Size]

    def with_inner(self, other: _Axis) -> _Axis | None:
        """Both as one axis, if all entries lie as if they were."""
        if any(one != step * other.extent for one, step in zip(self.steps, other.steps, strict=True)):
            return None
        return _Axis(self.letters + other.letters, self.extent * other.extent, other.steps)


def _contract(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    first, second = (scope.view(operand) for operand in node.operands[:2])
    if not (lowering.products and first.buffer.type in ("f32", "f64") and is_product(op)):
        lowering.expanded(scope, node)
        return
    adds = len(node.operands) == 3 and (op.has_windows or not _is_zero(lowering, scope.view(node.operands[2])))
    target = _target(lowering, scope, node) if adds else lowering.allocate(scope, node.result)
    places = op.places
    left, right, written = map(_Operand, places, op.times, (first, second, target))
    if op.written[-1] in op.left:
        left, right = right, left
    _Product(lowering, left, right, written, op.below, op.shift).emit(adds)
    scope.bindings[node.result] = target


def is_product(op: Any) -> bool:
    """Whether a contraction has a kernel: rows and columns, the last of which is not a batch axis."""
    places = op.places
    roles = _roles(*places)
    kinds = {role for letter, role in roles.items() if letter not in _shifts(places[2])}
    if not {"rows", "columns", "summed"} <= kinds or len(places[2][-1]) > 1 or roles[op.written[-1]] == "batch":
        return False
    return not op.below or frozenset(roles[letter] for letter in op.below) in PAIRS


def _roles(*places: Sequence[str]) -> dict[str, str]:
    names = ["".join(place) for place in places]
    return {letter: ROLES[tuple(int(letter in name) for name in names)] for letter in names[0] + names[1]}  # type: ignore[index]


def _shifts(written: Sequence[str]) -> str:
    """The letters by which windows of a result are shifted: what is written for them overlaps."""
    return "".join(axis[1:] for axis in written)


def _is_zero(lowering: GraphLowering, view: View) -> bool:
    """Whether an array is known to hold nothing but zeros."""
    known = lowering.literals.get(view.buffer)
    return known is not None and known.value == 0


def _target(lowering: GraphLowering, scope: Scope, node: Node) -> View:
    """Where the result is made: in place of what is added to it if nothing reads that any more."""
    start = scope.view(node.operands[2])
    others = [scope.view(operand).buffer for operand in node.operands[:2]]
    is_free = scope.is_free(start.buffer) and start.buffer not in others and start.buffer not in lowering.literals
    if start.is_compact and is_free and node.result not in scope.targets:
        return start
    target = lowering.allocate(scope, node.result)
    lowering.copy(target, start)
    return target


@dataclass(frozen=True)
class _Nest:
    """One or two axes that the kernel walks: runs along `inner`, one for each number of `outer`."""

    outer: _Axis | None
    inner: _Axis

    @property
    def letters(self) -> str:
        """The letters of both."""
        return self.inner.letters if self.outer is None else self.outer.letters + self.inner.letters

    @property
    def extent(self) -> Size:
        """How often both turn."""
        return self.inner.extent if self.outer is None else self.outer.extent * self.inner.extent

    @property
    def long(self) -> _Axis:
        """The outer one, if there are two."""
        return self.outer or self.inner

    def leap(self, at: int) -> Size:
        """How far it is from run to run."""
        return self.outer.steps[at] if self.outer is not None else self.inner.steps[at] * self.inner.extent


@dataclass(frozen=True)
class _Operand:
    """A factor or the result: the letters of its axes, how often each counts, and how it lies."""

    place: Sequence[str]
    times: Mapping[str, int]
    view: View

    def axis_of(self, letter: str) -> int | None:
        """The axis along which a letter runs."""
        return next((at for at, axis in enumerate(self.place) if letter in axis), None)

    def step(self, letter: str) -> Size:
        """How many entries apart two neighbours along a letter are."""
        at = self.axis_of(letter)
        return size(0) if at is None else self.view.strides[at] * self.times[letter]

    def extent(self, letter: str) -> Size | None:
        """How often a letter turns, where it has an axis of its own."""
        at = self.axis_of(letter)
        return self.view.shape[at] if at is not None and self.place[at] == letter and self.times[letter] == 1 else None


@dataclass(frozen=True)
class _Turns:
    """A loop around the product."""

    axis: _Axis
    index: Local
    count: Expression


class _Product:
    """One contraction with the columns in the right factor."""

    def __init__(
        self,
        lowering: GraphLowering,
        left: _Operand,
        right: _Operand,
        written: _Operand,
        below: str,
        shift: int,
    ) -> None:
        self.lowering = lowering
        self.operands = (left, right, written)
        self.below = below
        self.shift = shift
        self.roles = _roles(left.place, right.place, written.place)
        self.shifts = _shifts(written.place)
        self.overlapping = "".join(axis for axis in written.place if len(axis) > 1)
        names = "".join(written.place), "".join(left.place)
        order = names[0] + "".join(letter for letter in names[1] if letter not in names[0])
        self.axes = {letter: self.axis(letter) for letter in order}

    def axis(self, letter: str) -> _Axis:
        """One letter."""
        left, right, written = (operand.step(letter) for operand in self.operands)
        (extent, *_) = (extent for operand in self.operands if (extent := operand.extent(letter)) is not None)
        return _Axis(letter, extent, (left, right, written))

    def emit(self, adds: bool) -> None:
        """The loops and the product inside them."""
        lowering = self.lowering
        left, right, target = (operand.view for operand in self.operands)
        columns = self.columns()
        rows, summed = self.nest("rows", columns.letters), self.nest("summed", "")
        used = rows.letters + columns.letters + summed.letters
        rest = [axis for letter, axis in self.axes.items() if letter not in used]
        sums = [axis for axis in rest if self.roles[axis.letters] == "summed"]
        outer = [axis for axis in rest if axis not in sums]
        blocked = next((nest for nest in (rows, summed) if self.is_blocked(nest.long, outer)), None)
        around = [*rest, *([blocked.long] if blocked is not None else [])]
        if columns.steps[1].constant != 1 and any(not axis.steps[1].terms for axis in around):
            turned = self.turned(summed.letters + columns.letters)
            if turned is not None:
                turned.emit(adds)
                return
        triangle, shift, more = self.triangle(rows.letters, columns.letters)
        if not adds and (sums or blocked is summed or triangle == "corner"):
            lowering.fill(target, Literal(0, target.buffer.type))
            adds = True
        loops = [_turns(lowering, axis) for axis in (*outer, *sums)]
        counts: dict[_Nest, Expression] = {nest: Extent(nest.extent) for nest in (rows, summed)}
        if blocked is not None:
            turns, count = _blocks(blocked.long)
            counts[blocked] = count if blocked.outer is None else times(count, Extent(blocked.inner.extent))
            loops.insert(0, turns)

        def matrix(at: int, view: View, down: _Axis, across: _Axis) -> Matrix:
            place = view.offset
            for turns in loops:
                place = plus(place, times(turns.index, Extent(turns.axis.steps[at])))
            return Matrix(view.buffer, place, down.steps[at], across.steps[at])

        statement: Any = MatrixProduct(
            matrix(2, target, rows.inner, columns),
            matrix(0, left, rows.inner, summed.inner),
            matrix(1, right, summed.inner, columns),
            counts[rows],
            Extent(columns.extent),
            counts[summed],
            adds,
            triangle,
            size(shift),
            more,
            _runs(rows, summed),
        )
        for turns in reversed(loops):
            is_shared = turns.axis.letters in self.overlapping or self.roles[turns.axis.letters[0]] == "summed"
            kind = "sequential" if is_shared else "parallel"
            statement = Loop(turns.index, turns.count, (statement,), kind)
        lowering.emit(statement)

    def turned(self, last: str) -> _Product | None:
        """The product with a copy of the right factor whose columns lie side by side, for all that read it again."""
        left, right, written = self.operands
        place, view = right.place, right.view
        if any(len(axis) > 1 for axis in place):
            return None
        order = sorted(range(len(place)), key=lambda at: last.find(place[at]))
        moved = view.transposed(order)
        fresh = whole(Buffer("turned", view.buffer.type, view.entries), moved.shape)
        self.lowering.copy(fresh, moved)
        right = _Operand([place[at] for at in order], right.times, fresh)
        return _Product(self.lowering, left, right, written, self.below, self.shift)

    def is_blocked(self, axis: _Axis, outer: Sequence[_Axis]) -> bool:
        """Whether an axis is walked in blocks, outside of all loops: where what it steps over holds the batches."""
        if axis.letters in self.below or not outer:
            return False
        places = [at for at in (0, 1) if axis.steps[at].terms]
        return any(
            (axis.steps[at] - other.steps[at] * other.extent).is_nonnegative() and bool(other.steps[at].terms)
            for at in places
            for other in outer
        )

    def free(self, role: str) -> list[_Axis]:
        """The letters of a role by which nothing overlaps."""
        return [axis for letter, axis in self.axes.items() if self.roles[letter] == role and letter not in self.shifts]

    def columns(self) -> _Axis:
        """The columns: those letters that lie side by side. Where they are few, the letter of a window along which they
        lie too: what a place adds to its window is then one long row."""
        mine = self.free("columns")
        found = mine.pop()
        while mine and not set(found.letters + mine[-1].letters) & set(self.below):
            wider = mine.pop().with_inner(found)
            if wider is None:
                break
            found = wider
        lanes = LANES[self.operands[2].view.buffer.type]
        if found.extent.constant is None or found.extent.constant >= lanes:
            return found
        for letter in self.shifts:
            window = self.axes[letter].with_inner(found) if self.roles[letter] == "columns" else None
            if window is not None and len(self.free("rows")) > 1:
                return window
        return found

    def nest(self, role: str, columns: str) -> _Nest:
        """The rows or sums that the kernel walks: the letter of the triangle, else as many letters as count as one, and
        those of a second axis around it. Rows by which a window of columns is shifted overlap."""
        mine = self.free(role)
        for axis in mine:
            if axis.letters in self.below:
                return _Nest(None, axis)
        shifted = "".join(axis for axis in self.operands[2].place if len(axis) > 1 and set(axis) & set(columns))
        groups: list[_Axis] = []
        for axis in mine:
            if axis.letters not in shifted:
                wider = groups[-1].with_inner(axis) if groups else None
                groups[len(groups) - (wider is not None) :] = [wider or axis]
        inner = max(reversed(groups), key=lambda axis: len(axis.letters))
        at = groups.index(inner)
        others = groups[:at][-1:] + groups[at + 1 :]
        return _Nest(None if self.below or not others else others[0], inner)

    def triangle(self, rows: str, columns: str) -> tuple[Triangle, int, bool]:
        """Which entries count, as the kernels are told."""
        if not self.below:
            return "whole", 0, False
        kind = PAIRS[frozenset(self.roles[letter] for letter in self.below)]
        free = {"columns": columns, "rows": rows, "corner": rows}[kind]
        if self.below[1] == free:
            return kind, self.shift, False
        return kind, 1 - self.shift, True


def _runs(rows: _Nest, summed: _Nest) -> Runs | None:
    """How a nested product lies."""
    if rows.outer is None and summed.outer is None:
        return None
    leaps = rows.leap(2), rows.leap(0), summed.leap(0), summed.leap(1)
    return Runs(rows.inner.extent, summed.inner.extent, *leaps)


def _turns(lowering: GraphLowering, axis: _Axis) -> _Turns:
    """The loop over an axis."""
    return _Turns(axis, lowering.index(axis.letters, axis.extent), Extent(axis.extent))


def _blocks(axis: _Axis) -> tuple[_Turns, Expression]:
    """The loop over the blocks of an axis, and how much of the axis is in one."""
    index = Local("block", "i64")
    wide = _Axis(axis.letters, axis.extent, (axis.steps[0] * BLOCK, axis.steps[1] * BLOCK, axis.steps[2] * BLOCK))
    count = Apply("floor_div", "i64", (Extent(axis.extent + BLOCK - 1), number(BLOCK)))
    left = Apply("sub", "i64", (Extent(axis.extent), times(index, number(BLOCK))))
    return _Turns(wide, index, count), Apply("minimum", "i64", (left, number(BLOCK)))


RULES = {"contract": _contract}
