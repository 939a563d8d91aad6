"""`@checkpoint` on every loop of random nests: derivatives of first and second order keep their bits."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from ad_check import Example, directions, forward_over_reverse, gradient, reverse_over_reverse, run
from test_random_nests import program

import dgraph.ops.disk
from dgraph.ir.graph import Graph, Region
from dgraph.ops.control import For, Loop
from dgraph.ops.two_levels import TwoLevels
from dgraph.passes import OPTIMISE, run_passes
from dgraph.types import Tuple

WISHES = [{"every": 1}, {"every": 2}, {"every": 5}, {"slots": 1}, {"slots": 2}, {"slots": 9}, {"budget": "40B"}]
WISHES += [{"slots": 1, "disk": 2}, {"slots": 2, "disk": "60B"}, {"budget": "40B", "disk": 30}]


@pytest.fixture(autouse=True)
def free_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing and reading cost nothing, so that short loops use the disk too."""
    free = cache(lambda slots, disk: TwoLevels(slots, disk, 0, 0))
    monkeypatch.setattr(dgraph.ops.disk, "two_levels", free)


def with_wishes(region: Region, rng: np.random.Generator | None) -> Region:
    """The region with a wish on every loop: a random one, or that all is kept."""
    nodes = []
    for node in region.nodes:
        op = node.op
        if isinstance(op, Loop):
            wish = {"every": 0} if rng is None else WISHES[rng.integers(len(WISHES))]
            op = replace(op, **{name: value for name, value in wish.items() if name != "disk" or isinstance(op, For)})
        nodes.append(replace(node, op=op, regions=tuple(with_wishes(inner, rng) for inner in node.regions)))
    return Region(region.inputs, tuple(nodes), region.outputs)


def optimised(region: Region) -> Region:
    graph = Graph("f", ("n",), (), Tuple(()), region)
    return run_passes(graph, OPTIMISE).region


def check(seed: int, depth: int) -> None:
    example = program(seed, depth)
    along = directions(example)
    found: list[list[bytes]] = []
    rng = np.random.default_rng(seed)
    for draw in (None, rng, rng):
        asked: Example = replace(example, region=with_wishes(example.region, draw))
        reverse = gradient(asked)
        first = run(optimised(reverse), [*asked.arguments, 1.0], asked.sizes)
        second = [
            run(optimised(twice(asked, reverse)), [*asked.arguments, 1.0, *along], asked.sizes)
            for twice in (forward_over_reverse, reverse_over_reverse)
        ]
        found.append([np.asarray(value).tobytes() for values in (first, *second) for value in values])
    assert found[1] == found[0]
    assert found[2] == found[0]


@pytest.mark.parametrize("seed", range(30))
def test_shallow(seed: int):
    check(seed, 1)


@pytest.mark.parametrize("seed", range(100, 106))
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
