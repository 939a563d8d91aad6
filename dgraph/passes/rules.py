"""Rewriting rules as text: read, matched against nodes, and built.

A rule `left => right when conditions` is written in the expression syntax of .dg (`grammar/rules.lark`). Operators are
the ops of those names; anything else is written as a call of an op, with its facts as keyword arguments. So that a
compilation need not build that parser, the rules are kept beside their text as data, which a test keeps fresh.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import InvalidGraph
from dgraph.ir.build import Builder
from dgraph.ir.graph import Node, Value
from dgraph.ir.op import OPS
from dgraph.ops.shape import Broadcast
from dgraph.ops.values import Constant
from dgraph.passes.rewrite import Rewriter
from dgraph.types import Array

OPERATORS = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "/": "div",
    "//": "floor_divide",
    "%": "mod",
    "@": "dot",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
    "==": "equal",
    "!=": "not_equal",
}
CONDITIONS = ("integer", "float", "constant", "invertible", "within")


@dataclass(frozen=True)
class Hole:
    """Any value."""

    name: str


@dataclass(frozen=True)
class Number:
    """One number, or an array full of it."""

    value: float | int | bool


@dataclass(frozen=True)
class Apply:
    """An op applied to patterns, with facts that differ from their defaults."""

    op: str
    operands: tuple[Pattern, ...]
    facts: tuple[tuple[str, Any], ...] = ()


Pattern = Hole | Number | Apply


@dataclass(frozen=True)
class Condition:
    """What must hold of a hole; or how far the sides may differ, with a number in the place of the hole."""

    kind: str
    hole: str

    def holds(self, g: Rewriter, holes: Mapping[str, Value]) -> bool:
        """Whether it does."""
        if self.kind == "within":
            return True
        value = holes[self.hole]
        assert isinstance(value.type, Array)
        if self.kind == "constant":
            return constant_of(g, value) is not None
        if self.kind == "invertible":
            return _has_exact_inverse(constant_of(g, value))
        return value.type.dtype.kind == {"integer": "int", "float": "float"}[self.kind]


@dataclass(frozen=True)
class Rule:
    """One line of the file."""

    text: str
    left: Apply
    right: Pattern
    conditions: tuple[Condition, ...]

    @property
    def within(self) -> int:
        """How far the sides may differ, in units of rounding; 0 for the same bits."""
        return next((int(condition.hole) for condition in self.conditions if condition.kind == "within"), 0)

    def apply(self, g: Rewriter, node: Node) -> Value | None:
        """The value that replaces the result of a node, or None if the rule does not fit."""
        holes: dict[str, Value] = {}
        if not _matches_node(self.left, node, g, holes):
            return None
        if not all(condition.holds(g, holes) for condition in self.conditions):
            return None
        assert isinstance(node.result.type, Array)
        return build(self.right, g, holes, node.result.type)


_NUMBER = "number"
"""What `_kind` calls a known number."""

EXACT, STABLE = "simplify", "stable"
"""The files of rules: those that keep every bit, and those that are more accurate."""


def rules_for(g: Rewriter, node: Node, name: str = EXACT) -> tuple[Rule, ...]:
    """The rules of a file that may fit a node, by what makes its operands."""
    if node.op.name not in rules(name):
        return ()
    return _fitting(name, node.op.name, tuple(_kind(g, operand) for operand in node.operands))


def _kind(g: Rewriter, value: Value) -> str:
    """What a pattern can tell from outside: that a value is a number, or the op that makes it."""
    maker = g.maker(value)
    return "" if maker is None else _NUMBER if constant_of(g, value) is not None else maker.op.name


@cache
def _fitting(name: str, op: str, kinds: tuple[str, ...]) -> tuple[Rule, ...]:
    def fits(pattern: Pattern, kind: str) -> bool:
        # A number may also be what an op makes of a number: a broadcast, for a rule about broadcasts.
        return isinstance(pattern, Hole) or kind == (_NUMBER if isinstance(pattern, Number) else pattern.op)

    return tuple(rule for rule in rules(name)[op] if all(map(fits, rule.left.operands, kinds)))


@cache
def rules(name: str = EXACT) -> dict[str, tuple[Rule, ...]]:
    """The rules of a file by the op at the root of the left side."""
    found: dict[str, list[Rule]] = {}
    data = Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8")
    for text, left, right, conditions in json.loads(data):
        root = _from_data(left)
        assert isinstance(root, Apply)
        rule = Rule(text, root, _from_data(right), tuple(Condition(*condition) for condition in conditions))
        found.setdefault(root.op, []).append(rule)
    return {op: tuple(group) for op, group in found.items()}


def written_rules(name: str) -> list[Rule]:
    """The rules of a file, read from its text."""
    path = Path(__file__).with_name(f"{name}.rules")
    return read_rules(path.read_text(encoding="utf-8"), path.name)


def rules_as_data(name: str) -> str:
    """What the data beside a file of rules should hold."""
    lines = []
    for rule in written_rules(name):
        conditions = [[condition.kind, condition.hole] for condition in rule.conditions]
        lines.append(json.dumps([rule.text, _as_data(rule.left), _as_data(rule.right), conditions]))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _as_data(pattern: Pattern) -> Any:
    if isinstance(pattern, Apply):
        return [pattern.op, dict(pattern.facts), *map(_as_data, pattern.operands)]
    return pattern.name if isinstance(pattern, Hole) else pattern.value


def _from_data(data: Any) -> Pattern:
    if isinstance(data, list):
        op, facts, *operands = data
        return Apply(op, tuple(map(_from_data, operands)), tuple(facts.items()))
    return Hole(data) if isinstance(data, str) else Number(data)


def read_rules(text: str, path: str) -> list[Rule]:
    """The rules of a text. Raises `ParseError` for what the grammar refuses and `InvalidGraph` for unknown words."""
    from dgraph.reader import parse_text

    source, tree = parse_text("rules.lark", "rules", text, path)
    found = []
    for rule in tree.children:
        assert not isinstance(rule, str)
        left, right, condition = rule.children
        words = source.text[rule.meta.start_pos : rule.meta.end_pos].partition("#")[0].strip()
        root = _pattern(left)
        if not isinstance(root, Apply):
            raise InvalidGraph(f"{words}: the left side of a rule is an op")
        found.append(Rule(words, root, _pattern(right), tuple(_conditions(condition))))
    return found


def _pattern(tree: Any) -> Pattern:
    kind, parts = str(tree.data), tree.children
    if kind == "name":
        return Hole(str(parts[0]))
    if kind in ("int", "float"):
        return Number(int(parts[0]) if kind == "int" else float(parts[0]))
    if kind in ("true", "false"):
        return Number(kind == "true")
    if kind == "neg":
        inner = _pattern(parts[0])
        return Number(-inner.value) if isinstance(inner, Number) else Apply("neg", (inner,))
    if kind in ("terms", "factors", "compare"):
        chain = _pattern(parts[0])
        for operator, operand in zip(parts[1::2], parts[2::2], strict=True):
            chain = Apply(OPERATORS[str(operator)], (chain, _pattern(operand)))
        return chain
    if kind in ("logical_and", "logical_or", "logical_not"):
        return _applied(kind, tuple(map(_pattern, parts)), ())
    if kind == "call":
        arguments = parts[1].children if parts[1] is not None else []
        operands = tuple(_pattern(part) for part in arguments if part.data != "keyword")
        keywords = [part.children for part in arguments if part.data == "keyword"]
        facts = [(str(getattr(name, "children", [name])[0]), _pattern(value)) for name, value in keywords]
        return _applied(str(parts[0].children[0]), operands, tuple((name, _fact(value)) for name, value in facts))
    raise InvalidGraph(f"a rule cannot say {kind}")


def _applied(op: str, operands: tuple[Pattern, ...], facts: tuple[tuple[str, Any], ...]) -> Apply:
    if op not in OPS:
        raise InvalidGraph(f"a rule names the op {op}, which does not exist")
    return Apply(op, operands, facts)


def _fact(pattern: Pattern) -> Any:
    if not isinstance(pattern, Number):
        raise InvalidGraph("a fact in a rule is a number")
    return pattern.value


def _conditions(tree: Any) -> list[Condition]:
    if tree is None:
        return []
    if tree.data == "logical_and":
        return [condition for part in tree.children for condition in _conditions(part)]
    pattern_name, arguments = str(tree.children[0].children[0]), tree.children[1].children
    if pattern_name not in CONDITIONS:
        raise InvalidGraph(f"a rule asks for {pattern_name}, which is not one of {', '.join(CONDITIONS)}")
    return [Condition(pattern_name, str(arguments[0].children[0]))]


# ---- matching and building ----------------------------------------------------------------------------------------


def constant_of(g: Rewriter, value: Value) -> Any:
    """The number that a value is, or is full of, as a NumPy scalar; None if that is not known."""
    maker = g.maker(value)
    if maker is not None and isinstance(maker.op, Broadcast):
        maker = g.maker(maker.operands[0])
    return maker.op.number if maker is not None and isinstance(maker.op, Constant) else None


def _has_exact_inverse(number: Any) -> bool:
    """Whether dividing by a float is multiplying by another one, to the last bit: it is a power of two."""
    if number is None or number.dtype.kind != "f" or not math.isfinite(number):
        return False
    magnitude, tiny = abs(number), np.finfo(number.dtype).tiny
    return bool(magnitude >= tiny and math.frexp(magnitude)[0] == 0.5 and 1 / magnitude >= tiny)


def _matches(pattern: Pattern, value: Value, g: Rewriter, holes: dict[str, Value]) -> bool:
    if isinstance(pattern, Hole):
        return holes.setdefault(pattern.name, value) is value
    if isinstance(pattern, Number):
        return _is_number(constant_of(g, value), pattern.value)
    maker = g.maker(value)
    return maker is not None and _matches_node(pattern, maker, g, holes)


def _matches_node(pattern: Apply, node: Node, g: Rewriter, holes: dict[str, Value]) -> bool:
    if node.op.name != pattern.op or len(node.operands) != len(pattern.operands):
        return False
    if any(getattr(node.op, name) != fact for name, fact in pattern.facts):
        return False
    return all(_matches(part, operand, g, holes) for part, operand in zip(pattern.operands, node.operands, strict=True))


def _is_number(found: Any, wanted: float | int | bool) -> bool:
    if found is None or (found.dtype.kind == "b") != isinstance(wanted, bool):
        return False
    if found.dtype.kind != "f":
        return bool(found == wanted) and not isinstance(wanted, float)
    return bool(found == wanted) and math.copysign(1, found) == math.copysign(1, wanted)


def build(pattern: Pattern, g: Builder, holes: Mapping[str, Value], type_: Array) -> Value:
    """The value of a right side; numbers have the type given."""
    if isinstance(pattern, Hole):
        return holes[pattern.name]
    if isinstance(pattern, Number):
        return g.full(float(pattern.value) if type_.dtype.is_float else pattern.value, type_)
    operands = [build(part, g, holes, type_) for part in pattern.operands]
    return g.emit(OPS[pattern.op](**dict(pattern.facts)), *operands)
