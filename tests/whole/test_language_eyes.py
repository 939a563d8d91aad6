"""Programs that a stranger writes from the language's description alone, against NumPy and differences."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

import dgraph as dg


def close(found: object, wanted: object, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(wanted, float), tolerance, tolerance)


def differences(function: Callable, x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The slope of a scalar function, entry by entry."""
    x = np.asarray(x, float)
    slope = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        shift = np.zeros(x.shape)
        shift[at] = step
        slope[at] = (float(function(x + shift)) - float(function(x - shift))) / (2 * step)
    return slope


# ---- literals in generic functions ----------------------------------------------------------------------------------

LITERALS = """
def square[T: number](x: T) -> T = x * x
def squares[*s, T: number](x: T[*s]) -> T[*s] = x * x
def total[*s](x: f64[*s]) -> f64 = sum(x)
def both[T: float](x: (T, T)) -> (T, T) = (x[0] * 2, x[1] * 3)
def added[T: float](x: T) -> T:
    total: T = 0.0
    for k in range(3):
        total += x
    return total
def applied[T: float](g: fn(T) -> T, x: T) -> T = g(x)
def plus[T: float](a: T, b: T) -> T = a + b

def of_float(y: f32) -> f32 = square(1.5) * y
def of_int(y: i32) -> i32 = square(7) + y
def of_shape(y: f32) -> f32 = squares(1.5) * y
def of_fixed() -> f64 = total(7)
def alone() -> f64 = squares(0.5)
def alone_int() -> i32 = square(7)
def of_tuple(y: f32) -> f32:
    a, b = both((1.0, 2.0))
    return a * b * y
def of_body(y: f32) -> f32 = added(0.5) * y
def of_function(y: f32) -> f32 = applied(sqrt, 2.25) * y
def of_carry(y: f32) -> f32:
    c = 1.5
    for k in range(2):
        c = square(c)
    return plus(c, y) + plus(y, c)
def carried(y: f32) -> f32:
    total = square(0.0)
    for k in range(4):
        total += y
    return total
"""


@pytest.mark.parametrize(
    ("name", "wanted", "dtype"),
    [
        ("of_float", 4.5, np.float32),
        ("of_int", 51, np.int32),
        ("of_shape", 4.5, np.float32),
        ("of_tuple", 24, np.float32),
        ("of_body", 3, np.float32),
        ("of_function", 3, np.float32),
        ("of_carry", 2 * (1.5**4 + 2), np.float32),
        ("carried", 8, np.float32),
    ],
)
def test_a_literal_in_a_generic_function_takes_the_dtype_that_its_result_meets(name: str, wanted: float, dtype: type):
    found = dg.parse(LITERALS).function(name)(2)
    assert found == wanted and found.dtype == dtype


def test_a_literal_alone_in_a_generic_function_has_its_default_dtype():
    program = dg.parse(LITERALS)
    assert program.alone() == 0.25 and program.alone().dtype == np.float64
    assert program.alone_int() == 49 and program.alone_int().dtype == np.int32
    assert program.of_fixed() == 7


# ---- fields ---------------------------------------------------------------------------------------------------------

FIELDS = """
record Part[n]:
    w: f64[n]
    b: f64
record Whole[n]:
    part: Part[n]
    g: f64

def cleared[n](m: Whole[n]) -> Whole[n]:
    m.part.w = 0.0
    m.g = 1
    return m
def refilled[n](p: Part[n]) -> Part[n]:
    for k in range(3):
        p.w = zeros()
        p.b = k
        p.w += p.b
    return p
"""


def test_a_field_keeps_its_type():
    program = dg.parse(FIELDS)
    part = {"w": np.array([1.0, 2.0]), "b": 5.0}
    found = program.cleared({"part": part, "g": 3.0})
    close(found.part.w, [0, 0])
    close([found.part.b, found.g], [5, 1])
    close(program.refilled(part).w, [2, 2])


def test_a_field_of_another_type_is_refused_where_it_is_bound():
    text = "record R[n]:\n    w: f64[n]\ndef f[n](r: R[n]) -> R[n]:\n    r.w = stack(1.0, 2.0)\n    return r\n"
    with pytest.raises(dg.DgraphError, match=r"(?s)f64\[n\] is wanted here\n --> <text>:4:11"):
        dg.parse(text).f({"w": np.ones(2)})


def test_a_record_without_sizes_that_changes_in_a_loop_is_told_how_to_be_typed():
    text = "record R[n]:\n    w: f64[n]\ndef f(x: f64[3]) -> R[3]:\n    r = R(w=zeros())\n"
    text += "    for k in range(3):\n        r = r + R(w=x)\n    return r\n"
    with pytest.raises(dg.DgraphError, match=r"give it a type: `r: R\[n\] = R\(...\)`"):
        dg.parse(text).f(np.ones(3))


# ---- early returns --------------------------------------------------------------------------------------------------

RETURNS = """
def inner(x: f64) -> f64:
    if x > 0:
        if x > 10:
            return 1.0
        y = x ** 2
    elif x < -5:
        y = x * 3
    else:
        return 2.0
    return y
def last(x: f64) -> f64:
    if x > 0:
        y = x
    else:
        return 2.0
    return y
"""


def stepwise(x: float) -> float:
    if x > 10:
        return 1.0
    if x > 0:
        return x**2
    return x * 3 if x < -5 else 2.0


def test_what_follows_an_else_that_returns_runs_after_the_other_branches():
    program = dg.parse(RETURNS)
    points = np.array([20.0, 3.0, -1.0, -7.0])
    for x in points:
        close(program.inner(x), stepwise(x))
        close(dg.grad(program.inner)(x), differences(stepwise, x), 1e-6)
    close(dg.vmap(program.inner)(points), [stepwise(x) for x in points])
    close([program.last(3.0), program.last(-3.0)], [3, 2])


# ---- notes that name what helps -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("def g(k: i32, y: f64) -> f64 = k * y\ndef f(y: f64) -> f64 = grad(g, wrt=k)(2, y)", "`wrt=y`"),
        ("def g(k: key) -> f64 = normal(k)\ndef f(x: key) -> f64[4] = vmap(g)(split(x, 4))", "`over=k`"),
        (
            "def f(x: f64) -> f64[3]:\n    i = 0\n    while i < 3:\n        z[i] = x\n        i += 1\n    return z",
            "`z` is not bound, so this defines all of it: to write one place, bind it before",
        ),
    ],
)
def test_a_note_names_what_helps(text: str, note: str):
    with pytest.raises(dg.DgraphError) as caught:
        dg.parse(text + "\n").f(1)
    assert note in str(caught.value)


# ---- dynamic programs and graphs ------------------------------------------------------------------------------------

CHAINS = """
def best[n, s](tr: f64[s, s], e: f64[n + 1, s]) -> (f64, i32[n + 1]):
    score = e[0]
    for t in range(n):
        cand = [score[i] + tr[i, j] for i in range(s) for j in range(s)]
        back[t] = argmax(cand, axis=0)
        score = max(cand, axis=0) + e[t + 1]
    path: i32[n + 1] = 0
    last = i32(argmax(score))
    path[n] = last
    for t in range(n - 1, -1, -1):
        last = i32(back[t, last])
        path[t] = last
    return max(score), path
def evidence[n, s](tr: f64[s, s], e: f64[n + 1, s]) -> f64:
    a = e[0]
    for t in range(n):
        a = [logsumexp(a[i] + tr[i, j] for i) + e[t + 1, j] for j in range(s)]
    return logsumexp(a)
def warped[n, m](c: f64[n, m]) -> f64:
    d: f64[n + 1, m + 1] = inf
    d[0, 0] = 0.0
    for i in range(n):
        for j in range(m):
            d[i + 1, j + 1] = c[i, j] + min(d[i, j + 1], d[i + 1, j], d[i, j])
    return d[n, m]
def parts[m](src: i32[m], dst: i32[m], n: size) -> i32[n]:
    label: i32[n] = [i for i in range(n)]
    changed = True
    while changed:
        changed = False
        for e in range(m):
            low = min(label[src[e]], label[dst[e]])
            if label[src[e]] != low or label[dst[e]] != low:
                changed = True
            label[src[e]] = low
            label[dst[e]] = low
    return label
def sieve(n: size) -> i32:
    prime: bool[n] = True
    for i in range(2, n):
        if prime[i]:
            k = i * i
            while k < n:
                prime[k] = False
                k += i
    return i32(sum(prime[i] for i in range(2, n)))
"""


def test_the_best_path_and_the_evidence_of_a_chain_are_those_of_all_paths():
    random = np.random.default_rng(1)
    tr, e = random.normal(size=(3, 3)), random.normal(size=(4, 3))
    paths = list(product(range(3), repeat=4))
    scores = np.array([sum(e[t, p[t]] for t in range(4)) + sum(tr[p[t], p[t + 1]] for t in range(3)) for p in paths])
    program = dg.parse(CHAINS)
    value, path = program.best(tr, e)
    close(value, scores.max())
    assert tuple(path) == paths[int(scores.argmax())]
    close(program.evidence(tr, e), np.log(np.exp(scores).sum()))
    weight = np.exp(scores) / np.exp(scores).sum()
    marginal = np.zeros((4, 3))
    for share, states in zip(weight, paths, strict=True):
        marginal[range(4), states] += share
    close(dg.grad(program.evidence, wrt="e")(tr, e), marginal)


def test_time_warping_and_its_slope():
    cost = np.random.default_rng(2).uniform(size=(4, 5))
    table = np.full((5, 6), np.inf)
    table[0, 0] = 0
    for i, j in np.ndindex(4, 5):
        table[i + 1, j + 1] = cost[i, j] + min(table[i, j + 1], table[i + 1, j], table[i, j])
    warped = dg.parse(CHAINS).warped
    close(warped(cost), table[-1, -1])
    close(dg.grad(warped)(cost), differences(warped, cost), 1e-7)


def test_connected_parts_and_primes():
    program = dg.parse(CHAINS)
    src, dst = np.array([3, 0], np.int32), np.array([4, 1], np.int32)
    close(program.parts(src, dst, n=5), [0, 0, 2, 3, 3])
    assert program.sieve(50) == 15


# ---- optimisers -----------------------------------------------------------------------------------------------------

OPTIMISERS = """
def rosen(x: f64[2]) -> f64 = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
def bfgs[n](f: fn(f64[n]) -> f64, x: f64[n], steps: i32) -> f64[n]:
    h: f64[n, n] = eye()
    value, g = value_and_grad(f)(x)
    for k in range(steps):
        d = -(h @ g)
        t = 1.0
        while f(x + t * d) > value + 1e-4 * t * dot(g, d) and t > 1e-12:
            t *= 0.5
        moved = x + t * d
        value, slope = value_and_grad(f)(moved)
        s = moved - x
        y = slope - g
        sy = dot(s, y)
        if sy > 1e-14:
            r = 1 / sy
            hy = h @ y
            h[i, j] += -r * (s[i] * hy[j] + hy[i] * s[j]) + r * (1 + r * dot(y, hy)) * s[i] * s[j] for i, j
        x = moved
        g = slope
    return x
def lowest(x: f64[2]) -> f64[2] = bfgs(rosen, x, 60)
def after(rate: f64) -> f64:
    x = stack(0.5, 0.5)
    for k in range(3):
        x -= rate * grad(rosen)(x)
    return rosen(x)

record Bowl:
    a: f64[2]
    b: f64
def descend[P: record](f: fn(P) -> f64, p: P, steps: i32, rate: f64 = 0.05, momentum: f64 = 0.9) -> P:
    v = zeros_like(p)
    for k in range(steps):
        v = momentum * v - rate * grad(f)(p)
        p += v
    return p
def depth(q: Bowl) -> f64 = (q.a[0] - 1) ** 2 + (q.a[1] - 2) ** 2 + 0.5 * (q.b - 0.5) ** 2
def bottom(q: Bowl) -> Bowl = descend(depth, q, 400, momentum=0.8)
"""


def test_generic_optimisers_find_the_minimum():
    program = dg.parse(OPTIMISERS)
    close(program.lowest(np.array([-1.2, 1.0])), [1, 1], 1e-6)
    found = program.bottom({"a": np.array([3.0, -2.0]), "b": 5.0})
    close(found.a, [1, 2], 1e-6)
    close(found.b, 0.5, 1e-6)


def test_a_descent_is_differentiated_in_its_rate_twice():
    after = dg.parse(OPTIMISERS).after
    slope = dg.grad(after)
    close(slope(0.002), differences(after, 0.002), 1e-5)
    close(dg.hessian(after)(0.002), differences(slope, 0.002), 1e-4)


# ---- physics --------------------------------------------------------------------------------------------------------

BODIES = """
record Bodies[n]:
    q: f64[n, 2]
    v: f64[n, 2]
def potential[n](q: f64[n, 2], m: f64[n]) -> f64:
    r[i, j] = sqrt(sum((q[i, d] - q[j, d]) ** 2 for d) + 0.01)
    return -sum(m[i] * m[j] / r[i, j] for i in range(n) for j in range(n) if j < i)
def pull[n](q: f64[n, 2], m: f64[n]) -> f64[n, 2]:
    g = grad(potential)(q, m)
    a[i, d] = -g[i, d] / m[i]
    return a
def trajectory[n](b: Bodies[n], m: f64[n], h: f64, steps: size) -> Bodies[n][steps]:
    for k in range(steps):
        b.v += 0.5 * h * pull(b.q, m)
        b.q += h * b.v
        b.v += 0.5 * h * pull(b.q, m)
        out[k] = b
    return out
def spread[n](b: Bodies[n], m: f64[n], h: f64) -> f64:
    t = trajectory(b, m, h, steps=5)
    return sum(t[4].q ** 2)
"""


def test_bodies_that_attract_each_other():
    random = np.random.default_rng(3)
    q, v, mass = random.normal(size=(4, 2)), random.normal(size=(4, 2)), random.uniform(1, 2, 4)

    def potential(q: np.ndarray) -> float:
        pairs = [(i, j) for i in range(4) for j in range(i)]
        return -sum(mass[i] * mass[j] / np.sqrt(((q[i] - q[j]) ** 2).sum() + 0.01) for i, j in pairs)

    program = dg.parse(BODIES)
    path = program.trajectory({"q": q, "v": v}, mass, 0.01, steps=5)
    at, speed = q.copy(), v.copy()
    for k in range(5):
        speed = speed - 0.005 * differences(potential, at) / mass[:, None]
        at = at + 0.01 * speed
        speed = speed - 0.005 * differences(potential, at) / mass[:, None]
        close(path.q[k], at, 1e-7)
        close(path.v[k], speed, 1e-7)
    slope = dg.grad(program.spread)({"q": q, "v": v}, mass, 0.01)
    close(slope.v, differences(lambda v: program.spread({"q": q, "v": v}, mass, 0.01), v), 1e-7)


# ---- every order through every structure ----------------------------------------------------------------------------

STRUCTURES = """
def loop[n](x: f64[n]) -> f64:
    s = 0.5
    for v in x:
        s = sin(s * v) + v * v
    return s
def updates[n](x: f64[n]) -> f64:
    for k in range(3):
        for i in range(1, n):
            x[i] += 0.3 * x[i - 1] * x[i]
        x[0] *= 1.1
    return sum(x ** 2)
def condition[n](x: f64[n]) -> f64:
    s = dot(x, x) + 1
    k = 0
    while s > 0.3:
        s = 0.7 * s * cos(0.1 * x[k % n])
        k += 1
    return s * exp(x[1])
def branches[n](x: f64[n]) -> f64:
    s = 0.0
    for i in range(n):
        if x[i] > 0:
            s += log(x[i]) * x[0]
        elif x[i] > -0.5:
            s += x[i] ** 3
        else:
            s -= sqrt(-x[i]) * s
    return s
def collected[n](x: f64[n]) -> f64:
    h = x
    for t in range(3):
        h = tanh(h * x + 0.1)
        out[t] = h
    return sum(out[i, j] * out[2 - i, j] for i in range(3) for j)
def sorted_by[n](x: f64[n]) -> f64:
    o = argsort(x)
    y = x[o]
    return sum(y[i] * (i + 1) * y[n - 1 - i] ** 2 for i in range(n))
"""


@pytest.mark.parametrize("name", ["loop", "updates", "condition", "branches", "collected", "sorted_by"])
def test_derivatives_of_every_order_through_a_structure(name: str):
    random = np.random.default_rng(10)
    x, v = random.normal(size=4), random.normal(size=4)
    function = dg.parse(STRUCTURES).function(name)
    slope, curvature = dg.grad(function), dg.hessian(function)
    close(slope(x), differences(function, x), 1e-6)
    close(dg.grad(function, mode="forward")(x), slope(x))
    found = np.asarray(curvature(x))
    for k in range(4):
        close(found[k], differences(lambda z, k=k: slope(z)[k], x), 1e-5)
    close(dg.hvp(function)(x, v), found @ v)
    rows = random.normal(size=(3, 4))
    close(dg.vmap(slope)(rows), [slope(row) for row in rows])
    close(dg.vmap(curvature)(rows), [curvature(row) for row in rows])
