"""The question a layout engine answers: boxes of fixed size and the links between them, to be placed in layers."""

from __future__ import annotations

from typing import Literal, Protocol

from dgraph.classes import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle to place; `slots` evenly spaced places along its top and bottom can be linked to one by one."""

    width: float
    height: float
    slots: int = 0
    rank: Literal["", "first", "last"] = ""
    diamond: bool = False


@dataclass(frozen=True)
class Link:
    """A line from the bottom of one box to the top of another; a level one asks for both to share a layer."""

    tail: int
    head: int
    tail_slot: int | None = None
    head_slot: int | None = None
    level: bool = False


@dataclass(frozen=True)
class Problem:
    """Boxes and links, both known by their position."""

    boxes: tuple[Box, ...]
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Solution:
    """Centres of the boxes (y grows downwards) and one chain of cubic curves (1 + 3k points) per link, None if lost."""

    centres: tuple[Point, ...]
    curves: tuple[tuple[Point, ...] | None, ...]


class Engine(Protocol):
    """Something that places boxes."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    def solve(self, problems: list[Problem], seconds: float) -> list[Solution]:
        """Place the boxes of each problem, within so many seconds for all; `EngineFailed` if that cannot be done."""
        ...


class EngineFailed(Exception):
    """An engine crashed, ran out of time or answered nonsense; another one is asked instead."""


def slot_offset(box: Box, slot: int) -> float:
    """Distance of a slot from the left side of its box."""
    return box.width * (slot + 0.5) / box.slots


def across(start: Point, start_width: float, end: Point, end_width: float) -> tuple[Point, ...]:
    """A curve from the side of one box to the facing side of another, given their centres and widths."""
    sign = 1.0 if start[0] <= end[0] else -1.0
    leave = (start[0] + sign * start_width / 2, start[1])
    meet = (end[0] - sign * end_width / 2, end[1])
    reach = sign * max(abs(meet[0] - leave[0]) / 2, 18.0)
    return leave, (leave[0] + reach, leave[1]), (meet[0] - reach, meet[1]), meet


def end_points(problem: Problem, centres: tuple[Point, ...], link: Link) -> tuple[Point, Point]:
    """Where a link leaves its tail and meets its head."""
    (tail, head), (tail_at, head_at) = (
        (problem.boxes[link.tail], problem.boxes[link.head]),
        (centres[link.tail], centres[link.head]),
    )
    leave = tail_at[0] if link.tail_slot is None else tail_at[0] - tail.width / 2 + slot_offset(tail, link.tail_slot)
    meet = head_at[0] if link.head_slot is None else head_at[0] - head.width / 2 + slot_offset(head, link.head_slot)
    return (leave, tail_at[1] + tail.height / 2), (meet, head_at[1] - head.height / 2)
