"""What it costs to keep a value of a loop step, and what to compute it again.

Work is priced as everywhere (`costs`), with exceptions. Elementwise ops and views of arrays are fused into what reads
them, so only their arithmetic counts and no traffic. Arithmetic on scalars that is done again does not lie on the path
that the steps wait for, so it costs half of what it costs where it does; an entry of an array is loaded, but not
stored. Integers and truth values made of what is at hand cost next to nothing, as in `unzip`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

from dgraph.ir.graph import Node, Value
from dgraph.ops.control import Space
from dgraph.ops.elementwise import Elementwise
from dgraph.ops.index import Index
from dgraph.passes.costs import NOMINAL, Costs
from dgraph.passes.demand import is_pointwise, point_price
from dgraph.passes.expand_arrays import VIEWS
from dgraph.passes.undo_log import Undo
from dgraph.sizes import Atom, product, size
from dgraph.types import Accumulator, Array, Tape

STORE = 2.4e-11
"""Seconds of storing and loading a byte of an array."""
ENTRY = 1e-9
"""Seconds of storing and loading a scalar."""
NEST = 4e-9
"""Seconds of storing and loading an array, whatever its size."""
INTEGER = 1e-10
"""Seconds of an op on integers or truth values."""


class Prices:
    """Prices for given sizes. `byte` is what a byte costs beside the time of storing and loading it."""

    def __init__(self, byte: float, sizes: Mapping[Atom, int]) -> None:
        self.byte = byte
        self.costs = Costs(sizes)

    def at(self, byte: float) -> Prices:
        """The same with another price of a byte."""
        other = copy(self)
        other.byte = byte
        return other

    def kept(self, value: Value) -> tuple[int | None, float]:
        """Bytes of a value, None if it cannot be kept, and the seconds of storing and loading it."""
        entry, steps = value.type, 1
        lengths = iter(self.costs.lengths.get(value, ()))
        while isinstance(entry, Tape):
            length = next(lengths, None)
            steps *= NOMINAL if length is None else self.costs.number(length)
            entry = entry.entry
        if isinstance(entry, Accumulator):
            return None, 0.0
        bytes_ = self.costs.number(product(entry.shape) * entry.dtype.bytes)
        return steps * bytes_, steps * (NEST + bytes_ * STORE if entry.shape else ENTRY)

    def walked(self, undo: Undo) -> float:
        """The seconds of walking a carry backwards by one step: of the entries put back, or of handing on its value."""
        if not undo.updates and isinstance(undo.end.type, Array) and not undo.end.type.shape:
            return INTEGER
        moved = [update.old for update in undo.updates] or [undo.end]
        return sum(self.kept(value)[1] for value in moved)

    def seconds(self, node: Node) -> float:
        """The seconds of one execution of a node. Nodes are to be asked for in the order of their region."""
        work, machine = self.costs.node(node), self.costs.machine
        if isinstance(node.op, VIEWS) or not node.operands:
            return 0.0
        if isinstance(node.op, Index) and isinstance(node.result.type, Array) and not node.result.type.shape:
            return ENTRY / 2
        if not isinstance(node.op, Elementwise):
            price = point_price(node) if is_pointwise(node) else None
            points = product(node.op.extents) if isinstance(node.op, Space) else size(0)
            return work.seconds if price is None else self.costs.number(points) * price / machine.vector
        type_ = node.operands[0].type
        assert isinstance(type_, Array)
        if type_.shape:
            return self.costs.number(work.operations) / machine.vector
        return self.costs.number(work.operations) / (2 * machine.scalar) if type_.dtype.is_float else INTEGER
