"""Where everything goes: each region is laid out alone, innermost first, then is one box in the region around it."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import field

from dgraph.classes import dataclass
from dgraph.view.boxes import Box, Engine, EngineFailed, Link, Point, Problem, Solution, across, end_points, slot_offset
from dgraph.view.engines import chosen
from dgraph.view.layered import smooth
from dgraph.view.scene import TOP, Edge, Scene
from dgraph.view.style import HEADER_SIZE, shown, size_of, width_of

HEADER = 20.0
_PAD = 12.0
_SLOT = 20.0
_PORT = 2.0
_SECONDS = 20.0

Side = str
Port = tuple[str, Side, str]


@dataclass(frozen=True)
class Frame:
    """A placed rectangle, by its top left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """Places of all nodes and regions, a chain of cubic curves per edge (in the order of the scene), and who did it."""

    width: float
    height: float
    frames: dict[str, Frame]
    curves: tuple[tuple[Point, ...], ...]
    engine: str


@dataclass(frozen=True)
class _End:
    """One end of a piece of an edge inside one region: an item of the region or a port on its own border."""

    item: str = ""
    port: Port | None = None


@dataclass(frozen=True)
class _Piece:
    """The part of an edge that lies in one region, between an item or port above and one below.

    Edges with the same key (one source, one kind) share it.
    """

    region: str
    key: str
    tail: _End
    head: _End
    level: bool = False


@dataclass
class _Plan:
    """What one region asks the engine, and what came back."""

    items: list[str] = field(default_factory=list)
    ports: list[Port] = field(default_factory=list)
    pieces: list[_Piece] = field(default_factory=list)
    slots: dict[Port, int] = field(default_factory=dict)
    box: Box = field(default_factory=lambda: Box(0.0, 0.0))
    corner: dict[str, Point] = field(default_factory=dict)
    curves: dict[_Piece, tuple[Point, ...]] = field(default_factory=dict)


def layout(scene: Scene, *, engine: str | None = None, seconds: float = _SECONDS) -> Layout:
    """Place a scene. The engines are asked in turn; the built-in one takes over when time is up."""
    return _Work(scene, chosen(engine), time.monotonic() + seconds).layout()


class _Work:
    """One layout in progress."""

    def __init__(self, scene: Scene, engines: list[Engine], until: float) -> None:
        self.scene = scene
        self.engines = engines
        self.until = until
        self.plans = {region: _Plan(items=list(items)) for region, items in scene.children.items()}
        self.boxes = {node.id: Box(*size_of(node), diamond=node.shape == "diamond") for node in scene.nodes}
        self.names: list[str] = []
        known: dict[_Piece, None] = {}
        self.routes: list[list[_Piece]] = []
        for edge in scene.edges:
            route = self._route(edge)
            self.routes.append(route)
            known.update(dict.fromkeys(route))
        for piece in known:
            self.plans[piece.region].pieces.append(piece)

    def layout(self) -> Layout:
        """Innermost regions first, then the places of all in the whole."""
        by_depth: dict[int, list[str]] = defaultdict(list)
        for region in self.plans:
            by_depth[len(self.scene.path(region)) if region != TOP else 0].append(region)
        for depth in sorted(by_depth, reverse=True):
            regions = by_depth[depth]
            problems = [self._problem(region) for region in regions]
            for region, problem, solution in zip(regions, problems, self._solve(problems), strict=True):
                self._settle(region, problem, solution)
        frames = self._frames()
        curves = tuple(
            self._curve(edge, route, frames) for edge, route in zip(self.scene.edges, self.routes, strict=True)
        )
        top = self.plans[TOP].box
        return Layout(top.width, top.height, frames, curves, "+".join(dict.fromkeys(self.names)))

    def _route(self, edge: Edge) -> list[_Piece]:
        """The pieces of an edge from the upper to the lower end, through a port on each border between them."""
        upper, lower = (edge.head, edge.tail) if self.scene.runs_upwards(edge) else (edge.tail, edge.head)
        up, down = self.scene.path(upper), self.scene.path(lower)
        shared = sum(1 for a, b in zip(up, down, strict=False) if a == b)
        while up[:shared] != down[:shared]:
            shared -= 1
        meeting = up[shared - 1]
        key = f"{edge.tail} {edge.kind} {upper == edge.tail}"
        if edge.kind == "saved":
            ends = ((*up, upper)[shared], (*down, lower)[shared])
            return [_Piece(meeting, "saved", _End(ends[0]), _End(ends[1]), level=True)]
        pieces, at = [], _End(upper)
        for region in reversed(up[shared:]):
            pieces.append(_Piece(region, key, at, _End(port=self._port(region, "bottom", key))))
            at = _End(region, (region, "bottom", key))
        inner: list[_Piece] = []
        below = _End(lower)
        for region in reversed(down[shared:]):
            inner.append(_Piece(region, key, _End(port=self._port(region, "top", key)), below))
            below = _End(region, (region, "top", key))
        return [*pieces, _Piece(meeting, key, at, below), *reversed(inner)]

    def _port(self, region: str, side: Side, key: str) -> Port:
        port = (region, side, key)
        plan = self.plans[region]
        if port not in plan.slots:
            plan.slots[port] = 0
            plan.ports.append(port)
        return port

    def _problem(self, region: str) -> Problem:
        plan = self.plans[region]
        boxes = [self._box(item) for item in plan.items]
        boxes += [Box(_PORT, _PORT, rank="first" if side == "top" else "last") for _, side, _ in plan.ports]
        number: dict[str | Port, int] = {item: at for at, item in enumerate(plan.items)}
        number |= {port: len(plan.items) + at for at, port in enumerate(plan.ports)}
        links = []
        for piece in plan.pieces:
            tail, head = (number[end.item or end.port or ""] for end in (piece.tail, piece.head))
            links.append(Link(tail, head, self._slot(piece.tail), self._slot(piece.head), piece.level))
        return Problem(tuple(boxes), tuple(links))

    def _box(self, item: str) -> Box:
        return self.plans[item].box if item in self.plans else self.boxes[item]

    def _slot(self, end: _End) -> int | None:
        if not end.item or end.port is None:
            return None
        return self.plans[end.item].slots[end.port]

    def _solve(self, problems: list[Problem]) -> list[Solution]:
        """The engine's answers; a box without links needs no engine."""
        asked = [problem for problem in problems if len(problem.boxes) > 1 or problem.links]
        answers = iter(self._ask(asked) if asked else [])
        return [
            next(answers)
            if len(problem.boxes) > 1 or problem.links
            else Solution(((0.0, 0.0),) * len(problem.boxes), ())
            for problem in problems
        ]

    def _ask(self, problems: list[Problem]) -> list[Solution]:
        for engine in list(self.engines):
            left = self.until - time.monotonic()
            try:
                if left <= 0 and engine is not self.engines[-1]:
                    raise EngineFailed("no time left")
                found = engine.solve(problems, left)
            except EngineFailed:
                self.engines.remove(engine)
                continue
            self.names.append(engine.name)
            return found
        raise EngineFailed("no layout engine answered")

    def _settle(self, region: str, problem: Problem, solution: Solution) -> None:
        """From the engine's plane to the region's own: header above, padding around, ports on the border."""
        plan = self.plans[region]
        curves = {
            piece: curve if curve is not None else self._straight(problem, solution, at)
            for at, (piece, curve) in enumerate(zip(plan.pieces, solution.curves, strict=False))
        }
        corners = [
            (x - box.width / 2, y - box.height / 2) for box, (x, y) in zip(problem.boxes, solution.centres, strict=True)
        ]
        far = [(x + box.width, y + box.height) for box, (x, y) in zip(problem.boxes, corners, strict=True)]
        bends = [point for curve in curves.values() for point in curve]
        left = min((x for x, _ in [*corners, *bends]), default=0.0)
        top = min((y for _, y in [*corners, *bends]), default=0.0)
        right = max((x for x, _ in [*far, *bends]), default=0.0)
        bottom = max((y for _, y in [*far, *bends]), default=0.0)
        sides = {side for _, side, _ in plan.ports}
        above = 0.0 if "top" in sides else _PAD if region == TOP else _PAD + HEADER
        below = 0.0 if "bottom" in sides else _PAD
        least = 0.0 if region == TOP else width_of(shown(self._header(region)), HEADER_SIZE) + 2 * _PAD
        width = max(right - left + 2 * _PAD, least)
        height = max(bottom - top, _PORT) + above + below
        shift = ((width - (right - left)) / 2 - left, above - top)
        plan.corner = {item: _moved(corner, shift) for item, corner in zip(plan.items, corners, strict=False)}
        slots = max(1, int(width // _SLOT), *(sum(side == s for _, s, _ in plan.ports) for side in ("top", "bottom")))
        plan.box = Box(width, height, slots)
        places = {port: _moved(solution.centres[len(plan.items) + at], shift) for at, port in enumerate(plan.ports)}
        self._take_slots(plan, places)
        for piece, curve in curves.items():
            points = tuple(_moved(point, shift) for point in curve)
            plan.curves[piece] = points if piece.level else self._to_border(plan, piece, points)

    def _header(self, region: str) -> str:
        return self.scene.region_by_id[region].header

    def _straight(self, problem: Problem, solution: Solution, at: int) -> tuple[Point, ...]:
        """The line of a link that the engine lost."""
        link = problem.links[at]
        if link.level:
            tail, head = problem.boxes[link.tail], problem.boxes[link.head]
            return across(solution.centres[link.tail], tail.width, solution.centres[link.head], head.width)
        return smooth(list(end_points(problem, solution.centres, link)))

    def _take_slots(self, plan: _Plan, places: dict[Port, Point]) -> None:
        """Each port takes the free slot nearest to where the engine put it, in the same order."""
        count = plan.box.slots
        for side in ("top", "bottom"):
            ports = sorted((port for port in plan.ports if port[1] == side), key=lambda port: places[port])
            taken = -1
            for at, port in enumerate(ports):
                wish = int(places[port][0] / plan.box.width * count)
                taken = max(taken + 1, min(wish, count - (len(ports) - at)))
                plan.slots[port] = taken

    def _to_border(self, plan: _Plan, piece: _Piece, points: tuple[Point, ...]) -> tuple[Point, ...]:
        """The piece with its ends at ports moved to the slots on the border."""
        moved = list(points)
        if piece.tail.port is not None and not piece.tail.item:
            _bend(moved, 0, 1, (slot_offset(plan.box, plan.slots[piece.tail.port]), 0.0))
        if piece.head.port is not None and not piece.head.item:
            _bend(moved, -1, -2, (slot_offset(plan.box, plan.slots[piece.head.port]), plan.box.height))
        return tuple(moved)

    def _frames(self) -> dict[str, Frame]:
        """Places in the whole, outermost regions first."""
        frames = {TOP: Frame(0.0, 0.0, self.plans[TOP].box.width, self.plans[TOP].box.height)}
        for region in (TOP, *self.scene.region_by_id):
            plan, home = self.plans[region], frames[region]
            for item, (x, y) in plan.corner.items():
                box = self._box(item)
                frames[item] = Frame(home.x + x, home.y + y, box.width, box.height)
        return frames

    def _curve(self, edge: Edge, route: list[_Piece], frames: dict[str, Frame]) -> tuple[Point, ...]:
        """The whole edge from its tail to its head."""
        if edge.kind == "saved":
            return self._level_curve(edge, route[0], frames)
        whole: list[Point] = []
        for piece in route:
            home = frames[piece.region]
            points = [_moved(point, (home.x, home.y)) for point in self.plans[piece.region].curves[piece]]
            whole = _joined(whole, self._snapped(piece, points, frames))
        return tuple(reversed(whole)) if self.scene.runs_upwards(edge) else tuple(whole)

    def _level_curve(self, edge: Edge, piece: _Piece, frames: dict[str, Frame]) -> tuple[Point, ...]:
        """The engine's line between two items of one region, drawn on sideways to nodes that lie deeper in them."""
        home = frames[piece.region]
        points = [_moved(point, (home.x, home.y)) for point in self.plans[piece.region].curves[piece]]
        if edge.tail != piece.tail.item:
            points = [*_sideways(frames[edge.tail], points[0]), *points[1:]]
        if edge.head != piece.head.item:
            points = [*points[:-1], *reversed(_sideways(frames[edge.head], points[-1]))]
        return tuple(points)

    def _snapped(self, piece: _Piece, points: list[Point], frames: dict[str, Frame]) -> list[Point]:
        """The piece with its ends exactly on the slots of the inner regions it meets."""
        for end, at, toward, side in ((piece.tail, 0, 1, "bottom"), (piece.head, -1, -2, "top")):
            if end.item and end.port is not None:
                frame, plan = frames[end.item], self.plans[end.item]
                x = frame.x + slot_offset(plan.box, plan.slots[end.port])
                y = frame.y + (frame.height if side == "bottom" else 0.0)
                _bend(points, at, toward, (x, y))
        return points


def _moved(point: Point, shift: Point) -> Point:
    return point[0] + shift[0], point[1] + shift[1]


def _bend(points: list[Point], end: int, toward: int, place: Point) -> None:
    """Move the end of a chain to a place, and the control point next to it by as much."""
    shift = (place[0] - points[end][0], place[1] - points[end][1])
    points[end], points[toward] = place, _moved(points[toward], shift)


def _joined(first: list[Point], second: list[Point]) -> list[Point]:
    """Two chains as one; the second begins where the first ends."""
    return [*first, *second[1:]] if first else second


def _sideways(frame: Frame, place: Point) -> tuple[Point, ...]:
    """A curve from the nearer side of a box to a place."""
    return across((frame.x + frame.width / 2, frame.y + frame.height / 2), frame.width, place, 0.0)
