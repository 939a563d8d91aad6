"""What LLVM is told about single loops of generated source, as metadata at the branch that closes the loop.

Its loop vectoriser is told not to take several vectors at a time (`native.optimise`): the loops inside a nest are
mostly short, and what does not fill all those vectors is done number by number. The exception is here: the extreme of a
long row waits for one comparison after another unless several take turns.
"""

from __future__ import annotations

import ast

from dgraph.classes import dataclass

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

DEFINITIONS = f"""\
!{_INTERLEAVED.number} = distinct !{{!{_INTERLEAVED.number}, !{_INTERLEAVED.number + 1}}}
!{_INTERLEAVED.number + 1} = !{{!"llvm.loop.interleave.count", i32 {_VECTORS}}}
"""
"""The text that follows a module."""


def mark_of(loop: ast.For, is_outermost: bool) -> Mark | None:
    """The mark of a loop, if it gets one."""
    return _INTERLEAVED if is_outermost and any(map(_is_running_extreme, loop.body)) else None


def _is_running_extreme(statement: ast.stmt) -> bool:
    match statement:
        case ast.Assign(
            targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=function), args=[ast.Name(id=first), _])
        ):
            return first == name and function.startswith(_EXTREMES)
    return False
