"""The walk through a graph that collects its scene: what every rule for an op may do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE, Span
from dgraph.ir.graph import Node, Region, Value
from dgraph.types import Array
from dgraph.view.digest import digest
from dgraph.view.labels import label_of
from dgraph.view.record import Path, Recording
from dgraph.view.scene import TOP, Direction, Edge, EdgeKind, Family, RegionBox, RegionKind, SceneNode

Values = Recording | Mapping[Value, Any]
"""Arrays of a run: a recording of all of it, or a plain mapping, in which a value that stands in two places is one."""

_FAMILIES: dict[str, Family] = {
    "elementwise": "elementwise",
    "reduce": "reduce",
    "linalg": "linalg",
    "linalg_blocks": "linalg",
    "linalg_orthogonal": "linalg",
    "linalg_systems": "linalg",
    "linalg_triangles": "linalg",
    "shape": "shape",
    "index": "index",
    "control": "control",
    "random": "random",
    "transform": "adjoint",
}
_SIGNS = {
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
}


@dataclass(frozen=True)
class Origin:
    """Where a value comes from: the id of a node, or words that stand in the labels of its users."""

    node: str = ""
    words: str = ""


Known = dict[Value, Origin]
Rule = Callable[["Walk", Node, Known], None]


class Walk:
    """Regions, nodes and edges collected so far, and the place of the walk."""

    def __init__(self, rules: Mapping[str, Rule], values: Values | None, adjoints: Values | None) -> None:
        self.rules = rules
        self.values = values
        self.adjoints = adjoints
        self.regions: list[RegionBox] = []
        self.nodes: list[SceneNode] = []
        self.edges: list[Edge] = []
        self.faces: dict[str, Direction] = {}
        self.homes: dict[str, str] = {}
        self.path: Path = ()
        self.home = TOP
        self.wanted: frozenset[Value] = frozenset()

    # ---- what is drawn ------------------------------------------------------------------------------------------

    def add(
        self,
        values: Sequence[Value],
        label: str,
        op: str,
        family: Family,
        *,
        direction: Direction = "forward",
        span: Span = NOWHERE,
        diamond: bool = False,
        named: bool = False,
        inside: Node | None = None,
        cotangent: bool | None = None,
    ) -> Origin:
        """A node for the values that an op makes (none, one or several), or for a value `inside` a region op's region.

        With `named` the names of the values stand before their types. What the node computed is shown as an adjoint
        if `cotangent` says so, by default for the floats of the reverse pass.
        """
        path = self.path if inside is None else (*self.path, inside)
        floats = all(isinstance(value.type, Array) and value.type.dtype.is_float for value in values)
        found = self._digest(self.values, path, values)
        adjoint = self._digest(self.adjoints, path, values) if floats else None
        if cotangent or (cotangent is None and direction == "adjoint" and floats):
            found, adjoint = adjoint, found
        words = (f"{value.name}: {value.type}" if named and value.name else str(value.type) for value in values)
        node = SceneNode(
            id=f"n{len(self.nodes)}",
            op=op,
            label=label,
            type=", ".join(words),
            region=self.home,
            family=family,
            span=place(span),
            value=found,
            adjoint=adjoint,
            direction=direction,
            shape="diamond" if diamond else "box",
        )
        self.nodes.append(node)
        self.faces[node.id] = direction
        self.homes[node.id] = self.home
        return Origin(node.id)

    def _digest(self, known: Values | None, path: Path, values: Sequence[Value]) -> str | None:
        """The words for arrays; None where no values are shown, there is no array (accumulators, tapes), or a plain
        mapping does not have it."""
        arrays = [value for value in values if isinstance(value.type, Array)]
        if known is None or not arrays:
            return None
        if isinstance(known, Recording):
            return "; ".join(digest(known.get(path, value)) for value in arrays)
        found = [known[value] for value in arrays if value in known]
        return "; ".join(map(digest, found)) if found else None

    def add_exit(
        self,
        origin: Origin,
        value: Value,
        label: str,
        op: str,
        family: Family,
        *,
        direction: Direction | None = None,
        inside: Node | None = None,
    ) -> Origin:
        """A node at which a value leaves a region or the graph, joined to where the value comes from."""
        facing = direction or (self.faces[origin.node] if origin.node else "forward")
        leaving = self.add([value], label, op, family, direction=facing, inside=inside)
        self.join(origin, leaving, value)
        return leaving

    def join(self, origin: Origin, head: Origin, value: Value, kind: EdgeKind = "data") -> None:
        """An edge; where the value was only words, a constant node is made for it in the current region."""
        tail = origin.node or self.add([], origin.words, "constant", "constant", direction=self.faces[head.node]).node
        if kind == "data" and (self.faces[tail], self.faces[head.node]) == ("forward", "adjoint"):
            kind = "saved"
        self.edges.append(Edge(tail, head.node, kind, str(value.type)))

    @contextmanager
    def region(
        self, kind: RegionKind, header: str, *, node: Node | None = None, direction: Direction = "forward"
    ) -> Iterator[str]:
        """Within this context new nodes stand in a new region; gives its id."""
        name = f"r{len(self.regions)}"
        facing = direction if node is None else facing_of(node)
        self.regions.append(RegionBox(name, kind, header, self.home, facing, place(node.span) if node else ""))
        self.homes[name] = self.home
        before, self.home = self.home, name
        yield name
        self.home = before

    def stands_in(self, item: str, region: str) -> bool:
        """Whether a node is in a region, at any depth."""
        at = self.homes[item]
        while at not in (TOP, region):
            at = self.homes[at]
        return at == region

    # ---- the walk -----------------------------------------------------------------------------------------------

    def read(self, region: Region, known: Known) -> None:
        """All nodes of a region in order, neighbours of one scope in one cluster."""
        before, self.wanted = self.wanted, region.used
        rows = [node for node in region.nodes if not self._fold(node, known)]
        self._read_scoped(rows, 0, known)
        self.wanted = before

    def _fold(self, node: Node, known: Known) -> bool:
        """Whether the node became words for its users: a scalar constant, a size, one of these made wide, or a
        comparison of two."""
        words = ""
        if node.op.name in ("constant", "size"):
            words = str(getattr(node.op, "value", ""))
        elif node.op.name == "broadcast" and node.operands[0] in known:
            words = known[node.operands[0]].words
        elif node.op.name in _SIGNS:
            sides = [known[operand].words for operand in node.operands if operand in known]
            words = f"{sides[0]} {_SIGNS[node.op.name]} {sides[1]}" if len(sides) == 2 and all(sides) else ""
        if words:
            known[node.result] = Origin(words=words)
        return bool(words)

    def _read_scoped(self, nodes: Sequence[Node], depth: int, known: Known) -> None:
        """Nodes that share their scope up to a depth; each run of equal scopes below it is a cluster."""
        at = 0
        while at < len(nodes):
            node = nodes[at]
            if len(node.scope) == depth:
                self.rules.get(node.op.name, draw_plain)(self, node, known)
                at += 1
                continue
            name, facing = node.scope[depth], facing_of(node)
            end = at + 1
            while (
                end < len(nodes) and nodes[end].scope[depth : depth + 1] == (name,) and facing_of(nodes[end]) == facing
            ):
                end += 1
            with self.region("scope", name, direction=facing):
                self._read_scoped(nodes[at:end], depth + 1, known)
            at = end

    def read_inside(self, node: Node, region: Region, leading: Sequence[Origin], known: Known) -> list[Origin]:
        """A nested region whose first inputs come from `leading` and whose captures from around; its outputs."""
        captures = node.operands[len(node.operands) - (len(region.inputs) - len(leading)) :]
        inner = dict(zip(region.inputs, [*leading, *(known[value] for value in captures)], strict=True))
        before, self.path = self.path, (*self.path, node)
        self.read(region, inner)
        self.path = before
        return [inner[value] for value in region.outputs]


def draw_plain(walk: Walk, node: Node, known: Known) -> None:
    """An op without regions: one node, with the operands that are only words in its label."""
    origins = [known[operand] for operand in node.operands]
    folded = any(origin.words for origin in origins)
    words = [origin.words or "·" for origin in origins]
    label = label_of(node, words if folded else ())
    family = _FAMILIES.get(type(node.op).__module__.rsplit(".", 1)[-1], "elementwise")
    made = walk.add(node.results, label, node.op.name, family, direction=facing_of(node), span=node.span, named=True)
    known.update((value, made) for value in node.results)
    for operand, origin in zip(node.operands, origins, strict=True):
        if origin.node:
            walk.join(origin, made, operand)


def facing_of(node: Node) -> Direction:
    """Whether a node belongs to the reverse pass."""
    return "adjoint" if node.derived == "adjoint" else "forward"


def place(span: Span) -> str:
    """`model.dg:12`: the file without its folder, so that a picture is the same wherever the program lies."""
    return "" if span == NOWHERE else f"{PurePath(span.source.path).name}:{span.line}"
