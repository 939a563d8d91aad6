"""Comparisons of a point's indices that its extents decide are decided, and so are the choices between them.

On a side of a choice is known, too, what the choice has found out: where `i + 1 < n` holds, `i < n` does.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from dgraph.classes import dataclass
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ops.control import If, Space
from dgraph.ops.values import Constant
from dgraph.passes.base import each_region, graph_pass, same_nodes, with_regions
from dgraph.passes.gather_points import moved_input, static_value
from dgraph.passes.rewrite import Rewriter, rewrite
from dgraph.sizes import Size, size
from dgraph.types import BOOL

_SWAPPED = {"greater": "less", "greater_equal": "less_equal", "less": "greater", "less_equal": "greater_equal"}


@graph_pass("comparisons of indices that the extents decide are decided")
def settle_choices(graph: Graph) -> Graph:
    """Decide what can be decided in the points of every index space."""
    return each_region(graph, _settled)


def _settled(region: Region) -> Region:
    nodes = [_with_facts(node) if isinstance(node.op, Space) else node for node in region.nodes]
    return same_nodes(region, nodes, region.outputs)


def _with_facts(space: Node) -> Node:
    (body,) = space.regions
    if not any(node.op.name in _SWAPPED for node in body.nodes):
        return space
    assert isinstance(space.op, Space)
    bounds: dict[Hashable, _Bounds] = {}
    for axis, extent in enumerate(space.op.extents):
        bounds[axis] = _Bounds((size(0),), (extent,))
    facts = _Facts({value: (axis, size(0)) for value, axis in zip(body.inputs, bounds, strict=False)}, bounds)
    return with_regions(space, [rewrite(body, facts.rule)])


class _Bounds(NamedTuple):
    """Sizes that an integer is not below, and sizes that it is below."""

    least: tuple[Size, ...]
    limits: tuple[Size, ...]


class _Claim(NamedTuple):
    """That the index of an axis is at least a bound, or (`is_limit`) below it."""

    axis: Hashable
    bound: Size
    is_limit: bool

    @property
    def opposite(self) -> _Claim:
        """What holds if the claim does not."""
        return self._replace(is_limit=not self.is_limit)


@dataclass(frozen=True)
class _Facts:
    """What is known in one region: which of its inputs are indices moved by a size, and between what they lie."""

    places: Mapping[Value, tuple[Hashable, Size]]
    bounds: Mapping[Hashable, _Bounds]

    def rule(self, g: Rewriter, node: Node) -> Sequence[Value] | None:
        """What stands for a comparison or a choice that is decided."""
        if node.op.name in _SWAPPED:
            claim = self.claim(_so_far(g), node)
            truth = None if claim is None else self.truth(claim)
            return None if truth is None else [g.constant(truth, BOOL)]
        if node.op.name == "logical_and":
            for one, other in (node.operands, node.operands[::-1]):
                truth = _known(g, one)
                if truth is not None:
                    return [other if truth else one]
        if isinstance(node.op, If):
            truth = _known(g, node.operands[0])
            if truth is not None:
                return g.inline(node.regions[0 if truth else 1], node.operands[1:], node.scope)
            return self.choice(g, node)
        return None

    def choice(self, g: Rewriter, node: Node) -> Sequence[Value] | None:
        """A choice with its sides settled by what each knows."""
        region = _so_far(g)
        holds = self.claims(g, region, node.operands[0])
        fails = [holds[0].opposite] if len(holds) == 1 else []
        sides = []
        for side, claims in zip(node.regions, (holds, fails), strict=True):
            places = {}
            for value, operand in zip(side.inputs, node.operands[1:], strict=True):
                place = self.place(region, operand)
                if place is not None:
                    places[value] = place
            sides.append(rewrite(side, _Facts(places, self.bounds_with(claims)).rule) if places else side)
        changed = with_regions(node, sides)
        if changed is node:
            return None
        g.append(changed)
        return list(changed.results)

    def claims(self, g: Rewriter, region: Region, condition: Value) -> list[_Claim]:
        """What a condition says of indices if it holds."""
        maker = g.maker(condition)
        if maker is None:
            return []
        if maker.op.name == "logical_and":
            return [claim for operand in maker.operands for claim in self.claims(g, region, operand)]
        claim = self.claim(region, maker) if maker.op.name in _SWAPPED else None
        return [] if claim is None else [claim]

    def bounds_with(self, claims: Sequence[_Claim]) -> Mapping[Hashable, _Bounds]:
        """The bounds, and what is claimed."""
        found = dict(self.bounds)
        for axis, bound, is_limit in claims:
            least, limits = found[axis]
            found[axis] = _Bounds(least, (*limits, bound)) if is_limit else _Bounds((*least, bound), limits)
        return found

    def place(self, region: Region, value: Value) -> tuple[Hashable, Size] | None:
        """The index that a value is, and by how much it is moved."""
        moved = moved_input(region, value)
        place = self.places.get(moved.value) if moved is not None else None
        return None if place is None or moved is None else (place[0], place[1] + moved.shift)

    def claim(self, region: Region, node: Node) -> _Claim | None:
        """What a comparison of an index with a size says of the index."""
        name, (left, right) = node.op.name, node.operands
        bound = static_value(region, right)
        if bound is None:
            name, left, bound = _SWAPPED[name], right, static_value(region, left)
        place = self.place(region, left) if bound is not None else None
        if place is None or bound is None:
            return None
        axis, shift = place
        after = 1 if name in ("greater", "less_equal") else 0
        return _Claim(axis, bound + after - shift, name in ("less", "less_equal"))

    def truth(self, claim: _Claim) -> bool | None:
        """Whether a claim always or never holds."""
        least, limits = self.bounds[claim.axis]
        if any((low - claim.bound).is_nonnegative() for low in least):
            return not claim.is_limit
        if any((claim.bound - limit).is_nonnegative() for limit in limits):
            return claim.is_limit
        return None


def _so_far(g: Rewriter) -> Region:
    return Region(tuple(g.inputs), tuple(g.nodes), ())


def _known(g: Rewriter, value: Value) -> bool | None:
    maker = g.maker(value)
    return bool(maker.op.number) if maker is not None and isinstance(maker.op, Constant) else None
