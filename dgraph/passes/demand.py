"""How often the arrays of a region are read, and what it costs to compute an entry again instead.

The demand for an array says whether something needs it whole (a product, a loop that walks it, the caller) and, for
each place that reads single entries, how often that place runs for one run of the region: a size, or None where only
the run decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import RegionOp
from dgraph.ops.control import For, Space, While
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.index import Index
from dgraph.ops.values import Constant, SizeValue
from dgraph.sizes import Size, product, size
from dgraph.types import I64, Array

Times = Size | None
ONCE: Times = size(1)
PLACES = 4
"""An entry is computed again in at most so many places."""
CHEAP = 8
"""What an entry may cost (in additions and reads) if it is to be computed more than once."""


@dataclass
class Demand:
    """What is asked of one array."""

    whole: bool = False
    times: list[Times] = field(default_factory=list)

    def add(self, times: Iterable[Times]) -> None:
        """More places that read entries; beyond a limit they count as one that needs the whole array."""
        self.times.extend(times)
        if len(self.times) > 2 * PLACES:
            self.whole = True
            del self.times[2 * PLACES :]


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
                self.add_node(found, node, [ONCE])
            for output in region.outputs:
                found.setdefault(output, Demand()).whole = True
        return found

    def add_node(self, demands: dict[Value, Demand], node: Node, runs: list[Times]) -> None:
        """Add what a node asks of its operands, if it runs so often at each of several places."""
        array = read_array(node)
        if array is not None:
            demands.setdefault(array, Demand()).add(runs)
            return
        lead = node.op.leading_operands() if isinstance(node.op, RegionOp) and node.regions else len(node.operands)
        for operand in node.operands[:lead]:
            if isinstance(operand.type, Array) and operand.type.shape:
                demands.setdefault(operand, Demand()).whole = True
        if lead == len(node.operands):
            return
        assert isinstance(node.op, RegionOp)
        for position, region in enumerate(node.regions):
            inner = self.inside(region)
            factor = region_runs(node, position)
            for operand, value in zip(
                node.operands[lead:], region.inputs[node.op.leading_inputs(position) :], strict=True
            ):
                asked = inner.get(value)
                if asked is not None:
                    demand = demands.setdefault(operand, Demand())
                    demand.whole = demand.whole or asked.whole
                    demand.add(scaled(scaled(times, factor), run) for times in asked.times for run in runs)


def region_runs(node: Node, position: int) -> Times:
    """How often a region runs when its node runs once."""
    if isinstance(node.op, Space):
        return product(node.op.extents)
    if isinstance(node.op, For):
        return node.op.length
    if isinstance(node.op, While):
        return None
    return ONCE


def is_pointwise(node: Node) -> bool:
    """Whether a node is an index space that only yields numbers, so that an entry can be computed anywhere."""
    if not isinstance(node.op, Space) or node.op.accumulators or node.op.buffers or not node.op.extents:
        return False
    body = node.regions[0]
    scalars = all(isinstance(value.type, Array) and not value.type.shape for value in body.outputs)
    return scalars and all(is_pure(region_node) for region_node in body.nodes)


def is_pure(node: Node) -> bool:
    """Whether running a node again, or less often, cannot be seen: it and all inside it have no effect."""
    return node.op.effect == "pure" and all(is_pure(inner) for region in node.regions for inner in region.nodes)


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


def _is_index_arithmetic(node: Node) -> bool:
    return node.op.name in ("add", "sub", "mul", "neg") and node.result.type == Array(I64)


def is_cheap(node: Node) -> bool:
    """Whether a point costs so little that computing it again beats storing and reading it."""
    price = 0
    for inner in node.regions[0].nodes:
        if isinstance(inner.op, Index):
            price += 1
        elif isinstance(inner.op, Elementwise):
            price += inner.op.weight
        elif not isinstance(inner.op, Constant | SizeValue):
            return False
        if price > CHEAP:
            return False
    return True


def is_at_most(times: Times, limit: Size) -> bool:
    """Whether something certainly happens at most so often."""
    return times is not None and (limit - times).is_nonnegative()


