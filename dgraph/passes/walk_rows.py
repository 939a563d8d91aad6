"""Rows that a loop reads or gathers in even steps are walked and stacked: one is handed in, or out, at every step.

That is the form in which other passes see that a step needs nothing of the others. At step i the row is `b + a * i` for
a whole number a and a size b, as in `x[n - 1 - i]` and `x[2 * i + 1]`. What is walked is a slice of the array, which is
no copy. What is gathered into an accumulator is added to it after the loop.

Entries of an array of one axis are read where they are. Rows that are gathered in another order than that of the steps
are stacked only if they are products of matrices, of which there can be one for all steps then: else they are added in
place, which is less work than to stack them and then move them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import For
from dgraph.ops.index import Accumulate, Index
from dgraph.ops.linalg import Dot
from dgraph.ops.shape import affine
from dgraph.passes.base import each_region, graph_pass, outputs_of, with_operands
from dgraph.passes.index_forms import index_form
from dgraph.passes.row_products import shape_of, slice_along
from dgraph.sizes import Size, size, variable
from dgraph.types import Accumulator, Array


@graph_pass("rows read or gathered in even steps of a loop are walked or stacked")
def walk_rows(graph: Graph) -> Graph:
    """Walk rows in the loops of every region."""
    return each_region(graph, _walked)


def _walked(region: Region) -> Region:
    if not any(isinstance(node.op, For) for node in region.nodes):
        return region
    g = Builder()
    g.adopt(Region(region.inputs, (), ()))
    known: dict[Value, Value] = {}
    for node in region.nodes:
        moved = with_operands(node, known)
        if isinstance(node.op, For) and node.op.length is not None:
            with g.at(node.span, node.scope, node.derived):
                _with_stacks(g, _with_walks(g, moved), known)
        else:
            g.append(moved)
    return Region(region.inputs, tuple(g.nodes), outputs_of(region, known))


@dataclass(frozen=True)
class _Places:
    """The row `start + step * i` at step i of a loop."""

    start: Size
    step: int

    def rows(self, g: Builder, array: Value, count: Size) -> Value:
        """These rows of an array in the order of the steps; the array itself if that is what they are."""
        return slice_along(g, array, 0, self.start, self.step, count)

    def are_all(self, array: Value, count: Size | None) -> bool:
        """Whether these are all rows of an array or accumulator, each once."""
        assert isinstance(array.type, Array | Accumulator)
        first = {1: size(0), -1: array.type.shape[0] - 1}.get(self.step)
        return first is not None and self.start == first and array.type.shape[0] == count


def _places(body: Region, row: Value) -> _Places | None:
    """Where a row is, if that moves in even steps."""
    form, index = index_form(body.producers.get, row), body.inputs[0]
    start = form.substitute({index: 0})
    step = (form - start).substitute({index: 1}).constant
    if not step or form != start + step * variable(index) or any(isinstance(atom, Value) for atom in start.atoms()):
        return None
    return _Places(start, step)


# ---- reading ---------------------------------------------------------------------------------------------------------


def _with_walks(g: Builder, loop: Node) -> Node:
    op, (body,) = loop.op, loop.regions
    assert isinstance(op, For) and op.length is not None
    lead = op.leading_operands()
    captured = dict(zip(body.inputs[lead:], loop.operands[lead:], strict=True))
    rows: dict[tuple[Value, _Places], Value] = {}
    known: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in body.nodes:
        places = _read_places(body, node) if node.operands and node.operands[0] in captured else None
        if places is None:
            nodes.append(with_operands(node, known))
        else:
            known[node.result] = rows.setdefault((captured[node.operands[0]], places), node.result)
    if not rows:
        return loop
    walked = (places.rows(g, array, op.length) for array, places in rows)
    inputs = (*body.inputs[:lead], *rows.values(), *body.inputs[lead:])
    operands = (*loop.operands[:lead], *walked, *loop.operands[lead:])
    inner = Region(inputs, tuple(nodes), outputs_of(body, known))
    return replace(loop, op=replace(op, walks=op.walks + len(rows)), operands=operands, regions=(inner,))


def _read_places(body: Region, node: Node) -> _Places | None:
    """Which rows a node reads in the course of a loop, if these are rows that can be walked."""
    if not isinstance(node.op, Index) or len(node.operands) != 2 or len(shape_of(node.operands[0])) < 2:
        return None
    return _places(body, node.operands[1]) if node.op.policy == "proven" else None


# ---- gathering -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Gathering:
    """A carried accumulator that gets a row at each step and nothing else."""

    node: Node
    places: _Places


def _with_stacks(g: Builder, loop: Node, known: dict[Value, Value]) -> None:
    """Append the loop with stacks in place of gathered rows, and what adds them up; `known` learns what the results
    are."""
    op, (body,) = loop.op, loop.regions
    assert isinstance(op, For) and op.length is not None
    starts = loop.operands[1:]
    found = ((carry, _gathering(op, body, carry)) for carry in range(op.carries))
    gathered = {carry: gathering for carry, gathering in found if gathering is not None}
    if not gathered:
        g.append(loop)
        return
    kept = [at for at in range(op.carries) if at not in gathered]
    inputs = tuple(value for at, value in enumerate(body.inputs) if at - 1 not in gathered)
    ends = op.carries, op.carries + op.stacks
    gone = {gathering.node for gathering in gathered.values()}
    rows = [gathering.node.operands[-1] for gathering in gathered.values()]
    stacked = [_stack(row, op.length) for row in rows]
    outputs = (*(body.outputs[at] for at in kept), *body.outputs[slice(*ends)], *rows, *body.outputs[ends[1] :])
    results = (*(loop.results[at] for at in kept), *loop.results[slice(*ends)], *stacked, *loop.results[ends[1] :])
    g.append(
        replace(
            loop,
            op=replace(op, carries=len(kept), stacks=op.stacks + len(rows)),
            operands=tuple(value for at, value in enumerate(loop.operands) if at - 1 not in gathered),
            results=results,
            regions=(Region(inputs, tuple(node for node in body.nodes if node not in gone), outputs),),
        )
    )
    for (carry, gathering), stack in zip(gathered.items(), stacked, strict=True):
        name = loop.results[carry].name
        known[loop.results[carry]] = _added(g, starts[carry], stack, gathering.places, op.length, name)


def _stack(row: Value, count: Size) -> Value:
    assert isinstance(row.type, Array)
    return Value(Array(row.type.dtype, (count, *row.type.shape)), row.name)


def _gathering(op: For, body: Region, carry: int) -> _Gathering | None:
    """How a carried accumulator gets its rows, if these are better stacked."""
    value = body.inputs[1 + carry]
    users = body.users.get(value, ())
    if not isinstance(value.type, Accumulator) or value.type.kind != "add" or len(users) != 1:
        return None
    (user,) = users
    if not isinstance(user.op, Accumulate) or len(user.operands) != 3 or user.result is not body.outputs[carry]:
        return None
    places = _places(body, user.operands[1])
    if places is None:
        return None
    if places.are_all(value, op.length):
        return _Gathering(user, places) if places.step == 1 or _is_product(op, body, user.operands[-1]) else None
    is_product = user.op.policy == "proven" and _is_product(op, body, user.operands[-1])
    return _Gathering(user, places) if is_product else None


def _is_product(op: For, body: Region, row: Value) -> bool:
    """Whether a row is a product with a captured matrix."""
    maker = body.producers.get(row)
    captured = body.inputs[op.leading_inputs(0) :]
    return maker is not None and isinstance(maker.op, Dot) and any(operand in captured for operand in maker.operands)


def _added(g: Builder, start: Value, stack: Value, places: _Places, count: Size, name: str) -> Value:
    """The accumulator `start` with the rows of a stack added at their places."""
    if places.are_all(start, count):
        return g.emit(Accumulate("proven"), start, places.rows(g, stack, count), name=name)

    def point(h: Builder, at: list[Value], accumulators: list[Value], _own: list[Value]) -> list[Value]:
        entry = h.index(stack, *at, policy="proven")
        row = affine(h, places.start, places.step, at[0])
        return [h.accumulate(accumulators[0], row, *at[1:], entry, policy="proven")]

    (result,) = g.space(shape_of(stack), point, accumulators=[start], names=[name])
    return result
