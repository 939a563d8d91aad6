"""Every identity between derivatives on programs that use everything a graph can say."""

import pytest
from ad_check import Example, first_order, second_order
from ad_examples import EXAMPLES

examples = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


@examples
def test_first_derivatives(example: Example):
    errors = first_order(example)
    assert errors["value"] == 0
    assert errors["differences"] < 1e-7
    assert errors["forward"] < 1e-13


@examples
def test_second_derivatives(example: Example):
    errors = second_order(example)
    assert errors["differences"] < 1e-7
    assert errors["reverse over reverse"] < 1e-13
    assert errors["reverse over forward"] < 1e-13
