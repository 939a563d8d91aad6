"""How many steps a `while` has, where that follows from its arguments: it counts up or down to a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.induction import inductions
from dgraph.ops.control import If, While
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.costs import Costs
from dgraph.sizes import Atom, variable

MIRRORED = {"less": "greater", "less_equal": "greater_equal", "greater": "less", "greater_equal": "less_equal"}


def steps_of_whiles(graph: Graph, numbers: Mapping[Atom, int]) -> tuple[dict[Atom, int], dict[Atom, int]]:
    """For each `while` outside of other loops the number of its steps, by the result that counts them: of those that
    only count, and a bound for those with more in their condition."""
    exact: dict[Atom, int] = {}
    bounds: dict[Atom, int] = {}
    known = dict(numbers)
    costs = Costs(known)
    for node in graph.region.nodes:
        costs.node(node)
        if isinstance(node.op, While):
            found = list(_bounds(graph.region, node, costs))
            told = [bound for bound in found if bound is not None]
            if told and len(told) == len(found) == 1:
                exact[node.results[-1]] = known[node.results[-1]] = told[0]
            elif told:
                bounds[node.results[-1]] = min(told)
    return exact, bounds


def _bounds(around: Region, node: Node, costs: Costs) -> Iterator[int | None]:
    """A bound of the steps by each part of the condition; None by one that does not count."""
    condition, body = node.regions
    assert isinstance(node.op, While)
    found = inductions(body, 0, node.op.carries, body.inputs[node.op.carries :])
    counters = {condition.inputs[one.place]: one for one in found.values()}
    for part in _parts(condition, condition.outputs[0]):
        bound = None
        if part is not None and part.op.name in MIRRORED:
            left, right = part.operands
            name = part.op.name
            if right in counters:
                left, right, name = right, left, MIRRORED[name]
            if left in counters and right not in counters:
                counter = counters[left]
                start = _number(around, condition, node, left, costs)
                end = _fixed(around, condition, node, right, costs)
                step = _fixed(around, body, node, counter.step, costs)
                if start is not None and end is not None and step:
                    bound = _trips(start, end, step if counter.op == "add" else -step, name)
        yield bound


def _parts(region: Region, value: Value) -> Iterator[Node | None]:
    """The comparisons that all have to hold."""
    maker = region.producers.get(value)
    if maker is not None and maker.op.name == "logical_and":
        for operand in maker.operands:
            yield from _parts(region, operand)
    elif maker is not None and isinstance(maker.op, If) and _is_false(maker.regions[1]):
        # `a and b`, where b is not asked if a does not hold.
        yield from _parts(region, maker.operands[0])
        yield None
    else:
        yield maker


def _is_false(region: Region) -> bool:
    maker = region.producers.get(region.outputs[0])
    return maker is not None and isinstance(maker.op, Constant) and not maker.op.value


def _fixed(around: Region, body: Region, node: Node, value: Value, costs: Costs) -> int | None:
    """An integer that is the same in all steps; None if it is not, or only the run knows it."""
    assert isinstance(node.op, While)
    return None if value in body.inputs[: node.op.carries] else _number(around, body, node, value, costs)


def _number(around: Region, body: Region, node: Node, value: Value, costs: Costs) -> int | None:
    """An integer at the first step; None if only the run knows it."""
    is_outside = value in body.inputs
    if is_outside:
        value = node.operands[body.inputs.index(value)]
    maker = (around if is_outside else body).producers.get(value)
    if maker is not None and isinstance(maker.op, Constant):
        return int(maker.op.number)
    if maker is not None and isinstance(maker.op, SizeValue):
        count = maker.op.value
    else:
        count = costs.count(value) if is_outside else variable(value)
    if not set(count.atoms()) <= set(costs.sizes):
        return None
    return count.evaluate(costs.sizes.__getitem__)


def _trips(start: int, end: int, step: int, comparison: str) -> int | None:
    """How often start, start + step, ... compares so with the end."""
    if comparison.startswith("greater"):
        start, end, step = -start, -end, -step
    if step < 0:
        return None
    last = end if comparison.endswith("equal") else end - 1
    return max((last - start) // step + 1, 0)
