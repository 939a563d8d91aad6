"""Dataclasses that write their methods late do what those of the standard library do."""

import copy
import dataclasses
from types import SimpleNamespace

import pytest

from dgraph.classes import dataclass


def kinds(maker):
    """The same classes by either decorator."""

    @maker(frozen=True)
    class Point:
        x: float
        y: float = 2.0
        tags: list[str] = dataclasses.field(default_factory=list, compare=False, repr=False)

    @maker(frozen=True)
    class Solid(Point):
        z: float = 3.0

        def __post_init__(self):
            if self.z < 0:
                raise ValueError("below")

    @maker
    class Open:
        x: int
        rest: dict[str, int] = dataclasses.field(default_factory=dict, init=False)

    @maker(frozen=True, slots=True, eq=False)
    class Tight:
        x: int

    @maker(frozen=True, kw_only=True)
    class Named:
        x: int
        y: int = 1

    @maker(frozen=True)
    class ByHand:
        x: int

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 7

        def __repr__(self):
            return "by hand"

    return SimpleNamespace(Point=Point, Solid=Solid, Open=Open, Tight=Tight, Named=Named, ByHand=ByHand)


PAIR = [kinds(dataclasses.dataclass), kinds(dataclass)]


def outcome(act):
    """What an act gives, or the kind of fault."""
    try:
        return act()
    except (TypeError, ValueError, AttributeError) as fault:
        return type(fault)


@pytest.mark.parametrize(
    "act",
    [
        lambda k: repr(k.Point(1.0)),
        lambda k: (
            k.Point(1.0) == k.Point(1.0),
            k.Point(1.0) == k.Point(1.0, 3.0),
            k.Point(1.0) != k.Point(1.0),
            k.Point(1.0) == 1,
            hash(k.Point(1.0, 2.5)),
        ),
        lambda k: (
            k.Point(1.0) == k.Solid(1.0),
            k.Solid(1.0) == k.Solid(1.0),
            k.Solid(1.0) == k.Solid(1.0, 2.0, 4.0),
            repr(k.Solid(1.0, z=9.0)),
        ),
        lambda k: k.Solid(1.0, z=-1.0),
        lambda k: k.Point(),
        lambda k: k.Point(1.0, 2.0, [], 4),
        lambda k: k.Point(x=1.0, w=2.0),
        lambda k: k.Point(1.0).tags is k.Point(1.0).tags,
        lambda k: k.Point(1.0, tags=["a"]) == k.Point(1.0),
        lambda k: setattr(k.Point(1.0), "x", 2.0),
        lambda k: delattr(k.Point(1.0), "x"),
        lambda k: (k.Point.y, k.Point.__match_args__, [f.name for f in dataclasses.fields(k.Point)]),
        lambda k: dataclasses.replace(k.Point(1.0), y=7.0) == k.Point(1.0, 7.0),
        lambda k: dataclasses.asdict(k.Point(1.0)),
        lambda k: copy.copy(k.Point(1.0)) == k.Point(1.0),
        lambda k: (repr(k.Open(1)), k.Open(1) == k.Open(1), k.Open(1).rest),
        lambda k: hash(k.Open(1)),
        lambda k: k.Open(1, {}),
        lambda k: setattr(k.Open(1), "x", 2),
        lambda k: (k.Tight(1).x, k.Tight(1) == k.Tight(1), repr(k.Tight(1)), hasattr(k.Tight(1), "__dict__")),
        lambda k: setattr(k.Tight(1), "x", 2),
        lambda k: (repr(k.Named(x=1)), k.Named(x=1) == k.Named(x=1, y=1)),
        lambda k: k.Named(1),
        lambda k: (k.ByHand(1) == k.ByHand(2), hash(k.ByHand(1)), repr(k.ByHand(1))),
    ],
)
def test_a_class_behaves_as_one_of_the_standard_library(act):
    theirs, ours = (outcome(lambda known=known: act(known)) for known in PAIR)
    assert theirs == ours


def test_instances_that_were_not_initialised_compare():
    point = kinds(dataclass).Point
    first, second = point.__new__(point), point.__new__(point)
    for made in (first, second):
        vars(made).update(x=1.0, y=2.0, tags=[])
    assert first == second
    assert hash(first) == hash(second)


def test_a_class_that_names_itself_is_shown_once():
    made = kinds(dataclass).Open(1)
    made.rest["me"] = made
    assert "..." in repr(made)
