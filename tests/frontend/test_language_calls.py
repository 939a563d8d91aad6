"""Defaults of the host, transforms where they are called, names, and what a loop refuses."""

import numpy as np
from language_run import Case, Refused, cases

x = np.array([1.0, 2.0, 3.0, 4.0])
y = np.array([2.0, 3.0, 5.0, 7.0])


@cases(
    Case(
        "a product as a default",
        """
def f(x: f64, k: f64 = 2 * 3.0) -> f64 = x * k
""",
        "f",
        2.0,
        expect=12.0,
    ),
    Case(
        "a constant as a default",
        """
rate = 0.5
def f(x: f64, k: f64 = rate) -> f64 = x * k
""",
        "f",
        2.0,
        expect=1.0,
    ),
    Case(
        "an array as a default",
        """
def f(x: f64, k: f64[3] = [1.0, 2.0, pi]) -> f64[3] = x * k
""",
        "f",
        2.0,
        expect=2 * np.array([1, 2, np.pi]),
    ),
    Case(
        "a record as a default",
        """
record P:
    a: f64
def f(x: f64, p: P = P(a=2.0)) -> f64 = x * p.a
""",
        "f",
        2.0,
        expect=4.0,
    ),
    Case(
        "a maker as a default",
        """
def f(x: f64, k: f64[3] = ones()) -> f64[3] = x * k
""",
        "f",
        2.0,
        expect=2 * np.ones(3),
    ),
    Case(
        "a scalar as the default of an array",
        """
def f(x: f64, k: f64[3] = 1.0) -> f64[3] = x * k
""",
        "f",
        2.0,
        expect=2 * np.ones(3),
    ),
    Case(
        "a tuple as a default",
        """
def f(x: f64, k: (f64, i32) = (1.0, 3)) -> f64 = x * k[0] * k[1]
""",
        "f",
        2.0,
        expect=6.0,
    ),
    Case(
        "an infinity and a bool as defaults",
        """
def f(x: f64, k: f32 = -inf, b: bool = not True) -> f64 = x if b else f64(k)
""",
        "f",
        2.0,
        expect=-np.inf,
        is_smooth=False,
    ),
    Case(
        "stop_gradient",
        """
def f(x: f64) -> f64 = x * stop_gradient(x)
""",
        "f",
        3.0,
        expect=3.0,
        wrt="x",
    ),
    Case(
        "jacobian modes",
        """
def g[n](x: f64[n]) -> f64[n] = x * x
def f[n](x: f64[n]) -> (f64[n, n], f64[n, n]) = jacobian(g, mode="forward")(x), jacobian(g, mode="reverse")(x)
""",
        "f",
        x,
        expect=[2 * np.diag(x)] * 2,
    ),
    Case(
        "wrt position",
        """
def ap[n](h: fn(f64[n], f64) -> f64, x: f64[n]) -> f64 = grad(h, wrt=1)(x, 2.0)
def f[n](x: f64[n]) -> f64 = ap(lambda v, s: sum(v) * s * s, x)
""",
        "f",
        x,
        expect=40.0,
    ),
    Case(
        "wrt tuple",
        """
def g(x: f64, y: f64) -> f64 = x * y
def f(x: f64, y: f64) -> (f64, f64) = grad(g, wrt=(y, x))(x, y)
""",
        "f",
        2.0,
        3.0,
        expect=[2.0, 3.0],
    ),
    Case(
        "vmap while",
        """
def g(x: f64) -> f64:
    while x > 1:
        x = x / 2
    return x
def f[n](x: f64[n]) -> f64[n] = vmap(g)(x)
""",
        "f",
        x,
        expect=np.array([1, 1, 0.75, 1]),
        is_smooth=False,
    ),
    Case(
        "scope returns",
        """
def f(x: f64) -> f64:
    scope a:
        y = x * 2
        scope b:
            z = y + 1
    return z
""",
        "f",
        1.0,
        expect=3.0,
    ),
    Case(
        "shadow builtin",
        """
def f(x: f64) -> f64:
    max = x * 2
    return max
""",
        "f",
        1.0,
        expect=2.0,
    ),
    Case(
        "record kw as name",
        """
def f(record: f64, param: f64) -> f64:
    state = record + param
    type = state
    scope = type
    return scope
""",
        "f",
        1.0,
        2.0,
        expect=3.0,
    ),
)
def test_calls(case: Case):
    case.run()


@cases(
    Refused(
        "break",
        """
def f(x: f64) -> f64:
    for i in range(3):
        if x > 2:
            break
        x += 1
    return x
""",
        "f",
        1.0,
        says="`break` cannot leave a loop yet",
    ),
    Refused(
        "continue",
        """
def f(x: f64) -> f64:
    for i in range(3):
        if x > 2:
            continue
        x += 1
    return x
""",
        "f",
        1.0,
        says="`continue` cannot skip the rest of a loop's body yet",
    ),
    Refused(
        "return",
        """
def f(x: f64) -> f64:
    for i in range(3):
        if x > 2:
            return x
        x += 1
    return x
""",
        "f",
        1.0,
        says="`return` inside a loop is not supported yet",
    ),
)
def test_calls_refused(case: Refused):
    case.run()
