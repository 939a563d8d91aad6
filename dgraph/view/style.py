"""How things look: one monospaced face whose widths are computed, colours by op family, strokes by edge kind."""

from __future__ import annotations

import unicodedata

from dgraph.classes import dataclass
from dgraph.view.scene import EdgeKind, Family, RegionKind, SceneNode

FONT = "DejaVu Sans Mono"
EM = 0.6
"""Width of a character as a share of the font size, the same in every engine, browser and rasteriser."""

LABEL_SIZE = 12.0
TYPE_SIZE = 10.0
VALUE_SIZE = 10.0
HEADER_SIZE = 11.0
TITLE_SIZE = 15.0
LONGEST = 44
LONGEST_VALUE = 66
"""Characters of a drawn line; the whole text stays in the tooltip."""

INK = "#1f2328"
QUIET = "#59636e"
PAPER = "#ffffff"
BLUE = "#0550ae"
RED = "#b3261e"


@dataclass(frozen=True)
class Stroke:
    """Colour, width and dash pattern of a line."""

    colour: str
    width: float = 1.0
    dash: tuple[float, ...] = ()


FILL: dict[Family, tuple[str, str]] = {
    "elementwise": ("#eef4fc", "#5b8def"),
    "reduce": ("#fdf0e3", "#d9822b"),
    "linalg": ("#e9f6ec", "#2f9e57"),
    "shape": ("#f3f3f3", "#8c959f"),
    "index": ("#e6f6f7", "#1b9aaa"),
    "control": ("#fbf4d9", "#b8860b"),
    "constant": ("#ffffff", "#b0b8c0"),
    "input": ("#ffffff", "#1f2328"),
    "output": ("#eceff2", "#1f2328"),
    "random": ("#f5edfb", "#8e4ec6"),
    "adjoint": ("#fdeceb", "#c0443c"),
}
"""Paper and border of a node by its family."""

CLUSTER: dict[RegionKind, tuple[str, Stroke]] = {
    "graph": ("#ffffff", Stroke("#8c959f", 1.2)),
    "function": ("#f6f5fb", Stroke("#7c6fb0", 1.2)),
    "scope": ("#f8f9fa", Stroke("#b0b8c0", 1.0, (2.0, 2.0))),
    "for": ("#fdf9ec", Stroke("#b8860b", 1.4)),
    "while": ("#fdf9ec", Stroke("#b8860b", 1.4)),
    "if": ("#f3f8f1", Stroke("#5c8a4a", 1.4)),
    "branch": ("#ffffff", Stroke("#5c8a4a", 1.0)),
    "space": ("#eff7fa", Stroke("#1b7f93", 1.4)),
}
"""Paper and border of a region by its kind."""

LINE: dict[EdgeKind, Stroke] = {
    "data": Stroke("#40474e", 1.1),
    "carry": Stroke("#b8860b", 1.3, (5.0, 3.0)),
    "saved": Stroke("#6f42c1", 1.2, (1.5, 2.5)),
    "control": Stroke("#5c8a4a", 1.1, (3.0, 2.0)),
}
"""How an edge of each kind is drawn."""

ADJOINT_LINE = Stroke(RED, 1.1)
VALUE_LINE = Stroke(BLUE, 1.0)
ADJOINT_VALUE_LINE = Stroke(RED, 1.0, (3.0, 2.0))

NODE_PAD = 7.0
LINE_GAP = 4.0


def cells(text: str) -> int:
    """Columns of a monospaced face that a text takes."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def width_of(text: str, size: float) -> float:
    """Width of a text at a font size."""
    return cells(text) * size * EM


def shown(text: str, longest: int = LONGEST) -> str:
    """A text as it is drawn: on one line, no control characters, cut where it is too long to read."""
    flat = "".join(
        "↵" if c == "\n" else " " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text
    )
    if cells(flat) <= longest:
        return flat
    kept, columns = "", 0
    for character in flat:
        columns += cells(character)
        if columns >= longest:
            break
        kept += character
    return f"{kept}…"


@dataclass(frozen=True)
class Line:
    """One line of a node: its text, size, colour and, for values, the stroke of the frame around it."""

    text: str
    size: float
    colour: str = INK
    bold: bool = False
    frame: Stroke | None = None

    @property
    def height(self) -> float:
        """Height of the line with its frame."""
        return self.size * 1.25 + (4.0 if self.frame else 0.0)

    @property
    def width(self) -> float:
        """Width of the line with its frame."""
        return width_of(self.text, self.size) + (8.0 if self.frame else 0.0)


def lines_of(node: SceneNode) -> tuple[Line, ...]:
    """What is written in a node: its label, its type, its forward value, its adjoint."""
    lines = [Line(shown(node.label), LABEL_SIZE, bold=True)]
    if node.type:
        lines.append(Line(shown(node.type), TYPE_SIZE, QUIET))
    if node.value is not None:
        lines.append(Line(shown(f"v={node.value}", LONGEST_VALUE), VALUE_SIZE, BLUE, frame=VALUE_LINE))
    if node.adjoint is not None:
        lines.append(Line(shown(f"adj={node.adjoint}", LONGEST_VALUE), VALUE_SIZE, RED, frame=ADJOINT_VALUE_LINE))
    return tuple(lines)


def size_of(node: SceneNode) -> tuple[float, float]:
    """Width and height of a node, from what is written in it."""
    lines = lines_of(node)
    width = max(line.width for line in lines) + 2 * NODE_PAD + 4.0
    height = sum(line.height for line in lines) + LINE_GAP * (len(lines) - 1) + 2 * NODE_PAD - 2.0
    if node.shape == "diamond":
        return max(width * 1.35, 64.0), height * 1.45
    return max(width, 44.0), height
