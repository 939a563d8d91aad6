"""What loops keep is chosen at every price on random nests: derivatives of first and second order keep their bits."""

import math
from dataclasses import replace

import numpy as np
import pytest
from ad_check import Example, directions, forward_over_reverse, gradient, reverse_over_reverse, run
from test_checkpoint_nests import with_wishes
from test_random_nests import program

from dgraph.ir.graph import Graph, Region
from dgraph.passes import OPTIMISE, run_passes
from dgraph.passes.residuals import residuals
from dgraph.types import Tuple

PRICES = [0.0, 1e-10, 1e-6, math.inf]


def optimised(region: Region) -> Graph:
    return run_passes(Graph("f", ("n",), (), Tuple(()), region), OPTIMISE)


def bits(found: list) -> list[bytes]:
    return [np.asarray(value).tobytes() for value in found]


def check(seed: int, depth: int) -> int:
    """How many of the graphs a price changes."""
    plain = program(seed, depth)
    along = directions(plain)
    changed = 0
    rng = np.random.default_rng(seed)
    for wished in (False, True):
        example: Example = replace(plain, region=with_wishes(plain.region, rng)) if wished else plain
        reverse = gradient(example)
        arguments = [*example.arguments, 1.0]
        for region, given in (
            (reverse, arguments),
            (forward_over_reverse(example, reverse), [*arguments, *along]),
            (reverse_over_reverse(example, reverse), [*arguments, *along]),
        ):
            graph = optimised(region)
            expected = bits(run(graph.region, given, example.sizes))
            for price in PRICES:
                after = residuals(graph, price=price, sizes=dict(example.sizes))
                changed += after.region is not graph.region
                assert bits(run(after.region, given, example.sizes)) == expected, price
    return changed


@pytest.mark.parametrize("seed", range(20))
def test_shallow(seed: int):
    check(seed, 1)


@pytest.mark.parametrize("seed", range(100, 104))
def test_deep(seed: int):
    check(seed, 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1150))
def test_many_shallow(seed: int):
    check(seed, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1030))
def test_many_deep(seed: int):
    check(seed, 2)
