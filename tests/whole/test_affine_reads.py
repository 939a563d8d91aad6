"""Loops that read an array in even steps: what a step adds to its cotangent is added in place, whatever the array."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Graph, walk
from dgraph.passes.costs import Costs
from dgraph.program.pipeline import stage

READS = {
    "forwards": ("n", "i"),
    "backwards": ("n", "n - 1 - i"),
    "later": ("n + 2", "i + 2"),
    "from a size on": ("n + m", "i + m"),
    "every other": ("2 * n", "2 * i"),
    "every third, backwards": ("3 * n", "3 * n - 2 - 3 * i"),
    "by a number of the run": ("2 * n + 1", "a * i + 1"),
}
ENTRIES = """
def f[n, m](x: f64[{extent}], w: f64[m], j: i64[n], a: i64) -> f64:
    s = sum(w)
    {wish}
    for i in range(n):
        s = (s * x[{place}] + w[0]) / (1 + s * s)
    return s * s
"""
ROWS = """
def f[n, m](x: f64[{extent}, m], w: f64[m], j: i64[n], a: i64) -> f64:
    s = w
    {wish}
    for i in range(n):
        r = x[{place}]
        s = (s * r + w) / (1 + s * s)
        s[0] = s[1] * r[0]
    return sum(s * s)
"""
WINDOWS = """
def f[n, m](x: f64[{extent} + 3], w: f64[m], j: i64[n], a: i64) -> f64:
    s = w[0]
    {wish}
    for i in range(n):
        p = {place}
        s = (s + sum(x[p:p + 3]) * w[1]) / (1 + s * s) * x[p]
    return s
"""
PROGRAMS = {"entries": ENTRIES, "rows": ROWS, "windows": WINDOWS}
WISHES = ["", "@checkpoint(none)", "@checkpoint(every=2)", "@checkpoint(slots=2)", '@checkpoint(budget="100B")']
M, A = 2, 2


def text_of(program: str, read: str, wish: str = "", place: str | None = None) -> str:
    extent, found = READS[read]
    return PROGRAMS[program].format(extent=extent, place=place or found, wish=wish)


def arguments(program: str, read: str, n: int) -> tuple[object, ...]:
    rng = np.random.default_rng(n)
    extent, place = (eval(part, {"n": n, "m": M, "a": A, "i": np.arange(n)}) for part in READS[read])
    shape = {"entries": (extent,), "rows": (extent, M), "windows": (extent + 3,)}[program]
    return rng.uniform(0.5, 1.5, shape), rng.uniform(0.5, 1.5, M), np.asarray(place, np.int64), A


def slope(text: str) -> dg.Function:
    return dg.value_and_grad(dg.parse(text).f, wrt=("x", "w"))


def bits(found: object) -> list[bytes]:
    if isinstance(found, tuple):
        return [part for one in found for part in bits(one)]
    return [np.asarray(found).tobytes()]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("read", READS)
def test_slopes_are_those_of_a_loop_that_looks_places_up(program: str, read: str):
    """For no step, one and more, whatever the loop keeps."""
    looked_up = stage(slope(text_of(program, read, place="j[i]")).graph, "kernels")
    for wish in WISHES:
        graph = stage(slope(text_of(program, read, wish)).graph, "kernels")
        for n in (0, 1, 2, 7):
            given = arguments(program, read, n)
            assert bits(tuple(evaluate(graph, given))) == bits(tuple(evaluate(looked_up, given))), (wish, n)


SEVERAL = """
def f[n, m](x: f64[2 * n + 1, m], y: f64[2 * n + 1], w: f64[m], a: i64) -> f64:
    s = w
    {wish}
    for i in range(n):
        r = x[n - i]
        s = (s * r + x[2 * i + 1]) / (1 + s * s * y[2 * n - 2 * i])
        s[0] = s[1] * r[0] + sum(y[i:i + 2]) * y[a * i + 1]
    return sum(s * s)
"""


@pytest.mark.parametrize("wish", WISHES)
def test_compiled_slopes_are_those_interpreted(wish: str):
    function = dg.value_and_grad(dg.parse(SEVERAL.format(wish=wish)).f, wrt=("x", "y", "w"))
    graph = stage(function.graph, "kernels")
    for n in (0, 1, 2, 7):
        rng = np.random.default_rng(n)
        given = rng.uniform(0.5, 1.5, (2 * n + 1, 3)), rng.uniform(0.5, 1.5, 2 * n + 1), rng.uniform(0.5, 1.5, 3), 2
        assert bits(function(*given)) == bits(tuple(evaluate(graph, given))), n


SECOND = """
def down[n, m](x: f64[{extent}, m], w: f64[m], j: i64[n], a: i64, v: f64[{extent}, m]) -> f64:
    return sum(grad(f, wrt=x)(x, w, j, a) * v)

def along[n, m](x: f64[{extent}, m], w: f64[m], j: i64[n], a: i64, v: f64[{extent}, m]) -> f64:
    return jvp(f, wrt=x)(x, w, j, a, v)[1]
"""


@pytest.mark.parametrize(
    ("read", "wish"),
    [("backwards", ""), ("later", ""), ("by a number of the run", ""), ("every other", "@checkpoint(slots=2)")],
)
def test_second_derivatives_in_all_modes(read: str, wish: str):
    program = dg.parse(text_of("rows", read, wish) + SECOND.format(extent=READS[read][0]))
    slope_of = dg.grad(program.f, wrt="x")
    for n in (0, 1, 5):
        given = x, *others = arguments("rows", read, n)
        v = np.random.default_rng(1).normal(size=x.shape)
        ends = [slope_of(x + step * v, *others) for step in (1e-5, -1e-5)]
        expected = (ends[0] - ends[1]) / 2e-5
        found = {
            "forward over reverse": dg.jvp(slope_of, wrt="x")(*given, v)[1],
            "reverse over reverse": dg.grad(program.down, wrt="x")(*given, v),
            "reverse over forward": dg.grad(program.along, wrt="x")(*given, v),
            "forward over forward": dg.jvp(program.along, wrt="x")(*given, v, np.ones_like(x))[1],
        }
        for name, value in found.items():
            wanted = expected if np.ndim(value) else expected.sum()
            np.testing.assert_allclose(value, wanted, rtol=1e-6, atol=1e-8, err_msg=f"{name}, {n}")


def degrees(graph: Graph) -> set[tuple[str, ...]]:
    """Which products of sizes the operations and the bytes of a graph grow with."""
    found = Costs().region(graph.region)
    return {monomial for part in (found.operations, found.moved) for monomial, _ in part.terms}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("read", READS)
def test_a_slope_costs_the_steps_and_the_array_once(program: str, read: str):
    wide = {"rows": ("m", "n")}.get(program, ("n",))
    for wish in ("", "@checkpoint(none)"):
        graph = stage(slope(text_of(program, read, wish)).graph, "kernels")
        assert all(len(monomial) <= len(wide) for monomial in degrees(graph)), wish


PRODUCTS = """
def f[n, m, h](x: f64[{extent}, m], w: f64[m, h], u: f64[h, h]) -> f64:
    s = zeros(h)
    for i in range(n):
        s = tanh(x[{place}] @ w + s @ u)
    return sum(s * s)
"""


@pytest.mark.parametrize("read", ["forwards", "backwards", "later", "every other", "every third, backwards"])
def test_products_with_rows_are_done_at_once(read: str):
    """In the loop only the products with the state are left, on the way there and on the way back."""
    extent, place = (part.replace("m", "2") for part in READS[read])
    f = dg.parse(PRODUCTS.format(extent=extent, place=place)).f
    graph = stage(dg.grad(f, wrt=("x", "w", "u")).graph, "kernels")
    loops = [node for node in graph.region.nodes if node.op.name == "for"]
    assert [sum(node.op.name == "dot" for node in walk(loop.regions[0])) for loop in loops] == [1, 1]


@pytest.mark.parametrize("of", [lambda f: f, dg.value_and_grad])
def test_a_place_out_of_range_is_told_at_its_step(of):
    function = of(dg.parse(text_of("entries", "by a number of the run")).f)
    x, w, j, _ = arguments("entries", "by a number of the run", 7)
    for call in (function, lambda *given: evaluate(stage(function.graph, "kernels"), given)):
        with pytest.raises(dg.DgraphError) as fault:
            call(x, w, j, 3)
        assert "index (16,) is out of range" in str(fault.value)
        assert "in step 5 (from 0) of the loop at line 5" in str(fault.value)
