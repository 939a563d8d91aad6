"""`@checkpoint` on a `while`: the bits of the plain loop and of a `for`, in any nest, in less memory."""

import itertools
import re
import subprocess
import sys
from collections import Counter
from math import comb

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import walk
from dgraph.ops.control import Loop
from dgraph.program.pipeline import stage
from dgraph.sizes import size
from dgraph.types import Tape

SETTINGS = ["none", "every=1", "every=3", "every=100", "slots=1", "slots=2", "slots=5", "slots=60"]
SETTINGS += ['budget="1B"', 'budget="300B"', 'budget="1MB"']
TRIPS = [0, 1, 2, 3, 4, 5, 6, 30, 50]

SCALARS = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    i = 0
    @checkpoint({})
    while i < n:
        y = y + 0.1 * sin(s * y + i)
        i += 1
    return sum(y)
"""

UPDATES = """
def f(y: f64[6], s: f64, n: i32) -> f64:
    at = 1
    i = 0
    @checkpoint({})
    while i < n:
        at = (at * 5 + i) % 6
        y[at] = y[at] * s + sin(y[(at + 2) % 6])
        i += 1
    return sum(y * y)
"""

NOISE = """
def f(y: f64[4], s: f64, n: i32, k: key) -> f64:
    i = 0
    @checkpoint({})
    while i < n:
        k, now = split(k)
        noise: f64[4] = normal(now)
        y = sin(y * s + noise)
        i += 1
    return sum(y)
"""

PRODUCTS = """
def f(y: f64[3], s: f64[3, 3], n: i32) -> f64:
    i = 0
    @checkpoint({})
    while i < n:
        y = tanh(s @ y)
        i += 1
    return sum(y)
"""

ONE = {
    "scalars": (SCALARS, lambda n: ([0.1, 0.2, 0.3], 0.5, n)),
    "updates": (UPDATES, lambda n: (np.linspace(-1, 1, 6), 0.5, n)),
    "noise": (NOISE, lambda n: ([0.1, 0.2, 0.3, 0.4], 0.5, n, 7)),
    "products": (PRODUCTS, lambda n: ([0.1, 0.2, 0.3], np.sin(np.arange(9.0)).reshape(3, 3), n)),
}

WHILE_IN_FOR = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    {}
    for i in range(n):
        z = y * s
        j = 0
        {}
        while j < i + 2:
            z = sin(z * s + j) + y
            j += 1
        y = y + 0.1 * z
    return sum(y)
"""

FOR_IN_WHILE = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    i = 0
    {}
    while i < n:
        z = y * s
        {}
        for j in range(i + 2):
            z = sin(z * s + j) + y
        y = y + 0.1 * z
        i += 1
    return sum(y)
"""

WHILE_IN_WHILE = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    i = 0
    {}
    while i < n:
        z = y * s
        j = 0
        {}
        while j < i:
            z = sin(z * s + j) + y
            j += 1
        y = y + 0.1 * z
        i += 1
    return sum(y)
"""

BRANCHES = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    i = 0
    if n % 2 == 0:
        z = y * s
        {}
        while i < n:
            z = sin(z * s + i) + y
            i += 1
    else:
        z = y
        {}
        while i < n:
            z = sin(z * z * s) + y
            i += 1
    return sum(z)
"""

BRANCH_IN_A_LOOP = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    k = 0
    {}
    while k < 3:
        if y[k] > 0.15:
            z = y * s
            i = 0
            {}
            while i < n:
                z = sin(z * s + i) + y
                i += 1
        else:
            z = y * y
        y = y + 0.1 * z
        k += 1
    return sum(y)
"""

CALLED = """
def settle(x: f64[3], s: f64, n: i32) -> f64[3]:
    i = 0
    {}
    while i < n and x[0] < 9:
        x = sin(x * s + i) + x
        i += 1
    return x

def f(y: f64[3], s: f64, n: i32) -> f64:
    i = 0
    {}
    while i < 3:
        y = 0.1 * settle(y, s, n) + settle(0.5 * y, s, 2)
        i += 1
    return sum(y)
"""

PER_POINT = """
def settle(x: f64, s: f64, n: i32) -> f64:
    i = 0
    {}
    while x < n:
        x = sin(x * s + i) + x + 1
        i += 1
    return x

def f(y: f64[3], s: f64, n: i32) -> f64:
    z = vmap(settle, over=x)(y, s, n)
    i = 0
    {}
    while i < n:
        z = sin(z * s) + z
        i += 1
    return sum(z)
"""

INSIDE_A_STEP = """
def inner(x: f64, s: f64) -> f64:
    i = 0
    {}
    while i < 3:
        x = sin(x * s + i) + x
        i += 1
    return x

def f(y: f64[3], s: f64, n: i32) -> f64:
    i = 0
    {}
    while i < n:
        slope = grad(inner, wrt=x)(y[0], s)
        y = y + 0.1 * slope * s
        i += 1
    return sum(y)
"""

TWO = {
    "while in for": WHILE_IN_FOR,
    "for in while": FOR_IN_WHILE,
    "while in while": WHILE_IN_WHILE,
    "branches": BRANCHES,
    "a branch in a loop": BRANCH_IN_A_LOOP,
    "called": CALLED,
    "per point": PER_POINT,
    "inside a step": INSIDE_A_STEP,
}
WISHES = ["@checkpoint(none)", "@checkpoint(every=2)", "@checkpoint(slots=2)", '@checkpoint(budget="200B")']


def gradient(text: str, wrt: tuple[str, ...]) -> dg.Function:
    return dg.value_and_grad(dg.parse(text).f, wrt=wrt)


def leaves(found: object) -> list[np.ndarray]:
    if isinstance(found, tuple):
        return [leaf for part in found for leaf in leaves(part)]
    return [np.asarray(found)]


def same(left: object, right: object) -> bool:
    return [leaf.tobytes() for leaf in leaves(left)] == [leaf.tobytes() for leaf in leaves(right)]


def plain(text: str) -> str:
    """The program without its annotations."""
    return re.sub(r"\n *@checkpoint\(.*\)|\n *{}", "", text)


def as_for(text: str) -> str:
    """The loops that count up to a number as `for` over a range."""
    lines = []
    for line in text.split("\n"):
        if (found := re.fullmatch(r"( *)while (\w+) < (.+):", line)) is not None:
            lines.append(f"{found[1]}for {found[2]} in range({found[3]}):")
        elif not re.fullmatch(r" *(i|j|k) (=|\+=) \d", line):
            lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_every_setting_gives_the_same_bits(name: str, is_compiled: bool):
    text, arguments = ONE[name]
    expected: dict[int, object] = {}
    # A plain loop may do products of all its steps at once, which rounds in another order.
    texts = [] if name == "products" else [plain(text), as_for(plain(text))]
    texts += [text.format(wish) for wish in SETTINGS] + [as_for(text.format("slots=3"))]
    for program in texts:
        function = gradient(program, ("y", "s"))
        graph = None if is_compiled else stage(function.graph, "optimised")
        for trips in TRIPS:
            given = arguments(trips)
            found = function(*given) if graph is None else tuple(evaluate(graph, given))
            assert same(found, expected.setdefault(trips, found)), (program, trips)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_nests_give_the_same_bits(name: str, is_compiled: bool):
    expected: dict[int, object] = {}
    pairs = [*zip(WISHES, WISHES[1:] + WISHES[:1], strict=True)] if is_compiled else itertools.product(WISHES, WISHES)
    texts = [plain(TWO[name]), *(TWO[name].format(*pair) for pair in pairs)]
    for program in texts:
        function = gradient(program, ("y", "s"))
        graph = None if is_compiled else stage(function.graph, "optimised")
        for trips in (0, 1, 2, 7):
            given = ([0.1, 0.2, 0.3], 0.5, trips)
            found = function(*given) if graph is None else tuple(evaluate(graph, given))
            assert same(found, expected.setdefault(trips, found)), (program, trips)


def forward_over_reverse(f: dg.Function) -> dg.Function:
    return dg.jvp(dg.grad(f, wrt="y"), wrt="y")


def reverse_over_forward(f: dg.Function) -> dg.Function:
    return dg.vjp(dg.jvp(f, wrt="y"), wrt="y")


def reverse_over_reverse(f: dg.Function) -> dg.Function:
    return dg.vjp(dg.grad(f, wrt="y"), wrt="y")


@pytest.mark.parametrize("name", ["scalars", "updates", *TWO])
def test_second_derivatives_are_those_of_the_plain_loop(name: str):
    """Hessians by forward over reverse, and products with one direction in the other orders."""
    text, arguments = ONE[name] if name in ONE else (TWO[name], lambda n: ([0.1, 0.2, 0.3], 0.5, n))
    along = np.cos(np.arange(len(arguments(0)[0])))
    wishes = ["none", "every=3", "slots=1", "slots=3", 'budget="300B"']
    if name in TWO:
        texts = [plain(text), *(text.format(*pair) for pair in (WISHES[1:3], WISHES[2:]))]
    else:
        texts = [plain(text), as_for(plain(text)), *(text.format(wish) for wish in wishes)]
    orders = (
        (forward_over_reverse, (along,)),
        (reverse_over_forward, (along, (0.0, 1.0))),
        (reverse_over_reverse, (along,)),
    )
    products = []
    for order, more in orders:
        expected: dict[int, object] = {}
        for program in texts:
            function = order(dg.parse(program).f)
            for trips in (0, 1, 7):
                found = function(*arguments(trips), *more)
                assert same(found, expected.setdefault(trips, found)), (program, trips)
        products.append([leaves(expected[trips])[-1] for trips in expected])
    for one, other, third in zip(*products, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(one, third, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("wish", ["none", "every=2", "slots=2", 'budget="200B"'])
def test_the_second_derivative_is_that_of_the_unrolled_program(wish: str):
    steps = "\n".join(f"    y = y + 0.1 * sin(s * y + {i})" for i in range(7))
    unrolled = dg.hessian(dg.parse(f"def f(y: f64[3], s: f64) -> f64:\n{steps}\n    return sum(y)\n").f, wrt="y")
    found = dg.hessian(dg.parse(SCALARS.format(wish)).f, wrt="y")([0.1, 0.2, 0.3], 0.5, 7)
    np.testing.assert_allclose(found, unrolled([0.1, 0.2, 0.3], 0.5), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_with_slots_no_step_is_taped(name: str):
    """What is left are tapes of a `while` without a wish of its own, and what sides of a choice hand on."""
    text = ONE[name][0].format("slots=2") if name in ONE else TWO[name].format(*["@checkpoint(slots=2)"] * 2)
    for function in (gradient(text, ("y", "s")), dg.jvp(gradient(text, ("y",)), wrt="y")):
        nodes = list(walk(stage(function.graph, "optimised").region))
        assert not [value for node in nodes for value in node.results if isinstance(value.type, Tape)]
        assert not any(isinstance(node.op, Loop) and node.op.has_wish and node.op.tapes for node in nodes)


INNER = """
def f(y: f64[3], s: f64, n: i32) -> f64:
    for k in range(n):
        z = y * s
        {loop}
            z = sin(z * s) + y
        y = y + 0.1 * z
    return sum(y)
"""
LOOPS = {
    "for": "{wish}\n        for i in range(30):",
    "while": "i = 0\n        {wish}\n        while i < 30:\n            i += 1",
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("wish", ["slots=3", 'budget="150B"'])
def test_slots_of_an_inner_loop_are_not_kept_for_each_step(loop: str, wish: str):
    """Each of the four runs of the loop hands on its start; it runs plainly first, then with three slots."""
    text = INNER.format(loop=LOOPS[loop].format(wish=f"@checkpoint({wish})"))
    graph = stage(gradient(text, ("y", "s")).graph, "optimised")
    tapes = [value.type for node in walk(graph.region) for value in node.results if isinstance(value.type, Tape)]
    assert {tape.entry.shape for tape in tapes} <= {(size(3),), ()}
    seen: Counter[str] = Counter()
    evaluate(graph, ([0.1, 0.2, 0.3], 0.5, 4), observer=lambda node, _: seen.update([node.op.name]))
    again = 4 * 30 - comb(7, 4)
    assert seen["sin"] == 4 * (30 + again)
    assert seen["cos"] == 4 * 30


@pytest.mark.parametrize(("wish", "most"), [("every=16", 16), ("slots=8", 0)])
def test_the_longest_tape_is_bounded(wish: str, most: int):
    """What the interpreter writes to tapes at once, in steps: blocks, and the start of each block."""
    graph = stage(gradient(SCALARS.format(wish), ("y", "s")).graph, "optimised")
    longest = 0

    def watch(node, results):
        nonlocal longest
        tapes = [found for found, value in zip(results, node.results, strict=True) if isinstance(value.type, Tape)]
        longest = max([longest, *map(len, tapes)])

    evaluate(graph, ([0.1, 0.2, 0.3], 0.5, 200), observer=watch)
    assert longest == most


@pytest.mark.parametrize("wish", ["none", "every=2", "slots=2"])
def test_checks_run_once(wish: str):
    text = f"""
def f(y: f64, n: i32) -> f64:
    i = 0
    @checkpoint({wish})
    while i < n:
        assert y < 3, "too far"
        y = y * y
        i += 1
    return y
"""
    graph = stage(gradient(text, ("y",)).graph, "optimised")
    checks = []
    value, _ = evaluate(graph, (1.01, 6), observer=lambda node, _: node.op.name == "check" and checks.append(node))
    assert value == pytest.approx(1.01**64)
    assert len(checks) == 6
    with pytest.raises(dg.errors.CheckFailed, match="too far"):
        gradient(text, ("y",))(1.5, 6)


MEASURED = """
import re
import sys
from pathlib import Path

import dgraph as dg

def most():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

function = dg.value_and_grad(dg.parse(sys.argv[1]).f, wrt=("y", "s"))
function([0.1, 0.2, 0.3], 0.5, 10)
Path("/proc/self/clear_refs").write_text("5")  # the peak of compiling does not count
before = most()
function([0.1, 0.2, 0.3], 0.5, 1_000_000)
print(most() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is counted in units of the system")
@pytest.mark.parametrize(
    ("wish", "least", "most"),
    [("none", 24e6, 80e6), ("slots=20", 0, 2e6), ('budget="20kB"', 0, 2e6), ("every=1000", 0, 2e6)],
)
def test_a_million_steps_need_no_more_memory_than_ten(wish: str, least: float, most: float):
    """Bytes by which the process grows. Kept are three numbers for each step, if all are."""
    command = [sys.executable, "-c", MEASURED, SCALARS.format(wish)]
    grown = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert least <= grown <= most
