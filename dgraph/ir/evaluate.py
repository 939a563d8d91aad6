"""The NumPy interpreter: the meaning of every graph, against which all else is tested, and the replay engine that
gives pictures their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dgraph.errors import ArgumentError, CheckFailed, DgraphError, Diagnostic, Label
from dgraph.ir.counts import evaluated
from dgraph.ir.graph import Graph, Node, Region, Value, Wish
from dgraph.ir.places import Standing, Turn, placed
from dgraph.sizes import Atom, Size, size, solve
from dgraph.types import Array

Observer = Callable[[Node, Sequence[Any]], None]
"""Called after every node that runs, in nested regions too, with the node and its result values."""


def evaluate(
    graph: Graph,
    arguments: Sequence[Any],
    extents: Mapping[str, int] | None = None,
    observer: Observer | None = None,
) -> list[Any]:
    """Run a graph on the leaves of its formals. `extents` gives the formals of type `size`.

    Returns the leaves of the result as arrays and NumPy scalars. Raises `ArgumentError` if an argument does not fit
    and `CheckFailed` if a check fails.
    """
    values = [np.asarray(argument, value.type.dtype.numpy) for argument, value in zip_inputs(graph, arguments)]
    sizes = bind_sizes(graph, values, extents or {})
    return list(
        Interpreter(sizes, observer).run(graph.region, [value if value.shape else value[()] for value in values])
    )


def zip_inputs(graph: Graph, arguments: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Pairs of argument and region input. Raises `ArgumentError` on a wrong count."""
    if len(arguments) != len(graph.region.inputs):
        raise ArgumentError(Diagnostic(f"{graph.name} takes {len(graph.region.inputs)} arrays, not {len(arguments)}"))
    return list(zip(arguments, graph.region.inputs, strict=True))


def bind_sizes(graph: Graph, leaves: Sequence[Any], extents: Mapping[str, int]) -> dict[Atom, int]:
    """The number of every size variable for the leaves of the arguments.

    Raises `ArgumentError`, showing both sides, if a shape does not fit, and `CheckFailed` if a wish is below 1.
    """
    known = solve_sizes(graph, list(map(np.shape, leaves)), extents)
    return known | wished(graph.wishes, known, lambda at: int(leaves[at]))


MOST_WISHED = 2**40
"""No number of a wish is larger: it would mean the same."""


def wished(wishes: Sequence[Wish], known: Mapping[Atom, int], number: Callable[[int], int]) -> dict[Atom, int]:
    """The numbers of wishes, from those of the other size variables and of the arguments that are whole numbers.

    Raises `CheckFailed` if one is below 1.
    """
    found: dict[Atom, int] = {}
    for wish in wishes:
        try:
            count = evaluated(wish.value, known.__getitem__, number)
        except ZeroDivisionError:
            count = 0
        if count < 1:
            title = f"`{wish.option}` of `@checkpoint` is a positive integer"
            labels = (Label(wish.span, f"{count} for these arguments"),) if wish.span.source.text else ()
            raise CheckFailed(Diagnostic(title, labels, "give arguments for which it is 1 or more"))
        found[wish.name] = min(count, MOST_WISHED)
    return found


def solve_sizes(graph: Graph, shapes: Sequence[tuple[int, ...]], extents: Mapping[str, int]) -> dict[Atom, int]:
    """The number of every size variable but the wishes, solved left to right from the shapes of the arguments.

    Raises `ArgumentError`, showing both sides, if a shape does not fit.
    """
    known: dict[Atom, int] = dict(extents.items())
    givers: dict[Atom, str] = {name: name for name in extents}
    pending: list[tuple[str, Size, int]] = []
    for name, value, shape in zip(graph.input_names, graph.region.inputs, shapes, strict=True):
        assert isinstance(value.type, Array)
        if len(shape) != value.type.rank:
            title = f"`{name}` has {len(shape)} axes where {value.type} has {value.type.rank}"
            raise ArgumentError(Diagnostic(title, (Label(graph.span, "declared here"),)))
        pending += [(name, extent, actual) for extent, actual in zip(value.type.shape, shape, strict=True)]
    progress = True
    while pending and progress:
        progress = False
        for item in list(pending):
            name, extent, actual = item
            unknown = [atom for atom in extent.atoms() if isinstance(atom, str) and atom not in known]
            if len(unknown) > 1:
                continue
            if unknown:
                solved = solve(extent.substitute(known), size(actual), unknown[0])
                if solved is None or solved.constant is None or solved.constant < 0:
                    raise _size_fault(graph, name, extent, actual, known, givers)
                known[unknown[0]] = solved.constant
                givers[unknown[0]] = name
            elif extent.evaluate(known.__getitem__) != actual:
                raise _size_fault(graph, name, extent, actual, known, givers)
            pending.remove(item)
            progress = True
    told = {wish.name for wish in graph.wishes}
    missing = [name for name in graph.sizes if name not in known and name not in told]
    if missing:
        raise ArgumentError(Diagnostic(f"the size `{missing[0]}` of {graph.name} cannot be found from its arguments"))
    return known


def _size_fault(
    graph: Graph, name: str, extent: Size, actual: int, known: Mapping[Atom, int], givers: Mapping[Atom, str]
) -> DgraphError:
    """An axis of another length than declared; says which arguments the sizes were found from."""
    title = f"`{name}` has an axis of length {actual} where {extent} is declared"
    atoms = [atom for atom in extent.atoms() if atom in known]
    facts = [f"{atom} = {known[atom]} by `{givers[atom]}`" for atom in atoms]
    found = extent.substitute(known)
    note = ", ".join(facts)
    if facts and extent.terms != (((atoms[0],), 1),):
        note += f", so {extent} = {found}"
    elif not facts and extent.constant is None:
        note = f"no {extent} gives {actual}"
    return ArgumentError(Diagnostic(title, (Label(graph.span, "declared here"),), note))


class Interpreter:
    """Runs regions with known sizes. `turns` are the loops and spaces around what runs now, with their numbers."""

    def __init__(self, sizes: Mapping[Atom, int], observer: Observer | None = None) -> None:
        self.sizes = dict(sizes)
        self.observer = observer
        self.turns: list[tuple[Turn, tuple[int, ...]]] = []
        self.states: dict[int, tuple[Any, ...]] = {}
        self.written = 0

    @property
    def standing(self) -> Standing:
        """Where in its loops the program stands."""
        return Standing(tuple(self.turns))

    def size_of(self, extent: Size) -> int:
        """The number of a size."""
        return extent.evaluate(self.sizes.__getitem__)

    def run(self, region: Region, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Outputs of a region for given inputs."""
        known: dict[Value, Any] = dict(zip(region.inputs, arguments, strict=True))
        around = len(self.turns)
        for node in region.nodes:
            operands = [known[operand] for operand in node.operands]
            results = self.results_of(node, operands)
            known.update(zip(node.results, results, strict=True))
            if self.observer is not None:
                self.observer(node, results)
        del self.turns[around:]
        return tuple(known[output] for output in region.outputs)

    def turn(self, region: Region, arguments: Sequence[Any], turn: Turn, *numbers: int) -> tuple[Any, ...]:
        """Outputs of a region that is one turn of a loop or one point of a space."""
        self.turns.append((turn, numbers))
        outputs = self.run(region, arguments)
        self.turns.pop()
        return outputs

    def results_of(self, node: Node, operands: list[Any]) -> Sequence[Any]:
        """Results of one node; a fault is located at the node."""
        try:
            return node.op.execute(self, node, operands)
        except (IndexError, ZeroDivisionError) as fault:
            raise self._failure(node, "while this was computed", str(fault)) from None
        except CheckFailed as fault:
            first = fault.diagnostics[0]
            if first.labels:
                raise
            raise self._failure(node, "checked here", first.title, first.note) from None

    def _failure(self, node: Node, words: str, title: str, note: str = "") -> CheckFailed:
        """A check of a node that failed, with the loops around it."""
        return CheckFailed(Diagnostic(title, (Label(node.span, placed(words, self.standing, node.span)),), note))

    def empty(self, type_: Array) -> Any:
        """An array of zeros of a type."""
        return np.zeros(tuple(map(self.size_of, type_.shape)), type_.dtype.numpy)
