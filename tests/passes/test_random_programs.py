"""Every pass of the pipeline on random programs: legal graphs, and equal results to the last bit."""

import pytest
from random_arrays import Program, arguments_of, is_close, is_same

from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Graph
from dgraph.passes import FUSE, INLINE, OPTIMISE, run_passes

REORDERS = {"expand_arrays", "find_products", "loop_products", "batch_products", "narrow_products"}
"""NumPy sums in pairs and by BLAS, an index space one entry after another."""


def check(graph: Graph) -> None:
    arguments = arguments_of(graph)
    before = evaluate(graph, arguments)
    for name in [*INLINE, *OPTIMISE, *FUSE]:
        graph = run_passes(graph, [name], verify=True)
        after = evaluate(graph, arguments)
        assert is_close(before, after) if name in REORDERS else is_same(before, after), name
        before = after


@pytest.mark.parametrize("seed", range(60))
def test_short_programs(seed: int):
    check(Program(seed).graph(6))


@pytest.mark.parametrize("seed", range(15))
def test_long_programs(seed: int):
    check(Program(1000 + seed).graph(20))
