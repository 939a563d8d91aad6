"""Writing a scene to a file in the format that its name asks for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from dgraph.errors import ArgumentError, Diagnostic
from dgraph.reader.files import write_whole
from dgraph.view.dot_writer import dot_text
from dgraph.view.paint import picture
from dgraph.view.raster import pdf_bytes, png_bytes
from dgraph.view.scene import Scene
from dgraph.view.svg_writer import svg_text

PAINTERS: dict[str, Callable[[Scene, str | None], bytes]] = {
    ".svg": lambda scene, engine: svg_text(picture(scene, engine=engine)).encode(),
    ".png": lambda scene, engine: png_bytes(picture(scene, engine=engine)),
    ".pdf": lambda scene, engine: pdf_bytes(picture(scene, engine=engine)),
    ".dot": lambda scene, _: dot_text(scene).encode(),
}
"""How each format is made."""


def render(scene: Scene, suffix: str = ".svg", *, engine: str | None = None) -> bytes:
    """The scene as the content of a file with this suffix; `engine` is `dot`, `wasi` or `layered`, else the best."""
    painter = PAINTERS.get(suffix.lower())
    if painter is None:
        title = f"a picture cannot be written as `{suffix}`" if suffix else "the name of a picture needs a suffix"
        raise ArgumentError(Diagnostic(title, note=f"use {', '.join(PAINTERS)}"))
    return painter(scene, engine)


def draw(scene: Scene, path: str | os.PathLike[str], *, engine: str | None = None) -> Path:
    """Write the scene to a file, whole or not at all; its suffix says the format."""
    target = Path(path)
    content = render(scene, target.suffix, engine=engine)
    write_whole(target, content)
    return target


def svg(scene: Scene, *, engine: str | None = None) -> str:
    """The scene as SVG text."""
    return render(scene, ".svg", engine=engine).decode()
