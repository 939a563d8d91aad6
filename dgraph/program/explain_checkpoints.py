"""What `@checkpoint` asks of a loop, and what that takes: the part of `explain` that foretells schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dgraph.ir.graph import Graph, Node, walk
from dgraph.ops.binomial import fewest, most_runs, run_again_online
from dgraph.ops.control import For, Loop, While
from dgraph.ops.two_levels import MOST, READ, WRITE, two_levels
from dgraph.passes.levels import NUMBERS
from dgraph.passes.online_slots import OnlineSlots
from dgraph.passes.rerun import kept_carries
from dgraph.passes.slots import Slots
from dgraph.program.explain_amounts import Amounts
from dgraph.sizes import Atom, Size, bytes_in, size
from dgraph.types import I64

MOST_STEPS = 10**6
"""Steps of a `while`, or states on disk, beyond which a schedule is not foretold: it is gone through one by one."""


def wish_of(op: Any) -> tuple[str, Any] | None:
    """The option of `@checkpoint` that a loop has, and its value."""
    found = ((name, getattr(op, name, None)) for name in ("every", "slots", "budget"))
    return next(((name, value) for name, value in found if value is not None), None)


def has_wish(graph: Graph) -> bool:
    """Whether a loop of a graph is to keep less than all."""
    return any(isinstance(node.op, Loop) and node.op.keeps_less for node in walk(graph.region))


class Checkpoints:
    """What the loops of a graph are asked. `at_most` are numbers of steps that a `while` does not exceed, by the result
    that counts them."""

    def __init__(self, graph: Graph, amounts: Amounts, at_most: Mapping[Atom, int]) -> None:
        self.amounts = amounts
        self.at_most = at_most
        self.words = {wish.name: " ".join(wish.span.text.split()) for wish in graph.wishes}

    def of(self, node: Node, trips: Size) -> dict[str, Any] | None:
        """What is asked of a loop with so many steps, and what that takes."""
        wish = wish_of(node.op)
        if wish is None:
            return None
        option, value = wish
        found: dict[str, Any] = {"option": option, "value": self._said(value)}
        if value == 0:
            return found
        state = size(0)
        for at in kept_carries(node):
            state = state + self.amounts.costs.size_bytes(node.operands[int(isinstance(node.op, For)) + at])
        found |= {"number": self._number(value), "state": self.amounts.of(state), "again": None}
        steps = self._steps(node, trips)
        if isinstance(node.op, While) and node.results[-1] in self.at_most:
            found["at_most"] = steps
        if option == "every":
            return found | self._blocks(node, steps, found["number"])
        slots = found["number"]
        if option == "budget" and self.amounts.is_known:
            numbers = Slots.numbers if isinstance(node.op, For) else OnlineSlots.numbers
            slots = max(self._fitting(value, state, numbers) - 1, 1)
        found["states"] = slots
        if isinstance(node.op, Loop) and node.op.disk is not None:
            return found | self._on_disk(node, node.op.disk, state, steps, slots)
        return found | self._in_slots(node, steps, slots)

    def _said(self, value: Any) -> Any:
        """A value of an option as it is written."""
        return self.words.get(str(value), str(value)) if isinstance(value, Size) else value

    def _number(self, value: Any) -> int | None:
        """A number of an option, if it is known."""
        if isinstance(value, Size):
            return self.amounts.costs.number(value) if self.amounts.is_known else None
        return value if isinstance(value, int) else None

    def _steps(self, node: Node, trips: Size) -> int | None:
        """How many steps a loop has, or has at most; None if that is not known beforehand."""
        if isinstance(node.op, While) and node.results[-1] in self.at_most:
            return self.at_most[node.results[-1]]
        is_known = self.amounts.is_known and not self.amounts.assumed(trips)
        return self.amounts.costs.number(trips) if is_known else None

    def _fitting(self, amount: str, state: Size, numbers: int) -> int:
        """How many states fit into an amount, with so many whole numbers each."""
        return (bytes_in(amount) or 0) // (self.amounts.costs.number(state) + numbers * I64.bytes)

    def _blocks(self, node: Node, steps: int | None, every: int | None) -> dict[str, Any]:
        if steps is None or every is None:
            return {}
        return {"states": -(-steps // every), "advances": steps, "again": self._seconds(node, steps)}

    def _in_slots(self, node: Node, steps: int | None, slots: int | None) -> dict[str, Any]:
        if steps is None or slots is None:
            return {}
        if isinstance(node.op, While):
            if steps > MOST_STEPS:
                return {}
            again = run_again_online(steps, slots)
            return {"advances": steps + again, "again": self._seconds(node, again)}
        forwards = fewest(steps, slots)
        # The first run of all steps but the last is what the function does anyway.
        again = max(forwards - steps + 1, 0)
        return {
            "repetitions": most_runs(steps, slots),
            "advances": forwards,
            "again": self._seconds(node, again),
        }

    def _on_disk(
        self, node: Node, disk: Size | int | str, state: Size, steps: int | None, slots: int | None
    ) -> dict[str, Any]:
        room = self._number(disk)
        if isinstance(disk, str) and self.amounts.is_known:
            room = max(self._fitting(disk, state, NUMBERS), 1)
        room = None if room is None else min(room, MOST)
        told: dict[str, Any] = {"value": self._said(disk), "states": room}
        if steps is None or slots is None or room is None or steps > MOST_STEPS:
            return {"disk": told}
        plan, is_online = two_levels(slots, room), isinstance(node.op, While)
        advances, writes, reads = plan.counted_online(steps) if is_online else plan.counted(steps)
        again = max(advances - steps + (not is_online), 0) + writes * WRITE + reads * READ
        told |= {"writes": writes, "reads": reads}
        return {"disk": told, "advances": advances, "again": self._seconds(node, again)}

    def _seconds(self, node: Node, steps: int) -> float:
        """The seconds of so many steps of a loop that are run again."""
        return steps * self.amounts.costs.region(node.regions[-1]).seconds
