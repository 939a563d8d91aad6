"""Derivatives and batching as nodes: `jvp`, `vjp`, `vmap` of a region. `dgraph.ad` expands them.

Everything else a user can ask for (grad, value_and_grad, jacobian, hessian, hvp) is written with these three.
The region takes all operands of the function; whatever it captured is among them. A function whose author wrote its
derivative is a `custom` node until no transform is left that could ask for it; a solution whose
author wrote its equation is an `implicit` node, and the linear system of an implicit derivative a `fixed_point` or a
`linear_solve`, until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any, ClassVar

from dgraph.classes import dataclass
from dgraph.errors import NOWHERE, Span
from dgraph.ir.graph import Region
from dgraph.ir.op import RegionOp, require
from dgraph.sizes import Size
from dgraph.types import Array, ValueType, tangent_type

if TYPE_CHECKING:
    from dgraph.ir.evaluate import Interpreter
    from dgraph.ir.graph import Node


@dataclass(frozen=True)
class Transform(RegionOp):
    """What the three share: the first operands are those of the function."""

    function: str = ""

    def leading_operands(self) -> int:
        """All operands are handled by the expansion: none is a plain capture."""
        raise NotImplementedError("a transform is expanded before anything asks for its captures")

    def leading_inputs(self, region: int) -> int:
        """See `leading_operands`."""
        return self.leading_operands()


@dataclass(frozen=True)
class Jvp(Transform):
    """Values and tangents.

    operands  inputs of the function, then a tangent for each input marked in `active`
    results   outputs of the function, then a tangent for each float output
    """

    name: ClassVar[str] = "jvp"
    active: tuple[bool, ...] = ()

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Outputs and their tangents."""
        (body,) = regions
        inputs = [value.type for value in body.inputs]
        expected = [*inputs, *compress(inputs, self.active)]
        require(list(types) == expected, f"jvp: operands {list(map(str, types))} for {list(map(str, expected))}")
        outputs = [value.type for value in body.outputs]
        return (*outputs, *(type_ for type_ in outputs if tangent_type(type_) is not None))


@dataclass(frozen=True)
class Vjp(Transform):
    """Values and cotangents.

    operands  inputs of the function, then a cotangent for each output marked in `seeded`
    results   outputs of the function, then a cotangent for each input marked in `wrt`
    """

    name: ClassVar[str] = "vjp"
    wrt: tuple[bool, ...] = ()
    seeded: tuple[bool, ...] = ()

    def leading_inputs(self, region: int) -> int:
        """All inputs of the function: passes see a `vjp` that waits inside of what is reversed."""
        return len(self.wrt)

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Outputs and the cotangents asked for."""
        (body,) = regions
        inputs, outputs = ([value.type for value in values] for values in (body.inputs, body.outputs))
        expected = [*inputs, *compress(outputs, self.seeded)]
        require(list(types) == expected, f"vjp: operands {list(map(str, types))} for {list(map(str, expected))}")
        return (*outputs, *compress(inputs, self.wrt))


@dataclass(frozen=True)
class VjpTangent(Vjp):
    """The tangents of the results of a `vjp`, as a linear map of those of its operands.

    operands  those of the `vjp`, then a tangent for each of them marked in `active`
    results   a tangent for each result of the `vjp` marked in `wanted`
    """

    name: ClassVar[str] = "vjp_tangent"
    active: tuple[bool, ...] = ()
    wanted: tuple[bool, ...] = ()

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Tangents of the outputs and of the cotangents."""
        (body,) = regions
        inputs, outputs = ([value.type for value in values] for values in (body.inputs, body.outputs))
        given = [*inputs, *compress(outputs, self.seeded)]
        expected = [*given, *compress(given, self.active)]
        require(
            list(types) == expected, f"vjp_tangent: operands {list(map(str, types))} for {list(map(str, expected))}"
        )
        return tuple(compress([*outputs, *compress(inputs, self.wrt)], self.wanted))


@dataclass(frozen=True)
class Vmap(Transform):
    """The function for every entry of a leading axis.

    operands  inputs of the function; those marked in `mapped` have a leading axis of `extent`
    results   outputs of the function, each with that axis in front
    """

    name: ClassVar[str] = "vmap"
    mapped: tuple[bool, ...] = ()
    extent: Size | None = None

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """Outputs with the axis in front."""
        (body,) = regions
        require(self.extent is not None and len(types) == len(body.inputs), "vmap: operands do not fit")
        assert self.extent is not None
        for given, value, mapped in zip(types, body.inputs, self.mapped, strict=True):
            inner = value.type
            require(isinstance(inner, Array) or not mapped, "vmap: only arrays are mapped")
            assert isinstance(inner, Array)
            wanted = Array(inner.dtype, (self.extent, *inner.shape)) if mapped else inner
            require(given == wanted, f"vmap: operand {given} for {wanted}")
        results: list[ValueType] = []
        for value in body.outputs:
            require(isinstance(value.type, Array), "vmap: only arrays are returned")
            assert isinstance(value.type, Array)
            results.append(Array(value.type.dtype, (self.extent, *value.type.shape)))
        return tuple(results)


@dataclass(frozen=True)
class SparseJacobian(Transform):
    """All partial derivatives of the outputs marked in `rows` with respect to the inputs marked in `wrt`, by as few
    sweeps as the pattern of zeros allows where the host finds it, else by one sweep per entry of the inputs.

    operands  inputs of the function
    results   for each such output, for each such input: the axes of the output, then those of the input

    `symmetric` says that outputs and inputs correspond and the whole is a Hessian; `is_optional` that other sweeps may
    be taken where they cost less.
    """

    name: ClassVar[str] = "sparse_jacobian"
    wrt: tuple[bool, ...] = ()
    rows: tuple[bool, ...] = ()
    symmetric: bool = False
    is_optional: bool = False

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """A block for each output and input."""
        (body,) = regions
        require(list(types) == [value.type for value in body.inputs], "sparse_jacobian: operands do not fit")
        outer, inner = self.sides(body)
        return tuple(Array(row.dtype, row.shape + column.shape) for row in outer for column in inner)

    def sides(self, body: Region) -> tuple[list[Array], list[Array]]:
        """The types of the outputs and of the inputs that have derivatives here."""
        sides = []
        for values, marks in ((body.outputs, self.rows), (body.inputs, self.wrt)):
            types = [value.type for value in compress(values, marks)]
            floats = [type_ for type_ in types if isinstance(type_, Array) and type_.dtype.is_float]
            require(len(floats) == len(types), "sparse_jacobian: only floats have derivatives")
            sides.append(floats)
        return sides[0], sides[1]


@dataclass(eq=False)
class Rule:
    """The derivative of a function as its author wrote it.

    region  inputs of the function, then a tangent for each float input  ->  a tangent for each float output

    The region is filled in after the rule stands in nodes: it may apply the function itself.
    """

    name: str
    span: Span = NOWHERE
    region: Region | None = None


@dataclass(frozen=True)
class Custom(Transform):
    """A function with a derivative of its own; as a value, the function. In a text only the name of the rule stands.

    operands  inputs of the function
    results   outputs of the function
    """

    name: ClassVar[str] = "custom"
    rule: Rule | str = ""

    def leading_operands(self) -> int:
        """None: all are captures, as those of a call."""
        return 0

    def leading_inputs(self, region: int) -> int:
        """None."""
        return 0

    @property
    def facts(self) -> dict[str, Any]:
        """The names of the function and of its rule."""
        return {"function": self.function, "rule": self.rule.name if isinstance(self.rule, Rule) else self.rule}

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The outputs of the function."""
        (body,) = regions
        inputs = [value.type for value in body.inputs]
        require(list(types) == inputs, f"custom: operands {list(map(str, types))} for {list(map(str, inputs))}")
        return tuple(value.type for value in body.outputs)

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """The function."""
        return interpreter.run(node.regions[0], operands)


@dataclass(frozen=True)
class FixedPoint(Transform):
    """The v with v = b + A v, where the region computes A v.

    operands  b, captures
    region    v, captures  ->  A v, linear in v
    results   v

    `tolerance` is that of the loop whose derivative this is.
    """

    name: ClassVar[str] = "fixed_point"
    unknowns: int = 0
    tolerance: float | None = None

    def leading_operands(self) -> int:
        """The right side."""
        return self.unknowns

    def leading_inputs(self, region: int) -> int:
        """The unknowns."""
        return self.unknowns

    def infer(self, types: Sequence[ValueType], regions: Sequence[Region]) -> tuple[ValueType, ...]:
        """The types of the right side."""
        (body,) = regions
        inputs = [value.type for value in body.inputs]
        require(list(types) == inputs, f"{self.name}: operands {list(map(str, types))} for {list(map(str, inputs))}")
        outputs = [value.type for value in body.outputs]
        require(outputs == inputs[: self.unknowns], f"{self.name}: the region does not map unknowns to their types")
        return tuple(outputs)


@dataclass(frozen=True)
class LinearSolve(FixedPoint):
    """The v with A v = b, where the region computes A v.

    operands  b, captures
    region    v, captures  ->  A v, linear in v
    results   v
    """

    name: ClassVar[str] = "linear_solve"


@dataclass(frozen=True)
class Implicit(FixedPoint):
    """The x with f(x) = 0 that was found in whatever way; as a value, x itself.

    operands  x, captures
    region    x, captures  ->  f(x)
    results   x

    `tolerance` says how far one step of Newton's method may move a solution.
    """

    name: ClassVar[str] = "implicit"

    def execute(self, interpreter: Interpreter, node: Node, operands: list[Any]) -> Sequence[Any]:
        """What was found."""
        return operands[: self.unknowns]
