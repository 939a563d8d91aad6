"""Where cotangents gather while a region is transposed, and which inputs they reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dgraph.ad.unzip import linear_values
from dgraph.errors import InvalidGraph
from dgraph.ir.build import Builder
from dgraph.ir.graph import Node, Region, Value
from dgraph.types import Accumulator, Array, Tape


class Cotangents:
    """The cotangent of each linear value: nothing (a structural zero), an array, or an open accumulator.

    The cotangent of an accumulator is an array that everyone may read. Tapes are never added up: all cotangents of a
    tape are walked side by side by the loop that is the transpose of its writer.
    """

    def __init__(self, g: Builder) -> None:
        self.g = g
        self.slots: dict[Value, Value] = {}
        self.tapes: dict[Value, list[Value]] = {}

    def has(self, value: Value) -> bool:
        """Whether the cotangent is not a structural zero."""
        return value in self.slots or value in self.tapes

    def get(self, value: Value) -> Value | None:
        """The cotangent as an array."""
        found = self.slots.get(value)
        if found is not None and isinstance(found.type, Accumulator):
            found = self.slots[value] = self.g.freeze(found)
        return found

    def all(self, value: Value) -> list[Value]:
        """The cotangents: at most one array, or any number of tapes."""
        if isinstance(value.type, Tape):
            return list(self.tapes.get(value, ()))
        found = self.get(value)
        return [] if found is None else [found]

    def take(self, value: Value) -> Value | None:
        """The cotangent as it is, array or open accumulator; it is no longer here."""
        return self.slots.pop(value, None)

    def take_array(self, value: Value) -> Value | None:
        """The cotangent if it is an array; then it is no longer here. An open accumulator stays."""
        found = self.slots.get(value)
        return self.take(value) if found is not None and isinstance(found.type, Array) else None

    def open(self, value: Value) -> Value:
        """The cotangent as an accumulator to be handed to a region; it is no longer here."""
        assert isinstance(value.type, Array)
        found = self.take(value)
        if found is not None and isinstance(found.type, Accumulator):
            return found
        fresh = self.g.zeros(Accumulator(value.type.dtype, value.type.shape))
        return fresh if found is None else self.g.accumulate(fresh, found)

    def add(self, value: Value, contribution: Value) -> None:
        """Add an array, or hand back an accumulator."""
        if isinstance(value.type, Tape):
            self.tapes.setdefault(value, []).append(contribution)
            return
        held = self.slots.get(value)
        if held is None:
            self.slots[value] = contribution
            return
        if isinstance(contribution.type, Accumulator):
            if isinstance(held.type, Accumulator):
                contribution = self.g.freeze(contribution)
            else:
                held, contribution = contribution, held
        accumulates = isinstance(held.type, Accumulator)
        self.slots[value] = self.g.accumulate(held, contribution) if accumulates else self.g.add(held, contribution)

    def add_at(self, array: Value, indices: Sequence[Value], contribution: Value, policy: str) -> None:
        """Add at a place. A cotangent that is an array is updated in place: its old value is dead."""
        assert isinstance(array.type, Array)
        if not indices:
            self.add(array, contribution)
            return
        held = self.slots.get(array)
        if held is not None and isinstance(held.type, Array):
            entry = self.g.add(self.g.index(held, *indices, policy=policy), contribution)
            self.slots[array] = self.g.set_at(held, *indices, entry, policy=policy)
            return
        if held is None:
            held = self.g.zeros(Accumulator(array.type.dtype, array.type.shape))
        self.slots[array] = self.g.accumulate(held, *indices, contribution, policy=policy)


class Reach:
    """Which inputs of linear regions have a cotangent when some outputs have one: structural zeros by fixed point."""

    def __init__(self) -> None:
        self.done: dict[tuple[Region, tuple[bool, ...], tuple[bool, ...]], tuple[bool, ...]] = {}

    def inputs(self, region: Region, linear: Sequence[bool], live: Sequence[bool]) -> tuple[bool, ...]:
        """For each input, whether it is linear and reached from the outputs marked in `live`."""
        key = region, tuple(linear), tuple(live)
        found = self.done.get(key)
        if found is None:
            found = self.done[key] = self._inputs(region, linear, live)
        return found

    def _inputs(self, region: Region, linear: Sequence[bool], live: Sequence[bool]) -> tuple[bool, ...]:
        flagged = [value for value, flag in zip(region.inputs, linear, strict=True) if flag]
        values = linear_values(region.nodes, flagged)
        reached = {output for output, flag in zip(region.outputs, live, strict=True) if flag and output in values}
        for node in reversed(region.nodes):
            results = [result in reached for result in node.results]
            if any(results):
                operands = [operand in values for operand in node.operands]
                for operand, flag in zip(node.operands, self.operands(node, operands, results), strict=True):
                    if flag:
                        reached.add(operand)
        return tuple(value in reached for value in region.inputs)

    def operands(self, node: Node, linear: Sequence[bool], live: Sequence[bool]) -> Sequence[bool]:
        """For each operand, whether it is linear and reached from the results marked in `live`."""
        rule = {"for": self.loop, "space": self.space, "if": self.choice}.get(node.op.name)
        if rule is None:
            if node.regions and node.op.name not in ("vjp_tangent", "fixed_point", "linear_solve"):
                raise InvalidGraph(f"{node!r} in a linear region")
            return linear
        flags = rule(node, linear, live)
        return [flag and own for flag, own in zip(flags, linear, strict=True)]

    def loop(self, node: Node, linear: Sequence[bool], live: Sequence[bool]) -> list[bool]:
        """A fixed point: a carry is reached if its result is, or if a reached carry of the next step reads it."""
        op: Any = node.op
        inner = [False, *[True] * op.carries, *linear[1 + op.carries :]]
        flags = list(live)
        while True:
            reached = self.inputs(node.regions[0], inner, flags)
            grown = [flag or new for flag, new in zip(flags[: op.carries], reached[1:], strict=False)]
            if grown == flags[: op.carries]:
                return [False, *grown, *reached[1 + op.carries :]]
            flags[: op.carries] = grown

    def space(self, node: Node, linear: Sequence[bool], live: Sequence[bool]) -> list[bool]:
        """A threaded accumulator is reached if its result is."""
        op: Any = node.op
        threads, rank, own = op.accumulators, len(op.extents), len(op.buffers)
        inner = [*[False] * rank, *[True] * (threads + own), *linear[threads:]]
        reached = self.inputs(node.regions[0], inner, live)
        return [*live[:threads], *reached[rank + threads + own :]]

    def choice(self, node: Node, linear: Sequence[bool], live: Sequence[bool]) -> list[bool]:
        """Reached on either side."""
        sides = [self.inputs(region, linear[1:], live) for region in node.regions]
        return [False, *(any(flags) for flags in zip(*sides, strict=True))]
