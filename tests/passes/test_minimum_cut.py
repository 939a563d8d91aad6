"""Keep or compute again, against all choices there are."""

import math
import random
import subprocess
import sys
from fractions import Fraction
from itertools import product

import pytest

from dgraph.passes.minimum_cut import Choice, Item, NoChoice, cheapest, trade


def drawn(seed: int, has_compute: bool) -> list[Item]:
    """A random problem of up to 9 items."""
    draw = random.Random(seed)
    items = []
    for at in range(draw.randint(1, 9)):
        operands = tuple(sorted(draw.sample(range(at), draw.randint(0, min(at, 3)))))
        bytes_ = draw.choice([0, None, *(draw.choice([1, 4, 8, 64, 100]) for _ in range(6))])
        seconds = None if not operands or draw.random() < 0.15 else draw.choice([1, 2, 3, 0.1, 0.3, 50])
        if seconds is not None and not has_compute:
            seconds = 0
        moving = draw.choice([0, 0.2, 1.5]) if has_compute and bytes_ else 0
        items.append(Item(bytes_, seconds, operands, draw.random() < 0.4, moving))
    return items


def all_choices(items: list[Item]) -> list[tuple[int, Fraction]]:
    """Bytes and seconds of everything one can do: any items may be kept, the others that are needed are computed."""
    found = []
    for flags in product([False, True], repeat=len(items)):
        needed = {at for at, item in enumerate(items) if item.is_wanted}
        bytes_, seconds = 0, Fraction(0)
        for at in reversed(range(len(items))):
            if at not in needed:
                continue
            item = items[at]
            if flags[at] and item.bytes is not None:
                bytes_ += item.bytes
                seconds += Fraction(item.moving)
            elif not flags[at] and item.seconds is not None:
                seconds += Fraction(item.seconds)
                needed.update(item.operands)
            else:
                break
        else:
            found.append((bytes_, seconds))
    return found


def sums(items: list[Item], choice: Choice) -> tuple[int, Fraction]:
    """What a choice really costs; it must be one."""
    needed = {at for at, item in enumerate(items) if item.is_wanted}
    for at in reversed(range(len(items))):
        if at in needed:
            assert (at in choice.kept) != (at in choice.again)
            if at in choice.again:
                needed.update(items[at].operands)
    assert {*choice.kept, *choice.again} <= needed
    bytes_ = [items[at].bytes for at in choice.kept]
    seconds = [*(items[at].seconds for at in choice.again), *(items[at].moving for at in choice.kept)]
    assert None not in bytes_
    assert None not in seconds
    assert choice.bytes == sum(bytes_)
    total = sum(map(Fraction, seconds), Fraction(0))
    assert choice.seconds == float(total)
    return choice.bytes, total


def cost(found: tuple[int, Fraction], price: float) -> Fraction:
    return found[0] * Fraction(price) + found[1]


@pytest.mark.parametrize("has_compute", [False, True], ids=["bytes alone", "bytes and seconds"])
def test_no_choice_is_cheaper(has_compute: bool):
    impossible = 0
    for seed in range(400):
        items = drawn(seed, has_compute)
        expected = all_choices(items)
        for price in (0, 0.01, 0.1, 0.3, 1, 7):
            if expected:
                choice = cheapest(items, price)
                assert cost(sums(items, choice), price) == min(cost(one, price) for one in expected), seed
                assert cheapest(items, price) == choice
                assert sums(items, cheapest(items, math.inf)) == min(expected)
            else:
                impossible += 1
                with pytest.raises(NoChoice):
                    cheapest(items, price)
    assert impossible, "the draw has problems without an answer"


def hull(points: list[tuple[int, Fraction]]) -> list[tuple[int, Fraction]]:
    """The lower left corners of the convex hull, from the most bytes on."""
    best: dict[int, Fraction] = {}
    for bytes_, seconds in points:
        best[bytes_] = min(seconds, best.get(bytes_, seconds))
    corners: list[tuple[int, Fraction]] = []
    for point in sorted(best.items()):
        if corners and point[1] >= corners[-1][1]:
            continue
        while len(corners) > 1:
            (x, y), (u, v) = corners[-2:]
            if (v - y) * (point[0] - x) < (point[1] - y) * (u - x):
                break
            corners.pop()
        corners.append(point)
    return corners[::-1]


def test_the_trade_is_the_convex_hull_of_all_choices():
    lengths = set()
    for seed in range(400):
        items = drawn(seed, True)
        expected = all_choices(items)
        if expected:
            found = [sums(items, choice) for choice in trade(items)]
            assert found == hull(expected), seed
            lengths.add(len(found))
    assert {1, 2, 3, 4} <= lengths


def test_the_trade_stops_at_so_many_points():
    items = [Item(0, None)]
    for at in range(30):
        items.append(Item(100, float(at + 1), (0,), True))
    assert len(trade(items)) == 31
    some = trade(items, most=5)
    assert len(some) == 5
    assert (some[0].bytes, some[-1].bytes) == (3000, 0)
    assert [choice.bytes for choice in some] == sorted((choice.bytes for choice in some), reverse=True)


def test_of_equal_prices_the_one_that_computes_least():
    items = [Item(0, None), Item(8, 8.0, (0,)), Item(8, 8.0, (1,)), Item(8, 8.0, (2,), True)]
    assert cheapest(items, 1.0) == Choice((3,), (), 8, 0.0)
    assert cheapest(items, 0.0) == Choice((3,), (), 8, 0.0)
    assert cheapest(items, 4.0) == Choice((0,), (1, 2, 3), 0, 24.0)
    assert cheapest(items, 3.0) == Choice((3,), (), 8, 0.0), "24 seconds either way"


def test_recomputed_once_for_all_that_read_it():
    source, middle = Item(0, None), Item(None, 5.0, (0,))
    items = [source, middle, Item(10, 1.0, (1,), True), Item(10, 1.0, (1,), True)]
    assert cheapest(items, 0.3).again == ()
    assert cheapest(items, 0.4).again == (1, 2, 3), "7 seconds against 8"


@pytest.mark.parametrize(
    ("items", "chain", "message"),
    [
        ([Item(None, None, (), True)], (0,), "item 0 is wanted"),
        (
            [Item(None, None), Item(None, 1.0, (0,)), Item(None, 1.0, (1,), True)],
            (0, 1, 2),
            "item 2 is computed from item 0",
        ),
        ([Item(0, None), Item(None, None, (0,)), Item(None, 2.0, (0, 1), True)], (1, 2), "computed from item 1"),
    ],
)
def test_what_can_neither_be_kept_nor_computed_is_named(items: list[Item], chain: tuple[int, ...], message: str):
    with pytest.raises(NoChoice, match=message) as fault:
        cheapest(items, 1.0)
    assert fault.value.chain == chain
    with pytest.raises(NoChoice):
        trade(items)


def test_a_long_chain_takes_no_recursion():
    items = [Item(0, None), *(Item(8, 1.0, (at,)) for at in range(5000))]
    items[-1] = Item(8, 1.0, (4999,), True)
    assert cheapest(items, 1.0) == Choice((5000,), (), 8, 0.0)


def test_no_library_is_loaded_for_it():
    code = (
        "import sys, dgraph.passes.minimum_cut as m; m.trade([m.Item(0, None), m.Item(8, 1.0, (0,), True)]);"
        "sys.exit(bool({'scipy', 'networkx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
