"""Rows of an array that only gathers read are computed where a gather reads them.

`q[i] = f(p[i])` and then `q[match[j]]`: of a large `q` often few rows are wanted. An index space marks them first, from
the indices alone; then the spaces that make the rows, one from another, skip those without a mark. What is read does
not change by a bit. Rows are skipped where computing one costs more than a look at its mark, and cannot fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dgraph.classes import dataclass
from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.hoist import can_fault
from dgraph.ops.control import If, Space
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.index import Accumulate, Index, Undefined
from dgraph.ops.linalg import Dot
from dgraph.ops.shape import Reshape, Slice
from dgraph.passes.base import each_region, graph_pass, outputs_of, with_operands
from dgraph.passes.costs import PRODUCTS, Costs
from dgraph.passes.row_products import shape_of
from dgraph.sizes import Size, size
from dgraph.types import BOOL, Accumulator, Array

DEAR = 32
"""Operations of a row, by their weights, from which on it is worth a look at its mark, if the row is a loop."""

DEAR_TOGETHER = 256
"""The same for a row that is computed with its neighbours in one vector."""

SHARED = 0.25
"""The part of it from which on a row is worth a look at a mark that dearer rows look at too."""

FEW = 64
"""Rows up to which all are computed."""


@graph_pass("rows that only gathers read are computed where they are read")
def gathered_rows(graph: Graph) -> Graph:
    """Mark rows in every region."""
    return each_region(graph, _marked)


@dataclass(frozen=True)
class _Gather:
    """A read of rows at an index that the body of an index space computes. `captures` are what that takes: values of
    the body, each with what it is in the region where the rows are made."""

    space: Node
    row: Value
    captures: tuple[tuple[Value, Value], ...]

    def seen_from(self, names: Mapping[Value, Value]) -> _Gather | None:
        """The same where the region's values have other names; None if one has none."""
        if any(outer not in names for _, outer in self.captures):
            return None
        return replace(self, captures=tuple((inner, names[outer]) for inner, outer in self.captures))


Rows = tuple[_Gather, ...] | None
"""The gathers that read an array; None if all of its rows are wanted."""


class _Reads:
    """Which rows of the arrays of a region are read."""

    def __init__(self, region: Region, outside: Sequence[Rows] | None = None) -> None:
        self.region = region
        self.outside = outside
        self.found: dict[Value, Rows] = {}

    def rows(self, value: Value) -> Rows:
        """The gathers that read a value."""
        if value not in self.found:
            self.found[value] = self._rows(value)
        return self.found[value]

    def _rows(self, value: Value) -> Rows:
        parts = [self.by(user, value) for user in self.region.users.get(value, ())]
        for output, rows in zip(self.region.outputs, self.outside or (None,) * len(self.region.outputs), strict=True):
            if output is value:
                parts.append(rows)
        return _together(parts)

    def by(self, user: Node, value: Value) -> Rows:
        """Those of one node that reads it."""
        op = user.op
        if isinstance(op, If) and value is not user.operands[0]:
            wanted = [self.rows(result) for result in user.results]
            return _together(_Reads(region, wanted).rows(inner) for region, inner in _captured(user, value))
        if isinstance(op, Space) and value not in user.operands[: op.accumulators]:
            return _together(self.in_space(user, inner) for _, inner in _captured(user, value))
        return self.rows(user.result) if _keeps_rows(user, value) else None

    def in_space(self, space: Node, array: Value) -> Rows:
        """Those of the body of an index space that captures it."""
        (body,) = space.regions
        if array in body.outputs:
            return None
        return _together(self.in_body(space, user, array) for user in body.users.get(array, ()))

    def in_body(self, space: Node, user: Node, array: Value) -> Rows:
        """Those of one node of the body of an index space."""
        (body,) = space.regions
        rows = list(_first_indices(user, array))
        if None not in rows:
            return _together(self.read(space, row) for row in rows if row is not None)
        names = {inner: outer for outer in space.operands for _, inner in _captured(space, outer)}
        found = _Reads(body).by(user, array) if user.regions else None
        lifted = [gather.seen_from(names) for gather in found or ()]
        return None if found is None or None in lifted else tuple(gather for gather in lifted if gather)

    def read(self, space: Node, row: Value) -> Rows:
        """Those of one read in the body of an index space: at the row of the point itself, or at another one."""
        op: Any = space.op
        (body,) = space.regions
        if row is body.inputs[0]:
            has_others = op.accumulators or op.buffers
            return None if has_others else _together(self.rows(result) for result in space.results)
        nodes = _slice(body, row)
        # An index that no array decides runs over all rows.
        if nodes is None or not any(isinstance(node.op, Index) for node in nodes):
            return None
        needed = {row, *(operand for node in nodes for operand in node.operands)}
        names = {inner: outer for outer in space.operands for _, inner in _captured(space, outer)}
        return (_Gather(space, row, tuple((inner, outer) for inner, outer in names.items() if inner in needed)),)


def _keeps_rows(node: Node, value: Value) -> bool:
    """Whether each row of a result of whole arrays follows from the same rows of its operands."""
    op = node.op
    if len(node.results) != 1 or not all(isinstance(one.type, Array) for one in (value, node.result)):
        return False
    rows = shape_of(value)[:1]
    if not rows or shape_of(node.result)[:1] != rows:
        return False
    match op:
        case Elementwise():
            return all(shape_of(operand) == shape_of(node.result) for operand in node.operands)
        case Slice():
            return op.starts[0] == size(0) and op.steps[0] == 1
        case Dot():
            left, right = node.operands
            return value is left and value is not right and not op.transpose_a and len(shape_of(left)) == 2
    return isinstance(op, Reshape)


def _together(parts: Iterator[Rows] | list[Rows]) -> Rows:
    found: dict[_Gather, None] = {}
    for rows in parts:
        if rows is None:
            return None
        found.update(dict.fromkeys(rows))
    return tuple(found)


def _captured(node: Node, value: Value) -> Iterator[tuple[Region, Value]]:
    """The regions of a node, each with what a captured value is called in it."""
    op: Any = node.op
    for at, region in enumerate(node.regions):
        captures = node.operands[op.leading_operands() :]
        for inner, outer in zip(region.inputs[op.leading_inputs(at) :], captures, strict=True):
            if outer is value:
                yield region, inner


def _first_indices(user: Node, array: Value) -> Iterator[Value | None]:
    """The first indices of the reads of an array in a node and inside it, as values beside the node; None for any other
    use, and for indices that are computed further inside."""
    if isinstance(user.op, Index):
        yield user.operands[1] if len(user.operands) > 1 and array not in user.operands[1:] else None
        return
    inside = list(_captured(user, array)) if user.regions else []
    if not inside or array in user.operands[: user.op.leading_operands()]:  # type: ignore[attr-defined]
        yield None
    for region, name in inside:
        names = {inner: outer for outer in user.operands for r, inner in _captured(user, outer) if r is region}
        if name in region.outputs:
            yield None
        for reader in region.users.get(name, ()):
            for row in _first_indices(reader, name):
                yield None if row is None else names.get(row)


def _slice(body: Region, row: Value) -> list[Node] | None:
    """The nodes of a body that compute an index, in order; None if they are more than reads and arithmetic."""
    wanted = {row}
    for node in reversed(body.nodes):
        if any(result in wanted for result in node.results):
            if node.regions or node.op.effect != "pure" or not all(map(_is_number, node.results)):
                return None
            wanted.update(node.operands)
    return [node for node in body.nodes if node.results[0] in wanted]


def _is_number(value: Value) -> bool:
    return isinstance(value.type, Array) and not value.type.shape


def _marked(region: Region) -> Region:
    wanted = {node: found for node in region.nodes if (found := _gathered(_Reads(region), node))}
    dear = {node for node, (_, price) in wanted.items() if price >= 1}
    if not dear:
        return region
    # A look at marks that dear rows look at as well costs little more.
    looked = {_key(node, wanted[node][0]) for node in dear}
    chosen = {
        node: gathers
        for node, (gathers, price) in wanted.items()
        if price >= (SHARED if _key(node, gathers) in looked else 1)
    }
    g = Builder()
    g.adopt(Region(region.inputs, (), ()))
    there = set(region.inputs)
    known: dict[Value, Value] = {}
    marks: dict[tuple[frozenset[_Gather], Size], Value] = {}
    for node in region.nodes:
        gathers = chosen.get(node, ())
        if gathers and all(outer in there for gather in gathers for _, outer in gather.captures):
            key = _key(node, gathers)
            if key not in marks:
                with g.at(node.span, node.scope, ""):
                    marks[key] = _marks(g, gathers, key[1], known)
            node = with_operands(node, known)
            with g.at(node.span, node.scope, node.derived):
                results = _guarded(g, node, marks[key])
            known.update(zip(node.results, results, strict=True))
        else:
            g.append(with_operands(node, known))
        there.update(node.results)
    return Region(region.inputs, tuple(g.nodes), outputs_of(region, known))


def _key(space: Node, gathers: Sequence[_Gather]) -> tuple[frozenset[_Gather], Size]:
    """What is equal for spaces whose rows have the same marks."""
    assert isinstance(space.op, Space)
    return frozenset(gathers), space.op.extents[0]


def _gathered(reads: _Reads, node: Node) -> tuple[tuple[_Gather, ...], float] | None:
    """The gathers that read the rows of an index space, and what a row costs, by what is worth a look at its mark."""
    op = node.op
    if not isinstance(op, Space) or op.accumulators or op.buffers or not op.extents:
        return None
    constant = op.extents[0].constant
    (body,) = node.regions
    if (constant is not None and constant <= FEW) or any(map(can_fault, body.nodes)):
        return None
    gathers = _together([reads.rows(result) for result in node.results])
    if not gathers:
        return None
    costs = Costs()
    work = costs.region(body, in_space=True)
    row = work.operations + work.products
    for extent in op.extents[1:]:
        row = row * extent
    is_loop = any(inner.regions or inner.op.name in PRODUCTS for inner in body.nodes)
    return gathers, costs.number(row) / (DEAR if is_loop else DEAR_TOGETHER)


def _marks(g: Builder, gathers: Sequence[_Gather], rows: Size, known: Mapping[Value, Value]) -> Value:
    """Which of so many rows the gathers read."""
    alike: dict[Node, list[_Gather]] = {}
    for gather in gathers:
        alike.setdefault(gather.space, []).append(gather)
    found: Value | None = None
    for space, own in alike.items():
        marks = _marks_of(g, space, own, rows, known)
        found = marks if found is None else _either(g, found, marks, rows)
    assert found is not None
    return found


def _marks_of(g: Builder, space: Node, gathers: Sequence[_Gather], rows: Size, known: Mapping[Value, Value]) -> Value:
    op: Any = space.op
    (body,) = space.regions

    def point(h: Builder, indices: list[Value], _a: list[Value], own: list[Value]) -> list[Value]:
        names = dict(zip(body.inputs, indices, strict=False))
        names.update((inner, known.get(outer, outer)) for gather in gathers for inner, outer in gather.captures)
        (buffer,) = own
        for gather in gathers:
            for node in _slice(body, gather.row) or ():
                # A read that fails will do so where it stands.
                what = Index("drop") if isinstance(node.op, Index) and node.op.policy == "error" else node.op
                if node.results[0] not in names:
                    names[node.result] = h.emit(what, *(names[operand] for operand in node.operands))
            buffer = h.emit(Accumulate("drop"), buffer, names[gather.row], h.constant(True, BOOL))
        return [buffer]

    (found,) = g.space(op.extents, point, buffers=[Accumulator(BOOL, (rows,), "or")], names=["marks"])
    return found


def _either(g: Builder, one: Value, other: Value, rows: Size) -> Value:
    def point(h: Builder, i: Value) -> Value:
        return h.logical_or(h.index(one, i, policy="proven"), h.index(other, i, policy="proven"))

    return g.map([rows], point)


def _guarded(g: Builder, node: Node, marks: Value) -> tuple[Value, ...]:
    """The index space with its point done only in marked rows."""
    op: Any = node.op
    (body,) = node.regions

    def point(h: Builder, indices: list[Value], _a: list[Value], _b: list[Value]) -> list[Value]:
        return list(
            h.if_(
                h.index(marks, indices[0], policy="proven"),
                lambda side: side.inline(body, [*indices, *node.operands]),
                lambda side: [side.emit(Undefined(output.type)) for output in body.outputs],
            )
        )

    names = [result.name for result in node.results]
    return g.space(op.extents, point, names=names, indices=[value.name for value in body.inputs[: len(op.extents)]])
