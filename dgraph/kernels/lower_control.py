"""Lowering of loops and choices.

Carried scalars are locals that each turn gives new values. A carried array has two blocks of memory, one being read
and one being written, exchanged after each turn (a small one is copied, to become locals: `registers`); where a turn
only changes entries in place there is one. A large array that a loop keeps as it is at the start of each turn is made
where it will be kept: a turn makes the next one in the next row, and nothing is left to copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dgraph.classes import dataclass
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.places import Turn
from dgraph.kernels.lower_tapes import (
    bound_tape,
    close_tapes,
    make_room,
    open_tapes,
    outputs_of,
    read_tape,
    reserve,
    stack_of,
    tape_targets,
    walked_entry,
    write_entries,
)
from dgraph.kernels.lowering import compare, describe
from dgraph.kernels.nest_parts import parts, walk, written_buffers
from dgraph.kernels.nests import (
    Apply,
    Buffer,
    Copy,
    Expression,
    Extent,
    If,
    Let,
    Local,
    Loop,
    Point,
    Statement,
    Swap,
    While,
    machine_type,
    number,
)
from dgraph.kernels.registers import is_small
from dgraph.kernels.scope import Binding, Scope, TapeValue
from dgraph.kernels.views import View, as_static, plus, whole
from dgraph.ops.index import SetAt
from dgraph.sizes import size
from dgraph.types import Accumulator, Array

if TYPE_CHECKING:
    from dgraph.kernels.lower import GraphLowering


LARGE = 512
"""So many entries have to be copied before it pays to make an array where it is kept."""


# ---- carries ---------------------------------------------------------------------------------------------------------


@dataclass
class Carry:
    """One carried value: what the body reads, and where it should put the next one."""

    binding: Binding
    current: Buffer | None = None
    coming: Buffer | None = None
    first: View | None = None
    second: Buffer | None = None

    @property
    def target(self) -> View | None:
        """Where the body should make the next array."""
        if self.coming is None:
            return None
        assert isinstance(self.binding, View)
        return whole(self.coming, self.binding.shape)


def _open_carries(
    lowering: GraphLowering, scope: Scope, node: Node, starts: Sequence[Value], results: Sequence[Value]
) -> list[Carry]:
    carries = []
    for start, result in zip(starts, results, strict=True):
        binding = scope.bindings[start]
        name = result.name or start.name
        if isinstance(start.type, Accumulator):
            carries.append(Carry(binding))
        elif isinstance(binding, TapeValue):
            row, at = lowering.let(name, binding.row), lowering.let(name, binding.start)
            carries.append(Carry(TapeValue(row, at, binding.rows)))
        elif isinstance(binding, View):
            carries.append(_open_array(lowering, scope, node, binding, result, name))
        else:
            carries.append(Carry(lowering.let(name, binding)))
    return carries


def _open_array(lowering: GraphLowering, scope: Scope, node: Node, binding: View, result: Value, name: str) -> Carry:
    """A carried array starts in its own memory: that of its first value, if nothing else reads it."""
    type_ = result.type
    assert isinstance(type_, Array)
    if is_small(binding.entries):
        current, coming = lowering.buffer(name, type_), lowering.buffer(f"next_{name}" if name else "next", type_)
        lowering.copy(whole(current, type_.shape), binding)
        return Carry(whole(current, type_.shape), current, coming)
    readers = [scope.bindings[operand] for operand in node.operands]
    is_alone = sum(isinstance(reader, View) and reader.buffer is binding.buffer for reader in readers) == 1
    if is_alone and binding.is_compact and scope.is_free(binding.buffer) and binding.buffer not in lowering.literals:
        first = binding
    else:
        reason = lowering.why_not_in_place(scope, binding)
        target = scope.targets.get(result)
        first = target if target is not None and target.is_compact else lowering.temporary(name, type_)
        lowering.copy(first, binding, reason, node.span)
    current = lowering.buffer(name, type_, "pointer")
    coming = lowering.buffer(f"next_{name}" if name else "next", type_, "pointer")
    lowering.emit(Point(current, first.buffer, first.offset))
    return Carry(whole(current, type_.shape), current, coming, first)


def _kept_starts(node: Node, body: Region) -> dict[int, int]:
    """The carries that a loop keeps as they are at the start of each turn, and replaces: by their places, with those
    among what is kept."""
    op: Any = node.op
    kept = {value: at for at, value in enumerate(body.outputs[op.carries :])}
    pairs = enumerate(zip(body.inputs[1 : 1 + op.carries], body.outputs, strict=False))
    return {at: kept[value] for at, (value, output) in pairs if value in kept and output is not value}


def _make_in_row(lowering: GraphLowering, carry: Carry, row: View, is_there: Expression) -> None:
    """Let a turn make the next value of a carry in a row, if it is large and the row is there; else in the second of
    its blocks. Rows of small arrays come late from memory: waiting for them takes longer than copying."""
    if carry.coming is None or carry.first is None or not row.is_compact:
        return
    if carry.second is None:
        carry.second = Buffer(carry.coming.name, carry.coming.type, carry.coming.entries, span=carry.coming.span)
    pointed = If(is_there, (Point(carry.coming, row.buffer, row.offset),), (Point(carry.coming, carry.second),))
    entries = carry.coming.entries
    if entries.constant is None:
        lowering.emit(If(compare("less_equal", number(LARGE), Extent(entries)), (pointed,)))
    elif entries.constant >= LARGE:
        lowering.emit(pointed)


def _close_turn(
    lowering: GraphLowering, carries: Sequence[Carry], outputs: Sequence[Binding], node: Node
) -> list[Statement]:
    """Give the carries their next values. Returns the exchanges of memory, to be done last."""
    exchanges: list[Statement] = []
    for carry, output in zip(carries, outputs, strict=True):
        if carry.coming is None or output == carry.binding:
            continue
        assert isinstance(output, View)
        target = carry.target
        assert target is not None and carry.current is not None
        lowering.copy(target, output, "the next value of what is carried lies elsewhere", node.span)
        if carry.first is None:
            count = Extent(carry.coming.entries)
            exchanges.append(Copy(carry.current, number(0), carry.coming, number(0), count))
        else:
            exchanges.append(Swap(carry.current, carry.coming))
    _assign(lowering, *_scalar_pairs(carries, outputs))
    return exchanges


def _scalar_pairs(carries: Sequence[Carry], outputs: Sequence[Binding]) -> tuple[list[Local], list[Expression]]:
    """The locals of carried scalars and tapes with their next values."""
    locals_: list[Local] = []
    values: list[Expression] = []
    for carry, output in zip(carries, outputs, strict=True):
        if isinstance(carry.binding, TapeValue) and isinstance(output, TapeValue):
            assert isinstance(carry.binding.row, Local) and isinstance(carry.binding.start, Local)
            locals_ += [carry.binding.row, carry.binding.start]
            values += [output.row, output.start]
        elif isinstance(carry.binding, Local) and not isinstance(output, View | TapeValue):
            locals_.append(carry.binding)
            values.append(output)
    return locals_, values


def _assign(lowering: GraphLowering, locals_: list[Local], values: list[Expression]) -> None:
    """All at once: values that mention another local of the list are taken before any changes."""
    changing = {local for local, value in zip(locals_, values, strict=True) if local is not value}
    ready = []
    for local, value in zip(locals_, values, strict=True):
        mentioned = {part for part in parts(value) if isinstance(part, Local)}
        ready.append(lowering.let(local.name, value) if mentioned & (changing - {local}) else value)
    for local, value in zip(locals_, ready, strict=True):
        if local is not value:
            lowering.emit(Let(local, value))


def _finish_carries(
    scope: Scope,
    results: Sequence[Value],
    carries: Sequence[Carry],
    body: Sequence[Statement],
    before: list[Statement],
) -> None:
    """Bind the results; give memory to the second blocks that the body writes."""
    written = {buffer for statement in body for buffer in _written(statement)}
    for result, carry in zip(results, carries, strict=True):
        binding = carry.binding
        if carry.current is not None and carry.coming is not None and carry.first is not None:
            if carry.coming in written:
                coming = carry.coming
                second = carry.second or Buffer(coming.name, coming.type, coming.entries, span=coming.span)
                before.append(Point(carry.coming, second))
            else:
                binding = carry.first
        if isinstance(binding, View):
            scope.owned.add(binding.buffer)
        scope.bindings[result] = binding


def _written(statement: Statement) -> list[Buffer]:
    return [buffer for inner in walk((statement,)) for buffer in written_buffers(inner)]


# ---- for -------------------------------------------------------------------------------------------------------------


def _for(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    carried, walked = node.operands[1 : 1 + op.carries], node.operands[1 + op.carries : op.leading_operands()]
    captured = [scope.bindings[value] for value in node.operands[op.leading_operands() :]]
    final = node.results[: op.carries]
    count = scope.expression(node.operands[0])
    fixed = most = as_static(count)
    if fixed is not None and fixed.is_nonnegative():
        count = Extent(fixed)
    else:
        most = lowering.at_most(count)
        count = lowering.let("count", Apply("maximum", "i64", (count, number(0))))
    carries = _open_carries(lowering, scope, node, carried, final)
    most = most if most is not None and most.is_nonnegative() else None
    body, stacked, taped = outputs_of(scope, node, most)
    stacks = [stack_of(lowering, scope, value, most) for value in stacked]
    writers = open_tapes(lowering, node, taped, most)
    # A tape whose length differs from time to time is given its greatest length at once, if that is known.
    reserved = count if most is None else Extent(most)
    for writer in writers:
        bound_tape(lowering, node, writer, reserved)
        reserve(lowering, writer, reserved)
    readers = [read_tape(lowering, scope.bindings[value], value.type, value.name) for value in walked]
    step = Local(body.inputs[0].name or "i", "i64")
    extent = op.length if op.length is not None else count.size if isinstance(count, Extent) else None
    if extent is not None:
        lowering.bounds[step] = (size(0), extent - 1)
    places = [view.at([step]) for view in stacks]
    targets = [
        *(carry.target for carry in carries),
        *(place if place.shape else None for place in places),
        *tape_targets(writers, step),
    ]
    inside = frozenset(carry.current for carry in carries if carry.current is not None)
    after = plus(step, number(1))
    in_space = any(turn.is_space for turn, _ in lowering.turns)
    with lowering.block() as statements, lowering.turn() as leaving:
        for at, kept in _kept_starts(node, body).items() if not (op.reverse or in_space) else ():
            rows = stacks[kept].at([after]) if kept < len(stacks) else writers[kept - len(stacks)].at(after)
            _make_in_row(lowering, carries[at], rows, compare("less", after, count))
        slices = [
            walked_entry(lowering, scope.bindings[value], reader, value.type, step)
            for value, reader in zip(walked, readers, strict=True)
        ]
        inputs = [step, *(carry.binding for carry in carries), *slices, *captured]
        with lowering.inside(Turn(node.span), step):
            outputs = lowering.region(body, inputs, targets, inside)
        leaving.extend(outputs)
        for place, value in zip(places, outputs[op.carries :], strict=False):
            lowering.put(place, value)
        entries = outputs[op.carries + len(stacks) :]
        write_entries(lowering, writers, step, entries)
        exchanges = _close_turn(lowering, carries, outputs[: op.carries], node)
    statements.extend(exchanges)
    _finish_carries(scope, final, carries, statements, lowering.out)
    kind = "reverse" if op.reverse else "sequential"
    lowering.emit(Loop(step, count, tuple(statements), kind, number(0), describe(node), node.span))
    scope.bindings.update(zip(stacked, stacks, strict=True))
    close_tapes(lowering, scope, taped, writers, count, entries)


# ---- while -----------------------------------------------------------------------------------------------------------


def _while(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    op: Any = node.op
    condition, body = node.regions
    captured = [scope.bindings[value] for value in node.operands[op.carries :]]
    final, taped = node.results[: op.carries], node.results[op.carries : op.carries + op.tapes]
    carries = _open_carries(lowering, scope, node, node.operands[: op.carries], final)
    writers = open_tapes(lowering, node, taped)
    foretold = number(op.bound or 0)
    for writer in writers if op.bound else ():
        bound_tape(lowering, node, writer, foretold)
        reserve(lowering, writer, foretold)
    trips = lowering.let(node.results[-1].name or "trips", number(0))
    room = lowering.let("room", foretold) if writers else trips
    inputs = [*(carry.binding for carry in carries), *captured]
    inside = frozenset(carry.current for carry in carries if carry.current is not None)
    turn = Turn(node.span)
    with lowering.block() as test, lowering.turn(), lowering.inside(turn, trips):
        (holds,) = lowering.region(condition, inputs)
    assert not isinstance(holds, View | TapeValue)
    with lowering.block() as statements, lowering.turn() as leaving:
        if writers:
            make_room(lowering, writers, trips, room)
        targets = [*(carry.target for carry in carries), *tape_targets(writers, trips)]
        with lowering.inside(turn, trips):
            outputs = lowering.region(body, inputs, targets, inside)
        leaving.extend(outputs)
        write_entries(lowering, writers, trips, outputs[op.carries :])
        exchanges = _close_turn(lowering, carries, outputs[: op.carries], node)
        lowering.emit(Let(trips, plus(trips, number(1))))
    statements.extend(exchanges)
    _finish_carries(scope, final, carries, statements, lowering.out)
    lowering.emit(While(tuple(test), holds, tuple(statements)))
    scope.bindings[node.results[-1]] = trips
    close_tapes(lowering, scope, taped, writers, trips, outputs[op.carries :])


# ---- if --------------------------------------------------------------------------------------------------------------


def _if(lowering: GraphLowering, scope: Scope, node: Node) -> None:
    """A real branch. An array result lies in new memory, except where a side passes on an array that nothing else
    reads any more, or both update it: then both sides leave it there."""
    captured = [scope.bindings[value] for value in node.operands[1:]]
    owned = scope.free_buffers(node)
    results = node.results
    homes: list[tuple[View | None, bool]] = []
    for position in range(len(results)):
        taken = {home.buffer for home, _ in homes if home is not None}
        homes.append(_home(lowering, scope, node, position, owned - taken))
    blocks: list[list[Statement]] = []
    found: list[list[Binding]] = []
    for region in node.regions:
        with lowering.block() as statements:
            targets = [home if is_new else None for home, is_new in homes]
            found.append(lowering.region(region, captured, targets, owned))
        blocks.append(statements)
    joined: list[Binding] = []
    for position, result in enumerate(results):
        sides = [outputs[position] for outputs in found]
        joined.append(_join(result, sides, homes[position][0]))
    for statements, outputs in zip(blocks, found, strict=True):
        with lowering.block() as closing:
            _settle(lowering, [home for home, _ in homes], outputs, joined)
        statements.extend(closing)
    condition = scope.expression(node.operands[0])
    lowering.emit(If(condition, tuple(blocks[0]), tuple(blocks[1])))
    for result, binding in zip(results, joined, strict=True):
        scope.bindings[result] = binding
        if isinstance(binding, View):
            scope.owned.add(binding.buffer)


def _home(
    lowering: GraphLowering, scope: Scope, node: Node, position: int, owned: frozenset[Buffer]
) -> tuple[View | None, bool]:
    """Where an array result lies, and whether that is new memory."""
    result = node.results[position]
    if not isinstance(result.type, Array) or not result.type.rank:
        return None, False
    passed = [region.outputs[position] for region in node.regions]
    changed = [_changed(region, output) for region, output in zip(node.regions, passed, strict=True)]
    captured = {value: at for region in node.regions for at, value in enumerate(region.inputs)}
    is_one = len({captured.get(value, -1) for value in changed}) == 1
    for output in changed if is_one else passed:
        if output in captured:
            binding = scope.bindings[node.operands[1 + captured[output]]]
            if isinstance(binding, View) and binding.buffer in owned and binding.is_compact:
                return binding, False
    return lowering.allocate(scope, result), True


def _is_part(value: Value) -> bool:
    return isinstance(value.type, Array) and bool(value.type.rank)


def _changed(region: Region, output: Value) -> Value:
    """The array of which an output is what updates in place leave."""
    while (maker := region.producers.get(output)) is not None and isinstance(maker.op, SetAt):
        array = maker.operands[0]
        readers = [node for node in region.nodes if array in node.operands]
        # A part of the array that goes out as well is read after the update.
        kept = any(_is_part(result) and result in region.outputs for node in readers[:-1] for result in node.results)
        if readers[-1] is not maker or array in region.outputs or kept:
            break
        output = array
    return output


def _join(result: Value, sides: Sequence[Binding], home: View | None) -> Binding:
    """What the result is after the branch."""
    if home is not None:
        return home
    first, second = sides
    if isinstance(result.type, Accumulator):
        return first
    if isinstance(first, TapeValue) and isinstance(second, TapeValue):
        if first == second:
            return first
        return TapeValue(Local("row", "i64"), Local("start", "i64"), first.rows | second.rows)
    if first == second and not isinstance(first, Local):
        return first
    assert isinstance(result.type, Array)
    return Local(result.name or "chosen", machine_type(result.type.dtype))


def _settle(
    lowering: GraphLowering, homes: Sequence[View | None], outputs: Sequence[Binding], joined: Sequence[Binding]
) -> None:
    """End of a side: its outputs go where the results are."""
    taken = [home.buffer for home in homes if home is not None]
    arrays: list[tuple[View, View]] = []
    for home, output in zip(homes, outputs, strict=True):
        if home is not None and isinstance(output, View) and output != home:
            arrays.append((home, output))
    if any(output.buffer in taken for _, output in arrays):
        # Arrays that change places, or parts of them: all are read before one is written.
        apart = []
        for home, output in arrays:
            between = whole(Buffer("between", output.buffer.type, output.entries), output.shape)
            lowering.copy(between, output)
            apart.append((home, between))
        arrays = apart
    for home, output in arrays:
        lowering.copy(home, output)
    locals_: list[Local] = []
    values: list[Expression] = []
    for binding, output in zip(joined, outputs, strict=True):
        if isinstance(binding, TapeValue) and isinstance(output, TapeValue) and binding != output:
            assert isinstance(binding.row, Local) and isinstance(binding.start, Local)
            locals_ += [binding.row, binding.start]
            values += [output.row, output.start]
        elif isinstance(binding, Local) and not isinstance(output, View | TapeValue):
            locals_.append(binding)
            values.append(output)
    _assign(lowering, locals_, values)


RULES = {"for": _for, "while": _while, "if": _if}
