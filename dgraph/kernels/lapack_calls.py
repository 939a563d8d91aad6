"""LAPACK, called from generated code by symbol like the BLAS: a primitive for each routine that a factorisation needs.

LAPACK sees the transpose of a row-major matrix; what each routine means for ours stands in `lapack_source`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dgraph.kernels.primitives import Primitive, register
from dgraph.kernels.products import by_reference, call_routine
from dgraph.kernels.values import FLOATS, POINTER, SCALARS, Value, select

_CHARACTER = SCALARS["u8"]
_I64 = SCALARS["i64"]


def _letter(like: Value, letter: str) -> Any:
    return by_reference(like.make(_CHARACTER(ord(letter)), "u8"))


def _either(flag: Value, yes: str, no: str) -> Any:
    chosen, other = (flag.make(_CHARACTER(ord(letter)), "u8") for letter in (yes, no))
    return by_reference(select(flag.differs(0), chosen, other))


def _number(like: Value, value: int) -> Any:
    return by_reference(like.make(_I64(value), "i64"))


def _type_of(pointer: Value) -> str:
    return pointer.type.removeprefix(POINTER)


def _run(routine: str, matrix: Value, operands: list[Any], letters: int) -> None:
    """Call a routine. Fortran takes the lengths of its letters behind everything else."""
    call_routine(routine, _type_of(matrix), matrix.builder, [*operands, *[_I64(1)] * letters])


def _run_for_status(routine: str, matrix: Value, operands: list[Any], letters: int = 0) -> Value:
    """Call a routine that ends with its status: 0 if all went well."""
    builder = matrix.builder
    with builder.goto_entry_block():
        slot = builder.alloca(_I64)
    # A LAPACK with 32-bit integers writes the low half.
    builder.store(_I64(0), slot)
    _run(routine, matrix, [*operands, slot], letters)
    return matrix.make(builder.load(slot, typ=_I64), "i64")


def potrf(n: Value, a: Value) -> Value:
    """The Cholesky factor of a symmetric matrix, of which the lower triangle is read and written."""
    size = by_reference(n)
    return _run_for_status("potrf", a, [_letter(n, "U"), size, a.llvm, size], 1)


def getrf(n: Value, a: Value, pivots: Value) -> Value:
    """The factors of a square matrix in place, and the exchanges, counted from 1, in integers as wide as LAPACK's."""
    size = by_reference(n)
    return _run_for_status("getrf", a, [size, size, a.llvm, size, pivots.llvm])


def trsm(lower: Value, transposed: Value, unit: Value, n: Value, k: Value, t: Value, x: Value) -> None:
    """Solve with a triangle for k columns, in place."""
    flags = [_either(lower, "U", "L"), _either(transposed, "T", "N"), _either(unit, "U", "N")]
    one = by_reference(x.make(SCALARS[_type_of(x)](1.0), _type_of(x)))
    rows, columns = by_reference(k), by_reference(n)
    _run("trsm", x, [_letter(n, "R"), *flags, rows, columns, one, t.llvm, columns, x.llvm, rows], 4)


def trsv(lower: Value, transposed: Value, unit: Value, n: Value, t: Value, x: Value) -> None:
    """Solve with a triangle for one column, in place."""
    flags = [_either(lower, "U", "L"), _either(transposed, "N", "T"), _either(unit, "U", "N")]
    size = by_reference(n)
    _run("trsv", x, [*flags, size, t.llvm, size, x.llvm, _number(n, 1)], 3)


def gelqf(m: Value, n: Value, a: Value, scales: Value, work: Value, room: Value) -> Value:
    """The triangle and the reflections of a matrix of m rows and n columns, in place."""
    rows, columns = by_reference(n), by_reference(m)
    return _run_for_status("gelqf", a, [rows, columns, a.llvm, rows, scales.llvm, work.llvm, by_reference(room)])


def orglq(m: Value, n: Value, a: Value, scales: Value, work: Value, room: Value) -> Value:
    """The n orthonormal columns that reflections make, in place."""
    rows, columns = by_reference(n), by_reference(m)
    operands = [rows, columns, rows, a.llvm, rows, scales.llvm, work.llvm, by_reference(room)]
    return _run_for_status("orglq", a, operands)


def syevd(n: Value, a: Value, w: Value, work: Value, room: Value, integers: Value, places: Value) -> Value:
    """The eigenvalues of a symmetric matrix, and in its place the eigenvectors as rows."""
    size = by_reference(n)
    operands = [_letter(n, "V"), _letter(n, "L"), size, a.llvm, size, w.llvm, work.llvm, by_reference(room)]
    return _run_for_status("syevd", a, [*operands, integers.llvm, by_reference(places)], 2)


def gesdd(
    m: Value, n: Value, a: Value, s: Value, u: Value, vt: Value, work: Value, room: Value, integers: Value
) -> Value:
    """The reduced singular value decomposition of a matrix of m >= n rows, which is lost."""
    rows, columns = by_reference(n), by_reference(m)
    operands = [_letter(n, "S"), rows, columns, a.llvm, rows, s.llvm, vt.llvm, rows, u.llvm, rows]
    return _run_for_status("gesdd", a, [*operands, work.llvm, by_reference(room), integers.llvm], 1)


for _type in FLOATS:
    _matrix = POINTER + _type
    _routines: list[tuple[Callable[..., Value | None], tuple[str, ...], str]] = [
        (potrf, ("i64", _matrix), "i64"),
        (getrf, ("i64", _matrix, "pointer_i64"), "i64"),
        (trsm, (*("i64",) * 5, _matrix, _matrix), "none"),
        (trsv, (*("i64",) * 4, _matrix, _matrix), "none"),
        (gelqf, ("i64", "i64", _matrix, _matrix, _matrix, "i64"), "i64"),
        (orglq, ("i64", "i64", _matrix, _matrix, _matrix, "i64"), "i64"),
        (syevd, ("i64", _matrix, _matrix, _matrix, "i64", "pointer_i64", "i64"), "i64"),
        (gesdd, ("i64", "i64", *(_matrix,) * 5, "i64", "pointer_i64"), "i64"),
    ]
    for _body, _operands, _result in _routines:
        register(Primitive(f"{_body.__name__}_{_type}", _operands, _result, _body))
