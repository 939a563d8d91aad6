"""Counts for people: formulas, and numbers where everything is known."""

from __future__ import annotations

from typing import Any

from dgraph.classes import dataclass
from dgraph.ir.graph import Graph, Value, walk
from dgraph.ops.control import While
from dgraph.passes.costs import Costs
from dgraph.sizes import Atom, Size, variable


class Words:
    """Formulas for people: numbers that only the run decides are named after their loop."""

    def __init__(self, graph: Graph) -> None:
        self.names: dict[Atom, Size | int] = {}
        for node in walk(graph.region):
            if isinstance(node.op, While):
                self.names[node.results[-1]] = variable(f"trips{node.span.line}")

    def formula(self, count: Size) -> str:
        """A count as text."""
        named = dict(self.names)
        for atom in count.atoms():
            if isinstance(atom, Value) and atom not in named and not atom.name:
                named[atom] = variable("count")
        return str(count.substitute(named))


@dataclass
class Amounts:
    """Counts as formulas, and as numbers where all sizes are known."""

    costs: Costs
    words: Words
    is_known: bool

    def of(self, count: Size) -> dict[str, Any]:
        """One count."""
        has_number = self.is_known and not self.assumed(count)
        return {"formula": self.words.formula(count), "number": self.costs.number(count) if has_number else None}

    def assumed(self, count: Size) -> list[str]:
        """The numbers in a count that only the run decides."""
        values = [atom for atom in count.atoms() if isinstance(atom, Value) and atom not in self.costs.sizes]
        return sorted({self.words.formula(variable(value)) for value in values})
