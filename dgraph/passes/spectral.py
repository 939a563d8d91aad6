"""Functions of matrices by their eigenvalues or singular values, made fit for derivatives where values coincide.

What is a sum over values, `sum(f(w))`, or stands between vectors, `v @ diag(f(w)) @ transpose(v)`, and what is made of
spaces of vectors alone, has derivatives of every order however many values coincide; the values and vectors themselves
have none. So a decomposition whose vectors are used so becomes its blocks (`linalg_blocks`), and f(w) the first terms
of Taylor's series of f at the values, in the matrix by which the blocks differ from them: it is 0, and its derivatives
are not. As many terms are taken as there are derivatives around. A value that is read by itself, as the greatest is,
has all derivatives where it coincides with no other one. What fits no rule is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dgraph.ir.build import Builder
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import Space
from dgraph.ops.elementwise import array_type
from dgraph.ops.linalg_blocks import EighBlocks, SvdBlocks, as_diagonal
from dgraph.ops.linalg_orthogonal import Eigh, Svd, rounded
from dgraph.ops.linalg_triangles import diagonal
from dgraph.ops.shape import Slice
from dgraph.ops.transform import Implicit, Jvp, SparseJacobian, Vjp
from dgraph.passes.base import graph_pass, with_regions
from dgraph.passes.spectral_forms import split_sums
from dgraph.passes.spectral_kinds import Along, Entries, Kind, Kinds, Pairs
from dgraph.sizes import size
from dgraph.types import Array


@graph_pass("sums over eigenvalues and products with functions of them get all their derivatives")
def spectral(graph: Graph) -> Graph:
    """Rewrite every region that is differentiated."""
    return graph.with_region(_rewritten(graph.region, 0, {}))


def _rewritten(region: Region, orders: int, done: dict[tuple[Region, int], Region]) -> Region:
    """A region around which there are so many derivatives."""
    key = region, orders
    found = done.get(key)
    if found is None:
        nodes = []
        for node in region.nodes:
            inner = orders + isinstance(node.op, Jvp | Vjp | SparseJacobian | Implicit)
            nodes.append(with_regions(node, [_rewritten(part, inner, done) for part in node.regions]))
        same = all(one is other for one, other in zip(nodes, region.nodes, strict=True))
        found = region if same else Region(region.inputs, tuple(nodes), region.outputs)
        if orders:
            found = _lifted(found, orders)
        done[key] = found
    return found


def _lifted(region: Region, orders: int) -> Region:
    """A region with each decomposition by blocks that can be."""
    if not any(isinstance(node.op, Eigh | Svd) for node in region.nodes):
        return region
    split = split_sums(region)
    for node in split.nodes:
        if isinstance(node.op, Eigh | Svd):
            found = Kinds(node)
            if found.fit(split):
                return _lifted(_Lifting(found, orders).region(split), orders)
    return region


Finish = Callable[..., Value]


class _Lifting:
    """One decomposition of a region rewritten."""

    def __init__(self, found: Kinds, orders: int) -> None:
        self.source = found.source
        self.kinds = found.kinds
        self.singly = found.singly
        self.orders = orders
        self.g = Builder()
        self.known: dict[Value, Value] = {}
        self.makers: dict[Value, Node] = {}
        self.single: dict[Value, Value] = {}
        self.values: Value
        self.powers: list[Value] = []

    def region(self, region: Region) -> Region:
        """The region with blocks in place of values."""
        self.makers = region.producers
        self.known = {value: self.g.input(value.type, value.name) for value in region.inputs}
        for node in region.nodes:
            with self.g.at(span=node.span, scope=node.scope, derived=node.derived):
                if node is self.source:
                    self.decompose(node)
                else:
                    self.emit(node)
        return self.g.close([self.read_singly(output) for output in region.outputs])

    def decompose(self, node: Node) -> None:
        """The blocks, and the powers of what they differ by from the values."""
        g = self.g
        (a,) = (self.known[operand] for operand in node.operands)
        factors = g.apply(node.op, g.stop_gradient(a), names=[value.name for value in node.results])
        op, at = (EighBlocks(), 0) if isinstance(node.op, Eigh) else (SvdBlocks(), 1)
        found = list(g.apply(op, a, *factors))
        blocks, self.values = found[at], factors[at]
        found[at] = self.values
        self.known.update(zip(node.results, found, strict=True))
        excess = g.sub(blocks, as_diagonal(g, self.values))
        self.powers = [excess]
        while len(self.powers) < self.orders:
            self.powers.append(g.dot(self.powers[-1], excess))

    def emit(self, node: Node) -> None:
        """A node, or what stands for it."""
        g = self.g
        given = [self.kinds.get(operand) for operand in node.operands]
        read = self.read_singly if node in self.singly else self.known.__getitem__
        operands = [read(operand) for operand in node.operands]
        result = self.kinds.get(node.results[0]) if node.results else None
        is_product = node.op.name in ("mul", "div") and isinstance(result, Along | Pairs)
        if is_product and any(isinstance(kind, Entries) for kind in given):
            self.known[node.result] = self.scaled(node, given)
        elif isinstance(node.op, Space) and isinstance(result, Along):
            self.known[node.result] = self.matrix(node.operands[0])
        elif isinstance(node.op, Slice) and isinstance(result, Along):
            self.known[node.result] = self.part(node, result)
        elif node.op.name == "reduce_sum" and given[0] == Entries():
            self.known[node.result] = self.trace(node.operands[0])
        elif node.op.name == "logsumexp":
            largest = g.stop_gradient(g.reduce_max(operands[0], axes=(0,)))
            self.known[node.result] = g.add(largest, g.log(self.trace(node.operands[0], largest)))
        else:
            self.known.update(zip(node.results, g.copy(node, operands), strict=True))

    def scaled(self, node: Node, given: Sequence[Kind | None]) -> Value:
        """Vectors or coordinates with each multiplied or divided by a function of its value."""
        g = self.g
        at = 0 if isinstance(given[0], Entries) else 1
        array = node.operands[1 - at]
        matrix = self.matrix(self.vector(node.operands[at]), node.op.name == "div")
        kind = self.kinds[array]
        if isinstance(kind, Along):
            return self.times(matrix, self.known[array], kind.axes[0][0])
        assert isinstance(kind, Pairs)
        factors = [self.known[operand] for operand in self.makers[array].operands]
        return g.mul(self.times(matrix, factors[0], kind.axis), factors[-1])

    def times(self, matrix: Value, array: Value, axis: int) -> Value:
        """A symmetric matrix times an array along one of its axes."""
        return self.g.dot(matrix, array) if axis == 0 else self.g.dot(array, matrix)

    def read_singly(self, value: Value) -> Value:
        """A value as it is for what reads its entries each by itself: where eigenvalues coincide it has no second
        derivatives, so these are NaN."""
        if self.kinds.get(value) != Entries() or not array_type(value).dtype.is_float:
            return self.known[value]
        if value not in self.single:
            g = self.g
            first, *slopes = self.slopes(value)
            for slope, power in zip(slopes, self.powers, strict=True):
                first = g.add(first, g.steep(slope, diagonal(g, power)))
            if self.orders > 1:
                first = g.add(first, g.steep(self.doubt(array_type(first)), diagonal(g, self.powers[1])))
            self.single[value] = first
        return self.single[value]

    def doubt(self, type_: Array) -> Value:
        """NaN for each value that coincides with another one, 0 for others."""
        g, values = self.g, self.values
        (n,) = type_.shape
        limit = rounded(g, values, n)

        def point(h: Builder, i: Value, j: Value) -> Value:
            gap = h.sub(h.index(values, i, policy="proven"), h.index(values, j, policy="proven"))
            return h.logical_and(h.not_equal(i, j), h.less_equal(h.abs(gap), limit))

        met = g.reduce_any(g.map((n, n), point), axes=(1,))
        return g.select(met, g.full(math.nan, type_), g.zeros(type_))

    def part(self, node: Node, kind: Along) -> Value:
        """Some of the vectors: if equal values are inside and outside, the derivatives are NaN."""
        g, op = self.g, node.op
        assert isinstance(op, Slice)
        (found,) = g.copy(node, [self.known[node.operands[0]]])
        type_ = array_type(found)
        whole = array_type(node.operands[0]).shape
        for axis, _ in kind.axes:
            if whole[axis] != type_.shape[axis]:
                start = g.number(op.starts[axis])
                cut = self.is_cut(start, g.add(start, g.number(type_.shape[axis])))
                nothing, nan = g.constant(0.0, type_.dtype), g.constant(math.nan, type_.dtype)
                doubt = g.broadcast(g.select(cut, nan, nothing), shape=type_.shape)
                found = g.add(found, g.steep(doubt, g.sub(found, g.stop_gradient(found))))
        return found

    def is_cut(self, start: Value, stop: Value) -> Value:
        """Whether a value from some place up to another coincides with one that is not there."""
        g, values = self.g, self.values
        (n,) = array_type(values).shape
        limit = rounded(g, values, n)

        def inside(h: Builder, i: Value) -> Value:
            return h.logical_and(h.greater_equal(i, start), h.less(i, stop))

        def point(h: Builder, i: Value, j: Value) -> Value:
            gap = h.sub(h.index(values, i, policy="proven"), h.index(values, j, policy="proven"))
            is_parted = h.logical_and(inside(h, i), h.logical_not(inside(h, j)))
            return h.logical_and(is_parted, h.less_equal(h.abs(gap), limit))

        return g.reduce_any(g.map((n, n), point), axes=(0, 1))

    def vector(self, value: Value) -> Value:
        """The vector that is repeated along an axis."""
        while self.kinds[value] != Entries():
            value = self.makers[value].operands[0]
        return value

    def matrix(self, vector: Value, is_inverse: bool = False) -> Value:
        """A function of the blocks, from the function of the values that a vector is."""
        g = self.g
        first, *slopes = self.slopes(vector, _inverse if is_inverse else None)
        total = as_diagonal(g, first)
        for slope, power in zip(slopes, self.powers, strict=True):
            shape = array_type(power).shape
            column = g.broadcast(g.reshape(slope, shape=(shape[0], size(1))), shape=shape)
            total = g.add(total, g.steep(column, power))
        return total

    def trace(self, vector: Value, largest: Value | None = None) -> Value:
        """The sum of the diagonal of a function of the blocks; of exp(f - largest) if that is given."""
        g = self.g
        first, *slopes = self.slopes(vector) if largest is None else self.slopes(vector, _exponential, largest)
        total = g.reduce_sum(first, axes=(0,))
        for slope, power in zip(slopes, self.powers, strict=True):
            total = g.add(total, g.reduce_sum(g.steep(slope, diagonal(g, power)), axes=(0,)))
        return total

    def slopes(self, vector: Value, finish: Finish | None = None, *more: Value) -> list[Value]:
        """Taylor's coefficients of a function of the values, at the values; of what `finish` makes of it."""
        g = self.g
        region, operands = self.function(vector, finish, more)
        found = []
        for order in range(self.orders + 1):
            (slope,) = g.inline(region, operands)
            found.append(g.mul(slope, g.full(1 / math.factorial(order), array_type(slope))) if order > 1 else slope)
            region = _slope_of(region)
        return found

    def function(self, vector: Value, finish: Finish | None, more: Sequence[Value]) -> tuple[Region, list[Value]]:
        """The function of the values that a vector is, as a region, and its operands: the values come first."""
        nodes: dict[Node, None] = {}
        self._collect(vector, nodes)
        inner = {result for node in nodes for result in node.results}
        values = next(value for value in self.source.results if self.kinds[value] == Entries())
        read = dict.fromkeys(operand for node in nodes for operand in node.operands)
        others = [value for value in read if value not in inner and value != values]
        h = Builder()
        inputs = [h.input(value.type, value.name) for value in (values, *others, *more)]
        known = dict(zip((values, *others), inputs, strict=False))
        for node in reversed(nodes):
            known.update(zip(node.results, h.copy(node, [known[operand] for operand in node.operands]), strict=True))
        result = known[vector]
        if finish is not None:
            result = finish(h, result, *inputs[len(inputs) - len(more) :])
        return h.close([result]), [self.values, *(self.known[value] for value in others), *more]

    def _collect(self, value: Value, nodes: dict[Node, None]) -> None:
        """The nodes that make a vector from the values, the last first."""
        wanted = {value}
        for node in reversed(list(dict.fromkeys(self.makers.values()))):
            if node is not self.source and not wanted.isdisjoint(node.results):
                nodes[node] = None
                wanted.update(operand for operand in node.operands if operand in self.kinds)


def _slope_of(region: Region) -> Region:
    """The derivative of each entry of the result with respect to the same entry of the first input."""
    g = Builder()
    inputs = [g.input(value.type, value.name) for value in region.inputs]
    active = tuple(at == 0 for at in range(len(inputs)))
    ones = g.full(1.0, array_type(inputs[0]))
    return g.close(g.apply(Jvp(active=active), *inputs, ones, regions=[region])[1:])


def _inverse(h: Builder, value: Value) -> Value:
    return h.div(h.full(1.0, array_type(value)), value)


def _exponential(h: Builder, value: Value, largest: Value) -> Value:
    return h.exp(h.sub(value, h.broadcast(largest, shape=array_type(value).shape)))
