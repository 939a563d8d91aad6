"""The ops. Importing this package fills the table `dgraph.ir.op.OPS`."""

from dgraph.ops import (
    arithmetic,
    compare,
    control,
    index,
    linalg,
    reduce,
    shape,
    transcendental,
    transform,
    values,
)

__all__ = [
    "arithmetic",
    "compare",
    "control",
    "index",
    "linalg",
    "reduce",
    "shape",
    "transcendental",
    "transform",
    "values",
]
