"""Rules of the program, `@derivative(of=f)`: functions with a rule stand beside the same mathematics without one."""

from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ad import expand, linearize
from dgraph.errors import DgraphError, InvalidGraph
from dgraph.frontend import Derived, lower_function, parse_program
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import walk
from dgraph.ir.text import parse_graph, print_graph
from dgraph.ir.verify import verify

TEXT = """
record P:
    a: f64 = 0.5
    k: i32 = 2

param p: P

# The body stops every derivative: what is right can only come from the rule.
def root(a: f64) -> f64:
    x = max(a, 1.0)
    for k in range(60):
        x = 0.5 * (x + a / x)
    return stop_gradient(x)

@derivative(of=root)
def root_rule(a: f64, da: f64) -> f64 = da / (2 * root(a))

def root_true(a: f64) -> f64 = sqrt(a)

def weigh[n](x: f64[n], k: i32) -> (f64, f64[n], i32):
    s = stop_gradient(sum(x[i] ** 2 for i) * p.a)
    return s, stop_gradient(s * x * k * p.k), k

@derivative(of=weigh)
def weigh_rule[n](x: f64[n], k: i32, dp: P, dx: f64[n]) -> (f64, f64[n], i32):
    ds = dp.a * sum(x[i] ** 2 for i)
    for i in range(n):
        ds += 2 * p.a * x[i] * dx[i]
    s = weigh(x, k)[0]
    z: f64[n] = zeros()
    z[i] = k * p.k * (ds * x[i] + s * dx[i]) for i in range(n)
    return ds, z, k

def weigh_true[n](x: f64[n], k: i32) -> (f64, f64[n], i32):
    s = sum(x[i] ** 2 for i) * p.a
    return s, s * x * k * p.k, k
"""

USES = """
def straight(x: f64) -> f64 = sin(root{t}(x * x + 1) * root{t}(x + 3))

def in_for(x: f64) -> f64:
    t = 0.0
    for i in range(4):
        t = root{t}(t + x * i + 1)
    return t

def in_while(x: f64) -> f64:
    t = x + 20
    while t > 2.0:
        t = root{t}(t + x)
    return t

def in_branch(x: f64) -> f64:
    if x > 0:
        return root{t}(x) * x
    return -x

def in_formula(x: f64) -> f64:
    return sum(root{t}(x + i + 1) for i in range(5))

def mapped(x: f64) -> f64:
    y = vmap(root{t})([x, 2 * x, x * x])
    return sum(y[i] ** 2 * i for i)

def nested(x: f64) -> f64 = grad(lambda z: root{t}(z) * z)(x) * x

def of_params(x: f64) -> f64:
    s, v, k = weigh{t}([x, 2.0, x * x], 3)
    return s * s + sum(v[i] ** 3 for i) / 100 + k

def partly(x: f64) -> f64 = weigh{t}([1.0, 2.0, 3.0], 2)[0] * x

def outer(x: f64) -> f64 = grad(lambda q: weigh{t}([x, q], 2)[0] ** 2)(x + 1)
"""

PROGRAM = TEXT + USES.format(t="")
TRUE = TEXT + USES.format(t="_true")
NAMES = [line[4 : line.index("(")] for line in USES.splitlines() if line.startswith("def ")]
X = 1.3


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    return dg.parse(PROGRAM), dg.parse(TRUE)


WAYS = {
    "value": lambda f: f(X),
    "reverse": lambda f: dg.grad(f)(X),
    "forward": lambda f: dg.jvp(f)(X, 0.7)[1],
    "forward gradient": lambda f: dg.grad(f, mode="forward")(X),
    "rev rev": lambda f: dg.grad(dg.grad(f))(X),
    "fwd rev": lambda f: dg.hvp(f)(X, 0.7),
    "rev fwd": lambda f: dg.grad(dg.grad(f, mode="forward"))(X),
    "fwd fwd": lambda f: dg.jvp(dg.jvp(f))(X, 1.0, 0.7)[1][1],
    "third": lambda f: dg.jvp(dg.grad(dg.grad(f)))(X, 1.0)[1],
    "batch": lambda f: dg.vmap(dg.grad(f))(np.array([X, 2.0])),
    "batch of second": lambda f: dg.vmap(dg.hvp(f), over=("x", "v"))(np.array([X, 2.0]), np.array([1.0, -1.0])),
}
"""Modes and orders. The first formal is x."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_the_rule_is_the_derivative(both: tuple[Any, Any], name: str, way: str) -> None:
    mine, true = (getattr(program, name) for program in both)
    found, wanted = WAYS[way](mine), WAYS[way](true)
    assert np.all(np.isfinite(wanted))
    assert found == pytest.approx(wanted, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("name", ["of_params", "partly", "outer"])
def test_the_rule_says_how_the_result_moves_with_params(both: tuple[Any, Any], name: str) -> None:
    mine, true = (getattr(program, name) for program in both)
    assert dg.grad(mine, wrt="p")(X).a == pytest.approx(dg.grad(true, wrt="p")(X).a, rel=1e-12)
    mixed = [dg.jvp(dg.grad(f, wrt="x"), wrt="p")(X, {"a": 1.0, "k": np.int32(2)})[1] for f in (mine, true)]
    assert mixed[0] == pytest.approx(mixed[1], rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_before_optimisation_means_the_same(name: str) -> None:
    target = Derived("grad", Derived("grad", name, wrt="x"), wrt="x")
    point = [X, 0.5, np.int32(2)]
    found, wanted = [], []
    for text, results in ((PROGRAM, found), (TRUE, wanted)):
        graph = verify(expand(verify(lower_function(parse_program(text), target))))
        assert not any(node.op.name == "custom" for node in walk(graph.region))
        results += evaluate(graph, point[: len(graph.region.inputs)], {})
    assert found == pytest.approx(wanted, rel=1e-11)


def test_a_rule_is_obeyed_even_where_it_is_not_the_derivative() -> None:
    """Second derivatives are those of what the rule says, in every order of the modes."""
    program = dg.parse("""
def f(x: f64, y: f64) -> f64 = x * y

@derivative(of=f)
def r(x: f64, y: f64, dx: f64, dy: f64) -> f64 = x * y * dx

def looped(x: f64, y: f64) -> f64:
    for i in range(3):
        x = f(x, y)
    return x

def gradient(x: f64, y: f64) -> f64 = grad(f)(x, y)
""")
    assert dg.grad(program.f, wrt=("x", "y"))(2.0, 3.0) == (6.0, 0.0)
    assert dg.grad(program.gradient, wrt=("x", "y"))(2.0, 3.0) == (3.0, 2.0)
    assert dg.jvp(dg.grad(program.f), wrt="y")(2.0, 3.0, 1.0)[1] == 2.0

    # x0 = 2, 6, 18: each step multiplies by x * y.
    def slope(x: float, y: float) -> float:
        return (x * y) * (x * y * y) * (x * y**3)

    assert dg.grad(program.looped)(2.0, 3.0) == slope(2.0, 3.0)
    step = 1e-6
    second = (slope(2.0 + step, 3.0) - slope(2.0 - step, 3.0)) / (2 * step)
    # x enters the rule at every step, and moves by what the rule says, not by its true derivative.
    by_forward = dg.jvp(dg.grad(program.looped))(2.0, 3.0, 1.0)[1]
    by_reverse = dg.grad(dg.grad(program.looped))(2.0, 3.0)
    assert by_forward == pytest.approx(by_reverse, rel=1e-14)
    assert by_forward != pytest.approx(second, rel=1e-3)


def test_what_does_not_move_is_left_out_of_a_rule() -> None:
    """The part of the tangent that is a structural zero must not meet an infinite slope."""
    program = dg.parse("""
def f(x: f64, y: f64) -> f64 = x * sqrt(y)

@derivative(of=f)
def r(x: f64, y: f64, dx: f64, dy: f64) -> f64 = dx * sqrt(y) + dy * x / (2 * sqrt(y))

def at_zero(x: f64) -> f64 = f(x, 0.0) + x
""")
    assert dg.grad(program.at_zero)(2.0) == 1.0
    assert dg.jvp(program.at_zero)(2.0, 1.0) == (2.0, 1.0)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_functions_generic_in_size_shape_and_dtype(dtype: str) -> None:
    program = dg.parse(f"""
def soft[T: float, *s](x: T[*s], sharp: T) -> T[*s] = stop_gradient(log(1 + exp(x * sharp)) / sharp)

@derivative(of=soft)
def soft_rule[T: float, *s](x: T[*s], sharp: T, dx: T[*s], dsharp: T) -> T[*s]:
    slope = sigmoid(x * sharp)
    return slope * dx + (slope * x - soft(x, sharp)) * (dsharp / sharp)

def total[n](x: {dtype}[n], y: {dtype}[2, n]) -> {dtype} = sum(soft(x, 2.0)) + sum(soft(y, x[0]))

def total_true[n](x: {dtype}[n], y: {dtype}[2, n]) -> {dtype}:
    left = log(1 + exp(x * 2.0)) / 2.0
    right = log(1 + exp(y * x[0])) / x[0]
    return sum(left) + sum(right)
""")
    random = np.random.default_rng(0)
    x, y = (random.uniform(0.5, 1.5, shape).astype(dtype.replace("f", "float")) for shape in ((4,), (2, 4)))
    for wrt in ("x", "y"):
        found, wanted = (dg.grad(f, wrt=wrt)(x, y) for f in (program.total, program.total_true))
        assert found.dtype == x.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-12 if dtype == "f64" else 2e-6)
    if dtype == "f64":
        found, wanted = (dg.hessian(f, wrt="x")(x, y) for f in (program.total, program.total_true))
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


def test_a_rule_may_hold_transforms_loops_and_rules_of_other_functions() -> None:
    program = dg.parse("""
def inner(x: f64) -> f64 = stop_gradient(x ** 3)

@derivative(of=inner)
def inner_rule(x: f64, dx: f64) -> f64 = 3 * x ** 2 * dx

def outer(x: f64, y: f64[2]) -> f64 = stop_gradient(inner(x) * y[0] * y[1])

@derivative(of=outer)
def outer_rule(x: f64, y: f64[2], dx: f64, dy: f64[2]) -> f64:
    total = 0.0
    for i in range(2):
        total += inner(x) * y[1 - i] * dy[i]
    moved = vmap(lambda t: t * y[0])(dy * 0.0)
    return total + grad(inner)(x) * y[0] * y[1] * dx + sum(moved)

def true(x: f64, y: f64[2]) -> f64 = x ** 3 * y[0] * y[1]
""")
    y = np.array([2.0, 0.5])
    for wrt in ("x", "y"):
        found, wanted = (dg.grad(f, wrt=wrt)(1.5, y) for f in (program.outer, program.true))
        np.testing.assert_allclose(found, wanted, rtol=1e-14)
    found, wanted = (dg.hessian(f, wrt="x")(1.5, y) for f in (program.outer, program.true))
    assert found == pytest.approx(wanted, rel=1e-14)


def test_the_residual_of_a_rule_is_the_function_and_not_its_steps() -> None:
    """What the body loops over leaves no tape behind."""
    graph = lower_function(parse_program(PROGRAM), "straight")
    line = linearize(graph.region, [True])
    assert not any(node.op.name == "for" for node in line.nodes)
    assert sum(node.op.name == "custom" for node in line.nodes) == 4


def test_a_text_holds_the_name_of_the_rule() -> None:
    graph = lower_function(parse_program(PROGRAM), "straight")
    text = print_graph(graph)
    assert "custom(" in text and 'rule="root_rule"' in text
    again = parse_graph(text)
    assert print_graph(again) == text
    assert evaluate(again, [X], {}) == evaluate(graph, [X], {})
    with pytest.raises(InvalidGraph, match="root_rule"):
        linearize(again.region, [True])


def test_an_imported_function_brings_its_rule(tmp_path: Any) -> None:
    (tmp_path / "roots.dg").write_text(TEXT)
    (tmp_path / "use.dg").write_text("from roots import root\n\ndef f(x: f64) -> f64 = root(x) * x\n")
    program = dg.load(tmp_path / "use.dg")
    assert dg.grad(program.f)(4.0) == pytest.approx(1.5 * 2.0, rel=1e-14)


RULE = """
def f[n](x: f64[n]) -> f64 = sum(x[i] ** 2 for i)

@derivative(of=f)
def r[n](x: f64[n], dx: f64[n]) -> f64{body}
"""

LINEAR = [
    " = 2 * sum(x[i] * dx[i] for i)",
    " = 2 * dot(x, dx)",
    " = 2 * (x @ dx)",
    " = -2 * sum(concat(dx, dx) * concat(-x, zeros_like(x)))",
    ":\n    t = 0.0\n    for i in range(n):\n        t = t + 2 * x[i] * dx[i] if i < 9 else t\n    return t",
    ":\n    z = zeros_like(x)\n    z[i] += 2 * x[i] * dx[i] for i\n    return sum(z)",
    ":\n    z = zeros_like(x)\n    z[0] = 2 * x[0] * dx[0]\n    z[1:] = 2 * x[1:] * dx[1:]\n    return cumsum(z)[-1]",
    ":\n    t, k = 0.0, 0\n    while k < n:\n        t, k = t + 2 * x[k] * dx[k], k + 1\n    return t",
    " = sum(2 * x * (dx if x > 0 else dx * 1.0))",
    " = sum(2 * x * reshape(transpose(reshape(dx, (1, n))), (n,)))",
    " = 2 * sum(jvp(lambda q: sum(q ** 2) / 2)(x, dx)[1] for k in range(1))",
]


@pytest.mark.parametrize("body", LINEAR)
def test_linear_rules_are_taken(body: str) -> None:
    x = np.array([0.5, -1.0, 2.0])
    program = dg.parse(RULE.format(body=body))
    np.testing.assert_allclose(dg.grad(program.f)(x), 2 * x, rtol=1e-14)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (" = sum(dx * dx)", "dx * dx"),
        (" = sum(abs(dx))", "abs(dx)"),
        (" = max(dx)", "max(dx)"),
        (" = sum(x / dx)", "x / dx"),
        (" = dot(dx, dx)", "dot(dx, dx)"),
        (" = sum(stop_gradient(dx) * x)", "stop_gradient(dx)"),
        (" = sum(dx + x)", "dx + x"),
        (" = sum(x)", "r"),
        (" = sum(x * (dx if dx > 0 else 2 * dx))", "dx > 0"),
        (":\n    t = 1.0\n    for i in range(n):\n        t = t + x[i] * dx[i]\n    return t", "t + x[i] * dx[i]"),
        (":\n    t = dx[0]\n    for i in range(n):\n        t = t * t\n    return t", "t * t"),
        (":\n    t = dx[0]\n    while t > 1.0:\n        t = 0.5 * t\n    return t", "t > 1.0"),
        (":\n    assert dx[0] > 0\n    return sum(dx)", "dx[0] > 0"),
    ],
)
def test_rules_that_are_not_linear_are_refused_where_they_are_not(body: str, word: str) -> None:
    program = dg.parse(RULE.format(body=body))
    with pytest.raises(DgraphError) as caught:
        dg.grad(program.f)(np.ones(3))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.title == "the rule `r` is not linear in the tangents"
    assert diagnostic.labels[0].span.text == word
