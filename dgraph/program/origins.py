"""Where numbers stop being finite: the interpreter, with the origin of every entry that is nan or infinite.

A value carries *marks*: for each entry that is not finite the number of its origin, 0 for the others; None where all
are finite. An origin is a node whose result is not finite though its operands are. Marks go with the entries: what a
choice drops, or nothing reads, drops its marks too, so an output that is not finite names what spoilt it and nothing
that did no harm. Origins are numbered in the order of the run, and where several meet the first one counts.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import Span
from dgraph.ir.evaluate import Interpreter
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import Op
from dgraph.ir.places import Standing, Turn, space_turn
from dgraph.ops.check import AtStep
from dgraph.ops.compare import Select
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.index import Freeze, Index, SetAt, neutral, resolve_index
from dgraph.ops.reduce import Reduction
from dgraph.ops.shape import Concat, Move
from dgraph.sizes import Atom

Marks = Any
"""None, an array of i64 with the shape of the value, or a list with the marks of the entries of a tape."""

KEPT = 50_000
"""Origins that one run remembers; of later ones it knows only the numbers."""

HOPS = 4
"""Lines that an origin's way is remembered by."""

PATIENCE = 10_000
"""Nodes between two looks at the clock."""

PAUSE = 10.0
"""Seconds between two reports."""

Report = Callable[[float], None]
"""Told the seconds that a run has taken, now and then."""


@dataclass
class Origin:
    """The first place where entries stopped being finite. `value` is what came out there, `operands` what went in, and
    `cause` the number of the origin of an infinity that became nan here. `node` is None for an argument."""

    value: float
    node: Node | None
    standing: Standing
    name: str = ""
    place: tuple[int, ...] = ()
    operands: tuple[Any, ...] = ()
    cause: int = 0
    way: list[Span] = field(default_factory=list)


class Tracer(Interpreter):
    """One run. With `wanted` only the origins of these numbers are remembered."""

    def __init__(
        self, sizes: Mapping[Atom, int], wanted: frozenset[int] | None = None, report: Report | None = None
    ) -> None:
        super().__init__(sizes)
        self.wanted = wanted
        self.report = report
        self.origins: dict[int, Origin] = {}
        self.count = 0
        self.nodes = 0
        self.started = self.told = time.monotonic()

    def trace(self, region: Region, values: Sequence[Any], marks: Sequence[Marks]) -> tuple[list[Any], list[Marks]]:
        """Outputs of a region and their marks."""
        known: dict[Value, Any] = dict(zip(region.inputs, values, strict=True))
        marked: dict[Value, Marks] = {
            value: mark for value, mark in zip(region.inputs, marks, strict=True) if mark is not None
        }
        around = len(self.turns)
        for node in region.nodes:
            self._tick()
            operands = [known[operand] for operand in node.operands]
            given = [marked.get(operand) for operand in node.operands] if marked else [None] * len(operands)
            rule = RULES.get(node.op.name)
            if rule is not None:
                results, made = rule(self, node, operands, given)
            else:
                results = self.results_of(node, operands)
                made = [self.marks(node, operands, given, result) for result in results]
            for value, result, mark in zip(node.results, results, made, strict=True):
                known[value] = result
                if mark is not None:
                    marked[value] = mark
        del self.turns[around:]
        return [known[output] for output in region.outputs], [marked.get(output) for output in region.outputs]

    def results_of(self, node: Node, operands: list[Any]) -> Sequence[Any]:
        """Results of one node; the whole run stands where NumPy keeps its warnings to itself."""
        if type(node.op).execute is not Op.execute:
            return super().results_of(node, operands)
        found = node.op.evaluate(self.size_of, *operands)
        return found if isinstance(found, tuple) else (found,)

    def turn_of(
        self, region: Region, values: Sequence[Any], marks: Sequence[Marks], turn: Turn, *numbers: int
    ) -> tuple[list[Any], list[Marks]]:
        """Outputs of one turn of a loop or one point of a space, and their marks."""
        self.turns.append((turn, numbers))
        found = self.trace(region, values, marks)
        self.turns.pop()
        return found

    def arguments(self, names: Sequence[str], values: Sequence[Any]) -> list[Marks]:
        """The marks of arguments."""
        return [self._of_argument(name, value) for name, value in zip(names, values, strict=True)]

    def _of_argument(self, name: str, value: Any) -> Marks:
        bad = spoilt(value)
        if bad is None:
            return None
        at = _first(bad)
        number = self._new(lambda: Origin(float(np.asarray(value)[at]), None, Standing(), name, at))
        return np.where(bad, number, 0)

    # ---- origins ----------------------------------------------------------------------------------------------------

    def _new(self, make: Callable[[], Origin]) -> int:
        self.count += 1
        if len(self.origins) < KEPT if self.wanted is None else self.count in self.wanted:
            self.origins[self.count] = make()
        return self.count

    def _origin(self, node: Node, operands: Sequence[Any], result: Any, here: Any, cause: int = 0) -> int:
        """A new origin for the entries `here` of a result."""
        at = _first(here)

        def make() -> Origin:
            entrywise = isinstance(node.op, Elementwise)
            shown = tuple(np.asarray(value)[at] if entrywise else value for value in operands)
            return Origin(float(np.asarray(result)[at]), node, self.standing, "", at, shown, cause)

        return self._new(make)

    def marks(self, node: Node, operands: Sequence[Any], given: Sequence[Marks], result: Any) -> Marks:
        """The marks of a result."""
        bad = spoilt(result)
        if bad is None:
            return None
        if not np.ndim(result) and isinstance(node.op, Elementwise) and not isinstance(node.op, MOVES):
            return self._mark_of_number(node, operands, given, result)
        inherited = np.zeros(bad.shape, np.int64)
        if any(mark is not None for mark in given):
            inherited = np.where(bad, self._inherited(node, operands, given, bad), 0)
            became = inherited.astype(bool) & np.isnan(result) & ~_holds_nan(node, operands, bad.shape)
            if became.any():
                cause = int(inherited[became].min())
                inherited[became] = self._origin(node, operands, result, became, cause)
            self._pass_on(node, int(_first_along(inherited, None)))
        for kind in (np.isnan, np.isinf):
            fresh = bad & (inherited == 0) & kind(result)
            if fresh.any():
                inherited[fresh] = self._origin(node, operands, result, fresh)
        return inherited

    def _mark_of_number(self, node: Node, operands: Sequence[Any], given: Sequence[Marks], result: Any) -> int:
        """The mark of one number that is not finite: long loops are made of these."""
        number = min((int(mark) for mark in given if mark is not None), default=0)
        if not number:
            return self._origin(node, operands, result, np.True_)
        if result != result and not any(value != value for value in operands):
            number = self._origin(node, operands, result, np.True_, number)
        self._pass_on(node, number)
        return number

    def _inherited(self, node: Node, operands: Sequence[Any], given: Sequence[Marks], bad: Any) -> Any:
        """The first origin among what each entry of a result came from; 0 if it is new."""
        if isinstance(node.op, MOVES):
            moved = [_marks_of(mark, value) for mark, value in zip(given, operands, strict=True)]
            kept = [value if at in _plain(node, len(operands)) else moved[at] for at, value in enumerate(operands)]
            return np.asarray(node.op.evaluate(self.size_of, *kept))
        found = np.zeros(bad.shape, np.int64)
        for mark in given:
            if mark is None:
                continue
            if isinstance(node.op, Elementwise):
                found = _least(found, mark)
            elif isinstance(node.op, Reduction):
                found = _least(found, _first_along(mark, node.op.axes))
            else:
                found = _least(found, np.full(bad.shape, _first_along(mark, None)))
        if isinstance(node.op, Elementwise):
            return found
        # What is not finite although all operands were made so, did not come from them.
        cleaned = [_finite(value) for value in operands]
        again = [result for result in self.results_of(node, cleaned) if np.shape(result) == bad.shape]
        own = np.logical_or.reduce([~np.isfinite(result) for result in again if _is_float(result)] or [~bad & bad])
        return np.where(own, 0, found)

    def _pass_on(self, node: Node, number: int) -> None:
        """Remember by which lines an origin went."""
        origin = self.origins.get(number)
        if origin is None or len(origin.way) >= HOPS or not node.span.source.text or isinstance(node.op, MOVES):
            return
        own = () if origin.node is None else (origin.node.span,)
        here = node.span.line
        if all(span.source is not node.span.source or span.line != here for span in (*own, *origin.way)):
            origin.way.append(node.span)

    def _tick(self) -> None:
        self.nodes += 1
        if self.nodes % PATIENCE == 0 and self.report is not None:
            now = time.monotonic()
            if now > self.told + PAUSE:
                self.told = now
                self.report(now - self.started)


MOVES = (Move, Concat, Index, SetAt, Freeze, Select)
"""Ops that put entries of their operands to other places, and compute nothing."""


def _plain(node: Node, count: int) -> range:
    """The operands of such an op that say where to: indices and conditions."""
    if isinstance(node.op, Index):
        return range(1, count)
    if isinstance(node.op, SetAt):
        return range(1, count - 1)
    return range(1 if isinstance(node.op, Select) else 0)


def spoilt(value: Any) -> Any:
    """Which entries are not finite; None if all are."""
    if isinstance(value, float):
        return None if math.isfinite(value) else np.True_
    if not _is_float(value):
        return None
    bad = ~np.isfinite(value)
    return bad if bad.any() else None


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f"


def _finite(value: Any) -> Any:
    """The value with 1 for all that is not finite."""
    bad = spoilt(value)
    return value if bad is None else np.where(bad, value.dtype.type(1), value)[()]


def _first(here: Any) -> tuple[int, ...]:
    """The first place where something holds."""
    return tuple(int(axis[0]) for axis in np.nonzero(here)) if np.ndim(here) else ()


def _marks_of(mark: Marks, value: Any) -> Any:
    return np.zeros(np.shape(value), np.int64)[()] if mark is None else mark


def _least(one: Any, other: Any) -> Any:
    """The smaller of two marks, where there are two."""
    return np.where((one == 0) | ((other != 0) & (other < one)), other, one)


def _first_along(mark: Any, axes: tuple[int, ...] | None) -> Any:
    """The smallest mark along some axes; 0 if there is none."""
    none = np.iinfo(np.int64).max
    least = np.min(np.where(mark == 0, none, mark), axis=axes, initial=none)
    return np.where(least == none, 0, least)


def _holds_nan(node: Node, operands: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """For which entries of a result an operand is nan already."""
    found = np.zeros(shape, bool)
    for value in operands:
        if _is_float(value):
            holds = np.isnan(value)
            found = found | (holds if isinstance(node.op, Elementwise) else holds.any())
    return found | isinstance(node.op, MOVES)


# ---- region ops -----------------------------------------------------------------------------------------------------

Traced = tuple[Sequence[Any], Sequence[Marks]]


def _for(run: Tracer, node: Node, operands: list[Any], given: list[Marks]) -> Traced:
    op: Any = node.op
    (body,) = node.regions
    count, lead = max(int(operands[0]), 0), op.leading_operands()
    carried, marks = operands[1 : 1 + op.carries], given[1 : 1 + op.carries]
    walked, walked_marks = operands[1 + op.carries : lead], given[1 + op.carries : lead]
    rows: list[list[Any]] = [[None] * count for _ in range(op.stacks + op.tapes)]
    row_marks: list[list[Marks]] = [[None] * count for _ in rows]
    turn = Turn(node.span)
    for step in reversed(range(count)) if op.reverse else range(count):
        values = [np.int64(step), *carried, *(walk[step] for walk in walked), *operands[lead:]]
        slices = [None if mark is None else mark[step] for mark in walked_marks]
        signs = [None, *marks, *slices, *given[lead:]]
        outputs, found = run.turn_of(body, values, signs, turn, step)
        carried, marks = outputs[: op.carries], found[: op.carries]
        for at, (output, mark) in enumerate(zip(outputs[op.carries :], found[op.carries :], strict=True)):
            rows[at][step], row_marks[at][step] = output, mark
    stacked, stacked_marks = [], []
    for at, value in enumerate(node.results[op.carries : op.carries + op.stacks]):
        array = run.empty(value.type)  # type: ignore[arg-type]
        for step, entry in enumerate(rows[at]):
            array[step] = entry
        stacked.append(array)
        stacked_marks.append(_stacked(row_marks[at], np.shape(array)))
    tapes = [None if all(mark is None for mark in row) else row for row in row_marks[op.stacks :]]
    return (*carried, *stacked, *rows[op.stacks :]), (*marks, *stacked_marks, *tapes)


def _stacked(marks: Sequence[Marks], shape: tuple[int, ...]) -> Marks:
    """The marks of an array from those of its rows."""
    if all(mark is None for mark in marks):
        return None
    found = np.zeros(shape, np.int64)
    for at, mark in enumerate(marks):
        found[at] = 0 if mark is None else mark
    return found


def _while(run: Tracer, node: Node, operands: list[Any], given: list[Marks]) -> Traced:
    op: Any = node.op
    condition, body = node.regions
    carried, marks = operands[: op.carries], given[: op.carries]
    rows: list[list[Any]] = [[] for _ in range(op.tapes)]
    row_marks: list[list[Marks]] = [[] for _ in rows]
    trips, turn = 0, Turn(node.span)
    while run.turn(condition, [*carried, *operands[op.carries :]], turn, trips)[0]:
        values, signs = [*carried, *operands[op.carries :]], [*marks, *given[op.carries :]]
        outputs, found = run.turn_of(body, values, signs, turn, trips)
        carried, marks = outputs[: op.carries], found[: op.carries]
        for row, output in zip((*rows, *row_marks), (*outputs[op.carries :], *found[op.carries :]), strict=True):
            row.append(output)
        trips += 1
    tapes = [None if all(mark is None for mark in row) else row for row in row_marks]
    return (*carried, *rows, np.int64(trips)), (*marks, *tapes, None)


def _if(run: Tracer, node: Node, operands: list[Any], given: list[Marks]) -> Traced:
    return run.trace(node.regions[0 if operands[0] else 1], operands[1:], given[1:])


def _call(run: Tracer, node: Node, operands: list[Any], given: list[Marks]) -> Traced:
    return run.trace(node.regions[0], operands, given)


def _space(run: Tracer, node: Node, operands: list[Any], given: list[Marks]) -> Traced:
    op: Any = node.op
    (body,) = node.regions
    threads, rank = op.accumulators, len(op.extents)
    written, marks = list(operands[:threads]), list(given[:threads])
    for buffer in op.buffers:
        written.append(np.full(tuple(map(run.size_of, buffer.shape)), neutral(buffer), buffer.dtype.numpy))
        marks.append(None)
    count = len(written)
    yields = [run.empty(value.type) for value in node.results[count:]]  # type: ignore[arg-type]
    yield_marks: list[Marks] = [None] * len(yields)
    turn = space_turn([value.name for value in body.inputs[:rank]], node.span)
    for point in itertools.product(*(range(run.size_of(extent)) for extent in op.extents)):
        values = [*map(np.int64, point), *written, *operands[threads:]]
        outputs, found = run.turn_of(body, values, [*[None] * rank, *marks, *given[threads:]], turn, *point)
        written, marks = outputs[:count], found[:count]
        for at, (output, mark) in enumerate(zip(outputs[count:], found[count:], strict=True)):
            yields[at][point] = output
            if mark is not None:
                if yield_marks[at] is None:
                    yield_marks[at] = np.zeros(np.shape(yields[at]), np.int64)
                yield_marks[at][point] = mark
    for at in range(threads, count):
        if marks[at] is None:
            # An extreme of nothing.
            marks[at] = run.marks(node, (), (), written[at])
    own = [buffer if buffer.shape else buffer[()] for buffer in written[threads:]]
    arrays = [array if array.shape else array[()] for array in yields]
    return (*written[:threads], *own, *arrays), (*marks, *yield_marks)


def _accumulate(run: Tracer, node: Node, operands: list[Any], given: list[Marks]) -> Traced:
    """Only the marks of the place that is written change."""
    op: Any = node.op
    buffer, *indices, entry = operands
    at = resolve_index(op.policy, indices, np.shape(buffer))
    before = None if at is None else np.array(buffer[at])
    (result,) = run.results_of(node, operands)
    marks = given[0]
    if at is None or before is None:
        return (result,), (marks,)
    now = result[at]
    bad = spoilt(now)
    if bad is None and marks is None:
        return (result,), (None,)
    marks = np.zeros(np.shape(buffer), np.int64) if marks is None else np.asarray(marks)
    if bad is None:
        marks[at] = 0
        return (result,), (marks,)
    # The neutral element of an extreme is infinite, and no origin.
    found = np.where(bad, _least(marks[at], _marks_of(given[-1], entry)), 0)
    became = (found > 0) & np.isnan(now) & ~np.isnan(before) & ~np.isnan(entry)
    if became.any():
        found[became] = run._origin(node, (before, entry), now, became, int(found[became].min()))
    fresh = bad & (found == 0) & np.isfinite(before)
    if fresh.any():
        found[fresh] = run._origin(node, (before, entry), now, fresh)
    run._pass_on(node, int(_first_along(found, None)))
    marks[at] = found
    return (result,), (marks,)


RULES: dict[str, Callable[[Tracer, Node, list[Any], list[Marks]], Traced]] = {
    "for": _for,
    "while": _while,
    "if": _if,
    "call": _call,
    "space": _space,
    "accumulate": _accumulate,
}
"""How marks go through ops that hold regions, and through the op that changes its operand."""


def marked_steps(region: Region) -> Region:
    """The region with a note of the step in every `for` of it, so that a loop that is cut into parts keeps the count;
    nested regions are as they are."""
    nodes = []
    for node in region.nodes:
        if node.op.name == "for":
            (body,) = node.regions
            note = Node(AtStep(), (body.inputs[0],), (), (), node.span)
            inner = Region(body.inputs, (note, *body.nodes), body.outputs)
            node = Node(node.op, node.operands, node.results, (inner,), node.span, node.scope, node.derived)
        nodes.append(node)
    return Region(region.inputs, tuple(nodes), region.outputs)
