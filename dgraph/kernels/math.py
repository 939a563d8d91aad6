"""Which helper of generated source computes an op, `MATH[("tanh", "f32")]` is `tanh_f32`, and ops in precise form."""

from __future__ import annotations

from dgraph.kernels.helpers import PRIMITIVES
from dgraph.kernels.math_precise import PRECISE
from dgraph.kernels.values import SCALARS

_NOT_ELEMENTWISE = ("address", "pointer", "convert")


def _table() -> dict[tuple[str, str], str]:
    table = {}
    for name, primitive in PRIMITIVES.items():
        op, _, type_name = name.rpartition("_")
        of_scalars = type_name in SCALARS and all(operand in SCALARS for operand in primitive.operands)
        if of_scalars and op.partition("_")[0] not in _NOT_ELEMENTWISE:
            table[op, type_name] = name
    return table


MATH: dict[tuple[str, str], str] = _table()


def precise_name(op: str, type_name: str) -> str:
    """The op that computes the same for `math="precise"`: the op itself where it is as near as that already."""
    return PRECISE + op if (PRECISE + op, type_name) in MATH else op
