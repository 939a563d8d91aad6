"""Matrix products of points are gathered where a point has a node with several results of which a check reads one."""

import numpy as np

import dgraph as dg

TEXT = """
def f[n](w: f64[n, n], u: f64[n]) -> f64[n]:
    x: f64[n] = zeros()
    change = 1.0
    while change > 1e-3:
        new = tanh(u + 0.5 * x)
        change = norm(new - x)
        x = new
    assert change < 1.0
    return w @ x
"""


def test_the_result_that_only_the_check_reads_comes_along() -> None:
    f = dg.parse(TEXT).f
    random = np.random.default_rng(0)
    w, rows = random.normal(size=(5, 5)), random.normal(size=(7, 5))
    found = dg.vmap(f, over="u")(w, rows)
    np.testing.assert_allclose(found, np.stack([f(w, row) for row in rows]), rtol=1e-13)
