"""Which places a formula provably writes at most once."""

import itertools

import pytest

from dgraph.frontend.distinct import are_distinct, factors
from dgraph.sizes import Size, size, variable

FIRST, SECOND, THIRD = ("i",), ("j",), ("k",)
i, j, k, n, m = (variable(atom) for atom in (FIRST, SECOND, THIRD, "n", "m"))


def distinct(subscripts: list[Size], **extents: Size | int | None) -> bool:
    atoms = {(name,): None if extent is None else size(extent) for name, extent in extents.items()}
    rows = [factors(subscript, list(atoms)) for subscript in subscripts]
    return all(row is not None for row in rows) and are_distinct([row for row in rows if row is not None], atoms)


@pytest.mark.parametrize(
    "subscripts",
    [
        [3 * i + 1, j],
        [i, i + j],
        [i + j, i - j],
        [2 * i + j],
        [j - 2 * i],
        [3 * i + 2 * j, i + j],
        [i, 5 - j, 7 * i],
    ],
)
def test_distinct(subscripts: list[Size]):
    assert distinct(subscripts, i=4, j=2)
    places = [
        tuple(subscript.evaluate({FIRST: a, SECOND: b}.__getitem__) for subscript in subscripts)
        for a, b in itertools.product(range(4), range(2))
    ]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("subscripts", [[i + j], [i], [i, 2 * i], [2 * i + 2 * j, i + j], [size(0)], [0 * i, j]])
def test_not_distinct(subscripts: list[Size]):
    assert not distinct(subscripts, i=4, j=2)


def test_digits_with_sizes():
    assert distinct([m * i + j], i=n, j=m)
    assert not distinct([m * i + j], i=n, j=m + 1)
    assert distinct([m * n * i + m * j + k], i=2, j=n, k=m)


def test_counts_that_only_the_run_decides():
    assert distinct([2 * i + j], i=None, j=2)
    assert not distinct([2 * i + j], i=3, j=None)
    assert distinct([i, j], i=None, j=None)


def test_products_of_indices_are_not_affine():
    assert factors(i * j, [FIRST, SECOND]) is None
    assert factors(i // 2, [FIRST]) is None
    row = factors(n * i + m, [FIRST])
    assert row is not None and dict(row) == {FIRST: n}
