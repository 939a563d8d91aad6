"""Matrix products that a loop does step by step are done for all steps at once, where the steps do not need each other.

Three forms are found in counted loops whose number of steps is a size:

    a product of a walked array and a captured matrix      is done before the loop, which walks the result; of several
                                                           arrays put together, that part of it
    a stack of products of what a step computes and a      is done after the loop, from what the steps computed
    captured matrix
    an accumulation of products x' y over the steps        is done after the loop, from x and y of all steps stacked

A product of a walked array alone is the same sum as before; the others are rounded in another order. A loop with
`@checkpoint` is left as it is, so that it rounds alike whatever it keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.arithmetic import Add, Mul
from dgraph.ops.control import For
from dgraph.ops.index import Accumulate
from dgraph.ops.linalg import Dot
from dgraph.ops.shape import Broadcast, Concat, Reshape
from dgraph.passes.base import each_region, graph_pass, outputs_of, with_operands
from dgraph.passes.row_products import as_rows, row_operand, rows_times, shape_of, slice_along
from dgraph.sizes import size
from dgraph.types import Accumulator, Array, DType


@graph_pass("matrix products of all steps of a loop are done at once")
def loop_products(graph: Graph) -> Graph:
    """Move matrix products out of the loops of every region."""
    return each_region(graph, _moved)


def _moved(region: Region) -> Region:
    if not any(isinstance(node.op, For) for node in region.nodes):
        return region
    g = Builder()
    g.adopt(Region(region.inputs, (), ()))
    known: dict[Value, Value] = {}
    for node in region.nodes:
        node = with_operands(node, known)
        if isinstance(node.op, For) and node.op.length is not None and not node.op.has_wish:
            with g.at(node.span, node.scope, node.derived):
                node = _products_before(g, node)
                node = _products_after(g, node, known)
        else:
            g.append(node)
    return Region(region.inputs, tuple(g.nodes), outputs_of(region, known))


# ---- before the loop ------------------------------------------------------------------------------------------------


def _products_before(g: Builder, loop: Node) -> Node:
    """The loop with products of walked arrays walked; the products are appended to the builder."""
    op, (body,) = loop.op, loop.regions
    assert isinstance(op, For)
    before = _Before(g, loop, body)
    nodes = [new for node in body.nodes for new in (before.placed(node) if isinstance(node.op, Dot) else [node])]
    if not before.walked:
        return loop
    lead = op.leading_operands()
    inputs = (*body.inputs[:lead], *before.walked, *body.inputs[lead:], *before.captured)
    outside = before.walked.values(), loop.operands[lead:], before.captured.values()
    operands = (*loop.operands[:lead], *(value for values in outside for value in values))
    inner = Region(inputs, tuple(nodes), body.outputs)
    return replace(loop, op=replace(op, walks=op.walks + len(before.walked)), operands=operands, regions=(inner,))


class _Before:
    """Products of one loop that are done before it: new inputs of the body, with the values outside."""

    def __init__(self, g: Builder, loop: Node, body: Region) -> None:
        op = loop.op
        assert isinstance(op, For)
        self.g, self.body = g, body
        first, lead = 1 + op.carries, op.leading_operands()
        walks = zip(body.inputs[first:lead], loop.operands[first:lead], strict=True)
        self.arrays = {entry: array for entry, array in walks if isinstance(array.type, Array)}
        self.fixed = dict(zip(body.inputs[lead:], loop.operands[lead:], strict=True))
        self.walked: dict[Value, Value] = {}
        self.captured: dict[Value, Value] = {}

    def placed(self, node: Node) -> list[Node]:
        """The nodes that stand in the body for a product."""
        left, right = node.operands
        op = node.op
        assert isinstance(op, Dot)
        found = row_operand(op, left, right, set(self.arrays), set(self.fixed))
        if found is not None:
            rows, matrix = (right, left) if found[0] else (left, right)
            self.walked[node.result] = rows_times(self.g, self.arrays[rows], self.fixed[matrix], found[1])
            return []
        maker = self.body.producers.get(left)
        if maker is None or not isinstance(maker.op, Concat) or right not in self.fixed or op.transpose_a:
            return [node]
        is_last = maker.op.axis == len(shape_of(left)) - 1 and len(shape_of(left)) < 3 > len(shape_of(right)) > 1
        if not is_last or not any(part in self.arrays for part in maker.operands):
            return [node]
        return self.terms(node, op, maker.operands)

    def terms(self, node: Node, op: Dot, parts: Sequence[Value]) -> list[Node]:
        """A product of parts put together, as the sum of their products; those of walked parts are walked."""
        matrix, axis = self.fixed[node.operands[1]], 1 if op.transpose_b else 0
        start, nodes, sums = size(0), [], []
        for part in parts:
            extent = shape_of(part)[-1]
            factor = slice_along(self.g, matrix, axis, start, 1, extent)
            term = Value(node.result.type)
            if part in self.arrays:
                self.walked[term] = rows_times(self.g, self.arrays[part], factor, op.transpose_b)
            else:
                inside = Value(factor.type, factor.name)
                self.captured[inside] = factor
                nodes.append(replace(node, operands=(part, inside), results=(term,)))
            sums.append(term)
            start = start + extent
        total = sums[0]
        for position, term in enumerate(sums[1:], 2):
            result = node.result if position == len(sums) else Value(node.result.type)
            nodes.append(replace(node, op=Add(), operands=(total, term), results=(result,)))
            total = result
        return nodes


# ---- after the loop -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sum:
    """A carried accumulator that gathers `left' right` at every step, both of them matrices or both vectors."""

    carry: int
    node: Node
    left: Value
    right: Value


@dataclass(frozen=True)
class _Stack:
    """A stack of the products of what the steps compute, `rows`, and a matrix that the loop captures."""

    output: int
    node: Node
    rows: Value
    matrix: Value
    transposed: bool


def _products_after(g: Builder, loop: Node, known: dict[Value, Value]) -> Node:
    """Append the loop without the products that can wait, and those; `known` learns their results."""
    op, (body,) = loop.op, loop.regions
    assert isinstance(op, For) and op.length is not None
    first, lead = 1 + op.carries, op.leading_operands()
    walks = zip(body.inputs[first:lead], loop.operands[first:lead], strict=True)
    arrays = {entry: array for entry, array in walks if isinstance(array.type, Array)}
    sums = [found for carry in range(op.carries) if (found := _sum(op, body, carry)) is not None]
    places = range(op.carries, op.carries + op.stacks)
    stacks = [stack for at in places if (stack := _stack(op, body, at)) is not None]
    if not sums and not stacks:
        g.append(loop)
        return loop
    factors = [value for found in sums for value in (found.left, found.right)] + [stack.rows for stack in stacks]
    stacked = [value for value in dict.fromkeys(factors) if value not in arrays]
    made = [Value(Array(_dtype(value), (op.length, *shape_of(value))), value.name) for value in stacked]
    gone = {found.carry for found in sums}
    dropped = gone | {stack.output for stack in stacks}
    skipped = {found.node for found in sums} | {stack.node for stack in stacks}
    end = op.carries + op.stacks
    outputs, results = (
        (*(v for at, v in enumerate(values[:end]) if at not in dropped), *new, *values[end:])
        for values, new in ((body.outputs, stacked), (loop.results, made))
    )
    inputs = tuple(value for at, value in enumerate(body.inputs) if at - 1 not in gone)
    changed = replace(
        loop,
        op=replace(op, carries=op.carries - len(gone), stacks=op.stacks - len(stacks) + len(made)),
        operands=tuple(value for at, value in enumerate(loop.operands) if at - 1 not in gone),
        results=tuple(results),
        regions=(Region(inputs, tuple(node for node in body.nodes if node not in skipped), tuple(outputs)),),
    )
    g.append(changed)
    arrays.update(zip(stacked, made, strict=True))
    captured = dict(zip(body.inputs[lead:], loop.operands[lead:], strict=True))
    for stack in stacks:
        whole = rows_times(g, arrays[stack.rows], captured[stack.matrix], stack.transposed)
        known[loop.results[stack.output]] = whole
    for found in sums:
        left, right = (as_rows(g, arrays[value]) for value in (found.left, found.right))
        matrix = g.dot(left, right, transpose_a=True)
        known[loop.results[found.carry]] = g.accumulate(loop.operands[1 + found.carry], matrix, policy="proven")
    return changed


def _dtype(value: Value) -> DType:
    assert isinstance(value.type, Array)
    return value.type.dtype


def _stack(op: For, body: Region, output: int) -> _Stack | None:
    """The product that a stack collects, if nothing else reads it and a step computes one of its factors."""
    value = body.outputs[output]
    maker = body.producers.get(value)
    if maker is None or not isinstance(maker.op, Dot) or value in body.users or body.outputs.count(value) > 1:
        return None
    left, right = maker.operands
    found = row_operand(maker.op, left, right, set(body.producers), set(body.inputs[op.leading_inputs(0) :]))
    if found is None:
        return None
    rows, matrix = (right, left) if found[0] else (left, right)
    return _Stack(output, maker, rows, matrix, found[1])


def _sum(op: For, body: Region, carry: int) -> _Sum | None:
    """What a carry gathers, if it is nothing but a product at every step."""
    value, output = body.inputs[1 + carry], body.outputs[carry]
    users = body.users.get(value, ())
    if not isinstance(value.type, Accumulator) or value.type.kind != "add" or len(users) != 1:
        return None
    (user,) = users
    if not isinstance(user.op, Accumulate) or len(user.operands) != 2 or user.result is not output:
        return None
    maker = body.producers.get(user.operands[1])
    factors = _factors(body, maker) if maker is not None else None
    captured = body.inputs[op.leading_inputs(0) :]
    if factors is None or any(factor in captured for factor in factors):
        return None
    return _Sum(carry, user, *factors)


def _factors(body: Region, maker: Node) -> tuple[Value, Value] | None:
    """`x, y` if a node is the product `x' y` of matrices with a common leading axis, or of all entries of vectors."""
    if isinstance(maker.op, Dot):
        left, right = maker.operands
        matrices = len(shape_of(left)) == len(shape_of(right)) == 2
        return (left, right) if matrices and maker.op.transpose_a and not maker.op.transpose_b else None
    if not isinstance(maker.op, Mul) or len(shape_of(maker.result)) != 2:
        return None
    spread = [_spread(body, operand) for operand in maker.operands]
    vectors = [(axis, value) for found in spread if found is not None for axis, value in [found]]
    if sorted(axis for axis, _ in vectors) != [0, 1]:
        return None
    left, right = (value for _, value in sorted(vectors, key=lambda pair: pair[0]))
    return left, right


def _spread(body: Region, value: Value) -> tuple[int, Value] | None:
    """The axis of a matrix along which a vector lies that is repeated along the other one; and the vector."""
    maker = body.producers.get(value)
    if maker is None or not isinstance(maker.op, Broadcast):
        return None
    (given,) = maker.operands
    rank = len(shape_of(given))
    if rank == 1:
        return 1, given
    inner = body.producers.get(given)
    if rank != 2 or inner is None or not isinstance(inner.op, Reshape) or not shape_of(given)[1].is_literal_one:
        return None
    (vector,) = inner.operands
    return (0, vector) if shape_of(vector) == shape_of(given)[:1] else None
