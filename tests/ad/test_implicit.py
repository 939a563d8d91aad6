"""`@implicit`: the derivative of where a loop settles, against closed forms and the derivative of many steps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ad import expand
from dgraph.errors import CheckFailed
from dgraph.frontend import Derived, lower_function, parse_program
from dgraph.ir.evaluate import evaluate
from dgraph.ir.graph import walk
from dgraph.ir.verify import verify

PROGRAM = dg.parse("""
def root(a: f64) -> f64:
    x = max(a, 1.0)
    @implicit
    while abs(x * x - a) > 1e-14 * a:
        x = 0.5 * (x + a / x)
    return x

def kepler(m: f64, e: f64) -> f64:
    x, change, steps = m, 1.0, 0
    @implicit
    while change > 1e-15 and steps < 500:
        new = m + e * sin(x)
        change, x, steps = abs(new - x), new, steps + 1
    return x

def newton(f: fn(f64) -> f64, x: f64) -> f64:
    change = 1.0
    @implicit
    while abs(change) > 1e-12:
        y, slope = value_and_grad(f)(x)
        change = y / slope
        x -= change
    return x

# x ** 3 + p x + q has one real root where p > 0.
def cubic(p: f64, q: f64) -> f64 = newton(lambda x: x ** 3 + p * x + q, 1.0)

def layer[n](w: f64[n, n], u: f64[n]) -> f64[n]:
    x: f64[n] = zeros()
    change = 1.0
    @implicit
    while change > 1e-15:
        new = tanh(w @ x + u)
        change = norm(new - x)
        x = new
    return x

def layer_steps[n](w: f64[n, n], u: f64[n]) -> f64[n]:
    x: f64[n] = zeros()
    for k in range(150):
        x = tanh(w @ x + u)
    return x

def large[n](w: f64[n, n], u: f64[n]) -> f64 = sum(layer(w, u) ** 3)
def large_steps[n](w: f64[n, n], u: f64[n]) -> f64 = sum(layer_steps(w, u) ** 3)
def small(w: f64[3, 3], u: f64[3]) -> f64 = sum(layer(w, u) ** 3)
def small_steps(w: f64[3, 3], u: f64[3]) -> f64 = sum(layer_steps(w, u) ** 3)

def in_loop(x: f64) -> f64:
    t = x
    for i in range(3):
        t = root(t + 1) + kepler(t, 0.3) * i
    return t

def in_loop_true(x: f64) -> f64:
    t = x
    for i in range(3):
        k = t
        for j in range(120):
            k = t + 0.3 * sin(k)
        t = sqrt(t + 1) + k * i
    return t

def in_branch(x: f64) -> f64 = (root(x) if x > 0 else 0.0) + x

def nest(a: f64) -> f64:
    x, change = a, 1.0
    @implicit
    while change > 1e-15:
        new = 0.5 * root(x + a)
        change, x = abs(new - x), new
    return x

# x = sqrt(x + a) / 2
def nest_true(a: f64) -> f64 = (1 + sqrt(1 + 16 * a)) / 8
""")


def curve(m: float, e: float) -> float:
    x = m
    for _ in range(500):
        x = m + e * np.sin(x)
    return x


def cardano(p: float, q: float) -> float:
    d = np.sqrt(q * q / 4 + p**3 / 27)
    return float(np.cbrt(-q / 2 + d) + np.cbrt(-q / 2 - d))


def matrices(n: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(n)
    return random.normal(size=(n, n)) * 0.7 / np.sqrt(n), random.normal(size=n)


def test_square_roots_to_the_third_derivative() -> None:
    f, a = PROGRAM.root, 2.0
    assert dg.grad(f)(a) == pytest.approx(0.5 * a**-0.5, rel=1e-14)
    assert dg.jvp(f)(a, 1.0)[1] == pytest.approx(0.5 * a**-0.5, rel=1e-14)
    assert dg.grad(dg.grad(f))(a) == pytest.approx(-0.25 * a**-1.5, rel=1e-14)
    assert dg.grad(dg.grad(dg.grad(f)))(a) == pytest.approx(0.375 * a**-2.5, rel=1e-13)


def test_a_loop_that_starts_at_its_solution_has_a_derivative() -> None:
    """It runs no step: the derivative of its steps would be 1, that of the maximum."""
    assert PROGRAM.root(1.0) == 1.0
    assert dg.grad(PROGRAM.root)(1.0) == 0.5


def test_keplers_equation() -> None:
    m, e = 1.0, 0.5
    x = curve(m, e)
    across = 1 - e * np.cos(x)
    assert dg.grad(PROGRAM.kepler, wrt=("m", "e"))(m, e) == pytest.approx((1 / across, np.sin(x) / across), rel=1e-14)
    second = dg.hessian(PROGRAM.kepler, wrt="m")(m, e)
    assert second == pytest.approx(-e * np.sin(x) / across**3, rel=1e-13)


def test_the_root_of_a_cubic_by_newtons_method_and_what_its_function_captures() -> None:
    p, q, step = 1.5, -0.7, 1e-5
    x = PROGRAM.cubic(p, q)
    assert x == pytest.approx(cardano(p, q), rel=1e-14)
    slopes = dg.grad(PROGRAM.cubic, wrt=("p", "q"))(p, q)
    assert slopes == pytest.approx((-x / (3 * x * x + p), -1 / (3 * x * x + p)), rel=1e-13)
    mixed = dg.jvp(dg.grad(PROGRAM.cubic, wrt="p"), wrt="q")(p, q, 1.0)[1]
    difference = [-z / (3 * z * z + p) for z in (cardano(p, q + step), cardano(p, q - step))]
    assert mixed == pytest.approx((difference[0] - difference[1]) / (2 * step), rel=1e-8)


@pytest.mark.parametrize("name", ["large", "small"])
@pytest.mark.parametrize("wrt", ["w", "u"])
def test_a_layer_that_is_a_fixed_point(name: str, wrt: str) -> None:
    """`small` is solved by its matrix, `large`, whose size only the call knows, by iteration."""
    w, u = matrices(3 if name == "small" else 12)
    settled, steps = getattr(PROGRAM, name), getattr(PROGRAM, f"{name}_steps")
    wanted = dg.grad(steps, wrt=wrt)(w, u)
    np.testing.assert_allclose(dg.grad(settled, wrt=wrt)(w, u), wanted, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(dg.grad(settled, wrt=wrt, mode="forward")(w, u), wanted, rtol=1e-11, atol=1e-13)
    direction = np.random.default_rng(1).normal(size=wanted.shape)
    moved = dg.hvp(settled, wrt=wrt)(w, u, direction)
    np.testing.assert_allclose(moved, dg.hvp(steps, wrt=wrt)(w, u, direction), rtol=1e-9, atol=1e-11)
    if wrt == "u":
        hessian = dg.hessian(settled, wrt="u")(w, u)
        np.testing.assert_allclose(hessian, hessian.T, rtol=1e-11, atol=1e-13)
        reverse = dg.jacobian(dg.grad(settled, wrt="u"), wrt="u", mode="reverse")(w, u)
        np.testing.assert_allclose(reverse, hessian, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("n", [3, 12])
def test_reverse_is_the_adjoint_of_forward(n: int) -> None:
    w, u = matrices(n)
    random = np.random.default_rng(2)
    dw, du, ct = random.normal(size=(n, n)), random.normal(size=n), random.normal(size=n)
    tangent = dg.jvp(PROGRAM.layer, wrt=("w", "u"))(w, u, dw, du)[1]
    to_w, to_u = dg.vjp(PROGRAM.layer, wrt=("w", "u"))(w, u, ct)
    assert np.vdot(ct, tangent) == pytest.approx(np.vdot(to_w, dw) + np.vdot(to_u, du), rel=1e-12)


TWINS: list[tuple[str, Callable[[Any], Any]]] = [
    ("in_loop", lambda p: p.in_loop_true),
    ("nest", lambda p: p.nest_true),
]


@pytest.mark.parametrize(("name", "true"), TWINS, ids=[name for name, _ in TWINS])
def test_loops_inside_loops(name: str, true: Callable[[Any], Any]) -> None:
    mine, other, x = getattr(PROGRAM, name), true(PROGRAM), 1.3
    assert mine(x) == pytest.approx(other(x), rel=1e-13)
    assert dg.grad(mine)(x) == pytest.approx(dg.grad(other)(x), rel=1e-12)
    assert dg.jvp(mine)(x, 1.0)[1] == pytest.approx(dg.grad(other)(x), rel=1e-12)
    wanted = dg.grad(dg.grad(other))(x)
    for found in (
        dg.grad(dg.grad(mine))(x),
        dg.hvp(mine)(x, 1.0),
        dg.grad(dg.grad(mine, mode="forward"))(x),
        dg.jvp(dg.jvp(mine))(x, 1.0, 1.0)[1][1],
    ):
        assert found == pytest.approx(wanted, rel=1e-10)


def test_batches_and_branches() -> None:
    a = np.array([1.0, 4.0, 9.0, 2.0])
    np.testing.assert_allclose(dg.vmap(dg.grad(PROGRAM.root))(a), 0.5 / np.sqrt(a), rtol=1e-14)
    np.testing.assert_allclose(dg.vmap(dg.hvp(PROGRAM.root), over=("a", "v"))(a, a), -0.25 / np.sqrt(a), rtol=1e-13)
    w, u = matrices(4)
    rows = np.stack([u, 2 * u, -u])
    batch = dg.vmap(dg.grad(PROGRAM.large, wrt="u"), over="u")(w, rows)
    np.testing.assert_allclose(batch, [dg.grad(PROGRAM.large, wrt="u")(w, row) for row in rows], rtol=1e-12)
    assert dg.grad(PROGRAM.in_branch)(4.0) == 1.25
    assert dg.grad(PROGRAM.in_branch)(-4.0) == 1.0, "the loop of the other side, which would not settle, does not run"


def test_no_step_is_stored() -> None:
    graph = lower_function(parse_program(TEXT_OF_LAYER), Derived("grad", "loss", wrt="u"))
    found = verify(expand(graph))
    loops = [node for node in walk(found.region) if node.op.name in ("for", "while")]
    assert len(loops) == 2, "the loop, and the iteration of the adjoint"
    assert all(getattr(node.op, "tapes", 0) == 0 for node in loops)
    w, u = matrices(6)
    wanted = dg.grad(PROGRAM.large_steps, wrt="u")(w, u)
    np.testing.assert_allclose(evaluate(found, [u, w], {})[0], wanted, rtol=1e-11, atol=1e-13)


TEXT_OF_LAYER = """
def loss[n](u: f64[n], w: f64[n, n]) -> f64:
    x: f64[n] = zeros()
    change = 1.0
    @implicit
    while change > 1e-15:
        new = tanh(w @ x + u)
        change = norm(new - x)
        x = new
    return sum(x ** 3)
"""

STOPPED = """
param p: f64 = 2.0

def stopped(a: f64, most: i32) -> f64:
    x, k = a, 0
    @implicit{option}
    while k < most:
        x, k = 0.5 * x + 0.25 * a * p, k + 1
    return x
"""


def test_a_loop_that_has_not_settled_is_refused_where_it_is() -> None:
    program = dg.parse(STOPPED.format(option=""))
    assert program.stopped(3.0, 4) == 3.0 / 16 + 0.5 * 3.0 * 2.0 * (1 - 1 / 16)
    for derived, arguments in (
        (dg.grad(program.stopped), (3.1, 4)),
        (dg.jvp(program.stopped), (3.1, 4, 1.0)),
        (dg.vmap(dg.grad(program.stopped), over="a"), (np.array([3.1, 1.0]), 4)),
    ):
        with pytest.raises(CheckFailed) as caught:
            derived(*arguments, p=1.0)
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.title == "this loop has not settled, so its end has no implicit derivative"
        assert diagnostic.labels[0].span.text == "k < most"
        assert diagnostic.note.startswith("relative change of x in one more step = 0.0")
    assert dg.grad(program.stopped)(3.1, 60) == pytest.approx(1.0, rel=1e-14)
    assert dg.grad(program.stopped, wrt="p")(3.1, 60) == pytest.approx(0.5 * 3.1, rel=1e-14)


def test_the_tolerance_says_what_counts_as_settled() -> None:
    loose = dg.parse(STOPPED.format(option="(tolerance=0.05)"))
    assert dg.grad(loose.stopped)(3.0, 4, p=1.0) == pytest.approx(0.5, rel=1e-14)
    with pytest.raises(CheckFailed):
        dg.grad(loose.stopped)(3.0, 2, p=1.0)


def test_f32_settles_at_half_of_its_digits() -> None:
    program = dg.parse("""
def root(a: f32) -> f32:
    x = max(a, 1.0)
    @implicit
    while abs(x * x - a) > 1e-6 * a:
        x = 0.5 * (x + a / x)
    return x
""")
    slope = dg.grad(program.root)(np.float32(2.0))
    assert slope.dtype == np.float32 and slope == pytest.approx(0.5 / np.sqrt(2.0), rel=1e-6)


def test_records_params_and_rules_inside() -> None:
    program = dg.parse("""
record Pair:
    x: f64 = 0.3
    y: f64[2] = ones()
    k: i32 = 3

param p: Pair

def half(x: f64) -> f64 = stop_gradient(x / 2)

@derivative(of=half)
def half_rule(x: f64, dx: f64) -> f64 = dx / 2

def settle(a: f64) -> Pair:
    s = Pair(x=0.0, y=zeros(2), k=0)
    while_ = 1.0
    @implicit
    while while_ > 1e-15:
        new = Pair(x=half(s.y[0]) + a * p.x, y=0.25 * s.x * p.y + a, k=s.k + 1)
        while_ = norm(new.y - s.y) + abs(new.x - s.x)
        s = new
    return s

def total(a: f64) -> f64:
    s = settle(a)
    return s.x * s.y[1]

# x = y0 / 2 + a px,  y = x py / 4 + a
def total_true(a: f64) -> f64:
    x = (a / 2 + a * p.x) / (1 - p.y[0] / 8)
    return x * (0.25 * x * p.y[1] + a)
""")
    assert program.total(1.5) == pytest.approx(program.total_true(1.5), rel=1e-13)
    assert dg.grad(program.total)(1.5) == pytest.approx(dg.grad(program.total_true)(1.5), rel=1e-12)
    assert dg.hvp(program.total)(1.5, 1.0) == pytest.approx(dg.hvp(program.total_true)(1.5, 1.0), rel=1e-12)
    mine, true = (dg.grad(f, wrt="p")(1.5) for f in (program.total, program.total_true))
    assert mine.x == pytest.approx(true.x, rel=1e-12)
    np.testing.assert_allclose(mine.y, true.y, rtol=1e-12)
