"""The built-in engine: layers by longest path, barycentre ordering, curves through the gaps; it never gets stuck."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from dgraph.classes import dataclass
from dgraph.view.boxes import Box, Link, Point, Problem, Solution, across, end_points

_GAP_X = 20.0
_GAP_Y = 30.0
_SWEEPS = 8
_BEND_WIDTH = 6.0


@dataclass(frozen=True)
class Layered:
    """Layered drawing in time almost linear in the length of all links."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return "layered"

    def solve(self, problems: list[Problem], seconds: float) -> list[Solution]:
        """Place the boxes of each problem."""
        return [_solve(problem) for problem in problems]


def _solve(problem: Problem) -> Solution:
    ranks = _ranks(problem)
    grid = _Grid(problem, ranks)
    grid.order()
    grid.spread()
    return grid.solution()


def _ranks(problem: Problem) -> list[int]:
    """The layer of each box: one below its lowest predecessor, links of a cycle's last step left out."""
    count = len(problem.boxes)
    after: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for link in _acyclic(problem):
        after[link.tail].append((link.head, 0 if link.level else 1))
    waiting = [0] * count
    for followers in after:
        for head, _ in followers:
            waiting[head] += 1
    order = [box for box in range(count) if not waiting[box]]
    lowest = int(any(box.rank == "first" for box in problem.boxes))
    ranks = [0 if box.rank == "first" else lowest for box in problem.boxes]
    for box in order:
        for head, step in after[box]:
            ranks[head] = max(ranks[head], ranks[box] + step)
            waiting[head] -= 1
            if not waiting[head]:
                order.append(head)
    for box in reversed(order):
        if after[box] and problem.boxes[box].rank != "first":
            ranks[box] = max(ranks[box], min(ranks[head] - step for head, step in after[box]))
    last = max(ranks, default=0)
    body = [ranks[n] for n, box in enumerate(problem.boxes) if box.rank != "last"]
    if any(box.rank == "last" for box in problem.boxes) and body:
        last = max(body) + 1
    return [last if box.rank == "last" else rank for box, rank in zip(problem.boxes, ranks, strict=True)]


def _acyclic(problem: Problem) -> list[Link]:
    """The links without those that close a cycle, found by a walk in depth that keeps its own stack."""
    leaving: dict[int, list[Link]] = defaultdict(list)
    for link in problem.links:
        if link.tail != link.head:
            leaving[link.tail].append(link)
    state = [0] * len(problem.boxes)
    kept: list[Link] = []
    for start in range(len(problem.boxes)):
        if state[start]:
            continue
        state[start] = 1
        stack = [(start, iter(leaving[start]))]
        while stack:
            box, links = stack[-1]
            for link in links:
                if state[link.head] == 1:
                    continue
                kept.append(link)
                if not state[link.head]:
                    state[link.head] = 1
                    stack.append((link.head, iter(leaving[link.head])))
                    break
            else:
                state[box] = 2
                stack.pop()
    return kept


class _Grid:
    """Boxes and the bends of long links in their layers."""

    def __init__(self, problem: Problem, ranks: list[int]) -> None:
        self.problem = problem
        self.ranks = list(ranks)
        self.boxes: list[Box] = list(problem.boxes)
        self.above: dict[int, list[int]] = defaultdict(list)
        self.below: dict[int, list[int]] = defaultdict(list)
        self.bends: list[list[int]] = []
        for link in problem.links:
            self.bends.append(self._thread(link))
        self.layers: list[list[int]] = [[] for _ in range(max(self.ranks, default=0) + 1)]
        for box, rank in enumerate(self.ranks):
            self.layers[rank].append(box)
        self.x = [0.0] * len(self.boxes)
        self.y = [0.0] * len(self.boxes)

    def _thread(self, link: Link) -> list[int]:
        """A bend in each layer that the link passes, joined to its neighbours."""
        top, bottom = sorted((link.tail, link.head), key=lambda box: self.ranks[box])
        bends = []
        previous = top
        for rank in range(self.ranks[top] + 1, self.ranks[bottom]):
            bend = len(self.boxes)
            self.boxes.append(Box(_BEND_WIDTH, 0.0))
            self.ranks.append(rank)
            self._join(previous, bend)
            bends.append(bend)
            previous = bend
        if self.ranks[top] != self.ranks[bottom]:
            self._join(previous, bottom)
        return bends if top == link.tail else bends[::-1]

    def _join(self, upper: int, lower: int) -> None:
        self.above[lower].append(upper)
        self.below[upper].append(lower)

    def order(self) -> None:
        """Sort each layer by the mean place of its neighbours, downwards and upwards in turn."""
        place = {box: float(at) for layer in self.layers for at, box in enumerate(layer)}
        for sweep in range(_SWEEPS):
            near = self.above if sweep % 2 == 0 else self.below
            for layer in self.layers if sweep % 2 == 0 else reversed(self.layers):
                wish = {box: _mean((place[other] for other in near[box]), place[box]) for box in layer}
                layer.sort(key=lambda box: wish[box])
                place.update((box, float(at)) for at, box in enumerate(layer))

    def spread(self) -> None:
        """Coordinates: layers under one another, each box near its neighbours without touching the next."""
        top = 0.0
        for layer in self.layers:
            tallest = max((self.boxes[box].height for box in layer), default=0.0)
            for box in layer:
                self.y[box] = top + tallest / 2
            top += tallest + _GAP_Y + 2.0 * len(layer) ** 0.5
            self._pack(layer, dict.fromkeys(layer, 0.0))
        for sweep in range(_SWEEPS):
            near = self.above if sweep % 2 == 0 else self.below
            for layer in self.layers if sweep % 2 == 0 else reversed(self.layers):
                self._pack(layer, {box: _mean((self.x[other] for other in near[box]), self.x[box]) for box in layer})

    def _pack(self, layer: list[int], wish: dict[int, float]) -> None:
        """Nearest legal places to the wished ones: runs that would overlap move as one (isotonic regression)."""
        shift, runs = 0.0, list[list[float]]()
        offset: list[float] = []
        for at, box in enumerate(layer):
            if at:
                shift += (self.boxes[layer[at - 1]].width + self.boxes[box].width) / 2 + _GAP_X
            offset.append(shift)
            runs.append([wish[box] - shift, 1.0])
            while len(runs) > 1 and runs[-2][0] > runs[-1][0]:
                mean, weight = runs.pop()
                total = runs[-1][1] + weight
                runs[-1] = [(runs[-1][0] * runs[-1][1] + mean * weight) / total, total]
        places = (mean for mean, weight in runs for _ in range(int(weight)))
        for box, base, from_left in zip(layer, places, offset, strict=True):
            self.x[box] = base + from_left

    def solution(self) -> Solution:
        """Centres and curves."""
        count = len(self.problem.boxes)
        centres = tuple((self.x[box], self.y[box]) for box in range(count))
        curves = []
        for link, bends in zip(self.problem.links, self.bends, strict=True):
            curves.append(self._curve(link, bends, centres))
        return Solution(centres, tuple(curves))

    def _curve(self, link: Link, bends: list[int], centres: tuple[Point, ...]) -> tuple[Point, ...]:
        if link.tail == link.head:
            return self._loop(link, centres)
        if link.level and self.ranks[link.tail] == self.ranks[link.head]:
            widths = (self.boxes[link.tail].width, self.boxes[link.head].width)
            return across(centres[link.tail], widths[0], centres[link.head], widths[1])
        start, end = end_points(self.problem, centres, link)
        return smooth([start, *((self.x[bend], self.y[bend]) for bend in bends), end])

    def _loop(self, link: Link, centres: tuple[Point, ...]) -> tuple[Point, ...]:
        box, (x, y) = self.boxes[link.tail], centres[link.tail]
        side, half = x + box.width / 2, min(box.height / 2, 14.0)
        out = side + 16.0
        low, high = (side, y + half * 0.6), (side, y - half * 0.6)
        return (low, (out, y + half), (out, y + half * 0.6), (out, y), (out, y - half * 0.6), (out, y - half), high)


def smooth(stops: list[Point]) -> tuple[Point, ...]:
    """A chain of cubic curves through the stops, upright at each of them."""
    points = [stops[0]]
    for (x0, y0), (x1, y1) in pairwise(stops):
        middle = (y0 + y1) / 2
        points += [(x0, middle), (x1, middle), (x1, y1)]
    return tuple(points)


def _mean(places: Iterable[float], otherwise: float) -> float:
    found = list(places)
    return sum(found) / len(found) if found else otherwise
