"""Colourings: known numbers of colours, what makes a colouring legal, and recovery from compressed products."""

import itertools

import numpy as np
import pytest
from scipy import sparse

from dgraph.ad.sparse.colouring import column_colouring, column_places, count, star_colouring, star_places

N = 40


def banded(below: int, above: int) -> np.ndarray:
    return np.tri(N, k=above, dtype=bool) & np.tri(N, k=below, dtype=bool).T


def arrow() -> np.ndarray:
    found = np.eye(N, dtype=bool)
    found[0] = found[:, 0] = True
    return found


def blocks(size: int) -> np.ndarray:
    return np.kron(np.eye(N // size), np.ones((size, size))).astype(bool)


def csr(pattern: np.ndarray):
    return sparse.csr_array(pattern)


def random_pattern(seed: int, rows: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((rows, columns)) < rng.choice([0.05, 0.15, 0.4])


KNOWN = {
    "diagonal": (np.eye(N, dtype=bool), 1, 1),
    "bidiagonal": (banded(1, 0), 2, None),
    "tridiagonal": (banded(1, 1), 3, 3),
    "pentadiagonal": (banded(2, 2), 5, None),
    "arrow": (arrow(), N, 2),
    "blocks": (blocks(4), 4, 4),
    "full": (np.ones((N, N), bool), N, N),
    "nothing": (np.zeros((N, N), bool), 1, None),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_numbers_of_colours(name: str):
    pattern, columns, star = KNOWN[name]
    assert count(column_colouring(csr(pattern))) == columns
    if star is not None:
        assert count(star_colouring(csr(pattern))) == star


def test_the_diagonal_of_a_band_may_be_missing():
    pattern = banded(1, 1) & ~np.eye(N, dtype=bool)
    assert count(column_colouring(csr(pattern))) == 2


def test_a_matrix_without_columns_has_no_colours():
    assert count(column_colouring(sparse.csr_array((3, 0), dtype=bool))) == 0
    assert count(star_colouring(sparse.csr_array((0, 0), dtype=bool))) == 0


@pytest.mark.parametrize("seed", range(60))
def test_columns_of_one_colour_have_no_row_in_common(seed: int):
    pattern = random_pattern(seed, 23, 31)
    colours = column_colouring(csr(pattern))
    assert sorted(set(colours.tolist())) == list(range(count(colours)))
    for colour in range(count(colours)):
        assert pattern[:, colours == colour].sum(axis=1).max(initial=0) <= 1
    widest = int(pattern.sum(axis=1).max())
    assert widest <= count(colours) <= 3 * widest + 1


@pytest.mark.parametrize("seed", range(60))
def test_a_matrix_is_recovered_from_its_compressed_columns(seed: int):
    rng = np.random.default_rng(seed)
    pattern = random_pattern(seed, 23, 31)
    matrix = np.where(pattern, rng.standard_normal(pattern.shape), 0)
    colours = column_colouring(csr(pattern))
    products = matrix @ np.eye(count(colours))[colours]
    found = csr(pattern).astype(float)
    found.data = products.T.ravel()[column_places(csr(pattern), colours)]
    np.testing.assert_array_equal(found.toarray(), matrix)


def symmetric(seed: int, size: int) -> np.ndarray:
    pattern = random_pattern(seed, size, size)
    return pattern | pattern.T | np.eye(size, dtype=bool)


@pytest.mark.parametrize("seed", range(60))
def test_every_path_of_four_vertices_has_three_colours(seed: int):
    pattern = symmetric(seed, 14)
    colours = star_colouring(csr(pattern))
    near = [np.flatnonzero(row & ~(np.arange(len(row)) == at)) for at, row in enumerate(pattern)]
    for a in range(len(near)):
        for b in near[a]:
            assert colours[a] != colours[b]
            for c, d in itertools.product(near[b], range(len(near))):
                if c != a and d not in (a, b) and d in near[c]:
                    assert len({colours[a], colours[b], colours[c], colours[d]}) >= 3


@pytest.mark.parametrize("seed", range(60))
def test_a_symmetric_matrix_is_recovered_from_a_star_colouring(seed: int):
    rng = np.random.default_rng(seed)
    pattern = symmetric(seed, 30)
    drawn = rng.standard_normal(pattern.shape)
    matrix = np.where(pattern, drawn + drawn.T, 0)
    colours = star_colouring(csr(pattern))
    products = matrix @ np.eye(count(colours))[colours]
    found = csr(pattern).astype(float)
    found.data = products.T.ravel()[star_places(csr(pattern), colours)]
    # What is read is the entry itself or its mirror image, with the rest of the sum exactly 0.
    np.testing.assert_allclose(found.toarray(), matrix, rtol=1e-13)
    assert count(colours) <= count(column_colouring(csr(pattern)))
