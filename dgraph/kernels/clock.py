"""The clock of generated source: the system's monotonic clock in nanoseconds, which takes about 20 to read."""

from __future__ import annotations

import time

from llvmlite import ir

from dgraph.kernels.primitives import Primitive, register
from dgraph.kernels.values import SCALARS, Value, declare

CLOCK = getattr(time, "CLOCK_MONOTONIC", None)
"""The number of the clock in POSIX's `clock_gettime`; None on systems without it."""

_I64 = SCALARS["i64"]
_I32 = ir.IntType(32)
_SECOND = 1_000_000_000


def clock(state: Value) -> Value:
    """Nanoseconds since some moment. Takes the state to be at a place in the code."""
    builder = state.builder
    read = declare(builder.module, "clock_gettime", ir.FunctionType(_I32, [_I32, ir.PointerType(_I64)]))
    with builder.goto_entry_block():
        moment = builder.alloca(_I64, size=2)
    builder.call(read, [_I32(CLOCK), moment])
    parts = [builder.load(builder.gep(moment, [_I64(place)], source_etype=_I64), typ=_I64) for place in (0, 1)]
    return state.make(builder.add(builder.mul(parts[0], _I64(_SECOND)), parts[1]), "i64")


register(Primitive("clock", ("pointer_i64",), "i64", clock))
