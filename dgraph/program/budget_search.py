"""The cheapest way in which a call keeps within a budget: ways to keep less are planned and priced, and the one that
takes least time by the model is taken of those that fit.

Time is traded for bytes at one price of a byte, the same for what each step of a loop keeps and for what straight code
keeps. The prices at which something changes are levels, and the least that fits is found by halving. Between it and the
level before, a knapsack chooses what need not change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import partial

from dgraph.classes import dataclass
from dgraph.errors import ArgumentError, Diagnostic, Label, Span
from dgraph.kernels.allowance import Allowance, OverBudget, Setting
from dgraph.kernels.rooms import crowd
from dgraph.passes.body_curves import BEYOND, BodyCurve, BodyPoint
from dgraph.passes.costs import Costs
from dgraph.passes.keeping import KeepingLoop, by_arguments, keeping_loops
from dgraph.passes.knapsack import pick
from dgraph.passes.trade_off import Point as StraightPoint
from dgraph.passes.trade_off import TradeOff
from dgraph.program.budgets import Point, Way, Ways, is_shown
from dgraph.sizes import in_units, size

LOOPS = 6
"""How many loops are looked at that may keep some states only, those first that keep most."""
MOST_SLOTS = 2**20
"""How many states a loop keeps at most whose steps nobody can count."""
NAMED = 3
"""How many arrays are named where a budget is too small."""
ATTEMPTS = 3
"""How often the room of the knapsack is made smaller when what it chose does not fit."""


def choose(ways: Ways, point: Point) -> tuple[Way, Allowance]:
    """The cheapest way that keeps within the budget at the sizes of a call. Raises `ArgumentError` if there is none."""
    return _Search(ways, point).best()


class _Search:
    """The search for the cheapest way at the sizes of a call."""

    def __init__(self, ways: Ways, point: Point) -> None:
        self.ways = ways
        self.point = point
        inputs = ways.graph.region.inputs
        costs = Costs({**point.known, **{inputs[at]: number for at, number in point.numbers.items()}})
        self.loops, self.seconds = keeping_loops(ways.graph, costs)
        self.steps = {
            loop.at: size(MOST_SLOTS) if loop.steps is None else by_arguments(loop.steps, inputs, costs)
            for loop in self.loops
        }
        self.failed = _Failed(ways, point)
        self.found: tuple[float, Way, Allowance] | None = None

    def best(self) -> tuple[Way, Allowance]:
        """The cheapest way that fits: as it is, with less kept of each step and of straight code, with loops that keep
        some states only, or with both.

        Raises `ArgumentError` if none does.
        """
        if self.tried(Way()) is None:
            self.weigh(Way())
            for least, loops in self.forms():
                if self.found is None or least < self.found[0]:
                    way = Way(loops)
                    if self.tried(way) is None:
                        self.weigh(way)
        if self.found is None and self.failed.least is not None:
            self.compute_again(self.failed.least[1])
        if self.found is None:
            raise self.failed.error()
        return self.found[1:]

    def forms(self) -> Iterator[tuple[float, tuple[tuple[int, str], ...]]]:
        """Loops that might keep some states only, with the kinds of their settings, and how many times as long a call
        takes then at least."""
        largest = sorted(self.loops, key=lambda loop: -loop.bytes)[:LOOPS]
        for count in range(1, len(largest) + 1):
            again = sum(loop.seconds * self.runs(loop) for loop in largest[:count] if loop.steps is not None)
            for loops in _kinds(largest[:count]):
                yield 1 + again / self.seconds if self.seconds else 1.0, loops

    def runs(self, loop: KeepingLoop) -> int:
        """How many steps of a loop run in all."""
        return loop.runs * max(self.steps[loop.at].evaluate(self.point.all.__getitem__), 1)

    def tried(self, way: Way, added: float = 0.0, bodies: tuple[tuple[str, int, int], ...] = ()) -> int | None:
        """The peak of a way, None if it does not fit; the cheapest of those that do is remembered."""
        plan = self.ways.plan(way)
        settings = []
        for at, kind in way.loops:
            loop = self.loops[at]
            seconds = 0.0 if loop.steps is None else loop.seconds * loop.runs
            settings.append(Setting(plan.names[at], kind, self.steps[at], seconds))
        words = tuple(f"{self.loops[at].span}" for at, _ in way.loops)
        again = self.ways.places(way)
        allowance = Allowance(self.ways.budget, tuple(settings), self.seconds, added, words, again, bodies)
        try:
            numbers = allowance.chosen(partial(self.point.memory, plan), self.point.all)
        except OverBudget as fault:
            self.failed.add(way, fault.least)
            return None
        price = allowance.slowdown(numbers, self.point.all)
        if self.found is None or price < self.found[0]:
            self.found = price, way, allowance
        return self.point.memory(plan, numbers).peak

    def compute_again(self, way: Way) -> None:
        """Try a way with forward values of its straight code computed again: as few as fit, found by halving the curve
        of bytes against seconds."""
        graph, names = self.ways.optimised(way)
        search = TradeOff(graph, {**self.point.known, **dict.fromkeys(names.values(), 1)}, None)
        curve = [point for point in search.curve() if point.again]
        low, high = 0, len(curve)
        while low < high:
            middle = (low + high) // 2
            again = tuple(sorted(search.halves.places[value] for value in curve[middle].again))
            if self.tried(replace(way, again=again), curve[middle].seconds) is not None:
                high = middle
            else:
                low = middle + 1

    # ---- prices of a byte -------------------------------------------------------------------------------------------

    def weigh(self, way: Way) -> None:
        """Try a way with less kept of the steps of its loops and, if all loops keep all steps, of straight code."""
        bodies = self.ways.bodies(way, self.point)
        if not any(len(body.points) > 1 for body in bodies):
            if not way.loops:
                self.compute_again(way)
            return
        levels = _Levels(self, way, bodies)
        low, high = 0, len(levels.all) - 1
        room = levels.room(levels.all[high])
        if room is None:
            return
        while low < high:
            middle = (low + high) // 2
            found = levels.room(levels.all[middle])
            if found is not None:
                high, room = middle, found
            else:
                low = middle + 1
        levels.keeping_more(levels.all[high], room)


@dataclass(frozen=True)
class _Level:
    """What a byte costs in the bodies at each place, and in straight code; items of bodies that stay in spite of it."""

    places: Mapping[str, float]
    straight: float
    stay: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class _Levels:
    """The levels of a way, from the fastest to the one that keeps least."""

    def __init__(self, search: _Search, way: Way, bodies: Sequence[BodyCurve]) -> None:
        self.search = search
        self.way = way
        self.bodies = bodies
        self.runs = {f"{search.loops[at].span}": search.runs(search.loops[at]) for at, _ in way.loops}
        self.straight: list[tuple[float, StraightPoint, tuple[int, ...]]] = []
        if not way.loops:
            self.add_straight()
        places = dict.fromkeys(body.place for body in bodies)
        plain = [place for place in places if place not in self.runs]
        # What a block of steps keeps is less than what all steps keep, at as much work: it has its turn after them.
        self.all: list[_Level] = []
        held = dict.fromkeys(places, 0.0)
        for group in (plain, list(self.runs)):
            prices = {point.price for body in bodies if body.place in group for point in body.points}
            if group is plain:
                prices |= {price for price, _, _ in self.straight}
            for price in sorted(prices):
                held.update(dict.fromkeys((place for place in group if place in places), price))
                self.all.append(_Level(dict(held), price if group is plain else max(prices, default=0.0)))

    def add_straight(self) -> None:
        """Find the points of straight code that are the cheapest at some price of a byte."""
        search = TradeOff(self.search.ways.optimised(self.way)[0], self.search.point.known, None)
        corners: list[tuple[float, StraightPoint]] = []
        for point in search.curve():
            price = 0.0
            while corners:
                start, last = corners[-1]
                price = (point.seconds - last.seconds) / (last.peak - point.peak) * BEYOND
                if price > start:
                    break
                corners.pop()
            corners.append((price if corners else 0.0, point))
        for price, point in corners:
            again = tuple(sorted(search.halves.places[value] for value in point.again))
            self.straight.append((price, point, again))

    def code(self, level: _Level) -> tuple[StraightPoint, tuple[int, ...]] | None:
        """What straight code computes again at a level, None if there is no choice."""
        found = [entry[1:] for entry in self.straight if entry[0] <= level.straight]
        return found[-1] if found else None

    def sums(self, body: BodyCurve, level: _Level) -> tuple[int, float]:
        """The bytes and seconds of all steps of a loop at a level."""
        point, runs = self.point(body, level), self.runs.get(body.place, body.runs)
        return point.bytes * runs, point.seconds * runs

    def point(self, body: BodyCurve, level: _Level) -> BodyPoint:
        """What a step of a loop keeps at a level."""
        stay = level.stay.get(body.place)
        if stay:
            return next(point for point in body.between if point.stay == stay)
        return body.at(level.places[body.place])

    def room(self, level: _Level) -> int | None:
        """How many bytes of the budget are left at a level; None if it does not fit."""
        search, first = self.search, _Level(dict.fromkeys(level.places, 0.0), 0.0)
        added = sum(self.sums(body, level)[1] - self.sums(body, first)[1] for body in self.bodies)
        code = self.code(level)
        again: tuple[int, ...] = ()
        if code is not None:
            added += code[0].seconds
            again = code[1]
        told = []
        for place in level.places:
            here = [body for body in self.bodies if body.place == place]
            now = sum(self.point(body, level).bytes for body in here)
            most = sum(body.points[0].bytes for body in here)
            if now < most:
                told.append((place, now, most))
        prices = tuple(level.places.items())
        stay = tuple(level.stay.items())
        way = replace(self.way, again=again, prices=prices, stay=stay, sizes=search.point.sizes)
        peak = search.tried(way, added, tuple(told))
        return None if peak is None else search.ways.budget - peak

    def keeping_more(self, slow: _Level, room: int) -> None:
        """Try a level with more kept by some loops or by straight code: a knapsack of what saves most time in the bytes
        that are left."""
        names: list[str | None] = list(slow.places)
        faster = {place: self.faster(place, slow) for place in slow.places}
        groups = [[self.saved(place, point, slow) for point in faster[place]] for place in slow.places]
        code = self.code(slow)
        if code is not None:
            names.append(None)
            quicker = [entry for entry in self.straight if entry[0] < slow.straight]
            groups.append([(one.peak - code[0].peak, code[0].seconds - one.seconds) for _, one, _ in quicker])
        for _ in range(ATTEMPTS):
            places, straight, stay = dict(slow.places), slow.straight, dict[str, tuple[int, ...]]()
            for name, taken in zip(names, pick(groups, room), strict=True):
                if taken is not None and name is None:
                    straight = self.straight[taken][0]
                elif taken is not None and name is not None:
                    places[name], items = faster[name][taken]
                    stay.update({name: items} if items else {})
            level = _Level(places, straight, stay)
            if level == slow or self.room(level) is not None:
                return
            room //= 2

    def faster(self, place: str, slow: _Level) -> list[tuple[float, tuple[int, ...]]]:
        """The prices, and the items that stay, with which more of the steps at a place is kept."""
        here = [body for body in self.bodies if body.place == place]
        prices = {point.price for body in here for point in body.points if point.price < slow.places[place]}
        between = {(point.price, point.stay) for body in here for point in body.between}
        return [*((price, ()) for price in sorted(prices)), *sorted(between)]

    def saved(self, place: str, choice: tuple[float, tuple[int, ...]], slow: _Level) -> tuple[int, float]:
        """How many bytes more a choice at a place takes, and the seconds that it saves; nothing if it is no better."""
        price, stay = choice
        level = _Level({place: price}, 0.0, {place: stay})
        pairs = [(self.sums(body, level), self.sums(body, slow)) for body in self.bodies if body.place == place]
        bytes_ = sum(one[0] - other[0] for one, other in pairs)
        return max(bytes_, 0), sum(other[1] - one[1] for one, other in pairs) if bytes_ > 0 else 0.0


def _kinds(loops: Sequence[KeepingLoop]) -> Iterator[tuple[tuple[int, str], ...]]:
    """Kinds of settings for some loops: all blocks, all slots, slots for the first and blocks for the others. A loop
    whose steps nobody can count has slots."""
    ordered = sorted(loops, key=lambda loop: loop.at)
    forms = [[loop.steps is None or slotted for loop in ordered] for slotted in (False, True)]
    forms.append([loop.steps is None or loop is loops[0] for loop in ordered])
    for form in dict.fromkeys(map(tuple, forms)):
        yield tuple((loop.at, "slots" if slotted else "every") for loop, slotted in zip(ordered, form, strict=True))


class _Failed:
    """The ways that do not fit: that which needs least, and what cannot be foretold."""

    def __init__(self, ways: Ways, point: Point) -> None:
        self.ways = ways
        self.point = point
        self.least: tuple[int, Way, Mapping[str, int]] | None = None
        self.open: dict[Span, str] = {}

    def add(self, way: Way, settings: Mapping[str, int]) -> None:
        """Note a way with the settings that take least."""
        plan = self.ways.plan(way)
        told = self.point.memory(plan, settings)
        if told.open:
            self.open.update({tape.span: tape.words for tape in plan.interface.tapes if tape.total is None})
        elif self.least is None or told.peak < self.least[0]:
            self.least = told.peak, way, settings

    def error(self) -> ArgumentError:
        """The least that is needed and what takes it, or the loops whose steps nobody can count beforehand."""
        words = self.ways.words
        if self.least is None:
            unknown = "how often this runs only the run knows"
            labels = tuple(Label(span, unknown) for span in self.open if is_shown(span))
            title = f"what {words} keeps cannot be foretold, so it has no budget"
            return ArgumentError(
                Diagnostic(title, labels[:NAMED], "leave `@checkpoint(none)` out, or write `@checkpoint(slots=8)`")
            )
        peak, way, settings = self.least
        plan = self.ways.plan(way)
        known = {**self.point.known, **settings}
        held: dict[Span, list[tuple[int, str]]] = {}
        for count, room in crowd(plan.interface.rooms, known.__getitem__):
            if is_shown(room.span) and (len(held) < NAMED or room.span in held):
                held.setdefault(room.span, []).append((count, room.name))
        labels = tuple(Label(span, _held(parts)) for span, parts in held.items())
        title = (
            f"{words} needs at least {in_units(peak)} for these arguments, its budget is {in_units(self.ways.budget)}"
        )
        results = self.point.memory(plan, settings).results
        note = (
            f"the least are {peak} bytes, {results} of them for results, with all left out that can be computed again"
        )
        return ArgumentError(Diagnostic(title, labels, note))


def _held(parts: Sequence[tuple[int, str]]) -> str:
    """What is held at a place, in words."""
    names = list(dict.fromkeys(f"`{name}`" for _, name in parts))
    return f"{in_units(sum(count for count, _ in parts))} for {', '.join(names[:NAMED])}"
