"""Lowering of factorisations: operands copied to where the results go, work space beside them, and one routine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dgraph.ir.graph import Node, Value
from dgraph.kernels.lapack_source import ROOM
from dgraph.kernels.nests import Buffer, Place, Routine
from dgraph.kernels.scope import Scope
from dgraph.kernels.views import View, whole
from dgraph.sizes import Size, size
from dgraph.types import Array

if TYPE_CHECKING:
    from dgraph.kernels.lower import GraphLowering


class _Routine:
    """One node being lowered to a routine."""

    def __init__(self, lowering: GraphLowering, scope: Scope, node: Node) -> None:
        self.lowering = lowering
        self.scope = scope
        self.node = node
        self.made: list[tuple[Value, View]] = []

    def result(self, at: int) -> View:
        """Memory without gaps for a result."""
        value = self.node.results[at]
        assert isinstance(value.type, Array)
        target = self.scope.targets.get(value)
        if target is None or not target.is_compact:
            target = self.lowering.temporary(value.name or self.node.op.name, value.type)
        self.scope.owned.add(target.buffer)
        self.made.append((value, target))
        return target

    def filled(self, at: int, operand: int) -> View:
        """Memory for a result that holds an operand."""
        view = self.result(at)
        self.lowering.copy(view, self.scope.view(self.node.operands[operand]))
        return view

    def read(self, operand: int) -> View:
        """An operand without gaps."""
        return self.lowering.compact(self.scope.view(self.node.operands[operand]), "matrix")

    def room(self, entries: Size, type_: str, name: str = "work") -> View:
        """Work space."""
        return whole(Buffer(name, type_, entries), (entries,))

    def run(self, name: str, written: list[View], read: list[View], *sizes: Size | int) -> None:
        """Emit the routine. Results made so far are what the node gives."""
        into, given = (tuple(Place(view.buffer, view.offset) for view in views) for views in (written, read))
        routine = Routine(name, written[0].buffer.type, into, given, tuple(map(size, sizes)), self.node.span)
        self.lowering.emit(routine)
        self.scope.bindings.update(self.made)


def _cholesky(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    routine = _Routine(lowering, scope, node)
    a = routine.filled(0, 0)
    routine.run("cholesky", [a], [], a.shape[0])


def _triangular_solve(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    routine = _Routine(lowering, scope, node)
    x, triangle = routine.filled(0, 1), routine.read(0)
    flags = map(int, (op.lower, op.transpose_a, op.unit))
    routine.run("triangle", [x], [triangle], x.shape[0], _columns(x), *flags)


def _lu(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    routine = _Routine(lowering, scope, node)
    factors, pivots = routine.filled(0, 0), routine.result(1)
    routine.run("lu", [factors, pivots], [], factors.shape[0])


def _lu_solve(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    routine = _Routine(lowering, scope, node)
    x, factors, pivots = routine.filled(0, 3), routine.read(1), routine.read(2)
    routine.run("lu_solve", [x], [factors, pivots], x.shape[0], _columns(x), int(op.transpose_a))


def _columns(x: View) -> Size:
    return x.shape[1] if len(x.shape) == 2 else size(1)


def _qr(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    routine = _Routine(lowering, scope, node)
    q, r = routine.filled(0, 0), routine.result(1)
    m, n = q.shape
    type_, room = q.buffer.type, n * ROOM
    scales, work = routine.room(n, type_, "scales"), routine.room(room, type_)
    routine.run("qr", [q, r, scales, work], [], m, n, room)


def _eigh(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    """LAPACK leaves the eigenvectors as rows: the result is a transposed view of them."""
    routine = _Routine(lowering, scope, node)
    w = routine.result(0)
    _, v = node.results
    assert isinstance(v.type, Array)
    rows = lowering.temporary("rows", v.type)
    lowering.copy(rows, scope.view(node.operands[0]))
    (n,) = w.shape
    type_, room, places = w.buffer.type, n * n * 2 + n * 6 + 1, n * 5 + 3
    work, integers = routine.room(room, type_), routine.room(places, "i64", "integers")
    routine.made.append((v, rows.transposed((1, 0))))
    scope.owned.add(rows.buffer)
    routine.run("eigh", [w, rows, work, integers], [], n, room, places)


def _svd(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    routine = _Routine(lowering, scope, node)
    u, s, vt = map(routine.result, range(3))
    m, n = u.shape
    type_, room = u.buffer.type, n * n * 4 + n * 7 + (m + n) * ROOM
    given = scope.view(node.operands[0])
    lost = whole(Buffer("lost", type_, given.entries), given.shape)
    lowering.copy(lost, given)
    work, integers = routine.room(room, type_), routine.room(n * 8, "i64", "integers")
    routine.run("svd", [u, s, vt, lost, work, integers], [], m, n, room)


RULES = {
    "cholesky": _cholesky,
    "triangular_solve": _triangular_solve,
    "lu": _lu,
    "lu_solve": _lu_solve,
    "qr": _qr,
    "eigh": _eigh,
    "svd": _svd,
}
