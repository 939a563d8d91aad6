"""Which operation has a wrong derivative: the first node of a run whose own derivative differs from differences, or
whose reverse mode differs from its forward mode.

`check_kit` finds that the derivatives of a whole function are wrong; this walks through the function as it runs and
compares node by node, at the values that meet there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from dgraph.ad import expand, expand_but_rules, jvp, vjp
from dgraph.errors import DgraphError, Label
from dgraph.ir.evaluate import Interpreter, bind_sizes
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.ir.places import placed
from dgraph.ops.linalg_systems import Lu, OfFactors
from dgraph.ops.values import StopGradient
from dgraph.program.check_kit import DUALITY, LONG, QUOTIENT, Unchecked, difference
from dgraph.types import F64, Array, Tuple

TRIES = 4
"""How often one node is compared: in a loop at the values of its first steps."""

APART = (StopGradient, Lu, OfFactors)
"""Ops whose derivative is not that of their result by their operands alone: it is given by others beside them."""


def first_wrong(graph: Graph, point: Sequence[Any], extents: dict[str, int]) -> Label | None:
    """The first node of a function that derives wrongly, with the step in which it was seen; None if none was found.
    The graph is that after inlining."""
    graph = expand_but_rules(graph)
    sizes = bind_sizes(graph, point, extents)
    search = _Search(sizes)
    values = [leaf if leaf.shape else leaf[()] for leaf in map(np.asarray, point)]
    with suppress(_Found, DgraphError), np.errstate(all="ignore"):
        search.run(graph.region, values)
    return search.found


class _Found(Exception):
    """The search is over."""


class _Search(Interpreter):
    """The interpreter, comparing the derivative of every node."""

    def __init__(self, sizes: Any) -> None:
        super().__init__(sizes)
        self.found: Label | None = None
        self.met: dict[Node, int] = {}
        self.left = LONG
        self.random = np.random.default_rng(0)
        self.derived: dict[Node, tuple[Region, Region]] = {}

    def results_of(self, node: Node, operands: list[Any]) -> Sequence[Any]:
        """The results of a node, after a comparison."""
        results = super().results_of(node, operands)
        self.left -= 1
        if self.left < 0:
            raise _Found
        if self.met.get(node, 0) < TRIES and _is_smooth(node):
            self.met[node] = self.met.get(node, 0) + 1
            with suppress(Unchecked):
                self._compare(node, operands, results)
        return results

    def _compare(self, node: Node, operands: list[Any], results: Sequence[Any]) -> None:
        base = [np.asarray(result) for result in results if _is_float(result)]
        along = [self._drawn(value) if _is_float(value) else None for value in operands]
        if not all(np.isfinite(leaf).all() for leaf in (*base, *(value for value in operands if _is_float(value)))):
            return
        if node not in self.derived:
            self.derived[node] = _transforms(node)
        forward, backward = self.derived[node]
        directions = [direction for direction in along if direction is not None]
        plain = Interpreter(self.sizes)
        tangents = [np.asarray(leaf) for leaf in plain.run(forward, [*operands, *directions])[len(results) :]]

        def value(step: float) -> list[Any]:
            moved = [(value if by is None else value + step * by) for value, by in zip(operands, along, strict=True)]
            return [np.asarray(leaf) for leaf in super(_Search, self).results_of(node, moved) if _is_float(leaf)]

        apart = difference(value, base, tangents)
        if apart > QUOTIENT:
            self._found(node, f"the derivative of this differs from differences by {apart:.1e} (relative)")
        seeds = [self._drawn(leaf) for leaf in base]
        pulled = plain.run(backward, [*operands, *seeds])[len(results) :]
        one = sum(float(np.vdot(seed, tangent)) for seed, tangent in zip(seeds, tangents, strict=True))
        other = sum(float(np.vdot(slope, by)) for slope, by in zip(pulled, directions, strict=True))
        scale = 1.0 + sum(float(np.abs(np.asarray(a) * b).sum()) for a, b in zip(pulled, directions, strict=True))
        if not abs(one - other) <= 100 * DUALITY * scale:
            self._found(node, f"reverse and forward mode of this differ by {abs(one - other) / scale:.1e} (relative)")

    def _found(self, node: Node, words: str) -> None:
        self.found = Label(node.span, placed(words, self.standing, node.span))
        raise _Found

    def _drawn(self, value: Any) -> Any:
        return np.asarray(self.random.standard_normal(np.shape(value)))[()]


def _is_smooth(node: Node) -> bool:
    """Whether a node computes floats from floats by itself, so that its derivative can be compared."""
    if isinstance(node.op, APART) or (node.regions and node.op.name != "custom"):
        return False
    types = [value.type for value in (*node.operands, *node.results)]
    floats = [isinstance(type_, Array) and type_.dtype == F64 for type_ in types]
    count = len(node.operands)
    return all(isinstance(type_, Array) for type_ in types) and any(floats[:count]) and any(floats[count:])


def _transforms(node: Node) -> tuple[Region, Region]:
    """Forward and reverse mode of a node alone, with respect to all its floats."""
    inputs = tuple(Value(value.type, value.name) for value in node.operands)
    results = tuple(Value(value.type, value.name) for value in node.results)
    alone = Node(node.op, inputs, results, node.regions, node.span)
    region = Region(inputs, (alone,), results)
    active, seeded = ([_is_active(value) for value in side] for side in (inputs, results))
    forward, backward = (
        expand(Graph("alone", (), (), Tuple(()), made)).region
        for made in (jvp(region, active), vjp(region, active, seeded))
    )
    return forward, backward


def _is_active(value: Value) -> bool:
    return isinstance(value.type, Array) and value.type.dtype == F64


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic) and value.dtype == np.float64
