"""Matrix products, called from generated code by symbol: kernels of our own, and the BLAS that NumPy or SciPy brings.

Object code holds names that begin with a `SYMBOL_PREFIX`; `product_library` and `blas` know the functions of this
process when it is loaded.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from dgraph.kernels.blas import SYMBOL_PREFIX
from dgraph.kernels.primitives import Body, Primitive, register
from dgraph.kernels.product_symbols import KINDS, product_symbol
from dgraph.kernels.values import FLOATS, POINTER, SCALARS, Value, declare, select

_CHARACTER = SCALARS["u8"]
_I64 = SCALARS["i64"]


def symbol(routine: str, type_name: str) -> str:
    """The name under which object code refers to a routine, as `dgraph_blas_sgemm`."""
    return SYMBOL_PREFIX + ("s" if type_name == "f32" else "d") + routine


def by_reference(value: Value) -> Any:
    """The address of a slot that holds the value: BLAS takes every argument by reference.

    Integers are 64 bits wide there; a BLAS with 32-bit integers reads their low half.
    """
    builder = value.builder
    with builder.goto_entry_block():
        slot = builder.alloca(value.llvm.type)
    builder.store(value.llvm, slot)
    return slot


def _transposition(flag: Value) -> Any:
    letter = select(flag.equals(0), flag.make(_CHARACTER(ord("N")), "u8"), flag.make(_CHARACTER(ord("T")), "u8"))
    return by_reference(letter)


def _leading(stride: Value) -> Any:
    # BLAS refuses a leading dimension of 0, which an empty matrix has.
    return by_reference(select(stride > 1, stride, 1))


def call_routine(routine: str, type_name: str, builder: Any, operands: list[Any]) -> None:
    """Call a routine of a type without a result."""
    signature = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
    function = declare(builder.module, symbol(routine, type_name), signature)
    function.attributes.add("nounwind")
    builder.call(function, operands)


def gemm(
    trans_a: Value,
    trans_b: Value,
    m: Value,
    n: Value,
    k: Value,
    alpha: Value,
    a: Value,
    lda: Value,
    b: Value,
    ldb: Value,
    beta: Value,
    c: Value,
    ldc: Value,
) -> None:
    """C = alpha op(A) op(B) + beta C, row-major: BLAS, which is column-major, is asked for the transposed product."""
    operands = [
        _transposition(trans_b),
        _transposition(trans_a),
        *(by_reference(value) for value in (n, m, k, alpha)),
        b.llvm,
        _leading(ldb),
        a.llvm,
        _leading(lda),
        by_reference(beta),
        c.llvm,
        _leading(ldc),
    ]
    call_routine("gemm", alpha.type, m.builder, operands)


def blas_threads(unused: Value) -> Value:
    """How many threads the BLAS uses for a product."""
    builder = unused.builder
    signature = ir.FunctionType(ir.IntType(32), [])
    found = builder.call(declare(builder.module, SYMBOL_PREFIX + "get_threads", signature), [])
    return unused.make(builder.sext(found, _I64), "i64")


def set_blas_threads(count: Value) -> None:
    """Say how many threads the BLAS may use."""
    builder = count.builder
    narrow = ir.IntType(32)
    function = declare(builder.module, SYMBOL_PREFIX + "set_threads", ir.FunctionType(ir.VoidType(), [narrow]))
    builder.call(function, [builder.trunc(count.llvm, narrow)])


def _caller(kind: str) -> Body:
    def product(*operands: Value) -> None:
        builder = operands[0].builder
        signature = ir.FunctionType(_I64, [operand.llvm.type for operand in operands])
        function = declare(builder.module, product_symbol(kind), signature)
        function.attributes.add("nounwind")
        builder.call(function, [operand.llvm for operand in operands])

    return product


register(Primitive("blas_threads", ("i64",), "i64", blas_threads))
register(Primitive("set_blas_threads", ("i64",), "none", set_blas_threads))
for _type in FLOATS:
    _pointer = POINTER + _type
    _sizes = ("i64", "i64", "i64")
    register(
        Primitive(
            f"gemm_{_type}",
            ("i64", "i64", *_sizes, _type, _pointer, "i64", _pointer, "i64", _type, _pointer, "i64"),
            "none",
            gemm,
        )
    )
for _kind, (_form, _type) in KINDS.items():
    _pointer = POINTER + _type
    _three = ("i64", "i64", "i64")
    _more = (*_three, *_three) if _form == "nested" else ("i64", "i64")
    _operands = (*_three, _pointer, "i64", "i64", _pointer, "i64", "i64", _pointer, "i64", "i64", *_more)
    register(Primitive(f"product_{_kind}", _operands, "none", _caller(_kind)))
