"""`vmap` of functions of every kind is the loop of single calls, to the last bit; so are derivatives of it and under
it, to rounding."""

from typing import Any

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.evaluate import evaluate
from dgraph.program.arguments import build, flatten, is_extent
from dgraph.program.lower import lower
from dgraph.program.pipeline import stage

ENTRIES = 3
DECLARED = """
record P:
    a: f64 = 0.7
    b: f64[4] = ones()
    k: i32 = 2

param p: P

"""
BODIES = {
    "choice": "    s = x[0]\n    if s > 0:\n        s = s * x[1]\n    else:\n        s = sin(s)\n    return s + sum(x)",
    "elementwise choice": "    return sum(sqrt(x) if x > 0 else x ** 2)",
    "while": "    s = x[0] ** 2 + 1\n    c = 0\n    while s > 0.4:\n        s = 0.6 * s\n        c += 1\n"
    "    return s * c + sum(x)",
    "for of while": "    s = 0.0\n    for t in range(4):\n        y = x[t] ** 2\n"
    "        while y > 0.2:\n            y = y / 2\n        s += y * x[t]\n    return s",
    "trips by argument": "    s = x[0]\n    for t in range(k[0] + 1):\n        s = sin(s) + x[t]\n    return s",
    "updates": "    z = x\n    for t in range(1, 4):\n        z[t] = z[t - 1] * x[t]\n    z[k[1]] += x[0]\n"
    "    return sum(z * x)",
    "scatter": "    z: f64[4] = 0.0\n    z[k[i]] += x[i] ** 2 for i in range(4)\n    return sum(z ** 2)",
    "gather": "    return sum(x[k] * x) + x[k[2]]",
    "random": "    z: f64[4] = normal(r)\n    u: f64 = uniform(fold(r, 3))\n"
    "    j: i64 = randint(r, 0, 4)\n    return sum(z * x) + u * x[1] + x[j] ** 2",
    "permutation": "    order = permutation(r, 4)\n    return sum(x[order] * [i * 1.0 for i in range(4)])",
    "scan": "    return sum(cumsum(x) * cumprod(x))",
    "sort": "    return sum(sort(x) * [1.0, 2.0, 3.0, 4.0]) + x[argsort(x)[0]]",
    "reductions": "    return max(x) * min(x) + logsumexp(x) + norm(x) + prod(x) + mean(x) + x[argmax(x)]",
    "softmax": "    return dot(softmax(x), x)",
    "products": "    w = reshape(concat(x, x), (2, 4))\n    return sum((w @ x) @ w)",
    "linear algebra": "    a = reshape(x, (2, 2)) + 3 * eye(2)\n    return sum(solve(a, x[:2])) + det(a) + sum(inv(a))",
    "cholesky": "    a = reshape(x, (2, 2))\n    c = cholesky(a @ a.T + eye(2))\n"
    "    return sum(c) + logdet(a @ a.T + eye(2))",
    "slices": "    y = concat(x[1:-1], x[:2]) + x[::-1]\n    return sum(y[::2] * y[1::2])",
    "lambda": "    def twice(f: fn(f64) -> f64, z: f64) -> f64 = f(f(z))\n"
    "    return twice(lambda z: sin(z) * x[1], x[0])",
    "gradient inside": "    return dot(grad(lambda z: sum(z ** 3 * x))(x), x)",
    "batch inside": "    return sum(vmap(lambda z: z * x[0] + sin(z))(x))",
    "param": "    return p.a * sum(x * p.b) + p.a ** 2 * x[0] * p.k",
}
"""Bodies of f(x: f64[4], k: i64[4], r: key) -> f64."""


def program(body: str) -> dg.Program:
    text = f"{DECLARED}def f(x: f64[4], k: i64[4], r: key) -> f64:\n{body}\n\n"
    text += "def total[n](x: f64[n, 4], k: i64[n, 4], r: key[n]) -> f64 = sum(vmap(f, over=(x, k, r))(x, k, r))\n"
    return dg.parse(text)


def run(function: dg.Function, **values: Any) -> Any:
    """By the interpreter."""
    source, signature = lower(function.program.module, function.recipe)
    graph = stage(source, "expand")
    values |= {name: function.program.value_of(name) for name in signature.params if name not in values}
    given = [
        leaf
        for formal in graph.formals
        if not is_extent(formal)
        for leaf in flatten(formal.name, formal.type, values[formal.name])
    ]
    return build(graph.result, iter(evaluate(graph, given)))


def arguments(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "x": random.standard_normal((ENTRIES, 4)),
        "k": random.integers(0, 3, (ENTRIES, 4)),
        "r": random.integers(0, 2**62, ENTRIES).astype(np.uint64),
    }


@pytest.mark.parametrize("name", BODIES)
def test_the_batch_is_the_loop(name: str):
    f = program(BODIES[name]).f
    given = arguments(len(name))
    over = ("x", "k", "r")
    rows = [{key: value[at] for key, value in given.items()} for at in range(ENTRIES)]
    assert np.array_equal(run(dg.vmap(f, over), **given), [run(f, **row) for row in rows])
    expected = np.stack([run(dg.grad(f), **row) for row in rows])
    assert np.array_equal(run(dg.vmap(dg.grad(f), over), **given), expected)
    np.testing.assert_allclose(run(dg.grad(f.program.total), **given), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "name", ["choice", "while", "updates", "gather", "random", "scan", "sort", "linear algebra", "param"]
)
def test_the_compiled_batch_is_the_loop(name: str):
    f = program(BODIES[name]).f
    given = arguments(len(name))
    both = dg.value_and_grad(f)
    single = [both(*(value[at] for value in given.values())) for at in range(ENTRIES)]
    values, slopes = dg.vmap(both, ("x", "k", "r"))(*given.values())
    np.testing.assert_allclose(values, [value for value, _ in single], rtol=1e-14)
    np.testing.assert_allclose(slopes, np.stack([slope for _, slope in single]), rtol=1e-13, atol=1e-14)


def test_a_batch_within_a_batch_shares_what_is_not_mapped():
    f = program(BODIES["param"]).f
    given = arguments(0)
    rows, models = 2, {"a": np.array([0.5, 1.5]), "b": np.ones((2, 4)) * [[1.0], [2.0]], "k": np.array([1, 3], "i4")}
    inner = dg.vmap(f, "x")
    found = run(dg.vmap(inner, "p"), x=given["x"], k=given["k"][0], r=given["r"][0], p=models)
    for at in range(rows):
        model = {key: value[at] for key, value in models.items()}
        expected = [run(f, x=x, k=given["k"][0], r=given["r"][0], p=model) for x in given["x"]]
        assert np.array_equal(found[at], expected)


def test_params_are_mapped_inside_the_language():
    text = program(BODIES["param"]).text
    text += "def many[n](x: f64[4], k: i64[4], r: key, ps: P[n]) -> (f64[n], P[n]):\n"
    text += "    return vmap(f, over=p)(x, k, r, p=ps), vmap(grad(f, wrt=p), over=p)(x, k, r, p=ps)\n"
    given = {key: value[0] for key, value in arguments(1).items()}
    models = {"a": np.array([0.5, 1.5]), "b": np.ones((2, 4)) * [[1.0], [2.0]], "k": np.array([1, 3], "i4")}
    values, slopes = run(dg.parse(text).many, **given, ps=models)
    x = given["x"]
    np.testing.assert_allclose(values, [0.5 * x.sum() + 0.25 * x[0], 3 * x.sum() + 2.25 * x[0] * 3], rtol=1e-14)
    np.testing.assert_allclose(slopes.a, [x.sum() + x[0], 2 * x.sum() + 3 * x[0] * 3], rtol=1e-14)
    np.testing.assert_allclose(slopes.b, np.outer([0.5, 1.5], x), rtol=1e-14)
    assert slopes.k.tolist() == [1, 3]
