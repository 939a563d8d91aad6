"""The scene: everything a picture of a graph shows, before anyone has decided where it goes or how it is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from typing import Literal

from dgraph.classes import dataclass
from dgraph.errors import InvalidGraph

RegionKind = Literal["graph", "function", "scope", "for", "while", "if", "branch", "space"]
Family = Literal[
    "elementwise",
    "reduce",
    "linalg",
    "shape",
    "index",
    "control",
    "constant",
    "input",
    "output",
    "random",
    "adjoint",
]
EdgeKind = Literal["data", "carry", "saved", "control"]
Direction = Literal["forward", "adjoint"]

TOP = ""
"""The region that holds what stands in no other region."""


@dataclass(frozen=True)
class RegionBox:
    """A cluster: a function, a scope, a loop, a branch or an index space, with the header it is drawn under."""

    id: str
    kind: RegionKind
    header: str
    parent: str = TOP
    direction: Direction = "forward"
    span: str = ""


@dataclass(frozen=True)
class SceneNode:
    """One op, input, output or carry; `value` and `adjoint` are digests, None where the picture shows no values."""

    id: str
    op: str
    label: str
    type: str
    region: str = TOP
    family: Family = "elementwise"
    span: str = ""
    value: str | None = None
    adjoint: str | None = None
    direction: Direction = "forward"
    shape: Literal["box", "diamond"] = "box"


@dataclass(frozen=True)
class Edge:
    """A value that flows from one node to another; a control edge may end at a region."""

    tail: str
    head: str
    kind: EdgeKind = "data"
    label: str = ""


@dataclass(frozen=True)
class Scene:
    """What is drawn: a tree of regions, the nodes in them, the edges between, and lines of text under the title."""

    title: str
    regions: tuple[RegionBox, ...] = ()
    nodes: tuple[SceneNode, ...] = ()
    edges: tuple[Edge, ...] = ()
    texts: tuple[str, ...] = ()
    version: int = field(default=1)

    def __post_init__(self) -> None:
        ids = [region.id for region in self.regions] + [node.id for node in self.nodes]
        if len(set(ids)) != len(ids) or TOP in ids:
            raise InvalidGraph("a scene needs distinct, non-empty ids")
        known: set[str] = {TOP}
        for region in self.regions:
            if region.parent not in known:
                raise InvalidGraph(f"region {region.id!r} stands before its parent {region.parent!r}")
            known.add(region.id)
        for node in self.nodes:
            if node.region not in known:
                raise InvalidGraph(f"node {node.id!r} is in an unknown region {node.region!r}")
        ends = set(ids)
        for edge in self.edges:
            if edge.tail not in ends or edge.head not in ends:
                raise InvalidGraph(f"edge {edge.tail!r} -> {edge.head!r} ends nowhere")
            if self._encloses(edge.tail, edge.head) or self._encloses(edge.head, edge.tail):
                raise InvalidGraph(f"edge {edge.tail!r} -> {edge.head!r} joins a region with its own content")

    @cached_property
    def region_by_id(self) -> dict[str, RegionBox]:
        """Regions by their id."""
        return {region.id: region for region in self.regions}

    @cached_property
    def home(self) -> dict[str, str]:
        """For every node and region, the region it stands in."""
        return {node.id: node.region for node in self.nodes} | {region.id: region.parent for region in self.regions}

    @cached_property
    def children(self) -> dict[str, tuple[str, ...]]:
        """For every region, the nodes and then the regions directly in it."""
        inside: dict[str, list[str]] = {region: [] for region in (TOP, *self.region_by_id)}
        for node in self.nodes:
            inside[node.region].append(node.id)
        for region in self.regions:
            inside[region.parent].append(region.id)
        return {region: tuple(items) for region, items in inside.items()}

    @cached_property
    def direction(self) -> dict[str, Direction]:
        """For every node and region, the way it faces."""
        faces: dict[str, Direction] = {node.id: node.direction for node in self.nodes}
        return faces | {region.id: region.direction for region in self.regions}

    def runs_upwards(self, edge: Edge) -> bool:
        """Whether the head of the edge stands above its tail: back edges, and the values of the reverse pass."""
        adjoint = self.direction[edge.tail] == self.direction[edge.head] == "adjoint"
        return edge.kind != "saved" and adjoint != (edge.kind == "carry")

    def path(self, item: str) -> tuple[str, ...]:
        """The regions around an item, outermost first, the top included."""
        return tuple(reversed(list(self._around(item))))

    def _around(self, item: str) -> Iterator[str]:
        at = self.home[item]
        while at != TOP:
            yield at
            at = self.home[at]
        yield TOP

    def _encloses(self, outer: str, inner: str) -> bool:
        return outer in self.region_by_id and outer in self._around(inner)
