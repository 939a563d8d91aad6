"""Everything that generated source may call, in one table: importing this module fills `PRIMITIVES`."""

from __future__ import annotations

from dgraph.kernels import (
    arithmetic,
    clock,
    lapack_calls,
    math_exponential,
    math_power,
    math_precise,
    math_special,
    math_trigonometric,
    memory,
    products,
    sums,
    thread_code,
)
from dgraph.kernels.primitives import PRIMITIVES

__all__ = [
    "PRIMITIVES",
    "arithmetic",
    "clock",
    "lapack_calls",
    "math_exponential",
    "math_power",
    "math_precise",
    "math_special",
    "math_trigonometric",
    "memory",
    "products",
    "sums",
    "thread_code",
]
