"""`mode="sparse"` through rules, equations, loops that settle or keep less, and lanes with trips of their own."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

import dgraph as dg

PROGRAM = dg.parse("""
def quantise[n](x: f64[n]) -> f64[n] = floor(x)

@derivative(of=quantise)
def quantise_rule[n](x: f64[n], dx: f64[n]) -> f64[n] = dx

# The function has no derivative, its rule has.
def through[n](x: f64[n]) -> f64[n] = quantise(x) * x[::-1]
def through_loop[n](x: f64[n]) -> f64[n]:
    for t in range(2):
        x = quantise(x) + 0.5 * x[::-1]
    return x
def energy[n](x: f64[n]) -> f64 = sum(quantise(x) ** 2 * x[::-1])

# The rule says less than the function.
def partly[n](x: f64[n]) -> f64[n] = x * sum(x)
@derivative(of=partly)
def partly_rule[n](x: f64[n], dx: f64[n]) -> f64[n] = dx * sum(x)
def detached[n](x: f64[n]) -> f64[n] = partly(x) ** 2

# Makes as many steps as k says, also none: what it starts from, y, is where it settles.
def mirrored[n](p: f64[n], y: f64[n], k: i32) -> f64[n]:
    x = y
    @implicit
    while k < 3:
        x, k = 0.5 * x + 0.25 * p[::-1], k + 1
    return x

def chained[n](p: f64[n], y: f64[n], k: i32) -> f64[n]:
    x = y
    @implicit
    while k < 3:
        z = 0.5 * p
        z[i + 1] += 0.5 * x[i] for i in range(n - 1)
        x, k = z, k + 1
    return x

def settled[n](p: f64[n]) -> f64:
    x, change = p, 1.0
    @implicit
    while change > 1e-15:
        z = 0.4 * sin(x) + p
        z[2 * i + 1] += 0.3 * tanh(x[2 * i]) ** 2 for i in range(n // 2)
        change, x = norm(z - x), z
    return sum(x ** 2)

def equation[n](p: f64[n]) -> f64[n] = implicit(lambda x: 2 * x - p[::-1], stop_gradient(p[::-1] / 2))
def own_roots[n](p: f64[n]) -> f64[n] = vmap(lambda v: implicit(lambda x: x ** 3 - v, exp(log(v) / 3)))(p)
def roots_energy[n](p: f64[n]) -> f64 = sum(own_roots(p) ** 2 * p)

def kept[n](u: f64[n], steps: i32) -> f64[n]:
    @checkpoint(slots=2)
    for t in range(steps):
        v = u
        v[i] = u[i] + 0.1 * (u[i - 1] - 2 * u[i] + u[i + 1]) * u[i] for i in range(1, n - 1)
        u = v
    return u
def kept_energy[n](u: f64[n], steps: i32) -> f64 = sum(kept(u, steps) ** 2)

# Lane i walks k[i] places on.
def walked[n](x: f64[n], k: i32[n]) -> f64[n]:
    def walk(i: i64) -> f64:
        s, j, t = x[i], i, 0
        while t < k[i]:
            j = (j + 1) % n
            s *= x[j] ** 2
            t += 1
        return s
    return [walk(i) for i in range(n)]

# The inner loop would never end for a lane that does not enter the outer one.
def nested[n](x: f64[n], k: i64[n]) -> f64[n]:
    def walk(i: i64) -> f64:
        s, t = x[i], 0
        while t < k[i]:
            u = 0
            while u != k[i]:
                u += 1
                s *= x[(i + u) % n] ** 2
            t += 2
        return s
    return [walk(i) for i in range(n)]
def walked_energy[n](x: f64[n], k: i32[n]) -> f64 = sum(walked(x, k) ** 2)
""")
P = np.array([1.5, 2.25, 3.5, 4.75, 5.25, 0.5])
HALF = P[::-1] / 2
CHAIN = np.zeros(6)
for _at in range(6):
    CHAIN[_at] = 0.5 * P[_at] + (0.5 * CHAIN[_at - 1] if _at else 0.0)
TRIPS = np.array([0, 2, 0, 1, 3, 0], np.int32)
N6 = np.eye(6, dtype=bool)


def walks() -> np.ndarray:
    return np.array([[(column - row) % 6 <= TRIPS[row] for column in range(6)] for row in range(6)])


def met_in_walks() -> np.ndarray:
    return (walks().astype(int).T @ walks().astype(int)) > 0


JACOBIANS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], Any]] = {
    "a rule where the function has no derivative": ("through", (P,), {}, N6 | N6[::-1]),
    "such a rule in a loop": ("through_loop", (P,), {}, N6 | N6[::-1]),
    "a rule that says less": ("detached", (P,), {}, N6),
    "settled without a step": ("mirrored", (P, HALF, np.int32(3)), {"wrt": "p"}, N6[::-1]),
    "settled after one step": ("mirrored", (P, HALF, np.int32(2)), {"wrt": "p"}, N6[::-1]),
    "no influence of the start": ("mirrored", (P, HALF, np.int32(1)), {"wrt": "y"}, np.zeros((6, 6), bool)),
    "a chain without a step": ("chained", (P, CHAIN, np.int32(3)), {"wrt": "p"}, np.tri(6, dtype=bool)),
    "a chain after one step": ("chained", (P, CHAIN, np.int32(2)), {"wrt": "p"}, np.tri(6, dtype=bool)),
    "an equation": ("equation", (P,), {}, np.ones((6, 6), bool)),
    "an equation for each lane": ("own_roots", (P,), {}, N6),
    "checkpoints": ("kept", (0.1 * P, np.int32(2)), {"wrt": "u"}, None),
    "trips of each lane": ("walked", (P, TRIPS), {"wrt": "x"}, walks()),
    "lanes that stay outside": ("nested", (P, np.where(TRIPS > 0, TRIPS, -1).astype(np.int64)), {"wrt": "x"}, walks()),
}
HESSIANS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], Any]] = {
    "a rule": ("energy", (P,), {}, None),
    "a loop that settles": ("settled", (P,), {}, np.kron(np.eye(3), np.ones((2, 2))) > 0),
    "an equation for each lane": ("roots_energy", (P,), {}, N6),
    "checkpoints": ("kept_energy", (0.1 * P, np.int32(2)), {"wrt": "u"}, None),
    "trips of each lane": ("walked_energy", (0.3 * P, TRIPS), {"wrt": "x"}, met_in_walks()),
}


def compare(make: Any, name: str, arguments: tuple[Any, ...], options: dict[str, Any], pattern: Any) -> None:
    function = getattr(PROGRAM, name)
    found, dense = make(function, mode="sparse", **options)(*arguments), make(function, **options)(*arguments)
    assert isinstance(found, csr_array)
    np.testing.assert_allclose(found.toarray(), dense, rtol=1e-12, atol=1e-14)
    if pattern is not None:
        held = csr_array((np.ones(found.nnz), found.indices, found.indptr), shape=found.shape).toarray() > 0
        np.testing.assert_array_equal(held, pattern)


@pytest.mark.parametrize("case", JACOBIANS)
def test_jacobians(case: str) -> None:
    compare(dg.jacobian, *JACOBIANS[case])


@pytest.mark.parametrize("case", HESSIANS)
def test_hessians(case: str) -> None:
    compare(dg.hessian, *HESSIANS[case])
