"""Sums of products of several factors in the cheapest order: values and derivatives against einsum."""

from __future__ import annotations

import numpy as np
import pytest

import dgraph as dg
from dgraph.ir.graph import walk
from dgraph.program.pipeline import stage

SIZES = {"i": 6, "j": 5, "k": 7, "l": 4, "m": 3, "p": 5, "q": 4}
NAMES = "ABCDE"

PRODUCTS = {
    "ij,jk,kl->il": 2,
    "ij,jk,kl,lm,m->i": 4,
    "ijkl,ip,jq->pqkl": 2,
    "ijk,ilm,jl->km": 2,
    "ij,jk,ik->i": 1,
    "ij,jk,ki->": 1,
    "i,ij,j->": 0,
    ",i,ij,j->": 0,
    "ij,kl->": 0,
    "i,j,k->": 0,
    "ijk,i,j->k": 0,
}
"""How many matrix products a sum becomes."""


def program(einsum: str) -> dg.Program:
    given, written = einsum.split("->")
    places = given.split(",")
    letters = sorted(set(given) - {","})
    summed = [letter for letter in letters if letter not in written]
    formals = ", ".join(
        f"{name}: f64" + (f"[{', '.join(f'n{letter}' for letter in place)}]" if place else "")
        for name, place in zip(NAMES, places, strict=False)
    )
    factors = " * ".join(
        f"{name}[{', '.join(place)}]" if place else name for name, place in zip(NAMES, places, strict=False)
    )
    body = f"sum({factors} for {', '.join(summed)})"
    sizes, result = ", ".join(f"n{letter}" for letter in letters), ", ".join(f"n{letter}" for letter in written)
    if not written:
        return dg.parse(f"def f[{sizes}]({formals}) -> f64 = {body}")
    return dg.parse(f"""
def table[{sizes}]({formals}) -> f64[{result}]:
    z[{", ".join(written)}] = {body}
    return z

def f[{sizes}]({formals}) -> f64 = sum(table({", ".join(NAMES[: len(places)])}) ** 2)
""")


@pytest.mark.parametrize("einsum", PRODUCTS)
def test_sums_and_their_derivatives(einsum: str) -> None:
    given, written = einsum.split("->")
    places, names = given.split(","), NAMES[: given.count(",") + 1]
    loaded = program(einsum)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=[SIZES[letter] for letter in place]) for place in places]
    wanted = np.einsum(einsum, *arrays, optimize=True)
    first = loaded.table if written else loaded.f
    np.testing.assert_allclose(dg.compile(first)(*arrays), wanted, rtol=1e-11, atol=1e-11)
    nodes = walk(stage(first.graph, "kernels").region)
    assert sum(node.op.name in ("dot", "contract") for node in nodes) == PRODUCTS[einsum]
    slopes = dg.compile(dg.grad(loaded.f, wrt=tuple(names)))(*arrays)
    for at, (place, slope) in enumerate(zip(places, slopes, strict=True)):
        rest = [*places[:at], written, *places[at + 1 :]]
        weights = [*arrays[:at], 2 * wanted if written else np.ones(()), *arrays[at + 1 :]]
        # What only this factor depends on is repeated.
        alone = "".join(letter for letter in place if letter not in "".join(rest))
        rest, weights = [*rest, alone], [*weights, np.ones([SIZES[letter] for letter in alone])]
        pulled = np.einsum(f"{','.join(rest)}->{place}", *weights, optimize=True)
        np.testing.assert_allclose(slope, pulled, rtol=1e-10, atol=1e-10)


def test_second_derivatives_and_directions() -> None:
    loaded = dg.parse("""
def f[n](x: f64[n], a: f64[n, n], b: f64[n, n]) -> f64 = sum(x[i] * a[i, j] * b[j, k] * x[k] for i, j, k)
""")
    rng = np.random.default_rng(1)
    x, a, b = rng.normal(size=6), rng.normal(size=(6, 6)), rng.normal(size=(6, 6))
    hessian = dg.compile(dg.hessian(loaded.f, wrt="x"))(x, a, b)
    np.testing.assert_allclose(hessian, a @ b + (a @ b).T, rtol=1e-11, atol=1e-11)


def test_sums_in_loops_and_batches() -> None:
    loaded = dg.parse("""
def step[n](x: f64[n], a: f64[n, n], b: f64[n, n]) -> f64[n]:
    y[i] = tanh(sum(a[i, j] * b[j, k] * x[k] for j, k))
    return y

def f[n](x: f64[n], a: f64[n, n], b: f64[n, n], count: size) -> f64:
    for _ in range(count):
        x = step(x, a, b)
    return sum(x)

def many[m, n](x: f64[m, n], a: f64[n, n], b: f64[n, n]) -> f64[m, n] = vmap(step, over=x)(x, a, b)
""")
    rng = np.random.default_rng(2)
    x, a, b = rng.normal(size=5), rng.normal(size=(5, 5)), rng.normal(size=(5, 5))
    value, slope = dg.compile(dg.value_and_grad(loaded.f, wrt="x"))(x, a, b, count=3)
    wanted, jacobian = x, np.eye(5)
    for _ in range(3):
        wanted = np.tanh(a @ b @ wanted)
        jacobian = (1 - wanted**2)[:, None] * (a @ b) @ jacobian
    np.testing.assert_allclose(value, wanted.sum(), rtol=1e-12)
    np.testing.assert_allclose(slope, jacobian.sum(axis=0), rtol=1e-10, atol=1e-12)
    rows = rng.normal(size=(4, 5))
    np.testing.assert_allclose(dg.compile(loaded.many)(rows, a, b), np.tanh(rows @ (a @ b).T), rtol=1e-11, atol=1e-12)
