"""Values in a few words."""

import numpy as np
import pytest

from dgraph.view import digest


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "not run"),
        (0.0, "0.0"),
        (np.float64(0.1), "0.1"),
        (np.float64(1 / 3), "0.3333333333333333"),
        (np.float32(0.1), "0.1"),
        (np.float64(1e-300), "1e-300"),
        (np.float64("nan"), "nan"),
        (-np.inf, "-inf"),
        (np.int64(-7), "-7"),
        (np.bool_(True), "true"),
        (np.array([1.0, 2.5]), "[1, 2.5]"),
        (np.array([True, False]), "[true, false]"),
        (np.zeros((0, 3)), "[0, 3] empty"),
        (np.array([[3.0, 4.0]]), "[1, 2] min 3 mean 3.5 max 4 norm 5"),
        (np.arange(6), "[6] min 0 mean 2.5 max 5 norm 7.42"),
        (np.array([[True, False, True]]), "[1, 3] true 2 of 3"),
        (np.full(5, np.nan), "[5] nan 5 of 5"),
    ],
)
def test_digest(value: object, words: str) -> None:
    assert digest(value) == words


def test_what_is_not_finite_is_counted_and_left_out_of_the_summary() -> None:
    assert digest(np.array([[1.0, np.nan, np.inf, 3.0]])) == "[1, 4] inf 1 of 4 nan 1 of 4 min 1 mean 2 max 3 norm 3.16"


def test_a_value_that_is_zero_is_not_a_value_that_was_not_computed() -> None:
    assert digest(np.float64(0.0)) != digest(None)
