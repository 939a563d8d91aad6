"""Sinking: producers that are needed on one side of choices only are computed there.

Must run before differentiation, see `dgraph.ad.guards`. A producer used in several choices is copied into each; one
bound outside a loop or index space goes through it; an array producer whose entries are read one by one is computed
entry by entry where it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dgraph.ad.guards import Guards, is_number
from dgraph.errors import InvalidGraph
from dgraph.ir.build import Builder, close_together
from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.transform import Transform
from dgraph.sizes import size
from dgraph.types import Array


def sink(region: Region) -> Region:
    """The region with guarded producers inside their choices; the region itself if there are none."""
    guards = Guards()
    return _sunk(region, guards) if guards.finds(region) else region


def _sunk(region: Region, guards: Guards) -> Region:
    g = Builder()
    inputs = {value: g.input(value.type, value.name) for value in region.inputs}
    place = _Place(g, region, guards, inputs, {}, None, None)
    place.fill()
    return remove_dead_code(g.close(place.outputs()))


class _Place:
    """A region being copied into a builder.

    `known` maps its values to their copies, `outer` its captures to the values of `parent`, the region around it. A
    deferred node is copied when, and where, one of its results is asked for; so the builder around `g` may be that of
    another place: `host`.
    """

    def __init__(
        self,
        g: Builder,
        region: Region,
        guards: Guards,
        known: dict[Value, Value],
        outer: dict[Value, Value],
        parent: _Place | None,
        host: _Place | None,
    ) -> None:
        self.g = g
        self.region = region
        self.guards = guards
        self.known = known
        self.outer = outer
        self.parent = parent
        self.host = host
        self.deferred: dict[Value, Node] = {}
        self.arrays: dict[Value, Node] = {}
        self.copies: dict[Value, Value] = {}

    def fill(self) -> None:
        """Copy the nodes of the region, except those that wait until they are asked for."""
        for node in self.region.nodes:
            if self.guards.is_read_in_choices(self.region, node):
                self.arrays[node.result] = node
            elif self.guards.sinks(self.region, node):
                self.deferred.update((result, node) for result in node.results)
            else:
                self._define(node, self._copy_for(self, node))

    def outputs(self) -> list[Value]:
        """The copies of the outputs."""
        return list(map(self.look_up, self.region.outputs))

    def _define(self, node: Node, results: Sequence[Value]) -> None:
        self.known.update(zip(node.results, results, strict=True))

    def look_up(self, value: Value) -> Value:
        """The copy of a value of the region; a deferred one is computed here."""
        found = self.known.get(value)
        if found is None:
            owner, own = self._owner(value)
            found = self.known[value] = owner._value_for(self, own)
        return found

    def _owner(self, value: Value) -> tuple[_Place, Value]:
        """The place whose region defines a value, and the value there."""
        place: _Place = self
        while value in place.outer:
            assert place.parent is not None
            place, value = place.parent, place.outer[value]
        return place, value

    def _value_for(self, user: _Place, value: Value) -> Value:
        """The copy of a value of this region that a place inside it reads."""
        if value in self.known:
            return self.known[value]
        node = self.deferred.get(value)
        if node is None:
            if value in self.arrays:
                raise InvalidGraph(f"{value!r} is read as a whole")
            return self.look_up(value)
        place: _Place | None = user
        while place is not None and place is not self:
            if value in place.copies:
                return place.copies[value]
            place = place.host
        results = self._copy_for(user, node)
        store = self.known if user is self else user.copies
        store.update(zip(node.results, results, strict=True))
        return store[value]

    def _copy_for(self, user: _Place, node: Node) -> Sequence[Value]:
        """The results of a node of this region, copied into a place inside it."""
        op: Any = node.op
        if node.regions and not isinstance(op, Transform):
            return self._copy_with_regions(user, node)
        if op.name == "index" and self._array(node.operands[0]) is not None:
            indices = [self._operand_for(user, index) for index in node.operands[1:]]
            with user.g.at(span=node.span, scope=node.scope):
                return [self._entry(user, node.operands[0], indices, op.policy)]
        return user.g.copy(node, [self._operand_for(user, operand) for operand in node.operands])

    def _operand_for(self, user: _Place, value: Value) -> Value:
        owner, own = self._owner(value)
        return owner._value_for(user, own)

    def _goes_on(self, value: Value, node: Node) -> bool:
        """Whether a captured value is known, or waits until it is asked for inside the regions of a node."""
        owner, own = self._owner(value)
        source = owner.deferred.get(own)
        if source is None or own in owner.known:
            return True
        return self.guards.is_guarded_use(self.region, value, node, is_number(source))

    def _copy_with_regions(self, user: _Place, node: Node) -> Sequence[Value]:
        """Copy a node with regions; what waits goes on into them where it is needed on one side of choices only."""
        op: Any = node.op
        lead = op.leading_operands()
        leading = [self._operand_for(user, operand) for operand in node.operands[:lead]]
        for operand in node.operands[lead:]:
            if not self._goes_on(operand, node):
                self._operand_for(user, operand)
        places = []
        for k, region in enumerate(node.regions):
            h = user.g.child()
            first = op.leading_inputs(k)
            known = {value: h.input(value.type, value.name) for value in region.inputs[:first]}
            outer = dict(zip(region.inputs[first:], node.operands[lead:], strict=True))
            place = _Place(h, region, self.guards, known, outer, self, user)
            place.fill()
            places.append(place)
        outputs = [place.outputs() for place in places]
        regions, captures = close_together([place.g for place in places], outputs)
        with user.g.at(span=node.span, scope=node.scope, derived=node.derived):
            names = [value.name for value in node.results]
            return user.g.apply(op, *leading, *captures, regions=regions, names=names)

    # ---- arrays computed entry by entry ---------------------------------------------------------------------------

    def _array(self, value: Value) -> tuple[_Place, Node] | None:
        """The producer of an array that is computed where it is read, and the place that holds it."""
        owner, own = self._owner(value)
        node = owner.arrays.get(own)
        return None if node is None else (owner, node)

    def _entry(self, user: _Place, value: Value, indices: Sequence[Value], policy: str) -> Value:
        """The entry of an array of this region, computed in a place inside it."""
        if isinstance(value.type, Array) and not value.type.shape:
            return self._operand_for(user, value)
        found = self._array(value)
        if found is None:
            return user.g.index(self._operand_for(user, value), *indices, policy=policy)
        owner, node = found
        with user.g.at(span=node.span, derived=node.derived):
            if node.op.name == "broadcast":
                return owner._broadcast_entry(user, node, indices, policy)
            if node.regions:
                return owner._point(user, node, indices)
            entries = [owner._entry(user, operand, indices, policy) for operand in node.operands]
            return user.g.emit(node.op, *entries)

    def _broadcast_entry(self, user: _Place, node: Node, indices: Sequence[Value], policy: str) -> Value:
        (operand,) = node.operands
        assert isinstance(operand.type, Array)
        last = indices[len(indices) - operand.type.rank :]
        own = [
            user.g.number(size(0)) if extent.is_literal_one else index
            for extent, index in zip(operand.type.shape, last, strict=True)
        ]
        return self._entry(user, operand, own, policy)

    def _point(self, user: _Place, node: Node, indices: Sequence[Value]) -> Value:
        """The yield of an index space at a point."""
        (body,) = node.regions
        known = dict(zip(body.inputs, indices, strict=False))
        outer = dict(zip(body.inputs[len(indices) :], node.operands, strict=True))
        inside = _Place(user.g, body, self.guards, known, outer, self, user)
        for inner in body.nodes:
            inside._define(inner, inside._copy_for(user, inner))
        return inside._operand_for(user, body.outputs[0])
