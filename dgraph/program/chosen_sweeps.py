"""Jacobians in no certain mode: each call takes the sweeps that it expects to cost least.

Sweeps by the entries of one side are what is compiled at first. Where these are expected to take long, the pattern is
looked for, in a time that is bounded by theirs, and if enough columns or rows can share a sweep the function is
compiled once more with coloured sweeps. The choice follows from sizes and integers alone, so equal calls go equal ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from os import PathLike
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.program.compiled import Compiled, compile_ways
from dgraph.program.functions import COMPILING
from dgraph.program.outputs import has_outputs
from dgraph.program.signature import Swept

if TYPE_CHECKING:
    from dgraph.ir.graph import Graph, Node, Region
    from dgraph.kernels.demand import Memory
    from dgraph.program.sparse import Patterns
    from dgraph.sizes import Atom, Size

OPERATION = 1e-10
"""Seconds of an operation of a sweep."""
MEMBER = 3e-8
"""Seconds of a member of the sets from which a pattern is found."""
ENTRY = 5e-9
"""Seconds of putting an entry of a compressed Jacobian to its place."""
REVERSE = 2
"""The time of a reverse sweep in forward sweeps."""
WORTH = 3e-3
"""Sweeps that are expected to take fewer seconds are not worth a search."""
LONGEST = 3
"""The longest search, in the expected time of the sweeps that it may save."""
GAIN = 2
"""Coloured sweeps are taken if they are expected to be so much faster."""
REMEMBERED = 64
"""Choices that a function keeps."""


@dataclass(frozen=True)
class Choice:
    """What a call does for each Jacobian: "columns" or "rows" share sweeps, or there is one for each entry of the
    inputs, "forward", or outputs, "reverse"; and how many sweeps these are."""

    ways: tuple[str, ...]
    sweeps: tuple[int, ...]

    @property
    def is_coloured(self) -> bool:
        """Whether any sweeps are shared."""
        return not {"columns", "rows"}.isdisjoint(self.ways)


class ChosenSweeps(Compiled):
    """A function with Jacobians in no certain mode. `source`, `report`, `kernel` and what is exported are those without
    shared sweeps."""

    def __init__(self, plain: Compiled) -> None:
        super().__init__(plain.function, plain.options, plain.signature, plain.kernel)
        self.plain = plain
        self._small: set[Any] = set()
        self._choices: dict[Any, Choice] = {}
        self._made: dict[tuple[str, ...], Compiled] = {}
        self._lock = Lock()
        self._held: Patterns | None = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Choose, unless the arrays are as small as those of a call before; then check, run and build the result."""
        if has_outputs(self.signature.formals, named):
            # What shared sweeps give is put together in arrays of its own.
            return self.plain(*arguments, **named)
        shapes = None if named else tuple([_shape(argument) for argument in arguments])
        if shapes in self._small:
            return self.plain(*arguments)
        chosen, is_small = self._chosen(arguments, named)
        if is_small and shapes is not None and None not in shapes and len(self._small) < REMEMBERED:
            self._small.add(shapes)
        return chosen(*arguments, **named)

    def exact(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> Compiled:
        """The function as it is compiled for a call on these arguments."""
        return self._chosen(arguments, named)[0]

    def bind(self, *arguments: Any, **named: Any) -> Any:
        """A call without checks on fixed arrays. If these hold integers, which may change, or outputs are
        given, sweeps are not shared."""
        leaves, _ = self.plain.leaves(arguments, named)
        is_fixed = all(leaf.dtype.kind == "f" for leaf in leaves) and not has_outputs(self.signature.formals, named)
        return (self.exact(arguments, named) if is_fixed else self.plain).bind(*arguments, **named)

    def memory(self, *arguments: Any, **named: Any) -> Memory:
        """The bytes that a call on these arguments uses."""
        return self.exact(arguments, named).memory(*arguments, **named)

    def export(self, path: str | PathLike[str]) -> None:
        """Write a bundle, without shared sweeps."""
        self.plain.export(path)

    def sweeps(self, *arguments: Any, **named: Any) -> tuple[int, ...]:
        """How many sweeps each Jacobian takes in a call with these arguments."""
        return self.choice(*arguments, **named).sweeps

    def choice(self, *arguments: Any, **named: Any) -> Choice:
        """What a call with these arguments does."""
        leaves, extents = self.plain.leaves(arguments, named)
        return self._choice(leaves, extents, self.plain.numbers(leaves, extents))

    def _chosen(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[Compiled, bool]:
        """The function for some arguments, and whether any of the same shapes have the same."""
        leaves, extents = self.plain.leaves(arguments, named)
        sizes = self.plain.numbers(leaves, extents)
        if max(expected(jacobian, sizes)[1] for jacobian in self.signature.jacobians) < WORTH:
            return self.plain, True
        choice = self._choice(leaves, extents, sizes)
        if not choice.is_coloured:
            return self.plain, False
        with COMPILING:
            if choice.ways not in self._made:
                self._made[choice.ways] = compile_ways(self.function, self.options, choice.ways, self._patterns)
            return self._made[choice.ways], False

    @property
    def _patterns(self) -> Patterns:
        from dgraph.program.sparse import Patterns

        if self._held is None:
            self._held = Patterns(self.function, self.options, leaves_sweeps=True)
        return self._held

    def _choice(self, leaves: Sequence[Any], extents: Mapping[str, int], sizes: Mapping[Any, int]) -> Choice:
        prices = [expected(jacobian, sizes) for jacobian in self.signature.jacobians]
        if max(seconds for _, seconds, _ in prices) < WORTH:
            return Choice(tuple(way for way, _, _ in prices), tuple(sweeps for _, _, sweeps in prices))
        leaves = [np.asarray(leaf) for leaf in leaves]
        with self._lock, COMPILING:
            key = self._patterns.key(leaves, extents)
            known = self._choices.pop(key, None)
            if known is None:
                pairs = list(self._looked_for(prices, leaves, extents))
                known = Choice(tuple(way for way, _ in pairs), tuple(sweeps for _, sweeps in pairs))
                while len(self._choices) >= REMEMBERED:
                    del self._choices[next(iter(self._choices))]
            self._choices[key] = known
            return known

    def _looked_for(
        self, prices: Sequence[tuple[str, float, int]], leaves: Sequence[Any], extents: Mapping[str, int]
    ) -> Iterator[tuple[str, int]]:
        """For each Jacobian what a call does, and how many sweeps it takes."""
        from dgraph.ad.sparse.patterns import Exhausted
        from dgraph.program.sparse import optional_nodes

        nodes = optional_nodes(self._patterns.graph.region)
        for node, (way, seconds, sweeps) in zip(nodes, prices, strict=True):
            found = None
            one = seconds / max(sweeps * (REVERSE if way == "reverse" else 1), 1)
            if seconds >= WORTH:
                limits = LONGEST * seconds / MEMBER, seconds / (GAIN * one)
                with suppress(Exhausted):
                    found = self._patterns.found([node], leaves, extents, *limits)[node]
            if found is not None and GAIN * (found.price * one + found.pattern.nnz * ENTRY) < seconds:
                yield found.way, found.sweeps
            else:
                yield way, sweeps

    def __repr__(self) -> str:
        return repr(self.plain)


def expected(jacobian: Swept, sizes: Mapping[Any, int]) -> tuple[str, float, int]:
    """The way without shared sweeps, the seconds that these are expected to take, and their number."""
    rows, columns, operations = (
        max(count.evaluate(sizes.__getitem__), 0) for count in (jacobian.rows, jacobian.columns, jacobian.operations)
    )
    if columns <= REVERSE * rows:
        return "forward", columns * operations * OPERATION, columns
    return "reverse", rows * REVERSE * operations * OPERATION, rows


def _shape(argument: Any) -> Any:
    """What of an argument decides whether a call is small; None where that is not to be seen at once."""
    if type(argument) is np.ndarray:
        return argument.shape
    return () if type(argument) is float else argument if type(argument) is int else None


# ---- when a function is compiled ------------------------------------------------------------------------------------


def is_swept(region: Region) -> bool:
    """Whether a function may have Jacobians in no certain mode: whether sweeps run over an axis anywhere."""
    from dgraph.ir.graph import walk
    from dgraph.ops.transform import Jvp, Vjp, Vmap

    maps = (node for node in walk(region) if isinstance(node.op, Vmap))
    return any(isinstance(inner.op, Jvp | Vjp) for node in maps for inner in node.regions[0].nodes)


def jacobians_of(inlined: Graph) -> tuple[Swept, ...]:
    """The Jacobians of a graph whose sweeps a call may choose; none if a pattern could not be found from the sizes of a
    call."""
    from dgraph.ad.sparse.compress import extents_of
    from dgraph.program.sparse import optional_nodes

    sizes: set[Atom] = set(inlined.sizes)
    found = []
    for node in optional_nodes(inlined.region):
        rows, columns = extents_of(node)
        if not _names({*rows.atoms(), *columns.atoms()}) <= sizes:
            return ()
        found.append(Swept(rows, columns, _operations(node, sizes)))
    return tuple(found)


def _operations(jacobian: Node, sizes: set[Atom]) -> Size:
    """The operations of the function of a Jacobian; what only a run decides has a nominal number."""
    from dgraph.passes.costs import NOMINAL, Costs
    from dgraph.program.sparse import function_of
    from dgraph.sizes import size

    work = Costs().region(function_of(jacobian))
    total = work.operations + work.products
    return total.substitute({atom: size(NOMINAL) for atom in _names(total.atoms()) - sizes})


def _names(atoms: Iterable[Atom]) -> set[Atom]:
    """The atoms that are not divisions of others."""
    from dgraph.sizes import Quotient

    return {atom for atom in atoms if not isinstance(atom, Quotient)}
