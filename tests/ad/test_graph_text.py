"""Transforms on graphs written as text: what expansion makes of them is kept as text, and its numbers are right."""

import numpy as np
import pytest

from dgraph.ad import expand
from dgraph.ir.evaluate import evaluate
from dgraph.ir.text import parse_graph, print_graph
from dgraph.ir.verify import verify

POWER = """
graph power(x: f64, n: i64):
    one: f64 = constant(value=1.0, dtype=f64)
    y: f64, slope: f64 = vjp(x, n, one, wrt=[true, false], seeded=[true], function="power"):
        region(x: f64, n: i64):
            start: f64 = constant(value=1.0, dtype=f64)
            last: f64 = for(n, start, x, carries=1):
                region(i: i64, p: f64, x: f64):
                    q: f64 = mul(p, x)
                    yield q
            yield last
    return y, slope
"""

GUARDED = """
graph guarded[n](x: f64[n]):
    one: f64 = constant(value=1.0, dtype=f64)
    total: f64, slope: f64[n] = vjp(x, one, wrt=[true], seeded=[true], function="guarded"):
        region(x: f64[n]):
            total: f64 = space(x, extents=[{n}], buffers=[acc<f64>]):
                region(i: i64, sum: acc<f64>, x: f64[n]):
                    v: f64 = index(x, i)
                    zero: f64 = constant(value=0.0, dtype=f64)
                    inside: bool = greater(v, zero)
                    added: acc<f64> = if(inside, sum, v):
                        region(sum: acc<f64>, v: f64):
                            root: f64 = sqrt(v)
                            more: acc<f64> = accumulate(sum, root)
                            yield more
                        region(sum: acc<f64>, v: f64):
                            yield sum
                    yield added
            yield total
    return total, slope
"""

HALVING = """
graph halving(x: f64, limit: f64):
    one: f64 = constant(value=1.0, dtype=f64)
    y: f64, trips: i64, dy: f64 = jvp(x, limit, one, active=[true, false], function="halving"):
        region(x: f64, limit: f64):
            last: f64, trips: i64 = while(x, limit, carries=1):
                region(v: f64, limit: f64):
                    more: bool = greater(v, limit)
                    yield more
                region(v: f64, limit: f64):
                    half: f64 = constant(value=0.5, dtype=f64)
                    next: f64 = mul(v, half)
                    yield next
            yield last, trips
    return y, trips, dy
"""


@pytest.mark.parametrize("text", [POWER, GUARDED, HALVING], ids=["power", "guarded", "halving"])
def test_expansion_reads_and_prints(text: str, golden):
    graph = verify(parse_graph(text))
    after = verify(expand(graph))
    golden(f"ad/{graph.name}.txt", text.lstrip() + "=>\n" + print_graph(after))
    assert print_graph(parse_graph(print_graph(after))) == print_graph(after)


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_reverse_mode_of_a_loop(n: int):
    value, slope = evaluate(expand(parse_graph(POWER)), [1.5, n])
    assert (value, slope) == pytest.approx((1.5**n, n * 1.5 ** (n - 1)))


def test_the_side_that_is_not_taken_gives_no_nan():
    x = np.array([-1.0, 0.0, 4.0, 0.25])
    value, slope = evaluate(expand(parse_graph(GUARDED)), [x])
    assert value == pytest.approx(2.5)
    np.testing.assert_allclose(slope, [0, 0, 0.25, 1.0])


@pytest.mark.parametrize(("x", "trips"), [(0.5, 0), (5.0, 3)])
def test_forward_mode_of_a_while(x: float, trips: int):
    value, count, tangent = evaluate(expand(parse_graph(HALVING)), [x, 1.0])
    assert (value, count, tangent) == pytest.approx((x * 0.5**trips, trips, 0.5**trips))
