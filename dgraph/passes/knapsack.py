"""The knapsack, exactly but for the unit in which weights are counted."""

from __future__ import annotations

from collections.abc import Sequence

UNITS = 4096
"""In how many units the room is divided. Weights are rounded up, so that what is chosen always fits."""


def fill(weights: Sequence[int], worths: Sequence[float], room: int) -> tuple[int, ...]:
    """The places of the items that are worth most together and weigh no more than the room; of equal choices one that
    takes early items."""
    groups = [[item] for item in zip(weights, worths, strict=True)]
    return tuple(at for at, taken in enumerate(pick(groups, room)) if taken is not None)


def pick(groups: Sequence[Sequence[tuple[int, float]]], room: int) -> tuple[int | None, ...]:
    """The same where each group of items, which are pairs of weight and worth, gives one item at most: its place in the
    group, or None."""
    if room < 0:
        return (None,) * len(groups)
    unit = max(1, -(-room // UNITS))
    most = room // unit
    best = [0.0] * (most + 1)
    rows: list[list[int | None]] = []
    for group in reversed(groups):
        before, best = best, [*best]
        taken: list[int | None] = [None] * (most + 1)
        for at, (weight, worth) in enumerate(group):
            units = -(-weight // unit)
            for left in range(most, units - 1, -1):
                more = before[left - units] + worth
                if worth > 0 and (more > best[left] or (more == best[left] and taken[left] is None)):
                    best[left], taken[left] = more, at
        rows.append(taken)
    chosen: list[int | None] = []
    left = most
    for group, taken in zip(groups, reversed(rows), strict=True):
        found = taken[left]
        chosen.append(found)
        if found is not None:
            left -= -(-group[found][0] // unit)
    return tuple(chosen)
