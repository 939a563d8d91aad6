"""A picture as SVG text: the same bytes for the same picture, every word escaped."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from dgraph.view.boxes import Point
from dgraph.view.paint import FONT, Curve, Group, Picture, Polygon, Rectangle, Text
from dgraph.view.style import PAPER, Stroke

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg_text(picture: Picture) -> str:
    """The SVG document of a picture."""
    width, height = _number(picture.width), _number(picture.height)
    head = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="\'{FONT}\', Menlo, Consolas, monospace" role="img">',
        f"<title>{words(picture.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
    ]
    body = [line for group in picture.groups for line in _group(group)]
    return "\n".join([*head, *body, "</svg>", ""])


def words(text: str) -> str:
    """Text made safe for XML: markup characters escaped, characters that XML forbids replaced."""
    return escape(_ILLEGAL.sub("\ufffd", text), {'"': "&quot;"})


def _group(group: Group) -> list[str]:
    lines = [f'<g id="{words(group.name)}" class="{words(group.kind)}">', f"<title>{words(group.tip)}</title>"]
    for shape in group.shapes:
        match shape:
            case Rectangle():
                lines.append(_rectangle(shape))
            case Polygon():
                points = " ".join(_point(point) for point in shape.points)
                lines.append(f'<polygon points="{points}" fill="{shape.fill}"{_stroke(shape.stroke)}/>')
            case Curve():
                lines.append(f'<path d="{_path(shape.points)}" fill="none"{_stroke(shape.stroke)}/>')
            case Text():
                lines.append(_text(shape))
    return [*lines, "</g>"]


def _rectangle(shape: Rectangle) -> str:
    place = (
        f'x="{_number(shape.x)}" y="{_number(shape.y)}" width="{_number(shape.width)}" height="{_number(shape.height)}"'
    )
    radius = f' rx="{_number(shape.radius)}"' if shape.radius else ""
    return f'<rect {place}{radius} fill="{shape.fill}"{_stroke(shape.stroke)}/>'


def _text(shape: Text) -> str:
    weight = ' font-weight="bold"' if shape.bold else ""
    anchor = ' text-anchor="middle"' if shape.centred else ""
    return (
        f'<text x="{_number(shape.x)}" y="{_number(shape.y)}" font-size="{_number(shape.size)}" fill="{shape.colour}"'
        f'{weight}{anchor} xml:space="preserve">{words(shape.text)}</text>'
    )


def _stroke(stroke: Stroke | None) -> str:
    if stroke is None:
        return ""
    dash = f' stroke-dasharray="{" ".join(_number(part) for part in stroke.dash)}"' if stroke.dash else ""
    return f' stroke="{stroke.colour}" stroke-width="{_number(stroke.width)}"{dash}'


def _path(points: tuple[Point, ...]) -> str:
    return f"M{_point(points[0])} C{' '.join(_point(point) for point in points[1:])}"


def _point(point: Point) -> str:
    return f"{_number(point[0])},{_number(point[1])}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0").replace("-0", "-0" if f"{value:.1f}" != "-0.0" else "0")
