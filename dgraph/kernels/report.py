"""What was planned, for a person: kernels, buffers, memory as formulas over the sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dgraph.kernels.nest_parts import walk
from dgraph.kernels.nests import Call, MatrixProduct, Program
from dgraph.kernels.rooms import Room
from dgraph.kernels.tape_use import tape_demands
from dgraph.sizes import Size, size


def report_of(program: Program) -> dict[str, Any]:
    """The plan as plain data."""
    return {
        "kernels": [[kernel.name, kernel.note] for kernel in program.kernels],
        "kernel_calls": sum(isinstance(statement, Call) for statement in walk(program.body)),
        "matrix_products": sum(isinstance(statement, MatrixProduct) for statement in walk(program.body)),
        "buffers": [
            [buffer.name, buffer.type, str(buffer.entries), [room.first, room.last]]
            for buffer, room in program.rooms.items()
        ],
        "arena_bytes": " or ".join(map(str, most_in_use(program.rooms.values()))) or "0",
        "result_bytes": str(_sum(output.bytes for output in program.outputs)),
        "tapes": [
            {"loop": demand.place, "step_bytes": str(demand.entry), "is_foretold": demand.total is not None}
            for demand in tape_demands(program)
        ],
        "checks": len(program.checks),
    }


def most_in_use(rooms: Iterable[Room]) -> list[Size]:
    """Bytes of the rooms in use at once, where they are most: more than one formula where that depends on the sizes."""
    listed = list(rooms)
    found: list[Size] = []
    for moment in sorted({room.first for room in listed}):
        total = _sum(room.bytes for room in listed if room.first <= moment <= room.last)
        if not any((other - total).is_nonnegative() for other in found):
            found = [*(other for other in found if not (total - other).is_nonnegative()), total]
    return found


def _sum(sizes: Iterable[Size]) -> Size:
    total = size(0)
    for one in sizes:
        total = total + one
    return total
