"""Files: grammars beside or inside the package, programs with their limits and encodings, results written whole."""

from __future__ import annotations

import errno
import os
import tempfile
from functools import cache
from pathlib import Path

from dgraph.errors import ArgumentError, Diagnostic, Label, ParseError, Source, Span

LIMIT = 1_000_000
"""The largest program, in bytes."""


@cache
def grammar_text(name: str) -> str:
    """The text of a file of `grammar/`: from the installed package, else from the checkout."""
    from importlib.resources import files

    packaged = files("dgraph").joinpath("grammar", name)
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "grammar" / name).read_text(encoding="utf-8")


def read_file(path: str | Path) -> str:
    """The text of a program file, or a `ParseError` that says why it is not one."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as fault:
        raise ParseError(Diagnostic(f"cannot read `{path}`: {fault.strerror or fault}")) from None
    return decode(data, str(path))


def decode(data: bytes, path: str) -> str:
    """The text of a program from its bytes, or a `ParseError` that says why they are not one."""
    if len(data) > LIMIT:
        raise too_large(path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as fault:
        shown = normalise(data.decode("utf-8", errors="replace"))
        if "\0" in shown:
            raise not_text(Source(path, shown)) from None
        at = len(normalise(data[: fault.start].decode("utf-8")))
        place = Span(Source(path, shown), at, at + 1)
        raise ParseError(
            Diagnostic(
                f"this file is not UTF-8 text: byte {fault.start} is 0x{data[fault.start]:02x}",
                (Label(place, "cannot be decoded"),),
                "save the file as UTF-8",
            )
        ) from None


def normalise(text: str) -> str:
    """The text without a byte order mark, and with line feeds as line ends."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def prepare(text: str, path: str) -> Source:
    """The source of a text, or a `ParseError` if it is too large or not text at all."""
    if len(text) > LIMIT or len(text.encode("utf-8", "surrogatepass")) > LIMIT:
        raise too_large(path)
    source = Source(path, normalise(text))
    if "\0" in source.text:
        raise not_text(source)
    return source


def too_large(path: str) -> ParseError:
    """The refusal of a program over the limit."""
    return ParseError(
        Diagnostic(
            f"`{path}` is larger than a program may be",
            note=f"a program has at most {LIMIT:,} bytes; keep data in .npz or .csv files and split code over modules",
        )
    )


def not_text(source: Source) -> ParseError:
    """The refusal of a binary file."""
    at = source.text.index("\0")
    place = Span(source, at, at + 1)
    # The line itself is not shown: it would put the bytes of a binary file on the reader's screen.
    return ParseError(
        Diagnostic(
            "this is not text: it holds a NUL byte",
            (Label(place, "here"),),
            "a program is a text file in UTF-8",
        )
    )


def write_whole(target: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new one, never a part. Raises `ArgumentError`."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.chmod(_permissions(target))
            draft.replace(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as fault:
        raise ArgumentError(Diagnostic(f"`{target}` cannot be written: {fault.strerror}")) from fault


def _permissions(target: Path) -> int:
    """Those of the file that is replaced, else those of a new file. Raises `OSError` for a file that is read-only."""
    try:
        found = target.stat().st_mode & 0o777
    except FileNotFoundError:
        # The only way to read what new files go without is to set it.
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
    if not found & 0o222:
        raise PermissionError(errno.EACCES, "the file is read-only")
    return found
