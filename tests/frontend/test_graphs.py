"""The graph that each construct becomes, as text."""

import pytest

from dgraph.frontend import Derived, lower_function, lower_initialiser, parse_program
from dgraph.ir.text import print_graph

GRAPHS = {
    "arithmetic": "def f[n](x: f32[n], k: i32) -> f32[n] = 2 * x ** 2 / k - n\n",
    "formula": (
        "def f[n, m](x: f64[n], w: f64[m]) -> f64[n - m + 1]:\n    z[i] = sum(x[i + p] * w[p] for p)\n    return z\n"
    ),
    "guard": "def f[n](x: f64[n, n]) -> f64[n]:\n    z[i] = sum(x[i, j] for j if j < i)\n    return z\n",
    "reducer": "def f[n, m](x: f64[n, m]) -> f64[n]:\n    z[i] = logsumexp(x[i, j] for j if j != i)\n    return z\n",
    "gather": (
        "def f[n, m](x: f64[n, m], p: i32[n]) -> (f64[n], f64[n, m]):\n    z[i] = x[i, p[i]]\n    return z, x[p]\n"
    ),
    "slice": "def f[n, m](x: f64[n, m], k: i64) -> (f64[n - 2, m], f64[n]) = x[1:-1], x[:, k]\n",
    "update": "def f[n](u: f64[n], i: i32) -> f64[n]:\n    u[i] = 0.0\n    u[1:-1] += 1\n    return u\n",
    "scatter": "def f[n](p: i32[n], k: size) -> i32[k]:\n    c: i32[k] = 0\n    c[p[i]] += 1 for i\n    return c\n",
    "for": (
        "def f[n](x: f32[n], steps: size) -> (f32, f32[steps]):\n    total = 0.0\n    @checkpoint(slots=4)\n"
        "    for t in range(steps):\n        total += sum(x) * t\n        ys[t] = total\n    return total, ys\n"
    ),
    "walk": (
        "def f[n](x: f64[n], y: f64[n]) -> f64:\n    s = 1.0\n    for a, b in zip(x, y):\n"
        "        s = a * s + b\n    return s\n"
    ),
    "while": (
        "def f(x: f64) -> f64:\n    k = 0\n    @bound(9)\n    while x > 1 and k < 9:\n        x /= 2\n"
        "        k += 1\n    return x\n"
    ),
    "if": (
        "def f(x: f64) -> f64:\n    y = 1.0\n    if x > 2:\n        y = x\n    elif x > 1:\n"
        "        y = sqrt(x)\n    return y\n"
    ),
    "choice": "def f[n](x: f64[n]) -> f64[n] = sqrt(x) if x > 0 else 0.0\n",
    "short_circuit": "def f[n](x: f64[n], k: i64) -> bool = k < n and x[k] > 0\n",
    "call": (
        "record P[n]:\n    w: f64[n]\n    b: f64\n\ndef g[n](p: P[n], x: f64[n]) -> f64 = dot(p.w, x) + p.b\n\n"
        "def f[n](p: P[n], x: f64[n]) -> f64:\n    scope inner:\n        y = g(p, x)\n    return y + g(p, 2 * x)\n"
    ),
    "lambda": (
        "def g(h: fn(f64) -> f64, x: f64) -> f64 = h(h(x))\n\ndef f(a: f64, x: f64) -> f64 = g(lambda z: a * z, x)\n"
    ),
    "grad": (
        "param w: f64 = 0.0\n\ndef g(x: f64) -> f64 = w * x\n\n"
        "def f(x: f64) -> (f64, f64) = value_and_grad(g, wrt=w)(x)\n"
    ),
    "vmap": "def g(x: f64, y: f64) -> f64 = x * y\n\ndef f[n](x: f64[n], y: f64) -> f64[n] = vmap(g, over=x)(x, y)\n",
    "assert": 'def f[n](x: f64[n], k: i32) -> f64[n]:\n    assert 0 < k <= n, "k"\n    return x * k\n',
    "random": (
        "def f(k: key) -> f32[3]:\n    a, b = split(k)\n    x: f32[3] = normal(a)\n"
        "    return x if bernoulli(b, 0.5, 3) else 0.0\n"
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graph(name, golden):
    golden(f"frontend/{name}.txt", print_graph(lower_function(parse_program(GRAPHS[name], "f.dg"), "f")))


def test_jacobian(golden):
    text = "def g[n](x: f64[n]) -> f64[n, 2]:\n    z[i, j] = x[i] ** (j + 1.0) for i for j in range(2)\n    return z\n"
    module = parse_program(text, "f.dg")
    forward = print_graph(lower_function(module, Derived("jacobian", "g", mode="forward")))
    reverse = print_graph(lower_function(module, Derived("jacobian", "g", mode="reverse")))
    golden("frontend/jacobian.txt", forward + "\n" + reverse)


def test_initialiser(golden):
    text = (
        "record L[n]:\n    w: f32[n, 2] = he_normal()\n    b: f32 = 0.1\n\nrecord N:\n"
        "    many: L[3][4]\n\nparam net: N\n"
    )
    golden("frontend/initialiser.txt", print_graph(lower_initialiser(parse_program(text, "f.dg"), "net")))
