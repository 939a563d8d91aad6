"""`dgraph fmt`: programs written in the one way, in place, or a report of what would change."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path

from dgraph.errors import DgraphError
from dgraph.reader.files import decode, read_file, write_whole
from dgraph.reader.format import format_text


def format_files(paths: Sequence[str], *, check: bool, diff: bool) -> int:
    """The exit code: 1 if a file is no program, or to be checked and not formatted. Every file is looked at."""
    code = 0
    for path in paths:
        try:
            if path == "-":
                text = decode(sys.stdin.buffer.read(), "<standard input>")
                result = format_text(text, "<standard input>")
            else:
                text = read_file(path)
                result = format_text(text, path)
        except DgraphError as fault:
            sys.stderr.write(f"{fault}\n")
            code = 1
            continue
        if diff:
            rows = unified_diff(text.splitlines(keepends=True), result.splitlines(keepends=True), path, path)
            sys.stdout.writelines(row if row.endswith("\n") else f"{row}\n\\ no line end\n" for row in rows)
        if check and result != text:
            print(path)
            code = 1
        if not check and not diff:
            settle(path, text, result)
    return code


def settle(path: str, text: str, result: str) -> None:
    """Write the result to where the text came from."""
    if path == "-":
        sys.stdout.write(result)
    elif result != text:
        # A link stays a link.
        write_whole(Path(path).resolve(), result.encode("utf-8"))
        print(f"formatted {path}")
