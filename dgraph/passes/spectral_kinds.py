"""What values are that are made with a decomposition: functions of eigenvalues one by one, arrays along eigenvectors.

A function of a matrix is what does not depend on which vectors of equal values were found: sums over all values, and
products in which vectors meet vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dgraph.classes import dataclass
from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.control import Space
from dgraph.ops.elementwise import Elementwise, array_type
from dgraph.ops.linalg import Dot
from dgraph.ops.linalg_orthogonal import Eigh
from dgraph.ops.reduce import LogSumExp, ReduceSum
from dgraph.ops.shape import Broadcast, Reshape, Slice, Transpose
from dgraph.ops.values import StopGradient
from dgraph.passes.spectral_forms import is_diagonal, is_map
from dgraph.types import Array


@dataclass(frozen=True)
class Along:
    """An array some of whose axes run over vectors: each such axis with the vectors that it has, "" for all."""

    axes: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Entries:
    """A vector with a function of each value; with an axis, that vector along an axis of an array."""

    axis: int | None = None


@dataclass(frozen=True)
class Pairs:
    """Products of coordinates: they are to be summed over an axis."""

    axis: int


Kind = Along | Entries | Pairs


class Kinds:
    """What each value that is made with a decomposition is."""

    def __init__(self, source: Node) -> None:
        self.source = source
        vectors, values = Along(((1, ""),)), Entries()
        found = (values, vectors) if isinstance(source.op, Eigh) else (vectors, values, Along(((0, ""),)))
        self.kinds: dict[Value, Kind] = dict(zip(source.results, found, strict=True))
        self.makers: dict[Value, Node] = {}
        self.singly: set[Node] = set()
        """The nodes that read values as each by itself."""

    def fit(self, region: Region) -> bool:
        """Note the kinds of all values; False if vectors are read in a way that no rule knows."""
        self.makers = region.producers
        for node in region.nodes:
            is_reader = node is not self.source and not self.kinds.keys().isdisjoint(node.operands)
            if is_reader and not self.visit(node):
                return False
        return all(self.kinds.get(output, Entries()) == Entries() for output in region.outputs)

    def visit(self, node: Node) -> bool:
        """Note what the results of a node are; False if no rule holds."""
        given = [self.kinds.get(operand) for operand in node.operands]
        rule = _RULES.get(type(node.op)) or (_of_elementwise if isinstance(node.op, Elementwise) else _of_others)
        found = rule(self, node, given)
        if found is False and all(kind is None or kind == Entries() for kind in given):
            self.singly.add(node)
        elif isinstance(found, bool):
            return found
        else:
            self.kinds[node.result] = found
        return True

    def is_uniform(self, value: Value) -> bool:
        """Whether a value has one entry, perhaps repeated."""
        maker = self.makers.get(value)
        if maker is not None and isinstance(maker.op, Broadcast | Reshape):
            return self.is_uniform(maker.operands[0])
        return value not in self.kinds and not array_type(value).shape

    def is_direct(self, pairs: Value) -> bool:
        """Whether products are those of whole coordinates."""
        kinds = [self.kinds.get(operand) for operand in self.makers[pairs].operands]
        return all(isinstance(kind, Along) and kind.axes[0][1] == "" for kind in kinds)


Given = Sequence[Kind | None]
Verdict = Kind | bool
"""What the result of a node is; or whether it is nothing but an ordinary value."""


def _of_elementwise(kinds: Kinds, node: Node, given: Given) -> Verdict:
    if len(node.results) != 1:
        return False
    others = [operand for operand, kind in zip(node.operands, given, strict=True) if kind is None]
    name = node.op.name
    if not all(map(kinds.is_uniform, others)):
        return False
    if all(kind is None or kind == Entries() for kind in given):
        return Entries()
    if name in ("neg", "cast") or (name in ("add", "sub") and len(set(given)) == 1):
        return given[0] if isinstance(given[0], Along | Pairs) else False
    if name == "powi" and getattr(node.op, "exponent", 0) == 2:
        return _pairs(given[0], given[0])
    if name not in ("mul", "div") or len(given) != 2:
        return False
    one, other = given
    if name == "mul" and one is not None and other is not None and isinstance(one, Entries):
        one, other = other, one
    if other is None and one is not None:
        return one if isinstance(one, Along | Pairs) else False
    if one is None:
        return other if name == "mul" and isinstance(other, Along | Pairs) else False
    if isinstance(other, Entries):
        axis = 0 if other.axis is None else other.axis
        if isinstance(one, Pairs):
            is_direct = name == "mul" and kinds.is_direct(next(v for v in node.operands if kinds.kinds[v] == one))
            return one if is_direct and one.axis == axis else False
        return one if isinstance(one, Along) and one.axes == ((axis, ""),) else False
    return _pairs(one, other) if name == "mul" else False


def _pairs(one: Kind | None, other: Kind | None) -> Verdict:
    is_alike = isinstance(one, Along) and one == other and len(one.axes) == 1
    return Pairs(one.axes[0][0]) if is_alike and isinstance(one, Along) else False


def _of_broadcast(_kinds: Kinds, node: Node, given: Given) -> Verdict:
    kind, rank = given[0], array_type(node.result).rank
    if kind == Entries():
        return Entries(rank - 1)
    if isinstance(kind, Entries) and kind.axis is not None and rank == array_type(node.operands[0]).rank:
        return kind
    return False


def _of_reshape(_kinds: Kinds, node: Node, given: Given) -> Verdict:
    shape = array_type(node.result).shape
    is_column = given[0] == Entries() and len(shape) == 2 and shape[1].is_literal_one
    return Entries(0) if is_column else False


def _of_transpose(_kinds: Kinds, node: Node, given: Given) -> Verdict:
    (kind,), op = given, node.op
    assert isinstance(op, Transpose)
    order = op.axes or tuple(reversed(range(array_type(node.result).rank)))
    if isinstance(kind, Along):
        return Along(tuple(sorted((order.index(axis), which) for axis, which in kind.axes)))
    return False


def _of_slice(_kinds: Kinds, node: Node, given: Given) -> Verdict:
    (kind,), op = given, node.op
    assert isinstance(op, Slice)
    if not isinstance(kind, Along):
        return False
    whole, part = array_type(node.operands[0]).shape, array_type(node.result).shape
    axes = []
    for axis, which in kind.axes:
        if op.steps[axis] != 1 or (which and whole[axis] != part[axis]):
            return False
        if whole[axis] != part[axis]:
            which = f"{part[axis]} from {op.starts[axis]}"
        axes.append((axis, which))
    return Along(tuple(axes))


def _of_dot(_kinds: Kinds, node: Node, given: Given) -> Verdict:
    op = node.op
    assert isinstance(op, Dot)
    ranks = [array_type(operand).rank for operand in node.operands]
    if max(ranks) > 2 or not all(kind is None or isinstance(kind, Along) for kind in given):
        return False
    summed = [0 if ranks[0] == 1 or op.transpose_a else 1, 1 if ranks[1] == 2 and op.transpose_b else 0]
    tables = [dict(kind.axes) if isinstance(kind, Along) else {} for kind in given]
    inner = [table.pop(axis, None) for table, axis in zip(tables, summed, strict=True)]
    if inner[0] != inner[1]:
        return False
    first = ranks[0] - 1
    axes = [*((0, which) for which in tables[0].values()), *((first, which) for which in tables[1].values())]
    return Along(tuple(axes)) if axes else True


def _of_sum(_kinds: Kinds, node: Node, given: Given) -> Verdict:
    (kind,) = given
    axes = getattr(node.op, "axes", ())
    if kind == Entries():
        return True
    if isinstance(kind, Pairs):
        return True if kind.axis in axes else Pairs(kind.axis - sum(at < kind.axis for at in axes))
    if isinstance(kind, Along) and all(axis not in axes for axis, _ in kind.axes):
        return Along(tuple((axis - sum(at < axis for at in axes), which) for axis, which in kind.axes))
    return False


def _of_logsumexp(_kinds: Kinds, _node: Node, given: Given) -> Verdict:
    return given[0] == Entries()


def _of_space(kinds: Kinds, node: Node, given: Given) -> Verdict:
    if is_diagonal(node) and given[0] == Entries():
        return Along(((0, ""), (1, "")))
    vectors = {operand for operand in node.operands if operand in kinds.kinds}
    is_made = all(kinds.kinds[operand] == Entries() for operand in vectors) and is_map(node, vectors)
    return Entries() if is_made else False


def _of_others(_kinds: Kinds, node: Node, _given: Given) -> Verdict:
    """What is no float has no derivative: the values as they are do for it."""
    types = [result.type for result in node.results]
    is_free = all(isinstance(type_, Array) and not type_.dtype.is_float for type_ in types)
    return is_free or isinstance(node.op, StopGradient)


_RULES: Mapping[type, Callable[[Kinds, Node, Given], Verdict]] = {
    Broadcast: _of_broadcast,
    Dot: _of_dot,
    LogSumExp: _of_logsumexp,
    ReduceSum: _of_sum,
    Reshape: _of_reshape,
    Slice: _of_slice,
    Space: _of_space,
    Transpose: _of_transpose,
}
