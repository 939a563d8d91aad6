"""The state of one lowering from graph to loop program: statements in progress, new locals and buffers, copies.

The rules for ops stand in `lower_arrays`, `lower_products`, `lower_index`, `lower_control` and `lower_space`; `lower`
walks regions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dgraph.errors import NOWHERE, Span
from dgraph.ir.graph import Node, Value
from dgraph.ir.places import Turn, shown
from dgraph.kernels.bind import FAULT_VALUES
from dgraph.kernels.nests import (
    WIDTHS,
    Apply,
    Buffer,
    Copy,
    Expression,
    Extent,
    Fail,
    Fill,
    If,
    Let,
    Literal,
    Load,
    Local,
    Loop,
    Statement,
    Store,
    TapeSetTop,
    TapeTop,
    Update,
    machine_type,
    number,
)
from dgraph.kernels.notices import Check, Copied, TapeRow
from dgraph.kernels.scope import Binding, Scope, TapeValue
from dgraph.kernels.views import View, whole
from dgraph.sizes import Size, size
from dgraph.types import Accumulator, Array, DType, Tape, ValueType

COMBINE = {
    "add": "add",
    "mul": "mul",
    "max": "maximum",
    "min": "minimum",
    "and": "logical_and",
    "or": "logical_or",
}
"""The scalar op that combines entries of an accumulator of each kind."""


class Lowering:
    """One lowering in progress. `out` is the block that statements are appended to."""

    def __init__(self, checks_on: bool = True, products: bool = True, precise: bool = False) -> None:
        self.checks_on = checks_on
        self.precise = precise
        self.products = products
        self.out: list[Statement] = []
        self.checks: list[Check] = []
        self.rows = 1
        self.pushed: set[int] = set()
        self.tapes: dict[int, TapeRow] = {}
        self.span = NOWHERE
        self.bounds: dict[Local, tuple[Size, Size]] = {}
        self.most: dict[Local, Size] = {}
        self.extents: dict[Size, None] = {}
        self.blocks: list[Size] = []
        self.literals: dict[Buffer, Literal] = {}
        self.copied: list[tuple[Statement, Copied]] = []
        self.passed: list[set[tuple[Expression, Check]]] = [set()]
        self.turns: list[tuple[Turn, tuple[Expression, ...]]] = []

    # ---- statements ---------------------------------------------------------------------------------------------

    def emit(self, statement: Statement) -> None:
        """Append a statement."""
        self.out.append(statement)

    @contextmanager
    def block(self) -> Iterator[list[Statement]]:
        """Statements inside this context go to a block of their own."""
        outer, self.out = self.out, []
        self.passed.append(set())
        try:
            yield self.out
        finally:
            self.out = outer
            self.passed.pop()

    def let(self, name: str, value: Expression) -> Local:
        """A new local with a value."""
        local = Local(name or "t", value.type)
        self.emit(Let(local, value))
        return local

    def at_most(self, value: Expression) -> Size | None:
        """A size that an integer never exceeds, if one is known."""
        match value:
            case Extent(size=extent):
                return extent
            case Literal(value=int(most)):
                return size(most)
            case Local():
                return self.most.get(value)
            case Apply(op="minimum", operands=operands):
                return next((most for most in map(self.at_most, operands) if most is not None), None)
        return None

    def index(self, name: str, extent: Size) -> Local:
        """A loop index that runs below an extent."""
        local = Local(name or "i", "i64")
        self.bounds[local] = (size(0), extent - 1)
        return local

    # ---- memory -------------------------------------------------------------------------------------------------

    def buffer(self, name: str, type_: Array | Accumulator, kind: str = "arena") -> Buffer:
        """A new buffer for an array."""
        for extent in type_.shape:
            self.extents.setdefault(extent)
        entries = size(1)
        for extent in type_.shape:
            entries = entries * extent
        return Buffer(name or "a", machine_type(type_.dtype), entries, kind, span=self.span)

    def allocate(self, scope: Scope, value: Value) -> View:
        """Memory for an array that a node makes: where it is wanted, or a new buffer."""
        target = scope.targets.get(value)
        type_ = value.type
        assert isinstance(type_, Array | Accumulator)
        maker = scope.region.producers.get(value)
        name = value.name or (maker.op.name if maker is not None else "")
        view = target if target is not None else self.temporary(name, type_)
        scope.owned.add(view.buffer)
        return view

    def temporary(self, name: str, type_: Array | Accumulator) -> View:
        """Memory for an array, for the moment."""
        return whole(self.buffer(name, type_), type_.shape)

    def constant(self, value: float | int | bool, dtype: DType) -> Literal:
        """A literal of a dtype."""
        return Literal(value, machine_type(dtype))

    # ---- copies -------------------------------------------------------------------------------------------------

    def copy(self, target: View, source: View, reason: str = "", span: Span = NOWHERE) -> None:
        """Copy an array; nothing to do if it is there already. With a reason, an update that could not be done in place
        is the cause, and it is remembered."""
        if target == source:
            return
        known = self.literals.get(source.buffer)
        if target.is_compact and source.is_compact:
            self.emit(Copy(target.buffer, target.offset, source.buffer, source.offset, Extent(target.entries)))
        else:
            self.each(
                target,
                lambda at: self.emit(
                    Store(target.buffer, target.index(at), known or Load(source.buffer, source.index(at)))
                ),
            )
        if reason and known is None:
            self.copied.append((self.out[-1], Copied(span, reason, target.entries * WIDTHS[target.buffer.type])))

    def why_not_in_place(self, scope: Scope, view: View) -> str:
        """Why an array that something writes to has to be copied first."""
        if view.buffer.kind == "input":
            return "it is an argument, and arguments are never changed"
        if view.buffer not in scope.owned:
            return "it comes from outside of the loop or branch, where it is still needed"
        return "its old value is read later"

    def each(self, view: View, write: object) -> None:
        """A nest over the entries of a view; `write(indices)` emits what is done for each."""
        assert callable(write)
        indices = [self.index(f"i{axis}", extent) for axis, extent in enumerate(view.shape)]
        with self.block() as body:
            write(indices)
        for index, extent in reversed(list(zip(indices, view.shape, strict=True))):
            body = [Loop(index, Extent(extent), tuple(body), "parallel")]
        self.out.extend(body)

    def compact(self, view: View, name: str = "compact") -> View:
        """The array without gaps: itself or a copy."""
        if view.is_compact:
            return view
        fresh = whole(Buffer(name, view.buffer.type, view.entries), view.shape)
        self.copy(fresh, view)
        return fresh

    def fill(self, view: View, value: Expression) -> None:
        """Write one value everywhere."""
        if isinstance(value, Literal) and view.is_compact:
            self.emit(Fill(view.buffer, view.offset, Extent(view.entries), value))
            return
        self.each(view, lambda at: self.emit(Store(view.buffer, view.index(at), value)))

    def put(self, target: View, value: Binding) -> None:
        """Write a scalar or an array to its place."""
        if isinstance(value, View):
            self.copy(target, value)
        elif not isinstance(value, TapeValue):
            self.emit(Store(target.buffer, target.offset, value))

    def update(self, target: View, entry: Binding, kind: str) -> None:
        """Combine a scalar or an array into its place."""
        op = COMBINE[kind]
        if isinstance(entry, View):
            source = entry
            self.each(
                target,
                lambda at: self.emit(
                    Update(target.buffer, target.index(at), Load(source.buffer, source.index(at)), op)
                ),
            )
        elif not isinstance(entry, TapeValue):
            self.emit(Update(target.buffer, target.offset, entry, op))

    # ---- tapes --------------------------------------------------------------------------------------------------

    def new_row(self, entry: Size, node: Node, steps: Size | None) -> int:
        """A row of tape memory for one place in the program that writes a tape with entries of so many bytes."""
        row = self.rows
        self.rows += 1
        self.pushed.add(row)
        self.tapes[row] = TapeRow(row, entry, steps, True, describe(node), node.span)
        return row

    @contextmanager
    def turn(self) -> Iterator[list[Binding]]:
        """The body of a loop or a point: tapes written in it that do not leave it (by the bindings put into the list)
        give their memory back at its end."""
        outer, self.pushed = self.pushed, set()
        leaving: list[Binding] = []
        with self.block() as body:
            yield leaving
        kept = {row for value in leaving if isinstance(value, TapeValue) for row in value.rows}
        for row in sorted(self.pushed - kept):
            top = Local("top", "i64")
            body.insert(0, Let(top, TapeTop(number(row))))
            body.append(TapeSetTop(number(row), top, number(0)))
        self.out.extend(body)
        left = self.pushed & kept
        for row in left:
            self.tapes[row] = replace(self.tapes[row], is_alone=False)
        self.pushed = outer | left

    # ---- checks -------------------------------------------------------------------------------------------------

    def fail_unless(self, holds: Expression, check: Check, values: Sequence[Expression] = ()) -> None:
        """Stop the program unless a condition holds; once is enough in a block and the blocks inside it. The numbers
        of the loops around are put beside the values where it fails, and nowhere else."""
        if any((holds, check) in passed for passed in self.passed):
            return
        self.passed[-1].add((holds, check))
        turns = shown(self.turns)
        while len(values) + sum(turn.numbers for turn, _ in turns) > FAULT_VALUES:
            turns = turns[1:]
        check = replace(check, turns=tuple(turn for turn, _ in turns))
        if check not in self.checks:
            self.checks.append(check)
        numbers = [number for _, numbers in turns for number in numbers]
        fail = Fail(self.checks.index(check) + 1, (*values, *numbers))
        self.emit(If(negated(holds), (fail,)))

    @contextmanager
    def inside(self, turn: Turn, *numbers: Expression) -> Iterator[None]:
        """What is lowered in this context stands in a turn of a loop, or at a point of a space."""
        self.turns.append((turn, numbers))
        try:
            yield
        finally:
            self.turns.pop()


def negated(condition: Expression) -> Expression:
    """The opposite."""
    if isinstance(condition, Apply) and condition.op == "logical_not":
        return condition.operands[0]
    return Apply("logical_not", "bool", (condition,))


def conjunction(conditions: Sequence[Expression]) -> Expression:
    """Whether all hold."""
    result: Expression = Literal(True, "bool")
    for position, condition in enumerate(conditions):
        result = condition if position == 0 else Apply("logical_and", "bool", (result, condition))
    return result


def compare(op: str, left: Expression, right: Expression) -> Expression:
    """A comparison."""
    return Apply(op, "bool", (left, right))


def describe(node: Node) -> str:
    """What a reader of the source is told about a node: names of results, scope, derivation."""
    names = ", ".join(value.name for value in node.results if value.name)
    words = [node.derived, "/".join(node.scope), names or node.op.name]
    return " ".join(word for word in words if word)


def entry_bytes(type_: ValueType) -> Size:
    """Bytes of one entry of a tape: an array, or the row and start of another tape."""
    if isinstance(type_, Tape):
        return size(16)
    assert isinstance(type_, Array)
    entries = size(1)
    for extent in type_.shape:
        entries = entries * extent
    return entries * type_.dtype.bytes
