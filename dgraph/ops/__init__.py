"""The ops. Importing this package fills the table `dgraph.ir.op.OPS`."""

from dgraph.ops import (
    arithmetic,
    check,
    compare,
    control,
    index,
    linalg,
    random,
    reduce,
    scan,
    shape,
    special,
    transcendental,
    transform,
    values,
)

__all__ = [
    "arithmetic",
    "check",
    "compare",
    "control",
    "index",
    "linalg",
    "random",
    "reduce",
    "scan",
    "shape",
    "special",
    "transcendental",
    "transform",
    "values",
]
