"""A scene as DOT text with real clusters and table labels, for people who go on from there with Graphviz."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from dgraph.view.scene import TOP, Edge, Scene, SceneNode
from dgraph.view.style import ADJOINT_LINE, BLUE, CLUSTER, FILL, FONT, LINE, QUIET, RED, Stroke, shown

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def dot_text(scene: Scene) -> str:
    """The DOT graph of a scene."""
    return "\n".join(_Writer(scene).lines())


class _Writer:
    """Safe names for nodes and clusters, and the lines of the graph."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.names = {node.id: f"n{number}" for number, node in enumerate(scene.nodes)}
        self.clusters = {region.id: f"cluster{number}" for number, region in enumerate(scene.regions)}
        self.nodes = {node.id: node for node in scene.nodes}

    def lines(self) -> list[str]:
        """The whole graph."""
        title = '<BR ALIGN="LEFT"/>'.join(_words(text, 160) for text in self.scene.texts)
        label = f'<B>{_words(self.scene.title, 120)}</B><BR ALIGN="LEFT"/>{title}'
        return [
            "digraph {",
            f'graph [compound=true nodesep=0.28 ranksep=0.36 labelloc=t labeljust=l fontname="{FONT}" label=<{label}>]',
            f'node [shape=box style="filled,rounded" fontname="{FONT}" fontsize=12]',
            f'edge [arrowsize=0.6 fontname="{FONT}" fontsize=9]',
            *self._inside(TOP, ""),
            *(self._edge(edge) for edge in self.scene.edges),
            "}",
            "",
        ]

    def _inside(self, region: str, indent: str) -> list[str]:
        lines = []
        for item in self.scene.children[region]:
            if item in self.nodes:
                lines.append(indent + self._node(self.nodes[item]))
            else:
                lines += self._cluster(item, indent)
        return lines

    def _cluster(self, region: str, indent: str) -> list[str]:
        box = self.scene.region_by_id[region]
        fill, stroke = CLUSTER[box.kind]
        colour = RED if box.direction == "adjoint" else stroke.colour
        style = "filled,rounded,dashed" if stroke.dash else "filled,rounded"
        anchor = (
            []
            if self._anchor(region) in self.names.values()
            else [f"  {self._anchor(region)} [shape=point style=invis]"]
        )
        facts = f'label=<<B>{_words(box.header)}</B>> style="{style}" fillcolor="{fill}" color="{colour}" labeljust=l'
        lines = [f"subgraph {self.clusters[region]} {{", f"  graph [{facts} fontsize=11 {_tip(box.header, box.span)}]"]
        return [indent + line for line in lines + anchor] + self._inside(region, indent + "  ") + [indent + "}"]

    def _node(self, node: SceneNode) -> str:
        fill, border = FILL[node.family]
        rows = [f"<B>{_words(node.label)}</B>"]
        rows += [f'<FONT POINT-SIZE="10" COLOR="{QUIET}">{_words(node.type)}</FONT>'] if node.type else []
        for prefix, digest, colour in (("v", node.value, BLUE), ("adj", node.adjoint, RED)):
            if digest is not None:
                rows.append(f'<FONT POINT-SIZE="10" COLOR="{colour}">{_words(f"{prefix}={digest}", 66)}</FONT>')
        table = "".join(f"<TR><TD>{row}</TD></TR>" for row in rows)
        label = f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="1">{table}</TABLE>>'
        colour = RED if node.direction == "adjoint" else border
        shape = ' shape=diamond style="filled"' if node.shape == "diamond" else ""
        facts = f'label={label} fillcolor="{fill}" color="{colour}"{shape} {_tip(node.op, node.type, node.span)}'
        return f"{self.names[node.id]} [{facts}]"

    def _edge(self, edge: Edge) -> str:
        faces = self.scene.direction
        adjoint = edge.kind == "data" and faces[edge.tail] == faces[edge.head] == "adjoint"
        tail, head = edge.tail, edge.head
        facts = [_pen(ADJOINT_LINE if adjoint else LINE[edge.kind])]
        if self.scene.runs_upwards(edge):
            tail, head = head, tail
            facts.append("dir=back")
        if edge.kind == "saved":
            facts.append("minlen=0 weight=0")
        for end, side in ((tail, "ltail"), (head, "lhead")):
            if end in self.clusters:
                facts.append(f"{side}={self.clusters[end]}")
        facts.append(_tip(edge.kind, edge.label))
        if edge.label:
            facts.append(f"label=<{_words(edge.label)}>")
        return f"{self._anchor(tail)} -> {self._anchor(head)} [{' '.join(facts)}]"

    def _anchor(self, item: str) -> str:
        """The node that stands for an item: itself, or the first node directly in a region, else an invisible point."""
        if item in self.names:
            return self.names[item]
        first = next((inner for inner in self.scene.children[item] if inner in self.names), None)
        return self.names[first] if first else f"anchor_{self.clusters[item]}"


def _pen(stroke: Stroke) -> str:
    style = " style=dashed" if stroke.dash and stroke.dash[0] > 2 else " style=dotted" if stroke.dash else ""
    return f'color="{stroke.colour}" penwidth={stroke.width}{style}'


def _words(text: str, longest: int = 44) -> str:
    """Text for a table label: on one line, cut, escaped, never empty (Graphviz refuses an empty label)."""
    return escape(_ILLEGAL.sub("\ufffd", shown(text, longest)), {'"': "&quot;"}) or " "


def _tip(*facts: str) -> str:
    """The tooltip as a quoted string: Graphviz reads XML entities in it, and a backslash starts its own escapes."""
    text = escape("\n".join(_ILLEGAL.sub("\ufffd", fact) for fact in facts if fact))
    for plain, safe in (("\\", "\\\\"), ('"', '\\"'), ("\r", ""), ("\n", "\\n")):
        text = text.replace(plain, safe)
    return f'tooltip="{text}"'
