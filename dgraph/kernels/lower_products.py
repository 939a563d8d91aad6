"""Lowering of matrix products: of float matrices to kernels of their own, of everything else to nests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dgraph.ir.graph import Node
from dgraph.kernels.nests import Extent, Local, Matrix, MatrixProduct
from dgraph.kernels.scope import Scope
from dgraph.kernels.views import View
from dgraph.types import Array

if TYPE_CHECKING:
    from dgraph.kernels.lower import GraphLowering


def _dot(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    """One product per index of the batch axes. Products with vectors are nests: they are as fast as memory."""
    op: Any = node.op
    left, right = (scope.view(operand) for operand in node.operands)
    is_float = left.buffer.type in ("f32", "f64")
    batch, rows, common, _, columns = op.parts(left.shape, right.shape)
    is_matrix = all(extent and not extent[0].is_literal_one for extent in (rows, columns))
    if not (lowering.products and is_float and is_matrix):
        lowering.expanded(scope, node)
        return
    target = lowering.allocate(scope, node.result)
    type_ = node.result.type
    assert isinstance(type_, Array)
    made = target if _has_lines(target.strides[-2:]) else lowering.temporary("product", type_)

    def product(at: Sequence[Local]) -> None:
        one, other, into = left.at(at), right.at(at), made.at(at)
        if op.transpose_a:
            one = one.transposed((1, 0))
        if op.transpose_b:
            other = other.transposed((1, 0))
        counts = Extent(into.shape[0]), Extent(into.shape[1]), Extent(common)
        statement = MatrixProduct(_matrix(into), _matrix(one), _matrix(other), counts[0], counts[1], counts[2])
        lowering.emit(statement if into.strides[1].constant == 1 else _turned(statement))

    if batch:
        lowering.each(View(made.buffer, made.offset, batch, made.strides[: len(batch)]), product)
    else:
        product([])
    lowering.copy(target, made)
    scope.bindings[node.result] = target


def _has_lines(strides: Sequence[Any]) -> bool:
    """Whether rows or columns lie side by side."""
    return any(stride.constant == 1 for stride in strides)


def _matrix(view: View) -> Matrix:
    return Matrix(view.buffer, view.offset, *view.strides)


def _turned(product: MatrixProduct) -> MatrixProduct:
    """The same product with rows and columns exchanged."""
    target, left, right = (
        replace(matrix, down=matrix.across, across=matrix.down)
        for matrix in (product.target, product.right, product.left)
    )
    return replace(product, target=target, left=left, right=right, rows=product.columns, columns=product.rows)


RULES = {"dot": _dot}
