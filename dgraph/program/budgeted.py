"""Compiled functions with a budget: how much loops keep is chosen when a call says how large everything is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.errors import ArgumentError, Diagnostic, NotSupported
from dgraph.kernels.allowance import OverBudget
from dgraph.kernels.cache import Cache, make_key
from dgraph.kernels.compile import CompiledGraph
from dgraph.kernels.load import machine_name
from dgraph.program.compiled import Compiled, Options, pack, unpack
from dgraph.program.functions import COMPILING
from dgraph.program.signature import Signature

if TYPE_CHECKING:
    from dgraph.kernels.demand import Memory
    from dgraph.program.budgets import Ways
    from dgraph.program.functions import Function


class Budgeted(Compiled):
    """A function whose calls keep within a budget of memory.

    What its loops keep is chosen for the sizes of the first call. Later calls set how many states are kept, and choose
    anew only where that does not do. `source`, `report` and `kernel` are those of the last choice.
    """

    def __init__(self, function: Function, options: Options, signature: Signature) -> None:
        self.function = function
        self.options = options
        self.program = function.program
        self.signature = signature
        self._held: Compiled | None = None
        self._made: dict[str, Compiled] = {}

    def __getattr__(self, name: str) -> Any:
        if name != "kernel":
            raise AttributeError(name)
        if self._held is None:
            title = f"what {self.signature.name} keeps is chosen when it is first called"
            raise NotSupported(Diagnostic(title, (), "call it first"))
        return self._held.kernel

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Check and adapt the arguments, run within the budget, and build the result. Raises `ArgumentError` where
        nothing fits into the budget."""
        held = self._held
        if held is not None:
            try:
                return held(*arguments, **named)
            except OverBudget:
                pass
        return self.fitting(arguments, named)(*arguments, **named)

    def bind(self, *arguments: Any, **named: Any) -> Any:
        """A call without checks on fixed arrays."""
        return self.fitting(arguments, named).bind(*arguments, **named)

    def memory(self, *arguments: Any, **named: Any) -> Memory:
        """The bytes that a call on these arguments uses."""
        return self.fitting(arguments, named).memory(*arguments, **named)

    def choice(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        """What is chosen for a call on these arguments, as plain data: `budget` and `peak` in bytes, the foretold
        `slowdown`, for each of the `loops` that keep less its place and what it keeps, and the places of what straight
        code computes `again`."""
        kernel = self.fitting(arguments, named).kernel
        leaves, extents = self.leaves(arguments, named)
        return kernel.choice(leaves, extents)

    def fitting(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> Compiled:
        """The function as it is compiled for a call on these arguments."""
        leaves, extents = self.leaves(arguments, named)
        held = self._held
        if held is not None:
            try:
                held.kernel.memory(leaves, extents)
            except OverBudget:
                held = None
        if held is None:
            with COMPILING:
                held = self._held = self._chosen([np.asarray(leaf) for leaf in leaves], extents)
        return held

    def _chosen(self, leaves: Sequence[np.ndarray[Any, Any]], extents: Mapping[str, int]) -> Compiled:
        """The cheapest way for leaves of these sizes, chosen before or now."""
        stored = Cache.default()
        shapes = [list(leaf.shape) for leaf in leaves]
        numbers = [int(leaf) for leaf in leaves if leaf.ndim == 0 and leaf.dtype.kind in "iu"]
        choice = self._key("choice", [shapes, sorted(extents.items()), numbers])
        entry = stored.get(choice)
        found = None if entry is None else unpack(entry)
        if found is not None:
            words = found[1].decode()
            code = stored.get(self._key("way", words))
            if code is not None:
                return self._compiled(words, CompiledGraph.from_bytes(code))
        from dgraph.program.budget_search import choose

        way, allowance = choose(self._ways, self._ways.point(leaves, extents))
        kernel = self._ways.compiled(way, allowance)
        words = json.dumps(asdict(way))
        stored.put(self._key("way", words), kernel.to_bytes())
        stored.put(choice, pack(self.signature, words.encode(), self.program.files))
        return self._compiled(words, kernel)

    def _compiled(self, way: str, kernel: CompiledGraph) -> Compiled:
        found = self._made.get(way)
        if found is None:
            found = self._made[way] = Compiled(self.function, self.options, self.signature, kernel)
        return found

    def _key(self, kind: str, facts: Any) -> str:
        asked = json.dumps([self.program.digest, str(self.function.recipe), asdict(self.options), facts])
        return make_key(kind, asked, machine=machine_name())

    @cached_property
    def _ways(self) -> Ways:
        from dgraph.program.budgets import Ways
        from dgraph.program.lower import lower

        graph, _ = lower(self.program.module, self.function.recipe, self.options.precision)
        limit = self.options.limit
        assert limit is not None
        return Ways(graph, self.options, limit, self.signature.name)


def budgeted_signature(function: Function, options: Options) -> Signature:
    """The signature of a function that is to have a budget. Raises `ArgumentError` for one that can have none."""
    from dgraph.program.lower import lower
    from dgraph.program.sparse import compressed

    graph, signature = lower(function.program.module, function.recipe, options.precision)
    if compressed(graph, function.recipe) is not None:
        raise ArgumentError(Diagnostic('budget= and mode="sparse" do not go together yet', (), "leave one of them out"))
    return signature
