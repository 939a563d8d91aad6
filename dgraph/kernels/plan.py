"""Which buffers of the arena are in use at once: from which statement to which the contents of each matter.

Buffers that one kernel touches are always in use at once: kernels promise that their pointers do not overlap. Where
each lies is decided by `rooms` when the sizes are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, replace

from dgraph.classes import dataclass
from dgraph.kernels.nest_parts import blocks_of, read_buffers, walk, written_buffers
from dgraph.kernels.nests import Block, Buffer, Loop, Point, Program, Swap, While
from dgraph.kernels.rooms import Room


def plan(program: Program) -> Program:
    """The program with a room for every arena buffer."""
    intervals = _Uses(program.body).intervals()
    ordered = sorted(intervals.items(), key=lambda item: item[1])
    rooms = {buffer: Room(buffer.name, buffer.bytes, *uses, buffer.span, buffer.copies) for buffer, uses in ordered}
    return replace(program, rooms=rooms)


@dataclass
class _Uses:
    """Where each buffer is touched, statements being numbered in order."""

    body: Block
    touched: dict[Buffer, list[int]] = field(default_factory=dict)
    loops: list[tuple[int, int]] = field(default_factory=list)
    position: int = 0

    def intervals(self) -> dict[Buffer, tuple[int, int]]:
        """The first and last position at which the contents of each arena buffer matter."""
        self.aliases = aliases(self.body)
        self.visit(self.body)
        found = {}
        for buffer, positions in self.touched.items():
            first, last = min(positions), max(positions)
            # Inner loops come before the loops around them. What is touched inside and outside of a loop is kept over
            # all of its turns.
            for start, end in self.loops:
                overlaps = first <= end and last >= start
                if overlaps and not (start <= first and last <= end):
                    first, last = min(first, start), max(last, end)
            found[buffer] = (first, last)
        return found

    def visit(self, block: Block) -> None:
        for statement in block:
            self.position += 1
            start = self.position
            for buffer in (*read_buffers(statement), *written_buffers(statement)):
                for memory in self.memory(buffer):
                    self.touched.setdefault(memory, []).append(self.position)
            for inner in blocks_of(statement):
                self.visit(inner)
            if isinstance(statement, Loop | While):
                self.position += 1
                self.loops.append((start, self.position))

    def memory(self, buffer: Buffer) -> Iterator[Buffer]:
        """The arena buffers that a buffer may stand for."""
        for found in self.aliases.get(buffer, {buffer}):
            if found.kind == "arena":
                yield found


def aliases(body: Block) -> dict[Buffer, set[Buffer]]:
    """What each pointer may stand for."""
    edges: dict[Buffer, set[Buffer]] = {}
    for statement in walk(body):
        if isinstance(statement, Point):
            edges.setdefault(statement.buffer, set()).add(statement.to)
        elif isinstance(statement, Swap):
            edges.setdefault(statement.one, set()).add(statement.other)
            edges.setdefault(statement.other, set()).add(statement.one)
    found: dict[Buffer, set[Buffer]] = {}
    for pointer in edges:
        reached, pending = {pointer}, [pointer]
        while pending:
            for other in edges.get(pending.pop(), set()) - reached:
                reached.add(other)
                pending.append(other)
        found[pointer] = reached
    return found
