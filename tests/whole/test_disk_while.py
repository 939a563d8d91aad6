"""`@checkpoint(slots=c, disk=d)` on a `while`: the same bits, as many steps, writes and reads as foretold, and no more
states in memory or on disk than asked for."""

import random
from collections import Counter

import numpy as np
import pytest

import dgraph as dg
import dgraph.ops.disk
from dgraph.ir.evaluate import evaluate
from dgraph.kernels import disk_store
from dgraph.ops.binomial import run_again_online
from dgraph.ops.two_levels import TwoLevels
from dgraph.program.pipeline import stage
from dgraph.types import F64, Array

from .test_checkpoint_while import (
    BRANCHES,
    FOR_IN_WHILE,
    ONE,
    SCALARS,
    TRIPS,
    WHILE_IN_FOR,
    WHILE_IN_WHILE,
    gradient,
    same,
)

WISHES = ["slots=1, disk=1", "slots=2, disk=3", "slots=1, disk=100", 'slots=3, disk="200B"', 'budget="60B", disk=4']
NESTS = {
    "while in for": WHILE_IN_FOR,
    "for in while": FOR_IN_WHILE,
    "while in while": WHILE_IN_WHILE,
    "branches": BRANCHES,
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ONE)
def test_the_disk_changes_no_bit(name: str):
    text, arguments = ONE[name]
    expected: dict[int, object] = {}
    for wish in ["none", *WISHES]:
        graph = stage(gradient(text.format(wish), ("y", "s")).graph, "optimised")
        for trips in TRIPS:
            found = tuple(evaluate(graph, arguments(trips)))
            assert same(found, expected.setdefault(trips, found)), (wish, trips)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("name", "wish"), [("scalars", WISHES[1]), ("updates", WISHES[4]), ("noise", WISHES[3])])
def test_nor_in_compiled_code(name: str, wish: str):
    text, arguments = ONE[name]
    plain, disk = (gradient(text.format(one), ("y", "s")) for one in ("none", wish))
    for trips in TRIPS:
        assert same(plain(*arguments(trips)), disk(*arguments(trips))), trips


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", NESTS)
def test_nor_in_nests(name: str):
    expected: dict[int, object] = {}
    one, other = "slots=1, disk=2", 'slots=2, disk="500B"'
    for pair in (("none", "none"), (one, other), ("none", one), (one, "none"), ("every=2", one), (one, "every=2")):
        text = NESTS[name].format(*(f"@checkpoint({wish})" for wish in pair))
        graph = stage(gradient(text, ("y", "s")).graph, "optimised")
        for trips in (0, 1, 2, 7):
            found = tuple(evaluate(graph, ([0.1, 0.2, 0.3], 0.5, trips)))
            assert same(found, expected.setdefault(trips, found)), (pair, trips)


@pytest.mark.usefixtures("eager")
def test_nor_in_a_nest_that_is_compiled():
    text = WHILE_IN_WHILE.format(*["@checkpoint(slots=1, disk=2)"] * 2)
    plain, disk = gradient(WHILE_IN_WHILE.format("", ""), ("y", "s")), gradient(text, ("y", "s"))
    for trips in (0, 1, 7):
        assert same(plain([0.1, 0.2, 0.3], 0.5, trips), disk([0.1, 0.2, 0.3], 0.5, trips))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["scalars", "updates"])
def test_nor_in_second_derivatives(name: str):
    text, arguments = ONE[name]
    expected: dict[int, object] = {}
    for wish in ["none", "slots=1, disk=2", 'slots=2, disk="1kB"']:
        graph = stage(dg.hessian(dg.parse(text.format(wish)).f, wrt="y").graph, "optimised")
        for trips in (0, 1, 4, 9):
            found = tuple(evaluate(graph, arguments(trips)))
            assert same(found, expected.setdefault(trips, found)), (wish, trips)


TWICE = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    a = y
    b = y
    i = 0
    j = 0
    {0}
    while i < n:
        a = sin(s * a)
        i += 1
    {0}
    while j < n:
        b = sin(s * b)
        j += 1
    return sum(a * b) + sum(b)
"""


@pytest.mark.usefixtures("eager")
def test_two_loops_that_are_one_share_states():
    plain, disk = (
        tuple(evaluate(stage(gradient(TWICE.format(f"@checkpoint({wish})"), ("y", "s")).graph, "optimised"), given))
        for wish in ("none", "slots=1, disk=3")
        for given in [([0.1, 0.2, 0.3], 0.5, 40)]
    )
    assert same(plain, disk)


# ---- counts ----------------------------------------------------------------------------------------------------------


def counted(slots: int, disk: int, steps: int) -> tuple[tuple[int, int, int], int]:
    """How many steps run forwards, and how many states are written and read, as the interpreter runs it; and the rows
    of memory for states."""
    seen: Counter[str] = Counter()
    rows: set[int] = set()

    def watch(node, _results):
        seen[node.op.name] += 1
        for value in node.results:
            if node.op.name == "undefined" and isinstance(value.type, Array) and value.type.dtype == F64:
                rows.add(value.type.shape[0].constant)

    text = SCALARS.format(f"slots={slots}, disk={disk}")
    graph = stage(gradient(text, ("y", "s")).graph, "optimised")
    evaluate(graph, ([0.1, 0.2, 0.3], 0.5, steps), observer=watch)
    return (seen["sin"], seen["disk_write"], seen["disk_read"]), max(rows)


@pytest.mark.parametrize("is_eager", [False, True])
@pytest.mark.parametrize(("slots", "disk"), [(1, 1), (1, 2), (2, 3), (3, 1), (4, 20), (5, 100)])
def test_steps_writes_and_reads_are_those_foretold(
    slots: int, disk: int, is_eager: bool, request: pytest.FixtureRequest
):
    if is_eager:
        request.getfixturevalue("eager")
    plan = dgraph.ops.disk.two_levels(slots, disk)
    draw = random.Random(slots * 100 + disk)
    for steps in {0, 1, 2, max(slots - 1, 0), slots, slots + 1, 10 * slots, *(draw.randint(3, 150) for _ in range(4))}:
        found, rows = counted(slots, disk, steps)
        assert found == plan.counted_online(steps), steps
        assert rows == slots + 1, "one more for the state at work"


class Watched(disk_store.Store):
    """Counts the states that are on disk at once, and those that are left."""

    most = 0
    left = 0

    def _place(self, count: int) -> int:
        Watched.most = max(Watched.most, len(self._states))
        return super()._place(count)

    def close(self) -> None:
        Watched.left += len(self._states)
        super().close()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("disk", [1, 2, 5])
def test_no_more_states_are_on_disk_than_asked_for(disk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(disk_store, "Store", Watched)
    monkeypatch.setattr(Watched, "most", 0)
    monkeypatch.setattr(Watched, "left", 0)
    function = gradient(SCALARS.format(f"slots=2, disk={disk}"), ("y",))
    for steps in (0, 1, 2, 3, 30, 100):
        function([0.1, 0.2, 0.3], 0.5, steps)
    assert Watched.most == disk
    assert Watched.left == 0, "every state is given back"


def test_the_disk_is_near_the_best_that_is_possible():
    """The cost, a write and a read being five steps, beside that of a loop whose number of steps is known, and beside
    that of a loop that keeps its states in memory."""
    beside_known, beside_memory = [], []
    for slots in (1, 2, 3, 5, 8, 20):
        for disk in (2, 5, 20, 100):
            plan = TwoLevels(slots, disk)
            for steps in (30, 100, 300, 1000, 3000):
                online, known = (
                    advances + 5 * (writes + reads)
                    for advances, writes, reads in (plan.counted_online(steps), plan.counted(steps))
                )
                beside_known.append(online / (known + 1))
                beside_memory.append(online / (steps + run_again_online(steps, slots)))
    assert np.mean(beside_known) < 1.16 and max(beside_known) < 1.55
    assert np.mean(beside_memory) < 0.7 and max(beside_memory) < 1.55


def test_a_loop_that_fits_into_memory_writes_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(disk_store.Store, "_place", lambda *_: pytest.fail("a state was written"))
    function = gradient(SCALARS.format("slots=8, disk=20"), ("y",))
    for steps in (0, 1, 8, 40):
        function([0.1, 0.2, 0.3], 0.5, steps)


def test_the_room_is_set_by_each_call():
    text = SCALARS.format("slots=max(n // 50, 1), disk=n // 20 + 1")
    plain, disk = gradient(SCALARS.format("none"), ("y", "s")), gradient(text, ("y", "s"))
    for steps in (0, 7, 100, 400):
        assert same(plain([0.1, 0.2, 0.3], 0.5, steps), disk([0.1, 0.2, 0.3], 0.5, steps))
