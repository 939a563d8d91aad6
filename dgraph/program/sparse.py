"""Functions with sparse derivatives: each call finds the pattern for its sizes and integers, and the sweeps for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import ArgumentError, Diagnostic
from dgraph.ops.transform import SparseJacobian
from dgraph.program.arguments import build
from dgraph.program.compiled import Compiled
from dgraph.program.functions import COMPILING
from dgraph.program.outputs import has_outputs

if TYPE_CHECKING:
    from dgraph.ad.sparse.compress import Compressed
    from dgraph.ad.sparse.seeds import Coloured, Seeds
    from dgraph.ir.graph import Graph, Node, Region
    from dgraph.kernels.compile import CompiledGraph
    from dgraph.kernels.demand import Memory
    from dgraph.kernels.needs import Given
    from dgraph.program.compiled import Options
    from dgraph.program.functions import Function, Recipe
    from dgraph.program.signature import Signature
    from dgraph.sizes import Atom

REMEMBERED = 8
"""Patterns that a function keeps: those of its last calls."""


def is_asked(recipe: Recipe) -> bool:
    """Whether the host itself asks for a sparse matrix, so that the result is one."""
    return recipe.name in ("jacobian", "hessian") and dict(recipe.options).get("mode") == "sparse"


def compressed(graph: Graph, recipe: Recipe, ways: Sequence[str] = ()) -> Compressed | None:
    """The graph of a function with compressed sweeps for its sparse Jacobians; None if there are none. Those inside of
    other derivatives and of `vmap` are left. `ways` has what is chosen for those whose sweeps may be chosen, in
    order."""
    from dgraph.ir.graph import walk
    from dgraph.program.pipeline import stage

    if not any(isinstance(node.op, SparseJacobian) for node in walk(graph.region)):
        return None
    return _compressed(stage(graph, "inline"), recipe, ways)


def _compressed(inlined: Graph, recipe: Recipe, ways: Sequence[str]) -> Compressed | None:
    from dgraph.ad.sparse.compress import compress, sparse_nodes

    if not sparse_nodes(inlined.region):
        return None
    return compress(inlined, is_asked(recipe), dict(zip(optional_nodes(inlined.region), ways, strict=True)))


def optional_nodes(region: Region) -> list[Node]:
    """The Jacobians of a region whose sweeps may be chosen."""
    from dgraph.ad.sparse.compress import sparse_nodes

    return [node for node in sparse_nodes(region) if isinstance(node.op, SparseJacobian) and node.op.is_optional]


def function_of(jacobian: Node) -> Region:
    """The function of a Jacobian without transforms; rules and equations stay, whose derivatives are their own."""
    from dgraph.ad.expand import without_transforms
    from dgraph.ad.sparse.compress import without_sparse
    from dgraph.ir.dead_code import remove_dead_code
    from dgraph.ir.inline import inline_calls

    return remove_dead_code(without_transforms(without_sparse(inline_calls(jacobian.regions[0]))))


class Patterns:
    """The sparse Jacobians of a function, and their coloured patterns for the sizes and integers of a call."""

    def __init__(self, function: Function, options: Options, leaves_sweeps: bool) -> None:
        self.function = function
        self.options = options
        self.leaves_sweeps = leaves_sweeps
        self._remembered: dict[Any, dict[Node, Coloured]] = {}

    @cached_property
    def graph(self) -> Graph:
        """The graph of the function without calls, with its Jacobians as nodes."""
        from dgraph.program.lower import lower
        from dgraph.program.pipeline import stage

        module, precision = self.function.program.module, self.options.precision
        return stage(lower(module, self.function.recipe, precision, leaves_sweeps=self.leaves_sweeps)[0], "inline")

    @cached_property
    def deciding(self) -> frozenset[int]:
        """The arguments whose integers can decide a pattern."""
        from dgraph.ad.sparse.deciding import deciding

        return frozenset(deciding(self.graph.region))

    def key(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> Any:
        """What calls with the same patterns have in common."""
        integers = (
            leaf.tobytes() if _is_integer(leaf) and at in self.deciding else b"" for at, leaf in enumerate(leaves)
        )
        return tuple(extents.items()), tuple(leaf.shape for leaf in leaves), tuple(integers)

    def sizes(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> dict[Atom, int]:
        """The numbers of all sizes."""
        from dgraph.ir.evaluate import bind_sizes

        return bind_sizes(self.graph, leaves, extents)

    def found(
        self,
        nodes: Sequence[Node],
        leaves: Sequence[Any],
        extents: Mapping[str, int],
        allowance: float = inf,
        most: float = inf,
    ) -> dict[Node, Coloured]:
        """The coloured patterns of some of the Jacobians. Raises `Exhausted` where they take longer to find than the
        allowance, and where the price of the sweeps is surely above `most`."""
        from dgraph.ad.sparse.patterns import Exhausted, known_operands, pattern_of
        from dgraph.ad.sparse.seeds import coloured, fewest

        key = self.key(leaves, extents)
        known = self._remembered.pop(key, {})
        missing = [node for node in nodes if node not in known]
        if missing:
            sizes = self.sizes(leaves, extents)
            integers = [leaf if _is_integer(leaf) else None for leaf in leaves]
            given = known_operands(self.graph.region, missing, integers, sizes, allowance)
            for node in missing:
                op = node.op
                assert isinstance(op, SparseJacobian)
                pattern = pattern_of(self._region(node), op.wrt, op.rows, given[node], sizes, allowance)
                if fewest(pattern, op.symmetric) > most:
                    raise Exhausted
                known[node] = coloured(pattern, op.symmetric)
        while len(self._remembered) >= REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[key] = known
        return known

    def _region(self, node: Node) -> Region:
        found = self._regions.get(node)
        if found is None:
            found = self._regions[node] = function_of(node)
        return found

    @cached_property
    def _regions(self) -> dict[Node, Region]:
        return {}


@dataclass(frozen=True)
class Found:
    """What was found for the sizes and integers of a call."""

    arrays: tuple[Any, ...]
    seeds: tuple[Seeds, ...]


class SparseFunction(Compiled):
    """A compiled function some of whose derivatives are sparse. Where the host asks for these themselves, the result
    is a tree of `scipy.sparse.csr_array`, whose rows and columns are the entries of the output and of the argument in
    row-major order."""

    def __init__(
        self,
        function: Function,
        options: Options,
        signature: Signature,
        kernel: CompiledGraph,
        patterns: Patterns | None = None,
        ways: Sequence[str] = (),
    ) -> None:
        super().__init__(function, options, signature, kernel)
        self._patterns = patterns or Patterns(function, options, leaves_sweeps=False)
        self._ways = ways
        self._remembered: dict[Any, Found] = {}
        self._lock = Lock()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Find the pattern, unless it is known from a call with the same sizes and integers; run; build the result."""
        leaves, extents = self.leaves(arguments, named)
        self.outputs(leaves, extents, named)
        found = self.found(leaves, extents)
        outputs = super().run([*leaves, *found.arrays], extents)
        self.examine(outputs, leaves, extents)
        return self._built(outputs, found)

    def source_graph(self) -> Graph:
        """The graph that was compiled."""
        return self.compressed.graph

    def given(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> list[Any]:
        """The leaves, with what the pattern adds to them."""
        return [*leaves, *self.found(leaves, extents).arrays]

    def numbers(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> Mapping[Any, int]:
        """The number of every size variable for the leaves of a call."""
        return self._patterns.sizes(leaves, extents)

    def run(self, leaves: Sequence[Any], extents: Mapping[str, int], outputs: Given = None) -> list[Any]:
        """The kernel on leaves that fit, with what the pattern adds to them."""
        return super().run([*leaves, *self.found(leaves, extents).arrays], extents, outputs)

    def outputs(self, leaves: Sequence[Any], extents: Mapping[str, int], named: Mapping[str, Any]) -> Given:
        """Refused: how many entries there are is found at the call."""
        if has_outputs(self.signature.formals, named):
            title = f"{self.signature.name} has sparse derivatives, and `out` is for arrays of a known size"
            raise self.located(ArgumentError(Diagnostic(title, (), "leave `out=` out")))
        return None

    def bind(self, *arguments: Any, **named: Any) -> Any:
        """A call without checks on fixed arrays, for the pattern of the integers that they hold now."""
        leaves, extents = self.leaves(arguments, named)
        self.outputs(leaves, extents, named)
        found = self.found(leaves, extents)
        bound = self.kernel.bind([*leaves, *found.arrays], extents)
        result = self._built(bound.outputs, found)

        def run() -> Any:
            bound()
            self.examine(bound.outputs, leaves, extents)
            return result

        return run

    def memory(self, *arguments: Any, **named: Any) -> Memory:
        """The bytes that a call on these arguments uses."""
        leaves, extents = self.leaves(arguments, named)
        return self.kernel.memory(self.given(leaves, extents), extents)

    def sweeps(self, *arguments: Any, **named: Any) -> tuple[int, ...]:
        """How many sweeps each sparse derivative takes in a call with these arguments."""
        return tuple(seeds.sweeps for seeds in self.found(*self.leaves(arguments, named)).seeds)

    def _built(self, outputs: Sequence[Any], found: Found) -> Any:
        return build(self.signature.result, self._matrices(outputs, found))

    def _matrices(self, outputs: Sequence[Any], found: Found) -> Iterator[Any]:
        from scipy.sparse import csr_array

        for at, output in enumerate(outputs):
            place = self.compressed.places.get(at)
            if place is None:
                yield output
                continue
            pattern = found.seeds[place[0]].patterns[place[1]]
            yield csr_array((output, pattern.indices, pattern.indptr), shape=pattern.shape)

    def found(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> Found:
        """The patterns and what follows from them, remembered from call to call."""
        leaves = list(map(np.asarray, leaves))
        with self._lock:
            key = self._patterns.key(leaves, extents)
            known = self._remembered.pop(key, None)
            if known is None:
                with COMPILING:
                    known = self._seeds(leaves, extents)
                while len(self._remembered) >= REMEMBERED:
                    del self._remembered[next(iter(self._remembered))]
            self._remembered[key] = known
            return known

    @cached_property
    def compressed(self) -> Compressed:
        """The graph that was compiled, with its Jacobians."""
        found = _compressed(self._patterns.graph, self.function.recipe, self._ways)
        assert found is not None
        return found

    def _seeds(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> Found:
        from dgraph.ad.sparse.seeds import seeds_of

        size_of: Callable[[Any], int] = self._patterns.sizes(leaves, extents).__getitem__
        jacobians = self.compressed.jacobians
        coloured = self._patterns.found([jacobian.node for jacobian in jacobians], leaves, extents)
        found = []
        for jacobian in jacobians:
            shapes = [
                [tuple(extent.evaluate(size_of) for extent in type_.shape) for type_ in side]
                for side in jacobian.op.sides(jacobian.node.regions[0])
            ]
            found.append(seeds_of(jacobian, coloured[jacobian.node], *shapes))
        return Found(tuple(array for seeds in found for array in seeds.arrays), tuple(found))


def _is_integer(leaf: Any) -> bool:
    """Whether the entries of an argument can be indices or decide a branch; those of a key cannot."""
    return leaf.dtype.kind in "ib" or leaf.dtype == np.uint8
