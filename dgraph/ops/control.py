"""Region ops: `for`, `while`, `if`, `call`, and the index space `space`.

Each op states the layout of its operands, region inputs, region outputs and results; everything else that is known of
it (derivatives, passes, kernels, pictures) stands in one table per package.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import InvalidGraph
from dgraph.ir.graph import Region
from dgraph.ir.op import RegionOp, require
from dgraph.ir.places import Turn, space_turn
from dgraph.ops.index import neutral
from dgraph.sizes import Size
from dgraph.types import BOOL, I64, Accumulator, Array, Tape, ValueType

if TYPE_CHECKING:
    from dgraph.ir.evaluate import Interpreter
    from dgraph.ir.graph import Node

_NUMBER = Array(I64)


class Loop(RegionOp):
    """What `for` and `while` have in common: steps that hand on carries and write tapes.

    `slots`, `every` and `budget` are the user's `@checkpoint` wishes, `every=0` that all is kept; a size variable
    stands for a number that each call sets. They change what is stored, never the meaning.
    """

    carries: int
    tapes: int
    slots: Size | int | None
    every: Size | int | None
    budget: str | None
    disk: Size | int | str | None

    @property
    def has_wish(self) -> bool:
        """Whether the program says what is to be kept of the steps."""
        return any(wish is not None for wish in (self.slots, self.every, self.budget))

    @property
    def keeps_less(self) -> bool:
        """Whether the program asks that less is kept than every step."""
        return any((self.slots, self.every, self.budget))


@dataclass(frozen=True)
class For(Loop):
    """A counted loop.

    operands  count: i64, carries, walks, captures
    region    index: i64, carries, one slice or entry of each walk, captures  ->  carries, stacks, tapes
    results   final carries, stacked outputs (leading axis = count), tapes

    Step k of `count` sees index k and slice k of every walk, and writes entry k of every stack and tape; with
    `reverse` the steps run from the last to the first. A negative count means no step. `stacks` needs a count that is
    a size: the leading extent of the stacked outputs is `length`.
    """

    name: ClassVar[str] = "for"
    carries: int = 0
    walks: int = 0
    stacks: int = 0
    tapes: int = 0
    reverse: bool = False
    length: Size | None = None
    slots: Size | int | None = None
    every: Size | int | None = None
    budget: str | None = None
    disk: Size | int | str | None = None

    def leading_operands(self) -> int:
        """The count, the carries and the walks."""
        return 1 + self.carries + self.walks

    def leading_inputs(self, region: int) -> int:
        """The index, the carries and the slices."""
        return 1 + self.carries + self.walks

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Results from the body's outputs."""
        (body,) = regions
        require(len(types) >= self.leading_operands(), "for: too few operands")
        require(types[0] == _NUMBER, "for: the count is not an i64")
        require(body.inputs[0].type == _NUMBER, "for: the index is not an i64")
        require(len(body.outputs) == self.carries + self.stacks + self.tapes, "for: wrong number of outputs")
        carried = types[1 : 1 + self.carries]
        _require_equal("for: carry", carried, [value.type for value in body.inputs[1 : 1 + self.carries]])
        _require_equal("for: carry", carried, [value.type for value in body.outputs[: self.carries]])
        _require_captures(self, types, regions)
        require(self.stacks == 0 or self.length is not None, "for: stacked outputs need a length")
        stacked: list[ValueType] = []
        for value in body.outputs[self.carries : self.carries + self.stacks]:
            require(isinstance(value.type, Array), "for: only arrays are stacked")
            assert isinstance(value.type, Array) and self.length is not None
            stacked.append(Array(value.type.dtype, (self.length, *value.type.shape)))
        taped = [Tape(value.type) for value in body.outputs[self.carries + self.stacks :]]
        return (*carried, *stacked, *taped)

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """One step after another."""
        (body,) = node.regions
        count = max(int(operands[0]), 0)
        require(self.length is None or interpreter.size_of(self.length) == count, "for: the count is not its length")
        carried = list(operands[1 : 1 + self.carries])
        walked = operands[1 + self.carries : self.leading_operands()]
        captured = operands[self.leading_operands() :]
        rows: list[list[Any]] = [[None] * count for _ in range(self.stacks + self.tapes)]
        turn = Turn(node.span)
        for step in reversed(range(count)) if self.reverse else range(count):
            entries = [np.int64(step), *carried, *(walk[step] for walk in walked), *captured]
            outputs = interpreter.turn(body, entries, turn, step)
            carried = list(outputs[: self.carries])
            for row, output in zip(rows, outputs[self.carries :], strict=True):
                row[step] = output
        stacked = []
        for row, value in zip(rows, node.results[self.carries : self.carries + self.stacks], strict=False):
            assert isinstance(value.type, Array)
            array = interpreter.empty(value.type)
            for step, entry in enumerate(row):
                array[step] = entry
            stacked.append(array)
        return (*carried, *stacked, *rows[self.stacks :])


@dataclass(frozen=True)
class While(Loop):
    """A loop that runs while its condition holds.

    operands  carries, captures
    regions   condition: carries, captures -> bool;  body: carries, captures -> carries, tapes
    results   final carries, tapes, trips: i64

    `bound` is the user's hint that sizes a tape; it changes nothing else. With `implicit` the loop is differentiated as
    the fixed point of its body, not step by step; `tolerance` is the relative change in one more step up to which it
    counts as one.
    """

    name: ClassVar[str] = "while"
    carries: int = 0
    tapes: int = 0
    bound: int | None = None
    implicit: bool = False
    tolerance: float | None = None
    slots: Size | int | None = None
    every: Size | int | None = None
    budget: str | None = None
    disk: Size | int | str | None = None

    def leading_operands(self) -> int:
        """The carries."""
        return self.carries

    def leading_inputs(self, region: int) -> int:
        """The carries."""
        return self.carries

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Results from the body's outputs."""
        condition, body = regions
        carried = types[: self.carries]
        require([value.type for value in condition.outputs] == [Array(BOOL)], "while: the condition is not one bool")
        require(len(body.outputs) == self.carries + self.tapes, "while: wrong number of outputs")
        _require_equal("while: carry", carried, [value.type for value in body.outputs[: self.carries]])
        for region in regions:
            _require_equal("while: input", types, [value.type for value in region.inputs])
        return (*carried, *(Tape(value.type) for value in body.outputs[self.carries :]), _NUMBER)

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """One step after another while the condition holds."""
        condition, body = node.regions
        carried, captured = list(operands[: self.carries]), operands[self.carries :]
        rows: list[list[Any]] = [[] for _ in range(self.tapes)]
        trips = 0
        turn = Turn(node.span)
        while interpreter.turn(condition, [*carried, *captured], turn, trips)[0]:
            outputs = interpreter.turn(body, [*carried, *captured], turn, trips)
            carried = list(outputs[: self.carries])
            trips += 1
            for row, output in zip(rows, outputs[self.carries :], strict=True):
                row.append(output)
        return (*carried, *rows, np.int64(trips))


@dataclass(frozen=True)
class If(RegionOp):
    """A choice: only the taken side runs.

    operands  predicate: bool, captures
    regions   captures -> outputs, twice
    results   the outputs of the taken side
    """

    name: ClassVar[str] = "if"

    def leading_operands(self) -> int:
        """The predicate."""
        return 1

    def leading_inputs(self, region: int) -> int:
        """None."""
        return 0

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The common types of both sides."""
        then, otherwise = regions
        require(types[0] == Array(BOOL), "if: the predicate is not a bool")
        outputs = [value.type for value in then.outputs]
        _require_equal("if: output", outputs, [value.type for value in otherwise.outputs])
        _require_captures(self, types, regions)
        return tuple(outputs)

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """The taken side."""
        return interpreter.run(node.regions[0 if operands[0] else 1], operands[1:])


@dataclass(frozen=True)
class Call(RegionOp):
    """A function applied: all operands are captures. `function` is its name, a cluster in pictures."""

    name: ClassVar[str] = "call"
    function: str = ""

    def leading_operands(self) -> int:
        """None."""
        return 0

    def leading_inputs(self, region: int) -> int:
        """None."""
        return 0

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The outputs of the region."""
        _require_captures(self, types, regions)
        return tuple(value.type for value in regions[0].outputs)

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """The region."""
        return interpreter.run(node.regions[0], operands)


@dataclass(frozen=True)
class Space(RegionOp):
    """The index space: its points are independent.

    operands  accumulators, captures
    region    indices: i64 each, accumulators, own buffers, captures  ->  accumulators, own buffers, yields
    results   accumulators, own buffers as arrays, yields with the extents in front

    A point reads captured arrays anywhere and writes only through `accumulate` and its yields. Own buffers start at
    the neutral element of their kind and are closed by the op: a reduction is one node with a rank-0 buffer.
    """

    name: ClassVar[str] = "space"
    extents: tuple[Size, ...] = ()
    accumulators: int = 0
    buffers: tuple[Accumulator, ...] = ()

    def leading_operands(self) -> int:
        """The threaded accumulators."""
        return self.accumulators

    def leading_inputs(self, region: int) -> int:
        """The indices, the threaded accumulators and the own buffers."""
        return len(self.extents) + self.accumulators + len(self.buffers)

    @property
    def yields(self) -> slice:
        """Which outputs of the region are yields."""
        return slice(self.accumulators + len(self.buffers), None)

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Results from the body's outputs."""
        (body,) = regions
        rank, threads = len(self.extents), self.accumulators
        require(all(value.type == _NUMBER for value in body.inputs[:rank]), "space: an index is not an i64")
        require(all(isinstance(type_, Accumulator) for type_ in types[:threads]), "space: not an accumulator")
        written = [*types[:threads], *self.buffers]
        leading = rank + len(written)
        _require_equal("space: accumulator", written, [value.type for value in body.inputs[rank:leading]])
        _require_equal("space: accumulator", written, [value.type for value in body.outputs[: len(written)]])
        _require_captures(self, types, regions)
        yielded: list[ValueType] = []
        for value in body.outputs[self.yields]:
            require(isinstance(value.type, Array), "space: only arrays are yielded")
            assert isinstance(value.type, Array)
            yielded.append(Array(value.type.dtype, self.extents + value.type.shape))
        arrays = [Array(buffer.dtype, buffer.shape) for buffer in self.buffers]
        return (*types[:threads], *arrays, *yielded)

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """One point after another."""
        (body,) = node.regions
        captured = operands[self.accumulators :]
        written = list(operands[: self.accumulators])
        for buffer in self.buffers:
            shape = tuple(map(interpreter.size_of, buffer.shape))
            written.append(np.full(shape, neutral(buffer), buffer.dtype.numpy))
        yields = [interpreter.empty(v.type) for v in node.results[len(written) :] if isinstance(v.type, Array)]
        turn = space_turn([value.name for value in body.inputs[: len(self.extents)]], node.span)
        for point in itertools.product(*(range(interpreter.size_of(extent)) for extent in self.extents)):
            outputs = interpreter.turn(body, [*map(np.int64, point), *written, *captured], turn, *point)
            written = list(outputs[: len(written)])
            for array, output in zip(yields, outputs[len(written) :], strict=True):
                array[point] = output
        own = [buffer if buffer.shape else buffer[()] for buffer in written[self.accumulators :]]
        return (*written[: self.accumulators], *own, *(array if array.shape else array[()] for array in yields))


def _require_equal(what: str, expected: Sequence[ValueType], found: Sequence[ValueType]) -> None:
    require(len(expected) == len(found), f"{what}: {len(found)} where {len(expected)} belong")
    for at, (one, other) in enumerate(zip(expected, found, strict=True)):
        if one != other:
            raise InvalidGraph(f"{what} {at}: {other} where {one} belongs")


def _require_captures(op: RegionOp, types: Sequence[ValueType], regions: Sequence[Region]) -> None:
    captured = types[op.leading_operands() :]
    for at, region in enumerate(regions):
        inputs = [value.type for value in region.inputs[op.leading_inputs(at) :]]
        _require_equal(f"{op.name}: capture", captured, inputs)
