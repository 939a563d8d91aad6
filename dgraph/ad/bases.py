"""Which decompositions are asked for their vectors only: then it does not matter where values coincide, if what is
computed is the same for every basis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dgraph.ir.graph import Node, Region
from dgraph.ir.op import Op
from dgraph.ops.linalg_orthogonal import Eigh, Svd

_VALUES: Mapping[type[Op], int] = {Eigh: 0, Svd: 1}
"""Where the values stand among the results of a decomposition."""


def mark_bases(region: Region) -> Region:
    """The region with `vectors_only` on exactly those decompositions whose values nothing reads."""
    nodes = tuple(_marked(region, node) for node in region.nodes)
    if all(new is old for new, old in zip(nodes, region.nodes, strict=True)):
        return region
    return Region(region.inputs, nodes, region.outputs)


def _marked(region: Region, node: Node) -> Node:
    op = node.op
    if isinstance(op, Eigh | Svd):
        vectors_only = node.results[_VALUES[type(op)]] not in region.used
        return node if op.vectors_only == vectors_only else replace(node, op=replace(op, vectors_only=vectors_only))
    inner = tuple(map(mark_bases, node.regions))
    if all(new is old for new, old in zip(inner, node.regions, strict=True)):
        return node
    return replace(node, regions=inner)
