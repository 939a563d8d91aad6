"""The memory plan: which arena buffers share a slot because they are never in use at the same time.

Sizes are run-time numbers, so two buffers share a slot only if their sizes are equal as formulas, or both are plain
numbers. Buffers that one kernel touches never share: kernels promise that their pointers do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dgraph.kernels.nest_parts import blocks_of, read_buffers, walk, written_buffers
from dgraph.kernels.nests import Block, Buffer, Loop, Point, Program, Swap, While
from dgraph.sizes import Size, size


def plan(program: Program) -> Program:
    """The program with a slot for every arena buffer."""
    intervals = _Uses(program.body).intervals()
    slots: list[Size] = []
    busy: list[int] = []
    places: dict[Buffer, int] = {}
    for buffer, (first, last) in sorted(intervals.items(), key=lambda item: item[1]):
        place = _free_slot(buffer.bytes, slots, busy, first)
        if place is None:
            place = len(slots)
            slots.append(buffer.bytes)
            busy.append(last)
        else:
            slots[place] = _larger(slots[place], buffer.bytes)
            busy[place] = last
        places[buffer] = place
    return replace(program, slots=tuple(slots), places=places)


def _free_slot(wanted: Size, slots: list[Size], busy: list[int], first: int) -> int | None:
    free = [place for place in range(len(slots)) if busy[place] < first]
    for place in free:
        if slots[place] == wanted:
            return place
    if wanted.constant is not None:
        return next((place for place in free if slots[place].constant is not None), None)
    return None


def _larger(one: Size, other: Size) -> Size:
    if one.constant is not None and other.constant is not None:
        return size(max(one.constant, other.constant))
    return one


@dataclass
class _Uses:
    """Where each buffer is touched, statements being numbered in order."""

    body: Block
    touched: dict[Buffer, list[int]] = field(default_factory=dict)
    loops: list[tuple[int, int]] = field(default_factory=list)
    position: int = 0

    def intervals(self) -> dict[Buffer, tuple[int, int]]:
        """The first and last position at which the contents of each arena buffer matter."""
        self.aliases = _aliases(self.body)
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


def _aliases(body: Block) -> dict[Buffer, set[Buffer]]:
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
