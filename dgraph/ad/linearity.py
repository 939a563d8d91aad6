"""Whether the rule of a program is linear in the tangents: found on its nodes, so that a mistake is shown where it
stands.

Every value is a zero, depends on the tangents linearly, or does not depend on them. Where two come together (a sum, a
carry, the sides of a choice), a zero goes with anything; a linear value with one that does not depend on the tangents
would not be linear.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import Any

from dgraph.errors import NotDifferentiable
from dgraph.ir.graph import Node, Region, Value
from dgraph.ops.transform import Rule
from dgraph.types import Array, tangent_type


class Kind(Enum):
    """How a value depends on the tangents."""

    ZERO = auto()
    FIXED = auto()
    LINEAR = auto()


SUMS = frozenset(("accumulate", "add", "concat", "select", "set_at", "sub"))
"""Ops that are linear in all float operands together."""

ONLY = {"cast": 0, "div": 0, "index": 0}
"""Ops that are linear in one operand and do not say so by `linear_in`."""

MAKES_ZERO = ("fresh", "zero_tape")


def require_linear(rule: Rule, region: Region) -> None:
    """Raise `NotDifferentiable` unless the rule is linear in its last inputs, the tangents."""
    tangents = sum(tangent_type(value.type) is not None for value in region.inputs) // 2
    given = [Kind.FIXED] * (len(region.inputs) - tangents) + [Kind.LINEAR] * tangents
    outputs = _Survey(rule).outputs(region, given)
    if Kind.FIXED in outputs:
        raise _fault(rule, None, "gives something that does not depend on the tangents")


def _fault(rule: Rule, node: Node | None, said: str) -> NotDifferentiable:
    title = f"the rule `{rule.name}` is not linear in the tangents"
    note = "a derivative is a sum of tangents times numbers that do not depend on them"
    if node is None or node.span == rule.span:
        return NotDifferentiable.at(rule.span, title, said, note=note)
    return NotDifferentiable.at(node.span, title, said, also=[(rule.span, "the rule")], note=note)


class _Survey:
    """One walk through a rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def outputs(self, region: Region, given: Sequence[Kind]) -> list[Kind]:
        """How the outputs of a region depend on the tangents, from its inputs."""
        known = dict(zip(region.inputs, given, strict=True))
        for node in region.nodes:
            kinds = [known[operand] for operand in node.operands]
            known.update(zip(node.results, self.results(node, kinds), strict=True))
        return [known[output] for output in region.outputs]

    def results(self, node: Node, kinds: Sequence[Kind]) -> list[Kind]:
        """How the results of a node depend on the tangents."""
        if node.regions:
            return REGIONS[node.op.name](self, node, kinds)
        if Kind.LINEAR not in kinds:
            return [self.plain(node, kinds)] * len(node.results)
        if any(not _is_float(result) for result in node.results) or not node.results:
            raise _fault(self.rule, node, "decides by a tangent")
        if node.op.name in SUMS and self.is_sum(node, kinds):
            return [self.joined(node, self.floats(node, kinds))]
        linear = _linear_in(node)
        if kinds.count(Kind.LINEAR) > 1 or kinds.index(Kind.LINEAR) not in linear:
            raise _fault(self.rule, node, "not linear in the tangents")
        others = (kind for at, kind in enumerate(kinds) if at in linear)
        return [Kind.ZERO if Kind.ZERO in others else Kind.LINEAR] * len(node.results)

    def is_sum(self, node: Node, kinds: Sequence[Kind]) -> bool:
        """Whether an op that adds up gets its tangents in places where it does."""
        kind = getattr(node.operands[0].type, "kind", "add")
        return kind == "add" and all(
            _is_float(v) for v, k in zip(node.operands, kinds, strict=True) if k is Kind.LINEAR
        )

    def floats(self, node: Node, kinds: Sequence[Kind]) -> list[Kind]:
        """The kinds of the float operands."""
        return [kind for operand, kind in zip(node.operands, kinds, strict=True) if _is_float(operand)]

    def plain(self, node: Node, kinds: Sequence[Kind]) -> Kind:
        """A result that does not depend on the tangents: zero, or not."""
        if node.op.name == "constant":
            value = getattr(node.op, "value", None)
            return Kind.ZERO if value == 0 and _is_float(node.results[0]) else Kind.FIXED
        if node.op.name in MAKES_ZERO:
            return Kind.ZERO
        if node.op.name in SUMS:
            return Kind.ZERO if set(self.floats(node, kinds)) == {Kind.ZERO} else Kind.FIXED
        return Kind.ZERO if any(kinds[at] is Kind.ZERO for at in _linear_in(node)) else Kind.FIXED

    def joined(self, node: Node, kinds: Iterable[Kind]) -> Kind:
        """What comes of values of which one may be another."""
        found = set(kinds)
        if {Kind.FIXED, Kind.LINEAR} <= found:
            raise _fault(self.rule, node, "adds something that does not depend on the tangents")
        return next((kind for kind in (Kind.LINEAR, Kind.FIXED) if kind in found), Kind.ZERO)

    def settled(self, node: Node, region: Region, given: list[Kind], first: int, count: int) -> list[Kind]:
        """The outputs of a step whose inputs from `first` on are its first outputs again; `given` is brought to what
        they are in every step."""
        while True:
            outputs = self.outputs(region, given)
            carried = [
                self.joined(node, pair) for pair in zip(given[first : first + count], outputs[:count], strict=True)
            ]
            if carried == given[first : first + count]:
                return [*carried, *outputs[count:]]
            given[first : first + count] = carried


def _linear_in(node: Node) -> tuple[int, ...]:
    """The operands in each of which an op is linear while the others are fixed."""
    return node.op.linear_in or ((ONLY[node.op.name],) if node.op.name in ONLY else ())


def _is_float(value: Value) -> bool:
    return tangent_type(value.type) is not None if isinstance(value.type, Array) else True


def _for(survey: _Survey, node: Node, kinds: Sequence[Kind]) -> list[Kind]:
    op: Any = node.op
    return survey.settled(node, node.regions[0], [Kind.FIXED, *kinds[1:]], 1, op.carries)


def _while(survey: _Survey, node: Node, kinds: Sequence[Kind]) -> list[Kind]:
    op: Any = node.op
    given = list(kinds)
    outputs = survey.settled(node, node.regions[1], given, 0, op.carries)
    survey.outputs(node.regions[0], given)
    return [*outputs, Kind.FIXED]


def _space(survey: _Survey, node: Node, kinds: Sequence[Kind]) -> list[Kind]:
    op: Any = node.op
    threads = op.accumulators
    own = [Kind.ZERO if buffer.kind == "add" else Kind.FIXED for buffer in op.buffers]
    indices = [Kind.FIXED] * len(op.extents)
    given = [*indices, *kinds[:threads], *own, *kinds[threads:]]
    return survey.settled(node, node.regions[0], given, len(indices), threads + len(own))


def _if(survey: _Survey, node: Node, kinds: Sequence[Kind]) -> list[Kind]:
    sides = [survey.outputs(region, kinds[1:]) for region in node.regions]
    return [survey.joined(node, pair) for pair in zip(*sides, strict=True)]


def _custom(survey: _Survey, node: Node, kinds: Sequence[Kind]) -> list[Kind]:
    return survey.outputs(node.regions[0], kinds)


REGIONS = {"for": _for, "while": _while, "space": _space, "if": _if, "custom": _custom}
"""The rule of each region op; calls are inlined and transforms expanded before."""
