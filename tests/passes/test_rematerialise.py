"""Forward values that are computed again: equal bits, true peaks, and nothing better by trying every choice."""

import itertools
import random

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import Graph, walk
from dgraph.ir.verify import verify
from dgraph.kernels.compile import compile_graph, plan_graph
from dgraph.kernels.rooms import arrange
from dgraph.passes import FUSE, OPTIMISE, run_passes
from dgraph.passes.costs import Costs
from dgraph.passes.knapsack import fill, pick
from dgraph.passes.rematerialise import Halves
from dgraph.passes.trade_off import TradeOff, curve, live_bytes, rematerialise
from dgraph.program.pipeline import stage

SIZES = {"n": 50, "m": 30}


def gradient(loss: str, formals: str = "w: f64[m, m], x: f64[n, m]", result: str = "f64[m, m], f64[n, m]") -> Graph:
    names = ", ".join(part.split(":")[0] for part in formals.replace("[m, m]", "").replace("[n, m]", "").split(", "))
    text = (
        f"def loss[n, m]({formals}) -> f64:\n{loss}\n\n@entry\ndef f[n, m]({formals}) -> ({result}) = "
        f"grad(loss, wrt=({names}))({names})\n"
    )
    return stage(dg.parse(text).function("f").graph, "optimised")


def random_gradient(seed: int, statements: int) -> Graph:
    draw = random.Random(seed)
    lines, known = [], ["x"]
    shapes = ["tanh({a})", "sin({a}) * {b}", "tanh({a} @ w)", "exp(-{a} * {a})", "{a} * {b}", "sigmoid({a}) + {b}"]
    for number in range(statements):
        a, b = draw.choice(known[-3:]), draw.choice(known)
        lines.append(f"    h{number} = " + draw.choice(shapes).format(a=a, b=b))
        known.append(f"h{number}")
    return gradient("\n".join([*lines, f"    return sum({known[-1]} * {known[-2]}) ** 2"]))


def perceptron(layers: int) -> Graph:
    lines = [f"    x = tanh(x @ w[{at}])" for at in range(layers)]
    text = (
        f"def loss[n, m](w: f64[{layers}, m, m], x: f64[n, m]) -> f64:\n"
        + "\n".join(lines)
        + f"\n    return sum(x * x)\n\n@entry\ndef f[n, m](w: f64[{layers}, m, m], x: f64[n, m]) -> f64[{layers}, m, m]"
        " = grad(loss)(w, x)\n"
    )
    return stage(dg.parse(text).function("f").graph, "optimised")


def chain(length: int) -> Graph:
    lines = ["    x = sin(x) * x"] * length
    text = (
        "def loss[n](x: f64[n]) -> f64:\n"
        + "\n".join(lines)
        + "\n    return sum(x) ** 2\n\n@entry\ndef f[n](x: f64[n]) -> f64[n] = grad(loss)(x)\n"
    )
    return stage(dg.parse(text).function("f").graph, "optimised")


def arena(sizes):
    """Measures the planned arena."""

    def measured(graph: Graph) -> int:
        program = plan_graph(run_passes(graph, FUSE))
        return arrange(tuple(program.rooms.values()), sizes.__getitem__).total

    return measured


def arguments_of(graph: Graph, sizes) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = []
    for value in graph.region.inputs:
        shape = tuple(extent.evaluate(sizes.__getitem__) for extent in value.type.shape)
        is_key = value.type.dtype.name == "key"
        found.append(np.uint64(7) if is_key else rng.standard_normal(shape) * 0.3)
    return found


def bits(values) -> list[bytes]:
    return [np.ascontiguousarray(value).tobytes() for value in values]


def check_points(graph: Graph, sizes, peak=None) -> list:
    """Every point of the curve computes the same bits, interpreted and compiled."""
    search = TradeOff(graph, sizes, peak)
    points = search.curve()
    arguments = arguments_of(graph, sizes)
    wanted = bits(compile_graph(run_passes(graph, FUSE)).call(arguments))
    meaning = bits(evaluate(graph, arguments))
    for point in points:
        fitted = search.graph_of(point)
        assert bits(evaluate(verify(fitted), arguments)) == meaning
        assert bits(compile_graph(run_passes(fitted, FUSE, verify=True)).call(arguments)) == wanted
    assert [point.peak for point in points] == sorted((point.peak for point in points), reverse=True)
    assert [point.seconds for point in points] == sorted(point.seconds for point in points)
    return points


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_keep_their_bits(seed: int):
    check_points(random_gradient(seed, 8), {"n": 7, "m": 5})


def test_without_need_nothing_changes():
    graph = perceptron(4)
    found, point = rematerialise(graph, 10**9, SIZES)
    assert found is graph
    assert not point.again
    assert point.seconds == 0


def test_a_function_without_a_derivative_has_one_point():
    text = "@entry\ndef f[n](x: f64[n]) -> f64[n] = sin(exp(x)) * x"
    graph = stage(dg.parse(text).function("f").graph, "optimised")
    (point,) = curve(graph, SIZES)
    assert not point.again


def test_the_arena_of_a_perceptron_shrinks_along_the_curve():
    sizes = {"n": 256, "m": 8}
    points = check_points(perceptron(20), sizes, arena(sizes))
    layer = 256 * 8 * 8
    assert points[0].peak >= 20 * layer
    # Nine layers and their segment: twice the root of their number.
    assert points[-1].peak <= 12 * layer
    assert len(points) >= 5


def test_the_arena_of_a_chain_shrinks_along_the_curve():
    sizes = {"n": 20_000}
    points = check_points(chain(10), sizes, arena(sizes))
    assert points[-1].peak < points[0].peak / 2
    assert len(points) >= 5


def test_a_budget_is_kept_or_missed_by_the_least_peak():
    graph = perceptron(12)
    points = curve(graph, SIZES)
    search = TradeOff(graph, SIZES, None)
    for budget in range(points[-1].peak, points[0].peak, 15_000):
        point = search.within(budget)
        found = search.graph_of(point)
        assert point.peak <= budget
        assert live_bytes(found.region, _bytes(found)) == point.peak
        on_curve = next(known for known in points if known.peak <= budget)
        assert point.seconds <= on_curve.seconds
    _, least = rematerialise(graph, 0, SIZES)
    assert least.peak == points[-1].peak


def _bytes(graph: Graph):
    return Halves(graph.region, Costs(SIZES)).bytes


def test_what_is_computed_again_stays_apart_through_all_passes():
    graph = perceptron(6)
    search = TradeOff(graph, SIZES, None)
    point = search.curve()[-1]
    found = search.graph_of(point)
    products = [sum(node.op.name == "dot" for node in walk(g.region)) for g in (graph, found)]
    assert products[1] > products[0]
    optimised = run_passes(found, OPTIMISE, verify=True)
    assert sum(node.op.name == "dot" for node in walk(optimised.region)) == products[1]
    assert live_bytes(optimised.region, _bytes(optimised)) <= point.peak


def test_seconds_are_those_of_the_copies():
    graph = perceptron(8)
    search = TradeOff(graph, SIZES, None)
    for point in search.curve():
        costs = [Costs(SIZES).region(g.region) for g in (graph, search.graph_of(point))]
        more = costs[1].products - costs[0].products
        assert Costs(SIZES).number(more) == 2 * 50 * 30 * 30 * sum(
            search.halves.region.producers[value].op.name == "dot" for value in point.again
        )


def test_random_draws_that_are_done_again_are_the_same():
    text = (
        "def loss[n](x: f64[n], k: key) -> f64:\n    noise = normal(k, like=x)\n    h = tanh(x * noise)\n"
        "    h = exp(sin(h) * noise)\n    return sum(h) ** 2\n\n"
        "@entry\ndef f[n](x: f64[n], k: key) -> f64[n] = grad(loss)(x, k)\n"
    )
    graph = stage(dg.parse(text).function("f").graph, "optimised")
    check_points(graph, {"n": 9})


@pytest.mark.parametrize("seed", [1, 6, 8, 15, 29])
def test_against_every_choice(seed: int):
    """Where all choices can be tried, the least peak and the least seconds of ten budgets are found."""
    graph = random_gradient(seed, 6)
    search = TradeOff(graph, SIZES, None)
    halves = search.halves
    free = [value for value, item in zip(halves.values, halves.items, strict=True) if item.seconds and item.bytes]
    views = [value for value, item in zip(halves.values, halves.items, strict=True) if item.bytes is None]
    assert 5 <= len(free) <= 12
    known = {}
    for choice in range(1 << len(free)):
        again = halves.again([*views, *(value for at, value in enumerate(free) if choice >> at & 1)])
        if again not in known:
            point = search.point(again)
            known[again] = point.peak, point.seconds
    most, least = known[frozenset()][0], min(peak for peak, _ in known.values())
    for part in range(10):
        budget = least + (most - least) * part // 10
        best = min(seconds for peak, seconds in known.values() if peak <= budget)
        point = search.within(budget)
        assert point.peak <= budget
        assert point.seconds == pytest.approx(best, rel=1e-9, abs=0)


@pytest.mark.parametrize("seed", range(40))
def test_the_knapsack_against_every_choice(seed: int):
    draw = random.Random(seed)
    weights = [draw.randint(0, 40) for _ in range(draw.randint(0, 9))]
    worths = [draw.randint(0, 9) * 0.5 for _ in weights]
    room = draw.randint(0, 120)
    best = 0.0
    for choice in range(1 << len(weights)):
        taken = [at for at in range(len(weights)) if choice >> at & 1]
        if sum(weights[at] for at in taken) <= room:
            best = max(best, sum(worths[at] for at in taken))
    chosen = fill(weights, worths, room)
    assert sum(weights[at] for at in chosen) <= room
    assert sum(worths[at] for at in chosen) == best


def test_the_knapsack_of_large_numbers_always_fits():
    draw = random.Random(0)
    weights = [draw.randint(1, 10**9) for _ in range(60)]
    chosen = fill(weights, [float(weight) for weight in weights], 10**10)
    assert 0.98 * 10**10 < sum(weights[at] for at in chosen) <= 10**10
    assert fill([1], [1.0], -1) == ()


@pytest.mark.parametrize("seed", range(20))
def test_a_knapsack_of_groups_against_every_choice(seed: int):
    draw = random.Random(seed)
    groups = [
        [(draw.randint(0, 30), draw.randint(0, 20) * 0.5) for _ in range(draw.randint(1, 3))]
        for _ in range(draw.randint(0, 4))
    ]
    room = draw.randint(0, 60)
    found = pick(groups, room)
    held = [group[at] for group, at in zip(groups, found, strict=True) if at is not None]
    assert sum(weight for weight, _ in held) <= room
    best = 0.0
    for choice in itertools.product(*([None, *group] for group in groups)):
        taken = [item for item in choice if item is not None]
        if sum(weight for weight, _ in taken) <= room:
            best = max(best, sum(worth for _, worth in taken))
    assert sum(worth for _, worth in held) == best
    assert pick([[(1, 1.0)]], -1) == (None,)
