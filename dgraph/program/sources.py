"""The files on which a program's meaning rests, so that what a cache knows of it is used only while they are as they
were."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dgraph.errors import DgraphError
from dgraph.kernels.cache import Cache, make_key
from dgraph.reader.files import normalise, read_file

if TYPE_CHECKING:
    from dgraph.frontend import Module
    from dgraph.program.functions import Program

Files = list[tuple[str, str | None]]


def read_through(program: Program) -> None:
    """Read a program, unless a cache knows that these very texts have been read before. Raises `DgraphError` if it or
    a module that it imports is faulty."""
    key = make_key("read", program.digest)
    stored = Cache.default()
    entry = stored.get(key)
    if entry is None or not still_stands(json.loads(entry)):
        stored.put(key, json.dumps(program.files).encode())


def files_read(module: Module, beside: Path | None) -> Files:
    """The files on which the meaning of a program rests: each that was read from outside the package with a hash of
    its text, and, with None, each place where a file would win over the module of the standard library in use."""
    if beside is None:
        return []
    # Only modules of the standard library have no prelude; a script may well stand in a folder called `std`.
    own = [at for at in module.family if at.prelude is not None]
    found: dict[str, str | None] = {}
    for at in own:
        for item in at.tree.items:
            path = getattr(item, "path", None)
            if path is not None:
                found.setdefault(str((beside / Path(*path).with_suffix(".dg")).absolute()), None)
    found |= {str(Path(at.source.path).absolute()): text_hash(at.source.text) for at in own}
    return sorted(found.items())


def still_stands(read: Files) -> bool:
    """Whether what `files_read` wrote down is so still."""
    for path, digest in read:
        file = Path(path)
        if digest is None:
            if file.is_file():
                return False
            continue
        try:
            text = read_file(file)
        except DgraphError:
            return False
        if text_hash(normalise(text)) != digest:
            return False
    return True


def text_hash(text: str) -> str:
    """A hash of a text as the reader gives it."""
    return hashlib.sha256(text.encode()).hexdigest()
