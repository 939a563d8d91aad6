"""What is known before the program runs is computed now.

Folded are scalar ops of constants, by the op's own `evaluate`, so the bits are those of the interpreter; integer
arithmetic on sizes, by arithmetic on symbolic sizes; choices whose predicate is a constant; and elementwise ops of
numbers that are spread over an array, which are done on the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dgraph.ir.graph import Graph, Node, Value
from dgraph.ops.control import If
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.shape import Broadcast
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.base import each_region, graph_pass
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.sizes import Size, size
from dgraph.types import BOOL, I64, Array

_ARITHMETIC: dict[str, Callable[[Size, Size], Size]] = {"add": Size.__add__, "sub": Size.__sub__, "mul": Size.__mul__}
_ORDER: dict[str, Callable[[int], bool]] = {
    "less": lambda difference: difference < 0,
    "less_equal": lambda difference: difference <= 0,
    "greater": lambda difference: difference > 0,
    "greater_equal": lambda difference: difference >= 0,
    "equal": lambda difference: difference == 0,
    "not_equal": lambda difference: difference != 0,
}


@graph_pass("what is known before the program runs is computed now")
def fold_constants(graph: Graph) -> Graph:
    """Fold constants, sizes and decided choices in every region."""
    return each_region(graph, lambda region: rewrite(region, fold))


def fold(g: Rewriter, node: Node) -> Sequence[Value] | None:
    """The rule of the pass."""
    if isinstance(node.op, If):
        return _taken_side(g, node)
    if isinstance(node.op, SizeValue):
        number = node.op.value.constant
        return None if number is None else (g.constant(number, I64),)
    if not isinstance(node.op, Elementwise) or not node.operands:
        return None
    makers = [g.maker(operand) for operand in node.operands]
    if isinstance(node.result.type, Array) and node.result.type.shape:
        return _spread(g, node, makers)
    ops = [maker.op for maker in makers if maker is not None]
    if len(ops) < len(makers):
        return None
    if all(isinstance(op, Constant) for op in ops):
        return _constant(g, node, [op for op in ops if isinstance(op, Constant)])
    extents = [extent for op in ops if (extent := _extent(op)) is not None]
    return _of_sizes(g, node, extents) if len(extents) == len(ops) == 2 else None


def _taken_side(g: Rewriter, node: Node) -> Sequence[Value] | None:
    maker = g.maker(node.operands[0])
    if maker is None or not isinstance(maker.op, Constant):
        return None
    side = node.regions[0 if maker.op.value else 1]
    return g.inline(side, node.operands[1:], node.scope)


def _constant(g: Rewriter, node: Node, constants: Sequence[Constant]) -> Sequence[Value]:
    with np.errstate(all="ignore"):
        value = node.op.evaluate(_no_size, *(constant.number for constant in constants))
    assert isinstance(node.result.type, Array)
    return (g.constant(value.item(), node.result.type.dtype),)


def _spread(g: Rewriter, node: Node, makers: Sequence[Node | None]) -> Sequence[Value] | None:
    """The op done on numbers, then spread over the shape."""
    numbers = [_number(maker) for maker in makers]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return None
    assert isinstance(node.result.type, Array)
    return (g.widen(g.emit(node.op, *known), node.result.type.shape),)


def _number(maker: Node | None) -> Value | None:
    """The scalar that is spread over an array."""
    if maker is None or not isinstance(maker.op, Broadcast):
        return None
    (operand,) = maker.operands
    return operand if isinstance(operand.type, Array) and not operand.type.shape else None


def _extent(op: object) -> Size | None:
    """An i64 known as a symbolic size."""
    if isinstance(op, SizeValue):
        return op.value
    return size(int(op.number)) if isinstance(op, Constant) and op.dtype == I64 else None


def _of_sizes(g: Rewriter, node: Node, extents: Sequence[Size]) -> Sequence[Value] | None:
    left, right = extents
    name = node.op.name
    if name in _ARITHMETIC:
        return (g.number(_ARITHMETIC[name](left, right)),)
    if name in ("floor_divide", "mod") and (right.constant or 0) > 0:
        return (g.number(left // right if name == "floor_divide" else left % right),)
    difference = (left - right).constant
    if name in _ORDER and difference is not None:
        return (g.constant(_ORDER[name](difference), BOOL),)
    return None


def _no_size(_: Size) -> int:
    raise AssertionError("an elementwise op reads no size")
