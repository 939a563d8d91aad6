"""Generated source to LLVM text through Numba: every function of a program into one unoptimised module.

Numba types and lowers each function; its own linking, optimisation and loading are left out, so that a program of many
kernels is optimised once. Each function gets a C entry of its own name, which later functions call.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations
import __future__

import ast
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, compiler, errors
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from dgraph.kernels.helpers import PRIMITIVES
from dgraph.kernels.loop_marks import ONE_BY_ONE
from dgraph.kernels.primitives import KERNEL_PREFIX, function_symbol
from dgraph.kernels.thread_code import SHARED
from dgraph.kernels.values import LANE_COUNTS, POINTER, declare, llvm_type

Emit = Callable[[Any, list[Any]], Any]
NUMBA_TYPES: dict[str, Any] = {
    "f32": types.float32,
    "f64": types.float64,
    "i32": types.int32,
    "i64": types.int64,
    "u8": types.uint8,
    "bool": types.boolean,
    "none": types.none,
}
CONSTANTS: dict[str, Any] = {
    "f32": np.float32,
    "f64": np.float64,
    "i32": np.int32,
    "i64": np.int64,
    "u8": np.uint8,
    "bool": np.bool_,
    "range": range,
    **{f"lanes_{count}": range for count in LANE_COUNTS},
    SHARED: range,
    ONE_BY_ONE: range,
    "inf_f32": np.float32("inf"),
    "nan_f32": np.float32("nan"),
    "inf_f64": float("inf"),
    "nan_f64": float("nan"),
}


def numba_type(name: str) -> Any:
    """The Numba type of a type name; a bool in memory is a byte."""
    if name.startswith(POINTER):
        entry = name.removeprefix(POINTER)
        return types.CPointer(NUMBA_TYPES["u8" if entry == "bool" else entry])
    return NUMBA_TYPES[name]


def as_intrinsic(name: str, operands: Sequence[str], result: str, emit: Emit) -> Callable[..., Any]:
    """A Numba intrinsic that emits code; it refuses operands of other types instead of converting them."""
    wanted = [numba_type(operand) for operand in operands]
    typed = signature(numba_type(result), *wanted)

    def typer(_context: Any, *given: Any) -> Any:
        plain = [types.unliteral(operand) for operand in given]
        if plain != wanted:
            raise errors.TypingError(f"{name} takes {tuple(wanted)}, not {tuple(plain)}")

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            returned = emit(builder, list(arguments))
            return context.get_dummy_value() if returned is None else returned

        return typed, generate

    # Numba counts a typer's parameters, so each intrinsic needs one of its own arity.
    listed = ", ".join(["context", *(f"operand{position}" for position in range(len(wanted)))])
    scope: dict[str, Any] = {"typer": typer}
    exec(f"def {name}({listed}):\n    return typer({listed})\n", scope)
    return intrinsic(scope[name])


_intrinsics: dict[str, Callable[..., Any]] = {}


def namespace(source: str) -> dict[str, Any]:
    """The globals for a program: its constants, types and the primitives that it names."""
    named = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    for name in named & PRIMITIVES.keys() - _intrinsics.keys():
        primitive = PRIMITIVES[name]
        _intrinsics[name] = as_intrinsic(name, primitive.operands, primitive.result, primitive.emit)
    return {**CONSTANTS, **{name: _intrinsics[name] for name in named & PRIMITIVES.keys()}}


class TextLibrary(CPUCodeLibrary):
    """A Numba code library that keeps the text of its modules and compiles nothing."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.texts: list[str] = []

    def add_ir_module(self, ir_module: Any) -> None:
        """Keep a module's text."""
        self.texts.append(cgutils.normalize_ir_text(str(ir_module)))

    def finalize(self) -> None:
        """Refuse: nothing here is ever run."""
        raise RuntimeError("a text library is not compiled")


def _flags() -> Any:
    flags: Any = compiler.Flags()
    for name in ("no_compile", "no_cpython_wrapper", "no_cfunc_wrapper"):
        setattr(flags, name, True)
    flags.error_model = "numpy"
    return flags


def _functions(source: str) -> tuple[dict[str, Any], list[Any]]:
    scope = namespace(source)
    code = compile(source, "<dgraph program>", "exec", flags=__future__.annotations.compiler_flag)
    before = set(scope)
    exec(code, scope)
    return scope, [value for name, value in scope.items() if name not in before and inspect.isfunction(value)]


def caller_of(name: str, operands: Sequence[str], result: str) -> Emit:
    """Emits calls of a function of the program, for the functions that follow it."""

    def emit(builder: Any, values: list[Any]) -> Any:
        kinds = [llvm_type(operand) for operand in operands]
        callee = declare(builder.module, name, ir.FunctionType(llvm_type(result), kinds))
        returned = builder.call(callee, values)
        return None if result == "none" else returned

    return emit


def lower(source: str, entry: str) -> list[str]:
    """LLVM modules of a program as texts, to be linked; the entry and its kernels keep their names."""
    with global_compiler_lock:
        typing_context, target_context = cpu_target.typing_context, cpu_target.target_context
        typing_context.refresh()
        target_context.refresh()
        library = TextLibrary(target_context.codegen(), "dgraph")
        scope, functions = _functions(source)
        for function in functions:
            hints = dict(function.__annotations__)
            result = hints.pop("return", "none").replace("None", "none")
            operands = tuple(hints.values())
            types_given = [numba_type(operand) for operand in operands]
            compiled = compiler.compile_extra(
                typing_context, target_context, function, types_given, numba_type(result), _flags(), {}, library=library
            )
            name = function.__name__
            symbol = function_symbol(name, entry)
            library.texts.append(_c_entry(target_context, compiled.fndesc, symbol, name != entry))
            scope[name] = as_intrinsic(name, operands, result, caller_of(symbol, operands, result))
        return library.texts


def _c_entry(target_context: Any, description: Any, name: str, is_inner: bool) -> str:
    """A module with a C function that calls the one Numba lowered, which reports exceptions that cannot occur here."""
    module = target_context.codegen()._create_empty_module(name)
    operands, result = description.argtypes, description.restype
    is_void = result == types.none
    returned = ir.VoidType() if is_void else target_context.get_value_type(result)
    kinds = [target_context.get_value_type(operand) for operand in operands]
    function = ir.Function(module, ir.FunctionType(returned, kinds), name)
    convention = target_context.call_conv
    callee = ir.Function(module, convention.get_function_type(result, operands), description.llvm_func_name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    _, value = convention.call_function(builder, callee, result, operands, function.args)
    if is_void:
        builder.ret_void()
    else:
        builder.ret(value)
    function.attributes.add("nounwind")
    if name.startswith(KERNEL_PREFIX):
        function.attributes.add("noinline")
        for argument in function.args:
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
    elif is_inner:
        function.attributes.add("alwaysinline")
    return str(module)
