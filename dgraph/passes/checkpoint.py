"""`@checkpoint` is obeyed: what a loop would keep for the loops that run backwards over its steps is computed again.

A pair is found by data flow: a loop that writes tapes, and the loops of the same block that walk them. The pass runs
after derivatives, of any order, are ordinary nodes, so it changes what is stored and never what is computed: steps that
are run again are the same ops on the same values.

Outer pairs come first. Where a loop writes tapes in the body of another loop, or on a side of a choice, and what walks
them stands in the body that runs backwards, `joint_steps` looks at the two bodies as one block.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from dgraph.ir.build import Builder
from dgraph.ir.dead_code import remove_dead_code, without_dead_code
from dgraph.ir.graph import Graph, Node, Region, Value, walk
from dgraph.ops.control import For, If, Loop, While
from dgraph.passes.base import graph_pass, outputs_of, with_operands, with_regions
from dgraph.passes.blocks import Blocks
from dgraph.passes.joint_steps import JoinedChoice, JoinedLoop
from dgraph.passes.late_slots import LateLevels, LateSlots
from dgraph.passes.levels import Levels, states_on_disk
from dgraph.passes.online_levels import OnlineLevels
from dgraph.passes.online_slots import OnlineSlots
from dgraph.passes.rerun import Steps, Turn, can_run_again, number
from dgraph.passes.slots import Slots, slots_in
from dgraph.sizes import size
from dgraph.types import Tape


@graph_pass("loops keep what @checkpoint allows and run their steps again")
def checkpoint(graph: Graph) -> Graph:
    """Obey `@checkpoint` in every region."""
    return without_dead_code(graph.with_region(_Run().region(graph.region)))


def is_wished(node: Node) -> bool:
    """Whether the program asks that a loop keeps less than every step."""
    return isinstance(node.op, Loop) and node.op.keeps_less


class _Run:
    """One run: regions met before are remembered."""

    def __init__(self) -> None:
        self.done: dict[Region, Region] = {}

    def region(self, region: Region) -> Region:
        """A region and all inside it."""
        found = self.done.get(region)
        if found is None:
            found = self.done[region] = self._changed(region)
        return found

    def _changed(self, region: Region) -> Region:
        if not any(is_wished(node) for node in walk(region)):
            return region
        block = Block(region.inputs, region.nodes, region.outputs)
        block.run(region.nodes)
        whole = remove_dead_code(Region(region.inputs, tuple(block.g.nodes), outputs_of(region, block.known)))
        nodes = tuple(with_regions(node, map(self.region, node.regions)) for node in whole.nodes)
        return Region(whole.inputs, nodes, whole.outputs)


class Block:
    """Nodes in a row whose pairs are rewritten. `known` says by what each replaced value is replaced.

    The `late` nodes are those of another loop that runs after all steps of this one: what they read is kept once per
    step.
    """

    def __init__(
        self, inputs: Iterable[Value], nodes: Iterable[Node], outputs: Iterable[Value], late: Collection[Node] = ()
    ) -> None:
        self.region = Region(tuple(inputs), tuple(nodes), tuple(outputs))
        self.late = frozenset(late)
        self.g = Builder()
        self.g.adopt(Region(self.region.inputs, (), ()))
        self.known: dict[Value, Value] = {}
        self.later: dict[Node, Callable[[Node], Sequence[Value]]] = {}

    def run(self, nodes: Iterable[Node]) -> None:
        """Rewrite the next nodes."""
        for node in nodes:
            moved = with_operands(node, self.known)
            results: Sequence[Value] | None
            with self.g.at(span=node.span, scope=node.scope, derived=node.derived):
                results = self.later[node](moved) if node in self.later else self._first_of_pair(node, moved)
            if results is None:
                self.g.append(moved)
            else:
                self.known.update(zip(node.results, results, strict=False))

    def _first_of_pair(self, node: Node, moved: Node) -> Sequence[Value] | None:
        """Rewrite a node whose tapes others walk, and note what is to be done with these. None if it is not such."""
        tapes = [value for value in node.results if isinstance(value.type, Tape)]
        if not tapes or any(tape in self.region.outputs for tape in tapes):
            return None
        readers = list(dict.fromkeys(user for tape in tapes for user in self.region.users.get(tape, ())))
        if is_wished(node):
            return self._keep_less(node, moved, readers)
        if not readers or not any(is_wished(inner) for region in node.regions for inner in walk(region)):
            return None
        return self._join(node, moved, readers)

    def _keep_less(self, node: Node, moved: Node, readers: Sequence[Node]) -> Sequence[Value] | None:
        op = node.op
        assert isinstance(op, Loop)
        tapes = [value for value in node.results if isinstance(value.type, Tape)]
        places = {value: at for at, value in enumerate(tapes)}
        turns = {reader: Turn(reader, places) for reader in readers}
        if not can_run_again(node) or not all(turn.can_follow(op) for turn in turns.values()):
            return None
        steps = Steps(self.g, moved)
        apart = self._is_apart(node, readers)
        plan = Blocks(self.g, steps, op.every) if op.every else self._slotted(steps, apart)
        results = plan.forward(self.g)
        last = max(readers, key=self.region.nodes.index, default=None)
        for reader in readers:
            self.later[reader] = partial(self._backward, plan, places, reader is last)
        return results if isinstance(op, For) else [*results, *tapes, steps.count]

    def _slotted(self, steps: Steps, is_apart: bool) -> Slots:
        op = steps.op
        kind = LateSlots if is_apart else Slots if isinstance(op, For) else OnlineSlots
        if op.slots is not None:
            room = number(self.g, op.slots), size(op.slots + 1)
        else:
            assert op.budget is not None
            room = slots_in(self.g, steps, op.budget, kind.numbers)
        if op.disk is not None and steps.kept:
            levels = LateLevels if is_apart else Levels if isinstance(op, For) else OnlineLevels
            return levels(self.g, steps, *room, *states_on_disk(self.g, steps, op.disk))
        return kind(self.g, steps, *room)

    def _backward(self, plan: Blocks | Slots, places: dict[Value, int], is_last: bool, reader: Node) -> Sequence[Value]:
        return plan.backward(self.g, Turn(reader, places, is_last))

    def _is_apart(self, node: Node, readers: Iterable[Node]) -> bool:
        """Whether what a node hands to its readers is kept once per step of a loop."""
        return node not in self.late and any(reader in self.late for reader in readers)

    def _join(self, node: Node, moved: Node, readers: Sequence[Node]) -> Sequence[Value] | None:
        """Rewrite the pairs that stand with one loop in the body of `node` and the other in that of its reader."""
        (reader, *more) = readers
        joined: JoinedLoop | JoinedChoice
        if isinstance(node.op, For | While) and isinstance(reader.op, For):
            joined = JoinedLoop(node, reader)
        elif isinstance(node.op, If) and isinstance(reader.op, If):
            joined = JoinedChoice(node, reader)
        else:
            return None
        if more or not joined.is_possible:
            return None
        is_per_step = isinstance(joined, JoinedLoop) or self._is_apart(node, readers)
        joined.rewrite(lambda joint, count: rewritten(joint, count, is_per_step))
        self.later[reader] = lambda other: joined.second(self.g, other)
        return joined.first(self.g, moved)


def rewritten(joint: Region, count: int, is_per_step: bool) -> tuple[list[Node], list[Node], tuple[Value, ...]]:
    """What becomes of the first `count` nodes of a block, of the others, and of its outputs."""
    block = Block(joint.inputs, joint.nodes, joint.outputs, joint.nodes[count:] if is_per_step else ())
    block.run(joint.nodes[:count])
    cut = len(block.g.nodes)
    block.run(joint.nodes[count:])
    return block.g.nodes[:cut], block.g.nodes[cut:], outputs_of(joint, block.known)
