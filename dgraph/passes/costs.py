"""What nodes cost: bytes of their results, operations, bytes moved, and seconds by a model of one core.

Counts are symbolic sizes. Numbers are had from given values of their atoms; what is not given has a nominal value, so
that prices can be compared before any argument is known. Work inside regions counts so often as it runs: the points of
an index space, the steps of a loop, of a choice the side that costs more.

Seconds follow from a few rates, measured on one core with AVX-512 and rounded: they are there to be compared and to be
right within a small factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from dgraph.classes import dataclass
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import bytes_of
from dgraph.ops.control import For, Space, While
from dgraph.ops.values import Cast, Constant, SizeValue
from dgraph.sizes import Atom, Size, product, size, variable
from dgraph.types import I32, I64, U8, Accumulator, Array, Tape, ValueType

NOMINAL = 100
"""A size, or a number of steps, that nobody has given."""

NOTHING = Size(())

PRODUCTS = frozenset({"dot", "contract", "triangular_solve", "cholesky", "qr", "eigh", "svd", "lu", "lu_solve"})
"""Ops whose operations are multiplications that go with additions, done by a library."""


@dataclass(frozen=True)
class Machine:
    """Rates of one core, in 1 / s, for f64; f32 runs twice as fast where vectors are used.

    `vector` and `scalar` count operations by their weights, in index spaces and outside; `products` those of matrix
    products. `memory`: at which rates bytes move, (up to so many, rate). `nest` and `library` are the seconds that a
    loop nest and a call of a library take at least.
    """

    vector: float = 4e10
    scalar: float = 1e9
    products: float = 5e10
    memory: tuple[tuple[float, float], ...] = ((1 << 18, 4e11), (1 << 24, 1.2e11), (math.inf, 5e10))
    nest: float = 3e-9
    library: float = 3e-7


@dataclass(frozen=True)
class Work:
    """What runs: operations by weight, products and their sums, bytes moved to and from memory, seconds."""

    operations: Size = NOTHING
    products: Size = NOTHING
    moved: Size = NOTHING
    seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.operations + other.operations,
            self.products + other.products,
            self.moved + other.moved,
            self.seconds + other.seconds,
        )

    def times(self, count: Size, number: int) -> Work:
        """The work done so often."""
        return Work(self.operations * count, self.products * count, self.moved * count, self.seconds * number)


class Costs:
    """Prices of nodes for given values of sizes and of i64 values.

    Nodes are to be asked for in the order of their region: numbers of steps are followed from where they are made.
    """

    def __init__(self, sizes: Mapping[Atom, int] | None = None, machine: Machine | None = None) -> None:
        self.sizes = sizes or {}
        self.machine = machine or Machine()
        self.known: dict[Value, Size] = {}
        self.lengths: dict[Value, tuple[Size, ...]] = {}

    # ---- numbers --------------------------------------------------------------------------------------------------

    def number(self, count: Size) -> int:
        """The value of a size; not negative."""
        return max(count.evaluate(lambda atom: self.sizes.get(atom, NOMINAL)), 0)

    def resolved(self, count: Size) -> Size:
        """A size with i64 values replaced by what they were made of."""
        return count.substitute({atom: self.known[atom] for atom in count.atoms() if atom in self.known})

    def count(self, value: Value) -> Size:
        """An i64 scalar as a size: a formula if it is made of sizes and numbers, else an atom."""
        return self.known.get(value, variable(value))

    def result_bytes(self, node: Node) -> int:
        """The bytes of the results of a node that has been asked for."""
        return sum(map(self.bytes, node.results))

    def bytes(self, value: Value) -> int:
        """The bytes of a value; of a tape for all steps."""
        return self.number(self.size_bytes(value))

    def size_bytes(self, value: Value) -> Size:
        """The same as a formula."""
        total, type_ = size(1), value.type
        lengths = iter(self.lengths.get(value, ()))
        while isinstance(type_, Tape):
            total, type_ = total * next(lengths, size(NOMINAL)), type_.entry
        return total * self.resolved(bytes_of(type_))

    # ---- nodes ----------------------------------------------------------------------------------------------------

    def region(self, region: Region, *, in_space: bool = False) -> Work:
        """The work of all nodes of a region, once."""
        total = Work()
        for node in region.nodes:
            total = total + self.node(node, in_space=in_space)
        return total

    def node(self, node: Node, *, in_space: bool = False) -> Work:
        """The work of one execution; `in_space` says that it is done at the points of an index space."""
        rule = _REGIONS.get(node.op.name)
        if rule is not None:
            return rule(self, node, in_space)
        if node.regions:
            return sum((self.region(region, in_space=in_space) for region in node.regions), Work())
        self._follow(node)
        return self._plain(node, in_space)

    def entered(self, node: Node, region: Region, in_space: bool, first: int = 0) -> Work:
        """The work of a region whose last inputs are the operands of its node from `first` on."""
        captures = node.operands[first:]
        self._bind(region.inputs[len(region.inputs) - len(captures) :], captures)
        return self.region(region, in_space=in_space)

    def _plain(self, node: Node, in_space: bool) -> Work:
        cost = node.op.cost([value.type for value in node.operands])
        operations, moved = self.resolved(cost.operations), self.resolved(cost.bytes)
        machine, width = self.machine, _width(node)
        values = (*node.operands, *node.results)
        is_scalar = all(isinstance(value.type, Array) and not value.type.shape for value in values)
        if is_scalar:
            # Numbers are in registers, but for those that are read from arrays.
            rate = machine.vector * width if in_space else machine.scalar
            return Work(operations, seconds=self.number(operations) / rate)
        traffic = self.traffic(moved)
        if node.op.name in PRODUCTS:
            seconds = max(self.number(operations) / (machine.products * width), traffic) + machine.library
            return Work(NOTHING, operations, moved, seconds)
        is_entry = all(not isinstance(v.type, Tape) and not v.type.shape for v in (*node.operands[1:], *node.results))
        if is_entry and node.op.name in ("index", "set_at", "accumulate"):
            # A number is read to a register; in a space what its points read is priced as a whole.
            half = Size(tuple((monomial, factor // 2) for monomial, factor in moved.terms))
            return Work(operations, moved=half, seconds=0.0 if in_space else 1 / machine.scalar)
        return Work(operations, moved=moved, seconds=max(self.number(operations) / (machine.vector * width), traffic))

    def traffic(self, moved: Size) -> float:
        """The seconds that so many bytes take."""
        count = self.number(moved)
        return count / next(rate for limit, rate in self.machine.memory if count <= limit)

    # ---- what is followed -----------------------------------------------------------------------------------------

    def _bind(self, inside: Sequence[Value], outside: Sequence[Value]) -> None:
        for inner, outer in zip(inside, outside, strict=True):
            if outer.type == Array(I64):
                self.known[inner] = self.count(outer)
            elif outer in self.lengths:
                self.lengths[inner] = self.lengths[outer]

    def _follow(self, node: Node) -> None:
        """Note what an i64 scalar is made of."""
        if len(node.results) != 1 or node.result.type != Array(I64):
            return
        op = node.op
        if isinstance(op, SizeValue):
            self.known[node.result] = self.resolved(op.value)
        elif isinstance(op, Constant):
            self.known[node.result] = size(int(op.number))
        elif isinstance(op, Cast) and node.operands[0].type in _INTEGERS:
            self.known[node.result] = self.count(node.operands[0])
        elif op.name in _ARITHMETIC:
            self.known[node.result] = _ARITHMETIC[op.name](self, *map(self.count, node.operands))

    def larger(self, one: Size, other: Size) -> Size:
        """The size that is larger for the numbers given."""
        return one if self.number(one) >= self.number(other) else other


_INTEGERS = (Array(I64), Array(I32), Array(U8))
_ARITHMETIC: dict[str, Callable[..., Size]] = {
    "add": lambda _, one, other: one + other,
    "sub": lambda _, one, other: one - other,
    "mul": lambda _, one, other: one * other,
    "maximum": Costs.larger,
    "minimum": lambda costs, one, other: other if costs.larger(one, other) is one else one,
}


def _width(node: Node) -> int:
    """How many numbers are worked on where one f64 would be."""
    types = [value.type for value in (*node.results, *node.operands) if isinstance(value.type, Array | Accumulator)]
    return 2 if types and types[0].dtype.is_float and types[0].dtype.bytes == 4 else 1


# ---- region ops ---------------------------------------------------------------------------------------------------


def _for(costs: Costs, node: Node, in_space: bool) -> Work:
    op, (body,) = node.op, node.regions
    assert isinstance(op, For)
    trips = costs.count(node.operands[0])
    # What depends on the index is priced at the mean of its first and last value.
    costs.known[body.inputs[0]] = (trips - 1) // 2
    walks = slice(1 + op.carries, op.leading_operands())
    for operand, entry in zip(node.operands[walks], body.inputs[walks], strict=True):
        if operand in costs.lengths:
            costs.lengths[entry] = costs.lengths[operand][1:]
    step = costs.entered(node, body, in_space=False, first=op.leading_operands())
    _lengthen(costs, trips, body.outputs[op.carries :], node.results[op.carries :])
    step = step + _kept(costs, body.outputs[op.carries :])
    return _counted(costs, step, trips, in_space)


def _while(costs: Costs, node: Node, in_space: bool) -> Work:
    op, (condition, body) = node.op, node.regions
    assert isinstance(op, While)
    trips = variable(node.results[-1])
    test = costs.entered(node, condition, in_space=False, first=op.carries)
    step = costs.entered(node, body, in_space=False, first=op.carries)
    _lengthen(costs, trips, body.outputs[op.carries :], node.results[op.carries :])
    return _counted(costs, test + step + _kept(costs, body.outputs[op.carries :]), trips, in_space)


def _counted(costs: Costs, step: Work, trips: Size, in_space: bool) -> Work:
    nest = 0.0 if in_space else costs.machine.nest
    return step.times(trips, costs.number(trips)) + Work(seconds=nest)


def _lengthen(costs: Costs, trips: Size, outputs: Sequence[Value], results: Sequence[Value]) -> None:
    """Note how many entries the tapes among the results have."""
    for output, result in zip(outputs, results, strict=False):
        if isinstance(result.type, Tape):
            costs.lengths[result] = (trips, *costs.lengths.get(output, ()))


def _kept(costs: Costs, outputs: Sequence[Value]) -> Work:
    """What a step writes to stacks and tapes; entries that are tapes have been written by their own loops."""
    moved = NOTHING
    for value in outputs:
        moved = moved + (NOTHING if isinstance(value.type, Tape) else costs.size_bytes(value))
    return Work(moved=moved, seconds=costs.traffic(moved))


def _if(costs: Costs, node: Node, in_space: bool) -> Work:
    sides = [costs.entered(node, region, in_space, first=1) for region in node.regions]
    for region in node.regions:
        costs.lengths.update(
            {r: costs.lengths[o] for o, r in zip(region.outputs, node.results, strict=True) if o in costs.lengths}
        )
    return max(sides, key=lambda side: side.seconds)


def _call(costs: Costs, node: Node, in_space: bool) -> Work:
    (body,) = node.regions
    work = costs.entered(node, body, in_space)
    costs.lengths.update(
        {r: costs.lengths[o] for o, r in zip(body.outputs, node.results, strict=True) if o in costs.lengths}
    )
    return work


def _space(costs: Costs, node: Node, in_space: bool) -> Work:
    """All points. Arrays come from memory once, if points do not read less of them, and then from registers."""
    op, (body,) = node.op, node.regions
    assert isinstance(op, Space)
    points = costs.resolved(product(op.extents))
    point = costs.entered(node, body, in_space=bool(op.extents), first=op.accumulators)
    count = costs.number(points)
    inside = Work(point.operations, point.products, seconds=point.seconds).times(points, count)
    if in_space:
        return Work(inside.operations, inside.products, point.moved * points, inside.seconds)
    whole = NOTHING
    for type_ in _arrays(value.type for value in (*node.operands, *node.results)):
        whole = whole + costs.resolved(bytes_of(type_))
    touched = point.moved * points
    for output in body.outputs[op.yields]:
        touched = touched + costs.size_bytes(output) * points
    moved = whole if costs.number(whole) <= costs.number(touched) else touched
    return Work(
        inside.operations, inside.products, moved, max(inside.seconds, costs.traffic(moved)) + costs.machine.nest
    )


def _arrays(types: Iterable[ValueType]) -> Iterator[Array | Accumulator]:
    return (type_ for type_ in types if isinstance(type_, Array | Accumulator) and type_.shape)


_REGIONS: dict[str, Callable[[Costs, Node, bool], Work]] = {
    "for": _for,
    "while": _while,
    "if": _if,
    "call": _call,
    "space": _space,
}
