"""How the nests of a program are scheduled, and which ways were considered: the part of `explain` that reads loops."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dgraph.errors import NOWHERE
from dgraph.kernels.nest_parts import expressions_of, parts, walk
from dgraph.kernels.nests import Call, Kernel, Loop, MatrixProduct, Program, Sum
from dgraph.program.explain_loops import place


def schedule_of(program: Program) -> list[dict[str, Any]]:
    """Each kernel with how often the program calls it from different places, its loops that go several turns at a time,
    its matrix products and sums in blocks, and the price of every way that was considered for its points."""
    calls = Counter(statement.kernel for statement in walk(program.body) if isinstance(statement, Call))
    rows = [{**_row(kernel), "calls": calls[kernel]} for kernel in program.kernels]
    alone = sum(isinstance(statement, MatrixProduct) for statement in walk(program.body))
    if alone:
        rows.append({**_row(Kernel("", (), (), (), (), (), program.body)), "kernel": "driver", "calls": 1})
    return rows


def _row(kernel: Kernel) -> dict[str, Any]:
    inside = list(walk(kernel.body))
    loops = [statement for statement in inside if isinstance(statement, Loop)]
    span = next((loop.span for loop in loops if loop.span.source.text), NOWHERE)
    lanes = dict.fromkeys((loop.index.name, loop.lanes) for loop in loops if loop.lanes)
    read = (part for held in inside for expression in expressions_of(held) for part in parts(expression))
    return {
        "kernel": kernel.name,
        **place(span),
        "lanes": [{"loop": name, "at_a_time": count} for name, count in lanes],
        "loops": len(loops),
        "products": sum(isinstance(statement, MatrixProduct) for statement in inside),
        "sums": sum(isinstance(part, Sum) for part in read),
        "considered": [
            [{"way": one.way, "cost": one.cost, "taken": one.is_taken} for one in ways] for ways in kernel.considered
        ],
    }
