"""How often the arrays of a region are read, and what it costs to compute an entry again instead.

The demand for an array says whether something needs it whole (a product, a loop that walks it, the caller) and lists
the places that read single entries: how often each runs for one run of the region (a size, or None where only the run
decides), in which node of the region it stands, and which entry it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from dgraph.classes import dataclass
from dgraph.ir.graph import Node, Region, Value, walk
from dgraph.ir.op import RegionOp
from dgraph.ops.control import For, If, Space, While
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.index import Accumulate, Index, Undefined
from dgraph.ops.transform import Transform
from dgraph.ops.values import Constant, SizeValue
from dgraph.passes.index_forms import index_form
from dgraph.sizes import Atom, Size, product, size, variable
from dgraph.types import I64, Array

CHEAP = 8
"""What an entry may cost (in additions and reads) if it is to be computed more than once."""
AGAIN = 32
"""What all places may cost in which an entry is computed."""
READS = 32
"""More reads than these count as one that needs the whole array."""

Times = Size | None
Indices = tuple[Size, ...] | None
"""Which entry is read: polynomials of sizes, of values, and of a point's own indices, whose atoms are their axes."""


class Read(NamedTuple):
    """A place that reads entries of an array: how often, inside which node of the region, and which entry."""

    times: Times
    root: Node
    at: Indices

    def place(self) -> object:
        """What is equal for reads of one entry at points that may become one: those of equal index spaces."""
        return self if self.at is None else (self.root.op.extents if isinstance(self.root.op, Space) else None, self.at)


@dataclass
class Demand:
    """What is asked of one array."""

    whole: bool = False
    reads: list[Read] = field(default_factory=list)

    def add(self, reads: Sequence[Read]) -> None:
        """More places that read entries; beyond a limit they count as one that needs the whole array."""
        self.reads += reads
        if len(self.reads) > READS:
            self.whole = True
            del self.reads[READS:]


def scaled(times: Times, factor: Times) -> Times:
    """How often a place runs inside something that runs `factor` times."""
    return None if times is None or factor is None else times * factor


def read_array(node: Node) -> Value | None:
    """The array of which a node reads one entry that is certainly there; None for any other node."""
    if not isinstance(node.op, Index) or node.op.policy != "proven":
        return None
    array = node.operands[0]
    assert isinstance(array.type, Array)
    return array if 0 < array.type.rank == len(node.operands) - 1 else None


class Demands:
    """Demands inside regions, each region looked at once."""

    def __init__(self) -> None:
        self.known: dict[Region, dict[Value, Demand]] = {}

    def inside(self, region: Region) -> dict[Value, Demand]:
        """The demand for each value of a region, by one run of it."""
        found = self.known.get(region)
        if found is None:
            found = self.known[region] = {}
            for node in region.nodes:
                self.add_node(found, node, region)
            for output in region.outputs:
                found.setdefault(output, Demand()).whole = True
        return found

    def add_node(self, demands: dict[Value, Demand], node: Node, around: Region) -> None:
        """Add what a node of the region `around` asks of its operands."""
        array = read_array(node)
        if array is not None:
            at = tuple(index_form(around.producers.get, index) for index in node.operands[1:])
            demands.setdefault(array, Demand()).add([Read(size(1), node, at)])
            return
        op = node.op
        lead = op.leading_operands() if isinstance(op, RegionOp) and not isinstance(op, Transform) else None
        for operand in node.operands[:lead]:
            if isinstance(operand.type, Array) and operand.type.shape:
                demands.setdefault(operand, Demand()).whole = True
        if lead is not None:
            own = tuple(map(variable, range(len(node.op.extents)))) if isinstance(node.op, Space) else ()
            for position in range(len(node.regions)):
                self.add_region(demands, node, position, [Read(region_runs(node), node, own)], around)

    def add_region(
        self, demands: dict[Value, Demand], node: Node, position: int, runs: Sequence[Read], around: Region
    ) -> None:
        """Add what a region of a node asks of the captures, if it runs so often at each of several places."""
        assert isinstance(node.op, RegionOp)
        region = node.regions[position]
        lead = node.op.leading_inputs(position)
        captures = node.operands[node.op.leading_operands() :]
        known = {
            value: index_form(around.producers.get, operand)
            for operand, value in zip(captures, region.inputs[lead:], strict=True)
            if operand.type == Array(I64)
        }
        inner = self.inside(region)
        for operand, value in zip(captures, region.inputs[lead:], strict=True):
            asked = inner.get(value)
            if asked is not None:
                demand = demands.setdefault(operand, Demand())
                demand.whole = demand.whole or asked.whole
                for run in runs:
                    forms = known | dict(zip(region.inputs, run.at or (), strict=False))
                    demand.add(
                        [Read(scaled(own.times, run.times), run.root, _in_terms(own.at, forms)) for own in asked.reads]
                    )


def _in_terms(at: Indices, known: Mapping[Value, Size]) -> Indices:
    """The indices of a read inside a region in terms of what is known outside; None if they depend on more."""
    if at is None:
        return None
    forms = []
    for form in at:
        inside = [atom for atom in form.atoms() if not isinstance(atom, str)]
        if not all(isinstance(atom, Value) and atom in known for atom in inside):
            return None
        values: dict[Atom, Size | int] = {atom: known[atom] for atom in inside if isinstance(atom, Value)}
        forms.append(form.substitute(values))
    return tuple(forms)


def region_runs(node: Node) -> Times:
    """How often each region of a node runs when the node runs once."""
    if isinstance(node.op, Space):
        return product(node.op.extents)
    if isinstance(node.op, For):
        return node.op.length
    return None if isinstance(node.op, While) else size(1)


def is_pointwise(node: Node) -> bool:
    """Whether a node is an index space that only yields numbers, so that an entry can be computed anywhere."""
    if not isinstance(node.op, Space) or node.op.accumulators or node.op.buffers or not node.op.extents:
        return False
    body = node.regions[0]
    scalars = all(isinstance(value.type, Array) and not value.type.shape for value in body.outputs)
    return scalars and all(inner.op.effect == "pure" for inner in walk(body))


def is_trivial(node: Node) -> bool:
    """Whether a point is no more than a read elsewhere: a view, a broadcast, a constant, an index."""
    reads = 0
    for inner in node.regions[0].nodes:
        if isinstance(inner.op, Index):
            reads += 1
            if inner.op.policy != "proven":
                return False
        elif not isinstance(inner.op, Constant | SizeValue) and not _is_index_arithmetic(inner):
            return False
    return reads <= 1


def is_on_indices(node: Node) -> bool:
    """Whether a node computes or compares integers: where to read, and on which side of a border."""
    return all(isinstance(v.type, Array) and not v.type.rank and not v.type.dtype.is_float for v in node.operands)


def _is_index_arithmetic(node: Node) -> bool:
    return node.op.name in ("add", "sub", "mul", "neg") and node.result.type == Array(I64)


def point_price(space: Node) -> int | None:
    """What a point of a space costs in additions and reads; None if it does more than arithmetic, reads and choices.
    What is the same at all points is computed once for them."""
    op, (body,) = space.op, space.regions
    assert isinstance(op, Space)
    return _price(body, {value for value in body.inputs[op.leading_inputs(0) :] if not value.type.shape})  # type: ignore[union-attr]


def _price(region: Region, same: set[Value]) -> int | None:
    price = 0
    for node in region.nodes:
        if isinstance(node.op, If):
            for side in node.regions:
                pairs = zip(side.inputs, node.operands[1:], strict=True)
                inner = _price(side, {value for value, operand in pairs if operand in same})
                if inner is None:
                    return None
                price += inner
        elif isinstance(node.op, Index | Accumulate):
            price += 1
        elif isinstance(node.op, Constant | SizeValue | Undefined):
            same.update(node.results)
        elif not isinstance(node.op, Elementwise):
            return None
        elif all(operand in same for operand in node.operands):
            same.update(node.results)
        elif not is_on_indices(node):
            price += node.op.weight
    return price


def is_cheap(node: Node, places: int) -> bool:
    """Whether a point costs so little that computing it again in some places beats storing and reading it."""
    price = point_price(node)
    return price is not None and price <= CHEAP and price * places <= AGAIN


def is_at_most(times: Times, limit: Size) -> bool:
    """Whether something certainly happens at most so often."""
    return times is not None and (times == limit or (limit - times).is_nonnegative())
