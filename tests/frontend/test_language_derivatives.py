"""Derivatives of functions, of derivatives, of records, in loops and formulas."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])


@cases(
    Case(
        "third derivative",
        """
def g(x: f64) -> f64 = x ** 5
def f(x: f64) -> f64 = grad(grad(grad(g)))(x)
""",
        "f",
        2.0,
        expect=60 * 4.0,
    ),
    Case(
        "grad of vmap of grad",
        """
def g(x: f64) -> f64 = sin(x)
def h[n](x: f64[n]) -> f64 = sum(vmap(grad(g))(x) ** 2)
def f[n](x: f64[n]) -> f64[n] = grad(h)(x)
""",
        "f",
        x,
        expect=-2 * np.cos(x) * np.sin(x),
    ),
    Case(
        "grad in while",
        """
def g(x: f64) -> f64 = x * x
def f(x: f64) -> f64:
    while x > 0.1:
        x -= 0.25 * grad(g)(x)
    return x
""",
        "f",
        1.0,
        expect=0.0625,
        wrt="x",
    ),
    Case(
        "tuple aux",
        """
def g(x: f64) -> (f64, f64) = (x * x, x)
def f(x: f64) -> (f64, f64, f64):
    (v, a), s = value_and_grad(g)(x)
    return v, a, s
""",
        "f",
        3.0,
        expect=[9.0, 3.0, 6.0],
    ),
    Case(
        "jvp two",
        """
def g(x: f64, y: f64) -> f64 = x * y
def f(x: f64, y: f64) -> (f64, f64) = jvp(g, wrt=(x, y))(x, y, 1.0, 2.0)
""",
        "f",
        3.0,
        4.0,
        expect=[12.0, 10.0],
    ),
    Case(
        "vjp record ct",
        """
record P:
    a: f64
    b: f64
def g(x: f64) -> P = P(a=x * x, b=3 * x)
def f(x: f64) -> f64 = vjp(g)(x, P(a=1.0, b=2.0))
""",
        "f",
        3.0,
        expect=12.0,
    ),
    Case(
        "jacobian of record",
        """
record P:
    a: f64
    b: f64
def g(p: P) -> f64[2] = [p.a * p.b, p.a]
def f(p: P) -> P[2] = jacobian(g)(p)
""",
        "f",
        {"a": 2.0, "b": 3.0},
        expect=[np.array([3.0, 1]), np.array([2.0, 0])],
    ),
    Case(
        "while inside formula grads",
        """
def g(v: f64) -> f64:
    while v < 10.0:
        v = v * 3
    return v
def f[n](a: f64[n]) -> f64:
    z[i] = g(a[i])
    return sum(z)
""",
        "f",
        x,
        expect=np.array([27.0, 9, 9, 3]),
        wrt="a",
    ),
    Case(
        "lambda in loop captures",
        """
def ap(h: fn(f64) -> f64, v: f64) -> f64 = h(v)
def f[n](x: f64[n]) -> f64:
    s = 0.0
    for i in range(n):
        g = lambda v: v * x[i]
        s += ap(g, 2.0) + g(1.0)
    return s
""",
        "f",
        x,
        expect=np.full(4, 3.0),
        wrt="x",
    ),
    Case(
        "compose",
        """
def compose(f: fn(f64) -> f64, g: fn(f64) -> f64) -> fn(f64) -> f64 = lambda x: f(g(x))
def f(x: f64) -> f64 = grad(compose(sin, exp))(x)
""",
        "f",
        0.3,
        expect=np.cos(np.exp(0.3)) * np.exp(0.3),
    ),
    Case(
        "where bound value",
        """
def f[n](x: f64[n]) -> f64:
    l = log(x)
    r = l * 2
    return sum(r if x > 1 else 0.0)
""",
        "f",
        np.array([0.0, 2]),
        expect=np.array([0, 1.0]),
        wrt="x",
    ),
)
def test_derivatives(case: Case):
    case.run()


@cases(
    Refused(
        "wrt local",
        """
def g(x: f64) -> f64 = x
def f(y: f64) -> f64 = grad(g, wrt=y)(y)
""",
        "f",
        1.0,
        says="`g` has no formal `y`",
    ),
    Refused(
        "grad vector",
        """
def g[n](x: f64[n]) -> f64[n] = x
def f[n](y: f64[n]) -> f64[n] = grad(g)(y)
""",
        "f",
        x,
        says="`grad` of `g` needs a function with a scalar float result",
    ),
    Refused(
        "grad int",
        """
def g(x: i32) -> f64 = 1.0 * x
def f(y: i32) -> f64 = grad(g, wrt=x)(y)
""",
        "f",
        1,
        says="`grad` of `g` is with respect to `x`, which holds no floats",
    ),
)
def test_derivatives_refused(case: Refused):
    case.run()
