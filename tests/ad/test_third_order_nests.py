"""Derivatives of orders one to three, in all compositions of the modes, of a nest of every kind of control flow: a map
in a loop, a `while` with an early end in the map, choices in both; whatever the loops keep."""

import itertools

import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.program.pipeline import stage

NEST = """
def settle(z: f64, s: f64, k: i32) -> f64:
    y = z
    j = 0
    {inner}
    while j < k and y < 9:
        if y > 0.4:
            y = y * s + 0.1 * sin(z)
        else:
            y = y + s * s * 0.3
        j += 1
    return y

def f(s: f64, n: i32) -> f64:
    t = 0.2
    v: f64[4] = 0.3
    {outer}
    for i in range(n):
        r = [settle(v[q] * s, t, i % 3) for q in range(4)]
        v[i % 4] = sum(r) * 0.2 + v[(i + 1) % 4]
        if t > 0.5:
            t = t * 0.7 + v[n % 4] * s
        else:
            t = t + 0.1 * s
    return sum(v) * t
"""
MODES = {"f": "jvp({}, wrt=s)(s, n, 1.0)[1]", "r": "grad({}, wrt=s)(s, n)"}
WISHES = [("", ""), ("none", "none"), ("slots=2", "slots=1"), ("every=2", "slots=1, disk=2"), ("slots=1", "every=2")]
TRIPS = (0, 1, 2, 7)


def program() -> str:
    """Functions that are called by their modes, the innermost last."""
    text = NEST
    for order in (1, 2, 3):
        for modes in itertools.product(MODES, repeat=order):
            inner = "".join(("d", *modes[1:])) if order > 1 else "f"
            text += f"def d{''.join(modes)}(s: f64, n: i32) -> f64 = {MODES[modes[0]].format(inner)}\n"
    return text


@pytest.fixture(scope="module")
def by_differences() -> dict[tuple[int, int], float]:
    """Each order by differences of the order below."""
    text = program().format(inner="", outer="")
    functions = [dg.parse(text).function(name) for name in ("f", "dr", "dfr")]
    graphs = [stage(function.graph, "optimised") for function in functions]
    return {
        (order, trips): float(evaluate(graph, [0.8 + 1e-6, trips])[0] - evaluate(graph, [0.8 - 1e-6, trips])[0]) / 2e-6
        for order, graph in enumerate(graphs, 1)
        for trips in TRIPS
    }


@pytest.mark.parametrize("order", [1, 2, 3])
def test_all_compositions_agree(order: int, by_differences: dict[tuple[int, int], float]):
    """With each other and with differences; and each has the same bits whatever is kept."""
    expected: dict[tuple[str, int], float] = {}
    for outer, inner in WISHES:
        wishes = {name: f"@checkpoint({wish})" if wish else "" for name, wish in (("outer", outer), ("inner", inner))}
        known = dg.parse(program().format(**wishes))
        for modes in itertools.product(MODES, repeat=order):
            name = "d" + "".join(modes)
            graph = stage(known.function(name).graph, "optimised")
            for trips in TRIPS:
                value = float(evaluate(graph, [0.8, trips])[0])
                assert value == expected.setdefault((name, trips), value), (name, trips, outer, inner)
                assert value == pytest.approx(expected["d" + "f" * order, trips], rel=1e-11), (name, trips)
                assert value == pytest.approx(by_differences[order, trips], rel=1e-5, abs=1e-5), (name, trips)
