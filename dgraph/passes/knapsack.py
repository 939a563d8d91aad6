"""The 0/1 knapsack, exactly but for the unit in which weights are counted."""

from __future__ import annotations

from collections.abc import Sequence

UNITS = 4096
"""In how many units the room is divided. Weights are rounded up, so that what is chosen always fits."""


def fill(weights: Sequence[int], worths: Sequence[float], room: int) -> tuple[int, ...]:
    """The places of the items that are worth most together and weigh no more than the room; of equal choices one that
    takes early items."""
    if room < 0:
        return ()
    unit = max(1, -(-room // UNITS))
    most = room // unit
    best = [0.0] * (most + 1)
    rows: list[tuple[int, list[bool]]] = []
    for weight, worth in zip(reversed(weights), reversed(worths), strict=True):
        units = -(-weight // unit)
        taken = [False] * (most + 1)
        for left in range(most, units - 1, -1):
            if worth > 0 and best[left - units] + worth >= best[left]:
                best[left] = best[left - units] + worth
                taken[left] = True
        rows.append((units, taken))
    chosen = []
    left = most
    for at, (units, taken) in enumerate(reversed(rows)):
        if taken[left]:
            chosen.append(at)
            left -= units
    return tuple(chosen)
