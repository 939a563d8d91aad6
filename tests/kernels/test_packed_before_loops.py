"""Points several at a time inside a loop that all of them make together: what they read is brought together before it.

The emulator's memory holds NaN wherever nothing was written.
"""

from __future__ import annotations

import numpy as np
import pytest
from nest_emulator import emulate

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.program.pipeline import stage

PROGRAM = """
def skin[n](w: f64[n, 22], p: f64[n, 4], move: f64[22, 4, 4]) -> f64:
    q[i] = sum(w[i, k] * (move[k, :3] @ p[i]) for k)
    return sum(q ** 3)
"""


@pytest.mark.parametrize("points", [2, 40])
def test_the_way_back_of_a_sum_over_bones(points: int) -> None:
    graph = stage(dg.value_and_grad(dg.parse(PROGRAM).skin, ("w", "p", "move")).graph, "kernels")
    random = np.random.default_rng(0)
    arguments = [random.normal(size=shape) for shape in ((points, 22), (points, 4), (22, 4, 4))]
    expected = evaluate(graph, arguments)
    for found, exact in zip(emulate(graph, arguments), expected, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-12)
