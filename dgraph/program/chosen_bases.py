"""The detective, where all is finite: a derivative that depends on the choice of a basis.

Vectors of eigenvalues or singular values that coincide are any basis of a space. What is the same for every basis, as
a projection is, has a derivative there. Of anything else the derivative belongs to the basis that was found by chance.
Which of both it is shows a second run, by the interpreter, with other bases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.classes import dataclass
from dgraph.errors import Diagnostic, Label, Span
from dgraph.ir.evaluate import Interpreter, bind_sizes, zip_inputs
from dgraph.ir.graph import Graph, Node, Region, Value, walk
from dgraph.ir.places import Standing, placed
from dgraph.ops.linalg_orthogonal import Eigh, Svd, halfway, rounding
from dgraph.passes import run_passes
from dgraph.program.pipeline import stage

if TYPE_CHECKING:
    from dgraph.program.compiled import Compiled


@dataclass(frozen=True)
class Met:
    """Values that coincide, where they were met first: of which decomposition, how many, and one of them."""

    node: Node
    standing: Standing
    count: int
    value: float


class Turning(Interpreter):
    """A run in which the decompositions of one place in the text, if one is given, have other bases of the same spaces,
    the same ones each time."""

    def __init__(self, sizes: Mapping[Any, int], turned: Span | None = None) -> None:
        super().__init__(sizes)
        self.turned = turned
        self.met: dict[Span, Met] = {}

    def results_of(self, node: Node, operands: list[Any]) -> Sequence[Any]:
        """Results of one node, of a decomposition perhaps with other vectors."""
        results = super().results_of(node, operands)
        if not isinstance(node.op, Eigh | Svd):
            return results
        values = results[0 if isinstance(node.op, Eigh) else 1]
        groups = list(clusters(values))
        if groups and node.span not in self.met:
            first = groups[0]
            self.met[node.span] = Met(node, self.standing, first.stop - first.start, float(values[first.start]))
        return turned_vectors(node.op, results, groups) if node.span == self.turned else results


def clusters(values: Any) -> Iterator[slice]:
    """Where in an ordered vector several values coincide."""
    n = len(values)
    if n == 0 or not np.isfinite(values).all():
        return
    apart = np.abs(np.diff(values)) > (n + 2) * rounding(values.dtype) * np.max(np.abs(values))
    edges = [0, *(np.nonzero(apart)[0] + 1), n]
    for start, stop in pairwise(edges):
        if stop - start > 1:
            yield slice(int(start), int(stop))


def turned_vectors(op: Eigh | Svd, results: Sequence[Any], groups: Sequence[slice]) -> Sequence[Any]:
    """The results of a decomposition with each group of vectors turned; those of u and vt alike."""
    made = [np.array(result) for result in results]
    for at in groups:
        turn = np.linalg.qr(np.random.default_rng(0).standard_normal((at.stop - at.start,) * 2))[0]
        turn = turn.astype(made[0].dtype)
        if isinstance(op, Eigh):
            made[1][:, at] = made[1][:, at] @ turn
        else:
            made[0][:, at] = made[0][:, at] @ turn
            made[2][at] = turn.T @ made[2][at]
    return made


def warning_of(compiled: Compiled, leaves: Sequence[Any], extents: Mapping[str, int]) -> Diagnostic | None:
    """What to say of a call whose derivatives depend on the choice of a basis; None if they do not."""
    source = compiled.source_graph()
    if not any(isinstance(node.op, Eigh | Svd) for node in walk(source.region)):
        return None
    graph = run_passes(stage(source, "expand"), ("drop_stop_gradient", "dead_code"))
    derived = [at for at, output in enumerate(graph.region.outputs) if output in _derived(graph.region)]
    if not derived:
        return None
    values = [
        np.asarray(leaf, value.type.dtype.numpy) for leaf, value in zip_inputs(graph, compiled.given(leaves, extents))
    ]
    values = [value if value.shape else value[()] for value in values]
    sizes = bind_sizes(graph, values, extents)

    def run(turned: Span | None = None) -> tuple[list[Any], dict[Span, Met]]:
        turning = Turning(sizes, turned)
        with np.errstate(all="ignore"):
            outputs = turning.run(graph.region, values)
        return [np.asarray(outputs[at]) for at in derived], turning.met

    plain, met = run()
    for place, found in met.items():
        if any(differ(one, other) for one, other in zip(plain, run(place)[0], strict=True)):
            return _warning(graph, found)
    return None


def _derived(region: Region) -> set[Value]:
    """The values that are made with derivatives."""
    found: set[Value] = set()
    for node in region.nodes:
        parts = (inner for part in node.regions for inner in walk(part))
        if node.derived or any(inner.derived for inner in parts) or not found.isdisjoint(node.operands):
            found.update(node.results)
    return found


def differ(one: Any, other: Any) -> bool:
    """Whether two results are not the same but for rounding."""
    if one.dtype.kind != "f" or not one.size or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return False
    return bool(np.max(np.abs(one - other)) > halfway(one.dtype) * (1 + np.max(np.abs(one))))


def _warning(graph: Graph, met: Met) -> Diagnostic:
    kind = "eigenvalues" if isinstance(met.node.op, Eigh) else "singular values"
    words = placed(f"{met.count} {kind} coincide at {met.value:.6g}", met.standing, met.node.span)
    span = met.node.span if met.node.span.source.text else graph.span
    note = f"vectors of equal {kind} are any basis of a space; a derivative exists of what is the same for each of them"
    return Diagnostic("a derivative depends on the choice of a basis", (Label(span, words),), note, "warning")
