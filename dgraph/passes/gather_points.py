"""Points that write to, or may read beside, a place a fixed distance away are turned into choices between numbers.

* A buffer of a space that each point adds to a few times, at its own indices moved by sizes, is yielded by a space over
  the buffer: entry j is what the points j - shift would have added, in their order, or 0.
* A read that may miss its array by a shift is 0 under a choice on the index.

Both are what the reverse of slices, of padding and of writes at shifted places consists of. As yields they are computed
where they are read, like any other entry. A yield gives -0 where 0 + -0 was 0; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.graph import Graph, Node, Region, Value, walk
from dgraph.ir.hoist import may_stop
from dgraph.ops.control import If, Space
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.index import Accumulate, Index, Undefined
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.base import each_region, graph_pass, same_nodes, with_operands, with_regions
from dgraph.passes.demand import point_price
from dgraph.sizes import Size, size
from dgraph.types import I64, Accumulator, Array, DType, Shape

MOST = 24
"""How much of a point, in additions and reads, is repeated when its results are computed by spaces of their own."""


@graph_pass("writes and reads at a fixed distance become choices")
def gather_points(graph: Graph) -> Graph:
    """Gather in every region, inner ones first."""
    return each_region(graph, _gathered)


def _gathered(region: Region) -> Region:
    if not any(isinstance(node.op, Space) for node in region.nodes):
        return region
    nodes: list[Node] = []
    for node in region.nodes:
        nodes += _split(_with_choices(node)) if isinstance(node.op, Space) else (node,)
    return same_nodes(region, nodes, region.outputs)


class Place(NamedTuple):
    """An index of a point moved by a size."""

    axis: int
    shift: Size


FEW = 8
"""So many additions of a point to one buffer are gathered."""


def place_of(space: Node, index: Value, body: Region) -> Place | None:
    """The index of a point that a value of its body (so far) is, up to a shift."""
    return _place(space, body, moved_input(body, index))


class Moved(NamedTuple):
    """An integer that goes into a region, moved by a size."""

    value: Value
    shift: Size


def moved_input(body: Region, index: Value) -> Moved | None:
    """The input of a region that an integer is, up to a shift."""
    shift = size(0)
    while index not in body.inputs:
        maker = body.producers.get(index)
        if maker is None or maker.op.name not in ("add", "sub"):
            return None
        one, other = maker.operands
        step = static_value(body, other)
        if step is None and maker.op.name == "add":
            one, step = other, static_value(body, one)
        if step is None:
            return None
        shift = shift - step if maker.op.name == "sub" else shift + step
        index = one
    return Moved(index, shift)


_Entry = tuple[tuple[Moved, ...], Region]
"""Indices, and a region that makes the number that is added there."""


def _place(space: Node, body: Region, moved: Moved | None) -> Place | None:
    assert isinstance(space.op, Space)
    axis = body.inputs.index(moved.value) if moved is not None else len(space.op.extents)
    return Place(axis, moved.shift) if moved is not None and axis < len(space.op.extents) else None


def static_value(body: Region, value: Value) -> Size | None:
    """The size that a value of a body is."""
    maker = body.producers.get(value)
    if maker is None:
        return None
    if isinstance(maker.op, SizeValue):
        return maker.op.value
    is_number = isinstance(maker.op, Constant) and value.type == Array(I64)
    return size(int(maker.op.number)) if is_number else None  # type: ignore[attr-defined]


def _in_range(g: Builder, index: Value, low: Size, high: Size, extent: Size) -> Value | None:
    """Whether an index between two sizes lies below an extent; None where it always does."""
    found = None
    if not low.is_nonnegative():
        found = g.greater_equal(index, g.number(0))
    if not (extent - 1 - high).is_nonnegative():
        below = g.less(index, g.number(extent))
        found = below if found is None else g.logical_and(found, below)
    return found


def _both(g: Builder, one: Value | None, other: Value | None) -> Value | None:
    """Whether two conditions hold; None is one that always does."""
    if one is None or other is None:
        return other if one is None else one
    return g.logical_and(one, other)


# ---- reads that may miss ---------------------------------------------------------------------------------------------


def _with_choices(space: Node) -> Node:
    """The space with reads that may miss by a shift as choices."""
    (body,) = space.regions
    if not any(_may_miss(node) for node in body.nodes):
        return space
    g = Builder()
    g.adopt(Region(body.inputs, (), ()))
    known = {value: value for value in body.inputs}
    for node in body.nodes:
        operands = [known[operand] for operand in node.operands]
        read = None
        if _may_miss(node):
            places = [place_of(space, index, body) for index in node.operands[1:]]
            with g.at(node.span, node.scope, node.derived):
                read = _chosen_read(g, space, [place for place in places if place is not None], operands)
        if read is None:
            g.append(replace(node, operands=tuple(operands)))
            known.update((result, result) for result in node.results)
        else:
            known[node.result] = read
    return with_regions(space, [g.close(known[output] for output in body.outputs)])


def _may_miss(node: Node) -> bool:
    is_read = isinstance(node.op, Index) and node.op.policy == "drop" and len(node.operands) > 1
    return is_read and isinstance(node.result.type, Array) and not node.result.type.rank


def _chosen_read(g: Builder, space: Node, places: Sequence[Place], operands: Sequence[Value]) -> Value | None:
    array, *indices = operands
    if len(places) != len(indices) or not places:
        return None
    assert isinstance(array.type, Array) and isinstance(space.op, Space)
    dtype = array.type.dtype
    held = None
    for place, index, extent in zip(places, indices, array.type.shape, strict=True):
        one = _in_range(g, index, place.shift, space.op.extents[place.axis] - 1 + place.shift, extent)
        held = _both(g, held, one)
    if held is None:
        return g.index(array, *indices, policy="proven")
    return g.if_(held, lambda h: [h.index(array, *indices, policy="proven")], lambda h: [h.constant(0, dtype)])[0]


# ---- writes ----------------------------------------------------------------------------------------------------------


def _split(space: Node) -> list[Node]:
    """The space without the buffers that spaces of their own yield, and these spaces."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    first = len(op.extents) + op.accumulators
    made: dict[int, Node] = {}
    is_single = True
    for at, buffer in enumerate(op.buffers):
        position = op.accumulators + at
        found = _entries(body, body.inputs[first + at], position) if _fits(op, buffer) else None
        node = _yielding(space, position, found) if found else None
        if node is not None:
            made[at] = node
            is_single = is_single and len(found or ()) == 1
    if not made:
        return [space]
    if len(made) == len(space.results):
        return list(made.values()) if is_single or _is_worth(space, list(made.values())) else [space]
    kept = [at for at in range(len(space.results)) if at - op.accumulators not in made]
    gone = {first + at for at in made}
    inner = remove_dead_code(Region(body.inputs, body.nodes, tuple(body.outputs[at] for at in kept)))
    inner = Region(tuple(v for at, v in enumerate(body.inputs) if at not in gone), inner.nodes, inner.outputs)
    buffers = tuple(buffer for at, buffer in enumerate(op.buffers) if at not in made)
    rest = replace(
        space, op=replace(op, buffers=buffers), results=tuple(space.results[at] for at in kept), regions=(inner,)
    )
    parts = [*made.values(), rest]
    return parts if _is_worth(space, parts) else [space]


def _is_worth(space: Node, parts: Sequence[Node]) -> bool:
    """Whether spaces of their own repeat little of a point."""
    whole, prices = point_price(space), [point_price(part) for part in parts]
    if whole is None or None in prices:
        return sum(1 for _ in walk(space.regions[0])) <= MOST
    return sum(price or 0 for price in prices) <= whole + MOST


def _fits(op: Space, buffer: Accumulator) -> bool:
    return buffer.kind == "add" and len(buffer.shape) == len(op.extents) > 0


def _entries(body: Region, accumulator: Value, position: int) -> list[_Entry] | None:
    """All that a point adds to an accumulator, one addition after another, each with a region that makes its number
    the only output; None if that is not plain to see."""
    links: list[tuple[Node, Value, Value]] = []
    value = accumulator
    while value is not body.outputs[position]:
        link = _handed_on(body, value)
        if link is None or len(links) == FEW:
            return None
        links.append((link[0], value, link[1]))
        value = link[1]
    found = []
    for node, before, after in links:
        nodes = (with_operands(other, {before: accumulator}) if other is node else other for other in body.nodes)
        entry = _entry(remove_dead_code(Region(body.inputs, tuple(nodes), (after,))), accumulator, 0)
        if entry is None:
            return None
        found.append(entry)
    return found


def _handed_on(region: Region, accumulator: Value) -> tuple[Node, Value] | None:
    """The node that is given an accumulator, and as what it hands it on."""
    users = region.users.get(accumulator, ())
    if len(users) != 1 or users[0].operands.count(accumulator) != 1:
        return None
    (user,) = users
    if isinstance(user.op, Accumulate):
        return user, user.result
    if not isinstance(user.op, If):
        return None
    side = user.regions[0]
    value = side.inputs[user.operands.index(accumulator) - 1]
    while value not in side.outputs:
        link = _handed_on(side, value)
        if link is None:
            return None
        value = link[1]
    return user, user.results[side.outputs.index(value)]


def _entry(region: Region, accumulator: Value, position: int) -> _Entry | None:
    """The indices to which a region adds, and the region with the number that it adds in place of the accumulator at
    one of its outputs; None if it may add more than one. Where it adds nothing the number is 0, the indices are ()."""
    output = region.outputs[position]
    users = region.users.get(accumulator, ())
    if output is accumulator and not users:
        assert isinstance(accumulator.type, Accumulator)
        g = Builder()
        nothing = g.constant(0, accumulator.type.dtype)
        return (), _with_output(region, position, nothing, (*region.nodes, *g.nodes))
    maker = region.producers.get(output)
    if maker is None or users != (maker,) or maker.operands.count(accumulator) != 1 or region.users.get(output):
        return None
    if isinstance(maker.op, Accumulate):
        nodes = tuple(node for node in region.nodes if node is not maker)
        if maker.op.policy != "proven" or len(maker.operands) == 2:
            return None
        found = [moved_input(region, index) for index in maker.operands[1:-1]]
        indices = tuple(index for index in found if index is not None)
        is_entry = len(indices) == len(found)
        return (indices, _with_output(region, position, maker.operands[-1], nodes)) if is_entry else None
    return _chosen_entry(region, maker, accumulator, position) if isinstance(maker.op, If) else None


def _with_output(region: Region, position: int, value: Value, nodes: tuple[Node, ...]) -> Region:
    outputs = (*region.outputs[:position], value, *region.outputs[position + 1 :])
    return Region(region.inputs, nodes, outputs)


def _chosen_entry(region: Region, choice: Node, accumulator: Value, position: int) -> _Entry | None:
    """`_entry` where one side of a choice adds, or both at the same place."""
    captures = choice.operands[1:]
    at = choice.results.index(region.outputs[position])
    thread = captures.index(accumulator)
    indices: tuple[Moved, ...] = ()
    sides = []
    for side in choice.regions:
        found = _entry(side, side.inputs[thread], at)
        if found is None:
            return None
        moved = [(moved_input(region, captures[side.inputs.index(index.value)]), index.shift) for index in found[0]]
        outside = tuple(Moved(one.value, one.shift + shift) for one, shift in moved if one is not None)
        if len(outside) < len(moved):
            return None
        if indices and outside and indices != outside:
            return None
        indices = indices or outside
        sides.append(found[1])
    number = Value(sides[0].outputs[at].type)
    results = tuple(number if k == at else value for k, value in enumerate(choice.results))
    changed = replace(choice, results=results, regions=tuple(sides))
    nodes = tuple(changed if node is choice else node for node in region.nodes)
    return indices, _with_output(region, position, number, nodes)


def _yielding(space: Node, position: int, entries: Sequence[_Entry]) -> Node | None:
    """A space over a buffer that yields what the points would have added; None if points may meet, or do more.

    An entry is added to by a point for each of the entries, in the order of these points."""
    found = [_part(space, indices, remove_dead_code(body)) for indices, body in entries]
    parts = [part for part in found if part is not None]
    ordered = _in_order(parts) if len(parts) == len(entries) else None
    if ordered is None:
        return None
    op, result = space.op, space.results[position]
    assert isinstance(op, Space) and isinstance(result.type, Array)
    shape, dtype = result.type.shape, result.type.dtype

    def entry(h: Builder, *at: Value) -> Value:
        total = None
        for part in ordered:
            number = _added(h, op, part, shape, dtype, at)
            total = number if total is None else h.add(total, number)
        assert total is not None
        return total

    g = Builder()
    captured = [value for part in ordered for value in part.operands]
    g.adopt(Region(tuple(dict.fromkeys(captured)), (), ()))
    with g.at(space.span, space.scope, space.derived):
        g.map(shape, entry)
    return replace(g.nodes[-1], results=(result,))


class _Part(NamedTuple):
    """One addition: for each axis of the points where their index stands among those of the buffer, and by how much it
    is moved; what makes the number of indices and captures; and these captures outside."""

    at: tuple[int, ...]
    shifts: tuple[Size, ...]
    point: Region
    operands: tuple[Value, ...]


def _part(space: Node, indices: tuple[Moved, ...], body: Region) -> _Part | None:
    op = space.op
    assert isinstance(op, Space)
    places = [_place(space, body, index) for index in indices]
    axes = {place.axis: (at, place.shift) for at, place in enumerate(places) if place is not None}
    if not len(axes) == len(places) == len(op.extents):
        return None
    if not all(isinstance(node.op, If | Elementwise | Index | Constant | SizeValue | Undefined) for node in walk(body)):
        return None
    if any(may_stop(node) for node in walk(body)) or any(isinstance(v.type, Accumulator) for v in body.used):
        return None
    lead = op.leading_inputs(0)
    pairs = zip(body.inputs[lead:], space.operands[op.accumulators :], strict=True)
    captured = {value: operand for value, operand in pairs if value in body.used}
    point = Region((*body.inputs[: len(op.extents)], *captured), body.nodes, body.outputs)
    ordered = [axes[axis] for axis in range(len(op.extents))]
    return _Part(tuple(at for at, _ in ordered), tuple(shift for _, shift in ordered), point, tuple(captured.values()))


def _in_order(parts: Sequence[_Part]) -> list[_Part] | None:
    """Additions in the order in which points make them to one entry; None if the sizes do not tell."""
    keys = []
    for part in parts:
        if part.at != parts[0].at:
            return None
        away = [(first - shift).constant for first, shift in zip(parts[0].shifts, part.shifts, strict=True)]
        if None in away:
            return None
        keys.append(away)
    return [parts[at] for at in sorted(range(len(parts)), key=lambda at: keys[at])]


def _added(h: Builder, op: Space, part: _Part, shape: Shape, dtype: DType, at: Sequence[Value]) -> Value:
    """What the point adds whose place this is, or 0 if there is none."""
    own, held = [], None
    for axis, extent in enumerate(op.extents):
        shift, index = part.shifts[axis], at[part.at[axis]]
        if shift != size(0):
            index = h.sub(index, h.number(shift))
        own.append(index)
        held = _both(h, held, _in_range(h, index, -shift, shape[part.at[axis]] - 1 - shift, extent))
    if held is None:
        return h.inline(part.point, [*own, *part.operands])[0]
    return h.if_(held, lambda k: k.inline(part.point, [*own, *part.operands]), lambda k: [k.constant(0, dtype)])[0]
