"""Straight code computes forward values again instead of keeping them until the adjoint reads them.

A region with derivatives has two halves: what runs forwards, and what waits for a cotangent. Values of the first half
that nodes of the second read are kept in between. Some of them can be computed again where they are first read: copies
of the nodes that made them, which start from values that are kept. A copy reads these through `after`, tied to what was
computed last before it, so that no later pass shares it with the node that it copies, or does it any sooner. Copies are
the same ops on the same values: no choice changes a bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.hoist import can_fault
from dgraph.ops.control import Space
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.index import Index
from dgraph.ops.linalg import Dot
from dgraph.ops.random import Bernoulli, Normal, Randint, Uniform
from dgraph.ops.shape import Concat, Move
from dgraph.ops.values import After, Constant, SizeValue
from dgraph.passes.base import with_operands
from dgraph.passes.costs import Costs
from dgraph.passes.expand_arrays import VIEWS, is_tiny
from dgraph.passes.minimum_cut import Item
from dgraph.types import Array

_SLIGHT = (Elementwise, Move, Constant, SizeValue)
"""Ops that fusion computes where they are read."""


def is_view(node: Node) -> bool:
    """Whether a node only shows memory of its first operand."""
    if isinstance(node.op, Index):
        return node.op.policy == "proven" and _rank(node.result) > 0
    return isinstance(node.op, VIEWS)


def can_be_repeated(node: Node) -> bool:
    """Whether a copy of a node is sure to give the same bits: sums other than matrix products may be taken in another
    order when something else is fused with them."""
    op = node.op
    if can_fault(node) or not node.operands:
        return False
    if isinstance(op, Space):
        return not op.accumulators and not op.buffers and not any(inner.regions for inner in node.regions[0].nodes)
    if isinstance(op, Dot):
        return not is_tiny(node)
    return isinstance(op, Elementwise | Move | Concat | Index | Uniform | Normal | Bernoulli | Randint)


class Halves:
    """The two halves of a region, and the forward values as items of the choice what to keep.

    `items` stand for `values`: the inputs, then the results of the forward nodes in order. `bytes` knows every result.
    """

    def __init__(self, region: Region, costs: Costs) -> None:
        self.region = region
        self.backward = _backward(region)
        self.bytes: dict[Value, int] = {}
        self.seconds: dict[Value, float] = {}
        self.values = [*region.inputs]
        for node in region.nodes:
            work = costs.node(node)
            self.bytes.update((result, 0 if is_shown(node) else costs.bytes(result)) for result in node.results)
            if node not in self.backward:
                self.values += node.results
                # Fusion computes what is elementwise where it is read: it moves nothing.
                is_slight = isinstance(node.op, Elementwise | Move)
                seconds = costs.number(work.operations) / costs.machine.vector if is_slight else work.seconds
                self.seconds.update((result, seconds) for result in node.results)
        self.places = {value: at for at, value in enumerate(self.values)}
        read = (value for node in region.nodes if node in self.backward for value in node.operands)
        self.wanted = {value for value in read if value in self.places}
        outputs = {*region.inputs, *region.outputs}
        self.items = [self._item(value, value in outputs) for value in self.values]

    def _item(self, value: Value, is_at_hand: bool) -> Item:
        node = self.region.producers.get(value)
        if node is None or is_at_hand or not node.operands:
            return Item(0, None, (), value in self.wanted)
        operands = tuple(self.places[operand] for operand in node.operands)
        if is_view(node):
            # A view is had as soon as what it shows is had.
            return Item(None, 0.0, operands, value in self.wanted)
        seconds = self.seconds[value] if can_be_repeated(node) else None
        return Item(self.bytes[value], seconds, operands, value in self.wanted)

    def again(self, values: Iterable[Value]) -> frozenset[Value]:
        """Those of some values that have to be computed again if all of them may be: what the second half does not need
        is not, nor are views of what is kept."""
        allowed = frozenset(values)
        found: set[Value] = set()
        for value in sorted(self.needed(allowed) & allowed, key=self.places.__getitem__):
            node = self.region.producers[value]
            if not is_view(node) or not found.isdisjoint(node.operands):
                found.add(value)
        return frozenset(found)

    def needed(self, again: Set[Value]) -> set[Value]:
        """The forward values that the second half reads, or needs to compute others again."""
        found: set[Value] = set()
        pending = list(self.wanted)
        while pending:
            value = pending.pop()
            if value not in found:
                found.add(value)
                node = self.region.producers.get(value)
                if node is not None and (value in again or is_view(node)):
                    pending += node.operands
        return found

    def kept(self, again: Set[Value]) -> int:
        """The bytes of forward values that are kept for the second half, or to compute others again."""
        held = {*again, *self.region.inputs, *self.region.outputs}
        return sum(self.bytes[value] for value in self.needed(again) if value not in held)

    def added(self, again: Set[Value]) -> float:
        """The seconds that computing values again takes."""
        return sum(self.seconds[value] for value in again)

    def rewritten(self, again: Set[Value]) -> Region:
        """The region with some forward values computed again for the second half."""
        if not again:
            return self.region
        return _Copies(self, again).region()


def is_shown(node: Node) -> bool:
    """Whether the result of a node is its first operand, seen in some way."""
    return bool(node.operands) and (is_view(node) or isinstance(node.op, After))


def _rank(value: Value) -> int:
    return value.type.rank if isinstance(value.type, Array) else 1


def _backward(region: Region) -> set[Node]:
    """The nodes of adjoints, and all that depends on their results."""
    late: set[Node] = set()
    values: set[Value] = set()
    for node in region.nodes:
        if node.derived == "adjoint" or any(operand in values for operand in node.operands):
            late.add(node)
            values.update(node.results)
    return late


@dataclass
class _Source:
    """Where an array comes from that fusion cannot move: its place in the order, and the value."""

    position: int
    value: Value


class _Copies:
    """One rewriting of a region. What is tied to a value stands right behind it, so that it is in nobody's way."""

    def __init__(self, halves: Halves, again: Set[Value]) -> None:
        self.halves = halves
        self.again = again
        self.order = {node: at for at, node in enumerate(halves.region.nodes)}
        self.made = {result: at for node, at in self.order.items() for result in node.results}
        self.nodes: list[Node] = []
        self.copies: dict[Value, Value] = {}
        self.tied: dict[tuple[Value, Value], Node] = {}
        self.behind: dict[Value, list[Node]] = {}
        self.sources: dict[Value, _Source] = {}
        self.last: _Source | None = None

    def region(self) -> Region:
        """The nodes with copies in front of those that read them."""
        region = self.halves.region
        for node in region.nodes:
            if node in self.halves.backward:
                self._copy_for(node)
                node = with_operands(node, self.copies)
            self.nodes.append(node)
            self._note(node)
        placed: list[Node] = []
        for node in self.nodes:
            placed.append(node)
            placed += (late for result in node.results for late in self.behind.get(result, ()))
        return Region(region.inputs, tuple(placed), region.outputs)

    def _note(self, node: Node) -> None:
        """Note from where the results of a node come."""
        if isinstance(node.op, _SLIGHT) and any(map(_rank, node.results)):
            known = [self.sources[operand] for operand in node.operands if operand in self.sources]
            if known:
                latest = max(known, key=lambda source: source.position)
                self.sources.update((result, latest) for result in node.results)
            return
        for result in node.results:
            if isinstance(result.type, Array) and result not in self.again:
                self.last = self.sources[result] = _Source(self.made[result], result)

    def _copy_for(self, node: Node) -> None:
        """Copy what makes the operands of a node that are to be computed again."""
        pending = [operand for operand in node.operands if operand in self.again and operand not in self.copies]
        if not pending:
            return
        given = [operand for operand in node.operands if operand not in self.again]
        known = [self.sources[value] for value in given if value in self.sources]
        latest = max(known, key=lambda source: source.position) if known else self.last
        makers: set[Node] = set()
        while pending:
            value = pending.pop()
            maker = self.halves.region.producers.get(value)
            if value in self.again and value not in self.copies and maker is not None and maker not in makers:
                makers.add(maker)
                pending += maker.operands
        for maker in sorted(makers, key=self.order.__getitem__):
            self._copy(maker, latest)

    def _copy(self, maker: Node, latest: _Source | None) -> None:
        has_array = any(map(_rank, maker.operands))
        operands = []
        for at, operand in enumerate(maker.operands):
            if operand in self.copies:
                operands.append(self.copies[operand])
            elif latest is None or not (_rank(operand) or (at == 0 and not has_array)):
                operands.append(operand)
            else:
                operands.append(self._after(operand, latest.value, maker))
        results = tuple(Value(value.type, value.name) for value in maker.results)
        self.nodes.append(replace(maker, operands=tuple(operands), results=results))
        for value, copy in zip(maker.results, results, strict=True):
            self.halves.bytes[copy] = self.halves.bytes[value]
            if value in self.again:
                self.copies[value] = copy

    def _after(self, value: Value, token: Value, maker: Node) -> Value:
        """A value that is not to be had before another one."""
        found = self.tied.get((value, token))
        if found is None:
            result = Value(value.type, value.name)
            found = Node(After(), (value, token), (result,), (), maker.span, maker.scope, maker.derived)
            self.tied[value, token] = found
            self.halves.bytes[result] = 0
            later = max(value, token, key=lambda known: self.made.get(known, -1))
            self.behind.setdefault(later, []).append(found)
        return found.result
