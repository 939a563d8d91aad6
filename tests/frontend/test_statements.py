"""What each construct means: lowered and run by the interpreter, against NumPy."""

from typing import Any

import numpy as np
import pytest
from frontend_run import run

from dgraph.errors import CheckFailed

X = np.array([3.0, 1.0, 2.0, 5.0])
M = np.arange(12.0).reshape(3, 4)
T = np.arange(24.0).reshape(2, 3, 4) / 8


def body(signature: str, *lines: str) -> str:
    return f"def f{signature}:\n" + "".join(f"    {line}\n" for line in lines)


CASES: list[tuple[str, str, tuple[Any, ...], Any]] = [
    ("rebinding", body("(x: f64) -> f64", "x = x + 1", "x *= 3", "x /= 2", "x -= 1", "return x"), (3.0,), 5.0),
    ("swap", body("(a: f64, b: f64) -> (f64, f64)", "a, b = b, a", "return a, b"), (1.0, 2.0), [2.0, 1.0]),
    ("nested targets", body("(x: f64) -> f64", "(a, b), c = (x, 2 * x), 3 * x", "return a + b * c"), (2.0,), 26.0),
    ("unpack an array", body("(x: f64[3]) -> f64", "a, b, c = x", "return a + 2 * b + 3 * c"), (X[:3],), 11.0),
    ("typed binding", body("[n](x: f64[n]) -> f64[n]", "y: f64[n] = 1.5", "return x + y"), (X,), X + 1.5),
    ("definition", body("[n](x: f64[n]) -> f64[n, n]", "z[i, j] = x[i] * x[j]", "return z"), (X,), np.outer(X, X)),
    (
        "definition with ranges",
        body("[n](x: f64[n]) -> f64[n, 2]", "z[i, j] = x[i] * (j + 1) for i for j in range(2)", "return z"),
        (X,),
        np.stack([X, 2 * X], 1),
    ),
    ("definition of rows", body("[n, m](x: f64[n, m]) -> f64[n, m]", "z[i] = x[i] * 2", "return z"), (M,), 2 * M),
    ("offset", body("[n](x: f64[n]) -> f64[n - 1]", "z[i] = x[i + 1] - x[i]", "return z"), (X,), np.diff(X)),
    ("reversed", body("[n](x: f64[n]) -> f64[n]", "z[i] = x[n - 1 - i]", "return z"), (X,), X[::-1]),
    ("gather", "def f[n](x: f64[n], p: i32[2]) -> f64[2] = x[p]", (X, np.array([2, 0], "i4")), X[[2, 0]]),
    (
        "gather of a column",
        "def f[n, m](x: f64[n, m], p: i32[2]) -> f64[n, 2] = x[:, p]",
        (M, np.array([3, 1], "i4")),
        M[:, [3, 1]],
    ),
    (
        "comprehension",
        "def f[n](x: f64[n]) -> f64[2, n] = [x[i] + k for k in range(2) for i]",
        (X,),
        np.stack([X, X + 1]),
    ),
    ("slices", "def f[n](x: f64[n, 4]) -> f64[n - 1, 2] = x[1:, ::2]", (M,), M[1:, ::2]),
    ("negative step", "def f[n](x: f64[n]) -> f64[n] = x[::-1]", (X,), X[::-1]),
    ("rest", "def f[n, m](x: f64[n, m]) -> f64[n] = x[..., -1]", (M,), M[:, -1]),
    (
        "moving slice",
        body(
            "[n](x: f64[2 * n], s: i64) -> f64[2]",
            "z: f64[2] = zeros()",
            "for s in range(n):",
            "    z += x[2 * s : 2 * s + 2]",
            "return z",
        ),
        (X, 0),
        [5.0, 6.0],
    ),
    ("slice from a scalar", "def f[n](x: f64[n], s: i32) -> f64[2] = x[s : s + 2]", (X, np.int32(1)), X[1:3]),
    (
        "block of an array",
        "def f[n, k](x: f64[n], w: f64[k], s: i32) -> f64[k] = x[s * k : (s + 1) * k] * w",
        (X, X[:2], np.int32(1)),
        X[2:] * X[:2],
    ),
    (
        "slope of a slice from a scalar",
        "def f[n](x: f64[n], s: i64) -> f64[n] = grad(g)(x, s)\n"
        "def g[n](x: f64[n], s: i64) -> f64 = sum(x[s : s + 2] ** 2)\n",
        (X, 2),
        X * [0, 0, 2, 2],
    ),
    ("batch times a vector", "def f[b, n, m](x: f64[b, n, m], y: f64[m]) -> f64[b, n] = x @ y", (T, X), T @ X),
    (
        "vector times a batch",
        "def f[b, n, m](x: f64[b, n, m], y: f64[n]) -> f64[b, m] = y @ x",
        (T, X[:3]),
        X[:3] @ T,
    ),
    (
        "slope of a vector times a batch",
        "def f[b, n, m](x: f64[b, n, m], y: f64[n]) -> f64[n] = grad(g, wrt=y)(x, y)\n"
        "def g[b, n, m](x: f64[b, n, m], y: f64[n]) -> f64 = sum(y @ x)\n",
        (T, X[:3]),
        T.sum((0, 2)),
    ),
    ("middle index", "def f[n, m](x: f64[n, m], k: i64) -> f64[n] = x[:, k]", (M, 2), M[:, 2]),
    (
        "update an entry",
        body("[n](x: f64[n]) -> f64[n]", "x[1] = 9.0", "x[-1] += 1", "return x"),
        (X,),
        [3.0, 9.0, 2.0, 6.0],
    ),
    ("update a slice", body("[n](x: f64[n]) -> f64[n]", "x[1:-1] *= 10", "return x"), (X,), [3.0, 10.0, 20.0, 5.0]),
    ("update with a step", body("[n](x: f64[n]) -> f64[n]", "x[::2] = 0.0", "return x"), (X,), [0.0, 1.0, 0.0, 5.0]),
    ("update backwards", body("[n](x: f64[n]) -> f64[n]", "x[::-1] = x", "return x"), (X,), X[::-1]),
    (
        "update a column",
        body("[n, m](x: f64[n, m]) -> f64[n, m]", "x[:, 0] = -x[:, 0]", "return x"),
        (M,),
        M * [-1, 1, 1, 1],
    ),
    (
        "update part of a row",
        body("(x: f64[3, 4], k: i32) -> f64[3, 4]", "x[k, 1:3] = [7.0, 8.0]", "return x"),
        (M * 0, 1),
        [[0] * 4, [0, 7, 8, 0], [0] * 4],
    ),
    (
        "exchange entries",
        body("[n](x: f64[n], i: i32) -> f64[n]", "x[i], x[0] = x[0], x[i]", "return x"),
        (X, 2),
        [2.0, 1.0, 3.0, 5.0],
    ),
    (
        "add through places",
        body("[n](x: f64[n], p: i32[3]) -> f64[n]", "x[p[k]] += 1 for k", "return x"),
        (X, np.array([0, 0, 2], "i4")),
        [5.0, 1.0, 3.0, 5.0],
    ),
    (
        "add through an array",
        body("[n](x: f64[n], p: i32[3]) -> f64[n]", "x[p] += [1.0, 2.0, 3.0]", "return x"),
        (X, np.array([0, 0, 2], "i4")),
        [6.0, 1.0, 5.0, 5.0],
    ),
    (
        "subtract under a guard",
        body("[n](x: f64[n]) -> f64[n]", "x[i] -= 1 for i if x[i] > 2", "return x"),
        (X,),
        [2.0, 1.0, 2.0, 4.0],
    ),
    (
        "replace over a generator",
        body("[n](x: f64[n]) -> f64[n]", "x[i] = x[i - 1] for i in range(1, n)", "return x"),
        (X,),
        [3.0, 3.0, 1.0, 2.0],
    ),
    (
        "for carries",
        body("[n](x: f64[n]) -> f64", "t = 1.0", "for v in x:", "    t = t * 0.5 + v", "return t"),
        (X,),
        6.6875,
    ),
    (
        "for collects",
        body(
            "[n](x: f64[n]) -> f64[n]", "t = 0.0", "for i in range(n):", "    t += x[i]", "    ys[i] = t", "return ys"
        ),
        (X,),
        np.cumsum(X),
    ),
    (
        "for collects rows",
        body("[n](x: f64[n]) -> f64[n, n]", "for i in range(n):", "    ys[i, j] = x[i] * x[j]", "return ys"),
        (X,),
        np.outer(X, X),
    ),
    (
        "for collects two",
        body("[n](x: f64[n]) -> f64[n]", "for i, v in enumerate(x):", "    a[i], b[i] = v, 2 * v", "return a + b"),
        (X,),
        3 * X,
    ),
    (
        "backward range",
        body("(x: f64) -> f64", "for i in range(6, 0, -2):", "    x = 10 * x + i", "return x"),
        (0.0,),
        642.0,
    ),
    ("empty range", body("(x: f64, k: i32) -> f64", "for i in range(3, k):", "    x += 1", "return x"), (1.0, 2), 1.0),
    (
        "zip",
        body("[n](x: f64[n], y: f64[n]) -> f64", "t = 0.0", "for a, b in zip(x, y):", "    t += a * b", "return t"),
        (X, X),
        X @ X,
    ),
    (
        "a tuple is unrolled",
        body(
            "(x: f64[2]) -> f64",
            "for w in ([[1.0, 2.0]], [[3.0], [4.0], [5.0]]):",
            "    x = w @ x if len(x) == 2 else w @ x",
            "return sum(x)",
        ),
        (np.array([1.0, 1.0]),),
        36.0,
    ),
    (
        "while",
        body("(x: f64) -> (f64, i32)", "k = 0", "while x > 1:", "    x /= 2", "    k += 1", "return x, k"),
        (12.0,),
        [0.75, 4],
    ),
    (
        "while with a guarded read",
        body("[n](x: f64[n]) -> i32", "k = 0", "while k < n and x[k] < 10:", "    k += 1", "return k"),
        (X,),
        4,
    ),
    (
        "branches",
        body(
            "(x: f64) -> f64",
            "y = 1.0",
            "if x > 2:",
            "    y = x",
            "elif x > 1:",
            "    z = 5.0",
            "    y = z",
            "return y",
        ),
        (1.5,),
        5.0,
    ),
    (
        "early return",
        body("(x: f64) -> f64", "if x > 0:", "    return x", "y = x * x", "if y > 4:", "    return y", "return -y"),
        (-1.0,),
        -1.0,
    ),
    (
        "return from every branch",
        body("(x: f64) -> (f64, f64)", "if x > 0:", "    return x, 1.0", "else:", "    return -x, 2.0"),
        (-3.0,),
        [3.0, 2.0],
    ),
    (
        "choice of arrays",
        "def f[n](x: f64[n]) -> f64[n] = sqrt(x - 2) if x > 2 else 0.0",
        (X,),
        np.sqrt(np.maximum(X - 2, 0)),
    ),
    (
        "choice by an array of another rank",
        "def f[n, m](x: f64[n, m], c: bool[m]) -> f64[n, m] = x if c else -x",
        (M, np.array([1, 0, 1, 0], bool)),
        M * [1, -1, 1, -1],
    ),
    ("where", "def f[n](x: f64[n]) -> f64[n] = where(x > 2, x, 0.0)", (X,), np.where(X > 2, X, 0)),
    ("chained comparison", "def f[n](x: f64[n]) -> i64 = sum(1 < x <= 3)", (X,), 2),
    ("logic on arrays", "def f[n](x: f64[n]) -> bool = any(x > 4 and not x < 5)", (X,), True),
    (
        "sum over two indices",
        "def f[n, m](x: f64[n, m]) -> f64 = sum(x[i, j] * i for i, j)",
        (M,),
        (M * np.arange(3)[:, None]).sum(),
    ),
    ("guarded sum", "def f[n, m](x: f64[n, m]) -> f64 = sum(x[i, j] for i, j if j < i)", (M,), np.tril(M, -1).sum()),
    ("guarded mean", "def f[n](x: f64[n]) -> f64 = mean(x[i] for i if x[i] > 1)", (X,), 10 / 3),
    ("guarded max", "def f[n](x: f64[n]) -> f64 = max(x[i] for i if x[i] < 4)", (X,), 3.0),
    ("empty max", "def f[n](x: f64[n]) -> f64 = max(x[i] for i if x[i] < 0)", (X,), -np.inf),
    ("product", "def f[n](x: f64[n]) -> f64 = prod(x[i] for i)", (X,), 30.0),
    ("logsumexp", "def f[n](x: f64[n]) -> f64 = logsumexp(2 * x[i] for i)", (X,), np.logaddexp.reduce(2 * X)),
    ("argmin", "def f[n](x: f64[n]) -> i32 = argmin(x[i] * x[i] for i)", (X,), 1),
    ("any", "def f[n](x: f64[n]) -> bool = any(x[i] > 4 for i)", (X,), True),
    ("all under a guard", "def f[n](x: f64[n]) -> bool = all(x[i] > 2 for i if i != 1)", (X,), False),
    ("sum of rows", "def f[n, m](x: f64[n, m]) -> f64[m] = sum(row for row in x)", (M,), M.sum(0)),
    ("sum over a count of the run", "def f(k: i32) -> f64 = sum(0.5 * i for i in range(k))", (5,), 5.0),
    ("axis", "def f[n, m](x: f64[n, m]) -> f64[n] = max(x, axis=-1) + mean(x, axis=1)", (M,), M.max(1) + M.mean(1)),
    ("max of several", "def f[n](x: f64[n]) -> f64[n] = max(x, 2, 2.5)", (X,), np.maximum(X, 2.5)),
    ("any function of a generator", "def f[n](x: f64[n]) -> f64 = norm(x[i] * 2 for i)", (X,), 2 * np.linalg.norm(X)),
    (
        "lambda captures",
        body("(x: f64) -> f64", "a = 2.0", "g = lambda z: a * z", "a = 3.0", "return g(x) + a"),
        (1.0,),
        5.0,
    ),
    (
        "nested def",
        body("[n](x: f64[n]) -> f64", "def g(z: f64) -> f64:", "    return z + sum(x)", "return g(1.0)"),
        (X,),
        12.0,
    ),
    (
        "function of a function",
        "def twice(g: fn(f64) -> f64) -> fn(f64) -> f64 = lambda z: g(g(z))\n"
        "def f(x: f64) -> f64 = twice(twice(lambda z: 2 * z))(x)",
        (1.0,),
        16.0,
    ),
    (
        "keywords and defaults",
        "def g(a: f64, b: f64 = 2, c: f64 = 3) -> f64 = a + 10 * b + 100 * c\ndef f(x: f64) -> f64 = g(x, c=1)",
        (5.0,),
        125.0,
    ),
    (
        "a size formal",
        "def g[n](x: f64[n], k: size = 2) -> f64[k * n] = tile(x, k)\ndef f(x: f64[2]) -> f64[6] = g(x, k=3)",
        (X[:2],),
        np.tile(X[:2], 3),
    ),
    (
        "any shape",
        "def g[*s](x: f64[*s]) -> f64[*s] = x * len(s)\ndef f(x: f64[3, 4]) -> f64[3, 4] = g(x)",
        (M,),
        2 * M,
    ),
    ("any float", "def g[T: float, n](x: T[n]) -> T = sum(x)\ndef f(x: f32[4]) -> f32 = g(x)", (X,), 11.0),
    (
        "alias",
        "type Pair[n] = (f64[n], f64)\ndef g[n](p: Pair[n]) -> f64 = sum(p[0]) * p[1]\n"
        "def f(x: f64[4]) -> f64 = g((x, 2.0))",
        (X,),
        22.0,
    ),
    (
        "makers",
        "def f[n](x: f64[n]) -> f64[n, n] = eye(n) + ones(n, n) + zeros(like=[x for i in range(n)])",
        (X,),
        np.eye(4) + 1,
    ),
    (
        "shape functions",
        "def f(x: f64[3, 4]) -> f64[4, 6] = concat(transpose(x), stack(x[0], x[1], x[2], axis=1), axis=1)",
        (M,),
        np.hstack([M.T, M.T]),
    ),
    (
        "softmax",
        "def f(x: f64[3, 4]) -> f64[3, 4] = softmax(x) + exp(log_softmax(x, axis=0))",
        (M,),
        np.exp(M - M.max(1, keepdims=True)) / np.exp(M - M.max(1, keepdims=True)).sum(1, keepdims=True)
        + np.exp(M - M.max(0)) / np.exp(M - M.max(0)).sum(0),
    ),
    ("statistics", "def f[n](x: f64[n]) -> (f64, f64) = var(x), std(x)", (X,), [X.var(), X.std()]),
    (
        "triangles",
        "def f(x: f64[3, 3]) -> f64[3, 3] = tril(x) + 2 * triu(x) + diag(diag(x))",
        (M[:, :3],),
        np.tril(M[:, :3]) + 2 * np.triu(M[:, :3]) + np.diag(np.diag(M[:, :3])),
    ),
    ("one hot", "def f(k: i32[3]) -> f64[3, 4] = one_hot(k, 4)", (np.array([2, 0, 3], "i4"),), np.eye(4)[[2, 0, 3]]),
    (
        "clip, round and sign",
        "def f[n](x: f64[n]) -> f64[n] = clip(x, 1.5, 3) + round(x / 3) * sign(x)",
        (X,),
        np.clip(X, 1.5, 3) + np.round(X / 3),
    ),
    ("powers", "def f(x: f64) -> f64 = x ** 2 + x ** -1 + x ** 0.5 + 2 ** x", (4.0,), 34.25),
    ("scope binds outside", body("(x: f64) -> f64", "scope inner:", "    y = 2 * x", "return y"), (1.0,), 2.0),
    ("pad", "def f(x: f64[3, 4]) -> f64[3, 7] = pad(x, (1, 2), axis=1)", (M,), np.pad(M, ((0, 0), (1, 2)))),
    (
        "sort",
        "def f[n](x: f64[n]) -> (f64[n], i64[n]) = sort(x), argsort(x)",
        (np.array([2.0, np.nan, -1.0, 2.0, 0.0]),),
        [[-1.0, 0.0, 2.0, 2.0, np.nan], [2, 4, 0, 3, 1]],
    ),
    (
        "searchsorted",
        "def f[n, m](x: f64[n], v: f64[m]) -> i64[m] = searchsorted(x, v)",
        (np.array([0.0, 1.0, 2.0]), np.array([-1.0, 1.0, 1.5, 9.0])),
        [0, 1, 2, 3],
    ),
    (
        "batched product",
        "def f(x: f64[2, 2, 3], y: f64[2, 3, 2]) -> f64[2, 2, 2] = x @ y",
        (M.reshape(2, 2, 3), M.reshape(2, 3, 2)),
        M.reshape(2, 2, 3) @ M.reshape(2, 3, 2),
    ),
]


@pytest.mark.parametrize(
    ("text", "arguments", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_meaning(text, arguments, expected):
    result = run(text, "f", *arguments)
    if isinstance(result, list):
        for part, wanted in zip(result, expected, strict=True):
            np.testing.assert_array_equal(part, wanted)
    else:
        np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-13)


RECORDS = """
record Inner[n]:
    w: f64[n]
    k: i32

record Outer[n]:
    a: Inner[n]
    b: f64

def make[n](w: f64[n], b: f64) -> Outer[n] = Outer(a=Inner(w=w, k=3), b=b)

def algebra[n](w: f64[n], b: f64) -> Outer[n]:
    p = make(w, b)
    q = (2 * p - p / 4) ** 2 + sqrt(p) - 1
    q.a.w[0] += 5
    q.b = 7.0
    return q

def rows[n](w: f64[n], b: f64) -> f64:
    many = [make(w, b), make(2 * w, b), make(3 * w, 2 * b)]
    many[1] = make(w, 10.0)
    total = 0.0
    for p in many:
        total += sum(p.a.w) * p.b
    return total + many[2].a.w[0] + sum(p.b for p in many)

def inner_products[n](w: f64[n], b: f64) -> (f64, f64) = dot(make(w, b), make(w, b)), norm(make(w, b))
"""


def test_records_are_vector_spaces():
    w, k, b = run(RECORDS, "algebra", X, 2.0)
    expected = (1.75 * X) ** 2 + np.sqrt(X) - 1
    expected[0] += 5
    np.testing.assert_allclose(w, expected, rtol=1e-14)
    assert (k, b) == (3, 7.0)


def test_arrays_of_records():
    expected = 11 * 2.0 + 11 * 10.0 + 33 * 4.0 + 9.0 + (2.0 + 10.0 + 4.0)
    assert run(RECORDS, "rows", X, 2.0) == expected


def test_products_of_records():
    inner, norm = run(RECORDS, "inner_products", X, 2.0)
    assert inner == pytest.approx(X @ X + 4) and norm == pytest.approx(np.sqrt(X @ X + 4))


def test_asserts_and_indices_are_checked_as_the_program_runs():
    text = 'def f[n](x: f64[n], k: i32) -> f64:\n    assert k < 3, "k is too large"\n    return x[k]\n'
    assert run(text, "f", X, 2) == 2.0
    with pytest.raises(CheckFailed, match="k is too large") as caught:
        run(text, "f", X, 7)
    assert "k = 7" in caught.value.diagnostics[0].note
    with pytest.raises(CheckFailed, match="out of range"):
        run("def f[n](x: f64[n], k: i32) -> f64 = x[k]\n", "f", X, 4)


def test_a_value_bound_to_two_names():
    text = "def f(x: f64) -> (f64, f64):\n    a, b = (lambda z: (z, z))(x + 1)\n    return a * b, a + b\n"
    assert run(text, "f", 2.0) == [9.0, 6.0]


@pytest.mark.parametrize(
    ("line", "arguments"),
    [("x[k:k + 2] = 0.0", (X, 3)), ("x[k:k + 2] = 0.0", (X, -1)), ("x[k] = 0.0", (X, 4)), ("x[:] += x[k]", (X, -1))],
)
def test_places_out_of_range(line, arguments):
    text = body(
        "[n](x: f64[n], k: i64) -> f64[n]", "for j in range(k, k + 1):", f"    {line.replace('k', 'j')}", "return x"
    )
    with pytest.raises(CheckFailed):
        run(text, "f", *arguments)


def test_an_untaken_side_is_not_computed():
    text = (
        "def f[n](x: f64[n]) -> f64 = sum(x[i - 1] if i > 0 else 1.0 for i in range(n))\n"
        "def g(x: f64) -> f64 = h(x) if x > 0 else 0.0\n"
        "def h(x: f64) -> f64:\n    assert x > 0\n    return log(x)\n"
    )
    assert run(text, "f", X) == 7.0
    assert run(text, "g", -1.0) == 0.0


def test_draws_depend_on_the_key_only():
    text = (
        "def f(k: key) -> (f64[3], f64[3]):\n    a, b = split(k)\n"
        "    x: f64[3] = normal(a)\n    y: f64[3] = normal(a)\n"
        "    return x, y\n"
        "def g(k: key, n: size) -> f64[n]:\n    for t in range(n):\n"
        "        u: f64 = uniform(fold(k, t))\n        out[t] = u\n"
        "    return out\n"
    )
    x, y = run(text, "f", np.uint64(5))
    np.testing.assert_array_equal(x, y)
    draws = run(text, "g", np.uint64(5), n=50)
    assert len(set(draws)) == 50 and draws.min() >= 0 and draws.max() < 1


def test_branches_that_may_return_or_go_on_follow_one_another():
    text = "def f(x: f64) -> f64:\n"
    for at in range(6):
        text += f"    if x > {at}:\n        if x > {at}.5:\n            return {at} + x\n        x += 0.7\n"
    for x in (-1.0, 0.2, 0.4, 0.9, 1.4, 3.3):
        expected = x
        for at in range(6):
            if expected > at:
                if expected > at + 0.5:
                    expected += at
                    break
                expected += 0.7
        else:
            expected = -expected
        assert run(text + "    return -x\n", "f", x) == pytest.approx(expected)
