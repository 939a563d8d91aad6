"""Arrays that batched products read and write lie with the batch first.

A product for each of many components, `sum(a[c, r, s] * x[i, c, s] for s)`, reads a matrix of every component; where
the component is not the first index of x, the rows of its matrix lie far apart. Such arrays, if index spaces make and
read them entry by entry, get another order of axes, and the spaces run over their indices in that order. Sums keep
their order: a space that would add to an entry in another one stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.contraction import Contract
from dgraph.ops.control import For, If, Space, While
from dgraph.ops.index import Accumulate, Index
from dgraph.passes.base import each_region, graph_pass
from dgraph.types import Array

Fact = TypeVar("Fact")
Order = tuple[int, ...]
"""Axis k of the new array is axis `order[k]` of the old one."""


@graph_pass("arrays of batched products lie with the batch first")
def batch_first(graph: Graph) -> Graph:
    """Reorder arrays in every region."""
    return each_region(graph, _reordered)


def _reordered(region: Region) -> Region:
    contracts = [node for node in region.nodes if isinstance(node.op, Contract) and "+" not in _all_letters(node.op)]
    if not contracts:
        return region
    plan = _Plan(region)
    for node in contracts:
        plan.wish(node)
    plan.settle()
    return _Rewriting(plan).region() if plan.arrays else region


def _all_letters(op: Contract) -> str:
    return op.left + op.right + op.written


def _is_same(order: Order) -> bool:
    return order == tuple(range(len(order)))


# ---- what can be reordered ------------------------------------------------------------------------------------------


@dataclass
class _Plan:
    """The new orders of arrays and of the indices of spaces, in one region."""

    region: Region
    arrays: dict[Value, Order] = field(default_factory=dict)
    spaces: dict[Node, Order] = field(default_factory=dict)

    def wish(self, node: Node) -> None:
        """Ask for the order in which a contraction likes its arrays."""
        op = node.op
        assert isinstance(op, Contract)
        batch = [letter for letter in op.written if letter in op.left and letter in op.right]
        letters = (op.left, op.right, op.written, op.written)
        for value, name in zip((*node.operands[:2], node.result, *node.operands[2:]), letters, strict=False):
            order = tuple(name.index(letter) for letter in (*batch, *(x for x in name if x not in batch)))
            if not _is_same(order):
                self.arrays[value] = order

    def settle(self) -> None:
        """Keep what can be had: every array of a space in the order of its indices, and all readers able to follow."""
        for value in list(self.arrays):
            maker = self.region.producers.get(value)
            if maker is None or not isinstance(maker.op, Contract | Space):
                del self.arrays[value]
            elif isinstance(maker.op, Space):
                self.spaces[maker] = self.arrays[value][: len(maker.op.extents)]
        for node in self.region.nodes:
            if isinstance(node.op, Space) and node not in self.spaces:
                order = self.followed(node)
                if order is not None and not _is_same(order):
                    self.spaces[node] = order
        while not self.is_settled():
            pass

    def is_settled(self) -> bool:
        """Drop what cannot be had; whether nothing was dropped."""
        for node, order in list(self.spaces.items()):
            if not self.can_reorder(node, order):
                del self.spaces[node]
                for result in node.results:
                    self.arrays.pop(result, None)
                return False
        for value, order in list(self.arrays.items()):
            maker = self.region.producers[value]
            is_made = isinstance(maker.op, Contract) or maker in self.spaces
            if not (is_made and self.can_follow(value, order)):
                del self.arrays[value]
                self.spaces.pop(maker, None)
                return False
        for node in self.region.nodes:
            if isinstance(node.op, Contract) and len(node.operands) == 3:
                # A product is added in place.
                pair = node.operands[2], node.result
                orders = [self.arrays.get(value) for value in pair]
                if orders[0] != orders[1]:
                    for value in pair:
                        self.arrays.pop(value, None)
                        self.spaces.pop(self.region.producers.get(value, node), None)
                    return False
        return True

    def followed(self, node: Node) -> Order | None:
        """The order of its indices in which a space meets the entries of reordered arrays."""
        assert isinstance(node.op, Space)
        found: set[Order] = set()
        rank = len(node.op.extents)
        for value, at in _reads(node, self.arrays):
            order = self.arrays[value]
            met = [at[axis] for axis in order if axis < len(at) and at[axis] >= 0]
            if len(met) < rank or len(set(met)) < len(met):
                return None
            found.add(tuple(met))
        return found.pop() if len(found) == 1 else None

    def can_reorder(self, node: Node, order: Order) -> bool:
        """Whether a space can run over its indices in another order, and its arrays be made in it."""
        assert isinstance(node.op, Space)
        rank = len(node.op.extents)
        if sorted(order) != list(range(rank)) or any(isinstance(inner.op, For | While) for inner in _inside(node)):
            return False
        for result in node.results[node.op.yields]:
            assert isinstance(result.type, Array)
            whole = (*order, *range(rank, result.type.rank))
            if self.arrays.setdefault(result, whole) != whole:
                return False
        exchanged = [(p, q) for at, q in enumerate(order) for p in order[at + 1 :] if p < q]
        return all(any(k in pair for k in written) for written in _writes(node) for pair in exchanged)

    def can_follow(self, value: Value, order: Order) -> bool:
        """Whether all that reads an array can read it in another order."""
        if value in self.region.outputs:
            return False
        for user in self.region.users.get(value, ()):
            if isinstance(user.op, Contract):
                if "+" in _all_letters(user.op):
                    return False
            elif not _can_read(user, value, order):
                return False
        return True


def _can_read(node: Node, value: Value, order: Order) -> bool:
    """Whether a node reads nothing of an array but entries, or parts behind indices that keep together."""
    if isinstance(node.op, Index):
        count = len(node.operands) - 1
        return node.operands.index(value) == 0 and set(order[:count]) == set(range(count))
    if not isinstance(node.op, Space | If) or value in node.operands[: node.op.leading_operands()]:
        return False
    return all(
        inside not in region.outputs and all(_can_read(user, inside, order) for user in region.users.get(inside, ()))
        for region, inside in _captures(node, value)
    )


def _captures(node: Node, value: Value) -> Iterator[tuple[Region, Value]]:
    """What an operand is called in each region of a node."""
    assert isinstance(node.op, Space | If)
    first = node.op.leading_operands()
    for side, region in enumerate(node.regions):
        lead = node.op.leading_inputs(side)
        for at, operand in enumerate(node.operands[first:]):
            if operand is value:
                yield region, region.inputs[lead + at]


def _inside(node: Node) -> Iterator[Node]:
    for region in node.regions:
        for inner in region.nodes:
            yield inner
            yield from _inside(inner)


def _numbered(node: Node) -> dict[Value, int]:
    """The indices of a space, wherever they are captured inside of it, by position."""
    assert isinstance(node.op, Space)
    known = {value: at for at, value in enumerate(node.regions[0].inputs[: len(node.op.extents)])}
    _spread(node.regions[0], known)
    return known


def _spread(region: Region, known: dict[Value, Fact]) -> None:
    """Carry what is known of values over to what they are called in the regions inside."""
    for node in region.nodes:
        if isinstance(node.op, Space | If):
            first = node.op.leading_operands()
            for side, inner in enumerate(node.regions):
                lead = node.op.leading_inputs(side)
                pairs = zip(node.operands[first:], inner.inputs[lead:], strict=True)
                known.update({inside: known[outside] for outside, inside in pairs if outside in known})
                _spread(inner, known)


def _reads(node: Node, arrays: Mapping[Value, Order]) -> Iterator[tuple[Value, list[int]]]:
    """The reads of some arrays inside of a space: the array, and which index of the space stands where (-1: none)."""
    assert isinstance(node.op, Space)
    indices = _numbered(node)
    named = {inside: value for value in arrays if value in node.operands for _, inside in _captures(node, value)}
    _spread(node.regions[0], named)
    for inner in _inside(node):
        if isinstance(inner.op, Index) and inner.operands[0] in named:
            yield named[inner.operands[0]], [indices.get(value, -1) for value in inner.operands[1:]]


def _writes(node: Node) -> Iterator[set[int]]:
    """For each accumulation of a space, which of its indices stand among those written at."""
    indices = _numbered(node)
    for inner in _inside(node):
        if isinstance(inner.op, Accumulate) and not _is_own(node.regions[0], inner):
            yield {indices[value] for value in inner.operands[1:-1] if value in indices}


def _is_own(region: Region, accumulate: Node) -> bool:
    """Whether an accumulation adds to a number that a space directly inside of a point opens."""
    for node in region.nodes:
        if isinstance(node.op, Space) and accumulate in node.regions[0].nodes:
            body, first = node.regions[0], node.op.leading_inputs(0) - len(node.op.buffers)
            return accumulate.operands[0] in body.inputs[first : node.op.leading_inputs(0)]
    return False


# ---- reordering -----------------------------------------------------------------------------------------------------


class _Rewriting:
    """A region with arrays in other orders."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.known: dict[Value, Value] = {}
        self.orders: dict[Value, Order] = {}

    def region(self) -> Region:
        """The region."""
        region = self.plan.region
        nodes = [self.node(node) for node in region.nodes]
        return Region(region.inputs, tuple(nodes), region.outputs)

    def node(self, node: Node) -> Node:
        """A node of the region itself."""
        op = node.op
        if isinstance(op, Contract):
            pairs = zip(node.operands[:2], (op.left, op.right), strict=True)
            names = [self.turned(value, name) for value, name in pairs]
            self.remember(node)
            written = self.turned(node.result, op.written)
            return self.with_values(replace(node, op=replace(op, left=names[0], right=names[1], written=written)))
        order = self.plan.spaces.get(node)
        if order is not None:
            assert isinstance(op, Space)
            self.remember(node)
            body, rank = node.regions[0], len(order)
            inputs = (*(body.inputs[axis] for axis in order), *body.inputs[rank:])
            turned = Region(inputs, body.nodes, body.outputs)
            node = replace(node, op=replace(op, extents=tuple(op.extents[axis] for axis in order)), regions=(turned,))
        return self.reading(self.with_values(node), node.operands)

    def remember(self, node: Node) -> None:
        """New names for the results of a node that are reordered."""
        for result in node.results:
            order = self.plan.arrays.get(result)
            if order is not None:
                self.rename(result, order)

    def rename(self, value: Value, order: Order) -> Value:
        """The value of the reordered array."""
        assert isinstance(value.type, Array)
        shape = tuple(value.type.shape[axis] for axis in order)
        self.known[value] = Value(Array(value.type.dtype, shape), value.name)
        self.orders[value] = order
        return self.known[value]

    def turned(self, value: Value, name: str) -> str:
        """The letters of an array in its new order."""
        order = self.orders.get(value)
        return name if order is None else "".join(name[axis] for axis in order)

    def with_values(self, node: Node) -> Node:
        """The node on and with the new arrays."""
        operands, results = (
            tuple(self.known.get(value, value) for value in values) for values in (node.operands, node.results)
        )
        return replace(node, operands=operands, results=results)

    def reading(self, node: Node, given: tuple[Value, ...]) -> Node:
        """A node whose regions read the new arrays; `given` are its operands as they were."""
        if isinstance(node.op, Index):
            order = self.orders.get(given[0])
            if order is None:
                return node
            indices = node.operands[1:]
            return replace(node, operands=(node.operands[0], *(indices[axis] for axis in order[: len(indices)])))
        if not isinstance(node.op, Space | If) or not any(value in self.orders for value in given):
            return node
        first, regions = node.op.leading_operands(), []
        for side, region in enumerate(node.regions):
            lead, inputs = node.op.leading_inputs(side), list(region.inputs)
            for at, value in enumerate(given[first:]):
                if value in self.orders:
                    inputs[lead + at] = self.rename(region.inputs[lead + at], self.orders[value])
            nodes = [self.reading(self.with_values(inner), inner.operands) for inner in region.nodes]
            regions.append(Region(tuple(inputs), tuple(nodes), region.outputs))
        return replace(node, regions=tuple(regions))
