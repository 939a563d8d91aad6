"""Running a graph in the interpreter and keeping every value, so that a picture can show it.

What a picture shows of a loop is its last step as a whole: a side that this step did not take has not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgraph.ir.evaluate import Interpreter, bind_sizes, zip_inputs
from dgraph.ir.graph import Graph, Node, Region, Value
from dgraph.types import Array

Path = tuple[Node, ...]
"""The region ops around a place, outermost first; a region may stand in several, with other values in each."""


class Recording:
    """The values of a run, by the path of region ops to their place."""

    def __init__(self) -> None:
        self._values: dict[Path, dict[Value, Any]] = {}
        self._below: dict[Path, set[Path]] = {}

    def keep(self, path: Path, values: Sequence[Value], found: Sequence[Any]) -> None:
        """Remember arrays; accumulators and tapes are not numbers to show."""
        known = self._values.get(path)
        if known is None:
            known = self._values[path] = {}
            if path:
                self._below.setdefault(path[:-1], set()).add(path)
        known.update(
            (value, array) for value, array in zip(values, found, strict=True) if isinstance(value.type, Array)
        )

    def forget(self, path: Path) -> None:
        """Drop what is known at a path and below it."""
        self._values.pop(path, None)
        for inner in self._below.pop(path, ()):
            self.forget(inner)

    def get(self, path: Path, value: Value) -> Any:
        """The array, or None if it was never computed."""
        return self._values.get(path, {}).get(value)


def record(graph: Graph, arguments: Sequence[Any], extents: Mapping[str, int] | None = None) -> Recording:
    """Run a graph as `evaluate` does and keep all values, those of the last step in loops."""
    arrays = [np.asarray(argument, value.type.dtype.numpy) for argument, value in zip_inputs(graph, arguments)]
    interpreter = _Recorder(bind_sizes(graph, arrays, extents or {}))
    interpreter.run(graph.region, [array if array.shape else array[()] for array in arrays])
    return interpreter.recording


class _Recorder(Interpreter):
    """The interpreter, keeping what goes into each region and what comes out of each node."""

    def __init__(self, sizes: Mapping[Any, int]) -> None:
        super().__init__(sizes)
        self.recording = Recording()
        self.path: Path = ()

    def run(self, region: Region, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Outputs of a region for given inputs; what its region ops did in an earlier step is forgotten."""
        for node in region.nodes:
            if node.regions:
                self.recording.forget((*self.path, node))
        self.recording.keep(self.path, region.inputs, arguments)
        return super().run(region, arguments)

    def results_of(self, node: Node, operands: list[Any]) -> Sequence[Any]:
        around = self.path
        self.path = (*around, node)
        try:
            results = super().results_of(node, operands)
        finally:
            self.path = around
        self.recording.keep(around, node.results, results)
        return results
