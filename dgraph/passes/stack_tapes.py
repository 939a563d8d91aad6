"""Tapes whose entries all have one size become arrays: stacked outputs of the loop that writes them.

A loop writes a tape in the order of its steps and other loops walk it; where the number of steps is a size and the
entries are arrays of sizes, an array holds the same in a place that is planned before the run. A tape that each step of
an outer loop keeps becomes an array first, if the steps that walk it only walk it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.op import RegionOp
from dgraph.ops.control import For
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.base import graph_pass, same_nodes, with_operands, with_regions
from dgraph.sizes import Quotient, Size, size
from dgraph.types import I64, Array, Tape

Counts = dict[Value, Size]
"""The whole numbers of a region that follow from the sizes."""


@graph_pass("tapes of equal entries become arrays")
def stack_tapes(graph: Graph) -> Graph:
    """Stack tapes in every region."""
    return graph.with_region(_Stacking().region(graph.region, (None,) * len(graph.region.inputs)))


class _Stacking:
    """One run: regions met before with the same numbers are remembered."""

    def __init__(self) -> None:
        self.done: dict[tuple[Region, tuple[Size | None, ...]], Region] = {}

    def region(self, region: Region, given: tuple[Size | None, ...]) -> Region:
        """A region and all inside it, for what is known of its inputs."""
        found = self.done.get((region, given))
        if found is None:
            found = self.done[region, given] = self._changed(region, given)
        return found

    def _changed(self, region: Region, given: tuple[Size | None, ...]) -> Region:
        counts = counts_of(region, given)
        known: dict[Value, Value] = {}
        bodies: dict[Node, Region] = {}
        nodes: list[Node] = []
        for node in region.nodes:
            moved = with_operands(node, known)
            if node in bodies:
                moved = replace(moved, regions=(bodies[node],))
            if isinstance(node.op, For) and node.op.tapes:
                moved = _with_inner_stacks(node, moved, region, counts, known, bodies)
                moved = _with_stacks(moved, region, counts, known)
                known.update((old, known[known[old]]) for old in node.results if known.get(old) in known)
            nodes.append(self._inside(moved, counts))
        return same_nodes(region, nodes, region.outputs)

    def _inside(self, node: Node, counts: Counts) -> Node:
        regions = (self.region(inner, captured(node, inner, counts)) for inner in node.regions)
        return with_regions(node, regions) if node.regions else node


def captured(node: Node, inner: Region, counts: Counts) -> tuple[Size | None, ...]:
    """What is known of the inputs of a region: of captures all that is known outside."""
    first = node.op.leading_operands() if isinstance(node.op, RegionOp) else len(node.operands)
    outside = [counts.get(operand) for operand in node.operands[first:]]
    return (*(None for _ in range(len(inner.inputs) - len(outside))), *outside)


def counts_of(region: Region, given: Sequence[Size | None]) -> Counts:
    """The whole numbers that follow from the sizes."""
    counts = {value: known for value, known in zip(region.inputs, given, strict=True) if known is not None}
    for node in region.nodes:
        found = _count(node, counts)
        if found is not None:
            counts[node.result] = found
    return counts


def _count(node: Node, counts: Counts) -> Size | None:
    op = node.op
    if len(node.results) != 1 or node.result.type != Array(I64):
        return None
    if isinstance(op, SizeValue):
        return op.value
    if isinstance(op, Constant):
        return size(int(op.number))
    parts = [counts[operand] for operand in node.operands if operand in counts]
    if len(parts) != 2 or len(node.operands) != 2:
        return None
    one, other = parts
    if op.name == "maximum" and one.is_nonnegative() and other == size(0):
        return one
    if op.name in ("add", "mul"):
        return one + other if op.name == "add" else one * other
    if op.name == "sub":
        return one - other
    return one // other if op.name == "floor_divide" and other.constant != 0 else None


def steps_of(node: Node, counts: Counts) -> Size | None:
    """How many steps a loop has, if sizes decide it."""
    assert isinstance(node.op, For)
    found = node.op.length if node.op.length is not None else counts.get(node.operands[0])
    if found is None or not found.is_nonnegative():
        return None
    return found if all(isinstance(atom, str | Quotient) for atom in found.atoms()) else None


def _with_stacks(node: Node, region: Region, counts: Counts, known: dict[Value, Value]) -> Node:
    """The loop with stacks in place of tapes where that can be; `known` learns the arrays that replace tapes."""
    length = steps_of(node, counts)
    chosen = [] if length is None else [at for at in _tapes(node) if _can_stack(node, at, region)]
    return node if length is None or not chosen else _stacked(node, length, chosen, known)


def _tapes(node: Node) -> range:
    assert isinstance(node.op, For)
    return range(node.op.carries + node.op.stacks, len(node.results))


def _stacked(node: Node, length: Size, chosen: Sequence[int], known: dict[Value, Value]) -> Node:
    """The loop with stacks in place of the chosen tapes."""
    assert isinstance(node.op, For)
    (body,) = node.regions
    for at in chosen:
        entry = body.outputs[at].type
        assert isinstance(entry, Array)
        known[node.results[at]] = Value(Array(entry.dtype, (length, *entry.shape)), node.results[at].name)
    first = _tapes(node).start
    rest = [at for at in _tapes(node) if at not in chosen]
    order = [*range(first), *chosen, *rest]
    inner = Region(body.inputs, body.nodes, tuple(body.outputs[at] for at in order))
    results = tuple(known.get(node.results[at], node.results[at]) for at in order)
    op = replace(node.op, stacks=node.op.stacks + len(chosen), tapes=len(rest), length=length)
    return replace(node, op=op, results=results, regions=(inner,))


def _can_stack(node: Node, at: int, region: Region) -> bool:
    tape = node.results[at]
    assert isinstance(tape.type, Tape)
    return _is_plain(tape.type.entry) and _is_only_walked(tape, region)


def _is_plain(entry: object) -> bool:
    """Whether an entry is an array whose extents are sizes."""
    if not isinstance(entry, Array):
        return False
    return all(isinstance(atom, str) for extent in entry.shape for atom in extent.atoms())


def _is_only_walked(tape: Value, region: Region) -> bool:
    return tape not in region.outputs and all(_only_walks(user, tape) for user in region.users.get(tape, ()))


def _only_walks(user: Node, tape: Value) -> bool:
    """Whether a node reads a tape step by step and in no other way."""
    if not isinstance(user.op, For):
        return False
    walks = slice(1 + user.op.carries, user.op.leading_operands())
    others = (*user.operands[: walks.start], *user.operands[walks.stop :])
    return tape not in others


# ---- tapes of tapes --------------------------------------------------------------------------------------------------


def _with_inner_stacks(
    node: Node,
    moved: Node,
    region: Region,
    counts: Counts,
    known: dict[Value, Value],
    bodies: dict[Node, Region],
) -> Node:
    """The loop with arrays for the tapes that its steps keep, where that can be. `bodies` learns the bodies of the
    loops that walk them."""
    (body,) = moved.regions
    inside = counts_of(body, captured(moved, body, counts))
    inner: dict[Node, list[int]] = {}
    entries: dict[int, Value] = {}
    for at in _tapes(moved):
        output = body.outputs[at]
        maker = body.producers.get(output)
        if not isinstance(output.type, Tape) or maker is None or not isinstance(maker.op, For):
            continue
        users = body.users.get(output, ())
        is_kept_once = body.outputs.count(output) == 1 and all(_only_walks(user, output) for user in users)
        readers = [_slices(bodies.get(user), user, node.results[at]) for user in region.users.get(node.results[at], ())]
        if (
            is_kept_once
            and _is_plain(output.type.entry)
            and steps_of(maker, inside) is not None
            and _is_only_walked(node.results[at], region)
            and all(_is_only_walked(entry, given) for given, found in readers for entry in found)
        ):
            inner.setdefault(maker, []).append(maker.results.index(output))
            entries[at] = output
    if not inner:
        return moved
    arrays: dict[Value, Value] = {}
    nodes = []
    for one in body.nodes:
        chosen = inner.get(one)
        length = steps_of(one, inside) if chosen else None
        changed = with_operands(one, arrays)
        nodes.append(changed if length is None or not chosen else _stacked(changed, length, chosen, arrays))
    outputs = tuple(arrays.get(output, output) for output in body.outputs)
    results = list(moved.results)
    for at, output in entries.items():
        old = node.results[at]
        results[at] = known[old] = Value(Tape(arrays[output].type), old.name)
        for user in region.users.get(old, ()):
            bodies[user] = _retyped(bodies.get(user, user.regions[0]), user, old, arrays[output])
    return replace(moved, results=tuple(results), regions=(Region(body.inputs, tuple(nodes), outputs),))


def _slices(body: Region | None, user: Node, tape: Value) -> tuple[Region, list[Value]]:
    """The body of a loop that walks a tape, and what it calls the entries."""
    inner = body or user.regions[0]
    op = user.op
    if not isinstance(op, For):
        return inner, []
    walks = range(1 + op.carries, op.leading_operands())
    return inner, [inner.inputs[at] for at in walks if user.operands[at] is tape]


def _retyped(body: Region, user: Node, tape: Value, array: Value) -> Region:
    """A body that walks a tape whose entries are arrays now."""
    _, entries = _slices(body, user, tape)
    fresh: Mapping[Value, Value] = {entry: Value(array.type, entry.name) for entry in entries}
    inputs = tuple(fresh.get(value, value) for value in body.inputs)
    return Region(inputs, tuple(with_operands(node, fresh) for node in body.nodes), body.outputs)
