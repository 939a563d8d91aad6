"""Hoisting: work of a loop body that reads only captures is done once, in front of the loop.

Nothing ever leaves a choice, and a node that can fault stays where it is, since the loop may make no step. An index
space that is known to have points is no such loop: it runs all of its body.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import Op
from dgraph.types import Array

LOOPS = ("for", "while")

MayMove = Callable[[Node, Node], bool]
"""Asked with a loop and a node of its body that reads only captures."""


def can_fault(node: Node) -> bool:
    """Whether running the node where it did not run before could stop the program or never end.

    That a read is inside its array may be known only because the loop around it makes a step, so such a read is
    changed when it moves (`speculated`); in the regions of a node that moves, reads at the node's own indices count as
    safe, and others as not.
    """
    return may_stop(node) or any(_region_can_fault(node, at) for at in range(len(node.regions)))


def may_stop(node: Node) -> bool:
    """Whether a node itself, its regions aside, could stop the program or never end where it stands."""
    if node.op.effect != "pure" or node.op.name in ("while", "fixed_point", "linear_solve"):
        return True
    adds_whole = node.op.name == "accumulate" and len(node.operands) == 2
    return getattr(node.op, "policy", "") in ("error", "clip") and not adds_whole


def _region_can_fault(node: Node, at: int) -> bool:
    op: Any = node.op
    region = node.regions[at]
    fixed = set(region.inputs[op.leading_inputs(at) :])
    for inner in region.nodes:
        if can_fault(inner):
            return True
        if inner.op.name == "index" and all(index in fixed for index in inner.operands[1:]):
            return True
        if all(operand in fixed for operand in inner.operands):
            fixed.update(inner.results)
    return False


def speculated(op: Op) -> Op:
    """An op as it stands where it may run although it did not before: a read outside its array gives 0."""
    facts: Any = op
    return replace(facts, policy="drop") if getattr(op, "policy", "") == "proven" else op


def is_free(node: Node) -> bool:
    """Whether a node makes its result from nothing: moving it gains nothing."""
    return not node.operands


def is_movable(node: Node) -> bool:
    """Whether a node that reads only captures may be done in front of a loop, seen from the node.

    Accumulators are written where they are; a tape stays in the region of the loops that walk it.
    """
    return _has_arrays_only(node) and not can_fault(node)


def _has_arrays_only(node: Node) -> bool:
    touches = any(not isinstance(value.type, Array) for value in (*node.operands, *node.results))
    return not (is_free(node) or touches)


def split_invariant(
    nodes: Iterable[Node],
    captured: Mapping[Value, Value],
    scope: tuple[str, ...],
    may_move: Callable[[Node], bool] = is_movable,
    runs: bool = False,
) -> tuple[list[Node], list[Node], dict[Value, Value]]:
    """Cut the nodes of a loop body in two: those to be done in front of the loop, and those that stay.

    `captured` maps inputs of the body to the values outside; `scope` is that of the loop. If the body `runs` in any
    case, what can fault may move too, up to the first that stays. What the first part reads of
    values made from constants is copied into it. Returns the first part with its operands and results replaced by
    values outside, the second part as it is, and for each result that moved its value outside.
    """
    outside: dict[Value, Value] = dict(captured)
    moved: dict[Value, Value] = {}
    free: dict[Value, Node] = {}
    front: list[Node] = []
    stay: list[Node] = []

    def copy(node: Node) -> None:
        for operand in node.operands:
            if operand not in outside:
                copy(free[operand])
        fresh = tuple(Value(result.type, result.name) for result in node.results)
        operands = tuple(outside[operand] for operand in node.operands)
        op = speculated(node.op)
        front.append(replace(node, op=op, operands=operands, results=fresh, scope=scope + node.scope))
        outside.update(zip(node.results, fresh, strict=True))

    for node in nodes:
        movable = _has_arrays_only(node) if runs else is_movable(node)
        if all(operand in free for operand in node.operands) and all(isinstance(r.type, Array) for r in node.results):
            if movable or is_free(node):
                free.update((result, node) for result in node.results)
            stay.append(node)
        elif movable and all(operand in outside or operand in free for operand in node.operands) and may_move(node):
            copy(node)
            moved.update((result, outside[result]) for result in node.results)
        else:
            stay.append(node)
            runs = runs and not can_fault(node)
    return front, stay, moved


def hoist(region: Region, may_move: MayMove = lambda _loop, _node: True, loops: Collection[str] = LOOPS) -> Region:
    """The region with loop-invariant nodes in front of their loops, in nested regions too, innermost loops first.

    `loops` are the names of the ops whose bodies are searched: `for`, `while`, `space`.
    """
    return _hoisted(region, may_move, loops, {})


def _hoisted(region: Region, may_move: MayMove, loops: Collection[str], done: dict[Region, Region]) -> Region:
    if region in done:
        return done[region]
    nodes: list[Node] = []
    for node in region.nodes:
        regions = tuple(_hoisted(inner, may_move, loops, done) for inner in node.regions)
        if regions != node.regions:
            node = replace(node, regions=regions)
        if node.op.name in loops:
            front, node = _from_loop(node, may_move)
            nodes += front
        nodes.append(node)
    same = tuple(nodes) == region.nodes
    found = done[region] = region if same else Region(region.inputs, tuple(nodes), region.outputs)
    return found


def _from_loop(loop: Node, may_move: MayMove) -> tuple[list[Node], Node]:
    """The nodes to be done in front of a loop, and the loop that captures their results."""
    op: Any = loop.op
    body = loop.regions[-1]
    captures = body.inputs[op.leading_inputs(len(loop.regions) - 1) :]
    captured = dict(zip(captures, loop.operands[op.leading_operands() :], strict=True))
    runs = op.name == "space" and all((extent - 1).is_nonnegative() for extent in op.extents)
    front, stay, moved = split_invariant(body.nodes, captured, loop.scope, lambda node: may_move(loop, node), runs)
    if not moved:
        return [], loop
    used = frozenset(operand for node in stay for operand in node.operands) | frozenset(body.outputs)
    read = [value for value in moved if value in used]
    others = [
        Region((*region.inputs, *(Value(value.type, value.name) for value in read)), region.nodes, region.outputs)
        for region in loop.regions[:-1]
    ]
    inner = Region((*body.inputs, *read), tuple(stay), body.outputs)
    operands = (*loop.operands, *(moved[value] for value in read))
    return front, replace(loop, operands=operands, regions=(*others, inner))
