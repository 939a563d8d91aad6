"""From a placed scene to the shapes that every painter draws: rectangles, polygons, curves and lines of text."""

from __future__ import annotations

import math

from dgraph.classes import dataclass
from dgraph.view.boxes import Point
from dgraph.view.layout import HEADER, Frame, Layout, layout
from dgraph.view.scene import Edge, EdgeKind, Family, RegionBox, Scene, SceneNode
from dgraph.view.style import (
    ADJOINT_LINE,
    ADJOINT_VALUE_LINE,
    CLUSTER,
    FILL,
    FONT,
    HEADER_SIZE,
    INK,
    LINE,
    LINE_GAP,
    PAPER,
    QUIET,
    RED,
    TITLE_SIZE,
    TYPE_SIZE,
    VALUE_LINE,
    VALUE_SIZE,
    Stroke,
    lines_of,
    shown,
    width_of,
)

__all__ = ["FONT", "Curve", "Group", "Picture", "Polygon", "Rectangle", "Text", "picture"]

_MARGIN = 16.0
_BASELINE = 0.36
_ARROW = 6.5
_CHIP = 17.0


@dataclass(frozen=True)
class Rectangle:
    """A rectangle with rounded corners."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: Stroke | None = None
    radius: float = 0.0


@dataclass(frozen=True)
class Polygon:
    """A filled polygon."""

    points: tuple[Point, ...]
    fill: str
    stroke: Stroke | None = None


@dataclass(frozen=True)
class Curve:
    """A chain of cubic curves, 1 + 3k points."""

    points: tuple[Point, ...]
    stroke: Stroke


@dataclass(frozen=True)
class Text:
    """A line of text; `y` is its baseline."""

    x: float
    y: float
    text: str
    size: float
    colour: str = INK
    bold: bool = False
    centred: bool = False


@dataclass(frozen=True)
class Group:
    """The shapes of one thing, its id, its class and the words shown when it is pointed at."""

    name: str
    kind: str
    tip: str
    shapes: tuple[Rectangle | Polygon | Curve | Text, ...]


@dataclass(frozen=True)
class Picture:
    """A whole drawing."""

    width: float
    height: float
    title: str
    groups: tuple[Group, ...]


def picture(scene: Scene, *, engine: str | None = None) -> Picture:
    """Lay out and paint a scene."""
    placed = layout(scene, engine=engine)
    heading = _heading(scene)
    down = _MARGIN + sum(shape.size * 1.5 for shape in heading) + 2.0
    legend = _legend(scene)
    wide = max([placed.width, *(width_of(line.text, line.size) for line in heading), *(row[-1] for row in legend)])
    width = wide + 2 * _MARGIN
    shift = ((width - placed.width) / 2, down)
    frames = {
        name: Frame(frame.x + shift[0], frame.y + shift[1], frame.width, frame.height)
        for name, frame in placed.frames.items()
    }
    groups = [Group("title", "title", scene.title, tuple(heading))]
    groups += [_region(region, frames[region.id]) for region in scene.regions]
    groups += _edges(scene, placed, shift)
    groups += [_header(region, frames[region.id]) for region in scene.regions]
    groups += [_node(node, frames[node.id]) for node in scene.nodes]
    foot = down + placed.height + 8.0
    groups += [_legend_row(number, row, foot + number * 20.0) for number, row in enumerate(legend)]
    return Picture(width, foot + 20.0 * len(legend) + _MARGIN, scene.title, tuple(groups))


def _heading(scene: Scene) -> list[Text]:
    lines = [Text(_MARGIN, _MARGIN + TITLE_SIZE * 0.8, shown(scene.title, 120), TITLE_SIZE, bold=True)]
    at = _MARGIN + TITLE_SIZE * 1.5
    for text in scene.texts:
        lines.append(Text(_MARGIN, at + TYPE_SIZE, shown(text, 160), TYPE_SIZE, QUIET))
        at += TYPE_SIZE * 1.5
    return lines


def _region(region: RegionBox, frame: Frame) -> Group:
    fill, stroke = CLUSTER[region.kind]
    if region.direction == "adjoint":
        stroke = Stroke(RED, stroke.width, stroke.dash)
    shape = Rectangle(frame.x, frame.y, frame.width, frame.height, fill, stroke, radius=9.0)
    return Group(region.id, f"region {region.kind}", _tip(region.header, region.span), (shape,))


def _header(region: RegionBox, frame: Frame) -> Group:
    """The header, over the edges, on a scrap of the region's own paper."""
    fill, stroke = CLUSTER[region.kind]
    text = shown(region.header)
    back = Rectangle(frame.x + 7.0, frame.y + 3.0, width_of(text, HEADER_SIZE) + 6.0, HEADER - 4.0, fill)
    colour = RED if region.direction == "adjoint" else INK if region.kind == "scope" else stroke.colour
    words = Text(frame.x + 10.0, frame.y + 3.0 + HEADER_SIZE * 1.1, text, HEADER_SIZE, _darker(colour), bold=True)
    return Group(f"{region.id}-header", "header", _tip(region.header, region.span), (back, words))


def _node(node: SceneNode, frame: Frame) -> Group:
    fill, border = FILL[node.family]
    middle = frame.x + frame.width / 2
    stroke = Stroke(RED if node.direction == "adjoint" else border, 1.2)
    outline: Rectangle | Polygon
    if node.shape == "diamond":
        right, low = frame.x + frame.width, frame.y + frame.height
        level = frame.y + frame.height / 2
        outline = Polygon(((middle, frame.y), (right, level), (middle, low), (frame.x, level)), fill, stroke)
    else:
        rounded = 12.0 if node.family in ("input", "output") else 4.0
        outline = Rectangle(frame.x, frame.y, frame.width, frame.height, fill, stroke, radius=rounded)
    shapes: list[Rectangle | Polygon | Curve | Text] = [outline]
    lines = lines_of(node)
    at = frame.y + (frame.height - sum(line.height for line in lines) - LINE_GAP * (len(lines) - 1)) / 2
    for line in lines:
        if line.frame:
            shapes.append(
                Rectangle(middle - line.width / 2, at, line.width, line.height, PAPER, line.frame, radius=3.0)
            )
        baseline = at + line.height / 2 + line.size * _BASELINE
        shapes.append(Text(middle, baseline, line.text, line.size, line.colour, line.bold, centred=True))
        at += line.height + LINE_GAP
    facts = [node.label if node.label == node.op else f"{node.label} ({node.op})", node.type, node.span]
    facts += [] if node.value is None else [f"value: {node.value}"]
    facts += [] if node.adjoint is None else [f"adjoint: {node.adjoint}"]
    return Group(node.id, f"node {node.family} {node.direction}", _tip(*facts), tuple(shapes))


def _edges(scene: Scene, placed: Layout, shift: Point) -> list[Group]:
    """Each edge once, with its arrow; several uses of one value by one node are one line."""
    labels: dict[str, str] = {node.id: node.label for node in scene.nodes}
    labels |= {region.id: region.header for region in scene.regions}
    drawn: set[tuple[str, str, str]] = set()
    groups = []
    for number, (edge, curve) in enumerate(zip(scene.edges, placed.curves, strict=True)):
        if (edge.tail, edge.head, edge.kind) in drawn:
            continue
        drawn.add((edge.tail, edge.head, edge.kind))
        stroke = _stroke(scene, edge)
        points = tuple((x + shift[0], y + shift[1]) for x, y in curve)
        tip = _tip(f"{edge.kind}: {labels[edge.tail]} → {labels[edge.head]}", edge.label)
        shapes = (Curve(_shortened(points), stroke), _arrow(points, stroke.colour))
        groups.append(Group(f"edge{number}", f"edge {edge.kind}", tip, shapes))
    return groups


def _stroke(scene: Scene, edge: Edge) -> Stroke:
    adjoint = edge.kind == "data" and scene.direction[edge.tail] == scene.direction[edge.head] == "adjoint"
    return ADJOINT_LINE if adjoint else LINE[edge.kind]


def _direction(points: tuple[Point, ...]) -> Point:
    """The unit vector along which a chain arrives."""
    end = points[-1]
    for point in reversed(points[:-1]):
        length = math.hypot(end[0] - point[0], end[1] - point[1])
        if length > 0.5:
            return (end[0] - point[0]) / length, (end[1] - point[1]) / length
    return 0.0, 1.0


def _shortened(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """The chain with its end drawn back into its arrow."""
    x, y = _direction(points)
    return (*points[:-1], (points[-1][0] - x * _ARROW * 0.7, points[-1][1] - y * _ARROW * 0.7))


def _arrow(points: tuple[Point, ...], colour: str) -> Polygon:
    (x, y), (tip_x, tip_y) = _direction(points), points[-1]
    base = (tip_x - x * _ARROW, tip_y - y * _ARROW)
    half = _ARROW * 0.42
    return Polygon(
        ((tip_x, tip_y), (base[0] - y * half, base[1] + x * half), (base[0] + y * half, base[1] - x * half)), colour
    )


_Entry = tuple[str, Family | Stroke | str]
_Row = tuple[tuple[tuple[float, _Entry], ...], float]

_EDGE_WORDS: dict[EdgeKind, str] = {
    "data": "value",
    "carry": "carry to the next step",
    "saved": "saved for the reverse pass",
    "control": "condition",
}


def _legend(scene: Scene) -> list[_Row]:
    """Rows of what the picture uses: families, kinds of edges, and the frames of values."""
    families = dict.fromkeys(node.family for node in scene.nodes)
    kinds = dict.fromkeys(edge.kind for edge in scene.edges)
    colours: list[_Entry] = [(family, family) for family in FILL if family in families]
    lines: list[_Entry] = [(_EDGE_WORDS[kind], LINE[kind]) for kind in LINE if kind in kinds]
    if any(_stroke(scene, edge) is ADJOINT_LINE for edge in scene.edges):
        lines.append(("adjoint", ADJOINT_LINE))
    if any(node.value is not None for node in scene.nodes):
        lines.append(("forward value", "v="))
    if any(node.adjoint is not None for node in scene.nodes):
        lines.append(("adjoint value", "adj="))
    return [_row(entries) for entries in (colours, lines) if entries]


def _row(entries: list[_Entry]) -> _Row:
    at, placed = 0.0, []
    for words, mark in entries:
        placed.append((at, (words, mark)))
        at += _mark_width(mark) + width_of(words, TYPE_SIZE) + 22.0
    return tuple(placed), at - 22.0


def _mark_width(mark: Family | Stroke | str) -> float:
    if isinstance(mark, Stroke):
        return 30.0
    return width_of(mark, VALUE_SIZE) + 8.0 + 5.0 if mark.endswith("=") else _CHIP + 5.0


def _legend_row(number: int, row: _Row, y: float) -> Group:
    shapes: list[Rectangle | Polygon | Curve | Text] = []
    for offset, (words, mark) in row[0]:
        x, wide = _MARGIN + offset, _mark_width(mark) - 5.0
        if isinstance(mark, Stroke):
            points = ((x, y + 6.0), (x + 6.0, y + 6.0), (x + 18.0, y + 6.0), (x + 24.0, y + 6.0))
            shapes += [Curve(_shortened(points), mark), _arrow(points, mark.colour)]
        elif mark.endswith("="):
            frame = VALUE_LINE if mark == "v=" else ADJOINT_VALUE_LINE
            shapes.append(Rectangle(x, y - 1.5, wide, 15.0, PAPER, frame, radius=3.0))
            shapes.append(
                Text(x + wide / 2, y + 6.0 + VALUE_SIZE * _BASELINE, mark, VALUE_SIZE, frame.colour, centred=True)
            )
        else:
            fill, border = next(pair for family, pair in FILL.items() if family == mark)
            shapes.append(Rectangle(x, y, _CHIP, 12.0, fill, Stroke(border, 1.2), radius=3.0))
        shapes.append(Text(x + _mark_width(mark), y + 6.0 + TYPE_SIZE * _BASELINE, words, TYPE_SIZE, QUIET))
    return Group(f"legend{number}", "legend", "legend", tuple(shapes))


def _tip(*facts: str) -> str:
    return "\n".join(fact for fact in facts if fact)


def _darker(colour: str) -> str:
    """The colour at 70 % of its light, for small letters."""
    return "#" + "".join(f"{int(int(colour[at : at + 2], 16) * 0.7):02x}" for at in (1, 3, 5))
