"""Loops of generated source whose turns go several at a time: names that differ from turn to turn are vectors.

`for i in lanes_16(n)` means what `for i in range(n)` means, and so every lane computes what its turn would have. Loops
inside are ordinary loops around vector code, so that what they add up stays in registers, and what all lanes read is
loaded once. LLVM makes several registers of a vector that is too long for one. The last turns, too few for all lanes,
run under a mask: lanes that are off neither read nor write memory.
"""

from __future__ import annotations

import ast
from collections import ChainMap
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from dgraph.kernels.arithmetic import convert
from dgraph.kernels.function_code import DIVISIONS, FunctionCode, Turn
from dgraph.kernels.helpers import PRIMITIVES
from dgraph.kernels.set_once import nodes_in
from dgraph.kernels.values import SCALARS, Strided, Value, select, splat
from dgraph.kernels.vector_memory import VectorMemory
from dgraph.kernels.vector_plan import (
    ENTRY,
    MOST,
    RANGES,
    TERM,
    Nature,
    Plan,
    Update,
    is_place,
    is_sum_of_rows,
    plan_of,
    update_of,
)
from dgraph.kernels.vector_rows import row_of_stores, split_index, store_rows
from dgraph.kernels.vector_sums import sums_of_rows

_I64 = SCALARS["i64"]


class FunctionWithVectors(FunctionCode):
    """The code of a function, with loops of lanes."""

    def statement(self, node: ast.stmt) -> None:
        """Emit one statement."""
        match node:
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id=word), args=bounds), body=body) if (
                word in RANGES
            ):
                plan = plan_of(self.node, node)
                if plan is None:
                    self.count(node, name, bounds, body)
                else:
                    _LoopCode(self, plan).loop(bounds, body)
            case _:
                super().statement(node)


class _LoopCode(FunctionCode):
    """The code of one loop with lanes, in the function `outer`. `mask` says which lanes are on; None means all."""

    def __init__(self, outer: FunctionCode, plan: Plan) -> None:
        for name in ("module", "known", "signature", "node", "builder", "names", "turns", "keeps_apart", "once"):
            setattr(self, name, getattr(outer, name))
        self.around = self.values = outer.values
        self.plan = plan
        self.lanes = plan.lanes
        self.mask: Value | None = None
        self.strided: dict[str, tuple[Any, int | Any]] = {}
        self.vectors: dict[str, tuple[Any, str]] = {}
        self.leaving: list[tuple[Any, Any]] = []
        self.update_parts: dict[str, Value] = {}
        self.loaded: dict[str, Value] = {}
        self.memory = VectorMemory(self.builder, self.lanes, self.new_block, self.slot)

    # ---- the loop --------------------------------------------------------------------------------------------------

    def loop(self, bounds: Sequence[ast.expr], body: Sequence[ast.stmt]) -> None:
        """Emit the loop: turns for all lanes, then one for the rest. Of a number of turns that is known, only what
        there is."""
        numbers = [self.typed(bound, "i64") for bound in bounds]
        start, stop = numbers if len(numbers) == 2 else (self.constant(0, "i64"), numbers[0])
        known = None
        if isinstance(start.llvm, ir.Constant) and isinstance(stop.llvm, ir.Constant):
            known = max(stop.llvm.constant - start.llvm.constant, 0)
        counter = start.llvm
        if known is None or known >= self.lanes:
            counter = self.whole_turns(counter, stop.llvm, body)
        if known is None:
            left = self.builder.sub(stop.llvm, counter, flags=("nsw",))
            last, after = self.new_block("lanes.last"), self.new_block("lanes.after")
            self.builder.cbranch(self.builder.icmp_signed(">", left, _I64(0)), last, after)
            self.builder.position_at_end(last)
            self.some_lanes(counter, left, body)
            self.builder.branch(after)
            self.builder.position_at_end(after)
        elif known % self.lanes:
            self.some_lanes(counter, _I64(known % self.lanes), body)

    def whole_turns(self, start: Any, stop: Any, body: Sequence[ast.stmt]) -> Any:
        """Emit turns for as long as there is one for every lane; returns the first that is left."""
        builder = self.builder
        head, inside, rest = (self.new_block(f"lanes.{name}") for name in ("head", "body", "rest"))
        before = builder.block
        builder.branch(head)
        builder.position_at_end(head)
        counter = builder.phi(_I64)
        counter.add_incoming(start, before)
        left = builder.sub(stop, counter, flags=("nsw",))
        builder.cbranch(builder.icmp_signed(">=", left, _I64(self.lanes)), inside, rest)
        builder.position_at_end(inside)
        self.turn_of(counter, None, body)
        counter.add_incoming(builder.add(counter, _I64(self.lanes), flags=("nsw",)), builder.block)
        builder.branch(head)
        builder.position_at_end(rest)
        return counter

    def some_lanes(self, counter: Any, left: Any, body: Sequence[ast.stmt]) -> None:
        """Emit one turn for so many lanes."""
        places = Strided(self.constant(0, "i64"), 1, self.lanes)
        self.turn_of(counter, places < self.value(splat(self.builder, left, self.lanes), "i64"), body)

    def turn_of(self, counter: Any, mask: Value | None, body: Sequence[ast.stmt]) -> None:
        """Emit the body for the lanes from a turn on."""
        self.mask = mask
        self.values = {**self.around, self.plan.index: Strided(self.value(counter, "i64"), 1, self.lanes)}
        # Breaks of loops around cannot be meant.
        self.turns.append(Turn(None, None))
        self.block(body)
        self.turns.pop()

    def slot(self, kind: Any, name: str = "") -> Any:
        """A place on the stack that LLVM makes a register; vectors start as zeros, so that no lane is undefined."""
        with self.builder.goto_entry_block():
            slot = self.builder.alloca(kind, name=name)
            if isinstance(kind, ir.VectorType):
                self.builder.store(ir.Constant(kind, None), slot)
        return slot

    # ---- names -----------------------------------------------------------------------------------------------------

    def assign(self, node: ast.AST, name: str, value: Value) -> None:
        """Give a name a value in the lanes that are on."""
        nature = self.plan.natures[name]
        is_blended = node in self.plan.blended and self.mask is not None
        if name in self.once and not is_blended:
            self.values[name] = self.as_vector(value) if nature == Nature.VARYING else value
        elif nature == Nature.UNIFORM:
            super().assign(node, name, value)
        elif nature == Nature.STRIDED:
            assert isinstance(value, Strided)
            slot, _ = self.strided.get(name) or (self.slot(_I64, name), None)
            self.builder.store(value.base.llvm, slot)
            stride = value.stride
            if isinstance(stride, Value):
                place = self.slot(_I64, name)
                self.builder.store(stride.llvm, place)
                stride = place
            self.strided[name] = slot, stride
        else:
            value = self.as_vector(value)
            if name not in self.vectors:
                self.vectors[name] = self.slot(value.llvm.type, name), value.type
            slot, type_name = self.vectors[name]
            assert type_name == value.type
            if is_blended:
                assert self.mask is not None
                old = self.value(self.builder.load(slot, typ=slot.allocated_type), type_name)
                value = select(self.mask, value, old)
            self.builder.store(value.llvm, slot)

    def read(self, node: ast.Name) -> Value:
        """The value of a name."""
        if node.id in self.update_parts:
            return self.update_parts[node.id]
        if node.id in self.values:
            return self.values[node.id]
        nature = self.plan.natures.get(node.id, Nature.UNIFORM)
        if nature == Nature.UNIFORM:
            return super().read(node)
        if nature == Nature.STRIDED:
            slot, stride = self.strided[node.id]
            base = self.value(self.builder.load(slot, typ=_I64), "i64")
            step = stride if isinstance(stride, int) else self.value(self.builder.load(stride, typ=_I64), "i64")
            return Strided(base, step, self.lanes)
        slot, type_name = self.vectors[node.id]
        return self.value(self.builder.load(slot, typ=slot.allocated_type), type_name)

    def as_vector(self, value: Value) -> Value:
        """A value with an entry for every lane."""
        if isinstance(value, Strided) or value.lanes > 1:
            return self.value(value.llvm, value.type)
        return self.value(splat(self.builder, value.llvm, self.lanes), value.type)

    def alike(self, values: Sequence[Value]) -> list[Value]:
        """Values as vectors if one of them is one."""
        return list(values) if all(value.lanes == 1 for value in values) else [self.as_vector(v) for v in values]

    # ---- expressions -----------------------------------------------------------------------------------------------

    def operator(self, node: ast.AST, op: ast.operator, left: Value, right: Value) -> Value:
        """Emit an arithmetic operator; indices that grow from lane to lane are kept as start and step."""
        if isinstance(op, ast.Add | ast.Sub | ast.Mult) and (isinstance(left, Strided) or isinstance(right, Strided)):
            together = Strided.combined(left, right, type(op).__name__)
            if together is not None:
                return together
        left, right = self.alike((left, right))
        if left.lanes > 1 and left.type == right.type == "i64" and type(op) in DIVISIONS:
            return self.elementwise(DIVISIONS[type(op)], [left, right])
        return super().operator(node, op, left, right)

    def compared(self, node: ast.expr, relation: ast.cmpop, left: Value, right: Value) -> Value:
        """Emit a comparison."""
        return super().compared(node, relation, *self.alike((left, right)))

    def cast(self, node: ast.Call, type_name: str) -> Value:
        """Emit a constant of a type, or a conversion."""
        (argument,) = node.args
        if self.plan.nature(argument) == Nature.UNIFORM:
            return super().cast(node, type_name)
        return convert(type_name, self.as_vector(self.expression(argument)))

    def call(self, node: ast.Call) -> Value | None:
        """Emit a call."""
        if is_place(node, self.plan):
            return Strided(self.constant(0, "i64"), 1, self.lanes)
        if is_sum_of_rows(node, self.plan):
            return self.sums(node)
        assert isinstance(node.func, ast.Name)
        if node.func.id.startswith("store_"):
            self.store(node)
            return None
        if node.func.id.startswith("load_") and self.plan.nature(node.args[1]) != Nature.UNIFORM:
            return self.load(node)
        return super().call(node)

    def load(self, node: ast.Call) -> Value:
        """Emit a read. What has been read before, for all lanes that are on now, is not read again."""
        key = ast.dump(node) if self.plan.stays(node) else ""
        found = self.loaded.get(key)
        if found is None:
            pointer = self.expression(node.args[0])
            index, further = split_index(node.args[1])
            if self.plan.nature(node.args[1]) != Nature.VARYING:
                index, further = node.args[1], 0
            found = self.memory.load(pointer, self.expression(index), self.mask, further)
            if key:
                self.loaded[key] = found
        return found

    def applied(self, node: ast.expr, name: str, operands: Sequence[Value]) -> Value | None:
        """Emit a call with operands that are known, once for all lanes or for each."""
        if all(operand.lanes == 1 for operand in operands):
            return super().applied(node, name, operands)
        if name == MOST:
            return self.memory.most(self.as_vector(operands[0]), self.mask)
        if name.startswith("load_"):
            return self.memory.load(operands[0], operands[1], self.mask)
        if name.startswith("powi_"):
            return self.power(node, name, *operands)
        return self.elementwise(name, [self.as_vector(operand) for operand in operands])

    def elementwise(self, name: str, operands: Sequence[Value]) -> Value:
        """Emit a primitive for every lane."""
        primitive = PRIMITIVES[name]
        result = primitive.emit(self.builder, [operand.llvm for operand in operands], self.lanes)
        return self.value(result, primitive.result)

    def sums(self, node: ast.Call) -> Value:
        """Emit sums of rows; a lane that is off adds up the row of the first, which is on."""
        rows, count = node.args
        assert isinstance(rows, ast.Call)
        pointer, index, length = (self.expression(part) for part in (*rows.args, count))
        assert isinstance(index, Strided)
        return sums_of_rows(pointer, index, length, self.mask, self.memory, self.new_block)

    def power(self, node: ast.expr, name: str, base: Value, exponent: Value) -> Value:
        """Emit a power; exponents that differ make a loop of their own in each lane."""
        base = self.as_vector(base)
        if exponent.lanes == 1:
            return self.elementwise(name, [base, exponent])
        exponent = self.as_vector(exponent)
        result: Any = ir.Constant(base.llvm.type, None)
        for lane in range(self.lanes):
            entries = [self.memory.lane_of(value, lane) for value in (base, exponent)]
            power = super().applied(node, name, entries)
            assert power is not None
            result = self.builder.insert_element(result, power.llvm, ir.Constant(ir.IntType(32), lane))
        return self.value(result, base.type)

    # ---- memory ----------------------------------------------------------------------------------------------------

    def store(self, node: ast.Call) -> None:
        """Emit a write: entries of the lanes' own, what all of them write alike, or what they add, one after another,
        to entries they share."""
        if all(self.plan.nature(argument) == Nature.UNIFORM for argument in node.args) and update_of(node) is None:
            super().call(node)
            return
        pointer, index = (self.expression(argument) for argument in node.args[:2])
        update = None if isinstance(index, Strided) else update_of(node)
        if update is None:
            self.memory.store(pointer, index, self.as_vector(self.expression(node.args[2])), self.mask)
        else:
            term = self.as_vector(self.expression(update.value))
            self.memory.update(pointer, index, term, self.mask, self.combiner(update))

    def block(self, body: Sequence[ast.stmt]) -> None:
        """Emit statements in order; entries that all lanes write side by side go together."""
        at, loaded = 0, dict(self.loaded)
        while at < len(body) and not self.builder.block.is_terminated:
            row = row_of_stores(body[at:], self.plan) if self.mask is None else []
            index = self.expression(row[0].args[1]) if row else None
            if isinstance(index, Strided) and index.stride != 1:
                columns = [self.as_vector(self.expression(store.args[2])) for store in row]
                store_rows(self.memory, self.expression(row[0].args[0]), index, columns)
                at += len(row)
            else:
                self.statement(body[at])
                at += 1
        self.loaded = loaded

    def combiner(self, update: Update) -> Callable[[Value, Value], Value]:
        """Emits the new value of an entry."""

        def combine(entry: Value, term: Value) -> Value:
            self.update_parts = {ENTRY: entry, TERM: term}
            combined = self.expression(update.combine)
            self.update_parts = {}
            return combined

        return combine

    # ---- choices ---------------------------------------------------------------------------------------------------

    def statement(self, node: ast.stmt) -> None:
        """Emit one statement."""
        match node:
            case ast.For(target=ast.Name(id=name), iter=ast.Call(args=bounds), body=body):
                self.count(node, name, bounds, body)
            case ast.While(body=body) if node in self.plan.differing:
                self.repeat_lanes(body)
            case _:
                super().statement(node)

    def branch(self, condition: Value, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt]) -> None:
        """Emit statements for either side of a condition, each for the lanes that take it."""
        if condition.lanes == 1:
            super().branch(condition, body, orelse)
        elif len(body) == 1 and isinstance(body[0], ast.Break):
            self.leave_lanes(condition)
        else:
            around = self.mask
            for side, holds in ((body, condition), (orelse, ~condition)):
                if side:
                    self.mask = holds if around is None else around & holds
                    self.where_any(self.mask, side)
                    self.mask = around

    def where_any(self, mask: Value, body: Sequence[ast.stmt]) -> None:
        """Emit statements for some lanes; what is more than a little arithmetic is passed over if there are none."""
        if all(map(self.is_little, body)):
            self.block(body)
            return
        then, after = self.new_block("some"), self.new_block("after")
        self.builder.cbranch(self.memory.any_lane(mask), then, after)
        self.builder.position_at_end(then)
        self.block(body)
        self.builder.branch(after)
        self.builder.position_at_end(after)

    def is_little(self, statement: ast.stmt) -> bool:
        """Whether a statement may run where no lane is on: it reads rows of entries only, if at all."""
        if not isinstance(statement, ast.Assign):
            return False
        for node in nodes_in(statement.value):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                primitive = PRIMITIVES.get(node.func.id)
                if node.func.id.startswith("load_"):
                    if not self.is_row(node.args[1]):
                        return False
                elif primitive is not None and (primitive.once or primitive.vector_lanes):
                    return False
        return True

    def is_row(self, index: ast.expr) -> bool:
        """Whether an index is known to grow by 1 from lane to lane."""
        if self.plan.nature(index) != Nature.STRIDED:
            return False
        given = ChainMap[str, Any](self.values, self.strided, self.names, PRIMITIVES)
        if not all(node.id in given for node in nodes_in(index) if isinstance(node, ast.Name)):
            return False
        # What this emits is not used.
        value = self.expression(index)
        return isinstance(value, Strided) and value.stride == 1

    def repeat_lanes(self, body: Sequence[ast.stmt]) -> None:
        """Emit a `while` that lanes leave at different turns: it goes on until the last has left."""
        builder, around = self.builder, self.mask
        kind = ir.VectorType(SCALARS["bool"], self.lanes)
        active = self.slot(kind, "active")
        builder.store(ir.Constant(kind, [1] * self.lanes) if around is None else around.llvm, active)
        head, after = self.new_block("turn"), self.new_block("after")
        builder.branch(head)
        builder.position_at_end(head)
        self.mask = self.value(builder.load(active, typ=kind), "bool")
        self.leaving.append((active, after))
        self.block(body)
        self.leaving.pop()
        builder.branch(head)
        builder.position_at_end(after)
        self.mask = around

    def leave_lanes(self, condition: Value) -> None:
        """Switch lanes off for the rest of a `while`, and leave it if none is left."""
        active, after = self.leaving[-1]
        assert self.mask is not None
        self.mask = self.mask & ~condition
        self.builder.store(self.mask.llvm, active)
        onward = self.new_block("onward")
        self.builder.cbranch(self.memory.any_lane(self.mask), onward, after)
        self.builder.position_at_end(onward)
