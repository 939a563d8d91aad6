"""The detective: which line made an output nan or infinite, in which step, and on which way it reached the output.

The function runs once more, by the interpreter, on the graph that has the derivatives as ordinary nodes; `origins` says
how what is harmless is told from what is not. A call pays for nothing but a look at its outputs, and only if asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dgraph.errors import Diagnostic, Label, NotFinite, Span
from dgraph.ir.evaluate import bind_sizes, zip_inputs
from dgraph.ir.graph import Graph, Node, Region
from dgraph.ir.places import placed
from dgraph.ir.verify import verify
from dgraph.passes import run_passes
from dgraph.passes.base import each_region
from dgraph.program.origins import Origin, Report, Tracer, marked_steps
from dgraph.program.pipeline import stage
from dgraph.types import Array

if TYPE_CHECKING:
    from dgraph.program.compiled import Compiled

BEFORE, AFTER = ("drop_stop_gradient", "dead_code"), ("checkpoint",)
"""What a graph goes through before it is run again: memory is what the program allows, and nothing else changes."""

OPERANDS = 3
"""Operands that a message shows."""

WORDS = {
    "add": "this sum",
    "sub": "this difference",
    "mul": "this product",
    "div": "this quotient",
    "pow": "this power",
    "powi": "this power",
    "contract": "this sum of products",
    "dot": "this product",
    "reduce_sum": "this sum",
    "constant": "this number",
    "space": "this",
    "cast": "this conversion",
}
"""What a reader calls the result of an op that has no name in the language."""


def is_finite(leaves: Sequence[Any]) -> bool:
    """Whether no float among some arrays is nan or infinite."""
    return all(np.isfinite(leaf).all() for leaf in map(np.asarray, leaves) if leaf.dtype.kind == "f")


def finder(compiled: Compiled) -> Callable[..., NotFinite | None]:
    """A function of the arguments of another: why an output is nan or infinite, or None if none is."""

    def find(*arguments: Any, **named: Any) -> NotFinite | None:
        exact = compiled.exact(arguments, named)
        leaves, extents = exact.leaves(arguments, named)
        outputs = exact.run(leaves, extents)
        return None if is_finite(outputs) else culprit_of(exact, outputs, leaves, extents)

    return find


def culprit_of(
    compiled: Compiled,
    outputs: Sequence[Any],
    leaves: Sequence[Any],
    extents: Mapping[str, int],
    tell: Report | None = None,
) -> NotFinite:
    """Why an output of a call is not finite."""
    return culprit(compiled.source_graph(), outputs, compiled.given(leaves, extents), extents, tell)


def culprit(
    graph: Graph, outputs: Sequence[Any], leaves: Sequence[Any], extents: Mapping[str, int], tell: Report | None = None
) -> NotFinite:
    """Why an output of a source graph, which gave `outputs` for these arguments, is not finite. Only the first such
    output is looked at: what spoils a value comes before what spoils its derivative."""
    bad = next(at for at, leaf in enumerate(outputs) if not is_finite([leaf]))
    name = graph.output_names[bad]
    graph = replayed(graph, bad)
    first, at, tracer = _search(graph, leaves, extents, None, tell)
    if not first:
        title = f"{_entry(name, at)} is at the edge of what is finite"
        note = "another rounding of the elementary functions, in a second run, gives a finite number"
        return NotFinite(Diagnostic(title, (_declared(graph),), note))
    origins = dict(tracer.origins)
    chain: list[Origin] = []
    number = first
    while number:
        if number not in origins:
            _, _, again = _search(graph, leaves, extents, frozenset([number]), tell)
            origins.update(again.origins)
        chain.append(origins[number])
        number = chain[-1].cause
    return _report(graph, chain[::-1], _entry(name, at))


def replayed(graph: Graph, output: int) -> Graph:
    """A source graph as it is run again, with one of its outputs only."""
    whole = stage(graph, "expand")
    value = whole.region.outputs[output]
    assert isinstance(value.type, Array)
    region = Region(whole.region.inputs, whole.region.nodes, (value,))
    ready = run_passes(replace(whole, result=value.type, region=region), BEFORE)
    return verify(run_passes(each_region(ready, marked_steps), AFTER))


def _search(
    graph: Graph,
    leaves: Sequence[Any],
    extents: Mapping[str, int],
    wanted: frozenset[int] | None,
    tell: Report | None,
) -> tuple[int, tuple[int, ...], Tracer]:
    """The first origin in the output, 0 if it is finite, and where in the output it is met."""
    values = [np.asarray(leaf, value.type.dtype.numpy) for leaf, value in zip_inputs(graph, leaves)]
    tracer = Tracer(bind_sizes(graph, values, extents), wanted, tell)
    values = [value if value.shape else value[()] for value in values]
    with np.errstate(all="ignore"):
        marks = tracer.arguments(graph.input_names, values)
        _, (mark,) = tracer.trace(graph.region, values, marks)
    if mark is None:
        return 0, (), tracer
    found = np.asarray(mark)
    number = int(found[found > 0].min())
    at = tuple(int(axis[0]) for axis in np.nonzero(found == number)) if found.ndim else ()
    return number, at, tracer


# ---- words ----------------------------------------------------------------------------------------------------------


def _report(graph: Graph, chain: Sequence[Origin], output: str) -> NotFinite:
    """The message: the first origin, where an infinity became nan, the way, and the output."""
    first, last = chain[0], chain[-1]
    becomes = f", which becomes {last.value}" if last is not first else ""
    labels = [_label(graph, origin) for origin in chain]
    seen = [_line(label.span) for label in labels]
    for span in last.way:
        if _line(span) not in seen and len(labels) < len(chain) + 2:
            labels.append(Label(span, "goes on here"))
            seen.append(_line(span))
    note = f"it reaches {output}"
    if last.node is not None and last.node.op.name == "over_gaps":
        note += "; eigenvalues or singular values coincide, and what depends on their vectors has no derivative there"
    return NotFinite(Diagnostic(f"{_what(first)}{becomes}", tuple(labels), note))


def _what(origin: Origin) -> str:
    node = origin.node
    if node is None:
        return f"the argument {_entry(origin.name, origin.place)} is {_number(origin.value)}"
    if node.derived == "adjoint":
        return f"an adjoint becomes {_number(origin.value)}"
    if node.derived:
        return f"a derivative becomes {_number(origin.value)}"
    return f"{_called(node)} gives {_number(origin.value)}"


def _called(node: Node) -> str:
    return WORDS.get(node.op.name) or f"`{node.op.name}`"


def _label(graph: Graph, origin: Origin) -> Label:
    node = origin.node
    if node is None:
        return _declared(graph)
    operands = " and ".join(map(_shown, origin.operands[:OPERANDS]))
    what = f"{_called(node)} of {operands}" if operands else _called(node)
    if node.derived:
        kind = "adjoint" if node.derived == "adjoint" else "derivative"
        what = f"in the {kind} of this, {what.removeprefix('this ')}"
    what += f" gives {_number(origin.value)}"
    if origin.place:
        what += f" for entry {_tuple(origin.place)}"
    words = placed(what, origin.standing, node.span)
    return Label(node.span if node.span.source.text else graph.span, words)


def _declared(graph: Graph) -> Label:
    return Label(graph.span, "declared here")


def _entry(name: str, at: tuple[int, ...]) -> str:
    whole = f"result.{name}" if name[0].isdigit() else name
    return f"`{whole}`" + (f" at {_tuple(at)}" if at else "")


def _tuple(at: tuple[int, ...]) -> str:
    return str(at[0]) if len(at) == 1 else str(at)


def _line(span: Span) -> tuple[Any, int]:
    return span.source, span.line


def _shown(value: Any) -> str:
    """An operand for a message: a number, or an array by its shape and its range."""
    array = np.asarray(value)
    if not array.ndim:
        return _number(array[()])
    shape = ", ".join(map(str, array.shape))
    if not array.size or array.dtype.kind not in "fi":
        return f"{array.dtype}[{shape}]"
    spoilt = "" if np.isfinite(array).all() else " with nan or inf"
    finite = array[np.isfinite(array)]
    spread = f" from {_number(finite.min())} to {_number(finite.max())}" if finite.size else ""
    return f"[{shape}] entries{spread}{spoilt}"


def _number(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return str(value) if not math.isfinite(value) else f"{float(value):.6g}"
    return str(value)
