"""Which names of a loop differ from lane to lane when several turns go at a time, read off the generated source.

A name is the same in all lanes, or grows by a fixed step from one to the next (the index of the loop, and indices made
from it), or differs. A choice that lanes make differently is run for the lanes that take a side, a `while` that they
leave at different turns until the last has left. A name that lives beyond such a choice keeps its old value in lanes
that do not take part; one that lives inside need not.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import field
from enum import IntEnum

from dgraph.classes import dataclass
from dgraph.kernels.helpers import PRIMITIVES
from dgraph.kernels.set_once import nodes_in
from dgraph.kernels.values import LANE_COUNTS, ROWS, SCALARS

WHOLE = 16
"""Rows are added up together if their length is a multiple of this."""
RANGES = {f"lanes_{count}": count for count in LANE_COUNTS}
MOST = "most_i64"
"""A number not less than that of any lane, and the same for all."""

Path = tuple[tuple[ast.stmt, str], ...]
"""The choices and `while` loops around a place, outer ones first, each with the part of it."""


class Nature(IntEnum):
    """How the lanes of a value differ."""

    UNIFORM = 0
    STRIDED = 1
    VARYING = 2


class CannotBeVectors(Exception):
    """A loop that runs turn by turn."""


@dataclass
class Plan:
    """What is known about the body of a loop. `differing` are the choices and loops that lanes take differently,
    `blended` the assignments that must keep the old value in lanes that are off; `given` counts the assignments of each
    name, and `fixed` are pointers to memory that the loop only reads."""

    index: str
    lanes: int
    starts_at_zero: bool
    natures: dict[str, Nature] = field(default_factory=dict)
    differing: set[ast.stmt] = field(default_factory=set)
    blended: set[ast.stmt] = field(default_factory=set)
    given: Counter[str] = field(default_factory=Counter)
    fixed: set[str] = field(default_factory=set)

    def stays(self, load: ast.Call) -> bool:
        """Whether a read means the same wherever it stands in a turn, so far as it is reached."""
        pointer, index = load.args
        names = [node.id for node in ast.walk(index) if isinstance(node, ast.Name)]
        loads = any(isinstance(node, ast.Call) and not is_place(node, self) for node in ast.walk(index))
        is_fixed = isinstance(pointer, ast.Name) and pointer.id in self.fixed
        return is_fixed and not loads and all(self.given[name] <= 1 for name in names)

    def nature(self, node: ast.expr) -> Nature:
        """How the lanes of an expression differ."""
        match node:
            case ast.Constant():
                return Nature.UNIFORM
            case ast.Name(id=name):
                return self.natures.get(name, Nature.UNIFORM)
            case ast.BinOp(left=left, op=op, right=right):
                return _combined(op, self.nature(left), self.nature(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.nature(operand)
            case ast.Call() if is_place(node, self):
                return Nature.STRIDED
            case ast.Call(func=ast.Name(id=name)) if name == MOST:
                return Nature.UNIFORM
        parts = (self.nature(part) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))
        return Nature.VARYING if any(part != Nature.UNIFORM for part in parts) else Nature.UNIFORM


def fixed_pointers(function: ast.FunctionDef, loop: ast.For) -> set[str]:
    """The pointers that a function is given and a loop does nothing with but read."""
    names = Counter(node.id for node in ast.walk(loop) if isinstance(node, ast.Name))
    calls = (node for node in ast.walk(loop) if isinstance(node, ast.Call))
    loads = Counter(
        call.args[0].id
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id.startswith("load_") and isinstance(call.args[0], ast.Name)
    )
    return {argument.arg for argument in function.args.args if loads[argument.arg] == names[argument.arg] > 0}


def is_place(node: ast.expr, plan: Plan) -> bool:
    """Whether an expression is the place of a turn among the lanes."""
    match node:
        case ast.Call(func=ast.Name(id="mod_i64"), args=[ast.Name(id=name), ast.Constant(value=count)]):
            return plan.starts_at_zero and name == plan.index and count == plan.lanes
    return False


def is_sum_of_rows(node: ast.expr, plan: Plan) -> bool:
    """Whether an expression is a sum of entries from a place on that grows from lane to lane by whole vectors."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=[ast.Call(func=ast.Name(id=offset), args=[pointer, index]), count]):
            is_sum = name.startswith("sum_") and offset.startswith("offset_") and plan.lanes == ROWS
            natures = (plan.nature(pointer), plan.nature(index), plan.nature(count))
            return (
                is_sum and natures == (Nature.UNIFORM, Nature.STRIDED, Nature.UNIFORM) and _multiple(index) % WHOLE == 0
            )
    return False


def _multiple(index: ast.expr) -> int:
    """The number by which a name is multiplied, if that is all an expression does."""
    match index:
        case ast.BinOp(left=ast.Name(), op=ast.Mult(), right=ast.Constant(value=int(factor))):
            return factor
    return 1


def _combined(op: ast.operator, left: Nature, right: Nature) -> Nature:
    if Nature.UNIFORM == left == right:
        return Nature.UNIFORM
    if isinstance(op, ast.Add | ast.Sub) and Nature.VARYING not in (left, right):
        return Nature.STRIDED
    if isinstance(op, ast.Mult) and {left, right} == {Nature.UNIFORM, Nature.STRIDED}:
        return Nature.STRIDED
    return Nature.VARYING


def plan_of(function: ast.FunctionDef, loop: ast.For) -> Plan | None:
    """What is known about a loop that asks for lanes; None if its turns must go one by one."""
    try:
        return _Planner(function, loop).found()
    except CannotBeVectors:
        return None


@dataclass(frozen=True)
class _Assignment:
    statement: ast.stmt
    name: str
    value: ast.expr | None
    path: Path


class _Planner:
    def __init__(self, function: ast.FunctionDef, loop: ast.For) -> None:
        match loop:
            case ast.For(target=ast.Name(id=index), iter=ast.Call(func=ast.Name(id=word), args=bounds)):
                pass
            case _:
                raise CannotBeVectors
        self.plan = Plan(index, RANGES[word], len(bounds) == 1, fixed=fixed_pointers(function, loop))
        self.assignments: list[_Assignment] = []
        self.paths: dict[str, list[Path]] = {}
        self.tests: list[tuple[ast.stmt, ast.expr]] = []
        self.bounds: list[ast.expr] = []
        self.calls: list[ast.Call] = []
        self.starts: list[tuple[ast.While, set[str]]] = []
        self.leaving: list[ast.If] = []
        self.visit(loop.body, (), None)
        inside = {node for statement in loop.body for node in nodes_in(statement) if isinstance(node, ast.Name)}
        self.outside = {node.id for node in nodes_in(function) if isinstance(node, ast.Name) and node not in inside} | {
            argument.arg for argument in function.args.args
        }
        self.outside.discard(index)
        self.owners = {
            name: around
            for around, names in self.starts
            for name in names - self.outside
            if sum((around, "turn") not in path for path in self.paths[name]) == 1
        }

    # ---- what is there ---------------------------------------------------------------------------------------------

    def visit(self, body: Sequence[ast.stmt], path: Path, around: ast.While | None) -> None:
        """Note the assignments, choices and calls of a block; `around` is the `while` whose body it is."""
        given: set[str] = set()
        for statement in body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.read(value, path)
                    self.give(statement, name, value, path)
                    given.add(name)
                case ast.Expr(value=ast.Call() as call):
                    self.read(call, path)
                case ast.Pass() | ast.Expr(value=ast.Constant()):
                    pass
                case ast.If(test=test, body=[ast.Break()], orelse=[]) if around is not None:
                    self.read(test, path)
                    self.tests.append((around, test))
                case ast.If(test=test, body=[ast.Return()], orelse=[]):
                    self.read(test, path)
                    self.tests.append((statement, test))
                    self.leaving.append(statement)
                case ast.If(test=test, body=then, orelse=otherwise):
                    self.read(test, path)
                    self.tests.append((statement, test))
                    self.visit(then, (*path, (statement, "then")), None)
                    self.visit(otherwise, (*path, (statement, "else")), None)
                case ast.For(target=ast.Name(id=name), iter=ast.Call(args=bounds), body=inner, orelse=[]):
                    for bound in bounds:
                        self.read(bound, path)
                    self.bounds += bounds
                    self.give(statement, name, None, path)
                    self.visit(inner, path, None)
                case ast.While(test=ast.Constant(value=True), body=inner, orelse=[]):
                    self.visit(inner, (*path, (statement, "turn")), statement)
                    self.starts.append((statement, set(given)))
                case _:
                    raise CannotBeVectors

    def read(self, expression: ast.expr, path: Path) -> None:
        for node in nodes_in(expression):
            if isinstance(node, ast.Name):
                self.paths.setdefault(node.id, []).append(path)
            elif isinstance(node, ast.Call):
                self.calls.append(node)

    def give(self, statement: ast.stmt, name: str, value: ast.expr | None, path: Path) -> None:
        self.paths.setdefault(name, []).append(path)
        self.assignments.append(_Assignment(statement, name, value, path))

    # ---- what follows ----------------------------------------------------------------------------------------------

    def found(self) -> Plan:
        plan = self.plan
        given = [assignment.name for assignment in self.assignments]
        self.times = Counter(given)
        if plan.index in given:
            raise CannotBeVectors
        plan.natures = dict.fromkeys(given, Nature.UNIFORM)
        plan.given = Counter(given)
        plan.natures[plan.index] = Nature.STRIDED
        while self.learns():
            pass
        for assignment in self.assignments:
            if not self.is_at_home(assignment):
                plan.blended.add(assignment.statement)
        shared = [name for name in given if name in self.outside and plan.natures[name] != Nature.UNIFORM]
        if shared or any(plan.nature(bound) != Nature.UNIFORM for bound in self.bounds):
            raise CannotBeVectors
        if not plan.differing.isdisjoint(self.leaving):
            raise CannotBeVectors
        rows = {call.args[0] for call in self.calls if is_sum_of_rows(call, plan)}
        for call in self.calls:
            if call not in rows and not is_sum_of_rows(call, plan):
                self.judge(call)
        return plan

    def learns(self) -> bool:
        """Whether anything turns out to differ more than was known."""
        plan = self.plan
        before = dict(plan.natures), len(plan.differing)
        for statement, test in self.tests:
            if plan.nature(test) != Nature.UNIFORM:
                plan.differing.add(statement)
        for assignment in self.assignments:
            name = assignment.name
            nature = Nature.UNIFORM if assignment.value is None else plan.nature(assignment.value)
            is_only = self.times[name] == 1 and name not in self.outside
            if nature == Nature.STRIDED and not is_only:
                nature = Nature.VARYING
            if not self.is_at_home(assignment):
                nature = Nature.VARYING
            plan.natures[name] = max(plan.natures[name], nature)
        return before != (plan.natures, len(plan.differing))

    def varying_path(self, path: Path) -> Path:
        """The part of a path that lanes take differently."""
        return tuple(step for step in path if step[0] in self.plan.differing)

    def is_at_home(self, assignment: _Assignment) -> bool:
        """Whether an assignment reaches all lanes in which something is done with the name. What a `while` alone works
        on, but for a start before it, matters only in lanes that are still in it."""
        name, way = assignment.name, self.varying_path(assignment.path)
        if not way:
            return True
        if name in self.outside:
            return False
        inside = (self.owners.get(name), "turn")
        others = (path for path in self.paths[name] if name not in self.owners or inside in path)
        return all(self.varying_path(path)[: len(way)] == way for path in others)

    def judge(self, call: ast.Call) -> None:
        """Refuse what cannot be done for several lanes at a time."""
        assert isinstance(call.func, ast.Name)
        name, plan = call.func.id, self.plan
        natures = [plan.nature(argument) for argument in call.args]
        if name in SCALARS or name == MOST:
            return
        primitive = PRIMITIVES.get(name)
        if name.startswith("store_") and all(nature == Nature.UNIFORM for nature in natures):
            # All write the same, or add to an entry that they share.
            return
        if primitive is not None and name.startswith("store_"):
            is_own = natures[1] == Nature.STRIDED or (natures[1] == Nature.VARYING and update_of(call) is None)
            if natures[0] != Nature.UNIFORM or not (is_own or update_of(call) is not None):
                raise CannotBeVectors
        elif all(nature == Nature.UNIFORM for nature in natures):
            if primitive is None or primitive.result == "none" or name.startswith("sum_"):
                raise CannotBeVectors
        elif (
            primitive is None
            or not (
                name.startswith("load_") or all(kind in SCALARS for kind in (*primitive.operands, primitive.result))
            )
            or (name.startswith("load_") and natures[0] != Nature.UNIFORM)
        ):
            raise CannotBeVectors


@dataclass(frozen=True)
class Update:
    """A store that combines a value into what an entry holds: `combine` with the entry's name in place of the read."""

    combine: ast.expr
    value: ast.expr


ENTRY, TERM = "update entry", "update term"


def update_of(store: ast.Call) -> Update | None:
    """The update that a store is, if it is one."""
    assert isinstance(store.func, ast.Name)
    pointer, index, value = store.args
    type_name = store.func.id.removeprefix("store_")

    def is_entry(node: ast.expr) -> bool:
        match node:
            case ast.Call(func=ast.Name(id=name), args=[source, at]):
                same = ast.dump(source) == ast.dump(pointer) and ast.dump(at) == ast.dump(index)
                return name == f"load_{type_name}" and same
        return False

    entry, term = ast.Name(ENTRY, ast.Load()), ast.Name(TERM, ast.Load())
    match value:
        case ast.BinOp(left=left, op=op, right=right) if is_entry(left):
            return Update(ast.BinOp(entry, op, term), right)
        case ast.Call(func=function, args=[left, right]) if is_entry(left):
            return Update(ast.Call(function, [entry, term], []), right)
    return None
