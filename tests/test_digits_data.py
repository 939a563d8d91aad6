"""The digits that the examples learn from are whole, and every tail of them is a fair test set."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def digits():
    with np.load(Path(__file__).parents[1] / "examples" / "data" / "digits.npz") as data:
        return dict(data)


def test_columns(digits):
    assert {name: (column.dtype, column.shape) for name, column in digits.items()} == {
        "image": (np.uint8, (1797, 8, 8)),
        "label": (np.int32, (1797,)),
    }
    assert (digits["image"].min(), digits["image"].max()) == (0, 16)
    assert np.bincount(digits["label"]).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_every_tail_holds_each_digit_in_proportion(digits):
    is_digit = digits["label"][::-1, None] == np.arange(10)
    found = is_digit.cumsum(axis=0)
    share = is_digit.mean(axis=0) * np.arange(1, 1798)[:, None]
    assert np.abs(found - share).max() < 2
