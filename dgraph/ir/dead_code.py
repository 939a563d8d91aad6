"""Dead code: nodes, results, carries, walks, captures, stacks, tapes, own buffers and yields that reach no output.

A region op is cut down to its live results. A carry of a loop lives if its result is read, if the condition reads it,
or if something that lives in the body reads it: a fixed point. A check is a live root wherever it stands, and
a note on what follows it lives if something does follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import Any

from dgraph.ir.graph import Graph, Node, Region, Value


def remove_dead_code(region: Region) -> Region:
    """The region without what its outputs do not need.

    The inputs stay as they are. What lives keeps its values and nodes; a region without dead code is returned itself.
    """
    return _DeadCode().pruned(region, tuple(range(len(region.outputs))))


def without_dead_code(graph: Graph) -> Graph:
    """The graph without dead code."""
    return graph.with_region(remove_dead_code(graph.region))


def has_check(node: Node) -> bool:
    """Whether a node checks something or uses the disk, itself or inside its regions: then it lives even if nothing
    reads it."""
    if node.op.effect in ("check", "disk"):
        return True
    return bool(node.regions) and any(has_check(inner) for region in node.regions for inner in region.nodes)


def without_checks(region: Region) -> Region:
    """The region without its checks, in nested regions too: for work that is done a second time."""
    nodes = []
    for node in region.nodes:
        if node.op.effect != "check":
            regions = tuple(map(without_checks, node.regions))
            nodes.append(node if regions == node.regions else replace(node, regions=regions))
    same = len(nodes) == len(region.nodes) and all(a is b for a, b in zip(nodes, region.nodes, strict=True))
    return region if same else Region(region.inputs, tuple(nodes), region.outputs)


class _DeadCode:
    """One run: regions already pruned to given outputs are remembered, for nests and for shared regions."""

    def __init__(self) -> None:
        self.done: dict[tuple[Region, tuple[int, ...]], Region] = {}

    def pruned(self, region: Region, positions: tuple[int, ...]) -> Region:
        """A region cut down to some of its outputs; its inputs stay."""
        found = self.done.get((region, positions))
        if found is None:
            found = self.done[region, positions] = self._prune(region, positions)
        return found

    def _prune(self, region: Region, positions: tuple[int, ...]) -> Region:
        outputs = tuple(region.outputs[at] for at in positions)
        live = set(outputs)
        kept: list[Node] = []
        for node in reversed(region.nodes):
            is_note = node.op.effect == "note" and bool(kept)
            if not is_note and live.isdisjoint(node.results) and not has_check(node):
                continue
            rule = PRUNE.get(node.op.name)
            if rule is not None:
                node = rule(self, node, live)
            kept.append(node)
            live.update(node.operands)
        nodes = tuple(reversed(kept))
        return region if (nodes, outputs) == (region.nodes, region.outputs) else Region(region.inputs, nodes, outputs)


def _narrowed(
    node: Node,
    op: Any,
    operands: Sequence[int],
    results: Sequence[int],
    regions: Sequence[tuple[Region, Sequence[int]]],
) -> Node:
    """The node with only the named operands, results and region inputs; the node itself if nothing goes."""
    whole = len(operands) == len(node.operands) and len(results) == len(node.results)
    if whole and all(region is own for (region, _), own in zip(regions, node.regions, strict=True)):
        return node
    return replace(
        node,
        op=op,
        operands=tuple(node.operands[at] for at in operands),
        results=tuple(node.results[at] for at in results),
        regions=tuple(_with_inputs(region, inputs) for region, inputs in regions),
    )


def _with_inputs(region: Region, positions: Sequence[int]) -> Region:
    if len(positions) == len(region.inputs):
        return region
    return Region(tuple(region.inputs[at] for at in positions), region.nodes, region.outputs)


def _prune_loop(run: _DeadCode, node: Node, live: Set[Value]) -> Node:
    op: Any = node.op
    lead = 1 if op.name == "for" else 0
    body = node.regions[-1]
    condition = node.regions[0] if op.name == "while" else None
    count = len(body.outputs)
    collected = [at for at in range(op.carries, count) if node.results[at] in live]
    alive = {at for at in range(op.carries) if node.results[at] in live}
    if condition is not None:
        condition = run.pruned(condition, (0,))
        alive |= {at for at in range(op.carries) if condition.inputs[at] in condition.used}
    while True:
        inner = run.pruned(body, (*sorted(alive), *collected))
        grown = alive | {at for at in range(op.carries) if inner.inputs[lead + at] in inner.used}
        if grown == alive:
            break
        alive = grown
    carries = sorted(alive)
    rest = [
        at
        for at in range(op.carries, len(body.inputs) - lead)
        if inner.inputs[lead + at] in inner.used or (condition is not None and condition.inputs[at] in condition.used)
    ]
    kept = [*carries, *rest]
    results = [*carries, *collected, *range(count, len(node.results))]
    if op.name == "for":
        walks = sum(at < op.carries + op.walks for at in rest)
        stacks = sum(at < op.carries + op.stacks for at in collected)
        narrow = replace(op, carries=len(carries), walks=walks, stacks=stacks, tapes=len(collected) - stacks)
        shifted = [0, *(1 + at for at in kept)]
        return _narrowed(node, narrow, shifted, results, [(inner, shifted)])
    assert condition is not None
    narrow = replace(op, carries=len(carries), tapes=len(collected))
    return _narrowed(node, narrow, kept, results, [(condition, kept), (inner, kept)])


def _prune_space(run: _DeadCode, node: Node, live: Set[Value]) -> Node:
    op: Any = node.op
    (body,) = node.regions
    rank, threads, buffers = len(op.extents), op.accumulators, len(op.buffers)
    results = [at for at, value in enumerate(node.results) if value in live]
    inner = run.pruned(body, tuple(results))
    written = [at for at in results if at < threads + buffers]
    captures = [at for at in range(rank + threads + buffers, len(body.inputs)) if body.inputs[at] in inner.used]
    threaded = [at for at in written if at < threads]
    own = tuple(op.buffers[at - threads] for at in written if at >= threads)
    narrow = replace(op, accumulators=len(threaded), buffers=own)
    operands = [*threaded, *(at - rank - buffers for at in captures)]
    inputs = [*range(rank), *(rank + at for at in written), *captures]
    return _narrowed(node, narrow, operands, results, [(inner, inputs)])


def _prune_branches(run: _DeadCode, node: Node, live: Set[Value]) -> Node:
    lead = 1 if node.op.name == "if" else 0
    results = [at for at, value in enumerate(node.results) if value in live]
    regions = [run.pruned(region, tuple(results)) for region in node.regions]
    captures = [
        at for at in range(len(node.operands) - lead) if any(region.inputs[at] in region.used for region in regions)
    ]
    operands = [*range(lead), *(lead + at for at in captures)]
    return _narrowed(node, node.op, operands, results, [(region, captures) for region in regions])


def _prune_unknowns(run: _DeadCode, node: Node, live: Set[Value]) -> Node:
    op: Any = node.op
    (body,) = node.regions
    alive = {at for at, value in enumerate(node.results) if value in live}
    while True:
        inner = run.pruned(body, tuple(sorted(alive)))
        grown = alive | {at for at in range(op.unknowns) if inner.inputs[at] in inner.used}
        if grown == alive:
            break
        alive = grown
    captures = [at for at in range(op.unknowns, len(inner.inputs)) if inner.inputs[at] in inner.used]
    kept = [*sorted(alive), *captures]
    return _narrowed(node, replace(op, unknowns=len(alive)), kept, sorted(alive), [(inner, kept)])


PRUNE: dict[str, Callable[[_DeadCode, Node, Set[Value]], Node]] = {
    "for": _prune_loop,
    "while": _prune_loop,
    "if": _prune_branches,
    "call": _prune_branches,
    "space": _prune_space,
    "fixed_point": _prune_unknowns,
}
"""How each region op is cut down. Other transforms are kept whole: their operands are those of the function."""
