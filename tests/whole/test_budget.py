"""`budget=`: the peak that is foretold is what a call takes, it is within the budget, and no bit differs."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import dgraph as dg
from dgraph.cli import main
from dgraph.errors import ArgumentError
from dgraph.sizes import bytes_in, in_units

RK4 = """
def rate(p: f64[3], a: f64) -> f64[3] = [a * (p[1] - p[0]), p[0] * (28.0 - p[2]) - p[1], p[0] * p[1] - 2.6 * p[2]]

def f(p: f64[3], a: f64, steps: i32) -> f64:
    for t in range(steps):
        k1 = rate(p, a)
        k2 = rate(p + 0.005 * k1, a)
        k3 = rate(p + 0.005 * k2, a)
        k4 = rate(p + 0.01 * k3, a)
        p = p + 0.01 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return sum(p)
"""

LAYERS = """
def f[n, d, l](x: f64[n, d], w: f64[l, d, d], b: f64[l, d]) -> f64:
    for i in range(l):
        x = tanh(x @ w[i] + b[i])
    return sum(x ** 2)
"""

NEST = """
def f[n](x: f64[n], s: f64, steps: size, layers: size) -> f64:
    for t in range(steps):
        for l in range(layers):
            x = x + 0.01 * sin(s * x)
        x = x * cos(x)
    return sum(x * x)
"""

HEAT = """
def f[n](u: f64[n], steps: size) -> f64:
    for t in range(steps):
        k = 1.0 + u * u
        flow = 0.5 * (k[1:] + k[:-1]) * (u[1:] - u[:-1])
        u[1:-1] += 0.1 * (flow[1:] - flow[:-1])
    return sum(u * u)
"""

TWO = """
def f[n](x: f64[n], steps: size, more: size) -> f64:
    for t in range(steps):
        x = x + 0.01 * sin(x)
    for t in range(more):
        x = x * cos(x) + 0.1
    return sum(x * x)
"""

LSTM = """
def f[t, d, h](x: f64[t, d], wx: f64[d, 4, h], wh: f64[h, 4, h]) -> f64:
    state: f64[h] = zeros()
    cell: f64[h] = zeros()
    for i in range(t):
        z[g, k] = sum(x[i, j] * wx[j, g, k] for j) + sum(state[j] * wh[j, g, k] for j)
        cell = sigmoid(z[0]) * cell + sigmoid(z[1]) * tanh(z[2])
        state = sigmoid(z[3]) * tanh(cell)
    return sum(state ** 2)
"""


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


CASES = {
    "rk4": (RK4, ("p", "a"), lambda k: (np.ones(3), 10.0, k)),
    "layers": (LAYERS, ("x", "b"), lambda k: (normal(8, 4), normal(k, 4, 4), normal(k, 4))),
    "nest": (NEST, ("x", "s"), lambda k: (normal(8), 0.5, k, 1 + k // 4)),
    "heat": (HEAT, ("u",), lambda k: (0.1 * normal(40), k)),
    "two": (TWO, ("x",), lambda k: (normal(8), k, 2 * k)),
}


def leaves(result):
    parts = result if isinstance(result, tuple) else (result,)
    return [leaf for part in parts for leaf in (leaves(part) if isinstance(part, tuple) else [np.asarray(part)])]


def assert_same_bits(one, other):
    for left, right in zip(leaves(one), leaves(other), strict=True):
        assert left.tobytes() == right.tobytes()


def checked(step, limit, arguments, expected):
    """Call, and compare with what was foretold."""
    told = step.memory(*arguments)
    assert told.peak <= limit
    assert not told.open
    choice = step.choice(*arguments)
    assert (choice["budget"], choice["peak"]) == (limit, told.peak)
    assert_same_bits(step(*arguments), expected)
    assert step.held_bytes == told.arena + told.tapes
    return choice


@pytest.mark.parametrize("name", CASES)
def test_peaks_are_foretold_within_the_budget_and_no_bit_differs(name):
    text, wrt, arguments = CASES[name]
    slope = dg.value_and_grad(dg.parse(text).f, wrt=wrt)
    given = arguments(120)
    free = dg.compile(slope)
    expected = free(*given)
    whole = free.memory(*given).peak
    slow = []
    for share in (1.0, 0.7, 0.3, 0.15, 0.1):
        limit = int(whole * share)
        try:
            step = dg.compile(slope, budget=f"{limit}B")
            slow.append(checked(step, limit, given, expected)["slowdown"])
        except ArgumentError as fault:
            assert "needs at least" in str(fault)
            break
    assert slow[0] == 1.0
    assert len(slow) >= 3
    assert slow == sorted(slow)


@pytest.mark.parametrize("name", CASES)
def test_other_sizes_keep_the_choice_or_choose_anew(name):
    text, wrt, arguments = CASES[name]
    slope = dg.value_and_grad(dg.parse(text).f, wrt=wrt)
    free = dg.compile(slope)
    limit = free.memory(*arguments(60)).peak * 2 // 3
    step = dg.compile(slope, budget=f"{limit}B")
    # The results of the layers grow with their number.
    for k in (60, 1, 2, 40, 60, 0, *(() if name == "layers" else (200, 90, 300))):
        checked(step, limit, arguments(k), free(*arguments(k)))


def test_an_lstm_keeps_within_a_budget():
    """Its plain loop multiplies the matrices of all steps at once, which rounds otherwise; that of a checkpoint not."""
    arguments = normal(80, 5), 0.3 * normal(5, 4, 6), 0.3 * normal(6, 4, 6)
    slope = dg.value_and_grad(dg.parse(LSTM).f, wrt=("wx", "wh"))
    free = dg.compile(slope)
    marked = LSTM.replace("    for i", "    @checkpoint(none)\n    for i")
    expected = dg.compile(dg.value_and_grad(dg.parse(marked).f, wrt=("wx", "wh")))(*arguments)
    whole = free.memory(*arguments).peak
    for share in (0.6, 0.4):
        limit = int(whole * share)
        checked(dg.compile(slope, budget=f"{limit}B"), limit, arguments, expected)
    for left, right in zip(leaves(free(*arguments)), leaves(expected), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12)


def test_straight_code_computes_again_within_a_budget():
    layers = "\n".join(f"    x = tanh(x @ w[{k}])" for k in range(8))
    text = f"def f[n, m](w: f64[8, m, m], x: f64[n, m]) -> f64:\n{layers}\n    return sum(x)"
    slope = dg.value_and_grad(dg.parse(text).f, wrt="w")
    arguments = normal(8, 8, 8), normal(64, 8)
    free = dg.compile(slope)
    limit = free.memory(*arguments).peak * 85 // 100
    choice = checked(dg.compile(slope, budget=f"{limit}B"), limit, arguments, free(*arguments))
    assert choice["loops"] == []
    assert choice["again"]
    assert 1.0 < choice["slowdown"] < 2.0


def test_annotations_of_the_program_are_kept():
    text = HEAT.replace("    for", "    @checkpoint(every=5)\n    for")
    slope = dg.value_and_grad(dg.parse(text).f, wrt="u")
    arguments = 0.1 * normal(40), 100
    free = dg.compile(slope)
    step = dg.compile(slope, budget="1MB")
    choice = checked(step, 1_000_000, arguments, free(*arguments))
    assert choice["loops"] == []
    with pytest.raises(ArgumentError, match="needs at least"):
        dg.compile(slope, budget=f"{free.memory(*arguments).peak - 1}B")(*arguments)


def test_second_derivatives_keep_within_a_budget():
    bent = dg.hvp(dg.parse(HEAT).f, wrt="u")
    arguments = 0.1 * normal(40), 100, normal(40)
    free = dg.compile(bent)
    limit = free.memory(*arguments).peak // 3
    checked(dg.compile(bent, budget=f"{limit}B"), limit, arguments, free(*arguments))


def test_calls_at_once_keep_within_the_budget_each():
    slope = dg.value_and_grad(dg.parse(HEAT).f, wrt="u")
    free = dg.compile(slope)
    given = [(0.1 * normal(40), k) for k in (5, 80, 20, 120, 3, 60)]
    expected = [free(*arguments) for arguments in given]
    limit = free.memory(*given[3]).peak // 4
    step = dg.compile(slope, budget=f"{limit}B")
    with ThreadPoolExecutor(4) as threads:
        for found, wanted in zip(threads.map(lambda a: step(*a), given * 6), expected * 6, strict=True):
            assert_same_bits(found, wanted)


def test_a_bound_call_and_a_copy_keep_within_the_budget():
    slope = dg.value_and_grad(dg.parse(HEAT).f, wrt="u")
    arguments = 0.1 * normal(40), 100
    expected = dg.compile(slope)(*arguments)
    step = dg.compile(slope, budget="20kB")
    assert_same_bits(step.bind(*arguments)(), expected)
    assert_same_bits(pickle.loads(pickle.dumps(step))(*arguments), expected)
    assert step.report["arena_bytes"]
    assert step.memory(*arguments).peak <= 20_000


def test_what_does_not_fit_is_refused_with_what_takes_it():
    slope = dg.value_and_grad(dg.parse(HEAT).f, wrt="u")
    step = dg.compile(slope, budget="3kB")
    with pytest.raises(ArgumentError) as caught:
        step(0.1 * normal(40), 100)
    title = caught.value.diagnostics[0].title
    assert title.startswith("value_and_grad(f) needs at least ")
    assert title.endswith("its budget is 3 kB")
    needed = int(caught.value.diagnostics[0].note.split()[3])
    fitting = dg.compile(slope, budget=f"{needed}B")
    assert fitting.memory(0.1 * normal(40), 100).peak == needed
    # What is smaller fits.
    assert step.memory(0.1 * normal(4), 3).peak <= 3000


UNCOUNTED = """
def f(x: f64, rate: f64) -> f64:
{}    while x < 100:
        x = x + rate * sqrt(x)
    return x
"""


def test_loops_that_nobody_can_count_keep_as_many_states_as_fit():
    slope = dg.value_and_grad(dg.parse(UNCOUNTED.format("")).f, wrt=("x", "rate"))
    free = dg.compile(slope)
    for rate in (1e-3, 200.0, 1e-2, 1e-4):
        checked(dg.compile(slope, budget="3kB"), 3000, (1.0, rate), free(1.0, rate))
    step = dg.compile(slope, budget="100kB")
    for rate in (1e-3, 200.0, 1e-2, 1e-4):
        choice = checked(step, 100_000, (1.0, rate), free(1.0, rate))
    assert [loop["keeps"] for loop in choice["loops"]] == ["slots"]
    assert choice["loops"][0]["number"] > 1000
    assert free.held_bytes > 1_000_000


def test_what_cannot_be_foretold_has_no_budget():
    text = UNCOUNTED.format("    @checkpoint(none)\n")
    step = dg.compile(dg.grad(dg.parse(text).f), budget="1MB")
    with pytest.raises(ArgumentError, match="cannot be foretold") as caught:
        step(1.5, 0.1)
    assert caught.value.diagnostics[0].labels[0].span.line == 4
    assert dg.compile(dg.parse(text).f, budget="1MB")(1.5, 0.1) >= 100


@pytest.mark.parametrize("budget", ["", "much", "0MB", "1", "-1MB", "1kiB", "1 TB", 100, 1.5])
def test_what_is_no_amount_of_memory_is_refused(budget):
    with pytest.raises(ArgumentError, match="is no amount of memory"):
        dg.compile(dg.parse(HEAT).f, budget=budget)


def test_amounts_of_memory():
    assert [bytes_in(text) for text in ("1B", "1.5 kB", "200MB", "1GiB", "0.1MB")] == [1, 1500, 2 * 10**8, 2**30, 10**5]
    assert [in_units(count) for count in (0, 999, 13744, 2 * 10**8)] == ["0 B", "999 B", "13.7 kB", "200 MB"]


def test_the_commands_take_a_budget(tmp_path, capsys):
    file = tmp_path / "heat.dg"
    file.write_text(HEAT)
    arguments = [f"{file}:f", "--arg", "u=[0.1,0.3,0.2,0.4]", "--arg", "steps=200", "--json"]
    said = []
    for budget in ([], ["--budget", "3kB"]):
        assert main(["grad", *arguments, "--wrt", "u", *budget]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    assert main(["grad", *arguments, "--wrt", "u", "--budget", "300B"]) == 1
    assert "needs at least" in capsys.readouterr().err
    assert main(["run", *arguments, "--budget", "1MB"]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == said[0]["value"]
