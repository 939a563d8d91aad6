"""Small arrays in loops live in registers: a local for each entry, and no loop over the entries.

A vector of three numbers that a loop carries costs more as memory than as three numbers: each step would store what the
next one loads, and a nest of three turns is not a nest worth having. Loops over few entries of such arrays are written
out, and arrays that are then only read and written at fixed places become locals. The order of every sum stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dgraph.kernels.borders import decided
from dgraph.kernels.nest_parts import (
    blocks_of,
    expressions_of,
    parts,
    read_buffers,
    read_first,
    set_locals,
    walk,
    written_buffers,
)
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Copy,
    Expression,
    Fill,
    If,
    Let,
    Literal,
    Load,
    Local,
    Loop,
    Program,
    Statement,
    Store,
    Update,
    While,
    number,
)
from dgraph.kernels.rewrite_nests import change_expressions, rename
from dgraph.kernels.views import as_static, plus
from dgraph.sizes import Size

MOST = 16
"""How many entries an array in registers has at most."""
LONGEST = 200
"""How many statements the turns of a loop that is written out have at most."""

Homes = dict[Local, tuple[Local, ...]]

_COMPARISONS = {
    "less": lambda one, other: one < other,
    "less_equal": lambda one, other: one <= other,
    "greater": lambda one, other: one > other,
    "greater_equal": lambda one, other: one >= other,
    "equal": lambda one, other: one == other,
    "not_equal": lambda one, other: one != other,
}


def is_small(entries: Size) -> bool:
    """Whether an array of so many entries may live in registers."""
    return entries.constant is not None and 0 < entries.constant <= MOST


def in_registers(program: Program) -> Program:
    """The program with small arrays of loops as locals."""
    small = _small_in_loops(program.body)
    if not small:
        return program
    body = _written_out(program.body, small, _homes(program.body, (), {}))
    kept = _elsewhere(body, small)
    places = {buffer: [Local(buffer.name, buffer.type) for _ in range(_length(buffer))] for buffer in small - kept}
    return replace(program, body=_with_starts(_as_locals(body, places), places))


def _with_starts(body: Block, places: dict[Buffer, list[Local]]) -> Block:
    """The body with a first value for locals that it writes on one side of a choice and reads on a side of another."""
    entries = {local for locals_ in places.values() for local in locals_}
    return _started(body, [local for local in read_first(body)[0] if local in entries])


def _started(block: Block, doubtful: Sequence[Local]) -> Block:
    """A block with first values for locals, each where all that mention it stand: points have values of their own."""
    inner: dict[Statement, list[Local]] = {}
    for local in doubtful:
        users = [statement for statement in block if local in _mentioned(statement)]
        if len(users) == 1 and isinstance(users[0], Loop) and users[0].kind == "parallel":
            inner.setdefault(users[0], []).append(local)
    apart = {local for locals_ in inner.values() for local in locals_}
    starts = (Let(local, Literal(0, local.type)) for local in doubtful if local not in apart)
    changed = (
        replace(one, body=_started(one.body, inner[one])) if isinstance(one, Loop) and one in inner else one
        for one in block
    )
    return (*starts, *changed)


def _mentioned(statement: Statement) -> set[Local]:
    """The locals that a statement reads or sets, inside it too."""
    inside = list(walk((statement,)))
    read = {part for one in inside for e in expressions_of(one) for part in parts(e) if isinstance(part, Local)}
    return read.union(*(set_locals(one) for one in inside))


def _length(buffer: Buffer) -> int:
    assert buffer.entries.constant is not None
    return buffer.entries.constant


def _small_in_loops(body: Block) -> set[Buffer]:
    """The small arrays of the arena that a step of a loop touches, or a point of a nest."""
    found: set[Buffer] = set()
    for statement in walk(body):
        if isinstance(statement, While) or (isinstance(statement, Loop) and not _is_short(statement)):
            for block in blocks_of(statement):
                for inner in walk(block):
                    found.update((*read_buffers(inner), *written_buffers(inner)))
    return {buffer for buffer in found if buffer.kind == "arena" and is_small(buffer.entries)}


def _is_short(loop: Loop) -> bool:
    """Whether a loop may be one over the entries of a small array itself."""
    stop = as_static(loop.stop)
    return loop.kind == "parallel" and stop is not None and stop.constant is not None and stop.constant <= MOST


# ---- loops written out -----------------------------------------------------------------------------------------------


def _written_out(block: Block, small: set[Buffer], homes: Homes) -> Block:
    found: list[Statement] = []
    for statement in block:
        match statement:
            case Loop():
                loop = replace(statement, body=_written_out(statement.body, small, homes))
                found += _turns(loop, small, homes) or (loop,)
            case While(test=test, body=body):
                found.append(
                    replace(statement, test=_written_out(test, small, homes), body=_written_out(body, small, homes))
                )
            case If(condition=condition, then=then, otherwise=otherwise):
                found.append(If(condition, _written_out(then, small, homes), _written_out(otherwise, small, homes)))
            case Copy() | Fill() if not small.isdisjoint((*read_buffers(statement), *written_buffers(statement))):
                found += _entries(statement) or (statement,)
            case _:
                found.append(statement)
    return tuple(found)


def _turns(loop: Loop, small: set[Buffer], homes: Homes) -> Block | None:
    """The turns of a loop one after another, if they are few and touch small arrays at places that the turn decides."""
    start, stop = as_static(loop.start), as_static(loop.stop)
    if start is None or stop is None or start.constant is None or stop.constant is None:
        return None
    turns = range(start.constant, stop.constant)
    statements = sum(1 for _ in walk(loop.body))
    if len(turns) > MOST or len(turns) * statements > LONGEST or not _touches(loop, small):
        return None
    found: list[Statement] = []
    given = dict.fromkeys(local for statement in walk(loop.body) for local in set_locals(statement))
    own = [local for local in given if loop.index in homes[local]]
    for turn in reversed(turns) if loop.kind == "reverse" else turns:
        names = {local: Local(local.name, local.type) for local in own}
        homes.update((new, homes[local]) for local, new in names.items())
        found += decided(rename(loop.body, {**names, loop.index: number(turn)}), _comparisons)
    return tuple(found)


def _homes(block: Block, path: tuple[Local, ...], found: Homes) -> Homes:
    """For each local the indices of the loops inside which all that mention it stand, outer ones first."""
    for statement in block:
        read = [part for e in expressions_of(statement) for part in parts(e) if isinstance(part, Local)]
        for local in (*read, *set_locals(statement)):
            known = found.get(local, path)
            same = next((at for at, pair in enumerate(zip(known, path, strict=False)) if pair[0] is not pair[1]), None)
            found[local] = known[: min(len(known), len(path)) if same is None else same]
        inner = (*path, statement.index) if isinstance(statement, Loop) else path
        for held in blocks_of(statement):
            _homes(held, inner, found)
    return found


def _touches(loop: Loop, small: set[Buffer]) -> bool:
    """Whether the turns of a loop touch small arrays at different places."""
    for statement in walk(loop.body):
        loads = [p for e in expressions_of(statement) for p in parts(e) if isinstance(p, Load) and p.buffer in small]
        indices = [load.index for load in loads]
        if isinstance(statement, Store | Update) and statement.buffer in small:
            indices.append(statement.index)
        if any(as_static(index) is None for index in indices):
            return True
    return False


def _comparisons(expression: Expression) -> dict[Expression, bool]:
    """The comparisons of numbers in an expression."""
    found: dict[Expression, bool] = {}
    for part in parts(expression):
        if isinstance(part, Apply) and part.op in _COMPARISONS:
            one, other = (as_static(operand) for operand in part.operands)
            if one is not None and other is not None and one.constant is not None and other.constant is not None:
                found[part] = _COMPARISONS[part.op](one.constant, other.constant)
    return found


def _entries(statement: Copy | Fill) -> Sequence[Statement] | None:
    """A block of memory copied or filled entry by entry, if it is small."""
    count = as_static(statement.count)
    if count is None or not is_small(count) or count.constant is None:
        return None
    each = [number(at) for at in range(count.constant)]
    if isinstance(statement, Fill):
        return [Store(statement.buffer, plus(statement.index, at), statement.value) for at in each]
    target, source = statement.target_index, statement.source_index
    return [Store(statement.target, plus(target, at), Load(statement.source, plus(source, at))) for at in each]


# ---- locals ----------------------------------------------------------------------------------------------------------


def _elsewhere(body: Block, small: set[Buffer]) -> set[Buffer]:
    """The small arrays that something touches as memory, at a place that only the run decides, or before they are
    written."""
    kept: set[Buffer] = set()
    written: dict[Buffer, set[int]] = {buffer: set() for buffer in small}
    for statement in walk(body):
        for expression in expressions_of(statement):
            for part in parts(expression):
                if isinstance(part, Load) and part.buffer in small:
                    place = _place(part.buffer, part.index)
                    if place is None or place not in written[part.buffer]:
                        kept.add(part.buffer)
        if isinstance(statement, Store | Update):
            if statement.buffer in small:
                place = _place(statement.buffer, statement.index)
                if place is None or (isinstance(statement, Update) and place not in written[statement.buffer]):
                    kept.add(statement.buffer)
                else:
                    written[statement.buffer].add(place)
            continue
        loads = {p.buffer for e in expressions_of(statement) for p in parts(e) if isinstance(p, Load)}
        for buffer in (*read_buffers(statement), *written_buffers(statement)):
            if buffer in small and buffer not in loads:
                kept.add(buffer)
    return kept


def _place(buffer: Buffer, index: Expression) -> int | None:
    at = as_static(index)
    inside = at is not None and at.constant is not None and 0 <= at.constant < _length(buffer)
    return at.constant if inside and at is not None else None


def _as_locals(block: Block, places: dict[Buffer, list[Local]]) -> Block:
    found: list[Statement] = []
    for statement in block:
        changed = change_expressions(statement, lambda e: _reads(e, places))
        match changed:
            case Store(buffer=buffer, index=index, value=value) if buffer in places:
                changed = Let(_entry(places, buffer, index), value)
            case Update(buffer=buffer, index=index, value=value, op=op) if buffer in places:
                local = _entry(places, buffer, index)
                changed = Let(local, Apply(op, local.type, (local, value)))
            case Loop(body=body):
                changed = replace(changed, body=_as_locals(body, places))
            case While(test=test, body=body):
                changed = replace(changed, test=_as_locals(test, places), body=_as_locals(body, places))
            case If(condition=condition, then=then, otherwise=otherwise):
                changed = If(condition, _as_locals(then, places), _as_locals(otherwise, places))
        found.append(changed)
    return tuple(found)


def _entry(places: dict[Buffer, list[Local]], buffer: Buffer, index: Expression) -> Local:
    at = _place(buffer, index)
    assert at is not None
    return places[buffer][at]


def _reads(expression: Expression, places: dict[Buffer, list[Local]]) -> Expression:
    """An expression with reads of entries as locals."""
    match expression:
        case Load(buffer=buffer, index=index):
            return (
                _entry(places, buffer, index) if buffer in places else replace(expression, index=_reads(index, places))
            )
        case Apply(operands=operands):
            return replace(expression, operands=tuple(_reads(operand, places) for operand in operands))
    return expression


__all__ = ["in_registers", "is_small"]
