"""Matrix products that a loop does step by step are done for all steps at once, where the steps do not need each other.

Two forms are found in counted loops whose number of steps is a size:

    a product of a walked array and a captured matrix      is done before the loop, which walks the result
    an accumulation of products x' y over the steps        is done after the loop, from x and y of all steps stacked

In the first, every entry is the same sum as before. In the second, sums are rounded in another order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.arithmetic import Mul
from dgraph.ops.control import For
from dgraph.ops.index import Accumulate
from dgraph.ops.linalg import Dot
from dgraph.ops.shape import Broadcast, Reshape
from dgraph.passes.base import each_region, graph_pass, outputs_of, with_operands
from dgraph.passes.row_products import as_rows, row_operand, rows_times, shape_of
from dgraph.types import Accumulator, Array


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
        if isinstance(node.op, For) and node.op.length is not None:
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
    first = 1 + op.carries
    walked = {body.inputs[at]: loop.operands[at] for at in range(first, first + op.walks)}
    lead = op.leading_operands()
    captured = dict(zip(body.inputs[lead:], loop.operands[lead:], strict=True))
    made: list[tuple[Value, Value]] = []
    nodes = []
    for node in body.nodes:
        whole = _whole_product(g, node, walked, captured) if isinstance(node.op, Dot) else None
        if whole is None:
            nodes.append(node)
        else:
            made.append((node.result, whole))
    if not made:
        return loop
    inputs = (*body.inputs[:lead], *(entry for entry, _ in made), *body.inputs[lead:])
    operands = (*loop.operands[:lead], *(whole for _, whole in made), *loop.operands[lead:])
    inner = Region(inputs, tuple(nodes), body.outputs)
    return replace(loop, op=replace(op, walks=op.walks + len(made)), operands=operands, regions=(inner,))


def _whole_product(g: Builder, node: Node, walked: dict[Value, Value], captured: dict[Value, Value]) -> Value | None:
    """The product for all steps; None if it is not one of a walked array and a captured matrix."""
    assert isinstance(node.op, Dot)
    left, right = node.operands
    arrays = {entry for entry, array in walked.items() if isinstance(array.type, Array)}
    found = row_operand(node.op, left, right, arrays, set(captured))
    if found is None:
        return None
    rows, matrix = (right, left) if found[0] else (left, right)
    return rows_times(g, walked[rows], captured[matrix], found[1])


# ---- after the loop -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sum:
    """A carried accumulator that gathers `left' right` at every step, both of them matrices or both vectors."""

    carry: int
    node: Node
    left: Value
    right: Value


def _products_after(g: Builder, loop: Node, known: dict[Value, Value]) -> Node:
    """Append the loop without the accumulations that are products, and those; `known` learns their results."""
    op, (body,) = loop.op, loop.regions
    assert isinstance(op, For)
    first = 1 + op.carries
    arrays = {body.inputs[at]: loop.operands[at] for at in range(first, first + op.walks)}
    arrays = {entry: array for entry, array in arrays.items() if isinstance(array.type, Array)}
    sums = [found for carry in range(op.carries) if (found := _sum(op, body, carry)) is not None]
    if not sums:
        g.append(loop)
        return loop
    stacked = [v for v in dict.fromkeys(v for s in sums for v in (s.left, s.right)) if v not in arrays]
    gone = [found.carry for found in sums]
    kept = [at for at in range(op.carries) if at not in gone]
    skipped = {found.node for found in sums}
    inputs = tuple(value for at, value in enumerate(body.inputs) if at - 1 not in gone)
    outputs = (*(body.outputs[at] for at in kept), *body.outputs[op.carries :][: op.stacks], *stacked)
    outputs = (*outputs, *body.outputs[op.carries + op.stacks :])
    assert op.length is not None
    made = [Value(Array(v.type.dtype, (op.length, *shape_of(v))), v.name) for v in stacked]  # type: ignore[union-attr]
    ends = op.carries, op.carries + op.stacks
    results = (*(loop.results[at] for at in kept), *loop.results[slice(*ends)], *made, *loop.results[ends[1] :])
    changed = replace(
        loop,
        op=replace(op, carries=len(kept), stacks=op.stacks + len(made)),
        operands=tuple(value for at, value in enumerate(loop.operands) if at - 1 not in gone),
        results=results,
        regions=(Region(inputs, tuple(node for node in body.nodes if node not in skipped), outputs),),
    )
    g.append(changed)
    arrays.update(zip(stacked, made, strict=True))
    for found in sums:
        left, right = (as_rows(g, arrays[value]) for value in (found.left, found.right))
        matrix = g.dot(left, right, transpose_a=True)
        known[loop.results[found.carry]] = g.accumulate(loop.operands[1 + found.carry], matrix, policy="proven")
    return changed


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
