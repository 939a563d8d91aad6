"""Loops with `@checkpoint` and `@bound` in generated source: they run as many steps as in the interpreter."""

from collections import Counter

import numpy as np
import pytest
from nest_emulator import Space, run_table

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.kernels.compile import plan_graph
from dgraph.kernels.numba_source import print_program
from dgraph.program.pipeline import stage

FOR = """
def f(y: f64, n: i32) -> f64:
    {}
    for i in range(n):
        y = sin(y)
    return y
"""

WHILE = """
def f(y: f64, n: i32) -> f64:
    i = 0
    {}
    while i < n:
        y = sin(y)
        i += 1
    return y
"""


class Watched(Space):
    """Counts calls, and notes what is reserved for tapes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.reserved: list[int] = []
        for name in ("sin_f64", "cos_f64"):
            self[name] = self.counted(name)

    def counted(self, name: str):
        run = self.__missing__(name)

        def call(*operands):
            self.calls[name] += 1
            return run(*operands)

        return call

    def reserve(self, row: int, count: int) -> int:
        self.reserved.append(count)
        return super().reserve(row, count)


def watched(text: str, steps: int) -> tuple[Watched, list[float]]:
    """What the source of the gradient does, and what it computes."""
    graph = stage(dg.value_and_grad(dg.parse(text).f, wrt="y").graph, "kernels")
    program = plan_graph(graph)
    space = Watched()
    exec(compile("from __future__ import annotations\n" + print_program(program), "<generated>", "exec"), space)
    return space, run_table(space, program, graph, [np.float64(0.3), np.int32(steps)], {})


def interpreted(text: str, steps: int) -> tuple[Counter[str], list[float]]:
    graph = stage(dg.value_and_grad(dg.parse(text).f, wrt="y").graph, "optimised")
    seen: Counter[str] = Counter()
    found = evaluate(graph, [np.float64(0.3), np.int32(steps)], observer=lambda node, _: seen.update([node.op.name]))
    return seen, list(found)


@pytest.mark.parametrize("loop", [FOR, WHILE])
@pytest.mark.parametrize("wish", ["none", "slots=1", "slots=3", "slots=8", 'budget="150B"', "every=7"])
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 8, 9, 60])
def test_as_many_steps_run_as_in_the_interpreter(loop: str, wish: str, steps: int):
    text = loop.format(f"@checkpoint({wish})")
    (space, found), (seen, expected) = watched(text, steps), interpreted(text, steps)
    assert space.calls["sin_f64"] == seen["sin"]
    assert space.calls["cos_f64"] == seen["cos"] == steps
    assert found == expected


@pytest.mark.parametrize("loop", [FOR, WHILE])
@pytest.mark.parametrize("wish", ["slots=1", "slots=8", 'budget="150B"'])
def test_memory_does_not_depend_on_the_number_of_steps(loop: str, wish: str):
    few, many = (watched(loop.format(f"@checkpoint({wish})"), steps)[0] for steps in (2, 90))
    assert few.reserved == many.reserved


@pytest.mark.parametrize(("steps", "grown"), [(0, 1), (1, 1), (50, 1), (51, 2)])
def test_a_bound_reserves_the_tape_at_once(steps: int, grown: int):
    """Entries of 8 bytes, and 64 to align them; beyond the bound the tape grows."""
    space, _ = watched(WHILE.format("@bound(50)"), steps)
    assert space.reserved[0] == 50 * 8 + 64
    assert len(space.blocks) == grown


def test_a_bound_counts_the_blocks_of_every():
    """The residuals of a block lie in the arena; the states before the blocks are a tape."""
    space, _ = watched(WHILE.format("@bound(50)\n    @checkpoint(every=8)"), 50)
    assert space.reserved == [8 * 8, 7 * 8 + 64]
