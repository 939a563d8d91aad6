"""Derivatives and batching: in the language, from the host, composed, with respect to formals and params."""

import numpy as np
import pytest
from frontend_run import differences, run

from dgraph.ad import expand
from dgraph.errors import DgraphError
from dgraph.frontend import Derived, lower_function, parse_program
from dgraph.ir.evaluate import evaluate

TEXT = """
record Line:
    a: f64 = 1.0
    b: f64 = 2.0
    k: i32 = 3

param line: Line
param scale: f64 = 1.0

def cubic[n](x: f64[n]) -> f64 = sum(x[i] ** 3 for i) + x[0] * x[1]

def pair(x: f64, y: f64) -> (f64, f64, i32) = x * y ** 2, x + y, 7

def stretch[n](x: f64[n], w: f64) -> f64[n] = w * x ** 2

def map[m, n](a: f64[m, n], x: f64[n]) -> f64[m]:
    y[i] = sin(sum(a[i, j] * x[j] for j)) for i in range(m)
    return y

def fit[n](x: f64[n]) -> f64 = scale * sum((line.a * x[i] + line.b) ** 2 for i)

def double_fit[n](x: f64[n]) -> f64 = fit(x) + fit(x, scale=2 * scale)

def by_param[n](x: f64[n]) -> Line = grad(fit, wrt=line)(x)

def gradient_of_gradient[n](x: f64[n]) -> f64[n]:
    return grad(lambda z: sum(grad(cubic)(z)))(x)

def in_a_loop(x: f64, steps: i32) -> f64:
    for t in range(steps):
        x -= 0.1 * grad(lambda z: (z - 3) ** 2)(x)
    return x

def hilly(x: f64) -> f64:
    if x > 0:
        y = x ** 2
    else:
        y = -x
    while y > 1:
        y = y / 2
    return y

def mapped[n](x: f64[n]) -> f64[n] = vmap(grad(hilly))(x)

def matrix[n](x: f64[n, n]) -> f64 = sum(x[i, j] ** 2 * x[j, i] for i, j)

def several[n](x: f64[n], w: f64) -> (f64[n], f64):
    by_x, by_w = grad(lambda a, b: sum(stretch(a, b)), wrt=(a, b))(x, w)
    return by_x, by_w

def pulled[n](x: f64[n], ct: f64[n]) -> (f64[n], f64) = vjp(stretch, wrt=(x, w))(x, 3.0, ct)

def positions(x: f64) -> f64:
    def g(f: fn(f64, f64) -> f64) -> f64 = grad(f, wrt=1)(2.0, x)
    return g(lambda a, b: a * b ** 2)
"""
MODULE = parse_program(TEXT)
X = np.array([0.5, -1.2, 2.0])


def cubic(x):
    return (x**3).sum() + x[0] * x[1]


def cubic_slope(x):
    return 3 * x**2 + [x[1], x[0], 0]


CURVATURE = np.diag(6 * X)
CURVATURE[0, 1] = CURVATURE[1, 0] = 1


def test_the_host_composes_transforms():
    value, slope = run(MODULE, Derived("value_and_grad", "cubic"), X)
    assert value == pytest.approx(cubic(X))
    np.testing.assert_allclose(slope, cubic_slope(X))
    np.testing.assert_allclose(run(MODULE, Derived("grad", "cubic", mode="forward"), X), cubic_slope(X))
    np.testing.assert_allclose(run(MODULE, Derived("hessian", "cubic", wrt="x"), X), CURVATURE)
    np.testing.assert_allclose(run(MODULE, Derived("jacobian", Derived("grad", "cubic")), X), CURVATURE)
    v = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(run(MODULE, Derived("hvp", "cubic"), X, v), CURVATURE @ v)
    _, along = run(MODULE, Derived("jvp", Derived("grad", "cubic")), X, v)
    np.testing.assert_allclose(along, CURVATURE @ v)
    many = np.stack([X, 2 * X])
    np.testing.assert_allclose(
        run(MODULE, Derived("vmap", Derived("grad", "cubic"), wrt="x"), many), [*map(cubic_slope, many)]
    )


@pytest.mark.parametrize("mode", ["forward", "reverse", "auto"])
def test_jacobians(mode):
    by_x, by_w = run(MODULE, Derived("jacobian", "stretch", wrt=("x", "w"), mode=mode), X, 3.0)
    np.testing.assert_allclose(by_x, np.diag(6 * X))
    np.testing.assert_allclose(by_w, X**2)
    one = run(MODULE, Derived("jacobian", "stretch", wrt=("x",), mode=mode), X, 3.0)
    np.testing.assert_allclose(one, np.diag(6 * X))


def executed(graph, *arguments):
    """The result, and how many nodes ran."""
    ran = []
    (found,) = evaluate(expand(graph), arguments, observer=lambda node, _: ran.append(node))
    return found, len(ran)


@pytest.mark.parametrize(("rows", "columns", "fewer"), [(2, 40, "reverse"), (40, 2, "forward"), (5, 6, "forward")])
def test_the_mode_of_a_jacobian_is_chosen_by_the_sizes_of_the_call(rows, columns, fewer):
    rng = np.random.default_rng(0)
    a, x = rng.normal(size=(rows, columns)), rng.normal(size=columns)
    found = {
        mode: executed(lower_function(MODULE, Derived("jacobian", "map", wrt=("x",), mode=mode)), a, x)
        for mode in ("auto", "forward", "reverse")
    }
    np.testing.assert_allclose(found["auto"][0], np.cos(a @ x)[:, None] * a, rtol=1e-13)
    assert found["auto"][0].tobytes() == found[fewer][0].tobytes()
    assert 0 < found["auto"][1] - found[fewer][1] < 9
    if rows != 5:
        assert found["auto"][1] < found["forward" if fewer == "reverse" else "reverse"][1] / 3


def test_jacobian_with_respect_to_a_matrix():
    x = np.random.default_rng(0).normal(size=(3, 3))
    exact = 2 * x * x.T + x.T**2
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(run(MODULE, Derived("jacobian", "matrix", mode=mode), x), exact)
    hessian = run(MODULE, Derived("hessian", "matrix"), x)
    assert hessian.shape == (3, 3, 3, 3)
    np.testing.assert_allclose(hessian[0, 1, 0, 1], 2 * x[1, 0])
    np.testing.assert_allclose(hessian[0, 1, 1, 0], 2 * x[0, 1] + 2 * x[1, 0])


@pytest.mark.parametrize("mode", ["auto", "forward"])
def test_the_rest_of_a_tuple_is_passed_along(mode):
    assert [float(part) for part in run(MODULE, Derived("grad", "pair", mode=mode), 2.0, 3.0)] == [9.0, 5.0, 7.0]


@pytest.mark.parametrize("mode", ["auto", "forward"])
def test_value_and_grad_of_a_tuple(mode):
    results = run(MODULE, Derived("value_and_grad", "pair", wrt=("x", "y"), mode=mode), 2.0, 3.0)
    assert [float(part) for part in results] == [18.0, 5.0, 7.0, 9.0, 12.0]
    graph = lower_function(MODULE, Derived("value_and_grad", "pair", wrt=("x", "y")))
    assert str(graph.result) == "((f64, f64, i32), (f64, f64))"
    assert str(lower_function(MODULE, Derived("value_and_grad", "pair", wrt="y")).result) == "((f64, f64, i32), f64)"


def test_params_are_implicit_keyword_formals():
    graph = lower_function(MODULE, "double_fit")
    assert [formal.name for formal in graph.formals] == ["x", "line", "scale"]
    a, b = 1.5, -0.5
    base = ((a * X + b) ** 2).sum()
    assert run(MODULE, "double_fit", X, a, b, np.int32(3), 4.0) == pytest.approx(4 * base + 8 * base)
    by_a, by_b, k = run(MODULE, "by_param", X, a, b, np.int32(3), 4.0)
    assert by_a == pytest.approx(8 * ((a * X + b) * X).sum()) and by_b == pytest.approx(8 * (a * X + b).sum())
    assert k == 3
    slope = run(MODULE, Derived("grad", "fit", wrt=("line", "scale")), X, a, b, np.int32(3), 4.0)
    assert slope[3] == pytest.approx(base)


def test_transforms_stand_anywhere():
    np.testing.assert_allclose(run(MODULE, "gradient_of_gradient", X), 6 * X + [1, 1, 0])
    assert run(MODULE, "in_a_loop", 0.0, 50) == pytest.approx(3 * (1 - 0.8**50))
    x = np.array([-1.7, 0.5, 3.0])
    expected = [differences(lambda z: run(MODULE, "hilly", z), at) for at in x]
    np.testing.assert_allclose(run(MODULE, "mapped", x), expected, rtol=1e-7)
    by_x, by_w = run(MODULE, "several", X, 3.0)
    np.testing.assert_allclose(by_x, 6 * X)
    assert by_w == pytest.approx((X**2).sum())
    by_x, by_w = run(MODULE, "pulled", X, np.ones(3))
    np.testing.assert_allclose(by_x, 6 * X)
    assert by_w == pytest.approx((X**2).sum())
    assert run(MODULE, "positions", 5.0) == 20.0


def test_formals_of_transforms():
    def formals(target):
        return [(formal.name, str(formal.type)) for formal in lower_function(MODULE, target).formals]

    assert formals(Derived("jvp", "stretch", wrt=("x", "w")))[2:] == [("dx", "f64[n]"), ("dw", "f64")]
    assert formals(Derived("vjp", "stretch")) == [("x", "f64[n]"), ("w", "f64"), ("ct", "f64[n]")]
    assert formals(Derived("vmap", "stretch", wrt="w")) == [("x", "f64[n]"), ("w", "f64[batch]")]
    assert lower_function(MODULE, Derived("vmap", "stretch", wrt="w")).sizes == ("n", "batch")


def test_types_for_generics_from_the_host():
    graph = lower_function(MODULE, "by_param")
    line = next(formal.type for formal in graph.formals if formal.name == "line")
    step = lower_function(MODULE, "sgd", types={"p": line, "slope": line})
    assert [formal.name for formal in step.formals][:5] == ["p", "slope", "s", "rate", "momentum"]
    assert str(step.result) == "(Line, Momentum[Line])"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Derived("grad", "stretch"), "scalar float result"),
        (Derived("grad", "cubic", wrt="y"), "no formal `y`"),
        (Derived("grad", "cubic", wrt="line"), "does not read the param"),
        (Derived("grad", "cubic", mode="sideways"), "no mode"),
        ("nothing", "has no function `nothing`"),
    ],
)
def test_refused_from_the_host(target, message):
    with pytest.raises(DgraphError, match=message):
        lower_function(MODULE, target)
