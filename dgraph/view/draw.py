"""Writing a scene to a file in the format that its name asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from dgraph.errors import ArgumentError, Diagnostic
from dgraph.reader.files import write_whole
from dgraph.view.dot_writer import dot_text
from dgraph.view.paint import Picture, picture
from dgraph.view.raster import pdf_bytes, png_bytes
from dgraph.view.scene import Scene
from dgraph.view.svg_writer import svg_text

PAINTERS: dict[str, Callable[[Picture], bytes]] = {
    ".svg": lambda painted: svg_text(painted).encode(),
    ".png": png_bytes,
    ".pdf": pdf_bytes,
}
"""How each format is made of shapes. `.dot` has no shapes: it is made of a scene."""


def render(scene: Scene, suffix: str = ".svg", *, engine: str | None = None) -> bytes:
    """The scene as the content of a file with this suffix; `engine` is `dot`, `wasi` or `layered`, else the best."""
    if suffix.lower() == ".dot":
        return dot_text(scene).encode()
    paint = painter(suffix, (*PAINTERS, ".dot"))
    return paint(picture(scene, engine=engine))


def painter(suffix: str, known: Sequence[str] = tuple(PAINTERS)) -> Callable[[Picture], bytes]:
    """What makes a file with this suffix of shapes. Raises `ArgumentError` if there is nothing."""
    found = PAINTERS.get(suffix.lower())
    if found is None:
        title = f"a picture cannot be written as `{suffix}`" if suffix else "the name of a picture needs a suffix"
        raise ArgumentError(Diagnostic(title, note=f"use {', '.join(known)}"))
    return found


def draw(scene: Scene, path: str | os.PathLike[str], *, engine: str | None = None) -> Path:
    """Write the scene to a file, whole or not at all; its suffix says the format."""
    target = Path(path)
    content = render(scene, target.suffix, engine=engine)
    write_whole(target, content)
    return target


def draw_picture(painted: Picture, path: str | os.PathLike[str]) -> Path:
    """Write shapes to a file, whole or not at all; its suffix says the format."""
    target = Path(path)
    write_whole(target, painter(target.suffix)(painted))
    return target


def svg(scene: Scene, *, engine: str | None = None) -> str:
    """The scene as SVG text."""
    return render(scene, ".svg", engine=engine).decode()
