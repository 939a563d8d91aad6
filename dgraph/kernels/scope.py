"""What lowering knows while it walks a region: where every value lives, and which memory may be written over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dgraph.classes import dataclass
from dgraph.ir.graph import Node, Region, Value
from dgraph.kernels.nests import Buffer, Expression
from dgraph.kernels.views import ZERO, View
from dgraph.ops.control import For, Space
from dgraph.ops.index import Accumulate, Freeze, Index, SetAt, is_start
from dgraph.ops.shape import Concat, Reshape, Transpose
from dgraph.sizes import size
from dgraph.types import Accumulator, Array


@dataclass(frozen=True)
class TapeValue:
    """A tape at run time: a row of tape memory and the byte where the tape starts. `rows` are all rows that it or the
    tapes in it may lie on."""

    row: Expression
    start: Expression
    rows: frozenset[int]


NO_TAPE = TapeValue(ZERO, ZERO, frozenset())
"""A tape that nothing was written to."""

Binding = Expression | View | TapeValue
"""Where a value lives: scalars and rank-0 accumulators are expressions, arrays and accumulators views."""


class Scope:
    """One region being lowered."""

    def __init__(self, region: Region, inputs: Sequence[Binding], owned: frozenset[Buffer]) -> None:
        self.region = region
        self.bindings: dict[Value, Binding] = dict(zip(region.inputs, inputs, strict=True))
        self.owned: set[Buffer] = set(owned)
        self.targets: dict[Value, View] = {}
        self.position = 0
        self.last_use: dict[Value, int] = {}
        for position, node in enumerate(region.nodes):
            self.last_use.update(dict.fromkeys(node.operands, position))
        self.last_use.update(dict.fromkeys(region.outputs, len(region.nodes)))

    def expression(self, value: Value) -> Expression:
        """The scalar that a value is."""
        found = self.bindings[value]
        assert not isinstance(found, View | TapeValue)
        return found

    def view(self, value: Value) -> View:
        """Where an array lies."""
        found = self.bindings[value]
        assert isinstance(found, View)
        return found

    def tape(self, value: Value) -> TapeValue:
        """Where a tape lies."""
        found = self.bindings[value]
        assert isinstance(found, TapeValue)
        return found

    def is_free(self, buffer: Buffer) -> bool:
        """Whether nothing reads a buffer after the current node, so that the node may write over it."""
        if buffer not in self.owned:
            return False
        return all(
            self.last_use.get(value, -1) <= self.position
            for value, binding in self.bindings.items()
            if isinstance(binding, View) and binding.buffer is buffer
        )

    def free_buffers(self, node: Node) -> frozenset[Buffer]:
        """The buffers read by a node that nothing reads after it."""
        read = {self.bindings[operand] for operand in node.operands}
        return frozenset(view.buffer for view in read if isinstance(view, View) and self.is_free(view.buffer))

    def set_targets(self, targets: Sequence[View | None]) -> None:
        """Ask that outputs be made in given memory. A wish for an accumulator goes back to where it is opened."""
        for value, target in zip(self.region.outputs, targets, strict=True):
            if target is not None and value not in self.targets and value not in self.region.inputs:
                self._wish(value, target)

    def _wish(self, value: Value, target: View) -> None:
        while value in self.region.producers and value not in self.targets:
            self.targets[value] = target
            node = self.region.producers[value]
            earlier = _opened_by(node, value)
            if is_start(node, self.region.producers.get(node.operands[0]) if node.operands else None):
                array = node.operands[1]
                earlier = array if self._is_last_use(node, array) else None
            if earlier is None and isinstance(node.op, SetAt) and self._is_last_use(node, node.operands[0]):
                earlier = node.operands[0]
            if isinstance(node.op, Concat | Reshape | Transpose):
                self._wish_parts(node, target)
            if earlier is None and isinstance(node.op, Space):
                earlier = next((found for found in _replaced(node, value) if self._is_last_use(node, found)), None)
            if earlier is None:
                return
            value = earlier

    def _wish_parts(self, node: Node, target: View) -> None:
        """Ask that what is only moved to its place by a node be made there."""
        for operand, part in zip(node.operands, parts_of(node, target), strict=True):
            maker = self.region.producers.get(operand)
            if part is None or maker is None or self.region.users[operand] != (node,) or operand in self.region.outputs:
                continue
            if isinstance(maker.op, Space | Concat | Reshape | Transpose) and node.operands.count(operand) == 1:
                self._wish(operand, part)

    def _is_last_use(self, node: Node, value: Value) -> bool:
        """Whether a node reads a value once, and all that others take of it before are numbers."""
        *before, last = self.region.users[value]
        takes_numbers = all(isinstance(user.op, Index) and not _is_array(user.result) for user in before)
        is_last = last is node and value not in self.region.outputs
        return is_last and takes_numbers and node.operands.count(value) == 1


def parts_of(node: Node, target: View) -> list[View | None]:
    """Where the operands of a node lie if its result lies in a target."""
    shapes = [operand.type.shape if isinstance(operand.type, Array) else () for operand in node.operands]
    if isinstance(node.op, Transpose):
        return [target.transposed([node.op.axes.index(axis) for axis in range(len(shapes[0]))])]
    if isinstance(node.op, Reshape):
        return [target.reshaped(shapes[0]) if shapes[0] else None]
    assert isinstance(node.op, Concat)
    found: list[View | None] = []
    offset = size(0)
    for shape in shapes:
        starts = tuple(offset if axis == node.op.axis else size(0) for axis in range(len(shape)))
        found.append(target.sliced(starts, (1,) * len(shape), shape))
        offset = offset + shape[node.op.axis]
    return found


def _is_array(value: Value) -> bool:
    return isinstance(value.type, Array) and bool(value.type.shape)


def _replaced(space: Node, result: Value) -> Iterator[Value]:
    """The arrays like a yield of a space that each point reads only where it will write its entry."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    if result not in space.results[op.yields]:
        # A buffer is cleared before the first point.
        return
    indices = body.inputs[: len(op.extents)]
    captured = zip(space.operands[op.accumulators :], body.inputs[op.leading_inputs(0) :], strict=True)
    for array, value in captured:
        users = body.users.get(value, ())
        reads_here = all(isinstance(user.op, Index) and user.operands[1:] == indices for user in users)
        is_number = isinstance(array.type, Array) and array.type.rank == len(indices)
        if array.type == result.type and is_number and reads_here and value not in body.outputs:
            yield array


def _opened_by(node: Node, result: Value) -> Value | None:
    """The operand whose memory a result of a node continues, for accumulators and what is frozen of them."""
    at = node.results.index(result)
    match node.op:
        case Freeze() | Accumulate():
            return node.operands[0]
        case Space(accumulators=threads) if at < threads:
            return node.operands[at]
        case For() if isinstance(result.type, Accumulator):
            return node.operands[1 + at]
    return None
