"""Simplification: the rules of `simplify.rules`, views of views, and constant folding, in one walk.

The rules for views stand here because they are about facts (axes, shapes) rather than about operands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from dgraph.ir.graph import Graph, Node, Value
from dgraph.ops.linalg import Dot
from dgraph.ops.linalg_orthogonal import Eigh, Svd
from dgraph.ops.linalg_systems import OfFactors
from dgraph.ops.shape import Broadcast, Reshape, Slice, Transpose
from dgraph.ops.values import Cast
from dgraph.passes.base import each_region, graph_pass
from dgraph.passes.fold_constants import fold
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.passes.rules import rules_for
from dgraph.types import Array, DType


@graph_pass("rewriting rules that keep every bit, and cost less")
def simplify(graph: Graph) -> Graph:
    """Apply the rules in every region."""
    return each_region(graph, lambda region: rewrite(region, _simplified))


@graph_pass("what only differentiation reads is dropped")
def drop_stop_gradient(graph: Graph) -> Graph:
    """Replace `stop_gradient(x)` by x, and a matrix by its factors where only these are computed with."""
    return each_region(graph, lambda region: rewrite(region, _unmarked))


def _unmarked(g: Rewriter, node: Node) -> Sequence[Value] | None:
    if node.op.name == "stop_gradient":
        return node.operands
    if isinstance(node.op, OfFactors) and node.operands[0] is not node.operands[1]:
        return g.apply(node.op, node.operands[1], *node.operands[1:])
    if isinstance(node.op, Eigh | Svd) and node.op.vectors_only:
        return g.apply(type(node.op)(), *node.operands)
    return None


def _simplified(g: Rewriter, node: Node) -> Sequence[Value] | None:
    folded = fold(g, node)
    if folded is not None:
        return folded
    for rule in rules_for(g, node):
        found = rule.apply(g, node)
        if found is not None:
            return (found,)
    view = _VIEWS.get(type(node.op))
    seen = view(g, node) if view is not None else None
    return (seen,) if seen is not None else None


_INCLUDED = {
    "f64": ("f32", "i32", "u8", "bool"),
    "i64": ("i32", "u8", "bool"),
    "f32": ("u8", "bool"),
    "i32": ("u8", "bool"),
}


def _shape(value: Value) -> Array:
    assert isinstance(value.type, Array)
    return value.type


def _spread_number(g: Rewriter, node: Node) -> Value | None:
    """A view of an array full of one number."""
    maker = g.maker(node.operands[0])
    if maker is None or not isinstance(maker.op, Broadcast) or _shape(maker.operands[0]).shape:
        return None
    return g.widen(maker.operands[0], _shape(node.result).shape)


def _transpose(g: Rewriter, node: Node) -> Value | None:
    op = node.op
    assert isinstance(op, Transpose)
    (x,) = node.operands
    if op.axes == tuple(range(len(op.axes))):
        return x
    maker = g.maker(x)
    if maker is not None and isinstance(maker.op, Transpose):
        return g.transpose(maker.operands[0], axes=tuple(maker.op.axes[axis] for axis in op.axes))
    return _spread_number(g, node)


def _reshape(g: Rewriter, node: Node) -> Value | None:
    (x,) = node.operands
    if x.type == node.result.type:
        return x
    maker = g.maker(x)
    if maker is not None and isinstance(maker.op, Reshape):
        return g.reshape(maker.operands[0], shape=_shape(node.result).shape)
    return _spread_number(g, node)


def _broadcast(g: Rewriter, node: Node) -> Value | None:
    (x,) = node.operands
    if x.type == node.result.type:
        return x
    maker = g.maker(x)
    if maker is not None and isinstance(maker.op, Broadcast):
        return g.widen(maker.operands[0], _shape(node.result).shape)
    return None


def _slice(g: Rewriter, node: Node) -> Value | None:
    op = node.op
    assert isinstance(op, Slice)
    (x,) = node.operands
    if x.type == node.result.type and all(step == 1 for step in op.steps):
        return x
    maker = g.maker(x)
    if maker is not None and isinstance(maker.op, Slice):
        pairs = list(zip(maker.op.starts, maker.op.steps, op.starts, op.steps, strict=True))
        starts = tuple(outer + inner * step for outer, step, inner, _ in pairs)
        return g.slice(
            maker.operands[0], starts=starts, steps=tuple(one * two for _, one, _, two in pairs), shape=op.shape
        )
    return _spread_number(g, node)


def _cast(g: Rewriter, node: Node) -> Value | None:
    (x,) = node.operands
    if x.type == node.result.type:
        return x
    maker = g.maker(x)
    if maker is not None and isinstance(maker.op, Cast):
        (inner,) = maker.operands
        if _holds_all(_shape(x).dtype, _shape(inner).dtype):
            return g.cast(inner, dtype=_shape(node.result).dtype)
    return None


def _holds_all(wide: DType, narrow: DType) -> bool:
    """Whether every number of one dtype is also one of another."""
    return narrow.name in _INCLUDED.get(wide.name, ())


def _dot(g: Rewriter, node: Node) -> Value | None:
    """Transposed matrices are read as they lie."""
    op = node.op
    assert isinstance(op, Dot)
    operands = list(node.operands)
    flags = [op.transpose_a, op.transpose_b]
    for at, operand in enumerate(operands):
        maker = g.maker(operand)
        if maker is not None and isinstance(maker.op, Transpose) and _swaps_last(maker.op.axes):
            operands[at] = maker.operands[0]
            flags[at] = not flags[at]
    if operands == list(node.operands):
        return None
    return g.emit(replace(op, transpose_a=flags[0], transpose_b=flags[1]), *operands)


def _swaps_last(axes: tuple[int, ...]) -> bool:
    rank = len(axes)
    return rank >= 2 and axes == (*range(rank - 2), rank - 1, rank - 2)


_VIEWS: dict[type, Callable[[Rewriter, Node], Value | None]] = {
    Transpose: _transpose,
    Reshape: _reshape,
    Broadcast: _broadcast,
    Slice: _slice,
    Cast: _cast,
    Dot: _dot,
}
