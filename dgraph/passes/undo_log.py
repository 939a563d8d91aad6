"""What a loop carries can be walked backwards, by a loop that runs over the same steps in the other order.

What the carry is after a step is what it was before the step that is walked just before: one is at hand if the other
is.

Of an array that a step changes in a few places neither has to be kept. The loop that runs backwards carries the array
from its last state on. If the entries that were overwritten have been kept, with their places, it puts them back at the
start of each step, and so has the array as it was before that step. That is a copy of what was there, so it is exact,
and it costs the entries that change, not the array.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dgraph.classes import dataclass
from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.control import For
from dgraph.ops.index import Index, SetAt
from dgraph.types import Array

MOST = 4
"""How many places of an array a step may change."""


@dataclass(frozen=True)
class Update:
    """One `set_at` of a step: the array before and after, the indices, and the value of the body that is overwritten.

    `reading` is the node that reads what is overwritten, if the step does not read it anyway.
    """

    node: Node
    old: Value
    reading: Node | None

    @property
    def before(self) -> Value:
        """The array that is changed."""
        return self.node.operands[0]

    @property
    def indices(self) -> tuple[Value, ...]:
        """Where."""
        return self.node.operands[1:-1]


@dataclass(frozen=True)
class Undo:
    """A carry, by its place, its values before and after a step, and the updates that lead from one to the other, if it
    is an array that only these change."""

    carry: int
    start: Value
    end: Value
    updates: tuple[Update, ...]

    @property
    def needs(self) -> list[Value]:
        """What of the step has to be at hand: what is overwritten and where, or the carry before the step."""
        found = [value for update in self.updates for value in (update.old, *update.indices)]
        return found or [self.start]

    @property
    def versions(self) -> list[Value]:
        """The values that walking backwards gives: the end, and with updates all that lead to it."""
        return [*(update.before for update in self.updates), self.end]


def undoable(writer: Node, body: Region, readers: Sequence[Node], at_hand: Collection[Value]) -> list[Undo]:
    """What all readers of a loop can walk backwards: arrays that are updated, and carries before the step at hand."""
    op: Any = writer.op
    if not all(_runs_back(writer, reader) for reader in readers):
        return []
    lead = int(isinstance(op, For))
    found = []
    for carry in range(op.carries):
        start, end = body.inputs[lead + carry], body.outputs[carry]
        updates = _updates(body, start, end)
        if updates or (start in at_hand and end in body.producers and isinstance(end.type, Array)):
            found.append(Undo(carry, start, end, updates))
    return found


def _runs_back(writer: Node, reader: Node) -> bool:
    """Whether a loop makes the steps of another one in the other order."""
    op: Any = reader.op
    first: Any = writer.op
    if not isinstance(first, For):
        return reader.operands[0] is writer.results[-1] and bool(op.reverse)
    same = reader.operands[0] is writer.operands[0] or (first.length is not None and first.length == op.length)
    return same and op.reverse != first.reverse


def _updates(body: Region, start: Value, end: Value) -> tuple[Update, ...]:
    """The updates that lead from one array to another; none if something else does."""
    found: list[Update] = []
    while end is not start:
        node = body.producers.get(end)
        if node is None or not isinstance(node.op, SetAt) or len(found) == MOST:
            return ()
        found.append(_update(body, node))
        end = node.operands[0]
    return tuple(reversed(found))


def _update(body: Region, node: Node) -> Update:
    assert isinstance(node.op, SetAt)
    array, *indices, entry = node.operands
    reading = Index(node.op.policy)
    for user in body.users[array]:
        if user.op == reading and user.operands == (array, *indices):
            return Update(node, user.result, None)
    assert isinstance(entry.type, Array)
    old = Value(entry.type, f"old_{array.name}" if array.name else "old")
    return Update(node, old, Node(reading, (array, *indices), (old,), (), node.span, node.scope, node.derived))


def depending(body: Region, values: Collection[Value]) -> set[Value]:
    """All values of a body that depend on some."""
    found = set(values)
    for node in body.nodes:
        if any(operand in found for operand in node.operands):
            found.update(node.results)
    return found


def with_readings(body: Region, undone: Sequence[Undo]) -> tuple[Node, ...]:
    """The nodes of a body, which also read what they overwrite."""
    readings: Mapping[Node, Node | None] = {update.node: update.reading for undo in undone for update in undo.updates}
    return tuple(new for node in body.nodes for new in (readings.get(node), node) if new is not None)


def restored(undo: Undo, last: Value, known: Mapping[Value, Value]) -> tuple[list[Node], dict[Value, Value]]:
    """Nodes that put back what a step has overwritten, and the versions of the array. `known` gives the indices and
    the old entries where the nodes are to stand, `last` is the array after the step."""
    nodes, versions = [], {undo.end: last}
    for update in reversed(undo.updates):
        node = update.node
        before = Value(node.result.type, update.before.name)
        operands = (versions[node.result], *(known[index] for index in update.indices), known[update.old])
        nodes.append(Node(node.op, operands, (before,), (), node.span, node.scope, node.derived))
        versions[update.before] = before
    return nodes, versions
