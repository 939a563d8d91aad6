"""Loops that are less than they look: carries that no step changes, loops that make no step or one.

A carry that every step hands on as it came is captured; the result is what went in. A loop whose count is known to be 0
gives back its carries, one whose count is 1 is its body. Loops that write or walk tapes stay: they belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import For, While
from dgraph.ops.values import Constant
from dgraph.passes.base import each_region, graph_pass
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.sizes import size
from dgraph.types import I64, Accumulator, Array, Tape


@graph_pass("carries that never change are captured, loops of no step or one are none")
def simplify_loops(graph: Graph) -> Graph:
    """Simplify the loops of every region, inner ones first."""
    return each_region(graph, lambda region: rewrite(region, _simplified))


def _simplified(g: Rewriter, node: Node) -> Sequence[Value] | None:
    if not isinstance(node.op, For | While):
        return None
    if isinstance(node.op, For) and not node.op.tapes:
        steps = _steps(g, node)
        if steps is not None and steps <= 0:
            return _no_step(g, node)
        if steps == 1 and not any(isinstance(value.type, Tape) for value in node.operands):
            return _one_step(g, node)
    return _without_idle_carries(g, node)


def _steps(g: Rewriter, node: Node) -> int | None:
    """How many steps a loop makes, if that is known."""
    maker = g.maker(node.operands[0])
    return int(maker.op.number) if maker is not None and isinstance(maker.op, Constant) else None


def _no_step(g: Rewriter, node: Node) -> list[Value]:
    """The carries as they came; stacks of nothing."""
    op = node.op
    assert isinstance(op, For)
    stacks = [g.zeros(value.type) for value in node.results[op.carries :]]
    return [*node.operands[1 : 1 + op.carries], *stacks]


def _one_step(g: Rewriter, node: Node) -> list[Value]:
    """The body, at the first entries of what is walked."""
    op = node.op
    assert isinstance(op, For)
    first = 1 + op.carries
    start = g.constant(0, I64)
    walked = [g.index(array, start, policy="proven") for array in node.operands[first : first + op.walks]]
    inputs = [start, *node.operands[1:first], *walked, *node.operands[first + op.walks :]]
    outputs = g.inline(node.regions[0], inputs, node.scope)
    stacks = []
    for value in outputs[op.carries :]:
        assert isinstance(value.type, Array)
        stacks.append(g.reshape(value, shape=(size(1), *value.type.shape)))
    return [*outputs[: op.carries], *stacks]


def _without_idle_carries(g: Rewriter, node: Node) -> list[Value] | None:
    """The loop with the carries that no step changes among its captures."""
    op: Any = node.op
    lead = 1 if isinstance(op, For) else 0
    body = node.regions[-1]
    idle = [at for at in range(op.carries) if body.outputs[at] is body.inputs[lead + at]]
    if not idle:
        return None
    places = [lead + at for at in idle]
    # An accumulator is used once: it passes the loop by.
    captured = [at for at in places if not isinstance(body.inputs[at].type, Accumulator)]

    def moved(values: Sequence[Value]) -> tuple[Value, ...]:
        return (*(v for at, v in enumerate(values) if at not in places), *(values[at] for at in captured))

    outputs = tuple(v for at, v in enumerate(body.outputs) if at not in idle)
    regions = [Region(moved(region.inputs), region.nodes, region.outputs) for region in node.regions[:-1]]
    regions.append(Region(moved(body.inputs), body.nodes, outputs))
    kept = tuple(v for at, v in enumerate(node.results) if at not in idle)
    narrow = replace(op, carries=op.carries - len(idle))
    g.append(replace(node, op=narrow, operands=moved(node.operands), results=kept, regions=tuple(regions)))
    return [node.operands[lead + at] if at in idle else value for at, value in enumerate(node.results)]
