"""What is done to a region before it is differentiated: calls inlined, guarded producers sunk into their choices,
loop-invariant work hoisted, bases marked."""

from __future__ import annotations

from typing import Any

from dgraph.ad.bases import mark_bases
from dgraph.ad.guards import is_finite
from dgraph.ad.sink import sink
from dgraph.ir.dead_code import remove_dead_code
from dgraph.ir.graph import Node, Region
from dgraph.ir.hoist import hoist
from dgraph.ir.inline import inline_calls


def prepare(region: Region) -> Region:
    """The region that is differentiated in the place of a region."""
    return mark_bases(remove_dead_code(hoist(sink(remove_dead_code(inline_calls(region))), _may_leave)))


def _may_leave(loop: Node, node: Node) -> bool:
    """A loop that may make no step gives what is hoisted out of it a cotangent of zero: times an infinite derivative
    that is NaN."""
    op: Any = loop.op
    length = getattr(op, "length", None)
    return is_finite(node) or (length is not None and (length - 1).is_nonnegative())
