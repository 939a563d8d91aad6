"""Rooms of the arena: none in use at once overlap, and little is lost."""

import numpy as np
import pytest

from dgraph.kernels.rooms import LINE, Room, arrange, crowd, rounded
from dgraph.sizes import size, variable


def random_rooms(random: np.random.Generator) -> list[Room]:
    count = int(random.integers(1, 40))
    starts = np.sort(random.integers(0, 60, count))
    return [
        Room(f"a{at}", variable("n") * int(random.integers(0, 9)) + int(random.integers(0, 300)), int(start), int(end))
        for at, start in enumerate(starts)
        for end in [start + random.integers(0, 20)]
    ]


def test_rooms_in_use_at_once_do_not_overlap_and_little_is_lost():
    random = np.random.default_rng(0)
    ratios = []
    for _ in range(300):
        rooms, n = random_rooms(random), int(random.integers(0, 200))
        found = arrange(rooms, {"n": n}.__getitem__)
        counts = [rounded(room.bytes.evaluate({"n": n}.__getitem__)) for room in rooms]
        places = list(zip(rooms, found.offsets, counts, strict=True))
        assert found.total == max(offset + count for _, offset, count in places)
        for at, (room, offset, count) in enumerate(places):
            assert offset >= 0 and offset % LINE == 0
            for other, start, length in places[:at]:
                if room.first <= other.last and other.first <= room.last:
                    assert offset + count <= start or start + length <= offset
        needed = sum(count for count, _ in crowd(rooms, {"n": n}.__getitem__))
        assert found.total >= needed
        ratios.append(found.total / needed)
    assert max(ratios) < 1.5
    assert np.mean(ratios) < 1.05


def test_many_rooms_go_where_few_would(monkeypatch):
    random = np.random.default_rng(1)
    for _ in range(100):
        rooms, known = random_rooms(random), {"n": int(random.integers(0, 200))}.__getitem__
        found = []
        for many in (0, 100):
            monkeypatch.setattr("dgraph.kernels.rooms.MANY", many)
            found.append(arrange(rooms, known))
        assert found[0] == found[1]


def test_rooms_of_other_formulas_share_memory():
    n, m = variable("n"), variable("m")
    rooms = [Room("a", n * m * 8, 1, 3), Room("b", n * 8, 2, 6), Room("c", m * m * 8, 4, 6), Room("d", size(0), 5, 5)]
    for known in ({"n": 100, "m": 10}, {"n": 10, "m": 100}, {"n": 0, "m": 0}):
        found = arrange(rooms, known.__getitem__)
        a, b, c, d = (rounded(room.bytes.evaluate(known.__getitem__)) for room in rooms)
        assert found.total == b + max(a, c + d)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128])
def test_rooms_are_whole_lines(count):
    assert rounded(count) == max(64, -(-count // 64) * 64)


def test_the_crowd_is_what_is_in_use_where_most_is():
    rooms = [Room("a", size(640), 1, 2), Room("b", size(64), 2, 5), Room("c", size(320), 4, 5)]
    assert [room.name for _, room in crowd(rooms, {}.__getitem__)] == ["a", "b"]
    assert crowd([], {}.__getitem__) == []
