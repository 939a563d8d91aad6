"""Slopes that are infinite although the function is not, as that of a square root at 0.

Where such a slope is multiplied by exactly 0, nothing arrives: `sqrt(x) * c` has no derivative in x where c is 0, and
`sqrt(x * x)` none at 0. Forward mode meets the factor after the slope in the one, before it in the other; reverse mode
the other way round. So the products on both sides of a steep function take the rule by which a factor of 0 stops
everything, and all modes agree, to every order.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgraph.ir.build import Builder
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import RegionOp
from dgraph.ops.arithmetic import Mul, Pow, Powi
from dgraph.ops.elementwise import Unary, array_type, like, summed
from dgraph.ops.linalg import Dot
from dgraph.ops.shape import Concat, Move

Tangents = Sequence[Value | None]

PASSING = frozenset(("accumulate", "add", "broadcast", "cast", "index", "neg", "reduce_sum", "select", "sub"))
"""Ops that pass on a derivative as it is, beside those that move entries."""

PARALLEL = frozenset(("call", "for", "if", "space"))
"""Region ops whose results are the outputs of each region."""


def is_steep(node: Node) -> bool:
    """Whether a node has an infinite slope somewhere."""
    op = node.op
    return isinstance(op, Pow) or (isinstance(op, Unary) and op.is_steep) or (isinstance(op, Powi) and op.exponent < 0)


class Steepness:
    """What is known of one differentiation: `after` are the tangents that come from a steep function, `before` the
    values that go into one, sums and products between them."""

    def __init__(self) -> None:
        self.after: set[Value] = set()
        self.before: set[Value] = set()
        self.seen: set[tuple[Region, frozenset[Value]]] = set()

    def survey(self, region: Region) -> None:
        """Find what goes into a steep function, in a region and in those inside it."""
        wanted = frozenset(self.before.intersection(region.outputs))
        if (region, wanted) in self.seen:
            return
        self.seen.add((region, wanted))
        for node in reversed(region.nodes):
            passes = isinstance(node.op, Move | Concat | Mul | Dot | Powi) or node.op.name in PASSING
            if is_steep(node) or (passes and node.results[0] in self.before):
                self.before.update(node.operands)
            for at in range(len(node.regions)):
                self._survey_inside(node, at)

    def _survey_inside(self, node: Node, at: int) -> None:
        inner, op = node.regions[at], node.op
        assert isinstance(op, RegionOp)
        if op.name in PARALLEL:
            pairs = zip(node.results, inner.outputs, strict=False)
            self.before.update(output for result, output in pairs if result in self.before)
        self.survey(inner)
        captured = inner.inputs[op.leading_inputs(at) :]
        operands = node.operands[len(node.operands) - len(captured) :]
        self.before.update(held for held, value in zip(operands, captured, strict=True) if value in self.before)

    def rule(self, g: Builder, node: Node, operands: Sequence[Value], tangents: Tangents) -> Tangents | None:
        """The tangent of a product beside a steep function; None for any other node."""
        leads = any(result in self.before for result in node.results)
        if not leads and not any(tangent in self.after for tangent in tangents):
            return None
        if isinstance(node.op, Mul):
            pairs = zip(tangents, reversed(operands), strict=True)
            return [summed(g, *(None if moved is None else g.steep(moved, factor) for moved, factor in pairs))]
        if isinstance(node.op, Powi) and node.op.exponent >= 2 and tangents[0] is not None:
            n = node.op.exponent
            lower = operands[0] if n == 2 else g.powi(operands[0], exponent=n - 1)
            return [g.steep(tangents[0], g.mul(like(g, float(n), lower), lower))]
        if isinstance(node.op, Dot) and all(array_type(value).rank == 1 for value in operands):
            pairs = zip(tangents, reversed(operands), strict=True)
            terms = (None if moved is None else g.reduce_sum(g.steep(moved, x), axes=(0,)) for moved, x in pairs)
            return [summed(g, *terms)]
        return None

    def note(self, node: Node, before: Tangents, after: Tangents) -> None:
        """Remember the tangents that a node makes steep, or passes on."""
        passes = isinstance(node.op, Move | Mul) or node.op.name in ("neg", "index")
        if is_steep(node) or (passes and any(tangent in self.after for tangent in before)):
            self.after.update(tangent for tangent in after if tangent is not None)
