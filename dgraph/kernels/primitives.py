"""The table of primitives: the named helpers that generated source may call, each with its types and its code.

A primitive is independent of Numba; `numba_compiler` turns those that a program names into Numba intrinsics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir

from dgraph.classes import dataclass
from dgraph.kernels.values import FLOATS, SCALARS, Value, llvm_type

Body = Callable[..., Value | None]
SomeBody = TypeVar("SomeBody", bound=Body)
PREFIX = "dgraph."
KERNEL_PREFIX = "kernel_"


def function_symbol(name: str, entry: str) -> str:
    """The symbol of a function of a program; helpers must not be taken for functions of the C library."""
    return name if name == entry or name.startswith(KERNEL_PREFIX) else f"helper.{name}"


@dataclass(frozen=True)
class Primitive:
    """A helper of generated source: name, types of operands and result, and the function that emits its code.

    `once` puts the code into a function of the module, emitted on first use and inlined by LLVM. `vector_lanes` does
    the same for code with branches, which LLVM cannot vectorise: versions of so many lanes are emitted next to it, and
    the loop vectoriser replaces calls by them.
    """

    name: str
    operands: tuple[str, ...]
    result: str
    body: Body
    once: bool = False
    vector_lanes: tuple[int, ...] = ()

    def emit(self, builder: Any, operands: list[Any], lanes: int = 1, apart: bool = False) -> Any:
        """Emit code at the builder's place and return the LLVM result, None for a store. Operands are vectors of so
        many lanes, or scalars that serve all lanes where the body can do with them. What is emitted `once` is called
        instead of inlined if it is to stay `apart`."""
        if self.once or self.vector_lanes:
            is_vector = tuple(isinstance(operand.type, ir.VectorType) for operand in operands)
            return builder.call(self._function(builder.module, lanes, apart, is_vector), operands)
        return self._inline(builder, operands)

    def _inline(self, builder: Any, operands: list[Any]) -> Any:
        values = [Value(builder, operand, name) for operand, name in zip(operands, self.operands, strict=True)]
        result = self.body(*values)
        return None if result is None else result.llvm

    def _function(self, module: Any, lanes: int, apart: bool = False, is_vector: tuple[bool, ...] = ()) -> Any:
        is_mixed = lanes > 1 and not all(is_vector)
        name = self._symbol(lanes) + (".apart" if apart and self.once else "")
        if is_mixed:
            name += "." + "".join("v" if each else "s" for each in is_vector)
        known = module.globals.get(name)
        if known is not None:
            return known
        widths = [lanes if each else 1 for each in is_vector] if is_mixed else [lanes] * len(self.operands)
        kinds = [llvm_type(operand, width) for operand, width in zip(self.operands, widths, strict=True)]
        function = ir.Function(module, ir.FunctionType(llvm_type(self.result, lanes), kinds), name)
        if self.vector_lanes:
            self._ask_for_vectors(module, function, lanes)
        else:
            function.linkage = "internal"
            function.attributes.add("noinline" if apart else "alwaysinline")
        function.attributes.add("nounwind")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        builder.ret(self._inline(builder, list(function.args)))
        return function

    def _symbol(self, lanes: int) -> str:
        return f"{PREFIX}{self.name}" + (f".x{lanes}" if lanes > 1 else "")

    def _ask_for_vectors(self, module: Any, function: Any, lanes: int) -> None:
        # llvmlite refuses attributes that it does not know, so they are added to the underlying set.
        set.update(function.attributes, ("noinline", "willreturn", "memory(none)"))
        function.linkage = "weak_odr"
        if lanes > 1:
            return
        arguments = "v" * len(self.operands)
        variants = [f"_ZGV_LLVM_N{n}{arguments}_{self._symbol(1)}({self._symbol(n)})" for n in self.vector_lanes]
        set.add(function.attributes, f'"vector-function-abi-variant"="{",".join(variants)}"')
        for count in self.vector_lanes:
            self._function(module, count)


PRIMITIVES: dict[str, Primitive] = {}


def register(primitive: Primitive) -> None:
    """Enter a primitive into the table."""
    if primitive.name in PRIMITIVES:
        raise ValueError(f"two primitives are named {primitive.name}")
    PRIMITIVES[primitive.name] = primitive


def elementwise(
    *names: str, types: tuple[str, ...] = FLOATS, arity: int = 1, result: str | None = None, once: bool = False
) -> Callable[[SomeBody], SomeBody]:
    """Register a body as `name_type` for each name and type, all operands of that type and the result too."""

    def add(body: SomeBody) -> SomeBody:
        for name in names:
            for type_name in types:
                register(Primitive(f"{name}_{type_name}", (type_name,) * arity, result or type_name, body, once))
        return body

    return add


def every_type() -> tuple[str, ...]:
    """The names of the scalar types."""
    return tuple(SCALARS)
