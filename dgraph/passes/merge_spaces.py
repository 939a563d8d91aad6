"""Index spaces of equal extents become one: siblings that read the same arrays, and producers whose entries are read
only at the point that yields them, so that nothing is computed twice and every array is read once.

Then spaces that only share their first extent become one space over it, if one reads of another only what the same
index made: the forward half of a point and its way back are one body, and arrays between them are as small as a point.

Nothing is reordered within a point or an entry of an accumulator: each buffer is written by the point that wrote it
before, and an accumulator is handed from one space to the next within a point only where no two points add to one
entry. Spaces are merged only if no other node has to run between them, and what can fail still fails first where it
did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from heapq import heapify, heappop, heappush

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value, walk
from dgraph.ir.op import RegionOp
from dgraph.ops.control import If, Space
from dgraph.ops.index import Accumulate, Index, SetAt
from dgraph.passes.base import graph_pass, same_nodes, with_regions
from dgraph.passes.common_subexpressions import Sharing
from dgraph.passes.demand import is_on_indices
from dgraph.passes.index_forms import Maker
from dgraph.passes.peel_spaces import peeled
from dgraph.passes.points import LocalArray, Names, place
from dgraph.passes.thread_places import can_take_turns
from dgraph.types import Array

NODES = 250
"""How many nodes may be gathered in one index space, those that only say where to read and write aside."""
ARRAYS = 40
"""How many arrays one index space may read and write."""
NEST_NODES = 500
"""How many nodes may be gathered in a space whose points run spaces of their own."""
NEST_ARRAYS = 60
"""How many arrays such a space may read and write, those included that it alone needs."""
CANDIDATES = 8
"""How many earlier groups of the same extents are tried."""


@graph_pass("index spaces of equal extents that share arrays become one")
def merge_spaces(graph: Graph) -> Graph:
    """Merge index spaces in every region, outer ones first: then inner ones meet."""
    return graph.with_region(_merged(graph.region, {}, Sharing()))


def _merged(region: Region, done: dict[Region, Region], sharing: Sharing) -> Region:
    """A region after merging. What merged points have in common is shared before the spaces inside them meet."""
    found = done.get(region)
    if found is None:
        flat = Region(region.inputs, tuple(_grouped(region, FLAT)), region.outputs)
        nodes = [
            with_regions(node, [_merged(sharing.region(inner), done, sharing) for inner in node.regions])
            for node in _grouped(flat, NESTS)
        ]
        found = done[region] = same_nodes(region, nodes, region.outputs)
    return found


# ---- which ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Way:
    """A way to merge: as what a node takes part (None if it does not), how much may be gathered, and whether reading
    the same arrays is reason enough."""

    view: Callable[[Node], Node | None]
    nodes: int
    arrays: int
    by_sharing: bool


def _as_space(node: Node) -> Node | None:
    return node if isinstance(node.op, Space) and node.op.extents else None


def _as_nest(node: Node) -> Node | None:
    """A space over its first index. A sum that a flat space takes keeps its blocks, and so stays by itself."""
    if not isinstance(node.op, Space) or not node.op.extents:
        return None
    is_sum = any(not buffer.shape and buffer.kind == "add" for buffer in node.op.buffers)
    return None if is_sum and _is_flat(node) else peeled(node)


FLAT = _Way(_as_space, NODES, ARRAYS, True)
NESTS = _Way(_as_nest, NEST_NODES, NEST_ARRAYS, False)


@dataclass(eq=False)
class _Group:
    """Nodes that become one, and the groups that it depends on, directly and through others, as bits. `place` is where
    the first node stood, `fault` where the last one stood that can fail."""

    number: int
    place: int
    nodes: list[Node]
    below: int = 0
    fault: int | None = None
    size: int = 0
    is_flat: bool = True
    arrays: set[Value] = field(default_factory=set)
    yields: set[Value] = field(default_factory=set)
    closed: set[Value] = field(default_factory=set)

    def add(self, node: Node) -> None:
        """Take in another index space."""
        op = node.op
        assert isinstance(op, Space)
        self.size += _size(node)
        self.is_flat = self.is_flat and _is_flat(node)
        self.arrays |= _arrays(node.operands[op.accumulators :])
        self.yields.update(node.results[op.yields])
        self.closed.update(node.results[: op.yields.start])


def _grouped(region: Region, way: _Way) -> Iterable[Node]:
    """The nodes of a region with spaces merged, in an order that respects what they read."""
    alone: dict[Node, Node] = {}
    groups: list[_Group] = []
    group_of: dict[Value, _Group] = {}
    by_extents: dict[object, list[_Group]] = {}
    for at, node in enumerate(region.nodes):
        direct = {group_of[operand].number: group_of[operand] for operand in node.operands if operand in group_of}
        below = 0
        for group in direct.values():
            below |= group.below | 1 << group.number
        joined = None
        seen = way.view(node)
        if seen is not None:
            assert isinstance(seen.op, Space)
            alone[seen] = node
            similar = by_extents.setdefault(seen.op.extents, [])
            joined = _group_for(region.producers.get, seen, similar, direct, groups, way)
            if joined is None:
                joined = _Group(len(groups), at, [seen], below)
                groups.append(joined)
                similar.append(joined)
            else:
                _join(joined, seen, below, groups)
            joined.add(seen)
        else:
            joined = _Group(len(groups), at, [node], below)
            groups.append(joined)
        if fails(node):
            joined.fault = at
        group_of.update((result, joined) for result in node.results)
    if all(len(group.nodes) == 1 for group in groups):
        return region.nodes
    for group in groups:
        if len(group.nodes) == 1:
            group.nodes = [alone.get(group.nodes[0], group.nodes[0])]
    return _built(region, _in_order(groups, group_of))


def _group_for(
    maker: Maker,
    node: Node,
    similar: Sequence[_Group],
    direct: dict[int, _Group],
    groups: Sequence[_Group],
    way: _Way,
) -> _Group | None:
    """The latest group that a space may and should join. `maker` tells what makes the values of the region."""
    assert isinstance(node.op, Space)
    own = _arrays(node.operands[node.op.accumulators :])
    size = _size(node)
    flat = _is_flat(node)
    for group in reversed(similar[-CANDIDATES:]):
        nodes, arrays = (NODES, ARRAYS) if flat and group.is_flat else (way.nodes, way.arrays)
        if group.size + size > nodes or len(group.arrays | own | group.yields) > arrays:
            continue
        if any(other.below >> group.number & 1 for other in direct.values() if other is not group):
            continue
        if fails(node) and _passes_a_fault(group, groups):
            continue
        if not _follows(maker, group, node):
            continue
        read = [operand for operand in dict.fromkeys(node.operands) if operand in group.yields]
        shared = not own.isdisjoint(group.arrays) or not group.closed.isdisjoint(node.operands)
        shares = way.by_sharing and group.is_flat == flat and shared
        if (read or shares) and all(reads_only_here(node, value) for value in read):
            return group
    return None


def _follows(maker: Maker, group: _Group, node: Node) -> bool:
    """Whether a space can run point by point behind the spaces of a group, seen from the accumulators: it reads none
    that they close, and adds to what they add to only where no other point of theirs does."""
    assert isinstance(node.op, Space)
    threads = node.operands[: node.op.accumulators]
    if not group.closed.isdisjoint(node.operands[len(threads) :]) or not group.yields.isdisjoint(threads):
        return False
    for thread, value in enumerate(threads):
        while value in group.closed:
            earlier = next(other for other in group.nodes if value in other.results)
            position = earlier.results.index(value)
            assert isinstance(earlier.op, Space)
            if position >= earlier.op.accumulators or not can_take_turns(maker, earlier, position, node, thread):
                return False
            value = earlier.operands[position]
    return True


def fails(node: Node) -> bool:
    """Whether a node can stop the program: it checks something, or an index of it may be out of range."""
    return _fails(node) or any(_fails(inner) for region in node.regions for inner in walk(region))


def _fails(node: Node) -> bool:
    if isinstance(node.op, Index | Accumulate | SetAt):
        return node.op.policy == "error" and len(node.operands) > (1 if isinstance(node.op, Index) else 2)
    return node.op.effect == "check"


def _passes_a_fault(group: _Group, groups: Sequence[_Group]) -> bool:
    """Whether a node that can fail would be met before another one if it joined a group that stands so far back."""
    first = group.place if group.fault is None else group.fault
    later = [other for other in groups if other.fault is not None and other.fault > first]
    return any(group.fault is not None or other.below >> group.number & 1 for other in later if other is not group)


def _join(group: _Group, node: Node, below: int, groups: Sequence[_Group]) -> None:
    """Let a node join a group: whatever depends on the group now depends on what the node reads."""
    group.nodes.append(node)
    group.below |= below & ~(1 << group.number)
    for other in groups[group.number + 1 :]:
        if other.below >> group.number & 1:
            other.below |= group.below


def _size(space: Node) -> int:
    return sum(1 for inner in walk(space.regions[0]) if inner.operands and not is_on_indices(inner))


def _arrays(values: Iterable[Value]) -> set[Value]:
    return {value for value in values if isinstance(value.type, Array) and value.type.shape}


def _is_flat(node: Node) -> bool:
    """Whether a point runs no loop of its own."""
    return all(not inner.regions or isinstance(inner.op, If) for inner in walk(node.regions[0]))


def reads_only_here(space: Node, array: Value) -> bool:
    """Whether the points of a space read a captured array only at leading indices that are the point's own."""
    assert isinstance(space.op, Space)
    rank = len(space.op.extents)
    (body,) = space.regions
    captures = zip(space.operands[space.op.accumulators :], body.inputs[space.op.leading_inputs(0) :], strict=True)
    indices = body.inputs[:rank]
    return all(_reads_only_at(body, value, indices) for operand, value in captures if operand is array)


def _reads_only_at(region: Region, array: Value, indices: Sequence[Value | None]) -> bool:
    if array in region.outputs:
        return False
    for node in region.users.get(array, ()):
        if isinstance(node.op, Index) and node.operands[0] is array:
            if node.operands[1 : 1 + len(indices)] != tuple(indices):
                return False
        elif not isinstance(node.op, RegionOp) or array in node.operands[: node.op.leading_operands()]:
            return False
        else:
            captured = node.operands[node.op.leading_operands() :]
            for position, inner in enumerate(node.regions):
                inputs = inner.inputs[node.op.leading_inputs(position) :]
                known = dict(zip(captured, inputs, strict=True))
                if not _reads_only_at(inner, known[array], [known.get(index) if index else None for index in indices]):
                    return False
    return True


# ---- how ------------------------------------------------------------------------------------------------------------


def _in_order(groups: Sequence[_Group], group_of: dict[Value, _Group]) -> list[_Group]:
    """The groups so that each follows what it reads, otherwise by where they can fail, or by their first node."""
    place_of = {group: group.place if group.fault is None else group.fault for group in groups}
    waiting: dict[int, int] = {}
    readers: dict[int, list[_Group]] = {}
    for group in groups:
        reads = {
            group_of[operand].number
            for node in group.nodes
            for operand in node.operands
            if operand in group_of and group_of[operand] is not group
        }
        waiting[group.number] = len(reads)
        for number in reads:
            readers.setdefault(number, []).append(group)
    ready = [(place_of[group], group.number) for group in groups if not waiting[group.number]]
    heapify(ready)
    found = []
    while ready:
        _, number = heappop(ready)
        found.append(groups[number])
        for reader in readers.get(number, ()):
            waiting[reader.number] -= 1
            if not waiting[reader.number]:
                heappush(ready, (place_of[reader], reader.number))
    return found


def _built(region: Region, groups: Sequence[_Group]) -> list[Node]:
    g = Builder()
    g.adopt(Region(region.inputs, (), ()))
    for group in groups:
        g.append(group.nodes[0] if len(group.nodes) == 1 else _one_space(g, group.nodes))
    return g.nodes


def _one_space(g: Builder, nodes: Sequence[Node]) -> Node:
    """One index space that does what several do; its results are theirs."""
    ops = [node.op for node in nodes if isinstance(node.op, Space)]
    rank = len(ops[0].extents)
    scope = _common([node.scope for node in nodes])
    h = g.child()
    indices = [h.input(value.type, value.name) for value in nodes[0].regions[0].inputs[:rank]]
    bodies = [node.regions[0] for node in nodes]
    slots = _slots(nodes)
    threads = [h.input(slot.opened.type, slot.name) for slot in slots]
    buffers = [
        [h.input(v.type, v.name) for v in b.inputs[rank + o.accumulators :][: len(o.buffers)]]
        for b, o in zip(bodies, ops, strict=True)
    ]
    local: dict[Value, LocalArray] = {}
    threaded = {slot.opened: value for slot, value in zip(slots, threads, strict=True)}
    outputs: list[list[Value]] = []
    for node, op, body, own in zip(nodes, ops, bodies, buffers, strict=True):
        names = Names(scope)
        mine = [threaded[value] for value in node.operands[: op.accumulators]]
        names.values.update(zip(body.inputs, [*indices, *mine, *own], strict=False))
        for operand, value in zip(node.operands[op.accumulators :], body.inputs[op.leading_inputs(0) :], strict=True):
            if operand in local:
                names.arrays[value] = local[operand]
            else:
                names.values[value] = operand
        for inner in body.nodes:
            place(h, inner, names, node.scope[len(scope) :], copied=True)
        made = [names.values[output] for output in body.outputs]
        outputs.append(made)
        threaded.update(zip(node.results[: op.accumulators], made, strict=False))
        local.update((r, LocalArray(v, rank)) for r, v in zip(node.results[op.yields], made[op.yields], strict=True))
    parts = [slice(op.accumulators, op.yields.start) for op in ops], [op.yields for op in ops]
    rest = [v for part in parts for made, which in zip(outputs, part, strict=True) for v in made[which]]
    closed = h.close([*(threaded[slot.result] for slot in slots), *rest])
    results = tuple(v for part in parts for node, which in zip(nodes, part, strict=True) for v in node.results[which])
    merged = Space(ops[0].extents, len(slots), tuple(buffer for op in ops for buffer in op.buffers))
    derived = nodes[0].derived if len({node.derived for node in nodes}) == 1 else ""
    operands = tuple(map(g.resolve, (*(slot.opened for slot in slots), *h.captures)))
    results = (*(slot.result for slot in slots), *results)
    return Node(merged, operands, results, (closed,), nodes[-1].span, scope, derived)


@dataclass
class _Slot:
    """An accumulator that some spaces are handed one after another: what the first gets, and what the last makes."""

    opened: Value
    result: Value
    name: str


def _slots(nodes: Sequence[Node]) -> list[_Slot]:
    found: list[_Slot] = []
    for node in nodes:
        assert isinstance(node.op, Space)
        inputs = node.regions[0].inputs[len(node.op.extents) :]
        for operand, result, value in zip(node.operands[: node.op.accumulators], node.results, inputs, strict=False):
            earlier = next((slot for slot in found if slot.result is operand), None)
            if earlier is not None:
                earlier.result = result
            else:
                found.append(_Slot(operand, result, value.name))
    return found


def _common(scopes: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The longest common beginning."""
    first = scopes[0]
    length = next((at for at in range(len(first)) if any(s[: at + 1] != first[: at + 1] for s in scopes)), len(first))
    return first[:length]
