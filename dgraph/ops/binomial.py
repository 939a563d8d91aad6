"""How many steps run again if a loop is reversed with room for some states: Griewank and Walther's closed form.

Algorithm 799, ACM TOMS 26 (2000). States include that before the first step. Where nobody knows beforehand how many
steps there will be, states are kept by the rule of Wang, Moin and Iaccarino, SIAM J. Sci. Comput. 31 (2009).
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


def kept_online(steps: int, slots: int) -> list[int]:
    """The steps before which a state is kept when a loop has ended whose number of steps nobody knew. The rule is told
    in `passes.online_slots`; one slot does as two, because the newest state is at work."""
    room = max(slots, 2)
    levels, before, orders = [0] * room, [0] * room, [0] * room
    used = newest = raised = 0
    for order in range(steps):
        last = before[raised]
        is_room, is_spare = used < room, levels[last] < levels[raised]
        row = used if is_room else last if is_spare else newest
        level = 0 if is_room or is_spare else levels[newest] + 1
        before[raised] = before[last] if is_spare else last
        below = newest if is_room or is_spare else before[newest]
        raised = raised if is_room or is_spare else newest
        levels[row], before[row], orders[row] = level if order else steps + 1, below, order
        used, newest = used + is_room, row
    return sorted(orders[:used])


def run_again_online(steps: int, slots: int) -> int:
    """How many steps run again if a loop is reversed that kept its states online: each part of it, from a state to the
    next, in the slots that are not taken by those before."""
    kept = kept_online(steps, slots)
    ends = [*kept[1:], steps]
    return sum(fewest(end - at, max(slots - place, 1)) for place, (at, end) in enumerate(zip(kept, ends, strict=False)))
