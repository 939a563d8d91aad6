"""How the nests of a program are scheduled, and which ways were considered: the part of `explain` that reads loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

from dgraph.errors import NOWHERE, Span
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


def threads_of(program: Program, number: Callable[[Hashable], int] | None) -> list[dict[str, Any]]:
    """Each loop that threads may share: its operations in all, those of a part at least, how many parts there are at
    most, and how many there are where the numbers of the sizes are known."""
    kernels = {kernel.name: kernel for kernel in program.kernels}
    return [
        {
            "kernel": name,
            **place(_row_span(kernels[name])),
            "operations": str(split.work),
            "least": str(split.least),
            "most": split.most,
            "parts": None if number is None else split.parts(number),
        }
        for name, split in program.splits
    ]


def _row_span(kernel: Kernel) -> Span:
    """Where a kernel that calls others stands."""
    inner = [statement.kernel for statement in walk(kernel.body) if isinstance(statement, Call)]
    loops = [s for one in (kernel, *inner) for s in walk(one.body) if isinstance(s, Loop)]
    return next((loop.span for loop in loops if loop.span.source.text), NOWHERE)


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
