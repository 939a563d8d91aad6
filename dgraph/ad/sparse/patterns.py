"""The pattern of a Jacobian by abstract interpretation: through index spaces, loops and branches (algorithms of
Griewank and Walther 2008, chapter 7).

A loop whose steps are known and few is followed step by step; any other until nothing is added. A branch is followed
where its predicate is known, else both sides are. What is known are sizes and integers, never floats: a pattern
holds for all floats, and is a superset of the places that are not zero. Of a function with a rule of its own the rule
decides, of a solution its equation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from math import inf, prod
from typing import Any

import numpy as np
from scipy import sparse

from dgraph.ad.custom import region_of
from dgraph.ad.sparse.held import (
    Anything,
    Held,
    HeldTape,
    chosen,
    gather,
    joined,
    joined_all,
    moved,
    places_of,
    same,
    spread,
)
from dgraph.ad.sparse.rules import Lanes, empty, read, results_of, shape_of, whole
from dgraph.ir.graph import Node, Region, Value, walk
from dgraph.ops.control import Call, For, If, Space, While
from dgraph.ops.index import Index
from dgraph.ops.transform import Custom, FixedPoint, Implicit, LinearSolve
from dgraph.sizes import Atom, Size
from dgraph.types import Accumulator, Tape, tangent_type

WORK = 20_000
"""Nodes that are interpreted for the steps of one loop before all further steps are taken together."""


class Exhausted(Exception):
    """The search for a pattern took longer than it was allowed to."""


NODE = 5000
"""The time of interpreting a node, in that of a member of its sets."""


def pattern_of(
    region: Region,
    wrt: Sequence[bool],
    rows: Sequence[bool],
    known: Sequence[Any],
    sizes: Mapping[Atom, int],
    allowance: float = inf,
) -> Any:
    """The pattern of the outputs marked in `rows` with respect to the inputs marked in `wrt`, as a CSR array of bools
    over all their entries. `known` has the integers of each input, or None; the region has no transforms.

    `allowance` bounds the members of all sets on the way, a node counting as `NODE` of them; beyond it, `Exhausted` is
    raised.
    """
    run = Interpretation(sizes, allowance=allowance)
    shapes = [shape_of(value.type, run.size_of) for value in region.inputs]
    columns = sum(prod(shape) for shape, mark in zip(shapes, wrt, strict=True) if mark)
    inputs: list[Held] = []
    start = 0
    for shape, mark, numbers in zip(shapes, wrt, known, strict=True):
        sets = None
        if mark:
            here = np.arange(prod(shape))
            sets = sparse.csr_array((np.ones(len(here), bool), (here, start + here)), shape=(len(here), columns))
            start += len(here)
        inputs.append(Held(shape, None if numbers is None else np.asarray(numbers)[None], sets))
    found = list(compress(run.region(region, inputs, Lanes()), rows))
    parts = [
        sparse.csr_array((held.entries, columns), dtype=bool) if held.sets is None else held.sets
        for held in found
        if isinstance(held, Held)
    ]
    pattern = sparse.csr_array(sparse.vstack(parts, format="csr"))
    pattern.sum_duplicates()
    return pattern


def known_operands(
    region: Region, nodes: Sequence[Node], known: Sequence[Any], sizes: Mapping[Atom, int], allowance: float = inf
) -> Known:
    """For some nodes of a region, in nested regions too, the integers of each operand that are the same whenever the
    node runs, else None. `known` has the integers of the region's inputs; `allowance` as for `pattern_of`."""
    run = Interpretation(sizes, nodes, allowance)
    needed: set[Value] = set()
    kept = []
    for node in reversed(region.nodes):
        if needed.intersection(node.results) or any(inner in run.met for inner in walk(Region((), (node,), ()))):
            needed.update(node.operands)
            kept.append(node)
    inputs = [
        Held(shape_of(value.type, run.size_of), None if numbers is None else np.asarray(numbers)[None])
        for value, numbers in zip(region.inputs, known, strict=True)
    ]
    run.region(Region(region.inputs, tuple(reversed(kept)), ()), inputs, Lanes())
    return {node: _numbers(node, visits) for node, visits in run.met.items()}


Known = dict[Node, list[Any]]
"""Integers of the operands of nodes."""


def _numbers(node: Node, visits: Sequence[Sequence[Anything]]) -> list[Any]:
    found: list[Any] = []
    for at in range(len(node.operands)):
        held = [visit[at] for visit in visits]
        numbers = [
            copy for value in held if isinstance(value, Held) and value.known is not None for copy in value.known
        ]
        is_known = held and all(isinstance(value, Held) and value.known is not None for value in held)
        is_one = is_known and all(np.array_equal(numbers[0], other) for other in numbers[1:])
        found.append(numbers[0] if is_one and numbers else None)
    return found


class Interpretation:
    """One run with known sizes. `met` has the operands of each watched node at each of its runs."""

    def __init__(self, sizes: Mapping[Atom, int], watched: Sequence[Node] = (), allowance: float = inf) -> None:
        self.sizes = dict(sizes)
        self.allowance = allowance
        self.met: dict[Node, list[Sequence[Anything]]] = {node: [] for node in watched}

    def size_of(self, extent: Size) -> int:
        """The number of a size."""
        return extent.evaluate(self.sizes.__getitem__)

    def region(self, region: Region, inputs: Sequence[Anything], lanes: Lanes) -> list[Anything]:
        """What holds of the outputs of a region."""
        held: dict[Value, Anything] = dict(zip(region.inputs, inputs, strict=True))
        for node in region.nodes:
            operands = [held[operand] for operand in node.operands]
            if node in self.met:
                self.met[node].append(operands)
            rule = CONTROL.get(type(node.op))
            if rule is not None:
                results = rule(self, node, operands, lanes)
            elif node.results:
                results = results_of(node, operands, self.size_of, lanes)
            else:
                continue
            held.update(zip(node.results, results, strict=True))
            self.spend(results)
        return [held[output] for output in region.outputs]

    def spend(self, results: Sequence[Anything]) -> None:
        """Note the time that a node took. Raises `Exhausted` if there is none left."""
        members = sum(held.sets.nnz for held in results if isinstance(held, Held) and held.sets is not None)
        self.allowance -= NODE + members
        if self.allowance < 0:
            raise Exhausted

    # ---- index spaces -----------------------------------------------------------------------------------------------

    def space(self, node: Node, operands: Sequence[Any], lanes: Lanes) -> Sequence[Anything]:
        """All points of all lanes at once."""
        op, (body,) = node.op, node.regions
        assert isinstance(op, Space)
        if lanes.own is not None and all(isinstance(value, Held) and value.copy is None for value in operands):
            # Nothing differs from lane to lane.
            return self.space(node, operands, Lanes())
        extents = tuple(max(self.size_of(extent), 0) for extent in op.extents)
        points = prod(extents)
        if points * lanes.count == 0:
            return [
                *operands[: op.accumulators],
                *(empty(value.type, self.size_of) for value in node.results[op.accumulators :]),
            ]
        outer = np.repeat(lanes.all, points)
        own = np.arange(len(outer))
        active = None if lanes.active is None else lanes.active[outer]
        inside = Lanes(own, active)
        ways: dict[int, Any] = {}
        given = [moved(value, outer, ways) for value in operands]
        grid = np.indices(extents).reshape(len(extents), points)
        indices = [Held((), np.tile(row, lanes.count), None, own, len(own)) for row in grid]
        buffers = [
            Held(shape_of(buffer, self.size_of), None, None, outer if lanes.own is not None else None, lanes.count)
            for buffer in op.buffers
        ]
        outputs = self.region(body, [*indices, *given[: op.accumulators], *buffers, *given[op.accumulators :]], inside)
        found: list[Anything] = []
        for at, output in enumerate(outputs):
            assert isinstance(output, Held)
            if at < op.accumulators:
                found.append(replace(output, copy=operands[at].copy))
            elif at < op.accumulators + len(op.buffers):
                found.append(replace(output, copy=lanes.own))
            else:
                value = spread(output, own)
                shape = (*extents, *value.shape)
                known = None if value.known is None else value.known.reshape(lanes.count, *shape)
                found.append(Held(shape, known, value.sets, lanes.own, lanes.count))
        return found

    # ---- branches ---------------------------------------------------------------------------------------------------

    def branch(self, node: Node, operands: Sequence[Any], lanes: Lanes) -> Sequence[Anything]:
        """The side that is taken, lane by lane, where that is known; else both."""
        predicate, *captured = operands
        then, otherwise = node.regions
        if predicate.known is None:
            sides = [self.region(side, captured, lanes) for side in node.regions]
            return [joined(one, other, lanes.own) for one, other in zip(*sides, strict=True)]
        takes = self.per_lane(predicate, lanes)
        here = takes if lanes.active is None else takes[lanes.active]
        if here.all():
            return self.region(then, captured, lanes)
        if not here.any():
            return self.region(otherwise, captured, lanes)
        ones = self.region(then, captured, lanes.only(takes))
        others = self.region(otherwise, captured, lanes.only(~takes))
        outcomes = zip(node.results, ones, others, strict=True)
        return [self.merged(value, one, other, takes, lanes) for value, one, other in outcomes]

    @staticmethod
    def per_lane(held: Held, lanes: Lanes) -> Any:
        """A known scalar for every lane."""
        return held.known[held.copy] if held.copy is not None else np.broadcast_to(held.known, (lanes.count,))

    @staticmethod
    def merged(value: Value, one: Anything, other: Anything, takes_one: Any, lanes: Lanes) -> Anything:
        """One outcome in some lanes, another in the rest. Accumulators have been written by their lanes only."""
        if isinstance(value.type, Accumulator):
            return joined(one, other, lanes.own)
        return chosen(one, other, takes_one, lanes.own)

    # ---- loops ------------------------------------------------------------------------------------------------------

    def counted(self, node: Node, operands: Sequence[Any], lanes: Lanes) -> Sequence[Anything]:
        """Step by step, or all steps together."""
        op, (body,) = node.op, node.regions
        assert isinstance(op, For)
        count, *rest = operands
        carried, walked = rest[: op.carries], rest[op.carries : op.carries + op.walks]
        captured = rest[op.carries + op.walks :]
        counts = None if count.known is None else np.maximum(self.per_lane(count, lanes), 0)
        steps = None if counts is None else int(counts.max(initial=0))
        if steps is None or steps * _nodes(body) > WORK:
            return self.blurred_for(node, operands, lanes, steps)
        rows: list[list[Anything]] = [[] for _ in range(op.stacks + op.tapes)]
        assert counts is not None
        for step in reversed(range(steps)) if op.reverse else range(steps):
            takes = step < counts
            here = lanes if takes.all() else lanes.only(takes)
            number = Held((), np.array([step]))
            slices = [
                self.slice_of(value, type_, number, lanes)
                for value, type_ in zip(walked, body.inputs[1 + op.carries :], strict=False)
            ]
            outputs = self.region(body, [number, *carried, *slices, *captured], here)
            new = outputs[: op.carries]
            if not takes.all():
                pairs = zip(body.outputs, new, carried, strict=False)
                new = [self.merged(value, after, before, takes, lanes) for value, after, before in pairs]
            carried = new
            for row, output in zip(rows, outputs[op.carries :], strict=True):
                row.append(output)
        if op.reverse:
            rows = [row[::-1] for row in rows]
        stacked = [
            self.stacked(row, value, lanes)
            for row, value in zip(rows, node.results[op.carries :], strict=False)
            if not isinstance(value.type, Tape)
        ]
        return [*carried, *stacked, *(HeldTape(tuple(row)) for row in rows[op.stacks :])]

    def slice_of(self, value: Anything, entry: Value, step: Held, lanes: Lanes) -> Anything:
        """A slice of an array or an entry of a tape at a step."""
        if isinstance(value, Held):
            return read(Index("drop"), [value, step], self.size_of, lanes)
        at = 0 if value.is_uniform else int(step.known[0])
        found: Anything = value.entries[at] if at < len(value.entries) else empty(entry.type, self.size_of)
        return found

    def stacked(self, row: Sequence[Anything], value: Value, lanes: Lanes) -> Held:
        """Entries along a new leading axis."""
        shape = shape_of(value.type, self.size_of)
        if not row:
            return Held(shape)
        parts = [
            spread(entry, lanes.own) if lanes.own is not None else entry for entry in row if isinstance(entry, Held)
        ]
        copies, entries = lanes.count, prod(shape[1:])
        known = None
        if all(part.known is not None for part in parts):
            known = np.stack([part.known for part in parts], axis=1)
        sets = None
        if any(part.sets is not None for part in parts):
            blank = sparse.csr_array((copies * entries, _columns(parts)), dtype=bool)
            table = sparse.csr_array(
                sparse.vstack([blank if part.sets is None else part.sets for part in parts], format="csr")
            )
            order = np.arange(len(parts) * copies * entries).reshape(len(parts), copies, entries).swapaxes(0, 1).ravel()
            sets = table[order]
        return Held(shape, known, sets, lanes.own, copies)

    def blurred_for(self, node: Node, operands: Sequence[Any], lanes: Lanes, steps: int | None) -> Sequence[Anything]:
        """All steps together: the carries are joined until nothing is added."""
        op, (body,) = node.op, node.regions
        assert isinstance(op, For)
        rest = operands[1:]
        walked = [
            self.any_slice(value, entry, lanes)
            for value, entry in zip(
                rest[op.carries : op.carries + op.walks], body.inputs[1 + op.carries :], strict=False
            )
        ]
        captured = rest[op.carries + op.walks :]

        def turn(carried: Sequence[Anything]) -> list[Anything]:
            return self.region(body, [Held(()), *carried, *walked, *captured], lanes)

        carried, outputs = self.settled(rest[: op.carries], turn, lanes, steps)
        found = list(carried)
        for at, output in enumerate(outputs[op.carries :]):
            value = node.results[op.carries + at]
            if isinstance(value.type, Tape):
                found.append(HeldTape((output,), True))
                continue
            assert isinstance(output, Held)
            shape = shape_of(value.type, self.size_of)
            rows = places_of(np.arange(output.copies), output.entries, np.tile(np.arange(output.entries), shape[0]))
            found.append(Held(shape, None, gather(output.sets, rows), output.copy, output.copies))
        return found

    def any_slice(self, value: Anything, entry: Value, lanes: Lanes) -> Anything:
        """A slice or entry at a step that is not known."""
        if isinstance(value, Held):
            return read(Index("drop"), [value, Held(())], self.size_of, lanes)
        found: Anything = joined_all(value, lanes.own) if value.entries else empty(entry.type, self.size_of)
        return found

    def settled(
        self, carried: Sequence[Anything], turn: Any, lanes: Lanes, steps: int | None = None
    ) -> tuple[Sequence[Anything], Sequence[Anything]]:
        """The carries of any step of a loop, and what a step with these gives. After k turns they hold for k steps."""
        turns = 0
        while True:
            outputs = turn(carried)
            if steps is not None and turns >= steps:
                return carried, outputs
            grown = [joined(before, after, lanes.own) for before, after in zip(carried, outputs, strict=False)]
            if all(same(before, after) for before, after in zip(carried, grown, strict=True)):
                return grown, outputs
            carried, turns = grown, turns + 1

    def repeated(self, node: Node, operands: Sequence[Any], lanes: Lanes) -> Sequence[Anything]:
        """Step by step while the condition is known to hold, or all steps together."""
        op, (condition, body) = node.op, node.regions
        assert isinstance(op, While)
        carried, captured = list(operands[: op.carries]), operands[op.carries :]
        rows: list[list[Anything]] = [[] for _ in range(op.tapes)]
        goes = np.ones(lanes.count, bool)
        trips = np.zeros(lanes.count, np.int64)
        for _ in range(WORK // (_nodes(body) + _nodes(condition) + 1) + 1):
            (asked,) = self.region(condition, [*carried, *captured], lanes)
            if not isinstance(asked, Held) or asked.known is None:
                break
            goes = goes & self.per_lane(asked, lanes)
            here = goes if lanes.active is None else goes & lanes.active
            if not here.any():
                known = Held((), trips, None, lanes.own, lanes.count)
                if op.implicit:
                    carried[:] = self.at_rest(node, carried, captured, lanes)
                return [*carried, *(HeldTape(tuple(row)) for row in rows), known]
            trips = trips + goes
            outputs = self.region(body, [*carried, *captured], lanes if goes.all() else lanes.only(goes))
            new = outputs[: op.carries]
            if not goes.all():
                pairs = zip(body.outputs, new, carried, strict=False)
                new = [self.merged(value, after, before, goes, lanes) for value, after, before in pairs]
            carried = new
            for row, output in zip(rows, outputs[op.carries :], strict=True):
                row.append(output)

        def turn(values: Sequence[Anything]) -> list[Anything]:
            return self.region(body, [*values, *captured], lanes)

        if op.implicit:
            return [*self.at_rest(node, carried, captured, lanes), Held(())]
        final, last = self.settled(carried, turn, lanes)
        tapes = [
            HeldTape((joined_all(HeldTape((*row, output)), lanes.own),), True)
            for row, output in zip(rows, last[op.carries :], strict=True)
        ]
        return [*final, *tapes, Held(())]

    def at_rest(
        self, node: Node, carried: Sequence[Anything], captured: Sequence[Anything], lanes: Lanes
    ) -> Sequence[Anything]:
        """Where a loop settles: what its step at the end hands on, however many were made, but not what it starts
        from."""
        body = node.regions[1]
        start = [replace(value, sets=None) if isinstance(value, Held) else value for value in carried]
        return self.settled(start, lambda values: self.region(body, [*values, *captured], lanes), lanes)[0]

    def system(self, node: Node, operands: Sequence[Any], lanes: Lanes) -> Sequence[Anything]:
        """v = b + A v: entry i depends on what all terms of its row do, and so on."""
        op, (body,) = node.op, node.regions
        assert isinstance(op, FixedPoint)
        right, captured = operands[: op.unknowns], operands[op.unknowns :]

        def turn(values: Sequence[Anything]) -> list[Anything]:
            moved = self.region(body, [*values, *captured], lanes)
            return [joined(one, other, lanes.own) for one, other in zip(right, moved, strict=True)]

        return self.settled(right, turn, lanes)[0]

    def solved(self, node: Node, operands: Sequence[Any], lanes: Lanes) -> Sequence[Anything]:
        """Every unknown depends on all that the equations read; how a solution was found has no influence."""
        op = node.op
        assert isinstance(op, FixedPoint)
        if isinstance(op, Implicit):
            operands = [*(replace(value, sets=None) for value in operands[: op.unknowns]), *operands[op.unknowns :]]
        return whole(node, operands, self.size_of, lanes)

    def ruled(self, node: Node, operands: Sequence[Any], lanes: Lanes) -> Sequence[Anything]:
        """The integers of the function, and what the tangents of its rule depend on."""
        op = node.op
        assert isinstance(op, Custom)
        values = self.region(node.regions[0], operands, lanes)
        moving = [held for held, value in zip(operands, node.operands, strict=True) if tangent_type(value.type)]
        still = [replace(held, sets=None) for held in operands]
        found = iter(self.region(region_of(op.rule), [*still, *moving], lanes))
        return [
            next(found) if tangent_type(value.type) else held for held, value in zip(values, node.results, strict=True)
        ]

    def called(self, node: Node, operands: Sequence[Any], lanes: Lanes) -> Sequence[Anything]:
        """The function's region."""
        return self.region(node.regions[0], operands, lanes)


def _nodes(region: Region) -> int:
    """Nodes of a region and of those inside it."""
    return sum(1 for _ in walk(region)) + 1


def _columns(parts: Sequence[Held]) -> int:
    return next(int(part.sets.shape[1]) for part in parts if part.sets is not None)


CONTROL: dict[type, Any] = {
    Space: Interpretation.space,
    If: Interpretation.branch,
    For: Interpretation.counted,
    While: Interpretation.repeated,
    Call: Interpretation.called,
    Custom: Interpretation.ruled,
    FixedPoint: Interpretation.system,
    LinearSolve: Interpretation.solved,
    Implicit: Interpretation.solved,
}
"""How each region op is interpreted. What is left are transforms, which unite all that they read."""
