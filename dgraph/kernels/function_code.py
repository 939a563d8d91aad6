"""The code of one function of generated source, of which the small part of Python that it is written in becomes LLVM
instructions.

What the text means is said by the types: every name has one type, operators take operands of one type, and everything
else is a call of a primitive or of a function defined before.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from dgraph.classes import dataclass
from dgraph.kernels import loop_marks
from dgraph.kernels.arithmetic import convert
from dgraph.kernels.helpers import PRIMITIVES
from dgraph.kernels.memory import place_of
from dgraph.kernels.set_once import names_set_once
from dgraph.kernels.thread_code import SHARED, share
from dgraph.kernels.values import FLOATS, INTEGERS, SCALARS, Value, known_number

CONSTANTS = {
    "inf_f32": ("f32", float("inf")),
    "nan_f32": ("f32", float("nan")),
    "inf_f64": ("f64", float("inf")),
    "nan_f64": ("f64", float("nan")),
}
_RELATIONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_OPERATORS: dict[type[ast.operator], tuple[Callable[[Value, Value], Value], tuple[str, ...]]] = {
    ast.Add: (lambda x, y: x + y, (*FLOATS, "i64")),
    ast.Sub: (lambda x, y: x - y, (*FLOATS, "i64")),
    ast.Mult: (lambda x, y: x * y, (*FLOATS, "i64")),
    ast.Div: (lambda x, y: x / y, FLOATS),
    ast.LShift: (lambda x, y: x << y, ("i64",)),
    ast.RShift: (lambda x, y: x >> y, ("i64",)),
    ast.BitAnd: (lambda x, y: x & y, ("i64", "bool")),
    ast.BitOr: (lambda x, y: x | y, ("i64", "bool")),
    ast.BitXor: (lambda x, y: x ^ y, ("i64", "bool")),
}
DIVISIONS: dict[type[ast.operator], str] = {ast.FloorDiv: "floor_div_i64", ast.Mod: "mod_i64"}


class SourceFault(Exception):
    """Generated source that breaks the rules: a fault of the printer that wrote it."""

    def __init__(self, node: ast.AST, problem: str) -> None:
        text = ast.unparse(node) if isinstance(node, ast.expr | ast.stmt) else ""
        super().__init__(f"line {getattr(node, 'lineno', 0)}: {problem}: {text.splitlines()[0] if text else ''}")


@dataclass(frozen=True)
class Signature:
    """The types of a function and its LLVM function."""

    function: Any
    operands: tuple[str, ...]
    result: str


MANY = 8
"""Calls of mathematical functions outside of loops from which on they are not inlined: straight code would grow beyond
what LLVM compiles in reasonable time."""


@dataclass(frozen=True)
class Turn:
    """Where `continue` and `break` of a loop go."""

    onward: Any
    outward: Any


class FunctionCode:
    """Translates the body of one function. Names that are not set once live in stack slots, which LLVM turns into
    registers."""

    def __init__(self, module: Any, known: dict[str, Signature], signature: Signature, node: ast.FunctionDef) -> None:
        self.module = module
        self.known = known
        self.signature = signature
        self.node = node
        self.builder = ir.IRBuilder(signature.function.append_basic_block("entry"))
        self.names: dict[str, tuple[Any, str]] = {}
        self.once = names_set_once(node)
        self.values: dict[str, Value] = {}
        self.turns: list[Turn] = []
        self.keeps_apart = _calls_outside_loops(node) > MANY

    def translate(self) -> None:
        """Emit the whole function."""
        for argument, value, type_name in zip(
            self.node.args.args, self.signature.function.args, self.signature.operands, strict=True
        ):
            self.assign(argument, argument.arg, self.value(value, type_name))
        self.block(self.node.body)
        if not self.builder.block.is_terminated:
            if self.signature.result == "none":
                self.builder.ret_void()
            else:
                # The end of a function with a result is reached by no path.
                self.builder.unreachable()

    def value(self, value: Any, type_name: str) -> Value:
        """Wrap an LLVM value."""
        return Value(self.builder, value, type_name)

    def new_block(self, name: str) -> Any:
        """A basic block that is entered later."""
        return self.signature.function.append_basic_block(name)

    # ---- names ----

    def assign(self, node: ast.AST, name: str, value: Value) -> None:
        """Give a name a value; its first decides its type."""
        if name in self.once:
            self.values[name] = value
            return
        if name not in self.names:
            with self.builder.goto_entry_block():
                self.names[name] = self.builder.alloca(value.llvm.type, name=name), value.type
        slot, type_name = self.names[name]
        if type_name != value.type:
            raise SourceFault(node, f"{name} is {type_name} and is assigned {value.type}")
        self.builder.store(value.llvm, slot)

    def read(self, node: ast.Name) -> Value:
        """The value of a name."""
        if node.id in self.values:
            return self.values[node.id]
        if node.id in self.names:
            slot, type_name = self.names[node.id]
            return self.value(self.builder.load(slot, typ=slot.allocated_type), type_name)
        if node.id in CONSTANTS:
            type_name, number = CONSTANTS[node.id]
            return self.constant(number, type_name)
        raise SourceFault(node, "unknown name")

    def constant(self, number: float, type_name: str) -> Value:
        """A constant of a scalar type."""
        return self.value(known_number(type_name, number), type_name)

    # ---- statements ----

    def block(self, body: Sequence[ast.stmt]) -> None:
        """Emit statements in order, up to one that leaves."""
        for statement in body:
            if self.builder.block.is_terminated:
                return
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        """Emit one statement."""
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self.assign(node, name, self.expression(value))
            case ast.AugAssign(target=ast.Name() as target, op=op, value=value):
                combined = self.operator(node, op, self.read(target), self.expression(value))
                self.assign(node, target.id, combined)
            case ast.Expr(value=ast.Call() as call):
                self.call(call)
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                pass
            case ast.If(test=test, body=body, orelse=orelse):
                self.choose(test, body, orelse)
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id=word), args=bounds), body=body) if (
                word in ("range", loop_marks.ONE_BY_ONE)
            ):
                self.count(node, name, bounds, body)
            case ast.For(
                target=ast.Name(id=name),
                iter=ast.Call(func=ast.Name(id=word), args=[bound]),
                body=[ast.Expr(value=ast.Call() as call)],
            ) if word == SHARED:
                share(self, self.typed(bound, "i64"), call, name)
            case ast.While(test=test, body=body):
                self.repeat(test, body)
            case ast.Break():
                self.builder.branch(self.turns[-1].outward)
            case ast.Continue():
                self.builder.branch(self.turns[-1].onward)
            case ast.Return(value=value):
                self.leave(node, value)
            case _:
                raise SourceFault(node, "no such statement")

    def leave(self, node: ast.Return, value: ast.expr | None) -> None:
        """Return from the function."""
        if value is None:
            self.builder.ret_void()
            return
        result = self.expression(value)
        if result.type != self.signature.result:
            raise SourceFault(node, f"the result is {self.signature.result}, not {result.type}")
        self.builder.ret(result.llvm)

    def choose(self, test: ast.expr, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt]) -> None:
        """Emit an `if`."""
        self.branch(self.condition(test), body, orelse)

    def branch(self, condition: Value, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt]) -> None:
        """Emit statements for either side of a condition."""
        then, after = self.new_block("then"), self.new_block("after")
        otherwise = self.new_block("else") if orelse else after
        self.builder.cbranch(condition.llvm, then, otherwise)
        for place, statements in ((then, body), (otherwise, orelse)):
            if place is after:
                continue
            self.builder.position_at_end(place)
            self.block(statements)
            if not self.builder.block.is_terminated:
                self.builder.branch(after)
        self.builder.position_at_end(after)

    def repeat(self, test: ast.expr, body: Sequence[ast.stmt]) -> None:
        """Emit a `while`."""
        head, inside, after = (self.new_block(name) for name in ("test", "body", "after"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(self.condition(test).llvm, inside, after)
        self.turn(inside, body, Turn(head, after))

    def turn(self, inside: Any, body: Sequence[ast.stmt], turn: Turn) -> None:
        """Emit the body of a loop, and go on behind the loop."""
        self.builder.position_at_end(inside)
        self.turns.append(turn)
        self.block(body)
        self.turns.pop()
        if not self.builder.block.is_terminated:
            self.builder.branch(turn.onward)
        self.builder.position_at_end(turn.outward)

    def count(self, node: ast.For, name: str, bounds: Sequence[ast.expr], body: Sequence[ast.stmt]) -> None:
        """Emit a `for` over a range; its counter is apart from the name, which the body may assign."""
        step = literal(bounds[2]) if len(bounds) == 3 else 1
        if not step:
            raise SourceFault(node, "the step of a range is a number other than 0")
        numbers = [self.typed(bound, "i64") for bound in bounds[:2]]
        start, stop = numbers if len(numbers) == 2 else (self.constant(0, "i64"), numbers[0])
        head, inside, onward, after = (self.new_block(part) for part in ("head", "body", "next", "after"))
        before = self.builder.block
        self.builder.branch(head)
        self.builder.position_at_end(head)
        counter = self.builder.phi(SCALARS["i64"])
        counter.add_incoming(start.llvm, before)
        inbound = self.builder.icmp_signed("<" if step > 0 else ">", counter, stop.llvm)
        self.builder.cbranch(inbound, inside, after)
        self.builder.position_at_end(inside)
        marks = loop_marks.guard_of(node) if step == 1 else None
        if marks is not None:
            inside = self.skip(self.read(marks), counter, stop.llvm, head)
        self.assign(node, name, self.value(counter, "i64"))
        self.turn(inside, body, Turn(onward, after))
        self.builder.position_at_end(onward)
        counter.add_incoming(self.builder.add(counter, SCALARS["i64"](step), flags=("nsw",)), onward)
        back = self.builder.branch(head)
        mark = loop_marks.mark_of(node, not self.turns)
        if mark is not None:
            back.set_metadata("llvm.loop", mark)
        self.builder.position_at_end(after)

    def skip(self, marks: Value, counter: Any, stop: Any, head: Any) -> Any:
        """Go on behind the next entries of a mark if none is set, all looked at as one integer; else in the block
        that is returned."""
        probe, turn = self.new_block("probe"), self.new_block("marked")
        beyond = self.builder.add(counter, counter.type(loop_marks.TOGETHER), flags=("nsw",))
        self.builder.cbranch(self.builder.icmp_signed("<=", beyond, stop), probe, turn)
        self.builder.position_at_end(probe)
        together = self.builder.load(place_of(marks, self.value(counter, "i64")), typ=SCALARS["i64"], align=1)
        self.builder.cbranch(self.builder.icmp_unsigned("==", together, together.type(0)), head, turn)
        counter.add_incoming(beyond, probe)
        self.builder.position_at_end(turn)
        return turn

    # ---- expressions ----

    def typed(self, node: ast.expr, type_name: str) -> Value:
        """An expression that must be of a type."""
        value = self.expression(node)
        if value.type != type_name:
            raise SourceFault(node, f"this is {value.type}, not {type_name}")
        return value

    def condition(self, node: ast.expr) -> Value:
        """An expression that must be a truth value."""
        return self.typed(node, "bool")

    def expression(self, node: ast.expr) -> Value:
        """Emit one expression."""
        match node:
            case ast.Constant(value=bool(number)):
                return self.constant(number, "bool")
            case ast.Constant(value=int(number)):
                return self.constant(number, "i64")
            case ast.Constant(value=float(number)):
                return self.constant(number, "f64")
            case ast.Name():
                return self.read(node)
            case ast.BinOp(left=left, op=op, right=right):
                return self.operator(node, op, self.expression(left), self.expression(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.negated(node, self.expression(operand))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.condition(operand)
            case ast.BoolOp(op=op, values=values):
                return self.connected(isinstance(op, ast.And), values)
            case ast.Compare(left=left, ops=[relation], comparators=[right]):
                return self.compared(node, relation, self.expression(left), self.expression(right))
            case ast.IfExp(test=test, body=chosen, orelse=otherwise):
                return self.chosen(node, test, chosen, otherwise)
            case ast.Call():
                result = self.call(node)
                if result is not None:
                    return result
        raise SourceFault(node, "no such expression")

    def operator(self, node: ast.AST, op: ast.operator, left: Value, right: Value) -> Value:
        """Emit an arithmetic operator."""
        if left.type != right.type:
            raise SourceFault(node, f"{left.type} meets {right.type}")
        if type(op) in DIVISIONS and left.type == "i64":
            primitive = PRIMITIVES[DIVISIONS[type(op)]]
            return self.value(primitive.emit(self.builder, [left.llvm, right.llvm]), "i64")
        emit, types = _OPERATORS.get(type(op), (None, ()))
        if emit is None or left.type not in types:
            raise SourceFault(node, f"no such operator for {left.type}")
        return emit(left, right)

    def negated(self, node: ast.expr, value: Value) -> Value:
        """Emit a unary minus."""
        if value.type not in (*FLOATS, "i64"):
            raise SourceFault(node, f"no such operator for {value.type}")
        return -value

    def compared(self, node: ast.expr, relation: ast.cmpop, left: Value, right: Value) -> Value:
        """Emit a comparison; integers of different types are compared as i64."""
        if left.type != right.type and left.type in INTEGERS and right.type in INTEGERS:
            left, right = convert("i64", left), convert("i64", right)
        if left.type != right.type or type(relation) not in _RELATIONS:
            raise SourceFault(node, f"{left.type} is compared with {right.type}")
        return left.compare(right, _RELATIONS[type(relation)])

    def connected(self, is_and: bool, values: Sequence[ast.expr]) -> Value:
        """Emit `and` or `or`: what follows is evaluated only where it is needed."""
        after = self.new_block("known")
        incoming = []
        for position, node in enumerate(values):
            value = self.condition(node)
            incoming.append((value.llvm, self.builder.block))
            if position == len(values) - 1:
                self.builder.branch(after)
            else:
                further = self.new_block("further")
                targets = (further, after) if is_and else (after, further)
                self.builder.cbranch(value.llvm, *targets)
                self.builder.position_at_end(further)
        return self.joined(after, incoming, "bool")

    def chosen(self, node: ast.expr, test: ast.expr, chosen: ast.expr, otherwise: ast.expr) -> Value:
        """Emit `x if c else y`, of which one side is evaluated."""
        condition = self.condition(test)
        places = [self.new_block("then"), self.new_block("else")]
        after = self.new_block("chosen")
        self.builder.cbranch(condition.llvm, *places)
        incoming, types = [], []
        for place, side in zip(places, (chosen, otherwise), strict=True):
            self.builder.position_at_end(place)
            value = self.expression(side)
            types.append(value.type)
            incoming.append((value.llvm, self.builder.block))
            self.builder.branch(after)
        if types[0] != types[1]:
            raise SourceFault(node, f"{types[0]} or {types[1]}")
        return self.joined(after, incoming, types[0])

    def joined(self, place: Any, incoming: Sequence[tuple[Any, Any]], type_name: str) -> Value:
        """Go on where several paths meet, with the value that each brings."""
        self.builder.position_at_end(place)
        phi = self.builder.phi(incoming[0][0].type)
        for value, origin in incoming:
            phi.add_incoming(value, origin)
        return self.value(phi, type_name)

    def call(self, node: ast.Call) -> Value | None:
        """Emit a call of a type, a primitive or a function of the program."""
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise SourceFault(node, "no such call")
        name = node.func.id
        if name in SCALARS:
            return self.cast(node, name)
        return self.applied(node, name, [self.expression(argument) for argument in node.args])

    def applied(self, node: ast.expr, name: str, operands: Sequence[Value]) -> Value | None:
        """Emit a call with operands that are known."""
        given = tuple(operand.type for operand in operands)
        values = [operand.llvm for operand in operands]
        target = PRIMITIVES.get(name) or self.known.get(name)
        if target is None:
            raise SourceFault(node, "unknown function")
        if given != target.operands:
            raise SourceFault(node, f"{name} takes {target.operands}, not {given}")
        if isinstance(target, Signature):
            result = self.builder.call(target.function, values)
        else:
            result = target.emit(self.builder, values, apart=self.keeps_apart and not self.turns)
        return None if target.result == "none" else self.value(result, target.result)

    def cast(self, node: ast.Call, type_name: str) -> Value:
        """Emit a constant of a type, or a conversion."""
        number = literal(node.args[0]) if len(node.args) == 1 else None
        if number is not None:
            return self.constant(number, type_name)
        if len(node.args) != 1:
            raise SourceFault(node, "a type takes one number")
        return convert(type_name, self.expression(node.args[0]))


def _calls_outside_loops(node: ast.AST) -> int:
    """How often code that is emitted once for all its calls is called in what runs once."""
    count, pending = 0, [node]
    while pending:
        part = pending.pop()
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
            primitive = PRIMITIVES.get(part.func.id)
            count += primitive is not None and primitive.once
        pending += [inner for inner in ast.iter_child_nodes(part) if not isinstance(inner, ast.For | ast.While)]
    return count


def literal(node: ast.expr) -> Any:
    """The number that an expression spells out, or None."""
    match node:
        case ast.Constant(value=bool() | int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
    return None
