"""`implicit(f, x)`: derivatives of solutions of equations, however they were found, against closed forms."""

from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ad import expand
from dgraph.errors import CheckFailed
from dgraph.frontend import Derived, lower_function, parse_program
from dgraph.ir.graph import walk
from dgraph.ir.verify import verify

TEXT = """
def bisect(f: fn(f64) -> f64, low: f64, high: f64) -> f64:
    while high - low > 1e-15 * (1 + abs(low)):
        middle = 0.5 * (low + high)
        if f(middle) > 0:
            high = middle
        else:
            low = middle
    return implicit(f, 0.5 * (low + high), tolerance=1e-12)

def kepler(m: f64, e: f64) -> f64 = bisect(lambda x: x - e * sin(x) - m, m - 1.0, m + 1.0)

def cubic(p: f64, q: f64) -> f64 = bisect(lambda x: x ** 3 + p * x + q, -10.0, 10.0)

# x ** 2 + y ** 2 = r ** 2, y = c x
def crossing(r: f64, c: f64) -> f64[2]:
    def circle_and_line(z: f64[2]) -> f64[2] = [z[0] ** 2 + z[1] ** 2 - r ** 2, z[1] - c * z[0]]
    z = [1.0, 1.0]
    for k in range(12):
        z -= solve(jacobian(circle_and_line)(z), circle_and_line(z))
    return implicit(circle_and_line, z)

def crossing_true(r: f64, c: f64) -> f64[2] = [r / sqrt(1 + c ** 2), r * c / sqrt(1 + c ** 2)]

# The steady state of u' = -k u ** 3 + a, one step of Euler's method after the other.
def steady(a: f64, k: f64) -> f64:
    u, change = 1.0, 1.0
    while abs(change) > 1e-15:
        change = 0.1 * (a - k * u ** 3)
        u += change
    return implicit(lambda u: a - k * u ** 3, u)

def ridge[m, n](w: f64[n], x: f64[m, n], y: f64[m], weight: f64) -> f64:
    return sum((x @ w - y) ** 2) + weight * sum(w ** 2)

# The minimum, by a thousand steps downhill.
def fitted[m, n](x: f64[m, n], y: f64[m], weight: f64) -> f64[n]:
    w: f64[n] = zeros()
    slope = grad(lambda w: ridge(w, x, y, weight))
    for k in range(1000):
        w -= 0.02 * slope(w)
    return implicit(slope, w)

def fitted_true[m, n](x: f64[m, n], y: f64[m], weight: f64) -> f64[n]:
    unit: f64[n, n] = eye()
    return solve(x.T @ x + weight * unit, x.T @ y)

def risk[m, n](x: f64[m, n], y: f64[m], weight: f64) -> f64 = sum(fitted(x, y, weight) ** 3)
def risk_true[m, n](x: f64[m, n], y: f64[m], weight: f64) -> f64 = sum(fitted_true(x, y, weight) ** 3)

def layer[n](w: f64[n, n], u: f64[n]) -> f64[n]:
    x: f64[n] = zeros()
    for k in range(80):
        x = tanh(w @ x + u)
    return x

def held[n](w: f64[n, n], u: f64[n]) -> f64 = sum(implicit(lambda x: x - tanh(w @ x + u), layer(w, u)) ** 3)
def held_true[n](w: f64[n, n], u: f64[n]) -> f64 = sum(layer(w, u) ** 3)

record Pair[n]:
    x: f64 = 0.0
    y: f64[n] = zeros()
    k: i32 = 3

# x = sum(y) / 4 + a, y = a x / 2 + k
def pair[n](a: f64[n]) -> f64:
    s = Pair(x=0.0, y=zeros(n), k=3)
    for t in range(100):
        s = Pair(x=sum(s.y) / 4 + a[0], y=a * s.x / 2 + s.k, k=s.k)
    s = implicit(lambda s: Pair(x=s.x - sum(s.y) / 4 - a[0], y=s.y - a * s.x / 2 - s.k, k=0), s)
    return s.x * s.y[0] * s.k

def pair_true[n](a: f64[n]) -> f64:
    x = (n * 3.0 / 4 + a[0]) / (1 - sum(a) / 8)
    return x * (a[0] * x / 2 + 3) * 3

def both(a: f64, b: f64) -> f64:
    x, y = implicit(lambda z: (z[0] ** 2 - a, z[0] * z[1] - b), (sqrt(a), b / sqrt(a)))
    return x * y ** 2

def in_loop(x: f64) -> f64:
    t = x
    for i in range(3):
        t = kepler(t, 0.3) + i * cubic(1.0, -t)
    return t

def in_loop_true(x: f64) -> f64:
    t = x
    for i in range(3):
        k, c = t, 0.5
        for j in range(100):
            k = t + 0.3 * sin(k)
        for j in range(30):
            c -= (c ** 3 + c - t) / (3 * c ** 2 + 1)
        t = k + i * c
    return t

def in_branch(x: f64) -> f64 = x * (implicit(lambda y: y ** 2 - x, 1.5) if x > 2 else x)
"""
PROGRAM = dg.parse(TEXT)


def cardano(p: float, q: float) -> float:
    d = np.sqrt(q * q / 4 + p**3 / 27)
    return float(np.cbrt(-q / 2 + d) + np.cbrt(-q / 2 - d))


def test_keplers_equation_by_bisection() -> None:
    """The steps of a bisection have no derivative with respect to e at all."""
    m, e = 1.0, 0.5
    x = PROGRAM.kepler(m, e)
    assert x - e * np.sin(x) == pytest.approx(m, abs=1e-14)
    c, s = 1 - e * np.cos(x), np.sin(x)
    assert dg.grad(PROGRAM.kepler, wrt=("m", "e"))(m, e) == pytest.approx((1 / c, s / c), rel=1e-13)
    assert dg.jvp(PROGRAM.kepler, wrt="e")(m, e, 1.0) == pytest.approx((x, s / c), rel=1e-13)
    assert dg.hessian(PROGRAM.kepler, wrt="m")(m, e) == pytest.approx(-e * s / c**3, rel=1e-12)
    third = 3 * e**2 * s**2 / c**5 - e * np.cos(x) / c**4
    for modes in (("reverse",) * 3, ("forward",) * 3, ("reverse", "forward", "reverse")):
        function = PROGRAM.kepler
        for mode in modes:
            function = dg.grad(function, mode=mode)
        assert function(m, e) == pytest.approx(third, rel=1e-11)


def test_the_root_of_a_cubic() -> None:
    p, q, step = 1.5, -0.7, 1e-5
    x = PROGRAM.cubic(p, q)
    assert x == pytest.approx(cardano(p, q), rel=1e-14)
    slopes = dg.grad(PROGRAM.cubic, wrt=("p", "q"))(p, q)
    assert slopes == pytest.approx((-x / (3 * x * x + p), -1 / (3 * x * x + p)), rel=1e-13)
    mixed = dg.jvp(dg.grad(PROGRAM.cubic, wrt="p"), wrt="q")(p, q, 1.0)[1]
    ahead, back = (-z / (3 * z * z + p) for z in (cardano(p, q + step), cardano(p, q - step)))
    assert mixed == pytest.approx((ahead - back) / (2 * step), rel=1e-8)


def test_two_equations() -> None:
    r, c = 1.7, 0.6
    for wrt in ("r", "c"):
        wanted = dg.jacobian(PROGRAM.crossing_true, wrt=wrt)(r, c)
        for mode in ("forward", "reverse"):
            np.testing.assert_allclose(dg.jacobian(PROGRAM.crossing, wrt=wrt, mode=mode)(r, c), wanted, rtol=1e-13)
        for inner, outer in (("forward", "reverse"), ("reverse", "reverse"), ("reverse", "forward")):
            first = dg.jacobian(PROGRAM.crossing, wrt="c", mode=inner)
            true = dg.jacobian(dg.jacobian(PROGRAM.crossing_true, wrt="c"), wrt=wrt)(r, c)
            np.testing.assert_allclose(dg.jacobian(first, wrt=wrt, mode=outer)(r, c), true, rtol=1e-12, atol=1e-14)


def test_the_steady_state_of_an_equation_of_motion() -> None:
    a, k = 2.0, 0.7
    u = np.cbrt(a / k)
    assert dg.grad(PROGRAM.steady, wrt=("a", "k"))(a, k) == pytest.approx((u / (3 * a), -u / (3 * k)), rel=1e-12)
    assert dg.grad(dg.grad(PROGRAM.steady))(a, k) == pytest.approx(-2 * u / (9 * a * a), rel=1e-12)


def test_the_minimum_of_a_function() -> None:
    """The equation is a gradient, so its derivative is a Hessian."""
    random = np.random.default_rng(0)
    x, y, weight = random.normal(size=(12, 4)), random.normal(size=12), 1.3
    for wrt in ("x", "y", "weight"):
        wanted = dg.grad(PROGRAM.risk_true, wrt=wrt)(x, y, weight)
        for mode in ("forward", "reverse"):
            found = dg.grad(PROGRAM.risk, wrt=wrt, mode=mode)(x, y, weight)
            np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13)
        along = random.normal(size=np.shape(wanted))
        true = dg.hvp(PROGRAM.risk_true, wrt=wrt)(x, y, weight, along)
        np.testing.assert_allclose(dg.hvp(PROGRAM.risk, wrt=wrt)(x, y, weight, along), true, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [1, 3, 50])
def test_systems_whose_size_only_the_call_knows(n: int) -> None:
    random = np.random.default_rng(n)
    w, u, v = random.normal(size=(n, n)) * 0.5 / np.sqrt(n), random.normal(size=n), random.normal(size=n)
    for wrt in ("w", "u"):
        wanted = dg.grad(PROGRAM.held_true, wrt=wrt)(w, u)
        for mode in ("forward", "reverse") if wrt == "u" else ("reverse",):
            found = dg.grad(PROGRAM.held, wrt=wrt, mode=mode)(w, u)
            np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-13)
    true = dg.hvp(PROGRAM.held_true, wrt="u")(w, u, v)
    np.testing.assert_allclose(dg.hvp(PROGRAM.held, wrt="u")(w, u, v), true, rtol=1e-10, atol=1e-12)
    if n < 50:
        twice = dg.jacobian(dg.grad(PROGRAM.held, wrt="u"), wrt="u", mode="reverse")(w, u)
        np.testing.assert_allclose(twice @ v, true, rtol=1e-10, atol=1e-12)


def test_reverse_is_the_adjoint_of_forward() -> None:
    r, c = 1.7, 0.6
    ct, along = np.array([0.3, -1.1]), (0.7, -0.4)
    tangent = dg.jvp(PROGRAM.crossing, wrt=("r", "c"))(r, c, *along)[1]
    assert np.dot(ct, tangent) == pytest.approx(
        np.dot(dg.vjp(PROGRAM.crossing, wrt=("r", "c"))(r, c, ct), along), rel=1e-13
    )


def test_records_with_integers_and_tuples() -> None:
    a = np.array([0.3, -0.2, 0.5])
    assert PROGRAM.pair(a) == pytest.approx(PROGRAM.pair_true(a), rel=1e-13)
    np.testing.assert_allclose(dg.grad(PROGRAM.pair)(a), dg.grad(PROGRAM.pair_true)(a), rtol=1e-12)
    np.testing.assert_allclose(dg.hessian(PROGRAM.pair)(a), dg.hessian(PROGRAM.pair_true)(a), rtol=1e-11)
    found = dg.grad(PROGRAM.both, wrt=("a", "b"))(4.0, 3.0)
    assert found == pytest.approx((-0.5 * 9.0 / 8.0, 2 * 3.0 / 2.0), rel=1e-14), "x y ** 2 = b ** 2 / sqrt(a)"


def test_loops_branches_and_batches() -> None:
    x = 0.4
    assert PROGRAM.in_loop(x) == pytest.approx(PROGRAM.in_loop_true(x), rel=1e-12)
    first, second = dg.grad(PROGRAM.in_loop_true), dg.grad(dg.grad(PROGRAM.in_loop_true))
    assert dg.grad(PROGRAM.in_loop)(x) == pytest.approx(first(x), rel=1e-11)
    assert dg.grad(dg.grad(PROGRAM.in_loop))(x) == pytest.approx(second(x), rel=1e-10)
    assert dg.hvp(PROGRAM.in_loop)(x, 1.0) == pytest.approx(second(x), rel=1e-10)
    assert dg.grad(PROGRAM.in_branch)(1.0) == 2.0, "the equation of the other side, which does not hold, is not asked"
    assert dg.grad(PROGRAM.in_branch)(2.25) == pytest.approx(1.5 * 1.5, rel=1e-14)
    m, e = np.array([0.2, 1.0, 2.5]), np.array([0.1, 0.5, 0.8])
    both = dg.grad(PROGRAM.kepler, wrt=("m", "e"))
    batch = dg.vmap(both, over=("m", "e"))(m, e)
    np.testing.assert_array_equal(np.stack(batch, 1), [both(*row) for row in zip(m, e, strict=True)])


def test_nothing_of_the_search_is_stored_or_run_again() -> None:
    graph = lower_function(parse_program(TEXT), Derived("grad", "kepler", wrt="e"))
    loops = [node for node in walk(verify(expand(graph)).region) if node.op.name in ("for", "while")]
    assert [(node.op.name, getattr(node.op, "tapes", 0)) for node in loops] == [("while", 0)]


LOOSE = """
def root(a: f64, steps: i32) -> f64:
    x = 1.0
    for k in range(steps):
        x = 0.5 * (x + a / x)
    return implicit(lambda x: x ** 2 - a, x{option})

def no_equation(a: f64) -> f64 = implicit(lambda x: x - a ** 2 - x, a)
def double_root(a: f64) -> f64 = implicit(lambda x: (x - a) ** 2, a)
def two(a: f64) -> f64 = sum(implicit(lambda z: [z[0] - a, z[0] - a], [a, a]))
"""


def test_an_equation_that_does_not_hold_is_refused_where_it_is() -> None:
    program = dg.parse(LOOSE.format(option=""))
    calls: list[tuple[Any, tuple[Any, ...]]] = [
        (dg.grad(program.root), (2.0, 2)),
        (dg.jvp(program.root), (2.0, 2, 1.0)),
        (dg.vmap(dg.grad(program.root), over="a"), (np.array([2.0, 1.0]), 2)),
    ]
    assert program.root(2.0, 2) == pytest.approx(17 / 12, rel=1e-15)
    for function, arguments in calls:
        with pytest.raises(CheckFailed) as caught:
            function(*arguments)
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.title == "the equation does not hold here, so its solution has no implicit derivative"
        assert diagnostic.labels[0].span.text.startswith("implicit(lambda x")
        assert diagnostic.note.startswith("relative change of x in one step of Newton's method = 0.001")
    assert dg.grad(program.root)(2.0, 5) == pytest.approx(0.5 / np.sqrt(2.0), rel=1e-14)
    loose = dg.parse(LOOSE.format(option=", tolerance=0.01"))
    assert dg.grad(loose.root)(2.0, 2) == pytest.approx(0.5 / (17 / 12), rel=1e-14)


@pytest.mark.parametrize("name", ["no_equation", "double_root", "two"])
def test_an_equation_that_says_nothing_about_its_unknown_is_refused(name: str) -> None:
    function = getattr(dg.parse(LOOSE.format(option="")), name)
    for derivative in (dg.grad(function), dg.grad(function, mode="forward"), dg.grad(dg.grad(function))):
        with pytest.raises(CheckFailed, match="its derivative is singular"):
            derivative(2.0)


def test_f32_and_what_is_not_differentiated() -> None:
    program = dg.parse("def root(a: f32, b: f32) -> f32 = b * implicit(lambda x: x ** 2 - a, sqrt(a))")
    slope = dg.grad(program.root)(np.float32(2.0), np.float32(3.0))
    assert slope.dtype == np.float32 and slope == pytest.approx(1.5 / np.sqrt(2.0), rel=1e-6)
    assert dg.grad(program.root, wrt="b")(np.float32(2.0), np.float32(3.0)) == np.float32(np.sqrt(np.float32(2.0)))
