"""Copying nodes while some arrays are not there: each read of such an array is replaced by the entry itself.

An array may be absent because its entries are computed where they are read (`PointArray`), or because the reader now
stands at the very point that yields them (`LocalArray`).
"""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.classes import dataclass
from dgraph.ir.build import Builder, close_together
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import RegionOp
from dgraph.ops.index import Index


@dataclass(frozen=True, eq=False)
class PointArray:
    """An array that is computed where it is read: output `position` of the point of an index space, whose captures
    are looked up where the space stood."""

    space: Node
    position: int
    place: Names

    def read(self, g: Builder, op: Index, indices: Sequence[Value], home: tuple[str, ...]) -> Value:
        """The entry at full indices."""
        body = self.space.regions[0]
        names = Names(home)
        names.values.update(zip(body.inputs, indices, strict=False))
        for operand, value in zip(self.space.operands, body.inputs[len(indices) :], strict=True):
            names.bind(value, operand, self.place)
        scope = _beyond(self.place.home + self.space.scope, home)
        for node in body.nodes:
            place(g, node, names, scope, copied=True)
        return names.values[body.outputs[self.position]]


@dataclass(frozen=True, eq=False)
class LocalArray:
    """An array that is read only at the indices at which the reader stands: there its entry is `entry`, a number or
    an array of the axes that follow."""

    entry: Value
    rank: int

    def read(self, g: Builder, op: Index, indices: Sequence[Value], home: tuple[str, ...]) -> Value:
        """The entry, or what lies in it at the indices that follow."""
        rest = indices[self.rank :]
        return g.emit(op, self.entry, *rest) if rest else self.entry


class Names:
    """What the values of an old region are called in the new one: values, and arrays that are not there. A view may
    be both: it is read through, and there for those who need it whole.

    `home` is the path of scopes that leads to the region in which they stand.
    """

    def __init__(self, home: tuple[str, ...] = ()) -> None:
        self.home = home
        self.values: dict[Value, Value] = {}
        self.arrays: dict[Value, PointArray | LocalArray] = {}

    def bind(self, inner: Value, outer: Value, names: Names) -> None:
        """Let a value mean what another one means elsewhere."""
        if outer in names.values:
            self.values[inner] = names.values[outer]
        if outer in names.arrays:
            self.arrays[inner] = names.arrays[outer]


def place(g: Builder, node: Node, names: Names, scope: tuple[str, ...] = (), copied: bool = False) -> None:
    """Append a node with absent arrays read; `copied` gives it new results."""
    if isinstance(node.op, Index) and node.operands[0] in names.arrays and _is_read(node, names):
        indices = [names.values[index] for index in node.operands[1:]]
        with g.at(node.span, scope + node.scope, node.derived):
            names.values[node.result] = names.arrays[node.operands[0]].read(g, node.op, indices, names.home)
        return
    results = tuple(Value(value.type, value.name) for value in node.results) if copied else node.results
    regions = node.regions
    if isinstance(node.op, RegionOp) and any(operand in names.arrays for operand in node.operands):
        operands, regions = _regions(g, node, names, names.home + scope + node.scope)
    else:
        operands = [names.values[operand] for operand in node.operands]
    own = tuple(map(g.resolve, operands))
    if own == node.operands and regions is node.regions and not (copied or scope):
        g.append(node)
    else:
        g.append(Node(node.op, own, results, regions, node.span, scope + node.scope, node.derived))
    names.values.update(zip(node.results, results, strict=True))


def _is_read(node: Node, names: Names) -> bool:
    """Whether a read goes to the absent array: one that is also there serves the reads that cannot be replaced."""
    assert isinstance(node.op, Index)
    array = node.operands[0]
    if isinstance(names.arrays[array], LocalArray):
        return True
    return node.op.policy == "proven" and len(node.operands) - 1 == len(array.type.shape)  # type: ignore[union-attr]


def _regions(g: Builder, node: Node, names: Names, home: tuple[str, ...]) -> tuple[list[Value], tuple[Region, ...]]:
    """Operands and regions of a node some of whose captures are absent arrays."""
    assert isinstance(node.op, RegionOp)
    lead = node.op.leading_operands()
    children: list[Builder] = []
    outputs: list[list[Value]] = []
    for position, region in enumerate(node.regions):
        h = g.child()
        inner = Names(home)
        first = node.op.leading_inputs(position)
        inner.values.update((value, h.input(value.type, value.name)) for value in region.inputs[:first])
        for operand, value in zip(node.operands[lead:], region.inputs[first:], strict=True):
            inner.bind(value, operand, names)
        for nested in region.nodes:
            place(h, nested, inner)
        children.append(h)
        outputs.append([inner.values[output] for output in region.outputs])
    regions, captures = close_together(children, outputs)
    return [*(names.values[operand] for operand in node.operands[:lead]), *captures], tuple(regions)


def _beyond(path: tuple[str, ...], home: tuple[str, ...]) -> tuple[str, ...]:
    """What of a path of scopes lies beyond another one."""
    same = next((at for at, (one, other) in enumerate(zip(path, home, strict=False)) if one != other), None)
    return path[min(len(path), len(home)) if same is None else same :]
