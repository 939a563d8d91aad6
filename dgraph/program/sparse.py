"""Functions with sparse derivatives: each call finds the pattern for its sizes and integers, and the sweeps for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.ops.transform import SparseJacobian
from dgraph.program.arguments import build
from dgraph.program.compiled import Compiled
from dgraph.program.functions import COMPILING

if TYPE_CHECKING:
    from dgraph.ad.sparse.compress import Compressed, Seeds
    from dgraph.ir.graph import Graph, Region
    from dgraph.kernels.compile import CompiledGraph
    from dgraph.program.compiled import Options
    from dgraph.program.functions import Function, Recipe
    from dgraph.program.signature import Signature

REMEMBERED = 8
"""Patterns that a function keeps: those of its last calls."""


def is_asked(recipe: Recipe) -> bool:
    """Whether the host itself asks for a sparse matrix, so that the result is one."""
    return recipe.name in ("jacobian", "hessian") and dict(recipe.options).get("mode") == "sparse"


def compressed(graph: Graph, recipe: Recipe) -> Compressed | None:
    """The graph of a function with compressed sweeps for its sparse Jacobians; None if there are none. Those inside of
    other derivatives and of `vmap` are left."""
    from dgraph.ad.sparse.compress import compress, sparse_nodes
    from dgraph.ir.graph import walk
    from dgraph.program.pipeline import stage

    if not any(isinstance(node.op, SparseJacobian) for node in walk(graph.region)):
        return None
    inlined = stage(graph, "inline")
    return compress(inlined, is_asked(recipe)) if sparse_nodes(inlined.region) else None


@dataclass(frozen=True)
class Found:
    """What was found for the sizes and integers of a call."""

    arrays: tuple[Any, ...]
    seeds: tuple[Seeds, ...]


class SparseFunction(Compiled):
    """A compiled function some of whose derivatives are sparse. Where the host asks for these themselves, the result
    is a tree of `scipy.sparse.csr_array`, whose rows and columns are the entries of the output and of the argument in
    row-major order."""

    def __init__(self, function: Function, options: Options, signature: Signature, kernel: CompiledGraph) -> None:
        super().__init__(function, options, signature, kernel)
        self._remembered: dict[Any, Found] = {}
        self._lock = Lock()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Find the pattern, unless it is known from a call with the same sizes and integers; run; build the result."""
        leaves, extents = self.leaves(arguments, named)
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

    def run(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> list[Any]:
        """The kernel on leaves that fit, with what the pattern adds to them."""
        return super().run([*leaves, *self.found(leaves, extents).arrays], extents)

    def bind(self, *arguments: Any, **named: Any) -> Any:
        """A call without checks on fixed arrays, for the pattern of the integers that they hold now."""
        leaves, extents = self.leaves(arguments, named)
        found = self.found(leaves, extents)
        bound = self.kernel.bind([*leaves, *found.arrays], extents)
        result = self._built(bound.outputs, found)

        def run() -> Any:
            bound()
            self.examine(bound.outputs, leaves, extents)
            return result

        return run

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

    # ---- patterns ---------------------------------------------------------------------------------------------------

    def found(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> Found:
        """The pattern and what follows from it."""
        leaves = list(map(np.asarray, leaves))
        key = (
            tuple(extents.items()),
            tuple((leaf.shape, leaf.tobytes() if _is_integer(leaf) else b"") for leaf in leaves),
        )
        with self._lock:
            known = self._remembered.pop(key, None)
            if known is None:
                with COMPILING:
                    known = self._search(leaves, extents)
                while len(self._remembered) >= REMEMBERED:
                    del self._remembered[next(iter(self._remembered))]
            self._remembered[key] = known
            return known

    @cached_property
    def _graph(self) -> Graph:
        from dgraph.program.lower import lower
        from dgraph.program.pipeline import stage

        return stage(lower(self.program.module, self.function.recipe, self.options.precision)[0], "inline")

    @cached_property
    def compressed(self) -> Compressed:
        """The graph that was compiled, with its Jacobians."""
        found = compressed(self._graph, self.function.recipe)
        assert found is not None
        return found

    @cached_property
    def _regions(self) -> list[Region]:
        """The functions of the Jacobians without transforms; rules and equations stay, whose derivatives are their
        own."""
        from dgraph.ad.expand import without_transforms
        from dgraph.ad.sparse.compress import without_sparse
        from dgraph.ir.dead_code import remove_dead_code
        from dgraph.ir.inline import inline_calls

        regions = [inline_calls(jacobian.node.regions[0]) for jacobian in self.compressed.jacobians]
        return [remove_dead_code(without_transforms(without_sparse(region))) for region in regions]

    def _search(self, leaves: Sequence[Any], extents: Mapping[str, int]) -> Found:
        from dgraph.ad.sparse.compress import seeds_of
        from dgraph.ad.sparse.patterns import known_operands, pattern_of
        from dgraph.ir.evaluate import bind_sizes

        graph = self._graph
        sizes = bind_sizes(graph, leaves, extents)
        size_of: Callable[[Any], int] = sizes.__getitem__
        integers = [leaf if _is_integer(leaf) else None for leaf in leaves]
        jacobians = self.compressed.jacobians
        known = known_operands(graph.region, [jacobian.node for jacobian in jacobians], integers, sizes)
        found = []
        for jacobian, region in zip(jacobians, self._regions, strict=True):
            op = jacobian.op
            pattern = pattern_of(region, op.wrt, op.rows, known[jacobian.node], sizes)
            shapes = [
                [tuple(extent.evaluate(size_of) for extent in type_.shape) for type_ in side]
                for side in op.sides(jacobian.node.regions[0])
            ]
            found.append(seeds_of(jacobian, pattern, *shapes))
        return Found(tuple(array for seeds in found for array in seeds.arrays), tuple(found))


def _is_integer(leaf: Any) -> bool:
    """Whether the entries of an argument can be indices or decide a branch; those of a key cannot."""
    return leaf.dtype.kind in "ib" or leaf.dtype == np.uint8
