"""`@checkpoint(slots=c, disk=d)`: the same bits, faults told in place, no file left, memory as small as was said."""

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
import dgraph.ops.disk
from dgraph.errors import CheckFailed
from dgraph.ir.evaluate import evaluate
from dgraph.kernels import disk_store
from dgraph.ops.two_levels import TwoLevels
from dgraph.program.pipeline import stage

from .test_checkpoint import PROGRAMS_OF_ONE, PROGRAMS_OF_TWO, SCALARS, TRIPS, gradient, same
from .test_checkpoint_while import SCALARS as ONLINE

WISHES = ["slots=1, disk=1", "slots=2, disk=3", "slots=1, disk=100", 'slots=3, disk="200B"', 'budget="60B", disk=4']
POSIX = pytest.mark.skipif(os.name != "posix", reason="the file has a name there")


class File:
    """A file that does what another one does."""

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.fixture
def file_of(monkeypatch: pytest.MonkeyPatch):
    make = disk_store.tempfile.TemporaryFile

    def use(kind):
        monkeypatch.setattr(disk_store.tempfile, "TemporaryFile", lambda **options: kind(make(**options)))

    return use


@pytest.fixture
def written(file_of) -> list[int]:
    """The bytes of every array that compiled code writes."""
    found: list[int] = []

    class Counted(File):
        def write(self, memory):
            found.append(len(memory))
            return self.file.write(memory)

    file_of(Counted)
    return found


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", PROGRAMS_OF_ONE)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_the_disk_changes_no_bit(name: str, is_compiled: bool):
    text, arguments, wrt = PROGRAMS_OF_ONE[name]
    expected: dict[int, object] = {}
    for wish in ["none", *WISHES]:
        function = gradient(text.format(wish), wrt)
        graph = None if is_compiled else stage(function.graph, "optimised")
        for trips in TRIPS:
            given = arguments(trips)
            found = function(*given) if graph is None else tuple(evaluate(graph, given))
            assert same(found, expected.setdefault(trips, found)), (wish, trips)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", PROGRAMS_OF_TWO)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_nor_in_nested_loops_and_branches(name: str, is_compiled: bool):
    expected: dict[int, object] = {}
    one, other = "slots=1, disk=2", 'slots=2, disk="500B"'
    for pair in (("none", "none"), (one, other), ("none", one), (one, "none"), ("every=2", one), (one, "every=2")):
        function = gradient(PROGRAMS_OF_TWO[name].format(*(f"@checkpoint({wish})" for wish in pair)), ("y", "s"))
        graph = None if is_compiled else stage(function.graph, "optimised")
        for trips in (0, 1, 2, 7):
            given = ([0.1, 0.2, 0.3], 0.5, trips)
            found = function(*given) if graph is None else tuple(evaluate(graph, given))
            assert same(found, expected.setdefault(trips, found)), (pair, trips)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", ["scalars", "rows", "updates"])
def test_nor_in_second_derivatives(name: str):
    text, arguments, wrt = PROGRAMS_OF_ONE[name]
    expected: dict[int, object] = {}
    for wish in ["none", "slots=1, disk=2", 'slots=2, disk="1kB"']:
        function = dg.hessian(dg.parse(text.format(wish)).f, wrt=wrt[0])
        for trips in (0, 1, 4, 9):
            found = function(*arguments(trips))
            assert same(found, expected.setdefault(trips, found)), (wish, trips)


@pytest.mark.usefixtures("eager")
def test_two_loops_that_are_one_share_states():
    text = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    a = y
    b = y
    {0}
    for i in range(n):
        a = sin(s * a)
    {0}
    for i in range(n):
        b = sin(s * b)
    return sum(a * b) + sum(b)
"""
    given = ([0.1, 0.2, 0.3], 0.5, 40)
    for wish in ("slots=1, disk=3", "slots=1, disk=100"):
        plain, disk = (gradient(text.format(f"@checkpoint({w})"), ("y", "s")) for w in ("none", wish))
        assert same(plain(*given), disk(*given))
        one, other = (tuple(evaluate(stage(f.graph, "optimised"), given)) for f in (plain, disk))
        assert same(one, other)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("wish", ["slots=1, disk=3", 'slots=1, disk="1kB"'])
def test_states_of_nothing(wish: str, written: list[int]):
    text = """
def f[m](x: f64[m], n: i32) -> f64:
    y = x
    total = 0.0
    @checkpoint({0})
    for i in range(n):
        y = sin(y)
    @checkpoint({0})
    for i in range(n):
        total += sin(sum(x) + 0.1 * i)
    return sum(y) + total
"""
    plain, disk = (gradient(text.format(way), ("x",)) for way in ("none", wish))
    assert same(plain(np.zeros(0), 30), disk(np.zeros(0), 30))
    assert written == [], "the states of the first loop have no bytes, and the second loop has none"


def test_states_of_every_dtype(written: list[int]):
    text = """
def f(y: f32[4], s: f64, n: i64, k: key) -> f64:
    flag = True
    count: i32 = 0
    z = s
    seen: i64[3] = zeros()
    @checkpoint({})
    for i in range(n):
        k, now = split(k)
        noise: f32 = normal(now)
        seen[i % 3] += 1
        count += 1
        flag = not flag
        y = sin(y + noise) * (f32(seen[1] % 5) + 1.0) if flag else cos(y) + f32(count % 3)
        z = sin(z) + 0.01 * f64(sum(y))
    return z + f64(sum(y))
"""
    given = (np.linspace(0, 1, 4, dtype="f4"), 0.4, 100, 7)
    plain, disk = (gradient(text.format(wish), ("y", "s")) for wish in ("none", "slots=1, disk=6"))
    assert same(plain(*given), disk(*given))
    assert {1, 4, 8, 16, 24} <= set(written)


def test_as_many_bytes_are_written_as_there_are_states(written: list[int]):
    function = gradient(SCALARS.format("slots=2, disk=4"), ("y",))
    function([0.1, 0.2, 0.3], 0.5, 300)
    plan = TwoLevels(2, 4)
    assert plan.is_worth(300, 4)
    assert set(written) == {24}
    assert 4 <= len(written) < 30


# ---- the file --------------------------------------------------------------------------------------------------------


def open_files() -> set[str]:
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


@pytest.fixture(params=[SCALARS, ONLINE], ids=["for", "while"])
def slow_loop(request: pytest.FixtureRequest) -> dg.Function:
    return gradient(request.param.format("slots=2, disk=4"), ("y",))


GIVEN = ([0.1, 0.2, 0.3], 0.5, 300)


@POSIX
def test_the_file_has_no_name_and_is_closed(slow_loop: dg.Function, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    opened = []
    make = disk_store.tempfile.TemporaryFile

    def watched(**options):
        opened.append((make(**options), list(tmp_path.iterdir())))
        return opened[-1][0]

    monkeypatch.setattr(disk_store.tempfile, "TemporaryFile", watched)
    slow_loop(*GIVEN)
    ((file, names),) = opened
    assert names == [] and file.closed


def fault_of(function: dg.Function) -> CheckFailed:
    with pytest.raises(CheckFailed) as found:
        function(*GIVEN)
    said = str(found.value)
    assert re.search("for i in range|while i < n", said) and "this loop keeps states on disk" in said
    return found.value


class Cut(File):
    """A file that a program has cut short."""

    def readinto(self, memory):
        self.file.truncate(10)
        return self.file.readinto(memory)


class Full(File):
    """A file without room after the second state."""

    def __init__(self, file):
        super().__init__(file)
        self.writes = 0

    def write(self, memory):
        self.writes += 1
        if self.writes > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(memory)


class Slow(File):
    """A file that takes a few bytes at a time."""

    def write(self, memory):
        return self.file.write(memory[:5])

    def readinto(self, memory):
        return self.file.readinto(memory[:7])


class Broken(File):
    """A file whose disk fails."""

    def readinto(self, memory):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class Interrupted(File):
    """A person presses Ctrl-C."""

    def readinto(self, memory):
        raise KeyboardInterrupt


def test_a_file_that_is_cut_short_is_told(slow_loop: dg.Function, file_of):
    expected = slow_loop(*GIVEN)
    file_of(Cut)
    assert "is lost: 24 of 24 bytes are missing" in str(fault_of(slow_loop))
    file_of(lambda file: file)
    assert same(slow_loop(*GIVEN), expected), "the next call is not harmed"


def test_a_full_disk_is_told(slow_loop: dg.Function, file_of):
    file_of(Full)
    said = str(fault_of(slow_loop))
    assert re.search(r"no room on disk for a state of 24 bytes: (48|52|72) are in use", said)
    assert "TMPDIR" in said


def test_a_failing_disk_is_told(slow_loop: dg.Function, file_of):
    file_of(Broken)
    assert f"could not be read in {disk_store.Store().folder}: {os.strerror(errno.EIO)}" in str(fault_of(slow_loop))


def test_a_folder_that_is_not_there_is_told(slow_loop: dg.Function, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("in the way")
    for name in ("absent", "file"):
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))
        assert "no file can be made in" in str(fault_of(slow_loop))
    monkeypatch.delenv("TMPDIR")
    slow_loop(*GIVEN)


def test_files_that_take_a_little_at_a_time(slow_loop: dg.Function, file_of):
    expected = slow_loop(*GIVEN)
    file_of(Slow)
    assert same(slow_loop(*GIVEN), expected)


def test_an_interrupt_stops_the_run_and_closes_the_file(slow_loop: dg.Function, file_of):
    before = open_files()
    file_of(Interrupted)
    with pytest.raises(KeyboardInterrupt):
        slow_loop(*GIVEN)
    assert open_files() == before


def test_a_failed_check_closes_the_file():
    text = """
def f(y: f64, n: i32) -> f64:
    @checkpoint(slots=1, disk=5)
    for i in range(n):
        assert i < 150, "too far"
        y = sin(y)
    return y
"""
    before = open_files()
    with pytest.raises(CheckFailed, match="too far"):
        gradient(text, ("y",))(0.5, 200)
    assert open_files() == before


def test_threads_have_files_of_their_own(slow_loop: dg.Function):
    starts = [np.array([0.1, 0.2, 0.3]) * k for k in range(8)]
    expected = [slow_loop(start, 0.5, 300) for start in starts]
    found: list[object] = [None] * 8

    def work(at: int) -> None:
        for _ in range(5):
            found[at] = slow_loop(starts[at], 0.5, 300)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))


RUN = """
from pathlib import Path
import numpy as np
import dgraph as dg
TEXT = '''
def f[m](y: f64[m], n: i32) -> f64:
    @checkpoint({wish})
    for i in range(n):
        y = y + 0.1 * sin(y)
    return sum(y)
'''
f = dg.value_and_grad(dg.parse(TEXT).f, wrt="y")
f(np.zeros(3), 2)
def kilobytes(name):
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])
before = 0
if Path("/proc/self/clear_refs").exists():
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
print("ready", flush=True)
value, slope = f(np.linspace(0, 1, {cells}), {steps})
print(kilobytes("VmHWM") - before if before else 0, hash(slope.tobytes()))
"""


def started(wish: str, cells: int, steps: int, folder: Path) -> subprocess.Popen[str]:
    text = textwrap.dedent(RUN).format(wish=wish, cells=cells, steps=steps)
    known = {**os.environ, "TMPDIR": str(folder), "PYTHONHASHSEED": "0"}
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, env=known)


@pytest.mark.skipif(sys.platform != "linux", reason="the resident set is read from /proc")
def test_only_the_states_in_memory_are_in_memory(tmp_path: Path):
    """2 MB a state: 60 of them on disk, 3 in memory and a few at work."""
    cells, steps = 250_000, 300
    grown = {}
    for wish in ("slots=3, disk=60", "slots=3", "slots=63"):
        said, _ = started(wish, cells, steps, tmp_path).communicate(timeout=300)
        _, kilobytes, bits = said.split()
        grown[wish] = int(kilobytes) / 1953, bits
    (both, bits), (few, bits_of_few), (many, bits_of_many) = grown.values()
    assert bits == bits_of_few == bits_of_many
    assert few < 3 + 9, "the slots and what is at work"
    assert both < few + 2, "one state more while it is read"
    assert many > few + 55


@POSIX
def test_a_process_that_is_killed_leaves_nothing(tmp_path: Path):
    process = started("slots=2, disk=50", 100_000, 100_000, tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    folder = Path(f"/proc/{process.pid}/fd")
    for _ in range(600):
        if not folder.exists() or any(str(tmp_path) in str(link.readlink()) for link in folder.iterdir()):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.iterdir()) == []


PLAIN_OUTSIDE = """
def f(y: f64, n: i64) -> f64:
    for i in range(n):
        @checkpoint({})
        for j in range(20):
            y = sin(y) + 0.1 * y
    return y
"""


@pytest.mark.usefixtures("eager")
def test_in_a_plain_loop_the_states_of_one_run_are_on_disk(monkeypatch: pytest.MonkeyPatch):
    expected, function = (gradient(PLAIN_OUTSIDE.format(wish), ("y",)) for wish in ("none", "slots=1, disk=3"))
    ends: list[int] = []
    close = disk_store.Store.close

    def closed(store: disk_store.Store) -> None:
        ends.append(store._end)
        close(store)

    monkeypatch.setattr(disk_store.Store, "close", closed)
    for n in (1, 9):
        assert function(0.3, n) == expected(0.3, n)
    assert set(ends) == {3 * 8}
    step = dg.compile(function)
    assert step.memory(0.3, 900).peak - step.memory(0.3, 9).peak < 900 * 16, "the start of each run is kept"


@pytest.mark.usefixtures("eager")
def test_nor_are_there_more_where_it_is_interpreted(monkeypatch: pytest.MonkeyPatch):
    held: list[int] = []
    write = dgraph.ops.disk.DiskWrite.execute

    def counted(op, interpreter, node, operands):
        found = write(op, interpreter, node, operands)
        held.append(len(interpreter.states))
        return found

    monkeypatch.setattr(dgraph.ops.disk.DiskWrite, "execute", counted)
    graphs = [
        stage(make(dg.parse(PLAIN_OUTSIDE.format(wish)).f).graph, "optimised")
        for make in (dg.grad, lambda f: dg.grad(dg.grad(f)))
        for wish in ("none", "slots=1, disk=3")
    ]
    for n in (0, 1, 5):
        assert evaluate(graphs[0], [0.3, n]) == evaluate(graphs[1], [0.3, n])
        assert not held or max(held) == 3
        held.clear()
        assert evaluate(graphs[2], [0.3, n]) == evaluate(graphs[3], [0.3, n])
        held.clear()
