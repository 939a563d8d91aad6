"""What was planned, for a person: kernels, buffers, memory as formulas over the sizes."""

from __future__ import annotations

from typing import Any

from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Call, MatrixProduct, Program
from dgraph.sizes import Size


def report_of(program: Program) -> dict[str, Any]:
    """The plan as plain data."""
    total = Size(())
    for slot in program.slots:
        total = total + slot
    return {
        "kernels": [[kernel.name, kernel.note] for kernel in program.kernels],
        "kernel_calls": sum(isinstance(statement, Call) for statement in walk(program.body)),
        "matrix_products": sum(isinstance(statement, MatrixProduct) for statement in walk(program.body)),
        "buffers": [[buffer.name, buffer.type, str(buffer.entries), slot] for buffer, slot in program.places.items()],
        "slots": [str(slot) for slot in program.slots],
        "arena_bytes": str(total),
        "tapes": program.rows - 1,
        "checks": len(program.checks),
    }
