"""Prices of nodes: operations, products, bytes and trips counted by hand."""

import pytest

import dgraph as dg
from dgraph.ir.graph import Graph
from dgraph.passes.costs import NOMINAL, Costs, Machine
from dgraph.program.pipeline import stage
from dgraph.sizes import size, variable
from dgraph.types import Tape

N, M, K = map(variable, ("n", "m", "k"))


def graph_of(text: str, at: str = "optimised") -> Graph:
    return stage(dg.parse(f"@entry\n{text}\n").function("f").graph, at)


def work(text: str, at: str = "optimised", **sizes: int):
    return Costs(sizes).region(graph_of(text, at).region)


@pytest.mark.parametrize("at", ["optimised", "kernels"])
def test_elementwise_ops_cost_their_weights_at_each_entry(at):
    found = work("def f[n](x: f64[n], y: f64[n]) -> f64[n] = exp(x) * y + x / y", at)
    assert found.operations == N * (10 + 1 + 1 + 4)
    assert found.products == size(0)


def test_arrays_in_a_fused_space_move_once():
    found = work("def f[n](x: f32[n], y: f64[n]) -> f64[n] = f64(x) * y + y", "kernels")
    assert found.moved == N * (4 + 8 + 8)
    unfused = work("def f[n](x: f32[n], y: f64[n]) -> f64[n] = f64(x) * y + y")
    assert unfused.moved == N * (12 + 24 + 24)


@pytest.mark.parametrize("at", ["optimised", "kernels"])
def test_a_matrix_product_costs_a_product_and_a_sum_for_each_pair(at):
    found = work("def f[n, m, k](x: f64[n, m], y: f64[m, k]) -> f64[n, k] = x @ y", at)
    assert found.products == N * M * K * 2
    assert found.operations == size(0)
    assert found.moved == (N * M + M * K + N * K) * 8


def test_a_loop_costs_its_steps():
    text = "def f(x: f64, n: size) -> f64:\n    for i in range(n):\n        x = sin(x) + 1.0\n    return x"
    found = work(text, n=7)
    assert found.operations == N * 11
    assert found.moved == size(0)


def test_nested_loops_multiply():
    text = (
        "def f(x: f64, n: size, m: size) -> f64:\n    for i in range(n):\n        for j in range(m + 2):\n"
        "            x = x * x + 1.0\n        x = x / 3.0\n    return x"
    )
    assert work(text).operations == N * (M + 2) * 2 + N * 4


def test_a_while_costs_its_trips_which_are_nominal_unless_given():
    text = "def f(x: f64) -> f64:\n    while x > 1.0:\n        x = x * 0.5\n    return x"
    graph = graph_of(text)
    (loop,) = (node for node in graph.region.nodes if node.op.name == "while")
    trips = loop.results[-1]
    found = Costs().region(graph.region)
    assert found.operations == variable(trips) * 2
    assert Costs().number(found.operations) == 2 * NOMINAL
    assert Costs({trips: 9}).number(found.operations) == 18


def test_a_count_made_of_numbers_of_the_run_is_followed():
    text = "def f(x: f64, count: i64) -> f64:\n    for i in range(2 * count + 1):\n        x = x * x\n    return x"
    graph = graph_of(text)
    found = Costs().region(graph.region)
    count = graph.region.inputs[1]
    assert found.operations.substitute({count: 10}) == size(21 + 2)


def test_of_a_choice_the_dearer_side_counts():
    text = (
        "def f(x: f64) -> f64:\n    if x > 0.0:\n        y = exp(exp(x))\n    else:\n        y = x + 1.0\n    return y"
    )
    assert work(text).operations == size(1 + 20)


def test_tapes_have_the_bytes_of_all_steps():
    text = (
        "def loss[m](x: f64[m], n: size, k: size) -> f64:\n    for i in range(n):\n        for j in range(k):\n"
        "            x = sin(x)\n    return sum(x)\n\n"
        "@entry\ndef f[m](x: f64[m], n: size, k: size) -> f64[m] = grad(loss)(x, n, k)"
    )
    graph = stage(dg.parse(text).function("f").graph, "optimised")
    costs = Costs({"m": 10, "n": 4, "k": 6})
    costs.region(graph.region)
    tapes = [value for node in graph.region.nodes for value in node.results if isinstance(value.type, Tape)]
    assert [costs.size_bytes(tape) for tape in tapes] == [M * N * K * 8]
    assert costs.bytes(tapes[0]) == 10 * 4 * 6 * 8


def test_the_reverse_of_a_while_has_its_trips():
    text = (
        "def loss(x: f64) -> f64:\n    while x < 100.0:\n        x = x * x\n    return x\n\n"
        "@entry\ndef f(x: f64) -> f64 = grad(loss)(x)"
    )
    graph = stage(dg.parse(text).function("f").graph, "optimised")
    trips = next(node for node in graph.region.nodes if node.op.name == "while").results[-1]
    total = Costs({trips: 12}).region(graph.region).operations
    atoms = set(total.atoms())
    assert atoms == {trips}


def test_a_gradient_costs_a_few_times_its_function():
    text = (
        "def f[n, m](w: f64[m, m], x: f64[n, m]) -> f64:\n    h = tanh(x @ w)\n    h = tanh(h @ w)\n"
        "    return sum(h * h)\n\n@entry\ndef g[n, m](w: f64[m, m], x: f64[n, m]) -> f64[m, m] = grad(f)(w, x)"
    )
    program = dg.parse(text)
    sizes = {"n": 64, "m": 64}
    primal, slope = (Costs(sizes).region(stage(program.function(name).graph, "kernels").region) for name in ("f", "g"))
    assert primal.products == N * M * M * 4
    # Two products forwards, two for the weights, one for the layer in between.
    assert slope.products == N * M * M * 10
    assert 1 < slope.seconds / primal.seconds < 5


def test_seconds_follow_the_rates():
    slow = Machine(vector=1.0, memory=((float("inf"), 1e30),), nest=0.0)
    graph = graph_of("def f[n](x: f64[n]) -> f64[n] = exp(x)")
    assert Costs({"n": 8}, slow).region(graph.region).seconds == 80.0
    half = graph_of("def f[n](x: f32[n]) -> f32[n] = exp(x)")
    assert Costs({"n": 8}, slow).region(half.region).seconds == 40.0
    bound = Machine(vector=1e30, memory=((100, 2.0), (float("inf"), 1.0)), nest=0.0)
    assert Costs({"n": 4}, bound).region(graph.region).seconds == 32.0
    assert Costs({"n": 40}, bound).region(graph.region).seconds == 640.0


def test_nothing_is_negative():
    assert Costs({"n": 0}).number(variable("n") - 5) == 0


def test_every_node_of_a_program_has_a_price():
    text = (
        "def f[n](x: f64[n], z: f64[n]) -> f64:\n    y = sort(z)\n    a, b = argmax(y[i] * x[j] for i, j)\n"
        "    return logsumexp(y[i] for i) + cumsum(y)[a] + concat(y, z)[b] + norm(z)"
    )
    for at in ("optimised", "kernels"):
        costs = Costs({"n": 10})
        for node in graph_of(text, at).region.nodes:
            assert costs.node(node).seconds >= 0
            assert costs.result_bytes(node) >= sum(not isinstance(value.type, Tape) for value in node.results)
