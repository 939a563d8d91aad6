"""The graph: values, nodes, regions. SSA, immutable, every region closed with explicit captures.

A region is what a region op (`for while if call space jvp vjp vmap`) holds: inputs, nodes in order, outputs. Its nodes
read only its own inputs and results; whatever comes from outside is a capture: an operand of the region op and an
input of the region. The size variables of the graph are visible in every region without capture.
A `Graph` is a named region together with the tree structure of what goes in and out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE, Span
from dgraph.ir.counts import Count
from dgraph.types import Extent, Type, ValueType, leaves

if TYPE_CHECKING:
    from dgraph.ir.op import Op


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """An input of a region or a result of a node. Compared by identity; the name is only for reading."""

    type: ValueType
    name: str = ""

    def __repr__(self) -> str:
        return f"%{self.name or hex(id(self))[-5:]}: {self.type}"


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One application of an op.

    `span` is the source text it comes from; `scope` the path of scopes and inlined functions *inside its region*;
    `derived` is "" for the user's own computation, else "tangent" or "adjoint".
    """

    op: Op
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    regions: tuple[Region, ...] = ()
    span: Span = NOWHERE
    scope: tuple[str, ...] = ()
    derived: str = ""

    @property
    def result(self) -> Value:
        """The only result."""
        (only,) = self.results
        return only

    def __repr__(self) -> str:
        return f"<{self.op.name} {', '.join(map(repr, self.results))}>"


@dataclass(frozen=True, eq=False)
class Region:
    """A closed block of nodes. A region may stand in several nodes: it is immutable and reads nothing outside."""

    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]

    @cached_property
    def used(self) -> frozenset[Value]:
        """Every value that a node of this region or its outputs read (not inside nested regions: they are closed)."""
        return frozenset(operand for node in self.nodes for operand in node.operands) | frozenset(self.outputs)

    @cached_property
    def users(self) -> dict[Value, tuple[Node, ...]]:
        """The nodes that read each value, in order, each once."""
        found: dict[Value, dict[Node, None]] = {}
        for node in self.nodes:
            for operand in node.operands:
                found.setdefault(operand, {}).setdefault(node)
        return {value: tuple(nodes) for value, nodes in found.items()}

    @cached_property
    def producers(self) -> dict[Value, Node]:
        """The node that makes each result."""
        return {result: node for node in self.nodes for result in node.results}


@dataclass(frozen=True)
class Formal:
    """An argument as the host sees it: a name and the tree of its leaves."""

    name: str
    type: Type


@dataclass(frozen=True)
class Wish:
    """A number that `@checkpoint` asks for and that each call computes from its arguments: a size variable that is 1 at
    least. `option` is what the annotation calls it, `span` where it is written."""

    name: str
    option: str
    value: Count
    span: Span = NOWHERE


@dataclass(frozen=True, eq=False)
class Graph:
    """A function of the host.

    `sizes` are the size variables, each solvable left to right from the arguments, given by a formal of type `size`, or
    one of `wishes`. The inputs of `region` are the leaves of `formals` in order (a `size` formal has none); its outputs
    are the leaves of `result`.
    """

    name: str
    sizes: tuple[str, ...]
    formals: tuple[Formal, ...]
    result: Type
    region: Region
    span: Span = field(default=NOWHERE)
    wishes: tuple[Wish, ...] = ()

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """The qualified name of each region input."""
        return tuple(name for formal in self.formals for name, _ in leaves(formal.type, formal.name))

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """The qualified name of each region output."""
        return tuple(name or "result" for name, _ in leaves(self.result))

    @property
    def size_formals(self) -> tuple[str, ...]:
        """Names of the formals of type `size`."""
        return tuple(formal.name for formal in self.formals if isinstance(formal.type, Extent))

    @property
    def told_sizes(self) -> tuple[str, ...]:
        """The size variables whose numbers compiled code is told beside the arguments: the formals of type `size`, and
        behind them the wishes."""
        return (*self.size_formals, *(wish.name for wish in self.wishes))

    def with_region(self, region: Region) -> Graph:
        """The same function with another body."""
        return replace(self, region=region)


def walk(region: Region) -> Iterator[Node]:
    """Every node of a region and of the regions inside it, outer nodes first, in order."""
    for node in region.nodes:
        yield node
        for inner in node.regions:
            yield from walk(inner)
