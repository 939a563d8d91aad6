"""The files on which a program's meaning rests, so that a cached function is used only while they are as they were."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from dgraph.reader.files import normalise, read_file

if TYPE_CHECKING:
    from dgraph.frontend import Module


def files_read(module: Module, beside: Path | None) -> list[tuple[str, str | None]]:
    """The files on which the meaning of a program rests: each that was read from outside the package with a hash of
    its text, and, with None, each place where a file would win over the module of the standard library in use."""
    found: list[tuple[str, str | None]] = []
    if beside is None:
        return found
    waiting, seen = [module], {id(module)}
    while waiting:
        at = waiting.pop()
        file = Path(at.source.path)
        if at.source.path.startswith("std/"):
            found.append((str(beside.resolve() / Path(*at.name.split(".")).with_suffix(".dg")), None))
        else:
            found.append((str(file.resolve()), text_hash(at.source.text)))
        for entry in at.names.values():
            if id(entry.module) not in seen:
                seen.add(id(entry.module))
                waiting.append(entry.module)
    return sorted(found)


def still_stands(read: list[tuple[str, str | None]]) -> bool:
    """Whether what `files_read` wrote down is so still."""
    for path, digest in read:
        file = Path(path)
        if digest is None:
            if file.is_file():
                return False
        elif not file.is_file() or text_hash(normalise(read_file(file))) != digest:
            return False
    return True


def text_hash(text: str) -> str:
    """A hash of a text as the reader gives it."""
    return hashlib.sha256(text.encode()).hexdigest()
