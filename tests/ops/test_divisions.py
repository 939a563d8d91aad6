"""Integers divided by 0: a located fault where it happens, nothing where it does not."""

import numpy as np
import pytest

import dgraph as dg
from dgraph.ad import expand
from dgraph.errors import CheckFailed, DgraphError
from dgraph.frontend import lower_function, parse_program
from dgraph.ir.evaluate import evaluate

PROGRAM = """
def quotient(x: i32, y: i32) -> i32 = x // y
def rest(x: i32, y: i32) -> i32 = x % y if y != 0 else -1
def quotients[n](x: i64[n], y: i64[n]) -> i64[n] = x // y
def rests[n](x: i64[n], y: i64[n]) -> i64[n] = x % y if y != 0 else 7
def halves(x: i32, y: i32) -> bool = y != 0 and x // y > 1
def parts[n](x: f64[n], k: size) -> i64 = n // k
def places[n](x: i64[n], k: size) -> i64[n] = [x[i] % k for i]
def weighted[n](x: f64[n], k: size) -> f64 = sum(x[i] * (i // k) for i)
def steps(x: i64, s: i64) -> i64:
    t = x
    for i in range(s):
        t = t + t // (s - i - 1)
    return t
def leading[n](x: f64[n], k: size) -> f64[n // k] = [x[i] for i in range(n // k)]
def harmless[n](x: i64[n]) -> i64[n] = x // 3 + 7 % max(n, 1) + x % -2
def weight[n](x: f64[n], y: i64[n]) -> f64 = sum(sin(x[i]) * (5 // y[i]) for i if y[i] != 0)
def slopes[n](x: f64[n], y: i64[n]) -> f64[n] = grad(weight)(x, y)
def each[n](x: i32[n], y: i32[n]) -> i32[n] = vmap(quotient, over=(x, y))(x, y)
"""
A, Z = np.array([7, 8, 9]), np.array([0, 2, 5])
ONES, NONE = np.ones(3), np.zeros(0, np.int64)
SEVEN, TWO, ZERO = np.int32(7), np.int32(2), np.int32(0)

NUMBERS = [
    ("quotient", (SEVEN, -TWO), {}, -4),
    ("rest", (SEVEN, ZERO), {}, -1),
    ("rest", (-SEVEN, TWO), {}, 1),
    ("quotients", (A, A), {}, [1, 1, 1]),
    ("quotients", (NONE, NONE), {}, []),
    ("rests", (A, Z), {}, [7, 0, 4]),
    ("halves", (SEVEN, ZERO), {}, False),
    ("halves", (SEVEN, TWO), {}, True),
    ("parts", (ONES,), {"k": 2}, 1),
    ("places", (A,), {"k": 2}, [1, 0, 1]),
    ("places", (NONE,), {"k": 0}, []),
    ("weighted", (ONES,), {"k": 2}, 1.0),
    ("steps", (np.int64(1), np.int64(0)), {}, 1),
    ("leading", (ONES,), {"k": 2}, [1.0]),
    ("harmless", (A,), {}, A // 3 + 1 + A % -2),
    ("slopes", (ONES, Z), {}, [0.0, 2 * np.cos(1.0), np.cos(1.0)]),
]
FAULTS = [
    ("quotient", (SEVEN, ZERO), {}),
    ("quotients", (A, Z), {}),
    ("parts", (ONES,), {"k": 0}),
    ("places", (A,), {"k": 0}),
    ("weighted", (ONES,), {"k": 0}),
    ("steps", (np.int64(1), np.int64(3)), {}),
    ("leading", (ONES,), {"k": 0}),
    ("each", (A.astype(np.int32), Z.astype(np.int32)), {}),
]


@pytest.fixture(scope="module")
def compiled():
    return dg.parse(PROGRAM)


def interpreted(name, arguments, sizes):
    (found,) = evaluate(expand(lower_function(parse_program(PROGRAM), name)), arguments, sizes)
    return found


@pytest.mark.parametrize(("name", "arguments", "sizes", "wanted"), NUMBERS)
def test_numbers(compiled, name, arguments, sizes, wanted):
    np.testing.assert_allclose(interpreted(name, arguments, sizes), wanted, rtol=1e-14)
    np.testing.assert_allclose(getattr(compiled, name)(*arguments, **sizes), wanted, rtol=1e-14)


@pytest.mark.parametrize(("name", "arguments", "sizes"), FAULTS)
def test_a_division_by_zero_is_a_fault(compiled, name, arguments, sizes):
    for call in (lambda: interpreted(name, arguments, sizes), lambda: getattr(compiled, name)(*arguments, **sizes)):
        with pytest.raises(DgraphError, match=r"divi(sion|ded) by zero") as caught:
            call()
        assert caught.value.diagnostics[0].labels
        assert isinstance(caught.value, CheckFailed) or name == "leading"


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("def f[n](x: i64[n]) -> i64[n] = x // 2", "drop"),
        ("def f[n](x: i64[n]) -> i64[n] = [x[i] // (i + 1) for i]", "drop"),
        ("def f[n](x: i64[n + 1]) -> i64 = x[0] % (n + 1)", "drop"),
        ("def f[n](x: i64[n]) -> i64 = x[0] % n if n > 0 else 0", "drop"),
        ("def f[n](x: i64[n]) -> i64[n] = [x[i] // i for i]", "error"),
        ("def f[n](x: i64, y: i64) -> i64 = x % y", "error"),
    ],
)
def test_only_a_divisor_that_may_be_zero_is_asked(text, policy):
    graph = lower_function(parse_program(text), "f")

    def divisions(region):
        for node in region.nodes:
            if node.op.name in ("floor_divide", "mod"):
                yield node.op.policy
            for inner in node.regions:
                yield from divisions(inner)

    assert set(divisions(graph.region)) == {policy}


@pytest.mark.parametrize(
    ("text", "checks"),
    [
        ("def f[n](x: i64[n], k: size) -> i64[n] = [x[i] % k for i]", 1),
        ("def f[n](x: f64[n], k: size) -> f64 = sum(x[i // k] for i in range(n))", 1),
        ("def f[n](x: i64[n]) -> i64[n] = [x[i] % n for i]", 0),
        ("def f[n](x: i64[n]) -> i64[n] = [x[i] % (n + 1) for i]", 0),
    ],
)
def test_a_size_is_asked_once_and_in_front_of_what_repeats(text, checks):
    graph = lower_function(parse_program(text), "f")
    assert [node.op.name for node in graph.region.nodes].count("check") == checks
    inner = [node.op for outer in graph.region.nodes for region in outer.regions for node in region.nodes]
    assert all(op.name != "check" for op in inner)
    assert {op.policy for op in inner if op.name in ("floor_divide", "mod")} == {"drop"}


def test_without_checks_the_result_is_zero():
    assert dg.compile(dg.parse(PROGRAM).quotient, checks="off")(SEVEN, ZERO) == 0
