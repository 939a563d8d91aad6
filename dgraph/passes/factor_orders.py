"""In which order a sum of products of several factors is cheapest: a binary tree of sums of two factors each.

Each factor depends on some loop indices. Combining two factors, or what was made of them, runs over the indices of
both; those that nothing else needs are summed there, and what is left is an array. A dynamic program over sets of
factors finds the tree of least cost. Sizes that are not known count as `NOMINAL`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from dgraph.classes import dataclass
from dgraph.passes.product_forms import SMALL, Loop

NOMINAL = 100
"""What a size that only the call decides is taken for."""

MOST = 7
"""Sums of more factors are left as they are: there are 3 ** n ways to split n of them."""

TILED = 0.15
"""The price of a multiplication in a matrix product, beside that of one in a loop of its own."""

GAIN = 1.5
"""So much cheaper another order has to be."""

Loops = frozenset[Loop]


@dataclass(frozen=True)
class Tree:
    """A factor by its number, or two trees that are multiplied; `summed` are the loops that are summed there, `kept`
    those on which the result depends. A factor is summed alone where nothing else depends on what is summed."""

    parts: tuple[Tree, ...]
    number: int
    summed: Loops
    kept: Loops
    cost: float


def best_order(factors: Sequence[Loops], written: Loops, extents: Mapping[Loop, int]) -> Tree | None:
    """The cheapest tree, if it is clearly cheaper than one sum over all loops; None else.

    No array in between is larger than all factors and the result.
    """
    if not 2 <= len(factors) <= MOST:
        return None
    whole = (1 << len(factors)) - 1
    needed = [_needed(factors, written, group) for group in range(whole + 1)]
    largest = max(_points(loops, extents) for loops in (*factors, written))
    found: dict[int, Tree] = {}
    for group in range(1, whole + 1):
        trees = [_leaf(factors, group, needed[group], extents)] if group & (group - 1) == 0 else []
        part = (group - 1) & group
        while part > group - part:
            trees.append(_pair(found[part], found[group - part], needed[group], extents, largest))
            part = (part - 1) & group
        found[group] = min(trees, key=_rank)
    best = found[whole]
    return best if best.cost * GAIN < _plain(factors, written, extents) else None


def _rank(tree: Tree) -> tuple[float, int]:
    """The cheapest tree is the best one; among equals, the one that multiplies most factors from the left first."""
    return tree.cost, -len(_numbers(tree.parts[0])) if tree.parts else 0


def _needed(factors: Sequence[Loops], written: Loops, group: int) -> Loops:
    """The loops that what is outside of a group of factors depends on."""
    others = (loops for number, loops in enumerate(factors) if not group >> number & 1)
    return written.union(*others)


def _leaf(factors: Sequence[Loops], group: int, needed: Loops, extents: Mapping[Loop, int]) -> Tree:
    loops = factors[group.bit_length() - 1]
    summed = loops - needed
    cost = _points(loops, extents) if summed else 0.0
    return Tree((), group.bit_length() - 1, summed, loops & needed, cost)


def _pair(one: Tree, other: Tree, needed: Loops, extents: Mapping[Loop, int], largest: float) -> Tree:
    loops = one.kept | other.kept
    summed = loops - needed
    parts = (one, other) if min(_numbers(one)) < min(_numbers(other)) else (other, one)
    cost = one.cost + other.cost + _price(one.kept, other.kept, summed, extents)
    size = _points(loops & needed, extents) if summed else 0.0
    cost += size if size <= largest else inf
    return Tree(parts, -1, summed, loops & needed, cost)


def _numbers(tree: Tree) -> list[int]:
    return [number for part in tree.parts for number in _numbers(part)] if tree.parts else [tree.number]


def _price(one: Loops, other: Loops, summed: Loops, extents: Mapping[Loop, int]) -> float:
    """What it costs to multiply two arrays and to sum: less where that is a matrix product."""
    groups = one - other, other - one, one & other & summed
    is_product = all(_points(group, extents) > SMALL for group in groups)
    return _points(one | other, extents) * (TILED if is_product else 1.0)


def _plain(factors: Sequence[Loops], written: Loops, extents: Mapping[Loop, int]) -> float:
    """The cost of one sum over all loops."""
    loops = frozenset[Loop]().union(*factors)
    if len(factors) == 2:
        return _price(factors[0], factors[1], loops - written, extents)
    return _points(loops, extents)


def _points(loops: Loops, extents: Mapping[Loop, int]) -> float:
    """How many points there are."""
    count = 1.0
    for loop in loops:
        count *= extents[loop]
    return count
