"""Numbers that come out alike for all points, found by each: points that go several at a time do not share them."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.kernels.native import compile_source
from dgraph.program.pipeline import stage

TEXT = """
def written[n, m](x: f64[n], y: f64[m], w: f64[n, m], q: f64, a: f64) -> f64:
    u = 0.5 * w
    u[i] -= 0.4 * (q / (1 + a ** 2) if 0 < i and i < n - 1 else x[0]) * y for i in range(n)
    return sum(u)

def product[n, m](x: f64[n], y: f64[m], w: f64[n, m], q: f64, a: f64) -> f64:
    t[i] = prod(tanh(y[j] * q) for j) * (x[i] if x[i] > a else sum(w[i, j] * y[j] for j))
    return sum(t[i] * sum(y[j] ** 2 for j) for i)
"""


@pytest.mark.parametrize("n", [0, 1, 3, 8, 9, 31, 33, 100, 300])
@pytest.mark.parametrize("name", ["written", "product"])
def test_derivatives_by_what_points_share(name: str, n: int):
    rng = np.random.default_rng(n)
    arguments = [rng.normal(size=n), rng.normal(size=2), rng.normal(size=(n, 2)), 0.3, 0.2]
    function = dg.grad(dg.parse(TEXT).function(name), wrt=("x", "y", "w", "q", "a"))
    step = dg.compile(function)
    found = step.kernel.call(arguments)
    expected = evaluate(stage(function.graph, "expand"), list(arguments))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    pytest.importorskip("numba")
    if n in (3, 33):
        kernel = step.kernel
        code = compile_source(kernel.source, "numba")
        slow = type(kernel)(kernel.interface, kernel.source, kernel.report, code, kernel.allowance)
        for one, other in zip(found, slow.call(arguments), strict=True):
            np.testing.assert_array_equal(one, other)
