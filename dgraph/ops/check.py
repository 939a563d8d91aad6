"""The check: an assertion of the program that is evaluated as it runs, and what tells it where in a loop it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dgraph.classes import dataclass
from dgraph.errors import CheckFailed, Diagnostic
from dgraph.ir.graph import Region
from dgraph.ir.op import Op, SizeOf, require
from dgraph.ir.places import Turn
from dgraph.ops.elementwise import arrays
from dgraph.types import BOOL, I64, Array, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.evaluate import Interpreter
    from dgraph.ir.graph import Node, Value


@dataclass(frozen=True)
class Check(Op):
    """`check(holds, values...)`: fails with the message and the values unless `holds`. It has no result.

    `names` say what the values are called in the program.
    """

    name = "check"
    effect = "check"
    message: str = ""
    names: tuple[str, ...] = ()

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """No result."""
        found = arrays(self, types)
        require(bool(found) and found[0] == Array(BOOL), "check: the predicate is not one bool")
        require(len(self.names) in (0, len(found) - 1), "check: not a name for each value")
        return ()

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """Nothing. Raises `CheckFailed` if the predicate does not hold."""
        holds, *values = operands
        if not holds:
            names = [f"{name} = " for name in self.names] or [""] * len(values)
            shown = ", ".join(f"{name}{value}" for name, value in zip(names, values, strict=True))
            raise CheckFailed(Diagnostic(self.message or "a check failed", note=shown))
        return ()

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """No result, no tangent."""
        return ()

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """Itself: it is scalar."""
        return g.apply(self, *operands)


@dataclass(frozen=True)
class AtStep(Op):
    """`at_step(index)`: what follows in its region is this step of the loop at its place in the text. It has no result,
    and serves messages only: a loop that `@checkpoint` cut into parts still counts its own steps."""

    name = "at_step"
    arity = 1
    effect = "note"

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """No result."""
        require(arrays(self, types, 1) == [Array(I64)], "at_step: the index is not an i64")
        return ()

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """The step is what the program stands in."""
        interpreter.turns.append((Turn(node.span), (int(operands[0]),)))
        return ()

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """Itself: it is scalar."""
        return g.apply(self, *operands)
