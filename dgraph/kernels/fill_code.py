"""The native argument filler: LLVM text that reads NumPy array objects, and the test that they look as it expects.

The plan that it reads is a row of 64-bit words: address of the table, first argument, number of arguments, then for
each argument the address of its dtype object, its rank, its slot in the table and how a float is passed (1 double,
2 single, else not at all).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Mapping
from functools import partial

import numpy as np

from dgraph.kernels.cache import Cache, make_key
from dgraph.kernels.load import load_object, machine_name

_WORD = 8
# C-contiguous and aligned, in NumPy's flags.
_FLAGS = 0x101

_KIND = "fill"
_brought: dict[str, bytes] = {}

_FLOAT_TYPE, _ARRAY_TYPE = "dgraph_float_type", "dgraph_array_type"
_TEXT = """
@dgraph_float_type = external global i8
@dgraph_array_type = external global i8

define i64 @fill(ptr %arguments, ptr %plan) nounwind {{
entry:
  %items = getelementptr i8, ptr %arguments, i64 {items}
  %table_address = load i64, ptr %plan
  %table = inttoptr i64 %table_address to ptr
  %start_place = getelementptr i64, ptr %plan, i64 1
  %start = load i64, ptr %start_place
  %count_place = getelementptr i64, ptr %plan, i64 2
  %count = load i64, ptr %count_place
  br label %next

next:
  %position = phi i64 [ %start, %entry ], [ %after, %done ]
  %is_last = icmp sge i64 %position, %count
  br i1 %is_last, label %fits, label %look

look:
  %row_start = mul i64 %position, 4
  %row = getelementptr i64, ptr %plan, i64 %row_start
  %dtype_place = getelementptr i64, ptr %row, i64 3
  %dtype = load i64, ptr %dtype_place
  %rank_place = getelementptr i64, ptr %row, i64 4
  %rank = load i64, ptr %rank_place
  %slot_place = getelementptr i64, ptr %row, i64 5
  %slot = load i64, ptr %slot_place
  %code_place = getelementptr i64, ptr %row, i64 6
  %code = load i64, ptr %code_place
  %target = getelementptr i64, ptr %table, i64 %slot
  %item_place = getelementptr ptr, ptr %items, i64 %position
  %item = load ptr, ptr %item_place
  %type_place = getelementptr i8, ptr %item, i64 {type}
  %type = load i64, ptr %type_place
  %is_scalar = icmp eq i64 %rank, 0
  br i1 %is_scalar, label %scalar, label %maybe_array

scalar:
  %is_float = icmp eq i64 %type, ptrtoint (ptr @dgraph_float_type to i64)
  br i1 %is_float, label %float, label %misfit

float:
  %number_place = getelementptr i8, ptr %item, i64 {float_value}
  %number = load double, ptr %number_place
  switch i64 %code, label %misfit [ i64 1, label %double
                                    i64 2, label %single ]

double:
  store double %number, ptr %target
  br label %done

single:
  %rounded = fptrunc double %number to float
  %none_if_finite = fsub double %number, %number
  %is_finite = fcmp ord double %none_if_finite, 0.0
  %none_if_fitting = fsub float %rounded, %rounded
  %is_lost = fcmp uno float %none_if_fitting, 0.0
  %overflows = and i1 %is_finite, %is_lost
  br i1 %overflows, label %misfit, label %exact

exact:
  store i64 0, ptr %target
  store float %rounded, ptr %target
  br label %done

maybe_array:
  %is_array = icmp eq i64 %type, ptrtoint (ptr @dgraph_array_type to i64)
  br i1 %is_array, label %array, label %misfit

array:
  %dtype_field = getelementptr i8, ptr %item, i64 {dtype}
  %its_dtype = load i64, ptr %dtype_field
  %same_dtype = icmp eq i64 %its_dtype, %dtype
  %rank_field = getelementptr i8, ptr %item, i64 {rank}
  %its_rank = load i32, ptr %rank_field
  %its_wide_rank = zext i32 %its_rank to i64
  %same_rank = icmp eq i64 %its_wide_rank, %rank
  %flags_field = getelementptr i8, ptr %item, i64 {flags}
  %its_flags = load i32, ptr %flags_field
  %its_order = and i32 %its_flags, {wanted_flags}
  %is_ordered = icmp eq i32 %its_order, {wanted_flags}
  %same_type = and i1 %same_dtype, %same_rank
  %matches = and i1 %same_type, %is_ordered
  br i1 %matches, label %copy, label %misfit

copy:
  %data_field = getelementptr i8, ptr %item, i64 {data}
  %data = load i64, ptr %data_field
  store i64 %data, ptr %target
  %sizes_field = getelementptr i8, ptr %item, i64 {sizes}
  %sizes = load ptr, ptr %sizes_field
  br label %copy_size

copy_size:
  %axis = phi i64 [ 0, %copy ], [ %axis_after, %copy_size ]
  %size_place = getelementptr i64, ptr %sizes, i64 %axis
  %size = load i64, ptr %size_place
  %axis_after = add i64 %axis, 1
  %size_target = getelementptr i64, ptr %target, i64 %axis_after
  store i64 %size, ptr %size_target
  %more = icmp slt i64 %axis_after, %rank
  br i1 %more, label %copy_size, label %done

done:
  %after = add i64 %position, 1
  br label %next

misfit:
  ret i64 %position

fits:
  ret i64 -1
}}
"""


def _offsets() -> dict[str, int]:
    """Where the fields of tuples, floats and arrays are expected, in bytes."""
    head = object.__basicsize__
    return {
        "items": tuple.__basicsize__,
        "type": head - _WORD,
        "float_value": head,
        "data": head,
        "rank": head + _WORD,
        "sizes": head + 2 * _WORD,
        "dtype": head + 5 * _WORD,
        "flags": head + 6 * _WORD,
    }


def _word(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


def layout_is_known() -> bool:
    """Whether the objects of this interpreter and this NumPy have their fields where the code reads them."""
    if ctypes.sizeof(ctypes.c_void_p) != _WORD or np.ndarray.__basicsize__ < object.__basicsize__ + 7 * _WORD:
        return False
    offsets = _offsets()
    probe = np.zeros((3, 5), np.float32)
    turned = probe.T
    number, pair = 1.25, (probe, turned)
    for item, flags in ((probe, _FLAGS), (turned, _FLAGS & ~1)):
        place = id(item)
        sizes = _word(place + offsets["sizes"])
        # The sizes are followed by the strides; only an address that the next field confirms is followed.
        agrees = (
            _word(place + offsets["type"]) == id(np.ndarray)
            and _word(place + offsets["data"]) == item.__array_interface__["data"][0]
            and ctypes.c_int32.from_address(place + offsets["rank"]).value == item.ndim
            and _word(place + offsets["sizes"] + _WORD) == sizes + item.ndim * _WORD
            and _word(place + offsets["dtype"]) == id(item.dtype)
            and ctypes.c_int32.from_address(place + offsets["flags"]).value & _FLAGS == flags
        )
        if not agrees or tuple(_word(sizes + axis * _WORD) for axis in range(item.ndim)) != item.shape:
            return False
    return (
        _word(id(pair) + offsets["items"]) == id(probe)
        and _word(id(pair) + offsets["items"] + _WORD) == id(turned)
        and _word(id(number) + offsets["type"]) == id(float)
        and ctypes.c_double.from_address(id(number) + offsets["float_value"]).value == number
    )


@functools.cache
def native_fill() -> _Filler | None:
    """The filler, whose `call` takes a tuple and the address of a plan; None where objects look otherwise."""
    return _Filler(*fill_code().values()) if layout_is_known() else None


@functools.cache
def fill_code() -> dict[str, bytes]:
    """The object code of the filler, for the layout of objects that its name tells."""
    text = _text()
    made = partial(_compiled, text)
    return {
        _name(): _brought.get(_name())
        or Cache.default().got_or_made(make_key(_KIND, text, machine=machine_name()), made)
    }


def bring_fill_code(pieces: Mapping[str, bytes]) -> None:
    """Take object code that was made elsewhere on such a machine; it serves if it is for the same layout."""
    _brought.update(pieces)


def is_fill_code(name: str) -> bool:
    """Whether a piece of code is a filler, by its name."""
    return name.startswith(_KIND)


def _text() -> str:
    return _TEXT.format(**_offsets(), wanted_flags=_FLAGS)


def _name() -> str:
    return f"{_KIND} {hashlib.sha256(_text().encode()).hexdigest()}"


def _compiled(text: str) -> bytes:
    from dgraph.kernels.native import compile_text

    return compile_text(text)


class _Filler:
    """The function together with its machine code, which lives as long."""

    def __init__(self, code: bytes) -> None:
        known = {_FLOAT_TYPE: id(float), _ARRAY_TYPE: id(np.ndarray)}
        self._loaded = load_object(code, name="fill", known=known)
        self.call = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.py_object, ctypes.c_void_p)(self._loaded.address)
