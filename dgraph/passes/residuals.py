"""What a loop keeps for the loops that walk it is chosen: by a minimum cut through the body of the loop.

The loop that runs first keeps values on tapes and stacks, one entry per step; the loops that run after it, most often
backwards, walk them. Any set of values of the body will do from which the others can be computed again, by the same ops
and so with the same bits. Each value has a price if it is kept (its bytes, and the time of storing and loading it) and
another if it is computed again; what is walked or captured, the index, and what follows from it, costs nothing. The
cheapest choice is a minimum cut. Where memory costs nothing that is the fastest choice.

One cut serves all loops that walk what one loop keeps. Where a loop stands in the body of another one and what walks it
in the body that runs backwards, `joint_steps` puts the two bodies together first, so that inner loops are cut before
outer ones; an inner loop is then one value of the outer body that may be kept or run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from dgraph.ir.build import Builder
from dgraph.ir.dead_code import without_dead_code
from dgraph.ir.graph import Graph, Node, Region, Value, walk
from dgraph.ops.control import For, If, Loop, While
from dgraph.passes.base import change_regions, graph_pass, outputs_of, with_operands
from dgraph.passes.joint_steps import JoinedChoice, JoinedLoop
from dgraph.passes.kept_values import Kept, kept_by
from dgraph.passes.prices import Prices
from dgraph.sizes import Atom
from dgraph.types import Tape

Make = Callable[[Builder, Node], Sequence[Value]]
"""Appends what stands for a node, whose operands are those of the new region; returns its results."""

BYTES_ALONE = 1.0
"""Seconds for a byte, beside which no work counts."""


@graph_pass("loops keep what is cheaper to keep than to compute again")
def residuals(
    graph: Graph,
    *,
    price: float | Mapping[str, float] = 0.0,
    sizes: Mapping[Atom, int] | None = None,
    stay: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """Choose what loops keep, in every region.

    `price` is what a byte costs in seconds beside the time of storing and loading it, for all loops or by their places
    (as `str` writes them; at others it costs nothing). `sizes` are the sizes that are known; for others a nominal value
    is taken. `stay` says of loops, by their places, which items of the choice are kept or not whatever they cost.
    """
    return Cuts(price, sizes or {}, stay or {}).graph(graph)


@graph_pass("a step that is run again hands on little")
def hand_on(graph: Graph) -> Graph:
    """Let loops that run single steps again keep as few bytes of a step as possible.

    What `@checkpoint(slots=)` and `@checkpoint(budget=)` run again is reversed at once: what is not handed on is
    computed in the reversed step instead of before it, and in sum nothing twice but for the step that ran last.
    """
    run = Cuts(BYTES_ALONE, {})

    def change(region: Region) -> Region:
        for at in range(len(region.nodes)):
            node = region.nodes[at]
            kept = kept_by(region, node) if _runs_plain_steps_again(node) else None
            if kept is not None:
                region = run.cut(region, kept, False)
        return region

    if not any(_runs_plain_steps_again(node) for node in walk(graph.region)):
        return graph
    return without_dead_code(graph.with_region(change_regions(graph.region, change, {})))


def _runs_plain_steps_again(node: Node) -> bool:
    """Whether single steps of a loop are run again, none of which holds a loop with tapes of its own."""
    if not isinstance(node.op, Loop) or not (node.op.slots or node.op.budget):
        return False
    return not any(isinstance(inner.op, Loop) for inner in walk(node.regions[-1]))


class Cuts:
    """One run over a graph, with what a byte costs: a number, or one for each place."""

    def __init__(
        self,
        price: float | Mapping[str, float],
        sizes: Mapping[Atom, int],
        stay: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        self.price = price
        self.stay = stay
        self.prices = Prices(0.0, sizes)

    def graph(self, graph: Graph) -> Graph:
        """The graph with all pairs of loops cut."""
        return without_dead_code(graph.with_region(change_regions(graph.region, self.pairs, {})))

    def prices_of(self, loop: Node) -> Prices:
        """The prices in the body of a loop."""
        price = self.price
        return self.prices.at(price.get(str(loop.span), 0.0) if isinstance(price, Mapping) else price)

    def pairs(self, region: Region, is_joint: bool = False) -> Region:
        """A region with the pairs of loops in it cut. If it is two bodies put together, what is between the loops of a
        pair has to be kept from one to the other, so that it is not at hand."""
        for at in range(len(region.nodes)):
            region = _with_tapes(region, at)
            if any(isinstance(value.type, Tape) for value in region.nodes[at].results):
                region = self.joined(region, at)
            kept = kept_by(region, region.nodes[at])
            if kept is not None:
                region = self.cut(region, kept, not is_joint)
        return region

    def joined(self, region: Region, at: int) -> Region:
        """The region with the bodies of a node and of what walks its tapes rewritten together."""
        node = region.nodes[at]
        tapes = [value for value in node.results if isinstance(value.type, Tape)]
        readers = list(dict.fromkeys(user for tape in tapes for user in region.users.get(tape, ())))
        if len(readers) != 1 or any(tape in region.outputs for tape in tapes):
            return region
        (reader,) = readers
        joined: JoinedLoop | JoinedChoice
        if isinstance(node.op, For | While) and isinstance(reader.op, For):
            if not any(_holds_steps(node, tape) for tape in tapes):
                return region
            joined = JoinedLoop(node, reader)
        elif isinstance(node.op, If) and isinstance(reader.op, If):
            joined = JoinedChoice(node, reader)
        else:
            return region
        if not joined.is_possible:
            return region
        joined.rewrite(self.block)
        return _replaced(region, {node: joined.first, reader: joined.second})

    def block(self, joint: Region, count: int) -> tuple[list[Node], list[Node], tuple[Value, ...]]:
        """What becomes of the first `count` nodes of two bodies put together, of the others, and of the outputs."""
        found = self.pairs(joint, True)
        return list(found.nodes[:count]), list(found.nodes[count:]), found.outputs

    def cut(self, region: Region, kept: Kept, can_undo: bool) -> Region:
        """The region with other values kept by one loop."""
        choice = kept.choice(self.prices_of(kept.writer), can_undo, self.stay.get(str(kept.writer.span), ()))
        if choice is None:
            return region
        makers: dict[Node, Make] = {kept.writer: choice.writer}
        makers.update((reader, choice.reader) for reader in kept.readers)
        return _replaced(region, makers)


def _holds_steps(loop: Node, tape: Value) -> bool:
    """Whether what a loop keeps of each step is what a loop in its body has kept of its own steps."""
    body = loop.regions[-1]
    entry = body.outputs[loop.results.index(tape)]
    maker = body.producers.get(entry)
    is_stack = maker is not None and isinstance(maker.op, For) and maker.results.index(entry) >= maker.op.carries
    return is_stack or isinstance(entry.type, Tape)


def _with_tapes(region: Region, at: int) -> Region:
    """The region with tapes in place of the stacks of a loop that hold steps of inner loops, and of the others that the
    same loop walks: what is walked is what is put together."""
    node = region.nodes[at]
    kept = kept_by(region, node)
    if kept is None or not isinstance(node.op, For) or len(kept.readers) != 1:
        return region
    stacks = range(node.op.carries, node.op.carries + node.op.stacks)
    chosen = [place for place in stacks if node.results[place] in kept.walked]
    if not any(_holds_steps(node, node.results[place]) for place in chosen):
        return region
    order = [place for place in range(len(node.results)) if place not in chosen] + chosen
    body = node.regions[0]
    known = {node.results[p]: Value(Tape(body.outputs[p].type), node.results[p].name) for p in chosen}
    changed = replace(
        node,
        op=replace(node.op, stacks=node.op.stacks - len(chosen), tapes=node.op.tapes + len(chosen)),
        results=tuple(known.get(node.results[p], node.results[p]) for p in order),
        regions=(Region(body.inputs, body.nodes, tuple(body.outputs[p] for p in order)),),
    )
    nodes = (changed if other is node else with_operands(other, known) for other in region.nodes)
    return Region(region.inputs, tuple(nodes), region.outputs)


def _replaced(region: Region, makers: Mapping[Node, Make]) -> Region:
    """A region with some of its nodes made anew, each by one node."""
    g = Builder()
    g.adopt(Region(region.inputs, (), ()))
    known: dict[Value, Value] = {}
    for node in region.nodes:
        moved = with_operands(node, known)
        maker = makers.get(node)
        if maker is None:
            g.append(moved)
            continue
        with g.at(node.span, node.scope, node.derived):
            known.update(zip(node.results, maker(g, moved), strict=False))
    return Region(region.inputs, tuple(g.nodes), outputs_of(region, known))
