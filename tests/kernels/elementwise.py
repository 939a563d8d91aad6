"""Runs primitives over arrays: one program with a loop for each of the primitives asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dgraph.kernels.helpers import PRIMITIVES
from dgraph.kernels.load import NativeEntry, load_object
from dgraph.kernels.native import compile_source

NUMPY = {"f32": "f4", "f64": "f8", "i32": "i4", "i64": "i8", "u8": "u1", "bool": "?"}


def program(names: Sequence[str]) -> str:
    """A loop for each primitive; the table holds its number, the length, the result and the operands."""
    parts, calls = [], []
    for number, name in enumerate(names):
        primitive = PRIMITIVES[name]
        places = [f"x{i}" for i in range(len(primitive.operands))]
        formals = [f"{place}: pointer_{kind}" for place, kind in zip(places, primitive.operands, strict=True)]
        loads = [f"load_{kind}({place}, i)" for place, kind in zip(places, primitive.operands, strict=True)]
        parts.append(
            f"def kernel_{name}(n: i64, y: pointer_{primitive.result}, {', '.join(formals)}):\n"
            f"    for i in range(n):\n"
            f"        store_{primitive.result}(y, i, {name}({', '.join(loads)}))\n\n"
        )
        kinds = [primitive.result, *primitive.operands]
        pointers = [f"pointer_{kind}(load_i64(table, {2 + i}))" for i, kind in enumerate(kinds)]
        calls.append(f"    if number == {number}:\n        kernel_{name}(load_i64(table, 1), {', '.join(pointers)})\n")
    entry = "def entry(table: pointer_i64) -> i64:\n    number = load_i64(table, 0)\n"
    return "".join(parts) + entry + "".join(calls) + "    return 0\n"


class Runner:
    """Compiled loops over primitives."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.native: NativeEntry = load_object(compile_source(program(self.names)))

    def __call__(self, name: str, *operands: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        primitive = PRIMITIVES[name]
        ready = [
            np.ascontiguousarray(operand, NUMPY[kind])
            for operand, kind in zip(operands, primitive.operands, strict=True)
        ]
        result = np.empty(ready[0].shape, NUMPY[primitive.result])
        addresses = [array.ctypes.data for array in (result, *ready)]
        table = np.array([self.names.index(name), ready[0].size, *addresses], np.int64)
        assert self.native.call(table.ctypes.data) == 0
        return result
