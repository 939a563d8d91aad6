"""Patterns hold every entry that is not zero, whatever a function is made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ad_check import Example, forward_over_reverse, gradient, run
from ad_examples import EXAMPLES
from test_random_nests import program

from dgraph.ad import jvp
from dgraph.ad.sparse import patterns
from dgraph.ad.sparse.patterns import pattern_of
from dgraph.ir.graph import Region


def known(region: Region, arguments: Sequence[Any]) -> list[Any]:
    """The integers among the arguments."""
    pairs = zip(region.inputs, arguments, strict=True)
    return [None if value.type.dtype.is_float else np.asarray(given) for value, given in pairs]


def points(example: Example) -> list[list[Any]]:
    """The arguments, and others near them."""
    rng = np.random.default_rng(3)
    found = [list(example.arguments)]
    for _ in range(2):
        moved = list(example.arguments)
        for at in example.wrt:
            moved[at] = moved[at] + 0.05 * rng.standard_normal(np.shape(moved[at]))
        found.append(moved)
    return found


def units(example: Example) -> list[list[Any]]:
    """A direction for each entry of what is differentiated."""
    shapes = [np.shape(example.arguments[at]) for at in example.wrt]
    widths = [int(np.prod(shape)) for shape in shapes]
    ends = np.cumsum(widths)
    return [
        [part.reshape(shape)[()] for part, shape in zip(np.split(unit, ends[:-1]), shapes, strict=True)]
        for unit in np.eye(ends[-1])
    ]


def holds(example: Example) -> None:
    """The gradient and the Hessian are zero wherever their patterns say so."""
    sizes = dict(example.sizes)
    first = pattern_of(example.region, example.flags, [True], known(example.region, example.arguments), sizes)
    reverse = gradient(example)
    wrt, rows = [*example.flags, False], [False, *(True for _ in example.wrt)]
    second = pattern_of(reverse, wrt, rows, known(reverse, [*example.arguments, 1.0]), sizes)
    tangents, over = jvp(example.region, example.flags), forward_over_reverse(example, reverse)
    for arguments in points(example):
        for column, unit in enumerate(units(example)):
            (slope,) = run(tangents, [*arguments, *unit], example.sizes)[1:]
            assert slope == 0 or first.toarray()[0, column]
            found = run(over, [*arguments, 1.0, *unit], example.sizes)[-len(example.wrt) :]
            entries = np.concatenate([np.ravel(part) for part in found])
            assert not np.any((entries != 0) & ~second.toarray()[:, column])


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_examples(example: Example):
    holds(example)


@pytest.mark.parametrize("seed", range(30))
def test_random_nests(seed: int):
    holds(program(seed, 1))


@pytest.mark.parametrize("seed", range(5))
def test_deep_random_nests(seed: int):
    holds(program(seed, 2))


@pytest.mark.parametrize("seed", range(10))
def test_loops_whose_steps_are_taken_together(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patterns, "WORK", 0)
    holds(program(seed, 1))


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_with_steps_taken_together(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patterns, "WORK", 0)
    holds(EXAMPLES[name])
