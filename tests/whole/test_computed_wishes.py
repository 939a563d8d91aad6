"""The numbers of `@checkpoint` are computed from sizes and arguments, and set at each call."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.cli import main
from dgraph.errors import ArgumentError, CheckFailed, DgraphError, TypeMismatch
from dgraph.ir.evaluate import evaluate
from dgraph.ir.text import parse_graph, print_graph
from dgraph.kernels import native
from dgraph.kernels.cache import Cache
from dgraph.kernels.compile import CompiledGraph
from dgraph.ops.binomial import fewest, run_again_online
from dgraph.passes import OPTIMISE, run_passes
from dgraph.program.pipeline import stage

FOR = """
def f(x: f64, n: i64, c: i64) -> f64:
    @checkpoint({})
    for t in range(n):
        x = sin(x) + 0.01 * t
    return x
"""

WHILE = """
def f(x: f64, n: i64, c: i64) -> f64:
    t = 0
    @checkpoint({})
    while t < n:
        x = sin(x) + 0.01 * t
        t += 1
    return x
"""


def gradient(text: str) -> dg.Function:
    return dg.grad(dg.parse(text).f)


@pytest.mark.parametrize(
    ("text", "wish", "most"),
    [
        (FOR, "slots=c", 10**12),
        (FOR, "every=c", 10**12),
        (FOR, "slots=c, disk=c + 1", 10**12),
        (FOR, "slots=2, disk=c", 10**12),
        (FOR, 'budget="200B", disk=c', 10**12),
        (WHILE, "slots=c", 1000),
        (WHILE, "every=c", 1000),
    ],
)
def test_the_same_bits_for_every_number_compiled_and_interpreted(text: str, wish: str, most: int):
    expected, step = gradient(text.format("none")), gradient(text.format(wish))
    pairs = [(dg.compile(expected), dg.compile(step))]
    whole, part = (stage(function.graph, "optimised") for function in (expected, step))
    pairs.append((lambda *given: evaluate(whole, given), lambda *given: evaluate(part, given)))
    for one, other in pairs:
        for n in (0, 1, 2, 34):
            wanted = one(0.3, n, 1)
            assert all(other(0.3, n, c) == wanted for c in (1, 2, 3, 5, 8, 33, 34, most))


@pytest.mark.parametrize("n", [0, 1, 2, 7, 40, 150])
@pytest.mark.parametrize("c", [1, 2, 3, 8, 60])
def test_as_many_steps_run_as_the_formulas_say(n: int, c: int):
    for text, forwards in ((FOR, fewest(n, c)), (WHILE, n + run_again_online(n, c))):
        seen: Counter[str] = Counter()
        graph = stage(gradient(text.format("slots=c")).graph, "optimised")
        evaluate(graph, [0.3, n, c], observer=lambda node, _: seen.update([node.op.name]))  # noqa: B023
        assert seen["sin"] == forwards
        assert seen["cos"] == n, "each step is reversed once"


@pytest.mark.parametrize("text", [FOR, WHILE], ids=["for", "while"])
def test_there_are_no_more_states_than_slots(text: str):
    """One row more holds the state that is at work, and no more rows than a loop has steps are ever made. The
    interpreter refuses an index beyond the rows."""
    graph = stage(gradient(text.format("slots=c")).graph, "optimised")
    for n in (0, 1, 5, 61):
        for c in (1, 2, 4, 70):
            rows: set[int] = set()

            def see(node, results):
                if node.op.name == "undefined" and np.ndim(results[0]):
                    rows.add(len(results[0]))  # noqa: B023

            evaluate(graph, [0.3, n, c], observer=see)
            assert rows == {(min(c, max(n, 1)) if text is FOR else c) + 1}


def test_nothing_is_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    made: list[str] = []
    before = native.compile_source
    monkeypatch.setattr(native, "compile_source", lambda source: made.append(source) or before(source))
    monkeypatch.setattr(Cache, "default", lambda: Cache(tmp_path))
    step = dg.compile(gradient(FOR.format("slots=c // 3 + 1")))
    kernel = step.kernel
    assert len(made) == 1
    taken = {step.memory(0.3, 400, c).peak for c in (3, 30, 300, 1200)}
    assert len({float(step(0.3, 400, c)) for c in (3, 30, 300, 1200)}) == 1
    assert len(taken) == 4
    assert (step.kernel, len(made)) == (kernel, 1)
    budgeted = dg.compile(dg.grad(dg.parse(FOR.format("slots=c // 3 + 1")).f), budget="100kB")
    assert len({float(budgeted(0.3, 400, c)) for c in (3, 30, 300, 1200)}) == 1
    assert len(made) == 1, "the wish of the program stands: it is the same code"


def test_memory_is_what_is_foretold():
    step = dg.compile(gradient(FOR.format("slots=c")))
    for c in (2, 10, 100, 1000):
        step(0.3, 1000, c)
        told = step.memory(0.3, 1000, c)
        # The states and the orders of their steps, each in whole cache lines.
        assert told.arena == 64 + sum(-(-(c + 1) * 8 // 64) * 64 for _ in range(2))
    assert step.held_bytes <= told.peak


def test_a_bound_call_follows_numbers_that_change():
    step = dg.compile(gradient(FOR.format("slots=c")))
    c = np.array(1)
    run = step.bind(0.3, 200, c)
    wanted = float(run())
    for number in (50, 3, 199):
        c[...] = number
        assert float(run()) == wanted
    c[...] = 0
    with pytest.raises(CheckFailed):
        run()


def test_it_survives_the_cache():
    kernel = dg.compile(gradient(FOR.format("slots=min(2 * c, 50) + c % 3"))).kernel
    again = CompiledGraph.from_bytes(kernel.to_bytes())
    for c in (1, 7, 80):
        given = [np.float64(0.3), np.int64(90), np.int64(c)]
        assert again.call(given) == kernel.call(given)
        assert again.memory(given) == kernel.memory(given)
    with pytest.raises(CheckFailed, match="positive integer"):
        again.call([np.float64(0.3), np.int64(90), np.int64(-3)])


FUNCTIONS = """
record Options:
    slots: i64
    extra: i32

kept = 4

def turn(y: f64) -> f64 = sin(y) + 0.1 * y

def inner[m](y: f64, w: f64[m], o: Options, n: i64) -> f64:
    @checkpoint({})
    for t in range(n):
        y = turn(y) * w[0]
    return y

def f[m](x: f64, w: f64[m], o: Options, n: i64) -> f64:
    first = inner(x, w, o, n)
    other = Options(slots=3 * o.slots, extra=o.extra + 1)
    return first + grad(inner)(first, w, other, n) + inner(x, w[:2], o, n)
"""


@pytest.mark.parametrize(
    "wish",
    [
        "slots=o.slots",
        "slots=m",
        "slots=min(o.slots, m) + i64(o.extra // 2)",
        "every=max(2 * m - 5, o.slots)",
        "every=len(w) * kept",
        "slots=kept",
        "slots=o.extra",
    ],
)
def test_numbers_are_followed_through_functions_records_and_derivatives(wish: str):
    """The same function is called with several numbers: each call has its own."""
    w = np.array([0.9, 0.2, 0.3])
    expected = dg.compile(gradient(FUNCTIONS.format("none")))(0.3, w, {"slots": 1, "extra": 1}, 30)
    step = dg.compile(gradient(FUNCTIONS.format(wish)))
    for slots in (1, 4, 40):
        for extra in (1, 9):
            assert step(0.3, w, {"slots": slots, "extra": extra}, 30) == expected


def test_every_call_of_a_function_has_its_own_number():
    text = """
def inner(y: f64, n: i64, c: i64) -> f64:
    @checkpoint(slots=c)
    for t in range(n):
        y = sin(y)
    return y

def f(x: f64, n: i64, c: i64) -> f64 = inner(x, n, c) + inner(0.5 * x, n, 3) + inner(0.2 * x, n, 3 * c)
"""
    graph = stage(gradient(text).graph, "optimised")
    for n, c in ((40, 1), (40, 2), (100, 7)):
        seen: Counter[str] = Counter()
        evaluate(graph, [0.3, n, c], observer=lambda node, _: seen.update([node.op.name]))  # noqa: B023
        assert seen["sin"] == fewest(n, c) + fewest(n, 3) + fewest(n, 3 * c)


RULED = """
def run(x: f64, n: i64, c: i64) -> f64:
    @checkpoint({0})
    for t in range(n):
        x = sin(x)
    return x

@derivative(of=run)
def slope(x: f64, n: i64, c: i64, dx: f64) -> f64:
    d = dx
    y = run(x, 0, c)
    @checkpoint({0})
    for t in range(n):
        d = d * cos(y)
        y = sin(y)
    return d

def f(x: f64, n: i64, c: i64) -> f64 = run(x, n, c) * run(x, n, c + 4)
"""

NESTED = """
def f(x: f64, n: i64, c: i64) -> f64:
    k = c // 2 + 1
    def inner(z: f64) -> f64:
        @checkpoint({})
        for t in range(n):
            z = sin(z) + 0.1
        return z
    twice = lambda z: 2.0 * inner(z)
    return twice(x) + inner(0.3 * x) if x > 0 else sum(inner(x * i) for i in range(3))
"""


@pytest.mark.parametrize(("text", "wish"), [(RULED, "slots=c"), (RULED, "every=c"), (NESTED, "slots=k")])
def test_in_rules_and_functions_within_functions(text: str, wish: str):
    for make in (dg.grad, lambda f: dg.grad(dg.grad(f))):
        expected, step = (dg.compile(make(dg.parse(text.format(w)).f)) for w in ("none", wish))
        for x in (0.4, -0.7):
            assert {float(step(x, 20, c)) for c in (1, 2, 9, 60)} == {float(expected(x, 20, 1))}


def test_sizes_given_by_the_caller():
    text = FOR.replace("c: i64", "c: size").format("slots=c")
    step = dg.compile(gradient(text))
    assert len({float(step(0.3, 50, c=c)) for c in (1, 2, 60)}) == 1
    with pytest.raises(CheckFailed, match="positive integer"):
        step(0.3, 50, c=0)


def test_lanes_share_a_number():
    text = FOR.format("slots=c") + "\ndef g[k](x: f64[k], n: i64, c: i64) -> f64[k] = vmap(grad(f), over=x)(x, n, c)\n"
    step = dg.compile(dg.parse(text).g)
    found = {step(np.array([0.3, 0.2]), 30, c).tobytes() for c in (1, 2, 9, 50)}
    assert len(found) == 1
    of_each = text.replace("over=x", "over=(x, c)").replace(
        "x: f64[k], n: i64, c: i64)", "x: f64[k], n: i64, c: i64[k])"
    )
    with pytest.raises(TypeMismatch, match="must be known when the call begins"):
        dg.compile(dg.parse(of_each).g)


def test_inner_loops_and_second_derivatives():
    text = """
def f(x: f64, n: i64, c: i64) -> f64:
    k = c + 1
    @checkpoint({})
    for t in range(n):
        for s in range(2):
            @checkpoint({})
            for r in range(n):
                x = sin(x)
    return x
"""
    for make in (dg.grad, lambda f: dg.grad(dg.grad(f))):
        expected = dg.compile(make(dg.parse(text.format("none", "none")).f))(0.3, 6, 0)
        for wishes in (("every=k", "slots=k"), ("slots=k", "every=c + 2")):
            step = dg.compile(make(dg.parse(text.format(*wishes)).f))
            assert {float(step(0.3, 6, c)) for c in (0, 1, 5)} == {float(expected)}


@pytest.mark.parametrize(
    ("wish", "said"), [("slots=c", "0 for"), ("every=c - 2", "-2 for"), ("slots=4, disk=-c", "0 for")]
)
def test_a_number_below_one_is_told_at_the_call(wish: str, said: str):
    program = dg.parse(FOR.format(wish))
    graph = program.f.graph
    for call in (
        lambda: dg.compile(dg.grad(program.f))(0.3, 10, 0),
        lambda: dg.compile(dg.grad(program.f), checks="off")(0.3, 10, 0),
        lambda: dg.compile(program.f)(0.3, 10, 0),
        lambda: dg.compile(dg.grad(program.f), budget="1MB")(0.3, 10, 0),
        lambda: dg.compile(dg.grad(program.f)).memory(0.3, 10, 0),
        lambda: evaluate(graph, [0.3, 10, 0]),
        lambda: evaluate(run_passes(graph, OPTIMISE), [0.3, 10, 0]),
    ):
        with pytest.raises(CheckFailed, match="is a positive integer") as fault:
            call()
        diagnostic = fault.value.diagnostics[0]
        assert diagnostic.labels[0].words.startswith(said)
        assert diagnostic.labels[0].span.text == wish.split("=")[-1]


def test_a_division_by_zero_is_told_too():
    step = dg.compile(gradient(FOR.format("slots=n // c")))
    assert step(0.3, 10, 5) == step(0.3, 10, 1)
    with pytest.raises(CheckFailed, match="positive integer"):
        step(0.3, 10, 0)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("slots=x", "`slots` is a positive integer"),
        ("every=0.5 * n", "`every` is a positive integer"),
        ("slots=2 - 2", "`slots` is a positive integer"),
        ("slots=4, disk=1.5 * x", "`disk` is a positive integer, which counts states, or an amount"),
        ("slots=1 if x > 0 else 2", "`slots` must be known when the call begins"),
        ("slots=nothing", "`nothing` is not defined"),
        ("slots=i64(floor(x))", "`slots` must be known when the call begins"),
    ],
)
def test_what_is_no_number_is_refused(wish: str, said: str):
    with pytest.raises(DgraphError) as fault:
        dg.compile(dg.parse(FOR.format(wish)).f)
    assert fault.value.diagnostics[0].title == said


def test_the_graph_says_where_its_numbers_come_from():
    graph = dg.parse(FOR.format("slots=2 * c, disk=min(c, 7)")).f.graph
    text = print_graph(graph)
    assert text.startswith("graph f[slots=minimum(mul({2}, c), maximum(n, {1})), disk=minimum(c, {7})](x: f64")
    again = parse_graph(text)
    assert print_graph(again) == text
    assert [wish.value for wish in again.wishes] == [wish.value for wish in graph.wishes]
    assert evaluate(again, [0.3, 10, 4]) == evaluate(graph, [0.3, 10, 4])


def test_names_do_not_clash():
    text = """
def f[slots](x: f64, w: f64[slots], every: i64, disk: i64) -> f64:
    @checkpoint(slots=slots, disk=disk)
    for t in range(20):
        x = sin(x)
    @checkpoint(every=every)
    for t in range(20):
        x = cos(x)
    return x
"""
    step = dg.compile(gradient(text))
    assert len({float(step(0.3, np.ones(k), e, e)) for k in (1, 5, 30) for e in (1, 4, 50)}) == 1


def test_pictures_and_commands_take_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "p.dg"
    path.write_text("@entry" + FOR.format("slots=c, disk=2 * c"), encoding="utf-8")
    arguments = ["--arg", "x=0.3", "--arg", "n=40", "--arg", "c=3"]
    assert main(["draw", str(path), "--stage", "schedule", *arguments, "-o", str(tmp_path / "p.svg")]) == 0
    assert "@checkpoint(slots=3, disk=6)" in (tmp_path / "p.svg").read_text(encoding="utf-8")
    assert main(["grad", str(path), "--wrt", "x", *arguments]) == 0
    assert main(["check", str(path)]) == 0
    for stage_ in ("graph", "optimised", "loops", "numba"):
        assert main(["show", str(path), "--stage", stage_]) == 0
    capsys.readouterr()
    assert main(["grad", str(path), "--wrt", "x", "--arg", "x=0.3", "--arg", "n=40", "--arg", "c=-1"]) == 1
    assert "-1 for these arguments" in capsys.readouterr().err


def test_training_takes_them(tmp_path: Path):
    text = """
param w: f64[2] = zeros()

@train(optimiser=sgd(rate=0.1), batch=4, epochs=1)
def loss[n](x: f64[n, 2], y: f64[n]) -> f64:
    h = zeros(n)
    @checkpoint(every=n // 2)
    for t in range(6):
        h = tanh(x @ w + h)
    return mean((h - y) ** 2)
"""
    path = tmp_path / "p.dg"
    path.write_text(text, encoding="utf-8")
    np.savez(tmp_path / "d.npz", x=np.ones((20, 2)), y=np.ones(20))
    assert main(["train", str(path), "--data", str(tmp_path / "d.npz"), "--out", str(tmp_path / "run")]) == 0


def test_a_budget_of_a_call_leaves_them():
    step = dg.compile(gradient(FOR.format("slots=c")), budget="1kB")
    assert step(0.3, 500, 10) == dg.compile(gradient(FOR.format("none")))(0.3, 500, 1)
    assert step.memory(0.3, 500, 10).peak <= 1000
    with pytest.raises(ArgumentError, match="needs at least"):
        step(0.3, 500, 400)
