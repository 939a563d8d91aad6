"""A picture as PNG, through resvg, and as PDF with real text, through matplotlib's PDF backend."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from dgraph.view.paint import FONT, Curve, Picture, Polygon, Rectangle, Text
from dgraph.view.style import PAPER, Stroke
from dgraph.view.svg_writer import svg_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.patches import Patch

_ZOOM = 2.0
_MOST_PIXELS = 64e6
_LONGEST_SIDE = 30_000.0
_PDF_LONGEST = 14_400.0
_POINTS_PER_INCH = 72.0


def png_bytes(picture: Picture) -> bytes:
    """The picture at twice its size, less where that would take too many pixels."""
    import resvg_py

    longest, area = max(picture.width, picture.height), picture.width * picture.height
    zoom = min(_ZOOM, _LONGEST_SIDE / longest, (_MOST_PIXELS / area) ** 0.5)
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg_text(picture),
            zoom=zoom,
            background=PAPER,
            font_files=[str(path) for path in _font_files()],
            font_family=FONT,
            monospace_family=FONT,
        )
    )


def _font_files() -> list[Path]:
    """The face that the widths are computed for, from matplotlib's own data: a bare system has no fonts at all."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
    names = ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSans.ttf")
    return [folder / name for name in names if (folder / name).exists()]


def pdf_bytes(picture: Picture) -> bytes:
    """The picture as one page of vectors and text, the same bytes for the same picture."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    scale = min(1.0, _PDF_LONGEST / max(picture.width, picture.height))
    size = (picture.width * scale / _POINTS_PER_INCH, picture.height * scale / _POINTS_PER_INCH)
    figure = Figure(figsize=size, dpi=_POINTS_PER_INCH, facecolor=PAPER)
    FigureCanvasPdf(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0.0, picture.width)
    axes.set_ylim(picture.height, 0.0)
    artists = (
        _artist(shape, scale, order) for order, shape in enumerate(s for group in picture.groups for s in group.shapes)
    )
    for artist in artists:
        axes.add_artist(artist)
    page = BytesIO()
    metadata = {"Title": picture.title, "Creator": "dgraph", "Producer": "dgraph", "CreationDate": None}
    figure.savefig(page, format="pdf", facecolor=PAPER, metadata=metadata)
    return page.getvalue()


def _artist(shape: Rectangle | Polygon | Curve | Text, scale: float, order: int) -> Artist:
    from matplotlib import patches
    from matplotlib.path import Path as Outline
    from matplotlib.text import Text as Words

    patch: patches.Patch
    match shape:
        case Text():
            return Words(
                shape.x,
                shape.y,
                shape.text,
                fontsize=shape.size * scale,
                color=shape.colour,
                fontweight="bold" if shape.bold else "normal",
                fontfamily=[FONT, "DejaVu Sans"],
                horizontalalignment="center" if shape.centred else "left",
                verticalalignment="baseline",
                parse_math=False,
                usetex=False,
                zorder=order,
            )
        case Rectangle():
            corners = f"round,pad=0,rounding_size={shape.radius or 1e-6}"
            patch = patches.FancyBboxPatch((shape.x, shape.y), shape.width, shape.height, boxstyle=corners)
            patch.set_facecolor(shape.fill)
            stroke = shape.stroke
        case Polygon():
            patch = patches.Polygon(shape.points)
            patch.set_facecolor(shape.fill)
            stroke = shape.stroke
        case Curve():
            codes = [Outline.MOVETO, *[Outline.CURVE4] * (len(shape.points) - 1)]
            patch = patches.PathPatch(Outline(list(shape.points), codes), facecolor="none")
            stroke = shape.stroke
    patch.set_zorder(order)
    _set_pen(patch, stroke, scale)
    return patch


def _set_pen(patch: Patch, stroke: Stroke | None, scale: float) -> None:
    """Matplotlib's words for a stroke; its dashes are in units of the line width."""
    if stroke is None:
        patch.set_edgecolor("none")
        return
    width = stroke.width * scale
    patch.set_edgecolor(stroke.colour)
    patch.set_linewidth(width)
    if stroke.dash:
        patch.set_linestyle((0.0, tuple(part * scale / width for part in stroke.dash)))
