"""The engine of local rewriting: one forward walk over a region in which a rule may give other values for a node.

A rule sees a node whose operands are already rewritten, looks back at what made them, and returns the values that stand
for its results, or None to keep the node. What a rule emits goes through the rule in turn, so one walk suffices: near
linear in the size of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from dgraph.errors import InvalidGraph
from dgraph.ir.build import Builder
from dgraph.ir.graph import Node, Region, Value
from dgraph.ir.op import Op

LIMIT = 50
"""How deep rewriting of what rewriting made may go: more means rules that undo each other."""


class Rewriter(Builder):
    """A builder that passes every node through a rule before it appends it."""

    def __init__(self, inputs: Sequence[Value], rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.makers: dict[Value, Node] = {}
        self.depth = 0
        self.adopt(Region(tuple(inputs), (), ()))

    def maker(self, value: Value) -> Node | None:
        """The node that makes a value; None for an input of the region."""
        return self.makers.get(value)

    def append(self, node: Node) -> None:
        """Append a node as it is."""
        super().append(node)
        for result in node.results:
            self.makers[result] = node

    def apply(
        self, op: Op, *operands: Value, regions: Sequence[Region] = (), names: Sequence[str] = ()
    ) -> tuple[Value, ...]:
        """The values of one application, after the rule."""
        types = op.infer([value.type for value in operands], regions)
        results = tuple(Value(type_, names[at] if at < len(names) else "") for at, type_ in enumerate(types))
        return self.place(Node(op, operands, results, tuple(regions), self.span, self.scope, self.derived))

    def copy(self, node: Node, operands: Sequence[Value], scope: tuple[str, ...] = ()) -> tuple[Value, ...]:
        """The values of a copy of a node with other operands, after the rule."""
        results = tuple(Value(value.type, value.name) for value in node.results)
        derived = node.derived or self.derived
        return self.place(Node(node.op, tuple(operands), results, node.regions, node.span, scope + node.scope, derived))

    def place(self, node: Node) -> tuple[Value, ...]:
        """The values that stand for the results of a node: what the rule says, else those of the node, appended."""
        if self.depth > LIMIT:
            raise InvalidGraph(f"rewriting does not end at {node!r}")
        before = self.span, self.scope, self.derived
        self.span, self.scope, self.derived = node.span, node.scope, node.derived
        self.depth += 1
        found = self.rule(self, node)
        self.depth -= 1
        self.span, self.scope, self.derived = before
        if found is None:
            self.append(node)
            return node.results
        return tuple(found)


Rule = Callable[[Rewriter, Node], Sequence[Value] | None]


def rewrite(region: Region, rule: Rule) -> Region:
    """The region after one walk; the region itself if no rule applied. Replaced nodes stay until dead code removal."""
    g = Rewriter(region.inputs, rule)
    known: dict[Value, Value] = {}
    changed = False
    for node in region.nodes:
        operands = tuple(known.get(operand, operand) for operand in node.operands)
        moved = node if operands == node.operands else replace(node, operands=operands)
        results = g.place(moved)
        if results is not node.results:
            changed = True
            known.update(zip(node.results, results, strict=True))
    return g.close(known.get(output, output) for output in region.outputs) if changed else region
