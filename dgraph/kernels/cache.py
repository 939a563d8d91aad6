"""An on-disk cache of bytes: object code, and whatever the front end keeps, under keys that are hashes.

Safe with several processes: an entry is written aside and renamed into place, and checked against its own hash when it
is read, so that a damaged one counts as missing. A directory that cannot be read or written is no cache, not an error.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import llvmlite

from dgraph.classes import dataclass

DIRECTORY_VARIABLE = "DGRAPH_CACHE_DIR"
_MAGIC = b"dgraph01"
_DIGEST_SIZE = hashlib.sha256().digest_size
_HEADER_SIZE = len(_MAGIC) + _DIGEST_SIZE
_SUFFIX = ".bin"
_EVICT_TO = 0.75
# A file that is still being written after an hour was left behind by a process that died.
_ABANDONED = 3600.0
# The share of writers that look for what to remove; together they write at most so much of the bound unseen.
_LOOKING = 1 / 64


def default_directory() -> Path:
    """`DGRAPH_CACHE_DIR`, else the platform's place for caches."""
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "dgraph"


def make_key(kind: str, content: str | bytes, **facts: object) -> str:
    """The key of an entry: a hash of what it was made from, of the options, and of its makers."""
    digest = hashlib.sha256()
    digest.update(json.dumps([kind, facts, makers()], sort_keys=True, default=str).encode())
    digest.update(b"\0")
    digest.update(content.encode() if isinstance(content, str) else content)
    return digest.hexdigest()


@functools.cache
def makers() -> tuple[str, str, str]:
    """What else decides a result: the versions of dgraph and of LLVM, and the state of dgraph's own files.

    The files count because a version does not change with every edit of a development tree.
    """
    package = sys.modules[__name__.partition(".")[0]]
    root = Path(str(package.__file__)).parent
    digest = hashlib.sha256()
    # A checkout has its grammars beside the package.
    for path, size, changed in sorted([*_files(root), *_files(root.parent / "grammar")]):
        digest.update(f"{path} {size} {changed}\n".encode())
    return package.__version__, llvmlite.__version__, digest.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, int, int]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir() and entry.name != "__pycache__":
                yield from _files(Path(entry.path))
            elif entry.is_file():
                facts = entry.stat()
                yield entry.path, facts.st_size, facts.st_mtime_ns


@dataclass(frozen=True)
class Cache:
    """Entries in one directory, bounded in total size; those unused for longest go first."""

    directory: Path
    byte_limit: int = 512 * 1024 * 1024

    @classmethod
    def default(cls) -> Cache:
        """The cache in the default directory."""
        return cls(default_directory())

    def get(self, key: str) -> bytes | None:
        """The entry of a key, or None if there is none, or none that is whole."""
        path = self._path(key)
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        header, content = stored[:_HEADER_SIZE], stored[_HEADER_SIZE:]
        if header != _MAGIC + hashlib.sha256(content).digest():
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        # The time of last use decides what is evicted; many systems do not record reads themselves.
        with contextlib.suppress(OSError):
            os.utime(path)
        return content

    def got_or_made(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The entry of a key, made and kept if there is none."""
        content = self.get(key)
        if content is None:
            content = make()
            self.put(key, content)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep an entry, replacing one of that key; does nothing where the directory cannot be written."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        except OSError:
            return
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(content).digest() + content)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            return
        # To look at every entry takes long where there are many, so only some writers do, large ones more often.
        if random.random() < max(_LOOKING, len(content) / (_LOOKING * self.byte_limit)):
            self._evict(path)

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / (key[2:] + _SUFFIX)

    def _evict(self, keep: Path) -> None:
        """Remove entries, oldest use first, once the bound is passed; others may be removing the same ones."""
        entries = []
        for path in self.directory.glob("??/*"):
            with contextlib.suppress(OSError):
                facts = path.stat()
                if path.suffix == _SUFFIX:
                    entries.append((facts.st_mtime_ns, facts.st_size, path))
                elif facts.st_mtime < time.time() - _ABANDONED:
                    path.unlink()
        total = sum(size for _, size, _ in entries)
        if total <= self.byte_limit:
            return
        for _, size, path in sorted(entries):
            if total <= self.byte_limit * _EVICT_TO:
                return
            if path != keep:
                with contextlib.suppress(OSError):
                    path.unlink()
                total -= size
