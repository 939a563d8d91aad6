"""What an op is: one frozen class that holds every fact, and the table of all ops.

The numeric law of dgraph, stated once:
* Floating point follows IEEE 754 in round-to-nearest; nothing reorders or contracts arithmetic that the source wrote.
* NaN goes through `minimum`, `maximum` and the max and min reductions; comparisons with NaN are false.
* Integers wrap at their width. `//` and `%` round as in Python; an integer divided by zero is a fault of the run,
  or gives 0 where the op says so.
* Operands of an elementwise op have equal shapes: scalars and trailing axes are widened by explicit `broadcast` nodes.

An op's jvp is written with other ops; the vjp is never written: it is the transpose of the linear part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import InvalidGraph
from dgraph.sizes import Size, product
from dgraph.types import Array, Tape, ValueType

if TYPE_CHECKING:
    from dgraph.ir.build import Builder
    from dgraph.ir.evaluate import Interpreter
    from dgraph.ir.graph import Node, Region, Value

OPS: dict[str, type[Op]] = {}
"""Every op by name, filled by the class definitions in `dgraph.ops`."""

SizeOf = Callable[[Size], int]
"""Gives the number of a symbolic size at run time."""


@dataclass(frozen=True)
class Cost:
    """Rough work of one execution as symbolic sizes: floating point operations and bytes moved."""

    operations: Size
    bytes: Size


@dataclass(frozen=True)
class Op:
    """One operation. Subclasses are frozen dataclasses whose fields are the op's static facts (`axes`, `shape`, ...),
    so equality, hashing, printing and common subexpressions come for free."""

    name: ClassVar[str] = ""
    arity: ClassVar[int | None] = None
    effect: ClassVar[str] = "pure"
    linear_in: ClassVar[tuple[int, ...] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__ and cls.name:
            if cls.name in OPS:
                raise InvalidGraph(f"two ops are called {cls.name}")
            OPS[cls.name] = cls

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Result types from operand types. Raises `InvalidGraph` if the operands do not fit."""
        raise NotImplementedError(self.name)

    def evaluate(self, size_of: SizeOf, *operands: Any) -> Any:
        """The meaning, by NumPy: one array, or a tuple of arrays if the op has several results.

        Operands are arrays or NumPy scalars of the right dtype and must not be changed.
        """
        raise NotImplementedError(self.name)

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """Results of one node in the interpreter."""
        with np.errstate(all="ignore"):
            found = self.evaluate(interpreter.size_of, *operands)
        return found if isinstance(found, tuple) else (found,)

    def jvp(
        self, g: Builder, primals: Sequence[Value], results: Sequence[Value], tangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """Tangents of the results. None is a structural zero, in and out.

        The node itself has already been emitted: `results` are its values and may be used. The default serves ops
        that are linear in each operand of `linear_in` separately (the others fixed): sum of the op applied to one
        tangent at a time. Ops without float results need no rule.
        """
        if self.linear_in is None:
            raise NotImplementedError(f"{self.name} has no jvp")
        total: Value | None = None
        for position in self.linear_in:
            tangent = tangents[position]
            if tangent is not None:
                operands = [*primals[:position], tangent, *primals[position + 1 :]]
                (term,) = g.apply(self, *operands)
                total = term if total is None else g.add(total, term)
        return (total,)

    def transpose(
        self, g: Builder, operands: Sequence[Value], linear: Sequence[bool], cotangent: Value
    ) -> Sequence[Value | None]:
        """For an op that is linear in the operands marked in `linear`: the cotangent of each of those (None for the
        others and for structural zeros). Operands not marked are primal values that may be read; marked ones may be
        looked at for their type only. Ops whose jvp uses only other ops need no transpose."""
        raise NotImplementedError(f"{self.name} has no transpose")

    def expand(self, g: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """The op on arrays written with index spaces and scalar ops: its lowering for CPU and CUDA alike."""
        raise NotImplementedError(f"{self.name} has no index-space form")

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """Work of one execution: by default one operation per entry of the operand with the most axes, and each operand
        and result moved once. That of a region op is the work of its regions, so often as they run."""
        shapes = [type_.shape for type_ in types if isinstance(type_, Array)]
        entries = product(max(shapes, key=len)) if shapes else Size(())
        moved = Size(())
        for type_ in (*types, *self.infer(types, ())):
            moved = moved + bytes_of(type_)
        return Cost(entries, moved)

    @property
    def facts(self) -> dict[str, Any]:
        """The static facts that differ from their defaults, by name, in order."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def bytes_of(type_: ValueType) -> Size:
    """The bytes of a value; those of one entry of a tape, whose length only the run decides."""
    while isinstance(type_, Tape):
        type_ = type_.entry
    return product(type_.shape) * type_.dtype.bytes


@dataclass(frozen=True)
class RegionOp(Op):
    """An op whose facts include regions. Captures are the last operands and the last inputs of every region.

    `leading_operands` counts the operands before the captures; `leading_inputs` the inputs of region k before them.
    Its rules for derivatives, passes, kernels and pictures are tables in those packages, total over the region ops.
    """

    def cost(self, types: Sequence[ValueType]) -> Cost:
        """Nothing beyond the work of its regions."""
        return Cost(Size(()), Size(()))

    def leading_operands(self) -> int:
        """Number of operands that are not captures."""
        raise NotImplementedError(self.name)

    def leading_inputs(self, region: int) -> int:
        """Number of inputs of a region that are not captures."""
        raise NotImplementedError(self.name)


def require(holds: bool, message: str) -> None:
    """Raise `InvalidGraph` unless a rule of the graph holds."""
    if not holds:
        raise InvalidGraph(message)
