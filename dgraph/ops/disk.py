"""States of a checkpointed loop on disk: writing one, reading it again, and where it pays.

A state that is written becomes a ticket, which is a number. What is read with a ticket is what was written, so order
comes from data alone; but every ticket is given back once, with its last read, so these ops are done exactly as often
as they are written: they are never shared, moved or left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dgraph.classes import dataclass
from dgraph.ir.graph import Region
from dgraph.ir.op import Op, SizeOf, require
from dgraph.ops.elementwise import arrays
from dgraph.ops.two_levels import two_levels
from dgraph.types import BOOL, I64, Array, ValueType

if TYPE_CHECKING:
    from dgraph.ir.evaluate import Interpreter
    from dgraph.ir.graph import Node

_NUMBER = Array(I64)


@dataclass(frozen=True)
class DiskWrite(Op):
    """The ticket of a state, some arrays, that is written to disk: a number larger than all given before."""

    name: ClassVar[str] = "disk_write"
    effect: ClassVar[str] = "disk"

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """A number."""
        require(bool(arrays(self, types)), "disk_write: nothing to write")
        return (_NUMBER,)

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """The next number; the interpreter keeps the state in memory."""
        ticket = interpreter.written = interpreter.written + 1
        interpreter.states[ticket] = tuple(map(np.copy, operands))
        return (np.int64(ticket),)


@dataclass(frozen=True)
class DiskRead(Op):
    """The state of a ticket: `disk_read(ticket, is_last)`. The ticket is given back with the last read."""

    name: ClassVar[str] = "disk_read"
    effect: ClassVar[str] = "disk"
    types: tuple[Array, ...] = ()

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The arrays asked for."""
        require(tuple(types) == (_NUMBER, Array(BOOL)), "disk_read: not a ticket and a bool")
        return self.types

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """What was written."""
        ticket, is_last = int(operands[0]), bool(operands[1])
        state = interpreter.states.pop(ticket) if is_last else interpreter.states[ticket]
        return [part[()] for part in state]


@dataclass(frozen=True)
class DiskDrop(Op):
    """A ticket that is given back without a read; 0 is none."""

    name: ClassVar[str] = "disk_drop"
    effect: ClassVar[str] = "disk"
    arity: ClassVar[int | None] = 1

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The number."""
        require(tuple(types) == (_NUMBER,), "disk_drop: not a ticket")
        return (_NUMBER,)

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """The state is forgotten."""
        ticket = int(operands[0])
        if ticket:
            del interpreter.states[ticket]
        return (np.int64(ticket),)


@dataclass(frozen=True)
class DiskDistance(Op):
    """How many steps there are between two states on disk while nobody knows how many steps there will be:
    `disk_distance(slots, disk)`."""

    name: ClassVar[str] = "disk_distance"
    arity: ClassVar[int | None] = 2

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """A number."""
        require(tuple(types) == (_NUMBER,) * 2, "disk_distance: not two numbers")
        return (_NUMBER,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """By the recursion for two levels."""
        return np.int64(distance(*map(int, operands)))


@dataclass(frozen=True)
class DiskAdvance(Op):
    """How many steps to advance from a state on disk, 0 to go on in memory only: `disk_advance(steps, slots, disk,
    room)`, of so many steps that are to be reversed, with room for `slots` states in memory and `disk` on disk, where
    `room` are not in use by others."""

    name: ClassVar[str] = "disk_advance"
    arity: ClassVar[int | None] = 4

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """A number."""
        require(tuple(types) == (_NUMBER,) * 4, f"{self.name}: not four numbers")
        return (_NUMBER,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """By the recursion for two levels."""
        return np.int64(advance(*map(int, operands)))


@dataclass(frozen=True)
class DiskWorth(Op):
    """Whether to write a state that is at hand, 1 or 0: `disk_worth(steps, slots, disk, room)`."""

    name: ClassVar[str] = "disk_worth"
    arity: ClassVar[int | None] = 4

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """A number."""
        require(tuple(types) == (_NUMBER,) * 4, f"{self.name}: not four numbers")
        return (_NUMBER,)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """By the recursion for two levels."""
        return np.int64(worth(*map(int, operands)))


def distance(slots: int, disk: int) -> int:
    """What `disk_distance` computes."""
    return two_levels(slots, disk).distance


def advance(steps: int, slots: int, disk: int, room: int) -> int:
    """What `disk_advance` computes."""
    return two_levels(slots, disk).advance(steps, room)


def worth(steps: int, slots: int, disk: int, room: int) -> int:
    """What `disk_worth` computes."""
    return int(two_levels(slots, disk).is_worth(steps, room))
