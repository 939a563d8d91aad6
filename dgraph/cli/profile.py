"""`dgraph profile`: where the time of a call goes, for people to read or as JSON."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator

from dgraph.cli.commands import chosen, load_target, names_of, steering_of
from dgraph.cli.explain import aligned, in_bytes, in_seconds
from dgraph.cli.values import print_json, read_arguments
from dgraph.program import functions
from dgraph.program.profile import Profile, Row

SMALL = 0.005
"""Parts with a smaller share of the time are told together."""


def profile(options: Namespace) -> int:
    """`dgraph profile`."""
    from dgraph.program.profile import profile as profiled

    program, name = load_target(options)
    function = chosen(program, name)
    if options.grad or options.wrt:
        function = functions.value_and_grad(function, names_of(options.wrt))
    compiled = functions.compile(function, precision=options.precision, schedule=steering_of(options))
    found = profiled(compiled, (), read_arguments(options.arg), options.runs)
    if options.json:
        print_json(found.to_json())
    else:
        sys.stdout.write(text_of(found))
    return 0


def text_of(found: Profile) -> str:
    """The profile for a person: the longest part first."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Profile) -> Iterator[str]:
    of = f"the fastest of {found.calls} calls" if found.calls > 1 else "one call"
    yield f"{found.function}: {in_seconds(found.seconds)}, {of}"
    yield ""
    rows = sorted(found.rows, key=lambda row: -row.seconds)
    told = [row for row in rows if row.seconds >= SMALL * found.seconds]
    table = [["time", "share", "runs", "bytes", "a second", "part", "where"]]
    table += [_cells(row, found.seconds) for row in told]
    others = rows[len(told) :]
    if others:
        seconds = sum(row.seconds for row in others)
        words = f"{len(others)} smaller part{'' if len(others) == 1 else 's'}"
        table.append([in_seconds(seconds), _share(seconds, found.seconds), "", "", "", words, ""])
    between = max(found.seconds - sum(row.seconds for row in rows), 0.0)
    table.append([in_seconds(between), _share(between, found.seconds), "", "", "", "between them", ""])
    yield from aligned(table)


def _cells(row: Row, total: float) -> list[str]:
    touched = "" if row.bytes is None else in_bytes(row.bytes)
    speed = f"{in_bytes(int(row.bytes * row.runs / row.seconds))}" if row.bytes and row.seconds else ""
    return [in_seconds(row.seconds), _share(row.seconds, total), f"{row.runs:,}", touched, speed, row.name, _where(row)]


def _share(seconds: float, total: float) -> str:
    return f"{seconds / total:.1%}" if total else ""


def _where(row: Row) -> str:
    half = "adjoint, " if any(word.startswith("adjoint") for word in row.words) else ""
    if not row.places:
        return ", ".join(row.words)
    more = f" and {len(row.places) - 1} more" if len(row.places) > 1 else ""
    return f"{half}line {row.places[0]['line']}: {row.places[0]['text']}{more}"
