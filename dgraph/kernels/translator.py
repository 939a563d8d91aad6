"""Generated source to LLVM text directly, for the small part of Python that generated source is written in.

The same text goes through Numba (`numba_compiler`), which is the reference that tests compare with; here it takes a
twentieth of the time and no import of Numba.
"""

from __future__ import annotations

import ast
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from dgraph.kernels import loop_marks
from dgraph.kernels.function_code import Signature, SourceFault
from dgraph.kernels.helpers import PRIMITIVES
from dgraph.kernels.primitives import KERNEL_PREFIX, function_symbol
from dgraph.kernels.values import POINTER, SCALARS, llvm_type
from dgraph.kernels.vector_code import FunctionWithVectors


def translate(source: str, entry: str) -> str:
    """One LLVM module with every function of a program."""
    module = ir.Module("dgraph")
    module.triple = llvm.get_process_triple()
    known: dict[str, Signature] = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef):
            raise SourceFault(node, "only functions stand at the top level")
        if node.name in known or node.name in PRIMITIVES or node.name in SCALARS:
            raise SourceFault(node, f"{node.name} is defined already")
        signature = _declare(module, node, entry)
        FunctionWithVectors(module, known, signature, node).translate()
        known[node.name] = signature
    return f"{module}\n{loop_marks.DEFINITIONS}"


def _annotation(node: ast.expr | None) -> str:
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return "none"
    if isinstance(node, ast.Name) and node.id.removeprefix(POINTER) in SCALARS:
        return node.id
    raise SourceFault(node, "no such type")


def _declare(module: Any, node: ast.FunctionDef, entry: str) -> Signature:
    for argument in node.args.args:
        if argument.annotation is None:
            raise SourceFault(argument, f"parameter {argument.arg} has no type")
    operands = tuple(_annotation(argument.annotation) for argument in node.args.args)
    result = _annotation(node.returns)
    kind = ir.FunctionType(llvm_type(result), [llvm_type(operand) for operand in operands])
    function = ir.Function(module, kind, function_symbol(node.name, entry))
    function.attributes.add("nounwind")
    if node.name.startswith(KERNEL_PREFIX):
        function.attributes.add("noinline")
        for argument in function.args:
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
    elif node.name != entry:
        function.attributes.add("alwaysinline")
    return Signature(function, operands, result)


__all__ = ["SourceFault", "translate"]
