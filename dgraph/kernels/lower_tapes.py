"""Lowering of tapes: where the entries that a loop writes lie, and what a loop that walks them reads.

A loop of a known number of steps reserves the memory of its tapes beforehand, any other whenever it runs out. A tape
whose length never exceeds a size, and that is only walked, is a stack in the arena.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dgraph.classes import dataclass
from dgraph.ir.graph import Node, Region, Value
from dgraph.kernels.bind import LARGEST_BLOCK
from dgraph.kernels.lowering import compare, entry_bytes
from dgraph.kernels.nests import (
    Apply,
    Buffer,
    Expression,
    Extent,
    If,
    Let,
    Load,
    Local,
    PointTape,
    Store,
    TapeReserve,
    TapeSetTop,
    TapeTop,
    machine_type,
    number,
)
from dgraph.kernels.notices import Check
from dgraph.kernels.scope import Binding, Scope, TapeValue
from dgraph.kernels.views import View, as_static, row_major, times
from dgraph.sizes import Size, product, size
from dgraph.types import Array, Tape, ValueType

if TYPE_CHECKING:
    from dgraph.kernels.lower import GraphLowering

FEWEST_STEPS = 16
"""A loop whose steps are not counted beforehand first makes room for so many."""


@dataclass
class TapeWriter:
    """A tape being written: its row, the byte where it starts, and a pointer to it."""

    row: int
    start: Local
    buffer: Buffer
    entry: ValueType

    def at(self, step: Expression) -> View:
        """The place of an entry."""
        return entry_view(self.buffer, self.entry, step)


def tape_buffer(name: str, entry: ValueType) -> Buffer:
    """A pointer to entries of a tape."""
    if isinstance(entry, Tape):
        return Buffer(name or "tape", "i64", size(0), "pointer")
    return Buffer(name or "tape", machine_type(entry.dtype), size(0), "pointer")


def entry_view(buffer: Buffer, entry: ValueType, step: Expression) -> View:
    """Entry `step` of a tape as an array; the entry of a tape of tapes is its row and start."""
    shape = (size(2),) if isinstance(entry, Tape) else entry.shape
    return View(buffer, times(step, Extent(product(shape))), shape, row_major(shape))


def open_tapes(
    lowering: GraphLowering, node: Node, results: Sequence[Value], steps: Size | None = None
) -> list[TapeWriter]:
    """A writer for each result that is a tape; it starts where its row is in use up to."""
    writers = []
    for result in results:
        assert isinstance(result.type, Tape)
        row = lowering.new_row(entry_bytes(result.type.entry), node, steps)
        start = lowering.let("start", TapeTop(number(row)))
        writers.append(TapeWriter(row, start, tape_buffer(result.name, result.type.entry), result.type.entry))
    return writers


def _bytes(writer: TapeWriter, steps: Expression) -> Expression:
    """Bytes of a tape of so many entries."""
    return times(steps, Extent(entry_bytes(writer.entry)))


def reserve(lowering: GraphLowering, writer: TapeWriter, steps: Expression) -> None:
    """Memory for so many steps, and the pointer to where it lies now."""
    lowering.emit(TapeReserve(number(writer.row), writer.start, _bytes(writer, steps)))
    lowering.emit(PointTape(writer.buffer, number(writer.row), writer.start))


def make_room(lowering: GraphLowering, writers: Sequence[TapeWriter], trips: Local, room: Local) -> None:
    """Where the steps that there is room for are all done, make room for as many again: memory that is not written yet
    costs nothing."""
    with lowering.block() as grown:
        twice = Apply("maximum", "i64", (times(room, number(2)), number(FEWEST_STEPS)))
        lowering.emit(Let(room, twice))
        for writer in writers:
            reserve(lowering, writer, room)
    lowering.emit(If(compare("equal", trips, room), tuple(grown)))


def bound_tape(lowering: GraphLowering, node: Node, writer: TapeWriter, steps: Expression) -> None:
    """The bytes of a tape of so many steps must not wrap round."""
    entry = entry_bytes(writer.entry)
    static = as_static(steps)
    if static is not None:
        lowering.blocks.append(entry * static)
        return
    lowering.blocks.append(entry)
    most = Extent(size(LARGEST_BLOCK) // (entry + 1))
    title = "a loop of {0} steps has no memory for what its derivative needs"
    check = Check(title, ("",), ("i64",), node.span, "this loop", True)
    lowering.fail_unless(compare("less_equal", steps, most), check, [steps])


def write_entries(
    lowering: GraphLowering, writers: Sequence[TapeWriter], step: Expression, entries: Sequence[Binding]
) -> None:
    """Put the entries of a step in their places."""
    for writer, value in zip(writers, entries, strict=True):
        place = writer.at(step)
        if isinstance(value, TapeValue):
            for position, part in enumerate((value.row, value.start)):
                lowering.emit(Store(place.buffer, place.index([number(position)]), part))
        else:
            lowering.put(place, value)


def close_tapes(
    lowering: GraphLowering,
    scope: Scope,
    results: Sequence[Value],
    writers: Sequence[TapeWriter],
    steps: Expression,
    entries: Sequence[Binding],
) -> None:
    """Say how much of their rows is in use, and bind the results."""
    for result, writer, value in zip(results, writers, entries, strict=True):
        lowering.emit(TapeSetTop(number(writer.row), writer.start, _bytes(writer, steps)))
        inner = value.rows if isinstance(value, TapeValue) else frozenset()
        scope.bindings[result] = TapeValue(number(writer.row), writer.start, inner | {writer.row})


def tape_targets(writers: Sequence[TapeWriter], step: Expression) -> list[View | None]:
    """Where the body should make the arrays that are entries of a step."""
    return [writer.at(step) if isinstance(writer.entry, Array) and writer.entry.rank else None for writer in writers]


def walked_entry(
    lowering: GraphLowering, source: Binding, buffer: Buffer | None, type_: ValueType, step: Local
) -> Binding:
    """What a loop sees of a walked value at a step."""
    if isinstance(source, View):
        place = source.at([step])
    else:
        assert isinstance(source, TapeValue) and buffer is not None and isinstance(type_, Tape)
        place = entry_view(buffer, type_.entry, step)
        if isinstance(type_.entry, Tape):
            row, start = (
                lowering.let(name, Load(place.buffer, place.index([number(position)])))
                for position, name in enumerate(("row", "start"))
            )
            inner = {number(each) for each in source.rows} - {source.row}
            is_known = isinstance(source.row, Extent) and len(inner) == 1
            return TapeValue(inner.pop() if is_known else row, start, source.rows)
    if place.shape:
        return place
    return lowering.literals.get(place.buffer) or lowering.let(place.buffer.name, Load(place.buffer, place.offset))


def outputs_of(scope: Scope, node: Node, most: Size | None) -> tuple[Region, list[Value], list[Value]]:
    """The body of a loop with its outputs in the order carries, stacks, tapes; the results that are stacks, and those
    that are tapes. A tape that other loops only walk is a stack if there is a size that its length never exceeds."""
    op: Any = node.op
    (body,) = node.regions
    places = range(op.carries, len(node.results))
    flat = [at for at in places if at < op.carries + op.stacks or _lies_flat(scope, node.results[at], most)]
    rest = [at for at in places if at not in flat]
    order = [*range(op.carries), *flat, *rest]
    ordered = Region(body.inputs, body.nodes, tuple(body.outputs[at] for at in order))
    return ordered if rest else body, [node.results[at] for at in flat], [node.results[at] for at in rest]


def _lies_flat(scope: Scope, tape: Value, most: Size | None) -> bool:
    type_ = tape.type
    if most is None or not isinstance(type_, Tape) or not isinstance(type_.entry, Array):
        return False
    if tape in scope.region.outputs:
        return False
    for user in scope.region.users.get(tape, ()):
        op: Any = user.op
        if user.op.name != "for" or tape in (*user.operands[: 1 + op.carries], *user.operands[op.leading_operands() :]):
            return False
    return True


def stack_of(lowering: GraphLowering, scope: Scope, value: Value, most: Size | None) -> View:
    """Memory for a stack, or for a tape as one."""
    if isinstance(value.type, Array):
        return lowering.allocate(scope, value)
    assert isinstance(value.type, Tape) and isinstance(value.type.entry, Array) and most is not None
    entry = value.type.entry
    return lowering.temporary(value.name or "tape", Array(entry.dtype, (most, *entry.shape)))


def read_tape(lowering: GraphLowering, source: Binding, type_: ValueType, name: str) -> Buffer | None:
    """A pointer to a tape that is to be walked."""
    if not isinstance(source, TapeValue):
        return None
    assert isinstance(type_, Tape)
    buffer = tape_buffer(name, type_.entry)
    lowering.emit(PointTape(buffer, source.row, source.start))
    return buffer
