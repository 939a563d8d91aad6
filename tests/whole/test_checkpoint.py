"""`@checkpoint`: the same bits under every setting, in less memory."""

import itertools
from pathlib import Path

import numpy as np
import pytest

import dgraph as dg
from dgraph.errors import CheckFailed
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import walk
from dgraph.ops.control import For
from dgraph.program.pipeline import stage
from dgraph.types import Tape

PROGRAMS = Path(__file__).parents[1] / "programs"
WISHES = [
    "every=1",
    "every=3",
    "every=100",
    "slots=1",
    "slots=2",
    "slots=5",
    "slots=60",
    'budget="1B"',
    'budget="200B"',
    'budget="1MB"',
]
TRIPS = [0, 1, 2, 3, 4, 5, 6, 30]

SCALARS = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    @checkpoint({})
    for i in range(n):
        y = y + 0.1 * sin(s * y + i)
    return sum(y)
"""

ROWS = """
def f[t](y: f64[t, 3], s: f64[3]) -> f64:
    m = zeros(3)
    k = 1.0
    @checkpoint({})
    for i in range(t):
        k = k * cos(m[0]) + 0.1
        m = m * s + sin(y[i] * m + k)
        ys[i] = m * m
    return sum(m) + sum(ys * y)
"""

PRODUCTS = """
def f[t](w: f32[5, 5], x: f32[t, 5]) -> f32:
    h: f32[5] = zeros()
    @checkpoint({})
    for i in range(t):
        h = tanh(h @ w + x[i] @ w.T)
        out[i] = h @ w
    return sum(out ** 2)
"""

UPDATES = """
def f(y: f64[6], s: f64, n: i32) -> f64:
    at = 1
    @checkpoint({})
    for i in range(n):
        at = (at * 5 + i) % 6
        y[at] = y[at] * s + sin(y[(at + 2) % 6])
    return sum(y * y)
"""

NOISE = """
def f(y: f64[4], s: f64, n: i32, k: key) -> f64:
    @checkpoint({})
    for i in range(n):
        k, now = split(k)
        noise: f64[4] = normal(now)
        y = sin(y * s + noise)
    return sum(y)
"""

PROGRAMS_OF_ONE = {
    "scalars": (SCALARS, lambda n: ([0.1, 0.2, 0.3], 0.5, n), ("y", "s")),
    "rows": (ROWS, lambda n: (np.linspace(-1, 1, 3 * n).reshape(n, 3), [0.5, 0.7, 0.2]), ("y", "s")),
    "products": (
        PRODUCTS,
        lambda n: (
            np.sin(np.arange(25.0)).reshape(5, 5).astype("f4"),
            np.cos(np.arange(5.0 * n)).reshape(n, 5).astype("f4"),
        ),
        ("w", "x"),
    ),
    "updates": (UPDATES, lambda n: (np.linspace(-1, 1, 6), 0.5, n), ("y", "s")),
    "noise": (NOISE, lambda n: ([0.1, 0.2, 0.3, 0.4], 0.5, n, 7), ("y", "s")),
}

NESTED = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    {}
    for i in range(n):
        z = y * s
        {}
        for j in range(i + 2):
            z = sin(z * s + j) + y
        y = y + 0.1 * z
    return sum(y)
"""

BRANCHES = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    if n % 2 == 0:
        z = y * s
        {}
        for j in range(n):
            z = sin(z * s + j) + y
    else:
        z = y
        {}
        for j in range(n):
            z = sin(z * z * s) + y
    return sum(z)
"""

BRANCH_IN_A_LOOP = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    {}
    for k in range(3):
        if y[k] > 0.15:
            z = y * s
            {}
            for j in range(n):
                z = sin(z * s + j) + y
        else:
            z = y * y
        y = y + 0.1 * z
    return sum(y)
"""

IN_A_WHILE = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    k = 0
    while k < 3:
        k += 1
        {}
        for j in range(n):
            y = sin(y * s + j) + y
    {}
    for j in range(2):
        y = sin(y * s + j) + y
    return sum(y)
"""

PER_POINT = """
def settle(x: f64, s: f64, n: i32) -> f64:
    {}
    for j in range(n):
        x = sin(x * s + j) + x
    return x

def f(y: f64[3], s: f64, n: i32) -> f64:
    z = vmap(settle, over=x)(y, s, n)
    {}
    for j in range(n):
        z = sin(z * s) + z
    return sum(z)
"""

PROGRAMS_OF_TWO = {
    "nested": NESTED,
    "branches": BRANCHES,
    "a branch in a loop": BRANCH_IN_A_LOOP,
    "in a while": IN_A_WHILE,
    "per point": PER_POINT,
}


def leaves(found: object) -> list[np.ndarray]:
    if isinstance(found, tuple):
        return [leaf for part in found for leaf in leaves(part)]
    return [np.asarray(found)]


def same(left: object, right: object) -> bool:
    return all(
        one.dtype == other.dtype and one.tobytes() == other.tobytes()
        for one, other in zip(leaves(left), leaves(right), strict=True)
    )


def gradient(text: str, wrt: tuple[str, ...]) -> dg.Function:
    return dg.value_and_grad(dg.parse(text).f, wrt=wrt)


@pytest.mark.parametrize("name", PROGRAMS_OF_ONE)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_every_setting_gives_the_same_bits(name: str, is_compiled: bool):
    text, arguments, wrt = PROGRAMS_OF_ONE[name]
    expected: dict[int, object] = {}
    for wish in ["none", *WISHES]:
        function = gradient(text.format(wish), wrt)
        graph = None if is_compiled else stage(function.graph, "optimised")
        for trips in TRIPS:
            given = arguments(trips)
            found = function(*given) if graph is None else tuple(evaluate(graph, given))
            assert same(found, expected.setdefault(trips, found)), (wish, trips)


@pytest.mark.parametrize("name", PROGRAMS_OF_TWO)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_nested_loops_and_branches_give_the_same_bits(name: str, is_compiled: bool):
    expected: dict[int, object] = {}
    wishes = ["@checkpoint(none)", "@checkpoint(every=2)", "@checkpoint(slots=2)", '@checkpoint(budget="100B")']
    for pair in itertools.product(wishes, wishes):
        function = gradient(PROGRAMS_OF_TWO[name].format(*pair), ("y", "s"))
        graph = None if is_compiled else stage(function.graph, "optimised")
        for trips in (0, 1, 2, 7):
            given = ([0.1, 0.2, 0.3], 0.5, trips)
            found = function(*given) if graph is None else tuple(evaluate(graph, given))
            assert same(found, expected.setdefault(trips, found)), (pair, trips)


@pytest.mark.parametrize("name", ["scalars", "rows", "updates"])
def test_second_derivatives_are_those_of_the_plain_loop(name: str):
    text, arguments, wrt = PROGRAMS_OF_ONE[name]
    expected: dict[int, object] = {}
    for wish in ["none", "every=3", "slots=1", "slots=3", 'budget="200B"']:
        function = dg.hessian(dg.parse(text.format(wish)).f, wrt=wrt[0])
        for trips in (0, 1, 4, 9):
            found = function(*arguments(trips))
            assert same(found, expected.setdefault(trips, found)), (wish, trips)


@pytest.mark.parametrize("name", PROGRAMS_OF_TWO)
def test_with_slots_no_loop_writes_a_tape(name: str):
    text = PROGRAMS_OF_TWO[name].format("@checkpoint(slots=2)", "@checkpoint(slots=2)")
    for function in (gradient(text, ("y", "s")), dg.hessian(dg.parse(text).f, wrt="y")):
        nodes = list(walk(stage(function.graph, "optimised").region))
        tapes = [value.type for node in nodes for value in node.results if isinstance(value.type, Tape)]
        assert not any(isinstance(tape.entry, Tape) for tape in tapes)
        if name not in ("in a while", "a branch in a loop"):
            assert tapes == []


@pytest.mark.parametrize("wish", ["every=16", "slots=8"])
def test_the_longest_tape_is_bounded(wish: str):
    """What the interpreter writes to tapes at once, in steps."""
    graph = stage(gradient(SCALARS.format(wish), ("y", "s")).graph, "optimised")
    longest = 0

    def watch(node, results):
        nonlocal longest
        if isinstance(node.op, For):
            longest = max([longest, *(len(tape) for tape in results[len(results) - node.op.tapes :])])

    evaluate(graph, ([0.1, 0.2, 0.3], 0.5, 200), observer=watch)
    assert longest == (16 if wish == "every=16" else 0)


@pytest.mark.parametrize("wish", ["none", "every=2", "slots=2"])
def test_checks_run_once(wish: str):
    text = f"""
def f(y: f64, n: i32) -> f64:
    @checkpoint({wish})
    for i in range(n):
        assert y < 3, "too far"
        y = y * y
    return y
"""
    graph = stage(gradient(text, ("y",)).graph, "optimised")
    checks = []
    value, _ = evaluate(graph, (1.01, 6), observer=lambda node, _: node.op.name == "check" and checks.append(node))
    assert value == pytest.approx(1.01**64)
    assert len(checks) == 6
    with pytest.raises(CheckFailed, match="too far"):
        gradient(text, ("y",))(1.5, 6)


@pytest.mark.parametrize("name", ["lstm", "rk4"])
def test_programs_that_ask_for_it_are_obeyed(name: str):
    program = dg.load(PROGRAMS / f"{name}.dg")
    (entry,) = [known for known in ("gradient", "sensitivity") if known in dir(program)]
    graph = stage(getattr(program, entry).graph, "optimised")
    assert not any(isinstance(node.op, For) and node.op.tapes and node.op.has_wish for node in walk(graph.region))
