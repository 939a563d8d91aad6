"""Where the locals of a block live: the choices and `while` loops that stand around all that mentions one.

Lanes that go different ways need not agree on a number that lives inside one of these ways. A number that a `while`
alone works on, but for its start, is the same in all lanes that are still in the loop if the values that it is given
are: lanes leave, and none comes back.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import field

from dgraph.classes import dataclass
from dgraph.kernels.nest_parts import expressions_of, locals_of, set_locals
from dgraph.kernels.nests import Block, Expression, If, Let, Local, Loop, Statement, Timed, While

Path = tuple[tuple[Statement, int], ...]
"""The choices and `while` loops around a place, outer ones first, each with the side it is on."""


@dataclass
class Homes:
    """The assignments of a block, its choices, and where each local is mentioned."""

    lets: list[tuple[Let, Path]] = field(default_factory=list)
    conditions: list[tuple[If | While, Expression]] = field(default_factory=list)
    mentions: dict[Local, list[Path]] = field(default_factory=dict)
    owners: dict[Local, While] = field(default_factory=dict)

    def is_at_home(self, local: Local, path: Path, differing: Set[Statement]) -> bool:
        """Whether an assignment on a path reaches all that mentions the local, as far as lanes go different ways."""
        way = tuple(step for step in path if step[0] in differing)
        if not way:
            return True
        owner = self.owners.get(local)
        others = [other for other in self.mentions[local] if owner is None or (owner, 0) in other]
        return all(tuple(step for step in other if step[0] in differing)[: len(way)] == way for other in others)


def homes_of(block: Block) -> Homes:
    """Where the locals of a block live."""
    homes = Homes()
    starts: list[tuple[While, set[Local]]] = []
    _visit(homes, starts, block, ())
    for loop, locals_ in starts:
        for local in locals_:
            if sum((loop, 0) not in path for path in homes.mentions[local]) == 1:
                homes.owners[local] = loop
    return homes


def _visit(homes: Homes, starts: list[tuple[While, set[Local]]], block: Block, path: Path) -> None:
    given: set[Local] = set()
    for statement in block:
        if not isinstance(statement, While):
            _mention(homes, statement, path)
        match statement:
            case Let(local=local):
                homes.lets.append((statement, path))
                given.add(local)
            case Loop(body=body) | Timed(body=body):
                _visit(homes, starts, body, path)
            case If(condition=condition, then=then, otherwise=otherwise):
                homes.conditions.append((statement, condition))
                _visit(homes, starts, then, (*path, (statement, 0)))
                _visit(homes, starts, otherwise, (*path, (statement, 1)))
            case While(test=test, condition=condition, body=body):
                homes.conditions.append((statement, condition))
                inside = (*path, (statement, 0))
                _mention(homes, statement, inside)
                _visit(homes, starts, (*test, *body), inside)
                starts.append((statement, set(given)))


def _mention(homes: Homes, statement: Statement, path: Path) -> None:
    read = (local for expression in expressions_of(statement) for local in locals_of(expression))
    for local in (*read, *set_locals(statement)):
        homes.mentions.setdefault(local, []).append(path)
