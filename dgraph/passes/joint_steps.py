"""A region that writes tapes and the region that reads them, rewritten together and cut apart again.

The body of a loop and that of the loop that walks its tapes belong together step by step; so do a side of a choice and
the same side of the choice that reads its tapes. Put one after the other they are a block in which a loop of the first
and the loop of the second that walks its tapes are an ordinary pair. Afterwards the second region is given what it
needs of the first: what both can see directly, small things computed again, and the rest as tapes or results.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.control import For
from dgraph.ops.index import Undefined
from dgraph.passes.base import with_operands
from dgraph.passes.rerun import loop_op
from dgraph.types import Array, Tape

Rewrite = Callable[[Region, int], tuple[list[Node], list[Node], tuple[Value, ...]]]
"""What becomes of a block: its first nodes, so many, the others, and its outputs."""


@dataclass(frozen=True)
class Cut:
    """Two regions cut apart again.

    `first` and `second` are the nodes of each, `first_outputs` and `second_outputs` the outputs that they had. The
    second region has the inputs `own`; beyond these it reads the inputs `shared` of the first region, and `kept` values
    that the first one computes.
    """

    first: tuple[Node, ...]
    first_outputs: tuple[Value, ...]
    own: Mapping[Value, Value]
    second: tuple[Node, ...]
    second_outputs: tuple[Value, ...]
    shared: tuple[Value, ...]
    kept: tuple[Value, ...]


def cut_apart(
    first: Region,
    outputs: Sequence[int],
    second: Region,
    links: Mapping[Value, Value],
    free: Collection[Value],
    rewrite: Rewrite,
) -> Cut:
    """Rewrite two regions as one block. Of the first one the `outputs` stay; `links` says which values of the first the
    inputs of the second stand for, `free` which inputs of the first the second can be given as well."""
    own = {value: Value(value.type, value.name) for value in second.inputs if value not in links}
    known = {**links, **own}
    nodes = []
    for node in second.nodes:
        results = tuple(Value(value.type, value.name) for value in node.results)
        nodes.append(replace(with_operands(node, known), results=results))
        known.update(zip(node.results, results, strict=True))
    ends = [first.outputs[at] for at in outputs]
    joint = Region(
        (*first.inputs, *own.values()),
        (*first.nodes, *nodes),
        (*ends, *(known[output] for output in second.outputs)),
    )
    early, late, found = rewrite(joint, len(first.nodes))
    second_outputs = found[len(ends) :]
    late_values = {result for node in late for result in node.results}
    reads = dict.fromkeys(value for node in late for value in node.operands) | dict.fromkeys(second_outputs)
    outside = [value for value in reads if value not in late_values and value not in own.values()]
    live = remove_dead_code(Region((*own.values(), *outside), tuple(late), second_outputs))
    again = _Again(early, free)
    needed = [value for value in outside if value in live.used]
    copied = again.nodes_for(value for value in needed if again.holds(value))
    given = [value for value in needed if value not in again.chosen]
    given += [value for node in copied for value in node.operands if value not in again.chosen]
    given = list(dict.fromkeys(given))
    return Cut(
        tuple(early),
        found[: len(ends)],
        own,
        (*copied, *live.nodes),
        second_outputs,
        tuple(value for value in given if value in free),
        tuple(value for value in given if value not in free),
    )


class _Again:
    """Which values are rather computed again than kept: constants, and whole numbers from free values and those."""

    def __init__(self, nodes: Sequence[Node], free: Collection[Value]) -> None:
        self.nodes = nodes
        self.free = free
        self.makers = {result: node for node in nodes for result in node.results}
        self.known: dict[Value, bool] = {}
        self.chosen: set[Value] = set()

    def holds(self, value: Value) -> bool:
        """Whether a value is free or follows cheaply."""
        if value in self.free:
            return True
        found = self.known.get(value)
        if found is None:
            node = self.makers.get(value)
            found = node is not None and _is_small(node) and all(map(self.holds, node.operands))
            self.known[value] = found
        return found

    def nodes_for(self, values: Iterable[Value]) -> list[Node]:
        """The nodes that compute values, in order."""
        pending = [value for value in values if value not in self.free]
        while pending:
            value = pending.pop()
            if value not in self.chosen and value not in self.free:
                self.chosen.add(value)
                pending += self.makers[value].operands
        return [node for node in self.nodes if any(result in self.chosen for result in node.results)]


def _is_small(node: Node) -> bool:
    if node.regions or node.op.effect != "pure" or len(node.results) != 1:
        return False
    type_ = node.result.type
    if not node.operands or node.op.name == "broadcast":
        return True
    return isinstance(type_, Array) and not type_.shape and not type_.dtype.is_float


def _fresh(values: Iterable[Value]) -> dict[Value, Value]:
    return {value: Value(value.type, value.name) for value in values}


def _second_region(cut: Cut, inputs: Sequence[Value], given: Mapping[Value, Value]) -> Region:
    """The second region with the inputs `inputs`, where `given` renames values of the first region."""
    known = dict(given)
    nodes = []
    for node in cut.second:
        # Values that are computed again get names of their own: the first region computes them too.
        results = tuple(known.setdefault(value, Value(value.type, value.name)) for value in node.results)
        nodes.append(replace(with_operands(node, known), results=results))
    return Region(tuple(inputs), tuple(nodes), tuple(known.get(value, value) for value in cut.second_outputs))


class JoinedLoop:
    """A loop and the `for` that walks its tapes."""

    def __init__(self, node: Node, reader: Node) -> None:
        op: Any = node.op
        self.node, self.reader, self.back = node, reader, loop_op(reader)
        self.body, (self.body_back,) = node.regions[-1], reader.regions
        self.counted = isinstance(op, For)
        self.stacks = op.stacks if isinstance(op, For) else 0
        self.first_walk = int(self.counted) + op.carries
        self.lead = op.leading_operands()
        self.stays = op.carries + self.stacks
        self.taped = range(self.stays, len(self.body.outputs))

    @property
    def is_possible(self) -> bool:
        """Whether the tapes are walked, and read in no other way."""
        walks = slice(1 + self.back.carries, self.back.leading_operands())
        others = {*self.reader.operands[: walks.start], *self.reader.operands[walks.stop :]}
        return others.isdisjoint(self.node.results[at] for at in self.taped)

    def rewrite(self, rewrite: Rewrite) -> None:
        """Rewrite the bodies as one block."""
        node, body, back = self.node, self.body, self.back
        same = {node.results[at]: body.outputs[at] for at in self.taped}
        walked = slice(self.first_walk, self.lead)
        same |= dict(zip(node.operands[walked], body.inputs[walked], strict=True))
        captured = dict(zip(node.operands[self.lead :], body.inputs[self.lead :], strict=True))
        links = dict(zip(self.body_back.inputs[: int(self.counted)], body.inputs, strict=False))
        for at in range(1 + back.carries, len(self.reader.operands)):
            value = (same if at < back.leading_operands() else captured).get(self.reader.operands[at])
            if value is not None:
                links[self.body_back.inputs[at]] = value
        free = {*body.inputs[: int(self.counted)], *body.inputs[self.first_walk :]}
        self.cut = cut_apart(body, range(self.stays), self.body_back, links, free, rewrite)

    def first(self, g: Builder, moved: Node) -> Sequence[Value]:
        """Append the loop that comes first. Returns its results; those that were tapes are not read any more."""
        self.moved, cut = moved, self.cut
        op: Any = moved.op
        region = Region(self.body.inputs, cut.first, (*cut.first_outputs, *cut.kept))
        results = g.apply(
            replace(op, tapes=len(cut.kept)),
            *moved.operands,
            regions=[*moved.regions[:-1], region],
            names=[value.name for value in (*moved.results[: self.stays], *cut.kept)],
        )
        last = self.stays + len(cut.kept)
        self.tapes = results[self.stays : last]
        return [*results[: self.stays], *(moved.results[at] for at in self.taped), *results[last:]]

    def second(self, g: Builder, moved: Node) -> Sequence[Value]:
        """Append the loop that walks."""
        cut, back, inputs = self.cut, self.back, self.body.inputs
        first_walk, lead = 1 + back.carries, back.leading_operands()
        index = Value(self.body_back.inputs[0].type, self.body_back.inputs[0].name)
        given = _fresh((*cut.shared, *cut.kept))
        own = {**cut.own, self.body_back.inputs[0]: index}
        if self.counted:
            given[inputs[0]] = index
        else:
            given[cut.own[self.body_back.inputs[0]]] = index
        shared = [at for at, value in enumerate(inputs) if value in cut.shared and at >= self.first_walk]
        pairs = [(own.get(value), outer) for value, outer in zip(self.body_back.inputs, moved.operands, strict=True)]
        walked = pairs[first_walk:lead]
        walked += [(given[inputs[at]], self.moved.operands[at]) for at in shared if at < self.lead]
        walked += [(given[value], tape) for value, tape in zip(cut.kept, self.tapes, strict=True)]
        captured = pairs[lead:]
        captured += [(given[inputs[at]], self.moved.operands[at]) for at in shared if at >= self.lead]
        rows = [[row for row in group if row[0] is not None] for group in (pairs[1:first_walk], walked, captured)]
        operands = [outer for group in rows for _, outer in group]
        region_inputs = [index, *(inner for group in rows for inner, _ in group if inner is not None)]
        region = _second_region(cut, region_inputs, given)
        return g.apply(replace(back, walks=len(rows[1])), moved.operands[0], *operands, regions=[region])


class JoinedChoice:
    """An `if` and the `if` that reads its tapes."""

    def __init__(self, node: Node, reader: Node) -> None:
        self.node, self.reader = node, reader
        self.stays = [at for at, value in enumerate(node.results) if not isinstance(value.type, Tape)]

    @property
    def is_possible(self) -> bool:
        """Whether both take the same side."""
        return self.node.operands[0] is self.reader.operands[0]

    def rewrite(self, rewrite: Rewrite) -> None:
        """Rewrite each side of both as one block."""
        self.cuts = []
        for body, back in zip(self.node.regions, self.reader.regions, strict=True):
            same = dict(zip(self.node.operands[1:], body.inputs, strict=True))
            same |= {self.node.results[at]: body.outputs[at] for at in range(len(body.outputs)) if at not in self.stays}
            pairs = zip(back.inputs, self.reader.operands[1:], strict=True)
            links = {value: same[outer] for value, outer in pairs if outer in same}
            self.cuts.append(cut_apart(body, self.stays, back, links, set(body.inputs), rewrite))

    def first(self, g: Builder, moved: Node) -> Sequence[Value]:
        """Append the choice that comes first. Returns its results; those that were tapes are not read any more."""
        self.moved = moved
        kept = [(side, value) for side, cut in enumerate(self.cuts) for value in cut.kept]
        regions = []
        for side, (body, cut) in enumerate(zip(moved.regions, self.cuts, strict=True)):
            absent = {
                at: Node(Undefined(v.type), (), (Value(v.type),)) for at, (own, v) in enumerate(kept) if own != side
            }
            handed = [absent[at].result if at in absent else value for at, (_, value) in enumerate(kept)]
            outputs = (*cut.first_outputs, *handed)
            regions.append(Region(body.inputs, (*cut.first, *absent.values()), outputs))
        names = [*(moved.results[at].name for at in self.stays), *(value.name for _, value in kept)]
        results = g.apply(moved.op, *moved.operands, regions=regions, names=names)
        self.handed = results[len(self.stays) :]
        stay = dict(zip(self.stays, results, strict=False))
        return [stay.get(at, value) for at, value in enumerate(moved.results)]

    def second(self, g: Builder, moved: Node) -> Sequence[Value]:
        """Append the choice that reads."""
        positions = sorted({body.inputs.index(v) for body, cut in self._sides() for v in cut.shared})
        owned = [at for at, value in enumerate(self.reader.regions[0].inputs) if value in self.cuts[0].own]
        regions = []
        for side, ((body, cut), back) in enumerate(zip(self._sides(), self.reader.regions, strict=True)):
            given = _fresh((*cut.shared, *cut.kept))
            own = [cut.own[back.inputs[at]] for at in owned]
            shared = [given.get(body.inputs[at]) or Value(body.inputs[at].type) for at in positions]
            kept = [
                given[value] if other == side else Value(value.type)
                for other, cut_ in enumerate(self.cuts)
                for value in cut_.kept
            ]
            regions.append(_second_region(cut, (*own, *shared, *kept), given))
        operands = [
            *(moved.operands[1 + at] for at in owned),
            *(self.moved.operands[1 + at] for at in positions),
            *self.handed,
        ]
        return g.apply(moved.op, moved.operands[0], *operands, regions=regions)

    def _sides(self) -> list[tuple[Region, Cut]]:
        return list(zip(self.node.regions, self.cuts, strict=True))
