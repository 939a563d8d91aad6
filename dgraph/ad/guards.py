"""Which producers are needed on one side of choices only.

The cotangent of such a producer is zero where the other side is taken; times an infinite derivative that is NaN. So
it has to stand inside the choice when the region is differentiated.
"""

from __future__ import annotations

from typing import Any

from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.hoist import is_movable
from dgraph.ops.control import Space
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.transform import Transform
from dgraph.types import Array, ValueType, tangent_type

# fmt: off
FINITE = frozenset((
    "abs", "accumulate", "add", "atan", "broadcast", "call", "cast", "ceil", "concat", "constant", "contract", "cos",
    "cumsum", "dot", "erf", "floor", "fma", "for", "freeze", "fresh", "if", "index", "iota", "largest", "logsumexp",
    "maximum", "minimum", "mul", "neg", "reduce_max", "reduce_min", "reduce_sum", "relu", "reshape", "round", "select",
    "set_at", "sigmoid", "sign", "sin", "size", "slice", "smallest", "softplus", "space", "steep", "stop_gradient",
    "sub", "tanh", "transpose", "undefined", "unslice", "while", "zero_tape",
))
# fmt: on
"""Ops with finite derivatives wherever their operands are finite. Region ops are judged by what they hold."""


def is_finite(node: Node) -> bool:
    """Whether finite operands give a node finite derivatives, or it has none."""
    if all(tangent_type(result.type) is None for result in node.results):
        return True
    return node.op.name in FINITE and all(is_finite(inner) for region in node.regions for inner in region.nodes)


def _rank(type_: ValueType) -> int:
    return type_.rank if isinstance(type_, Array) else -1


def is_number(node: Node) -> bool:
    """Whether a node computes numbers from numbers, and so may be done again at every step or point."""
    return not node.regions and all(_rank(value.type) == 0 for value in (*node.operands, *node.results))


class Guards:
    """Answers about the regions of one graph; each is found once."""

    def __init__(self) -> None:
        self.sinking: dict[tuple[Region, Node], bool] = {}
        self.reading: dict[tuple[Region, Node], bool] = {}
        self.guarding: dict[tuple[Region, Value, bool], bool] = {}
        self.infinite: dict[Region, frozenset[Value]] = {}

    def finds(self, region: Region) -> bool:
        """Whether anything in a region, or inside it, is to be moved into a choice."""
        for node in reversed(region.nodes):
            for result in node.results:
                self.guarded(region, result, True)
                self.guarded(region, result, False)
        here = any(self.sinks(region, node) or self.is_read_in_choices(region, node) for node in region.nodes)
        return here or any(self.finds(inner) for node in region.nodes for inner in node.regions)

    def sinks(self, region: Region, node: Node) -> bool:
        """Whether a node of the region is to be done where it is used, inside choices."""
        key = region, node
        found = self.sinking.get(key)
        if found is None:
            found = self.sinking[key] = self._sinks(region, node)
        return found

    def _sinks(self, region: Region, node: Node) -> bool:
        if not is_movable(node) or all(tangent_type(result.type) is None for result in node.results):
            return False
        number = is_number(node)
        readers = {user for result in node.results for user in region.users.get(result, ())}
        if not number and len(readers) > 1 and self.is_finite(region, node):
            return False
        used = [result for result in node.results if result in region.used]
        return bool(used) and all(self.guarded(region, result, number) for result in used)

    def is_finite(self, region: Region, node: Node) -> bool:
        """Whether neither a node nor what it depends on in its region has infinite derivatives."""
        if region not in self.infinite:
            found: set[Value] = set()
            for other in region.nodes:
                if not is_finite(other) or any(operand in found for operand in other.operands):
                    found.update(other.results)
            self.infinite[region] = frozenset(found)
        return not any(result in self.infinite[region] for result in node.results)

    def guarded(self, region: Region, value: Value, through_loops: bool) -> bool:
        """Whether every use of a value is on one side of a choice, directly or by nodes that sink with it.

        `through_loops` allows the choice to stand in the body of a loop or index space, where the value would be
        computed anew at every step.
        """
        key = region, value, through_loops
        found = self.guarding.get(key)
        if found is None:
            users = region.users.get(value, ())
            found = self.guarding[key] = (
                bool(users)
                and value not in region.outputs
                and all(self.is_guarded_use(region, value, user, through_loops) for user in users)
            )
        return found

    def is_guarded_use(self, region: Region, value: Value, user: Node, through_loops: bool) -> bool:
        """Whether a node uses a value on one side of choices only."""
        op: Any = user.op
        if not user.regions:
            if through_loops and self.is_read_in_choices(region, user):
                return True
            return self.sinks(region, user) and all(
                self.guarded(region, result, through_loops) for result in user.results if result in region.used
            )
        if isinstance(op, Transform) or value in user.operands[: op.leading_operands()]:
            return False
        inner = self.captures(user, value)
        uses = [any(own in side.used for own in inputs) for side, inputs in zip(user.regions, inner, strict=True)]
        if op.name == "if" and sum(uses) == 1:
            return True
        if op.name in ("while", "for", "space") and (not through_loops or any(uses[:-1])):
            return False
        return any(uses) and all(
            own not in side.used or self.guarded(side, own, through_loops)
            for side, inputs in zip(user.regions, inner, strict=True)
            for own in inputs
        )

    def captures(self, user: Node, value: Value) -> list[list[Value]]:
        """For each region of a node, the inputs that are captures of a value."""
        op: Any = user.op
        lead = op.leading_operands()
        places = [at - lead for at, operand in enumerate(user.operands) if operand is value and at >= lead]
        return [[region.inputs[op.leading_inputs(k) + at] for at in places] for k, region in enumerate(user.regions)]

    def is_read_in_choices(self, region: Region, node: Node) -> bool:
        """Whether a node makes an array with infinite derivatives whose entries are read one by one, inside choices:
        then the entry is to be computed where it is read."""
        key = region, node
        found = self.reading.get(key)
        if found is None:
            found = self.reading[key] = self._is_read_in_choices(region, node)
        return found

    def _is_read_in_choices(self, region: Region, node: Node) -> bool:
        if len(node.results) != 1 or not is_entrywise(node) or self.is_finite(region, node):
            return False
        users = region.users.get(node.result, ())
        return (
            bool(users)
            and node.result not in region.outputs
            and all(
                self.is_read_in_choices(region, user)
                if not user.regions
                else self._reads_entries(user, node.result, node, False)
                for user in users
            )
        )

    def _reads_entries(self, user: Node, value: Value, source: Node, in_choice: bool) -> bool:
        """Whether a node with regions reads a captured array entry by entry, inside choices."""
        op: Any = user.op
        if isinstance(op, Transform) or value in user.operands[: op.leading_operands()]:
            return False
        inside = in_choice or op.name == "if"
        return all(
            self._is_entry_read(region, own, source, inside)
            for region, inputs in zip(user.regions, self.captures(user, value), strict=True)
            for own in inputs
            if own in region.used
        )

    def _is_entry_read(self, region: Region, value: Value, source: Node, in_choice: bool) -> bool:
        policies = ("proven", "error") if isinstance(source.op, Elementwise) else ("proven",)
        for user in region.users.get(value, ()):
            op: Any = user.op
            if user.regions:
                if not self._reads_entries(user, value, source, in_choice):
                    return False
                continue
            if op.name != "index" or op.policy not in policies or _rank(user.result.type) != 0:
                return False
            if not in_choice and not self.guarded(region, user.result, True):
                return False
        return value not in region.outputs


def is_entrywise(node: Node) -> bool:
    """Whether each entry of a node's only result can be computed by itself from entries of its operands."""
    if _rank(node.results[0].type) <= 0:
        return False
    if isinstance(node.op, Elementwise) or node.op.name == "broadcast":
        return True
    if not isinstance(node.op, Space) or node.op.accumulators or node.op.buffers:
        return False
    (body,) = node.regions
    plain = all(not inner.regions and inner.op.effect == "pure" for inner in body.nodes)
    return plain and len(body.outputs) == 1 and _rank(body.outputs[0].type) == 0
