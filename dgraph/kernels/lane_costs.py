"""What decides which loop of a nest gets the lanes of vectors: what a nest costs with points several at a time, and
what it costs with vectors in its innermost loops only.

Costs are in instructions for registers of eight numbers. Where nothing says how many turns a loop makes, a few dozen
are taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dgraph.kernels.lanes import Points, total_of
from dgraph.kernels.nest_parts import blocks_of, expressions_of, parts, walk
from dgraph.kernels.nests import (
    Apply,
    Block,
    Buffer,
    Expression,
    If,
    Let,
    Load,
    Local,
    Loop,
    Note,
    Statement,
    Store,
    Update,
    While,
)
from dgraph.kernels.views import as_static, coefficient
from dgraph.sizes import Size

TURNS = 32
"""Turns of a loop of unknown length."""
STEPS = 8
"""Turns of a `while`."""
TAKEN = 0.5
"""How often a point takes a side of a choice."""
MARKS = "marks"
"""The name of such marks."""
RARE = 0.1
"""How often a point is marked: of an array of which gathers read some rows, only those are computed."""
REGISTER = 8
"""Numbers in a register."""

FAR = 12.0
"""Entries of a vector that do not lie in a row."""
SHARED = 8.0
"""Terms of a vector that are combined into entries one after another."""
START = 20.0
"""Starting an inner loop of vectors, and adding up the lanes at its end."""
NEAR = 0.3
"""A number that all lanes read."""
_DEAR = {"div": 8.0, "sqrt": 8.0, "floor_divide": 20.0, "mod": 20.0}
_CHEAP = {
    *("add", "sub", "mul", "neg", "abs", "maximum", "minimum", "select", "cast", "fma", "sign", "relu"),
    *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_and", "logical_or"),
    *("logical_not", "stop_gradient", "floor", "ceil", "round", "isnan", "isfinite"),
}
_ELEMENTARY = 20.0


def turns(loop: Loop) -> float:
    """About how many turns a loop makes."""
    start, stop = as_static(loop.start), as_static(loop.stop)
    if start is None or stop is None:
        return TURNS / 2
    length = (stop - start).constant
    return TURNS if length is None else max(length, 1)


def operations(statement: Statement) -> float:
    """What a statement computes, apart from indices and reading memory."""
    total = 0.0
    for expression in expressions_of(statement):
        for part in parts(expression):
            if isinstance(part, Apply) and part.type != "i64":
                total += 1.0 if part.op in _CHEAP else _DEAR.get(part.op, _ELEMENTARY)
    return total


def with_points(points: Points) -> float:
    """The cost of one turn of a loop that goes several at a time."""
    packed = {packing.load: packing for packing in points.packings()}
    cost = sum(FAR * all_turns(packing.loops) for packing in packed.values())
    return (cost + _lanes(points.body, points, set(packed))) / REGISTER


def all_turns(loops: Sequence[Loop]) -> float:
    """About how many turns loops inside one another make."""
    total = 1.0
    for loop in loops:
        total *= turns(loop)
    return total


def _lanes(block: Block, points: Points, packed: set[Load]) -> float:
    total = 0.0
    for statement in block:
        if not points.can_keep(statement):
            total += REGISTER * (1.0 + with_inner_loops((statement,)))
            continue
        total += operations(statement)
        for expression in expressions_of(statement):
            for part in parts(expression):
                if isinstance(part, Load):
                    total += 1.0 if part in packed or part.buffer in points.own else _read(points.step(part.index))
        if isinstance(statement, Store | Update) and statement.buffer not in points.own:
            step = points.step(statement.index)
            if step is not None and step.terms:
                total += _read(step)
            else:
                total += SHARED
        factor = turns(statement) if isinstance(statement, Loop) else STEPS if isinstance(statement, While) else 1.0
        total += factor * sum(_lanes(inner, points, packed) for inner in blocks_of(statement))
    return total


def _read(step: Size | None) -> float:
    if step is None:
        return FAR
    return NEAR if not step.terms else 1.0 if step.constant == 1 else FAR


def with_inner_loops(block: Block) -> float:
    """The cost of a block in which only innermost loops are done in vectors."""
    total = 0.0
    for statement in block:
        total += _one(statement)
        if isinstance(statement, Loop):
            inside = _in_vectors(statement)
            total += inside if inside is not None else turns(statement) * (1.0 + with_inner_loops(statement.body))
        else:
            # One point takes one side of a choice; points that go together take both if any of them does.
            factor = STEPS if isinstance(statement, While) else _taken(statement) if isinstance(statement, If) else 1.0
            total += factor * sum(map(with_inner_loops, blocks_of(statement)))
    return total


def _taken(choice: If) -> float:
    """How often one point takes a side."""
    match choice.condition:
        case Local(name=name) | Load(buffer=Buffer(name=name)) if name == MARKS and not choice.otherwise:
            return RARE
    return TAKEN


def _one(statement: Statement) -> float:
    """What a statement costs for one number."""
    loads = sum(isinstance(part, Load) for expression in expressions_of(statement) for part in parts(expression))
    return operations(statement) + loads + isinstance(statement, Store | Update)


def _in_vectors(loop: Loop) -> float | None:
    """What a loop costs in vectors, if its points are simple and independent but for totals."""
    if loop.kind != "parallel" or not all(map(_is_plain, walk(loop.body))):
        return None
    steps: dict[Local, Size | None] = {}
    for statement in walk(loop.body):
        if isinstance(statement, Let) and total_of(statement) is None:
            steps[statement.local] = coefficient(statement.value, loop.index, steps)
    cost = sum(operations(statement) for statement in walk(loop.body))
    cost += sum(_read(coefficient(index, loop.index, steps)) for index in _indices(loop.body))
    # A loop of two turns takes as long as one of eight.
    return START + math.ceil(turns(loop) / REGISTER) * cost


def _is_plain(statement: Statement) -> bool:
    return isinstance(statement, Let | Store | Update | Note | If)


def _indices(block: Block) -> Iterator[Expression]:
    for statement in walk(block):
        for expression in expressions_of(statement):
            for part in parts(expression):
                if isinstance(part, Load):
                    yield part.index
        if isinstance(statement, Store | Update):
            yield statement.index
