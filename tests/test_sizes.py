"""Symbolic sizes: normal form against integer arithmetic."""

import itertools

import numpy as np
import pytest

from dgraph.sizes import Quotient, Size, product, size, solve, variable

N, M, K = variable("n"), variable("m"), variable("k")


def number(extent: Size, **values: int) -> int:
    return extent.evaluate(values.__getitem__)


def test_equal_polynomials_are_equal():
    assert (N + 1) * (N - 1) == N**2 - 1
    assert N * M == M * N
    assert size(0) == N - N
    assert (N + M) ** 2 == N**2 + 2 * N * M + M**2
    assert hash((N + 1) * 2) == hash(2 * N + 2)


@pytest.mark.parametrize(
    ("extent", "text"),
    [
        (size(0), "0"),
        (2 * N - 3, "2 * n - 3"),
        (N * M - N**2, "m * n - n * n"),
        (-N, "-n"),
        (1 - N, "-n + 1"),
        (N // 2, "(n // 2)"),
        ((N + 1) // (M * 2), "((n + 1) // (2 * m))"),
    ],
)
def test_printing(extent: Size, text: str):
    assert str(extent) == text


@pytest.mark.parametrize(
    ("quotient", "expected"),
    [
        ((4 * N + 2) // 2, 2 * N + 1),
        ((4 * N + 3) // 4, N),
        (N * M // N, M),
        ((N**2 + N) // (N + 1), N),
        (size(7) // 2, size(3)),
        (size(-7) // 2, size(-4)),
        ((4 * N - 1) // 4, N - 1),
    ],
)
def test_exact_division(quotient: Size, expected: Size):
    assert quotient == expected


def test_random_arithmetic_agrees_with_integers():
    rng = np.random.default_rng(0)
    for _ in range(300):
        extent, value = N, 5
        values = {"n": 5, "m": 3, "k": 2}
        for _ in range(5):
            atom = str(rng.choice(["n", "m", "k"]))
            constant = int(rng.integers(1, 4))
            other, at = (variable(atom), values[atom]) if rng.integers(2) else (size(constant), constant)
            kind = rng.integers(5)
            if kind == 0:
                extent, value = extent + other, value + at
            elif kind == 1:
                extent, value = extent - other, value - at
            elif kind == 2:
                extent, value = extent * other, value * at
            elif kind == 3:
                extent, value = extent // other, value // at
            else:
                extent, value = extent % other, value % at
        assert number(extent, **values) == value, extent


def test_substitution_agrees_with_evaluation():
    extent = (N * M + K) // (M + 1) + N % 3
    for n, m, k in itertools.product(range(3), repeat=3):
        assert extent.substitute({"n": n, "m": m, "k": k}).constant == number(extent, n=n, m=m, k=k)
    assert (N // 2).substitute({"n": 2 * M}) == M


def test_division_by_zero():
    with pytest.raises(ZeroDivisionError):
        N // 0
    with pytest.raises(ZeroDivisionError):
        number(N // M, n=1, m=0)


def test_what_is_known_of_a_size():
    assert size(3).constant == 3
    assert (N - N).constant == 0
    assert N.constant is None
    assert size(1).is_literal_one and not N.is_literal_one
    assert (N * M + 2).is_nonnegative()
    assert not (N - 1).is_nonnegative()


def test_atoms_inside_quotients():
    extent = N * ((M + 1) // K)
    assert {atom for atom in extent.atoms() if isinstance(atom, str)} == {"n", "m", "k"}
    assert any(isinstance(atom, Quotient) for atom in extent.atoms())


def test_product():
    assert product((N, size(2), M)) == 2 * N * M
    assert product(()) == size(1)


@pytest.mark.parametrize(
    ("pattern", "actual", "found"),
    [
        (2 * N + 1, size(7), size(3)),
        (2 * N + 1, size(6), None),
        (N * 3, 3 * M, M),
        (N**2, size(4), None),
        (M + 1, size(4), None),
        (N // 2, size(4), None),
        (N - 2, M, M + 2),
    ],
)
def test_solving(pattern: Size, actual: Size, found: Size | None):
    assert solve(pattern, actual, "n") == found
