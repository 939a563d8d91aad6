"""How many steps run again if a loop is reversed with room for some states: Griewank and Walther's closed form.

Algorithm 799, ACM TOMS 26 (2000). States include that before the first step.
"""

from __future__ import annotations

from math import comb


def most_runs(steps: int, slots: int) -> int:
    """How often a step is run forwards at most: the least r for which C(slots + r, slots) is at least the steps."""
    runs, reach = 0, 1
    while reach < steps:
        runs += 1
        reach = reach * (slots + runs) // runs
    return runs


def fewest(steps: int, slots: int) -> int:
    """How many steps run forwards at least before they are reversed: t(n, c) = r n - C(c + r, c + 1)."""
    if steps <= 1:
        return 0
    if slots == 1:
        return steps * (steps - 1) // 2
    runs = most_runs(steps, slots)
    return runs * steps - comb(slots + runs, slots + 1)
