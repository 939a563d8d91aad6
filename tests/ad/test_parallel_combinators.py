"""Reductions, running sums and products, histograms, gathers and writes: gradients by closed forms, with few entries,
zeros, ties and repeated places; the same bits at every call."""

import numpy as np
import pytest

import dgraph as dg

PROGRAMS = dg.parse(
    """
def product[n](x: f64[n]) -> f64 = prod(x)

def largest[n](x: f64[n]) -> f64 = max(x)

def least[n](x: f64[n]) -> f64 = min(x)

def running_sum[n](x: f64[n], c: f64[n]) -> f64 = sum(cumsum(x) * c)

def running_product[n](x: f64[n], c: f64[n]) -> f64 = sum(cumprod(x) * c)

def histogram[n](x: f64[n], j: i32[n], c: f64[4]) -> f64:
    h: f64[4] = zeros()
    for i in range(n):
        h[j[i]] += x[i] * x[i]
    return sum(h * h * c)

def gathered[n, k](x: f64[n], j: i32[k]) -> f64 = sum(x[j[i]] ** 2 for i)

def written[n, k](x: f64[n], j: i32[k], v: f64[k]) -> f64:
    for i in range(k):
        x[j[i]] = v[i]
    return sum(x ** 3)
"""
)
SIZES = (0, 1, 2, 7)


def slope(name: str, *arguments, wrt="x"):
    return np.asarray(dg.grad(getattr(PROGRAMS, name), wrt=wrt)(*arguments))


def drawn(n: int) -> np.ndarray:
    return np.random.default_rng(n).uniform(-1.5, 1.5, n)


@pytest.mark.parametrize("zeros", [[], [1], [1, 3], [0, 1, 6]])
def test_a_product_with_zeros(zeros: list[int]):
    x = drawn(7)
    x[zeros] = 0
    expected = [np.prod(np.delete(x, at)) for at in range(7)]
    np.testing.assert_allclose(slope("product", x), expected, rtol=1e-14)
    c = drawn(8)[:7]
    parts = [[c[k] * np.prod(np.delete(x[: k + 1], at)) if at <= k else 0.0 for k in range(7)] for at in range(7)]
    np.testing.assert_allclose(slope("running_product", x, c), np.sum(parts, axis=1), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("n", SIZES)
def test_sums_of_few_entries(n: int):
    x, c = drawn(n), drawn(n + 1)[:n]
    np.testing.assert_allclose(slope("running_sum", x, c), np.cumsum(c[::-1])[::-1], rtol=1e-14)
    expected = [sum(c[k] * np.prod(np.delete(x[: k + 1], at)) for k in range(at, n)) for at in range(n)]
    np.testing.assert_allclose(slope("running_product", x, c), expected, rtol=1e-13)
    np.testing.assert_allclose(slope("product", x), [np.prod(np.delete(x, at)) for at in range(n)], rtol=1e-14)


def test_of_equal_entries_the_first_counts():
    x = np.array([1.0, 3.0, 0.5, 3.0, 0.5])
    assert slope("largest", x).tolist() == [0, 1, 0, 0, 0]
    assert slope("least", x).tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("n", SIZES)
def test_a_histogram_adds_what_falls_into_one_place(n: int):
    x, c = drawn(n), np.arange(4.0)
    j = np.array([3, 0, 3, 1, 3, 0, 2], np.int32)[:n]
    held = np.zeros(4)
    np.add.at(held, j, x * x)
    found = slope("histogram", x, j, c)
    np.testing.assert_allclose(found, 2 * held[j] * c[j] * 2 * x, rtol=1e-13)
    assert {slope("histogram", x, j, c).tobytes() for _ in range(20)} == {found.tobytes()}


def test_repeated_places_are_gathered_and_the_last_write_wins():
    x, j = drawn(5), np.array([1, 1, 3, 1], np.int32)
    counts = np.bincount(j, minlength=5)
    np.testing.assert_allclose(slope("gathered", x, j), 2 * x * counts, rtol=1e-14)
    v = drawn(4)
    np.testing.assert_allclose(slope("written", x, j, v), 3 * x**2 * (counts == 0), rtol=1e-14)
    np.testing.assert_allclose(slope("written", x, j, v, wrt="v"), [0, 0, 3 * v[2] ** 2, 3 * v[3] ** 2], rtol=1e-14)


@pytest.mark.parametrize("name", ["product", "running_product", "running_sum"])
def test_second_derivatives_are_symmetric_and_those_of_differences(name: str):
    x = drawn(5)
    x[[1, 3]] = 0
    more = [] if name == "product" else [drawn(6)[:5]]
    bent = dg.hvp(getattr(PROGRAMS, name), wrt="x")
    rows = np.array([bent(x, *more, np.eye(5)[at]) for at in range(5)])
    np.testing.assert_allclose(rows, rows.T, atol=1e-14)
    for at in range(5):
        step = 1e-4 * np.eye(5)[at]
        expected = (slope(name, x + step, *more) - slope(name, x - step, *more)) / 2e-4
        np.testing.assert_allclose(rows[at], expected, atol=1e-7)
