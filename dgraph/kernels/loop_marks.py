"""What LLVM is told about single loops of generated source, as metadata at the branch that closes the loop.

Its loop vectoriser is told not to take several vectors at a time (`native.optimise`): the loops inside a nest are
mostly short, and what does not fill all those vectors is done number by number. The exception is here: the extreme of a
long row waits for one comparison after another unless several take turns. A loop that says `one_by_one` is left as it
is, since so little time is spent in it that faster code would not be worth compiling.
"""

from __future__ import annotations

import ast

from dgraph.classes import dataclass

TOGETHER = 8
"""Entries of a mark, bytes in memory, that are looked at together."""

ONE_BY_ONE = "one_by_one"
"""The word for `range` in a loop that is left as it is."""
_EXTREMES = ("maximum_", "minimum_")
_VECTORS = 4


@dataclass(frozen=True)
class Mark:
    """A reference to one of the definitions."""

    number: int

    def get_reference(self) -> str:
        """The name by which LLVM text refers to it."""
        return f"!{self.number}"


# llvmlite numbers its own metadata from 0.
_INTERLEAVED = Mark(1_000_000)
_LEFT = Mark(1_000_002)

DEFINITIONS = f"""\
!{_INTERLEAVED.number} = distinct !{{!{_INTERLEAVED.number}, !{_INTERLEAVED.number + 1}}}
!{_INTERLEAVED.number + 1} = !{{!"llvm.loop.interleave.count", i32 {_VECTORS}}}
!{_LEFT.number} = distinct !{{!{_LEFT.number}, !{_LEFT.number + 1}, !{_LEFT.number + 2}}}
!{_LEFT.number + 1} = !{{!"llvm.loop.vectorize.enable", i1 false}}
!{_LEFT.number + 2} = !{{!"llvm.loop.unroll.disable"}}
"""
"""The text that follows a module."""


def mark_of(loop: ast.For, is_outermost: bool) -> Mark | None:
    """The mark of a loop, if it gets one."""
    if isinstance(loop.iter, ast.Call) and isinstance(loop.iter.func, ast.Name) and loop.iter.func.id == ONE_BY_ONE:
        return _LEFT
    return _INTERLEAVED if is_outermost and any(map(_is_running_extreme, loop.body)) else None


def _is_running_extreme(statement: ast.stmt) -> bool:
    match statement:
        case ast.Assign(
            targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=function), args=[ast.Name(id=first), _])
        ):
            return first == name and function.startswith(_EXTREMES)
    return False


def guard_of(loop: ast.For) -> ast.Name | None:
    """The array of marks if a loop does nothing in turns whose mark is not set: `if load_bool(marks, i)` around all."""
    match loop.body:
        case [ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as read), *rest] if rest:
            guards = all(isinstance(s, ast.If) and _is_name(s.test, name) for s in rest)
        case [ast.If(test=ast.Call() as read)]:
            rest, guards = loop.body, True
        case _:
            return None
    if not guards or any(not isinstance(statement, ast.If) or statement.orelse for statement in rest):
        return None
    match read:
        case ast.Call(func=ast.Name(id="load_bool"), args=[ast.Name() as marks, ast.Name(id=index)]):
            return marks if isinstance(loop.target, ast.Name) and loop.target.id == index else None
    return None


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
