"""Arrays that a loop carries and changes in a few places per step can be walked backwards.

A loop that runs over the same steps in the other order carries the array too, from its last state on. If the entries
that were overwritten have been kept, with their places, it puts them back at the start of each step, and so has the
array as it was before that step. That is a copy of what was there, so it is exact, and it costs the entries that
change, not the array.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    """A carried array, by its place among the carries, and the updates of a step in order."""

    carry: int
    updates: tuple[Update, ...]

    @property
    def versions(self) -> Iterator[Value]:
        """The array before the step and after each update."""
        yield self.updates[0].before
        for update in self.updates:
            yield update.node.result


def undoable(writer: Node, body: Region, readers: Sequence[Node]) -> list[Undo]:
    """The carried arrays of a loop that all of its readers can walk backwards."""
    op: Any = writer.op
    if not all(_runs_back(writer, reader) for reader in readers):
        return []
    lead = int(isinstance(op, For))
    found = []
    for carry in range(op.carries):
        updates = _updates(body, body.inputs[lead + carry], body.outputs[carry])
        if updates:
            found.append(Undo(carry, updates))
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
    nodes, versions = [], {undo.updates[-1].node.result: last}
    for update in reversed(undo.updates):
        node = update.node
        before = Value(node.result.type, update.before.name)
        operands = (versions[node.result], *(known[index] for index in update.indices), known[update.old])
        nodes.append(Node(node.op, operands, (before,), (), node.span, node.scope, node.derived))
        versions[update.before] = before
    return nodes, versions
