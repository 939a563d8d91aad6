"""How a compiled program keeps within a budget: settings that each call gives numbers, so that the memory it takes is
no more than allowed and as few steps as possible run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dgraph.classes import dataclass
from dgraph.kernels.demand import Memory
from dgraph.sizes import Size


class OverBudget(Exception):
    """No numbers of the settings let a call keep within the budget; `least` are those that take least."""

    def __init__(self, least: Mapping[str, int]) -> None:
        super().__init__("over the budget")
        self.least = least


@dataclass(frozen=True)
class Setting:
    """A number that a call sets: the `slots` of a loop, or `every` how many steps it keeps its state.

    The loop has so many `steps`, by sizes and by arguments that are numbers (`#3` is argument 3); one of them takes
    `seconds`, all runs of the loop counted.
    """

    name: str
    kind: str
    steps: Size
    seconds: float


@dataclass(frozen=True)
class Allowance:
    """The budget in bytes, the settings, the seconds of a call that keeps all, the seconds that straight code and steps
    that keep less compute again for, where the loops with settings stand, where what straight code computes again
    stands, and loops whose steps keep less: where they stand, the bytes that a step keeps, and those of the fastest
    choice."""

    budget: int
    settings: tuple[Setting, ...] = ()
    seconds: float = 0.0
    added: float = 0.0
    words: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    bodies: tuple[tuple[str, int, int], ...] = ()

    def chosen(self, memory: Callable[[Mapping[str, int]], Memory], known: Mapping[Any, int]) -> dict[str, int]:
        """The settings for known sizes and arguments, by what `memory` foretells for each. Raises `OverBudget`."""

        def fits(numbers: Mapping[str, int]) -> bool:
            told = memory(numbers)
            return not told.open and told.peak <= self.budget

        steps = {setting.name: max(setting.steps.evaluate(known.__getitem__), 1) for setting in self.settings}
        numbers = dict.fromkeys(steps, 1)
        for setting in self.settings:
            if setting.kind == "every":
                sizes = {each: memory({**numbers, setting.name: each}).peak for each in _grid(steps[setting.name])}
                numbers[setting.name] = min(sizes, key=lambda each: (sizes[each], each))
        if not fits(numbers):
            raise OverBudget(numbers)
        slotted = [setting.name for setting in self.settings if setting.kind == "slots"]
        if slotted:
            longest = max(steps[name] for name in slotted)

            def slots(runs: int) -> dict[str, int]:
                return {**numbers, **{name: slots_for(steps[name], runs) for name in slotted}}

            numbers = slots(_least(1, longest, lambda runs: fits(slots(runs))))
            for name in slotted:
                numbers = self._most(numbers, name, steps[name], fits)
        return numbers

    @staticmethod
    def _most(
        numbers: Mapping[str, int], name: str, steps: int, fits: Callable[[Mapping[str, int]], bool]
    ) -> dict[str, int]:
        """The settings with as many slots for one loop as fit."""
        less = _least(0, steps - numbers[name], lambda less: fits({**numbers, name: steps - less}))
        return {**numbers, name: steps - less}

    def told(self, numbers: Mapping[str, int], known: Mapping[Any, int], peak: int) -> dict[str, Any]:
        """What was chosen, as plain data, where a call with these settings takes so many bytes."""
        pairs = zip(self.words, self.settings, strict=True)
        loops = [{"loop": words, "keeps": each.kind, "number": numbers[each.name]} for words, each in pairs]
        return {
            "budget": self.budget,
            "peak": peak,
            "slowdown": self.slowdown(numbers, known),
            "loops": loops,
            "steps": [{"loop": place, "bytes": bytes_, "of": most} for place, bytes_, most in self.bodies],
            "again": list(self.again),
        }

    def slowdown(self, numbers: Mapping[str, int], known: Mapping[Any, int]) -> float:
        """How many times as long a call takes as one that keeps all, as far as can be foretold."""
        # Asked for by people, not by calls: a start from the cache loads no ops.
        from dgraph.ops.binomial import fewest

        extra = self.added
        for setting in self.settings:
            steps = max(setting.steps.evaluate(known.__getitem__), 1)
            again = steps if setting.kind == "every" else fewest(steps, numbers[setting.name])
            extra += again * setting.seconds
        return (self.seconds + extra) / self.seconds if self.seconds else 1.0


def slots_for(steps: int, runs: int) -> int:
    """The fewest slots with which no step is run more than so often."""
    return _least(1, max(steps, 1), lambda slots: _reaches(slots, runs, steps))


def _reaches(slots: int, runs: int, steps: int) -> bool:
    """Whether C(slots + runs, runs) >= steps, without large numbers."""
    reach = 1
    for turn in range(1, min(slots, runs) + 1):
        reach = reach * (max(slots, runs) + turn) // turn
        if reach >= steps:
            return True
    return reach >= steps


def _least(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The least number from which on a condition holds; `high` if it holds for none below."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _grid(steps: int) -> Iterator[int]:
    """Numbers up to so many, close enough to one another."""
    each = 1
    while each < steps:
        yield each
        each = max(each + 1, each * 9 // 8)
    yield steps


def allowance_to_json(allowance: Allowance, size_to_json: Callable[[Size], Any]) -> Any:
    """An allowance as JSON."""
    settings = [[s.name, s.kind, size_to_json(s.steps), s.seconds] for s in allowance.settings]
    seconds = allowance.seconds, allowance.added
    return [allowance.budget, settings, *seconds, allowance.words, allowance.again, allowance.bodies]


def allowance_from_json(data: Any, size_from_json: Callable[[Any], Size]) -> Allowance:
    """What `allowance_to_json` wrote."""
    budget, settings, seconds, added, words, again, bodies = data
    held = tuple(Setting(name, kind, size_from_json(steps), price) for name, kind, steps, price in settings)
    return Allowance(budget, held, seconds, added, tuple(words), tuple(again), tuple(map(tuple, bodies)))
