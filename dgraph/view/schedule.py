"""The schedule of a reversed loop as a picture: which step runs when, and what is kept meanwhile.

To the right goes time, one unit for each step that runs; upwards go the steps of the loop. A line at the height of a
step lasts as long as its state or what its reversal needs is in memory, so a cut from top to bottom shows what is
kept at that time. The strip below counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from dgraph.classes import dataclass
from dgraph.view.paint import Group, Picture, Polygon, Rectangle, Text
from dgraph.view.style import BLUE, FILL, INK, LINE, PAPER, QUIET, RED, TITLE_SIZE, TYPE_SIZE, Stroke, shown, width_of

StepKind = Literal["advance", "tape", "reverse"]
Place = Literal["state", "disk", "residuals"]

_MARGIN = 16.0
_LEFT = 46.0
_WIDTH = 760.0
_HEIGHT = 240.0
_STRIP = 46.0
_GAP = 20.0
_LINE = 18.0
_AXIS = Stroke("#8c959f", 0.8)
_STATE = LINE["carry"].colour
_ENTRY = LINE["saved"].colour
_DISK = FILL["index"][1]
_KEPT: dict[Place, str] = {"state": _STATE, "disk": _DISK, "residuals": _ENTRY}
_COLOURS: dict[StepKind, str] = {"advance": BLUE, "tape": _ENTRY, "reverse": RED}
_WORDS = (
    (BLUE, "step run"),
    (_ENTRY, "step run, its residuals kept"),
    (RED, "step reversed"),
    (_STATE, "state kept"),
    (_DISK, "state on disk"),
)


@dataclass(frozen=True)
class Act:
    """A step that runs: forwards, forwards with its residuals kept, or backwards. It takes one unit of time."""

    kind: StepKind
    step: int


@dataclass(frozen=True)
class Kept:
    """The state before a step, in memory or on disk, or the residuals of a step, from one time to another."""

    step: int
    first: int
    last: int
    place: Place


@dataclass(frozen=True)
class Schedule:
    """What a loop of so many steps and its reversal do, in order."""

    title: str
    steps: int
    acts: tuple[Act, ...]
    kept: tuple[Kept, ...]

    @property
    def again(self) -> int:
        """How many steps run more often than once, each further run counted."""
        return sum(act.kind != "reverse" for act in self.acts) - self.steps

    def counts(self, place: Place) -> list[int]:
        """How many states, or residuals, are kept at each time."""
        changes = [0] * (len(self.acts) + 1)
        for item in self.kept:
            if item.place == place:
                changes[item.first] += 1
                changes[item.last] -= 1
        found, total = [], 0
        for change in changes[:-1]:
            total += change
            found.append(total)
        return found


def schedule_picture(title: str, schedules: Sequence[Schedule]) -> Picture:
    """The schedules below one another."""
    y = _MARGIN + TITLE_SIZE
    groups = [Group("title", "title", title, (Text(_MARGIN, y, shown(title, 90), TITLE_SIZE, bold=True),))]
    y += 10.0
    for number, schedule in enumerate(schedules):
        groups.append(_painted(f"schedule{number}", schedule, y))
        y += 2 * _LINE + _HEIGHT + _GAP + _STRIP + 2 * _LINE
    groups.append(_legend(y))
    return Picture(_LEFT + _WIDTH + 2 * _MARGIN, y + _LINE + _MARGIN, title, tuple(groups))


def _painted(name: str, schedule: Schedule, top: float) -> Group:
    left, right = _MARGIN + _LEFT, _MARGIN + _LEFT + _WIDTH
    foot = top + 2 * _LINE + _HEIGHT
    wide, high = _WIDTH / max(len(schedule.acts), 1), _HEIGHT / max(schedule.steps, 1)

    def place(time: float, step: float) -> tuple[float, float]:
        return left + time * wide, foot - step * high

    shapes: list[Rectangle | Polygon | Text] = [
        Text(left, top + _LINE, shown(schedule.title, 110), TYPE_SIZE + 1.0, bold=True),
        Text(left, top + 2 * _LINE - 4.0, _sentence(schedule), TYPE_SIZE, QUIET),
        Rectangle(left, foot - _HEIGHT, _WIDTH, _HEIGHT, PAPER, _AXIS),
    ]
    line = min(max(high * 0.3, 0.6), 4.0)
    for item in schedule.kept:
        x, y = place(item.first, item.step + 0.5)
        shapes.append(Rectangle(x, y - line / 2, (item.last - item.first) * wide, line, _KEPT[item.place]))
    for time, act in enumerate(schedule.acts):
        x, y = place(time, act.step + 1)
        shapes.append(Rectangle(x, y, max(wide * 0.92, 0.5), max(high * 0.92, 0.5), _COLOURS[act.kind]))
    for step in _ticks(schedule.steps):
        y = place(0, step + 0.5)[1] + TYPE_SIZE * 0.36
        shapes.append(Text(left - 6.0 - width_of(str(step), TYPE_SIZE), y, str(step), TYPE_SIZE, QUIET))
    shapes.append(Text(_MARGIN, foot - _HEIGHT - 6.0, "step", TYPE_SIZE, QUIET))
    shapes += _strip(schedule, left, foot + _GAP, wide)
    for time in _ticks(len(schedule.acts)):
        x = place(time, 0)[0]
        shapes.append(Text(x, foot + _GAP + _STRIP + _LINE, str(time), TYPE_SIZE, QUIET))
    label = "steps run so far"
    shapes.append(
        Text(right - width_of(label, TYPE_SIZE), foot + _GAP + _STRIP + 2 * _LINE - 4.0, label, TYPE_SIZE, QUIET)
    )
    return Group(name, "schedule", schedule.title, tuple(shapes))


def _strip(schedule: Schedule, left: float, top: float, wide: float) -> list[Rectangle | Polygon | Text]:
    """How much is in memory over time: residuals on top of states."""
    states, entries = schedule.counts("state"), schedule.counts("residuals")
    most = max((one + other for one, other in zip(states, entries, strict=True)), default=0)
    foot = top + _STRIP
    shapes: list[Rectangle | Polygon | Text] = [Rectangle(left, top, _WIDTH, _STRIP, PAPER, _AXIS)]
    lower = [0] * len(states)
    for counts, colour in ((states, _STATE), (entries, _ENTRY)):
        upper = [one + other for one, other in zip(lower, counts, strict=True)]
        outline = [*_edge(upper), *reversed(_edge(lower))]
        if most and any(counts):
            shapes.append(
                Polygon(tuple((left + time * wide, foot - level * _STRIP / most) for time, level in outline), colour)
            )
        lower = upper
    shapes.append(Text(left - 6.0 - width_of(str(most), TYPE_SIZE), top + TYPE_SIZE, str(most), TYPE_SIZE, QUIET))
    shapes.append(Text(_MARGIN, foot, "kept", TYPE_SIZE, QUIET))
    return shapes


def _edge(levels: Sequence[int]) -> list[tuple[float, int]]:
    """The outline of a staircase."""
    return [(time + end, level) for time, level in enumerate(levels) for end in (0, 1)]


def _sentence(schedule: Schedule) -> str:
    """The schedule in numbers."""
    most = {place: max(schedule.counts(place), default=0) for place in _KEPT}
    entries, on_disk = most["residuals"], f", {most['disk']} states on disk" if most["disk"] else ""
    return (
        f"{schedule.steps} steps, {schedule.again} run again; at most {most['state']} states and the residuals of "
        f"{entries} {'step' if entries == 1 else 'steps'} in memory{on_disk}"
    )


def _ticks(count: int) -> list[int]:
    """At most ten round numbers below `count`."""
    gap = next(gap for power in range(12) for gap in (10**power, 2 * 10**power, 5 * 10**power) if gap * 10 >= count)
    return list(range(0, count, gap))


def _legend(y: float) -> Group:
    shapes: list[Rectangle | Text] = []
    x = _MARGIN + _LEFT
    for colour, word in _WORDS:
        shapes += [Rectangle(x, y, 12.0, 10.0, colour), Text(x + 18.0, y + 9.0, word, TYPE_SIZE, INK)]
        x += 42.0 + width_of(word, TYPE_SIZE)
    return Group("legend", "legend", "colours", tuple(shapes))
