"""The on-disk cache: round trips, several processes, damage, directories that cannot be used, eviction."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from dgraph.kernels.cache import Cache, default_directory, make_key, makers


def entries(directory: Path) -> list[Path]:
    return sorted(directory.glob("??/*.bin"))


def test_what_was_put_is_got(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    key = make_key("object", "source")
    assert cache.get(key) is None
    cache.put(key, b"machine code")
    assert cache.get(key) == b"machine code"
    cache.put(key, b"")
    assert cache.get(key) == b""


def test_a_key_depends_on_kind_content_and_facts() -> None:
    keys = {
        make_key("object", "a"),
        make_key("object", "b"),
        make_key("graph", "a"),
        make_key("object", "a", cpu="znver5"),
        make_key("object", "a", cpu="skylake"),
    }
    assert len(keys) == 5
    assert make_key("object", "a", cpu="x", level=3) == make_key("object", b"a", level=3, cpu="x")


@pytest.mark.parametrize("module", ["dgraph", "llvmlite"])
def test_a_key_depends_on_the_versions_of_the_makers(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_key("object", "a")
    makers.cache_clear()
    assert make_key("object", "a") == before
    monkeypatch.setattr(f"{module}.__version__", "0.0")
    makers.cache_clear()
    assert make_key("object", "a") != before
    makers.cache_clear()


def test_a_key_depends_on_the_files_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels").mkdir()
    part = tmp_path / "kernels" / "part.py"
    part.write_text("one")
    monkeypatch.setattr("dgraph.__file__", str(tmp_path / "__init__.py"))
    makers.cache_clear()
    before = make_key("object", "a")
    part.write_text("other")
    makers.cache_clear()
    assert make_key("object", "a") != before
    monkeypatch.undo()
    makers.cache_clear()


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "foreign"])
def test_a_damaged_entry_counts_as_missing_and_is_replaced(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path)
    key = make_key("object", "source")
    cache.put(key, bytes(range(256)) * 10)
    (path,) = entries(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "truncated": whole[:-1],
            "empty": b"",
            "flipped": whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
            "foreign": b"something else entirely",
        }[damage]
    )
    assert cache.get(key) is None
    assert entries(tmp_path) == []
    cache.put(key, b"new")
    assert cache.get(key) == b"new"


def test_a_directory_that_is_a_file_is_no_cache(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    cache = Cache(blocked / "cache")
    cache.put(make_key("object", "a"), b"1")
    assert cache.get(make_key("object", "a")) is None


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_directory_that_cannot_be_written_is_no_cache(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    cache = Cache(tmp_path)
    cache.put(make_key("object", "a"), b"1")
    assert cache.get(make_key("object", "a")) is None
    tmp_path.chmod(0o700)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, __: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cache = Cache(tmp_path)
    cache.put(make_key("object", "a"), b"1")
    assert cache.get(make_key("object", "a")) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, byte_limit=10_000)
    keys = [make_key("object", str(number)) for number in range(12)]
    for age, key in enumerate(keys[:9]):
        cache.put(key, bytes(1000))
        path = next(path for path in entries(tmp_path) if path.stem == key[2:])
        os.utime(path, (1000 + age, 1000 + age))
    assert cache.get(keys[0]) is not None  # used just now: the youngest
    cache.put(keys[9], bytes(1000))
    present = [key for key in keys if cache.get(key) is not None]
    assert keys[0] in present
    assert keys[9] in present
    assert keys[1] not in present
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 10_000


def test_an_entry_beyond_the_bound_survives_until_the_next(tmp_path: Path) -> None:
    cache = Cache(tmp_path, byte_limit=100)
    key = make_key("object", "large")
    cache.put(key, bytes(1000))
    assert cache.get(key) == bytes(1000)


def test_few_writers_look_at_every_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(Cache, "_evict", lambda _cache, keep: looked.append(keep))
    for number in range(640):
        Cache(tmp_path).put(make_key("object", str(number)), b"1")
    assert 0 < len(looked) < 64
    Cache(tmp_path, byte_limit=6400).put(make_key("object", "large"), bytes(100))
    assert looked[-1].read_bytes().endswith(bytes(100))


def test_files_that_a_dead_process_left_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgraph.kernels.cache._LOOKING", 1)
    cache = Cache(tmp_path)
    key = make_key("object", "a")
    cache.put(key, b"1")
    folder = entries(tmp_path)[0].parent
    old, young = folder / ".new-old", folder / ".new-young"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    cache.put(key, b"2")
    assert not old.exists()
    assert young.exists()


def test_the_environment_chooses_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DGRAPH_CACHE_DIR", str(tmp_path / "here"))
    assert default_directory() == tmp_path / "here"
    assert Cache.default().directory == tmp_path / "here"
    monkeypatch.delenv("DGRAPH_CACHE_DIR")
    assert default_directory().name == "dgraph"


def _write_and_read(directory: str, seed: int, count: int) -> int:
    """Put and get the same few keys over and over; the number of wrong answers."""
    cache = Cache(Path(directory), byte_limit=60_000)
    wrong = 0
    for step in range(count):
        number = (seed + step) % 5
        key = make_key("object", str(number))
        content = bytes([number]) * (5000 + number)
        cache.put(key, content)
        found = cache.get(key)
        wrong += found is not None and found != content
    return wrong


def test_several_processes_write_the_same_keys(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        wrong = pool.starmap(_write_and_read, [(str(tmp_path), seed, 100) for seed in range(4)])
    assert wrong == [0, 0, 0, 0]
    cache = Cache(tmp_path)
    for number in range(5):
        assert cache.get(make_key("object", str(number))) == bytes([number]) * (5000 + number)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 5
